package chatserver

import (
	"context"
	"net/http"
	"regexp"
	"slices"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// maxRooms is how many rooms there can be. One that was made stays until the server ends.
const maxRooms = 50

// validRoom holds the names of rooms to characters that need no escaping.
var validRoom = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func (s *server) getRooms(context.Context, *websocket.Request) websocket.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return answer(http.StatusOK, s.rooms)
}

// putRoom has a connection hear a room, which is made if there is none.
func (s *server) putRoom(ctx context.Context, req *websocket.Request) websocket.Response {
	room := chat.Room{Name: req.Params["room"]}
	if !validRoom.MatchString(room.Name) {
		return refusal(http.StatusBadRequest, "the name of a room has 1 to 32 lower-case letters, digits and -, no - in front")
	}
	isNew, ok := s.openRoom(room)
	switch {
	case !ok:
		return refusal(http.StatusConflict, "there are too many rooms")
	case s.ws.Clients.Subscribe(req.Conn, Topic(room.Name)) != nil:
		return refusal(http.StatusGone, "the connection is about to end")
	}
	visitOf(ctx).hear(room.Name)
	if isNew {
		s.log.Info("new room", "room", room.Name, "user", visitOf(ctx).user.name)
		return answer(http.StatusCreated, room)
	}
	return answer(http.StatusOK, room)
}

// openRoom makes a room unless there is one of that name. ok is false if there is no place for another one.
func (s *server) openRoom(room chat.Room) (isNew, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.rooms, room) {
		return false, true
	}
	if len(s.rooms) >= maxRooms {
		return false, false
	}
	s.rooms = append(s.rooms, room)
	s.toAll(chat.NoticeRoom, room)
	return true, true
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
	return answer(http.StatusOK, chat.Room{Name: name})
}

func (s *server) isRoom(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.rooms, chat.Room{Name: name})
}

// knownRoomsLocked returns the lobby and those of the named rooms that there are. After a restart there are none: whoever was in one
// makes it anew.
func (s *server) knownRoomsLocked(names []string) []string {
	rooms := []string{chat.Lobby}
	for _, name := range names {
		if slices.Contains(s.rooms, chat.Room{Name: name}) && !slices.Contains(rooms, name) {
			rooms = append(rooms, name)
		}
	}
	return rooms
}
