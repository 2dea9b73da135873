//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// leastHandshake is a complete opening handshake that could not be shorter but for its path, and leastFields how many fields it has.
const (
	leastHandshake = "GET  HTTP/1.1\r\nHost:a\r\nConnection:upgrade\r\nUpgrade:websocket\r\n" +
		"Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version:13\r\n\r\n"
	leastFields = 5
)

func TestServerOptionsCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		opts websocket.ServerOptions
		says string // in the error; empty: it starts
	}{
		{"a ConnectPath without a slash in front", websocket.ServerOptions{ConnectPath: "ws"}, `ConnectPath "ws"`},
		{"a ConnectPath with a query", websocket.ServerOptions{ConnectPath: "/ws?v=1"}, `ConnectPath "/ws?v=1"`},
		{"a ConnectPath with a fragment", websocket.ServerOptions{ConnectPath: "/ws#1"}, `ConnectPath "/ws#1"`},
		{"a ConnectPath that is a URL", websocket.ServerOptions{ConnectPath: "ws://example.com/"}, "ConnectPath"},
		{"a StatusPath without a slash in front", websocket.ServerOptions{StatusPath: "status"}, `StatusPath "status"`},
		{"a StatusPath with a query", websocket.ServerOptions{StatusPath: "/status?"}, `StatusPath "/status?"`},
		{"a StatusPath that is the default ConnectPath", websocket.ServerOptions{StatusPath: "/"}, `both "/"`},
		{"a StatusPath that is ConnectPath", websocket.ServerOptions{ConnectPath: "/ws", StatusPath: "/ws"}, `both "/ws"`},
		{"a MaxHeaderSize below every handshake", websocket.ServerOptions{MaxHeaderSize: len(leastHandshake)}, "MaxHeaderSize"},
		{"a MaxHeaderSize that has room for the default path only", websocket.ServerOptions{ConnectPath: "/ws", MaxHeaderSize: len(leastHandshake) + 2}, "MaxHeaderSize"},
		{"MaxHeaderFields below every handshake", websocket.ServerOptions{MaxHeaderFields: leastFields - 1}, "MaxHeaderFields"},
		{"the defaults", websocket.ServerOptions{}, ""},
		{"a StatusPath in front of ConnectPath", websocket.ServerOptions{ConnectPath: "/ws", StatusPath: "/"}, ""},
		{"a StatusPath that differs from ConnectPath by a slash at the end", websocket.ServerOptions{ConnectPath: "/ws/", StatusPath: "/ws"}, `both "/ws"`},
		{"a StatusPath that differs from ConnectPath by the name of a parameter", websocket.ServerOptions{ConnectPath: "/ws/:a", StatusPath: "/ws/:b"}, `both "/ws/:a"`},
		{"a ConnectPath with a nameless parameter", websocket.ServerOptions{ConnectPath: "/ws/:/x"}, `ConnectPath "/ws/:/x"`},
		{"a ConnectPath with two parameters of one name", websocket.ServerOptions{ConnectPath: "/:a/:b/:a"}, "two parameters :a"},
		{"a StatusPath with two parameters of one name", websocket.ServerOptions{StatusPath: "/:a/:a"}, "two parameters :a"},
		{"a ConnectPath that is percent-encoded", websocket.ServerOptions{ConnectPath: "/a%20b"}, `ConnectPath "/a%20b"`},
		{"a ConnectPath with a line break", websocket.ServerOptions{ConnectPath: "/ws\n"}, `ConnectPath "/ws\n"`},
		{"an Origin with a path", websocket.ServerOptions{Origins: []string{"https://example.com/"}}, `Origins: "https://example.com/"`},
		{"an Origin without a scheme", websocket.ServerOptions{Origins: []string{"null", "example.com"}}, `Origins: "example.com"`},
		{"a wildcard alone", websocket.ServerOptions{Origins: []string{"*"}}, `Origins: "*"`},
		{"a subprotocol that is no token", websocket.ServerOptions{Subprotocols: []string{"v1", "a b"}}, `Subprotocols: "a b"`},
		{"a subprotocol twice", websocket.ServerOptions{Subprotocols: []string{"v1", "v1"}}, `Subprotocols has "v1" twice`},
		{"a MaxHeaderSize that has no room for a value", websocket.ServerOptions{ConnectPath: "/:station", MaxHeaderSize: len(leastHandshake) + 1}, "MaxHeaderSize"},
		{"paths with slashes at their ends", websocket.ServerOptions{ConnectPath: "/ws/", StatusPath: "/"}, ""},
		{"paths with parameters", websocket.ServerOptions{ConnectPath: "/:a/x", StatusPath: "/y/:a"}, ""},
		{"a percent sign", websocket.ServerOptions{ConnectPath: "/100%"}, ""},
		{"the smallest limit under which a value goes", websocket.ServerOptions{ConnectPath: "/:station", MaxHeaderSize: len(leastHandshake) + 2}, ""},
		{"paths with blanks, letters beyond ASCII and dots", websocket.ServerOptions{ConnectPath: "/a b/é", StatusPath: "/../x"}, ""},
		{"the smallest limits under which a handshake goes", websocket.ServerOptions{MaxHeaderSize: len(leastHandshake) + 1, MaxHeaderFields: leastFields}, ""},
	} {
		what := " is an error of Start"
		if c.says == "" {
			what = " start"
		}
		t.Run(c.name+what, func(t *testing.T) {
			if c.says == "" {
				s := peer.Start(t, &c.opts)
				conn := s.Dial(t)
				path := strings.NewReplacer(" ", "%20", "é", "%C3%A9", "%", "%25", ":station", "x").Replace(s.Options.ConnectPath)
				conn.Send([]byte(strings.Replace(leastHandshake, "GET ", "GET "+path, 1)))
				status, err := conn.Reader.ReadString('\n')
				require.NoError(t, err)
				require.Contains(t, status, " 101 ")
				return
			}
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			c.opts.Address = "127.0.0.1:0"
			s := websocket.NewServer(peer.Quiet(&c.opts))
			started := make(chan error, 1)
			go func() { started <- s.Start() }()
			assert.ErrorContains(t, peer.Get(t, started), c.says)
			assert.Nil(t, s.Addr())
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			assert.ErrorContains(t, s.Serve(ln), c.says)
			_, err = ln.Accept()
			assert.Error(t, err, "the listener is closed")
		})
	}
}

