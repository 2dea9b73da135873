package websocket

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"time"
)

// Handlers are called by the loop's own goroutine, with no hand-over, as long as they are fast. The monitor (monitor.go)
// takes the loop away from a goroutine that is stuck in a handler. From then on the handlers of that connection, or of all of
// the loop's connections if several were slow, are called by workers, each on a goroutine of its own, until they prove fast
// again. Whoever calls handlers does so in work, and decides there what comes next.

// enqueueLocked adds the messages of one read, unless the connection is ending. It returns an empty backlog for the next read.
func (c *conn) enqueueLocked(b *backlog) *backlog {
	if !c.isOpen() || c.outState != outOpen {
		b.clear()
		return b
	}
	empty, pongs := c.lanes.enqueue(b)
	c.pongLocked(pongs)
	return empty
}

// takeLocked returns the next job for the connection, and counts it as running. Whoever took it runs it.
func (c *conn) takeLocked() (j job, ok bool) {
	if h := c.handshakeLocked(); h != nil && h.turn == turnStep {
		return c.lanes.secure()
	}
	if j, ok = c.lanes.next(c.life, &c.loop.atOnce); !ok {
		return j, false
	}
	c.corked = c.corked || j.row
	j.light = j.whole != nil && j.kind == jobMessages && c.hasSocket() && !c.corked && c.lanes.runs() == 1
	if j.kind == jobRemove && !c.rare.end.farewell {
		c.closeFrameLocked()
	}
	return j, true
}

// doneLocked ends a job.
func (c *conn) doneLocked(j *job) {
	c.lanes.done(j)
	if j.kind == jobInflate {
		c.inflatedLocked(j)
	}
	if c.isClosed() {
		c.stepLocked(c.factsLocked(never))
	} else if c.hasEnded() {
		c.postLocked()
	} else if j.kind == jobAdd {
		c.dropRareLocked()
	}
}

// addStarts starts the time for which messages, and HandleClientRemove, wait for HandleClientAdd.
func (c *conn) addStarts() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes.addStarts()
	c.rareLocked().moments.addBegan = now()
	if c.hasSocket() {
		c.postLocked() // for the deadline
	} else {
		c.goOnLaterLocked()
	}
}

// goOnLaterLocked sets a timer in place of the loop's clock, which a connection without a socket no longer has.
func (c *conn) goOnLaterLocked() {
	by := c.rare.moments.addBegan + c.loop.limits.add
	c.rare.goesOn = time.AfterFunc(time.Duration(by-now()), c.goOn)
}

// goOn ends the wait for a HandleClientAdd that runs for too long.
func (c *conn) goOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goOnLocked()
}

func (c *conn) goOnLocked() {
	if c.lanes.goOn() {
		c.dropRareLocked()
		c.startJobsLocked()
	}
}

// work runs a job of the connection and then whatever has become due, until nothing is. With a lease, the goroutine owns the
// loop; it returns whether it still does. Without one it is a worker. The monitor counts all of it as one, so that a row of
// jobs cannot hold up the loop any more than a single one.
func (c *conn) work(t *lease, j job) (owns bool) {
	returned := false
	defer func() {
		if !returned { // runtime.Goexit ends this goroutine
			c.workerEnds(t, &j)
		}
	}()
	if t != nil {
		t.enter(c)
	}
	for ok := true; ok; {
		took := c.runTimed(t, &j)
		if t != nil && j.light && t.leave() {
			returned = true
			c.leaveLight(&j)
			return true
		}
		c.mu.Lock()
		if t == nil {
			c.countJobLocked(j.kind, took < int64(slowHandler))
		}
		j, ok = c.doneAndTakeLocked(j, t == nil || t.isTaken())
		c.mu.Unlock()
	}
	returned = true
	return t != nil && t.leave()
}

// doneAndTakeLocked ends a job and returns the next one. If there is none, it writes what was collected. If the goroutine does not own
// the loop, the monitor may have to write that earlier.
func (c *conn) doneAndTakeLocked(j job, isWorker bool) (next job, ok bool) {
	c.doneLocked(&j)
	j.release()
	next, ok = c.takeLocked()
	if j.kind == jobInflate && (isWorker || !next.pongs) { // as serve does it for those of plain connections
		c.pongLocked(c.lanes.takePongs(math.MaxInt))
	}
	if !ok {
		c.uncorkLocked()
		return next, false
	}
	if next.relief {
		c.postLocked()
	}
	if c.corked && isWorker {
		c.loop.monitor.watchCork(c)
	}
	if isWorker && c.deflation() != nil { // what was inflated is for several lanes, and more may be inflated beside them
		c.startJobsLocked()
	}
	return next, true
}

// workerEnds is what work has to leave behind when a handler ends the goroutine.
func (c *conn) workerEnds(t *lease, j *job) {
	c.mu.Lock()
	c.doneLocked(j)
	c.uncorkLocked()
	c.startJobsLocked()
	c.mu.Unlock()
	if t != nil && t.leave() {
		go c.loop.run(newLease(c.loop))
	}
}

// leaveLight ends a light job without the lock, on a goroutine that owns the loop: endLightJobLocked counts it as done when the
// connection is served next. Nobody asks before that: whatever could wait for it comes from the loop, or has the loop look at the
// connection.
func (c *conn) leaveLight(j *job) {
	c.unsettled = j.lane + 1
	j.release()
}

