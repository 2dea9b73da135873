//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// bothVersions runs a test with each version of TLS.
func bothVersions(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { test(t, version) })
	}
}

func TestTLS_clientCertificates(t *testing.T) {
	bothVersions(t, func(t *testing.T, version uint16) {
		var asked atomic.Int64
		names := make(chan string, 2)
		opts := secure(websocket.ServerOptions{HandleText: peer.Echo})
		opts.TLSConfig.ClientAuth, opts.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, peer.Trust()
		opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
			asked.Add(1)
			names <- req.TLS.PeerCertificates[0].Subject.CommonName
			return nil, nil
		}
		told, added := toldBy(opts), peer.Added(opts)
		s := peer.Start(t, opts)
		config := clientWith(func(config *tls.Config) {
			config.MaxVersion = version
			config.Certificates = []tls.Certificate{peer.Certificate("alice")}
		})
		c := dialWith(t, s, config)
		require.NoError(t, c.Shake())
		require.Equal(t, "alice", peer.Get(t, names))
		info, ok := s.Clients.Info(peer.Get(t, added))
		require.True(t, ok)
		require.Equal(t, "alice", info.TLS.VerifiedChains[0][0].Subject.CommonName)
		c.Close()
		require.Equal(t, "alice", peer.Get(t, told).info.TLS.PeerCertificates[0].Subject.CommonName)

		c = dialWith(t, s, clientWith(func(config *tls.Config) { config.MaxVersion = version }))
		require.ErrorContains(t, c.Shake(), "tls: ")
		require.EqualValues(t, 1, asked.Load(), "nobody without a certificate gets as far as HandleAuth")
	})
}

func TestTLS_protocols(t *testing.T) {
	h2Alone := &tls.Config{Certificates: []tls.Certificate{peer.CertificateECDSA()}, NextProtos: []string{"h2"}}
	for _, row := range []struct {
		name    string
		offers  []string
		own     []string    // TLSConfig.NextProtos
		instead *tls.Config // what GetConfigForClient returns
		want    string
		refused bool
	}{
		{name: "a client without ALPN"},
		{name: "a client of http/1.1", offers: []string{"http/1.1"}, want: "http/1.1"},
		{name: "a browser, which offers h2 for pages", offers: []string{"h2", "http/1.1"}, want: "http/1.1"},
		{name: "a browser, where the program has asked for http/1.1", own: []string{"http/1.1"}, offers: []string{"h2", "http/1.1"}, want: "http/1.1"},
		{name: "a client of h2 alone", offers: []string{"h2"}, refused: true},
		{name: "a client of something else", offers: []string{"mqtt"}, refused: true},
		{name: "a client without ALPN, where another configuration takes h2 alone", instead: h2Alone},
		{name: "a browser, where another configuration takes h2 alone", instead: h2Alone, offers: []string{"h2", "http/1.1"}, refused: true},
		{name: "a browser, where another configuration has no protocols", instead: peer.ServerTLS(), offers: []string{"h2", "http/1.1"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			opts := secure(websocket.ServerOptions{HandleText: peer.Echo})
			opts.TLSConfig.NextProtos = row.own
			if row.instead != nil {
				opts.TLSConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return row.instead, nil }
			}
			s := peer.Start(t, opts)
			c := dialWith(t, s, clientWith(func(config *tls.Config) { config.NextProtos = row.offers }))
			err := c.Shake()
			if row.refused {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			if row.instead == nil {
				require.Equal(t, row.want, c.TLS().ConnectionState().NegotiatedProtocol)
			}
			c.Text("x")
			c.ExpectText("x")
		})
	}
}

