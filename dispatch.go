package websocket

import (
	"context"
	"math"
	"runtime/debug"
	"time"
)

// Handlers are called by the loop's own goroutine, with no hand-over, as long as they are fast. The monitor (monitor.go)
// takes the loop away from a goroutine that is stuck in a handler. From then on the handlers of that connection, and of all of
// the loop's where several were slow, are called by workers, each on a goroutine of its own, until they prove fast again. Whoever
// calls handlers does so in work, and decides there what comes next.

// maxBacklog is how many bytes of messages may wait for their handler before the connection is not read any more. Each
// message counts messageCost in addition to its payload; one of any size may wait.
const (
	maxBacklog  = 64 << 10
	messageCost = 64
)

// lane is a class of handlers of one connection. Those of one lane wait for each other, up to a number that may run at once.
type lane uint8

const (
	laneOrdered  lane = iota // HandleText, HandleBin, HandleRsvControl
	laneRequests             // routed requests
	laneLife                 // HandleAuth, HandleClientAdd, HandleClientRemove
	laneCount
)

// message is something for a handler of a connection.
type message struct {
	payload []byte
	head    header
}

// backlog holds the messages of a connection that wait for their handlers.
type backlog struct {
	waiting [laneLife][]message
	bytes   int
	pongs   []pong // answers to Pings that came behind messages of laneOrdered
}

// pong is the answers to Pings that wait for their turn: behind so many messages.
type pong struct {
	frames []byte
	behind int
}

func (b *backlog) add(l lane, m message) {
	b.waiting[l] = append(b.waiting[l], m)
	b.bytes += len(m.payload) + messageCost
}

func (b *backlog) isEmpty() bool {
	return len(b.waiting[laneOrdered])+len(b.waiting[laneRequests])+len(b.pongs) == 0
}

// addPong adds the answer to a Ping that came behind messages. Those behind the same message are written together.
func (b *backlog) addPong(payload []byte) {
	behind := len(b.waiting[laneOrdered])
	if n := len(b.pongs); n == 0 || b.pongs[n-1].behind != behind {
		b.pongs = append(b.pongs, pong{behind: behind})
	}
	last := &b.pongs[len(b.pongs)-1]
	last.frames = appendFrame(last.frames, OpcodePong, false, payload)
}

func (b *backlog) clear() {
	for l := range b.waiting {
		clear(b.waiting[l])
		b.waiting[l] = b.waiting[l][:0]
	}
	b.bytes = 0
	b.clearPongs()
}

func (b *backlog) clearPongs() {
	clear(b.pongs)
	b.pongs = b.pongs[:0]
}

// jobKind tells which handler a job is for.
type jobKind uint8

const (
	jobMessages jobKind = iota
	jobAuth
	jobAdd
	jobRemove
)

// job is what one goroutine does for a connection between two looks at its state.
type job struct {
	messages []message
	lane     lane
	kind     jobKind
	pongs    bool // there are some behind messages
}

// enqueueLocked adds the messages of one read, unless the connection ends without them. It returns an empty list for the next
// read: b itself where it did not keep it.
func (c *conn) enqueueLocked(b *backlog) *backlog {
	switch {
	case b.isEmpty():
		return b
	case !c.isOpen() || c.outState != outOpen:
	case c.backlog == nil:
		c.backlog = b
		return backlogs.Get().(*backlog)
	default:
		for l := range b.waiting {
			for _, m := range b.waiting[l] {
				c.backlog.add(lane(l), m)
			}
		}
		c.pongBehindLocked(b, math.MaxInt) // messages wait already: their handlers may take long
	}
	b.clear()
	return b
}

// dropBacklogLocked forgets the messages that wait.
func (c *conn) dropBacklogLocked() {
	if b := c.backlog; b != nil {
		c.backlog = nil
		b.clear()
		backlogs.Put(b)
	}
}

// busyLocked reports whether a handler runs or is still to be called.
func (c *conn) busyLocked() bool {
	return c.running[laneLife] > 0 || c.hasMessagesLocked() || c.addDue || c.removeDue
}

// hasMessagesLocked reports whether messages are being handled or wait for it.
func (c *conn) hasMessagesLocked() bool {
	return c.running[laneOrdered]+c.running[laneRequests] > 0 || c.backlog != nil && !c.backlog.isEmpty()
}

// takeLocked returns the next job for the connection, and counts it as running. Whoever took it runs it in work.
func (c *conn) takeLocked() (j job, ok bool) {
	switch {
	case c.isAsking() && c.running[laneLife] == 0:
		j = job{kind: jobAuth, lane: laneLife}
	case c.isShaking() || c.adding:
		return job{}, false
	case c.addDue:
		c.addDue, c.adding = false, true
		j = job{kind: jobAdd, lane: laneLife}
	case c.takeMessagesLocked(laneOrdered, &j), c.takeMessagesLocked(laneRequests, &j):
	case c.removeDue && c.hasEnded() && !c.hasMessagesLocked(): // HandleClientAdd may go on as a writer
		c.removeDue = false
		if !c.ending.farewell {
			c.closeFrameLocked()
		}
		j = job{kind: jobRemove, lane: laneLife}
	default:
		return job{}, false
	}
	c.running[j.lane]++
	return j, true
}

// addStarts has the time begin for which messages, and HandleClientRemove, wait for HandleClientAdd.
func (c *conn) addStarts() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addRuns = true
	if c.isOpen() {
		c.since = now()
	} else {
		c.ending.addBy = now() + int64(c.loop.opts.AddTimeout)
	}
	if c.hasSocket() {
		c.attendLocked() // for the deadline
	} else {
		c.goOnLaterLocked()
	}
}

