package websocket

import "container/heap"

// deadlines is a heap of all connections of a loop: the one to be looked at first is in front. It is also the register of the loop's
// connections: each is in it from the first time it is served until its number is covered, whether it has a deadline or not.
type deadlines []deadline

// deadline is when the loop looks at a connection again, or earlier than it needs to. It is here, and not in the connection, because
// the memory of an idle connection is seldom in a cache.
type deadline struct {
	due int64
	c   *conn
}

func (d deadlines) first() int64 {
	if len(d) == 0 {
		return never
	}
	return d[0].due
}

// set puts a connection where its deadline belongs.
func (d *deadlines) set(c *conn, due int64) {
	if c.heapIndex < 0 {
		heap.Push(d, c)
	}
	if at := &(*d)[c.heapIndex]; at.due != due {
		at.due = due
		heap.Fix(d, int(c.heapIndex))
	}
}

func (d *deadlines) remove(c *conn) {
	if c.heapIndex >= 0 {
		heap.Remove(d, int(c.heapIndex))
	}
}

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].due < d[j].due }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].c.heapIndex, d[j].c.heapIndex = int32(i), int32(j)
}

// Push adds a connection behind all others. It has no deadline yet.
func (d *deadlines) Push(x any) {
	c := x.(*conn)
	c.heapIndex = int32(len(*d))
	*d = append(*d, deadline{never, c})
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	c := (*d)[last].c
	(*d)[last] = deadline{}
	*d = (*d)[:last]
	c.heapIndex = -1
	return c
}

// clockLocked does what a connection's clocks want done by now, and returns when to look at them again.
func (l *loop) clockLocked(c *conn) (due int64) {
	if c.isOpen() || c.isFlushing() && c.rare.end.patient {
		l.lookAtSocketLocked(c)
	}
	for {
		s := c.clockStateLocked()
		moment, do := c.clocks.due(l.now, &s, &l.limits)
		switch do {
		case clockWaits:
			return moment
		case clockRefuses:
			c.expireLocked()
		case clockPings:
			l.pingLocked(c)
		case clockJudges:
			if c.clocks.held == 0 || !c.clocks.moved(l.now, c.unacked(), c.sent) {
				c.endLocked(endReason{kind: ClosedSilent, code: StatusForbidden, reason: silentReason, cause: silentReason})
			}
		case clockEndsStalled:
			c.endStalledLocked()
		case clockEndsUnclosed:
			c.endLocked(endReason{kind: ClosedRemoved, cause: "close frame not answered", discard: true})
		case clockGoesOn:
			c.goOnLocked()
		}
	}
}

// clockStateLocked returns what the clocks of a connection go by.
func (c *conn) clockStateLocked() (s clockState) {
	s = clockState{life: c.life, sent: int(c.sent), addAwaited: c.lanes.add == addAwaited, closeSent: c.outState == outClosed}
	if c.rare != nil {
		s.moments, s.end = c.rare.moments, &c.rare.end
	}
	if c.out.isStalled() {
		s.stalled, s.took = true, c.out.since
	}
	return s
}

// lookAtSocketLocked tries to write to a socket that is full, and stops the clocks of a peer that had no chance to answer.
func (l *loop) lookAtSocketLocked(c *conn) {
	wasStalled := c.out.isStalled()
	if wasStalled {
		c.flushLocked() // the poller tells of room only once there is a lot of it; less is a sign of life too
	}
	if c.out.isStalled() {
		c.out.moves(c.unacked(), l.now)
		if c.outState == outClosed { // the Close frame has not left
			c.rare.moments.closeSent = l.now
		}
	}
	if l.limits.ping >= 0 && (c.lanes.isFull() || wasStalled) { // its answer may be here, unread, or it has to read something else first
		c.clocks.hears(l.now)
	}
}

// pingLocked sends a Ping. A client that is not idle gets one too if much was sent to it: its Pong proves that this has arrived.
func (l *loop) pingLocked(c *conn) {
	frame := emptyPing
	if c.clocks.pings(l.now, c.sent) {
		frame = NewFramePing(false, []byte{c.clocks.asked})
		c.clocks.holds(c.unacked())
	}
	if c.sendableLocked() == nil { // else a Close frame was sent, which has to be answered in its own time
		c.writeLocked(&outgoing{body: frame})
	}
	c.sent = 0
}
