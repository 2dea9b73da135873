//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// TestShutdownByHandler has a handler of each kind wait for a Shutdown that waits for the handler, until its context ends.
func TestShutdownByHandler(t *testing.T) {
	join := func(t *testing.T, s *peer.Server) {
		c := s.Dial(t)
		c.Send([]byte(peer.Request))
		c.Leave()
	}
	says := func(frame []byte) func(t *testing.T, s *peer.Server) {
		return func(t *testing.T, s *peer.Server) {
			c := s.Connect(t)
			c.Send(frame)
			c.Leave()
		}
	}
	asks := func(path string) func(t *testing.T, s *peer.Server) {
		return func(t *testing.T, s *peer.Server) {
			c := s.Dial(t)
			c.Send([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
			c.Leave()
		}
	}
	closes := says(websocket.NewFrameClose(true, 1000, nil))
	type opts = websocket.ServerOptions
	for _, row := range []struct {
		name string
		set  func(o *opts, end func())
		does func(t *testing.T, s *peer.Server)
		cut  websocket.ShutdownError
	}{
		{"HandleAuth", func(o *opts, end func()) {
			o.HandleAuth = func(*websocket.Handshake) (context.Context, error) { end(); return nil, nil }
		}, join, websocket.ShutdownError{Handshakes: 1}},
		{"HandleStatus", func(o *opts, end func()) { o.HandleStatus = func() (string, []byte) { end(); return "", nil } }, asks("/status"), websocket.ShutdownError{Handshakes: 1}},
		{"HandleClientAdd", func(o *opts, end func()) { o.HandleClientAdd = func(context.Context, int) { end() } }, join, websocket.ShutdownError{Connections: 1}},
		{"HandleText", func(o *opts, end func()) { o.HandleText = func(int, []byte) { end() } }, says(websocket.NewFrameText(true, nil)), websocket.ShutdownError{Connections: 1}},
		{"HandleBin", func(o *opts, end func()) { o.HandleBin = func(int, []byte) { end() } }, says(websocket.NewFrameBin(true, nil)), websocket.ShutdownError{Connections: 1}},
		{"HandleClientRemove", func(o *opts, end func()) { o.HandleClientRemove = func(context.Context, int) { end() } }, closes, websocket.ShutdownError{Connections: 1}},
		{"OnClose", func(o *opts, end func()) {
			o.OnClose = func(websocket.ConnInfo, websocket.CloseCause) { end() }
		}, closes, websocket.ShutdownError{Connections: 1}},
		{"Handler", func(o *opts, end func()) {
			o.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { end() })
		}, asks("/page"), websocket.ShutdownError{Requests: 1}},
		{"GetCertificate, which it does not wait for", func(o *opts, end func()) {
			o.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { end(); return nil, errors.New("none") }}
		}, func(t *testing.T, s *peer.Server) {
			c := s.DialPlain(t)
			c.Send(peer.ClientHello(nil))
			c.Leave()
		}, websocket.ShutdownError{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var s *peer.Server
			o, result, begun := &opts{WriteTimeout: 50 * time.Millisecond}, make(chan error, 1), make(chan struct{})
			row.set(o, func() {
				<-begun
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
				defer cancel()
				result <- s.Shutdown(ctx)
			})
			s = peer.Start(t, o)
			close(begun)
			row.does(t, s)
			err := peer.Get(t, result)
			require.NoError(t, peer.Get(t, s.Served))
			s.Served = nil
			if row.cut == (websocket.ShutdownError{}) {
				require.NoError(t, err)
				return
			}
			row.cut.Cause = context.DeadlineExceeded
			require.Equal(t, &row.cut, err)
		})
	}
}

// TestShutdownCutsEveryWay counts connections that came in any way.
func TestShutdownCutsEveryWay(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			opts := new(websocket.ServerOptions)
			inside, release := held(opts)
			m := way.mount(t, opts)
			peer.Release(t, release)
			for i := range 3 {
				c := m.connect(t)
				if i > 0 {
					c.Text("x")
					peer.Get(t, inside)
				}
				c.Leave()
			}
			ctx, cancel := context.WithCancel(t.Context())
			result := shutDown(ctx, m.Server)
			departed(t, m.Server)
			cancel()
			cut := cutOff(t, result, context.Canceled)
			assert.GreaterOrEqual(t, cut.Connections, 2, "the handlers of those run")
			assert.LessOrEqual(t, cut.Connections, 3, "the other one may have had the time to end")
			assert.Zero(t, cut.Handshakes+cut.Requests)
		})
	}
}

