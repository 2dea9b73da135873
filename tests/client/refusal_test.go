package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// maxBody is how many bytes of a refusal's body the program is shown.
const maxBody = 4 << 10

// refusedWith is the refusal in an error of Connect.
func refusedWith(t *testing.T, err error) *websocket.HandshakeError {
	t.Helper()
	var refused *websocket.HandshakeError
	require.ErrorAs(t, err, &refused)
	return refused
}

func TestClient_refusal(t *testing.T) {
	long := string(peer.Pattern(3*maxBody, 0))
	for _, c := range []struct {
		name   string
		answer string
		ends   bool // the server ends its side behind it; else it keeps the connection, and says nothing more
		want   websocket.HandshakeError
	}{
		{"a body with a length", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nwww-authenticate: Bearer\r\nContent-Length: 5\r\n\r\nhello world", false,
			websocket.HandshakeError{Status: 401, Reason: "Unauthorized", Header: http.Header{"Www-Authenticate": {"Basic", "Bearer"}, "Content-Length": {"5"}}, Body: []byte("hello")}},
		{"no body", "HTTP/1.1 300 Multiple Choices\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", false,
			websocket.HandshakeError{Status: 300, Reason: "Multiple Choices", Header: http.Header{"Location": {"/x"}, "Content-Length": {"0"}}, Body: []byte{}}},
		{"a body in chunks", "HTTP/1.1 503 later\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n", false,
			websocket.HandshakeError{Status: 503, Reason: "later", Header: http.Header{"Transfer-Encoding": {"chunked"}}, Body: []byte("hello world")}},
		{"a body up to the end", "HTTP/1.0 403 Forbidden\r\n\r\nhello\r\n\r\nworld", true,
			websocket.HandshakeError{Status: 403, Reason: "Forbidden", Header: http.Header{}, Body: []byte("hello\r\n\r\nworld")}},
		{"a body with a length that ends before", "HTTP/1.1 400 no\r\nContent-Length: 100\r\n\r\nhello", true,
			websocket.HandshakeError{Status: 400, Reason: "no", Header: http.Header{"Content-Length": {"100"}}, Body: []byte("hello")}},
		{"a body in broken chunks", "HTTP/1.1 400 no\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n", false,
			websocket.HandshakeError{Status: 400, Reason: "no", Header: http.Header{"Transfer-Encoding": {"chunked"}}, Body: []byte("hello")}},
		{"a long body is cut", "HTTP/1.1 400 no\r\nContent-Length: " + fmt.Sprint(len(long)) + "\r\n\r\n" + long, false,
			websocket.HandshakeError{Status: 400, Reason: "no", Header: http.Header{"Content-Length": {fmt.Sprint(len(long))}}, Body: []byte(long[:maxBody])}},
		{"a long body up to the end is cut without waiting for that", "HTTP/1.1 400 no\r\n\r\n" + long, false,
			websocket.HandshakeError{Status: 400, Reason: "no", Header: http.Header{}, Body: []byte(long[:maxBody])}},
		{"one large chunk is cut", "HTTP/1.1 400 no\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n" + long, false,
			websocket.HandshakeError{Status: 400, Reason: "no", Header: http.Header{"Transfer-Encoding": {"chunked"}}, Body: []byte(long[:maxBody])}},
		{"204 has none, whatever it says", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false,
			websocket.HandshakeError{Status: 204, Reason: "No Content", Header: http.Header{"Content-Length": {"5"}}, Body: []byte{}}},
		{"200 is a refusal too", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false,
			websocket.HandshakeError{Status: 200, Reason: "OK", Header: http.Header{"Content-Length": {"2"}}, Body: []byte("hi")}},
		{"an answer behind an interim one", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 429\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n", false,
			websocket.HandshakeError{Status: 429, Header: http.Header{"Retry-After": {"5"}, "Content-Length": {"0"}}, Body: []byte{}}},
		{"malformed fields are left out", "HTTP/1.1 400 no\r\nnonsense\r\n\r\nhello", true, websocket.HandshakeError{Status: 400, Reason: "no", Body: []byte("hello")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			s := peer.Listen(t)
			cl := &websocket.Client{Endpoint: s.Endpoint()}
			connected := peer.Connect(cl)
			script := s.Accept()
			script.Send([]byte(c.answer))
			if c.ends {
				script.Conn.Close()
			}
			err := peer.Receive(t, connected)
			refused := refusedWith(t, err)
			assert.Equal(t, &c.want, refused)
			assert.EqualError(t, err, c.want.Error())
			assert.NotErrorIs(t, err, websocket.ErrConnClosed)
			assert.Nil(t, cl.Response())
			assert.Empty(t, cl.Subprotocol())
			assert.NoError(t, cl.Err())
		})
	}
	for name, answer := range map[string]string{
		"a length":       "HTTP/1.1 503 no\r\nContent-Length: 100\r\n\r\nhello",
		"chunks":         "HTTP/1.1 503 no\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello",
		"neither":        "HTTP/1.1 503 no\r\n\r\nhello",
		"nothing at all": "HTTP/1.1 503 no\r\n\r\n",
	} {
		t.Run("a body that stops is not awaited beyond the handshake's time: "+name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			s := peer.Listen(t)
			connected := peer.Connect(&websocket.Client{Endpoint: s.Endpoint(), HandshakeTimeout: 200 * time.Millisecond})
			script := s.Accept()
			script.Send([]byte(answer))
			refused := refusedWith(t, peer.Receive(t, connected))
			assert.Equal(t, 503, refused.Status)
			_, body, _ := strings.Cut(answer, "\r\n\r\n")
			assert.Equal(t, strings.TrimPrefix(body, "64\r\n"), string(refused.Body))
			script.ReadEnd()
		})
	}
	t.Run("a body that trickles is cut off after a second, long before the handshake's time", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		connected := peer.Connect(&websocket.Client{Endpoint: s.Endpoint(), HandshakeTimeout: time.Hour})
		script := s.Accept()
		script.Send([]byte("HTTP/1.1 503 no\r\n\r\n"))
		go func() {
			for err := error(nil); err == nil; <-time.After(10 * time.Millisecond) {
				_, err = script.Conn.Write([]byte("x"))
			}
		}()
		assert.NotEmpty(t, refusedWith(t, peer.Receive(t, connected)).Body)
	})
	for name, end := range map[string]func(cl *websocket.Client, cancel func()) error{
		"Quit":              func(cl *websocket.Client, _ func()) error { cl.Quit(); return websocket.ErrConnClosed },
		"the context's end": func(_ *websocket.Client, cancel func()) error { cancel(); return context.Canceled },
	} {
		t.Run(name+" ends the wait for a body", func(t *testing.T) {
			peer.CheckGoroutines(t)
			s := peer.Listen(t)
			cl := &websocket.Client{Endpoint: s.Endpoint(), HandshakeTimeout: time.Hour}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			connected := make(chan error, 1)
			go func() { connected <- cl.ConnectContext(ctx) }()
			script := s.Accept()
			script.Send([]byte("HTTP/1.1 503 no\r\nContent-Length: 9\r\n\r\n"))
			want := end(cl, cancel)
			err := peer.Receive(t, connected)
			var refused *websocket.HandshakeError
			assert.True(t, errors.Is(err, want) && !errors.As(err, &refused), "%v", err)
		})
	}
	t.Run("what is no answer is none", func(t *testing.T) {
		for _, answer := range []string{"HTTP/2 400 no\r\n\r\n", "HTTP/1.1 1010 x\r\n\r\n", "HTTP/1.1 099 x\r\n\r\n", "HTTP/1.1 4x0 x\r\n\r\n", "HTTP/1.1  400 x\r\n\r\n", "HTTP/1.1 400 \x1b[2J\r\n\r\n", "HTTP/1.1 400 no\r\n"} {
			s := peer.Listen(t)
			connected := peer.Connect(&websocket.Client{Endpoint: s.Endpoint()})
			script := s.Accept()
			script.Send([]byte(answer))
			script.Conn.Close()
			err := peer.Receive(t, connected)
			var refused *websocket.HandshakeError
			assert.False(t, errors.As(err, &refused), "%q: %v", answer, err)
			assert.ErrorContains(t, err, "websocket: ")
		}
	})
}

