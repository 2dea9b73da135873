//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// mount is a server whose connections come by another HTTP server, or by its own listener with a Handler.
type mount struct {
	*websocket.Server
	network, address string
	tls              *tls.Config
	states           *connStates // of net/http, nil if it is not the test's
}

// open connects without a handshake. It may be called from any goroutine.
func (m *mount) open(t *testing.T) (*peer.Conn, error) {
	conn, err := net.DialTimeout(m.network, m.address, peer.Wait)
	if err != nil {
		return nil, err
	}
	if m.tls != nil {
		conn = tls.Client(conn, m.tls)
	}
	conn.SetDeadline(time.Now().Add(3 * peer.Wait))
	return &peer.Conn{Conn: conn, T: t, Reader: bufio.NewReader(conn)}, nil
}

func (m *mount) dial(t *testing.T) *peer.Conn {
	t.Helper()
	c, err := m.open(t)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func (m *mount) connect(t *testing.T) *peer.Conn {
	t.Helper()
	c := m.dial(t)
	require.NoError(t, c.Shake())
	return c
}

// connStates counts the connections of a net/http server by what became of them.
type connStates struct {
	mu   sync.Mutex
	seen map[http.ConnState]int
}

func (s *connStates) hook(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[state]++
}

// balance is how many connections net/http believes to have.
func (s *connStates) balance() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[http.StateNew] - s.seen[http.StateClosed] - s.seen[http.StateHijacked]
}

// unwrapping is a ResponseWriter of middleware.
type unwrapping struct{ http.ResponseWriter }

func (w unwrapping) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// wrappingListener gives connections that have no descriptor to be taken over, and no CloseWrite.
type wrappingListener struct{ net.Listener }

func (ln wrappingListener) Accept() (net.Conn, error) {
	conn, err := ln.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

// mounted runs an HTTP server with a handler around the server.
func mounted(t *testing.T, opts *websocket.ServerOptions, handler func(*websocket.Server) http.Handler, change func(*httptest.Server)) *mount {
	t.Helper()
	peer.CheckGoroutines(t)
	peer.CheckDescriptors(t)
	m := &mount{Server: websocket.NewServer(peer.Quiet(opts)), network: "tcp", states: &connStates{seen: make(map[http.ConnState]int)}}
	hs := httptest.NewUnstartedServer(handler(m.Server))
	hs.Config.ConnState = m.states.hook
	hs.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if change != nil {
		change(hs)
	}
	if hs.TLS == nil {
		hs.Start()
	} else {
		hs.StartTLS()
		m.tls = &tls.Config{InsecureSkipVerify: true}
	}
	m.network, m.address = hs.Listener.Addr().Network(), hs.Listener.Addr().String()
	t.Cleanup(func() {
		hs.CloseClientConnections()
		hs.Close()
		stopped := make(chan struct{})
		go func() {
			m.Stop()
			close(stopped)
		}()
		peer.Done(t, stopped)
		assert.True(t, peer.Eventually(func() bool { return m.states.balance() == 0 }), "%v", m.states.seen)
	})
	return m
}

func itself(serv *websocket.Server) http.Handler { return serv }

// ways are all ways by which a connection comes.
var ways = []struct {
	name    string
	mount   func(t *testing.T, opts *websocket.ServerOptions) *mount
	bridged bool
}{
	{"own listener", func(t *testing.T, opts *websocket.ServerOptions) *mount {
		s := peer.Start(t, opts)
		return &mount{Server: s.Server, network: s.Network, address: s.Address}
	}, false},
	{"own listener with a Handler", func(t *testing.T, opts *websocket.ServerOptions) *mount {
		opts.Handler = http.NotFoundHandler()
		s := peer.Start(t, opts)
		return &mount{Server: s.Server, network: s.Network, address: s.Address}
	}, false},
	{"own listener whose Handler calls ServeHTTP", func(t *testing.T, opts *websocket.ServerOptions) *mount {
		var serv *websocket.Server
		opts.ConnectPath, opts.StatusPath = "/elsewhere", "/status"
		opts.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serv.ServeHTTP(w, r) })
		s := &peer.Server{Server: websocket.NewServer(peer.Quiet(opts)), T: t}
		serv = s.Server
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		s.Launch(t)
		return &mount{Server: s.Server, network: s.Network, address: s.Address}
	}, false},
	{"itself", func(t *testing.T, opts *websocket.ServerOptions) *mount { return mounted(t, opts, itself, nil) }, false},
	{"ServeMux", func(t *testing.T, opts *websocket.ServerOptions) *mount {
		return mounted(t, opts, func(serv *websocket.Server) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("GET /{$}", serv)
			return mux
		}, nil)
	}, false},
	{"middleware that wraps the ResponseWriter", func(t *testing.T, opts *websocket.ServerOptions) *mount {
		return mounted(t, opts, func(serv *websocket.Server) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serv.ServeHTTP(unwrapping{w}, r) })
		}, nil)
	}, false},
	{"Unix socket of net/http", func(t *testing.T, opts *websocket.ServerOptions) *mount {
		ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		require.NoError(t, err)
		return mounted(t, opts, itself, func(hs *httptest.Server) {
			hs.Listener.Close()
			hs.Listener = ln
		})
	}, false},
	{"TLS of net/http", func(t *testing.T, opts *websocket.ServerOptions) *mount {
		return mounted(t, opts, itself, func(hs *httptest.Server) { hs.TLS = new(tls.Config) })
	}, true},
	{"listener of the program's own", func(t *testing.T, opts *websocket.ServerOptions) *mount {
		return mounted(t, opts, itself, func(hs *httptest.Server) { hs.Listener = wrappingListener{hs.Listener} })
	}, true},
}

