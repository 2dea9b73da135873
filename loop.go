package websocket

import (
	"cmp"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// readSize is the read buffer of a loop in bytes. A read that fills it is followed by another one after the other
// connections had theirs, but see readRound.
const readSize = 64 << 10

// readRound is how many bytes of long messages one round reads, and of their last read what is beyond it. Within that a message
// that has begun is read on, while it is in the processor's cache, and not in turn with others; beyond it long ones wait for the
// next round, so that others wait for no more.
const readRound = 1 << 20

// loop serves a part of a server's connections: it reads, parses, calls handlers or has workers do it, closes. One goroutine
// at a time owns it, as its lease says.
type loop struct {
	// Immutable, or with locks of its own.
	*engine
	poll       *poller
	offloading offloading
	lease      atomic.Pointer[lease]

	// What other goroutines tell the loop.
	mu        sync.Mutex
	attention []*conn     // connections to look at; guarded by mu
	ended     bool        // guarded by mu
	pending   atomic.Bool // attention is not empty
	asleep    atomic.Bool // waits in the poller, or is about to

	// Everything following is owned by the goroutine that has the lease.
	now       int64 // moment of the current round
	todo      []*conn
	served    int     // how many of todo have been served
	ready     []*conn // to be served in the next round whatever happens: there is more to read, mostly
	deferred  []*conn // likewise, and before those: long messages that this round was too short for
	left      int     // how much of readRound is left
	deadlines deadlines
	acceptor  *acceptor // nil but for one loop
	ending    bool
	yields    bool // workers were started in this round
	buf       []byte
	got       reading
}

// reading is what one read amounts to.
type reading struct {
	inbox  *backlog
	pongs  []byte // a Pong for each Ping that came before the messages
	ponged bool   // a Pong came that says which Ping it answers:
	number byte
	end    endReason
	ends   bool
}

func newLoop(e *engine) (*loop, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{engine: e, poll: poll, buf: make([]byte, readSize)}
	l.got.inbox = newBacklog()
	newLease(l)
	return l, nil
}

// run serves the loop's connections until the server has stopped, or until the lease has been lost to another goroutine.
func (l *loop) run(t *lease) {
	for {
		c := l.next()
		if c == nil {
			l.finish()
			return
		}
		if !l.serve(t, c) {
			return
		}
	}
}

// attend has the loop look at a connection. It may be called from any goroutine.
func (l *loop) attend(c *conn) {
	l.mu.Lock()
	if !l.ended && !c.attended {
		c.attended = true
		l.attention = append(l.attention, c)
		l.pending.Store(true)
	}
	l.mu.Unlock()
	l.wake()
}

// wake ends the loop's wait.
func (l *loop) wake() {
	if l.asleep.CompareAndSwap(true, false) {
		l.poll.wake()
	}
}

// next returns the connection to serve next, nil when the server has stopped and none is left.
func (l *loop) next() *conn {
	for l.served == len(l.todo) {
		if l.isDone() {
			return nil
		}
		l.collect()
	}
	l.served++
	return l.todo[l.served-1]
}

// collect waits until there is something to do, and starts a round with it.
func (l *loop) collect() {
	clear(l.todo)
	l.todo, l.served, l.left = append(append(l.todo[:0], l.deferred...), l.ready...), 0, readRound
	for _, c := range l.todo {
		c.again = false
	}
	clear(l.deferred)
	clear(l.ready)
	l.deferred, l.ready = l.deferred[:0], l.ready[:0]
	if l.yields { // workers would wait until nothing is left to read, where this is the only processor
		l.yields = false
		runtime.Gosched()
	}
	l.takeAttention()
	n, err := l.poll.wait(l.waitUntil())
	l.asleep.Store(false)
	if err != nil {
		l.report(slog.LevelError, "websocket: poller failed", "error", err)
		time.Sleep(monitorTick) // not a spin, whatever is wrong
	}
	l.now = now()
	for i := range n {
		l.follow(l.poll.at(i))
	}
	l.takeDue()
	if l.acceptor != nil {
		l.acceptor.accept(l)
	}
	if l.stopping.Load() && !l.ending {
		l.endAll()
	}
}

// waitUntil returns the moment until which the loop may wait for events: the past where there is something to do.
func (l *loop) waitUntil() (until int64) {
	if len(l.todo) > 0 {
		return 0
	}
	l.asleep.Store(true)
	if l.pending.Load() || l.stopping.Load() && !l.ending || l.isDone() {
		return 0
	}
	until = l.deadlines.first()
	if l.acceptor != nil {
		until = min(until, l.acceptor.due())
	}
	return until
}

// takeAttention adds what other goroutines want looked at.
func (l *loop) takeAttention() {
	if !l.pending.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.attention {
		c.attended = false
		c.tend = true
	}
	l.todo = append(l.todo, l.attention...)
	clear(l.attention)
	l.attention = l.attention[:0]
	l.pending.Store(false)
}

// follow adds the connection of an event.
func (l *loop) follow(ev readiness) {
	if l.acceptor != nil && ev.fd == l.acceptor.fd {
		l.acceptor.ready = true
		return
	}
	c := descriptors.get(ev.fd)
	if c == nil || c.loop != l || ev.gen != anyGeneration && ev.gen != c.gen() {
		return // of a connection that has gone, or of the poller's waker
	}
	c.readable = c.readable || ev.readable
	c.writable = c.writable || ev.writable
	c.hangup = c.hangup || ev.hangup
	c.peerEnd = c.peerEnd || ev.hangup && c.drained > maxDrainSize
	c.tend = c.tend || c.peerEnd
	l.todo = append(l.todo, c)
}

// takeDue adds the connections whose deadline has come, in the order in which they were opened, which is mostly the one in which
// they lie in memory.
func (l *loop) takeDue() {
	n := len(l.todo)
	for l.deadlines.first() <= l.now {
		c := l.deadlines[0].c
		l.deadlines.set(c, never) // until it has been served
		c.tend = true
		// Where the loop is late, or the whole process was stopped, what a client is about to be ended for not sending may be there.
		c.readable = c.readable || c.clocks.pinged != 0 || c.reads == readHandshake
		l.todo = append(l.todo, c)
	}
	slices.SortFunc(l.todo[n:], func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
}

// serve does what there is to do for a connection: read, parse, write, move it on, and call or hand over its handlers. It
// returns whether the goroutine still owns the loop.
func (l *loop) serve(t *lease, c *conn) (owns bool) {
	if c.readable && c.reads != readNothing && !l.defers(c) {
		n := l.read(c)
		for c.readable && c.reads == readMessages && l.left > 0 && l.got.isEmpty() && c.in.isWithin(n) {
			n = l.read(c)
		}
	}
	c.mu.Lock()
	c.settleLocked()
	l.applyLocked(c)
	if c.out.isStalled() && (c.writable || c.out.more) {
		c.flushLocked()
	}
	c.writable = false
	if c.tend {
		c.tend = false
		l.tendLocked(c)
	}
	j, ok := c.takeLocked()
	if ok && (c.lanes.offload > 0 || l.offloading.isOn()) {
		c.startLocked(j)
		c.startJobsLocked()
		l.yields = true
		ok = false
	}
	if !(ok && j.pongs) { // handlers may take long, or no order
		c.pongLocked(c.lanes.takePongs(math.MaxInt))
	}
	c.reads = c.readsLocked()
	c.mu.Unlock()
	if c.readable && c.reads != readNothing {
		l.serveAgain(c, &l.ready)
	}
	return !ok || c.work(t, j)
}

// defers leaves a long message to the next round where this one has read enough, but for one that may be thought silent.
func (l *loop) defers(c *conn) bool {
	if l.left > 0 || c.clocks.pinged != 0 || c.reads != readMessages || !c.in.isLong() {
		return false
	}
	l.serveAgain(c, &l.deferred)
	return true
}

// serveAgain has a connection served in the next round, by one of the loop's two lists for that.
func (l *loop) serveAgain(c *conn, list *[]*conn) {
	if !c.again {
		c.again = true
		*list = append(*list, c)
	}
}

// readsLocked returns what the loop may read from the connection.
func (c *conn) readsLocked() reads {
	r := c.life.reads()
	switch {
	case r == readMessages && (c.hasRestLocked() || c.lanes.isFull()): // what came behind the request is parsed first
		return readNothing
	case r == readRest && c.drained > maxDrainSize:
		return readNothing
	}
	return r
}

// read reads once and notes what it amounts to: into the loop's buffer, or straight into a long message. n is how many bytes it
// were.
func (l *loop) read(c *conn) (n int) {
	buf, direct := l.buf, false
	if c.reads == readMessages {
		if room := c.in.room(func() int { return c.waiting() }); room != nil {
			buf, direct = room, true
		}
	}
	n, err := c.stream.read(buf)
	if err != nil || n == 0 {
		l.noteEnd(c, err)
		return 0
	}
	c.readable = n == len(buf) || c.hangup // a short read may also end at urgent data, which is no client's business to send
	c.clocks.hears(l.now)
	switch {
	case direct:
		l.left -= n
		ev, err := c.in.filled(n)
		l.note(&ev, err)
	case c.reads == readHandshake:
		l.readHandshake(c, buf[:n])
	case c.reads == readMessages:
		l.parse(c, buf[:n])
	case c.reads == readRest:
		c.drained += int32(n)
	}
	return n
}

// noteEnd notes that there is nothing to read: for now, or at the end of the stream, where there is no error.
func (l *loop) noteEnd(c *conn, err error) {
	c.readable = false
	if err == errWouldBlock {
		return
	}
	c.peerEnd = true
	if err != nil {
		l.got.finish(endReason{cause: err.Error()})
		return
	}
	if c.reads == readHandshake {
		l.refuseCutOff(c)
	}
	l.got.finish(endReason{cause: "end of stream"})
}

// parse feeds bytes to the connection's endpoint.
func (l *loop) parse(c *conn, b []byte) {
	p := l.protocol.Load()
	for len(b) > 0 {
		var ev event
		n, err := c.in.read(p, b, &ev)
		b = b[n:]
		l.note(&ev, err)
	}
}

// note keeps what an event, or an error, of an endpoint asks for.
func (l *loop) note(ev *event, err *protocolError) {
	got := &l.got
	if err != nil {
		end := endReason{code: err.code, cause: err.Error()}
		if ev.kind != eventClose {
			end.reason = err.text
		}
		got.finish(end)
		return
	}
	switch ev.kind {
	case eventMessage:
		if ev.head.opcode() == OpcodeText {
			got.inbox.add(l.textLane, message{ev.payload, ev.head})
		} else if l.opts.HandleBin != nil {
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
		if ev.code == 0 {
			ev.code = StatusNormal
		}
		got.finish(endReason{code: ev.code, reason: string(ev.payload), cause: "closed by the peer"})
	}
}

func (got *reading) isEmpty() bool { return got.inbox.isEmpty() && len(got.pongs) == 0 && !got.ends }

func (got *reading) finish(why endReason) {
	if !got.ends {
		got.end, got.ends = why, true
	}
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
		c.tend = true
	}
}

// tendLocked moves a connection on and sets its deadline.
func (l *loop) tendLocked(c *conn) {
	if l.ending && !c.hasEnded() {
		c.endLocked(goingAway)
	}
	if c.isOpen() && c.hasRestLocked() {
		l.openedLocked(c)
	}
	due := l.clockLocked(c)
	if c.hasEnded() && c.hasSocket() {
		c.advanceLocked()
		due = l.clockLocked(c)
	}
	if c.hasSocket() {
		l.deadlines.set(c, due)
	}
}

// hasRestLocked reports whether what the client sent behind its handshake is still to be parsed.
func (c *conn) hasRestLocked() bool { return c.rare != nil && c.rare.opening != nil }

// openedLocked begins with the messages of a connection whose handshake is done: those that came behind the request.
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

// endAll ends every connection: the server stops.
func (l *loop) endAll() {
	l.ending = true
	if l.acceptor != nil {
		l.acceptor.close(l)
	}
	for _, d := range slices.Clone(l.deadlines) {
		d.c.end(goingAway)
	}
}

// isDone reports whether the server has stopped and no connection is left.
func (l *loop) isDone() bool {
	return l.ending && !l.accepting.Load() && len(l.deadlines) == 0 && !l.pending.Load()
}

// finish gives back what the loop has.
func (l *loop) finish() {
	l.mu.Lock()
	l.ended, l.attention = true, nil
	l.mu.Unlock()
	l.todo, l.ready, l.deferred, l.buf, l.got = nil, nil, nil, nil, reading{} // the Server may be kept
	l.poll.close()
	l.loopDone()
}
