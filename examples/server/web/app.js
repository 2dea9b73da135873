// The page of the chat. What users have written is only ever set as textContent, never as HTML.
"use strict";

const firstDelay = 500; // milliseconds until the first attempt to connect again
const longestDelay = 15000;
const answerTimeout = 10000; // milliseconds for the server to answer a request
const mostEntries = 500; // in the log; older ones are removed

const byId = (id) => document.getElementById(id);

// Answers to requests carry the id of the request; everything else is a notice. See examples/internal/chat.
class Connection {
  constructor(url, key, events) {
    this.events = events; // onNotice(name, body), onOpen(), onLost(milliseconds until the next attempt)
    this.address = `${url}?key=${encodeURIComponent(key)}`;
    this.delay = firstDelay;
    this.lastId = 0;
    this.pending = new Map(); // by request id
    this.closed = false;
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    const socket = new WebSocket(this.address);
    this.socket = socket;
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = () => this.lost();
    socket.onopen = () => this.events.onOpen();
  }

  // retryNow connects at once where an attempt was to come later.
  retryNow() {
    if (!this.closed && this.socket.readyState === WebSocket.CLOSED) this.connect();
  }

  lost() {
    for (const wait of this.pending.values()) wait.reject(new Error("connection lost"));
    this.pending.clear();
    if (this.closed) return;
    // Not all at the same time: a server that was started anew has enough to do.
    const delay = this.delay * (0.5 + Math.random() / 2);
    this.delay = Math.min(this.delay * 2, longestDelay);
    this.timer = setTimeout(() => this.connect(), delay);
    this.events.onLost(delay);
  }

  receive(packet) {
    if (this.closed) return;
    if (packet.id === 0) {
      if (packet.message === "welcome") this.delay = firstDelay;
      this.events.onNotice(packet.message, JSON.parse(packet.body));
      return;
    }
    const wait = this.pending.get(packet.id);
    if (!wait) return;
    this.pending.delete(packet.id);
    if (packet.code < 400) wait.resolve(JSON.parse(packet.body));
    else wait.reject(new Error(packet.message));
  }

  request(method, target, body = "") {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.reject(new Error("not connected"));
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(id);
        reject(new Error("the server does not answer"));
      }, answerTimeout);
      this.pending.set(id, {
        resolve: (value) => { clearTimeout(timer); resolve(value); },
        reject: (error) => { clearTimeout(timer); reject(error); },
      });
      this.socket.send(JSON.stringify({ id, method, target, body }));
    });
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}

// The log of messages and notes.

function appendEntry(entry) {
  const log = byId("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.append(entry);
  while (log.childElementCount > mostEntries) log.firstElementChild.remove();
  if (atEnd || entry.classList.contains("mine")) log.scrollTop = log.scrollHeight;
}

function element(tag, className, text) {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

function appendNote(text) {
  appendEntry(element("li", "note", text));
}

function appendMessage(message, me) {
  const mine = message.from === me;
  const entry = element("li", `message${mine ? " mine" : ""}${message.to ? " private" : ""}`, "");
  const meta = element("div", "meta", "");
  const time = element("time", "", new Date(message.time).toLocaleTimeString([], { timeStyle: "short" }));
  time.dateTime = message.time;
  let who = mine ? "You" : message.from;
  if (message.to) who += mine ? ` to ${message.to} (private)` : " to you (private)";
  meta.append(element("strong", "", who), time);
  entry.append(meta, element("div", "text", message.text));
  appendEntry(entry);
}

// The chat of one user.

class Chat {
  constructor(config, key) {
    this.config = config;
    this.me = "";
    this.here = new Set();
    this.seen = new Set(); // ids of the messages in the log, which come again with the history after a reconnect
    this.recipient = ""; // empty: everybody
    this.welcomed = false;
    this.connection = new Connection(config.url, key, {
      onNotice: (name, body) => this.notice(name, body),
      onOpen: () => this.status("Connected", false),
      onLost: (delay) => this.lost(delay),
    });
    this.status("Connecting…", false);
    this.address("");
  }

  status(text, lost) {
    byId("status").textContent = text;
    byId("status").classList.toggle("lost", lost);
    byId("compose").querySelector("[type=submit]").disabled = !this.welcomed;
  }

  lost(delay) {
    if (this.welcomed) appendNote("Connection lost");
    this.welcomed = false;
    this.here.clear();
    this.showUsers();
    this.status(`Not connected. Next attempt in ${Math.ceil(delay / 1000)} s.`, true);
  }

  notice(name, body) {
    if (name === "message.private") {
      this.message(body);
    } else if (name === "welcome") {
      this.welcome(body);
    } else if (!this.welcomed) {
      return; // the welcome tells it
    } else if (name === "message") {
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
    for (const message of body.history) this.message(message);
    appendNote(`You are here as ${body.name}`);
    this.showUsers();
    this.status(`Connected as ${body.name}`, false);
  }

  message(message) {
    if (this.seen.has(message.id)) return;
    this.seen.add(message.id);
    appendMessage(message, this.me);
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

  // send sends what was typed, and keeps it until the server has taken it.
  async send() {
    const field = byId("text");
    const text = field.value.trim();
    if (text === "" || this.sending) return;
    if ([...text].length > this.config.maxText) {
      byId("send-error").textContent = `A message has ${this.config.maxText} characters at most.`;
      return;
    }
    this.sending = true; // one at a time: the server may handle several requests of a connection in any order
    byId("send-error").textContent = "";
    const target = this.recipient ? `/users/${encodeURIComponent(this.recipient)}/messages` : "/messages";
    try {
      const message = await this.connection.request("POST", target, text);
      if (message.to) this.message(message); // messages to all come as a notice, too
      if (field.value.trim() === text) field.value = "";
    } catch (error) {
      byId("send-error").textContent = `Not sent: ${error.message}`;
    } finally {
      this.sending = false;
    }
  }

  close() {
    this.connection.close();
  }
}

// The page.

let chat = null;

async function join(config, key) {
  byId("login-error").textContent = "";
  let answer;
  try {
    answer = await fetch("login", { headers: { Authorization: `Bearer ${key}` } });
  } catch {
    byId("login-error").textContent = "The server cannot be reached.";
    return;
  }
  if (!answer.ok) {
    sessionStorage.removeItem("key");
    byId("login-error").textContent = answer.status === 401 ? "This key is unknown." : "The server refused.";
    return;
  }
  sessionStorage.setItem("key", key); // for this tab only, until it is closed
  byId("key").value = "";
  byId("login").hidden = true;
  byId("chat").hidden = false;
  chat = new Chat(config, key);
}

function leave() {
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
  const key = sessionStorage.getItem("key");
  if (key) join(config, key);
}

main();