func TestEveryWayIn(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			removed := make(chan int, 1<<10)
			m := way.mount(t, &websocket.ServerOptions{
				HandleText:         peer.Echo,
				HandleBin:          func(conn int, payload []byte) { websocket.SendBin(conn, payload) },
				HandleClientRemove: func(_ context.Context, conn int) { removed <- conn },
			})
			t.Run("messages of all sizes come back", func(t *testing.T) {
				c := m.connect(t)
				for _, size := range []int{0, 1, 125, 126, 511, 512, 513, 65535, 65536, 1 << 20} {
					payload := peer.Pattern(size, size)
					c.Send(websocket.NewFrameBin(true, payload))
					c.Expect(websocket.OpcodeBin, string(payload))
				}
				c.Send(websocket.NewFrameClose(true, 4000, []byte("bye")))
				c.Expect(websocket.OpcodeClose, peer.CloseBody(4000, "bye"))
				c.ExpectEOF()
				peer.Get(t, removed)
			})
			t.Run("what comes behind the request is not lost", func(t *testing.T) {
				c := m.dial(t)
				long := strings.Repeat("x", 20<<10)
				c.Send(append(append([]byte(peer.Request), websocket.NewFrameText(true, []byte("early"))...), websocket.NewFrameText(true, []byte(long))...))
				answer := make([]byte, len(peer.Accepted))
				_, err := io.ReadFull(c.Reader, answer)
				require.NoError(t, err)
				require.Equal(t, peer.Accepted, string(answer))
				c.ExpectText("early")
				c.ExpectText(long)
				c.Close()
				peer.Get(t, removed)
			})
			t.Run("a broken rule closes with its code", func(t *testing.T) {
				c := m.connect(t)
				c.Send(websocket.NewFrameText(false, []byte("unmasked")))
				c.ExpectClose(websocket.StatusBadRequest)
				peer.Get(t, removed)
			})
			t.Run("the end of the client's stream ends the connection", func(t *testing.T) {
				c := m.connect(t)
				if end, ok := c.Conn.(interface{ CloseWrite() error }); ok {
					require.NoError(t, end.CloseWrite())
					c.ExpectEOF()
				} else {
					c.Close()
				}
				peer.Get(t, removed)
			})
			t.Run("ClientRemove closes it", func(t *testing.T) {
				c := m.connect(t)
				require.True(t, peer.Eventually(func() bool { return m.Clients.Len() == 1 }))
				m.ClientRemove(m.Clients.All()[0])
				c.ExpectClose(websocket.StatusNormal)
				peer.Get(t, removed)
			})
			t.Run("a refused handshake is told why", func(t *testing.T) {
				c := m.dial(t)
				c.Send([]byte(peer.RequestWith("Sec-WebSocket-Version", "Sec-WebSocket-Version: 12")))
				res, err := http.ReadResponse(c.Reader, nil)
				require.NoError(t, err)
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				assert.Equal(t, http.StatusUpgradeRequired, res.StatusCode)
				assert.Equal(t, "13", res.Header.Get("Sec-WebSocket-Version"))
				assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
				assert.Equal(t, "unsupported Sec-WebSocket-Version", string(body))
			})
			t.Run("Stop closes all", func(t *testing.T) {
				const n = 20
				var conns []*peer.Conn
				for range n {
					conns = append(conns, m.connect(t))
				}
				stopped := make(chan struct{})
				go func() {
					m.Stop()
					close(stopped)
				}()
				for _, c := range conns {
					c.ExpectClose(websocket.StatusGone)
				}
				peer.Done(t, stopped)
				for range n {
					peer.Get(t, removed)
				}
			})
		})
	}
}

