package websocket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// defaultShutdownSpread is over how long a Shutdown closes connections, and shutdownPace how much of that each of them takes at most:
	// a hundred clients a second that come again are no herd.
	defaultShutdownSpread = 20 * time.Second
	shutdownPace          = 10 * time.Millisecond

	// departBatch is how many connections a loop ends in a round if it is late: others have their turn in between.
	departBatch = 64
)

// ErrServerStopped is the Cause of a ShutdownError if it was not the context's end that cut the Shutdown short, but Stop, the end of
// ServeContext's context, or another Shutdown with less time.
var ErrServerStopped = errors.New("websocket: server was stopped")

// ShutdownError says what a Shutdown has cut off, since there was no time left: at least one of its numbers is above zero.
type ShutdownError struct {
	// Connections that were open, or of which a handler ran or waited, or messages waited to be sent.
	Connections int

	// Handshakes that HandleAuth had not decided on, and requests that HandleStatus had not answered.
	Handshakes int

	// Requests of ServerOptions.Handler that had not ended WriteTimeout later, and connections that Handler had hijacked.
	Requests int

	// Cause is the error of the context, or ErrServerStopped.
	Cause error
}

// Error returns a text with the numbers and the cause.
func (err *ShutdownError) Error() string {
	return fmt.Sprintf("websocket: shutdown cut off %d connections, %d handshakes and %d requests: %v",
		err.Connections, err.Handshakes, err.Requests, err.Cause)
}

// Unwrap returns the cause.
func (err *ShutdownError) Unwrap() error { return err.Cause }

// Shutdown stops the server so that nobody loses anything, and clients that connect again do not come all at once. It returns nil
// when all connections have ended and their handlers have returned, as have the requests of Options.Handler. If ctx ends first, or has
// ended before, what is left is ended as by Stop, which takes as long as that does, and Shutdown returns a *ShutdownError: errors.Is
// finds the error of ctx in it. If that had nothing left to cut off, it returns nil. A ctx without an end waits for every handler and for
// the slowest client.
//
// Connections are closed one after the other, the oldest first, spread over Options.ShutdownSpread or three quarters of what ctx leaves.
// A connection is served like any other until its turn comes. Then it is read no more and leaves Clients; the messages that
// were read are handled and may be answered, for as long as that takes; HandleClientRemove is called, what is queued is sent
// for as long as the client takes something within each WriteTimeout, and a Close frame with StatusGone ends it. So
// a message of a client was handled exactly if its answer has come before the Close frame.
//
// From the call on no connection is opened any more: opening handshakes, also those that HandleAuth has just accepted, requests for
// StatusPath and new ones for Handler are answered with 503 and Retry-After, on the server's own listener, which stays open until all
// connections have ended, as by ServeHTTP. Shutdown does not wait for requests that are not complete, nor for those that it
// refuses. If CloseListener was called before, nothing is refused on connections that had been accepted: they are opened, and closed when
// all others have been.
//
// Start and Serve return as after Stop, and the server may be started again. If it does not run, Shutdown returns nil. It may be called
// from several goroutines, all of which wait for the same end, at the earliest of their times. Stop cuts it short. A handler must not
// wait for it, since it waits for the handler.
func (serv *Server) Shutdown(ctx context.Context) error {
	left, err := timeLeft(ctx) // a context of the program's own may do anything: not under the lock
	serv.mu.Lock()
	e := serv.runningLocked()
	serv.stopped = true
	if e != nil && err == nil {
		e.beginDeparture(left)
	}
	serv.mu.Unlock()
	if e == nil {
		return nil
	}
	cause := e.awaitDeparture(ctx)
	e.stop()
	<-e.done
	return e.cutOff(cmp.Or(cause, ErrServerStopped))
}

// CloseListener stops accepting, immediately and for good: when it returns the server has closed its listener and its own descriptor of
// it, and goes on with the connections that it has. It is for a server whose listening socket another process has too, which accepts
// from then on whatever waits: the socket is closed here and not shut down. Connections that this server has accepted are its own;
// handshakes that are under way are completed. Shutdown, called next, refuses none of them. If no other process has the socket,
// connections that wait to be accepted are lost.
//
// The path of a Unix socket is removed when its listener is closed, unless that was told otherwise (net.UnixListener.SetUnlinkOnClose).
// Start and Serve do not return; the server gets no other listener until it was stopped. Without a listener CloseListener does
// nothing. It may be called from any goroutine, handlers included.
func (serv *Server) CloseListener() {
	serv.mu.Lock()
	e := serv.runningLocked()
	if e != nil {
		e.listener = nil
	}
	serv.mu.Unlock()
	if e != nil {
		e.closeListener()
	}
}

// departure says when the connections of an engine end in a Shutdown: one after the other, from a moment on.
type departure struct {
	begin, spread int64
	refuses       bool // no connection is opened any more
}

// cuts is what was cut off when the engine stopped.
type cuts struct{ connections, handshakes, requests atomic.Int64 }

// timeLeft returns how much time a context leaves, and its error if it has ended.
func timeLeft(ctx context.Context) (time.Duration, error) {
	by, ok := ctx.Deadline()
	if !ok {
		return maxTimeout, ctx.Err()
	}
	return time.Until(by), ctx.Err()
}

// beginDeparture has the loops end their connections. A second one may hurry them. It is called with the mu of the Server held.
func (e *engine) beginDeparture(left time.Duration) {
	spread := int64(spreadOf(e.awaited.Load(), e.opts.ShutdownSpread, left))
	d := &departure{now(), spread, !e.acceptor.hasShut()}
	if first := e.departure.Load(); first != nil {
		d.spread, d.begin, d.refuses = min(first.spread, d.begin+spread-first.begin), first.begin, first.refuses
	}
	e.departure.Store(d)
	if e.web != nil && e.enter() {
		go e.web.depart()
	}
	e.wakeAll()
}

