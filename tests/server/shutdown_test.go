//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// shutDown begins a Shutdown, and returns what it returns.
func shutDown(ctx context.Context, serv *websocket.Server) <-chan error {
	result := make(chan error, 1)
	go func() { result <- serv.Shutdown(ctx) }()
	return result
}

// departed waits until no connection is open, and then for the server to refuse others.
func departed(t *testing.T, serv *websocket.Server) {
	t.Helper()
	require.True(t, peer.Eventually(func() bool { return serv.Clients.Len() == 0 }))
}

// held is a HandleText that answers once it is released.
func held(opts *websocket.ServerOptions) (inside <-chan struct{}, release chan struct{}) {
	began, release := make(chan struct{}, 1<<10), make(chan struct{})
	opts.HandleText = func(conn int, payload []byte) {
		began <- struct{}{}
		<-release
		peer.Echo(conn, payload)
	}
	return began, release
}

// testShutdown has messages answered that were read before, however they came, and whoever comes meanwhile refused.
func (in *entrance) testShutdown(t *testing.T) {
	opts := &websocket.ServerOptions{ConnectPath: room}
	removed, all := peer.Removed(opts), toldBy(opts)
	inside, release := held(opts)
	m := in.mount(t, opts)
	now := peer.Release(t, release)
	c, answer := in.ask(t, m, blueRoom)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	for _, s := range []string{"a", "b", "c"} {
		c.Text(s)
	}
	c.Send(websocket.NewFramePing(true, nil)) // its Pong does not wait for the handler: all has been read
	c.Expect(websocket.OpcodePong, "")
	peer.Get(t, inside)
	result := shutDown(t.Context(), m.Server)
	departed(t, m.Server)
	header, _ := in.refused(t, m, http.StatusServiceUnavailable)
	if !in.stream {
		assert.Equal(t, "10", header.Get("Retry-After"))
	}
	require.Empty(t, result)
	require.Empty(t, removed)
	now()
	for _, s := range []string{"a", "b", "c"} {
		c.ExpectText(s)
	}
	c.Expect(websocket.OpcodeClose, peer.CloseBody(websocket.StatusGone, ""))
	require.NoError(t, c.ReadToEnd())
	c.Close()
	require.NoError(t, peer.Get(t, result))
	peer.Get(t, removed)
	assert.Equal(t, websocket.CloseCause{Code: websocket.StatusGone, Kind: websocket.ClosedShutdown}, peer.Get(t, all).cause)
}

func TestShutdown(t *testing.T) {
	t.Run("a server that does not run has nothing to shut down", func(t *testing.T) {
		s := peer.Start(t, nil)
		require.NoError(t, s.Shutdown(t.Context()))
		require.NoError(t, peer.Get(t, s.Served))
		require.NoError(t, s.Shutdown(t.Context()))
		require.NoError(t, websocket.NewServer(nil).Shutdown(t.Context()))
		s.Served = nil
	})
	t.Run("it may be started again, and shut down again", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
		for range 5 {
			c := s.Connect(t)
			c.Text("x")
			c.ExpectText("x")
			result := shutDown(t.Context(), s.Server)
			c.ExpectClose(websocket.StatusGone)
			require.NoError(t, peer.Get(t, result))
			require.NoError(t, peer.Get(t, s.Served))
			require.Nil(t, s.Addr())
			s.Restart(t)
		}
	})
	t.Run("the oldest connection is closed first", func(t *testing.T) {
		const conns = 40
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one loop
		opts := &websocket.ServerOptions{ShutdownSpread: conns * time.Millisecond}
		all, added := toldBy(opts), peer.Added(opts)
		s := peer.Start(t, opts)
		var ids []uint64
		for range conns {
			s.Connect(t).Leave()
			ids = append(ids, websocket.ID(peer.Get(t, added)))
		}
		require.NoError(t, s.Shutdown(t.Context()))
		for _, id := range ids {
			require.Equal(t, id, peer.Get(t, all).info.ID)
		}
	})
	t.Run("connections whose turn has not come go on", func(t *testing.T) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
		ctx, cancel := context.WithCancel(t.Context())
		var conns []*peer.Conn
		for range 200 { // the last one's turn is in two seconds
			conns = append(conns, s.Connect(t))
		}
		result := shutDown(ctx, s.Server)
		conns[0].ExpectClose(websocket.StatusGone)
		last := conns[len(conns)-1]
		last.Text("x")
		last.ExpectText("x")
		cancel()
		last.ExpectClose(websocket.StatusGone)
		cut := cutOff(t, result, context.Canceled)
		assert.Positive(t, cut.Connections)
		assert.Less(t, cut.Connections, len(conns))
	})
	t.Run("Start, Serve and ServeHTTP start nothing meanwhile", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		inside, release := held(opts)
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c := s.Connect(t)
		c.Text("x")
		peer.Get(t, inside)
		result := shutDown(t.Context(), s.Server)
		departed(t, s.Server)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(ln), websocket.ErrServerRunning)
		now()
		c.ExpectText("x")
		c.ExpectClose(websocket.StatusGone)
		require.NoError(t, peer.Get(t, result))
	})
	t.Run("two at the same time end together", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		inside, release := held(opts)
		s := peer.Start(t, opts)
		peer.Release(t, release)
		c := s.Connect(t)
		c.Text("x")
		peer.Get(t, inside)
		ctx, cancel := context.WithCancel(t.Context())
		long, short := shutDown(t.Context(), s.Server), shutDown(ctx, s.Server)
		departed(t, s.Server)
		c.Leave()
		cancel()
		require.ErrorIs(t, peer.Get(t, short), context.Canceled)
		require.ErrorIs(t, peer.Get(t, long), websocket.ErrServerStopped)
	})
	t.Run("topics and watchers are told", func(t *testing.T) {
		s := peer.Start(t, nil)
		w := s.Clients.Watch()
		defer w.Close()
		c := s.Connect(t)
		require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 1 }))
		require.NoError(t, s.Clients.Subscribe(s.Clients.All()[0], "news"))
		changes, err := w.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"news": true}, changes.Topics)
		c.Leave()
		require.NoError(t, s.Shutdown(t.Context()))
		changes, err = w.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"news": false}, changes.Topics)
	})
}

