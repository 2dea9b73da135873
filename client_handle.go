package websocket

import (
	"runtime/debug"
	"slices"
	"time"
)

// handlerTime is how long the goroutine that reads may be kept by handlers. After that, and after twice the time at the latest, another
// one takes over reading.
const handlerTime = 4 * time.Millisecond

// handlerGone is the reason of the Close frame if a handler has ended its goroutine, with runtime.Goexit.
const handlerGone = "handler ended its goroutine"

// clientMessage is what waits for its handler: a frame, or the beginning of a message that is given to HandleReader while it comes.
type clientMessage struct {
	*Frame
	stream *clientStream // nil for a whole message
}

func (m clientMessage) cost() int { return len(m.payload) + messageCost }

// deliver has a frame handled: by this goroutine, unless another one is at it; then behind those that wait for that one. It waits while
// too many wait. It returns false if another goroutine has taken over reading meanwhile.
func (c *clientConn) deliver(f *Frame) (reads bool) {
	c.mu.Lock()
	c.awaitRoomLocked()
	switch {
	case c.ended || c.closing:
		c.mu.Unlock()
		return true
	case c.backlogCost >= maxBacklog && c.starvesLocked():
		c.mu.Unlock()
		c.fail(c.intake.at, StatusForbidden, "too many control frames in a message")
		return true
	case c.handling:
		c.addLocked(clientMessage{Frame: f})
		c.mu.Unlock()
		return true
	}
	c.handling, c.inline = true, true
	c.watchLocked()
	c.mu.Unlock()
	c.call(clientMessage{Frame: f})
	return c.endInline()
}

// awaitRoomLocked waits while the backlog is full. Meanwhile the server's answer to a Ping cannot be read, and is not awaited.
func (c *clientConn) awaitRoomLocked() {
	if !c.isFullLocked() {
		return
	}
	c.socket.setReading(false)
	timer := time.AfterFunc(callPatience, c.failCalls)
	for c.isFullLocked() {
		c.changed.Wait()
	}
	timer.Stop()
	c.socket.setReading(true)
	c.intake.at = time.Now()
}

func (c *clientConn) isFullLocked() bool {
	return !c.ended && !c.closing && c.backlogCost >= c.backlogLimitLocked() && !c.starvesLocked()
}

// addLocked puts something into the backlog. Somebody handles.
func (c *clientConn) addLocked(m clientMessage) {
	c.backlog = append(c.backlog, m)
	c.backlogCost += m.cost()
}

// endInline ends the call of a handler by the goroutine that reads. If that has lost reading, it goes on with what waits, and returns
// false.
func (c *clientConn) endInline() (reads bool) {
	c.mu.Lock()
	if !c.inline {
		c.mu.Unlock()
		c.work()
		return false
	}
	c.handling, c.inline = false, false
	closing := c.closing
	c.mu.Unlock()
	if closing {
		c.closeIfHandled()
	}
	return true
}

// watchLocked sees to it that reading is taken over if the handlers that are called now take long. That costs a timer each handlerTime,
// not each call.
func (c *clientConn) watchLocked() {
	c.current = c.intake.reads
	switch {
	case c.watched:
		return
	case c.watch == nil:
		c.watch = time.AfterFunc(handlerTime, c.watchHandlers)
	default:
		c.watch.Reset(handlerTime)
	}
	c.watched, c.seen = true, c.current
}

// watchHandlers has another goroutine take over reading, if handlers of what one read has brought were called at the last look too.
func (c *clientConn) watchHandlers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.seen != c.current:
		c.seen = c.current
		c.watch.Reset(handlerTime)
		return
	case c.inline:
		c.stepAsideLocked()
	}
	c.watched = false
}

// stepAside has another goroutine take over reading, if a handler is called by the one that reads: it is going to wait.
func (c *clientConn) stepAside() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stepAsideLocked()
}

func (c *clientConn) stepAsideLocked() {
	if c.inline {
		c.inline = false
		go c.read()
	}
}

// greet tells that the connection is open, which is the first handler, and handles what waits behind it.
func (c *clientConn) greet() {
	if !c.client.awaitTold(c.toldOpened) {
		c.failHandler(handlerGone)
	}
	c.work()
}

