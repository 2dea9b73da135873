package chatserver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// tryAgainLater is the code of a connection that is closed since it is too slow (RFC 6455, section 7.4.2, and its registry).
const tryAgainLater websocket.CloseCode = 1013

// alone is the Spread of one server, which keeps everything in memory.
type alone struct {
	clients *websocket.ClientManager
	began   int64 // lastID before the first message

	// mu is held while a message is sent, so that all see the same order. That is no risk: Publish, SendUser and TrySend do not
	// wait for anybody.
	mu      sync.Mutex
	history history  // guarded by mu
	lastID  int64    // guarded by mu
	rooms   []string // in the order in which they were made; guarded by mu
}

// Alone returns what makes the Spread of a server that is the only one. It keeps what was said in memory.
func Alone() Starter {
	return func(_ context.Context, ws *websocket.Server, keep int) (Spread, func(), error) {
		return newAlone(ws.Clients, keep), func() {}, nil
	}
}

// newAlone makes one whose ids rise over restarts, without a database: they begin with the time.
func newAlone(clients *websocket.ClientManager, keep int) *alone {
	now := time.Now().UnixMilli()
	return &alone{clients: clients, began: now, lastID: now, history: newHistory(keep), rooms: []string{chat.Lobby}}
}

func (a *alone) Say(_ context.Context, m chat.Message) (chat.Message, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keepLocked(&m)
	_, failed := a.clients.Publish(Topic(m.Room), Packet(chat.NoticeMessage, m))
	a.dropSlow(failed)
	return m, nil
}

func (a *alone) Whisper(_ context.Context, m chat.Message, from, to uint64, device int) (chat.Message, int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keepLocked(&m)
	packet := Packet(chat.NoticePrivate, m)
	reached, failed := a.clients.SendUser(to, packet)
	a.dropSlow(failed)
	for _, conn := range a.clients.Conns(from) {
		if conn != device {
			a.toOne(conn, packet)
		}
	}
	return m, reached, nil
}

func (a *alone) keepLocked(m *chat.Message) {
	a.lastID++
	m.ID = a.lastID
	a.history.add(*m)
}

func (a *alone) Since(_ context.Context, v View, id int64) (page []chat.Message, missed bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id > a.lastID {
		id = 0 // of another server, or of one whose clock was ahead
	}
	page, missed = a.history.since(v, id)
	return page, missed, nil
}

func (a *alone) Before(_ context.Context, v View, id int64, most int) ([]chat.Message, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.history.before(v, id, most), nil
}

func (a *alone) Ends(context.Context) (last, began int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lastID, a.began, nil
}

func (a *alone) Notify(_ context.Context, uid uint64, room string, packet []byte) {
	var failed map[int]error
	switch {
	case uid != 0:
		_, failed = a.clients.SendUser(uid, packet)
	case room != "":
		_, failed = a.clients.Publish(Signals(room), packet)
	default:
		_, failed = a.clients.SendAll(packet)
	}
	a.dropSlow(failed)
}

// Find has nowhere else to look.
func (a *alone) Find(_ context.Context, m chat.Message) (chat.Message, bool, error) {
	return m, false, nil
}

func (a *alone) Rooms(context.Context) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.rooms), nil
}

func (a *alone) OpenRoom(_ context.Context, name string) (isNew bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case slices.Contains(a.rooms, name):
		return false, nil
	case len(a.rooms) >= MaxRooms:
		return false, ErrTooManyRooms
	}
	a.rooms = append(a.rooms, name)
	return true, nil
}

func (a *alone) Elsewhere(context.Context) []uint64 { return nil }

func (a *alone) toOne(conn int, packet []byte) {
	if err := websocket.TrySend(conn, packet); err != nil {
		a.dropSlow(map[int]error{conn: err})
	}
}

// dropSlow closes the connections that are too slow for what is said here: they may come back and get the history, which is
// better than a conversation with holes. The others that failed are on their way out already.
func (a *alone) dropSlow(failed map[int]error) {
	for conn, err := range failed {
		if errors.Is(err, websocket.ErrSendQueueFull) {
			a.clients.Close(conn, tryAgainLater, "too slow: come back for the rest")
		}
	}
}