func TestClient_subprotocols(t *testing.T) {
	for _, c := range []struct {
		name    string
		offers  []string
		headers http.Header
		sent    []string
		answer  string // a value, or several, one for each line
		want    string
		wrong   string // in the error; empty: connected
	}{
		{"they are offered in one line, in order", []string{"v2", "v1"}, nil, []string{"v2, v1"}, "v1", "v1", ""},
		{"a server that chooses none is accepted", []string{"v2"}, nil, []string{"v2"}, "", "", ""},
		{"one that was not offered is refused", []string{"v2"}, nil, []string{"v2"}, "v3", "", "subprotocol"},
		{"one in another case is refused", []string{"v2"}, nil, []string{"v2"}, "V2", "", "subprotocol"},
		{"a list is refused", []string{"v2", "v1"}, nil, []string{"v2, v1"}, "v2, v1", "", "subprotocol"},
		{"two are refused", []string{"v2", "v1"}, nil, []string{"v2, v1"}, "v2\nv1", "", "subprotocol"},
		{"one twice is refused", []string{"v2"}, nil, []string{"v2"}, "v2\nv2", "", "subprotocol"},
		{"one where none was offered is refused", nil, nil, nil, "v2", "", "subprotocol"},
		{"Headers may offer them", nil, http.Header{"Sec-Websocket-Protocol": {"a", "b, c"}}, []string{"a", "b, c"}, "c", "c", ""},
		{"under a name in any case", nil, http.Header{"SEC-WEBSOCKET-PROTOCOL": {"a"}}, []string{"a"}, "a", "a", ""},
		{"Subprotocols take their place", []string{"v1"}, http.Header{"sec-websocket-protocol": {"a"}, "X-A": {"b"}}, []string{"v1"}, "v1", "v1", ""},
		{"what was offered in Headers alone is refused then", []string{"v1"}, http.Header{"Sec-Websocket-Protocol": {"a"}}, []string{"v1"}, "a", "", "subprotocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			s := peer.Listen(t)
			cl := &websocket.Client{Endpoint: s.Endpoint(), Subprotocols: c.offers, Headers: c.headers}
			before := c.headers.Clone()
			connected := peer.Connect(cl)
			script := s.Accept()
			assert.Equal(t, c.sent, script.Request.Header["Sec-Websocket-Protocol"])
			answer := strings.TrimSuffix(string(script.Answer()), "\r\n")
			if c.answer != "" {
				for line := range strings.SplitSeq(c.answer, "\n") {
					answer += "Sec-WebSocket-Protocol: " + line + "\r\n"
				}
			}
			script.Send([]byte(answer + "\r\n"))
			err := peer.Receive(t, connected)
			t.Cleanup(cl.Quit)
			if c.wrong != "" {
				assert.ErrorContains(t, err, c.wrong)
			} else {
				assert.NoError(t, err)
			}
			assert.Equal(t, c.want, cl.Subprotocol())
			assert.Equal(t, before, c.headers, "the program's map is not changed")
		})
	}
	t.Run("it is that of the last connection", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		cl := &websocket.Client{Endpoint: s.Endpoint(), Subprotocols: []string{"v1"}}
		assert.Empty(t, cl.Subprotocol())
		connected := peer.Connect(cl)
		script := s.Accept()
		script.Send([]byte(strings.Replace(string(script.Answer()), "\r\n", "\r\nSec-WebSocket-Protocol: v1\r\n", 1)))
		require.NoError(t, peer.Receive(t, connected))
		assert.Equal(t, "v1", cl.Subprotocol())
		cl.Quit()
		assert.Equal(t, "v1", cl.Subprotocol(), "also when it has ended")
		s.Open(cl)
		assert.Empty(t, cl.Subprotocol())
	})
	for _, wrong := range [][]string{{""}, {"a b"}, {"a, b"}, {"a", "a"}, {"a\r\nX: y"}} {
		t.Run(fmt.Sprintf("%q is an error, and nobody is asked", wrong), func(t *testing.T) {
			peer.CheckDescriptors(t)
			cl := &websocket.Client{Endpoint: "ws://127.0.0.1:1", Subprotocols: wrong}
			assert.ErrorContains(t, cl.Connect(), "websocket: Subprotocols")
		})
	}
}
