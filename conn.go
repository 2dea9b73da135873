package websocket

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// How long the peer's end is awaited after the half-close, and how much is read meanwhile, so that a Close frame is not lost to a
// reset: what arrives at a closed socket makes TCP discard what the peer has not yet read. Beyond that size TCP holds the peer
// up for the rest of the time.
const (
	maxDrainTime = time.Second
	maxDrainSize = 64 << 10
)

// maxAnswerTime is how long a peer that has sent a Close frame, or broken a rule, waits for the answers to the messages that it sent
// before, and then for the Close frame (RFC 6455, sections 5.5.1 and 7.1.7). What handlers send later fails. It holds for server and
// client.
const maxAnswerTime = time.Second

// phase is where a connection stands. It only ever rises.
type phase uint8

const (
	phaseOpening  phase = iota // the loop reads the opening handshake
	phaseAuth                  // HandleAuth decides
	phaseOpen                  // messages go both ways
	phaseClosing               // out of All and Conns, nothing is read; handlers and HandleClientRemove finish
	phaseFlushing              // sealed: Send fails; the queue is written
	phaseDraining              // half-closed; the peer's end is awaited
	phaseClosed                // the placeholder is over the number
	phaseGone                  // out of the table
)

// reads is what the loop may read from a connection, which follows from its phase.
type reads uint8

const (
	readNothing reads = iota
	readHandshake
	readMessages
	readRest // and throw it away
)

// conn is one connection of a Server. Its life:
//
//	opening → auth → open → closing → flushing → draining → closed → gone
//
// The loop moves it on, in advance; any goroutine may send it to closing with end.
type conn struct {
	// Immutable.
	id   uint64
	loop *loop

	// Owned by the loop.
	in       endpoint
	opening  *opening // nil once the connection is open
	heard    int64    // when bytes last arrived
	pinged   int64    // when a Ping was sent, or the system last had some of what is in front of it acknowledged; 0: the peer was heard since
	unproven int32    // bytes in front of the last Ping that no Pong has answered for: the peer may not have got them yet
	held     int32    // those of them that the system had not got acknowledged when it was last asked; 0 if it was not
	place    int32    // in the loop's deadlines
	drained  int32    // bytes read since the half-close
	reads    reads    // what may be read, as of the last time it was served
	readable bool     // the socket may have something to read
	writable bool     // the socket may have room
	hangup   bool     // the end of the stream is to be read
	tend     bool     // its phase or its clocks are to be looked at
	again    bool     // in one of the loop's lists of connections to serve again
	peerEnd  bool     // the peer has closed its side
	asked    byte     // the number of the last Ping with something in front of it, its payload

	discards atomic.Bool // messages are not handled any more; set with mu held

	// Guarded by mu. It is held for writing, never while a handler runs or something is waited for.
	mu         sync.Mutex
	sent       int32 // bytes that the socket has taken since the last Ping, up to maxInTransit
	ctx        context.Context
	uid        uint64
	userNext   *conn // neighbours in the list of the user's connections; guarded by the mu of its clientShard
	userPrev   *conn
	out        *sendQueue
	backlog    *backlog
	closing    *closing          // why it ends, from phaseClosing on
	since      int64             // when the phase began, HandleClientAdd started or a Close frame was sent
	member     int32             // place in its clientShard; guarded by the mu of that
	running    [laneCount]uint16 // handlers that run now
	wary       uint16            // how many jobs workers are to run, and fast, since a message took long
	phase      phase
	addDue     bool // HandleClientAdd is to be called
	addRuns    bool // HandleClientAdd runs
	adding     bool // messages wait for it, until it is a writer
	removeDue  bool // HandleClientRemove is to be called
	corked     bool // packets are collected until the handlers of a batch are done
	closeSent  bool // a Close frame is written or queued
	peerGone   bool // writing is pointless
	stalledOut bool // the peer took nothing for the write time-out
	awaited    bool // Done has made a channel
	paused     bool // the backlog is full: nothing is read
	attended   bool // in the loop's list of connections to look at; guarded by loop.mu
}

