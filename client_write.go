package websocket

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultFragmentSize is the default of Client.FragmentSize.
	defaultFragmentSize = 64 << 10

	// clientWriteSize is how much of a frame a client masks and writes at once, in bytes.
	clientWriteSize = 64 << 10

	// pingSize is the length of a client's Ping in bytes, which says how many were sent in front of it.
	pingSize = 2 + keySize + 8

	// maxPongs is how many bytes of Pongs wait for a client's socket; behind them reading waits for maxPongWait, and then the
	// latest Ping alone is answered.
	maxPongs    = 64 << 10
	maxPongWait = time.Second
)

// outlet is what a clientConn sends. Data goes out under turn, a frame of it at a time under busy. Control frames wait in the queue for
// whoever writes next, and go out in front of its frame: so they wait for one frame at most, and what answers a Ping is in front of
// what answers a later message. The locks are taken in the order of the fields.
type outlet struct {
	turn gate // held for one message: its fragments are not mixed with another's
	busy gate // held for one write

	mu      sync.Mutex // held for a moment; guards the following
	pongs   []byte     // frames that answer Pings, in order
	stalled bool       // the server takes no data: pongs has one frame
	others  []byte     // control frames of the program
	ping    bool       // a Ping of our own is due
	last    []byte     // the Close frame, when it is due
	sealed  bool       // the program sends no more
	closed  bool       // the Close frame was written, or is being written

	waits atomic.Bool   // something is in the queue; set with mu held
	wake  chan struct{} // has an element when somebody is to look into the queue
	taken chan struct{} // has one when the queue was emptied
	said  chan struct{} // closed when the Close frame was written, or will never be
}

func (o *outlet) init() {
	o.turn, o.busy = make(gate, 1), make(gate, 1)
	o.wake, o.taken, o.said = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
}

// gate is a lock that can be waited for together with something else. It has an element while it is held.
type gate chan struct{}

// enter returns false where the end came first.
func (g gate) enter(end <-chan struct{}) bool {
	select {
	case g <- struct{}{}:
		return true
	case <-end:
		return false
	}
}

func (g gate) tryEnter() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g gate) leave() { <-g }

// notify puts an element into a channel, if it has none.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// add puts a control frame into the queue. It returns ErrConnClosed where the program is to send no more.
func (o *outlet) add(opcode Opcode, payload []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.closed {
		return ErrConnClosed
	}
	o.others = appendFrame(o.others, opcode, true, payload)
	o.waits.Store(true)
	return nil
}

// addPing has a Ping sent.
func (o *outlet) addPing() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.ping = true
	o.waits.Store(true)
}

// addPong answers a Ping. Where too many answers wait it returns false, unless all of them are to give way to this one.
func (o *outlet) addPong(payload []byte, instead bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return true
	case o.stalled || instead:
		o.pongs, o.stalled = o.pongs[:0], true
	case len(o.pongs) >= maxPongs:
		return false
	}
	o.pongs = appendFrame(o.pongs, OpcodePong, true, payload)
	o.waits.Store(true)
	return true
}

// addClose has the Close frame sent, the last of all. It returns false where that was done before.
func (o *outlet) addClose(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.last != nil {
		return false
	}
	o.last, o.sealed = frame, true
	o.waits.Store(true)
	return true
}

// seal ends what the program may send. A message that is being sent goes on.
func (o *outlet) seal() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed = true
}

// end ends all that is sent: the server takes no more.
func (o *outlet) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed, o.closed = true, true
	o.pongs, o.others, o.ping = nil, nil, false
	o.waits.Store(false)
	notify(o.taken)
}

func (o *outlet) isSealed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sealed
}

// take empties the queue into a buffer that has room for more bytes behind it. closes says that the Close frame is the last of it,
// or was sent before: nothing may follow. It is called with busy held.
func (o *outlet) take(room int, sent uint64) (buf []byte, pings, closes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, false, true
	}
	if pings = o.ping; pings {
		room += pingSize
	}
	buf = newBuffer(max(len(o.pongs)+len(o.others)+len(o.last)+room, minSpare))
	buf = append(append(buf, o.pongs...), o.others...)
	if pings {
		buf = appendFrame(buf, OpcodePing, true, binary.BigEndian.AppendUint64(nil, sent))
	}
	if closes = o.last != nil; closes {
		buf, o.closed = append(buf, o.last...), true
	}
	if o.waits.Load() {
		o.pongs, o.others, o.ping, o.stalled = emptied(o.pongs), nil, false, false
		o.waits.Store(false)
		notify(o.taken)
	}
	return buf, pings, closes
}

// emptied keeps a small buffer for what comes next.
func emptied(b []byte) []byte {
	if cap(b) > 1<<10 {
		return nil
	}
	return b[:0]
}

// answerPing has a Ping answered in its place, in front of all that answers a later message. It waits only where a lot of Pongs
// wait already, and not for long: for a server that does not read them the latest is enough (RFC 6455, section 5.5.3).
func (c *clientConn) answerPing(payload []byte) {
	for stalled := false; !c.out.addPong(payload, stalled); {
		stalled = c.awaitRoom()
	}
	notify(c.out.wake)
}

