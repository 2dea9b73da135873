//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// requestFor is the good request with another target, and with more fields.
func requestFor(target string, fields ...string) []byte {
	request := strings.Replace(peer.Request, "GET / ", "GET "+target+" ", 1)
	return []byte(strings.TrimSuffix(request, "\r\n") + strings.Join(append(fields, ""), "\r\n") + "\r\n")
}

// answerTo sends a request on a connection of its own, and reads the answer. The connection is open after a 101.
func answerTo(t *testing.T, s *peer.Server, request []byte) (c *peer.Conn, answer *http.Response) {
	t.Helper()
	c = s.Dial(t)
	c.Send(request)
	answer, err := http.ReadResponse(c.Reader, nil)
	require.NoError(t, err)
	return c, answer
}

func TestPaths(t *testing.T) {
	t.Run("the values of a ConnectPath are in the request, and a slash at the end makes no difference", func(t *testing.T) {
		reqs := make(chan *websocket.Handshake, 1)
		for _, path := range []string{"/ocpp/:station", "/ocpp/:station/"} {
			s := peer.Start(t, &websocket.ServerOptions{ConnectPath: path, HandleText: peer.Echo, HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
				reqs <- req
				return nil, nil
			}})
			for target, want := range map[string]string{"/ocpp/CP1": "CP1", "/ocpp/CP1/": "CP1", "/ocpp/CP%2F1?x=/y": "CP/1", "/ocpp/a%20b/": "a b", "ws://h/ocpp/%C3%A9": "é", "/ocpp/status": "status"} {
				c, answer := answerTo(t, s, requestFor(target))
				require.Equal(t, 101, answer.StatusCode, target)
				require.Equal(t, map[string]string{"station": want}, peer.Get(t, reqs).Params)
				c.Text("x")
				c.ExpectText("x")
			}
			for _, target := range []string{"/ocpp", "/ocpp/", "/ocpp//", "/ocpp/a/b", "/", "/CP1"} {
				_, answer := answerTo(t, s, requestFor(target))
				require.Equal(t, 404, answer.StatusCode, target)
			}
			_, answer := answerTo(t, s, []byte("GET /ocpp/CP1/status/ HTTP/1.1\r\nHost: x\r\n\r\n"))
			require.Equal(t, 200, answer.StatusCode, "the default StatusPath has the parameter too")
		}
	})
	t.Run("a ConnectPath without parameters has none", func(t *testing.T) {
		reqs := make(chan *websocket.Handshake, 1)
		s := peer.Start(t, &websocket.ServerOptions{ConnectPath: "/ws/", HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			reqs <- req
			return nil, nil
		}})
		for _, target := range []string{"/ws", "/ws/", "/ws/?a=b"} {
			_, answer := answerTo(t, s, requestFor(target))
			require.Equal(t, 101, answer.StatusCode, target)
			require.Nil(t, peer.Get(t, reqs).Params)
		}
		for _, target := range []string{"/ws//", "/ws/x", "/"} {
			_, answer := answerTo(t, s, requestFor(target))
			require.Equal(t, 404, answer.StatusCode, target)
		}
		for _, target := range []string{"/ws/status", "/ws/status/"} {
			_, answer := answerTo(t, s, []byte("GET "+target+" HTTP/1.0\r\n\r\n"))
			require.Equal(t, 200, answer.StatusCode, target)
		}
	})
	for _, c := range []struct {
		connect, status string
		want            int // for a plain request to /status; 426 is for ConnectPath
	}{
		{"/:room", "/status", 200},
		{"/status", "/:any", 426},
	} {
		t.Run(fmt.Sprintf("of %s and %s the literal one is meant", c.connect, c.status), func(t *testing.T) {
			s := peer.Start(t, &websocket.ServerOptions{ConnectPath: c.connect, StatusPath: c.status})
			_, answer := answerTo(t, s, []byte("GET /status HTTP/1.1\r\nHost: x\r\n\r\n"))
			require.Equal(t, c.want, answer.StatusCode)
			_, answer = answerTo(t, s, []byte("GET /other HTTP/1.1\r\nHost: x\r\n\r\n"))
			require.Equal(t, 200+426-c.want, answer.StatusCode)
		})
	}
}

