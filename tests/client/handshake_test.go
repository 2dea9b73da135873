package client_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// keyLength is the length of a Sec-WebSocket-Key: 16 bytes in base64 (RFC 6455, section 4.1).
const keyLength = 24

func TestClient_request(t *testing.T) {
	t.Run("the zero client with an endpoint opens a connection", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		s := peer.Listen(t)
		cl := &websocket.Client{Endpoint: s.Endpoint() + "chat/room?user=7&x=%20"}
		c := s.Open(cl)
		assert.Equal(t, "GET", c.Request.Method)
		assert.Equal(t, "/chat/room?user=7&x=%20", c.Request.RequestURI)
		assert.Equal(t, "HTTP/1.1", c.Request.Proto)
		assert.Equal(t, s.Socket.Addr().String(), c.Request.Host)
		assert.Equal(t, "websocket", c.Request.Header.Get("Upgrade"))
		assert.Equal(t, "Upgrade", c.Request.Header.Get("Connection"))
		assert.Equal(t, "13", c.Request.Header.Get("Sec-WebSocket-Version"))
		assert.Len(t, c.Request.Header.Get("Sec-WebSocket-Key"), keyLength)
		assert.Equal(t, "Upgrade", cl.Response().Get("Connection"))
		assert.NoError(t, cl.Err())
	})
	t.Run("each handshake has a key of its own", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s, cl := peer.Listen(t), new(websocket.Client)
		first := s.Open(cl).Request.Header.Get("Sec-WebSocket-Key")
		cl.Quit()
		second := s.Open(cl).Request.Header.Get("Sec-WebSocket-Key")
		assert.NotEqual(t, first, second)
	})
	t.Run("headers are sent without the five that belong to the handshake, and the map is not changed", func(t *testing.T) {
		peer.CheckGoroutines(t)
		headers := http.Header{
			"Origin": {"https://example.com"}, "X-Token": {"a", "b"}, "lower-case": {"c"},
			"Host": {"evil"}, "upgrade": {"evil"}, "CONNECTION": {"evil"}, "Sec-Websocket-Key": {"evil"}, "sec-webSocket-Version": {"evil"},
		}
		before := headers.Clone()
		c := peer.Open(t, &websocket.Client{Headers: headers})
		assert.Equal(t, before, headers)
		assert.Equal(t, []string{"https://example.com"}, c.Request.Header["Origin"])
		assert.Equal(t, []string{"a", "b"}, c.Request.Header["X-Token"])
		assert.Equal(t, []string{"c"}, c.Request.Header["Lower-Case"])
		for _, name := range []string{"Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
			assert.Len(t, c.Request.Header[name], 1, name)
			assert.NotContains(t, c.Request.Header[name], "evil")
		}
		assert.NotEqual(t, "evil", c.Request.Host)
	})
	for name, headers := range map[string]http.Header{
		"a header value with a line break is refused": {"X-Token": {"a\r\nX-Evil: b"}},
		"a header name with a space is refused":       {"X Token": {"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckDescriptors(t)
			cl := &websocket.Client{Endpoint: peer.Listen(t).Endpoint(), Headers: headers}
			assert.ErrorContains(t, cl.Connect(), "header field")
		})
	}
}

// accepted is the answer that accepts a key, with the fields changed: an empty value leaves one out.
func accepted(key string, changes ...string) string {
	fields := map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": peer.AcceptKey([]byte(key))}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\n"
	for name, value := range fields {
		if value != "" {
			answer += name + ": " + value + "\r\n"
		}
	}
	return answer + "\r\n"
}

// TestClient_answer has what an answer means for the program. What answers mean is in the table of rfc6455_client_test.go.
func TestClient_answer(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(key string) string
		wrong  string // In the text of the error; empty: accepted
	}{
		{"a plain answer is accepted", func(key string) string { return accepted(key) }, ""},
		{"a refusal has its status and reason in the error", func(string) string {
			return "HTTP/1.1 400 Missing authorization\r\nContent-Length: 0\r\n\r\n"
		}, "400 Missing authorization"},
		{"an accept key for another handshake is refused", func(string) string {
			return accepted("dGhlIHNhbXBsZSBub25jZQ==")
		}, "Sec-WebSocket-Accept"},
		{"an answer above a limit is refused", func(key string) string {
			return accepted(key, "X", strings.Repeat("y", 1024))
		}, "too large"},
		{"an answer that is cut off is an error", func(key string) string { return accepted(key)[:80] }, "no complete answer"},
		{"no answer is an error", func(string) string { return "" }, "no complete answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			s := peer.Listen(t)
			quit := make(chan bool, 1)
			cl := &websocket.Client{Endpoint: s.Endpoint(), MaxHeaderSize: 1024, HandleQuit: func() { quit <- true }}
			connected := peer.Connect(cl)
			c := s.Accept()
			c.Send([]byte(test.answer(c.Request.Header.Get("Sec-WebSocket-Key"))))
			c.Conn.(*net.TCPConn).CloseWrite()
			err := peer.Receive(t, connected)
			if test.wrong == "" {
				require.NoError(t, err)
				peer.Receive(t, quit)
				return
			}
			require.ErrorContains(t, err, test.wrong)
			assert.ErrorIs(t, cl.SendText(nil), websocket.ErrConnClosed)
			assert.NoError(t, cl.Close())
			c.ReadEnd()
			assert.Empty(t, quit, "HandleQuit is for connections that were opened")
		})
	}
}

