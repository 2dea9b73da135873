// Echo server with Bun, whose WebSocket server is uWebSockets. The flags are those of the other servers.
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    addr: { type: "string", default: "127.0.0.1:9001" },
    broadcast: { type: "boolean", default: false },
    cert: { type: "string" },
    key: { type: "string" },
    deflate: { type: "string" },
    messages: { type: "string" },
  },
});
const [hostname, port] = values.addr.split(":");

const window = { context: "4KB", shared: "shared" }[values.deflate];
const compress = window !== undefined; // for each message; without it they go plain
const messages = values.messages ? (await Bun.file(values.messages).text()).split("\n") : [];

const server = Bun.serve({
  hostname,
  port: Number(port),
  tls: values.cert && { cert: Bun.file(values.cert), key: Bun.file(values.key) },
  fetch(request, server) {
    if (!server.upgrade(request)) return new Response("WebSocket only", { status: 426 });
  },
  websocket: {
    idleTimeout: 0,
    sendPings: false,
    maxPayloadLength: 2 << 20,
    backpressureLimit: 16 << 20,
    perMessageDeflate: compress && { compress: window, decompress: window },
    open(ws) {
      if (values.broadcast) ws.subscribe("all");
    },
    message(ws, message) {
      if (typeof message === "string") {
        if (values.broadcast && message.startsWith("broadcast ")) {
          server.publish("all", message, compress);
          return;
        }
        if (messages.length > 0 && message.startsWith("send ")) {
          const [from, to] = message.slice(5).split(" ").map(Number);
          for (let i = from; i < to; i++) ws.send(messages[i], compress);
          return;
        }
        if (message.startsWith("sleep ")) {
          setTimeout(() => ws.send(message, compress), parseInt(message.slice(6)));
          return;
        }
      }
      ws.send(message, compress);
    },
  },
});

process.on("SIGUSR1", () => Bun.gc(true));
process.on("SIGTERM", () => process.exit(0));
