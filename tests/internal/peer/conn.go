package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// Conn is a client's end of a connection. What it reads goes through Reader.
type Conn struct {
	net.Conn
	T      *testing.T
	Reader *bufio.Reader
}

// Shake makes the opening handshake. It may be called from any goroutine.
func (c *Conn) Shake() error {
	if _, err := io.WriteString(c, Request); err != nil {
		return err
	}
	answer := make([]byte, len(Accepted))
	if _, err := io.ReadFull(c.Reader, answer); err != nil {
		return fmt.Errorf("no answer to the handshake: %w: %q", err, answer)
	}
	if string(answer) != Accepted {
		return fmt.Errorf("wrong answer to the handshake: %q", answer)
	}
	return nil
}

// Send writes bytes.
func (c *Conn) Send(b []byte) {
	c.T.Helper()
	_, err := c.Write(b)
	require.NoError(c.T, err)
}

// Text writes a text message.
func (c *Conn) Text(s string) {
	c.T.Helper()
	c.Send(websocket.NewFrameText(true, []byte(s)))
}

// Frame reads a frame. It may be called from any goroutine.
func (c *Conn) Frame() (op websocket.Opcode, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(c.Reader, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&^0xF != BitFin || head[1]&BitMasked != 0 {
		return 0, nil, fmt.Errorf("frame with the header % x", head)
	}
	length := uint64(head[1])
	var ext [8]byte
	switch length {
	case Length16:
		_, err = io.ReadFull(c.Reader, ext[6:])
		length = binary.BigEndian.Uint64(ext[:])
	case Length64:
		_, err = io.ReadFull(c.Reader, ext[:])
		length = binary.BigEndian.Uint64(ext[:])
	}
	if err != nil || length > 1<<28 {
		return 0, nil, fmt.Errorf("frame of %d bytes: %w", length, err)
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(c.Reader, payload)
	return websocket.Opcode(head[0] & 0xF), payload, err
}

// Compare reads a frame and compares it. It may be called from any goroutine.
func (c *Conn) Compare(op websocket.Opcode, payload string) error {
	gotOp, got, err := c.Frame()
	if err != nil {
		return fmt.Errorf("want %x %.40q: %w", op, payload, err)
	}
	if gotOp != op || string(got) != payload {
		return fmt.Errorf("got %x %.40q (%d bytes), want %x %.40q (%d bytes)", gotOp, got, len(got), op, payload, len(payload))
	}
	return nil
}

// Expect reads a frame and compares it.
func (c *Conn) Expect(op websocket.Opcode, payload string) {
	c.T.Helper()
	require.NoError(c.T, c.Compare(op, payload))
}

// ExpectText reads a text message and compares it.
func (c *Conn) ExpectText(s string) {
	c.T.Helper()
	c.Expect(websocket.OpcodeText, s)
}

// CloseBody is the payload of a Close frame.
func CloseBody(code websocket.CloseCode, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// Code is the code in the payload of a Close frame.
func (c *Conn) Code(payload []byte) websocket.CloseCode {
	c.T.Helper()
	require.GreaterOrEqual(c.T, len(payload), 2)
	require.True(c.T, utf8.Valid(payload[2:]), "%q", payload[2:])
	return websocket.CloseCode(binary.BigEndian.Uint16(payload))
}

// ExpectClose reads a Close frame with that code and then the end of the stream.
func (c *Conn) ExpectClose(code websocket.CloseCode) {
	c.T.Helper()
	op, payload, err := c.Frame()
	require.NoError(c.T, err)
	require.Equal(c.T, websocket.OpcodeClose, op, "%.40q", payload)
	require.GreaterOrEqual(c.T, len(payload), 2)
	require.Equal(c.T, code, websocket.CloseCode(binary.BigEndian.Uint16(payload)), "%q", payload[2:])
	c.ExpectEOF()
}

// ExpectEOF reads the end of the stream, nothing more and no reset, and then closes it too.
func (c *Conn) ExpectEOF() {
	c.T.Helper()
	rest, err := io.ReadAll(c.Reader)
	require.NoError(c.T, err)
	require.Empty(c.T, rest)
	c.Close()
}

// Leave reads whatever comes and closes at the end of the stream, in the background. It returns when that is done.
func (c *Conn) Leave() (left <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, c.Reader)
		c.Close()
	}()
	return done
}

// Reset closes the connection with a reset.
func (c *Conn) Reset() {
	socket := under(c.Conn)
	if tcp, ok := socket.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	socket.Close()
}

// Answer reads a whole HTTP answer, after which the server closes, and returns its status line, its header and its body.
func (c *Conn) Answer() (status string, header map[string]string, body string) {
	c.T.Helper()
	all, err := io.ReadAll(c.Reader)
	require.NoError(c.T, err)
	c.Close()
	head, body, ok := strings.Cut(string(all), "\r\n\r\n")
	require.True(c.T, ok, "%q", all)
	lines := strings.Split(head, "\r\n")
	header = make(map[string]string)
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ": ")
		require.True(c.T, ok, "%q", line)
		require.NotContains(c.T, header, name)
		header[name] = value
	}
	require.Equal(c.T, strconv.Itoa(len(body)), header["Content-Length"])
	require.Equal(c.T, "close", header["Connection"])
	return lines[0], header, body
}

// FrameAfterPings reads a frame and answers the Pings before it, which it counts. It may be called from any goroutine.
func (c *Conn) FrameAfterPings() (op websocket.Opcode, payload []byte, pings int, err error) {
	for {
		if op, payload, err = c.Frame(); err != nil || op != websocket.OpcodePing {
			return op, payload, pings, err
		}
		pings++
		if _, err = c.Write(websocket.NewFramePong(true, payload)); err != nil {
			return op, payload, pings, err
		}
	}
}

// CloseCode reads frames up to a Close frame and returns its code, 1005 if it has none.
func (c *Conn) CloseCode() (websocket.CloseCode, error) {
	for {
		op, payload, err := c.Frame()
		switch {
		case err != nil:
			return 0, fmt.Errorf("no close frame: %w", err)
		case op != websocket.OpcodeClose:
		case len(payload) < 2:
			return 1005, nil
		default:
			return websocket.CloseCode(binary.BigEndian.Uint16(payload)), nil
		}
	}
}

// ReadToEnd reads up to the end of the connection, whichever kind of end it is. It returns an error if none comes.
func (c *Conn) ReadToEnd() error {
	_, err := io.Copy(io.Discard, c.Reader)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return fmt.Errorf("the server does not close the connection: %w", err)
	}
	return nil
}
