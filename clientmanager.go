package websocket

import (
	"context"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// clientShards is in how many parts a ClientManager keeps its connections, so that goroutines that add, remove and look for
// connections at the same time seldom wait for each other. Each is locked for some 20 ns, or for the copy that All and SendAll
// make; more would cost memory, in half-filled tables.
const (
	clientShards = 1 << shardBits
	shardBits    = 4
)

// someDevices is how many connections most users have at most.
const someDevices = 8

// ClientManager knows the open connections of a Server, the users that they belong to and the topics that they have subscribed to. A
// user may have any number of connections, one for each device. The user of a connection is what HandleAuth stored under CtxKeyUID. A
// connection is in it from before HandleClientAdd is called until it begins to end, or longer for Context, which says how long.
//
// All methods may be called from any goroutine. The zero value is empty; a program uses the one of its Server.
type ClientManager struct {
	conns  atomic.Int64 // in all shards
	users  atomic.Int64
	filled atomic.Uint32 // a bit for each shard that has connections; set and cleared with its mu held
	shards [clientShards]clientShard
	topics [clientShards]topicShard

	watching watching
}

// clientShard has all connections of some users, and some of those without a user.
type clientShard struct {
	mu      sync.Mutex
	ids     []uint64           // of the connections, in no order; guarded by mu
	users   map[uint64]*conn   // first connection of each user, the others behind it; guarded by mu
	topics  map[*conn][]*topic // of the connections that have any; guarded by mu
	watcher *Watcher           // nil if nobody watches; guarded by mu

	_ [64]byte // keeps the next shard off this one's cache lines
}

// All returns the open connections, in no order. The slice is a copy.
func (cls *ClientManager) All() (conns []int) {
	conns = make([]int, 0, cls.room())
	cls.each(func(ids []uint64) { conns = appendNumbers(conns, ids) })
	return conns
}

// Conns returns the open connections of a user, in no order: none if the user is not there or uid is 0. The slice is a copy.
func (cls *ClientManager) Conns(uid uint64) (conns []int) {
	var buf [someDevices]uint64
	ids := cls.appendUser(buf[:0], uid)
	return appendNumbers(make([]int, 0, len(ids)), ids)
}

// Context returns the context that HandleAuth gave to a connection. ok is false if conn is not a connection of this server. It
// answers until HandleClientRemove, and OnClose, have returned.
func (cls *ClientManager) Context(conn int) (ctx context.Context, ok bool) {
	c := cls.find(conn)
	if c == nil {
		return nil, false
	}
	return c.context()
}

// find returns the connection with that number, nil if it is none of this server.
func (cls *ClientManager) find(conn int) *conn {
	c := descriptors.get(conn)
	if c == nil || c == tombstone || c.loop.clients != cls {
		return nil
	}
	return c
}

// Len returns the number of open connections.
func (cls *ClientManager) Len() int { return int(cls.conns.Load()) }

// Users returns the number of users that have an open connection.
func (cls *ClientManager) Users() int { return int(cls.users.Load()) }

// SendAll sends one packet to every open connection, as TrySend does: it waits for no one. It returns how many took it, and the
// errors of those that did not, by connection: nil if there are none.
func (cls *ClientManager) SendAll(packet []byte) (sent int, failed map[int]error) {
	all := make([]uint64, 0, cls.room())
	cls.each(func(ids []uint64) { all = append(all, ids...) })
	slices.Sort(all) // as they were opened: what the system and this package keep of neighbours is in neighbouring memory
	return sendEach(all, packet)
}

// SendUser sends one packet to every open connection of a user, without waiting and with the results of SendAll: (0, nil) if
// the user is not there or uid is 0.
func (cls *ClientManager) SendUser(uid uint64, packet []byte) (sent int, failed map[int]error) {
	var buf [someDevices]uint64
	return sendEach(cls.appendUser(buf[:0], uid), packet)
}

func sendEach(ids []uint64, packet []byte) (sent int, failed map[int]error) {
	b := newBroadcast(packet)
	var last *conn
	for _, id := range ids {
		err := ErrConnClosed
		if c := descriptors.byID(id); c != nil {
			err, last = b.sendTo(c), c
		}
		if err == nil {
			sent++
			continue
		}
		if failed == nil {
			failed = make(map[int]error)
		}
		failed[numberOf(id)] = err
	}
	if last != nil { // of the same server as all of them
		last.loop.tally.sent.take(&b.sent)
	}
	return sent, failed
}

// room is how many connections All and SendAll reserve memory for: some more may come while they collect them.
func (cls *ClientManager) room() int {
	n := cls.Len()
	return n + n/64
}

// each calls do with the ids of each shard, with the shard locked.
func (cls *ClientManager) each(do func(ids []uint64)) {
	for filled := cls.filled.Load(); filled != 0; filled &= filled - 1 {
		s := &cls.shards[bits.TrailingZeros32(filled)]
		s.mu.Lock()
		do(s.ids)
		s.mu.Unlock()
	}
}

// appendUser appends the ids of a user's connections.
func (cls *ClientManager) appendUser(ids []uint64, uid uint64) []uint64 {
	s := &cls.shards[shardIndex(uid)]
	s.mu.Lock()
	for c := s.users[uid]; c != nil; c = c.userNext {
		ids = append(ids, c.id)
	}
	s.mu.Unlock()
	return ids
}

func appendNumbers(conns []int, ids []uint64) []int {
	for _, id := range ids {
		conns = append(conns, numberOf(id))
	}
	return conns
}

// numberOf returns the descriptor of the connection with that id.
func numberOf(id uint64) int { return int(id & (1<<fdBits - 1)) }

// shardIndex returns the shard for a user, or for the id of a connection without one. It spreads numbers that have a pattern,
// too.
func shardIndex(key uint64) int { return int(key * 0x9E3779B97F4A7C15 >> (64 - shardBits)) }

// shardOf returns the shard of a connection and its bit in filled.
func (cls *ClientManager) shardOf(c *conn) (s *clientShard, bit uint32) {
	key := c.uid
	if key == 0 {
		key = c.id
	}
	i := shardIndex(key)
	return &cls.shards[i], 1 << i
}

// add enters an open connection.
func (cls *ClientManager) add(c *conn) {
	s, bit := cls.shardOf(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.member = int32(len(s.ids)); c.member == 0 {
		cls.filled.Or(bit)
	}
	s.ids = append(s.ids, c.id)
	cls.conns.Add(1)
	if c.uid != 0 && s.addUserLocked(c) {
		cls.users.Add(1)
		s.watcher.userIs(c.uid, true)
	}
}

// addUserLocked puts a connection in front of those of its user. It returns whether it is the first.
func (s *clientShard) addUserLocked(c *conn) (first bool) {
	if s.users == nil {
		s.users = make(map[uint64]*conn)
	}
	if c.userNext = s.users[c.uid]; c.userNext != nil {
		c.userNext.userPrev = c
	}
	s.users[c.uid] = c
	return c.userNext == nil
}

// remove takes a connection out, if it is in.
func (cls *ClientManager) remove(c *conn) {
	s, bit := cls.shardOf(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	last := int32(len(s.ids) - 1)
	if c.member > last || s.ids[c.member] != c.id {
		return
	}
	if c.member < last {
		s.ids[c.member] = s.ids[last]
		descriptors.byID(s.ids[last]).member = c.member // what is here is in the table
	}
	if s.ids = s.ids[:last]; last == 0 {
		cls.filled.And(^bit)
	}
	cls.conns.Add(-1)
	if c.uid != 0 && s.removeUserLocked(c) {
		cls.users.Add(-1)
		s.watcher.userIs(c.uid, false)
	}
}

// removeUserLocked takes a connection out of those of its user. It returns whether it was the last.
func (s *clientShard) removeUserLocked(c *conn) (last bool) {
	if c.userNext != nil {
		c.userNext.userPrev = c.userPrev
	}
	switch {
	case c.userPrev != nil:
		c.userPrev.userNext = c.userNext
	case c.userNext != nil:
		s.users[c.uid] = c.userNext
	default:
		delete(s.users, c.uid)
		last = true
	}
	c.userNext, c.userPrev = nil, nil
	return last
}

// Done returns a channel that is closed when a connection of a Server begins to end: the client has closed it or is gone, it was
// removed, or the server stops. From then on nothing is read from it, and what is sent to it soon fails. A handler that waits for
// something else, such as a writer in HandleClientAdd, waits for this too.
//
// It returns the same channel for as long as the connection is open, a closed one once it has ended (and its number is held back),
// and nil, from which nothing is ever received, if conn is not a connection of a Server. It may be called from any goroutine.
func Done(conn int) <-chan struct{} {
	c := descriptors.get(conn)
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hasEnded() {
		ended := make(chan struct{})
		close(ended)
		return ended
	} else if c.isShaking() { // the program does not know it yet
		return nil
	}
	return c.loop.ends.of(c)
}

// ends has the channels that Done has made. They are here, and not in the connections, since few connections have one.
type ends struct {
	mu       sync.Mutex
	channels map[*conn]chan struct{} // of open connections; guarded by mu
}

// of returns the channel of an open connection. It is called with the connection's mu held, as tell is.
func (e *ends) of(c *conn) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	ch := e.channels[c]
	if ch == nil {
		if e.channels == nil {
			e.channels = make(map[*conn]chan struct{})
		}
		ch = make(chan struct{})
		e.channels[c] = ch
	}
	return ch
}

// tell closes the channel of a connection, if it has one.
func (e *ends) tell(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ch, ok := e.channels[c]; ok {
		close(ch)
		delete(e.channels, c)
	}
}
