package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
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
	t.Run("they may be set while the Connect that Close has ended is still at work, and are none of its", func(t *testing.T) {
		peer.CheckGoroutines(t)
		inside, release := make(chan bool), make(chan bool)
		cl := &websocket.Client{Endpoint: "ws://a.test", Proxy: func(*http.Request) (*url.URL, error) {
			inside <- true
			<-release
			return nil, nil
		}}
		connected := peer.Connect(cl)
		peer.Receive(t, inside)
		require.NoError(t, cl.Close())
		cl.DialContext = func(context.Context, string, string) (net.Conn, error) {
			t.Error("it is called for a Connect before it was set")
			return nil, net.ErrClosed
		}
		close(release)
		require.ErrorIs(t, peer.Receive(t, connected), websocket.ErrConnClosed)
	})
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

// reconnectOpen connects a client that reconnects, and returns the listener, the connection, and what HandleState is told from then on.
func reconnectOpen(t *testing.T, cl *websocket.Client) (*peer.Listener, *peer.Script, reconnectStates) {
	t.Helper()
	peer.CheckGoroutines(t)
	states := make(reconnectStates, 1000)
	handle := cl.HandleState
	cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, cause error) {
		states.record(cl, state, cause)
		if handle != nil {
			handle(cl, state, cause)
		}
	}
	ln := peer.Listen(t)
	c := ln.Open(cl)
	require.NoError(t, states.next(t, websocket.StateConnecting))
	require.NoError(t, states.next(t, websocket.StateConnected))
	return ln, c, states
}

// reconnectFast is for tests that wait for it, and reconnectNever for those that do not.
var (
	reconnectFast  = &websocket.Reconnect{Min: time.Millisecond, Max: time.Millisecond}
	reconnectNever = &websocket.Reconnect{Min: time.Hour, Max: time.Hour}
)

