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

// clientSocket is the network connection of a clientConn, below TLS where there is some. Once it is told to be patient, it writes for as
// long as the server takes data, however slowly, and knows what speaks for the server being alive.
type clientSocket struct {
	// Immutable once there is more than one goroutine.
	net.Conn
	raw      syscall.RawConn // nil where Conn has no descriptor
	patience time.Duration   // how long a write waits for a server that takes nothing; 0: as the deadline says
	down     <-chan struct{} // closed when no write is to wait any more

	noWait atomic.Bool // what is written goes out at once or not at all

	mu    sync.Mutex // held for a moment
	sent  uint64     // bytes that were written; guarded by mu
	vigil vigil      // guarded by mu
}

// newClientSocket returns a socket that is not patient as yet.
func newClientSocket(conn net.Conn, down <-chan struct{}) *clientSocket {
	s := &clientSocket{Conn: conn, down: down}
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

// Read reads, and notes that the server was heard.
func (s *clientSocket) Read(b []byte) (n int, err error) {
	n, err = s.Conn.Read(b)
	if n > 0 {
		s.mu.Lock()
		s.vigil.heard()
		s.mu.Unlock()
	}
	return n, err
}

// Write writes all of b, unless the server takes nothing for as long as the patience lasts: then it returns an error that is a
// time-out. The system tells of room in a socket only once there is a lot of it; less is a sign of life too, so it is looked for.
func (s *clientSocket) Write(b []byte) (n int, err error) {
	if s.noWait.Load() {
		return s.writeNow(b)
	}
	held, took := -1, time.Now()
	for {
		until := took.Add(s.patience)
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
			took = time.Now()
		} else if time.Since(took) >= s.patience {
			return n, err
		}
		held = unacked
	}
}

// writeNow writes what the system takes without waiting. What is left is lost.
func (s *clientSocket) writeNow(b []byte) (n int, err error) {
	if s.raw == nil {
		return 0, errWouldBlock
	}
	ctlErr := s.raw.Control(func(fd uintptr) { n, err = writeSocket(int(fd), b, false) })
	if err == nil && ctlErr == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, errors.Join(err, ctlErr)
}

// ask puts a question about its bytes to the system: 0 where there is no answer.
func (s *clientSocket) ask(question func(fd int) int) (n int) {
	if s.raw != nil {
		s.raw.Control(func(fd uintptr) { n = question(int(fd)) }) // an error: it is closed
	}
	return n
}

func (s *clientSocket) isDown() bool {
	select {
	case <-s.down:
		return true
	default:
		return false
	}
}

// beginPing notes that a Ping is about to be written.
func (s *clientSocket) beginPing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil.beginPing()
}

// pinged notes that what was written last ends with a Ping.
func (s *clientSocket) pingSent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil.pingSent(now(), s.sent, pingSize)
}

// total returns how many bytes were written.
func (s *clientSocket) total() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// ponged notes that a Pong came. One that answers a Ping of ours has its payload: which one it was.
func (s *clientSocket) pongReceived(payload []byte) {
	if len(payload) != 8 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil.pongReceived(binary.BigEndian.Uint64(payload))
}

// listen notes whether what the server sends is read.
func (s *clientSocket) setReading(hears bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil.setReading(hears)
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
