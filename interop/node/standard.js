// The peer over the WebSocket class that browsers and Node have: the class of the WHATWG standard. It runs in both.
//
// Commands and events are those of peer.mjs; emit(event) is called for each event. It returns the function that takes commands.
globalThis.standardPeer = (emit) => {
  const sockets = new Map(); // by id
  const encode = (buffer) => {
    const bytes = new Uint8Array(buffer);
    let s = "";
    for (let i = 0; i < bytes.length; i += 32768) s += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(s);
  };
  const decode = (data = "") => {
    const s = atob(data);
    const bytes = new Uint8Array(s.length);
    for (let i = 0; i < s.length; i++) bytes[i] = s.charCodeAt(i);
    return bytes;
  };

  const dial = ({ id, url, offer }) => {
    const socket = new WebSocket(url, offer ?? []);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => emit({ id, kind: "open", protocol: socket.protocol });
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") emit({ id, kind: "text", data: encode(new TextEncoder().encode(data)) });
      else emit({ id, kind: "binary", data: encode(data) });
    };
    socket.onclose = ({ code, reason }) => emit({ id, kind: "close", code, reason });
    sockets.set(id, socket);
  };

  return (command) => {
    const socket = sockets.get(command.id);
    switch (command.do) {
      case "dial": return dial(command);
      case "text": return socket.send(new TextDecoder("utf-8", { ignoreBOM: true }).decode(decode(command.data)));
      case "binary": return socket.send(decode(command.data));
      case "close": return command.code === 1005 ? socket.close() : socket.close(command.code, command.reason);
      case "drop": return socket.close();
      case "echo":
        socket.onmessage = ({ data }) => socket.send(data);
        return emit({ id: command.id, kind: "echoing" });
    }
    throw new Error(`unknown command: ${command.do}`);
  };
};
