//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listenerDescriptor returns a descriptor of its own for a listener, with TCP_NODELAY, which the sockets that it accepts
// inherit on Linux.
func listenerDescriptor(ln net.Listener) (fd int, err error) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return -1, ErrUnsupported
	}
	if fd, err = copyDescriptor(sc); err == nil {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // fails on a Unix socket, which has no delay
	}
	return fd, err
}

// copyDescriptor returns another descriptor for what a socket of the program has one for.
func copyDescriptor(of syscall.Conn) (fd int, err error) {
	raw, err := of.SyscallConn()
	if err != nil {
		return -1, err
	}
	ctlErr := raw.Control(func(orig uintptr) {
		fd, err = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 0)
	})
	if ctlErr != nil {
		return -1, ctlErr
	}
	return fd, err
}

// socketOf returns a descriptor of its own for a connection of the program, which is closed with it. ok is false, and the connection
// stays as it is, if it is not a socket itself but something around one.
func socketOf(conn net.Conn) (fd int, ok bool, err error) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return -1, false, nil
	}
	if fd, err = copyDescriptor(conn.(syscall.Conn)); err != nil {
		return -1, true, err
	}
	if err = unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, true, err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0) // Pings ask for more, and are enough
	conn.Close()                                                  // its descriptor; the socket goes on
	return fd, true, nil
}

// connOf makes a connection for net/http of a socket, whose descriptor it closes.
func connOf(fd int) (conn net.Conn, err error) {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	return net.FileConn(f)
}

// newPair returns two ends of one stream: the descriptor of one, and a connection for the other.
func newPair() (fd int, end *net.UnixConn, err error) {
	ends, err := newSocketPair()
	if err != nil {
		return -1, nil, err
	}
	conn, err := connOf(ends[1])
	if err != nil {
		unix.Close(ends[0])
		return -1, nil, err
	}
	return ends[0], conn.(*net.UnixConn), nil
}

// isOutOfDescriptors reports whether an error means that the process has none left.
func isOutOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// unblockListener makes sure that accepting does not wait. The program has the same socket under another number, and asking the
// os.File of that number for its descriptor makes the socket block.
func unblockListener(fd int) { unix.SetNonblock(fd, true) }

// waitSocket waits until a socket can be read or written. Without a limit it waits for ever.
func waitSocket(fd int, write bool, limit time.Duration) error {
	want := int16(unix.POLLIN)
	if write {
		want = unix.POLLOUT
	}
	until := time.Now().Add(limit)
	for {
		ms := -1
		if limit > 0 {
			if ms = int(time.Until(until).Milliseconds()) + 1; ms <= 0 {
				return errWaitedTooLong
			}
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: want}}, ms)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n > 0:
			return nil
		default:
			return errWaitedTooLong
		}
	}
}

// halfCloseSocket tells the peer that nothing follows.
func halfCloseSocket(fd int) { unix.Shutdown(fd, unix.SHUT_WR) }

// shutSocket ends a socket, for whoever uses it.
func shutSocket(fd int) { unix.Shutdown(fd, unix.SHUT_RDWR) }

func closeDescriptor(fd int) { unix.Close(fd) }

// maxDescriptors is how many descriptors the process may have.
func maxDescriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<fdBits {
		return 1 << fdBits
	}
	return int(limit.Cur)
}

// peerAddress returns the address of a socket's peer, nil if it has none or the system no longer knows it.
func peerAddress(fd int) net.Addr {
	name, err := unix.Getpeername(fd)
	if err == unix.ENOTCONN || err == unix.EINVAL { // such as after a reset
		name, err = formerPeer(fd)
	}
	if err != nil {
		return nil
	}
	return addressOfName(name)
}

// localAddress returns the address of a socket, nil if it has none.
func localAddress(fd int) net.Addr {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil
	}
	return addressOfName(name)
}

func addressOfName(name unix.Sockaddr) net.Addr {
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: name.Addr[:], Port: name.Port}
	case *unix.SockaddrInet6:
		address := &net.TCPAddr{IP: name.Addr[:], Port: name.Port}
		if name.ZoneId != 0 {
			address.Zone = strconv.Itoa(int(name.ZoneId))
		}
		return address
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: name.Name, Net: "unix"}
	}
	return nil
}