func TestSubprotocols(t *testing.T) {
	for _, c := range []struct {
		name   string
		offers []string
		auth   func(req *websocket.Handshake) // nil: no HandleAuth
		want   []string
	}{
		{"the server's preference counts, over several lines", []string{"Sec-WebSocket-Protocol: v1, x", "Sec-WebSocket-Protocol: v2"}, nil, []string{"v2"}},
		{"thousands are looked through", []string{"Sec-WebSocket-Protocol: " + strings.Repeat("x,", 7000) + "v1"}, nil, []string{"v1"}},
		{"a client that offers others is let in without", []string{"Sec-WebSocket-Protocol: x, y"}, nil, nil},
		{"so is one that offers none", nil, nil, nil},
		{"HandleAuth sees it, and may change it", []string{"Sec-WebSocket-Protocol: v1, x, v2"}, func(req *websocket.Handshake) {
			if req.Subprotocol == "v2" {
				req.Subprotocol = "x"
			}
		}, []string{"x"}},
		{"HandleAuth may take it back", []string{"Sec-WebSocket-Protocol: v2"}, func(req *websocket.Handshake) { req.Subprotocol = "" }, nil},
		{"HandleAuth may answer by itself", []string{"Sec-WebSocket-Protocol: v2, x"}, func(req *websocket.Handshake) {
			req.ResponseHeader.Set("Sec-WebSocket-Protocol", "x")
		}, []string{"x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := &websocket.ServerOptions{Subprotocols: []string{"v2", "v1"}, HandleText: peer.Echo}
			if c.auth != nil {
				opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
					c.auth(req)
					return nil, nil
				}
			}
			s := peer.Start(t, opts)
			conn, answer := answerTo(t, s, requestFor("/", c.offers...))
			require.Equal(t, 101, answer.StatusCode)
			require.Equal(t, c.want, answer.Header["Sec-Websocket-Protocol"])
			conn.Text("x")
			conn.ExpectText("x")
			conn.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
			conn.ExpectClose(websocket.StatusNormal)
		})
	}
	t.Run("a choice that was not offered is a 500 and an error in the log, and nobody is connected", func(t *testing.T) {
		opts := &websocket.ServerOptions{Subprotocols: []string{"v1"}, HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			req.Subprotocol = "v2"
			return nil, nil
		}}
		records := loggedBy(opts)
		s := peer.Start(t, opts)
		_, answer := answerTo(t, s, requestFor("/", "Sec-WebSocket-Protocol: v1"))
		require.Equal(t, 500, answer.StatusCode)
		require.NotContains(t, answer.Header, "Sec-Websocket-Protocol")
		attrs := nextLogged(t, records, "websocket: HandleAuth decided what cannot be answered")
		require.Contains(t, attrs["error"].String(), `"v2"`)
		require.Contains(t, attrs, "conn")
		require.Zero(t, s.Clients.Len())
	})
	t.Run("both sides know it", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{Subprotocols: []string{"v2", "v1"}, HandleText: peer.Echo})
		for _, c := range []struct {
			cl   *websocket.Client
			want string
		}{
			{&websocket.Client{Subprotocols: []string{"v1", "v2"}}, "v2"},
			{&websocket.Client{Subprotocols: []string{"x", "v1"}}, "v1"},
			{&websocket.Client{Subprotocols: []string{"x"}}, ""},
			{&websocket.Client{Headers: http.Header{"Sec-WebSocket-Protocol": {"v1"}}}, "v1"},
			{&websocket.Client{}, ""},
		} {
			c.cl.Endpoint = "ws://" + s.Address
			require.NoError(t, c.cl.Connect())
			require.Equal(t, c.want, c.cl.Subprotocol())
			require.NoError(t, c.cl.Close())
		}
	})
}

