//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSendOnServerConnection(t *testing.T) {
	t.Run("a queue that is never empty keeps to its size", func(t *testing.T) {
		const queue, packets = 64 << 10, 4000
		opts := &ServerOptions{SendQueueSize: queue}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		sent := rawFill(t, conn, NewFrameText(false, rawPattern(8<<10, 0)))
		errs, most := make(chan error, 1), 0
		go func() {
			packet := NewFrameText(false, rawPattern(8<<10, 0))
			mc := descriptors.get(conn)
			for range packets {
				if err := Send(conn, packet); err != nil {
					errs <- err
					return
				}
				mc.mu.Lock()
				if mc.out != nil {
					most = max(most, cap(mc.out.buf))
				}
				mc.mu.Unlock()
			}
			errs <- nil
		}()
		for range sent + packets {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
		require.NoError(t, rawGet(t, errs))
		require.LessOrEqual(t, most, 4*queue)
	})
}

func TestSendToSlowPeer(t *testing.T) {

	t.Run("Pongs for a peer that does not read are coalesced to the latest", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 64 << 10}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		require.NoError(t, unix.SetsockoptInt(conn, unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10))
		sent := rawFill(t, conn, NewFrameText(false, rawPattern(8<<10, 0)))
		queued := func() int {
			mc := descriptors.get(conn)
			mc.mu.Lock()
			defer mc.mu.Unlock()
			return cap(mc.out.buf) + cap(mc.out.pong)
		}
		before := queued()
		const pings = 20_000
		var packet []byte
		for i := range pings {
			packet = NewFramePing(true, fmt.Appendf(nil, "%0120d", i))
			c.send(packet)
		}
		require.True(t, eventually(func() bool {
			mc := descriptors.get(conn)
			mc.mu.Lock()
			defer mc.mu.Unlock()
			return mc.out.hasPong && string(mc.out.pong) == fmt.Sprintf("%0120d", pings-1)
		}))
		require.LessOrEqual(t, queued(), before+maxControl+1<<10)
		for range sent {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
		pongs, last := 0, ""
		for last != fmt.Sprintf("%0120d", pings-1) { // the system takes a little more later, without the peer
			op, payload, err := c.rawFrame()
			require.NoError(t, err)
			require.Equal(t, OpcodePong, op)
			require.Greater(t, string(payload), last)
			pongs, last = pongs+1, string(payload)
		}
		require.Less(t, pongs, pings/10)
		c.text(`{"id":1}`)
		op, _, err := c.rawFrame()
		require.NoError(t, err)
		require.Equal(t, OpcodeText, op, "the latest Pong is the last")
	})
}

// TestSendThatWaitedTooLong has a queue in front of a socket that has taken nothing for a while.
func TestSendThatWaitedTooLong(t *testing.T) {
	for _, row := range []struct {
		name  string
		taken time.Duration // before now
		err   error
		phase phase
	}{
		{"a peer that took something is kept", defaultWriteTimeout / 4, ErrSendQueueFull, phaseOpen},
		{"one that has taken nothing for half of the time is not", defaultWriteTimeout / 2, ErrWriteTimeout, phaseEnding},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			c, _ := serveConn(t, l)
			for err := error(nil); err == nil; {
				_, err = writeSocket(c.fd(), make([]byte, readSize), false)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.queue(&outgoing{body: []byte("x")})
			c.watchForRoom()
			c.out.since = now() - int64(row.taken)
			require.Equal(t, row.err, c.tooSlowLocked())
			require.Equal(t, row.phase, c.phase)
		})
	}
}

func TestQueueDoesNotGrowWithWhatPasses(t *testing.T) {
	l, _ := serveLoop(t, nil)
	c, _ := serveConn(t, l)
	piece := rawPattern(1000, 0)
	for range 1000 {
		c.queue(&outgoing{body: piece})
		if c.out.len() == 2*len(piece) {
			require.Equal(t, piece, c.out.buf[c.out.sent:][:len(piece)])
			c.out.sent += len(piece) // as if the socket had taken it
		}
	}
	require.LessOrEqual(t, cap(c.out.buf), 8*len(piece))
}
