//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// secure are the options of a server with TLS.
func secure(opts websocket.ServerOptions) *websocket.ServerOptions {
	opts.TLSConfig = peer.ServerTLS()
	return &opts
}

// dialWith connects with a configuration of its own, without a handshake.
func dialWith(t *testing.T, s *peer.Server, config *tls.Config) *peer.Conn {
	t.Helper()
	c := s.DialPlain(t)
	c.Secure(config)
	return c
}

// clientWith is peer.ClientTLS with one thing changed.
func clientWith(change func(config *tls.Config)) *tls.Config {
	config := peer.ClientTLS()
	change(config)
	return config
}

// tlsSizes are lengths of messages around those at which records and what is written at once end, with the header of a frame or without.
var tlsSizes = []int{0, 1, 125, 126, 127, 16_370, 16_380, 16_383, 16_384, 16_385, 32_764, 32_768, 65_526, 65_535, 65_536, 65_537, 1<<20 + 1}

func TestTLS(t *testing.T) {
	for _, row := range []struct {
		name    string
		version uint16
		suite   uint16
		rsa     bool
	}{
		{"TLS 1.3", tls.VersionTLS13, 0, false},
		{"TLS 1.3, RSA", tls.VersionTLS13, 0, true},
		{"TLS 1.2, AES", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, false},
		{"TLS 1.2, ChaCha20", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, false},
		{"TLS 1.2, RSA", tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, true},
		{"TLS 1.2, CBC", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, false},
	} {
		t.Run(row.name+": messages of every size go both ways, and close_notify follows the Close frame", func(t *testing.T) {
			opts := &websocket.ServerOptions{TLSConfig: &tls.Config{Certificates: []tls.Certificate{peer.CertificateECDSA()}}, HandleText: peer.Echo,
				HandleBin: func(conn int, p []byte) { websocket.Send(conn, websocket.NewFrameBin(false, p)) }}
			if row.rsa {
				opts.TLSConfig.Certificates[0] = peer.CertificateRSA()
			}
			s := peer.Start(t, opts)
			c := dialWith(t, s, clientWith(func(config *tls.Config) {
				config.MinVersion, config.MaxVersion = row.version, row.version
				config.CipherSuites = []uint16{row.suite}
			}))
			require.NoError(t, c.Shake())
			require.Equal(t, row.version, c.TLS().ConnectionState().Version)
			for _, size := range tlsSizes {
				payload := peer.Pattern(size, size)
				for _, op := range []websocket.Opcode{websocket.OpcodeText, websocket.OpcodeBin} {
					sent := make(chan error, 1)
					go func() { // it may be larger than what is under way
						_, err := c.Write(websocket.NewFrame(op, true, payload))
						sent <- err
					}()
					c.Expect(op, string(payload))
					require.NoError(t, peer.Get(t, sent))
				}
			}
			c.Send(websocket.NewFrameClose(true, 4001, nil))
			c.ExpectClose(4001) // and the end of the stream, which without close_notify is an error
		})
	}
}

func TestTLS_callbacks(t *testing.T) {
	var calls []string // by one connection, one after the other
	var states []*tls.ConnectionState
	note := func(call string, state *tls.ConnectionState) {
		calls, states = append(calls, call), append(states, state)
	}
	var s *peer.Server
	ended := make(chan websocket.CloseCause, 1)
	opts := secure(websocket.ServerOptions{
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			note("auth", req.TLS)
			return nil, nil
		},
		HandleClientAdd: func(_ context.Context, conn int) {
			info, _ := s.Clients.Info(conn)
			note("add", info.TLS)
		},
		HandleText: func(conn int, p []byte) {
			info, _ := s.Clients.Info(conn)
			note("text "+string(p), info.TLS)
			peer.Echo(conn, p)
		},
		HandleClientRemove: func(_ context.Context, conn int) {
			info, _ := s.Clients.Info(conn)
			note("remove", info.TLS)
		},
		OnClose: func(info websocket.ConnInfo, cause websocket.CloseCause) {
			note("close", info.TLS)
			ended <- cause
		},
	})
	s = startIdle(t, opts)
	s.Restart(t)
	c := s.Dial(t)
	require.NoError(t, c.Shake())
	c.Send(slices.Concat(websocket.NewFrameText(true, []byte("1")), websocket.NewFrameText(true, []byte("2")), websocket.NewFrameClose(true, 4000, []byte("bye"))))
	c.ExpectText("1")
	c.ExpectText("2")
	c.ExpectClose(4000)
	require.Equal(t, websocket.CloseCause{Code: 4000, Reason: "bye", Kind: websocket.ClosedByPeer}, peer.Get(t, ended))
	s.StopAndWait(t)
	require.Equal(t, []string{"auth", "add", "text 1", "text 2", "remove", "close"}, calls)
	for i, state := range states {
		require.NotNil(t, state, calls[i])
		assert.Equal(t, uint16(tls.VersionTLS13), state.Version, calls[i])
		assert.Equal(t, peer.ServerName, state.ServerName, calls[i])
		assert.True(t, state.HandshakeComplete, calls[i])
		assert.Empty(t, state.PeerCertificates, calls[i])
	}
}

