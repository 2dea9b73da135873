package websocket

import (
	"errors"
	"slices"
	"strings"
	"sync"
)

// maxTopicName is the length of a topic's name in bytes.
const maxTopicName = 255

var (
	// ErrTopicName is returned for a topic's name that is empty or longer than 255 bytes.
	ErrTopicName = errors.New("websocket: topic name is empty or longer than 255 bytes")

	// ErrTooManyTopics is returned by Subscribe for a connection that has ServerOptions.MaxTopics subscriptions.
	ErrTooManyTopics = errors.New("websocket: connection has too many subscriptions")
)

// topic has the connections that have subscribed to it. It is there while it has any.
type topic struct {
	name        string // immutable
	subscribers idSet  // guarded by the mu of the topic's shard
}

// topicShard has some of the topics, so that goroutines seldom wait for each other. A connection's topics are in its clientShard.
type topicShard struct {
	mu      sync.Mutex
	topics  map[string]*topic // by name; guarded by mu
	n       int               // subscriptions; guarded by mu
	watcher *Watcher          // nil if nobody watches; guarded by mu

	_ [64]byte // keeps the next shard off this one's cache lines
}

// Subscribe adds a connection to the subscribers of a topic, whom Publish sends to, until it unsubscribes or begins to end: it is
// none any more when HandleClientRemove is called. A topic is there while it has a subscriber, and has no other state. Its name has 1
// to 255 bytes, any bytes; names are the same if their bytes are. To subscribe twice is to subscribe once.
//
// It returns ErrConnClosed if conn is not an open connection of this server, ErrTopicName, or ErrTooManyTopics if that would be one
// subscription more than ServerOptions.MaxTopics. A connection is open from before HandleClientAdd is called. It takes the connection's
// lock for a moment, and may be called from any goroutine, as may all methods of topics.
func (cls *ClientManager) Subscribe(conn int, topic string) error {
	c, err := cls.findFor(conn, topic)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isOpen() { // its end, which takes the same lock, has gone through its topics
		return ErrConnClosed
	}
	of := cls.topicsOfLocked(c)
	t, err := cls.topicShard(topic).add(c.id, topic, len(of) < c.loop.opts.MaxTopics)
	if t != nil {
		c.marks.Or(markSubscribed)
		cls.setTopicsLocked(c, append(of, t))
	}
	return err
}

// Unsubscribe takes a connection out of the subscribers of a topic. It is no error if it is none of them. It returns ErrConnClosed if
// conn is not an open connection of this server, or ErrTopicName. Packets that a Publish has begun to send may still arrive.
func (cls *ClientManager) Unsubscribe(conn int, topic string) error {
	c, err := cls.findFor(conn, topic)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isOpen() {
		return ErrConnClosed
	}
	if t := cls.topicShard(topic).remove(c.id, topic); t != nil {
		of := cls.topicsOfLocked(c)
		i := slices.Index(of, t)
		cls.setTopicsLocked(c, slices.Delete(of, i, i+1))
	}
	return nil
}

// Subscribers returns the connections that have subscribed to a topic, in the order in which they were opened: none if there is no
// such topic. The slice is a copy.
func (cls *ClientManager) Subscribers(topic string) (conns []int) {
	ids := cls.topicShard(topic).subscribers(topic)
	return appendNumbers(make([]int, 0, len(ids)), ids)
}

// Topics returns the number of topics that have a subscriber.
func (cls *ClientManager) Topics() (n int) {
	for i := range cls.topics {
		s := &cls.topics[i]
		s.mu.Lock()
		n += len(s.topics)
		s.mu.Unlock()
	}
	return n
}

// subscriptions returns the number of subscriptions of all topics.
func (cls *ClientManager) subscriptions() (n int) {
	for i := range cls.topics {
		s := &cls.topics[i]
		s.mu.Lock()
		n += s.n
		s.mu.Unlock()
	}
	return n
}

// Publish sends one packet to every subscriber of a topic, without waiting and with the results of SendAll, in the order in which the
// connections were opened: (0, nil) if there is no such topic. If two goroutines publish at the same time, subscribers may get the two
// packets in different orders.
func (cls *ClientManager) Publish(topic string, packet []byte) (sent int, failed map[int]error) {
	return sendEach(cls.topicShard(topic).subscribers(topic), packet)
}

// findFor returns the connection with that number, if the topic's name is one.
func (cls *ClientManager) findFor(conn int, topic string) (*conn, error) {
	if topic == "" || len(topic) > maxTopicName {
		return nil, ErrTopicName
	}
	if c := cls.find(conn); c != nil {
		return c, nil
	}
	return nil, ErrConnClosed
}

// unsubscribeAllLocked ends the subscriptions of a connection.
func (cls *ClientManager) unsubscribeAllLocked(c *conn) {
	if c.marks.Load()&markSubscribed == 0 {
		return
	}
	for _, t := range cls.topicsOfLocked(c) {
		cls.topicShard(t.name).remove(c.id, t.name)
	}
	cls.setTopicsLocked(c, nil)
}

// topicsOfLocked returns the topics that a connection has subscribed to. They are in its shard, and not in the connection, since most
// connections have none. The mu of the connection guards the list, that of the shard the map alone.
func (cls *ClientManager) topicsOfLocked(c *conn) []*topic {
	s, _ := cls.shardOf(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics[c]
}

func (cls *ClientManager) setTopicsLocked(c *conn, of []*topic) {
	s, _ := cls.shardOf(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(of) == 0:
		delete(s.topics, c)
		return
	case s.topics == nil:
		s.topics = make(map[*conn][]*topic)
	}
	s.topics[c] = of
}

// topicShard returns the shard for a topic.
func (cls *ClientManager) topicShard(name string) *topicShard {
	key := uint64(14695981039346656037) // FNV-1a: whoever chooses names can fill one shard, and gains nothing
	for i := range len(name) {
		key = (key ^ uint64(name[i])) * 1099511628211
	}
	return &cls.topics[shardIndex(key)]
}

// subscribers returns the ids of a topic's subscribers, in order.
func (s *topicShard) subscribers(name string) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[name]
	if t == nil {
		return nil
	}
	return t.subscribers.all()
}

// add makes a connection a subscriber of a topic, which it returns; nil if it is one already, or may not be another one's.
func (s *topicShard) add(id uint64, name string, another bool) (*topic, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[name]
	switch {
	case t != nil && t.subscribers.has(id):
		return nil, nil
	case !another:
		return nil, ErrTooManyTopics
	case t == nil:
		t = s.newTopicLocked(strings.Clone(name)) // it may be a part of a message
	}
	t.subscribers.add(id)
	s.n++
	return t, nil
}

func (s *topicShard) newTopicLocked(name string) *topic {
	if s.topics == nil {
		s.topics = make(map[string]*topic)
	}
	t := &topic{name: name}
	s.topics[name] = t
	s.watcher.topicIs(name, true)
	return t
}

// remove takes a connection out of the subscribers of a topic, which it returns; nil if it is none of them.
func (s *topicShard) remove(id uint64, name string) *topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[name]
	if t == nil || !t.subscribers.remove(id) {
		return nil
	}
	s.n--
	if t.subscribers.isEmpty() {
		delete(s.topics, name)
		s.watcher.topicIs(name, false)
	}
	return t
}
