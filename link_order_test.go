package websocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// orderRounds is how often in a row an order must be right.
const orderRounds = 1000

func orderEcho(cl *Client, f *Frame) error { return cl.SendText(f.Payload()) }

func TestLink_order(t *testing.T) {
	t.Run("ten Pings in a row get ten Pongs, in order", func(t *testing.T) {
		checkGoroutines(t)
		c := scriptedOpen(t, new(Client))
		for round := range orderRounds {
			var pings []byte
			for i := range 10 {
				pings = append(pings, NewFramePing(false, []byte{byte(i)})...)
			}
			c.send(pings)
			for i := range 10 {
				f := c.read()
				require.Equal(t, OpcodePong, f.opcode, "round %d", round)
				require.Equal(t, []byte{byte(i)}, f.payload, "round %d", round)
			}
		}
	})
	t.Run("each Ping is answered in front of the messages behind it, and messages are answered in order", func(t *testing.T) {
		checkGoroutines(t)
		c := scriptedOpen(t, &Client{HandleText: orderEcho})
		for round := range orderRounds {
			const count = 10
			var in []byte
			for i := range count {
				in = append(in, NewFramePing(false, []byte{byte(i)})...)
				in = append(in, NewFrameText(false, []byte{byte(i)})...)
			}
			c.send(in)
			for pongs, echoes := 0, 0; pongs < count || echoes < count; {
				f := c.read()
				require.Len(t, f.payload, 1)
				if f.opcode == OpcodePong {
					require.EqualValues(t, pongs, f.payload[0], "round %d", round)
					pongs++
				} else {
					require.EqualValues(t, echoes, f.payload[0], "round %d", round)
					echoes++
				}
				require.GreaterOrEqual(t, pongs, echoes, "round %d: an echo is in front of the Pong for the Ping before it", round)
			}
		}
	})
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
	t.Run("a Ping inside a message is answered in front of it", func(t *testing.T) {
		checkGoroutines(t)
		c := scriptedOpen(t, &Client{HandleText: orderEcho})
		for range orderRounds {
			c.send(slices.Concat([]byte{0x01, 1, 'a'}, NewFramePing(false, []byte("p")), []byte{0x80, 1, 'b'}))
			require.Equal(t, OpcodePong, c.read().opcode)
			require.Equal(t, "ab", string(c.read().payload))
		}
	})
	t.Run("as many Pings as the server likes are answered while it reads", func(t *testing.T) {
		checkGoroutines(t)
		const count = 50_000
		c := scriptedOpen(t, new(Client))
		go func() {
			var pings []byte
			for i := range count {
				pings = append(pings, NewFramePing(false, binary.BigEndian.AppendUint32(nil, uint32(i)))...)
			}
			c.conn.Write(pings)
		}()
		for i := range count {
			f := c.read()
			require.Equal(t, OpcodePong, f.opcode)
			require.EqualValues(t, i, binary.BigEndian.Uint32(f.payload))
		}
	})
}

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