// work handles what waits, until nothing does.
func (c *clientConn) work() {
	for m, ok := c.nextMessage(); ok; m, ok = c.nextMessage() {
		c.call(m)
	}
	c.closeIfHandled()
	c.quitIfOver()
}

// nextMessage takes the next message out of the backlog, and answers the Pings in front of it. If there is none, nobody handles from now
// on. What the server sent before its Close frame, before it broke a rule or was lost, is still handled, unless the program itself has
// ended the connection.
func (c *clientConn) nextMessage() (m clientMessage, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended && c.reason == ErrConnClosed {
		c.clearBacklogLocked()
	}
	for len(c.backlog) > 0 {
		m, c.backlog[0] = c.backlog[0], clientMessage{} // it is not kept by those behind it
		c.backlog = c.backlog[1:]
		if m.Opcode() == OpcodePing {
			c.answerQueuedPingLocked(m)
			continue
		}
		c.backlogCost -= m.cost()
		c.changed.Broadcast()
		if m.stream != nil {
			m.stream.begun = true
		}
		return m, true
	}
	c.handling, c.backlog = false, nil
	return clientMessage{}, false
}

// clearBacklogLocked drops what waits, but answers the Pings.
func (c *clientConn) clearBacklogLocked() {
	c.answerPingsLocked(time.Now().Add(maxPongDelay))
	for _, m := range c.backlog {
		c.backlogCost -= m.cost()
		if m.stream != nil {
			m.stream.discardLocked()
		}
	}
	c.backlog = nil
	c.changed.Broadcast()
}

// answerPingsLocked answers the queued Pings that are due by a moment, in front of the messages among which they wait.
func (c *clientConn) answerPingsLocked(by time.Time) {
	if len(c.pongsDue) == 0 || c.pongsDue[0].After(by) {
		return
	}
	c.backlog = slices.DeleteFunc(c.backlog, func(m clientMessage) bool {
		isDue := m.Opcode() == OpcodePing && !c.pongsDue[0].After(by)
		if isDue {
			c.answerQueuedPingLocked(m)
		}
		return isDue
	})
}

// answerQueuedPingLocked answers the first queued Ping, which the caller takes out of the backlog. If too many Pongs wait for the
// socket, its Pong takes the place of all of them (RFC 6455, section 5.5.3).
func (c *clientConn) answerQueuedPingLocked(m clientMessage) {
	c.pongsDue = c.pongsDue[1:]
	c.backlogCost -= m.cost()
	if !c.out.addPong(m.payload, false) {
		c.out.addPong(m.payload, true)
	}
	c.kick()
	c.changed.Broadcast()
}

// call calls the handler of a message, if there is one. If that fails, the connection ends, and nothing else is handled.
func (c *clientConn) call(m clientMessage) {
	hasReturned := false
	var err error
	defer func() {
		switch r := recover(); {
		case r != nil:
			c.logPanic(r)
			c.failHandler(errHandlerPanicked.text)
		case !hasReturned: // but ended its goroutine with runtime.Goexit
			c.failHandler(handlerGone)
			c.stepAside()
			go c.work()
		case err != nil:
			c.failHandler(err.Error())
		}
	}()
	err = c.handle(m)
	hasReturned = true
}

// handle hands a message to its handler.
func (c *clientConn) handle(m clientMessage) error {
	handler := c.handleControl
	switch m.Opcode() {
	case OpcodeText:
		handler = c.handleText
	case OpcodeBin:
		handler = c.handleBin
	}
	switch {
	case handler != nil:
		return handler(c.client, m.Frame)
	case c.handleReader != nil && !m.Opcode().isControl():
		return c.handleStream(m)
	}
	return nil
}

// failHandler ends the connection because a handler has failed.
func (c *clientConn) failHandler(text string) {
	c.fail(time.Now(), StatusBadRequest, text)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clearBacklogLocked()
}

// quitIfOver tells the program that the connection has ended, once nobody reads or handles any more. It is called by whoever stops.
func (c *clientConn) quitIfOver() {
	c.mu.Lock()
	isOver := !c.reading && !c.handling && !c.over
	c.over = c.over || isOver
	c.mu.Unlock()
	if !isOver {
		return
	}
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