func TestTLS_send(t *testing.T) {
	const clients, senders, each = 20, 8, 50
	opts := secure(websocket.ServerOptions{HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
		return context.WithValue(context.Background(), websocket.CtxKeyUID, 7), nil
	}})
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	var conns []*peer.Conn
	var numbers []int
	for range clients {
		conns = append(conns, s.Connect(t))
		numbers = append(numbers, peer.Get(t, added))
	}
	got := make(chan error, clients)
	for i := range clients {
		go func() { got <- readSenders(conns[i], senders+2, each) }()
	}
	peer.All(t, senders+2, func(sender int) error {
		for n := range each {
			packet := websocket.NewFrameText(false, fmt.Appendf(nil, "%d %d %s", sender, n, peer.Pattern(n*137, n)))
			var failed map[int]error
			switch sender {
			case 0:
				_, failed = s.Clients.SendAll(packet)
			case 1:
				_, failed = s.Clients.SendUser(7, packet)
			default:
				for _, conn := range numbers {
					if err := websocket.Send(conn, packet); err != nil {
						return err
					}
				}
			}
			for _, err := range failed {
				return err
			}
		}
		return nil
	})
	for range clients {
		require.NoError(t, peer.Get(t, got))
	}
}

// readSenders reads what each of several senders has sent: whole, and in its order.
func readSenders(c *peer.Conn, senders, each int) error {
	next := make([]int, senders)
	for range senders * each {
		_, payload, err := c.Frame()
		if err != nil {
			return err
		}
		var sender, n int
		if _, err = fmt.Sscanf(string(payload), "%d %d", &sender, &n); err != nil {
			return err
		}
		if want := fmt.Sprintf("%d %d %s", sender, next[sender], peer.Pattern(n*137, n)); string(payload) != want {
			return fmt.Errorf("got %.40q for %.40q", payload, want)
		}
		next[sender]++
	}
	return nil
}

func TestTLS_manyConnections(t *testing.T) {
	const rounds, open = 8, 250 // 2,000 come and go
	const few = 16              // something may hold the last ones
	opts := secure(websocket.ServerOptions{HandleText: peer.Echo})
	added := peer.Added(opts)
	states := make(chan struct{}, rounds*open)
	s := peer.Start(t, opts)
	for round := range rounds {
		conns := make([]*peer.Conn, open)
		peer.All(t, open, func(i int) (err error) {
			conns[i], err = s.Join()
			return err
		})
		for range open {
			info, ok := s.Clients.Info(peer.Get(t, added))
			require.True(t, ok)
			runtime.AddCleanup(info.TLS, func(all chan struct{}) { all <- struct{}{} }, states)
		}
		for i, c := range conns {
			switch (i + round) % 3 {
			case 0:
				c.Text("x")
				c.ExpectText("x")
				c.Close()
			case 1:
				c.Send(websocket.NewFrameClose(true, 1000, nil))
				c.ExpectClose(1000)
			case 2:
				c.Reset()
			}
		}
	}
	require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 0 && len(s.Sockets()) == 0 }))
	require.True(t, peer.Eventually(func() bool {
		runtime.GC()
		return len(states) >= rounds*open-few
	}), "%d of %d states are free", len(states), rounds*open)
}

func TestTLS_goroutines(t *testing.T) {
	const clients = 500
	count := func(t *testing.T, opts *websocket.ServerOptions) (goroutines int) {
		opts.HandleText = peer.Echo
		s := peer.Start(t, opts)
		for range clients {
			c := s.Connect(t)
			c.Text("x")
			c.ExpectText("x")
		}
		least := runtime.NumGoroutine()
		peer.Eventually(func() bool {
			least = min(least, runtime.NumGoroutine())
			return least < 50
		})
		return least
	}
	var plain, wss int
	t.Run("plain", func(t *testing.T) { plain = count(t, new(websocket.ServerOptions)) })
	t.Run("wss", func(t *testing.T) { wss = count(t, secure(websocket.ServerOptions{})) })
	assert.LessOrEqual(t, wss, plain+2, "500 connections have goroutines of their own")
}

