//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// entrance is a way in, at which what the options ask for has to hold as at any other.
type entrance struct {
	name   string
	mount  func(t *testing.T, opts *websocket.ServerOptions) *mount
	before int // requests for something else that come first on each connection
	value  any // which is in the context
	stream bool
}

// room is the ConnectPath of these tests, and the path that they ask for.
const (
	room     = "/room/:name"
	blueRoom = "/room/blue"
)

// valued is middleware that puts a value into the context.
func valued(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(unwrapping{w}, r.WithContext(context.WithValue(r.Context(), valueKey{}, "value")))
	})
}

func valuedItself(serv *websocket.Server) http.Handler { return valued(serv) }

func mountHandler(t *testing.T, opts *websocket.ServerOptions) *mount {
	opts.Handler = page()
	return ways[0].mount(t, opts)
}

var entrances = []entrance{
	{name: "own listener", mount: ways[0].mount},
	{name: "own listener with a Handler", mount: mountHandler},
	{name: "own listener, after requests for Handler", mount: mountHandler, before: 2},
	{name: "ServeMux", value: "value", mount: func(t *testing.T, opts *websocket.ServerOptions) *mount {
		return mounted(t, opts, func(serv *websocket.Server) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("GET /room/{name}", valued(serv))
			return mux
		}, nil)
	}},
	{name: "middleware", value: "value", mount: func(t *testing.T, opts *websocket.ServerOptions) *mount {
		return mounted(t, opts, valuedItself, nil)
	}},
	{name: "TLS of net/http", value: "value", mount: func(t *testing.T, opts *websocket.ServerOptions) *mount {
		return mounted(t, opts, valuedItself, func(hs *httptest.Server) { hs.TLS = new(tls.Config) })
	}},
}

var http2 = entrance{name: "HTTP/2", value: "value", stream: true, mount: func(t *testing.T, opts *websocket.ServerOptions) *mount {
	return mounted(t, opts, valuedItself, func(hs *httptest.Server) { hs.TLS, hs.EnableHTTP2 = new(tls.Config), true })
}}

// start starts a server whose ConnectPath is room.
func (in *entrance) start(t *testing.T, opts *websocket.ServerOptions) *mount {
	t.Helper()
	opts.ConnectPath, opts.HandleText = room, peer.Echo
	return in.mount(t, opts)
}

// ask sends an opening handshake with more fields on a connection of its own, and reads the answer: of HTTP/2 the status alone.
func (in *entrance) ask(t *testing.T, m *mount, target string, fields ...string) (*peer.Conn, *http.Response) {
	t.Helper()
	if in.stream {
		return askStream(t, m, target, fields...)
	}
	c := m.dial(t)
	for range in.before {
		c.Send([]byte("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		answer, err := http.ReadResponse(c.Reader, nil)
		require.NoError(t, err)
		if answer.StatusCode == http.StatusServiceUnavailable {
			return c, answer
		}
		_, err = io.Copy(io.Discard, answer.Body)
		require.NoError(t, err)
	}
	c.Send(requestFor(target, fields...))
	answer, err := http.ReadResponse(c.Reader, nil)
	require.NoError(t, err)
	return c, answer
}

// streamStatus is how net/http writes a status that comes first on a connection (RFC 7541, section 6).
var streamStatus = map[string]int{"\x88": 101, "\x4e\x82\x68\x01": 401, "\x4e\x03403": 403, "\x4e\x03503": 503}

func askStream(t *testing.T, m *mount, target string, fields ...string) (*peer.Conn, *http.Response) {
	t.Helper()
	c, s := openStream(t, m)
	asks := []string{":method=CONNECT", ":protocol=websocket", ":scheme=https", ":path=" + target, ":authority=localhost", "sec-websocket-version=13"}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		asks = append(asks, strings.ToLower(name)+"="+value)
	}
	require.NoError(t, s.ask(asks...))
	for head, status := range streamStatus {
		if strings.HasPrefix(string(s.head), head) {
			return c, &http.Response{StatusCode: status, Body: io.NopCloser(c.Reader)}
		}
	}
	require.FailNow(t, "an unknown status", "% x", s.head)
	return nil, nil
}

// join opens a connection, and looks whether it works.
func (in *entrance) join(t *testing.T, m *mount, fields ...string) *peer.Conn {
	t.Helper()
	c, answer := in.ask(t, m, blueRoom, fields...)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	c.Text("x")
	c.ExpectText("x")
	return c
}

// refused opens none, and returns the body.
func (in *entrance) refused(t *testing.T, m *mount, status int, fields ...string) (header http.Header, body string) {
	t.Helper()
	c, answer := in.ask(t, m, blueRoom, fields...)
	require.Equal(t, status, answer.StatusCode)
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	c.Close()
	return answer.Header, string(b)
}

// rejoin opens a connection as soon as there is room for it.
func (in *entrance) rejoin(t *testing.T, m *mount) (c *peer.Conn) {
	t.Helper()
	require.True(t, peer.Eventually(func() bool {
		var answer *http.Response
		c, answer = in.ask(t, m, blueRoom)
		if answer.StatusCode != http.StatusSwitchingProtocols {
			c.Close()
			return false
		}
		return true
	}))
	return c
}

// askedBy sets HandleAuth, which lets all in, and returns what it is asked.
func askedBy(opts *websocket.ServerOptions) <-chan *websocket.Handshake {
	asked := make(chan *websocket.Handshake, 64)
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		then := *req
		asked <- &then
		return req.Context, nil
	}
	return asked
}

