package websocket

import (
	"errors"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"time"
)

var errHandlerPanicked = &protocolError{"handler panicked", StatusBadRequest}

// read reads until the connection ends.
func (c *clientConn) read() {
	var rc receiver
	for {
		if _, err := c.in.Peek(1); err != nil {
			c.endReading(err)
			return
		}
		b, _ := c.in.Peek(c.in.Buffered())
		c.parse(&rc, b)
		c.in.Discard(len(b))
	}
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

// parse handles what b contains. It may wait for room, in the backlog or in the outbox.
func (c *clientConn) parse(rc *receiver, b []byte) {
	for len(b) > 0 {
		ev, n, err := rc.next(&c.rules, b)
		b = b[n:]
		if err != nil {
			c.fail(err.code, err.text)
			return
		}
		switch ev.kind {
		case eventPing:
			if !c.queuePing(ev.payload) {
				c.answerPing(ev.payload)
			}
		case eventPong:
			c.socket.pongReceived(ev.payload)
		case eventMessage:
			if broken := c.unpack(&ev); broken != nil {
				c.fail(broken.code, broken.text)
				return
			}
			if f := (&Frame{payload: ev.payload, head: ev.head, complete: true}); !c.takeAnswer(f) {
				c.enqueue(f)
			}
		case eventControl:
			c.enqueue(&Frame{payload: slices.Clone(ev.payload), head: ev.head, complete: true})
		case eventClose:
			c.receiveClose(ev.code, string(ev.payload))
		}
	}
}

// enqueue adds a frame to the backlog, and waits while that is full. Meanwhile the server's answer to a Ping cannot be read, and is not
// awaited. Once the closing handshake has begun, the frame is dropped.
func (c *clientConn) enqueue(f *Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isFullLocked() {
		c.socket.setReading(false)
		timer := time.AfterFunc(callPatience, c.failCalls)
		for c.isFullLocked() {
			c.changed.Wait()
		}
		timer.Stop()
		c.socket.setReading(true)
	}
	if !c.ended && !c.closing {
		c.backlog = append(c.backlog, f)
		c.backlogCost += len(f.payload) + messageCost
		c.changed.Broadcast()
	}
}

// queuePing puts a Ping into the backlog, so that it is answered behind what handlers send about the messages that came before it. It
// returns false if no such message is left, or too much waits already: then the Ping is to be answered now.
func (c *clientConn) queuePing(payload []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || !c.handling && len(c.backlog) == 0 || c.backlogCost >= maxBacklog {
		c.answerPingsLocked(time.Now().Add(maxPongDelay))
		return false
	}
	if c.pongsDue = append(c.pongsDue, time.Now().Add(maxPongDelay)); len(c.pongsDue) == 1 {
		notify(c.out.wake) // control has a new moment to wait for
	}
	c.backlog = append(c.backlog, &Frame{payload: slices.Clone(payload), head: finished(OpcodePing, len(payload))})
	c.backlogCost += len(payload) + messageCost
	return true
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

// answerPingsLocked answers the queued Pings that are due by a moment, in front of the messages among which they wait.
func (c *clientConn) answerPingsLocked(by time.Time) {
	if len(c.pongsDue) == 0 || c.pongsDue[0].After(by) {
		return
	}
	c.backlog = slices.DeleteFunc(c.backlog, func(f *Frame) bool {
		isDue := f.Opcode() == OpcodePing && !c.pongsDue[0].After(by)
		if isDue {
			c.answerQueuedPingLocked(f)
		}
		return isDue
	})
}

// answerQueuedPingLocked answers the first queued Ping, which the caller takes out of the backlog. If too many Pongs wait for the
// socket, its Pong takes the place of all of them (RFC 6455, section 5.5.3).
func (c *clientConn) answerQueuedPingLocked(f *Frame) {
	c.pongsDue = c.pongsDue[1:]
	c.backlogCost -= len(f.payload) + messageCost
	if !c.out.addPong(f.payload, false) {
		c.out.addPong(f.payload, true)
	}
	notify(c.out.wake)
	c.changed.Broadcast()
}

func (c *clientConn) isFullLocked() bool {
	return !c.ended && !c.closing && c.backlogCost >= c.backlogLimitLocked()
}

// handle calls handlers until the connection has ended, and then HandleQuit.
func (c *clientConn) handle() {
	defer c.callQuit()
	c.tellOpened()
	for {
		f := c.nextFrame()
		if f == nil {
			return
		}
		if err := c.call(f); err != nil {
			c.fail(StatusBadRequest, err.Error())
			return
		}
	}
}

// nextFrame waits for the next frame and takes it out of the backlog; it answers the Pings in front of it. It returns nil at the end.
// What the server sent before its Close frame, or before it broke a rule, is still handled, unless the program itself has ended the
// connection. When all is handled, the Close frame is sent if it is due.
func (c *clientConn) nextFrame() (f *Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handling = false
	for asked := false; c.isPingNextLocked() || len(c.backlog) == 0 && !c.ended; {
		if len(c.backlog) > 0 {
			f, c.backlog = c.backlog[0], c.backlog[1:]
			c.answerQueuedPingLocked(f)
			continue
		}
		if c.closing && !asked {
			asked = true
			c.mu.Unlock()
			c.sendCloseBehindMessage()
			c.mu.Lock()
			continue
		}
		c.changed.Wait()
	}
	if len(c.backlog) == 0 || c.ended && c.reason == ErrConnClosed {
		return nil
	}
	f, c.backlog = c.backlog[0], c.backlog[1:]
	c.backlogCost -= len(f.payload) + messageCost
	c.handling = true
	c.changed.Broadcast()
	return f
}

// isPingNextLocked reports whether a Ping is at the front of the backlog.
func (c *clientConn) isPingNextLocked() bool {
	return len(c.backlog) > 0 && c.backlog[0].Opcode() == OpcodePing
}

// call calls the handler for a frame, if there is one. A panic is logged, and is an error.
func (c *clientConn) call(f *Frame) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.logPanic(r)
			err = errors.New(errHandlerPanicked.text)
		}
	}()
	handler := c.handleControl
	switch f.Opcode() {
	case OpcodeText:
		handler = c.handleText
	case OpcodeBin:
		handler = c.handleBin
	}
	if handler == nil {
		return nil
	}
	return handler(c.client, f)
}

// unpack makes a message what it was before it was compressed, if it was. A codec that panics fails as a handler does.
func (c *clientConn) unpack(ev *event) (broken *protocolError) {
	if c.deflation == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			c.logPanic(r)
			broken = errHandlerPanicked
		}
	}()
	return c.deflation.unpack(ev)
}

// callQuit ends the connection, unless that has been done, waits for its end, and tells the program.
func (c *clientConn) callQuit() {
	c.fail(StatusBadRequest, "handler ended its goroutine") // with runtime.Goexit; otherwise the end has begun before
	c.sendCloseBehindMessage()
	<-c.down
	defer c.goOn()
	if c.handleQuit == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			c.logPanic(r)
		}
	}()
	c.handleQuit()
}

func (c *clientConn) logPanic(reason any) {
	c.log.Error("websocket: client handler panicked", "panic", reason, "stack", string(debug.Stack()))
}
