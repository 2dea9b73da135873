//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLogMayUseTheConnection(t *testing.T) {
	for _, end := range []struct {
		name string
		text string // of the record
		do   func(s *rawServer, c *rawConn, conn int)
	}{
		{"the client closes", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) {
			c.send(NewFrameClose(true, StatusNormal, nil))
		}},
		{"the client is reset", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) { c.reset() }},
		{"the client breaks a rule", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) { c.send([]byte{0xFF, 0xFF}) }},
		{"the program removes it", "websocket: connection ends", func(s *rawServer, _ *rawConn, conn int) { s.ClientRemove(conn) }},
		{"its handler panics", "websocket: handler panicked", func(_ *rawServer, c *rawConn, _ int) { c.send(NewFrameBin(true, nil)) }},
		{"the server stops", "websocket: connection ends", func(s *rawServer, _ *rawConn, _ int) { s.stop(s.t) }},
	} {
		t.Run("where "+end.name, func(t *testing.T) {
			var server atomic.Pointer[Server]
			returned := make(chan string, 64)
			opts := &ServerOptions{HandleText: rawEcho, HandleBin: func(int, []byte) { panic("handler of the test") }}
			opts.Logger = slog.New(logFunc(func(text string, attrs map[string]slog.Value) {
				s, conn := server.Load(), int(attrs["conn"].Int64())
				packet := NewFrameText(false, []byte(text))
				s.Clients.Context(conn)
				id := ID(conn)
				Send(conn, packet)
				TrySend(conn, packet)
				SendID(id, packet)
				s.ClientRemove(conn)
				returned <- text
			}))
			added := rawAdded(opts)
			s := startServer(t, opts)
			server.Store(s.Server)
			c := s.connect(t)
			conn := rawGet(t, added)
			end.do(s, c, conn)
			for text := ""; text != end.text; {
				text = rawGet(t, returned)
			}
			if s.Addr() == nil {
				return
			}
			for range runtime.GOMAXPROCS(0) { // every loop lives
				other := s.connect(t)
				other.text("x")
				other.expectText("x")
			}
		})
	}
}

// logged is a record as a program's log gets it.
type logged struct {
	text  string
	attrs map[string]slog.Value
}

// loggedBy makes a server's log tell its records.
func loggedBy(opts *ServerOptions) <-chan logged {
	records := make(chan logged, 64)
	opts.Logger = slog.New(logFunc(func(text string, attrs map[string]slog.Value) { records <- logged{text, attrs} }))
	return records
}

// nextLogged returns the next record with that text.
func nextLogged(t *testing.T, records <-chan logged, text string) map[string]slog.Value {
	t.Helper()
	for {
		if r := rawGet(t, records); r.text == text {
			return r.attrs
		}
	}
}

