package websocket

import (
	"io"
	"slices"
)

// read reads once, into the loop's buffer or straight into a long message, and adds to reading what came of it. n is the number of
// bytes.
func (l *loop) read(c *conn) (n int) {
	if l.tls != nil && c.reads != readRest {
		if t := c.throughTLS(); t != nil {
			return l.readTLS(c, t)
		}
	}
	buf, direct := l.buf, false
	if c.reads == readMessages {
		if room := c.in.room(func() int { return c.waiting() }); room != nil {
			buf, direct = room, true
		}
	}
	n, err := c.stream.read(buf)
	if err != nil || n == 0 {
		l.readEnded(c, err)
		return 0
	}
	c.readable = n == len(buf) || c.hangup // a short read may also end at urgent data, which is no client's business to send
	c.clocks.hears(l.now)
	switch {
	case direct:
		l.left -= n
		ev, err := c.in.filled(n)
		if c.deflation() == nil || !l.got.pack(&ev) {
			l.got.take(l.engine, &ev, err)
		}
	case c.reads == readRecords:
		l.readProxied(c, buf[:n])
	case c.reads == readHandshake:
		l.readHandshake(c, buf[:n])
	case c.reads == readMessages:
		l.parse(c, buf[:n])
	case c.reads == readRest:
		c.drained += int32(n)
	}
	return n
}

// readEnded notes that there is nothing to read: for now, since the stream has ended (without an error), or since the socket failed.
func (l *loop) readEnded(c *conn, err error) {
	c.readable = false
	if err == errWouldBlock {
		return
	}
	c.peerEnd = true
	if err != nil {
		l.got.finish(endReason{kind: ClosedLost, cause: err.Error()})
		return
	}
	if c.reads == readHandshake {
		l.refuseCutOff(c)
	}
	l.got.finish(endReason{kind: ClosedLost, cause: "end of stream"})
}

// parse feeds bytes to the connection's receiver.
func (l *loop) parse(c *conn, b []byte) {
	p := l.rules.Load()
	if c.deflation() != nil {
		p = l.packedRules.Load()
	}
	for len(b) > 0 {
		var ev event
		n, err := c.in.read(p, b, &ev)
		b = b[n:]
		if !p.deflates || !l.got.pack(&ev) {
			l.got.take(l.engine, &ev, err)
		}
	}
}

// take keeps what an event, or an error, of a receiver asks for.
func (got *reading) take(e *engine, ev *event, err *protocolError) {
	if err != nil {
		end := endReason{kind: ClosedProtocolError, code: err.code, cause: err.Error()}
		if ev.kind != eventClose {
			end.reason = err.text
		}
		got.finish(end)
		return
	}
	got.traffic.addEvent(ev)
	switch ev.kind {
	case eventMessage:
		if ev.head.opcode() == OpcodeText {
			got.inbox.add(e.textLane, message{ev.payload, ev.head})
		} else if e.opts.HandleBin != nil {
			got.inbox.add(laneOrdered, message{ev.payload, ev.head})
		}
	case eventControl:
		got.inbox.add(laneOrdered, message{slices.Clone(ev.payload), ev.head})
	case eventPing:
		if len(got.inbox.waiting[laneOrdered]) > 0 { // what came first is answered first
			got.inbox.addPong(ev.payload)
		} else {
			got.pongs = appendFrame(got.pongs, OpcodePong, false, ev.payload)
		}
	case eventPong:
		if len(ev.payload) == 1 {
			got.ponged, got.number = true, ev.payload[0]
		}
	case eventClose:
		end := endReason{kind: ClosedByPeer, code: ev.code, reason: string(ev.payload), cause: "closed by the peer"}
		if end.noCode = ev.code == 0; end.noCode {
			end.code = StatusNormal
		}
		got.finish(end)
	}
}

// pack keeps an event of a connection with permessage-deflate that has its place among messages, until jobInflate takes it. It returns
// false if it has none.
func (got *reading) pack(ev *event) bool {
	switch ev.kind {
	case eventMessage:
	case eventPing:
		if len(got.inbox.waiting[lanePacked]) == 0 {
			return false
		}
		ev.payload = slices.Clone(ev.payload)
	case eventControl:
		ev.payload = slices.Clone(ev.payload)
	default:
		return false
	}
	got.traffic.addEvent(ev)
	got.inbox.add(lanePacked, message{ev.payload, ev.head})
	return true
}

