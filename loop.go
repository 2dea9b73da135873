package websocket

import (
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// readSize is the size of a loop's read buffer in bytes. A read that fills it is followed by another one after the other
// connections have had theirs, but see readRound.
const readSize = 64 << 10

// readRound is how many bytes of long messages one round reads; the last read may go beyond it. Up to there a message that has
// begun is read on, while it is in the processor's cache, and not in turn with others. From there on long messages wait for the
// next round, so that the other connections need not wait any longer.
const readRound = 1 << 20

// loop serves a part of a server's connections: it reads, parses, calls handlers or has workers call them, and closes. One
// goroutine at a time owns it, as its lease says.
type loop struct {
	// Immutable, or with locks of its own.
	*engine
	poll       *poller
	offloading offloading
	tally      *tally
	lease      atomic.Pointer[lease]

	mailbox    mailbox
	handshakes handshakes
	asleep     atomic.Bool // waits in the poller, or is about to

	// Everything below is owned by the goroutine that has the lease.
	now        int64 // moment of the current round
	agenda     agenda
	left       int // how much of readRound is left
	deadlines  deadlines
	acceptor   *acceptor // one loop has it until the server stops; nil for the others
	ending     bool
	departures departures
	yields     bool // workers were started in this round
	buf        []byte
	wire       []byte // for records that are in buf once they are decrypted; nil without TLS
	got        reading
	rounds     rounds
}

// mailbox is what other goroutines tell a loop: connections to look at, each once.
type mailbox struct {
	mu     sync.Mutex
	conns  []*conn     // guarded by mu
	closed bool        // guarded by mu
	full   atomic.Bool // there are some
}

// put adds a connection, unless it is there already or the loop has ended.
func (m *mailbox) put(c *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed && !c.posted {
		c.posted = true
		m.conns = append(m.conns, c)
		m.full.Store(true)
	}
}

// isFull reports whether there is a connection to look at.
func (m *mailbox) isFull() bool { return m.full.Load() }

// take moves the connections to an agenda, to be looked at.
func (m *mailbox) take(a *agenda) {
	if !m.full.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		c.posted = false
		c.look = true
		a.add(c)
	}
	clear(m.conns)
	m.conns = m.conns[:0]
	m.full.Store(false)
}

// ifOpen calls do, unless the loop has ended. While do runs, the loop does not end.
func (m *mailbox) ifOpen(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		do()
	}
}

// close forgets what is there, and takes no more.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.conns = true, nil
}

func newLoop(e *engine) (*loop, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{engine: e, poll: poll, tally: e.tallies.of(len(e.loops)), buf: make([]byte, readSize)}
	l.handshakes.limit = max(e.opts.MaxHandshakes/runtime.GOMAXPROCS(0), 1)
	if e.tls != nil {
		l.wire, l.buf = make([]byte, wireSize), make([]byte, wireSize)[:readSize]
	}
	l.got.inbox = newBacklog()
	poll.rests = l.rest
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

// post has the loop look at a connection. It may be called from any goroutine.
func (l *loop) post(c *conn) {
	l.mailbox.put(c)
	l.wake()
}

// wake ends the loop's wait. It may be called from any goroutine, and after the loop has ended, when the numbers of its poller may
// mean something else: ifOpen sees to that.
func (l *loop) wake() {
	if l.asleep.CompareAndSwap(true, false) {
		l.mailbox.ifOpen(l.poll.wake)
	}
}

// next returns the connection to serve next, nil when the server has stopped and none is left.
func (l *loop) next() *conn {
	for l.agenda.isOver() {
		if l.isDone() {
			return nil
		}
		l.collect()
	}
	return l.agenda.next()
}

// collect waits until there is something to do, and starts a round with it.
func (l *loop) collect() {
	l.rounds.served = len(l.agenda.round) > 0
	l.agenda.begin()
	l.left = readRound
	if l.yields { // workers would wait until nothing is left to read if this is the only processor
		l.yields = false
		runtime.Gosched()
	}
	l.mailbox.take(&l.agenda)
	n, err := l.poll.wait(l.waitUntil())
	l.asleep.Store(false)
	if err != nil {
		l.report(slog.LevelError, "websocket: poller failed", "error", err)
		time.Sleep(monitorTick) // not a spin, whatever is wrong
	}
	l.beginRound(now())
	for i := range n {
		l.follow(l.poll.at(i))
	}
	l.takeDue()
	if l.tls != nil {
		l.takeHandshake()
	}
	if l.acceptor != nil {
		l.acceptor.accept(l)
	}
	if l.ending {
		return
	}
	if d := l.departure.Load(); l.stopping.Load() {
		l.endAll()
	} else if d != nil {
		l.depart(d)
	}
}

// waitUntil returns the moment until which the loop may wait for events: one in the past if there is something to do.
func (l *loop) waitUntil() (until int64) {
	if !l.agenda.isOver() {
		return 0
	}
	l.asleep.Store(true)
	if l.mailbox.isFull() || l.stopping.Load() && !l.ending || l.isDone() {
		return 0
	}
	until = min(l.deadlines.first(), l.departures.due(l.departure.Load()))
	if l.tls != nil {
		until = min(until, l.handshakes.due())
	}
	if l.acceptor != nil {
		until = min(until, l.acceptor.due())
	}
	return until
}

// follow takes note of an event in its connection, and adds that to the round.
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
	c.look = c.look || c.peerEnd || ev.hangup && c.reads == readNothing
	l.agenda.add(c)
}

