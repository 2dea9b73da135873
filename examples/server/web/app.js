// The page of the chat. What users have written is only ever set as textContent, never as HTML.
"use strict";

const firstDelay = 500; // milliseconds until the first attempt to connect again
const longestDelay = 15000;
const connectTimeout = 10000; // milliseconds for the server to say the first word; longer after attempts that failed
const answerTimeout = 10000; // milliseconds for the server to answer a request
const quietTime = 2500; // milliseconds of silence until the server is asked for a sign of life
const lifeTimeout = 4500; // milliseconds for that sign
const watchEvery = 500; // milliseconds; with the two above, a dead network is noticed after 8 seconds at most
const goingAway = 1001; // close code of a server that stops (RFC 6455, section 7.4.1)
const mostEntries = 1000; // in the log; older ones are removed

const byId = (id) => document.getElementById(id);

// Refusal is the error of a request that was answered: all others may or may not have been carried out.
class Refusal extends Error {}

// askLogin asks whether a connection with a key would be accepted. It returns why not, which is empty if it would be, and whether that
// is for good. A script that opens a WebSocket is never told why a handshake failed.
async function askLogin(key) {
  if (/[^!-~]/.test(key)) return { why: "unknown key", forGood: true }; // no header can carry it
  const answer = await fetch(`login?origin=${encodeURIComponent(location.origin)}`, {
    headers: { Authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(answerTimeout),
  });
  if (answer.ok) return { why: "", forGood: false };
  const { error } = await answer.json();
  return { why: error, forGood: answer.status === 401 || answer.status === 403 };
}

// Connection connects, and connects again. Answers to requests carry the id of the request; everything else is a notice. See
// examples/internal/chat.
class Connection {
  constructor(url, key, events) {
    this.url = url;
    this.key = key;
    this.events = events; // since(), onNotice(name, body), onLost(complete), onRefused(why, forGood)
    this.delay = firstDelay;
    this.lastId = 0;
    this.pending = new Map(); // by request id
    this.closed = false;
    this.connect();
  }

  connect() {
    clearTimeout(this.retry);
    const since = this.events.since();
    const socket = new WebSocket(`${this.url}?key=${encodeURIComponent(this.key)}${since ? `&since=${since}` : ""}`);
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => this.lost(event.code === goingAway);
    this.socket = socket;
    this.heard = 0; // when the server was last heard
    this.asked = performance.now(); // since when it owes an answer; 0: it owes none
    this.patience = connectTimeout + 4 * this.delay;
    this.watching = setInterval(() => this.watch(), watchEvery);
  }

  // retryNow connects immediately if an attempt was to come later.
  retryNow() {
    if (!this.closed && !this.socket) this.connect();
  }

  // watch gives up a connection whose server does not answer: nothing else tells a browser that a network is dead.
  watch() {
    const now = performance.now();
    if (this.asked) {
      if (now - this.asked > this.patience) this.lost(false);
    } else if (now - this.heard > quietTime) {
      this.asked = now;
      this.patience = lifeTimeout;
      this.write("GET", "/history?last=0", ""); // the shortest answer that there is
    }
  }

  // drop leaves the socket to itself: on a dead network it takes minutes to close.
  drop() {
    clearInterval(this.watching);
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  // lost ends a connection. It is complete if the server has said good-bye: everything it ever sent has come.
  lost(complete) {
    const refused = this.heard === 0;
    this.drop();
    // Not all at the same time: a server that was started anew has enough to do.
    this.retry = setTimeout(() => this.connect(), this.delay * (0.5 + Math.random() / 2));
    this.delay = Math.min(this.delay * 2, longestDelay);
    this.events.onLost(complete);
    for (const wait of this.pending.values()) wait.reject(new Error("connection lost"));
    this.pending.clear();
    if (refused) this.askWhy();
  }

  async askWhy() {
    const { why, forGood } = await askLogin(this.key).catch(() => ({ why: "", forGood: false }));
    if (!why || this.closed || (this.socket && this.heard)) return;
    if (forGood) this.close();
    this.events.onRefused(why, forGood);
  }

  receive(packet) {
    this.heard = performance.now();
    this.asked = 0;
    if (packet.id === 0) {
      if (packet.message === "welcome") this.delay = firstDelay;
      this.events.onNotice(packet.message, JSON.parse(packet.body));
      return;
    }
    const wait = this.pending.get(packet.id);
    if (!wait) return;
    this.pending.delete(packet.id);
    if (packet.code < 400) wait.resolve(JSON.parse(packet.body));
    else wait.reject(new Refusal(packet.message));
  }

  // write sends a request, and returns its id.
  write(method, target, body) {
    const id = ++this.lastId;
    this.socket.send(JSON.stringify({ id, method, target, body }));
    return id;
  }

  request(method, target, body) {
    const id = this.write(method, target, body);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(id);
        reject(new Error("the server does not answer"));
      }, answerTimeout);
      this.pending.set(id, {
        resolve: (value) => { clearTimeout(timer); resolve(value); },
        reject: (error) => { clearTimeout(timer); reject(error); },
      });
    });
  }

  close() {
    this.closed = true;
    clearTimeout(this.retry);
    if (this.socket) this.drop();
  }
}

