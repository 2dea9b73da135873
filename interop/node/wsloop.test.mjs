// Tests of examples/server/web/wsloop.js without a network: the platform's WebSocket, clock and events are stand-ins. Run by wsloop_test.go:
//
//   node --test wsloop.test.mjs
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { beforeEach, afterEach, describe, mock, test } from "node:test";
import { Client, ClientError } from "../../examples/server/web/wsloop.js";

// Line is the class WebSocket as the client sees it; the test is the server.
class Line {
  static all = [];
  readyState = 0;
  bufferedAmount = 0;
  sent = [];

  constructor(url, protocols) {
    if (String(url).startsWith("ftp:")) throw new SyntaxError("scheme");
    Object.assign(this, { url: String(url), protocols });
    Line.all.push(this);
  }

  static get last() {
    return Line.all.at(-1);
  }

  send(data) {
    this.sent.push(data);
  }

  close(code, reason) {
    if (code && code !== 1000 && (code < 3000 || code > 4999)) throw new RangeError("code");
    this.readyState = 2;
    this.closed = [code, reason];
  }

  open() {
    this.readyState = 1;
    this.onopen({});
    return this;
  }

  say(value) {
    this.onmessage?.({ data: typeof value === "object" && !(value instanceof ArrayBuffer) ? JSON.stringify(value) : value });
  }

  answer(index, code = 200, body = "") {
    this.say({ id: this.requests[index].id, code, message: "", body });
  }

  broadcast(message, body = "", more = {}) {
    this.say({ id: 0, code: 0, message, body, ...more });
  }

  end(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  get requests() {
    return this.sent.map((text) => JSON.parse(text));
  }
}

const platform = new EventTarget(); // online, offline
const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
let clients = [];
let chance = 0.5;

const settle = () => new Promise(setImmediate);

const pass = async (time) => {
  await settle();
  for (let rest = time; rest > 0; rest -= step) { // a timer that fires in the middle of a step is late
    mock.timers.tick(Math.min(rest, step));
    await settle();
  }
};
const step = 500;

// freeze lets time pass without a timer, as a page that sleeps does. Its timers are late then.
const freeze = (time) => (skipped += time);
let skipped = 0;

const start = async (options, url = "ws://server/") => {
  const client = new Client(url, { WebSocket: Line, ...options });
  clients.push(client);
  const request = client.request.bind(client);
  client.request = (...args) => {
    const answer = request(...args);
    answer.catch(() => {}); // a test looks later
    return answer;
  };
  client.states = [];
  client.onState((state) => client.states.push(state.name));
  await settle();
  return client;
};

const startOpen = async (options) => {
  const client = await start(options);
  Line.last.open();
  await settle();
  return client;
};

const outcome = (promise) => promise.then((value) => ({ value }), (error) => ({ error }));

const fails = (promise, wanted) =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof ClientError, String(error));
    for (const [name, value] of Object.entries(wanted)) assert.equal(error[name], value, name);
    return true;
  });

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e12 });
  mock.method(performance, "now", () => Date.now() - 1e12 + 1 + skipped);
  mock.method(Math, "random", () => chance);
  globalThis.addEventListener = platform.addEventListener.bind(platform);
  globalThis.removeEventListener = platform.removeEventListener.bind(platform);
  globalThis.document = page;
  Line.all = [];
  clients = [];
  chance = 0.5;
  skipped = 0;
});

afterEach(() => {
  for (const client of clients) client.close();
  mock.timers.reset();
  mock.restoreAll();
  delete globalThis.addEventListener;
  delete globalThis.removeEventListener;
  delete globalThis.document;
});

