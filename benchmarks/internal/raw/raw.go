// Package raw calls Linux for sockets without telling Go's scheduler, which is the cheapest way there is from Go. The floor and
// the load generator are made of it.
package raw

import (
	"encoding/binary"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Recv reads what is there. The error EAGAIN says that nothing is; 0 without an error is the end of the stream.
func Recv(fd int, b []byte) (n int, err error) {
	return transfer(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
}

// Send writes what the socket takes, which may be a part.
func Send(fd int, b []byte) (n int, err error) {
	return transfer(unix.SYS_SENDTO, fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func transfer(call uintptr, fd int, b []byte, flags uintptr) (n int, err error) {
	for {
		r, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Accept takes a waiting connection.
func Accept(listener int) (fd int, err error) {
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return -1, errno
		}
	}
}

// Unmask writes the payload that a frame carries to dst, which is at least as long as the payload and may be the same memory or
// begin before it.
func Unmask(dst, payload []byte, key uint32) {
	wide := uint64(key)<<32 | uint64(key)
	for len(payload) >= 32 {
		d, s := dst[:32], payload[:32]
		a, b := binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])
		c, e := binary.LittleEndian.Uint64(s[16:]), binary.LittleEndian.Uint64(s[24:])
		binary.LittleEndian.PutUint64(d, a^wide)
		binary.LittleEndian.PutUint64(d[8:], b^wide)
		binary.LittleEndian.PutUint64(d[16:], c^wide)
		binary.LittleEndian.PutUint64(d[24:], e^wide)
		dst, payload = dst[32:], payload[32:]
	}
	for len(payload) >= 4 {
		binary.LittleEndian.PutUint32(dst, binary.LittleEndian.Uint32(payload)^key)
		dst, payload = dst[4:], payload[4:]
	}
	for i, b := range payload {
		dst[i] = b ^ byte(key>>(8*i))
	}
}

// Poller watches sockets with epoll, level-triggered.
type Poller struct {
	fd     int
	file   *os.File
	parker syscall.RawConn
	fetch  func(fd uintptr) bool
	n      int
	err    error
	events [512]unix.EpollEvent
}

// NewPoller makes one.
func NewPoller() (p *Poller, err error) {
	p = new(Poller)
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if err = unix.SetNonblock(p.fd, true); err != nil { // so that os.NewFile hands it to the Go runtime's poller
		return nil, err
	}
	p.file = os.NewFile(uintptr(p.fd), "epoll")
	p.fetch = func(uintptr) bool {
		p.n, p.err = p.Poll(0)
		return p.n > 0 || p.err != nil
	}
	p.parker, err = p.file.SyscallConn()
	return p, err
}

// Add watches a socket, for reading and, if asked, for room to write.
func (p *Poller) Add(fd int, writing bool) error { return p.control(unix.EPOLL_CTL_ADD, fd, writing) }

// Change says anew what a socket is watched for.
func (p *Poller) Change(fd int, writing bool) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, writing)
}

func (p *Poller) control(op, fd int, writing bool) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if writing {
		ev.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(p.fd, op, fd, &ev)
}

// Poll waits for events for that many milliseconds at most, holding its thread and its processor.
func (p *Poller) Poll(milliseconds int) (n int, err error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)),
		uintptr(milliseconds), 0, 0)
	switch errno {
	case 0:
		return int(r), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

// Wait waits for events without a limit. The goroutine parks in Go's own poller, which can watch an epoll descriptor as well.
func (p *Poller) Wait() (n int, err error) {
	if p.fetch(0); p.n > 0 || p.err != nil {
		return p.n, p.err
	}
	if err = p.parker.Read(p.fetch); err != nil {
		return 0, err
	}
	return p.n, p.err
}

// At returns one of the events of the last Wait or Poll.
func (p *Poller) At(i int) (fd int, readable, writable bool) {
	ev := &p.events[i]
	return int(ev.Fd), ev.Events&^unix.EPOLLOUT != 0, ev.Events&unix.EPOLLOUT != 0
}