// The log of messages and notes.

// LogView keeps the end of the log in view, whether the log grows or its window shrinks, unless the user has scrolled up.
class LogView {
  constructor(log) {
    this.log = log;
    this.atEnd = true;
    this.height = log.clientHeight;
    log.onscroll = () => {
      // A window that shrinks moves its end away from the last line. That is no scrolling.
      if (log.clientHeight === this.height) this.atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    };
    new ResizeObserver(() => {
      this.height = log.clientHeight;
      this.follow();
    }).observe(log);
  }

  follow() {
    if (this.atEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  toEnd() {
    this.atEnd = true;
    this.follow();
  }
}

const view = new LogView(byId("log"));

// placeEntry adds an entry, or moves it: behind all others, but for the user's own messages that are still on their way.
function placeEntry(entry) {
  const log = byId("log");
  log.insertBefore(entry, entry.classList.contains("pending") ? null : log.querySelector(".pending"));
  for (let old; log.childElementCount > mostEntries && (old = log.querySelector("li:not(.pending, .failed)")); ) old.remove();
  view.follow();
}

function element(tag, className, text) {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

function appendNote(text) {
  placeEntry(element("li", "note", text));
}

// fillEntry shows a message. state is what is known of one of the user's own: empty, "pending" or "failed", and a text.
function fillEntry(entry, message, mine, state = "", text = mine ? "✓ Delivered" : "") {
  entry.className = `message${mine ? " mine" : ""}${message.to ? " private" : ""} ${state}`;
  const meta = element("div", "meta", "");
  const time = element("time", "", new Date(message.time).toLocaleTimeString([], { timeStyle: "short" }));
  time.dateTime = message.time;
  let who = mine ? "You" : message.from;
  if (message.to) who += mine ? ` to ${message.to} (private)` : " to you (private)";
  meta.append(element("strong", "", who), time, element("span", "state", text));
  entry.replaceChildren(meta, element("div", "text", message.text));
}

// newRef makes a name for a message that no other one has. It is random; crypto.randomUUID is for pages under https only.
function newRef() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// The chat of one user.

class Chat {
  constructor(config, key) {
    this.config = config;
    this.me = "";
    this.here = new Set();
    this.seen = new Set(); // ids of the messages in the log, and their senders' names for them: some come twice
    this.lastSeen = 0; // the id to come back with
    this.complete = false; // when the last connection ended, nothing was left unseen
    this.outbox = new Map(); // the user's messages that are not known to have arrived, by ref, in the order they were written
    this.recipient = ""; // empty: everybody
    this.welcomed = false;
    this.refused = ""; // why the server will not have this user; empty: it does
    this.connection = new Connection(config.url, key, {
      since: () => this.lastSeen,
      onNotice: (name, body) => this.notice(name, body),
      onLost: (complete) => this.lost(complete),
      onRefused: (why, forGood) => this.refuse(why, forGood),
    });
    this.status("Connecting…", false);
    this.address("");
    view.toEnd();
  }

  status(text, lost) {
    byId("status").textContent = text;
    byId("status").classList.toggle("lost", lost);
  }

  lost(complete) {
    if (this.welcomed) {
      appendNote("Connection lost");
      this.complete = complete;
    }
    this.welcomed = false;
    this.here.clear();
    this.showUsers();
    this.status("Not connected. Trying again…", true);
    for (const item of this.outbox.values()) this.showState(item);
  }

  refuse(why, forGood) {
    if (!forGood) {
      this.status(`Not connected: ${why}. Trying again…`, true);
      return;
    }
    sessionStorage.removeItem("key");
    this.refused = why;
    this.status(`Not connected: ${why}`, true);
    appendNote(`The server refuses: ${why}. Leave, to log in anew.`);
    for (const item of this.outbox.values()) this.fail(item, why);
  }

  notice(name, body) {
    if (name === "message.private" && !this.me) {
      this.message(body); // no welcome tells newcomers of those
    } else if (name === "welcome") {
      this.welcome(body);
    } else if (!this.welcomed) {
      return; // the welcome tells it
    } else if (name === "message" || name === "message.private") {
      this.message(body);
    } else if (name === "user.join") {
      this.here.add(body.name);
      this.showUsers();
      appendNote(`${body.name} is here`);
    } else if (name === "user.leave") {
      this.here.delete(body.name);
      this.showUsers();
      appendNote(`${body.name} has left`);
    }
  }

  welcome(body) {
    this.me = body.name;
    this.here = new Set(body.users);
    this.welcomed = true;
    if (body.missed) {
      appendNote("Messages are missing here: the server does not keep that many");
    } else if (this.lastSeen && this.lastSeen < body.began && !this.complete) {
      appendNote("Messages may be missing here: the server was started anew");
    }
    for (const message of body.history) this.message(message);
    this.lastSeen = body.lastId;
    appendNote(`You are here as ${body.name}`);
    this.showUsers();
    this.status(`Connected as ${body.name}`, false);
    this.sendNext();
  }

  message(message) {
    this.lastSeen = Math.max(this.lastSeen, message.id);
    const mine = message.from === this.me;
    const item = mine && this.outbox.get(message.ref);
    if (item) this.outbox.delete(message.ref);
    const names = [message.id, message.ref && `${message.from} ${message.ref}`].filter(Boolean);
    if (!item && names.some((name) => this.seen.has(name))) return;
    for (const name of names) this.seen.add(name);
    const entry = item ? item.entry : element("li", "", "");
    fillEntry(entry, message, mine);
    placeEntry(entry);
  }

  showUsers() {
    const items = [...this.here].sort().map((name) => {
      const button = element("button", "", name === this.me ? `${name} (you)` : name);
      button.type = "button";
      button.disabled = name === this.me;
      button.setAttribute("aria-pressed", String(name === this.recipient));
      if (name !== this.me) {
        button.title = `Write to ${name} only`;
        button.onclick = () => this.address(name === this.recipient ? "" : name);
      }
      const item = element("li", "", "");
      item.append(button);
      return item;
    });
    byId("users").replaceChildren(...items);
  }

  // address chooses who gets the next messages.
  address(name) {
    this.recipient = name;
    byId("recipient").hidden = name === "";
    byId("recipient-text").textContent = `Private, to ${name}`;
    byId("text").placeholder = name ? `Message to ${name} only` : "Message to everybody";
    this.showUsers();
    byId("text").focus();
  }

  // send takes over what was typed: from here on it is in the log, whatever becomes of it.
  send() {
    const field = byId("text");
    const text = field.value.trim();
    if (text === "") return;
    if ([...text].length > this.config.maxText) {
      byId("send-error").textContent = `A message has ${this.config.maxText} characters at most.`;
      return;
    }
    byId("send-error").textContent = "";
    field.value = "";
    this.enqueue({ ref: newRef(), to: this.recipient, text, time: new Date().toISOString(), entry: element("li", "", "") });
  }

  // enqueue sends a message when its turn comes, for the first time or again.
  enqueue(item) {
    this.outbox.delete(item.ref);
    this.outbox.set(item.ref, item); // as the last one
    item.failed = false;
    this.showState(item);
    placeEntry(item.entry);
    view.toEnd();
    if (this.refused) this.fail(item, this.refused);
    else this.sendNext();
  }

  // sendNext sends the first message that waits. It is one at a time, since the server may handle several requests of a
  // connection in any order. One that was under way when a connection was lost is sent again under the same name, and the server
  // takes it once.
  async sendNext() {
    const item = [...this.outbox.values()].find((item) => !item.failed);
    if (!item || this.sending || !this.welcomed) return;
    this.sending = true;
    item.sent = true;
    this.showState(item);
    const target = item.to ? `/users/${encodeURIComponent(item.to)}/messages` : "/messages";
    try {
      this.message(await this.connection.request("POST", `${target}?ref=${item.ref}`, item.text));
    } catch (error) {
      if (error instanceof Refusal) item.sent = false; // it is known
      if (this.welcomed) this.fail(item, error.message);
    }
    this.sending = false;
    this.sendNext();
  }

  // showState shows what is known of a message in the outbox.
  showState(item) {
    if (item.failed) return;
    let text = "Waiting for the connection";
    if (this.welcomed) text = "Sending…";
    else if (item.sent) text = "Not known yet whether it arrived";
    fillEntry(item.entry, item, true, "pending", text);
    view.follow();
  }

  fail(item, why) {
    if (!this.outbox.has(item.ref)) return; // it has arrived in another way
    item.failed = true;
    const text = item.sent ? `Not known whether it arrived: ${why}` : `Not sent: ${why}`;
    fillEntry(item.entry, item, true, "failed", text);
    const again = element("button", "again", "Try again");
    again.type = "button";
    again.onclick = () => this.enqueue(item);
    item.entry.append(again);
    view.follow();
  }

  close() {
    this.welcomed = false;
    this.connection.close();
  }
}

// The page.

let chat = null;

async function join(config, key) {
  byId("login-error").textContent = "";
  let refusal;
  try {
    refusal = await askLogin(key);
  } catch {
    byId("login-error").textContent = "The server cannot be reached.";
    return;
  }
  if (refusal.why) {
    if (refusal.forGood) sessionStorage.removeItem("key");
    byId("login-error").textContent = `The server refused: ${refusal.why}.`;
    return;
  }
  sessionStorage.setItem("key", key); // for this tab only, until it is closed
  byId("key").value = "";
  byId("login").hidden = true;
  byId("chat").hidden = false;
  chat = new Chat(config, key);
}

function leave() {
  if (chat?.outbox.size && !confirm("There are messages that may not have arrived. Leave all the same?")) return;
  chat?.close();
  chat = null;
  sessionStorage.removeItem("key");
  byId("log").replaceChildren();
  byId("chat").hidden = true;
  byId("login").hidden = false;
  byId("key").focus();
}

function offerDemoUsers(config) {
  byId("demo").hidden = config.demoUsers.length === 0;
  for (const user of config.demoUsers) {
    const button = element("button", "", user.name);
    button.type = "button";
    button.onclick = () => join(config, user.key);
    byId("demo-users").append(button);
  }
}

async function main() {
  let config;
  try {
    config = await (await fetch("config.json")).json();
  } catch {
    byId("login-error").textContent = "The server cannot be reached. Load the page again.";
    return;
  }
  offerDemoUsers(config);
  byId("login-form").onsubmit = (event) => {
    event.preventDefault();
    join(config, byId("key").value.trim());
  };
  byId("compose").onsubmit = (event) => {
    event.preventDefault();
    chat?.send();
  };
  byId("text").onkeydown = (event) => {
    // Enter sends, Shift+Enter makes a new line. isComposing: Enter chooses a word of an input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    chat?.send();
  };
  byId("recipient-clear").onclick = () => chat?.address("");
  byId("leave").onclick = leave;
  window.addEventListener("online", () => chat?.connection.retryNow());
  window.addEventListener("beforeunload", (event) => {
    if (chat?.outbox.size) event.preventDefault(); // the browser asks
  });
  const key = sessionStorage.getItem("key");
  if (key) join(config, key);
}

main();
