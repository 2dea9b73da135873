package websocket

import (
	"crypto/tls"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
)

// engine is one run of a Server: what there is between Start and Stop. It goes through these stages, and never back:
//
//	running    connections come, from its listener or through adopt
//	departing  none is opened any more; each loop ends its own one by one, and waits for their handlers; Stop leaves this out
//	stopping   no new ones come; each loop ends its own as soon as it notices
//	done       no loop has any, and all resources have been given back
type engine struct {
	// Immutable once it runs.
	opts        ServerOptions
	limits      limits
	terms       terms
	tls         *tls.Config // what TLSConfig says, completed; nil without one
	atOnce      [laneCount]int
	textLane    lane
	deflates    *deflateOptions                   // nil without Compression
	forgetful   [maxBits - minBits + 1]*deflation // of connections that compress without a context, by the bits of what is sent
	clients     *ClientManager
	log         *slog.Logger // for goroutines that hold no lock
	acceptor    *acceptor    // of the first loop; without a listener until it is given one
	placeholder int
	loops       []*loop
	monitor     *monitor
	tallies     *tallies
	web         *web          // nil without a Handler
	done        chan struct{} // closed in the last stage

	// Guarded by the Server's mu.
	warnedOfRoutes bool
	listener       net.Listener // nil if there is none

	// With locks of their own.
	reports     *reports
	rules       atomic.Pointer[rules]
	packedRules atomic.Pointer[rules] // of connections with permessage-deflate
	numbers     quarantine
	ends        ends
	addresses   addresses
	adopted     atomic.Uint64 // connections that have come
	connections atomic.Int64  // those that have a socket
	awaited     atomic.Int64  // those that the program knows, until all its handlers have returned, and those that net/http has for it
	emptied     chan struct{} // rung when connections or awaited is zero
	departure   atomic.Pointer[departure]
	cut         cuts
	stopping    atomic.Bool
	slow        warning
	full        warning
	crowded     warning
	starved     warning
	entrances   atomic.Int32 // what the last stage waits for beside connections: the acceptor, calls of adopt and ServeHTTP, bridges, and web
	running     atomic.Int32 // loops that have not ended
}

// newEngine makes an engine for checked options. isRouter says that HandleText is the router, whose requests are asynchronous.
func newEngine(opts ServerOptions, isRouter bool, allowedRsv byte, clients *ClientManager) *engine {
	e := &engine{
		opts:        opts,
		limits:      opts.limits(),
		atOnce:      [laneCount]int{laneOrdered: opts.MessagesAtOnce, laneRequests: opts.RequestsAtOnce, lanePacked: 1, laneLife: 1},
		clients:     clients,
		log:         opts.Logger,
		placeholder: -1,
		done:        make(chan struct{}),
		emptied:     make(chan struct{}, 1),
		reports:     newReports(opts.Logger),
		tallies:     new(tallies),
	}
	if isRouter {
		e.textLane = laneRequests
	}
	e.terms, _ = opts.terms() // they were checked
	if opts.TLSConfig != nil {
		e.tls = opts.tlsConfig()
	}
	e.allowReservedBits(allowedRsv)
	if opts.Compression != nil {
		e.deflates = &deflateOptions{*opts.Compression, opts.MaxMessageSize}
		for i := range e.forgetful {
			e.forgetful[i] = newDeflation(e.deflates, deflateTerms{sends: direction{bits: uint8(minBits + i)}})
		}
	}
	e.numbers.budget = maxDescriptors() / 4
	if opts.Handler != nil {
		e.web = newWeb(e)
	}
	e.monitor = &monitor{bell: make(chan struct{}, 1), ended: make(chan struct{})}
	return e
}

// allowReservedBits sets what receivers hold their peers to.
func (e *engine) allowReservedBits(allowed byte) {
	plain := rules{
		maxMessage:      uint64(e.opts.MaxMessageSize),
		maxFragments:    e.opts.MaxFragments,
		allowedRsv:      allowed,
		fromClient:      true,
		reservedControl: e.opts.HandleRsvControl != nil,
	}
	packed := plain
	packed.deflates = true
	e.rules.Store(&plain)
	e.packedRules.Store(&packed)
}

// start starts the engine, with a listener or without one.
func (e *engine) start(ln net.Listener) (err error) {
	e.acceptor = &acceptor{fd: -1, resume: never, trim: never}
	if err = e.prepare(ln); err != nil {
		for _, l := range e.loops {
			l.poll.close()
		}
		if e.placeholder >= 0 {
			closeDescriptor(e.placeholder)
		}
		return err
	}
	e.loops[0].acceptor = e.acceptor
	e.monitor.loops = e.loops
	e.entrances.Store(1)
	e.running.Store(int32(len(e.loops)))
	go e.monitor.run()
	for _, l := range e.loops {
		go l.run(l.lease.Load())
	}
	return nil
}