// opening is what a connection keeps while it reads its opening handshake.
type opening struct {
	buf     []byte
	scanner headerScanner
	request *Handshake // once it is complete
	since   int64

	isStatus bool // it is a request for StatusPath
}

// waitsUntil returns until when handlers that run are waited for, of a connection that began to end at a moment.
func (why *closing) waitsUntil(since int64, opts *ServerOptions) int64 {
	if why.code != 0 && !why.farewell {
		return since + int64(min(maxAnswerTime, opts.WriteTimeout))
	}
	return since + int64(opts.WriteTimeout)
}

// goingAway is the end of every connection when the server stops.
var goingAway = closing{code: StatusGone, cause: "server stops", discard: true, immediate: true}

// emptyPing asks an idle client for a sign of life (RFC 6455, section 5.5.2).
var emptyPing = NewFramePing(false, nil)

// closing says how a connection ends.
type closing struct {
	code   CloseCode // of the Close frame to send; 0: none
	reason string
	cause  string // for the log

	addBy  int64       // until when HandleClientAdd is waited for, if it runs
	goesOn *time.Timer // of that moment, once the loop has no clock for it

	discard   bool // waiting messages are not handled
	farewell  bool // the Close frame follows HandleClientRemove, which may still send; else it goes before
	immediate bool // handlers that run are not waited for
}

func (c *conn) fd() int { return int(c.id & (1<<fdBits - 1)) }

// gen is the generation of the descriptor for the poller: the low bits of the serial number.
func (c *conn) gen() uint32 { return uint32(c.id >> fdBits) }

// isUp reports whether the program knows the connection: HandleClientAdd was or will be called.
func (c *conn) isUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase >= phaseOpen && c.phase < phaseGone && c.ctx != nil
}

// context returns the connection's context; ok is false where the program does not know the connection.
func (c *conn) context() (ctx context.Context, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ctx, c.ctx != nil && c.phase >= phaseOpen
}

// closedBy is the error of a connection that failed.
func closedBy(err error) error { return fmt.Errorf("%w: %w", ErrConnClosed, err) }

// attendLocked has the loop look at the connection.
func (c *conn) attendLocked() { c.loop.attend(c) }

// end sends a connection to its end. The first reason counts, but a later one may still make it immediate.
func (c *conn) end(why closing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(why)
}

func (c *conn) endLocked(why closing) {
	switch {
	case c.phase < phaseOpen:
		c.phase, c.since = phaseFlushing, now()
		if why.cause != "" { // else it was refused, which has a record of its own
			c.reportLocked(slog.LevelDebug, "websocket: handshake ends", "cause", why.cause)
		}
	case c.phase == phaseOpen:
		why.addBy = c.since + int64(c.loop.opts.AddTimeout)
		c.closing = &why
		c.phase, c.since = phaseClosing, now()
		c.loop.clients.remove(c)
		if c.awaited {
			c.loop.ends.tell(c)
		}
		c.settleLocked()
	case c.phase == phaseClosing && why.immediate && !c.closing.immediate:
		c.closing.immediate, c.closing.discard = true, true
		c.settleLocked()
	default:
		return
	}
	c.attendLocked()
}

// settleLocked does what an end wants at once.
func (c *conn) settleLocked() {
	if c.closing.discard {
		c.discards.Store(true)
		c.dropBacklogLocked()
		if c.addDue { // the program has not seen it
			c.addDue, c.removeDue = false, false
		}
	}
	if c.closing.immediate {
		c.closeFrameLocked()
	}
}

// peerGoneLocked ends the connection because its socket failed.
func (c *conn) peerGoneLocked() {
	c.peerGone = true
	c.dropQueueLocked()
	c.endLocked(closing{cause: "connection lost"})
	c.attendLocked()
}

// stalledOutLocked ends the connection because its peer takes no data.
func (c *conn) stalledOutLocked() {
	c.stalledOut = true
	c.endLocked(closing{cause: "takes no data"})
	c.peerGoneLocked()
}

// closeFrameLocked queues the Close frame, unless one was sent or none is wanted. The queue's limit does not count for it.
func (c *conn) closeFrameLocked() {
	why := c.closing
	if why == nil || why.code == 0 || c.phase > phaseFlushing || c.closeSent || c.peerGone {
		return
	}
	c.writeLocked(&outgoing{body: NewFrameClose(false, why.code, []byte(why.reason))})
	c.closeSent = true
	if c.out != nil {
		c.out.releaseWaiters()
	}
}

