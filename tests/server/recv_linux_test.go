package server

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

func TestRecvBeforeReset(t *testing.T) {
	for _, size := range []int{1, recvSize - 1, recvSize, 2 * recvSize, 3 * recvSize} {
		t.Run(fmt.Sprintf("%d bytes that arrived before a reset are received", size), func(t *testing.T) {
			a, b := tCPPair(t)
			require.NoError(t, websocket.Send(a, peer.Pattern(size, 0)))
			peek := make([]byte, size)
			require.True(t, peer.Eventually(func() bool {
				n, _, err := unix.Recvfrom(b, peek, unix.MSG_PEEK|unix.MSG_DONTWAIT)
				return err == nil && n == size
			}))
			require.NoError(t, unix.SetsockoptLinger(a, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
			dup, err := unix.Dup(b) // a is closed by dup2 over it: its number stays the test's
			require.NoError(t, err)
			defer unix.Close(dup)
			null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			defer unix.Close(null)
			require.NoError(t, unix.Dup2(null, a))
			require.True(t, peer.Eventually(func() bool {
				info, err := unix.GetsockoptTCPInfo(dup, unix.IPPROTO_TCP, unix.TCP_INFO)
				return err == nil && info.State == 7 // TCP_CLOSE: the reset has arrived
			}))
			var got []byte
			for len(got) < size {
				packet, err := websocket.Recv(b)
				require.NoError(t, err, "%d bytes were received", len(got))
				require.NotEmpty(t, packet)
				got = append(got, packet...)
			}
			require.True(t, bytes.Equal(peer.Pattern(size, 0), got))
		})
	}
}