describe("requests", () => {
  test("answers find their requests in any order, and unknown ids nobody", async () => {
    const client = await startOpen();
    const line = Line.last;
    const one = client.request("GET", "/one");
    const two = client.request("POST", "/two", { body: { a: 1 } });
    const three = client.request("POST", "/three", { body: "plain" });
    assert.deepEqual(line.requests.map(({ method, target, body }) => [method, target, body]), [
      ["GET", "/one", undefined],
      ["POST", "/two", '{"a":1}'],
      ["POST", "/three", "plain"],
    ]);
    line.say({ id: 1e9, code: 200, message: "", body: "" });
    line.answer(2, 201, "c");
    line.answer(1, 200, '{"b":2}');
    line.answer(1, 200, "again");
    line.answer(0, 206, "a");
    assert.equal((await one).code, 206);
    assert.deepEqual((await two).json(), { b: 2 });
    assert.equal((await three).body, "c");
  });

  test("an answer to a request that was not sent is none", async () => {
    const client = await start();
    const request = client.request("GET", "/", { timeout: 1 });
    const next = client.request("GET", "/", { wait: false }).catch(() => {});
    await next;
    const later = await start({ resume: () => new Promise(() => {}) });
    Line.last.open();
    const waiting = later.request("GET", "/", { timeout: 100 });
    for (let id = 1; id < 1000; id++) Line.last.say({ id, code: 200, message: "", body: "" });
    await pass(100);
    await fails(waiting, { kind: "timeout", sent: false });
    await fails(request, { kind: "timeout", sent: false });
  });

  test("a code of 400 or above rejects with the answer", async () => {
    const client = await startOpen();
    const [good, bad] = [client.request("GET", "/"), client.request("GET", "/")];
    Line.last.answer(0, 399);
    Line.last.answer(1, 400);
    assert.equal((await good).code, 399);
    await fails(bad, { kind: "answer", code: 400 });
    Line.last.sent = [];
    const request = client.request("GET", "/secret");
    Line.last.say({ id: Line.last.requests[0].id, code: 403, message: "not for you", body: "{}" });
    await fails(request, { kind: "answer", code: 403, message: "not for you", sent: true });
    assert.equal((await outcome(request)).error.answer.body, "{}");
  });

  test("a deadline says whether the request was sent", async () => {
    const client = await start({ requestTimeout: 3000 });
    const waiting = client.request("GET", "/waiting");
    Line.last.open();
    await settle();
    const sent = client.request("GET", "/sent", { timeout: 500 });
    const unlimited = client.request("GET", "/unlimited", { timeout: Infinity });
    await pass(500);
    await fails(sent, { kind: "timeout", sent: true });
    await pass(2500);
    await fails(waiting, { kind: "timeout", sent: true });
    Line.last.answer(2);
    assert.equal((await unlimited).code, 200);
  });

  test("a request that no connection took in time was not sent", async () => {
    const client = await start();
    const request = client.request("GET", "/", { timeout: 100 });
    await pass(100);
    await fails(request, { kind: "timeout", sent: false });
    Line.last.open();
    assert.equal(Line.last.sent.length, 0);
  });

  test("a signal rejects with its reason, before and after sending", async () => {
    const client = await startOpen();
    const reason = new Error("changed my mind");
    const control = new AbortController();
    const request = client.request("GET", "/", { signal: control.signal });
    control.abort(reason);
    await assert.rejects(request, reason);
    await assert.rejects(client.request("GET", "/", { signal: control.signal }), reason);
    assert.equal(Line.last.sent.length, 1);
    Line.last.answer(0);
    const { signal } = new AbortController();
    const other = client.request("GET", "/", { signal });
    Line.last.answer(1);
    await other;
    assert.deepEqual(getEventListeners(signal, "abort"), []);
  });

  test("a body that is no JSON rejects and sends nothing", async () => {
    const client = await startOpen();
    const circle = {};
    circle.circle = circle;
    await assert.rejects(client.request("POST", "/", { body: circle }), TypeError);
    assert.equal(Line.last.sent.length, 0);
  });

  test("requests wait for a connection, in their order, and not if they must not", async () => {
    const client = await start();
    const first = client.request("GET", "/1");
    const second = client.request("GET", "/2");
    await fails(client.request("GET", "/3", { wait: false }), { kind: "lost", sent: false });
    Line.last.open();
    assert.deepEqual(Line.last.requests.map((r) => r.target), ["/1", "/2"]);
    Line.last.answer(0);
    Line.last.answer(1);
    await Promise.all([first, second]);
    const third = client.request("GET", "/3", { wait: false });
    Line.last.answer(2);
    await third;
  });

  test("a lost connection rejects what was sent, and sends nothing twice unless told so", async () => {
    const client = await startOpen();
    const once = client.request("POST", "/once");
    const again = client.request("GET", "/again", { idempotent: true });
    Line.last.end(1011, "broken");
    await fails(once, { kind: "lost", sent: true, code: 1011, reason: "broken" });
    const later = client.request("GET", "/later");
    await pass(1000);
    Line.last.open();
    assert.deepEqual(Line.last.requests.map((r) => r.target), ["/again", "/later"]);
    Line.last.answer(0);
    Line.last.answer(1);
    await Promise.all([again, later]);
  });

  test("a connection that is about to close takes no request", async () => {
    const client = await startOpen();
    Line.last.readyState = 2;
    const request = client.request("POST", "/");
    await fails(client.request("POST", "/", { wait: false }), { kind: "lost", sent: false });
    assert.equal(client.send("raw"), false);
    assert.equal(Line.last.sent.length, 0);
    Line.last.end(1012);
    await pass(5000);
    Line.last.open();
    Line.last.answer(0);
    await request;
  });
});

