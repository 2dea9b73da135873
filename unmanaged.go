package websocket

import "sync"

// unmanagedSockets are the sockets of Send that no Server owns.
type unmanagedSockets struct {
	mu    sync.Mutex
	locks map[int]*unmanagedLock // guarded by mu
}

// unmanagedLock keeps concurrent packets to one socket apart. It is taken without the mu of unmanagedSockets.
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
