package abuse

import (
	"net"

	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

// abuseInKernel is how many bytes for a client that reads nothing the kernel has: in the server's socket, and in the client's.
// What else the server has taken for it stands in its queue. It reports false if the server's socket has gone.
func abuseInKernel(c *peer.Conn, conn int) (held int, ok bool) {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, false
	}
	received := 0
	controlErr := raw.Control(func(fd uintptr) { received, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err != nil || controlErr != nil {
		return 0, false
	}
	held, err = unix.IoctlGetInt(conn, unix.SIOCOUTQ)
	return held + received, err == nil
}
