package websocket

import (
	"bytes"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClient_fieldsOfTheNextConnection(t *testing.T) {
	for name, end := range map[string]func(cl *Client, c *scriptedConn){
		"Quit": func(cl *Client, _ *scriptedConn) { cl.Quit() },
		"Close": func(cl *Client, c *scriptedConn) {
			closed := make(chan error, 1)
			go func() { closed <- cl.Close() }()
			c.readClose()
			c.conn.Close()
			require.NoError(c.t, scriptedWait(c.t, closed))
		},
	} {
		t.Run("they may be set as soon as "+name+" has returned, while a handler of the connection before still runs", func(t *testing.T) {
			checkGoroutines(t)
			calls := make(chan string, 64)
			inside, release := make(chan struct{}, 1), make(chan struct{})
			one, two := scriptedListen(t), scriptedListen(t)
			cl := &Client{Endpoint: one.endpoint()}
			reconnectFields(cl, "first", calls)
			cl.HandleText = func(*Client, *Frame) error {
				inside <- struct{}{}
				<-release
				return nil
			}
			first := one.open(cl)
			frames := append(NewFrameText(false, nil), NewFrameText(false, nil)...)
			first.send(append(append(frames, NewFrameBin(false, nil)...), NewFrame(OpcodeControlRsvB, false, nil)...))
			scriptedWait(t, inside)
			end(cl, first)
			require.Equal(t, "first: log of "+one.endpoint(), scriptedWait(t, calls))

			reconnectFields(cl, "second", calls)
			cl.Endpoint = two.endpoint()
			cl.Headers = http.Header{"X": {"y"}}
			cl.PingInterval, cl.SilenceTimeout, cl.WriteTimeout, cl.HandshakeTimeout = time.Hour, time.Hour, time.Hour, time.Minute
			cl.MaxMessageSize, cl.MaxFragments, cl.MaxHeaderSize, cl.MaxHeaderFields = 10, 10, 10_000, 10
			second := two.open(cl)
			close(release)
			require.Equal(t, "first: HandleQuit", scriptedWait(t, calls))
			for _, row := range []struct {
				frame []byte
				call  string
			}{
				{NewFrameText(false, nil), "second: HandleText"},
				{NewFrameBin(false, nil), "second: HandleBin"},
				{NewFrame(OpcodeControlRsvB, false, nil), "second: HandleRsvControl"},
			} {
				second.send(row.frame)
				require.Equal(t, row.call, scriptedWait(t, calls))
			}
			cl.Quit()
			ends := []string{scriptedWait(t, calls), scriptedWait(t, calls)}
			require.ElementsMatch(t, []string{"second: HandleQuit", "second: log of " + two.endpoint()}, ends)
			require.Empty(t, calls)
		})
	}
	t.Run("they may be set while messages arrive, as the race detector knows", func(t *testing.T) {
		checkGoroutines(t)
		cl := new(Client)
		var handled, late atomic.Int64
		for range 20 {
			server := scriptedListen(t)
			cl.Endpoint = server.endpoint()
			cl.HandleText = func(*Client, *Frame) error { handled.Add(1); return nil }
			c := server.open(cl)
			flood := make(chan struct{})
			go func() {
				defer close(flood)
				for packet := bytes.Repeat(NewFrameText(false, nil), 100); ; {
					if _, err := c.conn.Write(packet); err != nil {
						return
					}
				}
			}()
			for before := handled.Load(); handled.Load() == before; {
				runtime.Gosched()
			}
			cl.Quit()
			cl.HandleText = func(*Client, *Frame) error { late.Add(1); return nil }
			scriptedWait(t, flood)
		}
		require.Zero(t, late.Load())
	})
}

// reconnectFields sets handlers that tell whose they are.
func reconnectFields(cl *Client, whose string, calls chan<- string) {
	handler := func(name string) ClientHandler {
		return func(*Client, *Frame) error {
			calls <- whose + ": " + name
			return nil
		}
	}
	cl.HandleText, cl.HandleBin, cl.HandleRsvControl = handler("HandleText"), handler("HandleBin"), handler("HandleRsvControl")
	cl.HandleQuit = func() { calls <- whose + ": HandleQuit" }
	cl.Logger = slog.New(logFunc(func(_ string, attrs map[string]slog.Value) {
		calls <- whose + ": log of " + attrs["endpoint"].String()
	}))
}
