//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package websocket

import (
	"cmp"
	"syscall"

	"golang.org/x/sys/unix"
)

// readSocket reads from a socket without waiting. It returns 0 and nil at the end of the stream.
func readSocket(fd int, b []byte) (n int, err error) {
	for {
		n, _, err = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return max(n, 0), transferError(err)
		}
	}
}

// writeSocket writes to a socket without waiting. It may write a part. Whether it is the last write makes no difference here.
// (The Go runtime ignores SIGPIPE on sockets.)
func writeSocket(fd int, b []byte, _ bool) (n int, err error) {
	for {
		n, err = unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return max(n, 0), transferError(err)
		}
	}
}

// writeSocketParts is writeSocket for two parts, of which neither is empty.
func writeSocketParts(fd int, head, body []byte) (n int, err error) {
	for {
		n, err = unix.SendmsgBuffers(fd, [][]byte{head, body}, nil, nil, unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return max(n, 0), transferError(err)
		}
	}
}

// waitingBytes is how many bytes of a socket wait to be read, 0 if that is not known: x/sys does not name the request.
func waitingBytes(int) int { return 0 }

// unackedBytes is how many bytes that were written to a socket its peer has not acknowledged, 0 if that is not known: x/sys
// does not name the request on most of these systems.
func unackedBytes(int) int { return 0 }

// unsentBytes is how many bytes that were written to a socket have never left this system, 0 if that is not known.
func unsentBytes(int) int { return 0 }

// formerPeer is the peer of a socket that has lost it, which these systems forget.
func formerPeer(int) (unix.Sockaddr, error) { return nil, unix.ENOTCONN }

func transferError(err error) error {
	if err == unix.EAGAIN || err == unix.ENOBUFS {
		return errWouldBlock
	}
	return err
}

// acceptSocket takes a waiting connection.
func acceptSocket(listener int) (fd int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for {
		switch fd, _, err = unix.Accept(listener); err {
		case nil:
			unix.CloseOnExec(fd)
			if err = unix.SetNonblock(fd, true); err != nil {
				unix.Close(fd)
				return -1, errConnectionLost
			}
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // fails on a Unix socket, which has no delay
			return fd, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return -1, errWouldBlock
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			return -1, errNoDescriptors
		case unix.EBADF, unix.EINVAL, unix.ENOTSOCK, unix.EOPNOTSUPP:
			return -1, err
		default:
			return -1, errConnectionLost
		}
	}
}

// newPlaceholder returns the descriptor that is put over the number of a closed connection: whatever uses it fails.
func newPlaceholder() (fd int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	return fd, unix.SetNonblock(fd, true)
}

// newSocketPair returns both ends of a stream.
func newSocketPair() (ends [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if ends, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return ends, err
	}
	for _, fd := range ends {
		unix.CloseOnExec(fd)
		err = cmp.Or(err, unix.SetNonblock(fd, true))
	}
	if err != nil {
		unix.Close(ends[0])
		unix.Close(ends[1])
	}
	return ends, err
}

// coverSocket puts the placeholder over the number of a socket, in one step for every other thread.
func coverSocket(fd, placeholder int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for {
		switch err := unix.Dup2(placeholder, fd); err {
		case unix.EINTR, unix.EBUSY:
		case nil:
			unix.CloseOnExec(fd)
			return nil
		default:
			return err
		}
	}
}

// carriedBytes is what TCP has carried, which x/sys cannot ask these systems.
func carriedBytes(int) (received, sent uint64, ok bool) { return 0, 0, false }
