package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/wsloop/websocket/benchmarks/internal/raw"
	"golang.org/x/sys/unix"
)

type state uint8

const (
	securing state = iota // the TLS handshake is under way
	upgrading
	open
	closing
	replaying // sends a recorded ClientHello and waits for what answers it
)

var errWrong = errors.New("wrong answer")

// conn is one connection of the generator.
type conn struct {
	fd     int
	number int
	state  state
	secure *secure // nil without TLS
	ring   *ring
	unsent []byte
	sentAt int64

	next    int // message to send
	expect  int // message whose answer comes next
	missing int // answers
	answers int // that came
	pos     int // within the answer

	inflation  *inflation // nil without permessage-deflate
	compressed bool       // the message

	request []byte // of the handshake
	accept  []byte
	answer  []byte // to the handshake, as far as it came
	head    [10]byte
	headLen int
	control []byte
	opcode  byte
	fin     bool
	left    int // of the frame's payload
	inFrame bool
}

// send sends the next n frames of the ring in one go.
func (l *load) send(c *conn, n int) error {
	if l.timing {
		c.sentAt = now()
	}
	i, answers := c.next/c.ring.each, n*c.ring.each
	b := c.ring.frames[c.ring.at[i]:c.ring.at[i+n]]
	c.next = (c.next + answers) % len(c.ring.want)
	c.missing += answers
	return l.write(c, b)
}

func (l *load) write(c *conn, b []byte) (err error) {
	if c.secure != nil {
		if b, err = c.secure.seal(b, len(c.unsent) > 0); err != nil {
			return fmt.Errorf("encrypting: %w", err)
		}
	}
	return l.transmit(c, b)
}

// transmit sends b as it is.
func (l *load) transmit(c *conn, b []byte) error {
	if len(c.unsent) > 0 {
		c.unsent = append(bytes.Clone(c.unsent), b...)
		return nil
	}
	n, err := raw.Send(c.fd, b)
	if err != nil && err != unix.EAGAIN {
		return fmt.Errorf("sending: %w", err)
	}
	if n == len(b) {
		return nil
	}
	c.unsent = b[n:]
	return l.poller.Change(c.fd, true)
}

func (l *load) flush(c *conn) error {
	n, err := raw.Send(c.fd, c.unsent)
	if err != nil && err != unix.EAGAIN {
		return fmt.Errorf("sending: %w", err)
	}
	if c.unsent = c.unsent[n:]; len(c.unsent) > 0 {
		return nil
	}
	return l.poller.Change(c.fd, false)
}

// read takes what has arrived. It returns io.EOF at the end of the stream.
func (l *load) read(c *conn) error {
	switch {
	case c.state == replaying:
		return l.replayed(c)
	case c.state == securing:
		return l.handshake(c)
	case c.secure != nil:
		return l.readRecords(c)
	}
	n, err := raw.Recv(c.fd, l.buffer)
	switch {
	case err == unix.EAGAIN:
		return nil
	case err != nil:
		return err
	case n == 0:
		return io.EOF
	}
	return l.received(c, l.buffer[:n])
}

func (l *load) readRecords(c *conn) error {
	c.secure.transport.drained = false
	for {
		n, err := c.secure.read(l.buffer)
		if n == 0 || err != nil {
			return err
		}
		if err = l.received(c, l.buffer[:n]); err != nil {
			return err
		}
	}
}

// handshake goes on with that of TLS. Once it is done, the request follows.
func (l *load) handshake(c *conn) error {
	done, err := c.secure.handshake()
	if err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	if err = l.transmit(c, c.secure.flight()); err != nil || !done {
		return err
	}
	switch terms := c.secure.terms(); l.TLS {
	case "":
		l.TLS = terms
	case terms:
	default:
		return fmt.Errorf("TLS handshake: %s after %s", terms, l.TLS)
	}
	c.state = upgrading
	return l.write(c, c.request)
}

// received takes what came, without TLS.
func (l *load) received(c *conn, b []byte) (err error) {
	if c.state == upgrading {
		var answer []byte
		if answer, b, err = c.upgrade(b); err != nil || c.state == upgrading {
			return err
		}
		if err = l.negotiated(c, answer); err != nil {
			return err
		}
		if err = l.opened(c); err != nil {
			return err
		}
	}
	return l.frames(c, b)
}

// upgrade checks the answer to the handshake and returns it and what follows it.
func (c *conn) upgrade(b []byte) (header, rest []byte, err error) {
	c.answer = append(c.answer, b...)
	header, rest, ok := bytes.Cut(c.answer, []byte("\r\n\r\n"))
	if !ok {
		return nil, nil, nil
	}
	if !bytes.HasPrefix(header, []byte("HTTP/1.1 101 ")) || !bytes.Contains(header, c.accept) {
		return nil, nil, fmt.Errorf("%w to the handshake: %q", errWrong, header)
	}
	c.answer = nil
	c.state = open
	return header, rest, nil
}

