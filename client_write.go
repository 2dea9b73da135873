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

// clientOutbox is what a clientConn sends. Data goes out under messageGate, a frame of it at a time under writeGate. Control frames wait in the queue for
// whoever writes next, and go out in front of its frame: so they wait for one frame at most, and what answers a Ping is in front of
// what answers a later message. The locks are taken in the order of the fields.
type clientOutbox struct {
	messageGate gate // held for one message: its fragments are not mixed with another's
	writeGate   gate // held for one write

	mu         sync.Mutex // held for a moment; guards the following
	pongs      []byte     // frames that answer Pings, in order
	latestOnly bool       // the server takes no data: pongs has one frame
	controls   []byte     // control frames of the program
	pingDue    bool       // a Ping of our own is due
	closeFrame []byte     // the Close frame, when it is due
	sealed     bool       // the program sends no more
	closeTaken bool       // the Close frame was written, or is being written

	pending   atomic.Bool   // something is in the queue; set with mu held
	wake      chan struct{} // has an element when somebody is to look into the queue
	room      chan struct{} // has one when the queue was emptied
	closeDone chan struct{} // closed when the Close frame was written, or will never be
}

func (o *clientOutbox) init() {
	o.messageGate, o.writeGate = make(gate, 1), make(gate, 1)
	o.wake, o.room, o.closeDone = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
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
func (o *clientOutbox) add(opcode Opcode, payload []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.closeTaken {
		return ErrConnClosed
	}
	o.controls = appendFrame(o.controls, opcode, true, payload)
	o.pending.Store(true)
	return nil
}

// addPing has a Ping sent.
func (o *clientOutbox) addPing() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closeTaken {
		return
	}
	o.pingDue = true
	o.pending.Store(true)
}

// addPong answers a Ping. Where too many answers wait it returns false, unless all of them are to give way to this one.
func (o *clientOutbox) addPong(payload []byte, instead bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closeTaken:
		return true
	case o.latestOnly || instead:
		o.pongs, o.latestOnly = o.pongs[:0], true
	case len(o.pongs) >= maxPongs:
		return false
	}
	o.pongs = appendFrame(o.pongs, OpcodePong, true, payload)
	o.pending.Store(true)
	return true
}

// addClose has the Close frame sent, the last of all. It returns false where that was done before.
func (o *clientOutbox) addClose(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closeTaken || o.closeFrame != nil {
		return false
	}
	o.closeFrame, o.sealed = frame, true
	o.pending.Store(true)
	return true
}

// seal ends what the program may send. A message that is being sent goes on.
func (o *clientOutbox) seal() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed = true
}

// end ends all that is sent: the server takes no more.
func (o *clientOutbox) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed, o.closeTaken = true, true
	o.pongs, o.controls, o.pingDue = nil, nil, false
	o.pending.Store(false)
	notify(o.room)
}

func (o *clientOutbox) isSealed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sealed
}

// take empties the queue into a buffer that has room for more bytes behind it. closes says that the Close frame is the last of it,
// or was sent before: nothing may follow. It is called with writeGate held.
func (o *clientOutbox) take(spare int, sent uint64) (buf []byte, pings, closes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closeTaken {
		return nil, false, true
	}
	if pings = o.pingDue; pings {
		spare += pingSize
	}
	buf = newBuffer(max(len(o.pongs)+len(o.controls)+len(o.closeFrame)+spare, minSpare))
	buf = append(append(buf, o.pongs...), o.controls...)
	if pings {
		buf = appendFrame(buf, OpcodePing, true, binary.BigEndian.AppendUint64(nil, sent))
	}
	if closes = o.closeFrame != nil; closes {
		buf, o.closeTaken = append(buf, o.closeFrame...), true
	}
	if o.pending.Load() {
		o.pongs, o.controls, o.pingDue, o.latestOnly = emptied(o.pongs), nil, false, false
		o.pending.Store(false)
		notify(o.room)
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
	case <-c.out.room:
		return false
	case <-c.down:
		return true
	case <-timer.C:
	}
	if c.out.writeGate.tryEnter() { // nobody writes: it is this machine that is slow
		go c.flushAndLeave()
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
		if !c.out.writeGate.enter(c.down) {
			return ErrConnClosed
		}
		return c.flushAndLeave()
	}
	if !c.out.messageGate.enter(c.down) {
		return ErrConnClosed
	}
	defer c.out.messageGate.leave()
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
	if !c.out.pending.Load() || !c.out.writeGate.tryEnter() {
		return nil
	}
	return c.flushAndLeave()
}

// flushAndLeave is flush for whoever holds writeGate, which it gives back.
func (c *clientConn) flushAndLeave() (err error) {
	defer c.leaveWriting()
	if c.isDown() {
		return ErrConnClosed
	}
	c.mu.Lock()
	err = c.writeErr
	c.mu.Unlock()
	if err != nil { // what waited is lost
		return err
	}
	if c.out.pending.Load() {
		buf, pings, closes := c.out.take(0, c.socket.total())
		err = c.write(buf, pings, closes)
		PutBuffer(buf)
	}
	return err
}

// idle ends a write. What has come into the queue meanwhile is left to the control goroutine.
func (c *clientConn) leaveWriting() {
	c.out.writeGate.leave()
	if c.out.pending.Load() {
		notify(c.out.wake)
	}
}

// writeFrame writes the queue and a frame behind it.
func (c *clientConn) writeFrame(h header, payload []byte) (err error) {
	if !c.out.writeGate.enter(c.down) {
		return ErrConnClosed
	}
	defer c.leaveWriting()
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

// write writes what ends with a Ping, or with the Close frame, or neither. It is called with writeGate held. Where it fails, the
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
		c.closeWritten()
		return nil
	case err == nil:
		if pings {
			c.socket.pingSent()
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
		c.stopWriting(err)
	}
	return err
}

// lost notes that the server takes no more. What it sent before is read and handled all the same.
func (c *clientConn) stopWriting(err error) {
	c.out.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr == nil && !c.ended {
		c.writeErr = err
		if !c.closeSent { // nor will it be
			close(c.out.closeDone)
		}
		if by := time.Now().Add(maxAnswerTime); !c.closing || by.Before(c.endBy) {
			c.conn.SetReadDeadline(by)
		}
	}
}
