package websocket

import (
	"errors"
	"io"
	"net"
	"time"
)

// clientReadSize is the size in bytes of an idle client's read buffer. A read that fills it is followed by reads of clientBusySize bytes,
// until one of them gets no more than the small one has room for.
const (
	clientReadSize = 1 << 10
	clientBusySize = 64 << 10
)

var errHandlerPanicked = &protocolError{"handler panicked", StatusBadRequest}

// intake turns what a server sends into events.
type intake struct {
	rc     receiver
	small  []byte    // the read buffer, nil before the first read
	large  []byte    // the one in its place while much comes, else nil
	unread []byte    // what has come and is not parsed: a part of a buffer, or what came behind the opening handshake
	at     time.Time // since when it could be parsed: it came, or there was room for it
	reads  uint64    // how often something has come
	parts  bool      // the message in progress is given out in parts, and some were
}

// next returns the next event. If there is none it reads, once, and may return eventNone: the rules for what has come may be others. err
// is that of the read. broken says that the server broke a rule; no event comes after that.
func (in *intake) next(r *rules, from io.Reader, waiting func() int) (ev event, broken *protocolError, err error) {
	if len(in.unread) > 0 {
		var n int
		ev, n, broken = in.rc.next(r, in.unread)
		in.unread = in.unread[n:]
	}
	switch {
	case ev.kind != eventNone || broken != nil:
	case in.rc.takePart(&ev):
		in.parts = true
	default:
		ev, broken, err = in.fill(from, waiting)
	}
	if ev.kind == eventMessage && in.parts {
		ev.kind, in.parts = eventLastPart, false
	}
	return ev, broken, err
}

// fill reads. What comes is parsed by the caller, unless it has been read straight into a long message.
func (in *intake) fill(from io.Reader, waiting func() int) (ev event, broken *protocolError, err error) {
	room := in.rc.room(waiting)
	isDirect := room != nil
	if !isDirect {
		room = in.buffer()
	}
	n, err := from.Read(room)
	in.at, in.reads = time.Now(), in.reads+1
	switch {
	case n == 0:
		return ev, nil, err
	case isDirect:
		ev, broken = in.rc.filled(n)
		return ev, broken, nil
	}
	in.unread = room[:n]
	switch {
	case in.large == nil && n == clientReadSize:
		in.large = newBuffer(clientBusySize)[:clientBusySize]
	case in.large != nil && n <= clientReadSize:
		in.putLarge(n)
	}
	return ev, nil, nil
}

// buffer returns what to read to.
func (in *intake) buffer() []byte {
	if in.large != nil {
		return in.large
	}
	if in.small == nil {
		in.small = make([]byte, clientReadSize)
	}
	return in.small
}

// putLarge gives the large buffer back, with n bytes that are not parsed.
func (in *intake) putLarge(n int) {
	large := in.large
	in.large = nil
	in.unread = in.buffer()[:copy(in.buffer(), large[:n])]
	PutBuffer(large)
}

// read reads, and calls the handlers of what comes, until the connection ends or another goroutine has taken over reading.
func (c *clientConn) read() {
	waiting := func() int { return c.socket.ask(waitingBytes) }
	for {
		c.rules.streamsText = c.streamsText && !c.calls.mayCome()
		ev, broken, err := c.intake.next(&c.rules, c.in, waiting)
		if err != nil {
			c.endReading(err)
			c.stopReading()
			return
		}
		if broken == nil && c.deflation != nil {
			broken = c.unpack(&ev)
		}
		if broken != nil {
			c.intake.rc.end()
			c.fail(c.intake.at, broken.code, broken.text)
			c.closeIfHandled()
			continue
		}
		if !c.take(&ev) {
			return
		}
	}
}

// unpack makes a message what it was before it was compressed, if it was. A codec that panics fails as a handler does.
func (c *clientConn) unpack(ev *event) (broken *protocolError) {
	defer func() {
		if r := recover(); r != nil {
			c.logPanic(r)
			broken = errHandlerPanicked
		}
	}()
	return c.deflation.unpack(ev)
}

// take does what an event wants. It returns false if another goroutine has taken over reading meanwhile.
func (c *clientConn) take(ev *event) (reads bool) {
	switch ev.kind {
	case eventPing:
		c.takePing(ev.payload)
	case eventPong:
		c.socket.pongReceived(ev.payload)
	case eventMessage:
		f := &Frame{payload: ev.payload, head: ev.head, complete: true}
		return c.takeAnswer(f) || c.deliver(f)
	case eventControl:
		return c.deliver(&Frame{payload: append([]byte(nil), ev.payload...), head: ev.head, complete: true})
	case eventPart, eventLastPart:
		c.takePart(ev)
	case eventClose:
		c.receiveClose(ev.code, string(ev.payload))
		c.closeIfHandled()
	}
	return true
}

// endReading ends the connection because of an error of reading: the end of the stream, the deadline of the closing handshake, or what
// the network says.
func (c *clientConn) endReading(err error) {
	if err == io.EOF {
		c.awaitCloseSent()
	}
	c.mu.Lock()
	answered, writeErr := c.answered, c.writeErr
	c.mu.Unlock()
	switch {
	case answered: // both Close frames have gone their way, and the reason is known
		c.drop(nil)
		return
	case writeErr != nil:
		c.drop(writeErr)
		return
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		err = errSilent
	} else {
		err = closedBy(err)
	}
	c.drop(err)
}

// stopReading is the end of reading.
func (c *clientConn) stopReading() {
	c.intake = intake{} // HandleQuit may take long
	c.mu.Lock()
	c.reading = false
	c.mu.Unlock()
	c.quitIfOver()
}

// awaitCloseSent waits until the Close frame has been sent, if it is going to be: a server that has ended its side of TCP behind its
// last frame may still read.
func (c *clientConn) awaitCloseSent() {
	c.mu.Lock()
	awaits, by := c.closing && c.writeErr == nil, c.endBy
	c.mu.Unlock()
	if !awaits {
		return
	}
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case <-c.out.closeDone:
	case <-c.down:
	case <-timer.C:
	}
}

// takePing answers a Ping: behind what handlers send about the messages that came before it, if there is such a message and not too much
// waits already.
func (c *clientConn) takePing(payload []byte) {
	c.mu.Lock()
	isAlone := !c.handling || c.incoming != nil && c.incoming.begun
	if c.ended || isAlone || c.backlogCost >= maxBacklog {
		c.answerPingsLocked(c.intake.at.Add(maxPongDelay))
		c.mu.Unlock()
		c.answerPing(payload)
		return
	}
	c.pongsDue = append(c.pongsDue, c.intake.at.Add(maxPongDelay))
	c.addLocked(clientMessage{Frame: &Frame{payload: append([]byte(nil), payload...), head: finished(OpcodePing, len(payload))}})
	isFirst := len(c.pongsDue) == 1
	c.mu.Unlock()
	if isFirst {
		c.look() // it is the next moment
	}
}

// answerDuePings answers the queued Pings that are due. It returns when the next one is, and zero if there is none.
func (c *clientConn) answerDuePings(at time.Time) (next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answerPingsLocked(at)
	if len(c.pongsDue) == 0 {
		return time.Time{}
	}
	return c.pongsDue[0]
}