// TestFeaturesAtEveryEntrance goes through what options ask for, at each way in.
func TestFeaturesAtEveryEntrance(t *testing.T) {
	for _, in := range entrances {
		t.Run(in.name, func(t *testing.T) { testEntrance(t, &in) })
	}
	t.Run(http2.name, func(t *testing.T) { runOfHTTP2(t, "TestFeaturesOfHTTP2") })
}

func TestFeaturesOfHTTP2(t *testing.T) {
	onlyOfHTTP2(t)
	testEntrance(t, &http2)
}

func testEntrance(t *testing.T, in *entrance) {
	t.Run("Origins", in.testOrigins)
	t.Run("Subprotocols", in.testSubprotocols)
	t.Run("what HandleAuth is asked", in.testAsked)
	t.Run("HandshakeError", in.testHandshakeError)
	t.Run("MaxConnections", func(t *testing.T) {
		in.testLimit(t, &websocket.ServerOptions{MaxConnections: 1}, "too many connections")
	})
	t.Run("MaxConnectionsPerAddress", func(t *testing.T) {
		in.testLimit(t, &websocket.ServerOptions{MaxConnectionsPerAddress: 1}, "too many connections from this address")
	})
	t.Run("Shutdown", in.testShutdown)
	for _, end := range entranceEnds {
		t.Run("OnClose, "+end.name, func(t *testing.T) { in.testEnd(t, &end) })
	}
}

func (in *entrance) testOrigins(t *testing.T) {
	opts := &websocket.ServerOptions{Origins: []string{"https://*.example.com"}}
	records, asked := loggedBy(opts), askedBy(opts)
	m := in.start(t, opts)
	in.join(t, m, "Origin: https://a.example.com")
	peer.Get(t, asked)
	in.join(t, m)
	peer.Get(t, asked)
	_, body := in.refused(t, m, http.StatusForbidden, "Origin: https://evil.org")
	assert.Equal(t, "origin not allowed", body)
	attrs := nextLogged(t, records, "websocket: handshake refused")
	assert.Equal(t, "https://evil.org", attrs["origin"].String())
	assert.EqualValues(t, http.StatusForbidden, attrs["status"].Int64())
	assert.Equal(t, blueRoom, attrs["path"].String())
	assert.Regexp(t, `^127\.0\.0\.1:\d+$`, attrs["address"].String())
	assert.Empty(t, asked)
}

