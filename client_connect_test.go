package websocket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	t.Run("a context that has ended opens nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		cl := &Client{Endpoint: "ws://127.0.0.1:1"}
		assert.ErrorIs(t, cl.ConnectContext(ctx), context.Canceled)
	})
	t.Run("a context's deadline is an error that matches it", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		ctx, cancel := context.WithTimeout(context.Background(), 10*leakPoll)
		defer cancel()
		cl := &Client{Endpoint: s.endpoint(), HandshakeTimeout: time.Hour}
		assert.ErrorIs(t, cl.ConnectContext(ctx), context.DeadlineExceeded)
	})
	t.Run("a context that ends later is of no matter", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		ctx, cancel := context.WithCancel(context.Background())
		cl := &Client{Endpoint: s.endpoint()}
		connected := make(chan error, 1)
		go func() { connected <- cl.ConnectContext(ctx) }()
		c := s.accept()
		c.send(c.answer())
		require.NoError(t, scriptedWait(t, connected))
		cancel()
		require.NoError(t, cl.SendText([]byte("hello")))
		assert.Equal(t, "hello", string(c.read().payload))
		cl.Quit()
	})
	for name, end := range ends {
		t.Run("Connect works at once after "+name+" has ended one", func(t *testing.T) {
			checkGoroutines(t)
			s := scriptedListen(t)
			cl := &Client{Endpoint: s.endpoint()}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			first := make(chan error, 1)
			go func() { first <- cl.ConnectContext(ctx) }()
			s.accept()
			end.end(cl, cancel)
			second := scriptedConnect(cl)
			c := s.accept()
			c.send(c.answer())
			require.NoError(t, scriptedWait(t, second))
			assert.ErrorIs(t, scriptedWait(t, first), end.want)
			require.NoError(t, cl.SendText([]byte("hello")))
			assert.Equal(t, "hello", string(c.read().payload))
			cl.Quit()
		})
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

func TestClient_CloseWith(t *testing.T) {
	for _, code := range []CloseCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999} {
		t.Run(fmt.Sprintf("code %d is sent", code), func(t *testing.T) {
			checkGoroutines(t)
			cl := new(Client)
			c, closed := scriptedOpen(t, cl), make(chan error, 1)
			go func() { closed <- cl.CloseWith(code, "bye") }()
			got, reason := c.readClose()
			assert.Equal(t, code, got)
			assert.Equal(t, "bye", reason)
			c.send(NewFrameClose(false, got, nil))
			assert.NoError(t, scriptedWait(t, closed))
			assert.NoError(t, cl.Err())
		})
	}
	for _, code := range []CloseCode{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		t.Run(fmt.Sprintf("code %d is an error, and the connection stays", code), func(t *testing.T) {
			checkGoroutines(t)
			cl := new(Client)
			c := scriptedOpen(t, cl)
			assert.ErrorContains(t, cl.CloseWith(code, "bye"), "websocket: ")
			require.NoError(t, cl.SendText([]byte("hello")))
			assert.Equal(t, "hello", string(c.read().payload))
		})
	}
	t.Run("a reason that is not UTF-8 is an error", func(t *testing.T) {
		assert.ErrorContains(t, new(Client).CloseWith(StatusNormal, "\xff"), "UTF-8")
	})
	t.Run("a long reason is cut between characters", func(t *testing.T) {
		checkGoroutines(t)
		cl := new(Client)
		c := scriptedOpen(t, cl)
		go cl.CloseWith(StatusNormal, strings.Repeat("a", 122)+"é")
		_, reason := c.readClose()
		assert.Equal(t, strings.Repeat("a", 122), reason)
	})
	t.Run("without a connection it returns nil", func(t *testing.T) {
		assert.NoError(t, new(Client).CloseWith(StatusNormal, ""))
		assert.NotErrorIs(t, new(Client).CloseWith(1005, ""), net.ErrClosed)
	})
}
