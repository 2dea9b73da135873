//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestServerOptionsCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		opts ServerOptions
		says string // in the error; empty: it starts
	}{
		{"a ConnectPath without a slash in front", ServerOptions{ConnectPath: "ws"}, `ConnectPath "ws"`},
		{"a ConnectPath with a query", ServerOptions{ConnectPath: "/ws?v=1"}, `ConnectPath "/ws?v=1"`},
		{"a ConnectPath with a fragment", ServerOptions{ConnectPath: "/ws#1"}, `ConnectPath "/ws#1"`},
		{"a ConnectPath that is a URL", ServerOptions{ConnectPath: "ws://example.com/"}, "ConnectPath"},
		{"a StatusPath without a slash in front", ServerOptions{StatusPath: "status"}, `StatusPath "status"`},
		{"a StatusPath with a query", ServerOptions{StatusPath: "/status?"}, `StatusPath "/status?"`},
		{"a StatusPath that is the default ConnectPath", ServerOptions{StatusPath: "/"}, `both "/"`},
		{"a StatusPath that is ConnectPath", ServerOptions{ConnectPath: "/ws", StatusPath: "/ws"}, `both "/ws"`},
		{"a MaxHeaderSize below every handshake", ServerOptions{MaxHeaderSize: len(leastHandshake)}, "MaxHeaderSize"},
		{"a MaxHeaderSize that has room for the default path only", ServerOptions{ConnectPath: "/ws", MaxHeaderSize: len(leastHandshake) + 2}, "MaxHeaderSize"},
		{"MaxHeaderFields below every handshake", ServerOptions{MaxHeaderFields: leastFields - 1}, "MaxHeaderFields"},
		{"the defaults", ServerOptions{}, ""},
		{"a StatusPath in front of ConnectPath", ServerOptions{ConnectPath: "/ws", StatusPath: "/"}, ""},
		{"paths with slashes at their ends", ServerOptions{ConnectPath: "/ws/", StatusPath: "/ws"}, ""},
		{"paths with blanks, letters beyond ASCII and dots", ServerOptions{ConnectPath: "/a b/é", StatusPath: "/../x"}, ""},
		{"the smallest limits under which a handshake goes", ServerOptions{MaxHeaderSize: len(leastHandshake) + 1, MaxHeaderFields: leastFields}, ""},
	} {
		what := " is an error of Start"
		if c.says == "" {
			what = " start"
		}
		t.Run(c.name+what, func(t *testing.T) {
			if c.says == "" {
				s := startServer(t, &c.opts)
				conn := s.dial(t)
				path := strings.NewReplacer(" ", "%20", "é", "%C3%A9").Replace(s.Options.ConnectPath)
				conn.send([]byte(strings.Replace(leastHandshake, "GET ", "GET "+path, 1)))
				status, err := conn.r.ReadString('\n')
				require.NoError(t, err)
				require.Contains(t, status, " 101 ")
				return
			}
			checkGoroutines(t)
			checkDescriptors(t)
			c.opts.Address = "127.0.0.1:0"
			s := NewServer(rawQuiet(&c.opts))
			started := make(chan error, 1)
			go func() { started <- s.Start() }()
			assert.ErrorContains(t, rawGet(t, started), c.says)
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
	handler := func(context.Context, *Request) (res Response) { return res }
	type logger = <-chan logged
	start := func(t *testing.T, opts *ServerOptions, before func(s *Server)) (*rawServer, logger) {
		records := loggedBy(opts)
		checkGoroutines(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		s := &rawServer{Server: NewServer(rawQuiet(opts)), t: t}
		before(s.Server)
		s.serve(ln)
		t.Cleanup(func() { s.stop(t) })
		return s, records
	}
	warnings := func(t *testing.T, s *rawServer, records logger) (n int) {
		s.stop(t) // when that is done the log has all
		for len(records) > 0 {
			if r := <-records; r.text == textUnroutable {
				n++
			}
		}
		return n
	}
	register := func(t *testing.T, s *Server, target string) {
		require.NoError(t, s.RegisterTextHandler("GET", target, handler))
	}
	t.Run("routes beside a HandleText are a warning at Start, one for all", func(t *testing.T) {
		s, records := start(t, &ServerOptions{HandleText: rawEcho}, func(s *Server) { register(t, s, "/a"); register(t, s, "/b") })
		register(t, s.Server, "/c")
		assert.Equal(t, 1, warnings(t, s, records))
		s.restart(t)
		assert.Equal(t, 1, warnings(t, s, records), "after another Start")
	})
	t.Run("a route that is registered later is one, once", func(t *testing.T) {
		s, records := start(t, &ServerOptions{HandleText: rawEcho}, func(*Server) {})
		register(t, s.Server, "/a")
		register(t, s.Server, "/b")
		assert.Equal(t, 1, warnings(t, s, records))
	})
	t.Run("a HandleText without routes is none", func(t *testing.T) {
		s, records := start(t, &ServerOptions{HandleText: rawEcho}, func(s *Server) {
			assert.Error(t, s.RegisterTextHandler("GET", "refused", handler))
		})
		assert.Zero(t, warnings(t, s, records))
	})
	t.Run("routes with the router are none", func(t *testing.T) {
		s, records := start(t, &ServerOptions{}, func(s *Server) { register(t, s, "/a") })
		register(t, s.Server, "/b")
		assert.Zero(t, warnings(t, s, records))
	})
	t.Run("a HandleText that may call the router is none", func(t *testing.T) {
		s, records := start(t, &ServerOptions{}, func(s *Server) {
			register(t, s, "/a")
			router := s.Options.HandleText
			s.Options.HandleText = func(conn int, payload []byte) { router(conn, payload) }
		})
		assert.Zero(t, warnings(t, s, records))
	})
	t.Run("it is at level warn", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho, Logger: slog.New(slog.DiscardHandler)}
		var got []slog.Level
		done := make(chan struct{})
		opts.Logger = slog.New(levelFunc(func(level slog.Level) { got = append(got, level); close(done) }))
		s := &rawServer{Server: NewServer(rawQuiet(opts)), t: t}
		register(t, s.Server, "/a")
		s.restart(t)
		rawDone(t, done)
		s.stop(t)
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
