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

// join counts a device in and tells it what it has missed. What is said while it does so may come to the device twice, but not never:
// it subscribes to its rooms behind the welcome, and is then sent what came in between.
func (s *server) join(ctx context.Context, conn int) {
	v := visitOf(ctx)
	s.enter(v, conn)
	ctx, cancel := brief()
	defer cancel()
	welcome, err := s.welcome(ctx, v)
	if err != nil {
		s.log.Warn("no history", "user", v.user.name, "error", err)
		s.ws.Clients.Close(conn, tryAgainLater, "the history cannot be had at the moment")
		return
	}
	websocket.TrySend(conn, Packet(chat.NoticeWelcome, welcome)) // if it fails the connection has gone already
	for _, room := range v.rooms {
		s.ws.Clients.Subscribe(conn, Topic(room))
	}
	between, _, _ := s.spread.Since(ctx, v.view(), welcome.LastID)
	for i := range between {
		if !welcome.More && between[i].Room != "" {
			websocket.TrySend(conn, Packet(chat.NoticeMessage, between[i]))
		}
	}
	s.log.Info("joined", "user", v.user.name, "address", v.address, "conn", conn)
}

// enter counts a device in, and tells all others if it is its user's first one.
func (s *server) enter(v *visit, conn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits[websocket.ID(conn)] = v
	v.rooms = s.knownRoomsLocked(v.rooms)
	m := s.members[v.user.id]
	if m != nil {
		before := m.presence()
		m.devices[conn] = false
		s.tellPresenceLocked(v.user, m, before)
		return
	}
	s.members[v.user.id] = &member{devices: map[int]bool{conn: false}}
	s.toAll(chat.NoticeJoin, chat.User{Name: v.user.name})
}

// leave counts a device out.
func (s *server) leave(ctx context.Context, conn int) {
	v := visitOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[v.user.id]
	before := m.presence()
	delete(m.devices, conn)
	if len(m.devices) > 0 {
		s.tellPresenceLocked(v.user, m, before)
		return
	}
	delete(s.members, v.user.id)
	ctx, cancel := brief()
	defer cancel()
	if !s.spread.IsElsewhere(ctx, v.user.id) {
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
func (s *server) welcome(ctx context.Context, v *visit) (w chat.Welcome, err error) {
	s.mu.Lock()
	w = chat.Welcome{Name: v.user.name, Users: s.hereLocked(), People: s.peopleLocked(), Rooms: slices.Clone(s.rooms), Hears: v.rooms}
	s.mu.Unlock()
	if w.LastID, w.Began, err = s.spread.Ends(ctx); err != nil {
		return w, err
	}
	if v.isBack {
		if w.History, w.Missed, err = s.spread.Since(ctx, v.view(), v.since); err != nil {
			return w, err
		}
	} else if w.History, err = s.latest(ctx, v); err != nil {
		return w, err
	}
	return w, s.endWelcome(ctx, v, &w)
}

// endWelcome says how a device goes on behind the first page of what it missed.
func (s *server) endWelcome(ctx context.Context, v *visit, w *chat.Welcome) error {
	n := len(w.History)
	if n == 0 {
		return nil
	}
	last := w.History[n-1].ID
	if v.isBack && last < w.LastID {
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

// hereLocked returns the names of those who are here.
func (s *server) hereLocked() []string {
	names := make([]string, 0, len(s.members))
	for id := range s.members {
		names = append(names, s.users.byID[id].name)
	}
	slices.Sort(names)
	return names
}

// peopleLocked returns all users, but for those who are gone and too many.
func (s *server) peopleLocked() []chat.Person {
	people := make([]chat.Person, 0, len(s.users.byID))
	for id, u := range s.users.byID {
		people = append(people, chat.Person{Name: u.name, Presence: s.members[id].presence()})
	}
	slices.SortFunc(people, func(a, b chat.Person) int {
		if (a.Presence == chat.Gone) != (b.Presence == chat.Gone) {
			if a.Presence == chat.Gone {
				return 1
			}
			return -1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return people[:min(len(people), len(s.members)+maxPeople)]
}
