// LogView shows the messages of the conversation that is open. It keeps the end in view, whether the log grows or its window shrinks,
// unless the user has scrolled up: then it keeps what the user reads where it is.

import { arrange, avatar, byId, element, setText } from "./dom.js";
import { dayOf, timeOf, withLinks } from "./text.js";

const nearEnd = 60; // pixels from the end that count as the end
const groupTime = 5 * 60_000; // milliseconds between messages of one person that are shown as a group

export class LogView {
  constructor(model, session) {
    this.model = model;
    this.session = session;
    this.log = byId("log");
    this.rows = new Map(); // of the conversation that is shown: { node, signature }, by key
    this.shown = null; // that conversation
    const { signal } = session.watching;
    this.height = this.log.clientHeight;
    this.log.addEventListener("scroll", () => this.#scrolled(), { signal, passive: true });
    this.observer = new ResizeObserver(() => {
      this.height = this.log.clientHeight;
      this.#follow();
    });
    this.observer.observe(this.log);
    signal.addEventListener("abort", () => this.observer.disconnect());
    byId("pill").onclick = () => this.toEnd();
  }

  #scrolled() {
    const { log } = this;
    if (log.clientHeight !== this.height || !this.shown) return; // a window that shrinks moves its end away: that is no scrolling
    const isAtEnd = this.#isAtEnd;
    if (isAtEnd !== this.shown.isAtEnd) {
      this.shown.isAtEnd = isAtEnd;
      this.model.changed();
    }
    if (log.scrollTop < nearEnd && !isAtEnd) this.session.loadEarlier(this.shown, true);
  }