// prepare opens what an engine needs.
func (e *engine) prepare(ln net.Listener) (err error) {
	if e.placeholder, err = newPlaceholder(); err != nil {
		return err
	}
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(e)
		if err != nil {
			return err
		}
		e.loops = append(e.loops, l)
	}
	if ln == nil {
		return nil
	}
	return e.listenLocked(ln)
}

// listenLocked gives the engine its listener. It is called with the mu of the Server held.
func (e *engine) listenLocked(ln net.Listener) error {
	fd, err := listenerDescriptor(ln)
	if err != nil {
		return err
	}
	l := e.loops[0]
	if err = l.poll.add(fd, anyGeneration); err == nil && !e.acceptor.give(ln, fd) {
		l.poll.remove(fd)
		err = ErrServerRunning // and stops
	}
	if err != nil {
		closeDescriptor(fd)
		return err
	}
	e.listener = ln
	l.wake()
	return nil
}

// report brings a record to the program's log. It may be called with the mu of a Server or a connection held, but not in the last
// stage.
func (e *engine) report(level slog.Level, text string, args ...any) {
	e.reports.add(report{level, text, args})
}

// enter keeps the engine from its last stage until leave is called. It returns false if connections may no longer come.
func (e *engine) enter() bool {
	e.entrances.Add(1)
	if e.stopping.Load() {
		e.leave()
		return false
	}
	return true
}

func (e *engine) leave() {
	if e.entrances.Add(-1) == 0 {
		e.wakeAll() // loops that have no connection may end
	}
}

// adopt makes a connection of a socket that nobody else has, and gives it to the loop whose turn it is. It may be called from any
// goroutine. If the engine is stopping it closes the socket and returns false. A client that is one too many is only told to come later.
func (e *engine) adopt(fd int) bool {
	if !e.enter() {
		closeDescriptor(fd)
		return false
	}
	defer e.leave()
	e.tallies.outside.accepted.Add(1)
	who := e.arrive(fd)
	if fd >= 1<<fdBits || who.untold {
		e.sendAway(fd, &who)
		return true
	}
	var tells *about
	if who.counted != nil {
		tells = &about{counted: who.counted}
	}
	e.admit(fd, &opening{proxied: who.proxied}, tells, who.err)
	return true
}

// admit makes a connection that has been counted, and whose opening handshake is to be read, or was read by somebody else and is
// complete. Its caller has entered.
func (e *engine) admit(fd int, o *opening, tells *about, refused error) {
	request := o.request // which is the loop's, once there is a connection, if it is not there yet
	c := newConn(e.loops[e.adopted.Add(1)%uint64(len(e.loops))], fd, o, tells)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tlsLocked() == nil {
		c.stepLocked(factSecured)
	}
	if request == nil {
		c.reads = c.life.reads()
	}
	descriptors.set(fd, c)
	if request != nil {
		c.loop.tally.adopted.Add(1)
	}
	switch {
	case refused != nil:
		c.turnAwayLocked(refused, request, nil)
	case request != nil:
		c.decideLocked()
	}
	if err := c.loop.poll.add(fd, c.gen()); err != nil {
		c.reportLocked(slog.LevelError, "websocket: cannot watch a connection", "error", err)
		c.outState = outLost
		c.endLocked(endReason{kind: ClosedLost, cause: "cannot be watched"}) // it may be open already
	}
	c.postLocked()
}

// newConn makes the connection of a socket. One whose request is to be read has come by the listener: it speaks TLS, if that does.
func newConn(l *loop, fd int, o *opening, tells *about) *conn {
	l.tally.phases[phaseSecuring].Add(1)
	came := now()
	r := &rare{opening: o, moments: moments{phaseBegan: came}}
	c := &conn{stream: stream{nextID(fd)}, loop: l, heapIndex: -1, rare: r, about: tells, opened: came}
	if l.tls != nil && o.request == nil {
		c.aboutLocked().tls = newTLSStream(c, l.tls)
	}
	return c
}

// stop has the loops end all connections.
func (e *engine) stop() {
	if e.stopping.CompareAndSwap(false, true) && e.web != nil {
		e.web.stop()
	}
	e.wakeAll()
}

func (e *engine) wakeAll() {
	for _, l := range e.loops {
		l.wake()
	}
}

// loopDone is called by each loop as its last act.
func (e *engine) loopDone() {
	if e.running.Add(-1) > 0 {
		return
	}
	close(e.monitor.ended)
	e.numbers.end()
	closeDescriptor(e.placeholder)
	e.reports.end()
	close(e.done)
}
