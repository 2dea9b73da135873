package websocket

import (
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tcpPair returns the two ends of a TCP connection.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	peer, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close()
		peer.Close()
	})
	return conn.(*net.TCPConn), peer.(*net.TCPConn)
}

func TestLinkSocket(t *testing.T) {
	t.Run("the system knows what the peer has not taken", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("it does not tell")
		}
		client, server := tcpPair(t)
		s := newClientSocket(client, nil)
		s.patience = 100 * time.Millisecond
		assert.Zero(t, s.ask(unackedBytes))
		_, err := s.Write(make([]byte, 64<<20))
		assert.ErrorContains(t, err, "timeout")
		unacked := uint64(s.ask(unackedBytes))
		assert.Positive(t, unacked)
		assert.LessOrEqual(t, unacked, s.sent)
		s.beginPing()
		s.pingSent()
		s.silent(time.Hour, 1)
		assert.Less(t, s.vigil.taken, s.sent)
		assert.True(t, s.vigil.isPingOnItsWay())

		require.NoError(t, server.SetReadDeadline(time.Now().Add(scriptedDeadline)))
		read, buf := uint64(0), make([]byte, 1<<20)
		for read < s.sent {
			n, err := server.Read(buf)
			require.NoError(t, err)
			read += uint64(n)
		}
		assert.True(t, eventually(func() bool { return s.ask(unackedBytes) == 0 }))
		s.silent(time.Hour, 1)
		assert.Equal(t, s.sent, s.vigil.taken)
		assert.False(t, s.vigil.isPingOnItsWay())

		client.Close()
		assert.Zero(t, s.ask(unackedBytes), "a closed socket has nothing")
	})
	t.Run("a server whose answer waits to be read is not silent", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("the system does not tell")
		}
		client, server := tcpPair(t)
		s := newClientSocket(client, nil)
		_, err := s.Write([]byte("a Ping"))
		require.NoError(t, err)
		s.beginPing()
		s.pingSent()
		require.True(t, eventually(func() bool { isSilent, _ := s.silent(0, defaultMinRate); return isSilent }))
		_, err = server.Write([]byte("a Pong"))
		require.NoError(t, err)
		require.True(t, eventually(func() bool { return s.ask(waitingBytes) > 0 }))
		isSilent, again := s.silent(0, defaultMinRate)
		assert.False(t, isSilent)
		assert.Zero(t, again)
	})
	t.Run("a server that takes a byte now and then is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			defer server.Close()
			s := newClientSocket(client, nil)
			s.patience = 10 * time.Second
			wrote := make(chan error, 1)
			go func() {
				_, err := s.Write(make([]byte, 16))
				wrote <- err
			}()
			for range 15 {
				<-time.After(9 * time.Second)
				_, err := server.Read(make([]byte, 1))
				require.NoError(t, err)
			}
			last := time.Now()
			assert.ErrorContains(t, <-wrote, "timeout")
			assert.LessOrEqual(t, time.Since(last), 11250*time.Millisecond, "one look later at most")
			assert.EqualValues(t, 15, s.sent)
		})
	})
	t.Run("the system is asked about the innermost connection", func(t *testing.T) {
		client, _ := tcpPair(t)
		assert.NotNil(t, newClientSocket(wrappedConn{wrappedConn{client}}, nil).raw)
		pipe, _ := net.Pipe()
		s := newClientSocket(pipe, nil)
		assert.Nil(t, s.raw)
		assert.Zero(t, s.ask(func(int) int { return 1 }))
		_, err := s.writeNow([]byte("x"))
		assert.Error(t, err)
	})
}

// wrappedConn hides the methods of a connection that net.Conn does not have, as tls.Conn does.
type wrappedConn struct{ net.Conn }

func (c wrappedConn) NetConn() net.Conn { return c.Conn }