func TestReconnect(t *testing.T) {
	t.Run("a connection that is lost is replaced, and nothing of it runs beside the next", func(t *testing.T) {
		calls := make(chan string, 64)
		var running atomic.Int64
		handler := func(name string) {
			if running.Add(1) != 1 {
				name += " beside another"
			}
			calls <- name
			runtime.Gosched()
			running.Add(-1)
		}
		cl := &websocket.Client{Reconnect: reconnectFast, HandleQuit: func() { handler("quit") }}
		cl.HandleState = func(_ *websocket.Client, state websocket.ClientState, _ error) { handler(state.String()) }
		cl.HandleText = func(got *websocket.Client, f *websocket.Frame) error {
			if got != cl {
				handler("another client")
			}
			handler(string(f.Payload()))
			return nil
		}
		ln, c, states := reconnectOpen(t, cl)
		require.Equal(t, "connecting", peer.Receive(t, calls))
		require.Equal(t, "connected", peer.Receive(t, calls))
		for range 10 {
			c.Send(websocket.NewFrameText(false, []byte("hello")))
			c.Conn.Close()
			require.ErrorIs(t, states.next(t, websocket.StateWaiting), websocket.ErrConnClosed)
			require.NoError(t, states.next(t, websocket.StateConnecting))
			c = reconnectAccept(ln)
			require.NoError(t, states.next(t, websocket.StateConnected))
			for _, name := range []string{"hello", "quit", "waiting", "connecting", "connected"} {
				require.Equal(t, name, peer.Receive(t, calls))
			}
			require.NoError(t, cl.SendText([]byte("again")))
			require.Equal(t, "again", string(c.Read().Payload))
		}
		cl.Quit()
		require.NoError(t, states.next(t, websocket.StateEnded))
		require.Equal(t, "quit", peer.Receive(t, calls))
		require.Equal(t, "ended", peer.Receive(t, calls))
	})
	t.Run("while it waits the last connection is the one that is asked about, and sending fails at once", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: reconnectNever, Subprotocols: []string{"chat"}}
		connected := make(chan error, 1)
		ln := peer.Listen(t)
		cl.Endpoint = ln.Endpoint()
		states := make(reconnectStates, 10)
		cl.HandleState = states.record
		go func() { connected <- cl.Connect() }()
		c := ln.Accept()
		answer := strings.TrimSuffix(string(c.Answer()), "\r\n") + "Sec-WebSocket-Protocol: chat\r\n\r\n"
		c.Send([]byte(answer))
		require.NoError(t, peer.Receive(t, connected))
		states.next(t, websocket.StateConnecting)
		states.next(t, websocket.StateConnected)
		require.Zero(t, cl.NextAttempt())
		before := time.Now()
		c.Send(websocket.NewFrameClose(false, 1011, []byte("oops")))
		c.ReadClose()
		c.Conn.Close()
		cause := states.next(t, websocket.StateWaiting)
		require.Equal(t, &websocket.CloseError{Code: 1011, Reason: "oops"}, cause)
		require.Equal(t, cause, cl.Err())
		require.Equal(t, "chat", cl.Subprotocol())
		require.Equal(t, "chat", cl.Response().Get("Sec-WebSocket-Protocol"))
		require.ErrorIs(t, cl.SendText(nil), websocket.ErrConnClosed)
		require.ErrorIs(t, cl.SendPing(nil), websocket.ErrConnClosed)
		require.WithinRange(t, cl.NextAttempt(), before, time.Now().Add(time.Hour))
		require.ErrorContains(t, cl.Connect(), "reconnecting")
		require.NoError(t, cl.Close())
		require.NoError(t, states.next(t, websocket.StateEnded))
		require.Zero(t, cl.NextAttempt())
	})
	t.Run("Retry ends the wait", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: reconnectNever}
		cl.Retry()
		ln, c, states := reconnectOpen(t, cl)
		cl.Retry()
		for range 3 {
			c.Conn.Close()
			states.next(t, websocket.StateWaiting)
			cl.Retry()
			states.next(t, websocket.StateConnecting)
			c = reconnectAccept(ln)
			states.next(t, websocket.StateConnected)
		}
	})
	t.Run("after so many failed attempts it gives up, with the last cause, and Connect begins anew", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: &websocket.Reconnect{Min: time.Millisecond, Max: time.Millisecond, Attempts: 3}}
		ln, c, states := reconnectOpen(t, cl)
		c.Conn.Close()
		for status := range 3 {
			states.next(t, websocket.StateWaiting)
			states.next(t, websocket.StateConnecting)
			c = ln.Accept()
			c.Send(fmt.Appendf(nil, "HTTP/1.1 50%d No\r\nContent-Length: 0\r\n\r\n", status))
			c.Conn.Close()
		}
		var refused *websocket.HandshakeError
		require.ErrorAs(t, states.next(t, websocket.StateEnded), &refused)
		require.Equal(t, 502, refused.Status)
		ln.Open(cl)
		states.next(t, websocket.StateConnecting)
		states.next(t, websocket.StateConnected)
	})
	t.Run("what is final is not tried again", func(t *testing.T) {
		for _, answer := range []string{"401 Who", "403 No", "404 Where", "302 There"} {
			cl := &websocket.Client{Reconnect: reconnectFast}
			ln, c, states := reconnectOpen(t, cl)
			c.Conn.Close()
			states.next(t, websocket.StateWaiting)
			states.next(t, websocket.StateConnecting)
			c = ln.Accept()
			c.Send([]byte("HTTP/1.1 " + answer + "\r\nContent-Length: 0\r\n\r\n"))
			require.ErrorContains(t, states.next(t, websocket.StateEnded), answer)
		}
		for _, code := range []websocket.CloseCode{1000, 1008, 3000} {
			cl := &websocket.Client{Reconnect: reconnectFast}
			_, c, states := reconnectOpen(t, cl)
			c.Send(websocket.NewFrameClose(false, code, nil))
			c.ReadClose()
			c.Conn.Close()
			require.Equal(t, &websocket.CloseError{Code: code}, states.next(t, websocket.StateEnded))
		}
	})
	t.Run("a certificate that is not accepted is final", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: reconnectFast, TLSConfig: peer.ClientTLS()}
		cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, _ error) {
			if state == websocket.StateWaiting {
				cl.TLSConfig = nil // which trusts the system's authorities alone
			}
		}
		peer.CheckGoroutines(t)
		s := &peer.Server{Server: websocket.NewServer(peer.Quiet(&websocket.ServerOptions{TLSConfig: peer.ServerTLS()})), T: t}
		s.Launch(t)
		cl.Endpoint = "wss://" + s.Address + "/"
		states := make(reconnectStates, 10)
		handle := cl.HandleState
		cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, cause error) {
			handle(cl, state, cause)
			states.record(cl, state, cause)
		}
		require.NoError(t, cl.Connect())
		states.next(t, websocket.StateConnecting)
		states.next(t, websocket.StateConnected)
		require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 1 }))
		require.NoError(t, s.Clients.Close(s.Clients.All()[0], 1011, ""))
		states.next(t, websocket.StateWaiting)
		states.next(t, websocket.StateConnecting)
		var wrong *tls.CertificateVerificationError
		require.ErrorAs(t, states.next(t, websocket.StateEnded), &wrong)
	})
	t.Run("Retry-After of a refusal is respected", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: reconnectFast}
		ln, c, states := reconnectOpen(t, cl)
		c.Conn.Close()
		states.next(t, websocket.StateWaiting)
		states.next(t, websocket.StateConnecting)
		c = ln.Accept()
		before := time.Now()
		c.Send([]byte("HTTP/1.1 503 Later\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n"))
		states.next(t, websocket.StateWaiting)
		require.WithinRange(t, cl.NextAttempt(), before.Add(10*time.Minute), time.Now().Add(10*time.Minute+time.Second))
		cl.Quit()
		require.NoError(t, states.next(t, websocket.StateEnded))
	})
	t.Run("without Reconnect the states are told all the same", func(t *testing.T) {
		cl := new(websocket.Client)
		_, c, states := reconnectOpen(t, cl)
		c.Conn.Close()
		require.ErrorIs(t, states.next(t, websocket.StateEnded), websocket.ErrConnClosed)
		cl.Endpoint = "ws://127.0.0.1:0/"
		err := cl.Connect()
		require.Error(t, err)
		states.next(t, websocket.StateConnecting)
		require.Equal(t, err, states.next(t, websocket.StateEnded))
	})
	t.Run("the first attempt is that of Connect alone", func(t *testing.T) {
		peer.CheckGoroutines(t)
		states := make(reconnectStates, 10)
		ln := peer.Listen(t)
		ln.Socket.Close()
		cl := &websocket.Client{Endpoint: ln.Endpoint(), Reconnect: reconnectFast, HandleState: states.record}
		for range 2 {
			err := cl.Connect()
			require.Error(t, err)
			states.next(t, websocket.StateConnecting)
			require.Equal(t, err, states.next(t, websocket.StateEnded))
		}
	})
}

