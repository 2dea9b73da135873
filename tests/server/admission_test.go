//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// Networks that the peers of a test are in, or not.
var (
	loopback  = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	elsewhere = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
)

// The signature of version 2 of the PROXY protocol, the addresses of a client and a server, and a header with them.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyPair      = "\xc0\x00\x02\x01" + "\xc6\x33\x64\x01" + "\x30\x39" + "\x01\xbb"
	proxyBinary    = proxySignature + "\x21\x11\x00\x0c" + proxyPair
	proxyHealth    = proxySignature + "\x20\x00\x00\x00"
	proxied        = "192.0.2.1:12345"
)

// proxyLine is a PROXY protocol header of version 1.
func proxyLine(source string) string {
	if strings.Contains(source, ":") {
		return "PROXY TCP6 " + source + " ::1 12345 443\r\n"
	}
	return "PROXY TCP4 " + source + " 127.0.0.1 12345 443\r\n"
}

// joinAs connects by way of a proxy. It returns the status line of a refusal, or "" and the connection.
func joinAs(t *testing.T, s *peer.Server, header string) (c *peer.Conn, refused string) {
	t.Helper()
	c = s.Dial(t)
	c.Send([]byte(header + peer.Request))
	answer := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\n"))
	_, err := c.Reader.Read(answer[:0])
	require.NoError(t, err)
	first, err := c.Reader.Peek(len("HTTP/1.1 101"))
	require.NoError(t, err)
	if string(first) != "HTTP/1.1 101" {
		refused, _, _ = c.Answer()
		return c, refused
	}
	_, err = c.Reader.Discard(len(peer.Accepted))
	require.NoError(t, err)
	return c, ""
}

const tooManyOfAddress = "HTTP/1.1 503 too many connections from this address"

func TestMaxConnectionsPerAddress(t *testing.T) {
	t.Run("one too many is told to come later, until one has gone", func(t *testing.T) {
		const limit = 3
		opts := &websocket.ServerOptions{MaxConnectionsPerAddress: limit, HandleText: peer.Echo}
		records := loggedBy(opts)
		s := peer.Start(t, opts)
		for _, end := range []func(c *peer.Conn){
			func(c *peer.Conn) { c.Send(websocket.NewFrameClose(true, 1000, nil)); c.ExpectClose(1000) },
			func(c *peer.Conn) { c.Reset() },
			func(c *peer.Conn) { c.Send(websocket.NewFrameText(false, nil)); c.ExpectClose(1002) },
		} {
			var open []*peer.Conn
			for range limit {
				require.True(t, peer.Eventually(func() bool { // the one before may be on its way to its end
					c, refused := joinAs(t, s, "")
					if refused == "" {
						open = append(open, c)
					}
					return refused == ""
				}))
			}
			c := s.Dial(t)
			status, header, body := c.Answer() // before it has asked for anything
			require.Equal(t, tooManyOfAddress, status)
			require.Equal(t, "10", header["Retry-After"])
			require.Equal(t, "too many connections from this address", body)
			attrs := nextLogged(t, records, "websocket: handshake refused")
			require.EqualValues(t, 503, attrs["status"].Int64())
			require.Equal(t, c.LocalAddr().String(), attrs["address"].String())
			for _, c := range open {
				c.Text("x")
				c.ExpectText("x")
				end(c)
			}
		}
	})
	for name, header := range map[string]string{"": "", ", behind a proxy too": proxyLine("192.0.2.1")} {
		t.Run("those far beyond it are told nothing"+name, func(t *testing.T) {
			opts := &websocket.ServerOptions{MaxConnectionsPerAddress: 1, HandleText: peer.Echo}
			if header != "" {
				opts.ProxyProtocol = loopback
			}
			s := peer.Start(t, opts)
			c, refused := joinAs(t, s, header)
			require.Empty(t, refused)
			var silent atomic.Int32
			all := make(chan *peer.Conn, 200)
			for range cap(all) { // none of them leaves before all are there
				c := s.Dial(t)
				c.Write([]byte(header)) // it may have been closed
				all <- c
			}
			close(all)
			peer.All(t, 8, func(int) error {
				for c := range all {
					if first, _ := c.Reader.Peek(1); len(first) == 0 {
						silent.Add(1)
					}
					c.Close()
				}
				return nil
			})
			assert.Positive(t, silent.Load())
			c.Text("x")
			c.ExpectText("x")
			c.Close()
			require.True(t, peer.Eventually(func() bool { _, refused := joinAs(t, s, header); return refused == "" }), "none is counted for ever")
		})
	}
	for _, row := range []struct {
		name    string
		first   string
		same    []string // as many as the limit allows are there
		another []string
	}{
		{"IPv4 counts by address", "192.0.2.1", []string{"192.0.2.1", "::ffff:192.0.2.1"}, []string{"192.0.2.2", "::ffff:192.0.2.3", "127.0.0.1"}},
		{"IPv6 counts by its first 64 bits", "2001:db8::1", []string{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"}, []string{"2001:db8:0:1::1", "2001:db9::1", "192.0.2.1"}},
		{"link-local addresses count by address", "fe80::1", []string{"fe80::1"}, []string{"fe80::2"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := peer.Start(t, &websocket.ServerOptions{MaxConnectionsPerAddress: 1, ProxyProtocol: loopback})
			_, refused := joinAs(t, s, proxyLine(row.first))
			require.Empty(t, refused)
			for _, address := range row.same {
				_, refused = joinAs(t, s, proxyLine(address))
				assert.Equal(t, tooManyOfAddress, refused, address)
			}
			for _, address := range row.another {
				_, refused = joinAs(t, s, proxyLine(address))
				assert.Empty(t, refused, address)
			}
		})
	}
	t.Run("the proxy itself is not counted for its clients", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{MaxConnectionsPerAddress: 1, ProxyProtocol: loopback})
		waiting := make([]*peer.Conn, 20)
		for i := range waiting {
			waiting[i] = s.Dial(t)
		}
		for i, c := range waiting {
			c.Send([]byte(proxyLine(fmt.Sprintf("192.0.2.%d", i+1))))
			require.NoError(t, c.Shake())
		}
	})
	t.Run("Unix sockets are not counted", func(t *testing.T) {
		s := unixServer(t, &websocket.ServerOptions{MaxConnectionsPerAddress: 1})
		s.Connect(t)
		s.Connect(t)
	})
}

