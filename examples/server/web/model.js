// Model is all that the page knows. Views show it, and are told when it has changed.

import { Conversation } from "./conversation.js";

const typingTime = 5000; // milliseconds for which somebody is taken to be writing
const gatherTime = 15; // milliseconds for which changes are gathered: a thousand messages are shown at once

export class Model {
  constructor(me) {
    this.me = me;
    this.people = new Map(); // presence by name
    this.rooms = new Set(); // names
    this.joined = new Set(["lobby"]); // rooms that the user hears
    this.conversations = new Map(); // by key
    this.typing = new Map(); // by `${key} ${name}`: until when
    this.connection = { name: "connecting", next: 0 }; // a state of wsloop.js
    this.lastRoom = "#lobby";
    this.current = this.conversation("#lobby");
    this.views = [];
    this.onMessage = () => {}; // is told of each that is new
  }

  conversation(key) {
    if (!this.conversations.has(key)) this.conversations.set(key, new Conversation(key));
    return this.conversations.get(key);
  }

  // changed has the views show what there is, soon. (Not before the next frame: a page in the background has none.)
  changed() {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      for (const view of this.views) view.show();
    }, gatherTime);
  }

  open(key) {
    this.current.settle();
    this.current = this.conversation(key);
    if (!this.current.isPrivate) this.lastRoom = key;
    this.current.isAtEnd = true;
    this.changed();
  }

  // leavePrivate goes back to the room. It returns false if this is one.
  leavePrivate() {
    if (this.current.isPrivate) this.open(this.lastRoom);
    else return false;
    return true;
  }

  isLookedAt(conversation) {
    return conversation === this.current && conversation.isAtEnd && document.visibilityState === "visible";
  }

  // look notes that the user sees what there is.
  look() {
    if (this.isLookedAt(this.current)) this.current.unread = 0;
  }

  get unread() {
    let sum = 0;
    for (const { unread } of this.conversations.values()) sum += unread;
    return sum;
  }

  // add takes in a message. what is "live" for one that has just been said, "missed" for one that was said while there was no connection,
  // and "old" for one that is shown again.
  add(message, what = "live") {
    const isMine = message.from === this.me;
    const other = isMine ? message.to : message.from;
    const conversation = this.conversation(message.room ? `#${message.room}` : `@${other}`);
    this.changed();
    if (!conversation.add(message)) return;
    this.typing.delete(`${conversation.key} ${message.from}`);
    if (!isMine && what !== "old") {
      const isUnseen = !this.isLookedAt(conversation);
      if (isUnseen && what === "live") conversation.settle(); // the mark moves on, if what is behind it was read
      if (isUnseen || what === "missed") conversation.isNew(message);
      this.onMessage(message, conversation);
    }
  }

  note(after, text) {
    for (const conversation of this.conversations.values()) conversation.notes = [...conversation.notes.slice(-9), { after, text }];
    this.changed();
  }

  setPeople(people) {
    for (const name of this.people.keys()) this.people.set(name, "gone");
    for (const { name, presence } of people) this.people.set(name, presence);
    this.changed();
  }

  setPresence(name, presence) {
    this.people.set(name, presence);
    this.changed();
  }

  setTyping(key, name) {
    if (name === this.me) return;
    const writing = `${key} ${name}`;
    this.typing.set(writing, Date.now() + typingTime);
    this.changed();
    setTimeout(() => {
      if (this.typing.get(writing) > Date.now()) return;
      this.typing.delete(writing);
      this.changed();
    }, typingTime + 50);
  }

  // whoTypes returns the names of those who are writing to the conversation that is open.
  whoTypes() {
    const names = [];
    for (const writing of this.typing.keys()) {
      const [key, name] = writing.split(" ");
      if (key === this.current.key) names.push(name);
    }
    return names.sort();
  }
}
