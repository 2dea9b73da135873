package websocket

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// vanish has the system drop every packet that comes for a connection: its peer hears nothing more of it, not even of TCP.
func vanish(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	require.NoError(t, ctlErr)
	require.NoError(t, err)
}

// TestClientConn_vanishedPeer has servers whose packets are lost.
func TestClientConn_vanishedPeer(t *testing.T) {
	for name, send := range map[string]int{
		"an idle connection":              0,
		"one on which something was sent": 1 << 10,
		"one on which something more was": 8 << 10,
	} {
		t.Run("a server that has vanished is found silent on "+name, func(t *testing.T) {
			checkGoroutines(t)
			client, server := tcpPair(t)
			quit := make(chan bool, 1)
			cl := &Client{SilenceTimeout: 500 * time.Millisecond, HandleQuit: func() { quit <- true }}
			startOver(cl, client, func(c *clientConn) { c.pingInterval = 100 * time.Millisecond })
			vanish(t, server)
			start := time.Now()
			if send > 0 {
				require.NoError(t, cl.SendBin(make([]byte, send)))
			}
			scriptedWait(t, quit)
			assert.ErrorIs(t, cl.Err(), errSilent)
			assert.GreaterOrEqual(t, time.Since(start), 500*time.Millisecond)
		})
	}
}
