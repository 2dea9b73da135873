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

// maxRequest is the size of a request in bytes: of a text of chat.MaxText characters that are all escaped, and its envelope.
const maxRequest = 32 << 10

// server is the chat: one room, and what is said in it.
type server struct {
	// Immutable once it serves.
	ws      *websocket.Server
	users   *directory
	log     *slog.Logger
	keep    int    // messages of history
	webPort string // of the page; empty: none
	isDemo  bool   // the users are those of the demonstration

	// mu is held while a notice is sent, so that all see the same order. That is no risk: SendAll, SendUser and TrySend do not
	// wait for anybody.
	mu      sync.Mutex
	devices map[uint64]int    // by user id; guarded by mu
	quotas  map[uint64]*quota // by user id; guarded by mu
	history []chat.Message    // guarded by mu
	lastID  int64             // guarded by mu
}

func newServer(users *directory, keep int, log *slog.Logger) (*server, error) {
	s := &server{
		users:   users,
		log:     log,
		keep:    keep,
		devices: make(map[uint64]int),
		quotas:  make(map[uint64]*quota),
		lastID:  time.Now().UnixMilli(), // so that ids rise over restarts, without a database
	}
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
	welcome := chat.Welcome{Name: u.name, Users: s.hereLocked(), History: s.lastLocked(s.keep)}
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
func (s *server) sayLocked(from *user, text string) chat.Message {
	m := s.messageLocked(from, text)
	s.history = append(s.history, m)
	if extra := len(s.history) - s.keep; extra > 0 {
		s.history = slices.Delete(s.history, 0, extra)
	}
	s.toAllLocked(chat.NoticeMessage, m)
	return m
}

// whisperLocked sends a message to all devices of a user, and to those of the sender but the one that it came from.
func (s *server) whisperLocked(from *user, conn int, to *user, text string) chat.Message {
	m := s.messageLocked(from, text)
	m.To = to.name
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

func (s *server) messageLocked(from *user, text string) chat.Message {
	s.lastID++
	return chat.Message{ID: s.lastID, Time: time.Now().UTC(), From: from.name, Text: text}
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

// lastLocked returns the last n messages to all, or as many as there are. It is never nil, which JSON would call null.
func (s *server) lastLocked(n int) []chat.Message {
	return append([]chat.Message{}, s.history[max(0, len(s.history)-n):]...)
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