func TestOrigins(t *testing.T) {
	asked := make(chan string, 8)
	opts := &websocket.ServerOptions{Origins: []string{"https://example.com", "https://*.example.com:8443"}, HandleText: peer.Echo}
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		asked <- req.Header.Get("Origin")
		return nil, nil
	}
	records := loggedBy(opts)
	s := peer.Start(t, opts)
	for _, from := range []string{"https://example.com", "HTTPS://Example.com:443", "https://a.example.com:8443"} {
		t.Run("a page of "+from+" may connect", func(t *testing.T) {
			c, answer := answerTo(t, s, requestFor("/", "Origin: "+from))
			require.Equal(t, 101, answer.StatusCode)
			require.Equal(t, from, peer.Get(t, asked))
			c.Text("x")
			c.ExpectText("x")
		})
	}
	t.Run("so may a program without an Origin", func(t *testing.T) {
		s.Connect(t)
		require.Empty(t, peer.Get(t, asked))
	})
	for _, from := range []string{"https://evil.org", "http://example.com", "null", "https://example.com.evil.org", "https://a.example.com", "https://example.com@evil.org", "", strings.Repeat("x", 1000)} {
		t.Run(fmt.Sprintf("a page of %.30q is answered with 403, with a record, and HandleAuth is not asked", from), func(t *testing.T) {
			_, answer := answerTo(t, s, requestFor("/?secret", "Origin: "+from))
			require.Equal(t, "403 origin not allowed", answer.Status)
			attrs := nextLogged(t, records, "websocket: handshake refused")
			require.Equal(t, from[:min(len(from), 256)], attrs["origin"].String())
			require.EqualValues(t, 403, attrs["status"].Int64())
			require.Equal(t, "/", attrs["path"].String())
			require.Empty(t, asked)
		})
	}
	t.Run("two Origins are one too many", func(t *testing.T) {
		_, answer := answerTo(t, s, requestFor("/", "Origin: https://example.com", "Origin: https://example.com"))
		require.Equal(t, 403, answer.StatusCode)
	})
	t.Run("a request that breaks the rules is told so, whoever sends it", func(t *testing.T) {
		_, answer := answerTo(t, s, []byte(strings.Replace(string(requestFor("/", "Origin: https://evil.org")), "Version: 13", "Version: 8", 1)))
		require.Equal(t, 426, answer.StatusCode)
	})
	t.Run("StatusPath is for everybody", func(t *testing.T) {
		_, answer := answerTo(t, s, []byte("GET /status HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.org\r\n\r\n"))
		require.Equal(t, 200, answer.StatusCode)
	})
	t.Run("without a list any page may connect", func(t *testing.T) {
		s := peer.Start(t, nil)
		_, answer := answerTo(t, s, requestFor("/", "Origin: https://evil.org", "Origin: nonsense"))
		require.Equal(t, 101, answer.StatusCode)
	})
}