describe("messages", () => {
  test("broadcasts reach those who have subscribed to their name or to all", async () => {
    const client = await startOpen();
    const got = [];
    const end = client.on("news", (message) => got.push(["news", message.json()]));
    client.on("*", (message) => got.push(["*", message.message]));
    client.on("other", () => assert.fail());
    Line.last.broadcast("news", '{"a":1}');
    end();
    Line.last.broadcast("news", "2");
    assert.deepEqual(got, [["news", { a: 1 }], ["*", "news"], ["*", "news"]]);
  });

  test("a handler that is there twice is called twice", async () => {
    const client = await startOpen();
    const handler = mock.fn();
    const ends = [client.onRaw(handler), client.onRaw(handler)];
    Line.last.say("raw");
    ends[0]();
    ends[0]();
    Line.last.say("raw");
    assert.equal(handler.mock.callCount(), 3);
  });

  for (const onerror of [undefined, mock.fn()]) {
    test(`what the server did not understand is told ${onerror ? "to onerror" : "to nobody"}`, async () => {
      const client = await startOpen({ onerror });
      client.on("*", () => assert.fail());
      Line.last.say({ id: 0, code: 400, message: "no JSON", body: "" });
      await settle();
      if (onerror) assert.equal(onerror.mock.calls[0].arguments[0].code, 400);
    });
  }

  test("raw messages are those that are no JSON of the router", async () => {
    const client = await startOpen();
    const got = [];
    client.onRaw((data) => got.push(data));
    client.on("*", () => assert.fail());
    const odd = ["", "x", "null", "1", "[]", "{}", '"s"', '{"id":0}', '{"id":"0","code":0}', '{"id":1.5,"code":0}', '{"id":1e300,"code":0}', "{", new ArrayBuffer(3)];
    for (const data of odd) Line.last.say(data);
    assert.deepEqual(got, odd);
    assert.equal(client.state.name, "connected");
    assert.equal(client.send("text"), true);
    assert.deepEqual(Line.last.sent, ["text"]);
  });

  test("nothing that a server sends throws in the handler of the event", async () => {
    const errors = [];
    const client = await startOpen({ onerror: (error) => errors.push(error), track: (message) => message.json().key });
    const got = [];
    client.on("odd", (message) => got.push(message.json()));
    const request = client.request("GET", "/");
    Line.last.say({ id: Line.last.requests[0].id, code: 200, message: 5, body: { deep: [] }, seq: "x", prev: -1.5 });
    assert.deepEqual({ ...(await request) }, { message: "", body: "", id: Line.last.requests[0].id, code: 200, seq: 0, prev: 0 });
    Line.last.broadcast("odd", "not JSON");
    Line.last.broadcast("odd", "null");
    Line.last.broadcast("odd", "7");
    Line.last.broadcast("__proto__", "{}");
    Line.last.say({ id: 0, code: 0 });
    Line.last.say("x".repeat(1 << 20));
    await settle();
    assert.deepEqual(got, [null, 7]);
    assert.equal(errors.length, 4); // of track and the subscriber for the first, of track for the second and the one without a body
    assert.equal(client.state.name, "connected");
  });
});

