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
			c.readFailed(err)
			return
		}
		b, _ := c.in.Peek(c.in.Buffered())
		c.parse(&ep, b)
		c.in.Discard(len(b))
	}
}

func (c *clientConn) readFailed(err error) {
	if err == io.EOF {
		c.awaitFarewell()
	}
	c.mu.Lock()
	answered, broken := c.answered, c.broken
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

// awaitFarewell waits for the Close frame to go out, if it is going to: a server that has ended its side of TCP behind its last
// frame may still read.
func (c *clientConn) awaitFarewell() {
	c.mu.Lock()
	awaits, by := c.closing && c.broken == nil, c.closeBy
	c.mu.Unlock()
	if !awaits {
		return
	}
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case <-c.out.said:
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
			c.breach(err.code, err.text)
			return
		}
		switch ev.kind {
		case eventPing:
			if !c.queuePing(ev.payload) {
				c.answerPing(ev.payload)
			}
		case eventPong:
			c.socket.ponged(ev.payload)
		case eventMessage:
			c.enqueue(&Frame{payload: ev.payload, head: ev.head, complete: true})
		case eventControl:
			c.enqueue(&Frame{payload: slices.Clone(ev.payload), head: ev.head, complete: true})
		case eventClose:
			c.closed(ev.code, string(ev.payload))
		}
	}
}

// enqueue adds a frame for the handlers, and waits while they have enough. Meanwhile an answer to a Ping cannot be read.
func (c *clientConn) enqueue(f *Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isFullLocked() {
		c.socket.listen(false)
		for c.isFullLocked() {
			c.changed.Wait()
		}
		c.socket.listen(true)
	}
	if !c.ended && !c.closing {
		c.frames = append(c.frames, f)
		c.waiting += len(f.payload) + messageCost
		c.changed.Broadcast()
	}
}

// queuePing has a Ping answered behind the messages that came before it, where some have not been handled: what came first is answered
// first. It returns false where there are none, or too many.
func (c *clientConn) queuePing(payload []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || !c.handling && len(c.frames) == 0 || c.waiting >= maxBacklog {
		c.overtakeLocked(time.Now().Add(maxTurn))
		return false
	}
	if c.turns = append(c.turns, time.Now().Add(maxTurn)); len(c.turns) == 1 {
		notify(c.out.wake) // for the clock
	}
	c.frames = append(c.frames, &Frame{payload: slices.Clone(payload), head: finished(OpcodePing, len(payload))})
	c.waiting += len(payload) + messageCost
	return true
}

// turnsDue has Pings answered that have waited for handlers for long enough. It returns when it is to be called again, if Pings wait.
func (c *clientConn) turnsDue(at time.Time) (again time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overtakeLocked(at)
	if len(c.turns) == 0 {
		return time.Time{}
	}
	return c.turns[0]
}

// overtakeLocked answers the Pings that wait for no handler after a moment, in front of the messages among which they are.
func (c *clientConn) overtakeLocked(by time.Time) {
	if len(c.turns) == 0 || c.turns[0].After(by) {
		return
	}
	c.frames = slices.DeleteFunc(c.frames, func(f *Frame) bool {
		isDue := f.Opcode() == OpcodePing && !c.turns[0].After(by)
		if isDue {
			c.answerTurnLocked(f)
		}
		return isDue
	})
}

// answerTurnLocked answers a Ping whose turn has come. Where too many Pongs wait for the socket, it is the latest only.
func (c *clientConn) answerTurnLocked(f *Frame) {
	c.turns = c.turns[1:]
	c.waiting -= len(f.payload) + messageCost
	if !c.out.addPong(f.payload, false) {
		c.out.addPong(f.payload, true)
	}
	notify(c.out.wake)
	c.changed.Broadcast()
}

func (c *clientConn) isFullLocked() bool { return !c.ended && !c.closing && c.waiting >= maxBacklog }

// handle calls handlers until the connection has ended, then HandleQuit.
func (c *clientConn) handle() {
	defer c.quit()
	for {
		f := c.nextFrame()
		if f == nil {
			return
		}
		if err := c.call(f); err != nil {
			c.breach(StatusBadRequest, err.Error())
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
	for asked := false; c.atPingLocked() || len(c.frames) == 0 && !c.ended; {
		if len(c.frames) > 0 {
			f, c.frames = c.frames[0], c.frames[1:]
			c.answerTurnLocked(f)
			continue
		}
		if c.closing && !asked {
			asked = true
			c.mu.Unlock()
			c.sayClose()
			c.mu.Lock()
			continue
		}
		c.changed.Wait()
	}
	if len(c.frames) == 0 || c.ended && c.reason == ErrConnClosed {
		return nil
	}
	f, c.frames = c.frames[0], c.frames[1:]
	c.waiting -= len(f.payload) + messageCost
	c.handling = true
	c.changed.Broadcast()
	return f
}

// atPingLocked reports whether what comes next is the answer to a Ping.
func (c *clientConn) atPingLocked() bool {
	return len(c.frames) > 0 && c.frames[0].Opcode() == OpcodePing
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
func (c *clientConn) quit() {
	c.breach(StatusBadRequest, "handler ended its goroutine") // else it has been ended before
	c.sayClose()
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
