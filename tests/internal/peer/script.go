package peer

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// Deadline is how long a test waits for anything before it fails.
const Deadline = 20 * time.Second

// Listener is a listener on which a test plays a server's part byte by byte. Its methods are for the test's goroutine.
type Listener struct {
	T      *testing.T
	Socket net.Listener // may be replaced by one with TLS
}

// Listen listens on a free port.
func Listen(t *testing.T) *Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return &Listener{T: t, Socket: ln}
}

// Endpoint is the URL that a Client connects to.
func (s *Listener) Endpoint() string { return "ws://" + s.Socket.Addr().String() + "/" }

// Accept takes a client's connection and reads its opening handshake.
func (s *Listener) Accept() *Script {
	s.T.Helper()
	conn, err := s.Socket.Accept()
	require.NoError(s.T, err)
	s.T.Cleanup(func() { conn.Close() })
	c := &Script{T: s.T, Conn: conn}
	c.ReadRequest()
	return c
}

// Open has a client connect, with the answer that accepts it; more is sent in one piece with that.
func (s *Listener) Open(cl *websocket.Client, more ...byte) *Script {
	s.T.Helper()
	if cl.Endpoint == "" {
		cl.Endpoint = s.Endpoint()
	}
	connected := Connect(cl)
	c := s.Accept()
	c.Send(append(c.Answer(), more...))
	require.NoError(s.T, Receive(s.T, connected))
	s.T.Cleanup(cl.Quit)
	return c
}

// Open opens a client's connection to a server of its own.
func Open(t *testing.T, cl *websocket.Client, more ...byte) *Script {
	t.Helper()
	return Listen(t).Open(cl, more...)
}

// Connect calls the client's Connect on a goroutine of its own.
func Connect(cl *websocket.Client) <-chan error {
	done := make(chan error, 1)
	go func() { done <- cl.Connect() }()
	return done
}

// Receive receives from a channel before the deadline.
func Receive[T any](t *testing.T, ch <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-ch:
	case <-time.After(Deadline):
		require.FailNow(t, "nothing came before the deadline")
	}
	return value
}

// Script is a server's end of a connection, for the test's goroutine.
type Script struct {
	T       *testing.T
	Conn    net.Conn
	In      *bufio.Reader
	Request *http.Request
}

// Frame is a frame as the client sent it, with its payload unmasked.
type Frame struct {
	Payload []byte
	Key     [4]byte
	Opcode  websocket.Opcode
	Fin     bool
	Masked  bool
}

// ReadRequest reads the opening handshake.
func (c *Script) ReadRequest() {
	c.T.Helper()
	require.NoError(c.T, c.Conn.SetDeadline(time.Now().Add(Deadline)))
	c.In = bufio.NewReader(c.Conn)
	var err error
	c.Request, err = http.ReadRequest(c.In)
	require.NoError(c.T, err)
}

// Answer is the opening handshake that accepts the client.
func (c *Script) Answer() []byte {
	key := c.Request.Header.Get("Sec-WebSocket-Key")
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + AcceptKey([]byte(key)) + "\r\n\r\n")
}

// Send writes bytes.
func (c *Script) Send(b []byte) {
	c.T.Helper()
	_, err := c.Conn.Write(b)
	require.NoError(c.T, err)
}

// Read reads the client's next frame, which must be masked and finished.
func (c *Script) Read() Frame {
	c.T.Helper()
	f, err := ReadFrame(c.In)
	require.NoError(c.T, err)
	require.True(c.T, f.Masked, "frame of a client is masked")
	require.True(c.T, f.Fin)
	return f
}

// ReadClose reads the client's Close frame and returns its code and reason.
func (c *Script) ReadClose() (code websocket.CloseCode, reason string) {
	c.T.Helper()
	f := c.Read()
	require.Equal(c.T, websocket.OpcodeClose, f.Opcode)
	require.GreaterOrEqual(c.T, len(f.Payload), 2)
	return websocket.CloseCode(binary.BigEndian.Uint16(f.Payload)), string(f.Payload[2:])
}

// ReadEnd waits for the end of the connection, without another frame.
func (c *Script) ReadEnd() {
	c.T.Helper()
	n, err := c.In.Read(make([]byte, 1))
	require.Zero(c.T, n)
	require.Error(c.T, err)
	require.NotErrorIs(c.T, err, os.ErrDeadlineExceeded)
}

// ReadFrame reads one frame, without a look at the rules.
func ReadFrame(in io.Reader) (f Frame, err error) {
	var start [2]byte
	if _, err = io.ReadFull(in, start[:]); err != nil {
		return f, err
	}
	f.Fin, f.Opcode, f.Masked = start[0]&0x80 != 0, websocket.Opcode(start[0]&0x0F), start[1]&0x80 != 0
	length := uint64(start[1] & 0x7F)
	switch length {
	case 126:
		var more [2]byte
		_, err = io.ReadFull(in, more[:])
		length = uint64(binary.BigEndian.Uint16(more[:]))
	case 127:
		var more [8]byte
		_, err = io.ReadFull(in, more[:])
		length = binary.BigEndian.Uint64(more[:])
	}
	if err == nil && f.Masked {
		_, err = io.ReadFull(in, f.Key[:])
	}
	if err != nil {
		return f, err
	}
	f.Payload = make([]byte, length)
	_, err = io.ReadFull(in, f.Payload)
	for i := range f.Payload {
		f.Payload[i] ^= f.Key[i%4]
	}
	return f, err
}
