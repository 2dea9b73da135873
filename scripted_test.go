package websocket

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
)

// scriptedDeadline is how long a test waits for anything before it fails.
const scriptedDeadline = 20 * time.Second

// scriptedServer is a listener on which a test plays a server's part byte by byte. Its methods are for the test's goroutine.
type scriptedServer struct {
	t  *testing.T
	ln net.Listener
}

// scriptedListen listens on a free port.
func scriptedListen(t *testing.T) *scriptedServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return &scriptedServer{t: t, ln: ln}
}

func (s *scriptedServer) endpoint() string { return "ws://" + s.ln.Addr().String() + "/" }

// accept takes a client's connection and reads its opening handshake.
func (s *scriptedServer) accept() *scriptedConn {
	s.t.Helper()
	conn, err := s.ln.Accept()
	require.NoError(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	c := &scriptedConn{t: s.t, conn: conn}
	c.readRequest()
	return c
}

// open has a client connect, with the answer that accepts it; more is sent in one piece with that.
func (s *scriptedServer) open(cl *Client, more ...byte) *scriptedConn {
	s.t.Helper()
	if cl.Endpoint == "" {
		cl.Endpoint = s.endpoint()
	}
	connected := scriptedConnect(cl)
	c := s.accept()
	c.send(append(c.answer(), more...))
	require.NoError(s.t, scriptedWait(s.t, connected))
	s.t.Cleanup(cl.Quit)
	return c
}

// scriptedOpen opens a client's connection to a server of its own.
func scriptedOpen(t *testing.T, cl *Client, more ...byte) *scriptedConn {
	t.Helper()
	return scriptedListen(t).open(cl, more...)
}

// scriptedConnect calls Connect on a goroutine of its own.
func scriptedConnect(cl *Client) <-chan error {
	done := make(chan error, 1)
	go func() { done <- cl.Connect() }()
	return done
}

// scriptedWait receives from a channel before the deadline.
func scriptedWait[T any](t *testing.T, ch <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-ch:
	case <-time.After(scriptedDeadline):
		require.FailNow(t, "nothing came before the deadline")
	}
	return value
}

// scriptedConn is the server's end of a connection.
type scriptedConn struct {
	t       *testing.T
	conn    net.Conn
	in      *bufio.Reader
	request *http.Request
}

// scriptedFrame is a frame as the client sent it, with its payload unmasked.
type scriptedFrame struct {
	payload []byte
	key     [4]byte
	opcode  Opcode
	fin     bool
	masked  bool
}

func (c *scriptedConn) readRequest() {
	c.t.Helper()
	require.NoError(c.t, c.conn.SetDeadline(time.Now().Add(scriptedDeadline)))
	c.in = bufio.NewReader(c.conn)
	var err error
	c.request, err = http.ReadRequest(c.in)
	require.NoError(c.t, err)
}

// answer is what accepts the client.
func (c *scriptedConn) answer() []byte {
	key := c.request.Header.Get("Sec-WebSocket-Key")
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + acceptKey([]byte(key)) + "\r\n\r\n")
}

func (c *scriptedConn) send(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	require.NoError(c.t, err)
}

// read reads the client's next frame, which must be masked and finished.
func (c *scriptedConn) read() scriptedFrame {
	c.t.Helper()
	f, err := scriptedRead(c.in)
	require.NoError(c.t, err)
	require.True(c.t, f.masked, "frame of a client is masked")
	require.True(c.t, f.fin)
	return f
}

// readClose reads the client's Close frame and returns its code and reason.
func (c *scriptedConn) readClose() (code CloseCode, reason string) {
	c.t.Helper()
	f := c.read()
	require.Equal(c.t, OpcodeClose, f.opcode)
	require.GreaterOrEqual(c.t, len(f.payload), 2)
	return CloseCode(binary.BigEndian.Uint16(f.payload)), string(f.payload[2:])
}

// readEnd waits for the end of the connection, without another frame.
func (c *scriptedConn) readEnd() {
	c.t.Helper()
	n, err := c.in.Read(make([]byte, 1))
	require.Zero(c.t, n)
	require.Error(c.t, err)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

// scriptedRead reads one frame, without a look at the rules.
func scriptedRead(in io.Reader) (f scriptedFrame, err error) {
	var start [2]byte
	if _, err = io.ReadFull(in, start[:]); err != nil {
		return f, err
	}
	f.fin, f.opcode, f.masked = start[0]&0x80 != 0, Opcode(start[0]&0x0F), start[1]&0x80 != 0
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
	if err == nil && f.masked {
		_, err = io.ReadFull(in, f.key[:])
	}
	if err != nil {
		return f, err
	}
	f.payload = make([]byte, length)
	_, err = io.ReadFull(in, f.payload)
	for i := range f.payload {
		f.payload[i] ^= f.key[i%4]
	}
	return f, err
}
