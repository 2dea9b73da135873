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

// After the half-close the loop waits this long for the peer to close its side, and reads this much meanwhile, so that the Close
// frame is not lost to a reset: data that arrives at a closed socket makes TCP discard what the peer has not yet read. Beyond that
// size TCP makes the peer wait for the rest of the time.
const (
	maxDrainTime = time.Second
	maxDrainSize = 64 << 10
)

// maxAnswerTime is how long a peer that has sent a Close frame, or broken a rule, waits for the answers to the messages that it sent
// before, and then for the Close frame (RFC 6455, sections 5.5.1 and 7.1.7). What handlers send later fails. It holds for server and
// client.
const maxAnswerTime = time.Second

// conn is one connection of a Server. Any goroutine may begin its end, with end. From there its loop takes it on, in advanceLocked; only
// the last step may be that of the last handler to return.
//
// The lock order: a goroutine that holds one of these locks may take one that stands further right, and no other. Of those in
// braces it holds one at a time.
//
//	Server.mu → conn.mu, watching.mu → { the mu of mailbox, handshakes, clientShard, topicShard, ends, quarantine, reports, monitor, counts, web }
//	          → { addresses, descriptorTable, Watcher }
//
// No lock is held while a handler of the program is called, or while a goroutine waits for something. A DeflateCodec is called with
// conn.mu held where the order of the wire matters.
type conn struct {
	// Immutable.
	stream
	loop *loop

	// Guarded by mu. All that a Send needs is in the first 64 bytes, one line of the processor's cache: a broadcast to many
	// connections waits for their memory more than for anything else.
	mu   sync.Mutex
	sent int32 // bytes that the socket has taken since the last Ping, up to maxInTransit
	life
	outState
	corked bool    // packets are collected until the handlers of a batch are done
	posted bool    // it is in the loop's mailbox, whose mu guards this
	out    *outbox // nil while all has been written
	rare   *rare   // nil while the connection is idle
	about  *about  // nil if there is nothing of that kind

	// Owned by the loop.
	seat      seat  // in the loop's agenda
	reads     reads // what may be read, as of the last time it was served
	readable  bool  // the socket may have something to read
	writable  bool  // the socket may have room
	hangup    bool  // the end of the stream is to be read
	look      bool  // its phase and its clocks are to be looked at
	peerEnd   bool  // the peer has closed its side
	unsettled lane  // 1 above the lane of the light job that the loop has run since it last had the lock; 0: none
	in        receiver
	clocks    clocks

	// Guarded by mu.
	lanes lanes

	// Owned by the loop.
	heapIndex int32 // in the loop's deadlines
	drained   int32 // bytes read since the half-close

	// Set with mu held, read without it.
	marks atomic.Uint32

	// Guarded by the mu of the connection's clientShard.
	member             int32 // place in the shard
	userNext, userPrev *conn // neighbours in the list of the user's connections

	// Written with mu held: before the program knows the connection, and once no handler does any more. In between, handlers read
	// them without it.
	ctx    context.Context
	uid    uint64
	opened int64 // moment; until it is open, when it came
}

// Marks of a connection. None is taken back, but for markAwaited, which is guarded by mu.
const (
	markDiscards   uint32 = 1 << iota // messages are not handled any more
	markDeflates                      // about.deflation is there
	markSubscribed                    // it has, or had, topics
	markAwaited                       // Shutdown waits for it
)

// isDiscarding reports whether messages are not handled any more.
func (c *conn) isDiscarding() bool { return c.marks.Load()&markDiscards != 0 }

// rare is what a connection needs while it is opened and while it ends; few need it in between. It is guarded by mu. The pointer
// does not change during the opening handshake, so that opening can be reached without mu.
type rare struct {
	opening *opening // nil once what came with the handshake has been parsed
	moments moments
	end     endReason   // from phaseEnding on
	goesOn  *time.Timer // ends the wait for HandleClientAdd, once the loop no longer has a clock for that
	closed  *CloseCause // the program has sent a Close frame; nil: see end
}

// opening is what a connection keeps while it reads its opening handshake. It is owned by the loop, and in phaseAuth by the handler.
type opening struct {
	buf     []byte
	scanner headerScanner
	request *Handshake // nil until it is complete

	proxied  bool // a PROXY protocol header comes first
	isStatus bool // it is a request for StatusPath
}

// emptyPing asks an idle client for a sign of life (RFC 6455, section 5.5.2).
var emptyPing = NewFramePing(false, nil)

// isUp reports whether the program knows the connection: HandleClientAdd was or will be called.
func (c *conn) isUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known() && c.ctx != nil
}