describe("back-off", () => {
  const delays = async (client, codes) => {
    const got = [];
    for (const code of codes) {
      Line.last.end(code);
      await settle();
      got.push(client.state.next - Date.now());
      await pass(client.state.next - Date.now());
      if (code !== 1006) Line.last.open();
    }
    return got;
  };

  for (const [name, luck, wanted] of [
    ["never less than the shortest", 0, [500, 500, 500, 500, 500, 500, 500, 500]],
    ["doubles up to the longest", 1, [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]],
    ["is anything in between", 0.5, [750, 1250, 2250, 4250, 8250, 15250, 15250, 15250]],
  ]) {
    test(name, async () => {
      chance = luck;
      assert.deepEqual(await delays(await start(), wanted.map(() => 1006)), wanted);
    });
  }

  test("is reset by a connection that was stable, and by no other", async () => {
    chance = 1;
    const client = await start({ heartbeat: 0 });
    await delays(client, [1006, 1006, 1006]);
    Line.last.open();
    await pass(9_900);
    Line.last.end();
    assert.equal(client.state.next - Date.now(), 8000);
    await pass(8000);
    Line.last.open();
    await pass(10_000);
    Line.last.end();
    assert.equal(client.state.next - Date.now(), 1000);
    assert.equal(client.state.failures, 1);
  });

  for (const [code, luck, wanted] of [
    [1001, 0, 500],
    [1001, 1, 5000],
    [1012, 1, 5000],
    [1013, 0, 15000],
    [1013, 1, 30000],
    [1000, 1, 1000],
    [1008, 1, 1000],
    [4001, 1, 1000],
  ]) {
    test(`close code ${code} waits ${wanted} ms with luck ${luck}`, async () => {
      chance = luck;
      assert.deepEqual(await delays(await startOpen(), [code]), [wanted]);
    });
  }

  for (const final of [[1008, 4001], (code, reason) => reason === "revoked"]) {
    test(`a final code ends it, by ${typeof final === "function" ? "a function" : "a list"}`, async () => {
      const client = await startOpen({ final });
      const waiting = client.request("GET", "/", { idempotent: true });
      Line.last.end(4001, "revoked");
      assert.equal(client.state.name, "ended");
      assert.equal(client.state.error.code, 4001);
      assert.equal(client.state.error.reason, "revoked");
      await fails(waiting, { kind: "closed", sent: true, code: 4001 });
      await fails(client.request("GET", "/"), { kind: "closed", sent: false, code: 4001 });
      await pass(1e6);
      assert.equal(Line.all.length, 1);
      client.retry();
      await settle();
      assert.equal(Line.all.length, 2);
    });
  }

  test("the page sees each state, and when the next try begins", async () => {
    const client = await start();
    Line.last.open();
    Line.last.end();
    const { name, next, failures, error } = client.state;
    assert.deepEqual([name, next - Date.now(), failures, error.kind, error.code], ["waiting", 750, 1, "lost", 1006]);
    await pass(750);
    Line.last.open();
    assert.equal(client.state.error, undefined);
    client.close();
    assert.deepEqual(client.states, ["connecting", "connected", "waiting", "connecting", "connected", "ended"]);
    assert.equal(client.state.error, undefined);
  });

  test("nobody is told of a state that is over", async () => {
    const client = await startOpen();
    client.onState(({ name }) => name === "waiting" && client.retry());
    const seen = [];
    client.onState(({ name }) => seen.push(name));
    Line.last.end();
    await settle();
    assert.deepEqual(seen, ["connected", "connecting", "connecting"]);
    assert.equal(Line.all.length, 2);
    await pass(3000);
    assert.equal(Line.all.length, 2);
  });

  test("retry tries at once", async () => {
    const client = await startOpen();
    Line.last.end(1013);
    client.retry();
    await settle();
    assert.equal(Line.all.length, 2);
    client.retry(); // it has just begun
    await settle();
    assert.equal(Line.all.length, 2);
    await pass(3000);
    client.retry(); // it hangs
    await settle();
    assert.equal(Line.all.length, 3);
    Line.last.open();
    assert.equal(client.state.name, "connected");
  });

  for (const [name, tell] of [
    ["a network that is back", () => platform.dispatchEvent(new Event("online"))],
    ["a page that is looked at", () => page.dispatchEvent(new Event("visibilitychange"))],
  ]) {
    test(`${name} is tried at once, but no more often than usual`, async () => {
      chance = 1;
      const client = await start();
      await delays(client, [1006, 1006, 1006, 1006]);
      Line.last.end();
      await pass(600);
      tell();
      await settle();
      assert.equal(Line.all.length, 6);
      Line.last.end();
      tell();
      await settle();
      assert.equal(Line.all.length, 6);
      assert.equal(client.state.next - Date.now(), 500);
      await pass(500);
      assert.equal(Line.all.length, 7);
    });

    test(`${name} does not shorten what the server has asked for`, async () => {
      const client = await startOpen();
      Line.last.end(1013);
      await pass(5000);
      tell();
      await settle();
      assert.equal(client.state.name, "waiting");
    });
  }

  test("a hidden page is no reason to try", async () => {
    chance = 1;
    const client = await start();
    await delays(client, [1006, 1006, 1006, 1006]);
    Line.last.end();
    await pass(600);
    page.visibilityState = "hidden";
    page.dispatchEvent(new Event("visibilitychange"));
    page.visibilityState = "visible";
    assert.equal(client.state.name, "waiting");
  });
});

test("a platform that tells of an error alone has lost the connection too", async () => {
  const client = await start();
  Line.last.onerror({});
  assert.equal(client.state.error.code, 1006);
  await pass(1000);
  Line.last.open();
  Line.last.onerror({});
  assert.equal(client.state.name, "waiting");
});

describe("url and protocols", () => {
  test("are asked for anew for each try, and may be promises", async () => {
    let tries = 0;
    const url = async ({ last }) => `https://server/x?token=${++tries}&since=${last.get("news") ?? 0}#part`;
    const client = await start({ protocols: () => Promise.resolve(["v1", `key.${tries}`]) }, url);
    assert.equal(Line.last.url, "wss://server/x?token=1&since=0");
    assert.deepEqual(Line.last.protocols, ["v1", "key.1"]);
    client.last.set("news", 7);
    Line.last.end();
    await pass(1000);
    assert.equal(Line.last.url, "wss://server/x?token=2&since=7");
    assert.deepEqual(Line.last.protocols, ["v1", "key.2"]);
  });

  test("a function that fails is called again, one that is refused is not", async () => {
    let error = new Error("no network");
    const client = await start({}, () => Promise.reject(error));
    assert.equal(client.state.name, "waiting");
    assert.equal(client.state.error.kind, "failed");
    assert.equal(client.state.error.cause, error);
    error = { status: 401 };
    await pass(1000);
    assert.equal(client.state.name, "ended");
    assert.equal(client.state.error.code, 401);
  });

  test("a function that hangs is given up, and what it returns later is not used", async () => {
    let release;
    const client = await start({}, ({ signal }) => {
      assert.equal(signal.aborted, false);
      return new Promise((resolve) => (release = resolve));
    });
    await pass(10_000);
    assert.equal(client.state.error.kind, "timeout");
    release("ws://late/");
    await settle();
    assert.equal(Line.all.length, 0);
  });

  for (const url of ["not a url", "ftp://server/", ""]) {
    test(`${JSON.stringify(url)} ends it`, async () => {
      const client = await start({}, url);
      assert.equal(client.state.name, "ended");
      assert.equal(client.state.error.kind, "failed");
    });
  }
});

