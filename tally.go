package websocket

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sampleEvery is how many times a loop calls handlers for each time that it looks at the clock for that.
const sampleEvery = 16

// bounds are the upper bounds of all histograms but for the last bar, which has none.
var bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// tallies are the counters of a Server. They go on over its runs.
type tallies struct {
	outside tally    // of what belongs to no loop
	loops   []*tally // guarded by the Server's mu
}

// of returns the counters of the i-th loop.
func (ts *tallies) of(i int) *tally {
	for len(ts.loops) <= i {
		ts.loops = append(ts.loops, new(tally))
	}
	return ts.loops[i]
}

// tally has the counters of one loop and its connections. Any goroutine may count. What differs by who mostly does is on cache lines
// of its own, so that a broadcast on one processor does not hold up a loop on another.
type tally struct {
	_ [64]byte

	// Mostly the loop's own.
	received traffics
	lag      bars
	handlers bars
	auth     bars

	_ [64]byte

	// Of those who send.
	sent     traffics
	queued   atomic.Int64  // bytes that wait for sockets that are full
	overfull atomic.Uint64 // sends that found no room

	_ [64]byte

	// Seldom used.
	phases    [phaseGone]atomic.Int64 // connections that are in one
	accepted  atomic.Uint64
	adopted   atomic.Uint64
	opened    atomic.Uint64
	secured   atomic.Uint64
	unsecured atomic.Uint64
	takeovers atomic.Uint64
	pauses    atomic.Uint64
	refused   counts[refusedAs]
	ended     counts[endedAs]

	_ [64]byte
}

// refusedAs is by what refused handshakes are counted, and endedAs connections that have ended.
type (
	refusedAs struct {
		status int // 0: nothing was answered
		reason string
	}
	endedAs struct {
		kind CloseKind
		code CloseCode
	}
)

// moved counts a connection that has taken a step.
func (y *tally) moved(from, to phase) {
	y.phases[from].Add(-1)
	if to < phaseGone {
		y.phases[to].Add(1)
	}
}

// handshakeRefused counts a handshake that is refused, with a status or, if that is 0, without a word. byProgram says that HandleAuth has
// been asked.
func (y *tally) handshakeRefused(status int, err error, byProgram bool) {
	y.refused.add(refusedAs{status, reasonOf(err, byProgram)})
}

// httpRefused counts a request of net/http that is refused.
func (y *tally) httpRefused(err error) { y.handshakeRefused(refusalFor(err).status, err, false) }

// connectionEnded counts a connection that was open. A peer may send any code that is for applications, so those count together.
func (y *tally) connectionEnded(cause CloseCause) {
	if cause.Kind == ClosedByPeer && cause.Code >= 3000 {
		cause.Code -= cause.Code % 1000
	}
	y.ended.add(endedAs{cause.Kind, cause.Code})
}

// reasons are why handshakes are refused: own are the server's reasons, and named those that a program has names for too.
func reasons() (own, named []error) {
	own = []error{
		errUnknownPath, errPlainGet, errOrigin, errHeaderTooLarge, errSlowRequest, errPlainHTTP, errTooManyOfAddress, errTooMany, errStopped, errGoing,
		errNoTakeover, errHandlerFailed, errProxyMissing, errProxyMalformed, errProxyTooLong, errPipelined, errBody,
	}
	named = []error{
		ErrUnsupportedWSVersion, ErrInvalidHTTPMethod, ErrInvalidHTTPVersion, ErrInvalidHeaderFormat, ErrInvalidHeaderHost,
		ErrInvalidHeaderConn, ErrInvalidHeaderUpgrade, ErrInvalidHeaderWSKey, ErrInvalidHeaderWSVersion, ErrInvalidHeaderWSExtensions,
		ErrInvalidHeaderWSProtocol, ErrMissingRequiredHeader, ErrRequestLength, ErrRequestHeaderLength,
	}
	return own, named
}

// What else is a reason: a HandleAuth has said no, or what came is no request at all.
const (
	reasonAuth  = "HandleAuth"
	reasonOther = "bad request"
)

// reasonOf returns why a handshake is refused, in one of a few texts. An error of HandleAuth may have any text, or be one that programs can
// name too.
func reasonOf(err error, byProgram bool) string {
	own, named := reasons()
	is := func(known error) bool { return errors.Is(err, known) }
	if i := slices.IndexFunc(own, is); i >= 0 {
		return own[i].Error()
	}
	if byProgram {
		return reasonAuth
	}
	if i := slices.IndexFunc(named, is); i >= 0 {
		return named[i].Error()
	}
	return reasonOther
}

// traffics are counters of traffic.
type traffics struct {
	messages, bytes [kinds]atomic.Uint64
	plain, packed   atomic.Uint64
}

