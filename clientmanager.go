package websocket

import (
	"context"
	"sync"
)

// ClientManager knows the open connections of a Server and the users that they belong to: a user may have any number of
// connections, one for each device. The user of a connection is what HandleAuth stored under CtxKeyUID. A connection is in it
// from before HandleClientAdd is called until it begins to end; for its Context see there.
//
// All methods may be called from any goroutine. The zero value is an empty one; a program uses that of its Server.
type ClientManager struct {
	mu    sync.RWMutex
	conns []*conn          // in no order; guarded by mu
	users map[uint64]*conn // first connection of each user, the others behind it; guarded by mu
}

// All returns the open connections, in no order. The slice is a copy.
func (cls *ClientManager) All() (conns []int) {
	cls.mu.RLock()
	defer cls.mu.RUnlock()
	return numbersOf(cls.conns)
}

// Conns returns the open connections of a user, in no order: none where the user is not there or uid is 0. The slice is a copy.
func (cls *ClientManager) Conns(uid uint64) (conns []int) {
	return numbersOf(cls.ofUser(uid))
}

// Context returns the context that HandleAuth gave to a connection. ok is false where conn is not a connection of this server.
// It answers until HandleClientRemove has returned.
func (cls *ClientManager) Context(conn int) (ctx context.Context, ok bool) {
	c := descriptors.get(conn)
	if c == nil || c == tombstone || c.loop.clients != cls {
		return nil, false
	}
	return c.context()
}

// Len returns the number of open connections.
func (cls *ClientManager) Len() int {
	cls.mu.RLock()
	defer cls.mu.RUnlock()
	return len(cls.conns)
}

// Users returns the number of users that have an open connection.
func (cls *ClientManager) Users() int {
	cls.mu.RLock()
	defer cls.mu.RUnlock()
	return len(cls.users)
}

// SendAll sends one packet to every open connection, as TrySend does: it waits for no one. It returns how many took it, and
// the errors of those that did not, by connection: nil where there are none.
func (cls *ClientManager) SendAll(packet []byte) (sent int, failed map[int]error) {
	cls.mu.RLock()
	conns := append([]*conn(nil), cls.conns...)
	cls.mu.RUnlock()
	return sendEach(conns, packet)
}

// SendUser sends one packet to every open connection of a user, likewise.
func (cls *ClientManager) SendUser(uid uint64, packet []byte) (sent int, failed map[int]error) {
	return sendEach(cls.ofUser(uid), packet)
}

func sendEach(conns []*conn, packet []byte) (sent int, failed map[int]error) {
	end, closes := closeFrameIn(packet)
	for _, c := range conns {
		err := c.transmit(outgoing{body: packet[:end], closes: closes}, false)
		if err == nil {
			sent++
			continue
		}
		if failed == nil {
			failed = make(map[int]error)
		}
		failed[c.fd()] = err
	}
	return sent, failed
}

func (cls *ClientManager) ofUser(uid uint64) (conns []*conn) {
	cls.mu.RLock()
	defer cls.mu.RUnlock()
	for c := cls.users[uid]; c != nil; c = c.userNext {
		conns = append(conns, c)
	}
	return conns
}

func numbersOf(conns []*conn) []int {
	numbers := make([]int, len(conns))
	for i, c := range conns {
		numbers[i] = c.fd()
	}
	return numbers
}

// add enters an open connection.
func (cls *ClientManager) add(c *conn) {
	cls.mu.Lock()
	defer cls.mu.Unlock()
	c.member = len(cls.conns)
	cls.conns = append(cls.conns, c)
	if c.uid == 0 {
		return
	}
	if cls.users == nil {
		cls.users = make(map[uint64]*conn)
	}
	if c.userNext = cls.users[c.uid]; c.userNext != nil {
		c.userNext.userPrev = c
	}
	cls.users[c.uid] = c
}

// remove takes a connection out, if it is in.
func (cls *ClientManager) remove(c *conn) {
	cls.mu.Lock()
	defer cls.mu.Unlock()
	last := len(cls.conns) - 1
	if last < 0 || c.member > last || cls.conns[c.member] != c {
		return
	}
	cls.conns[c.member] = cls.conns[last]
	cls.conns[c.member].member = c.member
	cls.conns[last] = nil
	cls.conns = cls.conns[:last]
	cls.removeUser(c)
}

func (cls *ClientManager) removeUser(c *conn) {
	if c.uid == 0 {
		return
	}
	if c.userNext != nil {
		c.userNext.userPrev = c.userPrev
	}
	switch {
	case c.userPrev != nil:
		c.userPrev.userNext = c.userNext
	case c.userNext != nil:
		cls.users[c.uid] = c.userNext
	default:
		delete(cls.users, c.uid)
	}
	c.userNext, c.userPrev = nil, nil
}