// reconnectEnds are what ends reconnecting.
var reconnectEnds = map[string]func(cl *websocket.Client) error{
	"Close":     (*websocket.Client).Close,
	"CloseWith": func(cl *websocket.Client) error { return cl.CloseWith(4000, "enough") },
	"Quit":      func(cl *websocket.Client) error { cl.Quit(); return nil },
}

func TestReconnect_ends(t *testing.T) {
	for name, end := range reconnectEnds {
		t.Run(name+" ends the wait at once", func(t *testing.T) {
			cl := &websocket.Client{Reconnect: reconnectNever}
			_, c, states := reconnectOpen(t, cl)
			c.Conn.Close()
			states.next(t, websocket.StateWaiting)
			require.NoError(t, end(cl))
			require.NoError(t, states.next(t, websocket.StateEnded))
		})
		t.Run(name+" ends an attempt at once", func(t *testing.T) {
			cl := &websocket.Client{Reconnect: reconnectFast}
			ln, c, states := reconnectOpen(t, cl)
			c.Conn.Close()
			states.next(t, websocket.StateWaiting)
			states.next(t, websocket.StateConnecting)
			c = ln.Accept()
			require.NoError(t, end(cl))
			require.NoError(t, states.next(t, websocket.StateEnded))
			c.ReadEnd()
		})
		for _, in := range []websocket.ClientState{websocket.StateWaiting, websocket.StateConnecting, websocket.StateEnded} {
			t.Run(name+" in HandleState while "+in.String(), func(t *testing.T) {
				ended := make(chan error, 10)
				cl := &websocket.Client{Reconnect: &websocket.Reconnect{Min: time.Millisecond, Max: time.Millisecond, Attempts: 1}}
				times := 0
				cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, _ error) {
					if times++; times > 2 && state == in {
						ended <- end(cl)
					}
				}
				ln, c, states := reconnectOpen(t, cl)
				ln.Socket.Close()
				c.Conn.Close()
				require.NoError(t, peer.Receive(t, ended))
				require.Equal(t, websocket.StateWaiting, peer.Receive(t, states).state)
				for peer.Receive(t, states).state != websocket.StateEnded {
				}
				require.Empty(t, states)
			})
		}
		t.Run(name+" in HandleState when connected", func(t *testing.T) {
			ended := make(chan error, 10)
			cl := &websocket.Client{Reconnect: reconnectFast}
			cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, _ error) {
				if state == websocket.StateConnected {
					ended <- end(cl)
				}
			}
			peer.CheckGoroutines(t)
			quit := make(chan bool, 1)
			cl.HandleQuit = func() { quit <- true }
			ln := peer.Listen(t)
			cl.Endpoint = ln.Endpoint()
			connected := peer.Connect(cl)
			c := reconnectAccept(ln)
			require.NoError(t, peer.Receive(t, connected))
			if name != "Quit" {
				c.ReadClose()
				c.Conn.Close()
			}
			require.NoError(t, peer.Receive(t, ended))
			peer.Receive(t, quit)
		})
		t.Run("the program may set fields as soon as "+name+" has returned, whatever was being done", func(t *testing.T) {
			peer.CheckGoroutines(t)
			ln := peer.Listen(t)
			serving := make(chan struct{})
			go func() {
				defer close(serving)
				for {
					conn, err := ln.Socket.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						req, err := http.ReadRequest(bufio.NewReader(conn))
						if err != nil || rand.IntN(3) == 0 {
							return
						}
						(&peer.Script{T: t, Conn: conn, Request: req}).Send((&peer.Script{T: t, Request: req}).Answer())
					}()
				}
			}()
			cl := new(websocket.Client)
			var told atomic.Int64
			for i := range 200 {
				cl.Endpoint, cl.Headers = ln.Endpoint(), http.Header{"X": {"y"}}
				cl.Reconnect = &websocket.Reconnect{Min: time.Microsecond, Max: time.Millisecond}
				cl.HandleState = func(cl *websocket.Client, _ websocket.ClientState, _ error) { told.Add(1) }
				cl.HandleQuit = func() { told.Add(1) }
				cl.Connect()
				for range rand.IntN(1000 * (i%2 + 1)) {
					runtime.Gosched()
				}
				end(cl)
				cl.Headers.Set("X", "z")
				cl.Logger, cl.Subprotocols, cl.MaxMessageSize = slog.New(slog.DiscardHandler), []string{"a"}, i
			}
			ln.Socket.Close()
			<-serving
		})
	}
	t.Run("once it has ended nothing more is told of it if Connect was called", func(t *testing.T) {
		inside, release := make(chan struct{}, 1), make(chan struct{})
		cl := &websocket.Client{Reconnect: reconnectFast}
		cl.HandleText = func(*websocket.Client, *websocket.Frame) error {
			inside <- struct{}{}
			<-release
			return nil
		}
		ln, c, states := reconnectOpen(t, cl)
		c.Send(websocket.NewFrameText(false, nil))
		peer.Receive(t, inside)
		cl.Quit()
		c = ln.Open(cl)
		states.next(t, websocket.StateConnecting)
		states.next(t, websocket.StateConnected)
		close(release)
		cl.Quit()
		require.NoError(t, states.next(t, websocket.StateEnded))
		c.ReadEnd()
		require.Empty(t, states)
	})
}

