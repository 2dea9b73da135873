//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// Frames of HTTP/2 (RFC 9113, section 6), and their flags.
const (
	h2Data, h2Headers, h2Reset, h2Settings, h2Ping, h2Away, h2Window = 0, 1, 3, 4, 6, 7, 8

	h2EndStream, h2Ack, h2EndHeaders = 1, 1, 4
)

// stream is a client's end of a connection of HTTP/2, and of its one stream as if that were a connection.
type stream struct {
	*tls.Conn
	in     *bufio.Reader
	id     uint32
	data   []byte
	head   []byte // the header block of the answer
	ended  bool   // by the server
	reset  bool
	extend bool // the server has SETTINGS_ENABLE_CONNECT_PROTOCOL
}

func (s *stream) frame(kind, flags byte, id uint32, payload []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	head = binary.BigEndian.AppendUint32(append(head, flags), id)
	_, err := s.Conn.Write(append(head, payload...))
	return err
}

// next reads a frame, and does with it what has to be done.
func (s *stream) next() error {
	var head [9]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return err
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[:])>>8)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		return err
	}
	ofStream := binary.BigEndian.Uint32(head[5:]) == s.id
	switch kind, flags := head[3], head[4]; {
	case kind == h2Settings && flags&h2Ack == 0:
		for ; len(payload) >= 6; payload = payload[6:] {
			s.extend = s.extend || binary.BigEndian.Uint16(payload) == 8 && payload[5] == 1
		}
		return s.frame(h2Settings, h2Ack, 0, nil)
	case kind == h2Ping && flags&h2Ack == 0:
		return s.frame(h2Ping, h2Ack, 0, payload)
	case kind == h2Away:
		return errors.New("the server goes away")
	case kind == h2Headers && ofStream:
		s.head, s.ended = payload, flags&h2EndStream != 0
	case kind == h2Reset && ofStream:
		s.reset = true
	case kind == h2Data && ofStream:
		s.data, s.ended = append(s.data, payload...), flags&h2EndStream != 0
		if len(payload) > 0 {
			more := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
			return errors.Join(s.frame(h2Window, 0, 0, more), s.frame(h2Window, 0, s.id, more))
		}
	}
	return nil
}

func (s *stream) Read(b []byte) (n int, err error) {
	for len(s.data) == 0 {
		if s.ended || s.reset {
			return 0, io.EOF
		}
		if err = s.next(); err != nil {
			return 0, err
		}
	}
	n = copy(b, s.data)
	s.data = s.data[n:]
	return n, nil
}

func (s *stream) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := b[n:min(len(b), n+16<<10)]
		if err = s.frame(h2Data, 0, s.id, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (s *stream) CloseWrite() error { return s.frame(h2Data, h2EndStream, s.id, nil) }

// ask opens a stream with these header fields, and reads the answer's head.
func (s *stream) ask(fields ...string) error {
	s.id += 2
	s.head, s.ended, s.reset = nil, false, false
	var block []byte
	for _, field := range fields { // each a literal, without indexing or Huffman's code (RFC 7541, section 6.2.2)
		name, value, _ := strings.Cut(field[1:], "=")
		name = field[:1] + name
		block = append(append(append(block, 0, byte(len(name))), name...), byte(len(value)))
		block = append(block, value...)
	}
	if err := s.frame(h2Headers, h2EndHeaders, s.id, block); err != nil {
		return err
	}
	for s.head == nil && !s.reset {
		if err := s.next(); err != nil {
			return err
		}
	}
	return nil
}

var streamHandshake = []string{":method=CONNECT", ":protocol=websocket", ":scheme=https", ":path=/chat?x=1", ":authority=localhost", "sec-websocket-version=13"}

// openStream connects by HTTP/2.
func openStream(t *testing.T, m *mount) (*peer.Conn, *stream) {
	t.Helper()
	conn, err := tls.Dial(m.network, m.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(3 * peer.Wait))
	s := &stream{Conn: conn, in: bufio.NewReader(conn), id: ^uint32(0)}
	_, err = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, s.frame(h2Settings, 0, 0, nil))
	for !s.extend {
		require.NoError(t, s.next())
	}
	return &peer.Conn{Conn: s, T: t, Reader: bufio.NewReader(s)}, s
}

func connectStream(t *testing.T, m *mount) (*peer.Conn, *stream) {
	t.Helper()
	c, s := openStream(t, m)
	require.NoError(t, s.ask(streamHandshake...))
	require.Equal(t, byte(0x88), s.head[0], ":status is 200")
	return c, s
}

