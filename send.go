package websocket

import "time"

// Send sends a packet, one or more whole frames (see NewFrame), to a connection. It may be called from any goroutine,
// handlers included; packets of concurrent calls are never mixed. It keeps no reference to the packet.
//
// For a connection of a Server it writes what the socket takes, queues the rest and returns. At the limit of the queue
// (ServerOptions.SendQueueSize, 1 MiB by default; an empty queue takes a packet of any size) it waits for room, for
// ServerOptions.WriteTimeout (10 seconds by default) at most. A packet of 4 MiB or more, or of more than the limit, waits for
// an empty queue, perhaps in vain if others send all the time. After the time-out, a peer that has taken nothing for half of
// that time is disconnected and the error is ErrWriteTimeout; one that is only slow is kept and the error is ErrSendQueueFull.
// If the connection was removed or has been sent a Close frame, or if its peer is gone, the error is ErrConnClosed, for which
// errors.Is is to be used. A Close frame in the packet starts the closing handshake (RFC 6455, section 7.1.2);
// frames behind it are not sent.
//
// The number of a closed connection is not used again for as long as a budget allows. See SendID for programs that keep
// connections for longer.
//
// On any other connected stream socket, blocking or not, Send writes all of the packet. It gives up with ErrWriteTimeout
// if the socket takes nothing for 10 seconds.
func Send(fd int, packet []byte) (err error) {
	if c := descriptors.get(fd); c != nil {
		return c.send(packet, true)
	}
	return unmanaged.send(fd, packet)
}

// SendText sends a text message of one frame, without the packet that Send wants and its copy of the payload. Otherwise it
// does what Send does with a packet of NewFrameText.
func SendText(conn int, payload []byte) (err error) { return sendMessage(conn, OpcodeText, payload) }

// SendBin sends a binary message of one frame, as SendText does with text.
func SendBin(conn int, payload []byte) (err error) { return sendMessage(conn, OpcodeBin, payload) }

func sendMessage(fd int, opcode Opcode, payload []byte) error {
	if c := descriptors.get(fd); c != nil {
		return c.sendMessage(opcode, payload)
	}
	return unmanaged.send(fd, NewFrame(opcode, false, payload))
}

// TrySend is a Send that never waits: if the packet does not fit into the send queue, it returns ErrSendQueueFull and sends
// nothing of it. On a socket that is not a connection of a Server it returns ErrConnClosed.
func TrySend(fd int, packet []byte) (err error) {
	if c := descriptors.get(fd); c != nil {
		return c.send(packet, false)
	}
	return ErrConnClosed
}

// ID returns the id of a connection of a Server: a number above 0 that this process never uses for another one. It is 0 if conn
// is no such connection, or no longer one; HandleClientRemove may still ask. It may be called from any goroutine.
func ID(conn int) uint64 {
	if c := descriptors.get(conn); c != nil && c.isUp() {
		return c.id
	}
	return 0
}

// SendID is Send for the connection with that id. Once that connection has gone it always returns ErrConnClosed.
func SendID(id uint64, packet []byte) (err error) {
	if c := descriptors.byID(id); c != nil {
		return c.send(packet, true)
	}
	return ErrConnClosed
}

// TrySendID is TrySend for the connection with that id.
func TrySendID(id uint64, packet []byte) (err error) {
	if c := descriptors.byID(id); c != nil {
		return c.send(packet, false)
	}
	return ErrConnClosed
}

// write writes or queues what is to be sent. If there is no room in the outbox it waits for it, or fails.
func (c *conn) write(out outgoing, wait bool) (err error) {
	var large []byte
	if out.len() >= largeSize {
		if err = c.refusal(out.len(), wait); err != nil {
			return err
		}
		// A Close frame or a Pong may follow: they have room too, so that nobody copies it again.
		large = append(append(make([]byte, 0, out.len()+2*(maxHeader+maxControl)), out.head...), out.body...)
	}
	c.mu.Lock()
	if err = c.readyLocked(out.len(), wait); err == nil && out.packed != nil {
		c.rememberLocked(out.packed)
	}
	switch {
	case err != nil:
	case out.closes:
		err = c.writeClosingLocked(&out, large)
	case large != nil:
		err = c.writeLargeLocked(&out, large)
	default:
		err = c.writeLocked(&out)
	}
	c.mu.Unlock()
	return err
}