func TestReconnect_lost(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell")
	}
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": peer.ServerTLS()} {
		t.Run("the cause tells how many messages of Send have not left, "+name, func(t *testing.T) {
			cl := &websocket.Client{WriteTimeout: 100 * time.Millisecond, Reconnect: reconnectNever}
			ln := peer.Listen(t)
			if cl.Endpoint = ln.Endpoint(); config != nil {
				ln.Socket = tls.NewListener(ln.Socket, config)
				cl.Endpoint, cl.TLSConfig = strings.Replace(cl.Endpoint, "ws:", "wss:", 1), peer.ClientTLS()
			}
			peer.CheckGoroutines(t)
			states := make(reconnectStates, 10)
			cl.HandleState = states.record
			c := ln.Open(cl)
			states.next(t, websocket.StateConnecting)
			states.next(t, websocket.StateConnected)
			accepted := 0
			for message := make([]byte, 50_000); cl.SendBin(message) == nil; {
				accepted++
			}
			cause := states.next(t, websocket.StateWaiting)
			var lost *websocket.LostError
			require.ErrorAs(t, cause, &lost)
			require.ErrorIs(t, cause, websocket.ErrWriteTimeout)
			require.NotZero(t, lost.Unsent)
			arrived := 0
			for {
				f, err := peer.ReadFrame(c.In)
				if err != nil {
					break
				}
				if f.Opcode == websocket.OpcodeBin {
					arrived++
				}
			}
			require.LessOrEqual(t, arrived+lost.Unsent, accepted)
			require.GreaterOrEqual(t, arrived+lost.Unsent+lost.Unacknowledged, accepted)
		})
	}
}

