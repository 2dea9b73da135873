package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestClient_tls(t *testing.T) {
	certificate, pool := peer.CertificateECDSA(), peer.Trust()
	listen := func(t *testing.T) *peer.Listener {
		s := peer.Listen(t)
		s.Socket = tls.NewListener(s.Socket, &tls.Config{Certificates: []tls.Certificate{certificate}})
		return s
	}
	for _, scheme := range []string{"wss", "https"} {
		t.Run(scheme+" talks to a server whose certificate is trusted", func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			s := listen(t)
			texts, quit := make(chan string, 1), make(chan bool, 1)
			config := &tls.Config{RootCAs: pool}
			cl := &websocket.Client{
				Endpoint:  scheme + "://" + s.Socket.Addr().String() + "/",
				TLSConfig: config,
				HandleText: func(_ *websocket.Client, f *websocket.Frame) error {
					texts <- string(f.Payload())
					return nil
				},
				HandleQuit: func() { quit <- true },
			}
			c := s.Open(cl, websocket.NewFrameText(false, []byte("welcome"))...)
			assert.Equal(t, "welcome", peer.Receive(t, texts))
			require.NoError(t, cl.SendText([]byte("hello")))
			assert.Equal(t, "hello", string(c.Read().Payload))
			closed := make(chan error, 1)
			go func() { closed <- cl.Close() }()
			code, _ := c.ReadClose()
			assert.Equal(t, websocket.StatusNormal, code)
			c.Send(websocket.NewFrameClose(false, code, nil))
			assert.NoError(t, peer.Receive(t, closed))
			peer.Receive(t, quit)
			assert.Same(t, config, cl.TLSConfig)
			assert.Empty(t, config.ServerName, "the program's configuration is not changed")
		})
	}
	for name, config := range map[string]*tls.Config{
		"a certificate that is not trusted is refused":           nil,
		"a certificate for another name is refused":              {RootCAs: pool, ServerName: "example.com"},
		"a version that the server does not speak is an error":   {RootCAs: pool, MaxVersion: tls.VersionTLS10},
		"without its pool the certificate is refused likewise":   {},
		"a pool without the server's certificate does not trust": {RootCAs: x509.NewCertPool()},
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			s := listen(t)
			cl := &websocket.Client{Endpoint: "wss://" + s.Socket.Addr().String(), TLSConfig: config}
			connected := peer.Connect(cl)
			conn, err := s.Socket.Accept()
			require.NoError(t, err)
			conn.SetDeadline(time.Now().Add(peer.Deadline))
			assert.Error(t, conn.(*tls.Conn).Handshake())
			conn.Close()
			assert.ErrorContains(t, peer.Receive(t, connected), "tls: ")
		})
	}
	t.Run("Quit ends a write that the server does not take", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := listen(t)
		cl := &websocket.Client{Endpoint: "wss://" + s.Socket.Addr().String(), TLSConfig: &tls.Config{RootCAs: pool}}
		s.Open(cl)
		sent := make(chan error, 1)
		go func() { sent <- cl.SendBin(make([]byte, 64<<20)) }()
		cl.Quit()
		assert.ErrorIs(t, peer.Receive(t, sent), websocket.ErrConnClosed)
	})
}

func TestClient_alpn(t *testing.T) {
	certificate, pool := peer.CertificateECDSA(), peer.Trust()
	listen := func(t *testing.T, protocols ...string) *peer.Listener {
		s := peer.Listen(t)
		s.Socket = tls.NewListener(s.Socket, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: protocols})
		return s
	}
	t.Run("a server that would rather speak h2 is spoken to over http/1.1", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := listen(t, "h2", "http/1.1")
		config := &tls.Config{RootCAs: pool, NextProtos: []string{"h2", "http/1.1"}}
		cl := &websocket.Client{Endpoint: "wss://" + s.Socket.Addr().String(), TLSConfig: config}
		connected := peer.Connect(cl)
		conn, err := s.Socket.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.(*tls.Conn).HandshakeContext(context.Background()))
		require.Equal(t, "http/1.1", conn.(*tls.Conn).ConnectionState().NegotiatedProtocol)
		c := &peer.Script{T: t, Conn: conn, In: bufio.NewReader(conn)}
		c.ReadRequest()
		c.Send(c.Answer())
		require.NoError(t, peer.Receive(t, connected))
		cl.Quit()
		assert.Equal(t, []string{"h2", "http/1.1"}, config.NextProtos, "the program's configuration is not changed")
	})
	t.Run("a server that insists on another protocol is an error that names ours", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		s := listen(t, "other")
		connected := peer.Connect(&websocket.Client{Endpoint: "wss://" + s.Socket.Addr().String(), TLSConfig: &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}}})
		conn, err := s.Socket.Accept()
		require.NoError(t, err)
		assert.Error(t, conn.(*tls.Conn).HandshakeContext(context.Background()))
		conn.Close()
		err = peer.Receive(t, connected)
		assert.ErrorContains(t, err, "http/1.1")
		assert.ErrorContains(t, err, "no application protocol")
	})
}
