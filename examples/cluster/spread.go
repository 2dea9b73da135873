package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/cluster"
	"github.com/wsloop/websocket/examples/internal/chat"
	"github.com/wsloop/websocket/examples/internal/chatserver"
)

const (
	// rooms is the topic that has the names of the rooms. Nobody subscribes to it.
	rooms = "rooms"

	// keptMessages is how many messages of each room, and of each user's private ones, are kept.
	keptMessages = 1000

	// storePause is how often the store is asked that does not answer.
	storePause = 100 * time.Millisecond
)

// inbox is the topic of what is said to and by a user in private: each message is in those of both. Nobody subscribes to it.
func inbox(user string) string { return "inbox/" + user }

// spread is the chat's Spread over the nodes of a cluster. All messages are in one stream of NATS, so the numbers that they have there
// rise over all rooms: they are their IDs.
type spread struct {
	node    *cluster.Node
	clients *websocket.ClientManager

	mu       sync.Mutex
	known    []string // rooms; guarded by mu
	lastRoom uint64   // the number of the latest of them; guarded by mu
}

// Say publishes a message to a room. Subscribers find its ID in Response.Seq: it has none yet when it is encoded.
func (s *spread) Say(ctx context.Context, m chat.Message) (chat.Message, error) {
	seq, err := s.node.Publish(ctx, chatserver.Topic(m.Room), chatserver.Packet(chat.NoticeMessage, m))
	m.ID = int64(seq)
	return m, err
}

// Whisper keeps a private message for both users, and then sends it to their devices. The one that it came from gets it too: it has
// the same ID as in the answer.
func (s *spread) Whisper(ctx context.Context, m chat.Message, from, to uint64, _ int) (said chat.Message, reached int, err error) {
	packet := chatserver.Packet(chat.NoticePrivate, m)
	theirs, err := s.node.Publish(ctx, inbox(m.To), packet)
	if err != nil {
		return m, 0, err
	}
	mine, err := s.node.Publish(ctx, inbox(m.From), packet)
	if err != nil {
		return m, 0, err
	}
	m.ID = int64(theirs)
	reached, _ = s.node.SendUser(ctx, to, chatserver.Packet(chat.NoticePrivate, m)) // whom it does not reach finds it in the inbox
	m.ID = int64(mine)
	s.node.SendUser(ctx, from, chatserver.Packet(chat.NoticePrivate, m))
	return m, reached, nil
}

// Since merges the topics that a view shows.
func (s *spread) Since(ctx context.Context, v chatserver.View, id int64) (page []chat.Message, missed bool, err error) {
	page = []chat.Message{}
	for _, topic := range topics(v) {
		messages, complete, err := s.since(ctx, topic, uint64(id), chat.MaxPage)
		if err != nil {
			return nil, false, err
		}
		missed = missed || id > 0 && !complete
		page = append(page, decode(v, messages)...)
	}
	sortByID(page)
	return page[:min(len(page), chat.MaxPage)], missed, nil
}

// since waits for the store, which may not be there yet, or be elected anew.
func (s *spread) since(ctx context.Context, topic string, seq uint64, most int) (messages []cluster.Message, complete bool, err error) {
	for {
		messages, complete, err = s.node.Since(ctx, topic, seq, most)
		if !errors.Is(err, cluster.ErrHistoryUnavailable) {
			return messages, complete, err
		}
		select {
		case <-time.After(storePause):
		case <-ctx.Done():
			return nil, false, err
		}
	}
}

// Before reads all of what is kept: the store goes through its topics forwards.
func (s *spread) Before(ctx context.Context, v chatserver.View, id int64, most int) (page []chat.Message, err error) {
	page = []chat.Message{}
	for _, topic := range topics(v) {
		messages, _, err := s.since(ctx, topic, 0, keptMessages)
		if err != nil {
			return nil, err
		}
		page = append(page, decode(v, messages)...)
	}
	sortByID(page)
	if id > 0 {
		behind, _ := slices.BinarySearchFunc(page, id, func(m chat.Message, id int64) int { return cmp.Compare(m.ID, id) })
		page = page[:behind]
	}
	return page[max(0, len(page)-min(most, chat.MaxPage)):], nil
}