// writeClosingLocked writes a packet with a Close frame at its end, which large is a copy of unless it is nil.
func (c *conn) writeClosingLocked(out *outgoing, large []byte) (err error) {
	c.outState = outClosed
	c.rareLocked().moments.closeSent = now()
	c.postLocked()
	packet := out.body // writing takes from out what it has written
	if large != nil {
		err = c.writeLargeLocked(out, large)
	} else {
		err = c.writeLocked(out)
	}
	if err == nil {
		c.noteCloseLocked(packet)
	}
	return err
}

// readyLocked waits, if it may, until the outbox takes that many bytes, or returns why it does not.
func (c *conn) readyLocked(size int, wait bool) error {
	if err := c.sendableLocked(); err != nil || c.hasRoomLocked(size) {
		return err
	}
	return c.makeRoomLocked(size, wait)
}

// refusal returns why a packet would not be taken now, so that a large one is not copied in vain, or one compressed.
func (c *conn) refusal(size int, wait bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.sendableLocked(); err != nil || wait || c.corked || c.hasRoomLocked(size) {
		return err
	}
	return c.overfullLocked()
}

// hasRoomLocked reports whether the outbox takes that many bytes.
func (c *conn) hasRoomLocked(size int) bool { return c.out.hasRoom(size, c.loop.opts.SendQueueSize) }

// sendableLocked returns why the connection takes no more data; nil if it still does.
func (c *conn) sendableLocked() error {
	switch {
	case c.outState == outStalled:
		return ErrWriteTimeout
	case c.outState != outOpen, !c.sends():
		return ErrConnClosed
	}
	return nil
}

// makeRoomLocked waits until there is room in the outbox, or returns why there is none.
func (c *conn) makeRoomLocked(size int, wait bool) error {
	var expired <-chan time.Time
	for {
		switch err := c.sendableLocked(); {
		case err != nil:
			return err
		case c.hasRoomLocked(size):
			return nil
		case c.corked:
			c.uncorkLocked()
			continue
		case !wait:
			return c.overfullLocked()
		}
		if expired == nil {
			timer := time.NewTimer(c.loop.opts.WriteTimeout)
			defer timer.Stop()
			expired = timer.C
		}
		if !c.awaitRoomLocked(expired) {
			return c.tooSlowLocked()
		}
	}
}

// awaitRoomLocked lets go of mu until the socket has taken something or the connection has ended. It returns false if that took
// too long.
func (c *conn) awaitRoomLocked(expired <-chan time.Time) bool {
	room := c.out.awaitRoom()
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-room:
		return true
	case <-expired:
		return false
	}
}

// tooSlowLocked is the error of a Send that has waited for the write time-out. A peer that has taken nothing for half of it is
// disconnected.
func (c *conn) tooSlowLocked() error {
	if c.out.isStalled() {
		c.flushLocked() // the poller does not tell of a little room
	}
	if err := c.sendableLocked(); err != nil {
		return err
	}
	if o := c.out; !o.isStalled() || now()-o.since < int64(c.loop.opts.WriteTimeout)/2 {
		return c.overfullLocked()
	}
	c.endStalledLocked()
	return ErrWriteTimeout
}

// writeLocked writes behind what is queued: immediately if nothing is, or into the outbox if the connection is corked or its socket
// full. Whatever is written may find the socket dead, and so end the connection: a caller that goes on with it looks at its phase.
func (c *conn) writeLocked(out *outgoing) error {
	c.countLocked(out)
	return c.endIfLostLocked(c.push(out))
}

// writeLargeLocked writes a copy of what is sent, which an empty outbox keeps.
func (c *conn) writeLargeLocked(out *outgoing, packet []byte) error {
	c.countLocked(out)
	if c.out == nil {
		c.out = newOutbox()
	}
	c.out.addLarge(packet)
	return c.flushLocked()
}

// flushLocked writes what is queued, and may end the connection as writeLocked may.
func (c *conn) flushLocked() error { return c.endIfLostLocked(c.flush()) }

// endIfLostLocked ends the connection if writing to its socket has failed. Nothing else does that.
func (c *conn) endIfLostLocked(err error) error {
	if err == nil {
		return nil
	}
	c.endLostLocked(outLost)
	return closedBy(err)
}

// endLostLocked ends a connection to which nothing can be written any more.
func (c *conn) endLostLocked(why outState) {
	c.outState = why
	c.dropOutboxLocked()
	c.endLocked(endReason{kind: ClosedLost, cause: "connection lost"})
	c.postLocked()
}

