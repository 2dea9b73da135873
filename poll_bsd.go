//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package websocket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxEvents is how many events one wait returns.
	maxEvents = 256

	// maxWait is how long one wait lasts, in nanoseconds: some kernels refuse times of years.
	maxWait = 3600 * 1e9
)

// poller watches sockets with kqueue(2), edge-triggered (EV_CLEAR). It blocks in kevent: the Go runtime cannot watch a
// kqueue. The generation of an event is not known here; readers of an event find the socket as it is now.
type poller struct {
	fd     int
	waker  [2]int // a pipe: reading end, writing end
	rests  func(at int64)
	events [maxEvents]unix.Kevent_t
}

func newPoller() (p *poller, err error) {
	p = &poller{fd: -1, waker: [2]int{-1, -1}, rests: func(int64) {}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if p.fd, err = unix.Kqueue(); err != nil {
		return nil, err
	}
	unix.CloseOnExec(p.fd)
	if err = unix.Pipe(p.waker[:]); err != nil {
		return nil, err
	}
	for _, fd := range p.waker {
		unix.CloseOnExec(fd)
		if err = unix.SetNonblock(fd, true); err != nil {
			return nil, err
		}
	}
	return p, p.add(p.waker[0], 0)
}

func (p *poller) add(fd int, _ uint32) error {
	return p.change(fd, unix.EVFILT_READ, unix.EV_ADD|unix.EV_CLEAR)
}

// wantWrite asks for one event: a watch that stays would give one for each acknowledgement.
func (p *poller) wantWrite(fd int, _ uint32) {
	p.change(fd, unix.EVFILT_WRITE, unix.EV_ADD|unix.EV_ONESHOT)
}

func (p *poller) remove(fd int) {
	p.change(fd, unix.EVFILT_READ, unix.EV_DELETE)
	p.change(fd, unix.EVFILT_WRITE, unix.EV_DELETE)
}

func (p *poller) change(fd, filter, flags int) error {
	var change [1]unix.Kevent_t
	unix.SetKevent(&change[0], fd, filter, flags)
	for {
		if _, err := unix.Kevent(p.fd, change[:], nil, nil); err != unix.EINTR {
			return err
		}
	}
}

func (p *poller) wait(until int64) (n int, err error) {
	at := now()
	if until > at {
		p.rests(at)
	}
	timeout := unix.NsecToTimespec(min(max(until-at, 0), maxWait))
	n, err = unix.Kevent(p.fd, nil, p.events[:], &timeout)
	if err == unix.EINTR {
		return 0, nil
	}
	return n, err
}

func (p *poller) at(i int) readiness {
	ev := &p.events[i]
	fd := int(ev.Ident)
	if fd == p.waker[0] {
		p.drainWaker()
	}
	return readiness{
		fd:       fd,
		gen:      anyGeneration,
		readable: ev.Filter == unix.EVFILT_READ || ev.Flags&unix.EV_EOF != 0,
		writable: ev.Filter == unix.EVFILT_WRITE || ev.Flags&unix.EV_EOF != 0,
		hangup:   ev.Flags&unix.EV_EOF != 0,
	}
}

// wake writes to the pipe. If it is full, the reading end has an event already.
func (p *poller) wake() { unix.Write(p.waker[1], []byte{0}) }

// drainWaker makes room in the pipe, so that the next wake is an event again.
func (p *poller) drainWaker() {
	var b [64]byte
	for {
		if n, _ := unix.Read(p.waker[0], b[:]); n < len(b) {
			return
		}
	}
}

func (p *poller) close() {
	for _, fd := range []int{p.waker[0], p.waker[1], p.fd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