// endLightJobLocked ends the light job that the loop has run for the connection, if there is one.
func (c *conn) endLightJobLocked() {
	if c.unsettled > 0 {
		c.lanes.running[c.unsettled-1]--
		c.unsettled = 0
	}
}

// countJobLocked is told of each job that a worker has run for the connection. Another slow job of a connection known to be slow is
// not held against the other connections, and a slow HandleAuth says nothing about messages.
func (c *conn) countJobLocked(kind jobKind, isFast bool) {
	if isFast || c.lanes.offload == 0 {
		c.loop.offloading.count(isFast)
	}
	switch {
	case kind != jobMessages && kind != jobInflate:
	case !isFast:
		c.lanes.offload = fastRow
	case c.lanes.offload > 0:
		c.lanes.offload--
	}
}

// startJobsLocked starts workers for all that can run now.
func (c *conn) startJobsLocked() {
	for {
		j, ok := c.takeLocked()
		if !ok {
			return
		}
		if j.relief {
			c.postLocked()
		}
		c.startLocked(j)
	}
}

// startLocked gives a job to a worker.
func (c *conn) startLocked(j job) {
	if c.corked {
		c.loop.monitor.watchCork(c)
	}
	go c.worker(j)
}

// worker runs a job on a goroutine of its own. The stack grows first, while there is nothing on it: later, in the depth of a
// handler that sends, that takes longer than all the rest of starting a goroutine.
func (c *conn) worker(j job) {
	growStack(0)
	c.work(nil, j)
}

// growStack has a frame of half the size that a handler and its Send take, so that the stack is doubled for it.
//
//go:noinline
func growStack(i int) byte {
	var frame [2 << 10]byte
	return frame[i]
}

// run calls the handlers of a job. A panic ends the connection, not the process.
func (c *conn) run(j *job) {
	returned := false
	defer func() {
		if !returned {
			c.failed(j, recover())
		}
		clear(j.messages)
	}()
	opts := &c.loop.opts
	switch j.kind {
	case jobMessages:
		for i := range j.messages {
			if c.isDiscarding() { // perhaps because of the handler of the message before
				break
			}
			c.handle(&j.messages[i])
			if j.pongs {
				c.pongBehind(i + 1)
			}
		}
	case jobInflate:
		j.inflated = c.inflate(j)
	case jobSecure:
		c.secure()
	case jobAuth:
		if o := c.rare.opening; o.isStatus {
			c.status()
		} else {
			c.authenticate(o.request)
		}
	case jobAdd:
		c.addStarts()
		opts.HandleClientAdd(c.ctx, c.fd())
	case jobRemove:
		opts.HandleClientRemove(c.ctx, c.fd())
	case jobClose:
		c.tellEnd()
	}
	returned = true
}

// handle calls the handler of one message.
func (c *conn) handle(m *message) {
	opts := &c.loop.opts
	switch m.head.opcode() {
	case OpcodeText:
		opts.HandleText(c.fd(), m.payload)
		if c.loop.textLane == laneRequests { // it is the router itself, which keeps nothing
			PutBuffer(m.payload)
		}
	case OpcodeBin:
		if opts.HandleBin != nil {
			opts.HandleBin(c.fd(), m.payload)
		}
	default:
		opts.HandleRsvControl(c.fd(), &Frame{payload: m.payload, head: m.head, complete: true})
	}
}

// failed logs a handler's panic and ends its connection. Without a panic the handler has called runtime.Goexit.
func (c *conn) failed(j *job, panicked any) {
	text := "websocket: handler panicked"
	if panicked == nil {
		text = "websocket: handler ended its goroutine"
	}
	c.loop.log.Error(text, append(c.attrs(), "panic", panicked, "stack", string(debug.Stack()))...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if j.kind == jobAuth && c.isAsking() {
		c.turnAwayLocked(errHandlerFailed, c.rare.opening.request, nil)
		return
	}
	c.endLocked(endReason{kind: ClosedPanicked, code: StatusInternalError, cause: "handler panicked", discard: true})
}

// status answers a request for StatusPath.
func (c *conn) status() {
	contentType, body := c.loop.opts.HandleStatus()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isAsking() {
		c.refuseLocked(appendStatus(nil, c.rare.opening.request, contentType, body))
	}
}

// authenticate asks HandleAuth whether the connection may be opened.
func (c *conn) authenticate(req *Handshake) {
	ctx, err := c.loop.opts.HandleAuth(req)
	var broken error
	if own := asHandshakeError(err); own != nil {
		broken = own.check()
	} else if err == nil {
		if err = c.loop.terms.settle(req); errors.Is(err, errHandlerFailed) {
			broken = err
		}
	}
	if broken != nil {
		c.loop.log.Error("websocket: HandleAuth decided what cannot be answered", append(c.attrs(), "error", broken)...)
	}
	if ctx == nil {
		ctx = context.Background()
	}
	uid := userID(ctx) // the context may be of the program's own type: not under the lock
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.isAsking(): // stopped meanwhile, or the client has gone
	case err != nil:
		c.turnAwayLocked(err, req, nil)
	case !c.mayBeginLocked():
		c.turnAwayLocked(errGoing, req, nil)
	default:
		c.acceptLocked(ctx, uid)
		c.postLocked() // for what the client sent behind its request
	}
}
