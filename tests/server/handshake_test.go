//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestHandshakeInPieces(t *testing.T) {
	s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
	t.Run("a thousand frames in one piece behind the request are handled in order", func(t *testing.T) {
		c := s.Dial(t)
		all := []byte(peer.Request)
		for i := range 1000 {
			all = append(all, websocket.NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.Send(all)
		answer := make([]byte, len(peer.Accepted))
		_, err := io.ReadFull(c.Reader, answer)
		require.NoError(t, err)
		for i := range 1000 {
			c.ExpectText(fmt.Sprint(i))
		}
	})
}

func TestHandshakeBehindSlowAuth(t *testing.T) {
	t.Run("frames behind the request come before those that arrive while HandleAuth decides", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) {
			<-time.After(3 * time.Millisecond) // long enough to lose the loop
			return nil, nil
		}
		s := peer.Start(t, opts)
		const peers, each, frames = 16, 12, 300
		peer.All(t, peers, func(int) error {
			for range each {
				c, err := s.Open()
				if err != nil {
					return err
				}
				first := websocket.NewFrameText(true, []byte("0"))
				if _, err = c.Write(append([]byte(peer.Request), first[:5]...)); err != nil {
					return err
				}
				if _, err = c.Write(first[5:]); err != nil {
					return err
				}
				errs := make(chan error, 1)
				go func() {
					var err error
					for i := 1; i < frames && err == nil; i++ {
						_, err = c.Write(websocket.NewFrameText(true, fmt.Append(nil, i)))
					}
					errs <- err
				}()
				answer := make([]byte, len(peer.Accepted))
				if _, err = io.ReadFull(c.Reader, answer); err != nil {
					return err
				}
				for i := range frames {
					if err = c.Compare(websocket.OpcodeText, fmt.Sprint(i)); err != nil {
						c.Close()
						<-errs
						return err
					}
				}
				c.Close()
				if err = <-errs; err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func TestHandshakeStatusPath(t *testing.T) {
	const statusRequest = "GET /status HTTP/1.1\r\nHost: x\r\n\r\n"
	t.Run("a status request needs no WebSocket headers", func(t *testing.T) {
		s := peer.Start(t, nil)
		c := s.Dial(t)
		c.Send([]byte(statusRequest))
		status, header, body := c.Answer()
		require.Equal(t, "HTTP/1.1 200 OK", status)
		require.Equal(t, "text/plain", header["Content-Type"])
		require.Equal(t, "OK", body)
	})
	for _, test := range []struct {
		name, request string
		header        map[string]string // of the answer, besides those of each
		body          string
	}{
		{"GET", "GET /status HTTP/1.1\r\nHost: x\r\n\r\n", map[string]string{"Content-Type": "text/plain"}, "OK"},
		{"GET of HTTP/1.0 without a Host", "GET /status HTTP/1.0\r\n\r\n", map[string]string{"Content-Type": "text/plain"}, "OK"},
		{"GET of a whole URI", "GET http://proxy.example/status HTTP/1.1\r\nHost: x\r\n\r\n", map[string]string{"Content-Type": "text/plain"}, "OK"},
		{"HEAD", "HEAD /status HTTP/1.1\r\nHost: x\r\n\r\n", map[string]string{"Content-Type": "text/plain", "Content-Length": "2"}, ""},
		{"HEAD of HTTP/1.0", "HEAD /status HTTP/1.0\r\n\r\n", map[string]string{"Content-Type": "text/plain", "Content-Length": "2"}, ""},
		{"OPTIONS", "OPTIONS /status HTTP/1.1\r\nHost: x\r\n\r\n", map[string]string{"Allow": "GET, HEAD, OPTIONS"}, ""},
		{"OPTIONS of HTTP/1.0 without a Host", "OPTIONS /status HTTP/1.0\r\n\r\n", map[string]string{"Allow": "GET, HEAD, OPTIONS"}, ""},
	} {
		t.Run(test.name+" is answered, and no cache keeps it", func(t *testing.T) {
			s := peer.Start(t, nil)
			c := s.Dial(t)
			c.Send([]byte(test.request))
			all, err := io.ReadAll(c.Reader)
			require.NoError(t, err)
			head, body, _ := strings.Cut(string(all), "\r\n\r\n")
			lines := strings.Split(head, "\r\n")
			require.Equal(t, "HTTP/1.1 200 OK", lines[0])
			require.Equal(t, test.body, body)
			want := map[string]string{"Content-Length": fmt.Sprint(len(test.body)), "Cache-Control": "no-store", "Connection": "close"}
			maps.Copy(want, test.header)
			got := make(map[string]string)
			for _, line := range lines[1:] {
				name, value, _ := strings.Cut(line, ": ")
				got[name] = value
			}
			require.Equal(t, want, got)
		})
	}
	t.Run("another method is refused, with the path or without", func(t *testing.T) {
		s := peer.Start(t, nil)
		for request, want := range map[string]string{
			"POST /status HTTP/1.1\r\nHost: x\r\n\r\n": "400 invalid HTTP method",
			"GET /status HTTP/2.0\r\nHost: x\r\n\r\n":  "400 invalid HTTP version",
			"OPTIONS / HTTP/1.0\r\n\r\n":               "400 invalid HTTP method",
			"OPTIONS /x HTTP/1.0\r\n\r\n":              "404 unknown path",
		} {
			c := s.Dial(t)
			c.Send([]byte(request))
			status, header, _ := c.Answer()
			require.Equal(t, "HTTP/1.1 "+want, status)
			require.Equal(t, "no-store", header["Cache-Control"])
		}
	})
	t.Run("HandleStatus that panics under HEAD has an answer without a body", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleStatus: func() (string, []byte) { panic("status") }})
		c := s.Dial(t)
		c.Send([]byte("HEAD /status HTTP/1.1\r\n\r\n"))
		all, err := io.ReadAll(c.Reader)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(all), "HTTP/1.1 500 "), "%q", all)
		require.True(t, strings.HasSuffix(string(all), "\r\n\r\n"), "%q", all)
	})
	t.Run("HandleStatus answers it", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{ConnectPath: "/ws", HandleStatus: func() (string, []byte) {
			return "application/json", peer.Pattern(1<<20, 0)
		}})
		c := s.Dial(t)
		c.Send([]byte(strings.Replace(statusRequest, "/status", "/ws/status?x=y", 1)))
		_, header, body := c.Answer()
		require.Equal(t, "application/json", header["Content-Type"])
		require.Equal(t, string(peer.Pattern(1<<20, 0)), body)
	})
	t.Run("HandleStatus may block, and other clients are served", func(t *testing.T) {
		release, inside := make(chan struct{}), make(chan struct{}, 2)
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleStatus: func() (string, []byte) {
			inside <- struct{}{}
			<-release
			return "text/plain", []byte("late")
		}})
		var waiting []*peer.Conn
		for range 2 {
			c := s.Dial(t)
			c.Send([]byte(statusRequest))
			waiting = append(waiting, c)
			peer.Get(t, inside)
		}
		for range 4 {
			c := s.Connect(t)
			c.Text("x")
			c.ExpectText("x")
		}
		close(release)
		for _, c := range waiting {
			_, _, body := c.Answer()
			require.Equal(t, "late", body)
		}
	})
	t.Run("a HandleStatus that panics is answered with 500", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleStatus: func() (string, []byte) { panic("status") }})
		c := s.Dial(t)
		c.Send([]byte(statusRequest))
		status, _, _ := c.Answer()
		require.Equal(t, "HTTP/1.1 500 Internal Server Error", status)
		other := s.Connect(t)
		other.Text("x")
		other.ExpectText("x")
	})
}

