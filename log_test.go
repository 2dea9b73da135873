package websocket

import (
	"context"
	"log/slog"
	"testing"
)

// logFunc is a program's log, which is told of everything. It is given the text of a record and its attributes.
type logFunc func(text string, attrs map[string]slog.Value)

func (f logFunc) Enabled(context.Context, slog.Level) bool { return true }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f logFunc) WithGroup(string) slog.Handler            { return f }

func (f logFunc) Handle(_ context.Context, r slog.Record) error {
	attrs := make(map[string]slog.Value)
	r.Attrs(func(attr slog.Attr) bool {
		attrs[attr.Key] = attr.Value
		return true
	})
	f(r.Message, attrs)
	return nil
}

func TestLogMayUseTheClient(t *testing.T) {
	for _, end := range []struct {
		name string
		text string // of the record
		do   func(cl *Client, c *scriptedConn)
	}{
		{"the server closes", "websocket: client connection ends", func(_ *Client, c *scriptedConn) {
			c.send(NewFrameClose(false, StatusNormal, nil))
		}},
		{"the server breaks a rule", "websocket: client connection ends", func(_ *Client, c *scriptedConn) { c.send([]byte{0xFF, 0xFF}) }},
		{"a handler panics", "websocket: client handler panicked", func(_ *Client, c *scriptedConn) { c.send(NewFrameText(false, nil)) }},
		{"the program calls Close", "websocket: client connection ends", func(cl *Client, _ *scriptedConn) { go cl.Close() }},
		{"the program calls Quit", "websocket: client connection ends", func(cl *Client, _ *scriptedConn) { go cl.Quit() }},
	} {
		t.Run("where "+end.name, func(t *testing.T) {
			checkGoroutines(t)
			returned, quit := make(chan string, 64), make(chan struct{})
			cl := &Client{
				HandleText: func(*Client, *Frame) error { panic("handler of the test") },
				HandleQuit: func() { close(quit) },
			}
			cl.Logger = slog.New(logFunc(func(text string, _ map[string]slog.Value) {
				cl.Err()
				cl.Response()
				cl.SendText(nil)
				cl.SendPing(nil)
				cl.Close()
				cl.Quit()
				returned <- text
			}))
			c := scriptedOpen(t, cl)
			end.do(cl, c)
			go func() { // the server answers a Close frame with the end
				defer c.conn.Close()
				for {
					if f, err := scriptedRead(c.in); err != nil || f.opcode == OpcodeClose {
						return
					}
				}
			}()
			for text := ""; text != end.text; {
				text = scriptedWait(t, returned)
			}
			scriptedWait(t, quit)
		})
	}
}
