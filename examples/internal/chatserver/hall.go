package chatserver

import (
	"context"
	"slices"
	"strings"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// maxPeople is how many of those who are gone are told of, so that the list has an end.
const maxPeople = 500

// member is a user who is here.
type member struct {
	devices map[int]bool // by connection: whether that is away
}

// presence is that of all devices together.
func (m *member) presence() chat.Presence {
	if m == nil {
		return chat.Gone
	}
	for _, away := range m.devices {
		if !away {
			return chat.Here
		}
	}
	return chat.Away
}

// join counts a device in and tells it what it has missed. What is said while it does so may come to the device twice, or in front of the
// welcome, but not never: it hears its rooms before it looks at their history.
func (s *server) join(ctx context.Context, conn int) {
	v := visitOf(ctx)
	spreadCtx, cancel := brief()
	defer cancel()
	elsewhere := s.spread.Elsewhere(spreadCtx)
	if s.enter(v, conn, elsewhere) > maxDevices { // some may have been admitted at the same time
		s.ws.Clients.Close(conn, tryAgainLater, errTooMany.Error())
		return
	}
	s.checkUser(v, conn) // the users may just have been read again
	welcome, err := s.welcome(spreadCtx, v, conn, elsewhere)
	if err != nil {
		s.log.Warn("no history", "user", v.user.name, "address", v.address, "error", err)
		s.ws.Clients.Close(conn, tryAgainLater, "the history cannot be had at the moment")
		return
	}
	websocket.TrySend(conn, Packet(chat.NoticeWelcome, welcome)) // if it fails the connection has gone already
	s.log.Info("joined", "user", v.user.name, "address", v.address, "conn", conn)
}

// enter counts a device in, and tells all others if it is its user's first one. It returns how many the user has.
func (s *server) enter(v *visit, conn int, elsewhere []uint64) (devices int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits[websocket.ID(conn)] = v
	m := s.members[v.user.id]
	if m != nil {
		before := m.presence()
		m.devices[conn] = false
		s.tellPresenceLocked(v.user, m, before)
		return len(m.devices)
	}
	s.members[v.user.id] = &member{devices: map[int]bool{conn: false}}
	if !slices.Contains(elsewhere, v.user.id) {
		s.toAll(chat.NoticeJoin, chat.User{Name: v.user.name})
	}
	return 1
}

// leave counts a device out.
func (s *server) leave(ctx context.Context, conn int) {
	v := visitOf(ctx)
	ctx, cancel := brief()
	defer cancel()
	elsewhere := s.spread.Elsewhere(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[v.user.id]
	if m == nil {
		return // it ended before it could be counted
	}
	before := m.presence()
	delete(m.devices, conn)
	if len(m.devices) > 0 {
		s.tellPresenceLocked(v.user, m, before)
		return
	}
	delete(s.members, v.user.id)
	if !slices.Contains(elsewhere, v.user.id) {
		s.toAll(chat.NoticeLeave, chat.User{Name: v.user.name})
	}
}

// left is called when a connection has ended, with the reason.
func (s *server) left(info websocket.ConnInfo, cause websocket.CloseCause) {
	s.mu.Lock()
	v := s.visits[info.ID]
	delete(s.visits, info.ID)
	s.mu.Unlock()
	if v != nil {
		s.log.Info("left", "user", v.user.name, "address", v.address, "conn", info.Conn, "kind", cause.Kind, "code", int(cause.Code))
	}
}

// setAway notes whether a device is looked at.
func (s *server) setAway(u *user, conn int, away bool) chat.Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[u.id]
	if m == nil {
		return chat.Gone
	}
	before := m.presence()
	if _, ok := m.devices[conn]; ok { // it may be leaving
		m.devices[conn] = away
	}
	s.tellPresenceLocked(u, m, before)
	return m.presence()
}

func (s *server) tellPresenceLocked(u *user, m *member, before chat.Presence) {
	if now := m.presence(); now != before {
		s.toAll(chat.NoticePresence, chat.Person{Name: u.name, Presence: now})
	}
}

// toAll tells everybody. With mu held all are told in the same order; that is no risk, since Notify waits for nobody.
func (s *server) toAll(notice string, body any) {
	s.spread.Notify(context.Background(), 0, "", Packet(notice, body))
}

// welcome returns what a device is told first.
func (s *server) welcome(ctx context.Context, v *visit, conn int, elsewhere []uint64) (w chat.Welcome, err error) {
	w.Name, w.Users, w.People = v.user.name, s.here(elsewhere), s.people(elsewhere)
	if w.Rooms, err = s.roomList(ctx); err != nil {
		return w, err
	}
	v.rooms = knownRooms(v.rooms, w.Rooms)
	w.Hears = v.rooms
	for _, room := range v.rooms {
		s.hear(conn, room) // an error means that the connection has gone
	}
	if w.LastID, w.Began, err = s.spread.Ends(ctx); err != nil {
		return w, err
	}
	if v.isBack {
		w.History, w.Missed, err = s.spread.Since(ctx, v.view(), v.since)
	} else {
		w.History, err = s.latest(ctx, v)
	}
	if err != nil {
		return w, err
	}
	return w, s.endWelcome(ctx, v, &w)
}

// endWelcome says how a device goes on behind the first page of what it missed.
func (s *server) endWelcome(ctx context.Context, v *visit, w *chat.Welcome) error {
	n := len(w.History)
	if n == 0 {
		if w.LastID == 0 {
			w.LastID = v.since
		}
		return nil
	}
	last := w.History[n-1].ID
	if v.isBack {
		rest, _, err := s.spread.Since(ctx, v.view(), last)
		if err != nil {
			return err
		}
		w.More = len(rest) > 0
	}
	if w.More || last > w.LastID { // it may be said meanwhile
		w.LastID = last
	}
	return nil
}

// latest returns what newcomers are shown: the last messages of each room that they hear, and of those that are for them alone.
func (s *server) latest(ctx context.Context, v *visit) (messages []chat.Message, err error) {
	views := []View{{User: v.user.name}}
	for _, room := range v.rooms {
		views = append(views, View{Rooms: []string{room}})
	}
	messages = []chat.Message{}
	for _, view := range views {
		page, err := s.spread.Before(ctx, view, 0, s.last)
		if err != nil {
			return nil, err
		}
		messages = append(messages, page...)
	}
	slices.SortFunc(messages, func(a, b chat.Message) int { return int(a.ID - b.ID) })
	return messages, nil
}

// presences returns the presence of all who are here. Of those who are on another server nobody knows whether they are away.
func (s *server) presences(elsewhere []uint64) map[uint64]chat.Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	presences := make(map[uint64]chat.Presence, len(s.members)+len(elsewhere))
	for id, m := range s.members {
		presences[id] = m.presence()
	}
	for _, id := range elsewhere {
		presences[id] = chat.Here
	}
	return presences
}

// here returns the names of those who are here.
func (s *server) here(elsewhere []uint64) []string {
	names := []string{}
	for id := range s.presences(elsewhere) {
		if u := s.users.Load().byID[id]; u != nil { // else one who is about to be disconnected
			names = append(names, u.name)
		}
	}
	slices.Sort(names)
	return names
}

// people returns all users: first those who are here, then those who are gone, but for those who are too many.
func (s *server) people(elsewhere []uint64) []chat.Person {
	presences := s.presences(elsewhere)
	users := s.users.Load().byID
	people := make([]chat.Person, 0, len(users))
	for id, u := range users {
		person := chat.Person{Name: u.name, Presence: chat.Gone}
		if presence, ok := presences[id]; ok {
			person.Presence = presence
		}
		people = append(people, person)
	}
	slices.SortFunc(people, func(a, b chat.Person) int {
		switch {
		case a.Presence == chat.Gone && b.Presence != chat.Gone:
			return 1
		case a.Presence != chat.Gone && b.Presence == chat.Gone:
			return -1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return people[:min(len(people), len(presences)+maxPeople)]
}