func TestHandshakeTimeout(t *testing.T) {
	for name, part := range map[string]string{"a byte": peer.Request[:1], "an empty line": "\r\n", "a part of its request": peer.Request[:100]} {
		t.Run("a client that sends "+name+" and no more is told that it took too long", func(t *testing.T) {
			s := peer.Start(t, &websocket.ServerOptions{HandshakeTimeout: 50 * time.Millisecond})
			c := s.Dial(t)
			c.Send([]byte(part))
			status, _, body := c.Answer()
			require.Equal(t, "HTTP/1.1 408 Request Timeout", status)
			require.Equal(t, "Request Timeout", body)
		})
	}
	t.Run("a client that sends nothing is disconnected without a word", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandshakeTimeout: 50 * time.Millisecond})
		s.Dial(t).ExpectEOF()
	})
	t.Run("HandleAuth may take longer", func(t *testing.T) {
		const timeout = 20 * time.Millisecond
		s := peer.Start(t, &websocket.ServerOptions{HandshakeTimeout: timeout, HandleText: peer.Echo,
			HandleAuth: func(*websocket.Handshake) (context.Context, error) {
				<-time.After(5 * timeout)
				return nil, nil
			}})
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
	})
}

func TestHandshakeOverMaxConnections(t *testing.T) {
	const limit = 8
	opts := &websocket.ServerOptions{MaxConnections: limit, HandleText: peer.Echo}
	removed := peer.Removed(opts)
	s := peer.Start(t, opts)
	conns := make([]*peer.Conn, limit)
	for i := range conns {
		conns[i] = s.Connect(t)
	}
	full := func() {
		c := s.Dial(t)
		c.Send([]byte(peer.Request))
		status, header, _ := c.Answer()
		require.Equal(t, "HTTP/1.1 503 too many connections", status)
		require.NotEmpty(t, header["Retry-After"])
	}
	full()
	full()
	for _, c := range conns {
		c.Text("x")
		c.ExpectText("x")
	}
	conns[0].Close()
	peer.Get(t, removed)
	require.True(t, peer.Eventually(func() bool {
		c, err := s.Join()
		if err != nil {
			return false
		}
		t.Cleanup(func() { c.Close() })
		return true
	}), "there is room again")
	require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == limit }))
	full()

	// Those who are told are limited as well: more are closed without a word.
	var told, closed int
	many := make([]*peer.Conn, 10*limit)
	for i := range many {
		many[i] = s.Dial(t)
	}
	for _, c := range many {
		switch answer, _ := io.ReadAll(c.Reader); {
		case strings.HasPrefix(string(answer), "HTTP/1.1 503 "):
			told++
		case len(answer) == 0:
			closed++
		}
	}
	require.Equal(t, len(many), told+closed)
	require.Positive(t, told)
	require.Positive(t, closed)
	conns[1].Text("x")
	conns[1].ExpectText("x")
}