// endStalledLocked ends the connection because its peer takes no data.
func (c *conn) endStalledLocked() {
	if c.isOpen() {
		c.loop.warn(&c.loop.slow, "websocket: slow clients dropped")
	}
	c.endLocked(endReason{kind: ClosedSlow, cause: "takes no data"})
	c.endLostLocked(outStalled)
}

// push is writeLocked with the socket's error.
func (c *conn) push(out *outgoing) error {
	stalled := c.out.isStalled()
	if stalled || c.corked && out.len() < corkSize/2 || len(out.head) > 0 && len(out.body) < joinSize {
		c.queue(out)
		if !stalled && (!c.corked || c.out.len() >= corkSize) {
			return c.flush()
		}
		c.countQueuedLocked()
		return nil
	}
	if err := c.flush(); err != nil { // what is corked comes first
		return err
	}
	if c.out == nil {
		if err := c.pushThrough(out); err != nil || out.len() == 0 {
			return err
		}
	}
	c.queue(out)
	c.watchForRoom()
	return nil
}

// queue puts what is to be sent into the outbox.
func (c *conn) queue(out *outgoing) {
	if c.out == nil {
		c.out = newOutbox()
	}
	c.out.add(out)
}

// pushThrough writes as much as the socket takes, past an outbox that is empty, and leaves the rest in out.
func (c *conn) pushThrough(out *outgoing) error {
	if t := c.tlsLocked(); t != nil {
		n, err := t.writeParts(c.fd(), out.head, out.body, c.endsStream())
		c.countSent(n)
		out.took(n)
		return err
	}
	if len(out.head) > 0 {
		n, more, err := c.writeParts(out.head, out.body)
		c.countSent(n)
		if out.took(n); err != nil || !more {
			return err
		}
	}
	n, err := c.stream.write(out.body, c.endsStream())
	c.countSent(n)
	out.took(n)
	return err
}

// countSent counts what the peer has to take before it can answer a Ping.
func (c *conn) countSent(n int) { c.sent = int32(inTransit(int(c.sent), n)) }

// flush is flushLocked with the socket's error.
func (c *conn) flush() error {
	if c.out == nil {
		return nil
	}
	for part := c.out.front(); len(part) > 0 || c.owedLocked() > 0; part = c.out.front() {
		owed := c.owedLocked()
		n, err := c.writeOut(part)
		if err != nil {
			return err
		}
		at := int64(0)
		if c.out.stalled {
			at = now()
		}
		if c.owedLocked() < owed { // it does not count as written before all of it is
			c.out.moved(at)
		}
		if c.out.took(n, len(part), at) || c.owedLocked() > 0 {
			c.watchForRoom()
			if c.out.more {
				c.postLocked()
			}
			return nil
		}
	}
	c.dropOutboxLocked()
	if !c.isOpen() {
		c.postLocked() // the loop waits for the outbox to be empty
	}
	return nil
}

// watchForRoom has the poller tell of room in a full socket, and the loop find out if there is none for too long.
func (c *conn) watchForRoom() {
	if c.out.stall(now()) {
		c.postLocked()
	}
	c.loop.tally.sent.take(&c.out.traffic)
	c.countQueuedLocked()
	c.loop.poll.wantWrite(c.fd(), c.gen())
}

// dropOutboxLocked forgets what was to be sent.
func (c *conn) dropOutboxLocked() {
	if o := c.out; o != nil {
		c.loop.tally.sent.take(&o.traffic)
		if o.counted > 0 {
			c.loop.tally.queued.Add(-int64(o.counted))
		}
		c.out = nil
		putOutbox(o)
	}
}

// uncorkLocked ends the time in which packets are collected, and writes them.
func (c *conn) uncorkLocked() {
	c.corked = false
	if !c.out.isStalled() {
		c.flushLocked()
	}
}

// pongLocked answers Pings: frames holds a Pong for each. A peer that does not read gets the latest only (RFC 6455, section 5.5.3).
func (c *conn) pongLocked(frames []byte) {
	if len(frames) == 0 || c.sendableLocked() != nil {
		return
	}
	if !c.out.isStalled() {
		c.writeLocked(&outgoing{body: frames})
		return
	}
	for len(frames) > 0 {
		h, n := parseHeader(frames)
		end := n + int(h.length)
		c.out.answer(frames[n:end])
		frames = frames[end:]
	}
}

// pongBehind answers the Pings that came before the n-th message that is being handled, counted from 0.
func (c *conn) pongBehind(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pongLocked(c.lanes.takePongs(n))
}
