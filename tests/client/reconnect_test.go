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

// reconnectStates records what HandleState is told.
type reconnectStates chan reconnectState

type reconnectState struct {
	cl    *websocket.Client
	state websocket.ClientState
	cause error
}

func (states reconnectStates) record(cl *websocket.Client, state websocket.ClientState, cause error) {
	states <- reconnectState{cl, state, cause}
}

// next returns the next state, which has to be a certain one.
func (states reconnectStates) next(t *testing.T, want websocket.ClientState) (cause error) {
	t.Helper()
	got := peer.Receive(t, states)
	require.Equal(t, want, got.state, "cause: %v", got.cause)
	return got.cause
}

// accept has a listener open the next connection of a client.
func reconnectAccept(ln *peer.Listener) *peer.Script {
	c := ln.Accept()
	c.Send(c.Answer())
	return c
}

func TestReconnect(t *testing.T) {
	fast := &websocket.Reconnect{Min: time.Millisecond, Max: time.Millisecond}
	t.Run("a connection that is lost is replaced, and handlers go on", func(t *testing.T) {
		peer.CheckGoroutines(t)
		states := make(reconnectStates, 64)
		calls := make(chan string, 64)
		cl := &websocket.Client{Reconnect: fast, HandleState: states.record, HandleQuit: func() { calls <- "quit" }}
		cl.HandleText = func(_ *websocket.Client, f *websocket.Frame) error {
			calls <- string(f.Payload())
			return nil
		}
		ln := peer.Listen(t)
		c := ln.Open(cl)
		require.NoError(t, states.next(t, websocket.StateConnecting))
		require.NoError(t, states.next(t, websocket.StateConnected))
		for range 3 {
			c.Send(websocket.NewFrameText(false, []byte("hello")))
			require.Equal(t, "hello", peer.Receive(t, calls))
			c.Conn.Close()
			require.Equal(t, "quit", peer.Receive(t, calls))
			require.ErrorIs(t, states.next(t, websocket.StateWaiting), websocket.ErrConnClosed)
			require.NoError(t, states.next(t, websocket.StateConnecting))
			c = reconnectAccept(ln)
			require.NoError(t, states.next(t, websocket.StateConnected))
		}
		cl.Quit()
		require.NoError(t, states.next(t, websocket.StateEnded))
		require.Equal(t, "quit", peer.Receive(t, calls))
		require.Empty(t, states)
	})
	t.Run("Quit in HandleState ends the wait", func(t *testing.T) {
		peer.CheckGoroutines(t)
		states := make(reconnectStates, 64)
		cl := &websocket.Client{Reconnect: &websocket.Reconnect{Min: time.Hour}}
		cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, cause error) {
			if state == websocket.StateWaiting {
				cl.Quit()
				cause = cl.Connect() // to a server that is gone
			}
			states.record(cl, state, cause)
		}
		ln := peer.Listen(t)
		c := ln.Open(cl)
		ln.Socket.Close()
		c.Conn.Close()
		states.next(t, websocket.StateConnecting)
		states.next(t, websocket.StateConnected)
		require.Error(t, states.next(t, websocket.StateWaiting))
		states.next(t, websocket.StateConnecting)
		require.Error(t, states.next(t, websocket.StateEnded))
	})
}