func TestTLS_certificates(t *testing.T) {
	first, second := peer.CertificateECDSA(), peer.Certificate("second.example")
	serial := func(c *peer.Conn) string { return c.TLS().ConnectionState().PeerCertificates[0].SerialNumber.String() }
	t.Run("one that is swapped is that of later connections, and earlier ones go on", func(t *testing.T) {
		var current atomic.Pointer[tls.Certificate]
		current.Store(&first)
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, TLSConfig: &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }}})
		before := s.Connect(t)
		require.Equal(t, first.Leaf.SerialNumber.String(), serial(before))
		current.Store(&second)
		after := dialWith(t, s, clientWith(func(config *tls.Config) { config.ServerName = "second.example" }))
		require.NoError(t, after.Shake())
		require.Equal(t, second.Leaf.SerialNumber.String(), serial(after))
		for _, c := range []*peer.Conn{before, after} {
			c.Text("x")
			c.ExpectText("x")
		}
	})
	t.Run("each name has its own, and the server knows the name", func(t *testing.T) {
		names := make(chan string, 1)
		s := peer.Start(t, &websocket.ServerOptions{TLSConfig: &tls.Config{Certificates: []tls.Certificate{first, second}},
			HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
				names <- req.TLS.ServerName
				return nil, nil
			}})
		for name, certificate := range map[string]tls.Certificate{peer.ServerName: first, "second.example": second} {
			c := dialWith(t, s, clientWith(func(config *tls.Config) { config.ServerName = name }))
			require.NoError(t, c.Shake())
			require.Equal(t, certificate.Leaf.SerialNumber.String(), serial(c))
			require.Equal(t, name, peer.Get(t, names))
		}
	})
	t.Run("a client that does not trust it is not let in", func(t *testing.T) {
		s := peer.Start(t, secure(websocket.ServerOptions{}))
		c := dialWith(t, s, clientWith(func(config *tls.Config) { config.RootCAs = nil }))
		require.ErrorContains(t, c.Shake(), "certificate")
		require.NoError(t, s.Connect(t).Close())
	})
}

// key is a session ticket key.
func key(n byte) (k [32]byte) {
	k[0] = n
	return k
}

func TestTLS_resumption(t *testing.T) {
	bothVersions(t, func(t *testing.T, version uint16) {
		newClient := func() *tls.Config {
			return clientWith(func(config *tls.Config) {
				config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(8)
			})
		}
		resumes := func(t *testing.T, s *peer.Server, config *tls.Config) bool {
			c := dialWith(t, s, config)
			require.NoError(t, c.Shake())
			c.Text("x")
			c.ExpectText("x")
			defer c.Close()
			return c.TLS().ConnectionState().DidResume
		}
		t.Run("a client that comes again resumes its session", func(t *testing.T) {
			s, client := peer.Start(t, secure(websocket.ServerOptions{HandleText: peer.Echo})), newClient()
			assert.False(t, resumes(t, s, client))
			for range 3 {
				assert.True(t, resumes(t, s, client))
			}
		})
		t.Run("keys that are rotated are those of new tickets, and the older ones are good for old tickets", func(t *testing.T) {
			s, client := startIdle(t, secure(websocket.ServerOptions{HandleText: peer.Echo})), newClient()
			s.SetSessionTicketKeys([][32]byte{key(1)}) // before it runs
			s.Restart(t)
			assert.False(t, resumes(t, s, client))
			assert.True(t, resumes(t, s, client))
			for n := byte(2); n < 6; n++ {
				s.SetSessionTicketKeys([][32]byte{key(n), key(n - 1)})
				assert.True(t, resumes(t, s, client), "with key %d", n)
			}
			s.SetSessionTicketKeys([][32]byte{key(9)})
			assert.False(t, resumes(t, s, client), "its key is gone")
			assert.True(t, resumes(t, s, client))
		})
		t.Run("two servers with the same keys resume each other's sessions", func(t *testing.T) {
			var servers []*peer.Server
			for range 2 {
				opts := peer.Quiet(secure(websocket.ServerOptions{HandleText: peer.Echo}))
				s := &peer.Server{Server: websocket.NewServer(opts), T: t}
				s.SetSessionTicketKeys([][32]byte{key(3)})
				s.Launch(t)
				servers = append(servers, s)
			}
			client := newClient()
			assert.False(t, resumes(t, servers[0], client))
			assert.True(t, resumes(t, servers[1], client))
			servers[1].StopAndWait(t)
			servers[1].Restart(t)
			assert.True(t, resumes(t, servers[1], client), "after a restart, too")
		})
		t.Run("a server whose configuration has tickets off resumes nothing", func(t *testing.T) {
			opts := secure(websocket.ServerOptions{HandleText: peer.Echo})
			opts.TLSConfig.SessionTicketsDisabled = true
			s, client := peer.Start(t, opts), newClient()
			for i := range 2 {
				assert.False(t, resumes(t, s, client), fmt.Sprint(i))
			}
		})
	})
}