func (in *entrance) testSubprotocols(t *testing.T) {
	opts := &websocket.ServerOptions{Subprotocols: []string{"v2", "v1"}}
	asked, added := askedBy(opts), peer.Added(opts)
	m := in.start(t, opts)
	for offer, want := range map[string]string{"v1, x, v2": "v2", "v1": "v1", "x": ""} {
		_, answer := in.ask(t, m, blueRoom, "Sec-WebSocket-Protocol: "+offer)
		require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
		if !in.stream {
			assert.Equal(t, want, answer.Header.Get("Sec-WebSocket-Protocol"))
		}
		assert.Equal(t, want, peer.Get(t, asked).Subprotocol)
		info, ok := m.Clients.Info(peer.Get(t, added))
		require.True(t, ok)
		assert.Equal(t, want, info.Subprotocol)
	}
}

func (in *entrance) testAsked(t *testing.T) {
	opts := new(websocket.ServerOptions)
	asked, added := askedBy(opts), peer.Added(opts)
	m := in.start(t, opts)
	for target, name := range map[string]string{"/room/blue?x=1": "blue", "/room/a%20b": "a b", "/room/a%2Fb": "a/b"} {
		c, answer := in.ask(t, m, target)
		require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
		req, conn := peer.Get(t, asked), peer.Get(t, added)
		assert.Equal(t, target, req.URL.String())
		assert.Equal(t, map[string]string{"name": name}, req.Params)
		assert.IsType(t, (*net.TCPAddr)(nil), req.RemoteAddr)
		assert.Equal(t, c.LocalAddr().String(), req.RemoteAddr.String())
		info, ok := m.Clients.Info(conn)
		require.True(t, ok)
		assert.IsType(t, (*net.TCPAddr)(nil), info.RemoteAddr)
		assert.Equal(t, c.LocalAddr().String(), info.RemoteAddr.String())
		ctx, ok := m.Clients.Context(conn)
		require.True(t, ok)
		assert.Equal(t, in.value, ctx.Value(valueKey{}))
		if in.value == nil {
			assert.Equal(t, context.Background(), ctx, "as Handshake.Context says")
		}
	}
}

func (in *entrance) testHandshakeError(t *testing.T) {
	opts := &websocket.ServerOptions{MaxConnectionsPerAddress: 2}
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		if req.Header.Get("X-Key") != "" {
			return nil, nil
		}
		return nil, &websocket.HandshakeError{Status: http.StatusUnauthorized, Header: http.Header{"WWW-Authenticate": {"Basic"}}, Body: []byte("who are you?")}
	}
	all := toldBy(opts)
	m := in.start(t, opts)
	header, body := in.refused(t, m, http.StatusUnauthorized)
	assert.Equal(t, "who are you?", body)
	if !in.stream {
		assert.Equal(t, "Basic", header.Get("WWW-Authenticate"))
	}
	in.join(t, m, "X-Key: x")
	assert.Empty(t, all)
}

// testLimit goes through ends that must give the one place back. refusal is what one too many is told.
func (in *entrance) testLimit(t *testing.T, opts *websocket.ServerOptions, refusal string) {
	opts.Origins = []string{}
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		if req.Header.Get("X-Refuse") != "" {
			return nil, &websocket.HandshakeError{Status: http.StatusUnauthorized}
		}
		return nil, nil
	}
	m := in.start(t, opts)
	for _, end := range []func(c *peer.Conn){
		func(c *peer.Conn) { c.Send(websocket.NewFrameClose(true, 1000, nil)); c.CloseCode() },
		func(c *peer.Conn) { c.Send(websocket.NewFrameText(false, nil)); c.CloseCode() },
		func(*peer.Conn) { m.ClientRemove(m.Clients.All()[0]) },
		func(*peer.Conn) {},
	} {
		c := in.rejoin(t, m)
		for range 3 {
			_, body := in.refused(t, m, http.StatusServiceUnavailable)
			require.Equal(t, refusal, body)
		}
		c.Text("x")
		c.ExpectText("x")
		end(c)
		c.Close()
		for _, field := range []string{"Origin: https://evil.org", "X-Refuse: yes"} {
			require.True(t, peer.Eventually(func() bool {
				c, answer := in.ask(t, m, blueRoom, field)
				c.Close()
				return answer.StatusCode != http.StatusServiceUnavailable
			}))
		}
	}
	in.rejoin(t, m)
}

