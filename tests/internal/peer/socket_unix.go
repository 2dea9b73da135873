//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package peer

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// WaitSocket waits until a socket can be read or, with write, written.
func WaitSocket(fd int, write bool, limit time.Duration) error {
	want := int16(unix.POLLIN)
	if write {
		want = unix.POLLOUT
	}
	until := time.Now().Add(limit)
	for {
		ms := int(time.Until(until).Milliseconds()) + 1
		if ms <= 0 {
			return errors.New("the socket is not ready in time")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: want}}, ms)
		if err != unix.EINTR && (err != nil || n > 0) {
			return err
		}
	}
}

// Sockets returns the numbers of the server's connections, those in their opening handshake too: the sockets of this process
// that have the server's port on their side, and a peer. It does not look above 1<<14.
func (s *Server) Sockets() (fds []int) {
	listener, ok := s.Addr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	for fd := range 1 << 14 {
		own, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		if in4, ok := own.(*unix.SockaddrInet4); !ok || in4.Port != listener.Port {
			continue
		}
		if _, err = unix.Getpeername(fd); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}
