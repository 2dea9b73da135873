// Conversation is what is said in a room, "#lobby", or with one user, "@bob".

const mostKept = 1000; // messages; older ones can be had from the server again
const mostRead = 5000; // while the user reads older ones

export class Conversation {
  constructor(key) {
    this.key = key;
    this.messages = []; // by rising id
    this.outbox = new Map(); // the user's own messages that are not known to have arrived, by ref, in the order they were written
    this.notes = []; // { after: id, text }
    this.unread = 0;
    this.newFrom = 0; // id of the first message that is marked as new; 0: none
    this.isComplete = false; // there is nothing older at the server
    this.isLoading = false;
    this.isAtEnd = true; // the user sees the latest messages, when it is open
    this.draft = "";
    this.known = new Set(); // ids of messages, and what their senders call them: some come twice
  }

  get isPrivate() {
    return this.key[0] === "@";
  }

  get name() {
    return this.key.slice(1);
  }

  // add takes in a message. It returns false if that was here before.
  add(message) {
    if (this.outbox.get(message.ref)?.from === message.from) this.outbox.delete(message.ref); // others may call theirs the same
    const names = [message.id];
    if (message.ref) names.push(`${message.from} ${message.ref}`);
    if (names.some((name) => this.known.has(name))) {
      this.#learn(message);
      return false;
    }
    for (const name of names) this.known.add(name);
    let at = this.messages.length;
    while (at > 0 && this.messages[at - 1].id > message.id) at--;
    this.messages.splice(at, 0, message);
    this.#trim();
    return true;
  }

  // #learn takes over whom a private message has reached, which only the answer to its sender tells.
  #learn({ id, reached }) {
    const message = reached === undefined ? undefined : this.messages.find((other) => other.id === id);
    if (message) message.reached = reached;
  }

  #trim() {
    const excess = this.messages.length - (this.isAtEnd ? mostKept : mostRead);
    if (excess <= 0) return;
    for (const { id, from, ref } of this.messages.splice(0, excess)) {
      this.known.delete(id);
      if (ref) this.known.delete(`${from} ${ref}`);
    }
    this.isComplete = false;
  }

  // isNew notes that a message has not been looked at.
  isNew(message) {
    this.unread++;
    this.newFrom ||= message.id;
  }

  // settle takes away the mark of new messages, if those have been read.
  settle() {
    if (this.unread === 0) this.newFrom = 0;
  }
}
