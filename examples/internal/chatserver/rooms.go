package chatserver

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// validRoom holds the names of rooms to characters that need no escaping.
var validRoom = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func (s *server) getRooms(context.Context, *websocket.Request) websocket.Response {
	ctx, cancel := brief()
	defer cancel()
	rooms, err := s.roomList(ctx)
	if err != nil {
		return noHistory()
	}
	return answer(http.StatusOK, rooms)
}

func (s *server) roomList(ctx context.Context) (rooms []chat.Room, err error) {
	names, err := s.spread.Rooms(ctx)
	for _, name := range names {
		rooms = append(rooms, chat.Room{Name: name})
	}
	return rooms, err
}

// putRoom has a connection hear a room, which is made if there is none.
func (s *server) putRoom(ctx context.Context, req *websocket.Request) websocket.Response {
	room := chat.Room{Name: req.Params["room"]}
	if !validRoom.MatchString(room.Name) {
		return refusal(http.StatusBadRequest, "the name of a room has 1 to 32 lower-case letters, digits and -, no - in front")
	}
	spreadCtx, cancel := brief()
	defer cancel()
	isNew, err := s.spread.OpenRoom(spreadCtx, room.Name)
	switch {
	case errors.Is(err, ErrTooManyRooms):
		return refusal(http.StatusConflict, err.Error())
	case err != nil:
		s.log.Warn("no rooms", "user", visitOf(ctx).user.name, "address", visitOf(ctx).address, "error", err)
		return noHistory()
	case s.hear(req.Conn, room.Name) != nil:
		return refusal(http.StatusGone, "the connection is about to end")
	}
	visitOf(ctx).hear(room.Name)
	if isNew {
		s.log.Info("new room", "room", room.Name, "user", visitOf(ctx).user.name, "address", visitOf(ctx).address)
		s.toAll(chat.NoticeRoom, room)
		return answer(http.StatusCreated, room)
	}
	return answer(http.StatusOK, room)
}

// hear has a connection get what is said in a room.
func (s *server) hear(conn int, room string) error {
	return errors.Join(s.ws.Clients.Subscribe(conn, Topic(room)), s.ws.Clients.Subscribe(conn, Signals(room)))
}

// deleteRoom has a connection no longer hear a room.
func (s *server) deleteRoom(ctx context.Context, req *websocket.Request) websocket.Response {
	name := req.Params["room"]
	if name == chat.Lobby {
		return refusal(http.StatusBadRequest, "everybody hears the lobby")
	}
	if !s.isRoom(name) {
		return refusal(http.StatusNotFound, "there is no such room")
	}
	visitOf(ctx).forget(name)
	s.ws.Clients.Unsubscribe(req.Conn, Topic(name)) // an error means that it has ended
	s.ws.Clients.Unsubscribe(req.Conn, Signals(name))
	return answer(http.StatusOK, chat.Room{Name: name})
}

func (s *server) isRoom(name string) bool {
	ctx, cancel := brief()
	defer cancel()
	names, _ := s.spread.Rooms(ctx)
	return slices.Contains(names, name)
}

// knownRooms returns the lobby and those of the named rooms that there are. After a restart there are none: whoever was in one
// makes it anew.
func knownRooms(names []string, all []chat.Room) []string {
	rooms := []string{chat.Lobby}
	for _, name := range names {
		if slices.Contains(all, chat.Room{Name: name}) && !slices.Contains(rooms, name) {
			rooms = append(rooms, name)
		}
	}
	return rooms
}
