package websocket

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// clientSocket is the network connection of a clientConn, below TLS if there is TLS. Once it has some patience, it writes for as long as
// the server takes data, however slowly. It knows what shows that the server is alive. Read is for one goroutine and Write for one; the
// other methods may be called from any.
type clientSocket struct {
	// Immutable once the connection has been started.
	net.Conn
	raw      syscall.RawConn // nil if Conn has no descriptor
	isBare   bool            // Conn is that descriptor, and nothing is between them
	patience time.Duration   // how long a write waits for a server that takes nothing; 0: until Conn's own deadline
	down     <-chan struct{} // closed when no write has to wait any more
	ledger   *ledger         // of messages; nil: nobody wants to know. What it has is guarded by mu

	noWait atomic.Bool // a write is done immediately, as far as the system takes it, or not at all

	// Guarded by mu, which is held for a moment.
	mu    sync.Mutex
	sent  uint64 // bytes written so far
	vigil vigil
}

// newClientSocket returns a socket without patience.
func newClientSocket(conn net.Conn, down <-chan struct{}) *clientSocket {
	s := &clientSocket{Conn: conn, down: down}
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		s.isBare = true
	}
	for inner, ok := conn.(interface{ NetConn() net.Conn }); ok; inner, ok = conn.(interface{ NetConn() net.Conn }) {
		conn = inner.NetConn()
	}
	if sys, ok := conn.(syscall.Conn); ok {
		if raw, err := sys.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// Read reads, and takes any byte as a sign of life.
func (s *clientSocket) Read(b []byte) (n int, err error) {
	n, err = s.Conn.Read(b)
	if n > 0 {
		s.mu.Lock()
		s.vigil.heard()
		s.mu.Unlock()
	}
	return n, err
}

// Write writes all of b. If the server takes nothing for as long as the patience lasts, it returns an error that is a time-out. The
// system reports room in a socket only once there is a lot of it; since less is a sign of life too, Write looks for that now and then.
func (s *clientSocket) Write(b []byte) (n int, err error) {
	if s.noWait.Load() {
		return s.writeNow(b)
	}
	held, lastTaken := -1, time.Now() // held: bytes that the system still had at the last look
	for {
		until := lastTaken.Add(s.patience)
		if look := time.Now().Add(s.patience / stallLooks); look.Before(until) {
			until = look
		}
		if s.patience > 0 && !s.isDown() {
			if err = s.Conn.SetWriteDeadline(until); err != nil {
				return n, err
			}
		}
		m, err := s.Conn.Write(b[n:])
		n += m
		s.mu.Lock()
		s.sent += uint64(m)
		s.mu.Unlock()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || s.patience == 0 || s.isDown() {
			return n, err
		}
		unacked := s.ask(unackedBytes)
		if m > 0 || unacked < held {
			lastTaken = time.Now()
		} else if time.Since(lastTaken) >= s.patience {
			return n, err
		}
		held = unacked
	}
}

// writeNow writes what the system takes without waiting. If that is not all, it returns an error, and the rest is lost.
func (s *clientSocket) writeNow(b []byte) (n int, err error) {
	if s.raw == nil || !s.isBare { // a DialContext may have put something in between, such as TLS
		return 0, errWouldBlock
	}
	ctlErr := s.raw.Control(func(fd uintptr) { n, err = writeSocket(int(fd), b, false) })
	if err == nil && ctlErr == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, errors.Join(err, ctlErr)
}

// ask asks the system for a number of bytes. It returns 0 if the system does not know.
func (s *clientSocket) ask(question func(fd int) int) (n int) {
	if s.raw != nil {
		s.raw.Control(func(fd uintptr) { n = question(int(fd)) }) // an error: it is closed
	}
	return n
}

// isDown reports whether no write has to wait any more.
func (s *clientSocket) isDown() bool {
	select {
	case <-s.down:
		return true
	default:
		return false
	}
}

// beginPing announces that a Ping is about to be written.
func (s *clientSocket) beginPing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil.beginPing()
}

// pingSent says that what was written last ends with the Ping.
func (s *clientSocket) pingSent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil.pingSent(now(), s.sent, pingSize)
}

// total returns how many bytes have been written so far.
func (s *clientSocket) total() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// pongReceived takes a Pong. If it answers a Ping of ours, its payload says how many bytes were sent in front of that.
func (s *clientSocket) pongReceived(payload []byte) {
	if len(payload) != 8 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil.pongReceived(binary.BigEndian.Uint64(payload))
}

// setReading says whether what the server sends is read.
func (s *clientSocket) setReading(isRead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil.setReading(isRead)
}

// silent reports whether the server had the chance to answer a Ping and did not. If it still has time, lookAt is when to call this
// again, and zero if no answer is awaited.
func (s *clientSocket) silent(base time.Duration, rate int) (isSilent bool, lookAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.vigil.awaitsPong() {
		return false, time.Time{}
	}
	at, unacked := now(), uint64(s.ask(unackedBytes))
	from := s.vigil.silentFrom(at, s.sent-min(s.sent, unacked), int64(base), rate)
	switch {
	case from > at:
		if s.vigil.isPingOnItsWay() {
			from = min(from, at+int64(max(base/silenceLooks, time.Millisecond)))
		}
		return false, momentTime(from)
	case s.ask(waitingBytes) > 0: // the process was stopped, or is slow
		s.vigil.heard()
		return false, time.Time{}
	}
	return true, momentTime(at)
}
