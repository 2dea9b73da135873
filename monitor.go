package websocket

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// monitorTick is the time between two looks of the monitor. A handler that is seen twice is stuck.
	monitorTick = time.Millisecond

	// idleTicks is how many looks in a row must see no handler before the monitor sleeps.
	idleTicks = 8

	// slowHandler is how long a job may take and still count as fast, and fastRow how many must be fast in a row before a loop
	// calls handlers itself again: those of a connection that had a slow one, and those of all connections if several were slow.
	slowHandler = monitorTick / 2
	fastRow     = 256
)

// lease is one goroutine's time as the owner of a loop. Its word says whether a handler runs, and decides who owns the loop
// when the monitor and a returning handler meet: exactly one of their compare-and-swaps succeeds.
type lease struct {
	word atomic.Uint64 // 0: no handler runs; stepTaken: the loop has been taken; else the step
	step uint64        // counts the connections whose handlers were called; the goroutine writes it, before word
	conn *conn         // whose handler runs; likewise
	loop *loop         // immutable

	stuckFrom atomic.Int64 // about when the handler was called that the loop is taken for
}

const stepTaken = ^uint64(0)

// newLease makes a lease and shows it to the monitor.
func newLease(l *loop) *lease {
	t := &lease{loop: l}
	l.lease.Store(t)
	return t
}

// enter announces that handlers of the connection are about to be called.
func (t *lease) enter(c *conn) {
	t.conn = c
	t.step++
	t.word.Store(t.step)
	t.loop.monitor.wake()
}

// leave announces that they have returned. It returns false if the loop belongs to another goroutine by now: then the caller
// must no longer touch it.
func (t *lease) leave() bool {
	return t.word.CompareAndSwap(t.step, 0)
}

// take takes the loop from the lease, unless the handler returns just now. The handler has been called between one and two looks ago.
func (t *lease) take(word uint64) (taken bool) {
	t.stuckFrom.Store(now() - int64(monitorTick)*3/2)
	return t.word.CompareAndSwap(word, stepTaken)
}

// isTaken reports whether the loop belongs to another goroutine already.
func (t *lease) isTaken() bool { return t.word.Load() == stepTaken }

// offloading decides whether a loop calls handlers itself or has workers do it.
type offloading struct {
	on   atomic.Bool
	fast atomic.Int32 // fast jobs in a row
}

// isOn reports whether workers call the handlers.
func (o *offloading) isOn() bool { return o.on.Load() }

// stuck is told that a handler held up the loop, in a lease's step. A single time is forgiven: the system may have taken the
// processor away.
func (o *offloading) stuck(steps uint64) {
	if steps < fastRow {
		o.on.Store(true)
	}
	o.fast.Store(0)
}

// count is told of each job that a worker has run.
func (o *offloading) count(isFast bool) {
	switch {
	case !isFast:
		o.fast.Store(0)
	case o.fast.Add(1) == fastRow:
		o.on.Store(false)
	}
}

// monitor takes loops away from goroutines that are stuck in a handler, and writes what waits too long in a cork. It sleeps
// while no handler runs.
type monitor struct {
	// Immutable once it runs.
	loops []*loop
	bell  chan struct{} // one element; rung to end the sleep
	ended chan struct{}

	parked atomic.Bool // it sleeps, or is about to

	// Guarded by mu.
	mu    sync.Mutex
	corks [2][]*conn // connections corked by workers: since this tick, since the one before
}

// wake ends the monitor's sleep. It costs one load if it does not sleep.
func (m *monitor) wake() {
	if m.parked.Load() && m.parked.CompareAndSwap(true, false) {
		m.bell <- struct{}{}
	}
}

// watchCork has the monitor uncork the connection within two ticks.
func (m *monitor) watchCork(c *conn) {
	m.mu.Lock()
	m.corks[0] = append(m.corks[0], c)
	m.mu.Unlock()
	m.wake()
}

// run watches until ended is closed.
func (m *monitor) run() {
	seen := make([]uint64, len(m.loops)) // the word of each loop's lease at the last tick
	idle := 0
	for {
		if m.look(seen) {
			idle = 0
		} else if idle++; idle >= idleTicks {
			m.parked.Store(true)
			if m.isQuiet() {
				select {
				case <-m.bell:
				case <-m.ended:
					return
				}
			} else if !m.parked.CompareAndSwap(true, false) {
				<-m.bell
			}
			idle = 0
		}
		select {
		case <-m.ended:
			return
		default:
			time.Sleep(monitorTick)
		}
	}
}

// look takes over the loops whose handler it has seen before. It returns whether it saw any handler or cork.
func (m *monitor) look(seen []uint64) (active bool) {
	for i, l := range m.loops {
		t := l.lease.Load()
		word := t.word.Load()
		active = active || word != 0
		if word != 0 && word == seen[i] && t.take(word) {
			t.takeOver()
			word = 0
		}
		seen[i] = word
	}
	m.mu.Lock()
	late := m.corks[1]
	m.corks[1], m.corks[0] = m.corks[0], nil
	m.mu.Unlock()
	active = active || len(late) > 0
	for _, c := range late {
		c.mu.Lock()
		c.bypassLocked()
		c.mu.Unlock()
	}
	return active
}

// isQuiet reports whether there is nothing to watch.
func (m *monitor) isQuiet() bool {
	for _, l := range m.loops {
		if l.lease.Load().word.Load() != 0 {
			return false
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.corks[0])+len(m.corks[1]) == 0
}

// takeOver gives the loop of a stuck goroutine to a new one. The stuck one keeps its connection and the job that it runs.
func (t *lease) takeOver() {
	l, c := t.loop, t.conn
	l.tally.takeovers.Add(1)
	c.mu.Lock() // first: what the new goroutine reads is answered behind what waits
	defer c.mu.Unlock()
	if !c.isSecuring() { // a TLS handshake says nothing about handlers
		l.offloading.stuck(t.step)
	}
	go l.run(newLease(l))
	if c.lanes.running[laneOrdered]+c.lanes.running[laneRequests]+c.lanes.running[lanePacked] > 0 { // else it is stuck in HandleAuth or HandleClientAdd
		c.lanes.offload = fastRow
	}
	c.bypassLocked()
}

// bypassLocked sees to it that nothing waits for a stuck handler of the connection: Pings behind its message are answered,
// answers of the same batch are written, and other requests are handled.
func (c *conn) bypassLocked() {
	c.pongLocked(c.lanes.takePongs(math.MaxInt))
	c.uncorkLocked()
	c.startJobsLocked()
}
