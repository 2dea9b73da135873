package websocket

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
	return scriptedAnswer(c.request.Header.Get("Sec-WebSocket-Key"))
}

// scriptedAnswer is what accepts a client that has sent this key.
func scriptedAnswer(key string) []byte {
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

// readFragment reads the client's next frame, which may be one of several.
func (c *scriptedConn) readFragment() scriptedFrame {
	c.t.Helper()
	f, err := scriptedRead(c.in)
	require.NoError(c.t, err)
	require.True(c.t, f.masked)
	return f
}

// shakeHands accepts a client.
func (c *scriptedConn) shakeHands() error {
	c.conn.SetDeadline(time.Now().Add(scriptedDeadline))
	c.in = bufio.NewReader(c.conn)
	request, err := http.ReadRequest(c.in)
	if err != nil {
		return err
	}
	c.request = request
	_, err = c.conn.Write(c.answer())
	return err
}

func TestClient_endpoint(t *testing.T) {
	config := new(tls.Config)
	for _, test := range []struct {
		name     string
		endpoint string
		host     string // empty: an error
		secure   bool
	}{
		{"ws has port 80", "ws://example.com", "example.com:80", false},
		{"http has port 80", "http://example.com/chat", "example.com:80", false},
		{"wss has port 443", "wss://example.com", "example.com:443", true},
		{"https has port 443", "https://example.com/chat?a=1", "example.com:443", true},
		{"a port of its own is kept", "ws://example.com:8080", "example.com:8080", false},
		{"a port of its own is kept with TLS", "wss://example.com:80", "example.com:80", true},
		{"the scheme may be in capitals", "WS://example.com", "example.com:80", false},
		{"IPv6 gets a port", "ws://[::1]", "[::1]:80", false},
		{"IPv6 keeps its port", "wss://[::1]:9", "[::1]:9", true},
		{"another scheme is refused", "ftp://example.com", "", false},
		{"no scheme is refused", "example.com/chat", "", false},
		{"no host is refused", "ws:///chat", "", false},
		{"a port without a host is refused", "ws://:80/", "", false},
		{"an empty endpoint is refused", "", "", false},
		{"a malformed URL is refused", "ws://exa mple.com", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			cl := &Client{Endpoint: test.endpoint, TLSConfig: config}
			to, err := cl.firstHop()
			if test.host == "" {
				require.Error(t, err)
				assert.Error(t, cl.Connect())
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.host, to.url.Host)
			assert.Equal(t, test.secure, isSecure(to.url))
			if test.secure {
				assert.Same(t, config, cl.TLSConfig)
			} else {
				assert.Nil(t, cl.TLSConfig, "a plain scheme resets TLSConfig")
			}
		})
	}
}

func TestClient_request(t *testing.T) {
	t.Run("the default port is left out of Host", func(t *testing.T) {
		for endpoint, host := range map[string]string{
			"ws://example.com/": "example.com", "http://[::1]:80": "[::1]", "wss://example.com:443": "example.com",
			"https://example.com:80": "example.com:80", "ws://example.com:443": "example.com:443",
		} {
			cl := &Client{Endpoint: endpoint}
			to, err := cl.firstHop()
			require.NoError(t, err)
			client, server := net.Pipe()
			c := newClientConn(cl)
			c.conn = client
			done := make(chan error, 1)
			go func() {
				_, err := cl.shakeHands(c, to, time.Now().Add(time.Hour))
				done <- err
			}()
			request, err := http.ReadRequest(bufio.NewReader(server))
			require.NoError(t, err)
			assert.Equal(t, host, request.Host)
			server.Close()
			assert.Error(t, scriptedWait(t, done))
		}
	})
}

func TestClient_answerWithoutEnd(t *testing.T) {
	for name, piece := range map[string]string{
		"header lines without end are refused": strings.Repeat("X-Filler: y\r\n", 100),
		"a line without end is refused":        strings.Repeat("y", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := scriptedListen(t)
			connected := scriptedConnect(&Client{Endpoint: s.endpoint()})
			c := s.accept()
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(c.conn, "HTTP/1.1 101 Switching Protocols\r\nX: ")
				for err == nil {
					_, err = io.WriteString(c.conn, piece)
				}
				sent <- err
			}()
			assert.ErrorContains(t, scriptedWait(t, connected), "too large")
			assert.NotErrorIs(t, scriptedWait(t, sent), errWaitedTooLong)
		})
	}
}

func TestClient_answerBehindOthers(t *testing.T) {
	t.Run("interim answers without end are refused", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		s := scriptedListen(t)
		connected := scriptedConnect(&Client{Endpoint: s.endpoint()})
		c := s.accept()
		sent := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				_, err = io.WriteString(c.conn, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			sent <- err
		}()
		assert.ErrorContains(t, scriptedWait(t, connected), "100 Continue")
		assert.NotErrorIs(t, scriptedWait(t, sent), errWaitedTooLong)
	})
}

func TestClient_Connect(t *testing.T) {
	t.Run("a connected client does not connect again", func(t *testing.T) {
		checkGoroutines(t)
		cl := new(Client)
		scriptedOpen(t, cl)
		assert.ErrorIs(t, cl.Connect(), errConnected)
	})
	t.Run("of two at the same time one is refused", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		cl := &Client{Endpoint: s.endpoint()}
		first := scriptedConnect(cl)
		c := s.accept()
		assert.ErrorIs(t, cl.Connect(), errConnected)
		c.send(c.answer())
		assert.NoError(t, scriptedWait(t, first))
		cl.Quit()
	})
}

