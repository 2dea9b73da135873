package chatserver

import (
	"slices"
	"sort"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// What is kept for those who come back: messages, and bytes of their texts.
const (
	maxHistory      = 10000
	maxHistoryBytes = 4 << 20
)

// maxPageBytes is the length of the texts of a page. One is no burden for the send queue of a connection.
const maxPageBytes = 128 << 10

// history keeps the latest messages, private ones included, and knows what it no longer has.
type history struct {
	limit    int            // of messages
	messages []chat.Message // oldest first
	bytes    int            // of their texts

	// The ids of the newest messages that are not kept, of each room and of each user's private messages. There are never more rooms
	// than MaxRooms.
	forgotten struct{ rooms, users map[string]int64 }
}

func newHistory(limit int) (h history) {
	h.limit = limit
	h.forgotten.rooms, h.forgotten.users = make(map[string]int64), make(map[string]int64)
	return h
}

// add keeps a message, and forgets as many of the oldest ones as the limits require.
func (h *history) add(m chat.Message) {
	h.messages = append(h.messages, m)
	h.bytes += len(m.Text)
	n := 0
	for ; len(h.messages)-n > h.limit || h.bytes > maxHistoryBytes; n++ {
		h.forget(&h.messages[n])
	}
	h.messages = h.messages[n:] // append moves the rest to a new place from time to time
}

// forget notes that a message is no longer kept.
func (h *history) forget(m *chat.Message) {
	h.bytes -= len(m.Text)
	if m.Room != "" {
		h.forgotten.rooms[m.Room] = m.ID
	} else {
		h.forgotten.users[m.From], h.forgotten.users[m.To] = m.ID, m.ID
	}
	m.Text = "" // its place may stay for a while
}

// since returns the first page of what a view shows behind that message, never nil, and whether some of it is missing.
func (h *history) since(v View, id int64) (page []chat.Message, missed bool) {
	for _, room := range v.Rooms {
		missed = missed || id < h.forgotten.rooms[room]
	}
	missed = missed || id < h.forgotten.users[v.User]
	page = []chat.Message{} // nil would be null in JSON
	bytes := 0
	for i := h.behind(id); i < len(h.messages) && len(page) < chat.MaxPage && bytes < maxPageBytes; i++ {
		if m := &h.messages[i]; v.Shows(m) {
			page = append(page, *m)
			bytes += len(m.Text)
		}
	}
	return page, missed
}

// before returns the last messages that a view shows in front of that one, never nil. 0 is behind all.
func (h *history) before(v View, id int64, most int) []chat.Message {
	end := len(h.messages)
	if id > 0 {
		end = h.behind(id - 1)
	}
	most = min(most, chat.MaxPage)
	page, bytes := []chat.Message{}, 0
	for i := end - 1; i >= 0 && len(page) < most && bytes < maxPageBytes; i-- {
		if m := &h.messages[i]; v.Shows(m) {
			page = append(page, *m)
			bytes += len(m.Text)
		}
	}
	slices.Reverse(page)
	return page
}

// behind returns where the messages with greater ids begin.
func (h *history) behind(id int64) int {
	return sort.Search(len(h.messages), func(i int) bool { return h.messages[i].ID > id })
}