func TestClient_answerBehindOthers(t *testing.T) {
	t.Run("the program sees the fields of the final answer alone", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		cl := &websocket.Client{Endpoint: s.Endpoint(), Headers: http.Header{"Sec-Websocket-Protocol": {"chat"}}}
		connected := peer.Connect(cl)
		c := s.Accept()
		c.Send([]byte("HTTP/1.1 103 Early Hints\r\nX-Interim: 1\r\n\r\n" +
			accepted(c.Request.Header.Get("Sec-WebSocket-Key"), "X-Folded", "a\r\n\t b", "Sec-WebSocket-Protocol", " ")))
		require.NoError(t, peer.Receive(t, connected))
		t.Cleanup(cl.Quit)
		assert.NotContains(t, cl.Response(), "X-Interim")
		assert.NotContains(t, cl.Response(), "Sec-Websocket-Protocol", "an empty one is absent")
		assert.Equal(t, "a b", cl.Response().Get("X-Folded"))
	})
}

func TestClient_silentHandshake(t *testing.T) {
	for name, script := range map[string]func(c *peer.Script){
		"a server that does not answer is given up": func(*peer.Script) {},
		"half an answer is given up":                func(c *peer.Script) { c.Send(c.Answer()[:40]) },
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			s := peer.Listen(t)
			connected := peer.Connect(&websocket.Client{Endpoint: s.Endpoint(), HandshakeTimeout: 50 * time.Millisecond})
			c := s.Accept()
			script(c)
			err := peer.Receive(t, connected)
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			assert.True(t, netErr.Timeout())
			c.ReadEnd()
		})
	}
	t.Run("TLS without an answer is given up", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		cl := &websocket.Client{Endpoint: "wss://" + s.Socket.Addr().String(), HandshakeTimeout: 50 * time.Millisecond}
		var netErr net.Error
		require.ErrorAs(t, peer.Receive(t, peer.Connect(cl)), &netErr)
		assert.True(t, netErr.Timeout())
	})
	t.Run("nobody listens", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		s.Socket.Close()
		var opErr *net.OpError
		assert.ErrorAs(t, (&websocket.Client{Endpoint: s.Endpoint()}).Connect(), &opErr)
	})
}

func TestClient_messagesBehindAnswer(t *testing.T) {
	peer.CheckGoroutines(t)
	got := make(chan string, 3)
	handle := func(_ *websocket.Client, f *websocket.Frame) error {
		got <- fmt.Sprint(f.Opcode(), string(f.Payload()))
		return nil
	}
	more := append(websocket.NewFrameText(false, []byte("one")), websocket.NewFrameBin(false, []byte("two"))...)
	more = append(append(more, websocket.NewFramePing(false, []byte("ping"))...), websocket.NewFrameText(false, []byte("three"))...)
	c := peer.Open(t, &websocket.Client{HandleText: handle, HandleBin: handle}, more...)
	for _, want := range []string{"1one", "2two", "1three"} {
		assert.Equal(t, want, peer.Receive(t, got))
	}
	assert.Equal(t, websocket.OpcodePong, c.Read().Opcode)
}

func TestClient_credentials(t *testing.T) {
	peer.CheckGoroutines(t)
	logs := make(chan string, 8)
	s := peer.Listen(t)
	headers := http.Header{"X": {"y"}}
	cl := &websocket.Client{Endpoint: "ws://user:secret@" + s.Socket.Addr().String() + "/", Headers: headers}
	cl.Logger = slog.New(peer.LogFunc(func(_ string, attrs map[string]slog.Value) { logs <- attrs["endpoint"].String() }))
	c := s.Open(cl)
	name, password, ok := c.Request.BasicAuth()
	assert.True(t, ok)
	assert.Equal(t, []string{"user", "secret"}, []string{name, password})
	assert.Equal(t, http.Header{"X": {"y"}}, headers, "the program's map is not changed")
	cl.Quit()
	assert.NotContains(t, peer.Receive(t, logs), "secret", "the log does not tell the password")
}