// context returns the connection's context; ok is false if the program does not know the connection.
func (c *conn) context() (ctx context.Context, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ctx, c.ctx != nil && c.known()
}

// closedBy is the error of a connection that failed.
func closedBy(err error) error { return fmt.Errorf("%w: %w", ErrConnClosed, err) }

// rareLocked returns the connection's rare part, made if there is none.
func (c *conn) rareLocked() *rare {
	if c.rare == nil {
		c.rare = new(rare)
	}
	return c.rare
}

// dropRareLocked forgets the rare part of an open connection that does not need it any more.
func (c *conn) dropRareLocked() {
	if r := c.rare; r != nil && r.opening == nil && c.isOpen() && c.outState == outOpen && !c.lanes.awaitsAdd() {
		c.rare = nil
	}
}

// postLocked has the loop look at the connection.
func (c *conn) postLocked() { c.loop.post(c) }

// end begins the end of a connection. The first reason counts, but a later one may still make the end immediate.
func (c *conn) end(why endReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(why)
}

func (c *conn) endLocked(why endReason) {
	hurries := why.immediate && c.hurryLocked()
	switch {
	case c.isShaking():
		c.stepLocked(factEnded)
		if why.cause != "" { // otherwise it was refused, which has a record of its own
			c.loop.tally.refused.add(refusedAs{0, why.kind.String()})
			c.reportEndLocked("websocket: handshake ends", "cause", why.cause)
		}
	case c.isOpen():
		c.rareLocked().end = why
		c.stepLocked(factEnded)
		c.enforceEndLocked()
	case c.isEnding() && why.immediate && !c.rare.end.immediate:
		c.rare.end.immediate, c.rare.end.discard = true, true
		c.enforceEndLocked()
	case hurries:
	default:
		return
	}
	c.postLocked()
}

// enforceEndLocked does what cannot be left to the loop at the beginning of an end.
func (c *conn) enforceEndLocked() {
	if c.rare.end.discard {
		c.marks.Or(markDiscards)
		c.lanes.discard()
	}
	if c.rare.end.immediate {
		c.closeFrameLocked()
	}
}

// closeFrameLocked queues the Close frame, unless one was sent or none is wanted. The queue's limit does not count for it.
func (c *conn) closeFrameLocked() {
	if c.rare == nil || !c.sends() && !c.isFlushing() || c.outState != outOpen {
		return
	}
	why := &c.rare.end
	if why.code == 0 { // none is wanted, or the handshake was refused
		return
	}
	if c.writeLocked(&outgoing{body: NewFrameClose(false, why.code, []byte(why.reason))}) == nil {
		c.outState = outClosed
	}
	c.out.releaseWaiters()
}

// decideLocked goes on with a request that keeps the rules.
func (c *conn) decideLocked() {
	o := c.rare.opening
	switch {
	case !c.mayBeginLocked():
		c.turnAwayLocked(errGoing, o.request, nil)
	case o.isStatus && o.request.verb == verbOptions:
		c.refuseLocked(appendOptions(nil))
	case o.isStatus || c.loop.opts.HandleAuth != nil:
		if !o.isStatus {
			o.request.RemoteAddr = c.remoteLocked()
			if t := c.tlsLocked(); t != nil {
				o.request.TLS = t.state()
			}
		}
		c.stepLocked(factRequest)
	default:
		c.acceptLocked(context.Background(), 0)
	}
}

// acceptLocked opens the connection after its handshake.
func (c *conn) acceptLocked(ctx context.Context, uid uint64) {
	c.ctx, c.uid, c.opened = ctx, uid, now()
	c.stepLocked(factAccepted)
}

// welcomeLocked answers the handshake, and makes the connection known to the program.
func (c *conn) welcomeLocked() {
	l := c.loop
	req := c.rare.opening.request
	if req.Subprotocol != "" {
		c.aboutLocked().subprotocol = req.Subprotocol
	}
	c.agreeLocked(req)
	c.writeLocked(&outgoing{body: appendAccept(nil, req), uncounted: true})
	c.sent = 0       // the client answers nothing before it has got this
	if !c.isOpen() { // the client did not wait for the answer
		return
	}
	c.lanes.open(l.opts.HandleClientAdd != nil, l.opts.HandleClientRemove != nil, l.opts.OnClose != nil)
	l.clients.add(c)
}

// refuseLocked answers the handshake with something other than a connection, and ends it.
func (c *conn) refuseLocked(answer []byte) {
	c.writeLocked(&outgoing{body: answer, uncounted: true})
	c.endLocked(endReason{})
}

