package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startOver starts a client's connection as after the handshake. The change is made before that.
func startOver(cl *Client, conn net.Conn, change ...func(c *clientConn)) {
	c := newClientConn(cl)
	c.attach(conn)
	c.in = c.conn
	for _, change := range change {
		change(c)
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.conn = c
	c.start()
}

// inMemory gives a client a connection to the test over a pipe.
func inMemory(t *testing.T, cl *Client, change ...func(c *clientConn)) *scriptedConn {
	t.Helper()
	client, server := net.Pipe()
	startOver(cl, client, change...)
	t.Cleanup(func() { server.Close() })
	return &scriptedConn{t: t, conn: server, in: bufio.NewReader(server)}
}

// inMemoryHalf is inMemory with a server that sends so much and then ends its side of the connection.
func inMemoryHalf(t *testing.T, cl *Client, in []byte) *scriptedConn {
	t.Helper()
	return inMemory(t, cl, func(c *clientConn) { c.in = bufio.NewReader(bytes.NewReader(in)) })
}

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

func TestClientConn_pingInterval(t *testing.T) {
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

func TestClientConn_silence(t *testing.T) {
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

func TestClientConn_close(t *testing.T) {
	t.Run("Close behind a write that the server does not take is told", func(t *testing.T) {
		checkGoroutines(t)
		sent, closed := make(chan error, 1), make(chan error, 1)
		cl := &Client{WriteTimeout: 200 * time.Millisecond}
		c := scriptedOpen(t, cl)
		go func() { sent <- cl.SendBin(make([]byte, 64<<20)) }()
		_, err := c.in.Peek(1) // the write has begun
		require.NoError(t, err)
		go func() { closed <- cl.Close() }()
		assert.ErrorIs(t, scriptedWait(t, sent), ErrConnClosed)
		err = scriptedWait(t, closed)
		if err != nil { // nil if the write was given up before Close was called
			assert.ErrorIs(t, err, errNoAnswer)
		}
	})
}

// TestClientConn_controlBetweenFragments has a long message on its way, of which the server reads one frame at a time.
func TestClientConn_controlBetweenFragments(t *testing.T) {
	const fragments = 10
	// open begins the message and reads its first frame; the second is being written.
	open := func(t *testing.T, cl *Client) (c *scriptedConn, sent chan error) {
		c, sent = inMemory(t, cl), make(chan error, 1)
		go func() { sent <- cl.SendBin(make([]byte, fragments*defaultFragmentSize)) }()
		f := c.readFragment()
		assert.Equal(t, OpcodeBin, f.opcode)
		synctest.Wait()
		return c, sent
	}
	for name, test := range map[string]struct {
		cause  func(cl *Client, c *scriptedConn)
		opcode Opcode
	}{
		"the answer to a Ping":     {func(_ *Client, c *scriptedConn) { c.send(NewFramePing(false, nil)) }, OpcodePong},
		"a Ping of the program":    {func(cl *Client, _ *scriptedConn) { go cl.SendPing(nil) }, OpcodePing},
		"a Pong of the program":    {func(cl *Client, _ *scriptedConn) { go cl.SendPong(nil) }, OpcodePong},
		"a Ping of the client":     {func(*Client, *scriptedConn) { <-time.After(minPingInterval) }, OpcodePing},
		"what the program invents": {func(cl *Client, _ *scriptedConn) { go cl.send(OpcodeControlRsvB, nil) }, OpcodeControlRsvB},
	} {
		t.Run(name+" waits for one fragment", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := &Client{WriteTimeout: time.Hour}
				c, sent := open(t, cl)
				test.cause(cl, c)
				synctest.Wait()
				assert.Equal(t, OpcodeCont, c.readFragment().opcode)
				assert.Equal(t, test.opcode, c.readFragment().opcode)
				for i := 2; i < fragments; i++ {
					f := c.readFragment()
					assert.Equal(t, OpcodeCont, f.opcode)
					assert.Equal(t, i == fragments-1, f.fin)
				}
				assert.NoError(t, <-sent)
				cl.Quit()
			})
		})
	}
	closings := map[string]struct {
		cause func(cl *Client, c *scriptedConn)
		code  CloseCode
	}{
		"Close":                    {func(cl *Client, _ *scriptedConn) { go cl.Close() }, StatusNormal},
		"the server's Close frame": {func(_ *Client, c *scriptedConn) { c.send(NewFrameClose(false, 4000, nil)) }, 4000},
		"a breach of the server":   {func(_ *Client, c *scriptedConn) { c.send([]byte{0x83, 0}) }, StatusBadRequest},
	}
	for name, test := range closings {
		t.Run(name+" lets a message be finished within a second", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := new(Client)
				c, sent := open(t, cl)
				test.cause(cl, c)
				synctest.Wait()
				for i := 1; i < fragments; i++ {
					assert.Equal(t, i == fragments-1, c.readFragment().fin)
				}
				assert.NoError(t, <-sent)
				code, _ := c.readClose()
				assert.Equal(t, test.code, code)
				assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
				cl.Quit()
			})
		})
		t.Run(name+" cuts it off after that, between two fragments", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := new(Client)
				c, sent := open(t, cl)
				test.cause(cl, c)
				<-time.After(maxAnswerTime)
				synctest.Wait()
				assert.Equal(t, OpcodeCont, c.readFragment().opcode)
				code, _ := c.readClose()
				assert.Equal(t, test.code, code)
				assert.ErrorIs(t, <-sent, ErrConnClosed)
				cl.Quit()
			})
		})
	}
	t.Run("what a handler sends after Close was called is not sent, also while a message is being finished", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c, sent := open(t, cl)
			go cl.Close()
			synctest.Wait()
			late := make(chan error, 1)
			go func() { late <- cl.SendText([]byte("late")) }()
			assert.ErrorIs(t, cl.SendPing(nil), ErrConnClosed)
			for i := 1; i < fragments; i++ {
				c.readFragment()
			}
			c.readClose()
			assert.NoError(t, <-sent)
			assert.ErrorIs(t, <-late, ErrConnClosed)
			cl.Quit()
		})
	})
	t.Run("a message in one frame is not cut, and a Close frame waits for it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := &Client{FragmentSize: -1}
			c, sent := inMemory(t, cl), make(chan error, 1)
			go func() { sent <- cl.SendBin(make([]byte, fragments*defaultFragmentSize)) }()
			synctest.Wait()
			go cl.Close()
			<-time.After(2 * maxAnswerTime)
			f := c.readFragment()
			assert.True(t, f.fin)
			assert.Len(t, f.payload, fragments*defaultFragmentSize)
			c.readClose()
			assert.NoError(t, <-sent)
			cl.Quit()
		})
	})
	t.Run("a server that answers Close in the last moment has answered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c, closed := inMemory(t, cl), make(chan error, 1)
			go func() { closed <- cl.Close() }()
			c.readClose()
			<-time.After(closeTimeout - time.Millisecond)
			c.send(NewFrameClose(false, StatusNormal, nil))
			assert.NoError(t, <-closed, "it has not ended TCP, though")
		})
	})
}

