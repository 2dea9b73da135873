// A program that uses wsloop.js, for the compiler alone: each line behind @ts-expect-error must be a mistake.
import { Client, ClientError, type Admission, type Message, type Options, type Session, type State } from "../../examples/server/web/wsloop.js";

interface News {
  text: string;
}

const options: Options = {
  protocols: async ({ signal }) => ["v1", await token(signal)],
  admission: ({ signal }): Promise<Admission> => fetch("/login", { signal }),
  track: (message) => (message.seq ? message.message : null),
  resume: async (session: Session) => {
    if (!(await session.since("/topics/news/since", "news"))) console.log("something is missing");
    session.deliver({ message: "news", body: "{}" }, 7);
  },
  final: [1008, 4001],
  onerror: console.error,
};

async function token(signal: AbortSignal): Promise<string> {
  return (await fetch("/token", { signal })).text();
}

const client = new Client("/ws", options);
new Client(new URL("https://example.com/"), { final: (code, reason) => code === 1008 && reason === "revoked" });
new Client(async ({ last }) => `/ws?since=${last.get("news") ?? 0}`, { protocols: "v1", track: ({ seq }) => ({ key: "a", id: seq }) });

const show = (state: State): string => {
  if (state.name === "waiting") return `next try in ${state.next - Date.now()} ms`;
  return state.error ? `${state.error.kind} ${state.error.code}` : state.name;
};
const stop: () => void = client.onState((state) => console.log(show(state)));
client.on("news", (message: Message) => console.log(message.json<News>().text, message.seq));
client.onRaw((data) => typeof data === "string" && client.send(data));
client.send(new Uint8Array(3));
client.last.set("news", 7);

try {
  const answer = await client.request("POST", "/news", { body: { text: "hello" }, timeout: 5000, signal: AbortSignal.timeout(1), idempotent: true });
  console.log(answer.code, answer.json<News>().text);
} catch (error) {
  if (error instanceof ClientError && error.kind === "lost" && !error.sent) client.retry();
}
stop();
client.close(4000, "bye");

// @ts-expect-error
client.state = client.state;
// @ts-expect-error
client.request("GET");
// @ts-expect-error
client.on("news", (message: string) => message);
// @ts-expect-error
new Client(7);
// @ts-expect-error
new Client("/ws", { heartbeat: "often" });
// @ts-expect-error
client.state.name === "open";
