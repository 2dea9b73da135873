package websocket

import (
	"bufio"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answerPings reads frames, through a path that is slow, and answers Pings until the connection ends. It returns how many bytes of
// messages came.
func answerPings(c *scriptedConn, path *slowReader) (got int) {
	answers := make(chan []byte, 1<<10) // a pipe keeps nothing for a client that does not read
	defer close(answers)
	go func() {
		for answer := range answers {
			if _, err := c.conn.Write(answer); err == nil && Opcode(answer[0]&bitsOpcode) == OpcodeClose {
				c.conn.Close()
			}
		}
	}()
	for {
		f, err := scriptedRead(path)
		if err != nil {
			return got
		}
		switch {
		case f.opcode == OpcodePing:
			answers <- NewFramePong(false, f.payload)
		case !f.opcode.isControl():
			got += len(f.payload)
		case f.opcode == OpcodeClose:
			answers <- NewFrameClose(false, StatusNormal, nil)
		}
	}
}

// holding is a proxy between the client and the test: it takes all that it is given at once, and keeps it.
func holding(t *testing.T, conn net.Conn) net.Conn {
	in, out := net.Pipe()
	pieces := make(chan []byte, 1<<20)
	go func() {
		defer close(pieces)
		for {
			buf := make([]byte, clientWriteSize)
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			pieces <- buf[:n]
		}
	}()
	go func() {
		defer in.Close()
		for piece := range pieces {
			if _, err := in.Write(piece); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { out.Close() })
	return out
}

// TestLink_slowPath has servers that are slow but honest, at the default time-outs.
func TestLink_slowPath(t *testing.T) {
	for _, test := range []struct {
		name     string
		size     int
		rate     int // bytes a second
		holds    bool
		fragment int
		minRate  int
	}{
		{"14 MB at 400 kB/s", 14_000_000, 400_000, false, 0, 0},
		{"14 MB at 400 kB/s in one frame", 14_000_000, 400_000, false, -1, 0},
		{"3 MiB at 80 kB/s, which a proxy holds", 3 << 20, 80_000, true, 0, 0},
		{"3 MiB at 80 kB/s, which a proxy holds, in one frame", 3 << 20, 80_000, true, -1, 0},
		{"1 MiB at the slowest rate that is honest", 1 << 20, defaultMinRate, true, 0, 0},
		{"64 KiB at a rate that the program has set", 64 << 10, 1 << 10, true, 0, 1 << 10},
	} {
		t.Run("a message of "+test.name+" does not end the connection", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quit := make(chan bool, 1)
				cl := &Client{FragmentSize: test.fragment, MinRate: test.minRate, HandleQuit: func() { quit <- true }}
				c := inMemory(t, cl)
				path := &slowReader{conn: c.conn, size: test.rate / 10, pause: time.Second / 10}
				if test.holds {
					path.conn = holding(t, c.conn)
				}
				received := make(chan int, 1)
				go func() { received <- answerPings(c, path) }()
				start := time.Now()
				require.NoError(t, cl.SendBin(make([]byte, test.size)))
				require.NoError(t, cl.SendText([]byte("more")))
				<-time.After(time.Duration(test.size/test.rate) * time.Second)
				<-time.After(3 * defaultSilenceTimeout)
				require.NoError(t, cl.Err(), "after %s", time.Since(start))
				require.NoError(t, cl.Close())
				assert.Equal(t, test.size+4, <-received)
				<-quit
			})
		})
	}
	t.Run("an answer that is not read, because handlers are slow, is no silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan bool)
			cl := &Client{HandleBin: func(*Client, *Frame) error { <-release; return nil }}
			c := inMemory(t, cl)
			c.send(slices.Repeat(NewFrameBin(false, make([]byte, maxBacklog)), 3)) // the third is read, and waits
			go answerPings(c, &slowReader{conn: c.conn, size: 1 << 30})
			<-time.After(time.Hour / 2)
			assert.NoError(t, cl.Err())
			close(release)
			<-time.After(time.Hour / 2)
			assert.NoError(t, cl.Err())
			cl.Quit()
		})
	})
}

