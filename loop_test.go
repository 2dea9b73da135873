//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRound drives a loop by hand, with connections in the middle of a message of 1 MiB.
func TestRound(t *testing.T) {
	const begun, read = 64 << 10, maxDirect
	var l *loop
	var turn *lease
	long := func(t *testing.T, waiting int) (c *conn, taken func() int) {
		t.Helper()
		c, peer := serveConn(t, l)
		head := appendHeader(nil, header{first: bitFin | byte(OpcodeBin), masked: true, length: 1 << 20})
		l.parse(c, append(head, make([]byte, begun)...))
		require.True(t, c.in.isLong())
		for waiting > 0 {
			n, err := writeSocket(peer, make([]byte, min(waiting, 16<<10)), false)
			require.NoError(t, err)
			waiting -= n
		}
		c.readable = true
		return c, func() int { return len(c.in.partial.message) - begun }
	}
	start := func(t *testing.T) {
		l, turn = serveLoop(t, func(int, []byte) {})
		l.left = readRound
	}
	t.Run("a long message is read on until its socket is empty", func(t *testing.T) {
		start(t)
		c, taken := long(t, read+1000)
		l.serve(turn, c)
		assert.Equal(t, read+1000, taken())
		assert.Equal(t, readRound-read-1000, l.left)
		assert.False(t, c.readable)
		assert.Empty(t, l.agenda.ready)
	})
	t.Run("or until the round has read enough, and again in the next", func(t *testing.T) {
		start(t)
		l.left = 1
		c, taken := long(t, 2*read+1000)
		l.serve(turn, c)
		assert.Equal(t, read, taken())
		require.Equal(t, []*conn{c}, l.agenda.ready)
		l.collect()
		assert.Equal(t, c, l.next())
		assert.Equal(t, readRound, l.left)
		l.serve(turn, c)
		assert.Equal(t, 2*read+1000, taken())
	})
	t.Run("however many there are, and however little of each has arrived", func(t *testing.T) {
		start(t)
		const waiting = 60 << 10
		total := 0
		for range 2 * readRound / waiting {
			c, taken := long(t, waiting)
			l.serve(turn, c)
			total += taken()
		}
		assert.LessOrEqual(t, total, readRound+waiting)
		assert.NotEmpty(t, l.agenda.deferred)
	})
	t.Run("but not once the connection ends", func(t *testing.T) {
		start(t)
		c, taken := long(t, 2*read)
		l.deadlines.set(c, never)
		c.end(endReason{discard: true})
		c.readable, c.look = false, true
		l.serve(turn, c)
		require.Equal(t, phaseDraining, c.phase)
		c.readable = true
		l.serve(turn, c)
		assert.EqualValues(t, readSize, c.drained)
		assert.Zero(t, taken())
		assert.Equal(t, readRound, l.left)
	})
	t.Run("a message whose end is missing is read on, too", func(t *testing.T) {
		start(t)
		handled := 0
		l.opts.HandleBin = func(int, []byte) { handled++ }
		c, peer := serveConn(t, l)
		_, err := writeSocket(peer, NewFrameBin(true, make([]byte, readSize)), false)
		require.NoError(t, err)
		c.readable = true
		l.serve(turn, c)
		assert.Equal(t, 1, handled)
	})
	t.Run("but not where there is no end to its fragments", func(t *testing.T) {
		start(t)
		l.protocol.Store(&rules{maxMessage: 1 << 20, maxFragments: 1 << 20, fromClient: true})
		c, peer := serveConn(t, l)
		in := append(appendHeader(nil, header{first: byte(OpcodeBin), masked: true, length: 3}), "abc"...)
		more := append(appendHeader(nil, header{masked: true, length: 2}), "de"...)
		for in = append(in, bytes.Repeat(more, 2*readSize/len(more))...); len(in) > 0; { // each read ends before an e
			n, err := writeSocket(peer, in[:min(len(in), 16<<10)], false)
			require.NoError(t, err)
			in = in[n:]
		}
		c.readable = true
		l.serve(turn, c)
		assert.True(t, c.in.isInData())
		assert.Equal(t, []*conn{c}, l.agenda.ready)
		assert.Equal(t, readRound, l.left)
	})
	t.Run("but not behind messages that are complete, of which one read has enough", func(t *testing.T) {
		start(t)
		c, peer := serveConn(t, l)
		short := NewFrameBin(true, make([]byte, 16<<10))
		_, err := writeSocket(peer, bytes.Repeat(short, 5), false)
		require.NoError(t, err)
		c.readable = true
		l.serve(turn, c)
		assert.True(t, c.in.isInData())
		assert.Equal(t, []*conn{c}, l.agenda.ready)
		assert.Equal(t, readRound, l.left)
	})
	t.Run("others that are long wait for the next round, where they come first", func(t *testing.T) {
		start(t)
		l.left = 1
		first, _ := long(t, 2*read+1000)
		second, taken := long(t, 1000)
		third, _ := long(t, 1000)
		for _, c := range []*conn{first, second, third, second} {
			l.serve(turn, c)
		}
		require.Zero(t, taken())
		require.Len(t, l.agenda.deferred, 2)
		l.collect()
		assert.Equal(t, []*conn{second, third, first}, l.agenda.round)
		l.serve(turn, second)
		assert.Equal(t, 1000, taken())
	})
	t.Run("short messages do not wait for it", func(t *testing.T) {
		start(t)
		handled := 0
		l.opts.HandleBin = func(int, []byte) { handled++ }
		l.left = 0
		c, peer := serveConn(t, l)
		_, err := writeSocket(peer, NewFrameBin(true, make([]byte, 100)), false)
		require.NoError(t, err)
		c.readable = true
		l.serve(turn, c)
		assert.Equal(t, 1, handled)
	})
}