type valueKey struct{}

func TestServeHTTP(t *testing.T) {
	t.Run("HandleAuth has the context of the request, which outlives it, and the fields of middleware", func(t *testing.T) {
		added := make(chan context.Context, 1)
		m := mounted(t, &websocket.ServerOptions{
			HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
				req.ResponseHeader.Set("X-Auth", "asked")
				return context.WithValue(req.Context, websocket.CtxKeyUID, 7), nil
			},
			HandleClientAdd: func(ctx context.Context, _ int) { added <- ctx },
		}, func(serv *websocket.Server) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Middleware", "was here")
				serv.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), valueKey{}, "value")))
			})
		}, nil)
		c := m.dial(t)
		c.Send([]byte(peer.Request))
		res, err := http.ReadResponse(c.Reader, nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
		assert.Equal(t, "was here", res.Header.Get("X-Middleware"))
		assert.Equal(t, "asked", res.Header.Get("X-Auth"))
		ctx := peer.Get(t, added)
		assert.Equal(t, "value", ctx.Value(valueKey{}))
		assert.True(t, peer.Eventually(func() bool { return m.states.balance() == 0 }), "ServeHTTP has returned")
		assert.NoError(t, ctx.Err())
		assert.Len(t, m.Clients.Conns(7), 1)
	})

	t.Run("HandleAuth refuses on the connection", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{
			HandleAuth: func(*websocket.Handshake) (context.Context, error) { return nil, errors.New("not you") },
		}, itself, nil)
		c := m.dial(t)
		c.Send([]byte(peer.Request))
		status, _, body := c.Answer()
		assert.Equal(t, "HTTP/1.1 400 not you", status)
		assert.Equal(t, "not you", body)
	})

	t.Run("the path is the mux's business, and Handshake has what is left of it", func(t *testing.T) {
		paths := make(chan string, 1)
		m := mounted(t, &websocket.ServerOptions{
			ConnectPath: "/other",
			HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
				paths <- req.URL.String()
				return nil, nil
			},
		}, func(serv *websocket.Server) http.Handler { return http.StripPrefix("/api", serv) }, nil)
		c := m.dial(t)
		c.Send([]byte(strings.Replace(peer.Request, "GET / ", "GET /api/room?x=1 ", 1)))
		assert.Equal(t, "/room?x=1", peer.Get(t, paths))
	})

	t.Run("a refused connection goes on with other requests", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{StatusPath: "/status"}, itself, nil)
		c := m.dial(t)
		for _, row := range []struct {
			request, body string
			status        int
		}{
			{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "This port serves WebSocket connections (RFC 6455).", 426},
			{"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", "invalid HTTP method. This port serves WebSocket connections (RFC 6455).", 400},
			{peer.RequestWith("Sec-WebSocket-Key", "Sec-WebSocket-Key: short"), "invalid Sec-Websocket-Key header", 400},
			{peer.RequestWith("Connection", "Connection: keep-alive"), "invalid Connection header", 400},
			{peer.RequestWith("Sec-WebSocket-Key", ""), "bad request: length is less than minimum", 400},
			{peer.RequestWith("Upgrade", "Upgrade: websocket\r\nX-Many: "+strings.Repeat("x", 16<<10)), "request header fields too large", 431},
			{peer.RequestWith("Upgrade", "Upgrade: websocket"+strings.Repeat("\r\nX-Many: x", 100)), "request header fields too large", 431},
			{"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", "OK", 200},
			{"HEAD /status HTTP/1.1\r\nHost: localhost\r\n\r\n", "", 200},
			{"OPTIONS /status HTTP/1.1\r\nHost: localhost\r\n\r\n", "", 200},
		} {
			c.Send([]byte(row.request))
			method, _, _ := strings.Cut(row.request, " ")
			res, err := http.ReadResponse(c.Reader, &http.Request{Method: method})
			require.NoError(t, err, row.request)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			assert.Equal(t, row.status, res.StatusCode, row.request)
			assert.Equal(t, row.body, string(body), row.request)
		}
		require.NoError(t, c.Shake())
	})

	t.Run("one connection too many is told to come later, and may", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{MaxConnections: 1, HandleText: peer.Echo}, itself, nil)
		first, second := m.connect(t), m.dial(t)
		second.Send([]byte(peer.Request))
		res, err := http.ReadResponse(second.Reader, nil)
		require.NoError(t, err)
		io.Copy(io.Discard, res.Body)
		assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		assert.Equal(t, "10", res.Header.Get("Retry-After"))
		first.Send(websocket.NewFrameClose(true, 1000, nil))
		first.ExpectClose(1000)
		require.True(t, peer.Eventually(func() bool {
			second.Send([]byte(peer.Request))
			res, err := http.ReadResponse(second.Reader, nil)
			require.NoError(t, err)
			if res.StatusCode == http.StatusSwitchingProtocols {
				return true
			}
			io.Copy(io.Discard, res.Body)
			return false
		}))
		second.Text("x")
		second.ExpectText("x")
	})

	t.Run("a ResponseWriter without a connection is told to the client and the log", func(t *testing.T) {
		records := make(chan string, 10)
		log := peer.LogFunc(func(text string, _ map[string]slog.Value) { records <- text })
		m := mounted(t, &websocket.ServerOptions{Logger: slog.New(log)}, func(serv *websocket.Server) http.Handler {
			return http.TimeoutHandler(serv, peer.Wait, "")
		}, nil)
		c := m.dial(t)
		c.Send([]byte(peer.Request))
		res, err := http.ReadResponse(c.Reader, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		assert.Equal(t, http.StatusInternalServerError, res.StatusCode)
		assert.Contains(t, string(body), "connection cannot be taken over: feature not supported")
		assert.Equal(t, "websocket: cannot take over a connection", peer.Get(t, records))
	})

	t.Run("options that no client could be served with are answered with 500", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{ConnectPath: "x"}, itself, nil)
		c := m.dial(t)
		c.Send([]byte(peer.Request))
		res, err := http.ReadResponse(c.Reader, nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusInternalServerError, res.StatusCode)
	})

	t.Run("records of a bridged connection have the address of the peer", func(t *testing.T) {
		addresses := make(chan string, 100)
		log := peer.LogFunc(func(text string, attrs map[string]slog.Value) {
			if text == "websocket: connection ends" {
				addresses <- attrs["address"].String()
			}
		})
		m := mounted(t, &websocket.ServerOptions{Logger: slog.New(log)}, itself, func(hs *httptest.Server) { hs.TLS = new(tls.Config) })
		c := m.connect(t)
		c.Send(websocket.NewFrameClose(true, 1000, nil))
		c.ExpectClose(1000)
		assert.Equal(t, c.LocalAddr().String(), peer.Get(t, addresses))
	})
}