// TestLink_deadPeer has servers that are dead, and how long they may be.
func TestLink_deadPeer(t *testing.T) {
	// after opens a client and returns how long after the Ping it gives up the server, which takes all and says nothing.
	after := func(t *testing.T, minRate int, send func(cl *Client)) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			quit := make(chan time.Time, 1)
			cl := &Client{MinRate: minRate, HandleQuit: func() { quit <- time.Now() }}
			c := inMemory(t, cl)
			go func() {
				for {
					if _, err := c.conn.Read(make([]byte, 1<<20)); err != nil {
						return
					}
				}
			}()
			start := time.Now()
			send(cl)
			took = (<-quit).Sub(start) - minPingInterval
			assert.ErrorIs(t, cl.Err(), errSilent)
		})
		return took
	}
	t.Run("one that answers no Ping has the silence time-out", func(t *testing.T) {
		assert.Equal(t, defaultSilenceTimeout, after(t, 0, func(*Client) {}))
	})
	t.Run("and what was sent in front of the Ping earns it time", func(t *testing.T) {
		took := after(t, 0, func(cl *Client) { require.NoError(t, cl.SendBin(make([]byte, 1<<20))) })
		assert.InDelta(t, defaultSilenceTimeout+64*time.Second, took, float64(20*time.Millisecond)) // and the headers
	})
	t.Run("at the rate that is set", func(t *testing.T) {
		took := after(t, 1<<20, func(cl *Client) { require.NoError(t, cl.SendBin(make([]byte, 1<<20))) })
		assert.InDelta(t, defaultSilenceTimeout+time.Second, took, float64(20*time.Millisecond))
	})
	t.Run("but what is sent behind the Ping does not put it off", func(t *testing.T) {
		assert.Equal(t, defaultSilenceTimeout, after(t, 0, func(cl *Client) {
			<-time.After(minPingInterval + time.Second)
			for cl.SendBin(make([]byte, 64<<10)) == nil {
				<-time.After(time.Second / 10)
			}
		}))
	})
	t.Run("one that takes nothing of a message has the write time-out, Pings or not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := &Client{WriteTimeout: time.Minute, SilenceTimeout: time.Second}
			inMemory(t, cl)
			start := time.Now()
			assert.ErrorIs(t, cl.SendBin(make([]byte, 1<<20)), ErrWriteTimeout)
			assert.Equal(t, time.Minute, time.Since(start))
		})
	})
	t.Run("one that stops in the middle of a message likewise", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c := inMemory(t, cl)
			stopped := make(chan time.Time, 1)
			go func() {
				slow := &slowReader{conn: c.conn, size: 10_000, pause: time.Second}
				for range 20 {
					slow.Read(make([]byte, 10_000))
				}
				stopped <- time.Now()
			}()
			assert.ErrorIs(t, cl.SendBin(make([]byte, 1<<20)), ErrWriteTimeout)
			took := time.Since(<-stopped)
			assert.GreaterOrEqual(t, took, defaultWriteTimeout)
			assert.LessOrEqual(t, took, defaultWriteTimeout+defaultWriteTimeout/stallLooks)
		})
	})
	t.Run("one that is given up for silence is told with a Close frame", func(t *testing.T) {
		checkGoroutines(t)
		client, server := tcpPair(t)
		quit := make(chan bool, 1)
		cl := &Client{SilenceTimeout: time.Millisecond, HandleQuit: func() { quit <- true }}
		overTCP(cl, client, func(l *clientConn) { l.pingInterval = time.Millisecond })
		c := &scriptedConn{t: t, conn: server, in: bufio.NewReader(server)}
		require.NoError(t, server.SetReadDeadline(time.Now().Add(scriptedDeadline)))
		scriptedWait(t, quit)
		assert.ErrorIs(t, cl.Err(), errSilent)
		f := c.read()
		for f.opcode == OpcodePing {
			f = c.read()
		}
		require.Equal(t, OpcodeClose, f.opcode)
		code, reason, err := parseCloseBody(f.payload)
		require.Nil(t, err)
		assert.EqualValues(t, StatusForbidden, code)
		assert.Equal(t, "silent after a ping", string(reason))
		c.readEnd()
	})
}

// overTCP is inMemory with a connection.
func overTCP(cl *Client, conn net.Conn, change func(l *clientConn)) {
	l := newClientConn(cl)
	l.attach(conn)
	l.in = bufio.NewReaderSize(l.conn, clientReadSize)
	change(l)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.conn = l
	l.start()
}