func TestTLS_options(t *testing.T) {
	t.Run("the port of https is the default", func(t *testing.T) {
		assert.Equal(t, ":443", websocket.NewServer(secure(websocket.ServerOptions{})).Options.Address)
		assert.Equal(t, ":80", websocket.NewServer(nil).Options.Address)
	})
	t.Run("a configuration without a certificate is an error of Start", func(t *testing.T) {
		s := startIdle(t, &websocket.ServerOptions{TLSConfig: new(tls.Config), Address: "127.0.0.1:0"})
		ended := make(chan error, 1)
		go func() { ended <- s.Start() }()
		require.ErrorContains(t, peer.Get(t, ended), "TLSConfig")
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() { ended <- s.Serve(ln) }()
		require.ErrorContains(t, peer.Get(t, ended), "TLSConfig")
		_, err = ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
	})
	for _, own := range [][]string{nil, {"http/1.1"}, {"custom"}} {
		t.Run(fmt.Sprintf("the program's configuration is not changed: %q", own), func(t *testing.T) {
			opts := secure(websocket.ServerOptions{HandleText: peer.Echo})
			config := opts.TLSConfig
			config.NextProtos = slices.Clone(own)
			s := peer.Start(t, opts)
			s.Connect(t)
			require.Same(t, config, opts.TLSConfig)
			require.Equal(t, own, config.NextProtos)
		})
	}
	t.Run("a connection that is one too many gets an alert, and others are kept", func(t *testing.T) {
		for _, opts := range []websocket.ServerOptions{{MaxConnections: 1}, {MaxConnectionsPerAddress: 1}} {
			opts.HandleText = peer.Echo
			s := peer.Start(t, secure(opts))
			c := s.Connect(t)
			refused := s.DialPlain(t)
			go refused.Write(peer.ClientHello(nil))
			all, err := io.ReadAll(refused.Reader)
			if err == nil { // else it was reset
				require.Len(t, all, 7, "%q", all)
				require.Equal(t, "\x15\x03", string(all[:2]))
			}
			require.Error(t, s.Dial(t).Shake())
			c.Text("x")
			c.ExpectText("x")
		}
	})
}

func TestTLS_proxy(t *testing.T) {
	requests := make(chan string, 64)
	helloFrom := make(chan net.Addr, 64)
	opts := secure(websocket.ServerOptions{ProxyProtocol: loopback, HandleText: peer.Echo})
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		requests <- req.RemoteAddr.String()
		return nil, nil
	}
	opts.TLSConfig.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		helloFrom <- hello.Conn.RemoteAddr()
		return nil, nil
	}
	s := peer.Start(t, opts)
	for _, header := range []string{proxyLine("192.0.2.1"), proxyBinary} {
		for _, size := range []int{1, 7, len(header), len(header) + 1, len(header) + 5, 1 << 20} {
			t.Run(fmt.Sprintf("%.5q in front of TLS, in pieces of %d bytes", header, size), func(t *testing.T) {
				c := s.DialPlain(t)
				c.Conn = &peer.CutConn{Conn: &prefixConn{Conn: c.Conn, prefix: header}, Size: 1 << 20}
				if size < 1<<20 {
					c.Conn = &prefixConn{Conn: &peer.CutConn{Conn: c.Socket(), Size: size}, prefix: header}
				}
				c.Secure(nil)
				require.NoError(t, c.Shake())
				require.Equal(t, proxied, peer.Get(t, requests))
				require.NotNil(t, peer.Get(t, helloFrom))
				c.Text("x")
				c.ExpectText("x")
			})
		}
	}
	t.Run("TLS without a header is not let in", func(t *testing.T) {
		require.Error(t, s.Dial(t).Shake())
	})
}

// prefixConn writes something in front of its first bytes, in one piece with them.
type prefixConn struct {
	net.Conn
	prefix string
}

func (c *prefixConn) NetConn() net.Conn { return c.Conn }

func (c *prefixConn) Write(b []byte) (int, error) {
	whole := append([]byte(c.prefix), b...)
	c.prefix = ""
	if _, err := c.Conn.Write(whole); err != nil {
		return 0, err
	}
	return len(b), nil
}
