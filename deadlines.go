package websocket

import (
	"container/heap"
	"time"
)

// stallLooks is how often a full socket is tried within the write time-out.
const stallLooks = 8

// pingSteps is in how many steps of an interval Pings are sent, and minPingStep is the shortest step. A Ping may be a step late;
// so may be the end of a silent client, where the silence may last for an interval or longer.
const (
	pingSteps   = 64
	minPingStep = time.Millisecond
)

// deadlines is a heap of all connections of a loop, the one to be looked at first in front.
type deadlines []deadline

// deadline is when the loop looks at a connection again; it may be early. It is here, and not in the connection, because the
// memory of an idle connection is slow to get.
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
	if c.place < 0 {
		heap.Push(d, c)
	}
	if at := &(*d)[c.place]; at.due != due {
		at.due = due
		heap.Fix(d, int(c.place))
	}
}

func (d *deadlines) remove(c *conn) {
	if c.place >= 0 {
		heap.Remove(d, int(c.place))
	}
}

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].due < d[j].due }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].c.place, d[j].c.place = int32(i), int32(j)
}

// Push adds a connection behind all others, without a deadline as yet.
func (d *deadlines) Push(x any) {
	c := x.(*conn)
	c.place = int32(len(*d))
	*d = append(*d, deadline{never, c})
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	c := (*d)[last].c
	(*d)[last] = deadline{}
	*d = (*d)[:last]
	c.place = -1
	return c
}

// clockLocked does what a connection's clocks want by now, and returns when to look at them again.
func (l *loop) clockLocked(c *conn) (due int64) {
	switch c.phase {
	case phaseOpening:
		if due = c.opening.since + int64(l.opts.HandshakeTimeout); due > l.now {
			return due
		}
		c.expireLocked()
		return l.now
	case phaseOpen:
		return min(l.silenceLocked(c), l.limitsLocked(c))
	case phaseEnding:
		due = c.ending.waitsUntil(c.since, &l.opts)
	case phaseFlushing:
		due = c.since + int64(l.opts.WriteTimeout)
	case phaseDraining:
		due = c.since + int64(maxDrainTime)
	default: // in phaseAuth HandleAuth may take its time
		return never
	}
	if c.lanes.add == addAwaited {
		due = min(due, c.ending.addBy)
	}
	return due
}

// silenceLocked pings a client that is idle, or was sent much, and ends one that had the chance to answer and did not. The clock stands
// still while nothing is read, and while the queue waits for the socket, which has a clock of its own.
func (l *loop) silenceLocked(c *conn) (due int64) {
	switch {
	case l.opts.PingInterval < 0:
		return never
	case c.lanes.isFull(), c.out.isStalled(): // its answer may wait to be read, or for it to have read what comes first
		c.heard, c.pinged = l.now, 0
	case c.pinged != 0:
		if due = l.silentAt(c); due <= l.now && l.movedLocked(c) {
			due = l.silentAt(c)
		}
		if due > l.now {
			return min(due, l.pingStep(l.now)) // it may have answered by then
		}
		c.endLocked(endReason{code: StatusForbidden, reason: silentReason, cause: silentReason})
		return never
	}
	wasSentMuch := earnedTime(int(c.sent), l.opts.MinRate) > int64(l.opts.PingInterval)
	if due = l.pingStep(c.heard); due > l.now && (!wasSentMuch || c.unproven > 0) { // the last Ping's Pong is to come first
		return due
	}
	l.pingLocked(c)
	if l.opts.SilenceTimeout < l.opts.PingInterval {
		return min(l.silentAt(c), l.pingStep(l.now))
	}
	return l.pingStep(l.now)
}

// silentAt returns when a client that was pinged will have been silent for too long.
func (l *loop) silentAt(c *conn) int64 {
	return c.pinged + int64(l.opts.SilenceTimeout) + earnedTime(int(c.unproven), l.opts.MinRate)
}

// pingLocked sends a Ping. A client that is not idle gets one too, if much was sent to it: its Pong proves that it has got that.
func (l *loop) pingLocked(c *conn) {
	c.pinged, c.unproven, c.held = l.now, int32(inTransit(int(c.unproven), int(c.sent))), 0
	frame := emptyPing
	if c.unproven > 0 {
		c.asked++
		frame = NewFramePing(false, []byte{c.asked})
		c.held = int32(min(c.unacked(), maxInTransit))
	}
	if c.sendableLocked() == nil { // else a Close frame was sent, which has to be answered in its own time
		c.writeLocked(&outgoing{body: frame})
	}
	c.sent = 0
}

// ponged is told of a Pong. One for an earlier Ping says nothing of what was sent since then.
func (c *conn) ponged(number byte) {
	if number == c.asked {
		c.unproven, c.held = 0, 0
	}
}

// movedLocked reports whether some of what is in front of a Ping was acknowledged since the last look: then the client is slower than
// MinRate, and the Ping had not left. Its time begins again, with what is still in front.
func (l *loop) movedLocked(c *conn) bool {
	if c.held == 0 {
		return false
	}
	held := max(int32(min(c.unacked(), maxInTransit))-c.sent-int32(len(emptyPing)+1), 0)
	if held >= c.held {
		return false
	}
	c.pinged, c.held, c.unproven = l.now, held, held
	return true
}

// pingStep returns the first step that is a PingInterval after a moment. Pings that are due at nearly the same time share one
// wake-up, and their answers may too.
func (l *loop) pingStep(from int64) int64 {
	step := int64(max(l.opts.PingInterval/pingSteps, minPingStep))
	return (from + int64(l.opts.PingInterval) + step - 1) / step * step
}

// limitsLocked ends an open connection that takes nothing or does not answer a Close frame, and lets messages go when
// HandleClientAdd takes long.
func (l *loop) limitsLocked(c *conn) (due int64) {
	due = never
	if c.out.isStalled() {
		due = l.stallLocked(c)
	}
	if c.outState == outClosed {
		if c.out.isStalled() { // the Close frame has not left
			c.since = l.now
		}
		inFront := inTransit(int(c.unproven), int(c.sent))
		if by := c.since + int64(l.opts.WriteTimeout) + earnedTime(inFront, l.opts.MinRate); by <= l.now {
			c.endLocked(endReason{cause: "close frame not answered", discard: true})
		} else {
			due = min(due, by)
		}
	}
	if c.lanes.add == addAwaited {
		if by := c.since + int64(l.opts.AddTimeout); by <= l.now {
			c.goOnLocked()
		} else {
			due = min(due, by)
		}
	}
	return due
}

// stallLocked tries a socket that was full, and ends a connection whose peer takes nothing.
func (l *loop) stallLocked(c *conn) (due int64) {
	c.flushLocked() // the poller tells of room only once there is a lot of it; less is a sign of life too
	o := c.out
	if !o.isStalled() {
		return never
	}
	o.moves(c.unacked(), l.now)
	timeout := int64(l.opts.WriteTimeout)
	if o.since+timeout <= l.now {
		c.endStalledLocked()
		return never
	}
	return min(o.since+timeout, l.now+timeout/stallLooks)
}
