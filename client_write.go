package websocket

import (
	"errors"
	"net"
	"slices"
	"time"
)

const (
	// defaultFragmentSize is the default of Client.FragmentSize in bytes.
	defaultFragmentSize = 64 << 10

	// clientWriteSize is how many bytes of a frame a client masks and writes in one go.
	clientWriteSize = 64 << 10

	// maxPongWait is how long reading waits if maxPongs wait. After that only the latest Ping is answered.
	maxPongWait = time.Second
)

// answerPing answers a Ping that was not queued behind messages. It waits only if many Pongs wait already, and not for long: for a
// server that does not read them the latest is enough (RFC 6455, section 5.5.3).
func (c *clientConn) answerPing(payload []byte) {
	for stalled := false; !c.out.addPong(payload, stalled); {
		stalled = c.awaitRoom()
	}
	c.kick()
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
	if !c.enterMessage() {
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

// kick has the queue sent by a goroutine of its own. If somebody is writing, it does nothing: the queue is looked at after that write.
func (c *clientConn) kick() {
	if c.out.pending.Load() && !c.isDown() && c.out.writeGate.tryEnter() {
		go c.flushAndLeave()
	}
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

// leaveWriting gives writeGate back. What was queued meanwhile is left to another goroutine.
func (c *clientConn) leaveWriting() {
	c.out.writeGate.leave()
	c.kick()
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
			h.length, h.key = uint64(len(payload)), c.out.nextKey()
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
			c.look() // there is a new moment
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