func orderEcho(cl *Client, f *Frame) error { return cl.SendText(f.Payload()) }

// endings are what ends a connection behind messages, and the Close frame that answers it.
var endings = map[string]struct {
	frame  []byte
	code   CloseCode
	reason string
}{
	"a masked frame":    {NewFrameText(true, []byte("x")), StatusBadRequest, "frame from server is masked"},
	"a reserved opcode": {[]byte{0x83, 0}, StatusBadRequest, "reserved opcode"},
	"a reserved bit":    {[]byte{0xC1, 0}, StatusBadRequest, "reserved bit is set"},
	"invalid text":      {[]byte{0x81, 1, 0xFF}, StatusInvalidData, "text is not UTF-8"},
	"a Close frame":     {NewFrameClose(false, 4000, []byte("bye")), 4000, "bye"},
}

func TestClientOutbox_ofLostServer(t *testing.T) {
	var o clientOutbox
	o.init()
	o.addPong([]byte("waits"), false)
	o.end()
	assert.False(t, o.addClose(NewFrameClose(true, StatusNormal, nil)))
	assert.False(t, o.pending.Load(), "nobody would ever send it")
	assert.Len(t, o.room, 1, "nobody waits for room")
}

func TestClientOutbox_afterTheCloseFrame(t *testing.T) {
	var o clientOutbox
	o.init()
	o.addClose(NewFrameClose(true, StatusNormal, nil))
	_, _, closes := o.take(0, 0)
	assert.True(t, closes)
	o.addPing()
	assert.True(t, o.addPong(nil, false))
	assert.False(t, o.pending.Load(), "nobody would ever send it")
}

