//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowRelay passes on to a server what it is sent, at a rate in bytes a second, and back at any rate. It returns its address.
func slowRelay(t *testing.T, to string, rate int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		server, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer server.Close()
		go io.Copy(conn, server)
		io.Copy(server, &slowReader{conn: conn, size: rate / 10, pause: time.Second / 10})
	}()
	return ln.Addr().String()
}

// TestAbuseClientSlowPath has real connections at the default time-outs, and so takes half a minute and more.
func TestAbuseClientSlowPath(t *testing.T) {
	if !*abuseReal {
		t.Skip("it is for the real times; TestLink_slowPath and TestLink_deadPeer have a clock of their own")
	}
	t.Run("14 MB at 400 kB/s do not end the connection", func(t *testing.T) {
		t.Parallel()
		got := make(chan int, 1)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		serv := NewServer(&ServerOptions{HandleBin: func(_ int, payload []byte) { got <- len(payload) }})
		served := make(chan error, 1)
		go func() { served <- serv.Serve(ln) }()
		defer func() {
			serv.Stop()
			assert.NoError(t, scriptedWait(t, served))
		}()
		quit := make(chan bool, 1)
		cl := &Client{Endpoint: "ws://" + slowRelay(t, ln.Addr().String(), 400_000), HandleQuit: func() { quit <- true }}
		require.NoError(t, cl.Connect())
		start := time.Now()
		require.NoError(t, cl.SendBin(make([]byte, 14_000_000)))
		t.Logf("sent after %s", time.Since(start))
		select {
		case size := <-got:
			t.Logf("arrived after %s", time.Since(start))
			assert.Equal(t, 14_000_000, size)
		case <-quit:
			require.FailNow(t, "given up", "after %s: %v", time.Since(start), cl.Err())
		case <-time.After(3 * time.Minute):
			require.FailNow(t, "it does not arrive")
		}
		select {
		case <-quit:
			require.FailNow(t, "given up", "after %s: %v", time.Since(start), cl.Err())
		case <-time.After(minPingInterval + defaultSilenceTimeout):
		}
		require.NoError(t, cl.Close())
	})
	for name, test := range map[string]struct {
		serve func(conn net.Conn)
		send  int
		want  error
		most  time.Duration
	}{
		"one that stops reading": {func(conn net.Conn) { conn.Read(make([]byte, 1000)) }, 32 << 20, ErrWriteTimeout, defaultWriteTimeout},
		"one that answers TCP but no Ping": {func(conn net.Conn) { io.Copy(io.Discard, conn) }, 0, errSilent,
			minPingInterval + defaultSilenceTimeout},
		"one that takes 1 MB, but answers no Ping": {func(conn net.Conn) { io.Copy(io.Discard, conn) }, 1 << 20, errSilent,
			minPingInterval + defaultSilenceTimeout + 64*time.Second},
	} {
		t.Run("a server is found dead: "+name, func(t *testing.T) {
			t.Parallel()
			quit := make(chan time.Time, 1)
			cl := &Client{HandleQuit: func() { quit <- time.Now() }}
			c := scriptedOpen(t, cl)
			require.NoError(t, c.conn.SetDeadline(time.Time{}))
			start := time.Now()
			go test.serve(c.conn)
			if test.send > 0 {
				cl.SendBin(make([]byte, test.send))
			}
			took := abuseGet(t, quit, test.most+time.Minute).Sub(start)
			t.Logf("after %s", took)
			assert.ErrorIs(t, cl.Err(), test.want)
			assert.Less(t, took, test.most+5*time.Second)
		})
	}
}
