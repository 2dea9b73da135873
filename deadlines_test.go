//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestPings(t *testing.T) {
	const interval = 30 * time.Millisecond
	t.Run("an idle client is sent Pings, and one that answers is kept", func(t *testing.T) {
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: time.Hour, HandleText: rawEcho}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		for range 5 {
			op, payload, err := c.rawFrame()
			require.NoError(t, err)
			require.Equal(t, OpcodePing, op)
			c.send(NewFramePong(true, payload))
		}
		require.Empty(t, removed)
	})
	t.Run("anything that a client sends is an answer", func(t *testing.T) {
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: time.Hour}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		for range 5 {
			c.expect(OpcodePing, "")
			c.send(NewFrameBin(true, nil))
		}
		require.Empty(t, removed)
	})
	t.Run("a client that stays silent is removed after its Ping", func(t *testing.T) {
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: interval}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		c.expect(OpcodePing, "")
		c.expectClose(StatusForbidden)
		require.Equal(t, conn, rawGet(t, removed))
		require.Zero(t, s.Clients.Len())
	})
	t.Run("a silent client whose handler blocks is answered no more, and removed once", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: interval, HandleText: func(int, []byte) {
			inside <- struct{}{}
			<-release
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		now := rawRelease(t, release)
		c := s.connect(t)
		c.text("x")
		rawGet(t, inside)
		require.True(t, eventually(func() bool { return s.Clients.Len() == 0 }))
		now()
		rawGet(t, removed)
		require.Empty(t, removed)
	})
	t.Run("a client that is busy with a long message is not silent", func(t *testing.T) {
		const parts = 24
		packet := NewFrameText(false, rawPattern(parts<<20, 0)) // it takes a while, in which nobody would answer Pings
		got := make([]byte, len(packet))
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: 500 * time.Millisecond}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		// Little room in the system: what a Ping has to wait for is in the queue.
		require.NoError(t, c.Conn.(*net.TCPConn).SetReadBuffer(64<<10))
		require.NoError(t, unix.SetsockoptInt(conn, unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10))
		sent := make(chan struct{})
		go func() { // on a slow machine it takes long to copy the packet, and the client has been silent for long already
			for {
				select {
				case <-sent:
					return
				case <-time.After(interval):
					c.Write(NewFramePong(true, nil))
				}
			}
		}()
		require.NoError(t, Send(conn, packet))
		close(sent)
		for _, err := io.ReadFull(c.r, got[:2]); got[0] == 0x89; _, err = io.ReadFull(c.r, got[:2]) { // a Ping before it
			require.NoError(t, err)
		}
		for part := range slices.Chunk(got[2:], 1<<20) {
			<-time.After(50 * time.Millisecond)
			_, err := io.ReadFull(c.r, part)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(packet, got))
	})
	t.Run("below zero, no Pings are sent and silent clients are kept", func(t *testing.T) {
		opts := &ServerOptions{PingInterval: -1, SilenceTimeout: time.Millisecond, HandleText: rawEcho}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		<-time.After(5 * interval)
		c.text("x")
		c.expectText("x") // no Ping before it
		require.Empty(t, removed)
	})
	t.Run("clients that were opened together are not pinged together", func(t *testing.T) {
		const peers, long = 32, time.Second
		s := startServer(t, &ServerOptions{PingInterval: long})
		conns := make([]*rawConn, peers)
		for i := range conns {
			conns[i] = s.connect(t)
		}
		first, last := time.Time{}, time.Time{}
		var mu sync.Mutex
		rawAll(t, peers, func(i int) error {
			err := conns[i].rawExpect(OpcodePing, "")
			mu.Lock()
			defer mu.Unlock()
			if last = time.Now(); first.IsZero() {
				first = last
			}
			return err
		})
		require.Greater(t, last.Sub(first), long/4, "they are spread over three quarters of the interval")
	})
}

// TestPingClock sets the clock of a loop by hand.
func TestPingClock(t *testing.T) {
	const interval, step, start = int64(16 * time.Second), int64(16*time.Second) / pingSteps, 1000 * int64(time.Hour)
	const at = start + step/2 // between two steps
	for _, row := range []struct {
		name          string
		silence       time.Duration
		heard, pinged int64
		paused        bool
		pings         bool
		due           int64
	}{
		{"a client that was heard is pinged at the first step an interval later", time.Minute, at, 0, false, false, start + interval + step},
		{"a Ping's answer is waited for until the next Ping is due", 16 * time.Second, at - interval - step, 0, false, true, start + interval + step},
		{"or for the silence, where that is shorter", time.Second, at - interval - step, 0, false, true, at + int64(time.Second)},
		{"a client that still may answer is looked at when the next Ping is due if it has", time.Hour, at - 2*interval, at - interval/2, false, false,
			start + interval + step},
		{"or when the silence is over, where that is sooner", 16 * time.Second, at - 2*interval, at - interval/2, false, false, at + interval/2},
		{"the clock stands still while nothing is read", 16 * time.Second, at - 2*interval, at - interval, true, false, start + interval + step},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			l.limits.silence, l.now = int64(row.silence), at
			c, peer := serveConn(t, l)
			c.clocks.heard, c.clocks.pinged = row.heard, row.pinged
			if row.paused {
				c.lanes.backlog = &backlog{bytes: maxBacklog}
			}
			require.Equal(t, row.due, l.clockLocked(c))
			n, err := readSocket(peer, make([]byte, 10))
			if row.pings {
				require.NoError(t, err)
				require.Equal(t, len(emptyPing), n)
				require.Equal(t, at, c.clocks.pinged)
			} else {
				require.ErrorIs(t, err, errWouldBlock)
			}
		})
	}
}