// stepLocked takes one step of the connection's life, if the facts allow one, and does what the step wants. From phaseEnding on only
// the loop knows the facts, except for the last step: the last handler to return may take that.
func (c *conn) stepLocked(f facts) (moved bool) {
	from := c.phase
	do, moved := c.move(f)
	if !moved {
		return false
	}
	c.loop.tally.moved(from, c.phase)
	if c.rare != nil && !c.isOpening() { // which is in the time of the phase before
		c.rare.moments.phaseBegan = now()
	}
	switch do {
	case doGiveUp:
		if h := c.handshakeLocked(); h != nil {
			h.giveUpLocked()
		}
	case doWelcome:
		c.loop.tally.opened.Add(1)
		c.welcomeLocked()
	case doDelist:
		c.loop.clients.remove(c)
		c.loop.clients.unsubscribeAllLocked(c)
		c.loop.ends.tell(c)
	case doSeal:
		c.sealLocked()
	case doHalfClose:
		if t := c.tlsLocked(); t != nil {
			t.end(c.fd())
		}
		c.clocks.held = 0
		c.halfClose()
	case doCover:
		c.coverLocked()
	case doRelease:
		c.releaseLocked()
	case doHandOver:
		c.handOverLocked()
	}
	return true
}

// advanceLocked takes a connection that is ending as far as it can go now.
func (c *conn) advanceLocked() {
	at := now()
	if c.isEnding() && c.lanes.hasWriterOnly() {
		c.closeFrameLocked() // a writer that HandleClientRemove has not ended gives up when it can no longer send
	}
	for c.stepLocked(c.factsLocked(at)) {
	}
}

// factsLocked returns what is true of a connection that is ending, as far as it matters in its phase.
func (c *conn) factsLocked(at int64) (f facts) {
	s := c.clockStateLocked()
	ends := s.phaseEnds(&c.loop.limits)
	switch {
	case c.isEnding():
		if !c.lanes.isBusy() || c.rare.end.immediate || at >= ends || c.rare.end.patient && c.outState != outOpen {
			f = factHandlersDone
		}
	case c.isFlushing():
		if c.out != nil {
			c.out.releaseWaiters()
			if at < ends {
				break
			}
			c.dropOutboxLocked()
			c.outState = outLost
			if c.loop.stopping.Load() && c.isAwaitedLocked() {
				c.cutOffLocked(&c.loop.cut.connections)
			}
		}
		f = factWritten
	case c.isDraining():
		if c.isLost() || c.peerEnd || at >= ends && !(c.rare.end.patient && c.isTakingLocked(at)) {
			f = factPeerDone
		}
	case c.isClosed():
		if !c.lanes.isUsed() {
			f = factUnused
		}
	}
	return f
}

// coverLocked takes the socket out of the poller and puts the placeholder over its number. The number is held back once the
// handlers have returned, HandleClientRemove the last of them.
func (c *conn) coverLocked() {
	l := c.loop
	l.poll.remove(c.fd())
	if c.lanes.isUsed() && (c.ctx != nil || c.tlsLocked() != nil) { // its handlers may still ask, and the number says nothing any more
		if a := c.aboutLocked(); a.remote == nil {
			a.remote = peerAddress(c.fd())
		}
	}
	c.in.end()
	c.dropOutboxLocked()
	if err := c.cover(l.placeholder, c.peerEnd); err != nil {
		c.reportLocked(slog.LevelError, "websocket: cannot cover a descriptor", "error", err)
	}
	l.deadlines.remove(c)
	if l.connections.Add(-1) == 0 {
		l.ring()
	}
	told := c.tellsLocked()
	l.addresses.leave(told.counted)
	if told.bridged != nil {
		go told.bridged.covered()
	}
	if c.lanes.isBusy() && c.lanes.add == addAwaited {
		c.goOnLaterLocked()
	}
}

// releaseLocked gives the number to the quarantine. No handler knows the connection any more.
func (c *conn) releaseLocked() {
	if c.rare.goesOn != nil {
		c.rare.goesOn.Stop() // it would keep the connection
	}
	c.ctx = nil
	c.lanes.drop()
	descriptors.set(c.fd(), tombstone)
	c.loop.numbers.hold(c.fd())
	c.forgoLocked()
}

// userID returns the user id of a context: any integer above zero under CtxKeyUID; 0 if there is none.
func userID(ctx context.Context) uint64 {
	switch v := reflect.ValueOf(ctx.Value(CtxKeyUID)); {
	case v.CanUint():
		return v.Uint()
	case v.CanInt():
		return uint64(max(v.Int(), 0))
	}
	return 0
}