// TestShutdownPacked has compressed messages that were read, over TLS.
func TestShutdownPacked(t *testing.T) {
	opts := &websocket.ServerOptions{TLSConfig: peer.ServerTLS(), Compression: new(websocket.Compression)}
	inside, release := held(opts)
	s := peer.Start(t, opts)
	now := peer.Release(t, release)
	c := s.Dial(t).Extend("permessage-deflate")
	long := string(peer.Pattern(1000, 1))
	for range 4 {
		c.Pack(websocket.OpcodeText, []byte(long))
	}
	c.Send(websocket.NewFramePing(true, nil))
	peer.Get(t, inside)
	c.Expect(websocket.OpcodePong, "")
	result := shutDown(t.Context(), s.Server)
	departed(t, s.Server)
	now()
	for range 4 {
		c.ExpectMessage(websocket.OpcodeText, long)
	}
	c.ExpectClose(websocket.StatusGone)
	require.NoError(t, peer.Get(t, result))
}

// TestShutdownCuts counts what is left when there is no time left.
func TestShutdownCuts(t *testing.T) {
	const get = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
	release := make(chan struct{})
	auth, text, status, page := make(chan struct{}, 9), make(chan struct{}, 9), make(chan struct{}, 9), make(chan struct{}, 9)
	enter := func(inside chan struct{}) {
		inside <- struct{}{}
		<-release
	}
	s := peer.Start(t, &websocket.ServerOptions{
		WriteTimeout: 50 * time.Millisecond,
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			if req.Header.Get("X-Slow") != "" {
				enter(auth)
			}
			return nil, nil
		},
		HandleText:   func(int, []byte) { enter(text) },
		HandleStatus: func() (string, []byte) { enter(status); return "", nil },
		Handler:      http.HandlerFunc(func(http.ResponseWriter, *http.Request) { enter(page) }),
	})
	peer.Release(t, release)
	for range 2 {
		c := s.Dial(t)
		c.Send([]byte(get))
		c.Leave()
		peer.Get(t, page)
	}
	slow, asks, gone := s.Dial(t), s.Dial(t), s.Connect(t)
	slow.Send([]byte(peer.RequestWith("Host", "Host: localhost\r\nX-Slow: yes")))
	peer.Get(t, auth)
	asks.Send([]byte("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	peer.Get(t, status)
	gone.Text("x")
	peer.Get(t, text)
	gone.Reset()
	departed(t, s.Server)
	for range 3 {
		c := s.Connect(t)
		c.Text("x")
		peer.Get(t, text)
		c.Leave()
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := shutDown(ctx, s.Server)
	departed(t, s.Server)
	cancel()
	cut := cutOff(t, result, context.Canceled)
	assert.Equal(t, &websocket.ShutdownError{Connections: 4, Handshakes: 2, Requests: 2, Cause: context.Canceled}, cut)
	assert.EqualError(t, cut, "websocket: shutdown cut off 4 connections, 2 handshakes and 2 requests: context canceled")
}

// TestShutdownCutShort has every way to end it at once.
func TestShutdownCutShort(t *testing.T) {
	for _, row := range []struct {
		name   string
		before bool // the end comes first
		end    func(s *peer.Server, cancel func())
		cause  error
	}{
		{"its context ends", false, func(_ *peer.Server, cancel func()) { cancel() }, context.Canceled},
		{"its context has ended before", true, func(_ *peer.Server, cancel func()) { cancel() }, context.Canceled},
		{"Stop", false, func(s *peer.Server, _ func()) { s.Stop() }, websocket.ErrServerStopped},
	} {
		t.Run(row.name, func(t *testing.T) {
			opts := new(websocket.ServerOptions)
			inside, release := held(opts)
			s := peer.Start(t, opts)
			peer.Release(t, release)
			for range 3 {
				c := s.Connect(t)
				c.Text("x")
				peer.Get(t, inside)
				c.Leave()
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if row.before {
				row.end(s, cancel)
			}
			result := shutDown(ctx, s.Server)
			departed(t, s.Server)
			if !row.before {
				row.end(s, cancel)
			}
			cut := cutOff(t, result, row.cause)
			assert.Equal(t, 3, cut.Connections)
			require.NoError(t, peer.Get(t, s.Served))
			s.Served = nil
		})
	}
	t.Run("nothing is cut off if nothing is left", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := peer.Start(t, nil)
		s.Dial(t) // it has not asked for anything
		require.NoError(t, s.Shutdown(ctx))
	})
}

// lasting is a server in the middle of a Shutdown, which lasts until its one connection is released.
func lasting(t *testing.T, opts *websocket.ServerOptions, before func(s *peer.Server)) (s *peer.Server, end func()) {
	t.Helper()
	inside, release := held(opts)
	s = peer.Start(t, opts)
	now := peer.Release(t, release)
	c := s.Connect(t)
	c.Text("x")
	peer.Get(t, inside)
	if before != nil {
		before(s)
	}
	result := shutDown(t.Context(), s.Server)
	departed(t, s.Server)
	return s, func() {
		t.Helper()
		require.Empty(t, result, "it did not wait")
		now()
		c.ExpectText("x")
		c.ExpectClose(websocket.StatusGone)
		require.NoError(t, peer.Get(t, result))
	}
}

// TestShutdownRefuses has strangers come meanwhile.
func TestShutdownRefuses(t *testing.T) {
	rows := []struct{ name, request string }{
		{"an opening handshake", peer.Request},
		{"a request for StatusPath", "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"a HEAD request for it", "HEAD /status HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"a request for Handler", "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"a method that only Handler knows", "BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	}
	for _, kind := range []string{"plain", "TLS"} {
		for _, row := range rows {
			t.Run(kind+", "+row.name, func(t *testing.T) {
				opts := &websocket.ServerOptions{Handler: page()}
				if kind == "TLS" {
					opts.TLSConfig = peer.ServerTLS()
				}
				var early *peer.Conn
				s, end := lasting(t, opts, func(s *peer.Server) { early = s.DialPlain(t) })
				if kind == "TLS" {
					early.Secure(s.TLS) // which it did not begin before
				}
				for _, c := range []*peer.Conn{early, s.Dial(t)} {
					c.Send([]byte(row.request))
					answer, err := http.ReadResponse(c.Reader, nil)
					require.NoError(t, err)
					assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
					assert.Equal(t, "10", answer.Header.Get("Retry-After"))
					assert.True(t, answer.Close)
					c.Leave()
				}
				s.Dial(t).Leave() // who asks for nothing is not waited for
				end()
			})
		}
	}
	t.Run("a handshake that HandleAuth accepts meanwhile, which is waited for", func(t *testing.T) {
		asks, release := make(chan struct{}), make(chan struct{})
		opts := new(websocket.ServerOptions)
		all := toldBy(opts)
		opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) {
			close(asks)
			<-release
			return nil, nil
		}
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c := s.Dial(t)
		c.Send([]byte(peer.Request))
		peer.Done(t, asks)
		result := shutDown(t.Context(), s.Server)
		require.True(t, peer.Eventually(func() bool { // else it comes before the Shutdown
			c := s.Dial(t)
			c.Send([]byte("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"))
			status, _, _ := c.Answer()
			return status == "HTTP/1.1 503 server is shutting down"
		}))
		require.Empty(t, result)
		now()
		status, header, _ := c.Answer()
		assert.Equal(t, "HTTP/1.1 503 server is shutting down", status)
		assert.Equal(t, "10", header["Retry-After"])
		require.NoError(t, peer.Get(t, result))
		assert.Empty(t, all)
	})
}

// TestShutdownWaits has handlers of every kind take their time.
func TestShutdownWaits(t *testing.T) {
	for _, kind := range []string{"add", "writer", "text", "remove", "close"} {
		t.Run(kind, func(t *testing.T) {
			inside, release := make(chan struct{}, 1), make(chan struct{})
			enter := func(where string) {
				if where == kind {
					inside <- struct{}{}
					<-release
				}
			}
			s := peer.Start(t, &websocket.ServerOptions{
				AddTimeout: time.Millisecond,
				HandleClientAdd: func(_ context.Context, conn int) {
					if enter("add"); kind == "writer" {
						inside <- struct{}{}
						for websocket.SendText(conn, []byte("tick")) == nil { // until it is closed
							select {
							case <-websocket.Done(conn):
							case <-time.After(time.Millisecond):
							}
						}
						<-release
					}
				},
				HandleText: func(conn int, _ []byte) {
					if enter("text"); kind == "text" {
						websocket.SendText(conn, []byte("late"))
					}
				},
				HandleClientRemove: func(context.Context, int) { enter("remove") },
				OnClose:            func(websocket.ConnInfo, websocket.CloseCause) { enter("close") },
				WriteTimeout:       10 * time.Millisecond, // which is not theirs
			})
			now := peer.Release(t, release)
			c := s.Connect(t)
			c.Text("x")
			if kind == "remove" || kind == "close" {
				left := c.Leave()
				result := shutDown(t.Context(), s.Server)
				peer.Get(t, inside)
				if kind == "close" {
					peer.Done(t, left)
				}
				require.Empty(t, result)
				now()
				require.NoError(t, peer.Get(t, result))
				return
			}
			peer.Get(t, inside)
			result := shutDown(t.Context(), s.Server)
			departed(t, s.Server)
			if kind == "writer" { // neither its Close frame nor its socket waits for it
				code, err := c.CloseCode()
				require.NoError(t, err)
				require.EqualValues(t, websocket.StatusGone, code)
				c.ExpectEOF()
			}
			require.Empty(t, result)
			if now(); kind == "text" {
				c.ExpectText("late")
			}
			c.Leave()
			require.NoError(t, peer.Get(t, result))
		})
	}
}

// TestShutdownOfHandler has requests of Handler end by themselves.
func TestShutdownOfHandler(t *testing.T) {
	asks, release := make(chan struct{}), make(chan struct{})
	handler := page().(*http.ServeMux)
	handler.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		close(asks)
		<-release
		w.Header().Set("X-Asked", r.Method+" "+r.URL.Path)
	})
	taken := make(chan net.Conn, 1)
	handler.HandleFunc("/take", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			taken <- conn
		}
	})
	s := peer.Start(t, &websocket.ServerOptions{Handler: handler})
	now := peer.Release(t, release)
	idle, busy, takes := s.Dial(t), s.Dial(t), s.Dial(t)
	idle.Send([]byte("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	asked(t, idle, "GET", "/page", "")
	busy.Send([]byte("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	peer.Done(t, asks)
	takes.Send([]byte("GET /take HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	mine := peer.Get(t, taken)
	result := shutDown(t.Context(), s.Server)
	idle.ExpectEOF()
	require.Empty(t, result)
	now()
	assert.True(t, asked(t, busy, "GET", "/slow", "").Close)
	busy.ExpectEOF()
	require.Empty(t, result, "Handler has not closed what it has taken")
	mine.Close()
	require.NoError(t, peer.Get(t, result))
}

// TestCloseListener hands the listening socket over to another server, as to another process.
func TestCloseListener(t *testing.T) {
	t.Run("without a listener, or twice, it does nothing", func(t *testing.T) {
		websocket.NewServer(nil).CloseListener()
		s := peer.Start(t, nil)
		c := s.Connect(t)
		s.CloseListener()
		s.CloseListener()
		require.Nil(t, s.Addr())
		_, err := net.Dial(s.Network, s.Address)
		require.Error(t, err)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(ln), websocket.ErrServerRunning)
		require.Empty(t, s.Served)
		c.Send(websocket.NewFramePing(true, nil))
		c.Expect(websocket.OpcodePong, "")
	})
	t.Run("a handler may call it", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		closing := make(chan func(), 1)
		opts.HandleText = func(conn int, payload []byte) {
			(<-closing)()
			peer.Echo(conn, payload)
		}
		s := peer.Start(t, opts)
		closing <- s.CloseListener
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
	})
	t.Run("who was accepted is served, and closed at the end of a Shutdown", func(t *testing.T) {
		opts := &websocket.ServerOptions{Handler: page()}
		var idle, half, asks *peer.Conn
		_, end := lasting(t, opts, func(s *peer.Server) {
			idle, half, asks = s.Dial(t), s.Dial(t), s.Dial(t)
			half.Send([]byte(peer.Request[:50]))
			require.True(t, peer.Eventually(func() bool { return len(s.Sockets()) >= 4 }))
			s.CloseListener()
		})
		half.Send([]byte(peer.Request[50:]))
		idle.Send([]byte(peer.Request))
		for _, c := range []*peer.Conn{half, idle} {
			_, err := io.ReadFull(c.Reader, make([]byte, len(peer.Accepted)))
			require.NoError(t, err)
			c.ExpectClose(websocket.StatusGone)
		}
		asks.Send([]byte("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		assert.True(t, asked(t, asks, "GET", "/page", "").Close)
		asks.ExpectEOF()
		end()
	})
	t.Run("Shutdown waits for who was accepted and has not asked for anything", func(t *testing.T) {
		s := peer.Start(t, nil)
		c := s.Dial(t)
		require.True(t, peer.Eventually(func() bool { return len(s.Sockets()) == 1 }))
		s.CloseListener()
		result := shutDown(t.Context(), s.Server)
		require.True(t, peer.Eventually(func() bool { // ServeHTTP refuses from the beginning of a Shutdown
			m := httptest.NewRecorder()
			s.ServeHTTP(m, httptest.NewRequest("GET", "/status", nil))
			return m.Code == http.StatusServiceUnavailable
		}))
		require.NoError(t, c.Shake())
		c.ExpectClose(websocket.StatusGone)
		require.NoError(t, peer.Get(t, result))
	})
	t.Run("a server that has the same socket gets all that come", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		file, err := ln.(*net.TCPListener).File()
		require.NoError(t, err)
		defer file.Close()
		ln.Close()
		start := func() *peer.Server {
			own, err := net.FileListener(file)
			require.NoError(t, err)
			s := &peer.Server{Server: websocket.NewServer(peer.Quiet(&websocket.ServerOptions{HandleText: peer.Echo})), T: t}
			s.ServeOn(own)
			t.Cleanup(func() { s.StopAndWait(t) })
			return s
		}
		old := start()
		for range 10 {
			c := old.Connect(t)
			next, result := start(), make(chan error, 1)
			go func() {
				old.CloseListener()
				result <- old.Shutdown(t.Context())
			}()
			peer.All(t, 20, func(int) error { return stays(next) })
			c.Leave()
			require.NoError(t, peer.Get(t, result))
			old = next
		}
	})
}

// stays connects until a connection is served. Those that are closed with StatusGone do not count; whatever else happens fails.
func stays(s *peer.Server) error {
	for {
		c, err := s.Join()
		if err != nil {
			return err
		}
		if _, err = c.Write(websocket.NewFrameText(true, []byte("x"))); err != nil {
			return err
		}
		op, payload, err := c.Frame()
		c.Close()
		switch {
		case err != nil:
			return err
		case op == websocket.OpcodeText:
			return nil
		case string(payload) != peer.CloseBody(websocket.StatusGone, ""):
			return errors.New("neither an answer nor StatusGone")
		}
	}
}

// cutOff waits for a Shutdown that has been ended early, and returns what that cut off.
func cutOff(t *testing.T, result <-chan error, cause error) *websocket.ShutdownError {
	t.Helper()
	err := peer.Get(t, result)
	require.ErrorIs(t, err, cause)
	cut, ok := err.(*websocket.ShutdownError)
	require.True(t, ok, "%T", err)
	return cut
}