// unixServer runs a server on a Unix socket until the end of the test.
func unixServer(t *testing.T, opts *websocket.ServerOptions) *peer.Server {
	t.Helper()
	peer.CheckGoroutines(t)
	peer.CheckDescriptors(t)
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	s := &peer.Server{Server: websocket.NewServer(peer.Quiet(opts)), T: t}
	s.ServeOn(ln)
	t.Cleanup(func() { s.StopAndWait(t) })
	return s
}

func TestProxyProtocol(t *testing.T) {
	for _, row := range []struct {
		name, header, address string // "" is the peer's own
	}{
		{"version 1, IPv4", proxyLine("192.0.2.1"), proxied},
		{"version 1, IPv6", proxyLine("2001:db8::1"), "[2001:db8::1]:12345"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", ""},
		{"version 2, IPv4", proxyBinary, proxied},
		{"version 2, with TLVs", proxySignature + "\x21\x11\x00\x13" + proxyPair + "\x01\x00\x04http", proxied},
		{"version 2, a Unix socket", proxySignature + "\x21\x31\x00\xd8" + "/run/a" + strings.Repeat("\x00", 210), "/run/a"},
		{"a health check", proxyHealth, ""},
	} {
		t.Run("the address is the client's: "+row.name, func(t *testing.T) {
			opts := &websocket.ServerOptions{ProxyProtocol: loopback, HandleText: peer.Echo}
			asked := make(chan net.Addr, 1)
			opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
				asked <- req.RemoteAddr
				return nil, nil
			}
			added, records, all := peer.Added(opts), loggedBy(opts), toldBy(opts)
			s := peer.Start(t, opts)
			c := s.Dial(t)
			want := row.address
			if want == "" {
				want = c.LocalAddr().String()
			}
			c.Send(append([]byte(row.header+peer.Request), websocket.NewFrameText(true, []byte("early"))...)) // all in one
			_, err := c.Reader.Discard(len(peer.Accepted))
			require.NoError(t, err)
			c.ExpectText("early")
			assert.Equal(t, want, peer.Get(t, asked).String())
			info, ok := s.Clients.Info(peer.Get(t, added))
			require.True(t, ok)
			assert.Equal(t, want, info.RemoteAddr.String())
			c.Send(websocket.NewFrameClose(true, 1000, nil))
			c.ExpectClose(1000)
			assert.Equal(t, want, nextLogged(t, records, "websocket: connection ends")["address"].String())
			assert.Equal(t, want, peer.Get(t, all).info.RemoteAddr.String())
		})
	}
	for _, row := range []struct{ name, sent, status, cause string }{
		{"a request without a header", peer.Request, "400 bad request: PROXY protocol header expected", "/"},
		{"TLS", "\x16\x03\x01\x02\x00", "400 bad request: PROXY protocol header expected", ""},
		{"a malformed header", "PROXY TCP4 192.0.2.1\r\n", "400 bad request: malformed PROXY protocol header", ""},
		{"an endless one", "PROXY UNKNOWN" + strings.Repeat(" ", 100), "400 bad request: PROXY protocol header too long", ""},
		{"one that claims 64 KiB", proxySignature + "\x21\x11\xff\xff", "400 bad request: PROXY protocol header too long", ""},
		{"a second header", proxyBinary + proxyBinary + peer.Request, "400 bad request: malformed request line", ""},
	} {
		t.Run("anything else from a proxy is refused: "+row.name, func(t *testing.T) {
			opts := &websocket.ServerOptions{ProxyProtocol: loopback}
			records := loggedBy(opts)
			s := peer.Start(t, opts)
			c := s.Dial(t)
			c.Send([]byte(row.sent))
			status, _, _ := c.Answer()
			assert.Equal(t, "HTTP/1.1 "+row.status, status)
			attrs := nextLogged(t, records, "websocket: handshake refused")
			assert.Contains(t, row.status, attrs["cause"].String())
		})
	}
	t.Run("a header that is cut off is refused", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{ProxyProtocol: loopback})
		c := s.Dial(t)
		c.Send([]byte(proxyBinary[:20]))
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
		status, _, _ := c.Answer()
		assert.Equal(t, "HTTP/1.1 400 bad request: malformed PROXY protocol header", status)
	})
	t.Run("a health check that asks for nothing is told nothing", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{ProxyProtocol: loopback})
		c := s.Dial(t)
		c.Send([]byte(proxyHealth))
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
		c.ExpectEOF()
	})
	t.Run("a status request has a header in front too", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{ProxyProtocol: loopback})
		c := s.Dial(t)
		c.Send([]byte(proxyBinary + "GET /status HTTP/1.1\r\nHost: x\r\n\r\n"))
		status, _, body := c.Answer()
		assert.Equal(t, "HTTP/1.1 200 OK", status)
		assert.Equal(t, "OK", body)
	})
	for name, trusted := range map[string][]netip.Prefix{"nobody is trusted": nil, "somebody else is trusted": elsewhere} {
		for _, header := range []string{proxyLine("192.0.2.1"), proxyBinary} {
			t.Run(fmt.Sprintf("a header is never believed if %s: %.5q", name, header), func(t *testing.T) {
				opts := &websocket.ServerOptions{ProxyProtocol: trusted}
				added, records := peer.Added(opts), loggedBy(opts)
				s := peer.Start(t, opts)
				c, refused := joinAs(t, s, header)
				assert.Regexp(t, "^HTTP/1.1 400 ", refused)
				assert.Equal(t, c.LocalAddr().String(), nextLogged(t, records, "websocket: handshake refused")["address"].String())
				c, refused = joinAs(t, s, "")
				require.Empty(t, refused)
				info, ok := s.Clients.Info(peer.Get(t, added))
				require.True(t, ok)
				assert.Equal(t, c.LocalAddr().String(), info.RemoteAddr.String())
			})
		}
	}
	t.Run("a network may be written as IPv4 in IPv6", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.0/104")}})
		_, refused := joinAs(t, s, proxyBinary)
		assert.Empty(t, refused)
	})
	t.Run("all of IPv6 is nothing of IPv4", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("::/0")}})
		_, refused := joinAs(t, s, "")
		assert.Empty(t, refused)
	})
	t.Run("a peer that is IPv4 in IPv6 is IPv4", func(t *testing.T) {
		ln, err := net.Listen("tcp", "[::]:0")
		if err != nil {
			t.Skip("no IPv6 here: ", err)
		}
		s := &peer.Server{Server: websocket.NewServer(peer.Quiet(&websocket.ServerOptions{ProxyProtocol: loopback})), T: t}
		s.ServeOn(ln)
		t.Cleanup(func() { s.StopAndWait(t) })
		_, port, err := net.SplitHostPort(s.Address)
		require.NoError(t, err)
		for _, host := range []string{"127.0.0.1", "::1"} {
			s.Address = net.JoinHostPort(host, port)
			_, refused := joinAs(t, s, proxyBinary)
			assert.Empty(t, refused, host)
		}
	})
	t.Run("every peer of a Unix socket is trusted", func(t *testing.T) {
		opts := &websocket.ServerOptions{ProxyProtocol: elsewhere}
		added := peer.Added(opts)
		s := unixServer(t, opts)
		_, refused := joinAs(t, s, proxyBinary)
		require.Empty(t, refused)
		info, ok := s.Clients.Info(peer.Get(t, added))
		require.True(t, ok)
		assert.Equal(t, proxied, info.RemoteAddr.String())
		_, refused = joinAs(t, s, "")
		assert.Equal(t, "HTTP/1.1 400 bad request: PROXY protocol header expected", refused)
	})
	t.Run("a prefix that is none is an error of Start", func(t *testing.T) {
		opts := &websocket.ServerOptions{Address: "127.0.0.1:0", ProxyProtocol: []netip.Prefix{{}}}
		assert.ErrorContains(t, websocket.NewServer(opts).Start(), "ProxyProtocol")
	})
}

