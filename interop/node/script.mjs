// Runs scripts of the Go tests: reads {id, place, script} as lines of JSON, and writes {id, value} or {id, error}. A script is the body of an
// async function, with the module wsloop.js and what the scripts of the same place have kept. It ends by itself when its input does and
// nothing is left that keeps Node alive.
import { createInterface } from "node:readline";
import * as wsloop from "../../examples/server/web/wsloop.js";

const AsyncFunction = (async () => {}).constructor;
const places = new Map();

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, place, script } = JSON.parse(line);
  if (!places.has(place)) places.set(place, {});
  let answer;
  try {
    answer = { id, value: await new AsyncFunction("wsloop", "page", script)(wsloop, places.get(place)) };
  } catch (error) {
    answer = { id, error: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