  get #isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < nearEnd;
  }

  #follow() {
    if (this.shown?.isAtEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  toEnd() {
    this.model.current.isAtEnd = true;
    this.model.changed();
    byId("text").focus();
  }

  show() {
    const { current } = this.model;
    const anchor = this.shown === current && !current.isAtEnd ? this.#anchor() : null;
    if (this.shown !== current) this.rows.clear();
    this.shown = current;
    this.model.look();
    const rows = new Map();
    arrange(this.log, this.#describe(current).map((row) => this.#nodeOf(row, rows)));
    this.rows = rows;
    if (anchor) this.log.scrollTop += anchor.node.getBoundingClientRect().top - anchor.top;
    this.#follow();
    current.isAtEnd ||= this.#isAtEnd; // there may be nothing to scroll
    this.#showPill(current);
    this.#showTyping();
  }

  // #anchor is the first row that the user sees, and where it is.
  #anchor() {
    const { top } = this.log.getBoundingClientRect();
    for (const node of this.log.querySelectorAll(".message")) {
      const box = node.getBoundingClientRect();
      if (box.bottom > top) return { node, top: box.top };
    }
    return null;
  }

  // #nodeOf returns the node of a row: that of the last time, if it looks the same.
  #nodeOf({ key, signature, make }, rows) {
    let row = this.rows.get(key);
    if (row?.signature !== signature) {
      const node = make();
      row?.node.replaceWith(node);
      row = { node, signature };
    }
    rows.set(key, row);
    return row.node;
  }

  #describe(conversation) {
    const rows = [this.#beginning(conversation)];
    const notes = [...conversation.notes];
    let previous = null;
    let lastDay = "";
    const line = (key, name, text) => {
      rows.push({ key, signature: text, make: () => element("li", { class: `line ${name}` }, element("span", {}, text)) });
      previous = null;
    };
    const last = conversation.messages.findLast(({ from }) => from === this.model.me);
    for (const message of [...conversation.messages, ...conversation.outbox.values()]) {
      const day = new Date(message.time).toDateString();
      if (message.id && day !== lastDay) line(`day ${day}`, "day", dayOf(new Date(message.time)));
      lastDay = day;
      while (notes[0]?.after < (message.id ?? Infinity)) line(`note ${notes.length}`, "note", notes.shift().text);
      if (message.id && message.id === conversation.newFrom) line("new", "new", "New since you left");
      rows.push(this.#message(message, previous, message === last));
      previous = message;
    }
    for (const { text } of notes) line(`note ${text}`, "note", text);
    return rows;
  }

  #beginning(conversation) {
    const { isComplete, isPrivate, name } = conversation;
    if (!isComplete) {
      const onclick = () => {
        conversation.isAtEnd = false; // so that what is added in front is seen
        this.session.loadEarlier(conversation, true);
      };
      return { key: "earlier", signature: "", make: () => element("li", { class: "line" }, element("button", { type: "button", onclick }, "Show earlier messages")) };
    }
    const text = isPrivate ? `Only you and ${name} can read what is written here.` : `This is the beginning of #${name}.`;
    return { key: "beginning", signature: text, make: () => element("li", { class: "line beginning" }, text) };
  }

  #message(message, previous, isLast) {
    const isMine = message.from === this.model.me;
    const isGrouped = previous?.from === message.from && new Date(message.time) - new Date(previous.time) < groupTime;
    const state = isMine ? this.#stateOf(message, isLast) : { name: "", text: "" };
    return {
      key: isMine && message.ref ? message.ref : message.id,
      signature: [isGrouped, message.id, message.time, state.name, state.text].join(),
      make: () => this.#makeMessage(message, isMine, isGrouped, state),
    };
  }

  // #stateOf returns what is known of one of the user's own messages.
  #stateOf(message, isLast) {
    if (message.failed) return { name: "failed", text: `${message.isSent ? "Not known whether it arrived" : "Not sent"}: ${message.failed}` };
    if (message.conversation) {
      if (this.model.connection.name === "connected") return { name: "pending", text: "Sending…" };
      return { name: "pending", text: message.isSent ? "Not known yet whether it arrived" : "Waiting for the connection" };
    }
    if (message.reached === 0 && message.to) return { name: "kept", text: `✓ Kept: ${message.to} is not here, and will see it later` };
    if (!isLast) return { name: "", text: "" };
    if (message.to) return { name: "delivered", text: message.reached > 0 ? `✓✓ Delivered to ${message.to}` : "✓ Sent" };
    return { name: "delivered", text: "✓ Delivered" };
  }

  #makeMessage(message, isMine, isGrouped, state) {
    const time = new Date(message.time);
    const classes = ["message", isMine && "mine", message.to && "private", isGrouped && "grouped", state.name].filter(Boolean);
    const meta = element("div", { class: "meta" },
      element("bdi", { class: "who" }, isMine ? "You" : message.from),
      element("time", { datetime: message.time, title: time.toLocaleString() }, timeOf(time)));
    const text = element("div", { class: "text", dir: "auto" }, ...withLinks(message.text));
    const row = element("li", { class: classes.join(" ") }, isMine ? "" : avatar(message.from), element("div", { class: "bubble" }, meta, text));
    if (state.text) row.append(element("div", { class: "state" }, state.text));
    if (state.name === "failed") row.append(this.#choices(message));
    return row;
  }

  #choices(item) {
    const { outbox } = this.session;
    const button = (name, text, act) => element("button", { type: "button", class: name, onclick: () => {
      act();
      byId("text").focus();
    } }, text);
    return element("div", { class: "choices" },
      button("again", "Try again", () => outbox.again(item)), button("discard", "Discard", () => outbox.discard(item)));
  }

  #showPill({ unread, isAtEnd }) {
    const pill = byId("pill");
    pill.hidden = isAtEnd;
    setText(pill, unread > 0 ? `↓ ${unread} new message${unread === 1 ? "" : "s"}` : "↓ Latest messages");
  }

  #showTyping() {
    const names = this.model.whoTypes();
    const text = names.length > 3 ? "Several people are writing…" : `${names.join(", ")} ${names.length > 1 ? "are" : "is"} writing…`;
    setText(byId("typing"), names.length > 0 ? text : "");
  }
}