func TestClientConn_order(t *testing.T) {
	t.Run("a Ping is answered behind the messages in front of it, while their handlers are fast", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := inMemory(t, &Client{HandleText: orderEcho})
			var in []byte
			for i := range 10 {
				in = append(in, NewFrameText(false, []byte{'m', byte(i)})...)
				in = append(in, NewFramePing(false, []byte{'p', byte(i)})...)
			}
			c.send(in)
			for i := range 10 {
				assert.Equal(t, []byte{'m', byte(i)}, c.read().payload)
				assert.Equal(t, []byte{'p', byte(i)}, c.read().payload)
			}
		})
	})
	t.Run("a Ping waits for a slow handler for its turn's time, and what follows is answered in order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := inMemory(t, &Client{HandleText: func(cl *Client, f *Frame) error {
				<-time.After(time.Second)
				return cl.SendText(f.Payload())
			}})
			start := time.Now()
			c.send(slices.Concat(NewFrameText(false, []byte("m")), NewFramePing(false, []byte("1")), NewFrameText(false, []byte("n")), NewFramePing(false, []byte("2"))))
			for _, want := range []string{"1", "2"} {
				assert.Equal(t, want, string(c.read().payload))
				assert.Equal(t, maxPongDelay, time.Since(start))
			}
			assert.Equal(t, "m", string(c.read().payload))
			assert.Equal(t, time.Second, time.Since(start))
			c.send(NewFramePing(false, []byte("3")))
			assert.Equal(t, "3", string(c.read().payload))
			assert.Equal(t, "n", string(c.read().payload))
		})
	})
	t.Run("a Ping that waits for its turn is answered before the Close frame", func(t *testing.T) {
		for name, end := range map[string]func(cl *Client) error{
			"of Close in a handler":   func(cl *Client) error { go cl.Close(); <-time.After(time.Millisecond); return nil },
			"of a handler that fails": func(*Client) error { return errors.New("no") },
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					quit := make(chan bool, 1)
					c := inMemory(t, &Client{HandleQuit: func() { quit <- true }, HandleText: func(cl *Client, _ *Frame) error {
						<-time.After(maxPongDelay / 2)
						return end(cl)
					}})
					c.send(slices.Concat(NewFrameText(false, []byte("m")), NewFramePing(false, []byte("p"))))
					assert.Equal(t, "p", string(c.read().payload))
					c.readClose()
					c.conn.Close()
					<-quit
				})
			})
		}
	})
}

func TestClientConn_messagesBeforeTheEnd(t *testing.T) {
	for name, end := range endings {
		t.Run("a handler of a message before "+name+" has a second", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answered, late, quit := make(chan error, 1), make(chan error, 1), make(chan bool, 1)
				cl := &Client{HandleQuit: func() { quit <- true }}
				cl.HandleText = func(cl *Client, f *Frame) error {
					<-time.After(maxAnswerTime - time.Millisecond)
					answered <- cl.SendText(f.Payload())
					<-time.After(2 * time.Millisecond)
					late <- cl.SendText(f.Payload())
					return nil
				}
				c := inMemory(t, cl)
				start := time.Now()
				c.send(slices.Concat(NewFrameText(false, []byte("hello")), end.frame))
				assert.Equal(t, "hello", string(c.read().payload))
				assert.Equal(t, maxAnswerTime-time.Millisecond, time.Since(start))
				assert.NoError(t, <-answered)
				code, _ := c.readClose()
				assert.Equal(t, end.code, code)
				assert.Equal(t, maxAnswerTime, time.Since(start))
				assert.ErrorIs(t, <-late, ErrConnClosed)
				c.readEnd()
				assert.Equal(t, maxAnswerTime+maxDrainTime, time.Since(start), "and TCP ends a second after that")
				<-quit
			})
		})
	}
	t.Run("a server that ends its side of TCP behind a breach gets the answers too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			quit := make(chan bool, 1)
			cl := &Client{HandleQuit: func() { quit <- true }, HandleText: func(cl *Client, f *Frame) error {
				<-time.After(maxAnswerTime / 2)
				return cl.SendText(f.Payload())
			}}
			c := inMemoryHalf(t, cl, slices.Concat(NewFrameText(false, []byte("hello")), []byte{0x83, 0}))
			assert.Equal(t, "hello", string(c.read().payload))
			code, _ := c.readClose()
			assert.EqualValues(t, StatusBadRequest, code)
			c.readEnd()
			<-quit
			assert.Equal(t, &CloseError{Code: StatusBadRequest, Reason: "reserved opcode"}, cl.Err())
		})
	})
}

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

// holding is a proxy between the client and the test: it takes all that it is given immediately, and keeps it.
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

