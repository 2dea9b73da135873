package websocket

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxEvents is how many events one wait returns.
const maxEvents = 256

// poller watches sockets with epoll(7), edge-triggered. While nothing is ready it does not block a thread in epoll_wait: the
// epoll descriptor is itself watched by the Go runtime, and the goroutine parks there.
type poller struct {
	fd     int
	waker  int
	file   *os.File
	parker syscall.RawConn
	fetch  func(fd uintptr) bool
	rests  func(at int64)
	armed  int64 // moment at which the deadline of file ends a wait
	n      int
	err    error
	events [maxEvents]unix.EpollEvent
}

func newPoller() (p *poller, err error) {
	p = &poller{fd: -1, waker: -1, rests: func(int64) {}, armed: never}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if err = unix.SetNonblock(p.fd, true); err != nil { // makes os.NewFile use the runtime's poller
		return nil, err
	}
	p.file = os.NewFile(uintptr(p.fd), "epoll")
	if p.parker, err = p.file.SyscallConn(); err != nil {
		return nil, err
	}
	p.fetch = func(uintptr) bool {
		p.n, p.err = pollNow(p.fd, p.events[:])
		return p.n > 0 || p.err != nil
	}
	if p.waker, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, err
	}
	return p, p.watch(p.waker, anyGeneration, unix.EPOLLIN)
}

func (p *poller) add(fd int, gen uint32) error {
	return p.watch(fd, gen, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP)
}

func (p *poller) watch(fd int, gen, events uint32) error {
	ev := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(fd), Pad: int32(gen)}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev)
}

// wantWrite has nothing to do: writing is always watched, which costs nothing until a write finds no room.
func (p *poller) wantWrite(int, uint32) {}

func (p *poller) remove(fd int) { unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil) }

func (p *poller) wait(until int64) (n int, err error) {
	p.fetch(0)
	if p.n > 0 || p.err != nil {
		return p.n, p.err
	}
	at := now()
	if until <= at {
		return 0, nil
	}
	p.rests(at)
	if until < p.armed {
		if err = p.file.SetReadDeadline(momentTime(until)); err != nil {
			return 0, err
		}
		p.armed = until
	}
	switch err = p.parker.Read(p.fetch); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.armed = never
		return 0, p.file.SetReadDeadline(time.Time{})
	case err != nil:
		return 0, err
	}
	return p.n, p.err
}

func (p *poller) at(i int) readiness {
	const failed = unix.EPOLLHUP | unix.EPOLLERR
	ev := &p.events[i]
	return readiness{
		fd:       int(ev.Fd),
		gen:      uint32(ev.Pad),
		readable: ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|failed) != 0,
		writable: ev.Events&(unix.EPOLLOUT|failed) != 0,
		hangup:   ev.Events&(unix.EPOLLRDHUP|failed) != 0,
	}
}

// wake adds to the waker's counter, which nobody reads: each addition is an edge.
func (p *poller) wake() { unix.Write(p.waker, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (p *poller) close() {
	if p.waker >= 0 {
		unix.Close(p.waker)
	}
	if p.file != nil {
		p.file.Close()
	} else if p.fd >= 0 {
		unix.Close(p.fd)
	}
}
