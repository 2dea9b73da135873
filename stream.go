package websocket

// stream carries bytes between a connection and its socket, unchanged. (What changes them on their way, such as TLS, belongs here, so
// that nobody else notices.) The connection's loop reads, half-closes and covers it; whoever holds the connection's mu writes.
type stream struct {
	// id is the number by which the process knows the connection, with the descriptor of the socket in its low bits. Immutable.
	id uint64
}

func (s *stream) fd() int { return numberOf(s.id) }

// gen is the generation of the descriptor for the poller: the low bits of the serial number.
func (s *stream) gen() uint32 { return uint32(s.id >> fdBits) }

// read reads once. It returns 0 and no error at the end of the stream, errWouldBlock if nothing has arrived.
func (s *stream) read(b []byte) (n int, err error) { return readSocket(s.fd(), b) }

// waiting returns how many bytes can be read.
func (s *stream) waiting() int { return waitingBytes(s.fd()) }

// write writes as much as the socket takes. last says that the end of the stream is about to follow.
func (s *stream) write(b []byte, last bool) (n int, err error) {
	for n < len(b) {
		m, err := writeSocket(s.fd(), b[n:], last)
		if err == errWouldBlock {
			break
		}
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// writeParts writes as much of both as the socket takes in one go. It returns whether it may take more.
func (s *stream) writeParts(head, body []byte) (n int, more bool, err error) {
	n, err = writeSocketParts(s.fd(), head, body)
	if err == errWouldBlock {
		return n, false, nil
	}
	return n, n >= len(head), err
}

// unacked returns how many bytes the system still holds for the peer: 0 if it cannot tell.
func (s *stream) unacked() int { return unackedBytes(s.fd()) }

// halfClose ends this side, behind what was written.
func (s *stream) halfClose() { halfCloseSocket(s.fd()) }

// cover gives the socket up and puts the placeholder over its number. It shuts down both directions first, unless they have ended:
// another process may have a copy of the socket.
func (s *stream) cover(placeholder int, hasEnded bool) error {
	if !hasEnded {
		shutSocket(s.fd())
	}
	return coverSocket(s.fd(), placeholder)
}