func TestInfo(t *testing.T) {
	t.Run("it answers as Context does", func(t *testing.T) {
		opts := &websocket.ServerOptions{Logger: slog.New(slog.DiscardHandler)}
		type answer struct {
			info websocket.ConnInfo
			ok   bool
		}
		var server atomic.Pointer[peer.Server]
		answers := make(chan answer, 3)
		ask := func(_ context.Context, conn int) {
			info, ok := server.Load().Clients.Info(conn)
			answers <- answer{info, ok}
		}
		opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) {
			return context.WithValue(context.Background(), websocket.CtxKeyUID, int64(42)), nil
		}
		opts.HandleClientAdd, opts.HandleClientRemove = ask, ask
		s := peer.Start(t, opts)
		server.Store(s)
		before := time.Now()
		c := s.Connect(t)
		for i := range 2 {
			got := peer.Get(t, answers)
			require.True(t, got.ok)
			assert.Equal(t, websocket.ConnInfo{Conn: got.info.Conn, ID: got.info.ID, UID: 42, RemoteAddr: got.info.RemoteAddr, Opened: got.info.Opened}, got.info)
			assert.Equal(t, c.LocalAddr().String(), got.info.RemoteAddr.String())
			assert.WithinRange(t, got.info.Opened, before, time.Now())
			if i == 0 {
				assert.Equal(t, websocket.ID(got.info.Conn), got.info.ID)
				s.ClientRemove(got.info.Conn)
				continue
			}
			c.ExpectClose(1000)
			assert.True(t, peer.Eventually(func() bool { _, ok := s.Clients.Info(got.info.Conn); return !ok }))
		}
	})
	t.Run("it tells how much is queued", func(t *testing.T) {
		opts := &websocket.ServerOptions{SendQueueSize: 1 << 20}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		s.Connect(t)
		conn := peer.Get(t, added)
		info, _ := s.Clients.Info(conn)
		assert.Zero(t, info.Queued)
		packet := websocket.NewFrameBin(false, make([]byte, 1<<16))
		peer.Fill(t, conn, packet)
		info, _ = s.Clients.Info(conn)
		assert.Greater(t, info.Queued, 1<<20-len(packet))
		assert.LessOrEqual(t, info.Queued, 1<<20)
	})
	t.Run("it knows no number that is no connection of this server", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s, other := peer.Start(t, opts), &peer.Server{Server: websocket.NewServer(peer.Quiet(nil)), T: t}
		other.Launch(t)
		s.Connect(t)
		conn := peer.Get(t, added)
		_, ok := s.Clients.Info(conn)
		require.True(t, ok)
		for _, cls := range []*websocket.ClientManager{other.Clients, new(websocket.ClientManager)} {
			_, ok = cls.Info(conn)
			assert.False(t, ok)
		}
		for _, number := range []int{-1, 0, 1 << 30} {
			_, ok = s.Clients.Info(number)
			assert.False(t, ok, number)
		}
	})
	t.Run("not while HandleAuth decides", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		asked, release := make(chan struct{}), make(chan struct{})
		opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) { close(asked); <-release; return nil, nil }
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c := s.Dial(t)
		c.Send([]byte(peer.Request))
		peer.Done(t, asked)
		for conn := range 1 << 10 {
			_, ok := s.Clients.Info(conn)
			assert.False(t, ok)
			assert.ErrorIs(t, s.Clients.Close(conn, 1000, ""), websocket.ErrConnClosed)
		}
		now()
	})
}