// Find looks for a message that another node may have taken before it was gone.
func (s *spread) Find(ctx context.Context, m chat.Message) (found chat.Message, ok bool, err error) {
	topic := inbox(m.From)
	if m.Room != "" {
		topic = chatserver.Topic(m.Room)
	}
	messages, _, err := s.since(ctx, topic, 0, keptMessages)
	for _, other := range decode(chatserver.View{}, messages) {
		if other.From == m.From && other.To == m.To && other.Ref == m.Ref {
			return other, true, nil
		}
	}
	return m, false, err
}

// Ends knows neither: the numbers are those of the store.
func (s *spread) Ends(context.Context) (last, began int64, err error) { return 0, 0, nil }

// Rooms reads those that have been made since it was last called.
func (s *spread) Rooms(ctx context.Context) (names []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made, _, err := s.since(ctx, rooms, s.lastRoom, keptMessages)
	if len(s.known) == 0 {
		s.known = []string{chat.Lobby}
	}
	for _, m := range made {
		var room chat.Room
		if read(m, &room) && !slices.Contains(s.known, room.Name) {
			s.known = append(s.known, room.Name)
		}
		s.lastRoom = m.Seq
	}
	return slices.Clone(s.known), err
}

func (s *spread) OpenRoom(ctx context.Context, name string) (isNew bool, err error) {
	names, err := s.Rooms(ctx)
	switch {
	case err != nil || slices.Contains(names, name):
		return false, err
	case len(names) >= chatserver.MaxRooms:
		return false, chatserver.ErrTooManyRooms
	}
	_, err = s.node.Publish(ctx, rooms, chatserver.Packet(chat.NoticeRoom, chat.Room{Name: name}))
	return err == nil, err
}

// Notify sends what is not kept. An error means that nodes which cannot be reached do not hear of it.
func (s *spread) Notify(ctx context.Context, uid uint64, room string, packet []byte) {
	switch {
	case uid != 0:
		s.node.SendUser(ctx, uid, packet)
	case room != "":
		s.node.Publish(ctx, chatserver.Signals(room), packet)
	default:
		s.node.SendAll(ctx, packet)
	}
}

// Elsewhere asks the other nodes, of which all users hear the lobby.
func (s *spread) Elsewhere(ctx context.Context) (uids []uint64) {
	members, _ := s.node.Presence(ctx, chatserver.Topic(chat.Lobby)) // with an error it is those who are known
	for _, m := range members {
		if m.Node != s.node.Name() {
			uids = append(uids, m.UID)
		}
	}
	return uids
}

// topics returns those that have what a view shows.
func topics(v chatserver.View) (names []string) {
	for _, room := range v.Rooms {
		names = append(names, chatserver.Topic(room))
	}
	if v.User != "" {
		names = append(names, inbox(v.User))
	}
	return names
}

// decode returns the messages of a topic that a view shows: all of them, if it is the empty one.
func decode(v chatserver.View, kept []cluster.Message) (messages []chat.Message) {
	for _, k := range kept {
		var m chat.Message
		if !read(k, &m) {
			continue
		}
		m.ID = int64(k.Seq)
		if v.User == "" && v.Rooms == nil || v.Shows(&m) {
			messages = append(messages, m)
		}
	}
	return messages
}

// read reads the body of a notice that is kept.
func read(kept cluster.Message, body any) bool {
	var notice websocket.Response
	frames := websocket.Unpack(kept.Packet)
	return json.Unmarshal(frames.Payload(), &notice) == nil && json.Unmarshal([]byte(notice.Body), body) == nil
}

func sortByID(messages []chat.Message) {
	slices.SortFunc(messages, func(a, b chat.Message) int { return cmp.Compare(a.ID, b.ID) })
}