// curiousContext is a context of which each method asks the server for something.
type curiousContext struct {
	context.Context
	serv *websocket.Server
}

func (ctx curiousContext) Deadline() (time.Time, bool) {
	ctx.serv.Stats()
	return ctx.Context.Deadline()
}
func (ctx curiousContext) Done() <-chan struct{} { ctx.serv.Addr(); return ctx.Context.Done() }
func (ctx curiousContext) Err() error            { ctx.serv.Stats(); return ctx.Context.Err() }

func TestShutdownOfContexts(t *testing.T) {
	t.Run("its methods may call the server", func(t *testing.T) {
		s := peer.Start(t, nil)
		s.Connect(t).Leave()
		require.NoError(t, peer.Get(t, shutDown(curiousContext{t.Context(), s.Server}, s.Server)))
	})
	t.Run("none panics, and does nothing else", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
		var none context.Context
		assert.Panics(t, func() { s.Shutdown(none) })
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
	})
	t.Run("one with little time spreads over a part of it, and cuts off nobody who leaves", func(t *testing.T) {
		s := peer.Start(t, nil)
		for range 20 {
			s.Connect(t).Leave()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
	})
	t.Run("a server that was never started refuses until it is", func(t *testing.T) {
		s := &peer.Server{Server: websocket.NewServer(peer.Quiet(nil)), T: t}
		require.NoError(t, s.Shutdown(t.Context()))
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, statsUpgrade(t))
		require.Equal(t, http.StatusServiceUnavailable, answer.Code)
		s.Launch(t)
		s.Connect(t)
	})
}

// hostile are clients that make it hard for a server to come to an end. What they do in the background ends with their connection.
var hostile = []struct {
	name string
	does func(t *testing.T, s *peer.Server)
}{
	{"never answers the Close frame", func(t *testing.T, s *peer.Server) { s.Connect(t) }},
	{"sends for as long as it can", func(t *testing.T, s *peer.Server) {
		c, frames := s.Connect(t), slicesRepeat(websocket.NewFrameText(true, make([]byte, 100)), 100)
		go func() {
			for _, err := c.Write(frames); err == nil; {
				_, err = c.Write(frames)
			}
		}()
		go io.Copy(io.Discard, c.Reader)
	}},
	{"answers everything with Pings", func(t *testing.T, s *peer.Server) {
		c := s.Connect(t)
		c.Send(websocket.NewFramePing(true, nil))
		go func() {
			for b := make([]byte, 1); ; {
				if _, err := io.ReadFull(c.Reader, b); err != nil {
					return
				}
				if _, err := c.Write(websocket.NewFramePing(true, b)); err != nil {
					return
				}
			}
		}()
	}},
	{"takes nothing", func(t *testing.T, s *peer.Server) {
		c := s.Connect(t)
		go func() {
			for frame := websocket.NewFrameText(true, make([]byte, 1<<16)); ; {
				if _, err := c.Write(frame); err != nil {
					return
				}
			}
		}()
	}},
	{"has sent half a header", func(t *testing.T, s *peer.Server) { s.Connect(t).Send([]byte{0x81}) }},
	{"has sent half a message", func(t *testing.T, s *peer.Server) {
		s.Connect(t).Send(websocket.NewFrameText(true, make([]byte, 1<<16))[:1<<15])
	}},
	{"does not end its message", func(t *testing.T, s *peer.Server) {
		s.Connect(t).Send([]byte{0x01, 0x81, 0, 0, 0, 0, 'h'})
	}},
	{"has sent half a request", func(t *testing.T, s *peer.Server) { s.Dial(t).Send([]byte(peer.Request[:50])) }},
	{"has sent nothing", func(t *testing.T, s *peer.Server) { s.DialPlain(t) }},
	{"has sent half a TLS record, or what is none", func(t *testing.T, s *peer.Server) {
		s.DialPlain(t).Send(peer.ClientHello(nil)[:100])
	}},
}