// frames checks what has arrived, in pieces of any size.
func (l *load) frames(c *conn, b []byte) error {
	l.wire += int64(len(b))
	for len(b) > 0 || c.inFrame && c.left == 0 {
		if !c.inFrame {
			n := c.header(b)
			if b = b[n:]; !c.inFrame {
				return nil
			}
			if err := c.check(); err != nil {
				return err
			}
		}
		n := min(c.left, len(b))
		if err := l.payload(c, b[:n]); err != nil {
			return err
		}
		b = b[n:]
		if c.left -= n; c.left > 0 {
			return nil
		}
		c.inFrame = false
		if err := l.frameEnd(c); err != nil {
			return err
		}
	}
	return nil
}

// header takes the bytes of a frame's header; once it is complete, inFrame is set.
func (c *conn) header(b []byte) (n int) {
	for n < len(b) {
		c.head[c.headLen] = b[n]
		c.headLen++
		n++
		if c.headLen < 2 {
			continue
		}
		switch length := c.head[1]; {
		case length < 126:
			c.left = int(length)
		case length == 126 && c.headLen == 4:
			c.left = int(binary.BigEndian.Uint16(c.head[2:]))
		case length == 127 && c.headLen == 10:
			c.left = int(binary.BigEndian.Uint64(c.head[2:]))
		case length > 127:
			c.left = -1
		default:
			continue
		}
		c.headLen = 0
		c.inFrame = true
		return n
	}
	return n
}

func (c *conn) check() error {
	c.opcode, c.fin = c.head[0]&0xF, c.head[0]&0x80 != 0
	bits := c.head[0] & reserved
	if c.inflation != nil && (c.opcode == opText || c.opcode == opBinary) {
		c.compressed = bits&rsv1 != 0
		bits &^= rsv1
	}
	switch {
	case c.left < 0 || bits != 0:
		return fmt.Errorf("%w: frame header %x", errWrong, c.head)
	case c.opcode >= opClose:
		c.control = c.control[:0]
	case c.missing == 0:
		return fmt.Errorf("%w: a message that nobody asked for", errWrong)
	case c.opcode != c.ring.opcode && c.pos == 0, c.opcode != 0 && c.pos > 0,
		!c.compressed && c.left > len(c.ring.want[c.expect])-c.pos:
		return fmt.Errorf("%w: opcode %d, %d bytes after %d bytes", errWrong, c.opcode, c.left, c.pos)
	}
	return nil
}

func (l *load) payload(c *conn, b []byte) error {
	if c.opcode >= opClose {
		c.control = append(c.control, b...)
		return nil
	}
	if c.compressed {
		c.inflation.take(b)
		c.pos += len(b)
		return nil
	}
	if !bytes.Equal(b, c.ring.want[c.expect][c.pos:c.pos+len(b)]) {
		return fmt.Errorf("%w: byte %d and on of message %d of connection %d", errWrong, c.pos, c.expect, c.number)
	}
	c.pos += len(b)
	return nil
}

func (l *load) frameEnd(c *conn) error {
	switch {
	case c.opcode == opPing:
		if len(c.unsent) > 0 {
			return nil
		}
		return l.write(c, appendMasked(nil, opPong, c.control, l.random.Uint32()))
	case c.opcode == opClose && c.state == closing:
		return nil
	case c.opcode == opClose:
		return fmt.Errorf("%w: Close frame %x", errWrong, c.control)
	case c.opcode > opClose || !c.fin:
		return nil
	}
	return l.messageEnd(c, c.ring.want[c.expect])
}

func (l *load) messageEnd(c *conn, want []byte) error {
	if c.compressed {
		l.compressed++
		if err := l.inflater.check(c.inflation, want); err != nil {
			return fmt.Errorf("message %d of connection %d: %w", c.expect, c.number, err)
		}
	} else if c.pos < len(want) {
		return fmt.Errorf("%w: message of %d bytes instead of %d", errWrong, c.pos, len(want))
	}
	l.plain += int64(frameSize(len(want)))
	c.pos = 0
	c.expect = (c.expect + 1) % len(c.ring.want)
	c.missing--
	c.answers++
	l.messages++
	if c.missing > 0 {
		return nil
	}
	if l.timing && c.ring == l.ring {
		l.latencies = append(l.latencies, float64(now()-c.sentAt)/1e3)
	}
	return l.answered(c)
}
