package websocket

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// orderRounds is how often in a row an order must be right.
const orderRounds = 1000

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

func TestLink_order(t *testing.T) {
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

func TestLink_messagesBeforeTheEnd(t *testing.T) {
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