// TestLateLoop has what a client sent in time wait in its socket when its deadline has passed.
func TestLateLoop(t *testing.T) {
	for _, row := range []struct {
		name string
		in   []byte
		kept bool
	}{
		{"a Pong", NewFramePong(true, nil), true},
		{"a part of a frame", NewFramePong(true, nil)[:1], true},
		{"nothing", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, left := range []int{readRound, 0} {
				l, turn := serveLoop(t, nil)
				l.now, l.left = now(), left
				c, peer := serveConn(t, l)
				c.clocks.pinged = l.now - int64(l.opts.SilenceTimeout)
				l.deadlines.set(c, l.now)
				_, err := writeSocket(peer, row.in, false)
				require.NoError(t, err)
				l.takeDue()
				require.Equal(t, c, l.next())
				l.serve(turn, c)
				assert.Equal(t, row.kept, c.phase == phaseOpen)
			}
		})
	}
	t.Run("a piece of a long message, where the round has read enough", func(t *testing.T) {
		l, turn := serveLoop(t, nil)
		l.now = now()
		c, peer := serveConn(t, l)
		head := appendHeader(nil, header{first: bitFin | byte(OpcodeBin), masked: true, length: 1 << 20})
		l.parse(c, append(head, make([]byte, 64<<10)...))
		c.clocks.pinged = l.now - int64(l.opts.SilenceTimeout)
		l.deadlines.set(c, l.now)
		_, err := writeSocket(peer, make([]byte, 1), false)
		require.NoError(t, err)
		l.takeDue()
		l.serve(turn, l.next())
		assert.Equal(t, phaseOpen, c.phase)
	})
	t.Run("a request", func(t *testing.T) {
		l, turn := serveLoop(t, nil)
		l.now = now()
		c, peer := serveConn(t, l)
		c.phase, c.reads = phaseOpening, readHandshake
		c.rare = &rare{opening: new(opening), moments: moments{phaseBegan: l.now - int64(l.opts.HandshakeTimeout)}}
		l.deadlines.set(c, l.now)
		_, err := writeSocket(peer, []byte(rawRequest), false)
		require.NoError(t, err)
		l.takeDue()
		l.serve(turn, l.next())
		assert.Equal(t, phaseOpen, c.phase)
	})
}

func TestEvents(t *testing.T) {
	for _, row := range []struct {
		name    string
		gen     uint32 // beyond the connection's
		drained int32
		follows bool
		ends    bool
	}{
		{"one of the connection is followed", 0, 0, true, false},
		{"one of an earlier connection with the same number is not", 1, 0, false, false},
		{"nobody reads up to the end of the stream behind too much", 0, maxDrainSize + 1, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			c, _ := serveConn(t, l)
			c.drained = row.drained
			l.follow(readiness{fd: c.fd(), gen: c.gen() + row.gen, hangup: true})
			assert.Equal(t, row.follows, slices.Contains(l.agenda.round, c))
			assert.Equal(t, row.follows, c.hangup)
			assert.Equal(t, row.ends, c.peerEnd && c.look)
		})
	}
}

func TestConnectionThatComesAfterTheEnd(t *testing.T) {
	l, turn := serveLoop(t, nil)
	l.now, l.ending = now(), true
	c, _ := serveConn(t, l)
	c.look = true
	l.serve(turn, c)
	assert.Equal(t, phaseDraining, c.phase)
}
