package client_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestClientConn_close(t *testing.T) {
	// answerClose reads the client's only Close frame and answers it.
	answerClose := func(t *testing.T, c *peer.Script) {
		t.Helper()
		code, _ := c.ReadClose()
		assert.Equal(t, websocket.StatusNormal, code)
		c.Send(websocket.NewFrameClose(false, code, nil))
		c.ReadEnd()
	}
	t.Run("Close sends 1000 and waits for the answer", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		quit, closed := make(chan bool, 2), make(chan error, 1)
		cl := &websocket.Client{HandleQuit: func() { quit <- true }}
		c := peer.Open(t, cl)
		go func() { closed <- cl.Close() }()
		code, _ := c.ReadClose()
		assert.Equal(t, websocket.StatusNormal, code)
		assert.Empty(t, closed)
		c.Send(websocket.NewFrameClose(false, code, nil))
		assert.NoError(t, peer.Receive(t, closed))
		peer.Receive(t, quit)
		assert.NoError(t, cl.Close())
		cl.Quit()
		assert.Empty(t, quit)
		assert.NoError(t, cl.Err())
	})
	t.Run("many Closes at the same time are one", func(t *testing.T) {
		peer.CheckGoroutines(t)
		quit, closed := make(chan bool, 8), make(chan error, 8)
		cl := &websocket.Client{HandleQuit: func() { quit <- true }}
		c := peer.Open(t, cl)
		for range cap(closed) {
			go func() { closed <- cl.Close() }()
		}
		answerClose(t, c)
		for range cap(closed) {
			assert.NoError(t, peer.Receive(t, closed))
		}
		peer.Receive(t, quit)
		assert.Empty(t, quit)
	})
	t.Run("Close, Quit and sends at the same time end in one HandleQuit", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		for range 50 {
			quit := make(chan bool, 8)
			cl := &websocket.Client{HandleQuit: func() { quit <- true }}
			c := peer.Open(t, cl)
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
					f, err := peer.ReadFrame(c.In)
					if err != nil {
						return
					}
					if f.Opcode == websocket.OpcodeClose {
						c.Conn.Write(websocket.NewFrameClose(false, websocket.StatusNormal, nil))
					}
				}
			}()
			group.Wait()
			peer.Receive(t, quit)
			assert.Empty(t, quit)
			assert.NoError(t, cl.Err())
			c.Conn.Close()
		}
	})
	t.Run("Quit ends a Close that waits", func(t *testing.T) {
		peer.CheckGoroutines(t)
		closed := make(chan error, 1)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		go func() { closed <- cl.Close() }()
		c.ReadClose()
		cl.Quit()
		peer.Receive(t, closed)
		c.ReadEnd()
	})
	t.Run("Quit sends nothing", func(t *testing.T) {
		peer.CheckGoroutines(t)
		quit := make(chan bool, 2)
		cl := &websocket.Client{HandleQuit: func() { quit <- true }}
		c := peer.Open(t, cl)
		cl.Quit()
		cl.Quit()
		c.ReadEnd()
		peer.Receive(t, quit)
		assert.Empty(t, quit)
		assert.NoError(t, cl.Err())
	})
	for name, end := range map[string]func(cl *websocket.Client) error{
		"Close works in a handler":       (*websocket.Client).Close,
		"Close works in a handler twice": func(cl *websocket.Client) error { return errors.Join(cl.Close(), cl.Close()) },
		"Quit works in a handler": func(cl *websocket.Client) error {
			cl.Quit()
			cl.Quit()
			return nil
		},
		"an error after Quit is no matter": func(cl *websocket.Client) error {
			cl.Quit()
			return errors.New("late")
		},
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			calls, quit := 0, make(chan bool, 2)
			cl := &websocket.Client{HandleQuit: func() { quit <- true }}
			cl.HandleText = func(cl *websocket.Client, _ *websocket.Frame) error {
				calls++
				return end(cl)
			}
			c := peer.Open(t, cl, slices.Repeat(websocket.NewFrameText(false, nil), 3)...)
			if strings.HasPrefix(name, "Close") {
				answerClose(t, c)
			} else {
				c.ReadEnd()
			}
			peer.Receive(t, quit)
			assert.Equal(t, 1, calls, "messages that wait are dropped")
			assert.Empty(t, quit)
			assert.NoError(t, cl.Err())
		})
	}
	t.Run("Close and Quit work in HandleQuit", func(t *testing.T) {
		peer.CheckGoroutines(t)
		quit := make(chan error, 2)
		cl := new(websocket.Client)
		cl.HandleQuit = func() {
			cl.Quit()
			quit <- cl.Close()
		}
		peer.Open(t, cl).Conn.Close()
		assert.NoError(t, peer.Receive(t, quit))
		assert.Empty(t, quit)
	})
	t.Run("Close works while a handler blocks and reading is held up", func(t *testing.T) {
		peer.CheckGoroutines(t)
		started, release, quit, closed := make(chan bool), make(chan bool), make(chan bool, 1), make(chan error, 1)
		calls := 0
		cl := &websocket.Client{
			HandleBin: func(*websocket.Client, *websocket.Frame) error {
				calls++
				started <- true
				<-release
				return nil
			},
			HandleQuit: func() { quit <- true },
		}
		c := peer.Open(t, cl)
		c.Send(slices.Repeat(websocket.NewFrameBin(false, make([]byte, 1000)), 200))
		peer.Receive(t, started)
		go func() { closed <- cl.Close() }()
		answerClose(t, c)
		assert.NoError(t, peer.Receive(t, closed), "Close does not wait for a handler")
		assert.Empty(t, quit)
		close(release)
		peer.Receive(t, quit)
		assert.Equal(t, 1, calls)
	})
	t.Run("Close works on a connection that the server is closing", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl, websocket.NewFrameClose(false, websocket.StatusGone, nil)...)
		c.ReadClose()
		closed := make(chan error, 1)
		go func() { closed <- cl.Close() }()
		c.Conn.Close()
		assert.NoError(t, peer.Receive(t, closed))
	})
}

