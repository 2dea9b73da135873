// A peer of the Go tests: reads commands as lines of JSON from its standard input, and writes events as lines of JSON.
//
//   node peer.mjs builtin     the client that Node has built in
//   node peer.mjs ws          the client of the package ws
//   node peer.mjs ws serve    the server of the package ws; the first event is {kind: "listening", url}. A file with a certificate
//                             and its key may follow, for TLS
//   bun peer.mjs builtin      the client that Bun has built in
//   bun peer.mjs bun serve    its server
//
// Commands: {id, do: "dial", url, offer}, {id, do: "text" or "binary", data}, {id, do: "parts", kind, parts, pings},
// {id, do: "ping", data}, {id, do: "close", code, reason}, {id, do: "drop"}, {id, do: "echo", part}: from the event {kind: "echoing"} on,
// messages are not shown but sent back, every other one that is longer than part in fragments of that size. Events: {id, kind: "open", protocol},
// {id, kind: "text", "binary", "ping" or "pong", data}, {id, kind: "close", code, reason}. Payloads are base64, id is a number
// for each connection, and code 1005 stands for a Close frame without one. With PEER_COMPRESSION in the environment, {takeover, bits} in
// JSON, ws compresses all messages.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { createInterface } from "node:readline";

const chosenProtocol = "v2.chat";
const peerLimit = 4 << 20;

const emit = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const wsPeer = async (serve, certificate) => {
  const { WebSocket, WebSocketServer } = await import("ws");
  const sockets = new Map(); // by id
  const { takeover, bits } = JSON.parse(process.env.PEER_COMPRESSION ?? "{}");
  const perMessageDeflate = bits && {
    threshold: 0,
    serverNoContextTakeover: !takeover || undefined,
    clientNoContextTakeover: !takeover || undefined,
    serverMaxWindowBits: bits < 15 ? bits : undefined,
    clientMaxWindowBits: bits < 15 ? bits : undefined,
  };
  const watch = (id, socket) => {
    sockets.set(id, socket);
    const event = (kind) => (data) => emit({ id, kind, data: data.toString("base64") });
    socket.on("message", (data, isBinary) => event(isBinary ? "binary" : "text")(data));
    socket.on("ping", event("ping"));
    socket.on("pong", event("pong"));
    socket.on("close", (code, reason) => emit({ id, kind: "close", code, reason: reason.toString() }));
    socket.on("error", () => {}); // "close" follows
  };
  if (serve) {
    const [scheme, http] = certificate
      ? ["wss", createSecureServer({ cert: certificate, key: certificate })]
      : ["ws", createServer()];
    const server = new WebSocketServer({
      server: http,
      maxPayload: peerLimit,
      perMessageDeflate: perMessageDeflate ?? false,
      handleProtocols: (offer) => (offer.has(chosenProtocol) ? chosenProtocol : false),
    });
    let lastId = 0;
    server.on("connection", (socket) => {
      const id = ++lastId;
      watch(id, socket);
      emit({ id, kind: "open", protocol: socket.protocol });
    });
    http.listen(0, "127.0.0.1", () => emit({ kind: "listening", url: `${scheme}://127.0.0.1:${http.address().port}` }));
  }
  const parts = (socket, { kind, parts, pings }) => {
    parts.forEach((part, i) => {
      socket.send(Buffer.from(part, "base64"), { binary: kind === "binary", fin: i === parts.length - 1, compress: false });
      if (pings && i < pings.length) socket.ping(Buffer.from(pings[i], "base64"));
    });
  };
  const echo = (id, socket, part) => {
    let long = 0;
    socket.removeAllListeners("message");
    socket.on("message", (data, binary) => {
      const size = part && data.length > part && long++ % 2 === 0 ? part : data.length;
      for (let i = 0; i === 0 || i < data.length; i += size) {
        socket.send(data.subarray(i, i + size), { binary, fin: i + size >= data.length });
      }
    });
    emit({ id, kind: "echoing" });
  };
  return (command) => {
    const socket = sockets.get(command.id);
    const data = Buffer.from(command.data ?? "", "base64");
    switch (command.do) {
      case "dial": {
        const dialed = new WebSocket(command.url, command.offer ?? [], { maxPayload: peerLimit, perMessageDeflate: perMessageDeflate ?? true });
        watch(command.id, dialed);
        return dialed.on("open", () => emit({ id: command.id, kind: "open", protocol: dialed.protocol }));
      }
      case "text": return socket.send(data, { binary: false });
      case "binary": return socket.send(data, { binary: true });
      case "parts": return parts(socket, command);
      case "ping": return socket.ping(data);
      case "close": return command.code === 1005 ? socket.close() : socket.close(command.code, command.reason);
      case "drop": return socket.terminate();
      case "echo": return echo(command.id, socket, command.part);
    }
    throw new Error(`unknown command: ${command.do}`);
  };
};

const bunPeer = () => {
  const sockets = new Map(); // by id
  let lastId = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request, server) => (server.upgrade(request, { data: { id: ++lastId } }) ? undefined : new Response()),
    websocket: {
      perMessageDeflate: true,
      maxPayloadLength: peerLimit,
      backpressureLimit: 16 << 20,
      open: (socket) => {
        sockets.set(socket.data.id, socket);
        emit({ id: socket.data.id, kind: "open", protocol: "" });
      },
      message: (socket, data) => {
        if (socket.data.echo) return socket.send(data, true);
        const kind = typeof data === "string" ? "text" : "binary";
        emit({ id: socket.data.id, kind, data: Buffer.from(data).toString("base64") });
      },
      close: ({ data: { id } }, code, reason) => emit({ id, kind: "close", code, reason }),
    },
  });
  emit({ kind: "listening", url: `ws://127.0.0.1:${server.port}` });
  return (command) => {
    const socket = sockets.get(command.id);
    switch (command.do) {
      case "drop": return socket.terminate();
      case "echo":
        socket.data.echo = true;
        return emit({ id: command.id, kind: "echoing" });
    }
    throw new Error(`unknown command: ${command.do}`);
  };
};

const [implementation, role, certificate] = process.argv.slice(2);
let command;
if (implementation === "ws") {
  command = await wsPeer(role === "serve", certificate && readFileSync(certificate));
} else if (implementation === "bun") {
  command = bunPeer();
} else {
  await import("./standard.js");
  command = globalThis.standardPeer(emit);
}
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => command(JSON.parse(line)));
lines.on("close", () => process.exit(0));