func TestLink_messagesBeforeTheEnd(t *testing.T) {
	for name, end := range endings {
		t.Run("five messages and "+name+" right behind them: five answers, then the Close frame", func(t *testing.T) {
			checkGoroutines(t)
			s := scriptedListen(t)
			in := slices.Concat(slices.Repeat(NewFrameText(false, []byte("hello")), 5), end.frame)
			for round := range orderRounds / len(endings) {
				quit := make(chan bool, 1)
				cl := &Client{Endpoint: s.endpoint(), HandleText: orderEcho, HandleQuit: func() { quit <- true }}
				var c *scriptedConn
				if round%2 == 0 {
					c = s.open(cl, in...)
				} else {
					c = s.open(cl)
					c.send(in)
				}
				for range 5 {
					require.Equal(t, "hello", string(c.read().payload), "round %d", round)
				}
				code, reason := c.readClose()
				require.Equal(t, end.code, code, "round %d", round)
				require.Equal(t, end.reason, reason)
				c.conn.Close()
				scriptedWait(t, quit)
				require.Equal(t, &CloseError{Code: end.code, Reason: end.reason}, cl.Err())
			}
		})
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
	t.Run("Pings before the end are answered before the Close frame", func(t *testing.T) {
		checkGoroutines(t)
		c := scriptedOpen(t, new(Client))
		c.send(slices.Concat(NewFramePing(false, []byte("1")), NewFramePing(false, []byte("2")), NewFrameClose(false, StatusGone, nil)))
		for i := range 2 {
			assert.Equal(t, fmt.Sprint(i+1), string(c.read().payload))
		}
		c.readClose()
	})
	t.Run("Close in a handler drops what waits, and sends the answer to the server's Close frame at once", func(t *testing.T) {
		checkGoroutines(t)
		calls, closed := 0, make(chan error, 1)
		c := scriptedOpen(t, &Client{HandleText: func(cl *Client, _ *Frame) error {
			calls++
			closed <- cl.Close()
			return nil
		}}, slices.Concat(NewFrameText(false, nil), NewFrameText(false, nil), NewFrameClose(false, 4000, nil))...)
		c.readClose()
		c.conn.Close()
		assert.NoError(t, scriptedWait(t, closed))
		assert.Equal(t, 1, calls)
	})
	t.Run("an error of a handler ends the connection, whatever waits", func(t *testing.T) {
		checkGoroutines(t)
		quit := make(chan bool, 1)
		cl := &Client{HandleQuit: func() { quit <- true }, HandleText: func(*Client, *Frame) error { return errors.New("no") }}
		c := scriptedOpen(t, cl, slices.Concat(NewFrameText(false, nil), NewFrameText(false, nil))...)
		code, reason := c.readClose()
		assert.EqualValues(t, StatusBadRequest, code)
		assert.Equal(t, "no", reason)
		c.conn.Close()
		scriptedWait(t, quit)
	})
	t.Run("what the server sent before it was gone is handled, though it takes no more", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		for range orderRounds / 10 {
			got, quit := make(chan bool, 10), make(chan bool, 1)
			cl := &Client{Endpoint: s.endpoint(), HandleText: func(*Client, *Frame) error { got <- true; return nil }, HandleQuit: func() { quit <- true }}
			c := s.open(cl)
			sent := make(chan bool)
			go func() {
				for cl.SendBin(make([]byte, 1000)) == nil {
				}
				close(sent)
			}()
			_, err := c.conn.Read(make([]byte, 2000))
			require.NoError(t, err)
			c.send(slices.Concat(NewFrameText(false, []byte("last")), NewFrameClose(false, 4001, []byte("kicked"))))
			c.conn.Close() // with data that it has not read: a reset
			<-sent
			scriptedWait(t, quit)
			require.Len(t, got, 1)
			require.Equal(t, &CloseError{Code: 4001, Reason: "kicked"}, cl.Err())
		}
	})
	t.Run("a handler's error that is not UTF-8 is told in UTF-8", func(t *testing.T) {
		checkGoroutines(t)
		quit := make(chan bool, 1)
		cl := &Client{HandleQuit: func() { quit <- true }, HandleText: func(*Client, *Frame) error { return errors.New("bad \xff") }}
		c := scriptedOpen(t, cl, NewFrameText(false, nil)...)
		_, reason := c.readClose()
		assert.Equal(t, "bad \uFFFD", reason)
		c.conn.Close()
		scriptedWait(t, quit)
	})
}

func TestOutletOfLostServer(t *testing.T) {
	var o clientOutbox
	o.init()
	o.addPong([]byte("waits"), false)
	o.end()
	assert.False(t, o.addClose(NewFrameClose(true, StatusNormal, nil)))
	assert.False(t, o.pending.Load(), "nobody would ever send it")
	assert.Len(t, o.room, 1, "nobody waits for room")
}

func TestOutletAfterTheCloseFrame(t *testing.T) {
	var o clientOutbox
	o.init()
	o.addClose(NewFrameClose(true, StatusNormal, nil))
	_, _, closes := o.take(0, 0)
	assert.True(t, closes)
	o.addPing()
	assert.True(t, o.addPong(nil, false))
	assert.False(t, o.pending.Load(), "nobody would ever send it")
}