describe("heartbeat", () => {
  const probes = () => Line.last.requests.filter((r) => r.target === "/heartbeat");

  test("asks only where nothing was heard", async () => {
    const client = await startOpen();
    for (let i = 0; i < 10; i++) {
      await pass(3000);
      Line.last.broadcast("busy");
    }
    assert.equal(probes().length, 0);
    await pass(3999);
    assert.equal(probes().length, 0);
    await pass(1);
    assert.equal(probes().length, 1);
    assert.equal(client.state.name, "connected");
  });

  test("notices a dead network within ten seconds", async () => {
    const client = await startOpen();
    Line.last.broadcast("the last word");
    const request = client.request("GET", "/", { timeout: Infinity });
    await pass(9000);
    assert.equal(client.state.name, "waiting");
    assert.equal(client.state.error.kind, "silent");
    await fails(request, { kind: "lost", sent: true });
    assert.equal(Line.last.onmessage, null);
  });

  test("takes any answer and any message for a sign of life", async () => {
    const client = await startOpen();
    for (const life of [(l) => l.answer(l.sent.length - 1, 404), (l) => l.broadcast("x"), (l) => l.say("raw"), (l) => l.say(new ArrayBuffer(1))]) {
      await pass(4000);
      await pass(4900);
      life(Line.last);
    }
    assert.equal(probes().length, 4);
    assert.equal(client.state.name, "connected");
  });

  test("can be turned off", async () => {
    const client = await startOpen({ heartbeat: 0 });
    await pass(1e6);
    page.dispatchEvent(new Event("visibilitychange"));
    assert.equal(Line.last.sent.length, 0);
    assert.equal(client.state.name, "connected");
  });

  test("a timer that is late is no proof: the server is asked once more", async () => {
    const client = await startOpen();
    await pass(4000);
    freeze(60_000);
    await pass(5000);
    assert.equal(client.state.name, "connected");
    assert.equal(probes().length, 2);
    await pass(4900);
    Line.last.answer(1, 404);
    await pass(4000);
    freeze(60_000);
    await pass(5000);
    assert.equal(client.state.name, "connected");
    assert.equal(probes().length, 4);
  });

  test("timers that are always late notice a dead network all the same", async () => {
    const client = await startOpen();
    for (let i = 0; i < 3; i++) {
      freeze(60_000);
      await pass(6000);
    }
    assert.equal(client.state.error.kind, "silent");
  });

  test("a line that has much to carry is given time for it", async () => {
    const client = await startOpen();
    client.send("x".repeat(160_000)); // ten seconds, if it is as slow as it may be
    await pass(4000);
    await pass(500);
    Line.last.broadcast("life"); // and the line is busy still
    await pass(10_400);
    assert.equal(client.state.name, "connected");
    await pass(200);
    assert.equal(client.state.error.kind, "silent");
  });

  test("a line that carries something lives", async () => {
    const client = await startOpen();
    Line.last.bufferedAmount = 1e8;
    await pass(4000);
    for (let i = 0; i < 10; i++) {
      Line.last.bufferedAmount -= 1e5;
      await pass(5100);
    }
    assert.equal(client.state.name, "connected");
    await pass(11_000);
    assert.equal(client.state.error.kind, "silent");
  });

  test("alarms one after the other make it patient, an answer in time makes it strict again", async () => {
    const client = await startOpen({ maxDelay: 1 });
    const patience = async () => {
      await pass(4000);
      for (let time = 0; ; time += 1000) {
        if (client.state.name === "waiting") return time;
        await pass(1000);
      }
    };
    const got = [];
    for (let i = 0; i < 6; i++) {
      got.push(await patience());
      await pass(2);
      Line.last.open();
      Line.last.broadcast("welcome");
    }
    assert.deepEqual(got, [5000, 5000, 10_000, 20_000, 40_000, 40_000]);
    await pass(4000);
    Line.last.answer(0, 404);
    Line.last.end();
    await pass(2);
    Line.last.open();
    assert.equal(await patience(), 5000);
  });

  for (const [name, tell] of [
    ["offline", () => platform.dispatchEvent(new Event("offline"))],
    ["online", () => platform.dispatchEvent(new Event("online"))],
    ["looked at", () => page.dispatchEvent(new Event("visibilitychange"))],
  ]) {
    test(`asks at once when the page is ${name}`, async () => {
      await startOpen();
      tell();
      tell();
      assert.equal(probes().length, 1);
    });
  }
});

