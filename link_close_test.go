package websocket

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLink_close(t *testing.T) {
	// answerClose reads the client's only Close frame and answers it.
	answerClose := func(t *testing.T, c *scriptedConn) {
		t.Helper()
		code, _ := c.readClose()
		assert.Equal(t, StatusNormal, code)
		c.send(NewFrameClose(false, code, nil))
		c.readEnd()
	}
	t.Run("Close sends 1000 and waits for the answer", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		quit, closed := make(chan bool, 2), make(chan error, 1)
		cl := &Client{HandleQuit: func() { quit <- true }}
		c := scriptedOpen(t, cl)
		go func() { closed <- cl.Close() }()
		code, _ := c.readClose()
		assert.Equal(t, StatusNormal, code)
		assert.Empty(t, closed)
		c.send(NewFrameClose(false, code, nil))
		assert.NoError(t, scriptedWait(t, closed))
		scriptedWait(t, quit)
		assert.NoError(t, cl.Close())
		cl.Quit()
		assert.Empty(t, quit)
		assert.NoError(t, cl.Err())
	})
	t.Run("many Closes at once are one", func(t *testing.T) {
		checkGoroutines(t)
		quit, closed := make(chan bool, 8), make(chan error, 8)
		cl := &Client{HandleQuit: func() { quit <- true }}
		c := scriptedOpen(t, cl)
		for range cap(closed) {
			go func() { closed <- cl.Close() }()
		}
		answerClose(t, c)
		for range cap(closed) {
			assert.NoError(t, scriptedWait(t, closed))
		}
		scriptedWait(t, quit)
		assert.Empty(t, quit)
	})
	t.Run("Close, Quit and sends at once end in one HandleQuit", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		for range 50 {
			quit := make(chan bool, 8)
			cl := &Client{HandleQuit: func() { quit <- true }}
			c := scriptedOpen(t, cl)
			var group sync.WaitGroup
			for i := range 8 {
				group.Go(func() {
					switch i % 4 {
					case 0:
						cl.Close()
					case 1:
						cl.Quit()
					default:
						cl.SendText([]byte("hello"))
					}
				})
			}
			go func() { // answers a Close that comes in time
				for {
					f, err := scriptedRead(c.in)
					if err != nil {
						return
					}
					if f.opcode == OpcodeClose {
						c.conn.Write(NewFrameClose(false, StatusNormal, nil))
					}
				}
			}()
			group.Wait()
			scriptedWait(t, quit)
			assert.Empty(t, quit)
			assert.NoError(t, cl.Err())
			c.conn.Close()
		}
	})
	t.Run("Quit ends a Close that waits", func(t *testing.T) {
		checkGoroutines(t)
		closed := make(chan error, 1)
		cl := new(Client)
		c := scriptedOpen(t, cl)
		go func() { closed <- cl.Close() }()
		c.readClose()
		cl.Quit()
		scriptedWait(t, closed)
		c.readEnd()
	})
	t.Run("Quit sends nothing", func(t *testing.T) {
		checkGoroutines(t)
		quit := make(chan bool, 2)
		cl := &Client{HandleQuit: func() { quit <- true }}
		c := scriptedOpen(t, cl)
		cl.Quit()
		cl.Quit()
		c.readEnd()
		scriptedWait(t, quit)
		assert.Empty(t, quit)
		assert.NoError(t, cl.Err())
	})
	for name, end := range map[string]func(cl *Client) error{
		"Close works in a handler":       (*Client).Close,
		"Close works in a handler twice": func(cl *Client) error { return errors.Join(cl.Close(), cl.Close()) },
		"Quit works in a handler": func(cl *Client) error {
			cl.Quit()
			cl.Quit()
			return nil
		},
		"an error after Quit is no matter": func(cl *Client) error {
			cl.Quit()
			return errors.New("late")
		},
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			calls, quit := 0, make(chan bool, 2)
			cl := &Client{HandleQuit: func() { quit <- true }}
			cl.HandleText = func(cl *Client, _ *Frame) error {
				calls++
				return end(cl)
			}
			c := scriptedOpen(t, cl, slices.Repeat(NewFrameText(false, nil), 3)...)
			if strings.HasPrefix(name, "Close") {
				answerClose(t, c)
			} else {
				c.readEnd()
			}
			scriptedWait(t, quit)
			assert.Equal(t, 1, calls, "messages that wait are dropped")
			assert.Empty(t, quit)
			assert.NoError(t, cl.Err())
		})
	}
	t.Run("Close and Quit work in HandleQuit", func(t *testing.T) {
		checkGoroutines(t)
		quit := make(chan error, 2)
		cl := new(Client)
		cl.HandleQuit = func() {
			cl.Quit()
			quit <- cl.Close()
		}
		scriptedOpen(t, cl).conn.Close()
		assert.NoError(t, scriptedWait(t, quit))
		assert.Empty(t, quit)
	})
	t.Run("Close works while a handler blocks and reading is held up", func(t *testing.T) {
		checkGoroutines(t)
		started, release, quit, closed := make(chan bool), make(chan bool), make(chan bool, 1), make(chan error, 1)
		calls := 0
		cl := &Client{
			HandleBin: func(*Client, *Frame) error {
				calls++
				started <- true
				<-release
				return nil
			},
			HandleQuit: func() { quit <- true },
		}
		c := scriptedOpen(t, cl)
		c.send(slices.Repeat(NewFrameBin(false, make([]byte, 1000)), 200))
		scriptedWait(t, started)
		go func() { closed <- cl.Close() }()
		answerClose(t, c)
		assert.NoError(t, scriptedWait(t, closed), "Close does not wait for a handler")
		assert.Empty(t, quit)
		close(release)
		scriptedWait(t, quit)
		assert.Equal(t, 1, calls)
	})
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
		if err != nil { // nil where the write was given up before Close was called
			assert.ErrorIs(t, err, errNoAnswer)
		}
	})
	t.Run("Close works on a connection that the server is closing", func(t *testing.T) {
		checkGoroutines(t)
		cl := new(Client)
		c := scriptedOpen(t, cl, NewFrameClose(false, StatusGone, nil)...)
		c.readClose()
		closed := make(chan error, 1)
		go func() { closed <- cl.Close() }()
		c.conn.Close()
		assert.NoError(t, scriptedWait(t, closed))
	})
}