func TestClient_CloseWith(t *testing.T) {
	for _, code := range []websocket.CloseCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999} {
		t.Run(fmt.Sprintf("code %d is sent", code), func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := new(websocket.Client)
			c, closed := peer.Open(t, cl), make(chan error, 1)
			go func() { closed <- cl.CloseWith(code, "bye") }()
			got, reason := c.ReadClose()
			assert.Equal(t, code, got)
			assert.Equal(t, "bye", reason)
			c.Send(websocket.NewFrameClose(false, got, nil))
			assert.NoError(t, peer.Receive(t, closed))
			assert.NoError(t, cl.Err())
		})
	}
	for _, code := range []websocket.CloseCode{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		t.Run(fmt.Sprintf("code %d is an error, and the connection stays", code), func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := new(websocket.Client)
			c := peer.Open(t, cl)
			assert.ErrorContains(t, cl.CloseWith(code, "bye"), "websocket: ")
			require.NoError(t, cl.SendText([]byte("hello")))
			assert.Equal(t, "hello", string(c.Read().Payload))
		})
	}
	t.Run("a reason that is not UTF-8 is an error", func(t *testing.T) {
		assert.ErrorContains(t, new(websocket.Client).CloseWith(websocket.StatusNormal, "\xff"), "UTF-8")
	})
	t.Run("a long reason is cut between characters", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		go cl.CloseWith(websocket.StatusNormal, strings.Repeat("a", 122)+"é")
		_, reason := c.ReadClose()
		assert.Equal(t, strings.Repeat("a", 122), reason)
	})
	t.Run("without a connection it returns nil", func(t *testing.T) {
		assert.NoError(t, new(websocket.Client).CloseWith(websocket.StatusNormal, ""))
		assert.NotErrorIs(t, new(websocket.Client).CloseWith(1005, ""), net.ErrClosed)
	})
}
