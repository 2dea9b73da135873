package websocket

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shakeHands accepts a client.
func (c *scriptedConn) shakeHands() error {
	c.conn.SetDeadline(time.Now().Add(scriptedDeadline))
	c.in = bufio.NewReader(c.conn)
	request, err := http.ReadRequest(c.in)
	if err != nil {
		return err
	}
	c.request = request
	_, err = c.conn.Write(c.answer())
	return err
}

func TestClient_ConnectContext(t *testing.T) {
	// stages are how far an opening handshake has come when it is ended.
	stages := map[string]func(t *testing.T) (endpoint string, reached func()){
		"before the server has accepted": func(t *testing.T) (string, func()) {
			return scriptedListen(t).endpoint(), func() {}
		},
		"before its answer": func(t *testing.T) (string, func()) {
			s := scriptedListen(t)
			return s.endpoint(), func() { s.accept() }
		},
		"inside its answer": func(t *testing.T) (string, func()) {
			s := scriptedListen(t)
			return s.endpoint(), func() { s.accept().send([]byte("HTTP/1.1 101 ")) }
		},
		"inside the handshake of TLS": func(t *testing.T) (string, func()) {
			s := scriptedListen(t)
			return strings.Replace(s.endpoint(), "ws:", "wss:", 1), func() {
				conn, err := s.ln.Accept()
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				_, err = conn.Read(make([]byte, 1))
				require.NoError(t, err)
			}
		},
	}
	ends := map[string]struct {
		end  func(cl *Client, cancel func())
		want error
	}{
		"Close":             {func(cl *Client, _ func()) { cl.Close() }, ErrConnClosed},
		"CloseWith":         {func(cl *Client, _ func()) { cl.CloseWith(StatusGone, "") }, ErrConnClosed},
		"Quit":              {func(cl *Client, _ func()) { cl.Quit() }, ErrConnClosed},
		"the context's end": {func(_ *Client, cancel func()) { cancel() }, context.Canceled},
	}
	for stage, open := range stages {
		for name, end := range ends {
			t.Run(name+" ends it "+stage, func(t *testing.T) {
				checkGoroutines(t)
				checkDescriptors(t)
				endpoint, reached := open(t)
				cl := &Client{Endpoint: endpoint, HandshakeTimeout: time.Hour, HandleQuit: func() { panic("nothing was opened") }}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				connected := make(chan error, 1)
				go func() { connected <- cl.ConnectContext(ctx) }()
				reached()
				require.True(t, eventually(func() bool {
					cl.mu.Lock()
					defer cl.mu.Unlock()
					return cl.attempt != nil
				}))
				end.end(cl, cancel)
				err := scriptedWait(t, connected)
				assert.ErrorIs(t, err, end.want)
				assert.ErrorContains(t, err, "websocket: connect: ")
				assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
				assert.NoError(t, cl.Err())
			})
		}
	}
	t.Run("Connect, Close, Quit and sends at once leave nothing behind", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		s := scriptedListen(t)
		go func() {
			for {
				conn, err := s.ln.Accept()
				if err != nil {
					return
				}
				go func() {
					c := &scriptedConn{t: t, conn: conn}
					defer conn.Close()
					if c.shakeHands() != nil {
						return
					}
					for {
						f, err := scriptedRead(c.in)
						if err != nil {
							return
						}
						if f.opcode == OpcodeClose {
							conn.Write(NewFrameClose(false, StatusNormal, nil))
							return
						}
					}
				}()
			}
		}()
		var mu sync.Mutex
		opened, quits := 0, 0
		cl := &Client{Endpoint: s.endpoint(), HandleQuit: func() {
			mu.Lock()
			defer mu.Unlock()
			quits++
		}}
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				for round := range 50 {
					switch (i + round) % 4 {
					case 0, 1:
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(round%7+1)*time.Millisecond)
						err := cl.ConnectContext(ctx)
						cancel()
						if err == nil {
							mu.Lock()
							opened++
							mu.Unlock()
							continue
						}
						ok := errors.Is(err, errConnected) || errors.Is(err, ErrConnClosed) || errors.Is(err, ctx.Err())
						assert.True(t, ok, "%v", err)
					case 2:
						cl.Close()
					default:
						cl.SendText([]byte("hello"))
						cl.Quit()
					}
				}
			})
		}
		group.Wait()
		cl.Quit()
		assert.True(t, eventually(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return quits == opened
		}), "%d connections, HandleQuit was called %d times", opened, quits)
		s.ln.Close()
	})
}