// takeDue adds the connections whose deadline has come.
func (l *loop) takeDue() {
	n := len(l.agenda.round)
	for l.deadlines.first() <= l.now {
		c := l.deadlines[0].c
		l.deadlines.set(c, never) // until it has been served
		c.look = true
		// If the loop is late, or the whole process was stopped, what a client is about to be ended for not sending may have come.
		c.readable = c.readable || c.clocks.pinged != 0 || c.reads == readHandshake || c.reads == readRecords
		l.agenda.add(c)
	}
	l.agenda.sort(n)
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
	c.endLightJobLocked()
	l.applyLocked(c)
	if c.out.isStalled() && (c.writable || c.out.more) {
		c.flushLocked()
	}
	c.writable = false
	if c.look {
		c.look = false
		l.lookAtLocked(c)
	}
	j, ok := c.takeLocked()
	if ok && j.kind != jobSecure && (c.lanes.offload > 0 || l.offloading.isOn()) {
		c.startLocked(j)
		c.startJobsLocked()
		l.yields = true
		ok = false
	}
	if !(ok && j.pongs) { // they do not wait for workers, who may take long, nor for messages that have no order
		c.pongLocked(c.lanes.takePongs(math.MaxInt))
	}
	c.reads = c.readsLocked()
	c.mu.Unlock()
	if c.readable && c.reads != readNothing {
		l.agenda.requeue(c)
	}
	return !ok || c.work(t, j)
}

// defers leaves a long message to the next round if this one has read enough, unless its client might be thought silent by then.
func (l *loop) defers(c *conn) bool {
	if l.left > 0 || c.clocks.pinged != 0 || c.reads != readMessages || !c.in.isLong() {
		return false
	}
	l.agenda.putOff(c)
	return true
}

// readsLocked returns what the loop may read from the connection.
func (c *conn) readsLocked() reads {
	r := c.life.reads()
	switch {
	case r != readRest && !c.tlsLocked().wantsRecords():
		return readNothing
	case r == readMessages && (c.hasRestLocked() || c.lanes.isFull()): // what came behind the request is parsed first
		return readNothing
	case r == readRest && c.drained > maxDrainSize:
		return readNothing
	}
	return r
}

// lookAtLocked moves a connection on and sets its deadline.
func (l *loop) lookAtLocked(c *conn) {
	switch {
	case l.ending && !c.hasEnded():
		c.endLocked(goingAway)
	case l.departures.over && c.isOpen():
		c.endLocked(departing)
	}
	if c.isSecuring() {
		l.securedLocked(c)
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

// endAll ends every connection: the server stops.
func (l *loop) endAll() {
	l.ending, l.departures = true, departures{over: true}
	if l.acceptor != nil {
		l.acceptor.close(l)
	}
	for _, d := range slices.Clone(l.deadlines) {
		d.c.end(goingAway)
	}
}

// isDone reports whether the server has stopped and no connection is left.
func (l *loop) isDone() bool {
	return l.ending && l.entrances.Load() == 0 && len(l.deadlines) == 0 && !l.mailbox.isFull()
}

// finish gives back what the loop has.
func (l *loop) finish() {
	l.bring()
	l.mailbox.close()
	l.agenda, l.buf, l.wire, l.got = agenda{}, nil, nil, reading{} // the Server may be kept
	l.poll.close()
	l.loopDone()
}
