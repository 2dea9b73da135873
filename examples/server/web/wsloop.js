// A client for servers of the Go package websocket: requests, subscriptions, and a connection that comes back. It runs in browsers and in
// Node from version 22 on, and needs nothing else. BROWSERS.md describes it, and wsloop.d.ts its types.

const defaults = {
  requestTimeout: 10_000,
  connectTimeout: 10_000,
  heartbeat: 4_000,
  heartbeatTimeout: 5_000,
  heartbeatTarget: "/heartbeat",
  minDelay: 500,
  maxDelay: 30_000,
  spread: 5_000,
  stable: 10_000,
  binaryType: "arraybuffer",
};

const maxTimer = 2 ** 31 - 1; // milliseconds that setTimeout can take
const maxRetryAfter = 86_400_000; // milliseconds that a server can have a client wait
const maxHeld = 10_000; // broadcasts that wait for the end of resume
const hanging = 3_000; // milliseconds after which a try may be given up for another one
const late = 1_000; // milliseconds by which a timer is too late to tell anything: the page was throttled, frozen or busy
const grain = 10; // milliseconds that are worth a timer
const slowest = 16; // bytes that an honest line carries in a millisecond
const maxUpload = 60_000; // milliseconds that what was sent may keep a line busy
const open = 1; // of WebSocket.readyState
const abnormal = 1006; // close code where there was no Close frame (RFC 6455, section 7.4.1)
const goingAway = 1001;
const serviceRestart = 1012;
const tryAgainLater = 1013;

let lastId = 0; // of all requests of the page

const now = () => performance.now(); // no wall clock: people set those

const sizeOf = (data) => data.length ?? data.byteLength ?? data.size;

const random = (from, to) => from + Math.random() * Math.max(0, to - from);

// provide returns an option, which may be a function that makes its value.
const provide = (option, context) => (typeof option === "function" ? option(context) : option);

function absolute(url) {
  const u = new URL(url, globalThis.location?.href);
  u.protocol = u.protocol.replace("http", "ws");
  u.hash = "";
  return u;
}

// retryAfter returns for how many milliseconds an answer to admission wants to be left alone.
function retryAfter(answer) {
  const value = answer.retryAfter ?? answer.headers?.get("Retry-After");
  const wait = value >= 0 ? value * 1000 : Date.parse(value) - Date.now();
  return Math.min(wait > 0 ? wait : 0, maxRetryAfter);
}

export class ClientError extends Error {
  constructor(kind, message, more = {}) {
    super(message, more.cause && { cause: more.cause });
    Object.assign(this, { name: "ClientError", kind, sent: false, code: 0, reason: "" }, more);
  }
}

// Message is a Response of the server. A member of a wrong type counts as missing.
class Message {
  constructor(members, seq = members.seq) {
    const text = (s) => (typeof s === "string" ? s : "");
    const number = (n) => (Number.isSafeInteger(n) ? n : 0);
    this.message = text(members.message);
    this.body = text(members.body);
    this.id = number(members.id);
    this.code = number(members.code);
    this.seq = number(seq);
    this.prev = number(members.prev);
  }

  json() {
    return JSON.parse(this.body);
  }
}

const answerError = (answer) => new ClientError("answer", answer.message, { sent: true, code: answer.code, answer });

// parse returns a Message, or null for a text that is none.
function parse(text, seq) {
  try {
    const members = JSON.parse(text);
    if (Number.isSafeInteger(members.id) && Number.isSafeInteger(members.code)) return new Message(members, seq);
  } catch {
    // not JSON, or null
  }
  return null;
}

// Line is one try to connect and the connection that comes of it. It watches over both: nothing else tells a script that a network is dead.
class Line {
  socket = null;
  began = now();
  opened = 0; // when; 0: not yet
  refused = false; // by an answer to admission
  held = null; // broadcasts that wait for the end of resume; null: none have to
  probe = 0; // id of the request that asks for a sign of life
  #options;
  #patience; // how much more time than usual there is for a sign of life
  #lose;
  #life = new AbortController();
  #timer;
  #due; // when the timer should have fired
  #heard; // when the server was last heard
  #asked = 0; // when it was asked for a sign of life; 0: it owes none
  #buffered = 0; // what the socket had not sent yet when it was last looked at
  #busy = 0; // until when what was sent may keep the line busy
  #pardoned = false; // whether a timer that was late has been pardoned

