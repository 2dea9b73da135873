// Outbox sends the user's messages, each once, in the order in which they were written.

// newRef makes a name for a message that no other one has. (crypto.randomUUID is for pages under https only.)
function newRef() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  constructor(client, model, receive) {
    this.client = client;
    this.model = model;
    this.receive = receive; // takes in a message that has arrived
    this.queue = []; // of items that are neither sent nor failed, oldest first
    this.isSending = false;
    this.isReady = false; // there is a connection
  }

  // send takes over what was typed: from here on it is in the conversation, whatever becomes of it.
  send(conversation, text) {
    conversation.settle();
    this.#enqueue({ ref: newRef(), conversation, from: this.model.me, text, time: new Date().toISOString() });
  }

  again(item) {
    this.#enqueue(item);
  }

  discard(item) {
    item.conversation.outbox.delete(item.ref);
    this.model.changed();
  }

  get hasAny() {
    return [...this.model.conversations.values()].some(({ outbox }) => outbox.size > 0);
  }

  #enqueue(item) {
    const { outbox } = item.conversation;
    outbox.delete(item.ref);
    outbox.set(item.ref, item); // as the last one
    item.failed = "";
    if (!this.queue.includes(item)) this.queue.push(item);
    if (this.client.state.name === "ended") this.#failAll();
    this.model.changed();
    this.go();
  }

  go() {
    this.isReady = this.client.state.name === "connected";
    if (this.isReady && !this.isSending) this.#sendNext();
  }

  halt() {
    this.isReady = false;
    if (this.client.state.name === "ended") this.#failAll();
  }

  #failAll() {
    const why = this.client.state.error?.admission?.why ?? "there is no connection";
    for (const item of [...this.queue]) this.#fail(item, why);
  }

  // #sendNext sends one message at a time, since the server may handle several requests of a connection in any order. One that was under
  // way when a connection was lost is sent again under the same name, and the server takes it once.
  async #sendNext() {
    this.isSending = true;
    while (this.isReady && this.queue.length > 0) {
      const [item] = this.queue;
      await this.#sendOne(item);
    }
    this.isSending = false;
  }

  async #sendOne(item) {
    const { isPrivate, name } = item.conversation;
    const target = `/${isPrivate ? "users" : "rooms"}/${name}/messages?ref=${item.ref}`;
    item.isSent = true;
    this.model.changed();
    try {
      const answer = await this.client.request("POST", target, { body: item.text, wait: false });
      this.#remove(item);
      const { left, ...message } = answer.json();
      this.receive(message);
      if (left === 0) await pause(250); // at the server's pace, rather than to be refused
    } catch (error) {
      if (error.code === 429) await pause(error.answer?.json().retryAfter ?? 1000);
      else if (error.code === 503) await pause(1000); // the server cannot keep it now; it will not take it twice
      else if (error.kind === "answer") this.#fail(item, error.message, false);
      else if (error.kind === "timeout") this.#fail(item, "the server does not answer");
      else this.isReady = false; // the next connection tells
    }
  }

  #remove(item) {
    this.queue = this.queue.filter((other) => other !== item);
  }

  #fail(item, why, isSent = item.isSent) {
    this.#remove(item);
    Object.assign(item, { isSent, failed: why });
    this.model.changed();
  }
}

export const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));
