package server

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

// segmentsIn is how many segments of TCP a socket has received.
func segmentsIn(t *testing.T, conn net.Conn) (n uint32) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		info, infoErr := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err = infoErr; err == nil {
			n = info.Segs_in
		}
	}))
	require.NoError(t, err)
	return n
}

func TestCloseFrameAndEndAreOneSegment(t *testing.T) {
	s := peer.Start(t, &websocket.ServerOptions{})
	peer.Tries(t, 20, func() bool { // the system may acknowledge the client's Close frame with a segment of its own
		c := s.Connect(t)
		before := segmentsIn(t, c.Conn)
		c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
		c.Expect(websocket.OpcodeClose, "\x03\xe8")
		_, err := c.Reader.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		return segmentsIn(t, c.Conn) == before+1
	})
}

func TestRemovedSocketEndsForWhoeverHasIt(t *testing.T) {
	opts := new(websocket.ServerOptions)
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	s.Connect(t) // sends no end of its own
	conn := peer.Get(t, added)
	dup, err := unix.Dup(conn)
	require.NoError(t, err)
	defer unix.Close(dup)
	s.ClientRemove(conn)
	require.NoError(t, peer.WaitSocket(dup, false, peer.LeakWait))
	n, err := unix.Read(dup, make([]byte, 1))
	require.NoError(t, err)
	require.Zero(t, n)
}