describe("a handshake that hangs", () => {
  test("is ended, each time a bit later", async () => {
    chance = 0;
    const client = await start();
    for (const limit of [10_000, 20_000, 40_000, 40_000]) {
      await pass(limit - 1);
      assert.equal(client.state.name, "connecting");
      await pass(1);
      assert.equal(client.state.error.kind, "timeout");
      assert.deepEqual(Line.last.closed, [undefined, undefined]);
      await pass(500);
    }
    Line.last.open();
    assert.equal(client.state.name, "connected");
    Line.last.end();
    await pass(client.state.next - Date.now());
    await pass(10_000);
    assert.equal(client.state.error.kind, "timeout");
  });

  test("is given time once more if the page was frozen", async () => {
    const client = await start();
    freeze(60_000);
    await pass(10_000);
    Line.last.open();
    assert.equal(client.state.name, "connected");
  });

  test("gives way to a network that is back", async () => {
    await start();
    await pass(2000);
    platform.dispatchEvent(new Event("online"));
    await settle();
    assert.equal(Line.all.length, 1);
    await pass(2000);
    platform.dispatchEvent(new Event("online"));
    await settle();
    assert.equal(Line.all.length, 2);
  });
});

describe("admission", () => {
  for (const status of [401, 403, 404]) {
    test(`${status} ends it`, async () => {
      let signal;
      const client = await start({ admission: async (context) => ({ status, more: "why", ...(({ signal } = context), {}) }) });
      Line.last.end();
      await settle();
      assert.equal(signal.aborted, false, "the rest of an answer may still be read");
      assert.equal(client.state.name, "ended");
      const { kind, code, admission } = client.state.error;
      assert.deepEqual([kind, code, admission.more], ["refused", status, "why"]);
    });
  }

  for (const [name, answer, wanted] of [
    ["503 with seconds", { status: 503, headers: new Headers({ "Retry-After": "20" }) }, 20_750],
    ["429 with a date", { status: 429, headers: new Headers({ "Retry-After": new Date(1e12 + 60_000).toUTCString() }) }, 60_750],
    ["503 with nonsense", { status: 503, headers: new Headers({ "Retry-After": "soon" }) }, 750],
    ["503 that is over", { status: 503, headers: new Headers({ "Retry-After": new Date(0).toUTCString() }) }, 750],
    ["503 for ever", { status: 503, retryAfter: 1e12 }, 86_400_750],
    ["503 without", { status: 503 }, 750],
    ["429 of its own", { status: 429, retryAfter: 2 }, 2_750],
    ["200", { status: 200, retryAfter: 60 }, 750],
    ["500", { status: 500, retryAfter: 60 }, 750],
    ["nothing", undefined, 750],
  ]) {
    test(`${name} waits ${wanted} ms`, async () => {
      const client = await start({ admission: () => answer });
      Line.last.end();
      await settle();
      assert.deepEqual([client.state.name, client.state.next - Date.now()], ["waiting", wanted]);
      await pass(600);
      platform.dispatchEvent(new Event("online"));
      await settle();
      assert.equal(client.state.name, wanted > 750 ? "waiting" : "connecting", "when the network is back");
    });
  }

  test("is asked by fetch", async () => {
    mock.method(globalThis, "fetch", async (url, { signal, cache }) => {
      assert.deepEqual([url, signal.aborted, cache], ["/login", false, "no-store"]);
      return new Response("", { status: 403 });
    });
    const client = await start({ admission: "/login" });
    Line.last.end();
    await settle();
    assert.equal(client.state.error.code, 403);
  });

  test("is asked once, however often the platform tells of the end", async () => {
    const admission = mock.fn(() => ({ status: 200 }));
    const client = await start({ admission });
    const { onerror, onclose } = Line.last;
    onerror({});
    Line.last.end();
    onclose({ code: 1006, reason: "" });
    await settle();
    assert.equal(client.state.name, "waiting");
    assert.ok(admission.mock.callCount() <= 2);
    assert.equal(Line.all.length, 1);
  });

  test("is not asked of a connection that was open", async () => {
    const client = await startOpen({ admission: () => assert.fail() });
    Line.last.end();
    assert.equal(client.state.name, "waiting");
  });

  test("an error of it is no refusal, and one that hangs is given up", async () => {
    const client = await start({ admission: mock.fn(() => new Promise(() => {})) });
    Line.last.end();
    await pass(10_000);
    assert.equal(client.state.name, "waiting");
    const other = await start({ admission: () => Promise.reject(new Error("no network")) });
    Line.last.end();
    await settle();
    assert.equal(other.state.error.kind, "lost");
  });
});

