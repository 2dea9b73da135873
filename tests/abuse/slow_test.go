//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// slowReader reads up to size bytes, and then nothing for a while.
type slowReader struct {
	conn  net.Conn
	size  int
	pause time.Duration
	left  int
}

func (r *slowReader) Read(b []byte) (n int, err error) {
	if r.left == 0 {
		<-time.After(r.pause)
		r.left = r.size
	}
	n, err = r.conn.Read(b[:min(len(b), r.left)])
	r.left -= n
	return n, err
}

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
	if !*realTimes {
		t.Skip("it is for the real times; TestLink_slowPath and TestLink_deadPeer have a clock of their own")
	}
	t.Run("14 MB at 400 kB/s do not end the connection", func(t *testing.T) {
		t.Parallel()
		got := make(chan int, 1)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		serv := websocket.NewServer(&websocket.ServerOptions{HandleBin: func(_ int, payload []byte) { got <- len(payload) }})
		served := make(chan error, 1)
		go func() { served <- serv.Serve(ln) }()
		defer func() {
			serv.Stop()
			assert.NoError(t, peer.Receive(t, served))
		}()
		quit := make(chan bool, 1)
		cl := &websocket.Client{Endpoint: "ws://" + slowRelay(t, ln.Addr().String(), 400_000), HandleQuit: func() { quit <- true }}
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
		case <-time.After(peer.MinPingInterval + peer.SilenceTimeout):
		}
		require.NoError(t, cl.Close())
	})
	for name, test := range map[string]struct {
		serve func(conn net.Conn)
		send  int
		want  error
		text  string
		most  time.Duration
	}{
		"one that stops reading": {func(conn net.Conn) { conn.Read(make([]byte, 1000)) }, 32 << 20, websocket.ErrWriteTimeout, "", peer.WriteTimeout},
		"one that answers TCP but no Ping": {func(conn net.Conn) { io.Copy(io.Discard, conn) }, 0, websocket.ErrConnClosed, "server is silent after a ping",
			peer.MinPingInterval + peer.SilenceTimeout},
		"one that takes 1 MB, but answers no Ping": {func(conn net.Conn) { io.Copy(io.Discard, conn) }, 1 << 20, websocket.ErrConnClosed, "server is silent after a ping",
			peer.MinPingInterval + peer.SilenceTimeout + 64*time.Second},
	} {
		t.Run("a server is found dead: "+name, func(t *testing.T) {
			t.Parallel()
			quit := make(chan time.Time, 1)
			cl := &websocket.Client{HandleQuit: func() { quit <- time.Now() }}
			c := peer.Open(t, cl)
			require.NoError(t, c.Conn.SetDeadline(time.Time{}))
			start := time.Now()
			go test.serve(c.Conn)
			if test.send > 0 {
				cl.SendBin(make([]byte, test.send))
			}
			took := get(t, quit, test.most+time.Minute).Sub(start)
			t.Logf("after %s", took)
			assert.ErrorIs(t, cl.Err(), test.want)
			assert.ErrorContains(t, cl.Err(), test.text)
			assert.Less(t, took, test.most+5*time.Second)
		})
	}
}