func TestServeHTTPAndStart(t *testing.T) {
	t.Run("a listener joins what ServeHTTP has started", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{HandleText: peer.Echo}, itself, nil)
		adopted := m.connect(t)
		assert.Nil(t, m.Addr())
		s := &peer.Server{Server: m.Server, T: t}
		s.Launch(t)
		accepted := s.Connect(t)
		require.True(t, peer.Eventually(func() bool { return m.Clients.Len() == 2 }))
		for _, c := range []*peer.Conn{adopted, accepted} {
			c.Text("x")
			c.ExpectText("x")
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		assert.ErrorIs(t, m.Serve(ln), websocket.ErrServerRunning)
		more := m.connect(t)
		more.Text("y")
		more.ExpectText("y")
	})

	t.Run("a listener without a descriptor does not join", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{HandleText: peer.Echo}, itself, nil)
		m.connect(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		assert.ErrorIs(t, m.Serve(wrappingListener{ln}), websocket.ErrUnsupported)
		m.connect(t)
	})

	t.Run("a stopped server is not started by ServeHTTP, but by Start", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{HandleText: peer.Echo}, itself, nil)
		for range 2 {
			m.Stop()
			c := m.dial(t)
			c.Send([]byte(peer.Request))
			res, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err)
			assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
			s := &peer.Server{Server: m.Server, T: t}
			s.Restart(t)
			c = m.connect(t)
			c.Text("x")
			c.ExpectText("x")
			s.StopAndWait(t)
		}
	})

	t.Run("nor is one whose context has ended", func(t *testing.T) {
		m := mounted(t, &websocket.ServerOptions{HandleText: peer.Echo}, itself, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		served := make(chan error, 1)
		go func() { served <- m.ServeContext(ctx, ln) }()
		require.True(t, peer.Eventually(func() bool { return m.Addr() != nil }))
		cancel()
		require.NoError(t, peer.Get(t, served))
		c := m.dial(t)
		c.Send([]byte(peer.Request))
		res, err := http.ReadResponse(c.Reader, nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	})

	t.Run("Stop from a handler ends a server without a listener", func(t *testing.T) {
		stop, stopped := make(chan func(), 1), make(chan struct{})
		m := mounted(t, &websocket.ServerOptions{HandleText: func(int, []byte) {
			(<-stop)()
			close(stopped)
		}}, itself, nil)
		stop <- m.Stop
		c := m.connect(t)
		c.Text("stop")
		c.ExpectClose(websocket.StatusGone)
		peer.Done(t, stopped)
	})
}

// TestAdoptionsWhileItStops has clients come in every way while the server stops: each gets a connection that ends, or is told that
// there is none.
func TestAdoptionsWhileItStops(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			m := way.mount(t, &websocket.ServerOptions{HandleText: peer.Echo})
			m.connect(t)
			const side = 10
			done := make(chan struct{}, side)
			for range side {
				go func() {
					defer func() { done <- struct{}{} }()
					for {
						c, err := m.open(t)
						if err != nil { // the server's own listener has gone
							return
						}
						io.WriteString(c, peer.Request)
						res, err := http.ReadResponse(c.Reader, nil)
						if err == nil && res.StatusCode == http.StatusSwitchingProtocols {
							_, err = c.CloseCode()
							if err == nil {
								c.Write(websocket.NewFrameClose(true, 1001, nil))
								err = c.ReadToEnd()
							}
						} else if err == nil && res.StatusCode == http.StatusServiceUnavailable {
							err = io.EOF
						}
						c.Close()
						if err != nil {
							return
						}
					}
				}()
			}
			require.True(t, peer.Eventually(func() bool { return m.Clients.Len() > 5 }))
			stopped := make(chan struct{})
			go func() {
				m.Stop()
				close(stopped)
			}()
			peer.Done(t, stopped)
			assert.Zero(t, m.Clients.Len())
			for range side {
				peer.Get(t, done)
			}
		})
	}
}

