package client_test

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestClient_addressThatDoesNotAnswer(t *testing.T) {
	t.Run("it leaves time for the next one before the context's deadline", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		s := peer.Listen(t)
		require.NoError(t, s.Socket.(*net.TCPListener).SetDeadline(time.Now().Add(peer.Deadline)))
		_, port, err := net.SplitHostPort(s.Socket.Addr().String())
		require.NoError(t, err)
		resolve(t, blackHole(t, port), "127.0.0.1")
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		defer cancel()
		cl := &websocket.Client{Endpoint: "ws://many.test:" + port, Proxy: http.ProxyURL(nil), HandshakeTimeout: time.Hour}
		connected := make(chan error, 1)
		go func() { connected <- cl.ConnectContext(ctx) }()
		c := s.Accept()
		c.Send(c.Answer())
		require.NoError(t, peer.Receive(t, connected))
		cl.Quit()
	})
}

// blackHole returns an address that does not answer on a port: its listener has no room for a connection more.
func blackHole(t *testing.T, port string) (host string) {
	host = "127.0.0.2"
	ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }))
	require.NoError(t, err)
	const most = 10
	for range most {
		conn, err := net.DialTimeout("tcp", ln.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return host
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("the listener takes all that come")
	return ""
}