// besieged is a server in the middle of a Shutdown, with every hostile client, and one that keeps the rules.
type besieged struct {
	*peer.Server
	good    *peer.Conn
	release func()
	result  <-chan error
}

func besiege(t *testing.T, opts *websocket.ServerOptions) (s besieged) {
	t.Helper()
	began, release := make(chan struct{}, 1), make(chan struct{})
	opts.WriteTimeout = 200 * time.Millisecond
	opts.HandleText = func(conn int, p []byte) {
		if string(p) == "good" {
			began <- struct{}{}
			<-release
		}
		peer.Echo(conn, p)
	}
	s.Server = peer.Start(t, opts)
	s.release = peer.Release(t, release)
	for _, client := range hostile {
		client.does(t, s.Server)
	}
	s.good = s.Connect(t)
	s.good.Text("good")
	peer.Get(t, began)
	s.result = shutDown(t.Context(), s.Server.Server)
	departed(t, s.Server.Server)
	return s
}

// TestShutdownOfHostileClients has all of them at once, and others that come again and again.
func TestShutdownOfHostileClients(t *testing.T) {
	servers := []besieged{besiege(t, new(websocket.ServerOptions)), besiege(t, &websocket.ServerOptions{TLSConfig: peer.ServerTLS()})}
	var over atomic.Bool
	var comers sync.WaitGroup
	t.Cleanup(func() { over.Store(true); comers.Wait() })
	for _, s := range servers {
		for range 4 {
			comers.Go(func() {
				for !over.Load() {
					if err := comesLate(s.Server); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	for _, s := range servers {
		require.Empty(t, s.result)
		s.release()
		s.good.ExpectText("good")
		s.good.ExpectClose(websocket.StatusGone)
	}
	for _, s := range servers {
		require.NoError(t, peer.Get(t, s.result), "what takes nothing ends by itself")
		stats, ended := s.Stats(), uint64(0)
		assert.Equal(t, websocket.Phases{}, stats.Connections)
		for _, e := range stats.Ended {
			ended += e.Count
		}
		assert.Equal(t, stats.Opened, ended)
	}
}

// comesLate asks for a connection, and fails if it is given one.
func comesLate(s *peer.Server) error {
	c, err := s.Open()
	if err != nil {
		return nil // the listener is closed
	}
	defer c.Close()
	if _, err = io.WriteString(c, peer.Request); err != nil {
		return nil
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "HTTP/1.1 503 ") {
		return fmt.Errorf("one that came late was told %q", line)
	}
	return nil
}

// TestShutdownBesideAnything calls whatever begins or ends a server at the same time.
func TestShutdownBesideAnything(t *testing.T) {
	s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, Handler: page()})
	var asked atomic.Uint64 // by ServeHTTP
	for range 20 {
		for range 4 {
			s.Connect(t).Leave()
		}
		calls := []func(){
			s.Stop, s.CloseListener,
			func() { s.Stats() },
			func() { s.Metrics() },
			func() { s.ServeHTTP(httptest.NewRecorder(), statsUpgrade(t)); asked.Add(1) },
			func() {
				if c, err := s.Join(); err == nil {
					c.Leave()
				}
			},
		}
		for range 4 {
			calls = append(calls, func() {
				ctx, cancel := context.WithTimeout(context.Background(), rand.N(10*time.Millisecond))
				defer cancel()
				var cut *websocket.ShutdownError
				if err := s.Shutdown(ctx); err != nil && (!errors.As(err, &cut) || cut.Connections > 5 || cut.Requests > 0) {
					t.Error(err)
				}
			})
		}
		rand.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
		peer.All(t, len(calls), func(i int) error { calls[i](); return nil })
		require.NoError(t, peer.Get(t, s.Served))
		stats := s.Stats()
		require.Equal(t, websocket.Phases{}, stats.Connections)
		ended, refused := uint64(0), uint64(0)
		for _, e := range stats.Ended {
			ended += e.Count
		}
		for _, r := range stats.Refused {
			refused += r.Count
		}
		require.Equal(t, stats.Opened, ended)
		require.Equal(t, stats.Accepted+asked.Load(), stats.Opened+refused, "each handshake was opened or refused")
		s.Restart(t)
	}
}