func TestLogOfRefusedHandshakes(t *testing.T) {
	const limit = 50 * time.Millisecond
	for _, test := range []struct {
		name    string
		request string
		ends    bool // the client ends its side
		status  int64
		cause   string
		path    string
	}{
		{"an unknown path", strings.Replace(rawRequest, "GET /", "GET /no/where?token=secret", 1), false, 404, "unknown path", "/no/where"},
		{"a missing header", rawWith("Upgrade", ""), false, 400, "bad request: length is less than minimum", "/"},
		{"another method", strings.Replace(rawRequest, "GET /", "POST /form?secret", 1), false, 400, "invalid HTTP method", "/form"},
		{"a broken target", strings.Replace(rawRequest, "GET /", "GET /%zz?secret", 1), false, 400, "bad request: malformed request target", "/%zz"},
		{"a target with a password", strings.Replace(rawRequest, "GET /", "GET ws://u:secret@x/", 1), false, 400, "bad request: user information in request target", ""},
		{"something else than HTTP", "\x16\x03\x01 secret\r\n\r\n", false, 400, "bad request: malformed request line", ""},
		{"a page", "GET /?secret HTTP/1.1\r\nHost: x\r\n\r\n", false, 426, "upgrade required", "/"},
		{"another version", rawWith("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), false, 426, "unsupported Sec-WebSocket-Version", "/"},
		{"too many fields", strings.Replace(rawRequest, "\r\n", "\r\n"+strings.Repeat("X: y\r\n", 101), 1), false, 431, "request header fields too large", "/"},
		{"an endless path", "GET /" + strings.Repeat("a", defaultMaxHeaderSize), false, 431, "request header fields too large", "/" + strings.Repeat("a", maxLoggedPath-1)},
		{"a request that takes too long", "GET /slow?secret HTTP/1.1\r\nHo", false, 408, "request takes too long", "/slow"},
		{"a request that is cut off", "GET /cut?secret HTTP/1.1\r\nHo", true, 400, "bad request: length is less than minimum", "/cut"},
		{"a HandleAuth that says no", strings.Replace(rawRequest, "GET /", "GET /?no=secret", 1), false, 400, "who are you?", "/"},
		{"a HandleAuth that panics", strings.Replace(rawRequest, "GET /", "GET /?panic=secret", 1), false, 500, "handler failed", "/"},
	} {
		t.Run(test.name+" leaves a record with its cause", func(t *testing.T) {
			opts := &ServerOptions{HandleAuth: func(req *Handshake) (context.Context, error) {
				if strings.HasPrefix(req.URL.RawQuery, "panic") {
					panic("HandleAuth of the test")
				}
				return nil, errors.New("who are you?")
			}}
			if test.status == 408 {
				opts.HandshakeTimeout = limit
			}
			records := loggedBy(opts)
			s := startServer(t, opts)
			c := s.dial(t)
			c.send([]byte(test.request))
			if test.ends {
				c.Conn.(*net.TCPConn).CloseWrite()
			}
			attrs := nextLogged(t, records, textRefused)
			require.Equal(t, test.status, attrs["status"].Int64())
			require.Equal(t, test.cause, attrs["cause"].String())
			require.Equal(t, c.LocalAddr().String(), attrs["address"].String())
			require.Contains(t, attrs, "conn")
			if test.path == "" {
				require.NotContains(t, attrs, "path")
			} else {
				require.Equal(t, test.path, attrs["path"].String())
			}
			for name, value := range attrs {
				require.NotContains(t, value.String(), "secret", name)
			}
		})
	}
	t.Run("a HandleAuth that has taken its request apart leaves one too", func(t *testing.T) {
		opts := &ServerOptions{HandleAuth: func(req *Handshake) (context.Context, error) {
			req.URL = nil
			return nil, errors.New("who are you?")
		}}
		records := loggedBy(opts)
		s := startServer(t, opts)
		c := s.dial(t)
		c.send([]byte(rawRequest))
		attrs := nextLogged(t, records, textRefused)
		require.Equal(t, "who are you?", attrs["cause"].String())
	})
	t.Run("more than MaxConnections leave records, those that are told nothing too", func(t *testing.T) {
		const most = 8
		opts := &ServerOptions{MaxConnections: most}
		records := loggedBy(opts)
		s := startServer(t, opts)
		for range most {
			s.connect(t)
		}
		told := make(map[string]bool)
		for range 40 {
			told[s.dial(t).LocalAddr().String()] = true
		}
		for len(told) > 0 {
			attrs := nextLogged(t, records, textRefused)
			require.Equal(t, "too many connections", attrs["cause"].String())
			require.Contains(t, told, attrs["address"].String())
			delete(told, attrs["address"].String())
		}
	})
	for name, end := range map[string]func(s *rawServer, c *rawConn){
		"no request came": func(*rawServer, *rawConn) {},
		"end of stream":   func(_ *rawServer, c *rawConn) { c.Conn.(*net.TCPConn).CloseWrite() },
		"server stops":    func(s *rawServer, c *rawConn) { c.rawLeave(); s.stop(s.t) },
	} {
		t.Run("a connection without a handshake leaves a record: "+name, func(t *testing.T) {
			opts := &ServerOptions{HandshakeTimeout: 5 * time.Second}
			if name == "no request came" {
				opts.HandshakeTimeout = limit
			}
			records := loggedBy(opts)
			s := startServer(t, opts)
			c := s.dial(t)
			if name != "no request came" {
				require.True(t, eventually(func() bool { return s.engine.connections.Load() == 1 }))
			}
			end(s, c)
			attrs := nextLogged(t, records, "websocket: handshake ends")
			require.Equal(t, name, attrs["cause"].String())
			require.Equal(t, c.LocalAddr().String(), attrs["address"].String())
		})
	}
	t.Run("one that is accepted or asks for the status leaves none", func(t *testing.T) {
		opts := new(ServerOptions)
		records := loggedBy(opts)
		s := startServer(t, opts)
		c := s.dial(t)
		c.send([]byte("GET /status HTTP/1.1\r\n\r\n"))
		c.answer()
		c = s.connect(t)
		c.send(NewFrameClose(true, StatusNormal, nil))
		require.Equal(t, "websocket: connection ends", rawGet(t, records).text)
	})
}

func TestLogOfConnections(t *testing.T) {
	for _, end := range []struct {
		name string
		text string // of the record
		do   func(s *rawServer, c *rawConn, conn int)
	}{
		{"the client closes", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) { c.send(NewFrameClose(true, StatusNormal, nil)) }},
		{"the client ends its side", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) { c.Conn.(*net.TCPConn).CloseWrite() }},
		{"the program removes it", "websocket: connection ends", func(s *rawServer, _ *rawConn, conn int) { s.ClientRemove(conn) }},
		{"its handler panics", "websocket: handler panicked", func(_ *rawServer, c *rawConn, _ int) { c.send(NewFrameBin(true, nil)) }},
		{"its handler ends its goroutine", "websocket: handler ended its goroutine", func(_ *rawServer, c *rawConn, _ int) { c.text("") }},
		{"the client is reset", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) { c.reset() }},
	} {
		t.Run("a record has address and user where "+end.name, func(t *testing.T) {
			opts := &ServerOptions{
				HandleText: func(int, []byte) { runtime.Goexit() },
				HandleBin:  func(int, []byte) { panic("handler of the test") },
				HandleAuth: func(*Handshake) (context.Context, error) {
					return context.WithValue(context.Background(), CtxKeyUID, uint64(4711)), nil
				},
			}
			added, records := rawAdded(opts), loggedBy(opts)
			s := startServer(t, opts)
			c := s.connect(t)
			conn := rawGet(t, added)
			end.do(s, c, conn)
			attrs := nextLogged(t, records, end.text)
			require.Equal(t, int64(conn), attrs["conn"].Int64())
			require.Equal(t, uint64(4711), attrs["user"].Uint64())
			if runtime.GOOS == "linux" || end.name != "the client is reset" { // others forget the address
				require.Equal(t, c.LocalAddr().String(), attrs["address"].String())
			}
		})
	}
	t.Run("a peer at IPv6 and one at a Unix socket have their addresses", func(t *testing.T) {
		for network, address := range map[string]string{"tcp6": "[::1]:0", "unix": filepath.Join(t.TempDir(), "socket")} {
			ln, err := net.Listen(network, address)
			if err != nil && network == "tcp6" {
				continue // there is no IPv6 here
			}
			require.NoError(t, err)
			opts := new(ServerOptions)
			records := loggedBy(opts)
			s := &rawServer{Server: NewServer(rawQuiet(opts)), t: t}
			s.serve(ln)
			c := s.connect(t)
			want := c.LocalAddr().String()
			c.send(NewFrameClose(true, StatusNormal, nil))
			if attrs := nextLogged(t, records, "websocket: connection ends"); network == "tcp6" {
				require.Equal(t, want, attrs["address"].String())
			}
			s.stop(t)
		}
	})
	t.Run("nothing is asked of the system where the log wants nothing", func(t *testing.T) {
		c := &conn{loop: &loop{engine: &engine{reports: newReports(slog.New(slog.DiscardHandler))}}}
		require.Zero(t, testing.AllocsPerRun(100, func() { c.reportLocked(slog.LevelDebug, "text") }))
	})
}
