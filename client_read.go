package websocket

import (
	"errors"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"time"
)

// read reads until the connection ends.
func (c *clientConn) read() {
	var ep receiver
	for {
		if _, err := c.in.Peek(1); err != nil {
			c.endReading(err)
			return
		}
		b, _ := c.in.Peek(c.in.Buffered())
		c.parse(&ep, b)
		c.in.Discard(len(b))
	}
}

func (c *clientConn) endReading(err error) {
	if err == io.EOF {
		c.awaitCloseSent()
	}
	c.mu.Lock()
	answered, broken := c.answered, c.writeErr
	c.mu.Unlock()
	switch {
	case answered: // it was time
		c.drop(nil)
		return
	case broken != nil:
		c.drop(broken)
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

// awaitCloseSent waits for the Close frame to go out, if it is going to: a server that has ended its side of TCP behind its last
// frame may still read.
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

// parse follows the events in b.
func (c *clientConn) parse(ep *receiver, b []byte) {
	for len(b) > 0 {
		ev, n, err := ep.next(&c.protocol, b)
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
			c.enqueue(&Frame{payload: ev.payload, head: ev.head, complete: true})
		case eventControl:
			c.enqueue(&Frame{payload: slices.Clone(ev.payload), head: ev.head, complete: true})
		case eventClose:
			c.receiveClose(ev.code, string(ev.payload))
		}
	}
}

// enqueue adds a frame for the handlers, and waits while they have enough. Meanwhile an answer to a Ping cannot be read.
func (c *clientConn) enqueue(f *Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isFullLocked() {
		c.socket.setReading(false)
		for c.isFullLocked() {
			c.changed.Wait()
		}
		c.socket.setReading(true)
	}
	if !c.ended && !c.closing {
		c.backlog = append(c.backlog, f)
		c.backlogCost += len(f.payload) + messageCost
		c.changed.Broadcast()
	}
}

// queuePing has a Ping answered behind the messages that came before it, where some have not been handled: what came first is answered
// first. It returns false where there are none, or too many.
func (c *clientConn) queuePing(payload []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || !c.handling && len(c.backlog) == 0 || c.backlogCost >= maxBacklog {
		c.answerPingsLocked(time.Now().Add(maxPongDelay))
		return false
	}
	if c.pongsDue = append(c.pongsDue, time.Now().Add(maxPongDelay)); len(c.pongsDue) == 1 {
		notify(c.out.wake) // for the clock
	}
	c.backlog = append(c.backlog, &Frame{payload: slices.Clone(payload), head: finished(OpcodePing, len(payload))})
	c.backlogCost += len(payload) + messageCost
	return true
}

// answerDuePings has Pings answered that have waited for handlers for long enough. It returns when it is to be called again, if Pings wait.
func (c *clientConn) answerDuePings(at time.Time) (again time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answerPingsLocked(at)
	if len(c.pongsDue) == 0 {
		return time.Time{}
	}
	return c.pongsDue[0]
}

// answerPingsLocked answers the Pings that wait for no handler after a moment, in front of the messages among which they are.
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

// answerQueuedPingLocked answers a Ping whose turn has come. Where too many Pongs wait for the socket, it is the latest only.
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
	return !c.ended && !c.closing && c.backlogCost >= maxBacklog
}

// handle calls handlers until the connection has ended, then HandleQuit.
func (c *clientConn) handle() {
	defer c.callQuit()
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

// nextFrame waits for the next frame to be handled, nil at the end. What the server sent before its Close frame, or before it broke
// a rule, is handled; what the program does not want any more is not. The Close frame goes out when all is handled.
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

// isPingNextLocked reports whether what comes next is the answer to a Ping.
func (c *clientConn) isPingNextLocked() bool {
	return len(c.backlog) > 0 && c.backlog[0].Opcode() == OpcodePing
}

// call calls the handler of a frame. A panic is an error.
func (c *clientConn) call(f *Frame) (err error) {
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
	defer func() {
		if r := recover(); r != nil {
			c.logPanic(r)
			err = errors.New("handler panicked")
		}
	}()
	return handler(c.client, f)
}

// quit tells the program that the connection has ended.
func (c *clientConn) callQuit() {
	c.fail(StatusBadRequest, "handler ended its goroutine") // else it has been ended before
	c.sendCloseBehindMessage()
	<-c.down
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