// entranceEnd is an end of a connection, and what a client and OnClose are told.
type entranceEnd struct {
	name  string
	end   func(m *mount, c *peer.Conn, conn int)
	frame string // of the client's last frame; empty: none is expected
	cause websocket.CloseCause
}

var entranceEnds = []entranceEnd{
	{"the peer closes", func(_ *mount, c *peer.Conn, _ int) { c.Send(websocket.NewFrameClose(true, 4000, []byte("bye"))) },
		peer.CloseBody(4000, "bye"), websocket.CloseCause{Code: 4000, Reason: "bye", Kind: websocket.ClosedByPeer}},
	{"the peer breaks a rule", func(_ *mount, c *peer.Conn, _ int) { c.Send(websocket.NewFrameText(false, nil)) },
		peer.CloseBody(1002, "frame from client is not masked"), websocket.CloseCause{Code: 1002, Reason: "frame from client is not masked", Kind: websocket.ClosedProtocolError}},
	{"the peer has gone", func(_ *mount, c *peer.Conn, _ int) { c.Close() }, "", websocket.CloseCause{Kind: websocket.ClosedLost}},
	{"it is closed", func(m *mount, _ *peer.Conn, conn int) { m.Clients.Close(conn, 4001, "elsewhere") },
		peer.CloseBody(4001, "elsewhere"), websocket.CloseCause{Code: 4001, Reason: "elsewhere", Kind: websocket.ClosedRemoved}},
	{"the server stops", func(m *mount, _ *peer.Conn, _ int) { go m.Stop() },
		peer.CloseBody(1001, ""), websocket.CloseCause{Code: 1001, Kind: websocket.ClosedShutdown}},
}

func (in *entrance) testEnd(t *testing.T, end *entranceEnd) {
	opts := &websocket.ServerOptions{Subprotocols: []string{"v1"}}
	added, removed, all := peer.Added(opts), peer.Removed(opts), toldBy(opts)
	m := in.start(t, opts)
	c := in.join(t, m, "Sec-WebSocket-Protocol: v1")
	conn := peer.Get(t, added)
	id, done, address := websocket.ID(conn), websocket.Done(conn), c.LocalAddr().String()
	end.end(m, c, conn)
	if end.frame != "" {
		c.Expect(websocket.OpcodeClose, end.frame)
		require.NoError(t, c.ReadToEnd())
		c.Close()
	}
	peer.Done(t, done)
	assert.Equal(t, conn, peer.Get(t, removed))
	got := peer.Get(t, all)
	assert.Equal(t, end.cause, got.cause)
	assert.Equal(t, id, got.info.ID)
	assert.Equal(t, "v1", got.info.Subprotocol)
	assert.Equal(t, address, got.info.RemoteAddr.String())
	stopped := make(chan struct{})
	go func() {
		m.Stop()
		close(stopped)
	}()
	peer.Done(t, stopped)
	assert.Zero(t, m.Clients.Len())
	assert.Empty(t, removed)
	assert.Empty(t, all, "it is told once")
}

