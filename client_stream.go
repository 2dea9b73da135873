package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

var (
	errIncomplete = fmt.Errorf("websocket: message is incomplete: %w: %w", io.ErrUnexpectedEOF, ErrConnClosed)
	errReadLate   = errors.New("websocket: read after HandleReader has returned")
)

// clientStream is a message that HandleReader reads while it comes. Its fields are guarded by the connection's mu, but for c, which is
// immutable. What waits in it counts for the connection's backlog.
type clientStream struct {
	c     *clientConn
	parts [][]byte // what has come, and was not read
	at    int      // how much of the first part was read
	err   error    // what comes behind them; nil while more may come
	begun bool     // HandleReader has been called, or is about to be
}

// Read waits for more of the message.
func (s *clientStream) Read(b []byte) (n int, err error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for len(s.parts) == 0 && s.err == nil && len(b) > 0 {
		s.c.changed.Wait()
	}
	for n < len(b) && len(s.parts) > 0 {
		m := copy(b[n:], s.parts[0][s.at:])
		if n, s.at = n+m, s.at+m; s.at == len(s.parts[0]) {
			s.dropPartLocked()
		}
	}
	if n == 0 && len(b) > 0 {
		return 0, s.err
	}
	return n, nil
}

// dropPartLocked gives the first part back.
func (s *clientStream) dropPartLocked() {
	part := s.parts[0]
	s.parts, s.at = s.parts[1:], 0
	s.c.backlogCost -= len(part) + messageCost
	s.c.changed.Broadcast()
	PutBuffer(part)
}

// discardLocked drops what waits, and what comes.
func (s *clientStream) discardLocked() {
	for len(s.parts) > 0 {
		s.dropPartLocked()
	}
	s.err = errReadLate
}

// breakIncomingLocked says that no more comes of a message.
func (c *clientConn) breakIncomingLocked() {
	if c.incoming != nil && c.incoming.err == nil {
		c.incoming.err = errIncomplete
	}
}

// starvesLocked reports whether HandleReader waits for more of the message that comes. What is in the backlog waits for that.
func (c *clientConn) starvesLocked() bool {
	s := c.incoming
	return s != nil && s.begun && len(s.parts) == 0 && s.err == nil
}

// takePart takes a part of a message that comes. It waits while too much waits.
func (c *clientConn) takePart(ev *event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaitRoomLocked()
	if c.ended || c.closing {
		return
	}
	s := c.incoming
	if s == nil {
		s = &clientStream{c: c}
		c.incoming = s
		c.addLocked(clientMessage{&Frame{head: ev.head}, s})
		if !c.handling {
			c.handling = true
			go c.work()
		}
	}
	if s.err == nil && len(ev.payload) > 0 {
		s.parts = append(s.parts, ev.payload)
		c.backlogCost += len(ev.payload) + messageCost
	}
	if ev.kind == eventLastPart {
		c.incoming = nil
		if s.err == nil {
			s.err = io.EOF
		}
	}
	c.changed.Broadcast()
}

// handleStream calls HandleReader.
func (c *clientConn) handleStream(m clientMessage) error {
	if m.stream == nil { // all of it has come
		return c.handleReader(c.client, m.Opcode(), bytes.NewReader(m.payload))
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		m.stream.discardLocked()
	}()
	return c.handleReader(c.client, m.Opcode(), m.stream)
}
