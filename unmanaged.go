package websocket

import (
	"errors"
	"sync"
)

// maxRecv is how much Recv returns at most, in bytes.
const maxRecv = 16 << 20

// Recv reads what has arrived on a connected stream socket, blocking or not. If nothing has, it waits, without a limit. At the
// end of the stream it returns an empty packet and no error. It returns at most 16 MiB; what is left comes with the next call.
// It may be called from any goroutine; concurrent calls share the bytes between them.
//
// The packet belongs to the caller, who may give it back with PutBuffer. Unpack reads the frames in it.
//
// The connections of a Server are read by the server: for them Recv returns ErrManaged and reads nothing, and for one that was
// closed ErrConnClosed.
func Recv(fd int) (packet []byte, err error) {
	if c := descriptors.get(fd); c == tombstone {
		return nil, ErrConnClosed
	} else if c != nil {
		return nil, ErrManaged
	}
	packet = newBuffer(recvSize)[:recvSize]
	n, err := recvSome(fd, packet)
	if err != nil {
		PutBuffer(packet)
		return nil, err
	}
	for n == len(packet) && n < maxRecv {
		packet = append(packet, make([]byte, n)...)
		m, err := readSocket(fd, packet[n:])
		if err != nil {
			break // what came before the error counts; the next call meets it again
		}
		n += m
	}
	return packet[:n], nil
}

// recvSome waits until there is something to read.
func recvSome(fd int, b []byte) (n int, err error) {
	for {
		if n, err = readSocket(fd, b); !errors.Is(err, errWouldBlock) {
			return n, err
		}
		if err = waitSocket(fd, false, 0); err != nil {
			return 0, err
		}
	}
}

// unmanagedSockets are the sockets of Send that no Server owns.
type unmanagedSockets struct {
	mu    sync.Mutex
	locks map[int]*unmanagedLock // guarded by mu
}

// unmanagedLock keeps concurrent packets to one socket apart. The mu of unmanagedSockets is not held when it is taken.
type unmanagedLock struct {
	mu   sync.Mutex
	uses int // guarded by unmanagedSockets.mu
}

var unmanaged = unmanagedSockets{locks: make(map[int]*unmanagedLock)}

// send writes all of a packet, waiting up to defaultWriteTimeout for a socket that takes nothing.
func (s *unmanagedSockets) send(fd int, packet []byte) error {
	lock := s.use(fd)
	lock.mu.Lock()
	defer func() {
		lock.mu.Unlock()
		s.leave(fd, lock)
	}()
	for len(packet) > 0 {
		n, err := writeSocket(fd, packet, false)
		packet = packet[n:]
		switch err {
		case nil:
		case errWouldBlock:
			if err = waitSocket(fd, true, defaultWriteTimeout); err == errWaitedTooLong {
				return ErrWriteTimeout
			} else if err != nil {
				return closedBy(err)
			}
		default:
			return closedBy(err)
		}
	}
	return nil
}

// use returns the lock of a socket, which stays until all that use it have left.
func (s *unmanagedSockets) use(fd int) *unmanagedLock {
	s.mu.Lock()
	defer s.mu.Unlock()
	lock := s.locks[fd]
	if lock == nil {
		lock = new(unmanagedLock)
		s.locks[fd] = lock
	}
	lock.uses++
	return lock
}

func (s *unmanagedSockets) leave(fd int, lock *unmanagedLock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lock.uses--; lock.uses == 0 {
		delete(s.locks, fd)
	}
}