// TestProxyAndHandler has clients behind a proxy ask for pages first.
func TestProxyAndHandler(t *testing.T) {
	const get = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
	who := func(t *testing.T, c *peer.Conn) string { // says who asks for a page
		t.Helper()
		answer, err := http.ReadResponse(c.Reader, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return string(body)
	}
	handler := page().(*http.ServeMux)
	handler.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	start := func(t *testing.T, opts *websocket.ServerOptions) *peer.Server {
		opts.ProxyProtocol, opts.Handler, opts.HandleText = loopback, handler, peer.Echo
		opts.ConnectPath, opts.MaxConnectionsPerAddress = room, 1
		return peer.Start(t, opts)
	}
	for name, header := range map[string]string{"version 1": proxyLine("192.0.2.1"), "version 2": proxyBinary, "IPv6": proxyLine("2001:db8::1"), "a health check": proxyHealth} {
		t.Run("Handler and the connection have the client's address: "+name, func(t *testing.T) {
			opts := new(websocket.ServerOptions)
			asked, added, all := askedBy(opts), peer.Added(opts), toldBy(opts)
			s := start(t, opts)
			c := s.Dial(t)
			address := map[string]string{"IPv6": "[2001:db8::1]:12345", "a health check": c.LocalAddr().String()}[name]
			if address == "" {
				address = proxied
			}
			c.Send([]byte(header + get + get)) // all in one
			for range 2 {
				require.Equal(t, address, who(t, c))
			}
			c.Send([]byte(get))
			require.Equal(t, address, who(t, c))
			second, refused := joinAs(t, s, header)
			require.Equal(t, tooManyOfAddress, refused, "one that Handler has is counted")
			second.Close()
			c.Send(append(requestFor(blueRoom), websocket.NewFrameText(true, []byte("early"))...))
			answer, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
			c.ExpectText("early")
			require.Equal(t, address, peer.Get(t, asked).RemoteAddr.String())
			info, ok := s.Clients.Info(peer.Get(t, added))
			require.True(t, ok)
			require.Equal(t, address, info.RemoteAddr.String())
			second, refused = joinAs(t, s, header)
			require.Equal(t, tooManyOfAddress, refused, "one that came back is counted")
			second.Close()
			c.Send(websocket.NewFrameClose(true, 1000, nil))
			c.ExpectClose(1000)
			require.Equal(t, address, peer.Get(t, all).info.RemoteAddr.String())
		})
	}
	ends := []struct {
		name string
		end  func(t *testing.T, c *peer.Conn)
	}{
		{"in Handler, by its client", func(*testing.T, *peer.Conn) {}},
		{"in Handler, by a reset", func(_ *testing.T, c *peer.Conn) { c.Reset() }},
		{"in Handler, by a panic", func(_ *testing.T, c *peer.Conn) {
			c.Send([]byte("GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n"))
			c.ExpectEOF()
		}},
		{"after a refusal by HandleAuth", func(t *testing.T, c *peer.Conn) {
			c.Send(requestFor(blueRoom, "X-Refuse: yes"))
			_, _, body := c.Answer()
			require.Equal(t, "Unauthorized", body)
		}},
		{"after a refusal by the rules", func(t *testing.T, c *peer.Conn) {
			c.Send(requestFor(blueRoom, "Origin: https://evil.org"))
			answer, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusForbidden, answer.StatusCode)
			io.Copy(io.Discard, answer.Body)
			c.Send([]byte(get)) // it goes on
			require.Equal(t, proxied, who(t, c))
		}},
		{"as a connection of the server", func(t *testing.T, c *peer.Conn) {
			c.Send(requestFor(blueRoom))
			answer, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
		}},
	}
	for _, end := range ends {
		t.Run("the address is given back at the end "+end.name, func(t *testing.T) {
			opts := &websocket.ServerOptions{Origins: []string{}}
			opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
				if req.Header.Get("X-Refuse") != "" {
					return nil, &websocket.HandshakeError{Status: http.StatusUnauthorized}
				}
				return nil, nil
			}
			s := start(t, opts)
			for range 3 {
				var c *peer.Conn
				require.True(t, peer.Eventually(func() bool {
					c = s.Dial(t)
					c.Send([]byte(proxyBinary + get))
					if who(t, c) != proxied {
						c.Close()
						return false
					}
					return true
				}))
				end.end(t, c)
				c.Close()
			}
		})
	}
}