func TestReconnect_handleState(t *testing.T) {
	t.Run("fields that it sets are those of the next attempt", func(t *testing.T) {
		token := 0
		cl := &websocket.Client{Reconnect: reconnectFast, Headers: http.Header{"Token": {"0"}}}
		cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, _ error) {
			if state == websocket.StateWaiting || state == websocket.StateConnecting && token > 0 {
				token++
				cl.Headers = http.Header{"Token": {strconv.Itoa(token)}}
			}
		}
		ln, c, states := reconnectOpen(t, cl)
		for _, want := range []string{"2", "4"} {
			c.Conn.Close()
			states.next(t, websocket.StateWaiting)
			states.next(t, websocket.StateConnecting)
			c = reconnectAccept(ln)
			require.Equal(t, want, c.Request.Header.Get("Token"))
			states.next(t, websocket.StateConnected)
		}
	})
	t.Run("it may connect to another server when the client has given up", func(t *testing.T) {
		other := peer.Listen(t)
		cl := &websocket.Client{Reconnect: reconnectFast}
		errs := make(chan error, 1)
		inside := false
		cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, _ error) {
			if inside {
				panic("told while it is told")
			}
			inside = true
			if state == websocket.StateEnded && cl.Endpoint != other.Endpoint() {
				cl.Endpoint = other.Endpoint()
				errs <- cl.Connect()
			}
			inside = false
		}
		_, c, states := reconnectOpen(t, cl)
		c.Send(websocket.NewFrameClose(false, websocket.StatusNormal, nil))
		c.ReadClose()
		c.Conn.Close()
		states.next(t, websocket.StateEnded)
		c = reconnectAccept(other)
		require.NoError(t, peer.Receive(t, errs))
		states.next(t, websocket.StateConnecting)
		states.next(t, websocket.StateConnected)
		cl.Quit()
		require.NoError(t, states.next(t, websocket.StateEnded))
	})
	t.Run("an Endpoint that is none ends it", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: reconnectFast}
		cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, _ error) {
			if state == websocket.StateWaiting {
				cl.Endpoint = "nowhere"
			}
		}
		_, c, states := reconnectOpen(t, cl)
		c.Conn.Close()
		states.next(t, websocket.StateWaiting)
		states.next(t, websocket.StateConnecting)
		require.ErrorContains(t, states.next(t, websocket.StateEnded), "endpoint")
	})
	t.Run("messages wait for it, and it may call", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		calls := make(chan string, 10)
		cl.HandleText = func(_ *websocket.Client, f *websocket.Frame) error {
			calls <- string(f.Payload())
			return nil
		}
		cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, _ error) {
			if state == websocket.StateConnected {
				res, err := cl.Call(context.Background(), callGet)
				calls <- "state: " + callResult{res, err}.body(t)
			}
		}
		c := peer.Open(t, cl, callText("early")...)
		id := callRead(c).ID
		c.Send(callText("later"))
		c.Send(callAnswer(id, "answer"))
		for _, call := range []string{"state: answer", "early", "later"} {
			require.Equal(t, call, peer.Receive(t, calls))
		}
		cl.HandleState = nil
		cl.Quit()
	})
	t.Run("a panic is logged, and that is all", func(t *testing.T) {
		logged := make(chan string, 10)
		cl := &websocket.Client{Reconnect: reconnectFast}
		cl.Logger = slog.New(peer.LogFunc(func(text string, _ map[string]slog.Value) {
			if strings.Contains(text, "panicked") {
				logged <- text
			}
		}))
		cl.HandleState = func(*websocket.Client, websocket.ClientState, error) { panic("oops") }
		ln, c, states := reconnectOpen(t, cl)
		c.Conn.Close()
		states.next(t, websocket.StateWaiting)
		states.next(t, websocket.StateConnecting)
		reconnectAccept(ln)
		states.next(t, websocket.StateConnected)
		for range 5 {
			peer.Receive(t, logged)
		}
	})
	t.Run("one that ends its goroutine holds up nothing that follows", func(t *testing.T) {
		quit := make(chan bool, 10)
		cl := &websocket.Client{Reconnect: reconnectFast, HandleQuit: func() { quit <- true }}
		cl.HandleState = func(_ *websocket.Client, state websocket.ClientState, _ error) {
			if state != websocket.StateConnected {
				runtime.Goexit()
			}
		}
		ln, c, states := reconnectOpen(t, cl)
		for range 3 {
			c.Conn.Close()
			peer.Receive(t, quit)
			states.next(t, websocket.StateWaiting)
			states.next(t, websocket.StateConnecting)
			c = reconnectAccept(ln)
			states.next(t, websocket.StateConnected)
		}
		cl.Quit()
		require.NoError(t, states.next(t, websocket.StateEnded))
		ln.Open(cl)
	})
	t.Run("one that ends its goroutine when connected ends the connection", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: reconnectFast}
		cl.HandleState = func(_ *websocket.Client, state websocket.ClientState, _ error) {
			if state == websocket.StateConnected {
				runtime.Goexit()
			}
		}
		_, c, states := reconnectOpen(t, cl)
		c.ReadClose()
		c.Conn.Close()
		require.Error(t, states.next(t, websocket.StateEnded))
	})
}