// take adds what was counted, and has it begin again.
func (ts *traffics) take(t *traffic) {
	if *t == (traffic{}) {
		return
	}
	for kind, n := range t.messages {
		if n > 0 {
			ts.messages[kind].Add(n)
			ts.bytes[kind].Add(t.bytes[kind])
		}
	}
	if t.packed > 0 {
		ts.plain.Add(t.plain)
		ts.packed.Add(t.packed)
	}
	*t = traffic{}
}

// add counts what is sent.
func (ts *traffics) add(out *outgoing) {
	if kind, bytes, ok := out.only(); ok && out.text == 0 {
		ts.messages[kind].Add(1)
		ts.bytes[kind].Add(bytes)
		return
	}
	var t traffic
	t.addSent(out)
	ts.take(&t)
}

// bars are the counters of a histogram.
type bars struct {
	counts [len(bounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// barOf returns the bar of a time in nanoseconds.
func barOf(took int64) (i int) {
	for i < len(bounds) && took > int64(bounds[i]) {
		i++
	}
	return i
}

// add counts a time, in nanoseconds, that stands for so many.
func (b *bars) add(took int64, weight int) {
	b.counts[barOf(took)].Add(uint64(weight))
	b.sum.Add(took * int64(weight))
}

// rounds are those that a loop has served, and not brought to its tally.
type rounds struct {
	lag    [len(bounds) + 1]uint64 // rounds, by the time that they took
	time   int64                   // of all of them
	since  int64                   // when it last brought something
	served bool                    // the present round is one
}

// bringEvery is how long a loop that is never idle keeps what it has counted, in nanoseconds.
const bringEvery = int64(time.Millisecond)

// bring brings what the loop has counted to its tally.
func (l *loop) bring() {
	r, y := &l.rounds, l.tally
	r.since = l.now
	y.received.take(&l.got.traffic)
	if r.time == 0 {
		return
	}
	for i, n := range r.lag {
		if n > 0 {
			y.lag.counts[i].Add(n)
		}
	}
	y.lag.sum.Add(r.time)
	r.lag, r.time = [len(bounds) + 1]uint64{}, 0
}

// counts are counters by what they count, of which little is in use.
type counts[K comparable] struct {
	mu sync.Mutex
	by map[K]uint64 // guarded by mu
}

func (c *counts[K]) add(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[K]uint64)
	}
	c.by[key]++
}

// addTo adds the counters to others.
func (c *counts[K]) addTo(sums map[K]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, n := range c.by {
		sums[key] += n
	}
}

// countLocked counts what is sent next. What is collected is counted where it waits, until it is written.
func (c *conn) countLocked(out *outgoing) {
	o := c.out
	switch {
	case out.uncounted:
	case o == nil:
		c.loop.tally.sent.add(out)
	default:
		o.traffic.addSent(out)
	}
}

// countQueuedLocked takes note of how much waits for a full socket. It may wait for long: what it is counts now.
func (c *conn) countQueuedLocked() {
	if waits := c.out.waits(); waits != c.out.counted {
		c.loop.tally.sent.take(&c.out.traffic)
		c.loop.tally.queued.Add(int64(waits - c.out.counted))
		c.out.counted = waits
	}
}

// overfullLocked is the error of a send that finds no room.
func (c *conn) overfullLocked() error {
	c.loop.tally.overfull.Add(1)
	return ErrSendQueueFull
}

// endRound counts the round that has been served, if there is one. What became ready meanwhile has waited for up to as long as that took.
func (l *loop) endRound(at int64) {
	if r := &l.rounds; r.served {
		r.served = false
		r.lag[barOf(at-l.now)]++
		r.time += at - l.now
	}
}

// rest is told that the loop has nothing to do.
func (l *loop) rest(at int64) {
	l.endRound(at)
	l.bring()
}

// beginRound begins the time of a round, and ends that of the one before if the loop has had no rest.
func (l *loop) beginRound(at int64) {
	l.endRound(at)
	if l.now = at; at > l.rounds.since+bringEvery {
		l.bring()
	}
}

// runTimed runs a job, and returns how many nanoseconds that took, 0 if nobody looked at the clock.
func (c *conn) runTimed(t *lease, j *job) (took int64) {
	var to *bars
	switch {
	case j.kind == jobMessages:
		to = &c.loop.tally.handlers
	case j.kind == jobAuth && !c.rare.opening.isStatus:
		to = &c.loop.tally.auth
	}
	start, isSampled := int64(0), t != nil && j.kind == jobMessages && !t.isTaken()
	if t == nil || to != nil && (!isSampled || t.step%sampleEvery == 0) {
		start = now()
	}
	c.run(j)
	weight := 1
	switch {
	case !isSampled:
	case !t.isTaken():
		weight = sampleEvery
	case start == 0:
		start = t.stuckFrom.Load()
	}
	if start == 0 {
		return 0
	}
	took = now() - start
	if to != nil {
		to.add(took, weight)
	}
	return took
}
