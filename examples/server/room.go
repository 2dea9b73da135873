package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// maxNamed is for how many messages of one user the server knows the names that the user gave them: so far back it sees that one
// is sent again.
const maxNamed = 100

// maxRequest is the size of a request in bytes: of a text of chat.MaxText characters that are all escaped, and its envelope.
const maxRequest = 32 << 10

// server is the chat: one room, and what is said in it.
type server struct {
	// Immutable once it serves.
	ws          *websocket.Server
	users       *directory
	log         *slog.Logger
	certificate *certificate // nil: no TLS
	last        int          // messages that newcomers are shown; zero: no message is kept at all
	began       int64        // lastID before the first message
	public      string       // origin of the page behind a proxy; empty: none
	isDemo      bool         // the users are those of the demonstration

	// mu is held while a notice is sent, so that all see the same order. That is no risk: SendAll, SendUser and TrySend do not
	// wait for anybody.
	mu      sync.Mutex
	devices map[uint64]int            // by user id; guarded by mu
	quotas  map[uint64]*quota         // by user id; guarded by mu
	named   map[uint64][]chat.Message // the latest with a Ref, by user id; guarded by mu
	history history                   // guarded by mu
	lastID  int64                     // guarded by mu
}

func newServer(users *directory, last int, log *slog.Logger) (*server, error) {
	s := &server{
		users:   users,
		log:     log,
		last:    last,
		devices: make(map[uint64]int),
		quotas:  make(map[uint64]*quota),
		named:   make(map[uint64][]chat.Message),
		lastID:  time.Now().UnixMilli(), // so that ids rise over restarts, without a database
	}
	s.began = s.lastID
	s.history.forgotten = make(map[string]int64)
	s.ws = websocket.NewServer(&websocket.ServerOptions{
		HandleAuth:         s.authenticate,
		HandleClientAdd:    s.join,
		HandleClientRemove: s.leave,
		MaxMessageSize:     maxRequest,
		Logger:             log,
	})
	return s, s.route()
}

// join counts a device in and tells it what it has missed.
func (s *server) join(ctx context.Context, conn int) {
	u := s.userOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[u.id]++
	if s.devices[u.id] == 1 {
		s.toAllLocked(chat.NoticeJoin, chat.User{Name: u.name})
	}
	welcome := chat.Welcome{Name: u.name, Users: s.hereLocked(), Began: s.began, LastID: s.lastID}
	if id, ok := ctx.Value(sinceKey{}).(int64); ok {
		welcome.History, welcome.Missed = s.sinceLocked(u, id)
	} else {
		welcome.History = s.history.toAll(s.last)
	}
	s.toOne(conn, s.packet(chat.NoticeWelcome, welcome))
}

// leave counts a device out.
func (s *server) leave(ctx context.Context, _ int) {
	u := s.userOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[u.id]--
	if s.devices[u.id] == 0 {
		delete(s.devices, u.id)
		s.toAllLocked(chat.NoticeLeave, chat.User{Name: u.name})
	}
}

// sayLocked sends a message to all.
func (s *server) sayLocked(from *user, text, ref string) chat.Message {
	m := s.messageLocked(from, nil, text, ref)
	s.toAllLocked(chat.NoticeMessage, m)
	return m
}

// whisperLocked sends a message to all devices of a user, and to those of the sender but the one that it came from.
func (s *server) whisperLocked(from *user, conn int, to *user, text, ref string) chat.Message {
	m := s.messageLocked(from, to, text, ref)
	packet := s.packet(chat.NoticePrivate, m)
	_, failed := s.ws.Clients.SendUser(to.id, packet)
	s.dropSlow(failed)
	for _, device := range s.ws.Clients.Conns(from.id) {
		if device != conn {
			s.toOne(device, packet)
		}
	}
	return m
}

// messageLocked makes a message and keeps it. to is nil if it is for everybody.
func (s *server) messageLocked(from, to *user, text, ref string) chat.Message {
	s.lastID++
	m := chat.Message{ID: s.lastID, Time: time.Now().UTC(), From: from.name, Text: text, Ref: ref}
	if to != nil {
		m.To = to.name
	}
	if ref != "" {
		s.named[from.id] = lastOf(append(s.named[from.id], m), maxNamed)
	}
	s.history.add(m)
	if s.last == 0 {
		s.history.forget(len(s.history.messages))
	}
	return m
}

// sentLocked returns the message that a user has given that name.
func (s *server) sentLocked(from *user, ref string) (m chat.Message, ok bool) {
	if ref == "" {
		return m, false
	}
	i := slices.IndexFunc(s.named[from.id], func(m chat.Message) bool { return m.Ref == ref })
	if i < 0 {
		return m, false
	}
	return s.named[from.id][i], true
}

// sinceLocked returns the messages after that one which the user may see, and whether there were more.
func (s *server) sinceLocked(u *user, id int64) (messages []chat.Message, missed bool) {
	if id > s.lastID {
		id = 0 // of another server, or of one whose clock was ahead
	}
	return s.history.since(id, u.name)
}

// hereLocked returns the names of those who are here.
func (s *server) hereLocked() []string {
	names := make([]string, 0, len(s.devices))
	for id := range s.devices {
		names = append(names, s.users.byID[id].name)
	}
	slices.Sort(names)
	return names
}

func (s *server) toAllLocked(notice string, body any) {
	_, failed := s.ws.Clients.SendAll(s.packet(notice, body))
	s.dropSlow(failed)
}

func (s *server) toOne(conn int, packet []byte) {
	if err := websocket.TrySend(conn, packet); err != nil {
		s.dropSlow(map[int]error{conn: err})
	}
}

// dropSlow closes the connections that are too slow for what is said here: they may come back and get the history, which is
// better than a conversation with holes. The others that failed are on their way out already.
func (s *server) dropSlow(failed map[int]error) {
	for conn, err := range failed {
		s.log.Debug("cannot send", "conn", conn, "error", err)
		if errors.Is(err, websocket.ErrSendQueueFull) {
			s.ws.ClientRemove(conn)
		}
	}
}

// packet encodes a notice, once for all who get it.
func (s *server) packet(notice string, body any) []byte {
	packet, err := websocket.NewBroadcast(notice, encode(body))
	if err != nil {
		panic(err) // two strings can be encoded
	}
	return packet
}

// encode returns a body as JSON.
func encode(body any) string {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // the types of package chat can be encoded
	}
	return string(b)
}