func TestCloseOfClientManager(t *testing.T) {
	t.Run("the Close frame is behind what was sent before, and HandleClientRemove is called", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		payload := peer.Pattern(1<<16, 1)
		sent := peer.Fill(t, conn, websocket.NewFrameBin(false, payload))
		require.NoError(t, s.Clients.Close(conn, 3999, "session replaced"))
		assert.Empty(t, s.Clients.All())
		assert.Equal(t, conn, peer.Get(t, removed))
		for range sent {
			c.Expect(websocket.OpcodeBin, string(payload))
		}
		c.Expect(websocket.OpcodeClose, peer.CloseBody(3999, "session replaced"))
		c.Send(websocket.NewFrameClose(true, 3999, nil)) // which is still read
		c.ExpectEOF()
	})
	t.Run("what must not be sent is an error, and nothing happens", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		for _, code := range []websocket.CloseCode{0, 999, 1004, 1005, 1006, 1015, 2999, 5000} {
			assert.ErrorContains(t, s.Clients.Close(conn, code, ""), "must not be on the wire")
		}
		assert.ErrorContains(t, s.Clients.Close(conn, 1000, "\xff"), "not UTF-8")
		c.Text("x")
		c.ExpectText("x")
	})
	t.Run("a connection that ends is closed", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s, other := peer.Start(t, opts), &peer.Server{Server: websocket.NewServer(peer.Quiet(nil)), T: t}
		other.Launch(t)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		assert.ErrorIs(t, other.Clients.Close(conn, 1000, ""), websocket.ErrConnClosed)
		assert.ErrorIs(t, s.Clients.Close(-1, 1000, ""), websocket.ErrConnClosed)
		require.NoError(t, s.Clients.Close(conn, 4000, "first"))
		assert.ErrorIs(t, s.Clients.Close(conn, 4001, "second"), websocket.ErrConnClosed)
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4000, "first"))
		c.ExpectEOF()
	})
	t.Run("one that was sent a Close frame is closed", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		require.NoError(t, websocket.Send(conn, sendsClose(4000, "first")))
		assert.ErrorIs(t, s.Clients.Close(conn, 4001, "second"), websocket.ErrConnClosed)
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4000, "first"))
		c.Send(websocket.NewFrameClose(true, 4000, nil))
		c.ExpectEOF()
	})
	t.Run("a handler may close its own connection", func(t *testing.T) {
		var server atomic.Pointer[peer.Server]
		s := peer.Start(t, &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
			server.Load().Clients.Close(conn, 4000, string(p))
		}})
		server.Store(s)
		c := s.Connect(t)
		c.Text("as you like")
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4000, "as you like"))
		c.ExpectEOF()
	})
}
