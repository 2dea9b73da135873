package websocket

import (
	"cmp"
	"slices"
)

// seat is where a connection stands in the agenda of its loop.
type seat uint8

const (
	seatNone  seat = iota // it is not in it
	seatRound             // it is served in this round
	seatNext              // it is served in the next
)

// agenda lists the connections that a loop serves in this round, and some of the next. However much is to be done for a connection, it
// is served once for all of that. The agenda is owned by the loop.
type agenda struct {
	round    []*conn
	served   int     // how many of round have been served
	ready    []*conn // for the next round, mostly because there is more to read
	deferred []*conn // for the next round, before those: this one was too short for their long messages
}

// begin starts the next round.
func (a *agenda) begin() {
	clear(a.round)
	a.round, a.served = append(append(a.round[:0], a.deferred...), a.ready...), 0
	for _, c := range a.round {
		c.seat = seatRound
	}
	clear(a.deferred)
	clear(a.ready)
	a.deferred, a.ready = a.deferred[:0], a.ready[:0]
}

// add adds a connection to this round, unless it is there.
func (a *agenda) add(c *conn) {
	if c.seat == seatNone {
		c.seat = seatRound
		a.round = append(a.round, c)
	}
}

// sort puts the connections from the i-th on in the order in which they were opened, which is mostly the one in which they lie in
// memory.
func (a *agenda) sort(i int) {
	slices.SortFunc(a.round[i:], func(x, y *conn) int { return cmp.Compare(x.id, y.id) })
}

// next returns the connection to serve next, nil if the round is over.
func (a *agenda) next() (c *conn) {
	if a.isOver() {
		return nil
	}
	c = a.round[a.served]
	a.served++
	c.seat = seatNone
	return c
}

// isOver reports whether all of the round have been served.
func (a *agenda) isOver() bool { return a.served == len(a.round) }

// again puts a connection that is being served on the next round as well.
func (a *agenda) requeue(c *conn) {
	if c.seat == seatNone {
		c.seat = seatNext
		a.ready = append(a.ready, c)
	}
}

// putOff is requeue for one that is to come first.
func (a *agenda) putOff(c *conn) {
	if c.seat == seatNone {
		c.seat = seatNext
		a.deferred = append(a.deferred, c)
	}
}