// spreadOf returns over how long n connections are closed, if so much time is left: a part of it is for the last ones to end in.
func spreadOf(n int64, limit, left time.Duration) time.Duration {
	return max(min(limit, time.Duration(n)*shutdownPace, left-left/4), 0)
}

// awaitDeparture waits until all have departed. It returns the error of the context if that ends first.
func (e *engine) awaitDeparture(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for !e.hasDeparted() {
		select {
		case <-e.emptied:
		case <-e.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// hasDeparted reports whether there is nothing that a Shutdown waits for. Connections that came by a listener that has another process
// by now are all to be served; else those whose request is not complete are not waited for.
func (e *engine) hasDeparted() bool {
	return e.awaited.Load() == 0 && (e.refuses() || e.connections.Load() == 0)
}

// refuses reports whether no connection is opened any more.
func (e *engine) refuses() bool {
	d := e.departure.Load()
	return d != nil && d.refuses
}

// ring is called when there may be nothing left that a Shutdown waits for.
func (e *engine) ring() {
	select {
	case e.emptied <- struct{}{}:
	default:
	}
}

// forgo ends the wait for one connection, or request of Handler.
func (e *engine) forgo() {
	if e.awaited.Add(-1) == 0 {
		e.ring()
	}
}

// cutOff returns the error for what was cut off: nil if nothing was. The engine has stopped, and did not wait for handlers that run.
func (e *engine) cutOff(cause error) error {
	err := &ShutdownError{
		Connections: int(e.cut.connections.Load() + e.awaited.Load()),
		Handshakes:  int(e.cut.handshakes.Load()),
		Requests:    int(e.cut.requests.Load()),
		Cause:       cause,
	}
	if err.Connections+err.Handshakes+err.Requests == 0 {
		return nil
	}
	return err
}

// departures are the connections of a loop that a Shutdown has still to end. They are owned by the loop.
type departures struct {
	conns []*conn // in the order in which they were opened; those that have gone are nil
	gone  int
	begun bool
	over  bool // whatever is opened from now on ends immediately
}

// due is when the next connection has to go, never if that is not known.
func (q *departures) due(d *departure) int64 {
	switch {
	case d == nil || q.over:
		return never
	case q.gone == len(q.conns):
		return d.begin
	}
	return d.begin + d.spread/int64(len(q.conns))*int64(q.gone)
}

// next returns a connection that has to go by now, nil if there is none.
func (q *departures) next(d *departure, now int64) (c *conn) {
	if q.gone == len(q.conns) || q.due(d) > now {
		return nil
	}
	c, q.conns[q.gone] = q.conns[q.gone], nil
	q.gone++
	return c
}

// depart ends the connections whose time has come. Behind the last one it ends those that were opened meanwhile.
func (l *loop) depart(d *departure) {
	q := &l.departures
	if !q.begun {
		q.begun = true
		q.conns = l.registered()
		slices.SortFunc(q.conns, func(x, y *conn) int { return cmp.Compare(x.id, y.id) })
	}
	for range departBatch {
		c := q.next(d, l.now)
		if c == nil {
			break
		}
		c.depart()
	}
	if q.gone == len(q.conns) && !q.over {
		q.over, q.conns, q.gone = true, nil, 0
		for _, c := range l.registered() {
			c.depart()
		}
	}
}

// registered returns the loop's connections.
func (l *loop) registered() (conns []*conn) {
	for _, d := range l.deadlines {
		conns = append(conns, d.c)
	}
	return conns
}

// depart ends the connection, if it is open: else it may be opened later, or is refused.
func (c *conn) depart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isOpen() {
		c.endLocked(departing)
	}
}

// mayBeginLocked reports whether the program may be asked about a connection, or get it. From then on Shutdown waits for it: it is
// counted before anybody looks whether there is a Shutdown, so that one of both sees the other.
func (c *conn) mayBeginLocked() bool {
	if c.isAwaitedLocked() {
		return !c.loop.refuses()
	}
	c.loop.awaited.Add(1)
	if c.loop.refuses() {
		c.loop.forgo()
		return false
	}
	c.marks.Or(markAwaited)
	return true
}

func (c *conn) isAwaitedLocked() bool { return c.marks.Load()&markAwaited != 0 }

// forgoLocked ends the wait for the connection.
func (c *conn) forgoLocked() {
	if c.marks.And(^markAwaited)&markAwaited != 0 {
		c.loop.forgo()
	}
}

// cutOffLocked counts the connection among those that were cut off, which are not waited for.
func (c *conn) cutOffLocked(among *atomic.Int64) {
	among.Add(1)
	c.forgoLocked()
}

// hurryLocked is told that the server stops now, and what that cuts off. It returns whether the connection has less time from now on.
func (c *conn) hurryLocked() bool {
	cut := &c.loop.cut
	switch {
	case c.isAsking():
		c.cutOffLocked(&cut.handshakes)
	case c.isOpen(), c.isEnding() && !c.rare.end.immediate:
		c.cutOffLocked(&cut.connections)
	case (c.isFlushing() || c.isDraining()) && c.rare.end.patient:
		c.rare.end.patient = false
		c.rare.moments.phaseBegan = now()
		return true
	}
	return false
}

// isTakingLocked reports whether the peer of a connection that is written takes what the system still holds for it. If it was closed,
// all of that would be lost to whatever the peer sends. Only the loop calls it.
func (c *conn) isTakingLocked(at int64) bool {
	if held := int32(min(c.unacked(), maxInTransit)); held > 0 && (c.clocks.held == 0 || held < c.clocks.held) {
		c.clocks.held = held
		c.rare.moments.phaseBegan = at
		return true
	}
	return false
}
