package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// The opening handshake of a raw peer, from RFC 6455, section 1.3, and what accepts it.
const (
	Request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	Accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

// RequestWith returns the good request with one header line replaced, or left out if line is empty.
func RequestWith(name, line string) string {
	var b strings.Builder
	for l := range strings.SplitSeq(strings.TrimSuffix(Request, "\r\n\r\n"), "\r\n") {
		if strings.HasPrefix(l, name) {
			if l = line; l == "" {
				continue
			}
		}
		b.WriteString(l + "\r\n")
	}
	return b.String() + "\r\n"
}

// Server is a running server of a test.
type Server struct {
	*websocket.Server
	T       *testing.T // of the whole server; its connections may have others
	Network string     // where it listens
	Address string
	Served  chan error // what Serve returned

	// TLS is what its clients speak; nil: they do not. A server with TLSConfig has ClientTLS from the moment that it serves, if it is nil.
	TLS *tls.Config
}

// Start runs a server until the end of the test, after which no goroutine and no descriptor may be left.
func Start(t *testing.T, opts *websocket.ServerOptions) *Server {
	t.Helper()
	CheckGoroutines(t)
	CheckDescriptors(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &Server{Server: websocket.NewServer(Quiet(opts)), T: t}
	s.ServeOn(ln)
	t.Cleanup(func() { s.StopAndWait(t) })
	return s
}

// Quiet makes the options of a test: no log, and no Pings between the frames that it waits for, unless it sets them.
func Quiet(opts *websocket.ServerOptions) *websocket.ServerOptions {
	if opts == nil {
		opts = new(websocket.ServerOptions)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.PingInterval == 0 {
		opts.PingInterval = -1
	}
	return opts
}

// ServeOn runs the server with a listener, and returns once it serves.
func (s *Server) ServeOn(ln net.Listener) {
	s.T.Helper()
	s.Network, s.Address = ln.Addr().Network(), ln.Addr().String()
	if s.Options.TLSConfig != nil && s.TLS == nil {
		s.TLS = ClientTLS()
	}
	s.Served = make(chan error, 1)
	go func() { s.Served <- s.Serve(ln) }()
	require.True(s.T, Eventually(func() bool { return s.Addr() != nil }), "the server does not start")
}

// StopAndWait stops the server and waits for Serve to return.
func (s *Server) StopAndWait(t *testing.T) {
	t.Helper()
	stopped := make(chan struct{})
	go func() {
		s.Stop()
		close(stopped)
	}()
	Done(t, stopped)
	if s.Served != nil {
		require.NoError(t, Get(t, s.Served))
		s.Served = nil
	}
}

// Restart runs a server that has been stopped, or was made without Start.
func (s *Server) Restart(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.ServeOn(ln)
}

// Launch runs a server until the end of the test. Unlike Start it checks nothing of what is left then.
func (s *Server) Launch(t *testing.T) {
	t.Helper()
	s.Restart(t)
	t.Cleanup(func() { s.StopAndWait(t) })
}

// Mount runs a server as the handler of a server of net/http until the end of the test. It is never started.
func (s *Server) Mount(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	hs := &http.Server{Handler: s.Server, ErrorLog: log.New(io.Discard, "", 0)}
	hs.SetKeepAlivesEnabled(false) // a refusal ends the connection, as on the server's own listener
	s.Network, s.Address, s.Served = ln.Addr().Network(), ln.Addr().String(), make(chan error, 1)
	go func() { s.Served <- hs.Serve(ln) }()
	t.Cleanup(func() {
		hs.Close()
		Get(t, s.Served)
		s.Stop()
	})
}

// Echo sends a message back as it is.
func Echo(conn int, payload []byte) { websocket.Send(conn, websocket.NewFrameText(false, payload)) }

// Added sets HandleClientAdd and returns the numbers of the connections that it is given.
func Added(opts *websocket.ServerOptions) <-chan int {
	added := make(chan int, 1<<12)
	opts.HandleClientAdd = func(_ context.Context, conn int) { added <- conn }
	return added
}

// Removed sets HandleClientRemove and returns the numbers of the connections that it is given.
func Removed(opts *websocket.ServerOptions) <-chan int {
	removed := make(chan int, 1<<12)
	opts.HandleClientRemove = func(_ context.Context, conn int) { removed <- conn }
	return removed
}

// Open connects without an opening handshake. It may be called from any goroutine, and who calls it closes the connection.
func (s *Server) Open() (*Conn, error) {
	c, err := s.OpenPlain()
	if err == nil && s.TLS != nil {
		c.Secure(s.TLS)
	}
	return c, err
}

// OpenPlain is Open without TLS.
func (s *Server) OpenPlain() (*Conn, error) {
	conn, err := net.DialTimeout(s.Network, s.Address, Wait)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(3 * Wait))
	return &Conn{Conn: conn, T: s.T, Reader: bufio.NewReader(conn)}, nil
}

// Dial connects without an opening handshake until the end of the test.
func (s *Server) Dial(t *testing.T) *Conn {
	t.Helper()
	return until(t, s.Open)
}

// DialPlain is Dial without TLS.
func (s *Server) DialPlain(t *testing.T) *Conn {
	t.Helper()
	return until(t, s.OpenPlain)
}

// until opens a connection until the end of the test.
func until(t *testing.T, open func() (*Conn, error)) *Conn {
	t.Helper()
	c, err := open()
	require.NoError(t, err)
	c.T = t
	held := c
	t.Cleanup(func() {
		held.Close()
		held = nil // the test keeps its cleanups until the last has run
	})
	return c
}

// Connect connects with a handshake until the end of the test.
func (s *Server) Connect(t *testing.T) *Conn {
	t.Helper()
	c := s.Dial(t)
	require.NoError(t, c.Shake())
	return c
}

// Join connects with a handshake. It may be called from any goroutine, and who calls it closes the connection.
func (s *Server) Join() (*Conn, error) {
	c, err := s.Open()
	if err != nil {
		return nil, err
	}
	if err = c.Shake(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Fill sends to a connection whose peer does not read until its queue is full, and returns the number of packets.
func Fill(t *testing.T, conn int, packet []byte) (sent int) {
	t.Helper()
	for range 1 << 16 {
		err := websocket.TrySend(conn, packet)
		if errors.Is(err, websocket.ErrSendQueueFull) {
			return sent
		}
		require.NoError(t, err)
		sent++
	}
	require.FailNow(t, "the queue never fills")
	return 0
}
