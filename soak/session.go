package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/wsloop/websocket"
)

// What one session may have under way: a message of any size, or several of these sizes together.
const (
	maxWaiting      = 8
	maxWaitingBytes = 512 << 10
)

// graceTime is how long a session waits at its end for what is still to come.
const graceTime = 60 * time.Second

// device is what a session runs on.
type device struct {
	user uint32        // that it belongs to; 0: none
	lag  time.Duration // that it takes over each message
}

// session is a connection that behaves, and that checks all it gets.
type session struct {
	device
	d       *driver
	id      uint32
	wire    wire
	changed chan struct{} // something has come; capacity 1
	seq     uint32        // of the last message sent; owned by the sender

	mu         sync.Mutex
	waiting    []expected        // what the server will send back, in order; guarded by mu
	bytes      int               // of it; guarded by mu
	lastPushes map[byte]lastPush // by kind; guarded by mu
}

// expected is a message that the server is to send back.
type expected struct {
	opcode websocket.Opcode
	size   int
	sum    uint32
	sent   time.Time
	slow   bool // the handler was told to sleep, or the device takes its time
}

func (e expected) matches(other expected) bool {
	return e.opcode == other.opcode && e.size == other.size && e.sum == other.sum
}

type lastPush struct {
	seq  uint32
	seen bool
}

// open connects a session to the server for messages. It returns nil if that fails, which is noted.
func (d *driver) open(rng *rand.Rand, dev device) *session {
	s := &session{
		device: dev, d: d, id: d.ids.Add(1), changed: make(chan struct{}, 1), lastPushes: make(map[byte]lastPush),
	}
	query := fmt.Sprintf("id=%d&uid=%d&checked=1", s.id, s.user)
	var err error
	at := d.entrance(rng).Echo
	if s.lag > 0 {
		s.wire, err = dialLagging(at, query, rng, s.got)
	} else if rng.IntN(2) == 0 {
		s.wire, err = dialClient(at, query, s.got)
	} else {
		s.wire, err = dialFragments(at, query, rng, s.got)
	}
	if err != nil {
		d.connectFailed(s.id, err)
		return nil
	}
	d.tally.connects.Add(1)
	d.tally.open.Add(1)
	return s
}

// connectFailed notes that a client that behaves was not let in.
func (d *driver) connectFailed(id uint32, err error) {
	if !d.cuts.has(id) {
		d.tally.closes.Add(1)
		d.problem("session %d cannot connect: %v", id, err)
	}
}

// say sends a message of that many bytes for the server to send back, once there is room for it. It returns false if the
// connection has ended or nothing comes back.
func (s *session) say(rng *rand.Rand, size int) bool {
	opcode := randomOpcode(rng)
	if size < headSize {
		return s.send(opcode, s.d.fill.cut(rng, websocket.OpcodeText, size), false)
	}
	s.seq++
	m := message{kindEcho, s.id, s.seq, s.d.fill.cut(rng, opcode, size-headSize)}
	return s.send(opcode, appendMessage(make([]byte, 0, size), m), s.lag > 0)
}

// sleep sends a message over which the handler blocks for that many milliseconds.
func (s *session) sleep(ms int) bool {
	s.seq++
	m := message{kindSleep, s.id, s.seq, fmt.Appendf(nil, "%0*x", sleepDigits, ms)}
	return s.send(websocket.OpcodeText, appendMessage(nil, m), true)
}

func (s *session) send(opcode websocket.Opcode, payload []byte, slow bool) bool {
	limit := time.After(graceTime)
	for !s.hasRoom(len(payload)) {
		if !s.await(limit) {
			return false
		}
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, expected{opcode, len(payload), crc32.ChecksumIEEE(payload), time.Now(), slow})
	s.bytes += len(payload)
	s.mu.Unlock()
	s.d.tally.sent.Add(1)
	return s.wire.send(opcode, payload) == nil
}

func (s *session) hasRoom(size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) == 0 || len(s.waiting) < maxWaiting && s.bytes+size <= maxWaitingBytes
}

// await waits until something has come. It returns false at the time limit, and if the connection has ended.
func (s *session) await(limit <-chan time.Time) bool {
	select {
	case <-s.changed:
		return true
	case <-s.wire.ended():
		return false
	case <-limit:
		return false
	}
}

