package client_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestClient_fieldsOfTheNextConnection(t *testing.T) {
	for name, end := range map[string]func(cl *websocket.Client, c *peer.Script){
		"Quit": func(cl *websocket.Client, _ *peer.Script) { cl.Quit() },
		"Close": func(cl *websocket.Client, c *peer.Script) {
			closed := make(chan error, 1)
			go func() { closed <- cl.Close() }()
			c.ReadClose()
			c.Conn.Close()
			require.NoError(c.T, peer.Receive(c.T, closed))
		},
	} {
		t.Run("they may be set as soon as "+name+" has returned, while a handler of the connection before still runs", func(t *testing.T) {
			peer.CheckGoroutines(t)
			calls := make(chan string, 64)
			inside, release := make(chan struct{}, 1), make(chan struct{})
			one, two := peer.Listen(t), peer.Listen(t)
			cl := &websocket.Client{Endpoint: one.Endpoint()}
			reconnectFields(cl, "first", calls)
			cl.HandleText = func(*websocket.Client, *websocket.Frame) error {
				inside <- struct{}{}
				<-release
				return nil
			}
			first := one.Open(cl)
			frames := append(websocket.NewFrameText(false, nil), websocket.NewFrameText(false, nil)...)
			first.Send(append(append(frames, websocket.NewFrameBin(false, nil)...), websocket.NewFrame(websocket.OpcodeControlRsvB, false, nil)...))
			peer.Receive(t, inside)
			end(cl, first)
			require.Equal(t, "first: log of "+one.Endpoint(), peer.Receive(t, calls))

			reconnectFields(cl, "second", calls)
			cl.Endpoint = two.Endpoint()
			cl.Headers = http.Header{"X": {"y"}}
			cl.PingInterval, cl.SilenceTimeout, cl.WriteTimeout, cl.HandshakeTimeout = time.Hour, time.Hour, time.Hour, time.Minute
			cl.MaxMessageSize, cl.MaxFragments, cl.MaxHeaderSize, cl.MaxHeaderFields = 10, 10, 10_000, 10
			second := two.Open(cl)
			close(release)
			require.Equal(t, "first: HandleQuit", peer.Receive(t, calls))
			for _, row := range []struct {
				frame []byte
				call  string
			}{
				{websocket.NewFrameText(false, nil), "second: HandleText"},
				{websocket.NewFrameBin(false, nil), "second: HandleBin"},
				{websocket.NewFrame(websocket.OpcodeControlRsvB, false, nil), "second: HandleRsvControl"},
			} {
				second.Send(row.frame)
				require.Equal(t, row.call, peer.Receive(t, calls))
			}
			cl.Quit()
			ends := []string{peer.Receive(t, calls), peer.Receive(t, calls)}
			require.ElementsMatch(t, []string{"second: HandleQuit", "second: log of " + two.Endpoint()}, ends)
			require.Empty(t, calls)
		})
	}
	t.Run("they may be set while messages arrive, as the race detector knows", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		var handled, late atomic.Int64
		for range 20 {
			server := peer.Listen(t)
			cl.Endpoint = server.Endpoint()
			cl.HandleText = func(*websocket.Client, *websocket.Frame) error { handled.Add(1); return nil }
			c := server.Open(cl)
			flood := make(chan struct{})
			go func() {
				defer close(flood)
				for packet := bytes.Repeat(websocket.NewFrameText(false, nil), 100); ; {
					if _, err := c.Conn.Write(packet); err != nil {
						return
					}
				}
			}()
			for before := handled.Load(); handled.Load() == before; {
				runtime.Gosched()
			}
			cl.Quit()
			cl.HandleText = func(*websocket.Client, *websocket.Frame) error { late.Add(1); return nil }
			peer.Receive(t, flood)
		}
		require.Zero(t, late.Load())
	})
}

// reconnectFields sets handlers that tell whose they are.
func reconnectFields(cl *websocket.Client, whose string, calls chan<- string) {
	handler := func(name string) websocket.ClientHandler {
		return func(*websocket.Client, *websocket.Frame) error {
			calls <- whose + ": " + name
			return nil
		}
	}
	cl.HandleText, cl.HandleBin, cl.HandleRsvControl = handler("HandleText"), handler("HandleBin"), handler("HandleRsvControl")
	cl.HandleQuit = func() { calls <- whose + ": HandleQuit" }
	cl.Logger = slog.New(peer.LogFunc(func(_ string, attrs map[string]slog.Value) {
		calls <- whose + ": log of " + attrs["endpoint"].String()
	}))
}
