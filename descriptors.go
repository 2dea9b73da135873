package websocket

import (
	"sync"
	"sync/atomic"
	"time"
)

// A connection's id is its serial number and, in the low fdBits bits, its descriptor: an id never repeats, and the table
// finds it without a search.
const (
	fdBits    = 22 // descriptors up to 4 million
	chunkBits = 10
)

// descriptorTable maps a descriptor to the server connection that owns it. It is the only way from an int to a connection.
// Reading takes no lock.
type descriptorTable struct {
	chunks [1 << (fdBits - chunkBits)]atomic.Pointer[descriptorChunk]
	mu     sync.Mutex // guards making a chunk
}

type descriptorChunk [1 << chunkBits]atomic.Pointer[conn]

var descriptors descriptorTable

// tombstone stands in the table for a connection that has gone while its number is held back.
var tombstone = &conn{life: life{phaseGone}}

// serial numbers the connections of the process.
var serial atomic.Uint64

// nextID returns an id for the connection on a descriptor.
func nextID(fd int) uint64 { return serial.Add(1)<<fdBits | uint64(fd) }

// get returns the connection of a descriptor: the tombstone while the number is held back, nil if it is not ours.
func (t *descriptorTable) get(fd int) *conn {
	if fd < 0 || fd >= 1<<fdBits {
		return nil
	}
	chunk := t.chunks[fd>>chunkBits].Load()
	if chunk == nil {
		return nil
	}
	return chunk[fd&(1<<chunkBits-1)].Load()
}

// byID returns the connection of an id, nil if it has gone.
func (t *descriptorTable) byID(id uint64) *conn {
	if c := t.get(int(id & (1<<fdBits - 1))); c != nil && c.id == id {
		return c
	}
	return nil
}

// set puts a connection, the tombstone or nil at a descriptor below 1<<fdBits.
func (t *descriptorTable) set(fd int, c *conn) {
	slot := &t.chunks[fd>>chunkBits]
	if slot.Load() == nil {
		t.mu.Lock()
		if slot.Load() == nil {
			slot.Store(new(descriptorChunk))
		}
		t.mu.Unlock()
	}
	slot.Load()[fd&(1<<chunkBits-1)].Store(c)
}

// minHold is how long the number of a closed connection is held back, unless descriptors run out.
const minHold = time.Second

// quarantine holds back the numbers of closed connections, so that an int that a program still keeps does not suddenly mean
// another client. The oldest number is given back first.
type quarantine struct {
	budget int // how many numbers may be held for longer than minHold; immutable

	// Guarded by mu.
	mu    sync.Mutex
	held  []heldNumber
	ended bool // numbers are given back immediately
}

type heldNumber struct {
	since int64
	fd    int
}

// hold takes a number over which the placeholder was put.
func (q *quarantine) hold(fd int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		giveBack(fd)
		return
	}
	q.held = append(q.held, heldNumber{now(), fd})
	q.trimLocked()
}

// len returns how many numbers are held back.
func (q *quarantine) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.held)
}

// trim gives back what is over the budget and old enough. It returns when there will be more to do.
func (q *quarantine) trim() (next int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.trimLocked()
}

func (q *quarantine) trimLocked() (next int64) {
	for len(q.held) > q.budget {
		if due := q.held[0].since + int64(minHold); due > now() {
			return due
		}
		q.giveBackLocked(1)
	}
	return never
}

// evict gives back up to n numbers, whatever their age, since descriptors have run out. It returns how many it gave back.
func (q *quarantine) evict(n int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.giveBackLocked(n)
}

func (q *quarantine) giveBackLocked(n int) int {
	n = min(n, len(q.held))
	for _, number := range q.held[:n] {
		giveBack(number.fd)
	}
	if q.held = q.held[n:]; len(q.held) == 0 {
		q.held = nil
	}
	return n
}

// end gives back all numbers, now and from now on.
func (q *quarantine) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.giveBackLocked(len(q.held))
}

func giveBack(fd int) {
	descriptors.set(fd, nil)
	closeDescriptor(fd)
}
