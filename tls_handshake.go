package websocket

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// A TLS handshake takes half a millisecond of a processor, and whoever can open a connection can ask for one. If each had a goroutine of its
// own, which runs as soon as it can, a few hundred of them would leave nothing to the connections that are open. So the loop takes them on,
// one step in each round, after it has served all that were ready: from where crypto/tls has a record to read until it wants another one.
// A step is in the bracket of a handler: should a callback of the program take its time, the monitor takes the loop away.

// tlsTurn says whose turn it is in a TLS handshake.
type tlsTurn uint8

const (
	turnClient tlsTurn = iota // to send a record
	turnLoop                  // to come to it
	turnStep                  // crypto/tls takes it on
	turnOver                  // nobody's: it is done, or has failed
)

// tlsHandshake is a TLS handshake. crypto/tls does it on a goroutine of its own, from the first record on, which runs during a step and is
// parked between two.
type tlsHandshake struct {
	of   *conn   // immutable
	turn tlsTurn // guarded by the connection's mu

	// Owned by the loop, or by whoever takes the handshake on.
	begun  bool
	err    error  // why it failed, if it is over
	flight []byte // what crypto/tls has written during the step

	// Set before the first step, with the connection's mu held; immutable then.
	ctx    context.Context
	giveUp context.CancelFunc

	// Set by the first step; immutable then.
	resume chan struct{}
	parked chan bool // whether it is over; has room for the last word of a handshake that nobody takes on any more

	// Guarded by the mu of handshakes.
	counted bool
	in      *list.List    // fresh or parked; nil if it is in neither
	place   *list.Element // in that
	since   int64         // when it was put there
}

// errHandshakeOver is what crypto/tls reads once nobody waits for its handshake any more.
var errHandshakeOver = fmt.Errorf("websocket: TLS handshake given up: %w", net.ErrClosed)

// begin starts the goroutine.
func (h *tlsHandshake) begin(t *tlsStream) {
	h.begun = true
	h.resume, h.parked = make(chan struct{}), make(chan bool, 1)
	t.in = appendHello(nil, t.in)
	go h.run(t)
}

// step takes the handshake on until crypto/tls wants a record that has not arrived, or it is over.
func (h *tlsHandshake) step(t *tlsStream) (over bool) {
	if !h.begun {
		h.begin(t)
	} else {
		select {
		case h.resume <- struct{}{}:
		case <-h.ctx.Done():
		}
	}
	return <-h.parked
}

// park waits for the next step, on the handshake's own goroutine.
func (h *tlsHandshake) park() error {
	h.parked <- false
	select {
	case <-h.resume:
		return nil
	case <-h.ctx.Done():
		return errHandshakeOver
	}
}

// run is the handshake's own goroutine.
func (h *tlsHandshake) run(t *tlsStream) {
	l := h.of.loop
	err := errors.New("websocket: a callback of TLSConfig has ended its goroutine")
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("websocket: a callback of TLSConfig panicked: %v", panicked)
			l.log.Error("websocket: handler panicked", append(h.of.attrs(), "panic", panicked, "stack", string(debug.Stack()))...)
		}
		h.giveUp() // it would keep what waits for its end
		l.handshakes.leave(h)
		l.wake() // another one may begin
		h.err = err
		h.parked <- true
	}()
	err = t.tls.HandshakeContext(h.ctx)
}

// giveUpLocked is called when the connection ends, and nobody waits for the handshake any more.
func (h *tlsHandshake) giveUpLocked() {
	if h.turn == turnLoop { // the loop will not come to it
		h.of.loop.handshakes.leave(h)
	}
	if h.giveUp != nil { // it has begun
		h.of.loop.tally.unsecured.Add(1)
		h.giveUp()
	}
}

// leastPatience is how long a client has at least for its part of a handshake, in nanoseconds, however many others want to begin.
const leastPatience = int64(time.Second)

// handshakes are the TLS handshakes of a loop that have begun, or are to.
type handshakes struct {
	limit int // how many may be under way; immutable

	// Guarded by mu.
	mu      sync.Mutex
	resumed []*tlsHandshake // their next step waits for the loop
	fresh   list.List       // of *tlsHandshake: so does their first one; behind is the one that came last
	parked  list.List       // of *tlsHandshake: they wait for their clients; in front is the one that has waited longest
	n       int             // how many are under way
}

// add has the loop take a handshake on.
func (q *handshakes) add(h *tlsHandshake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !h.begun {
		q.putLocked(h, &q.fresh, 0)
		return
	}
	q.takeOutLocked(h)
	q.resumed = append(q.resumed, h)
}

