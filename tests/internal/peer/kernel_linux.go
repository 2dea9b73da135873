package peer

import (
	"golang.org/x/sys/unix"
)

// InKernel tells how many bytes the kernel has on their way between this end and the server's socket, in each direction: sent
// by one end and not read by the other. It reports false if the server's socket has gone.
//
// An end that reads nothing has not got, and the other has not written, what else was taken for it: that stands in a queue.
func (c *Conn) InKernel(conn int) (toServer, toClient int, ok bool) {
	raw, err := c.Socket().SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var unsent, unread int
	var err1, err2 error
	if err = raw.Control(func(fd uintptr) {
		unsent, err1 = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		unread, err2 = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	}); err != nil || err1 != nil || err2 != nil {
		return 0, 0, false
	}
	serverUnsent, err1 := unix.IoctlGetInt(conn, unix.SIOCOUTQ)
	serverUnread, err2 := unix.IoctlGetInt(conn, unix.TIOCINQ)
	return unsent + serverUnread, serverUnsent + unread, err1 == nil && err2 == nil
}
