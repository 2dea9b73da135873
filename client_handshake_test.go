package websocket

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClient_request(t *testing.T) {
	t.Run("the zero client with an endpoint opens a connection", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		s := scriptedListen(t)
		cl := &Client{Endpoint: s.endpoint() + "chat/room?user=7&x=%20"}
		c := s.open(cl)
		assert.Equal(t, "GET", c.request.Method)
		assert.Equal(t, "/chat/room?user=7&x=%20", c.request.RequestURI)
		assert.Equal(t, "HTTP/1.1", c.request.Proto)
		assert.Equal(t, s.ln.Addr().String(), c.request.Host)
		assert.Equal(t, "websocket", c.request.Header.Get("Upgrade"))
		assert.Equal(t, "Upgrade", c.request.Header.Get("Connection"))
		assert.Equal(t, "13", c.request.Header.Get("Sec-WebSocket-Version"))
		assert.Len(t, c.request.Header.Get("Sec-WebSocket-Key"), keyLength)
		assert.Equal(t, "Upgrade", cl.Response().Get("Connection"))
		assert.NoError(t, cl.Err())
	})
	t.Run("each handshake has a key of its own", func(t *testing.T) {
		checkGoroutines(t)
		s, cl := scriptedListen(t), new(Client)
		first := s.open(cl).request.Header.Get("Sec-WebSocket-Key")
		cl.Quit()
		second := s.open(cl).request.Header.Get("Sec-WebSocket-Key")
		assert.NotEqual(t, first, second)
	})
	t.Run("headers are sent without the five that belong to the handshake, and the map is not changed", func(t *testing.T) {
		checkGoroutines(t)
		headers := http.Header{
			"Origin": {"https://example.com"}, "X-Token": {"a", "b"}, "lower-case": {"c"},
			"Host": {"evil"}, "upgrade": {"evil"}, "CONNECTION": {"evil"}, "Sec-Websocket-Key": {"evil"}, "sec-webSocket-Version": {"evil"},
		}
		before := headers.Clone()
		c := scriptedOpen(t, &Client{Headers: headers})
		assert.Equal(t, before, headers)
		assert.Equal(t, []string{"https://example.com"}, c.request.Header["Origin"])
		assert.Equal(t, []string{"a", "b"}, c.request.Header["X-Token"])
		assert.Equal(t, []string{"c"}, c.request.Header["Lower-Case"])
		for _, name := range []string{"Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
			assert.Len(t, c.request.Header[name], 1, name)
			assert.NotContains(t, c.request.Header[name], "evil")
		}
		assert.NotEqual(t, "evil", c.request.Host)
	})
	for name, headers := range map[string]http.Header{
		"a header value with a line break is refused": {"X-Token": {"a\r\nX-Evil: b"}},
		"a header name with a space is refused":       {"X Token": {"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			checkDescriptors(t)
			cl := &Client{Endpoint: scriptedListen(t).endpoint(), Headers: headers}
			assert.ErrorContains(t, cl.Connect(), "header field")
		})
	}
	t.Run("the default port is left out of Host", func(t *testing.T) {
		for endpoint, host := range map[string]string{
			"ws://example.com/": "example.com", "http://[::1]:80": "[::1]", "wss://example.com:443": "example.com",
			"https://example.com:80": "example.com:80", "ws://example.com:443": "example.com:443",
		} {
			cl := &Client{Endpoint: endpoint}
			u, _, err := cl.serverURL()
			require.NoError(t, err)
			client, server := net.Pipe()
			l := newClientConn(cl)
			l.conn = client
			done := make(chan error, 1)
			go func() {
				_, err := cl.shakeHands(l, u)
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

// accepted is the answer that accepts a key, with the fields changed: an empty value leaves one out.
func accepted(key string, changes ...string) string {
	fields := map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": acceptKey([]byte(key))}
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

// TestClient_answer has what an answer means for the program. What answers mean is in the table of rfc6455_answer_test.go.
func TestClient_answer(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(key string) string
		wrong  string // in the text of the error; empty: accepted
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
			checkGoroutines(t)
			checkDescriptors(t)
			s := scriptedListen(t)
			quit := make(chan bool, 1)
			cl := &Client{Endpoint: s.endpoint(), MaxHeaderSize: 1024, HandleQuit: func() { quit <- true }}
			connected := scriptedConnect(cl)
			c := s.accept()
			c.send([]byte(test.answer(c.request.Header.Get("Sec-WebSocket-Key"))))
			c.conn.(*net.TCPConn).CloseWrite()
			err := scriptedWait(t, connected)
			if test.wrong == "" {
				require.NoError(t, err)
				scriptedWait(t, quit)
				return
			}
			require.ErrorContains(t, err, test.wrong)
			assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
			assert.NoError(t, cl.Close())
			c.readEnd()
			assert.Empty(t, quit, "HandleQuit is for connections that were opened")
		})
	}
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
	t.Run("the program sees the fields of the final answer alone", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		cl := &Client{Endpoint: s.endpoint(), Headers: http.Header{"Sec-Websocket-Protocol": {"chat"}}}
		connected := scriptedConnect(cl)
		c := s.accept()
		c.send([]byte("HTTP/1.1 103 Early Hints\r\nX-Interim: 1\r\n\r\n" +
			accepted(c.request.Header.Get("Sec-WebSocket-Key"), "X-Folded", "a\r\n\t b", "Sec-WebSocket-Protocol", " ")))
		require.NoError(t, scriptedWait(t, connected))
		t.Cleanup(cl.Quit)
		assert.NotContains(t, cl.Response(), "X-Interim")
		assert.NotContains(t, cl.Response(), "Sec-Websocket-Protocol", "an empty one is absent")
		assert.Equal(t, "a b", cl.Response().Get("X-Folded"))
	})
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

func TestClient_silentHandshake(t *testing.T) {
	for name, script := range map[string]func(c *scriptedConn){
		"a server that does not answer is given up": func(*scriptedConn) {},
		"half an answer is given up":                func(c *scriptedConn) { c.send(c.answer()[:40]) },
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := scriptedListen(t)
			connected := scriptedConnect(&Client{Endpoint: s.endpoint(), HandshakeTimeout: 50 * time.Millisecond})
			c := s.accept()
			script(c)
			err := scriptedWait(t, connected)
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			assert.True(t, netErr.Timeout())
			c.readEnd()
		})
	}
	t.Run("TLS without an answer is given up", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		cl := &Client{Endpoint: "wss://" + s.ln.Addr().String(), HandshakeTimeout: 50 * time.Millisecond}
		var netErr net.Error
		require.ErrorAs(t, scriptedWait(t, scriptedConnect(cl)), &netErr)
		assert.True(t, netErr.Timeout())
	})
	t.Run("nobody listens", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		s.ln.Close()
		var opErr *net.OpError
		assert.ErrorAs(t, (&Client{Endpoint: s.endpoint()}).Connect(), &opErr)
	})
}

func TestClient_messagesBehindAnswer(t *testing.T) {
	checkGoroutines(t)
	got := make(chan string, 3)
	handle := func(_ *Client, f *Frame) error {
		got <- fmt.Sprint(f.Opcode(), string(f.Payload()))
		return nil
	}
	more := append(NewFrameText(false, []byte("one")), NewFrameBin(false, []byte("two"))...)
	more = append(append(more, NewFramePing(false, []byte("ping"))...), NewFrameText(false, []byte("three"))...)
	c := scriptedOpen(t, &Client{HandleText: handle, HandleBin: handle}, more...)
	for _, want := range []string{"1one", "2two", "1three"} {
		assert.Equal(t, want, scriptedWait(t, got))
	}
	assert.Equal(t, OpcodePong, c.read().opcode)
}
