//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// departing20 is a loop with 20 connections, in the order in which they were opened. They are registered in another one.
func departing20(t *testing.T) (l *loop, lease *lease, conns []*conn) {
	l, lease = serveLoop(t, func(int, []byte) {})
	for range 20 {
		c, _ := serveConn(t, l)
		conns = append(conns, c)
	}
	for i := range conns {
		l.deadlines.set(conns[i*7%len(conns)], int64(1000-i))
	}
	return l, lease, conns
}

// stillOpen returns those of the connections that are open.
func stillOpen(conns []*conn) (left []*conn) {
	left = []*conn{}
	for _, c := range conns {
		if c.isOpen() {
			left = append(left, c)
		}
	}
	return left
}

// TestDepartures has a loop end its connections by its clock.
func TestDepartures(t *testing.T) {
	d := &departure{begin: 1000, spread: 20 * 100}
	t.Run("one after the other, at equal distances, the oldest first", func(t *testing.T) {
		l, _, conns := departing20(t)
		require.Equal(t, d.begin, l.departures.due(d))
		for i := range conns {
			l.now = d.begin + int64(i)*100 - 1
			if i > 0 {
				l.depart(d)
				assert.Equal(t, l.now+1, l.departures.due(d))
			}
			require.Equal(t, conns[i:], stillOpen(conns))
			l.now++
			l.depart(d)
			require.Equal(t, conns[i+1:], stillOpen(conns))
		}
		assert.True(t, l.departures.over)
		assert.Equal(t, int64(never), l.departures.due(d))
	})
	t.Run("those that are due if the loop is late, but not all at once", func(t *testing.T) {
		l, _, conns := departing20(t)
		for range departBatch {
			c, _ := serveConn(t, l)
			conns = append(conns, c)
			l.deadlines.set(c, never)
		}
		l.now = d.begin + d.spread
		l.depart(d)
		require.Equal(t, conns[departBatch:], stillOpen(conns))
		assert.LessOrEqual(t, l.departures.due(d), l.now, "the loop does not sleep")
		l.depart(d)
		require.Empty(t, stillOpen(conns))
	})
	t.Run("a second Shutdown hurries them", func(t *testing.T) {
		l, _, conns := departing20(t)
		l.now = d.begin
		l.depart(d)
		require.Len(t, stillOpen(conns), 19)
		l.depart(&departure{begin: d.begin})
		require.Empty(t, stillOpen(conns))
	})
	t.Run("one that has ended meanwhile is passed over", func(t *testing.T) {
		l, _, conns := departing20(t)
		l.now = d.begin
		l.depart(d)
		for _, c := range conns[1:10] {
			c.end(endReason{})
		}
		l.now = d.begin + 1000
		l.depart(d)
		require.Equal(t, conns[11:], stillOpen(conns))
	})
	t.Run("one that was opened meanwhile comes last", func(t *testing.T) {
		l, lease, conns := departing20(t)
		l.now = d.begin
		l.depart(d)
		late, _ := serveConn(t, l)
		l.deadlines.set(late, never)
		l.now = d.begin + d.spread - 101
		l.depart(d)
		require.Equal(t, []*conn{conns[19], late}, stillOpen(append(slices.Clone(conns), late)))
		l.now++
		l.depart(d)
		require.False(t, late.isOpen())
		later, _ := serveConn(t, l)
		later.look = true
		l.serve(lease, later)
		require.False(t, later.isOpen())
	})
	t.Run("nobody waits for those of a loop that has none", func(t *testing.T) {
		l, _ := serveLoop(t, nil)
		l.depart(d)
		assert.True(t, l.departures.over)
	})
}

func TestSpreadOf(t *testing.T) {
	for _, row := range []struct {
		name              string
		n                 int64
		limit, left, want time.Duration
	}{
		{"many have the limit", 1 << 20, 20 * time.Second, maxTimeout, 20 * time.Second},
		{"few need less", 3, 20 * time.Second, maxTimeout, 30 * time.Millisecond},
		{"some of the time that is left remains for the last", 1 << 20, 20 * time.Second, 8 * time.Second, 6 * time.Second},
		{"none is left", 1 << 20, 20 * time.Second, -time.Second, 0},
		{"none is wanted", 1 << 20, -1, maxTimeout, 0},
		{"nobody is there", 0, 20 * time.Second, maxTimeout, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, spreadOf(row.n, row.limit, row.left))
		})
	}
}

// TestShutdownIsPatient has the system hold bytes for a peer, which takes some of them or none.
func TestShutdownIsPatient(t *testing.T) {
	late := now() + int64(time.Hour)
	start := func(t *testing.T, why endReason) (c *conn, take func()) {
		l, _ := serveLoop(t, nil)
		l.opts.SendQueueSize = 4 << 20
		c, peer := serveConn(t, l)
		require.NoError(t, Send(c.fd(), NewFrameBin(false, make([]byte, 4<<20))))
		require.True(t, c.out.isStalled())
		c.rareLocked().end = why
		require.True(t, c.stepLocked(factEnded))
		require.True(t, c.stepLocked(factHandlersDone))
		return c, func() {
			_, err := readSocket(peer, make([]byte, 64<<10))
			require.NoError(t, err)
		}
	}
	t.Run("what is queued", func(t *testing.T) {
		c, _ := start(t, departing)
		c.out.since = late
		require.Zero(t, c.factsLocked(late))
		c, _ = start(t, goingAway)
		c.out.since = late
		require.Equal(t, factWritten, c.factsLocked(late), "its time counts from the beginning")
		c, _ = start(t, departing)
		require.Equal(t, factWritten, c.factsLocked(late), "nothing was taken")
	})
	t.Run("what was written", func(t *testing.T) {
		c, take := start(t, departing)
		c.dropOutboxLocked()
		require.True(t, c.stepLocked(factWritten))
		require.Positive(t, c.unacked())
		for range 3 {
			require.Zero(t, c.factsLocked(late))
			late += int64(time.Hour)
			take()
		}
		require.Zero(t, c.factsLocked(late))
		late += int64(time.Hour)
		require.Equal(t, factPeerDone, c.factsLocked(late), "nothing was taken")
		c, _ = start(t, goingAway)
		c.dropOutboxLocked()
		require.True(t, c.stepLocked(factWritten))
		require.Equal(t, factPeerDone, c.factsLocked(late), "it has a second")
	})
	t.Run("until the server stops", func(t *testing.T) {
		c, _ := start(t, departing)
		c.out.since = late
		c.end(goingAway)
		require.Equal(t, factWritten, c.factsLocked(late))
		require.False(t, c.rare.end.patient)
	})
}
