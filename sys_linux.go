package websocket

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls up to this many bytes are made raw, without telling the scheduler: they are short. Longer ones would hold up the
// garbage collector.
const maxRawCall = 64 << 10

// readSocket reads from a socket without waiting. It returns 0 and nil at the end of the stream.
func readSocket(fd int, b []byte) (n int, err error) {
	return transfer(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
}

// writeSocket writes to a socket without waiting, and without a signal if the peer is gone. It may write a part. If it is the
// last write, so that only halfCloseSocket follows, the bytes go out with the end of the stream.
func writeSocket(fd int, b []byte, last bool) (n int, err error) {
	flags := uintptr(unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL)
	if last {
		flags |= unix.MSG_MORE
	}
	return transfer(unix.SYS_SENDTO, fd, b, flags)
}

// writeSocketParts is writeSocket for two parts, of which neither is empty.
func writeSocketParts(fd int, head, body []byte) (n int, err error) {
	parts := [2]unix.Iovec{{Base: &head[0]}, {Base: &body[0]}}
	parts[0].SetLen(len(head))
	parts[1].SetLen(len(body))
	msg := unix.Msghdr{Iov: &parts[0]}
	msg.SetIovlen(len(parts))
	return system(unix.SYS_SENDMSG, fd, unsafe.Pointer(&msg), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, len(head)+len(body))
}

func transfer(call uintptr, fd int, b []byte, flags uintptr) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	return system(call, fd, unsafe.Pointer(&b[0]), uintptr(len(b)), flags, len(b))
}

// system makes a call that transfers up to size bytes.
func system(call uintptr, fd int, data unsafe.Pointer, third, fourth uintptr, size int) (int, error) {
	for {
		var n uintptr
		var errno syscall.Errno
		if size <= maxRawCall {
			n, _, errno = unix.RawSyscall6(call, uintptr(fd), uintptr(data), third, fourth, 0, 0)
		} else {
			n, _, errno = unix.Syscall6(call, uintptr(fd), uintptr(data), third, fourth, 0, 0)
		}
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errWouldBlock
		default:
			return 0, errno
		}
	}
}

// waitingBytes returns how many bytes of a socket wait to be read, 0 if that is not known.
func waitingBytes(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// unackedBytes is how many bytes that were written to a socket its peer has not acknowledged, 0 if that is not known.
func unackedBytes(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// unsentBytes is how many bytes that were written to a socket have never left this system, 0 if that is not known.
func unsentBytes(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQNSD)
	if err != nil {
		return 0
	}
	return n
}

// formerPeer is the peer of a socket that has lost it, by a reset for example. The kernel gives it only to those who ask for just as
// much as it has.
func formerPeer(fd int) (unix.Sockaddr, error) {
	var raw unix.RawSockaddrInet6
	size := uint32(unix.SizeofSockaddrInet6)
	errno := peerName(fd, unsafe.Pointer(&raw), &size)
	if errno == 0 && raw.Family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Port: int(networkOrder(raw.Port)), Addr: raw.Addr, ZoneId: raw.Scope_id}, nil
	}
	var raw4 unix.RawSockaddrInet4
	size = unix.SizeofSockaddrInet4
	if errno = peerName(fd, unsafe.Pointer(&raw4), &size); errno != 0 {
		return nil, errno
	}
	if raw4.Family != unix.AF_INET {
		return nil, unix.ENOTCONN
	}
	return &unix.SockaddrInet4{Port: int(networkOrder(raw4.Port)), Addr: raw4.Addr}, nil
}

func peerName(fd int, name unsafe.Pointer, size *uint32) syscall.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERNAME,
		uintptr(name), uintptr(unsafe.Pointer(size)), 0)
	return errno
}

// networkOrder is a port as it lies in memory.
func networkOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}

// pollNow returns the events of an epoll descriptor that are there already.
func pollNow(fd int, events []unix.EpollEvent) (n int, err error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return 0, errno
	}
	if errno != 0 {
		return 0, nil
	}
	return int(r), nil
}

// acceptSocket takes a waiting connection. It has TCP_NODELAY from its listener. The call is an ordinary one, because a listener
// may be made to block behind our back; see unblockListener.
func acceptSocket(listener int) (fd int, err error) {
	for {
		r, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return -1, errWouldBlock
		default:
			return -1, acceptError(errno)
		}
	}
}

// acceptError tells the errors of accept that concern one connection from those of the process or the system.
func acceptError(errno syscall.Errno) error {
	switch errno {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		return errNoDescriptors
	case unix.EBADF, unix.EINVAL, unix.ENOTSOCK, unix.EOPNOTSUPP:
		return errno
	}
	return errConnectionLost // ECONNABORTED, and the network errors that accept(2) passes on
}

// newPlaceholder returns the descriptor that is put over the number of a closed connection: whatever uses it fails.
func newPlaceholder() (fd int, err error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// newSocketPair returns both ends of a stream.
func newSocketPair() (ends [2]int, err error) {
	return unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// coverSocket puts the placeholder over the number of a socket, in one step for every other thread.
func coverSocket(fd, placeholder int) error {
	for {
		if err := unix.Dup3(placeholder, fd, unix.O_CLOEXEC); err != unix.EINTR && err != unix.EBUSY {
			return err
		}
	}
}

// carriedBytes is how many bytes TCP has brought from the peer, and taken for it, since the connection began; ok is false for what is not
// TCP. A socket that was reset still knows.
func carriedBytes(fd int) (received, sent uint64, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0, false
	}
	taken := info.Bytes_sent - info.Bytes_retrans + uint64(info.Notsent_bytes)
	return info.Bytes_received, max(taken, info.Bytes_acked), true // before Linux 4.19 it does not count what it has sent
}