// goOnLaterLocked sets a timer in place of the loop's clock, which a connection without a socket has no more.
func (c *conn) goOnLaterLocked() {
	c.ending.goesOn = time.AfterFunc(time.Duration(c.ending.addBy-now()), c.goOn)
}

// mayGoOnLocked reports whether HandleClientAdd runs and is waited for.
func (c *conn) mayGoOnLocked() bool { return c.adding && c.addRuns }

// goOn has a HandleClientAdd that runs for too long waited for no more: it is a writer.
func (c *conn) goOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goOnLocked()
}

func (c *conn) goOnLocked() {
	if c.adding {
		c.adding = false
		c.kickLocked()
	}
}

// takeMessagesLocked takes messages of a lane where one more handler may run: all that wait where they run one at a time, else
// one.
func (c *conn) takeMessagesLocked(l lane, j *job) bool {
	b := c.backlog
	if b == nil || len(b.waiting[l]) == 0 || int(c.running[l]) >= c.loop.atOnce[l] {
		return false
	}
	if c.loop.atOnce[l] == 1 {
		j.messages, b.waiting[l] = b.waiting[l], nil
		j.pongs = l == laneOrdered && len(b.pongs) > 0
	} else {
		j.messages, b.waiting[l] = b.waiting[l][:1:1], b.waiting[l][1:]
	}
	for i := range j.messages {
		b.bytes -= len(j.messages[i].payload) + messageCost
	}
	j.lane = l
	c.corked = c.corked || len(j.messages)+len(b.waiting[l]) > 1
	if c.paused && b.bytes < maxBacklog {
		c.paused = false
		c.attendLocked()
	}
	return true
}

// doneLocked ends a job.
func (c *conn) doneLocked(j job) {
	c.running[j.lane]--
	if j.kind == jobAdd {
		c.addRuns, c.adding = false, false
	}
	if j.pongs && c.backlog != nil {
		c.backlog.clearPongs()
	}
	if b := c.backlog; b != nil && b.isEmpty() {
		if j.kind == jobMessages && c.loop.atOnce[j.lane] == 1 {
			b.waiting[j.lane] = j.messages[:0] // cleared by run
		}
		c.backlog = nil
		backlogs.Put(b)
	}
	if c.isClosed() {
		c.stepLocked(c.factsLocked(never))
	} else if c.hasEnded() {
		c.attendLocked()
	}
}

// work runs a job of the connection and then whatever has become due, until nothing is. With a turn, the goroutine owns the
// loop; it returns whether it still does. Without one it is a worker. The monitor counts all of it as one, so that a row of
// jobs cannot hold up the loop any more than a single one.
func (c *conn) work(t *turn, j job) (owns bool) {
	l := c.loop
	returned := false
	defer func() {
		if !returned { // runtime.Goexit ends this goroutine
			c.mu.Lock()
			c.doneLocked(j)
			c.uncorkLocked()
			c.kickLocked()
			c.mu.Unlock()
			if t != nil && t.leave() {
				go l.run(newTurn(l))
			}
		}
	}()
	if t != nil {
		t.enter(c)
	}
	for ok := true; ok; {
		start := int64(0)
		if t == nil {
			start = now()
		}
		c.run(&j)
		c.mu.Lock()
		if t == nil {
			c.noteLocked(j.kind, now()-start < int64(slowHandler))
		}
		c.doneLocked(j)
		if j, ok = c.takeLocked(); !ok {
			c.uncorkLocked()
		} else if c.corked && (t == nil || t.isTaken()) {
			l.monitor.watchCork(c)
		}
		c.mu.Unlock()
	}
	returned = true
	return t != nil && t.leave()
}

// noteLocked is told of each job that a worker has run for the connection. That a connection known to be slow has another slow one
// is not held against the others; that HandleAuth is slow says nothing of the messages.
func (c *conn) noteLocked(kind jobKind, isFast bool) {
	if isFast || c.wary == 0 {
		c.loop.pace.note(isFast)
	}
	switch {
	case kind != jobMessages:
	case !isFast:
		c.wary = fastRow
	case c.wary > 0:
		c.wary--
	}
}

// kickLocked starts workers for all that can run now.
func (c *conn) kickLocked() {
	for {
		j, ok := c.takeLocked()
		if !ok {
			return
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

// growStack has a frame of half of what a handler and its Send take, so that the stack is doubled for it.
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
			if c.discards.Load() { // such as by the handler of the message before
				break
			}
			c.handle(&j.messages[i])
			if j.pongs {
				c.pongBehind(i + 1)
			}
		}
	case jobAuth:
		if o := c.opening; o.isStatus {
			c.status()
		} else {
			c.authenticate(o.request)
		}
	case jobAdd:
		c.addStarts()
		opts.HandleClientAdd(c.ctx, c.fd())
	case jobRemove:
		opts.HandleClientRemove(c.ctx, c.fd())
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
		c.turnAwayLocked(errHandlerFailed, c.opening.request, nil)
		return
	}
	c.endLocked(endReason{code: StatusInternalError, cause: "handler panicked", discard: true})
}

// status answers a request for StatusPath.
func (c *conn) status() {
	contentType, body := c.loop.opts.HandleStatus()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isAsking() {
		c.refuseLocked(appendStatus(nil, c.opening.request, contentType, body))
	}
}

// authenticate asks HandleAuth whether the connection may be opened.
func (c *conn) authenticate(req *Handshake) {
	ctx, err := c.loop.opts.HandleAuth(req)
	if err == nil {
		err = checkFields(req.ResponseHeader)
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
	default:
		c.acceptLocked(ctx, uid)
		c.attendLocked() // for what the client sent behind its request
	}
}
