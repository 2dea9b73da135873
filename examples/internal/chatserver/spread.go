package chatserver

import (
	"context"
	"errors"
	"slices"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// Spread numbers what is said, keeps it, and takes it to the connections: of this server, or of several as in examples/cluster. A
// connection hears a room by ClientManager.Subscribe with the room's Topic and Signals. All methods may be called from any goroutine.
type Spread interface {
	// Say gives a message to a room its ID and sends it, as chat.NoticeMessage, to those who hear the room.
	Say(ctx context.Context, m chat.Message) (chat.Message, error)

	// Whisper gives a private message its ID and sends it, as chat.NoticePrivate, to all devices of both users but the one that it came
	// from. reached is how many devices of the user it is for have got it.
	Whisper(ctx context.Context, m chat.Message, from, to uint64, device int) (said chat.Message, reached int, err error)

	// Since returns the first page of the messages behind an ID that a view shows, and whether some of those are not kept.
	Since(ctx context.Context, v View, id int64) (page []chat.Message, missed bool, err error)

	// Before returns the last messages in front of an ID that a view shows, at most most of them and a page; an ID of 0 is behind all.
	Before(ctx context.Context, v View, id int64, most int) (page []chat.Message, err error)

	// Find looks for a message that has the sender, the place and the name of this one: another server may have taken it. The device may
	// even have seen it, if the answer was lost alone, so it does not tell where to begin.
	Find(ctx context.Context, m chat.Message) (found chat.Message, ok bool, err error)

	// Ends returns the ID of the latest message, and that of the latest which is from before the store began. 0 stands for unknown.
	Ends(ctx context.Context) (last, began int64, err error)

	// Rooms returns the names of all rooms, in the order in which they were made.
	Rooms(ctx context.Context) (names []string, err error)

	// OpenRoom makes a room, unless there is one of that name. It returns ErrTooManyRooms if there are MaxRooms.
	OpenRoom(ctx context.Context, name string) (isNew bool, err error)

	// Notify sends a packet that is not kept: to a user if uid is not 0, else to a room if that is not empty, else to all.
	Notify(ctx context.Context, uid uint64, room string, packet []byte)

	// Elsewhere returns the users who have a device on another server.
	Elsewhere(ctx context.Context) (uids []uint64)
}

// MaxRooms is how many rooms there can be. One that was made stays as long as what is said is kept.
const MaxRooms = 50

// ErrTooManyRooms is returned for one room more.
var ErrTooManyRooms = errors.New("there are too many rooms")

// Topic returns the name under which connections subscribe to what is said in a room, and Signals to all else that they are told of it.
func Topic(room string) string   { return "room/" + room }
func Signals(room string) string { return "signals/" + room }

// View is what somebody may see.
type View struct {
	User  string   // whose private messages are shown; empty: none
	With  string   // those with this user alone; empty: all
	Rooms []string // which rooms are shown
}

// Shows reports whether a message is part of the view.
func (v *View) Shows(m *chat.Message) bool {
	if m.Room != "" {
		return slices.Contains(v.Rooms, m.Room)
	}
	if v.User == "" || m.From != v.User && m.To != v.User {
		return false
	}
	return v.With == "" || m.From == v.With || m.To == v.With
}

// Starter makes the Spread for a server, before that is started. keep is how many messages it is to keep. stop ends it, after the
// server has ended.
type Starter func(ctx context.Context, ws *websocket.Server, keep int) (spread Spread, stop func(), err error)