// awaitRoom waits for the queue to be emptied. It reports whether the server keeps somebody from that, or the connection has ended.
func (c *clientConn) awaitRoom() (stalled bool) {
	timer := time.NewTimer(maxPongWait)
	defer timer.Stop()
	select {
	case <-c.out.taken:
		return false
	case <-c.down:
		return true
	case <-timer.C:
	}
	if c.out.busy.tryEnter() { // nobody writes: it is this machine that is slow
		go c.flushBusy()
		return false
	}
	return true
}

// send sends a frame or a message of the program.
func (c *clientConn) send(opcode Opcode, payload []byte) error {
	if opcode.isControl() {
		if err := c.out.add(opcode, payload); err != nil {
			return err
		}
		if !c.out.busy.enter(c.down) {
			return ErrConnClosed
		}
		return c.flushBusy()
	}
	if !c.out.turn.enter(c.down) {
		return ErrConnClosed
	}
	defer c.out.turn.leave()
	if c.out.isSealed() {
		return ErrConnClosed
	}
	h := header{first: byte(opcode), masked: true}
	for len(payload) > c.fragmentSize && c.fragmentSize > 0 {
		if err := c.writeFrame(h, payload[:c.fragmentSize]); err != nil {
			return err
		}
		h.first, payload = byte(OpcodeCont), payload[c.fragmentSize:]
	}
	h.first |= bitFin
	return c.writeFrame(h, payload)
}

// flush sends what is in the queue, unless somebody is writing, who will see to it.
func (c *clientConn) flush() error {
	if !c.out.waits.Load() || !c.out.busy.tryEnter() {
		return nil
	}
	return c.flushBusy()
}

// flushBusy is flush for whoever holds busy, which it gives back.
func (c *clientConn) flushBusy() (err error) {
	defer c.idle()
	if c.isDown() {
		return ErrConnClosed
	}
	c.mu.Lock()
	err = c.broken
	c.mu.Unlock()
	if err != nil { // what waited is lost
		return err
	}
	if c.out.waits.Load() {
		buf, pings, closes := c.out.take(0, c.socket.total())
		err = c.write(buf, pings, closes)
		PutBuffer(buf)
	}
	return err
}

// idle ends a write. What has come into the queue meanwhile is left to the control goroutine.
func (c *clientConn) idle() {
	c.out.busy.leave()
	if c.out.waits.Load() {
		notify(c.out.wake)
	}
}

// writeFrame writes the queue and a frame behind it.
func (c *clientConn) writeFrame(h header, payload []byte) (err error) {
	if !c.out.busy.enter(c.down) {
		return ErrConnClosed
	}
	defer c.idle()
	if c.isDown() {
		return ErrConnClosed
	}
	buf, pings, closes := c.out.take(maxHeader+min(len(payload), clientWriteSize), c.socket.total())
	switch {
	case closes:
		if err = c.write(buf, pings, true); err == nil {
			err = ErrConnClosed
		}
	case pings: // by itself, for its end is where its way ends
		err = c.write(buf, true, false)
		buf = buf[:0]
		fallthrough
	default:
		if err == nil {
			h.length, h.key = uint64(len(payload)), newKey()
			err = c.writePieces(appendHeader(buf, h), payload, h.key)
		}
	}
	PutBuffer(buf)
	return err
}

// writePieces writes what is in the buffer and a payload behind it, which is masked piece by piece, in the buffer, and not changed
// itself.
func (c *clientConn) writePieces(buf, payload []byte, key uint32) error {
	for pos := 0; ; buf = buf[:0] {
		start, n := len(buf), min(len(payload)-pos, clientWriteSize)
		buf = slices.Grow(buf, n)[:start+n]
		mask(buf[start:], payload[pos:pos+n], key, pos)
		if err := c.write(buf, false, false); err != nil {
			return err
		}
		if pos += n; pos == len(payload) {
			return nil
		}
	}
}

// write writes what ends with a Ping, or with the Close frame, or neither. It is called with busy held. Where it fails, the
// connection ends.
func (c *clientConn) write(b []byte, pings, closes bool) error {
	if len(b) == 0 {
		return nil
	}
	if pings {
		c.socket.beginPing()
	}
	_, err := c.conn.Write(b)
	switch {
	case err == nil && closes:
		c.closeSaid()
		return nil
	case err == nil:
		if pings {
			c.socket.pinged()
			notify(c.out.wake) // for the clock
		}
		return nil
	case c.isDown():
		return ErrConnClosed
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		err = ErrWriteTimeout
		c.drop(err)
	} else {
		err = closedBy(err)
		c.lost(err)
	}
	return err
}

// lost notes that the server takes no more. What it sent before is read and handled all the same.
func (c *clientConn) lost(err error) {
	c.out.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil && !c.ended {
		c.broken = err
		if !c.said { // nor will it be
			close(c.out.said)
		}
		if by := time.Now().Add(maxAnswerTime); !c.closing || by.Before(c.closeBy) {
			c.conn.SetReadDeadline(by)
		}
	}
}
