//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestSlowReader(t *testing.T) {
	t.Run("a client that reads a message slowly is kept, if the system takes all of the message", func(t *testing.T) {
		opts := &websocket.ServerOptions{PingInterval: 50 * time.Millisecond, SilenceTimeout: 200 * time.Millisecond}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Dial(t)
		require.NoError(t, c.Conn.(*net.TCPConn).SetReadBuffer(4<<20))
		require.NoError(t, c.Shake())
		packet := websocket.NewFrameBin(false, peer.Pattern(1<<20, 0))
		require.NoError(t, websocket.SendID(websocket.ID(peer.Get(t, added)), packet))
		got := make([]byte, len(packet))
		for _, err := io.ReadFull(c.Reader, got[:2]); got[0] == peer.BitFin|byte(websocket.OpcodePing); _, err = io.ReadFull(c.Reader, got[:2]) { // Pings before it
			require.NoError(t, err)
			ping := make([]byte, got[1])
			_, err = io.ReadFull(c.Reader, ping)
			require.NoError(t, err)
			c.Send(websocket.NewFramePong(true, ping))
		}
		for part := range slices.Chunk(got[2:], 64<<10) { // in half a second
			<-time.After(30 * time.Millisecond)
			_, err := io.ReadFull(c.Reader, part)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(packet, got))
		require.Empty(t, removed)
	})
	t.Run("one that does not answer is told so with a Close frame", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{PingInterval: 30 * time.Millisecond, SilenceTimeout: 30 * time.Millisecond})
		c := s.Connect(t)
		c.Expect(websocket.OpcodePing, "")
		c.Expect(websocket.OpcodeClose, peer.CloseBody(websocket.StatusForbidden, "silent after a ping"))
		c.ExpectEOF()
	})
}
