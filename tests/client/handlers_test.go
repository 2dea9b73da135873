package client_test

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestClientConn_pong(t *testing.T) {
	t.Run("pings are answered while a handler blocks, and inside a fragmented message", func(t *testing.T) {
		peer.CheckGoroutines(t)
		release := make(chan bool)
		c := peer.Open(t, &websocket.Client{HandleText: func(*websocket.Client, *websocket.Frame) error {
			<-release
			return nil
		}})
		defer close(release)
		c.Send(websocket.NewFrameText(false, []byte("block")))
		c.Send([]byte{0x01, 1, 'a'})
		for _, payload := range []string{"one", "two"} {
			c.Send(websocket.NewFramePing(false, []byte(payload)))
			f := c.Read()
			assert.Equal(t, websocket.OpcodePong, f.Opcode)
			assert.Equal(t, payload, string(f.Payload))
		}
	})
}

func TestClientConn_handlers(t *testing.T) {
	t.Run("without handlers messages are dropped", func(t *testing.T) {
		peer.CheckGoroutines(t)
		c := peer.Open(t, new(websocket.Client))
		c.Send(append(websocket.NewFrameText(false, []byte("a")), websocket.NewFrameBin(false, []byte("b"))...))
		c.Send(websocket.NewFramePing(false, nil))
		assert.Equal(t, websocket.OpcodePong, c.Read().Opcode)
	})
	t.Run("slow handlers hold up reading, and no message is lost", func(t *testing.T) {
		peer.CheckGoroutines(t)
		const count = 500
		started, release, got := make(chan bool, 1), make(chan bool), make(chan int, count)
		c := peer.Open(t, &websocket.Client{HandleBin: func(_ *websocket.Client, f *websocket.Frame) error {
			select {
			case started <- true:
			default:
			}
			<-release
			got <- int(binary.BigEndian.Uint32(f.Payload()))
			return nil
		}})
		for i := range count {
			c.Send(websocket.NewFrameBin(false, binary.BigEndian.AppendUint32(nil, uint32(i))))
			c.Send(websocket.NewFrameBin(false, append(binary.BigEndian.AppendUint32(nil, uint32(i)), make([]byte, 1000)...)))
		}
		peer.Receive(t, started)
		close(release)
		for i := range count {
			require.Equal(t, i, peer.Receive(t, got))
			require.Equal(t, i, peer.Receive(t, got))
		}
	})
	for name, test := range map[string]struct {
		handler websocket.ClientHandler
		reason  string
	}{
		"an error of a handler closes the connection": {func(*websocket.Client, *websocket.Frame) error { return errors.New("no such thing") }, "no such thing"},
		"a panic of a handler closes the connection":  {func(*websocket.Client, *websocket.Frame) error { panic("boom") }, "handler panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			calls, quit := 0, make(chan bool, 2)
			cl := &websocket.Client{Logger: slog.New(slog.DiscardHandler), HandleQuit: func() { quit <- true }}
			cl.HandleText = func(cl *websocket.Client, f *websocket.Frame) error {
				calls++
				return test.handler(cl, f)
			}
			c := peer.Open(t, cl, append(websocket.NewFrameText(false, nil), websocket.NewFrameText(false, nil)...)...)
			code, reason := c.ReadClose()
			assert.Equal(t, websocket.CloseCode(websocket.StatusBadRequest), code)
			assert.Equal(t, test.reason, reason)
			c.Send(websocket.NewFrameClose(false, code, nil))
			c.Conn.Close()
			peer.Receive(t, quit)
			assert.Equal(t, 1, calls, "no handler is called after one that failed")
			assert.Equal(t, &websocket.CloseError{Code: websocket.StatusBadRequest, Reason: test.reason}, cl.Err())
		})
	}
	t.Run("HandleQuit comes after the last handler", func(t *testing.T) {
		peer.CheckGoroutines(t)
		started, release, quit := make(chan bool), make(chan bool), make(chan bool, 1)
		returned := false
		cl := &websocket.Client{
			HandleText: func(*websocket.Client, *websocket.Frame) error {
				started <- true
				<-release
				returned = true
				return nil
			},
			HandleQuit: func() { quit <- returned },
		}
		peer.Open(t, cl, websocket.NewFrameText(false, nil)...)
		peer.Receive(t, started)
		cl.Quit()
		assert.Empty(t, quit)
		close(release)
		assert.True(t, peer.Receive(t, quit))
	})
}

func TestClientConn_breaches(t *testing.T) {
	t.Run("a server that goes on after a breach is cut off", func(t *testing.T) {
		peer.CheckGoroutines(t)
		quit := make(chan bool, 1)
		c := peer.Open(t, &websocket.Client{HandleQuit: func() { quit <- true }}, 0x80, 0)
		c.ReadClose()
		var err error
		for err == nil {
			_, err = c.Conn.Write(make([]byte, 4096))
		}
		peer.Receive(t, quit)
	})
	t.Run("a frame that claims 1 GiB costs no memory before it arrives", func(t *testing.T) {
		peer.CheckGoroutines(t)
		quit := make(chan bool, 1)
		cl := &websocket.Client{MaxMessageSize: 1 << 30, HandleQuit: func() { quit <- true }}
		c := peer.Open(t, cl)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c.Send(append(binary.BigEndian.AppendUint64([]byte{0x82, peer.Length64}, 1<<30), "start"...))
		c.Conn.Close()
		peer.Receive(t, quit)
		runtime.ReadMemStats(&after)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
	})
}
