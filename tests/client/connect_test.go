package client_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestClient_Connect(t *testing.T) {
	t.Run("a failed one may be repeated", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		cl := &websocket.Client{Endpoint: s.Endpoint()}
		first := peer.Connect(cl)
		s.Accept().Send([]byte("HTTP/1.1 503 Service Unavailable\r\n\r\n"))
		assert.ErrorContains(t, peer.Receive(t, first), "503 Service Unavailable")
		assert.NoError(t, cl.Err())
		assert.Nil(t, cl.Response())
		s.Open(cl)
	})
	t.Run("HandleQuit may connect again", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		texts, again, quits := make(chan string, 1), make(chan error, 1), 0
		cl := &websocket.Client{HandleText: func(_ *websocket.Client, f *websocket.Frame) error {
			texts <- string(f.Payload())
			return nil
		}}
		cl.HandleQuit = func() {
			if quits++; quits == 1 {
				again <- cl.Connect()
			} else {
				close(again)
			}
		}
		s.Open(cl).Conn.Close()
		c := s.Accept()
		c.Send(append(c.Answer(), websocket.NewFrameText(false, []byte("back"))...))
		require.NoError(t, peer.Receive(t, again))
		assert.Equal(t, "back", peer.Receive(t, texts))
		assert.NoError(t, cl.Err(), "a new connection has no error")
		require.NoError(t, cl.SendText([]byte("hello")))
		assert.Equal(t, "hello", string(c.Read().Payload))
		cl.Quit()
		peer.Receive(t, again)
		assert.Equal(t, 2, quits)
	})
}

func TestClient_ConnectContext(t *testing.T) {
	ends := map[string]struct {
		end  func(cl *websocket.Client, cancel func())
		want error
	}{
		"Close":             {func(cl *websocket.Client, _ func()) { cl.Close() }, websocket.ErrConnClosed},
		"CloseWith":         {func(cl *websocket.Client, _ func()) { cl.CloseWith(websocket.StatusGone, "") }, websocket.ErrConnClosed},
		"Quit":              {func(cl *websocket.Client, _ func()) { cl.Quit() }, websocket.ErrConnClosed},
		"the context's end": {func(_ *websocket.Client, cancel func()) { cancel() }, context.Canceled},
	}
	t.Run("a context that has ended opens nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		cl := &websocket.Client{Endpoint: "ws://127.0.0.1:1"}
		assert.ErrorIs(t, cl.ConnectContext(ctx), context.Canceled)
	})
	t.Run("a context's deadline is an error that matches it", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		ctx, cancel := context.WithTimeout(context.Background(), 10*peer.LeakPoll)
		defer cancel()
		cl := &websocket.Client{Endpoint: s.Endpoint(), HandshakeTimeout: time.Hour}
		assert.ErrorIs(t, cl.ConnectContext(ctx), context.DeadlineExceeded)
	})
	t.Run("a context that ends later is of no matter", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		ctx, cancel := context.WithCancel(context.Background())
		cl := &websocket.Client{Endpoint: s.Endpoint()}
		connected := make(chan error, 1)
		go func() { connected <- cl.ConnectContext(ctx) }()
		c := s.Accept()
		c.Send(c.Answer())
		require.NoError(t, peer.Receive(t, connected))
		cancel()
		require.NoError(t, cl.SendText([]byte("hello")))
		assert.Equal(t, "hello", string(c.Read().Payload))
		cl.Quit()
	})
	for name, end := range ends {
		t.Run("Connect works immediately after "+name+" has ended one", func(t *testing.T) {
			peer.CheckGoroutines(t)
			s := peer.Listen(t)
			cl := &websocket.Client{Endpoint: s.Endpoint()}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			first := make(chan error, 1)
			go func() { first <- cl.ConnectContext(ctx) }()
			s.Accept()
			end.end(cl, cancel)
			second := peer.Connect(cl)
			c := s.Accept()
			c.Send(c.Answer())
			require.NoError(t, peer.Receive(t, second))
			assert.ErrorIs(t, peer.Receive(t, first), end.want)
			require.NoError(t, cl.SendText([]byte("hello")))
			assert.Equal(t, "hello", string(c.Read().Payload))
			cl.Quit()
		})
	}
}

func TestClient_connectEndsItsGoroutine(t *testing.T) {
	for name, set := range map[string]func(cl *websocket.Client, end func()){
		"Proxy": func(cl *websocket.Client, end func()) {
			cl.Proxy = func(*http.Request) (*url.URL, error) { end(); return nil, nil }
		},
		"Jar": func(cl *websocket.Client, end func()) { cl.Jar = endingJar(end) },
		"TLSConfig": func(cl *websocket.Client, end func()) {
			cl.Endpoint = strings.Replace(cl.Endpoint, "ws:", "wss:", 1)
			cl.TLSConfig = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { end(); return nil }}
		},
	} {
		t.Run(name+" that ends its goroutine is an error of Connect, which may be called again", func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			s := peer.Listen(t)
			if name == "TLSConfig" {
				s.Socket = tls.NewListener(s.Socket, peer.ServerTLS())
			}
			go func() {
				for {
					conn, err := s.Socket.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						io.Copy(io.Discard, conn)
					}()
				}
			}()
			cl := &websocket.Client{Endpoint: s.Endpoint()}
			set(cl, runtime.Goexit)
			for range 2 {
				done := peer.Connect(cl)
				assert.ErrorContains(t, peer.Receive(t, done), "websocket: connect: ")
			}
			s.Socket.Close()
		})
	}
}

// endingJar calls a function when it is asked for cookies.
type endingJar func()

func (jar endingJar) SetCookies(*url.URL, []*http.Cookie) {}

func (jar endingJar) Cookies(*url.URL) []*http.Cookie { jar(); return nil }
