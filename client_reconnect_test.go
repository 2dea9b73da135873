package websocket

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClient_settings(t *testing.T) {
	t.Run("an attempt to connect again has each exported field of the client", func(t *testing.T) {
		cl := new(Client)
		of := reflect.ValueOf(cl).Elem()
		for i := range of.NumField() {
			field, name := of.Field(i), of.Type().Field(i)
			if !name.IsExported() {
				continue
			}
			switch field.Kind() {
			case reflect.Map:
				field.Set(reflect.MakeMapWithSize(field.Type(), 1))
				field.SetMapIndex(reflect.ValueOf("X").Convert(field.Type().Key()), reflect.Zero(field.Type().Elem()))
			case reflect.Slice:
				field.Set(reflect.MakeSlice(field.Type(), 1, 1))
			case reflect.Pointer:
				field.Set(reflect.New(field.Type().Elem()))
			case reflect.Func:
				field.Set(reflect.MakeFunc(field.Type(), nil))
			case reflect.String:
				field.SetString("x")
			case reflect.Interface:
				// its zero value cannot be told from one that was forgotten: a field of this kind has to be named here
				t.Logf("%s is not checked", name.Name)
			default:
				field.SetInt(7)
			}
		}
		settings := reflect.ValueOf(cl.settings(newAttempt(context.Background(), nil))).Elem()
		for i := range of.NumField() {
			name := of.Type().Field(i)
			if !name.IsExported() || name.Type.Kind() == reflect.Interface {
				continue
			}
			assert.False(t, settings.Field(i).IsZero(), name.Name)
		}
	})
	t.Run("and none if Quit was called", func(t *testing.T) {
		at := newAttempt(context.Background(), nil)
		at.end(errAbandoned)
		assert.Nil(t, new(Client).settings(at))
	})
}

// lossPair is a connection of a client whose peer takes only what its system has room for.
func lossPair(t *testing.T) (cl *Client, causes <-chan error, server *net.TCPConn) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell")
	}
	client, server := tcpPair(t)
	told := make(chan error, 16)
	cl = &Client{WriteTimeout: 200 * time.Millisecond}
	cl.HandleState = func(_ *Client, state ClientState, cause error) {
		if state == StateEnded {
			told <- cause
		}
	}
	startOver(cl, client, func(c *clientConn) {
		c.session = newSession(cl)
		c.client, cl.session = cl, c.session
		c.toldOpened = cl.noteLocked(c.session, StateConnected, nil)
	})
	return cl, told, server
}

