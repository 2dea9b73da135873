package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// callServer is a Server whose routes answer what is asked for.
func callServer(t *testing.T, opts *websocket.ServerOptions) *peer.Server {
	t.Helper()
	s := peer.Start(t, opts)
	require.NoError(t, s.RegisterTextHandler("POST", "/echo", func(_ context.Context, req *websocket.Request) websocket.Response {
		return websocket.Response{Code: 200, Message: "echo", Body: req.Body}
	}))
	return s
}

// callClient is a Client of it.
func callClient(t *testing.T, s *peer.Server, cl *websocket.Client) *websocket.Client {
	t.Helper()
	cl.Endpoint = "ws://" + s.Address + "/"
	require.NoError(t, cl.Connect())
	t.Cleanup(cl.Quit)
	return cl
}

func callContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Deadline)
	t.Cleanup(cancel)
	return ctx
}

func TestCall(t *testing.T) {
	t.Run("the answer comes back to who has asked, from a server of this package", func(t *testing.T) {
		for name, options := range map[string]*websocket.Compression{"plain": nil, "compressed": {MinSize: 1}} {
			t.Run(name, func(t *testing.T) {
				cl := callClient(t, callServer(t, &websocket.ServerOptions{Compression: options}), &websocket.Client{Compression: options})
				var all sync.WaitGroup
				for i := range 200 {
					all.Go(func() {
						body := fmt.Sprintf("%d %s", i, strings.Repeat("é\"\\", i))
						res, err := cl.Call(callContext(t), &websocket.Request{Method: "POST", Target: "/echo", Body: body})
						if assert.NoError(t, err) {
							assert.Equal(t, body, res.Body)
							assert.EqualValues(t, 200, res.Code)
						}
					})
				}
				all.Wait()
			})
		}
	})
}

// callRequest reads a request of the client.
func callRequest(c *peer.Script) (req websocket.Request) {
	c.T.Helper()
	f := c.Read()
	require.Equal(c.T, websocket.OpcodeText, f.Opcode)
	require.NoError(c.T, json.Unmarshal(f.Payload, &req))
	return req
}

// callResult is what Call returns.
type callResult struct {
	res *websocket.Response
	err error
}

// callGo calls on a goroutine of its own.
func callGo(ctx context.Context, cl *websocket.Client, req *websocket.Request) <-chan callResult {
	done := make(chan callResult, 1)
	go func() {
		res, err := cl.Call(ctx, req)
		done <- callResult{res, err}
	}()
	return done
}

func callAnswer(id uint64, body string) []byte {
	return websocket.NewFrameText(false, fmt.Appendf(nil, `{"id":%d,"code":200,"message":"","body":%q}`, id, body))
}

func TestCall_script(t *testing.T) {
	t.Run("a handler may call while more messages than usual wait behind it", func(t *testing.T) {
		peer.CheckGoroutines(t)
		results := make(chan callResult, 1)
		var once sync.Once
		cl := &websocket.Client{HandleText: func(cl *websocket.Client, _ *websocket.Frame) error {
			once.Do(func() {
				res, err := cl.Call(context.Background(), &websocket.Request{Method: "GET", Target: "/"})
				results <- callResult{res, err}
			})
			return nil
		}}
		c := peer.Open(t, cl)
		c.Send(websocket.NewFrameText(false, []byte("begin")))
		req := callRequest(c)
		for range 10 {
			c.Send(websocket.NewFrameText(false, make([]byte, 100_000)))
		}
		c.Send(callAnswer(req.ID, "it"))
		got := peer.Receive(t, results)
		require.NoError(t, got.err)
		assert.Equal(t, "it", got.res.Body)
	})
	t.Run("the connection lost meanwhile is told, and that the request may have been carried out", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{}
		c := peer.Open(t, cl)
		done := callGo(context.Background(), cl, &websocket.Request{Method: "GET", Target: "/"})
		callRequest(c)
		c.Conn.Close()
		got := peer.Receive(t, done)
		require.ErrorIs(t, got.err, websocket.ErrConnClosed)
		var failed *websocket.CallError
		require.True(t, errors.As(got.err, &failed))
		assert.True(t, failed.InDoubt)
		_, err := cl.Call(context.Background(), &websocket.Request{Method: "GET", Target: "/"})
		require.ErrorIs(t, err, websocket.ErrConnClosed)
		require.True(t, errors.As(err, &failed))
		assert.False(t, failed.InDoubt)
	})
	_ = time.Second
}
