package websocket

import (
	"net"
	"time"
)

// maxSettle is how long the end of a connection waits for a write that is under way, to know what was sent.
const maxSettle = time.Second

// keepLedger makes the socket note where messages end, if the system can tell what becomes of them: it counts the bytes of its sockets,
// and what a wrapper makes of ours may have another length. It is called before the connection is started.
func (s *clientSocket) keepLedger() {
	if _, ok := s.Conn.(*net.TCPConn); ok && s.raw != nil {
		s.ledger = new(ledger)
	}
}

// noteMessage notes that what was written last ends a message. It is called with writeGate held.
func (s *clientSocket) noteMessage() {
	if s.ledger == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.add(s.sent, s.ackedLocked)
}

// ackedLocked returns how many bytes have been acknowledged.
func (s *clientSocket) ackedLocked() uint64 {
	return s.sent - min(s.sent, uint64(s.ask(unackedBytes)))
}

// lost returns how many messages have not left, and how many others were not acknowledged. Nothing may be written meanwhile. What has
// not left is not going to: the socket is closed.
func (s *clientSocket) lost() (unsent, inDoubt int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ask(unsentBytes) > 0 {
		s.Conn.(*net.TCPConn).SetLinger(0) // or the system would go on sending
		defer s.Conn.Close()
	}
	acked, left := s.ackedLocked(), s.sent-min(s.sent, uint64(s.ask(unsentBytes)))
	return s.ledger.count(acked, left)
}

// finish is the end of a connection that has been dropped: it finds out what is lost, unless the program itself has ended it, closes the
// socket, and logs why it has ended.
func (c *clientConn) finish(reason error) {
	if reason != ErrConnClosed && c.socket.ledger != nil {
		timer := time.NewTimer(maxSettle)
		select {
		case c.out.writeGate <- struct{}{}: // a write that was under way has ended
			c.lost.Unsent, c.lost.Unacknowledged = c.socket.lost()
			c.out.writeGate.leave()
		case <-timer.C:
		}
		timer.Stop()
	}
	close(c.settled)
	c.conn.Close()
	c.clock.Lock()
	c.alarm.Stop()
	c.clock.Unlock()
	c.log.Debug("websocket: client connection ends", "endpoint", c.url, "cause", reason)
}

// lossCause returns why the connection has ended, for HandleState.
func (c *clientConn) lossCause() error {
	err := c.err()
	<-c.settled
	if err == nil || c.lost.Unsent+c.lost.Unacknowledged == 0 {
		return err
	}
	lost := c.lost
	lost.Err = err
	return &lost
}
