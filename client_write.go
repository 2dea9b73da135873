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
	// defaultFragmentSize is the default of Client.FragmentSize in bytes.
	defaultFragmentSize = 64 << 10

	// clientWriteSize is how many bytes of a frame a client masks and writes in one go.
	clientWriteSize = 64 << 10

	// pingSize is the length in bytes of a client's Ping. Its payload says how many bytes were sent in front of it.
	pingSize = 2 + keySize + 8

	// maxPongs is how many bytes of Pongs wait for a client's socket. If there are more, reading waits for maxPongWait, and then only
	// the latest Ping is answered.
	maxPongs    = 64 << 10
	maxPongWait = time.Second
)

// clientOutbox is what a clientConn sends. A message is sent under messageGate, each of its frames under writeGate. Control frames wait
// in a queue for whoever writes next, and are sent in front of its frame. So they wait for one frame at most, and what answers a Ping is
// sent in front of what answers a later message. It is used from any goroutine.
type clientOutbox struct {
	// Immutable once init has been called.
	messageGate gate          // held while a message is sent, so that its fragments are not mixed with those of another
	writeGate   gate          // held while something is written
	wake        chan struct{} // has an element if control has something to do
	room        chan struct{} // has an element if the queue has been emptied
	closeDone   chan struct{} // closed when the Close frame has been written, or never will be

	pending atomic.Bool // something is in the queue; set with mu held

	// The queue, in the order in which it is sent. Guarded by mu, which is held for a moment.
	mu         sync.Mutex
	pongs      []byte // frames that answer Pings, in order
	latestOnly bool   // the server takes no data: pongs has one frame, for its latest Ping
	controls   []byte // Pings and Pongs of the program, in order
	pingDue    bool   // the client's own Ping is due
	closeFrame []byte // the Close frame, once it is due
	sealed     bool   // the program may send no more
	closeTaken bool   // the Close frame has been written, or is being written, or never will be
}

// init makes the zero value ready.
func (o *clientOutbox) init() {
	o.messageGate, o.writeGate = make(gate, 1), make(gate, 1)
	o.wake, o.room, o.closeDone = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
}

// gate is a lock that can be waited for together with something else. The channel has an element while the lock is held.
type gate chan struct{}

// enter takes the lock, or returns false if end is closed. If both are possible, either may happen.
func (g gate) enter(end <-chan struct{}) bool {
	select {
	case g <- struct{}{}:
		return true
	case <-end:
		return false
	}
}

// tryEnter takes the lock if that is free, and reports whether it was.
func (g gate) tryEnter() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g gate) leave() { <-g }

// notify puts an element into a channel with room for one, if it is empty.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// add queues a control frame of the program. It returns ErrConnClosed if the program may send no more.
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

// addPing queues the client's own Ping.
func (o *clientOutbox) addPing() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closeTaken {
		return
	}
	o.pingDue = true
	o.pending.Store(true)
}

// addPong queues the answer to a Ping. If too many answers wait it returns false; with instead, this one takes the place of all of them.
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

// addClose queues the Close frame, the last of all. It returns false if that has been done before, or nothing can be sent any more.
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

// seal makes the program's sends fail from now on. A message that is being sent is finished.
func (o *clientOutbox) seal() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed = true
}

// end drops what waits and lets nothing more be queued: the server takes no more.
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

// take moves the queue into a buffer that has room for spare more bytes. sent, the bytes written so far, is the payload of a Ping in it.
// pings reports whether there is one, at the end but for a Close frame. closes reports that a Close frame is the last of it, or was
// taken before: nothing may follow. It is called with writeGate held; the caller gives the buffer to PutBuffer.
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

// emptied returns a buffer without its content if it is small enough to be kept, else nil.
func emptied(b []byte) []byte {
	if cap(b) > 1<<10 {
		return nil
	}
	return b[:0]
}

// answerPing answers a Ping that was not queued behind messages. It waits only if many Pongs wait already, and not for long: for a
// server that does not read them the latest is enough (RFC 6455, section 5.5.3).
func (c *clientConn) answerPing(payload []byte) {
	for stalled := false; !c.out.addPong(payload, stalled); {
		stalled = c.awaitRoom()
	}
	notify(c.out.wake)
}

// awaitRoom waits until the queue has been emptied. It returns true if the server keeps the one who writes from that, or the connection
// has ended.
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
	if c.out.writeGate.tryEnter() { // nobody is writing: this machine is slow, not the server
		go c.flushAndLeave()
		return false
	}
	return true
}

// send sends a control frame, or a message, of the program. It waits until the system has taken it.
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
	if d := c.deflation; d.takes(payload) {
		if packed, ok := d.packInContext(payload); ok {
			defer PutBuffer(packed)
			h.first |= bitRsv1 // of the first frame: RFC 7692, section 6.1
			payload = packed
		}
	}
	for len(payload) > c.fragmentSize && c.fragmentSize > 0 {
		if err := c.writeFrame(h, payload[:c.fragmentSize]); err != nil {
			return err
		}
		h.first, payload = byte(OpcodeCont), payload[c.fragmentSize:]
	}
	h.first |= bitFin
	return c.writeFrame(h, payload)
}

// flush sends the queue. If somebody else is writing, it returns immediately: the queue is looked at after that write.
func (c *clientConn) flush() error {
	if !c.out.pending.Load() || !c.out.writeGate.tryEnter() {
		return nil
	}
	return c.flushAndLeave()
}

// flushAndLeave sends the queue and gives writeGate back, which the caller holds.
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

// leaveWriting gives writeGate back. What was queued meanwhile is left to the control goroutine.
func (c *clientConn) leaveWriting() {
	c.out.writeGate.leave()
	if c.out.pending.Load() {
		notify(c.out.wake)
	}
}

// writeFrame writes the queue and a frame behind it, unless the Close frame is in the queue, or was.
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
	case pings: // by itself, since the Ping has to be the end of a write
		err = c.write(buf, true, false)
		buf = buf[:0]
		fallthrough
	default:
		if err == nil {
			h.length, h.key = uint64(len(payload)), newKey()
			err = c.writePieces(appendHeader(buf, h), payload, h.key)
		}
		if err == nil && h.first&bitFin != 0 {
			c.socket.noteMessage() // before something else is written
		}
	}
	PutBuffer(buf)
	return err
}

// writePieces writes what is in the buffer, and behind it a payload, which is masked piece by piece in the buffer and is not itself
// changed.
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

// write writes bytes that end with a Ping, or with the Close frame, or with neither. If that fails, the connection ends: immediately if
// the server took nothing for too long, else as stopWriting says. It is called with writeGate held.
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
			notify(c.out.wake) // control has a new moment to wait for
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

// stopWriting makes all sends fail with err: the server takes no more. What it sent before is still read and handled, for maxAnswerTime
// at most.
func (c *clientConn) stopWriting(err error) {
	c.out.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr == nil && !c.ended {
		c.writeErr = err
		if !c.closeSent { // and never will be
			close(c.out.closeDone)
		}
		if by := time.Now().Add(maxAnswerTime); !c.closing || by.Before(c.endBy) {
			c.conn.SetReadDeadline(by)
		}
	}
}