// got is the session's receiver.
func (s *session) got(opcode websocket.Opcode, payload []byte) {
	m, ok := parseMessage(payload)
	isPush := ok && (m.kind == kindUser || m.kind == kindBroadcast || m.kind == kindStale)
	time.Sleep(s.lag)
	s.mu.Lock()
	if isPush {
		s.gotPushLocked(m)
	} else {
		s.gotEchoLocked(opcode, payload, m, ok)
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *session) gotEchoLocked(opcode websocket.Opcode, payload []byte, m message, ok bool) {
	t := s.d.tally
	this := expected{opcode: opcode, size: len(payload), sum: crc32.ChecksumIEEE(payload)}
	at := slices.IndexFunc(s.waiting, this.matches)
	switch {
	case at == 0:
		if !s.waiting[0].slow {
			t.latency.note(time.Since(s.waiting[0].sent))
		}
		t.echoed.Add(1)
	case at > 0:
		t.disordered.Add(1)
		s.d.problem("session %d: %d bytes came before %d others", s.id, len(payload), at)
	case ok && m.owner != s.id:
		t.misdelivered.Add(1)
		s.d.problem("session %d got message %d of session %d", s.id, m.seq, m.owner)
	default:
		t.corrupted.Add(1)
		s.d.problem("session %d: %d bytes came that were not sent: %.40q", s.id, len(payload), payload)
	}
	if at >= 0 {
		s.waiting = slices.Delete(s.waiting, at, at+1)
		s.bytes -= this.size
	}
}

func (s *session) gotPushLocked(m message) {
	t := s.d.tally
	if m.kind == kindStale && m.owner != s.id || m.kind == kindUser && m.owner != s.user {
		t.misdelivered.Add(1)
		s.d.problem("session %d of user %d got message %q for %d", s.id, s.user, m.kind, m.owner)
		return
	}
	if m.kind == kindStale {
		return
	}
	t.pushed.Add(1)
	last := s.lastPushes[m.kind]
	if last.seen && m.seq <= last.seq {
		t.disordered.Add(1)
		s.d.problem("session %d: message %q %d came after %d", s.id, m.kind, m.seq, last.seq)
		return
	}
	if last.seen {
		t.missing.add(s.id, m.kind, last.seq+1, m.seq)
	}
	s.lastPushes[m.kind] = lastPush{m.seq, true}
}

// finish waits for what is still to come, closes the connection and notes what is wrong. When the traffic is over, it waits
// for the last messages of the server as well.
func (s *session) finish(ctx context.Context) {
	limit := time.After(graceTime)
	for s.countWaiting() > 0 && s.await(limit) {
	}
	over := ctx.Err() != nil // it may become so while the connection closes
	if over {
		<-s.d.quiet
		for !s.hasAllPushes() && s.await(limit) {
		}
	}
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.d.cuts.has(s.id) {
		s.d.tally.cut.Add(1)
		return
	}
	if n := len(s.waiting); n > 0 {
		s.d.tally.lost.Add(int64(n))
		s.d.problem("session %d: %d messages did not come back", s.id, n)
	}
	if over {
		for kind, end := range s.d.finals(s.user) {
			if last := s.lastPushes[kind]; last.seen {
				s.d.tally.missing.add(s.id, kind, last.seq+1, end+1)
			}
		}
	}
}

// close ends the connection with the closing handshake.
func (s *session) close() {
	defer s.d.tally.open.Add(-1)
	var err error
	select {
	case <-s.wire.ended():
		err = s.wire.err()
		if err == nil {
			err = websocket.ErrConnClosed
		}
	default:
		err = s.wire.close()
	}
	s.d.noteEnd(s.id, err)
}

// noteEnd notes how the connection of a session ended, unless the network cut it.
func (d *driver) noteEnd(id uint32, err error) {
	switch {
	case err == nil || d.cuts.has(id):
	case errors.Is(err, errUnanswered) && d.heart.wasHeldUp():
		d.tally.late.Add(1)
	default:
		d.tally.closes.Add(1)
		d.problem("session %d ended: %v", id, err)
	}
}

// abort ends the connection without a closing handshake. What was under way does not count.
func (s *session) abort() {
	s.wire.abort()
	s.d.tally.open.Add(-1)
}

func (s *session) countWaiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

func (s *session) hasAllPushes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for kind, end := range s.d.finals(s.user) {
		if last := s.lastPushes[kind]; last.seen && last.seq < end {
			return false
		}
	}
	return true
}