func TestClient_ConnectContext(t *testing.T) {
	// stages are how far an opening handshake has come when it is ended.
	stages := map[string]func(t *testing.T) (endpoint string, reached func()){
		"before the server has accepted": func(t *testing.T) (string, func()) {
			return scriptedListen(t).endpoint(), func() {}
		},
		"before its answer": func(t *testing.T) (string, func()) {
			s := scriptedListen(t)
			return s.endpoint(), func() { s.accept() }
		},
		"inside its answer": func(t *testing.T) (string, func()) {
			s := scriptedListen(t)
			return s.endpoint(), func() { s.accept().send([]byte("HTTP/1.1 101 ")) }
		},
		"inside the handshake of TLS": func(t *testing.T) (string, func()) {
			s := scriptedListen(t)
			return strings.Replace(s.endpoint(), "ws:", "wss:", 1), func() {
				conn, err := s.ln.Accept()
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				_, err = conn.Read(make([]byte, 1))
				require.NoError(t, err)
			}
		},
	}
	ends := map[string]struct {
		end  func(cl *Client, cancel func())
		want error
	}{
		"Close":             {func(cl *Client, _ func()) { cl.Close() }, ErrConnClosed},
		"CloseWith":         {func(cl *Client, _ func()) { cl.CloseWith(StatusGone, "") }, ErrConnClosed},
		"Quit":              {func(cl *Client, _ func()) { cl.Quit() }, ErrConnClosed},
		"the context's end": {func(_ *Client, cancel func()) { cancel() }, context.Canceled},
	}
	for stage, open := range stages {
		for name, end := range ends {
			t.Run(name+" ends it "+stage, func(t *testing.T) {
				checkGoroutines(t)
				checkDescriptors(t)
				endpoint, reached := open(t)
				cl := &Client{Endpoint: endpoint, HandshakeTimeout: time.Hour, HandleQuit: func() { panic("nothing was opened") }}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				connected := make(chan error, 1)
				go func() { connected <- cl.ConnectContext(ctx) }()
				reached()
				require.True(t, eventually(func() bool {
					cl.mu.Lock()
					defer cl.mu.Unlock()
					return cl.attempt != nil
				}))
				end.end(cl, cancel)
				err := scriptedWait(t, connected)
				assert.ErrorIs(t, err, end.want)
				assert.ErrorContains(t, err, "websocket: connect: ")
				assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
				assert.NoError(t, cl.Err())
			})
		}
	}
	t.Run("Connect, Close, Quit and sends at the same time leave nothing behind", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		s := scriptedListen(t)
		go func() {
			for {
				conn, err := s.ln.Accept()
				if err != nil {
					return
				}
				go func() {
					c := &scriptedConn{t: t, conn: conn}
					defer conn.Close()
					if c.shakeHands() != nil {
						return
					}
					for {
						f, err := scriptedRead(c.in)
						if err != nil {
							return
						}
						if f.opcode == OpcodeClose {
							conn.Write(NewFrameClose(false, StatusNormal, nil))
							return
						}
					}
				}()
			}
		}()
		var mu sync.Mutex
		opened, quits := 0, 0
		cl := &Client{Endpoint: s.endpoint(), HandleQuit: func() {
			mu.Lock()
			defer mu.Unlock()
			quits++
		}}
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				for round := range 50 {
					switch (i + round) % 4 {
					case 0, 1:
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(round%7+1)*time.Millisecond)
						err := cl.ConnectContext(ctx)
						cancel()
						if err == nil {
							mu.Lock()
							opened++
							mu.Unlock()
							continue
						}
						ok := errors.Is(err, errConnected) || errors.Is(err, ErrConnClosed) || errors.Is(err, ctx.Err())
						assert.True(t, ok, "%v", err)
					case 2:
						cl.Close()
					default:
						cl.SendText([]byte("hello"))
						cl.Quit()
					}
				}
			})
		}
		group.Wait()
		cl.Quit()
		assert.True(t, eventually(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return quits == opened
		}), "%d connections, HandleQuit was called %d times", opened, quits)
		s.ln.Close()
	})
}

// BenchmarkClientEcho is the way of a message through a client whose handler sends it back. The server's part is as little as can
// be, so that the allocations are those of the client.
func BenchmarkClientEcho(b *testing.B) {
	for _, size := range []int{32, 1 << 10, 16 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%d B", size), func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			cl := &Client{Endpoint: "ws://" + ln.Addr().String(), HandleBin: func(cl *Client, f *Frame) error {
				defer PutBuffer(f.payload)
				return cl.SendBin(f.payload)
			}}
			connected := scriptedConnect(cl)
			conn, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			defer cl.Quit()
			c := &scriptedConn{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
			if err = c.accept(connected); err != nil {
				b.Fatal(err)
			}
			packet := NewFrameBin(false, make([]byte, size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err = conn.Write(packet); err == nil {
					err = discardMessage(c.in)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// accept answers a client's opening handshake.
func (c *scriptedConn) accept(connected <-chan error) (err error) {
	var key string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Sscanf(line, "Sec-WebSocket-Key: %s", &key)
		if line == "\r\n" {
			break
		}
	}
	if _, err = c.conn.Write(scriptedAnswer(key)); err != nil {
		return err
	}
	return <-connected
}

// discardMessage reads one message of any number of fragments.
func discardMessage(in *bufio.Reader) error {
	for fin := false; !fin; {
		var b []byte
		n := 0
		for size := 2; n == 0; size++ {
			var err error
			if b, err = in.Peek(size); err != nil {
				return err
			}
			var h header
			if h, n = parseHeader(b); n > 0 {
				fin = h.fin()
				n += int(h.length)
			}
		}
		if _, err := in.Discard(n); err != nil {
			return err
		}
	}
	return nil
}