describe("resume", () => {
  const seen = (client) => {
    const got = [];
    client.on("news", (message) => got.push(message.seq));
    return got;
  };
  const track = (message) => message.message;

  test("is over before anybody is told of a connection, and has its own requests", async () => {
    const sessions = [];
    const client = await start({
      resume: async (session) => {
        sessions.push([session.first, session.why]);
        await session.request("POST", "/subscribe");
      },
    });
    const request = client.request("GET", "/mine");
    for (const first of [true, false]) {
      Line.last.open();
      assert.equal(client.send("raw"), false);
      assert.deepEqual(Line.last.requests.map((r) => r.target), ["/subscribe"]);
      assert.equal(client.state.name, "connecting");
      Line.last.answer(0);
      await settle();
      assert.equal(client.state.name, "connected");
      assert.deepEqual(sessions.at(-1), [first, "connected"]);
      if (first) {
        Line.last.answer(1);
        await request;
        Line.last.end();
        await pass(1000);
      }
    }
  });

  test("fetches what was missed, page by page, and nothing comes twice or in another order", async () => {
    const complete = [];
    const client = await start({ track, resume: async ({ since }) => complete.push(await since("/topics/a%2Fb/since", "news")) });
    const got = seen(client);
    const page = (index, messages, more, complete = true) =>
      Line.last.answer(index, 200, JSON.stringify({
        complete,
        more,
        messages: messages.map((seq) => ({ seq, text: JSON.stringify({ message: "news", body: "", id: 0, code: 0 }) })),
      }));
    Line.last.open();
    assert.equal(Line.last.requests[0].target, "/topics/a%2Fb/since?seq=0");
    page(0, [3, 5], false);
    await settle();
    Line.last.broadcast("news", "", { seq: 8, prev: 5 });
    Line.last.broadcast("news", "", { seq: 8, prev: 5 });
    Line.last.end();
    await pass(1000);
    Line.last.open();
    assert.equal(Line.last.requests[0].target, "/topics/a%2Fb/since?seq=8");
    Line.last.broadcast("news", "", { seq: 20, prev: 15 });
    page(0, [9, 12], true);
    await settle();
    assert.equal(Line.last.requests[1].target, "/topics/a%2Fb/since?seq=12");
    Line.last.broadcast("news", "", { seq: 21, prev: 20 });
    page(1, [15, 20], false, false);
    await settle();
    assert.deepEqual(got, [3, 5, 8, 9, 12, 15, 20, 21]);
    assert.deepEqual(complete, [true, false]);
    assert.equal(client.last.get("news"), 21);
  });

  test("goes on behind what is no text, and an answer that is not complete is none with the next one", async () => {
    const complete = [];
    const client = await start({ track, resume: async ({ since }) => complete.push(await since("/since", "news")) });
    Line.last.open();
    Line.last.answer(0, 200, '{"complete":false,"more":true,"messages":[{"seq":4,"data":"AQ=="}]}');
    await settle();
    assert.equal(Line.last.requests[1].target, "/since?seq=4");
    Line.last.answer(1, 200, '{"complete":true,"more":false,"messages":[]}');
    await settle();
    assert.deepEqual(complete, [false]);
    assert.equal(client.last.get("news"), 4);
  });

  for (const [name, answer] of [
    ["that goes on for ever", { complete: true, more: true, messages: [{ seq: 1 }, { seq: "x" }, {}] }],
    ["that is empty", { complete: true, more: true, messages: [] }],
  ]) {
    test(`an answer ${name} is the last one`, async () => {
      const client = await start({ track, resume: ({ since }) => since("/since", "news") });
      Line.last.open();
      for (let i = 0; i < 2; i++) {
        if (Line.last.sent.length > i) Line.last.answer(i, 200, JSON.stringify(answer));
        await settle();
      }
      assert.equal(client.state.name, "connected");
    });
  }

  for (const [name, body] of [["no JSON", "x"], ["null", "null"], ["no messages", "{}"]]) {
    test(`an answer that is ${name} is a failure`, async () => {
      const client = await start({ track, resume: ({ since }) => since("/since", "news") });
      Line.last.open();
      Line.last.answer(0, 200, body);
      await settle();
      assert.deepEqual([client.state.name, client.state.error.kind], ["waiting", "failed"]);
    });
  }

  test("is called again when a number shows that something is missing", async () => {
    const why = [];
    let release;
    const client = await start({
      track,
      resume: async (session) => {
        why.push(session.why);
        if (session.why === "connected") return;
        await new Promise((resolve) => (release = resolve));
        session.deliver({ message: "news" }, 2);
        session.deliver('{"message":"news","body":"","id":0,"code":0}', 3);
        session.deliver("nonsense");
      },
    });
    const got = seen(client);
    Line.last.open();
    await settle();
    Line.last.broadcast("news", "", { seq: 1 });
    Line.last.broadcast("news", "", { seq: 4, prev: 3 });
    Line.last.broadcast("news", "", { seq: 9, prev: 7 });
    Line.last.broadcast("other", "", {});
    assert.deepEqual(got, [1]);
    assert.equal(client.state.name, "connected");
    release();
    await settle();
    assert.deepEqual(got, [1, 2, 3, 4, 9]);
    assert.deepEqual(why, ["connected", "gap"]);
    assert.deepEqual(client.states, ["connecting", "connected"]);
  });

  test("delivers nothing that it has held back, nor what comes late, to a client that has ended", async () => {
    let session;
    const client = await start({ track, resume: (s) => ((session = s), new Promise((resolve) => (s.go = resolve))) });
    const got = seen(client);
    client.on("news", () => client.close());
    Line.last.open();
    Line.last.broadcast("news", "", { seq: 1 });
    Line.last.broadcast("news", "", { seq: 2 });
    session.go();
    await settle();
    session.deliver({ message: "news" }, 3);
    assert.deepEqual(got, [1]);
  });

  test("that fails makes another connection, and keeps nothing of this one", async () => {
    let error = new Error("not now");
    const client = await start({ track, resume: () => error && Promise.reject(error) });
    const got = seen(client);
    Line.last.open();
    Line.last.broadcast("news", "", { seq: 1 });
    await settle();
    assert.equal(client.state.error.cause, error);
    error = null;
    await pass(1000);
    Line.last.open();
    Line.last.broadcast("news", "", { seq: 1 });
    await settle();
    assert.deepEqual(got, [1]);
    assert.equal(client.state.name, "connected");
  });

  test("holds back only so many", async () => {
    const client = await start({ track, resume: () => new Promise(() => {}) });
    Line.last.open();
    for (let seq = 1; seq <= 10_000; seq++) Line.last.broadcast("news", "", { seq });
    assert.equal(client.state.name, "connecting");
    Line.last.broadcast("news", "", { seq: 10_001 });
    assert.equal(client.state.error.kind, "failed");
  });

  test("its session ends with the connection", async () => {
    let session;
    const client = await start({ resume: (s) => ((session = s), s.request("GET", "/", { idempotent: true })) });
    Line.last.open();
    const request = session.request("GET", "/2", { idempotent: true });
    Line.last.end();
    await fails(request, { kind: "lost", sent: true });
    assert.equal(session.signal.aborted, true);
    await fails(session.request("GET", "/3"), { kind: "lost", sent: false });
    assert.equal(client.state.error.kind, "lost");
  });
});

