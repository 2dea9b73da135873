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
func (l *link) read() {
	var ep receiver
	for {
		if _, err := l.in.Peek(1); err != nil {
			l.readFailed(err)
			return
		}
		b, _ := l.in.Peek(l.in.Buffered())
		l.parse(&ep, b)
		l.in.Discard(len(b))
	}
}

func (l *link) readFailed(err error) {
	if err == io.EOF {
		l.awaitFarewell()
	}
	l.mu.Lock()
	answered, broken := l.answered, l.broken
	l.mu.Unlock()
	switch {
	case answered: // it was time
		l.drop(nil)
		return
	case broken != nil:
		l.drop(broken)
		return
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		err = errSilent
	} else {
		err = closedBy(err)
	}
	l.drop(err)
}

// awaitFarewell waits for the Close frame to go out, if it is going to: a server that has ended its side of TCP behind its last
// frame may still read.
func (l *link) awaitFarewell() {
	l.mu.Lock()
	awaits, by := l.closing && l.broken == nil, l.closeBy
	l.mu.Unlock()
	if !awaits {
		return
	}
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case <-l.out.said:
	case <-l.down:
	case <-timer.C:
	}
}

// parse follows the events in b.
func (l *link) parse(ep *receiver, b []byte) {
	for len(b) > 0 {
		ev, n, err := ep.next(&l.protocol, b)
		b = b[n:]
		if err != nil {
			l.breach(err.code, err.text)
			return
		}
		switch ev.kind {
		case eventPing:
			if !l.queuePing(ev.payload) {
				l.answerPing(ev.payload)
			}
		case eventPong:
			l.socket.ponged(ev.payload)
		case eventMessage:
			l.enqueue(&Frame{payload: ev.payload, head: ev.head, complete: true})
		case eventControl:
			l.enqueue(&Frame{payload: slices.Clone(ev.payload), head: ev.head, complete: true})
		case eventClose:
			l.closed(ev.code, string(ev.payload))
		}
	}
}

// enqueue adds a frame for the handlers, and waits while they have enough. Meanwhile an answer to a Ping cannot be read.
func (l *link) enqueue(f *Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isFullLocked() {
		l.socket.listen(false)
		for l.isFullLocked() {
			l.changed.Wait()
		}
		l.socket.listen(true)
	}
	if !l.ended && !l.closing {
		l.frames = append(l.frames, f)
		l.waiting += len(f.payload) + messageCost
		l.changed.Broadcast()
	}
}

// queuePing has a Ping answered behind the messages that came before it, where some have not been handled: what came first is answered
// first. It returns false where there are none, or too many.
func (l *link) queuePing(payload []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || !l.handling && len(l.frames) == 0 || l.waiting >= maxBacklog {
		l.overtakeLocked(time.Now().Add(maxTurn))
		return false
	}
	if l.turns = append(l.turns, time.Now().Add(maxTurn)); len(l.turns) == 1 {
		notify(l.out.wake) // for the clock
	}
	l.frames = append(l.frames, &Frame{payload: slices.Clone(payload), head: finished(OpcodePing, len(payload))})
	l.waiting += len(payload) + messageCost
	return true
}

// turnsDue has Pings answered that have waited for handlers for long enough. It returns when it is to be called again, if Pings wait.
func (l *link) turnsDue(at time.Time) (again time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.overtakeLocked(at)
	if len(l.turns) == 0 {
		return time.Time{}
	}
	return l.turns[0]
}

// overtakeLocked answers the Pings that wait for no handler after a moment, in front of the messages among which they are.
func (l *link) overtakeLocked(by time.Time) {
	if len(l.turns) == 0 || l.turns[0].After(by) {
		return
	}
	l.frames = slices.DeleteFunc(l.frames, func(f *Frame) bool {
		isDue := f.Opcode() == OpcodePing && !l.turns[0].After(by)
		if isDue {
			l.answerTurnLocked(f)
		}
		return isDue
	})
}

// answerTurnLocked answers a Ping whose turn has come. Where too many Pongs wait for the socket, it is the latest only.
func (l *link) answerTurnLocked(f *Frame) {
	l.turns = l.turns[1:]
	l.waiting -= len(f.payload) + messageCost
	if !l.out.addPong(f.payload, false) {
		l.out.addPong(f.payload, true)
	}
	notify(l.out.wake)
	l.changed.Broadcast()
}

func (l *link) isFullLocked() bool { return !l.ended && !l.closing && l.waiting >= maxBacklog }

// handle calls handlers until the connection has ended, then HandleQuit.
func (l *link) handle() {
	defer l.quit()
	for {
		f := l.nextFrame()
		if f == nil {
			return
		}
		if err := l.call(f); err != nil {
			l.breach(StatusBadRequest, err.Error())
			return
		}
	}
}

// nextFrame waits for the next frame to be handled, nil at the end. What the server sent before its Close frame, or before it broke
// a rule, is handled; what the program does not want any more is not. The Close frame goes out when all is handled.
func (l *link) nextFrame() (f *Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handling = false
	for asked := false; l.atPingLocked() || len(l.frames) == 0 && !l.ended; {
		if len(l.frames) > 0 {
			f, l.frames = l.frames[0], l.frames[1:]
			l.answerTurnLocked(f)
			continue
		}
		if l.closing && !asked {
			asked = true
			l.mu.Unlock()
			l.sayClose()
			l.mu.Lock()
			continue
		}
		l.changed.Wait()
	}
	if len(l.frames) == 0 || l.ended && l.reason == ErrConnClosed {
		return nil
	}
	f, l.frames = l.frames[0], l.frames[1:]
	l.waiting -= len(f.payload) + messageCost
	l.handling = true
	l.changed.Broadcast()
	return f
}

// atPingLocked reports whether what comes next is the answer to a Ping.
func (l *link) atPingLocked() bool { return len(l.frames) > 0 && l.frames[0].Opcode() == OpcodePing }

// call calls the handler of a frame. A panic is an error.
func (l *link) call(f *Frame) (err error) {
	handler := l.handleControl
	switch f.Opcode() {
	case OpcodeText:
		handler = l.handleText
	case OpcodeBin:
		handler = l.handleBin
	}
	if handler == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			l.logPanic(r)
			err = errors.New("handler panicked")
		}
	}()
	return handler(l.client, f)
}

// quit tells the program that the connection has ended.
func (l *link) quit() {
	l.breach(StatusBadRequest, "handler ended its goroutine") // else it has been ended before
	l.sayClose()
	<-l.down
	if l.handleQuit == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			l.logPanic(r)
		}
	}()
	l.handleQuit()
}

func (l *link) logPanic(reason any) {
	l.log.Error("websocket: client handler panicked", "panic", reason, "stack", string(debug.Stack()))
}
