//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

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
)

// rawWith returns the good request with one header line replaced, or left out where line is empty.
func rawWith(name, line string) string {
	var b strings.Builder
	for l := range strings.SplitSeq(strings.TrimSuffix(rawRequest, "\r\n\r\n"), "\r\n") {
		if strings.HasPrefix(l, name) {
			if l = line; l == "" {
				continue
			}
		}
		b.WriteString(l + "\r\n")
	}
	return b.String() + "\r\n"
}

func TestHandshakeInPieces(t *testing.T) {
	s := startServer(t, &ServerOptions{HandleText: rawEcho})
	t.Run("a thousand frames in one piece behind the request are handled in order", func(t *testing.T) {
		c := s.dial(t)
		all := []byte(rawRequest)
		for i := range 1000 {
			all = append(all, NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.send(all)
		answer := make([]byte, len(rawAccepted))
		_, err := io.ReadFull(c.r, answer)
		require.NoError(t, err)
		for i := range 1000 {
			c.expectText(fmt.Sprint(i))
		}
	})
}

func TestHandshakeBehindSlowAuth(t *testing.T) {
	t.Run("frames behind the request come before those that arrive while HandleAuth decides", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho}
		opts.HandleAuth = func(*Handshake) (context.Context, error) {
			<-time.After(3 * time.Millisecond) // long enough to lose the loop
			return nil, nil
		}
		s := startServer(t, opts)
		const peers, each, frames = 16, 12, 300
		rawAll(t, peers, func(int) error {
			for range each {
				c, err := s.rawOpen()
				if err != nil {
					return err
				}
				first := NewFrameText(true, []byte("0"))
				if _, err = c.Write(append([]byte(rawRequest), first[:5]...)); err != nil {
					return err
				}
				if _, err = c.Write(first[5:]); err != nil {
					return err
				}
				errs := make(chan error, 1)
				go func() {
					var err error
					for i := 1; i < frames && err == nil; i++ {
						_, err = c.Write(NewFrameText(true, fmt.Append(nil, i)))
					}
					errs <- err
				}()
				answer := make([]byte, len(rawAccepted))
				if _, err = io.ReadFull(c.r, answer); err != nil {
					return err
				}
				for i := range frames {
					if err = c.rawExpect(OpcodeText, fmt.Sprint(i)); err != nil {
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
		s := startServer(t, nil)
		c := s.dial(t)
		c.send([]byte(statusRequest))
		status, header, body := c.answer()
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
			s := startServer(t, nil)
			c := s.dial(t)
			c.send([]byte(test.request))
			all, err := io.ReadAll(c.r)
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
		s := startServer(t, nil)
		for request, want := range map[string]string{
			"POST /status HTTP/1.1\r\nHost: x\r\n\r\n": "400 invalid HTTP method",
			"GET /status HTTP/2.0\r\nHost: x\r\n\r\n":  "400 invalid HTTP version",
			"OPTIONS / HTTP/1.0\r\n\r\n":               "400 invalid HTTP method",
			"OPTIONS /x HTTP/1.0\r\n\r\n":              "404 unknown path",
		} {
			c := s.dial(t)
			c.send([]byte(request))
			status, header, _ := c.answer()
			require.Equal(t, "HTTP/1.1 "+want, status)
			require.Equal(t, "no-store", header["Cache-Control"])
		}
	})
	t.Run("HandleStatus that panics under HEAD has an answer without a body", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleStatus: func() (string, []byte) { panic("status") }})
		c := s.dial(t)
		c.send([]byte("HEAD /status HTTP/1.1\r\n\r\n"))
		all, err := io.ReadAll(c.r)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(all), "HTTP/1.1 500 "), "%q", all)
		require.True(t, strings.HasSuffix(string(all), "\r\n\r\n"), "%q", all)
	})
	t.Run("HandleStatus answers it", func(t *testing.T) {
		s := startServer(t, &ServerOptions{ConnectPath: "/ws", HandleStatus: func() (string, []byte) {
			return "application/json", rawPattern(1<<20, 0)
		}})
		c := s.dial(t)
		c.send([]byte(strings.Replace(statusRequest, "/status", "/ws/status?x=y", 1)))
		_, header, body := c.answer()
		require.Equal(t, "application/json", header["Content-Type"])
		require.Equal(t, string(rawPattern(1<<20, 0)), body)
	})
	t.Run("HandleStatus may block, and other clients are served", func(t *testing.T) {
		release, inside := make(chan struct{}), make(chan struct{}, 2)
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleStatus: func() (string, []byte) {
			inside <- struct{}{}
			<-release
			return "text/plain", []byte("late")
		}})
		var waiting []*rawConn
		for range 2 {
			c := s.dial(t)
			c.send([]byte(statusRequest))
			waiting = append(waiting, c)
			rawGet(t, inside)
		}
		for range 4 {
			c := s.connect(t)
			c.text("x")
			c.expectText("x")
		}
		close(release)
		for _, c := range waiting {
			_, _, body := c.answer()
			require.Equal(t, "late", body)
		}
	})
	t.Run("a HandleStatus that panics is answered with 500", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleStatus: func() (string, []byte) { panic("status") }})
		c := s.dial(t)
		c.send([]byte(statusRequest))
		status, _, _ := c.answer()
		require.Equal(t, "HTTP/1.1 500 Internal Server Error", status)
		other := s.connect(t)
		other.text("x")
		other.expectText("x")
	})
}