// isPacked reports whether it is compressed.
func (m *message) isPacked() bool { return !m.head.opcode().isControl() && m.head.rsv()&bitRsv1 != 0 }

// unpacked returns the event that pack has kept.
func (m *message) unpacked() event {
	ev := event{kind: eventMessage, head: m.head, payload: m.payload}
	switch {
	case m.head.opcode() == OpcodePing:
		ev.kind = eventPing
	case m.head.opcode().isControl():
		ev.kind = eventControl
	}
	return ev
}

// applyLocked gives the connection what was read: messages first, then the end.
func (l *loop) applyLocked(c *conn) {
	got := &l.got
	if got.ponged {
		got.ponged = false
		c.clocks.ponged(got.number)
	}
	if len(got.pongs) > 0 {
		c.pongLocked(got.pongs)
		got.pongs = got.pongs[:0]
	}
	got.inbox = c.enqueueLocked(got.inbox)
	if got.ends {
		got.ends = false
		c.endLocked(got.end)
		c.look = true
	}
}

// openedLocked begins to read the messages of a connection whose handshake is done, with those that came behind the request.
func (l *loop) openedLocked(c *conn) {
	rest := c.rare.opening.buf
	c.rare.opening = nil
	c.dropRareLocked()
	c.clocks.spread(l.now, c.id, &l.limits)
	if len(rest) > 0 {
		l.parse(c, rest)
		l.applyLocked(c)
	}
}

// throughTLS returns what is between the connection and its socket, nil if what is read is plain: a PROXY protocol header is, too.
func (c *conn) throughTLS() *tlsStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hasRestLocked() && c.rare.opening.proxied {
		return nil
	}
	return c.tlsLocked()
}

// readTLS reads once, and adds to reading what came of it. n is the number of bytes once they are decrypted.
func (l *loop) readTLS(c *conn, t *tlsStream) (n int) {
	if t.ended {
		l.readEnded(c, nil)
		return 0
	}
	fresh, more, err := t.receive(c.fd(), l.wire)
	if fresh == 0 && len(t.in) == 0 || err != nil && err != errWouldBlock {
		l.readEnded(c, err)
		return 0
	}
	if c.readable = more || c.hangup; fresh > 0 {
		c.clocks.hears(l.now)
	}
	if c.reads == readRecords {
		l.readRecords(c, t)
		return 0
	}
	if c.in.isInData() {
		l.left -= fresh
	}
	plain, err := l.open(c, t)
	switch {
	case len(plain) == 0:
	case c.reads == readHandshake:
		l.readHandshake(c, plain)
	case c.reads == readMessages:
		l.parse(c, plain)
	}
	switch {
	case err == io.EOF && len(plain) > 0: // what came in front of it is answered first
		t.ended, c.readable = true, true
	case err == io.EOF:
		l.readEnded(c, nil)
	case err != nil: // crypto/tls has sent an alert
		l.got.finish(endReason{kind: ClosedProtocolError, cause: "TLS: " + err.Error()})
	}
	return len(plain)
}

// open decrypts the records that are there, into the loop's buffer, and writes what crypto/tls answers to them.
func (l *loop) open(c *conn, t *tlsStream) (plain []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	plain = l.buf[:cap(l.buf)]
	n, err := t.open(plain)
	c.settleLocked()
	if t.wasted { // it has cost as much as a long message
		l.left -= readRound / 8
	}
	return plain[:n], err
}

// readRecords has a TLS handshake taken on, once there is a record for it.
func (l *loop) readRecords(c *conn, t *tlsStream) {
	if len(t.in) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := t.handshake
	switch {
	case !c.isSecuring():
	case !h.begun && beginsPlain(t.in):
		c.look = true
		c.turnAwayLocked(errPlainHTTP, nil, t.in)
	default:
		t.in = slices.Clone(t.in)
		h.turn = turnLoop
		l.handshakes.add(h)
	}
}
