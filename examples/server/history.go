package main

import (
	"slices"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// What is kept for those who come back: messages, and bytes of their texts. They fit into the send queue of a connection.
const (
	maxHistory      = 500
	maxHistoryBytes = 256 << 10
)

// history keeps the latest messages, private ones included, and knows what it no longer has.
type history struct {
	messages []chat.Message // oldest first
	bytes    int            // of their texts

	// The ids of the newest messages that are not kept: of those to all, under the empty name, and of those to or from a user.
	// If a message was the user's business, those who come back from before it are told of the hole.
	forgotten map[string]int64
}

// add keeps a message, and forgets as many of the oldest ones as the limits require.
func (h *history) add(m chat.Message) {
	h.messages = append(h.messages, m)
	h.bytes += len(m.Text)
	for len(h.messages) > maxHistory || h.bytes > maxHistoryBytes {
		h.forget(1)
	}
}

// forget removes the n oldest messages.
func (h *history) forget(n int) {
	for _, m := range h.messages[:n] {
		h.bytes -= len(m.Text)
		if m.To == "" {
			h.forgotten[""] = m.ID
		} else {
			h.forgotten[m.From], h.forgotten[m.To] = m.ID, m.ID
		}
	}
	h.messages = slices.Delete(h.messages, 0, n)
}

// toAll returns the last n messages to all, or as many as there are. It is never nil, which JSON would call null.
func (h *history) toAll(n int) []chat.Message {
	return lastOf(h.filter(func(m chat.Message) bool { return m.To == "" }), n)
}

// since returns what a user may see of the messages after that one, never nil, and whether some of those are missing.
func (h *history) since(id int64, user string) (messages []chat.Message, missed bool) {
	messages = h.filter(func(m chat.Message) bool {
		return m.ID > id && (m.To == "" || m.To == user || m.From == user)
	})
	return messages, id < max(h.forgotten[""], h.forgotten[user])
}

func (h *history) filter(keep func(chat.Message) bool) []chat.Message {
	messages := []chat.Message{}
	for _, m := range h.messages {
		if keep(m) {
			messages = append(messages, m)
		}
	}
	return messages
}

// lastOf returns the last n messages, or as many as there are.
func lastOf(messages []chat.Message, n int) []chat.Message {
	return slices.Delete(messages, 0, max(0, len(messages)-n))
}
