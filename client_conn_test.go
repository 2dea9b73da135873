package websocket

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inMemory gives a client a connection to the test over a pipe, as after the handshake. The change is made before it starts.
func inMemory(t *testing.T, cl *Client, change ...func(l *clientConn)) *scriptedConn {
	t.Helper()
	client, server := net.Pipe()
	l := newClientConn(cl)
	l.attach(client)
	l.in = bufio.NewReaderSize(l.conn, clientReadSize)
	for _, change := range change {
		change(l)
	}
	cl.mu.Lock()
	cl.conn = l
	l.start()
	cl.mu.Unlock()
	t.Cleanup(func() { server.Close() })
	return &scriptedConn{t: t, conn: server, in: bufio.NewReader(server)}
}

// inMemoryHalf is inMemory with a server that sends so much and then ends its side of the connection.
func inMemoryHalf(t *testing.T, cl *Client, in []byte) *scriptedConn {
	t.Helper()
	return inMemory(t, cl, func(l *clientConn) { l.in = bufio.NewReader(bytes.NewReader(in)) })
}

func TestLink_pingInterval(t *testing.T) {
	for _, test := range []struct{ given, want time.Duration }{
		{0, 10 * time.Second},
		{-time.Second, 10 * time.Second},
		{time.Second, 10 * time.Second},
		{10*time.Second - 1, 10 * time.Second},
		{10 * time.Second, 10 * time.Second},
		{10*time.Second + 1, 10*time.Second + 1},
		{time.Minute, time.Minute},
	} {
		t.Run(fmt.Sprintf("an interval of %s stands for %s", test.given, test.want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := &Client{PingInterval: test.given}
				c := inMemory(t, cl)
				start := time.Now()
				for i := range 3 {
					f := c.read()
					assert.Equal(t, OpcodePing, f.opcode)
					assert.Equal(t, time.Duration(i+1)*test.want, time.Since(start))
					c.send(NewFramePong(false, f.payload))
				}
				cl.Quit()
			})
		})
	}
}

func TestLink_silence(t *testing.T) {
	t.Run("a server that is silent after a ping is given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			quit := make(chan time.Time, 1)
			cl := &Client{SilenceTimeout: 5 * time.Second, HandleQuit: func() { quit <- time.Now() }}
			c := inMemory(t, cl)
			start := time.Now()
			assert.Equal(t, OpcodePing, c.read().opcode)
			assert.Equal(t, 15*time.Second, (<-quit).Sub(start))
			assert.ErrorIs(t, cl.Err(), errSilent)
			assert.ErrorIs(t, cl.Err(), net.ErrClosed)
			assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
		})
	})
	t.Run("a server that answers pings is kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c := inMemory(t, cl)
			start := time.Now()
			for time.Since(start) < time.Hour {
				f := c.read()
				require.Equal(t, OpcodePing, f.opcode)
				c.send(NewFramePong(false, f.payload))
			}
			assert.NoError(t, cl.Err())
			cl.Quit()
		})
	})
	t.Run("a server that does not answer Close is an error of Close after 10 seconds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			quit := make(chan bool, 1)
			cl := &Client{HandleQuit: func() { quit <- true }}
			c := inMemory(t, cl)
			start, closed := time.Now(), make(chan error, 1)
			go func() { closed <- cl.Close() }()
			c.readClose()
			assert.ErrorIs(t, <-closed, errNoAnswer)
			assert.Equal(t, closeTimeout, time.Since(start))
			<-quit
			assert.NoError(t, cl.Err())
		})
	})
	t.Run("every Close is told that the server does not answer, at the same time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c := inMemory(t, cl)
			start, closed := time.Now(), make(chan error, 2)
			go func() { closed <- cl.Close() }()
			c.readClose()
			<-time.After(closeTimeout / 2)
			go func() { closed <- cl.Close() }()
			for range cap(closed) {
				assert.ErrorIs(t, <-closed, errNoAnswer)
				assert.Equal(t, closeTimeout, time.Since(start))
			}
		})
	})
	t.Run("a server that sends data instead of answering Close is an error likewise", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := &Client{HandleText: func(*Client, *Frame) error { panic("called after Close") }}
			c := inMemory(t, cl)
			closed := make(chan error, 1)
			go func() { closed <- cl.Close() }()
			c.readClose()
			var err error
			for err == nil {
				_, err = c.conn.Write(NewFrameText(false, []byte("more")))
				<-time.After(time.Second)
			}
			assert.ErrorIs(t, <-closed, errNoAnswer)
		})
	})
	t.Run("a server that keeps TCP open after the closing handshake is given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			quit := make(chan bool, 1)
			cl := &Client{HandleQuit: func() { quit <- true }}
			c := inMemory(t, cl)
			start := time.Now()
			c.send(NewFrameClose(false, StatusGone, []byte("bye")))
			code, reason := c.readClose()
			assert.Equal(t, CloseCode(StatusGone), code)
			assert.Equal(t, "bye", reason)
			<-quit
			assert.Equal(t, maxDrainTime, time.Since(start))
			assert.Equal(t, &CloseError{Code: StatusGone, Reason: "bye"}, cl.Err())
		})
	})
	t.Run("a server that takes data slowly, and answers Pings behind it, is kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c := inMemory(t, cl)
			payload := make([]byte, 10*defaultFragmentSize)
			start, sent := time.Now(), make(chan error, 1)
			go func() { sent <- cl.SendBin(payload) }()
			slow := &slowReader{conn: c.conn, size: defaultFragmentSize, pause: defaultWriteTimeout - time.Second}
			got := 0
			for got < len(payload) {
				f, err := scriptedRead(slow)
				require.NoError(t, err)
				if got += len(f.payload); f.opcode == OpcodePing {
					c.send(NewFramePong(false, nil))
				}
			}
			assert.NoError(t, <-sent)
			assert.Greater(t, time.Since(start), 5*defaultWriteTimeout)
			cl.Quit()
		})
	})
	t.Run("a server that takes nothing for 10 seconds is given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			inMemory(t, cl)
			start := time.Now()
			assert.ErrorIs(t, cl.SendText([]byte("hello")), ErrWriteTimeout)
			assert.Equal(t, defaultWriteTimeout, time.Since(start))
			synctest.Wait()
			assert.ErrorIs(t, cl.Err(), ErrWriteTimeout)
		})
	})
}

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