func TestReconnect_resend(t *testing.T) {
	resends := func(again bool) *websocket.Reconnect {
		r := *reconnectFast
		r.Resend = func(*websocket.Request) bool { return again }
		return &r
	}
	t.Run("a call is sent again, with its id, if the program says so", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: resends(true)}
		ln, c, _ := reconnectOpen(t, cl)
		done := callGo(context.Background(), cl, callGet)
		id := callRead(c).ID
		for range 3 {
			c.Conn.Close()
			c = reconnectAccept(ln)
			require.Equal(t, id, callRead(c).ID)
		}
		c.Send(callAnswer(id, "it"))
		require.Equal(t, "it", peer.Receive(t, done).body(t))
	})
	t.Run("a call waits for a connection", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: resends(true)}
		ln, c, states := reconnectOpen(t, cl)
		c.Conn.Close()
		states.next(t, websocket.StateWaiting)
		states.next(t, websocket.StateConnecting)
		c = ln.Accept()
		done := callGo(context.Background(), cl, callGet)
		c.Send(c.Answer())
		c.Send(callAnswer(callRead(c).ID, "it"))
		require.Equal(t, "it", peer.Receive(t, done).body(t))
	})
	t.Run("a call does not fail because its connection is closing", func(t *testing.T) {
		cl := &websocket.Client{Reconnect: resends(true)}
		ln, c, _ := reconnectOpen(t, cl)
		c.Send(websocket.NewFrameClose(false, websocket.StatusGone, nil))
		c.ReadClose()
		done := callGo(context.Background(), cl, callGet)
		c.Conn.Close()
		c = reconnectAccept(ln)
		c.Send(callAnswer(callRead(c).ID, "it"))
		require.Equal(t, "it", peer.Receive(t, done).body(t))
	})
	for name, r := range map[string]*websocket.Reconnect{"by default": reconnectFast, "if the program says so": resends(false)} {
		t.Run("it is sent once "+name, func(t *testing.T) {
			cl := &websocket.Client{Reconnect: r}
			ln, c, _ := reconnectOpen(t, cl)
			done := callGo(context.Background(), cl, callGet)
			callRead(c)
			c.Conn.Close()
			got := peer.Receive(t, done)
			require.ErrorIs(t, got.err, websocket.ErrConnClosed)
			require.True(t, got.failed(t).InDoubt)
			c = reconnectAccept(ln)
			require.True(t, peer.Eventually(func() bool { return cl.SendText([]byte("next")) == nil }))
			require.Equal(t, "next", string(c.Read().Payload))
		})
	}
	for name, end := range map[string]struct {
		end  func(cl *websocket.Client, cancel func())
		want error
	}{
		"its context ends": {func(_ *websocket.Client, cancel func()) { cancel() }, context.Canceled},
		"the client ends":  {func(cl *websocket.Client, _ func()) { cl.Quit() }, websocket.ErrConnClosed},
	} {
		t.Run("the wait for a connection ends if "+name, func(t *testing.T) {
			r := *reconnectNever
			r.Resend = func(*websocket.Request) bool { return true }
			cl := &websocket.Client{Reconnect: &r}
			_, c, states := reconnectOpen(t, cl)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			sent := callGo(ctx, cl, callGet)
			callRead(c)
			c.Conn.Close()
			states.next(t, websocket.StateWaiting)
			unsent := callGo(ctx, cl, callGet)
			end.end(cl, cancel)
			got := peer.Receive(t, sent)
			require.ErrorIs(t, got.err, end.want)
			require.True(t, got.failed(t).InDoubt)
			got = peer.Receive(t, unsent)
			require.ErrorIs(t, got.err, end.want)
			require.False(t, got.failed(t).InDoubt)
		})
	}
	t.Run("a handler does not wait for the connection that waits for it", func(t *testing.T) {
		errs := make(chan error, 10)
		cl := &websocket.Client{Reconnect: resends(true)}
		call := func() {
			_, err := cl.Call(context.Background(), callGet)
			errs <- err
		}
		cl.HandleText = func(*websocket.Client, *websocket.Frame) error { call(); return nil }
		cl.HandleState = func(_ *websocket.Client, state websocket.ClientState, _ error) {
			if state == websocket.StateWaiting {
				call()
			}
		}
		ln, c, _ := reconnectOpen(t, cl)
		c.Send(callText("begin"))
		callRead(c)
		c.Conn.Close()
		for range 2 {
			require.ErrorIs(t, peer.Receive(t, errs), websocket.ErrConnClosed)
		}
		reconnectAccept(ln)
	})
}
