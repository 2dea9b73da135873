// Package chatserver is the server of the example chat: rooms, private messages, presence, history, and a page for browsers.
//
// The files to copy from: auth.go for who may connect, hall.go for who is here, routes.go for requests, messages.go for what is
// said, alone.go and history.go for how it is kept, web.go for the page, run.go for flags, signals and TLS.
package chatserver

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsloop/websocket"
)

const (
	// maxRequest is the size of a request in bytes: of a text of chat.MaxText characters that are all escaped, and its envelope.
	maxRequest = 32 << 10

	// spreadTimeout is how long the Spread may take for one message, and for all that a device is told when it joins.
	spreadTimeout = 5 * time.Second

	// joinTimeout is how long the end of a connection, and its messages, wait until it has joined. It is longer than the Spread may
	// take: else the device could be gone before it is counted in, and its number be that of another one, who would get its welcome.
	joinTimeout = 2 * spreadTimeout
)

// server is the chat.
type server struct {
	// Immutable once it serves.
	ws          *websocket.Server
	spread      Spread
	log         *slog.Logger
	certificate *certificate // nil: no TLS
	last        int          // messages that newcomers are shown; zero: no message is kept at all
	public      string       // origin of the page behind a proxy; empty: none
	proxies     proxies      // whose X-Forwarded-For is believed
	isDemo      bool         // the users are those of the demonstration
	started     time.Time

	users atomic.Pointer[directory] // another one when the file is read again

	mu      sync.Mutex
	members map[uint64]*member // who is here, by user id; guarded by mu
	visits  map[uint64]*visit  // by websocket.ID; guarded by mu
}

func newServer(users *directory, last int, log *slog.Logger) (*server, error) {
	s := &server{
		log:     log,
		last:    last,
		started: time.Now(),
		members: make(map[uint64]*member),
		visits:  make(map[uint64]*visit),
	}
	s.users.Store(users)
	s.ws = websocket.NewServer(&websocket.ServerOptions{
		HandleAuth:         s.authenticate,
		HandleClientAdd:    s.join,
		HandleClientRemove: s.leave,
		OnClose:            s.left,
		AddTimeout:         joinTimeout,
		HandleStatus:       s.status,
		MaxMessageSize:     maxRequest,
		MaxTopics:          2 * MaxRooms,
		Compression:        &websocket.Compression{},
		Logger:             log,
	})
	return s, s.route()
}

// keep returns how many messages the Spread is to keep.
func (s *server) keep() int {
	if s.last == 0 {
		return 0
	}
	return maxHistory
}

// Packet encodes a notice, once for all who get it.
func Packet(notice string, body any) []byte {
	packet, _ := websocket.NewBroadcast(notice, encode(body)) // the error is always nil
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

// brief returns a context for one use of the Spread.
func brief() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), spreadTimeout)
}
