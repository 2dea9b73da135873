//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

func TestPings(t *testing.T) {
	const interval = 30 * time.Millisecond
	t.Run("an idle client is sent Pings, and one that answers is kept", func(t *testing.T) {
		opts := &websocket.ServerOptions{PingInterval: interval, SilenceTimeout: time.Hour, HandleText: peer.Echo}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		for range 5 {
			op, payload, err := c.Frame()
			require.NoError(t, err)
			require.Equal(t, websocket.OpcodePing, op)
			c.Send(websocket.NewFramePong(true, payload))
		}
		require.Empty(t, removed)
	})
	t.Run("anything that a client sends is an answer", func(t *testing.T) {
		opts := &websocket.ServerOptions{PingInterval: interval, SilenceTimeout: time.Hour}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		for range 5 {
			c.Expect(websocket.OpcodePing, "")
			c.Send(websocket.NewFrameBin(true, nil))
		}
		require.Empty(t, removed)
	})
	t.Run("a client that stays silent is removed after its Ping", func(t *testing.T) {
		opts := &websocket.ServerOptions{PingInterval: interval, SilenceTimeout: interval}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		c.Expect(websocket.OpcodePing, "")
		c.ExpectClose(websocket.StatusForbidden)
		require.Equal(t, conn, peer.Get(t, removed))
		require.Zero(t, s.Clients.Len())
	})
	t.Run("a silent client whose handler blocks is answered no more, and removed once", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		opts := &websocket.ServerOptions{PingInterval: interval, SilenceTimeout: interval, HandleText: func(int, []byte) {
			inside <- struct{}{}
			<-release
		}}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c := s.Connect(t)
		c.Text("x")
		peer.Get(t, inside)
		require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 0 }))
		now()
		peer.Get(t, removed)
		require.Empty(t, removed)
	})
	t.Run("a client that is busy with a long message is not silent", func(t *testing.T) {
		const parts = 24
		packet := websocket.NewFrameText(false, peer.Pattern(parts<<20, 0)) // it takes a while, in which nobody would answer Pings
		got := make([]byte, len(packet))
		opts := &websocket.ServerOptions{PingInterval: interval, SilenceTimeout: 500 * time.Millisecond}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
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
					c.Write(websocket.NewFramePong(true, nil))
				}
			}
		}()
		require.NoError(t, websocket.Send(conn, packet))
		close(sent)
		for _, err := io.ReadFull(c.Reader, got[:2]); got[0] == 0x89; _, err = io.ReadFull(c.Reader, got[:2]) { // a Ping before it
			require.NoError(t, err)
		}
		for part := range slices.Chunk(got[2:], 1<<20) {
			<-time.After(50 * time.Millisecond)
			_, err := io.ReadFull(c.Reader, part)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(packet, got))
	})
	t.Run("below zero, no Pings are sent and silent clients are kept", func(t *testing.T) {
		opts := &websocket.ServerOptions{PingInterval: -1, SilenceTimeout: time.Millisecond, HandleText: peer.Echo}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		<-time.After(5 * interval)
		c.Text("x")
		c.ExpectText("x") // no Ping before it
		require.Empty(t, removed)
	})
	t.Run("clients that were opened together are not pinged together", func(t *testing.T) {
		const peers, long = 32, time.Second
		s := peer.Start(t, &websocket.ServerOptions{PingInterval: long})
		conns := make([]*peer.Conn, peers)
		for i := range conns {
			conns[i] = s.Connect(t)
		}
		first, last := time.Time{}, time.Time{}
		var mu sync.Mutex
		peer.All(t, peers, func(i int) error {
			err := conns[i].Compare(websocket.OpcodePing, "")
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
