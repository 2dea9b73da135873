// Session keeps the model and the server the same, over connections that come and go. The packets are those of the Go package
// examples/internal/chat.

import { Client } from "./wsloop.js";
import { Outbox, pause } from "./outbox.js";

const goingAway = 1001; // close code of a server that stops (RFC 6455, section 7.4.1)
const pageSize = 50; // messages that are shown more when older ones are asked for
const typingEvery = 3000; // milliseconds between two notices that the user is writing
const idleTime = 5 * 60_000; // milliseconds without a key or a click until the user is away

// askLogin asks whether a connection with a key would be accepted. A script is never told why a handshake failed.
export async function askLogin(key, signal = AbortSignal.timeout(10_000)) {
  if (/[^!-~]/.test(key)) return { status: 401, why: "unknown key" }; // no header can carry it
  const answer = await fetch(`login?origin=${encodeURIComponent(location.origin)}`, {
    headers: { Authorization: `Bearer ${key}` },
    cache: "no-store",
    signal,
  });
  const { name, error = "" } = await answer.json();
  return { status: answer.status, headers: answer.headers, name, why: error };
}

export class Session {
  constructor(config, key, model) {
    this.model = model;
    this.lastId = Number(localStorage.getItem(this.#storeName("last"))) || 0; // the id to come back with
    this.#joinStored();
    this.lastTyping = 0;
    this.isAway = false;
    this.isCatchingUp = true; // what comes is behind what was missed
    this.saidGoodbye = true; // the server has said all it had to say before the last connection ended
    this.client = new Client(() => this.#url(config.url, key), {
      admission: ({ signal }) => askLogin(key, signal),
      resume: (line) => (line.why === "gap" ? this.#fillGap(line) : this.#resume(line)),
      track: (notice) => this.#trackOf(notice), // of several servers: a message may be lost between them
      heartbeat: 3500,
      heartbeatTimeout: 4500, // a dead network is noticed after 8 seconds
      maxDelay: 15_000,
      spread: 2000,
    });
    this.outbox = new Outbox(this.client, model, (message) => this.#receive(message));
    this.#subscribe();
    this.#watchPresence();
  }

  #storeName(what) {
    return `chat ${what} ${this.model.me}`;
  }

  #joinStored() {
    for (const room of (localStorage.getItem(this.#storeName("rooms")) ?? "").split(",")) {
      if (room) this.model.joined.add(room);
    }
  }

  #url(url, key) {
    const since = this.lastId ? `&since=${this.lastId}` : "";
    return `${url}?key=${encodeURIComponent(key)}&rooms=${[...this.model.joined]}${since}`;
  }

  #subscribe() {
    const { client, model } = this;
    this.#welcomed = withResolvers();
    client.on("welcome", (notice) => this.#welcomed.resolve(notice.json()));
    for (const name of ["message", "message.private"]) {
      client.on(name, (notice) => {
        const message = notice.json();
        this.#receive(message.id ? message : { ...message, id: notice.seq });
      });
    }
    client.on("user.join", (notice) => model.setPresence(notice.json().name, "here"));
    client.on("user.leave", (notice) => model.setPresence(notice.json().name, "gone"));
    client.on("user.presence", (notice) => model.setPresence(notice.json().name, notice.json().presence));
    client.on("user.typing", (notice) => {
      const { name, room } = notice.json();
      model.setTyping(room ? `#${room}` : `@${name}`, name);
    });
    client.on("room", (notice) => {
      model.rooms.add(notice.json().name);
      model.changed();
    });
    client.onState((state) => this.#stateIs(state));
  }

  #welcomed;

  #stateIs(state) {
    const { model } = this;
    if (model.connection.name === "connected" && state.name !== "connected") {
      this.saidGoodbye = state.error?.code === goingAway;
      this.#welcomed = withResolvers();
      this.isCatchingUp = true;
      for (const conversation of model.conversations.values()) conversation.settle();
      model.typing.clear();
    } else if (state.name === "connecting") {
      this.#welcomed = withResolvers();
    }
    model.connection = state;
    model.changed();
    if (state.name === "connected") this.#connected();
    else this.outbox.halt();
  }

  #connected() {
    if (this.isAway) this.#tellPresence();
    this.outbox.go();
    this.loadEarlier(this.model.current);
  }

  // #resume is called for each new connection, before it is used.
  async #resume(line) {
    const { model } = this;
    const welcome = await Promise.race([this.#welcomed.promise, rejection(line.signal)]);
    model.rooms = new Set(welcome.rooms.map((room) => room.name));
    model.setPeople(welcome.people);
    const missed = this.lastId > 0;
    this.lastId = Math.min(this.lastId, welcome.lastId); // it may be another server, which counts from elsewhere
    if (missed && welcome.missed) {
      model.note(this.lastId, "Messages are missing here: the server does not keep that many");
    } else if (missed && this.lastId < welcome.began && !this.saidGoodbye) {
      model.note(this.lastId, "Messages may be missing here: the server was started anew");
    }
    const what = missed ? "missed" : "old";
    for (const message of welcome.history) model.add(message, what);
    this.#seen(welcome.lastId);
    for (let more = welcome.more; more; ) {
      const page = (await line.request("GET", `/history?since=${this.lastId}`)).json();
      more = page.length > 0;
      for (const message of page) model.add(message, what);
      if (more) this.#seen(page.at(-1).id);
    }
    for (const room of [...model.joined]) {
      if (!welcome.hears.includes(room)) await this.#rejoin(line, room); // the server was started anew
    }
    this.isCatchingUp = false;
    this.#seen(this.newest);
  }

  async #rejoin(line, room) {
    try {
      await line.request("PUT", `/rooms/${room}`);
      this.model.rooms.add(room);
    } catch (error) {
      if ([400, 409].includes(error.code)) return void this.model.joined.delete(room); // it is refused for good
      if (error.code !== 429) throw error;
      await pause(error.answer.json().retryAfter);
      await this.#rejoin(line, room);
    }
  }

  // #trackOf says which message of its room a notice is. A server that is the only one loses none, and does not number them.
  #trackOf({ message, body, seq, prev }) {
    if (message !== "message" || !seq) return null;
    return { key: `#${JSON.parse(body).room}`, id: seq, prev };
  }