func TestHandshakeHandleAuth(t *testing.T) {
	t.Run("it sees the request, which stays valid", func(t *testing.T) {
		reqs := make(chan *websocket.Handshake, 1)
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			reqs <- req
			return nil, nil
		}})
		request := peer.RequestWith("Host", "Host: example.org\r\nx-multi: 1\r\nX-MULTI: 2\r\nSec-WebSocket-Extensions: a;b=\"c\"\r\n"+
			"Sec-WebSocket-Extensions:  d \r\nSec-WebSocket-Protocol: chat,superchat")
		request = strings.Replace(request, "GET / ", "GET /?token=%20a&b=1 ", 1)
		c := s.Dial(t)
		c.Send([]byte(request))
		answer := make([]byte, len(peer.Accepted))
		_, err := io.ReadFull(c.Reader, answer)
		require.NoError(t, err)
		require.Equal(t, peer.Accepted, string(answer), "nothing that was not chosen is in the answer")
		req := peer.Get(t, reqs)
		for range 50 { // what would overwrite a buffer that is used again
			c.Text(strings.Repeat("overwritten", 100))
			c.ExpectText(strings.Repeat("overwritten", 100))
		}
		require.Equal(t, "/", req.URL.Path)
		require.Equal(t, " a", req.URL.Query().Get("token"))
		require.Equal(t, "example.org", string(req.Host))
		require.Equal(t, "dGhlIHNhbXBsZSBub25jZQ==", string(req.Key))
		require.Equal(t, "a;b=\"c\", d", string(req.Extensions))
		require.Equal(t, "chat,superchat", string(req.Protocol))
		require.Equal(t, []string{"1", "2"}, req.Header.Values("x-multi"))
		require.Equal(t, "1", req.Header.Get("X-Multi"))
		require.Equal(t, "13", req.Header.Get("sec-websocket-version"))
	})
	t.Run("the text of its error is the reason in the status line, on one line", func(t *testing.T) {
		for text, want := range map[string]string{
			"Missing authorization":                      "400 Missing authorization",
			"a\r\nSet-Cookie: evil=1\r\n\r\n<html>\x00b": "400 a  Set-Cookie: evil=1    <html> b",
		} {
			s := peer.Start(t, &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) {
				return context.Background(), errors.New(text)
			}})
			c := s.Dial(t)
			c.Send([]byte(peer.Request))
			status, header, body := c.Answer()
			require.Equal(t, "HTTP/1.1 "+want, status)
			require.Equal(t, strings.TrimPrefix(want, "400 "), body)
			require.Equal(t, "text/plain; charset=utf-8", header["Content-Type"])
			require.NotContains(t, header, "Set-Cookie")
			require.Zero(t, s.Clients.Len())
		}
	})
	t.Run("its context becomes the connection's, a nil one the background", func(t *testing.T) {
		type key struct{}
		want := context.WithValue(context.Background(), key{}, "value")
		got := make(chan context.Context, 2)
		s := peer.Start(t, &websocket.ServerOptions{
			HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
				if req.URL.RawQuery == "nil" {
					return nil, nil
				}
				return want, nil
			},
			HandleClientAdd: func(ctx context.Context, conn int) { got <- ctx },
		})
		s.Connect(t)
		require.Equal(t, want, peer.Get(t, got))
		c := s.Dial(t)
		c.Send([]byte(strings.Replace(peer.Request, "GET /", "GET /?nil", 1)))
		require.Equal(t, context.Background(), peer.Get(t, got))
		for _, conn := range s.Clients.All() {
			_, ok := s.Clients.Context(conn)
			require.True(t, ok)
		}
	})
	t.Run("a panic in it is answered with 500", func(t *testing.T) {
		var once sync.Once
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleAuth: func(*websocket.Handshake) (context.Context, error) {
			once.Do(func() { panic("auth") })
			return nil, nil
		}})
		c := s.Dial(t)
		c.Send([]byte(peer.Request))
		status, _, _ := c.Answer()
		require.Equal(t, "HTTP/1.1 500 Internal Server Error", status)
		other := s.Connect(t)
		other.Text("x")
		other.ExpectText("x")
	})
	t.Run("runtime.Goexit in it is answered with 500", func(t *testing.T) {
		var once sync.Once
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleAuth: func(*websocket.Handshake) (context.Context, error) {
			once.Do(runtime.Goexit)
			return nil, nil
		}})
		c := s.Dial(t)
		c.Send([]byte(peer.Request))
		status, _, _ := c.Answer()
		require.Equal(t, "HTTP/1.1 500 Internal Server Error", status)
		for range 4 {
			other := s.Connect(t)
			other.Text("x")
			other.ExpectText("x")
		}
	})
	t.Run("it may block while others are served, and its client may go meanwhile", func(t *testing.T) {
		release, inside := make(chan struct{}), make(chan struct{}, 8)
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
			if req.URL.RawQuery == "block" {
				inside <- struct{}{}
				<-release
			}
			return nil, nil
		}
		s := peer.Start(t, opts)
		blocked := make([]*peer.Conn, 4)
		for i := range blocked {
			blocked[i] = s.Dial(t)
			blocked[i].Send([]byte(strings.Replace(peer.Request, "GET /", "GET /?block", 1)))
			peer.Get(t, inside)
		}
		for range 4 {
			c := s.Connect(t)
			c.Text("x")
			c.ExpectText("x")
		}
		blocked[0].Reset()
		blocked[1].Close()
		close(release)
		for _, c := range blocked[2:] {
			answer := make([]byte, len(peer.Accepted))
			_, err := io.ReadFull(c.Reader, answer)
			require.NoError(t, err)
			c.Text("at last")
			c.ExpectText("at last")
		}
		require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 6 }))
	})
	t.Run("what it puts into ResponseHeader is in the answer", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			switch req.URL.RawQuery {
			case "split":
				req.ResponseHeader.Set("X-Bad", "a\r\nb: c")
			case "nil":
				req.ResponseHeader = nil
			default:
				req.ResponseHeader.Set("Sec-WebSocket-Protocol", "chat")
				req.ResponseHeader.Add("Set-Cookie", "a=1")
				req.ResponseHeader.Add("Set-Cookie", "b=2")
				req.ResponseHeader.Set("Upgrade", "other")
				req.ResponseHeader.Set("Content-Length", "7")
			}
			return nil, nil
		}})
		c := s.Dial(t)
		c.Send([]byte(peer.RequestWith("Host", "Host: x\r\nSec-WebSocket-Protocol: superchat, chat")))
		answer, err := http.ReadResponse(c.Reader, nil)
		require.NoError(t, err)
		require.Equal(t, 101, answer.StatusCode)
		require.Equal(t, []string{"chat"}, answer.Header["Sec-Websocket-Protocol"])
		require.Equal(t, []string{"a=1", "b=2"}, answer.Header["Set-Cookie"])
		require.Equal(t, []string{"websocket"}, answer.Header["Upgrade"])
		require.NotContains(t, answer.Header, "Content-Length")
		c.Text("x")
		c.ExpectText("x")

		c = s.Dial(t)
		c.Send([]byte(strings.Replace(peer.Request, "GET /", "GET /?split", 1)))
		status, header, _ := c.Answer()
		require.True(t, strings.HasPrefix(status, "HTTP/1.1 400 "), status)
		require.NotContains(t, header, "b")

		c = s.Dial(t)
		c.Send([]byte(strings.Replace(peer.Request, "GET /", "GET /?nil", 1)))
		got := make([]byte, len(peer.Accepted))
		_, err = io.ReadFull(c.Reader, got)
		require.NoError(t, err)
		require.Equal(t, peer.Accepted, string(got))
	})
}
