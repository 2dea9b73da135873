//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

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
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestLogMayUseTheConnection(t *testing.T) {
	for _, end := range []struct {
		name string
		text string // of the record
		do   func(s *peer.Server, c *peer.Conn, conn int)
	}{
		{"the client closes", "websocket: connection ends", func(_ *peer.Server, c *peer.Conn, _ int) {
			c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
		}},
		{"the client is reset", "websocket: connection ends", func(_ *peer.Server, c *peer.Conn, _ int) { c.Reset() }},
		{"the client breaks a rule", "websocket: connection ends", func(_ *peer.Server, c *peer.Conn, _ int) { c.Send([]byte{0xFF, 0xFF}) }},
		{"the program removes it", "websocket: connection ends", func(s *peer.Server, _ *peer.Conn, conn int) { s.ClientRemove(conn) }},
		{"its handler panics", "websocket: handler panicked", func(_ *peer.Server, c *peer.Conn, _ int) { c.Send(websocket.NewFrameBin(true, nil)) }},
		{"the server stops", "websocket: connection ends", func(s *peer.Server, _ *peer.Conn, _ int) { s.StopAndWait(s.T) }},
	} {
		t.Run("if "+end.name, func(t *testing.T) {
			var server atomic.Pointer[websocket.Server]
			returned := make(chan string, 64)
			opts := &websocket.ServerOptions{HandleText: peer.Echo, HandleBin: func(int, []byte) { panic("handler of the test") }}
			opts.Logger = slog.New(peer.LogFunc(func(text string, attrs map[string]slog.Value) {
				s, conn := server.Load(), int(attrs["conn"].Int64())
				packet := websocket.NewFrameText(false, []byte(text))
				s.Clients.Context(conn)
				id := websocket.ID(conn)
				websocket.Send(conn, packet)
				websocket.TrySend(conn, packet)
				websocket.SendID(id, packet)
				s.ClientRemove(conn)
				returned <- text
			}))
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			server.Store(s.Server)
			c := s.Connect(t)
			conn := peer.Get(t, added)
			end.do(s, c, conn)
			for text := ""; text != end.text; {
				text = peer.Get(t, returned)
			}
			if s.Addr() == nil {
				return
			}
			for range runtime.GOMAXPROCS(0) { // every loop lives
				other := s.Connect(t)
				other.Text("x")
				other.ExpectText("x")
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
func loggedBy(opts *websocket.ServerOptions) <-chan logged {
	records := make(chan logged, 64)
	opts.Logger = slog.New(peer.LogFunc(func(text string, attrs map[string]slog.Value) { records <- logged{text, attrs} }))
	return records
}

// nextLogged returns the next record with that text.
func nextLogged(t *testing.T, records <-chan logged, text string) map[string]slog.Value {
	t.Helper()
	for {
		if r := peer.Get(t, records); r.text == text {
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
		{"an unknown path", strings.Replace(peer.Request, "GET /", "GET /no/where?token=secret", 1), false, 404, "unknown path", "/no/where"},
		{"a missing header", peer.RequestWith("Upgrade", ""), false, 400, "bad request: length is less than minimum", "/"},
		{"another method", strings.Replace(peer.Request, "GET /", "POST /form?secret", 1), false, 400, "invalid HTTP method", "/form"},
		{"a broken target", strings.Replace(peer.Request, "GET /", "GET /%zz?secret", 1), false, 400, "bad request: malformed request target", "/%zz"},
		{"a target with a password", strings.Replace(peer.Request, "GET /", "GET ws://u:secret@x/", 1), false, 400, "bad request: user information in request target", ""},
		{"something else than HTTP", "\x16\x03\x01 secret\r\n\r\n", false, 400, "bad request: malformed request line", ""},
		{"a page", "GET /?secret HTTP/1.1\r\nHost: x\r\n\r\n", false, 426, "upgrade required", "/"},
		{"another version", peer.RequestWith("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), false, 426, "unsupported Sec-WebSocket-Version", "/"},
		{"too many fields", strings.Replace(peer.Request, "\r\n", "\r\n"+strings.Repeat("X: y\r\n", 101), 1), false, 431, "request header fields too large", "/"},
		{"an endless path", "GET /" + strings.Repeat("a", peer.MaxHeaderSize), false, 431, "request header fields too large", "/" + strings.Repeat("a", 255)},
		{"a request that takes too long", "GET /slow?secret HTTP/1.1\r\nHo", false, 408, "request takes too long", "/slow"},
		{"a request that is cut off", "GET /cut?secret HTTP/1.1\r\nHo", true, 400, "bad request: length is less than minimum", "/cut"},
		{"a HandleAuth that says no", strings.Replace(peer.Request, "GET /", "GET /?no=secret", 1), false, 400, "who are you?", "/"},
		{"a HandleAuth that panics", strings.Replace(peer.Request, "GET /", "GET /?panic=secret", 1), false, 500, "handler failed", "/"},
	} {
		t.Run(test.name+" leaves a record with its cause", func(t *testing.T) {
			opts := &websocket.ServerOptions{HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
				if strings.HasPrefix(req.URL.RawQuery, "panic") {
					panic("HandleAuth of the test")
				}
				return nil, errors.New("who are you?")
			}}
			if test.status == 408 {
				opts.HandshakeTimeout = limit
			}
			records := loggedBy(opts)
			s := peer.Start(t, opts)
			c := s.Dial(t)
			c.Send([]byte(test.request))
			if test.ends {
				c.Conn.(*net.TCPConn).CloseWrite()
			}
			attrs := nextLogged(t, records, "websocket: handshake refused")
			require.Equal(t, test.status, attrs["status"].Int64())
			require.Equal(t, test.cause, attrs["cause"].String())
			require.Equal(t, c.LocalAddr().String(), attrs["address"].String())
			require.Contains(t, attrs, "conn")
			require.Positive(t, attrs["duration"].Duration())
			if test.status == 408 {
				require.GreaterOrEqual(t, attrs["duration"].Duration(), limit)
			}
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
		opts := &websocket.ServerOptions{HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			req.URL = nil
			return nil, errors.New("who are you?")
		}}
		records := loggedBy(opts)
		s := peer.Start(t, opts)
		c := s.Dial(t)
		c.Send([]byte(peer.Request))
		attrs := nextLogged(t, records, "websocket: handshake refused")
		require.Equal(t, "who are you?", attrs["cause"].String())
	})
	t.Run("more than MaxConnections leave records, those that are told nothing too", func(t *testing.T) {
		const most = 8
		opts := &websocket.ServerOptions{MaxConnections: most}
		records := loggedBy(opts)
		s := peer.Start(t, opts)
		for range most {
			s.Connect(t)
		}
		told := make(map[string]bool)
		for range 40 {
			told[s.Dial(t).LocalAddr().String()] = true
		}
		for len(told) > 0 {
			attrs := nextLogged(t, records, "websocket: handshake refused")
			require.Equal(t, "too many connections", attrs["cause"].String())
			require.Contains(t, told, attrs["address"].String())
			delete(told, attrs["address"].String())
		}
	})
	for name, end := range map[string]func(s *peer.Server, c *peer.Conn){
		"no request came": func(*peer.Server, *peer.Conn) {},
		"end of stream":   func(_ *peer.Server, c *peer.Conn) { c.Conn.(*net.TCPConn).CloseWrite() },
		"server stops":    func(s *peer.Server, c *peer.Conn) { c.Leave(); s.StopAndWait(s.T) },
	} {
		t.Run("a connection without a handshake leaves a record: "+name, func(t *testing.T) {
			opts := &websocket.ServerOptions{HandshakeTimeout: 5 * time.Second}
			if name == "no request came" {
				opts.HandshakeTimeout = limit
			}
			records := loggedBy(opts)
			s := peer.Start(t, opts)
			c := s.Dial(t)
			if name != "no request came" {
				require.True(t, peer.Eventually(func() bool { return len(s.Sockets()) == 1 }))
			}
			end(s, c)
			attrs := nextLogged(t, records, "websocket: handshake ends")
			require.Equal(t, name, attrs["cause"].String())
			require.Equal(t, c.LocalAddr().String(), attrs["address"].String())
		})
	}
	t.Run("one that is accepted or asks for the status leaves none", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		records := loggedBy(opts)
		s := peer.Start(t, opts)
		c := s.Dial(t)
		c.Send([]byte("GET /status HTTP/1.1\r\n\r\n"))
		c.Answer()
		c = s.Connect(t)
		c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
		require.Equal(t, "websocket: connection ends", peer.Get(t, records).text)
	})
}

func TestLogOfConnections(t *testing.T) {
	for _, end := range []struct {
		name string
		text string // of the record
		kind websocket.CloseKind
		do   func(s *peer.Server, c *peer.Conn, conn int)
	}{
		{"the client closes", "websocket: connection ends", websocket.ClosedByPeer, func(_ *peer.Server, c *peer.Conn, _ int) {
			c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
		}},
		{"the client ends its side", "websocket: connection ends", websocket.ClosedLost, func(_ *peer.Server, c *peer.Conn, _ int) { c.Conn.(*net.TCPConn).CloseWrite() }},
		{"the program removes it", "websocket: connection ends", websocket.ClosedRemoved, func(s *peer.Server, _ *peer.Conn, conn int) { s.ClientRemove(conn) }},
		{"its handler panics", "websocket: handler panicked", 0, func(_ *peer.Server, c *peer.Conn, _ int) { c.Send(websocket.NewFrameBin(true, nil)) }},
		{"its handler ends its goroutine", "websocket: handler ended its goroutine", 0, func(_ *peer.Server, c *peer.Conn, _ int) { c.Text("") }},
		{"the client is reset", "websocket: connection ends", websocket.ClosedLost, func(_ *peer.Server, c *peer.Conn, _ int) { c.Reset() }},
	} {
		t.Run("a record has address and user if "+end.name, func(t *testing.T) {
			began := time.Now()
			opts := &websocket.ServerOptions{
				HandleText: func(int, []byte) { runtime.Goexit() },
				HandleBin:  func(int, []byte) { panic("handler of the test") },
				HandleAuth: func(*websocket.Handshake) (context.Context, error) {
					return context.WithValue(context.Background(), websocket.CtxKeyUID, uint64(4711)), nil
				},
			}
			added, records := peer.Added(opts), loggedBy(opts)
			s := peer.Start(t, opts)
			c := s.Connect(t)
			conn := peer.Get(t, added)
			end.do(s, c, conn)
			attrs := nextLogged(t, records, end.text)
			require.Equal(t, int64(conn), attrs["conn"].Int64())
			require.Equal(t, uint64(4711), attrs["user"].Uint64())
			if end.text == "websocket: connection ends" {
				require.Equal(t, end.kind.String(), attrs["kind"].String())
				require.Positive(t, attrs["duration"].Duration())
				require.Less(t, attrs["duration"].Duration(), time.Since(began)) // and not since the process started
			}
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
			opts := new(websocket.ServerOptions)
			records := loggedBy(opts)
			s := &peer.Server{Server: websocket.NewServer(peer.Quiet(opts)), T: t}
			s.ServeOn(ln)
			c := s.Connect(t)
			want := c.LocalAddr().String()
			c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
			if attrs := nextLogged(t, records, "websocket: connection ends"); network == "tcp6" {
				require.Equal(t, want, attrs["address"].String())
			} else {
				require.NotContains(t, attrs, "received", "this is not TCP")
			}
			s.StopAndWait(t)
		}
	})
}

// TestLogOfBytes has the records say how much TCP has carried, where the system counts that.
func TestLogOfBytes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell")
	}
	const closeFrame = 4 // with a code
	text := websocket.NewFrameText(true, make([]byte, 1000))
	for _, row := range []struct {
		name           string
		text           string // of the record
		opts           websocket.ServerOptions
		do             func(s *peer.Server)
		received, sent int
	}{
		{"the client closes", "websocket: connection ends", websocket.ServerOptions{HandleText: peer.Echo}, func(s *peer.Server) {
			c := s.Connect(s.T)
			c.Send(text)
			c.Expect(websocket.OpcodeText, string(make([]byte, 1000)))
			c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
		}, len(peer.Request) + len(text) + 4 + closeFrame, len(peer.Accepted) + len(text) - 4 + closeFrame},
		{"the client is reset", "websocket: connection ends", websocket.ServerOptions{}, func(s *peer.Server) {
			s.Connect(s.T).Reset()
		}, len(peer.Request), len(peer.Accepted)},
		{"the client takes nothing", "websocket: connection ends", websocket.ServerOptions{WriteTimeout: 20 * time.Millisecond}, func(s *peer.Server) {
			s.Connect(s.T)
			require.True(s.T, peer.Eventually(func() bool { return s.Clients.Len() == 1 }))
			for conn := s.Clients.All()[0]; websocket.TrySend(conn, websocket.NewFrameBin(false, make([]byte, 1<<16))) == nil; {
			}
		}, len(peer.Request), -1},
		{"a handshake is refused", "websocket: handshake refused", websocket.ServerOptions{}, func(s *peer.Server) {
			s.Dial(s.T).Send([]byte(strings.Replace(peer.Request, "GET /", "GET /no", 1)))
		}, len(peer.Request) + len("no"), 0},
		{"no handshake comes", "websocket: handshake ends", websocket.ServerOptions{HandshakeTimeout: 20 * time.Millisecond}, func(s *peer.Server) {
			s.Dial(s.T)
		}, 0, 0},
	} {
		t.Run("if "+row.name, func(t *testing.T) {
			opts := row.opts
			records := loggedBy(&opts)
			s := peer.Start(t, &opts)
			row.do(s)
			attrs := nextLogged(t, records, row.text)
			require.EqualValues(t, row.received, attrs["received"].Uint64())
			if row.sent >= 0 {
				require.EqualValues(t, row.sent, attrs["sent"].Uint64())
			} else {
				require.Greater(t, attrs["sent"].Uint64(), uint64(len(peer.Accepted)+1000), "what the system has taken, arrived or not")
			}
		})
	}
}