// next returns the handshake to take on, nil if there is none. Those that have begun come first, so that they end; then the one that came
// last: if there are more than can be served in time, those are whose clients still wait. If one more begins than may be under way, the one
// that has waited longest for its client is to be given up.
func (q *handshakes) next(now int64) (h, givenUp *tlsHandshake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.resumed) > 0 {
		h, q.resumed[0] = q.resumed[0], nil
		q.resumed = q.resumed[1:]
		return h, nil
	}
	if q.dueLocked() > now {
		return nil, nil
	}
	if q.n >= q.limit {
		givenUp = q.parked.Front().Value.(*tlsHandshake)
		q.leaveLocked(givenUp)
	}
	h = q.fresh.Back().Value.(*tlsHandshake)
	q.takeOutLocked(h)
	h.counted = true
	q.n++
	return h, givenUp
}

// due returns when there is a handshake to take on, which may be in the past.
func (q *handshakes) due() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dueLocked()
}

func (q *handshakes) dueLocked() int64 {
	switch {
	case len(q.resumed) > 0, q.fresh.Len() > 0 && q.n < q.limit:
		return 0
	case q.fresh.Len() > 0 && q.parked.Len() > 0: // one that waits is given up for it
		return q.parked.Front().Value.(*tlsHandshake).since + leastPatience
	}
	return never
}

// len returns how many are under way.
func (q *handshakes) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// park notes that a handshake waits for its client, from a moment on.
func (q *handshakes) park(h *tlsHandshake, now int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if h.counted {
		q.putLocked(h, &q.parked, now)
	}
}

func (q *handshakes) putLocked(h *tlsHandshake, in *list.List, now int64) {
	h.in, h.place, h.since = in, in.PushBack(h), now
}

func (q *handshakes) takeOutLocked(h *tlsHandshake) {
	if h.in != nil {
		h.in.Remove(h.place)
		h.in, h.place = nil, nil
	}
}

// leave counts a handshake out that has ended.
func (q *handshakes) leave(h *tlsHandshake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leaveLocked(h)
}

func (q *handshakes) leaveLocked(h *tlsHandshake) {
	q.takeOutLocked(h)
	if h.counted {
		h.counted = false
		q.n--
	}
}

// takeHandshake has the next handshake taken on in this round, behind all else.
func (l *loop) takeHandshake() {
	h, givenUp := l.handshakes.next(l.now)
	if givenUp != nil {
		l.warn(&l.crowded, "websocket: TLS handshakes given up: too many are under way", "most", l.opts.MaxHandshakes)
		givenUp.of.end(endReason{kind: ClosedSilent, cause: "TLS handshake given up: too many are under way"})
	}
	if h == nil {
		return
	}
	c := h.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isSecuring() { // it has ended meanwhile
		l.handshakes.leave(h)
		return
	}
	h.turn = turnStep
	if h.ctx == nil {
		h.ctx, h.giveUp = context.WithCancel(context.Background())
	}
	l.agenda.add(c)
}

// handshakeLocked returns the TLS handshake of the connection, nil if it has none, or no longer.
func (c *conn) handshakeLocked() *tlsHandshake {
	if t := c.tlsLocked(); t != nil {
		return t.handshake
	}
	return nil
}

// secure is a job: it takes the handshake one step on.
func (c *conn) secure() {
	c.mu.Lock()
	t := c.tlsLocked()
	h := t.handshake
	c.mu.Unlock()
	over := h.step(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isSecuring() { // else it was given up, and its goroutine ends as it likes
		t.unsent, h.flight = append(t.unsent, h.flight...), nil
		c.settleLocked() // which may find the socket dead
	}
	if h.turn = turnOver; !over && c.isSecuring() {
		h.turn = turnClient
		c.loop.handshakes.park(h, now())
	}
	c.postLocked()
}

// securedLocked goes on with a connection whose TLS handshake may be over. Only the loop calls it.
func (l *loop) securedLocked(c *conn) {
	t := c.tlsLocked()
	h := t.handshake
	switch {
	case h.turn == turnLoop && c.hangup && !h.begun: // the client will not answer
		c.endLocked(endReason{kind: ClosedLost, cause: "end of stream"})
		return
	case h.turn != turnOver:
		return
	case h.err != nil:
		c.endLocked(endReason{kind: ClosedProtocolError, cause: "TLS: " + h.err.Error()})
		return
	case c.out != nil: // nothing overtakes the last of its records
		return
	}
	t.handshake = nil
	l.tally.secured.Add(1)
	switch proto := t.tls.ConnectionState().NegotiatedProtocol; {
	case proto == "" || proto == protoHTTP:
		c.stepLocked(factSecured)
		c.readable = true // the request may have come with the last record
	case proto == protoHTTP2 && l.web != nil:
		c.stepLocked(factForeign)
	default: // such as acme-tls/1, which has been answered
		c.endLocked(endReason{kind: ClosedRemoved, cause: "TLS: the protocol is " + proto})
	}
}