func TestHandshakeTimeout(t *testing.T) {
	for name, part := range map[string]string{"a byte": rawRequest[:1], "an empty line": "\r\n", "a part of its request": rawRequest[:100]} {
		t.Run("a client that sends "+name+" and no more is told that it took too long", func(t *testing.T) {
			s := startServer(t, &ServerOptions{HandshakeTimeout: 50 * time.Millisecond})
			c := s.dial(t)
			c.send([]byte(part))
			status, _, body := c.answer()
			require.Equal(t, "HTTP/1.1 408 Request Timeout", status)
			require.Equal(t, "Request Timeout", body)
		})
	}
	t.Run("a client that sends nothing is disconnected without a word", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandshakeTimeout: 50 * time.Millisecond})
		s.dial(t).expectEOF()
	})
	t.Run("HandleAuth may take longer", func(t *testing.T) {
		const timeout = 20 * time.Millisecond
		s := startServer(t, &ServerOptions{HandshakeTimeout: timeout, HandleText: rawEcho,
			HandleAuth: func(*Handshake) (context.Context, error) {
				<-time.After(5 * timeout)
				return nil, nil
			}})
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
	})
}

func TestHandshakeOverMaxConnections(t *testing.T) {
	const limit = 8
	opts := &ServerOptions{MaxConnections: limit, HandleText: rawEcho}
	removed := rawRemoved(opts)
	s := startServer(t, opts)
	conns := make([]*rawConn, limit)
	for i := range conns {
		conns[i] = s.connect(t)
	}
	full := func() {
		c := s.dial(t)
		c.send([]byte(rawRequest))
		status, header, _ := c.answer()
		require.Equal(t, "HTTP/1.1 503 too many connections", status)
		require.NotEmpty(t, header["Retry-After"])
	}
	full()
	full()
	for _, c := range conns {
		c.text("x")
		c.expectText("x")
	}
	conns[0].Close()
	rawGet(t, removed)
	require.True(t, eventually(func() bool {
		c, err := s.rawJoin()
		if err != nil {
			return false
		}
		t.Cleanup(func() { c.Close() })
		return true
	}), "there is room again")
	require.True(t, eventually(func() bool { return s.Clients.Len() == limit }))
	full()

	// Those who are told are limited as well: more are closed without a word.
	var told, closed int
	many := make([]*rawConn, 10*limit)
	for i := range many {
		many[i] = s.dial(t)
	}
	for _, c := range many {
		switch answer, _ := io.ReadAll(c.r); {
		case strings.HasPrefix(string(answer), "HTTP/1.1 503 "):
			told++
		case len(answer) == 0:
			closed++
		}
	}
	require.Equal(t, len(many), told+closed)
	require.Positive(t, told)
	require.Positive(t, closed)
	conns[1].text("x")
	conns[1].expectText("x")
}