// TestClientConn_slowPath has servers that are slow but honest, at the default time-outs.
func TestClientConn_slowPath(t *testing.T) {
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

// TestClientConn_deadPeer has servers that are dead, and how long they may be.
func TestClientConn_deadPeer(t *testing.T) {
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
		startOver(cl, client, func(c *clientConn) { c.pingInterval = time.Millisecond })
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

func TestClientSocket(t *testing.T) {
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

func TestVigil(t *testing.T) {
	const base, rate = int64(16 * time.Second), 1000
	const start = 1000 * int64(time.Hour)
	at := func(seconds float64) int64 { return start + int64(seconds*float64(time.Second)) }
	// ping sends a Ping of 6 bytes, the last of so many.
	ping := func(v *vigil, seconds float64, sent uint64) {
		v.beginPing()
		v.pingSent(at(seconds), sent, 6)
	}
	for _, test := range []struct {
		name string
		do   func(v *vigil)
		look float64 // when it is looked at,
		left uint64  // while so many bytes have left
		from float64 // the moment from which on the peer is silent; 0: no answer is awaited
		way  bool    // the Ping is on its way
	}{
		{"without a Ping nothing is awaited", func(*vigil) {}, 100, 0, 0, false},
		{"a Ping that has left is to be answered within the time", func(v *vigil) { ping(v, 10, 6) }, 10, 6, 26, false},
		{"one that does not leave is given up after the same time", func(v *vigil) { ping(v, 10, 6) }, 20, 0, 26, true},
		{"one that leaves late has all of the time", func(v *vigil) { ping(v, 10, 6) }, 20, 6, 36, false},
		{"what leaves in front of it puts that off, and earns time", func(v *vigil) { ping(v, 10, 100_006) }, 20, 5000, 20 + 16 + 5, true},
		{"what is on its way earns none", func(v *vigil) { ping(v, 10, 100_006) }, 20, 0, 26, true},
		{"all that was sent in front of it earns time, itself does not", func(v *vigil) { ping(v, 10, 100_006) }, 10, 100_006, 10 + 16 + 100, false},
		{"what a Pong has answered for does not", func(v *vigil) {
			ping(v, 5, 90_006)
			v.heard()
			v.pongReceived(90_000)
			ping(v, 10, 100_006)
		}, 10, 100_006, 10 + 16 + 10, false},
		{"what was sent before the peer was heard does, for it may be in a proxy", func(v *vigil) {
			ping(v, 5, 90_006)
			v.heard()
			ping(v, 10, 100_006)
		}, 10, 100_006, 10 + 16 + 100, false},
		{"a Pong for an earlier Ping does not answer for what came after that", func(v *vigil) {
			ping(v, 5, 30_006)
			v.heard()
			ping(v, 8, 90_012)
			v.heard()
			v.pongReceived(30_000)
			ping(v, 10, 100_006)
		}, 10, 100_006, 10 + 16 + 70, false},
		{"nor does one that says more than was sent", func(v *vigil) {
			ping(v, 5, 30_006)
			v.heard()
			v.pongReceived(1 << 60)
			ping(v, 10, 100_006)
		}, 10, 100_006, 10 + 16 + 100, false},
		{"more than can be on its way does not", func(v *vigil) { ping(v, 10, 1<<40) }, 10, 1 << 40, 10 + 16 + maxInTransit/1000.0, false},
		{"nor does what is sent behind it", func(v *vigil) { ping(v, 10, 6) }, 20, 1_000_000, 36, false},
		{"a second look without news changes nothing", func(v *vigil) {
			ping(v, 10, 100_006)
			v.silentFrom(at(12), 5000, base, rate)
		}, 20, 5000, 12 + 16 + 5, true},
		{"bytes that leave behind the Ping change nothing", func(v *vigil) {
			ping(v, 10, 6)
			v.silentFrom(at(10), 6, base, rate)
		}, 20, 1_000_000, 26, false},
		{"a system that takes back what it said changes nothing", func(v *vigil) {
			ping(v, 10, 100_006)
			v.silentFrom(at(12), 5000, base, rate)
		}, 20, 4000, 12 + 16 + 5, true},
		{"a second Ping does not put the first off", func(v *vigil) {
			ping(v, 10, 6)
			v.silentFrom(at(10), 6, base, rate)
			ping(v, 20, 12)
		}, 20, 12, 26, false},
		{"whatever is heard is an answer", func(v *vigil) {
			ping(v, 10, 6)
			v.heard()
		}, 100, 6, 0, false},
		{"an answer may come before it is noted that the Ping was sent", func(v *vigil) {
			v.beginPing()
			v.heard()
			v.pingSent(at(10), 6, 6)
		}, 100, 6, 0, false},
		{"a Ping that is being sent starts no clock", func(v *vigil) { v.beginPing() }, 100, 6, 0, false},
		{"one that is sent after an answer does again", func(v *vigil) {
			ping(v, 10, 6)
			v.heard()
			ping(v, 20, 12)
		}, 20, 12, 36.006, false},
		{"while nothing is read nothing is awaited", func(v *vigil) {
			ping(v, 10, 6)
			v.setReading(false)
			ping(v, 20, 12)
		}, 100, 12, 0, false},
		{"the next Ping after that is", func(v *vigil) {
			ping(v, 10, 6)
			v.setReading(false)
			v.setReading(true)
			ping(v, 30, 12)
		}, 30, 12, 46.006, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var v vigil
			test.do(&v)
			assert.Equal(t, test.from != 0, v.awaitsPong())
			if v.awaitsPong() {
				assert.Equal(t, at(test.from), v.silentFrom(at(test.look), test.left, base, rate))
			}
			assert.Equal(t, test.way, v.isPingOnItsWay())
		})
	}
}