  // #fillGap fetches what is missing between the last message of a room and the one that has come.
  async #fillGap(line) {
    for (let since = Math.min(...line.last.values()); ; ) {
      const page = (await line.request("GET", `/history?since=${since}`)).json();
      if (page.length === 0) return;
      for (const message of page) this.model.add(message);
      since = page.at(-1).id;
    }
  }

  newest = 0; // id of the newest message that has come

  // #receive takes in a message that has just been said. While older ones are still missing it is not yet the one to come back with.
  #receive(message) {
    this.newest = Math.max(this.newest, message.id);
    this.model.add(message);
    if (!this.isCatchingUp) this.#seen(message.id);
  }

  #seen(id) {
    if (id <= this.lastId) return;
    this.lastId = id;
    this.storing ??= setTimeout(() => {
      this.storing = undefined;
      localStorage.setItem(this.#storeName("last"), this.lastId);
    }, 200);
  }

  // What the user does.

  // loadEarlier fetches older messages of a conversation: in the beginning, or if all is asked for.
  async loadEarlier(conversation, isAsked = false) {
    const isEnough = conversation.messages.length >= pageSize && !isAsked;
    if (isEnough || conversation.isComplete || conversation.isLoading || this.client.state.name !== "connected") return;
    conversation.isLoading = true;
    const where = conversation.isPrivate ? `with=${conversation.name}` : `room=${conversation.name}`;
    const before = conversation.messages[0]?.id ?? 0;
    try {
      const page = (await this.client.request("GET", `/history?${where}&last=${pageSize}&before=${before}`)).json();
      const wasAtEnd = conversation.isAtEnd;
      conversation.isAtEnd = false; // nothing is dropped for what is added in front
      for (const message of page) conversation.add(message);
      conversation.isAtEnd = wasAtEnd;
      conversation.isComplete = page.length < pageSize;
    } catch {
      // the connection was lost: it is asked for again
    }
    conversation.isLoading = false;
    this.model.changed();
  }

  open(key) {
    this.model.open(key);
    this.loadEarlier(this.model.current);
  }

  // enterRoom hears a room, which is made if there is none. It throws if that is refused.
  async enterRoom(name) {
    if (!this.model.joined.has(name)) {
      await this.client.request("PUT", `/rooms/${encodeURIComponent(name)}`);
      this.model.rooms.add(name);
      this.model.joined.add(name);
      this.#storeRooms();
    }
    this.open(`#${name}`);
  }

  async leaveRoom(name) {
    await this.client.request("DELETE", `/rooms/${name}`);
    this.model.joined.delete(name);
    this.#storeRooms();
    this.model.conversations.delete(`#${name}`);
    if (this.model.current.key === `#${name}`) this.open("#lobby");
    this.model.changed();
  }

  #storeRooms() {
    localStorage.setItem(this.#storeName("rooms"), [...this.model.joined]);
  }

  // types tells others that the user is writing, not too often.
  types() {
    const now = Date.now();
    if (now - this.lastTyping < typingEvery || this.client.state.name !== "connected") return;
    this.lastTyping = now;
    const { isPrivate, name } = this.model.current;
    this.client.request("POST", `/${isPrivate ? "users" : "rooms"}/${name}/typing`, { wait: false }).catch(() => {}); // it is no loss
  }

  #watchPresence() {
    let timer;
    const here = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#setAway(true), idleTime);
      this.#setAway(false);
    };
    const { signal } = this.watching;
    for (const type of ["keydown", "pointerdown"]) addEventListener(type, here, { signal, passive: true });
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") here();
      else this.#setAway(true);
      this.model.changed();
    }, { signal });
    here();
  }

  watching = new AbortController();

  #setAway(isAway) {
    if (this.isAway === isAway) return;
    this.isAway = isAway;
    this.#tellPresence();
  }

  #tellPresence() {
    this.client.request("POST", "/presence", { body: this.isAway ? "away" : "here", wait: false }).catch(() => {}); // told when connected
  }

  close() {
    this.watching.abort();
    this.outbox.halt();
    this.client.close();
  }
}

function withResolvers() {
  const it = {};
  it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }));
  return it;
}

function rejection(signal) {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("the connection was lost")), { once: true }));
}
