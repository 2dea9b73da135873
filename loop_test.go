//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRound drives a loop by hand, with connections in the middle of a message of 1 MiB.
func TestRound(t *testing.T) {
	const begun, read = 64 << 10, maxDirect
	var l *loop
	var turn *turn
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
		assert.Equal(t, readRound-1000, l.left, "the first read does not count")
		assert.False(t, c.readable)
		assert.Empty(t, l.ready)
	})
	t.Run("or until the round has read enough, and again in the next", func(t *testing.T) {
		start(t)
		l.left = 1
		c, taken := long(t, 2*read+1000)
		l.serve(turn, c)
		assert.Equal(t, 2*read, taken())
		require.Equal(t, []*conn{c}, l.ready)
		l.collect()
		assert.Equal(t, c, l.next())
		assert.Equal(t, readRound, l.left)
		l.serve(turn, c)
		assert.Equal(t, 2*read+1000, taken())
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
		l.protocol.Store(&protocol{maxMessage: 1 << 20, maxFragments: 1 << 20, fromClient: true})
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
		assert.Equal(t, []*conn{c}, l.ready)
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
		assert.Equal(t, []*conn{c}, l.ready)
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
		require.Len(t, l.deferred, 2)
		l.collect()
		assert.Equal(t, []*conn{second, third, first}, l.todo)
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