// TestProxyAndServeHTTP has clients behind a proxy come to ServeHTTP by way of the Handler, of this server or of another one.
func TestProxyAndServeHTTP(t *testing.T) {
	wrapped := func(serv *websocket.Server) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serv.ServeHTTP(wrappedHijack{w}, r) })
	}
	for name, wrap := range map[string]func(*websocket.Server) http.Handler{"": itself, ", bridged": wrapped} {
		for _, isOther := range []bool{false, true} {
			t.Run(map[bool]string{false: "this server", true: "another server"}[isOther]+name, func(t *testing.T) {
				opts := &websocket.ServerOptions{MaxConnectionsPerAddress: 1, ConnectPath: "/elsewhere", HandleText: peer.Echo}
				added, all := peer.Added(opts), toldBy(opts)
				asked := askedBy(opts)
				outer := *opts
				outer.ProxyProtocol = loopback
				s := &peer.Server{T: t}
				var inner *websocket.Server
				outer.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { wrap(inner).ServeHTTP(w, r) })
				s.Server = websocket.NewServer(peer.Quiet(&outer))
				if inner = s.Server; isOther {
					inner = websocket.NewServer(peer.Quiet(opts))
				}
				peer.CheckGoroutines(t)
				peer.CheckDescriptors(t)
				t.Cleanup(inner.Stop)
				s.Launch(t)
				for range 3 {
					var c *peer.Conn
					require.True(t, peer.Eventually(func() bool {
						c = s.Dial(t)
						c.Send([]byte(proxyBinary + peer.Request))
						answer, err := http.ReadResponse(c.Reader, nil)
						return err == nil && answer.StatusCode == http.StatusSwitchingProtocols || c.Close() != nil
					}))
					c.Text("x")
					c.ExpectText("x")
					assert.Equal(t, proxied, peer.Get(t, asked).RemoteAddr.String())
					info, ok := inner.Clients.Info(peer.Get(t, added))
					require.True(t, ok)
					assert.Equal(t, proxied, info.RemoteAddr.String())
					second := s.Dial(t)
					second.Send([]byte(proxyBinary + peer.Request))
					answer, err := http.ReadResponse(second.Reader, nil)
					require.NoError(t, err)
					assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
					second.Close()
					c.Send(websocket.NewFrameClose(true, 1000, nil))
					c.ExpectClose(1000)
					assert.Equal(t, proxied, peer.Get(t, all).info.RemoteAddr.String())
				}
			})
		}
	}
}

// TestAddressOfMiddleware has middleware say who the client is, with a port or without one, as net/http and chi do.
func TestAddressOfMiddleware(t *testing.T) {
	for name, change := range map[string]func(*httptest.Server){"TCP": nil, "bridged": func(hs *httptest.Server) { hs.TLS = new(tls.Config) }} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan net.Addr, 1)
			opts := &websocket.ServerOptions{MaxConnectionsPerAddress: 1, HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
				assert.Equal(t, name == "bridged", req.TLS != nil, "the state of TLS is told")
				asked <- req.RemoteAddr
				return nil, nil
			}}
			m := mounted(t, opts, func(serv *websocket.Server) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.RemoteAddr = r.Header.Get("X-Real-IP")
					serv.ServeHTTP(w, r)
				})
			}, change)
			in := new(entrance)
			for _, row := range []struct {
				address string
				status  int
				ip      string
			}{
				{"192.0.2.1", 101, "192.0.2.1"}, {"192.0.2.1", 503, ""}, {"192.0.2.1:99", 503, ""}, {"192.0.2.2:1", 101, "192.0.2.2"},
				{"192.0.2.2", 503, ""}, {"2001:db8::1", 101, "2001:db8::1"}, {"[2001:db8::2]:1", 503, ""}, {"2001:db8:0:1::1", 101, "2001:db8:0:1::1"},
			} {
				_, answer := in.ask(t, m, "/", "X-Real-IP: "+row.address)
				assert.Equal(t, row.status, answer.StatusCode, row.address)
				if row.status == 101 {
					from := peer.Get(t, asked).(*net.TCPAddr)
					assert.Equal(t, row.ip, from.IP.String(), "what middleware says is the peer's address")
				}
			}
		})
	}
}
