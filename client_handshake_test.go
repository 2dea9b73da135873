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
			u, _, err := cl.endpoint()
			require.NoError(t, err)
			client, server := net.Pipe()
			l := newLink(cl)
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

func TestClient_answer(t *testing.T) {
	offers := http.Header{"Sec-Websocket-Protocol": {"chat, superchat", "last"}, "sec-websocket-extensions": {"x-one"}}
	filled := func(key string, size int) string {
		answer := accepted(key, "X", "y")
		return strings.Replace(answer, "X: y", "X: "+strings.Repeat("y", 1+size-len(answer)), 1)
	}
	lines := func(key string, count int) string {
		answer := accepted(key)
		return strings.TrimSuffix(answer, "\r\n") + strings.Repeat("X: y\r\n", count-3) + "\r\n"
	}
	for _, test := range []struct {
		name    string
		headers http.Header
		answer  func(key string) string
		wrong   string // in the text of the error; empty: accepted
	}{
		{"a plain answer is accepted", nil, func(key string) string { return accepted(key) }, ""},
		{"tokens in any case, in lists, are accepted", nil, func(key string) string {
			return accepted(key, "Upgrade", "h2c, WebSocket", "Connection", "keep-alive, UPGRADE")
		}, ""},
		{"a reason phrase of the server's own is accepted", nil, func(key string) string {
			return strings.Replace(accepted(key), "Switching Protocols", "welcome", 1)
		}, ""},
		{"a refusal has its status and reason in the error", nil, func(string) string {
			return "HTTP/1.1 400 Missing authorization\r\nContent-Length: 0\r\n\r\n"
		}, "400 Missing authorization"},
		{"a refusal without fields is told", nil, func(string) string { return "HTTP/1.1 404 unknown path\r\n\r\n" }, "404 unknown path"},
		{"a redirect is not followed", nil, func(string) string {
			return "HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\n\r\n"
		}, "302 Found"},
		{"status 200 is refused", nil, func(key string) string {
			return strings.Replace(accepted(key), "101 Switching Protocols", "200 OK", 1)
		}, "200 OK"},
		{"status 1010 is refused", nil, func(key string) string {
			return strings.Replace(accepted(key), "101 ", "1010 ", 1)
		}, "refused"},
		{"an answer that is not HTTP is refused", nil, func(string) string { return "SSH-2.0-OpenSSH_9.6\r\n\r\n" }, "malformed status line"},
		{"an accept key for another handshake is refused", nil, func(string) string {
			return accepted("dGhlIHNhbXBsZSBub25jZQ==")
		}, "Sec-WebSocket-Accept"},
		{"an answer without accept key is refused", nil, func(key string) string {
			return accepted(key, "Sec-WebSocket-Accept", "")
		}, "Sec-WebSocket-Accept"},
		{"two accept keys are refused", nil, func(key string) string {
			return strings.Replace(accepted(key), "\r\n\r\n", "\r\nSec-WebSocket-Accept: "+acceptKey([]byte(key))+"\r\n\r\n", 1)
		}, "Sec-WebSocket-Accept"},
		{"an answer without Upgrade is refused", nil, func(key string) string { return accepted(key, "Upgrade", "") }, "Upgrade"},
		{"an Upgrade to something else is refused", nil, func(key string) string { return accepted(key, "Upgrade", "h2c") }, "Upgrade"},
		{"an answer without Connection is refused", nil, func(key string) string { return accepted(key, "Connection", "") }, "Connection"},
		{"a Connection without upgrade is refused", nil, func(key string) string {
			return accepted(key, "Connection", "keep-alive")
		}, "Connection"},
		{"a subprotocol that was offered is accepted", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Protocol", "superchat")
		}, ""},
		{"a subprotocol of a second field is accepted", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Protocol", "last")
		}, ""},
		{"a subprotocol that was not offered is refused", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Protocol", "other")
		}, "subprotocol"},
		{"a subprotocol is refused where none was offered", nil, func(key string) string {
			return accepted(key, "Sec-WebSocket-Protocol", "chat")
		}, "subprotocol"},
		{"an extension that was offered is accepted", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Extensions", "x-one")
		}, ""},
		{"an extension that was not offered is refused", nil, func(key string) string {
			return accepted(key, "Sec-WebSocket-Extensions", "permessage-deflate")
		}, "extension"},
		{"another extension than the offered one is refused", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Extensions", "permessage-deflate")
		}, "extension"},
		{"a line without a colon is refused", nil, func(key string) string {
			return strings.Replace(accepted(key), "\r\n\r\n", "\r\nno colon\r\n\r\n", 1)
		}, "Header format"},
		{"a line that ends without CR is refused", nil, func(string) string {
			return "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\r\n\r\n"
		}, "Header format"},
		{"a head one byte below the limit is accepted", nil, func(key string) string { return filled(key, 1023) }, ""},
		{"a head at the limit is accepted", nil, func(key string) string { return filled(key, 1024) }, ""},
		{"a head one byte above the limit is refused", nil, func(key string) string { return filled(key, 1025) }, "too large"},
		{"one field below the limit is accepted", nil, func(key string) string { return lines(key, 9) }, ""},
		{"fields at the limit are accepted", nil, func(key string) string { return lines(key, 10) }, ""},
		{"one field above the limit is refused", nil, func(key string) string { return lines(key, 11) }, "too large"},
		{"an answer that is cut off is an error", nil, func(key string) string { return accepted(key)[:80] }, "no complete answer"},
		{"no answer is an error", nil, func(string) string { return "" }, "no complete answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := scriptedListen(t)
			quit := make(chan bool, 1)
			cl := &Client{Endpoint: s.endpoint(), Headers: test.headers, MaxHeaderSize: 1024, MaxHeaderFields: 10,
				HandleQuit: func() { quit <- true }}
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

func TestClient_splitAnswer(t *testing.T) {
	checkGoroutines(t)
	frame := string(NewFrameText(false, []byte("hello")))
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	size := len(accepted(key) + frame)
	// shake sends the answer with a text behind it in pieces, each of which the client reads on its own.
	shake := func(t *testing.T, pieces func(answer []byte) [][]byte) {
		t.Helper()
		texts := make(chan string, 1)
		cl := &Client{Endpoint: "ws://example.com/", HandleText: func(_ *Client, f *Frame) error {
			texts <- string(f.Payload())
			return nil
		}}
		u, _, err := cl.endpoint()
		require.NoError(t, err)
		client, server := net.Pipe()
		defer server.Close()
		l := newLink(cl)
		l.conn = client
		done := make(chan error, 1)
		go func() {
			_, err := cl.shakeHands(l, u)
			if err == nil {
				l.start()
			}
			done <- err
		}()
		c := &scriptedConn{t: t, conn: server}
		c.readRequest()
		for _, piece := range pieces(append(c.answer(), frame...)) {
			c.send(piece)
		}
		require.NoError(t, scriptedWait(t, done))
		require.Equal(t, "hello", scriptedWait(t, texts))
		l.drop(ErrConnClosed)
	}
	t.Run("an answer in two pieces is read, with the message behind it", func(t *testing.T) {
		for at := range size + 1 {
			shake(t, func(answer []byte) [][]byte { return [][]byte{answer[:at], answer[at:]} })
		}
	})
	t.Run("an answer in single bytes is read", func(t *testing.T) {
		shake(t, func(answer []byte) (pieces [][]byte) {
			for i := range answer {
				pieces = append(pieces, answer[i:i+1])
			}
			return pieces
		})
	})
	t.Run("messages in one piece with the answer are handled in order", func(t *testing.T) {
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
	})
}
