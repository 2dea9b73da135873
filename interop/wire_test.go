package interop

import (
	"bytes"
	endian "encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const extensionsField = "Sec-WebSocket-Extensions"

// wire passes on the connections to a server, and reads along: what has arrived was read before.
type wire struct {
	address string
	server  string
	taps    chan *tap // of the connections, in their order
}

// startWire starts one in front of a server. Its connections end when either side ends them.
func startWire(t *testing.T, server string) *wire {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{address: ln.Addr().String(), server: server, taps: make(chan *tap, inboxSize)}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.join(client) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		running.Wait()
	})
	return w
}

func (w *wire) join(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	defer server.Close()
	c := &tap{}
	w.taps <- c
	var ways sync.WaitGroup
	ways.Go(func() { c.carry(server, client, c.readUp) })
	ways.Go(func() { c.carry(client, server, c.readDown) })
	ways.Wait()
}

// tap is what was read of a connection.
type tap struct {
	mu            sync.Mutex
	offer, answer string // Sec-WebSocket-Extensions; guarded by mu
	agreed        agreement
	disagreement  error      // of the answer with RFC 7692; guarded by mu
	up, down      wireStream // from the client and from the server; guarded by mu
}

func (c *tap) carry(to, from net.Conn, read func(data []byte)) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		read(buffer[:n])
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func (c *tap) readUp(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if extensions, head := c.up.feed(data); head {
		c.offer = extensions
	}
}

func (c *tap) readDown(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	extensions, head := c.down.feed(data)
	if !head {
		return
	}
	c.answer = extensions
	c.agreed, c.disagreement = agree(c.offer, c.answer)
	c.up.inflater = c.agreed.inflater(c.agreed.client)
	c.down.inflater = c.agreed.inflater(c.agreed.server)
	c.down.frames()
}

// wireStream is one direction of a connection: the head of a request or response, and then frames.
type wireStream struct {
	rest     []byte // what is not complete
	begun    bool   // the head is over
	inflater *inflater

	plain, compressed int   // messages
	fragments         int   // frames of messages that have several, and are compressed
	size, inflated    int   // bytes of the compressed messages
	shortest          int   // bytes of the shortest of them, inflated
	violation         error // the first

	message  []byte // the beginning of one
	squeezed bool   // whether it is compressed
	parts    int
}

// feed takes data. When it completes the head, it returns the extensions of that; frames is to be called then.
func (s *wireStream) feed(data []byte) (extensions string, head bool) {
	s.rest = append(s.rest, data...)
	if s.begun {
		s.frames()
		return "", false
	}
	fields, rest, complete := bytes.Cut(s.rest, []byte("\r\n\r\n"))
	if !complete {
		return "", false
	}
	var values []string
	for line := range strings.SplitSeq(string(fields), "\r\n") {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, extensionsField) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	s.begun, s.rest = true, bytes.Clone(rest)
	return strings.Join(values, ", "), true
}

// frames reads the frames that are complete.
func (s *wireStream) frames() {
	const lengthMask, masked, in16Bits, in64Bits = 0x7f, 0x80, 126, 127
	at := 0
	for rest := s.rest; len(rest) >= 2; rest = s.rest[at:] {
		length, n := uint64(rest[1]&lengthMask), 2
		if length == in16Bits && len(rest) >= 4 {
			length, n = uint64(endian.BigEndian.Uint16(rest[2:])), 4
		} else if length == in64Bits && len(rest) >= 10 {
			length, n = endian.BigEndian.Uint64(rest[2:]), 10
		} else if length >= in16Bits {
			break
		}
		var key [4]byte
		if rest[1]&masked != 0 {
			n += copy(key[:], rest[n:])
		}
		if uint64(len(rest)) < uint64(n)+length {
			break
		}
		payload := bytes.Clone(rest[n:][:length])
		for i := range payload {
			payload[i] ^= key[i%4]
		}
		s.frame(rest[0], payload)
		at += n + int(length)
	}
	s.rest = append(s.rest[:0], s.rest[at:]...)
}

func (s *wireStream) frame(first byte, payload []byte) {
	const fin, rsv1, opcodes, control = 0x80, 0x40, 0x0f, 0x08
	opcode := first & opcodes
	if first&rsv1 != 0 && (opcode == 0 || opcode >= control || s.inflater == nil) {
		s.fail(fmt.Errorf("RSV1 in a frame with %08b (RFC 7692, section 6)", first))
	}
	if opcode >= control {
		return
	}
	if opcode != 0 {
		s.message, s.squeezed, s.parts = nil, first&rsv1 != 0, 0
	}
	s.message = append(s.message, payload...)
	s.parts++
	if first&fin == 0 {
		return
	}
	if !s.squeezed {
		s.plain++
		return
	}
	s.compressed++
	if s.parts > 1 {
		s.fragments += s.parts
	}
	if s.inflater == nil || s.violation != nil {
		return
	}
	inflated, err := s.inflater.message(s.message)
	if err != nil {
		s.fail(fmt.Errorf("compressed message %d: %w", s.compressed, err))
	}
	s.size, s.inflated = s.size+len(s.message), s.inflated+len(inflated)
	if s.compressed == 1 || len(inflated) < s.shortest {
		s.shortest = len(inflated)
	}
}

func (s *wireStream) fail(err error) {
	if s.violation == nil {
		s.violation = err
	}
}

func (s *wireStream) String() string {
	return fmt.Sprintf("%d messages compressed, from %d to %d bytes, with %d fragments; %d plain; context used: %v; first fault: %v",
		s.compressed, s.inflated, s.size, s.fragments, s.plain, s.inflater != nil && s.inflater.reached, s.violation)
}
