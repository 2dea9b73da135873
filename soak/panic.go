package main

import (
	"errors"
	"time"

	"github.com/wsloop/websocket"
)

// sayPanic has the handler panic, once all else has come back, and waits for the end of the connection that must follow.
func (s *session) sayPanic() {
	limit := time.After(graceTime)
	for s.countWaiting() > 0 && s.await(limit) {
	}
	s.d.tally.panics.Add(1)
	s.wire.send(websocket.OpcodeText, appendMessage(nil, message{kind: kindPanic, owner: s.id}))
	for s.await(limit) {
	}
	defer s.d.tally.open.Add(-1)
	select {
	case <-s.wire.ended():
	default:
		s.d.tally.kept.Add(1)
		s.d.problem("session %d lives on after a panic", s.id)
		s.wire.abort()
		return
	}
	var closed *websocket.CloseError
	err := s.wire.err()
	if (!errors.As(err, &closed) || closed.Code != websocket.StatusInternalError) && !s.d.cuts.has(s.id) {
		s.d.tally.closes.Add(1)
		s.d.problem("session %d ended after a panic: %v", s.id, err)
	}
}