// TestBridge is about what the goroutines between a peer and its connection must not get wrong.
func TestBridge(t *testing.T) {
	for _, way := range ways {
		if !way.bridged {
			continue
		}
		stall := func(t *testing.T) (m *mount, c *peer.Conn, conn int, removed <-chan int) {
			opts := &websocket.ServerOptions{WriteTimeout: 100 * time.Millisecond, SendQueueSize: 64 << 10}
			added := peer.Added(opts)
			removed = peer.Removed(opts)
			m = way.mount(t, opts)
			c = m.connect(t)
			return m, c, peer.Get(t, added), removed
		}
		t.Run("a peer that takes nothing is disconnected, by "+way.name, func(t *testing.T) {
			m, _, conn, removed := stall(t)
			packet := websocket.NewFrameBin(false, make([]byte, 32<<10))
			for websocket.Send(conn, packet) == nil {
			}
			assert.Equal(t, conn, peer.Get(t, removed))
			stopped := make(chan struct{})
			go func() {
				m.Stop()
				close(stopped)
			}()
			peer.Done(t, stopped)
		})
		t.Run("a peer that sends and does not read, by "+way.name, func(t *testing.T) {
			opts := &websocket.ServerOptions{WriteTimeout: 100 * time.Millisecond, HandleText: peer.Echo}
			removed := peer.Removed(opts)
			m := way.mount(t, opts)
			c := m.connect(t)
			packet := websocket.NewFrameText(true, peer.Pattern(32<<10, 1))
			for {
				if _, err := c.Write(packet); err != nil {
					break
				}
			}
			peer.Get(t, removed)
		})
		t.Run("what was sent before the end arrives, by "+way.name, func(t *testing.T) {
			opts := new(websocket.ServerOptions)
			payload := peer.Pattern(512<<10, 2)
			var remove func(int)
			opts.HandleText = func(conn int, _ []byte) {
				websocket.SendBin(conn, payload)
				remove(conn)
			}
			m := way.mount(t, opts)
			remove = m.ClientRemove
			c := m.connect(t)
			c.Text("go")
			c.Expect(websocket.OpcodeBin, string(payload))
			c.ExpectClose(websocket.StatusNormal)
		})
		t.Run("a client that vanishes, by "+way.name, func(t *testing.T) {
			opts := new(websocket.ServerOptions)
			removed := peer.Removed(opts)
			m := way.mount(t, opts)
			c := m.connect(t)
			if inner, ok := c.Conn.(*tls.Conn); ok {
				inner.NetConn().(*net.TCPConn).SetLinger(0)
				inner.NetConn().Close()
			} else {
				c.Reset()
			}
			peer.Get(t, removed)
		})
		t.Run("a second request behind the first is refused, by "+way.name, func(t *testing.T) {
			m := way.mount(t, new(websocket.ServerOptions))
			c := m.dial(t)
			c.Send([]byte(peer.Request + peer.Request))
			status, _, _ := c.Answer()
			assert.Equal(t, "HTTP/1.1 400 bad request: data before the handshake is done", status)
		})
	}
}

// TestManyAdoptions opens and closes many connections, in every way to end them, over each kind of takeover.
func TestManyAdoptions(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1_000
	}
	for _, way := range ways[3:] {
		if way.name == "ServeMux" {
			continue
		}
		each := n
		if way.bridged {
			each = n / 10
		}
		t.Run(fmt.Sprint(each, " by ", way.name), func(t *testing.T) {
			m := way.mount(t, &websocket.ServerOptions{HandleText: peer.Echo})
			const side = 20
			peer.All(t, side, func(i int) error {
				for j := range each / side {
					c, err := m.open(t)
					if err != nil {
						return err
					}
					if err = c.Shake(); err != nil {
						return err
					}
					switch (i + j) % 4 {
					case 0:
						c.Write(websocket.NewFrameClose(true, 1000, nil))
						if _, err = c.CloseCode(); err != nil {
							return err
						}
					case 1:
						c.Reset()
					case 2:
						c.Write(websocket.NewFrameText(true, []byte("x")))
						if err = c.Compare(websocket.OpcodeText, "x"); err != nil {
							return err
						}
					}
					c.Close()
				}
				return nil
			})
			assert.True(t, peer.Eventually(func() bool { return m.Clients.Len() == 0 }))
		})
	}
}
