//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestAbuseStop(t *testing.T) { runRows(t, stopRows) }

var stopRows = []attackRow{
	{name: "every kind of handler may call Stop", attack: stopFromHandlers},
	{name: "Stop during handshakes ends them", attack: stopHandshakes},
	{name: "Stop during a broadcast ends it", attack: stopBroadcast},
	{name: "Stop before Start, twice, from many sides at the same time, and Start after Stop", attack: stopAgain},
}

func stopFromHandlers(a *abuse) {
	a.startBeside()
	for _, kind := range []string{"auth", "status", "add", "text", "bin", "control", "request", "remove"} {
		opts := new(websocket.ServerOptions)
		stopped := make(chan struct{})
		var s *peer.Server
		stop := func(where string) {
			if where == kind {
				s.Stop()
				close(stopped)
			}
		}
		opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) { stop("auth"); return nil, nil }
		opts.HandleStatus = func() (string, []byte) { stop("status"); return "", nil }
		opts.HandleClientAdd = func(context.Context, int) { stop("add") }
		opts.HandleClientRemove = func(context.Context, int) { stop("remove") }
		opts.HandleBin = func(int, []byte) { stop("bin") }
		opts.HandleRsvControl = func(int, *websocket.Frame) { stop("control") }
		if kind != "request" {
			opts.HandleText = func(int, []byte) { stop("text") }
		}
		s = a.newServer(opts)
		a.t.Run(kind, func(t *testing.T) {
			s.Launch(t)
			if kind == "request" {
				require.NoError(t, s.RegisterTextHandler("GET", "/stop", func(context.Context, *websocket.Request) websocket.Response {
					stop("request")
					return websocket.Response{}
				}))
			}
			c := s.Dial(t)
			request := peer.Request
			if kind == "status" {
				request = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
			}
			c.Send([]byte(request))
			frames := append(websocket.NewFrameText(true, []byte(`{"method":"GET","target":"/stop"}`)), websocket.NewFrameBin(true, nil)...)
			frames = append(append(frames, websocket.NewFrame(0xB, true, nil)...), websocket.NewFrameClose(true, websocket.StatusNormal, nil)...)
			if kind != "status" && kind != "auth" {
				_, err := io.ReadFull(c.Reader, make([]byte, len(peer.Accepted)))
				require.NoError(t, err)
				c.Write(frames) // fails if the server has stopped
			}
			left := c.Leave()
			peer.Done(t, stopped)
			peer.Done(t, left)
			require.NoError(t, peer.Get(t, s.Served))
			s.Served = nil
			require.Nil(t, s.Addr())
		})
	}
}

func stopHandshakes(a *abuse) {
	const each = 100
	a.startBeside()
	inside, release := make(chan struct{}, each), make(chan struct{})
	a.startApart(&websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) {
		inside <- struct{}{}
		<-release
		return nil, nil
	}})
	peer.Release(a.t, release)
	var conns []*peer.Conn
	for range each {
		for _, part := range []string{"", peer.Request[:50], peer.Request} {
			c := a.Dial(a.t)
			_, err := io.WriteString(c, part)
			require.NoError(a.t, err)
			conns = append(conns, c)
		}
	}
	for range each {
		peer.Get(a.t, inside)
	}
	start := time.Now()
	a.StopAndWait(a.t)
	assert.Less(a.t, time.Since(start), peer.DrainTime+timeLimit(2*time.Second))
	peer.All(a.t, len(conns), func(i int) error {
		b, err := io.ReadAll(conns[i].Reader)
		if len(b) > 0 {
			err = fmt.Errorf("got %q, %w", b, err)
		}
		var netErr net.Error
		if errors.As(err, &netErr) && !netErr.Timeout() {
			err = nil // a reset
		}
		return err
	})
	_, err := net.DialTimeout(a.Network, a.Address, time.Second)
	require.Error(a.t, err)
}

func stopBroadcast(a *abuse) {
	const peers = 50
	a.startBeside()
	timeout := scale(peer.WriteTimeout)
	a.startApart(&websocket.ServerOptions{WriteTimeout: timeout})
	conns := a.connectAll(peers)
	require.True(a.t, peer.Eventually(func() bool { return a.Clients.Len() == peers }))
	packet := websocket.NewFrameBin(false, peer.Pattern(64<<10, 1))
	stop, sent := make(chan struct{}), make(chan error, 4)
	for range 4 {
		go func() {
			for {
				_, failed := a.Clients.SendAll(packet)
				for _, err := range failed {
					if !errors.Is(err, websocket.ErrSendQueueFull) && !errors.Is(err, websocket.ErrConnClosed) {
						sent <- err
						return
					}
				}
				select {
				case <-stop:
					sent <- nil
					return
				default:
				}
			}
		}()
	}
	begun := make(chan struct{}, peers)
	ended := make(chan error, peers)
	for i, c := range conns {
		go func() {
			op, payload, err := c.Frame()
			begun <- struct{}{}
			for n := 0; err == nil; n++ {
				if op == websocket.OpcodeClose {
					if code := c.Code(payload); code != websocket.StatusGone {
						err = fmt.Errorf("closed with %d", code)
					}
					break
				}
				if op != websocket.OpcodeBin || len(payload) != 64<<10 {
					err = fmt.Errorf("got %x, %d bytes", op, len(payload))
					break
				}
				if i%5 == 0 && n == 3 { // these do not read on
					break
				}
				op, payload, err = c.Frame()
			}
			ended <- err
		}()
	}
	for range peers {
		peer.Get(a.t, begun)
	}
	start := time.Now()
	a.StopAndWait(a.t)
	assert.Less(a.t, time.Since(start), timeout+peer.DrainTime+timeLimit(3*time.Second))
	for range peers {
		assert.NoError(a.t, peer.Get(a.t, ended))
	}
	close(stop)
	for range 4 {
		require.NoError(a.t, peer.Get(a.t, sent))
	}
}

func stopAgain(a *abuse) {
	a.startBeside()
	a.Server = a.newServer(&websocket.ServerOptions{HandleText: peer.Echo})
	a.Stop()
	a.Stop()
	a.t.Cleanup(func() { a.StopAndWait(a.t) })
	for range 10 {
		a.Restart(a.t)
		require.ErrorIs(a.t, a.Start(), websocket.ErrServerRunning)
		var conns []*peer.Conn
		for range 10 {
			c := a.Connect(a.t)
			c.Text("x")
			c.ExpectText("x")
			conns = append(conns, c)
		}
		peer.All(a.t, len(conns)+8, func(i int) error {
			if i >= len(conns) {
				a.Stop()
				return nil
			}
			code, err := conns[i].CloseCode()
			if err == nil && code != websocket.StatusGone {
				err = fmt.Errorf("closed with %d", code)
			}
			conns[i].Close()
			return err
		})
		require.NoError(a.t, peer.Get(a.t, a.Served))
		a.Served = nil
		require.Nil(a.t, a.Addr())
		a.Stop()
	}
}