func TestHandshakeHandleAuth(t *testing.T) {
	t.Run("it sees the request, which stays valid", func(t *testing.T) {
		reqs := make(chan *Handshake, 1)
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleAuth: func(req *Handshake) (context.Context, error) {
			reqs <- req
			return nil, nil
		}})
		request := rawWith("Host", "Host: example.org\r\nx-multi: 1\r\nX-MULTI: 2\r\nSec-WebSocket-Extensions: a;b=\"c\"\r\n"+
			"Sec-WebSocket-Extensions:  d \r\nSec-WebSocket-Protocol: chat,superchat")
		request = strings.Replace(request, "GET / ", "GET /?token=%20a&b=1 ", 1)
		c := s.dial(t)
		c.send([]byte(request))
		answer := make([]byte, len(rawAccepted))
		_, err := io.ReadFull(c.r, answer)
		require.NoError(t, err)
		require.Equal(t, rawAccepted, string(answer), "nothing that was not chosen is in the answer")
		req := rawGet(t, reqs)
		for range 50 { // what would overwrite a buffer that is used again
			c.text(strings.Repeat("overwritten", 100))
			c.expectText(strings.Repeat("overwritten", 100))
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
			s := startServer(t, &ServerOptions{HandleAuth: func(*Handshake) (context.Context, error) {
				return context.Background(), errors.New(text)
			}})
			c := s.dial(t)
			c.send([]byte(rawRequest))
			status, header, body := c.answer()
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
		s := startServer(t, &ServerOptions{
			HandleAuth: func(req *Handshake) (context.Context, error) {
				if req.URL.RawQuery == "nil" {
					return nil, nil
				}
				return want, nil
			},
			HandleClientAdd: func(ctx context.Context, conn int) { got <- ctx },
		})
		s.connect(t)
		require.Equal(t, want, rawGet(t, got))
		c := s.dial(t)
		c.send([]byte(strings.Replace(rawRequest, "GET /", "GET /?nil", 1)))
		require.Equal(t, context.Background(), rawGet(t, got))
		for _, conn := range s.Clients.All() {
			_, ok := s.Clients.Context(conn)
			require.True(t, ok)
		}
	})
	t.Run("a panic in it is answered with 500", func(t *testing.T) {
		var once sync.Once
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleAuth: func(*Handshake) (context.Context, error) {
			once.Do(func() { panic("auth") })
			return nil, nil
		}})
		c := s.dial(t)
		c.send([]byte(rawRequest))
		status, _, _ := c.answer()
		require.Equal(t, "HTTP/1.1 500 Internal Server Error", status)
		other := s.connect(t)
		other.text("x")
		other.expectText("x")
	})
	t.Run("runtime.Goexit in it is answered with 500", func(t *testing.T) {
		var once sync.Once
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleAuth: func(*Handshake) (context.Context, error) {
			once.Do(runtime.Goexit)
			return nil, nil
		}})
		c := s.dial(t)
		c.send([]byte(rawRequest))
		status, _, _ := c.answer()
		require.Equal(t, "HTTP/1.1 500 Internal Server Error", status)
		for range 4 {
			other := s.connect(t)
			other.text("x")
			other.expectText("x")
		}
	})
	t.Run("it may block while others are served, and its client may go meanwhile", func(t *testing.T) {
		release, inside := make(chan struct{}), make(chan struct{}, 8)
		opts := &ServerOptions{HandleText: rawEcho}
		opts.HandleAuth = func(req *Handshake) (context.Context, error) {
			if req.URL.RawQuery == "block" {
				inside <- struct{}{}
				<-release
			}
			return nil, nil
		}
		s := startServer(t, opts)
		blocked := make([]*rawConn, 4)
		for i := range blocked {
			blocked[i] = s.dial(t)
			blocked[i].send([]byte(strings.Replace(rawRequest, "GET /", "GET /?block", 1)))
			rawGet(t, inside)
		}
		for range 4 {
			c := s.connect(t)
			c.text("x")
			c.expectText("x")
		}
		blocked[0].reset()
		blocked[1].Close()
		close(release)
		for _, c := range blocked[2:] {
			answer := make([]byte, len(rawAccepted))
			_, err := io.ReadFull(c.r, answer)
			require.NoError(t, err)
			c.text("at last")
			c.expectText("at last")
		}
		require.True(t, eventually(func() bool { return s.Clients.Len() == 6 }))
	})
	t.Run("what it puts into ResponseHeader is in the answer", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleAuth: func(req *Handshake) (context.Context, error) {
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
		c := s.dial(t)
		c.send([]byte(rawWith("Host", "Host: x\r\nSec-WebSocket-Protocol: superchat, chat")))
		answer, err := http.ReadResponse(c.r, nil)
		require.NoError(t, err)
		require.Equal(t, 101, answer.StatusCode)
		require.Equal(t, []string{"chat"}, answer.Header["Sec-Websocket-Protocol"])
		require.Equal(t, []string{"a=1", "b=2"}, answer.Header["Set-Cookie"])
		require.Equal(t, []string{"websocket"}, answer.Header["Upgrade"])
		require.NotContains(t, answer.Header, "Content-Length")
		c.text("x")
		c.expectText("x")

		c = s.dial(t)
		c.send([]byte(strings.Replace(rawRequest, "GET /", "GET /?split", 1)))
		status, header, _ := c.answer()
		require.True(t, strings.HasPrefix(status, "HTTP/1.1 400 "), status)
		require.NotContains(t, header, "b")

		c = s.dial(t)
		c.send([]byte(strings.Replace(rawRequest, "GET /", "GET /?nil", 1)))
		got := make([]byte, len(rawAccepted))
		_, err = io.ReadFull(c.r, got)
		require.NoError(t, err)
		require.Equal(t, rawAccepted, string(got))
	})
}