func TestLoss(t *testing.T) {
	t.Run("each message of Send has arrived, is in doubt, or is known not to have left", func(t *testing.T) {
		cl, causes, server := lossPair(t)
		accepted := 0
		for {
			if err := cl.SendBin(make([]byte, 10_000)); err != nil {
				assert.ErrorIs(t, err, ErrWriteTimeout)
				break
			}
			accepted++
		}
		cause := scriptedWait(t, causes)
		var lost *LostError
		require.ErrorAs(t, cause, &lost)
		require.ErrorIs(t, cause, ErrWriteTimeout)
		assert.Equal(t, ErrWriteTimeout, cl.Err(), "Err has the cause alone")
		arrived := 0
		for in, b := 0, make([]byte, 1<<20); ; {
			n, err := server.Read(b)
			if in += n; err != nil {
				arrived = in / (10_000 + 8)
				break
			}
		}
		t.Logf("%d accepted, %d arrived: %v", accepted, arrived, cause)
		assert.NotZero(t, lost.Unsent)
		assert.LessOrEqual(t, arrived, accepted-lost.Unsent, "what was unsent never arrives")
		assert.GreaterOrEqual(t, arrived+lost.Unacknowledged+lost.Unsent, accepted, "nothing is forgotten")
	})
	t.Run("what the server's system has acknowledged is not lost, whatever ends the connection", func(t *testing.T) {
		cl, causes, server := lossPair(t)
		for range 100 {
			require.NoError(t, cl.SendText([]byte("hello")))
		}
		in := make([]byte, 100*(5+6))
		_, err := io.ReadFull(server, in)
		require.NoError(t, err)
		require.True(t, eventually(func() bool { return cl.current().socket.ask(unackedBytes) == 0 }))
		server.SetLinger(0)
		server.Close()
		cause := scriptedWait(t, causes)
		require.ErrorIs(t, cause, ErrConnClosed)
		var lost *LostError
		assert.NotErrorAs(t, cause, &lost)
	})
	t.Run("a reset loses what was on its way", func(t *testing.T) {
		cl, causes, server := lossPair(t)
		cl.WriteTimeout = 0
		done := make(chan int)
		go func() {
			n := 0
			for cl.SendBin(make([]byte, 10_000)) == nil {
				n++
			}
			done <- n
		}()
		require.True(t, eventually(func() bool { return cl.current() == nil || cl.current().socket.ask(unsentBytes) > 50_000 }))
		server.SetLinger(0)
		server.Close()
		accepted := scriptedWait(t, done)
		cause := scriptedWait(t, causes)
		var lost *LostError
		require.ErrorAs(t, cause, &lost)
		t.Logf("%d accepted: %v", accepted, cause)
		assert.GreaterOrEqual(t, lost.Unsent, 4)
	})
	t.Run("what the program ends itself has no cause", func(t *testing.T) {
		cl, causes, _ := lossPair(t)
		for cl.current().socket.ask(unsentBytes) == 0 {
			require.NoError(t, cl.SendBin(make([]byte, 10_000)))
		}
		cl.Quit()
		assert.NoError(t, scriptedWait(t, causes))
	})
}

// In virtual time: each attempt begins when HandleState was told that it would, within the window that grows.
func TestReconnect_moments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		var server net.Conn
		var dialled []time.Time
		var isGone atomic.Bool
		accept := func(conn net.Conn) {
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				conn.Write(scriptedAnswer(req.Header.Get("Sec-WebSocket-Key")))
			}
			io.Copy(io.Discard, conn)
		}
		cl := &Client{Endpoint: "ws://server/", Proxy: http.ProxyURL(nil), Reconnect: &Reconnect{}, PingInterval: 24 * time.Hour}
		cl.DialContext = func(context.Context, string, string) (client net.Conn, err error) {
			dialled = append(dialled, time.Now())
			if isGone.Load() {
				return nil, errors.New("nobody is there")
			}
			client, server = net.Pipe()
			go accept(server)
			return client, nil
		}
		var told, due []time.Time
		var states []ClientState
		cl.HandleState = func(cl *Client, state ClientState, _ error) {
			states = append(states, state)
			if state == StateWaiting {
				told, due = append(told, time.Now()), append(due, cl.NextAttempt())
			}
		}
		require.NoError(t, cl.Connect())
		defer cl.Quit()
		after(time.Second)
		isGone.Store(true)
		server.Close()
		after(time.Hour)
		isGone.Store(false)
		after(time.Minute)
		require.Equal(t, []ClientState{StateConnecting, StateConnected, StateWaiting, StateConnecting, StateWaiting}, states[:5])
		require.Equal(t, []ClientState{StateWaiting, StateConnecting, StateConnected}, states[len(states)-3:])
		require.Equal(t, due, dialled[1:])
		require.Greater(t, len(due), 100)
		for i, window := 0, 500*time.Millisecond; i < len(due); i, window = i+1, min(2*window, 30*time.Second) {
			require.WithinRange(t, due[i], told[i], told[i].Add(window))
		}

		isGone.Store(true)
		server.Close()
		synctest.Wait()
		require.LessOrEqual(t, due[len(due)-1].Sub(told[len(told)-1]), 30*time.Second)
		begin := time.Now()
		cl.Quit()
		synctest.Wait()
		require.Equal(t, StateEnded, states[len(states)-1])
		require.Equal(t, begin, time.Now())
	})
}
