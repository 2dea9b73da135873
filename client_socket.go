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

	receive  func(fd uintptr) (isDone bool)
	transmit func(fd uintptr)

	noWait atomic.Bool // a write is done immediately, as far as the system takes it, or not at all

	in  socketCall // of receive; owned by who reads
	out socketCall // of transmit; owned by who writes

	// Guarded by mu, which is held for a moment.
	mu    sync.Mutex
	sent  uint64 // bytes written so far
	vigil vigil
}

// socketCall has the arguments and results of a system call that does not wait, and so need not tell the scheduler. What makes the call is
// made once for a connection.
type socketCall struct {
	b   []byte
	n   int
	err error
}

// newClientSocket returns a socket without patience.
func newClientSocket(conn net.Conn, down <-chan struct{}) *clientSocket {
	s := &clientSocket{Conn: conn, down: down}
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		_, err := readSocket(-1, nil)
		s.isBare = err != ErrUnsupported
	}
	s.receive = func(fd uintptr) bool {
		s.in.n, s.in.err = readSocket(int(fd), s.in.b)
		return s.in.err != errWouldBlock
	}
	s.transmit = func(fd uintptr) { s.out.n, s.out.err = writeSocket(int(fd), s.out.b, false) }
	for inner, ok := conn.(interface{ NetConn() net.Conn }); ok; inner, ok = conn.(interface{ NetConn() net.Conn }) {
		conn = inner.NetConn()
	}
	if sys, ok := conn.(syscall.Conn); ok {
		if raw, err := sys.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	s.isBare = s.isBare && s.raw != nil
	return s
}

// Read reads, and takes any byte as a sign of life.
func (s *clientSocket) Read(b []byte) (n int, err error) {
	if n, err = s.read(b); n > 0 {
		s.mu.Lock()
		s.vigil.heard()
		s.mu.Unlock()
	}
	return n, err
}

func (s *clientSocket) read(b []byte) (n int, err error) {
	if !s.isBare || len(b) == 0 {
		return s.Conn.Read(b)
	}
	s.in.b = b
	err = s.raw.Read(s.receive)
	s.in.b = nil
	switch {
	case err != nil:
		return 0, err
	case s.in.err != nil:
		return 0, &net.OpError{Op: "read", Net: s.LocalAddr().Network(), Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError("recvfrom", s.in.err)}
	case s.in.n == 0:
		return 0, io.EOF
	}
	return s.in.n, nil
}

// Write writes all of b. If the server takes nothing for as long as the patience lasts, it returns an error that is a time-out. The
// system reports room in a socket only once there is a lot of it; since less is a sign of life too, Write looks for that now and then.
func (s *clientSocket) Write(b []byte) (n int, err error) {
	if s.noWait.Load() {
		return s.writeNow(b)
	}
	if n = s.writeSome(b); n == len(b) {
		return n, nil
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

// writeSome writes what the system takes without waiting. Most of the time that is all, and no deadline has to be set.
func (s *clientSocket) writeSome(b []byte) (n int) {
	if !s.isBare {
		return 0
	}
	s.out.b, s.out.n = b, 0
	s.raw.Control(s.transmit) // an error: it is closed
	s.out.b = nil
	s.mu.Lock()
	s.sent += uint64(s.out.n)
	s.mu.Unlock()
	return s.out.n
}

// writeNow is Write without waiting. If the system does not take all, it returns an error, and the rest is lost.
func (s *clientSocket) writeNow(b []byte) (n int, err error) {
	if n = s.writeSome(b); n < len(b) {
		return n, io.ErrShortWrite
	}
	return n, nil
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
