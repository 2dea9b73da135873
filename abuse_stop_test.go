//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

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
)

func TestAbuseStop(t *testing.T) {
	abuseRun(t, []abuseRow{
		{name: "every kind of handler may call Stop", attack: abuseStopFromHandlers},
		{name: "Stop during handshakes ends them", attack: abuseStopHandshakes},
		{name: "Stop during a broadcast ends it", attack: abuseStopBroadcast},
		{name: "Stop before Start, twice, from many sides at once, and Start after Stop", attack: abuseStopAgain},
	})
}

func abuseStopFromHandlers(a *abuse) {
	a.startBeside()
	for _, kind := range []string{"auth", "status", "add", "text", "bin", "control", "request", "remove"} {
		opts := new(ServerOptions)
		stopped := make(chan struct{})
		var s *rawServer
		stop := func(where string) {
			if where == kind {
				s.Stop()
				close(stopped)
			}
		}
		opts.HandleAuth = func(*Handshake) (context.Context, error) { stop("auth"); return nil, nil }
		opts.HandleStatus = func() (string, []byte) { stop("status"); return "", nil }
		opts.HandleClientAdd = func(context.Context, int) { stop("add") }
		opts.HandleClientRemove = func(context.Context, int) { stop("remove") }
		opts.HandleBin = func(int, []byte) { stop("bin") }
		opts.HandleRsvControl = func(int, *Frame) { stop("control") }
		if kind != "request" {
			opts.HandleText = func(int, []byte) { stop("text") }
		}
		s = a.newServer(opts)
		a.t.Run(kind, func(t *testing.T) {
			s.launch(t)
			if kind == "request" {
				require.NoError(t, s.RegisterTextHandler("GET", "/stop", func(context.Context, *Request) Response {
					stop("request")
					return Response{}
				}))
			}
			c := s.dial(t)
			request := rawRequest
			if kind == "status" {
				request = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
			}
			c.send([]byte(request))
			frames := append(NewFrameText(true, []byte(`{"method":"GET","target":"/stop"}`)), NewFrameBin(true, nil)...)
			frames = append(append(frames, NewFrame(0xB, true, nil)...), NewFrameClose(true, StatusNormal, nil)...)
			if kind != "status" && kind != "auth" {
				_, err := io.ReadFull(c.r, make([]byte, len(rawAccepted)))
				require.NoError(t, err)
				c.Write(frames) // fails where the server has stopped
			}
			left := c.rawLeave()
			rawDone(t, stopped)
			rawDone(t, left)
			require.NoError(t, rawGet(t, s.served))
			s.served = nil
			require.Nil(t, s.Addr())
		})
	}
}

func abuseStopHandshakes(a *abuse) {
	const each = 100
	a.startBeside()
	inside, release := make(chan struct{}, each), make(chan struct{})
	a.startApart(&ServerOptions{HandleAuth: func(*Handshake) (context.Context, error) {
		inside <- struct{}{}
		<-release
		return nil, nil
	}})
	rawRelease(a.t, release)
	var conns []*rawConn
	for range each {
		for _, part := range []string{"", rawRequest[:50], rawRequest} {
			c := a.dial(a.t)
			_, err := io.WriteString(c, part)
			require.NoError(a.t, err)
			conns = append(conns, c)
		}
	}
	for range each {
		rawGet(a.t, inside)
	}
	start := time.Now()
	a.stop(a.t)
	assert.Less(a.t, time.Since(start), maxDrainTime+abuseTime(2*time.Second))
	rawAll(a.t, len(conns), func(i int) error {
		b, err := io.ReadAll(conns[i].r)
		if len(b) > 0 {
			err = fmt.Errorf("got %q, %w", b, err)
		}
		var netErr net.Error
		if errors.As(err, &netErr) && !netErr.Timeout() {
			err = nil // a reset
		}
		return err
	})
	_, err := net.DialTimeout(a.network, a.address, time.Second)
	require.Error(a.t, err)
}

func abuseStopBroadcast(a *abuse) {
	const peers = 50
	a.startBeside()
	timeout := abuseScale(defaultWriteTimeout)
	a.startApart(&ServerOptions{WriteTimeout: timeout})
	conns := a.connectAll(peers)
	require.True(a.t, eventually(func() bool { return a.Clients.Len() == peers }))
	packet := NewFrameBin(false, rawPattern(64<<10, 1))
	stop, sent := make(chan struct{}), make(chan error, 4)
	for range 4 {
		go func() {
			for {
				_, failed := a.Clients.SendAll(packet)
				for _, err := range failed {
					if !errors.Is(err, ErrSendQueueFull) && !errors.Is(err, ErrConnClosed) {
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
			op, payload, err := c.rawFrame()
			begun <- struct{}{}
			for n := 0; err == nil; n++ {
				if op == OpcodeClose {
					if code := c.code(payload); code != StatusGone {
						err = fmt.Errorf("closed with %d", code)
					}
					break
				}
				if op != OpcodeBin || len(payload) != 64<<10 {
					err = fmt.Errorf("got %x, %d bytes", op, len(payload))
					break
				}
				if i%5 == 0 && n == 3 { // these do not read on
					break
				}
				op, payload, err = c.rawFrame()
			}
			ended <- err
		}()
	}
	for range peers {
		rawGet(a.t, begun)
	}
	start := time.Now()
	a.stop(a.t)
	assert.Less(a.t, time.Since(start), timeout+maxDrainTime+abuseTime(3*time.Second))
	for range peers {
		assert.NoError(a.t, rawGet(a.t, ended))
	}
	close(stop)
	for range 4 {
		require.NoError(a.t, rawGet(a.t, sent))
	}
}

func abuseStopAgain(a *abuse) {
	a.startBeside()
	a.rawServer = a.newServer(&ServerOptions{HandleText: rawEcho})
	a.Stop()
	a.Stop()
	a.t.Cleanup(func() { a.stop(a.t) })
	for range 10 {
		a.restart(a.t)
		require.ErrorIs(a.t, a.Start(), ErrServerRunning)
		var conns []*rawConn
		for range 10 {
			c := a.connect(a.t)
			c.text("x")
			c.expectText("x")
			conns = append(conns, c)
		}
		rawAll(a.t, len(conns)+8, func(i int) error {
			if i >= len(conns) {
				a.Stop()
				return nil
			}
			code, err := conns[i].abuseCode()
			if err == nil && code != StatusGone {
				err = fmt.Errorf("closed with %d", code)
			}
			conns[i].Close()
			return err
		})
		require.NoError(a.t, rawGet(a.t, a.served))
		a.served = nil
		require.Nil(a.t, a.Addr())
		a.Stop()
	}
}