// acceptLocked opens the connection after its handshake: the answer goes out and the program may know it.
func (c *conn) acceptLocked(ctx context.Context, uid uint64, req *Handshake) {
	l := c.loop
	c.ctx, c.uid = ctx, uid
	c.phase, c.since = phaseOpen, now()
	c.writeLocked(&outgoing{body: appendAccept(nil, req)})
	c.sent = 0                // the client answers nothing before it has got this
	if c.phase != phaseOpen { // the client did not wait for the answer
		return
	}
	c.addDue = l.opts.HandleClientAdd != nil
	c.removeDue = l.opts.HandleClientRemove != nil
	l.clients.add(c)
}

// refuseLocked answers the handshake with something else than a connection and ends it.
func (c *conn) refuseLocked(answer []byte) {
	c.writeLocked(&outgoing{body: answer})
	c.endLocked(closing{})
}

// advanceLocked moves a connection that ends on as far as it can go now.
func (l *loop) advanceLocked(c *conn) {
	at := now()
	if c.mayGoOnLocked() && at >= c.closing.addBy {
		c.goOnLocked()
	}
	if c.phase == phaseClosing {
		if c.addRuns && c.running[laneLife] == 1 && !c.adding && !c.removeDue && !c.hasMessagesLocked() {
			c.closeFrameLocked() // a writer that HandleClientRemove has not ended does when it cannot send any more
		}
		if c.busyLocked() && !c.closing.immediate && at < c.closing.waitsUntil(c.since, &l.opts) {
			return
		}
		c.phase, c.since = phaseFlushing, at // first, so that what is written now goes out with the end of the stream
		c.closeFrameLocked()
		c.uncorkLocked()
		c.reportLocked(slog.LevelDebug, "websocket: connection ends", "cause", c.closing.cause, "code", c.closing.code)
	}
	if c.phase == phaseFlushing {
		if c.out != nil {
			c.out.releaseWaiters()
			if at < c.since+int64(l.opts.WriteTimeout) {
				return
			}
			c.dropQueueLocked()
			c.peerGone = true
		}
		halfCloseSocket(c.fd())
		c.phase, c.since = phaseDraining, at
	}
	if c.phase == phaseDraining && (c.peerGone || c.peerEnd || at >= c.since+int64(maxDrainTime)) {
		l.closeLocked(c)
	}
}

// closeLocked takes the socket out of the poller and puts the placeholder over its number. The number is held back once the
// handlers have returned, HandleClientRemove the last of them.
func (l *loop) closeLocked(c *conn) {
	l.poll.remove(c.fd())
	c.in.end()
	c.dropQueueLocked()
	if !c.peerEnd { // else both ways have ended
		shutSocket(c.fd())
	}
	if err := coverSocket(c.fd(), l.placeholder); err != nil {
		c.reportLocked(slog.LevelError, "websocket: cannot cover a descriptor", "error", err)
	}
	c.phase = phaseClosed
	l.deadlines.remove(c)
	l.connections.Add(-1)
	switch {
	case !c.busyLocked():
		c.goneLocked()
	case c.mayGoOnLocked():
		c.goOnLaterLocked()
	}
}

// goneLocked gives the number to the quarantine. Nothing is left that knows the connection.
func (c *conn) goneLocked() {
	if c.closing != nil && c.closing.goesOn != nil {
		c.closing.goesOn.Stop() // it would keep the connection
	}
	c.phase, c.ctx = phaseGone, nil
	c.dropBacklogLocked()
	descriptors.set(c.fd(), tombstone)
	c.loop.numbers.hold(c.fd())
}

// userID returns the user id of a context: any integer above zero under CtxKeyUID; 0 where there is none.
func userID(ctx context.Context) uint64 {
	switch v := reflect.ValueOf(ctx.Value(CtxKeyUID)); {
	case v.CanUint():
		return v.Uint()
	case v.CanInt():
		return uint64(max(v.Int(), 0))
	}
	return 0
}
