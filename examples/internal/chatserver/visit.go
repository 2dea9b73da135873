package chatserver

import (
	"context"
	"slices"
	"sync"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// visit is what is known of a connection, in its context.
type visit struct {
	// Immutable.
	user    *user
	address string // of the client, by a trusted proxy if there is one
	since   int64  // id of the last message that it has seen
	isBack  bool   // since counts

	mu    sync.Mutex
	rooms []string // that it hears; guarded by mu once it has joined
}

type visitKey struct{}

// visitOf returns what is known of the connection of a context.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// view returns what the connection may see of what was said.
func (v *visit) view() View {
	v.mu.Lock()
	defer v.mu.Unlock()
	return View{User: v.user.name, Rooms: slices.Clone(v.rooms)}
}

func (v *visit) hear(room string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Contains(v.rooms, room) {
		v.rooms = append(slices.Clone(v.rooms), room)
	}
}

func (v *visit) forget(room string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rooms = slices.DeleteFunc(slices.Clone(v.rooms), func(name string) bool { return name == room && name != chat.Lobby })
}