describe("the end", () => {
  test("rejects all requests, sends a Close frame and leaves nothing", async () => {
    const client = await startOpen();
    const request = client.request("GET", "/");
    const line = Line.last;
    client.close(4000, "bye");
    assert.deepEqual(line.closed, [4000, "bye"]);
    await fails(request, { kind: "closed", sent: true });
    await fails(client.request("GET", "/"), { kind: "closed", sent: false });
    assert.equal(client.state.name, "ended");
    client.retry();
    platform.dispatchEvent(new Event("online"));
    await pass(1e6);
    assert.equal(Line.all.length, 1);
    client.close();
    assert.deepEqual(client.states, ["connecting", "connected", "ended"]);
    for (const [target, type] of [[platform, "online"], [platform, "offline"], [page, "visibilitychange"]]) {
      assert.deepEqual(getEventListeners(target, type), []);
    }
  });

  test("a bad code changes nothing", async () => {
    const client = await startOpen();
    assert.throws(() => client.close(1001), RangeError);
    assert.equal(client.state.name, "connected");
    await pass(4000);
    assert.equal(Line.last.sent.length, 1);
    Line.last.sent = [];
    const request = client.request("GET", "/");
    Line.last.answer(0);
    await request;
  });

  test("may come at any time", async () => {
    const early = new Client("ws://server/", { WebSocket: Line });
    early.close();
    const waiting = await start();
    Line.last.end();
    waiting.close();
    const asking = await start({ admission: () => new Promise(() => {}) });
    Line.last.end();
    asking.close();
    const fetching = await start({}, () => new Promise(() => {}));
    fetching.close();
    const lines = Line.all.length;
    await pass(1e6);
    assert.equal(Line.all.length, lines);
    for (const client of [early, waiting, asking, fetching]) assert.equal(client.state.name, "ended");
  });

  test("may come from any handler", async () => {
    for (const name of ["connecting", "connected", "waiting"]) {
      const client = await start();
      client.onState((state) => state.name === name && client.close());
      if (client.state.name !== "ended") Line.last.open();
      if (client.state.name !== "ended") Line.last.end();
      await pass(1e6);
      assert.equal(client.state.name, "ended", name);
    }
    const client = await startOpen();
    client.on("a", () => client.close());
    client.on("a", () => {});
    Line.last.broadcast("a");
    assert.equal(client.state.name, "ended");
  });
});
