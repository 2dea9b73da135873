// Tests of examples/server/web/conversation.js. Run by chat_page_test.go.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation } from "../../examples/server/web/conversation.js";

test("a message takes the place of what is on its way under that name, if it is of the same user", () => {
  const c = new Conversation("@bob");
  c.outbox.set("x", { ref: "x", from: "alice", text: "on its way" });
  assert(c.add({ id: 1, from: "bob", to: "alice", ref: "x", text: "another one that bob calls x" }));
  assert.equal(c.outbox.size, 1);
  assert(c.add({ id: 2, from: "alice", to: "bob", ref: "x", text: "on its way" }));
  assert.equal(c.outbox.size, 0);
  assert(!c.add({ id: 3, from: "alice", to: "bob", ref: "x", text: "on its way" }));
  assert.deepEqual(c.messages.map(({ id }) => id), [1, 2]);
});