// runOfHTTP2 runs a test of HTTP/2 in a process of its own: net/http looks at GODEBUG as it starts.
func runOfHTTP2(t *testing.T, name string) {
	t.Helper()
	if isOfHTTP2() {
		t.Skip("this is that process")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=http2xconnect=1")
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: "+name)
}

func isOfHTTP2() bool { return strings.Contains(os.Getenv("GODEBUG"), "http2xconnect=1") }

// onlyOfHTTP2 skips a test that runOfHTTP2 runs.
func onlyOfHTTP2(t *testing.T) {
	t.Helper()
	if !isOfHTTP2() {
		t.Skip("it needs a process of its own")
	}
}

func TestStreams(t *testing.T) { runOfHTTP2(t, "TestStreamsOfHTTP2") }

func TestStreamsOfHTTP2(t *testing.T) {
	onlyOfHTTP2(t)
	h2 := func(hs *httptest.Server) { hs.TLS, hs.EnableHTTP2 = new(tls.Config), true }
	removed := make(chan int, 100)
	asked := make(chan *websocket.Handshake, 100)
	m := mounted(t, &websocket.ServerOptions{
		HandleText:         peer.Echo,
		HandleBin:          func(conn int, payload []byte) { websocket.SendBin(conn, payload) },
		HandleClientRemove: func(_ context.Context, conn int) { removed <- conn },
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			if req.Header.Get("X-Refuse") != "" {
				return nil, errors.New("not you")
			}
			asked <- req
			req.ResponseHeader.Set("X-Auth", "asked")
			return nil, nil
		},
	}, itself, h2)

	t.Run("messages of all sizes come back, and a close code", func(t *testing.T) {
		c, s := connectStream(t, m)
		req := peer.Get(t, asked)
		assert.Empty(t, req.Key)
		assert.Empty(t, req.Header.Get("Sec-WebSocket-Key"))
		assert.Equal(t, "/chat?x=1", req.URL.String())
		assert.Equal(t, "localhost", string(req.Host))
		for _, size := range []int{0, 1, 125, 126, 511, 512, 513, 65535, 65536, 512 << 10} { // the window of net/http is 1 MiB
			payload := peer.Pattern(size, size)
			c.Send(websocket.NewFrameBin(true, payload))
			c.Expect(websocket.OpcodeBin, string(payload))
		}
		c.Send(websocket.NewFrameClose(true, 4000, []byte("bye")))
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4000, "bye"))
		_, err := c.Reader.ReadByte()
		assert.ErrorIs(t, err, io.EOF)
		assert.True(t, s.ended, "by the last frame, not by a reset")
		peer.Get(t, removed)
	})
	t.Run("two streams, one after the other, on one connection", func(t *testing.T) {
		c, s := connectStream(t, m)
		c.Text("x")
		c.ExpectText("x")
		require.NoError(t, s.CloseWrite())
		_, err := c.Reader.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		peer.Get(t, removed)
		require.NoError(t, s.ask(streamHandshake...))
		c.Text("y")
		c.ExpectText("y")
		require.NoError(t, s.frame(h2Reset, 0, s.id, []byte{0, 0, 0, 8}))
		peer.Get(t, removed)
	})
	t.Run("HandleAuth refuses with a status", func(t *testing.T) {
		c, s := openStream(t, m)
		require.NoError(t, s.ask(append(streamHandshake, "x-refuse=yes")...))
		assert.Equal(t, byte(0x8C), s.head[0], ":status is 400")
		body, err := io.ReadAll(c.Reader)
		require.NoError(t, err)
		assert.Equal(t, "not you", string(body))
	})
	t.Run("the rules refuse with a status", func(t *testing.T) {
		for want, fields := range map[string][]string{
			"unsupported Sec-WebSocket-Version":                                       append(streamHandshake[:5:5], "sec-websocket-version=12"),
			"invalid HTTP method. This port serves WebSocket connections (RFC 6455).": {":method=PUT", ":scheme=https", ":path=/", ":authority=localhost"},
		} {
			c, s := openStream(t, m)
			require.NoError(t, s.ask(fields...))
			body, err := io.ReadAll(c.Reader)
			require.NoError(t, err)
			assert.Equal(t, want, string(body))
		}
	})
	t.Run("the connection is lost", func(t *testing.T) {
		c, _ := connectStream(t, m)
		c.Text("x")
		c.ExpectText("x")
		c.Close()
		peer.Get(t, removed)
	})
	t.Run("ClientRemove ends the stream", func(t *testing.T) {
		c, s := connectStream(t, m)
		require.True(t, peer.Eventually(func() bool { return m.Clients.Len() == 1 }))
		m.ClientRemove(m.Clients.All()[0])
		c.Expect(websocket.OpcodeClose, peer.CloseBody(websocket.StatusNormal, ""))
		_, err := c.Reader.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		assert.True(t, s.ended)
		peer.Get(t, removed)
	})
	t.Run("the time-outs of the http.Server are for requests", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{HandleText: peer.Echo, PingInterval: 100 * time.Millisecond}, itself, func(hs *httptest.Server) {
			h2(hs)
			hs.Config.ReadTimeout, hs.Config.WriteTimeout = time.Second, time.Second
		})
		c, _ := connectStream(t, m)
		for range 15 {
			op, payload, err := c.Frame()
			require.NoError(t, err)
			require.Equal(t, websocket.OpcodePing, op)
			c.Send(websocket.NewFramePong(true, payload))
		}
	})
	t.Run("Stop ends all, and one that comes later is told", func(t *testing.T) {
		c, _ := connectStream(t, m)
		stopped := make(chan struct{})
		go func() {
			m.Stop()
			close(stopped)
		}()
		c.Expect(websocket.OpcodeClose, peer.CloseBody(websocket.StatusGone, ""))
		peer.Done(t, stopped)
		c, s := openStream(t, m)
		require.NoError(t, s.ask(streamHandshake...))
		body, err := io.ReadAll(c.Reader)
		require.NoError(t, err)
		assert.Equal(t, "server is stopped", string(body))
	})
}