func TestHandshakeError(t *testing.T) {
	answered := func(t *testing.T, refusal error) (status string, header http.Header, body string) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
			if req.URL.RawQuery == "" {
				return context.Background(), refusal
			}
			return nil, nil
		}
		s := peer.Start(t, opts)
		c, answer := answerTo(t, s, []byte(peer.Request))
		b, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		c.ExpectEOF()
		other, answer2 := answerTo(t, s, requestFor("/?yes"))
		require.Equal(t, 101, answer2.StatusCode)
		other.Text("x")
		other.ExpectText("x")
		return answer.Status, answer.Header, string(b)
	}
	t.Run("it is answered as it says, wrapped too", func(t *testing.T) {
		own := &websocket.HandshakeError{Status: 401, Header: http.Header{"WWW-Authenticate": {"Basic"}, "Content-Type": {"application/json"}, "Connection": {"keep-alive"}}, Body: []byte(`{"why":"no key"}`)}
		status, header, body := answered(t, fmt.Errorf("auth: %w", own))
		require.Equal(t, "401 Unauthorized", status)
		require.Equal(t, http.Header{"Www-Authenticate": {"Basic"}, "Content-Type": {"application/json"}, "Content-Length": {"16"}, "Cache-Control": {"no-store"}, "Connection": {"close"}}, withClose(header))
		require.Equal(t, string(own.Body), body)
	})
	t.Run("a redirect", func(t *testing.T) {
		status, header, body := answered(t, &websocket.HandshakeError{Status: 302, Header: http.Header{"Location": {"wss://other.example/"}}})
		require.Equal(t, "302 Found", status)
		require.Equal(t, "wss://other.example/", header.Get("Location"))
		require.Equal(t, "Found", body)
	})
	t.Run("a body of 1 MiB comes whole", func(t *testing.T) {
		_, header, body := answered(t, &websocket.HandshakeError{Status: 503, Header: http.Header{"Retry-After": {"5"}}, Body: peer.Pattern(1<<20, 0)})
		require.Equal(t, "5", header.Get("Retry-After"))
		require.Equal(t, string(peer.Pattern(1<<20, 0)), body)
	})
	t.Run("other errors are a 400 with their text", func(t *testing.T) {
		status, _, body := answered(t, errors.New("Missing authorization"))
		require.Equal(t, "400 Missing authorization", status)
		require.Equal(t, "Missing authorization", body)
	})
	for name, own := range map[string]*websocket.HandshakeError{
		"status 101": {Status: 101}, "status 200": {Status: 200}, "no status": {}, "a line break in a field": {Status: 401, Header: http.Header{"X": {"a\r\nb: c"}}},
		"a line break in the reason": {Status: 401, Reason: "a\r\nb: c"}, "a nil pointer": nil,
	} {
		t.Run(name+" is a 500 and an error in the log", func(t *testing.T) {
			opts := &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) { return nil, own }}
			records := loggedBy(opts)
			s := peer.Start(t, opts)
			_, answer := answerTo(t, s, []byte(peer.Request))
			require.Equal(t, "500 Internal Server Error", answer.Status)
			require.NotContains(t, answer.Header, "B")
			require.Contains(t, nextLogged(t, records, "websocket: HandleAuth decided what cannot be answered"), "error")
			require.Zero(t, s.Clients.Len())
		})
	}
	t.Run("the client has it as it was given", func(t *testing.T) {
		own := &websocket.HandshakeError{Status: 429, Reason: "slow down", Header: http.Header{"Retry-After": {"5"}}, Body: peer.Pattern(10<<10, 0)}
		s := peer.Start(t, &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) { return nil, own }})
		cl := &websocket.Client{Endpoint: "ws://" + s.Address}
		err := cl.Connect()
		require.EqualError(t, err, own.Error())
		var got *websocket.HandshakeError
		require.ErrorAs(t, err, &got)
		assert.Equal(t, 429, got.Status)
		assert.Equal(t, "slow down", got.Reason)
		assert.Equal(t, "5", got.Header.Get("Retry-After"))
		assert.Equal(t, own.Body[:4<<10], got.Body)
	})
	t.Run("one for many connections at once", func(t *testing.T) {
		own := &websocket.HandshakeError{Status: 426, Header: http.Header{"Upgrade": {"x"}, "X-A": {"b"}}, Body: []byte("no")}
		s := peer.Start(t, &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) {
			<-time.After(time.Millisecond)
			return nil, own
		}})
		peer.All(t, 16, func(int) error {
			for range 8 {
				err := (&websocket.Client{Endpoint: "ws://" + s.Address}).Connect()
				var got *websocket.HandshakeError
				if !errors.As(err, &got) || got.Status != 426 || got.Header.Get("X-A") != "b" || string(got.Body) != "no" {
					return fmt.Errorf("got %v", err)
				}
			}
			return nil
		})
	})
}

// withClose puts the field back that net/http takes out of an answer.
func withClose(header http.Header) http.Header {
	header.Set("Connection", "close")
	return header
}
