package client

import (
	"log/slog"
	"testing"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestLogMayUseTheClient(t *testing.T) {
	for _, end := range []struct {
		name string
		text string // of the record
		do   func(cl *websocket.Client, c *peer.Script)
	}{
		{"the server closes", "websocket: client connection ends", func(_ *websocket.Client, c *peer.Script) {
			c.Send(websocket.NewFrameClose(false, websocket.StatusNormal, nil))
		}},
		{"the server breaks a rule", "websocket: client connection ends", func(_ *websocket.Client, c *peer.Script) { c.Send([]byte{0xFF, 0xFF}) }},
		{"a handler panics", "websocket: client handler panicked", func(_ *websocket.Client, c *peer.Script) { c.Send(websocket.NewFrameText(false, nil)) }},
		{"the program calls Close", "websocket: client connection ends", func(cl *websocket.Client, _ *peer.Script) { go cl.Close() }},
		{"the program calls Quit", "websocket: client connection ends", func(cl *websocket.Client, _ *peer.Script) { go cl.Quit() }},
	} {
		t.Run("if "+end.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			returned, quit := make(chan string, 64), make(chan struct{})
			cl := &websocket.Client{
				HandleText: func(*websocket.Client, *websocket.Frame) error { panic("handler of the test") },
				HandleQuit: func() { close(quit) },
			}
			cl.Logger = slog.New(peer.LogFunc(func(text string, _ map[string]slog.Value) {
				cl.Err()
				cl.Response()
				cl.SendText(nil)
				cl.SendPing(nil)
				cl.Close()
				cl.Quit()
				returned <- text
			}))
			c := peer.Open(t, cl)
			end.do(cl, c)
			go func() { // the server answers a Close frame with the end
				defer c.Conn.Close()
				for {
					if f, err := peer.ReadFrame(c.In); err != nil || f.Opcode == websocket.OpcodeClose {
						return
					}
				}
			}()
			for text := ""; text != end.text; {
				text = peer.Receive(t, returned)
			}
			peer.Receive(t, quit)
		})
	}
}