  constructor(options, patience, lose) {
    this.#options = options;
    this.#patience = patience;
    this.#lose = lose;
  }

  get signal() {
    return this.#life.signal;
  }

  get isOpen() {
    return this.socket?.readyState === open;
  }

  send(data) {
    const time = now();
    this.#busy = Math.min(Math.max(this.#busy, time) + sizeOf(data) / slowest, time + maxUpload);
    this.socket.send(data);
  }

  // limit gives a handshake, or what is asked after it, so much time.
  limit(time) {
    clearTimeout(this.#timer);
    this.#due = now() + time;
    this.#timer = setTimeout(() => this.#check(), time);
  }

  begin() {
    this.opened = this.#heard = now();
    this.#pardoned = false;
    clearTimeout(this.#timer);
    if (this.#options.heartbeat > 0) this.limit(this.#options.heartbeat);
  }

  hear() {
    this.#heard = now();
    if (this.#asked === 0) return;
    this.#asked = 0;
    this.#pardoned = false;
    this.limit(this.#options.heartbeat);
  }

  // ask asks for a sign of life, unless the server owes one already.
  ask() {
    if (this.#asked || !(this.#options.heartbeat > 0)) return;
    this.#asked = now();
    this.#buffered = this.socket.bufferedAmount;
    this.probe = ++lastId;
    if (this.isOpen) this.socket.send(JSON.stringify({ id: this.probe, method: "GET", target: this.#options.heartbeatTarget }));
    this.limit(this.#allowed);
  }

  get #allowed() {
    return this.#options.heartbeatTimeout * this.#patience;
  }

  // #check decides when the time is up. The messages of a page that was frozen may be behind its timers, and those of a page in the
  // background are late: such a timer is no proof, and the server is given time once more.
  #check() {
    const time = now();
    if (this.opened && !this.#asked) {
      const rest = this.#heard + this.#options.heartbeat - time;
      if (rest > 0) this.limit(rest);
      else this.ask();
    } else if (time - this.#due > late && !this.#pardoned) {
      this.#pardoned = true;
      this.#asked = 0;
      if (this.opened) this.ask();
      else this.limit(this.#options.heartbeatTimeout);
    } else if (!this.opened) {
      this.#lose(new ClientError("timeout", "the handshake took too long"));
    } else if (!this.#carries(time)) {
      this.#lose(new ClientError("silent", "the server gives no sign of life"));
    }
  }

  // #carries reports whether the line carries what was sent, which the server has to read before it can answer: then it has more time.
  #carries(time) {
    const buffered = this.socket.bufferedAmount;
    if (buffered < this.#buffered) this.#asked = time;
    this.#buffered = buffered;
    const rest = Math.max(this.#asked, this.#busy) + this.#allowed - time;
    if (rest > grain) this.limit(rest);
    return rest > grain;
  }

  // end lets go of the socket: on a dead network it takes minutes to close. It throws, and does nothing, if the code is a bad one.
  end(code, reason) {
    const { socket } = this;
    if (code) socket?.close(code, reason);
    clearTimeout(this.#timer);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      if (!code) socket.close();
    }
    if (!this.refused) this.#life.abort(); // else the program may not have read the whole answer yet
  }
}

export class Client {
  last = new Map();
  #url;
  #options;
  #state;
  #line = null;
  #timer; // of the next try
  #tried = 0; // when the last one began
  #failures = 0;
  #demanded = false; // whether the server has said when to come back
  #slow = 0; // handshakes in a row that took too long
  #alarms = 0; // connections in a row that were given up as silent
  #requests = new Map(); // by id, in the order in which they were made
  #subscribers = new Set(); // to broadcasts
  #watchers = new Set(); // of the state
  #raw = new Set();
  #deafen = []; // functions that remove the listeners for what the platform tells
  #fresh = true; // there was no connection yet
  #closed = false;

  constructor(url, options = {}) {
    this.#url = url;
    this.#options = { ...options };
    for (const name in defaults) this.#options[name] ??= defaults[name];
    this.#tell("connecting");
    this.#listen();
    queueMicrotask(() => this.#state.name === "connecting" && !this.#line && this.#connect());
  }

  get state() {
    return this.#state;
  }

  request(method, target, options) {
    return this.#request(null, method, target, options);
  }

  on(name, handler) {
    return this.#subscribe(this.#subscribers, (message) => {
      if (name === "*" || name === message.message) handler(message);
    });
  }

  onRaw(handler) {
    return this.#subscribe(this.#raw, handler);
  }

  onState(handler) {
    const end = this.#subscribe(this.#watchers, handler);
    this.#try(handler, this.#state);
    return end;
  }

  send(data) {
    const able = this.#state.name === "connected" && this.#line.isOpen;
    if (able) this.#line.send(data);
    return able;
  }

  retry() {
    if (this.#closed) return;
    if (this.#state.name === "ended") {
      this.#failures = 0;
      this.#listen();
      this.#connect();
    } else {
      this.#wake(true);
    }
  }

  close(code = 1000, reason = "") {
    if (this.#closed) return;
    this.#line?.end(code, reason);
    this.#closed = true;
    this.#end();
  }

  // Connecting.

  #listen() {
    const { document } = globalThis;
    const add = (target, type, handler) => {
      target?.addEventListener?.(type, handler);
      this.#deafen.push(() => target?.removeEventListener?.(type, handler));
    };
    add(globalThis, "online", () => this.#wake(false));
    add(globalThis, "offline", () => this.#line?.opened && this.#line.ask());
    add(document, "visibilitychange", () => document.visibilityState === "visible" && this.#wake(false));
  }

  // #wake does at once what was to come later: a try, or the question for a sign of life. Only a user may overrule what the server has asked
  // for, and the usual pace.
  #wake(byUser) {
    const line = this.#line;
    if (line?.opened) {
      line.ask();
    } else if (line) {
      if (now() - line.began < hanging) return;
      line.end();
      this.#connect();
    } else if (this.#state.name === "waiting" && (byUser || !this.#demanded)) {
      const rest = byUser ? 0 : this.#tried + this.#options.minDelay - now();
      if (rest <= 0) this.#connect();
      else this.#wait(Math.min(rest, this.#state.next - Date.now()), this.#state.error);
    }
  }

  async #connect() {
    clearTimeout(this.#timer);
    this.#tried = now();
    const patience = 2 ** Math.min(Math.max(this.#alarms - 1, 0), 3);
    const line = new Line(this.#options, patience, (error) => this.#lose(line, error));
    this.#line = line;
    line.limit(this.#options.connectTimeout * 2 ** Math.min(this.#slow, 2));
    if (this.#state.name !== "connecting") this.#tell("connecting", this.#state.error);
    const context = { signal: line.signal, last: this.last };
    let url, protocols;
    try {
      url = await provide(this.#url, context);
      protocols = await provide(this.#options.protocols, context);
    } catch (cause) {
      if (!this.#refuse(line, cause)) this.#lose(line, new ClientError("failed", "no URL or no protocols", { cause }));
      return;
    }
    if (line === this.#line) this.#dial(line, url, protocols);
  }

  #dial(line, url, protocols = []) {
    const { WebSocket = globalThis.WebSocket, binaryType } = this.#options;
    let socket;
    try {
      socket = new WebSocket(absolute(url), protocols);
    } catch (cause) {
      this.#giveUp(line, new ClientError("failed", "no such connection is possible", { cause }));
      return;
    }
    line.socket = socket;
    socket.binaryType = binaryType;
    socket.onopen = () => this.#opened(line);
    socket.onmessage = ({ data }) => this.#receive(line, data);
    socket.onclose = ({ code, reason }) => this.#ended(line, code, reason);
    socket.onerror = () => this.#ended(line, abnormal, ""); // some do not close after a handshake that has failed
  }

  #opened(line) {
    this.#slow = 0;
    line.begin();
    if (this.#options.resume) this.#resume(line, "connected");
    else this.#ready(line);
  }

  #ready(line) {
    this.#fresh = false;
    for (const request of this.#requests.values()) {
      if (!request.line) this.#transmit(line, request);
    }
    this.#tell("connected"); // behind them: what its handlers ask comes later
  }

  // #ended is told what the platform knows of the end of a connection; of a handshake that has failed it knows nothing.
  #ended(line, code, reason) {
    if (line !== this.#line) return;
    const error = new ClientError("lost", line.opened ? "the connection was lost" : "there is no connection", { code, reason });
    const { admission } = this.#options;
    line.socket.onclose = line.socket.onerror = null;
    if (!line.opened && admission) this.#ask(line, admission, error);
    else if (line.opened && this.#isFinal(code, reason)) this.#giveUp(line, error);
    else this.#lose(line, error);
  }

  #isFinal(code, reason) {
    const { final = [] } = this.#options;
    return typeof final === "function" ? this.#try(final, code, reason) : final.includes(code);
  }

  async #ask(line, admission, error) {
    const { signal } = line;
    line.limit(this.#options.connectTimeout);
    try {
      const asks = typeof admission === "function";
      const answer = await (asks ? admission({ signal }) : fetch(admission, { signal, cache: "no-store" }));
      if (this.#refuse(line, answer)) return;
      if (!asks) answer.body?.cancel();
    } catch {
      // nobody answers: that is no refusal
    }
    this.#lose(line, error);
  }

  // #refuse acts on a refusal with a status of HTTP, and reports whether there is one.
  #refuse(line, answer) {
    const code = answer?.status;
    const isFinal = [401, 403, 404].includes(code);
    line.refused = isFinal || code === 429 || code === 503;
    const error = new ClientError("refused", "the server refuses this client", { code, admission: answer });
    if (isFinal) this.#giveUp(line, error);
    else if (line.refused) this.#lose(line, error, retryAfter(answer));
    return line.refused;
  }

  // #lose ends a line, and plans the next one, not before the time that the server has told.
  #lose(line, error, told = 0) {
    if (line !== this.#line) return;
    const { minDelay, maxDelay, spread, stable } = this.#options;
    if (line.opened && now() - line.opened >= stable) this.#failures = 0;
    if (error.kind === "silent") this.#alarms++;
    if (error.kind === "timeout") this.#slow++;
    this.#failures++;
    this.#drop(line, error);
    let most = Math.min(maxDelay, minDelay * 2 ** this.#failures);
    let least = Math.min(minDelay, most);
    if (error.code === goingAway || error.code === serviceRestart) most = Math.max(most, spread);
    const later = error.code === tryAgainLater;
    if (later) [least, most] = [maxDelay / 2, maxDelay];
    this.#demanded = later || told > 0;
    this.#wait(told + random(least, most), error);
  }

  #wait(delay, error) {
    clearTimeout(this.#timer);
    this.#tell("waiting", error, Date.now() + delay);
    if (this.#state.name === "waiting") this.#timer = setTimeout(() => this.#connect(), delay);
  }

  // #drop leaves nothing of a line. What it has carried is lost with it, or waits for the next one.
  #drop(line, cause) {
    this.#line = null;
    line.end();
    for (const request of [...this.#requests.values()]) {
      if (request.line !== line) continue;
      if (request.again) request.line = null;
      else request.fail("lost", "the connection was lost before the answer", cause);
    }
  }

  #giveUp(line, error) {
    if (line !== this.#line) return;
    this.#drop(line, error);
    this.#end(error);
  }

  #end(error) {
    clearTimeout(this.#timer);
    this.#line = null;
    for (const remove of this.#deafen.splice(0)) remove();
    for (const request of [...this.#requests.values()]) request.fail("closed", "the client has ended", error);
    this.#tell("ended", error);
  }

  #tell(name, error, next = 0) {
    this.#state = Object.freeze({ name, next, failures: this.#failures, error });
    for (const watcher of [...this.#watchers]) this.#try(watcher, this.#state); // the latest, if one of them has changed it
  }

  // Requests.

  #request(only, method, target, { body, timeout = this.#options.requestTimeout, signal, idempotent = false, wait = true } = {}) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const id = ++lastId;
      const text = JSON.stringify({ id, method, target, body: typeof body === "string" ? body : JSON.stringify(body) });
      const settle = (act, value) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        this.#requests.delete(id);
        act(value);
      };
      const request = {
        text,
        line: null, // that it was sent over
        sent: false,
        again: idempotent && !only,
        take: (answer) => {
          if (answer.code < 400) settle(resolve, answer);
          else settle(reject, answerError(answer));
        },
        fail: (kind, message, cause) => {
          const { code = 0, reason = "" } = cause ?? {};
          settle(reject, new ClientError(kind, message, { sent: request.sent, code, reason, cause }));
        },
      };
      const abort = () => settle(reject, signal.reason);
      const expire = () => request.fail("timeout", "no answer in time");
      const timer = timeout < maxTimer ? setTimeout(expire, timeout) : undefined;
      signal?.addEventListener("abort", abort);
      this.#requests.set(id, request);
      const line = only ?? (this.#state.name === "connected" ? this.#line : null);
      if (this.#state.name === "ended") request.fail("closed", "the client has ended", this.#state.error);
      else if (line) this.#transmit(line, request);
      if (!request.line && (only || !wait)) request.fail("lost", "there is no connection", this.#state.error);
    });
  }

  // #transmit sends a request, unless the connection is about to be lost: then it waits for the next one.
  #transmit(line, request) {
    if (!line.isOpen) return;
    request.line = line;
    request.sent = true;
    line.send(request.text);
  }

  // Messages.

  #receive(line, data) {
    line.hear();
    const message = typeof data === "string" ? parse(data) : null;
    if (!message) {
      this.#call(this.#raw, data);
    } else if (message.id === 0) {
      if (message.code === 0) this.#broadcast(line, message);
      else this.#report(answerError(message), true); // what it did not understand; nobody knows which message that was
    } else {
      if (message.id === line.probe) this.#alarms = 0;
      const request = this.#requests.get(message.id);
      if (request?.line === line) request.take(message);
    }
  }

  #broadcast(line, message) {
    const track = this.#track(message);
    if (!track) {
      this.#publish(message);
    } else if (line.held) {
      line.held.push(message);
      if (line.held.length > maxHeld) this.#lose(line, new ClientError("failed", "resume takes too long"));
    } else if (this.#options.resume && track.prev > this.last.get(track.key)) {
      this.#resume(line, "gap");
      line.held?.push(message);
    } else {
      this.#deliver(message, track);
    }
  }

  // #track returns where a message belongs; undefined if nowhere.
  #track(message) {
    let track = this.#options.track && this.#try(this.#options.track, message);
    if (typeof track === "string") track = { key: track, id: message.seq, prev: message.prev };
    return track?.id > 0 ? track : undefined;
  }

  // #deliver publishes a message that is new.
  #deliver(message, track = this.#track(message)) {
    if (track) {
      if (track.id <= this.last.get(track.key)) return;
      this.last.set(track.key, track.id);
    }
    this.#publish(message);
  }

  #publish(message) {
    this.#call(this.#subscribers, message);
  }

  // #resume has the program fetch what it has missed. Broadcasts that can be told from those wait until it has, so that they come in order.
  async #resume(line, why) {
    line.held = [];
    try {
      await this.#options.resume(this.#session(line, why));
    } catch (cause) {
      this.#lose(line, new ClientError("failed", "resume has failed", { cause }));
      return;
    }
    if (line !== this.#line) return;
    const held = line.held;
    line.held = null;
    for (const message of held) {
      if (line === this.#line) this.#deliver(message);
    }
    if (line === this.#line && why === "connected") this.#ready(line);
  }

  #session(line, why) {
    const request = (method, target, options) => this.#request(line, method, target, options);
    const deliver = (message, seq) => {
      const parsed = typeof message === "string" ? parse(message, seq) : new Message(message, seq);
      if (parsed && line === this.#line) this.#deliver(parsed);
    };
    const since = async (target, key) => {
      const lastOf = () => this.last.get(key) ?? 0;
      for (let complete = true; ; ) {
        const before = lastOf();
        const answer = (await request("GET", `${target}?seq=${before}`)).json();
        complete &&= answer.complete;
        for (const { text, seq } of answer.messages) {
          if (typeof text === "string") deliver(text, seq);
          if (seq > lastOf()) this.last.set(key, seq); // also for a message that nobody can read
        }
        if (!answer.more || lastOf() === before) return complete;
      }
    };
    return { first: this.#fresh, why, last: this.last, signal: line.signal, request, deliver, since };
  }

  // Handlers.

  #subscribe(set, handler) {
    const call = (value) => handler(value); // so that the same handler may be there twice
    set.add(call);
    return () => void set.delete(call);
  }

  #call(handlers, value) {
    for (const handler of [...handlers]) this.#try(handler, value);
  }

  // #try calls a function of the program. What it throws concerns nobody else, and not the connection.
  #try(call, ...args) {
    try {
      return call(...args);
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error, optional = false) {
    const { onerror } = this.#options;
    if (!onerror && optional) return;
    queueMicrotask(() => {
      if (!onerror) throw error;
      onerror(error);
    });
  }
}
