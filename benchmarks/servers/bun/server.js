// Echo server with Bun, whose WebSocket server is uWebSockets. The flags are those of the other servers.
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    addr: { type: "string", default: "127.0.0.1:9001" },
    broadcast: { type: "boolean", default: false },
    cert: { type: "string" },
    key: { type: "string" },
  },
});
const [hostname, port] = values.addr.split(":");

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
    perMessageDeflate: false,
    open(ws) {
      if (values.broadcast) ws.subscribe("all");
    },
    message(ws, message) {
      if (typeof message === "string") {
        if (values.broadcast && message.startsWith("broadcast ")) {
          server.publish("all", message);
          return;
        }
        if (message.startsWith("sleep ")) {
          setTimeout(() => ws.send(message), parseInt(message.slice(6)));
          return;
        }
      }
      ws.send(message);
    },
  },
});

process.on("SIGUSR1", () => Bun.gc(true));
process.on("SIGTERM", () => process.exit(0));