func TestWarningOfRoutes(t *testing.T) {
	handler := func(context.Context, *websocket.Request) (res websocket.Response) { return res }
	type logger = <-chan logged
	start := func(t *testing.T, opts *websocket.ServerOptions, before func(s *websocket.Server)) (*peer.Server, logger) {
		records := loggedBy(opts)
		peer.CheckGoroutines(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		s := &peer.Server{Server: websocket.NewServer(peer.Quiet(opts)), T: t}
		before(s.Server)
		s.ServeOn(ln)
		t.Cleanup(func() { s.StopAndWait(t) })
		return s, records
	}
	warnings := func(t *testing.T, s *peer.Server, records logger) (n int) {
		s.StopAndWait(t) // when that is done the log has all
		for len(records) > 0 {
			if r := <-records; r.text == "websocket: registered routes are never called: HandleText is set, and is not the router" {
				n++
			}
		}
		return n
	}
	register := func(t *testing.T, s *websocket.Server, target string) {
		require.NoError(t, s.RegisterTextHandler("GET", target, handler))
	}
	t.Run("routes beside a HandleText are a warning at Start, one for all", func(t *testing.T) {
		s, records := start(t, &websocket.ServerOptions{HandleText: peer.Echo}, func(s *websocket.Server) { register(t, s, "/a"); register(t, s, "/b") })
		register(t, s.Server, "/c")
		assert.Equal(t, 1, warnings(t, s, records))
		s.Restart(t)
		assert.Equal(t, 1, warnings(t, s, records), "after another Start")
	})
	t.Run("a route that is registered later is one, once", func(t *testing.T) {
		s, records := start(t, &websocket.ServerOptions{HandleText: peer.Echo}, func(*websocket.Server) {})
		register(t, s.Server, "/a")
		register(t, s.Server, "/b")
		assert.Equal(t, 1, warnings(t, s, records))
	})
	t.Run("a HandleText without routes is none", func(t *testing.T) {
		s, records := start(t, &websocket.ServerOptions{HandleText: peer.Echo}, func(s *websocket.Server) {
			assert.Error(t, s.RegisterTextHandler("GET", "refused", handler))
		})
		assert.Zero(t, warnings(t, s, records))
	})
	t.Run("routes with the router are none", func(t *testing.T) {
		s, records := start(t, &websocket.ServerOptions{}, func(s *websocket.Server) { register(t, s, "/a") })
		register(t, s.Server, "/b")
		assert.Zero(t, warnings(t, s, records))
	})
	t.Run("a HandleText that may call the router is none", func(t *testing.T) {
		s, records := start(t, &websocket.ServerOptions{}, func(s *websocket.Server) {
			register(t, s, "/a")
			router := s.Options.HandleText
			s.Options.HandleText = func(conn int, payload []byte) { router(conn, payload) }
		})
		assert.Zero(t, warnings(t, s, records))
	})
	t.Run("it is at level warn", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo, Logger: slog.New(slog.DiscardHandler)}
		var got []slog.Level
		done := make(chan struct{})
		opts.Logger = slog.New(levelFunc(func(level slog.Level) { got = append(got, level); close(done) }))
		s := &peer.Server{Server: websocket.NewServer(peer.Quiet(opts)), T: t}
		register(t, s.Server, "/a")
		s.Restart(t)
		peer.Done(t, done)
		s.StopAndWait(t)
		assert.Equal(t, []slog.Level{slog.LevelWarn}, got)
	})
}

// levelFunc is a log that is told the levels of its records.
type levelFunc func(level slog.Level)

func (f levelFunc) Enabled(context.Context, slog.Level) bool { return true }
func (f levelFunc) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f levelFunc) WithGroup(string) slog.Handler            { return f }

func (f levelFunc) Handle(_ context.Context, r slog.Record) error {
	f(r.Level)
	return nil
}
