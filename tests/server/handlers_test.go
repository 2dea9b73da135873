//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestHandlersMayCallAnything(t *testing.T) {
	type call struct {
		name string
		do   func(s *peer.Server, own, other int)
	}
	calls := []call{
		{"Send to their own connection", func(_ *peer.Server, own, _ int) { websocket.Send(own, websocket.NewFrameText(false, []byte("x"))) }},
		{"Send to another connection", func(_ *peer.Server, _, other int) { websocket.Send(other, websocket.NewFrameText(false, []byte("x"))) }},
		{"ClientRemove of their own connection", func(s *peer.Server, own, _ int) { s.ClientRemove(own); s.ClientRemove(own) }},
		{"ClientRemove of another connection", func(s *peer.Server, _, other int) { s.ClientRemove(other) }},
		{"everything of Clients", func(s *peer.Server, own, other int) {
			s.Clients.Context(own)
			s.Clients.Context(other)
			s.Clients.Conns(1)
			s.Clients.SendUser(1, websocket.NewFrameText(false, []byte("x")))
			s.Clients.SendAll(websocket.NewFrameText(false, []byte("x")))
			for _, conn := range s.Clients.All() {
				websocket.ID(conn)
			}
			s.Clients.Len()
			s.Clients.Users()
		}},
		{"RegisterTextHandler, AllowReservedBits and Addr", func(s *peer.Server, _, _ int) {
			s.RegisterTextHandler("GET", "/x", func(context.Context, *websocket.Request) websocket.Response { return websocket.Response{} })
			s.AllowReservedBits(false, false, false)
			s.Addr()
		}},
		{"a second Start", func(s *peer.Server, _, _ int) { s.Start() }},
		{"a Close frame", func(_ *peer.Server, own, _ int) {
			websocket.Send(own, websocket.NewFrameClose(false, websocket.StatusNormal, nil))
		}},
		{"Stop", func(s *peer.Server, _, _ int) { s.Stop() }},
	}
	for _, tc := range calls {
		for _, from := range []string{"HandleAuth", "HandleClientAdd", "HandleText", "HandleBin", "HandleRsvControl", "HandleClientRemove", "HandleStatus"} {
			t.Run(from+" may call "+tc.name, func(t *testing.T) {
				var s *peer.Server
				var own, other atomic.Int64
				var armed atomic.Bool
				done := make(chan struct{})
				do := func(in string, conn int) {
					if in == "HandleClientAdd" && conn != int(other.Load()) {
						own.CompareAndSwap(-1, int64(conn))
					}
					if in == from && armed.Load() && conn != int(other.Load()) && armed.CompareAndSwap(true, false) {
						if conn < 0 {
							conn = int(own.Load())
						}
						tc.do(s, conn, int(other.Load()))
						close(done)
					}
				}
				added := make(chan int, 8)
				own.Store(-1)
				other.Store(-1)
				s = peer.Start(t, &websocket.ServerOptions{
					Address:            "127.0.0.1:0",
					HandleAuth:         func(*websocket.Handshake) (context.Context, error) { do("HandleAuth", -1); return nil, nil },
					HandleClientAdd:    func(_ context.Context, conn int) { do("HandleClientAdd", conn); added <- conn },
					HandleText:         func(conn int, _ []byte) { do("HandleText", conn) },
					HandleBin:          func(conn int, _ []byte) { do("HandleBin", conn) },
					HandleRsvControl:   func(conn int, _ *websocket.Frame) { do("HandleRsvControl", conn) },
					HandleClientRemove: func(_ context.Context, conn int) { do("HandleClientRemove", conn) },
					HandleStatus:       func() (string, []byte) { do("HandleStatus", -1); return "text/plain", nil },
				})
				s.Connect(t).Leave()
				other.Store(int64(peer.Get(t, added)))
				own.Store(-1)
				armed.Store(true)
				c := s.Dial(t)
				if from == "HandleStatus" {
					c.Send([]byte("GET /status HTTP/1.1\r\n\r\n"))
				} else {
					c.Send([]byte(peer.Request))
					c.Send(websocket.NewFrameText(true, []byte("x")))
					c.Send(websocket.NewFrameBin(true, []byte("x")))
					c.Send(websocket.NewFrame(websocket.OpcodeControlRsvB, true, nil))
					c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
				}
				c.Leave()
				peer.Done(t, done)
			})
		}
	}
}

func TestHandlerPanics(t *testing.T) {
	for name, fail := range map[string]func(){
		"a panic":             func() { panic("handler") },
		"a nil dereference":   func() { var p *peer.Server; p.T.Name() },
		"runtime.Goexit":      runtime.Goexit,
		"a panic once late":   func() { <-time.After(5 * time.Millisecond); panic("late") },
		"runtime.Goexit late": func() { <-time.After(5 * time.Millisecond); runtime.Goexit() },
	} {
		for _, in := range []string{"HandleClientAdd", "HandleText", "HandleBin", "HandleRsvControl", "HandleClientRemove", "a routed request"} {
			t.Run(name+" in "+in+" ends that one connection with 1011", func(t *testing.T) {
				var armed atomic.Bool
				do := func(where string) {
					if where == in && armed.CompareAndSwap(true, false) {
						fail()
					}
				}
				removed := make(chan int, 8)
				added := make(chan int, 8)
				opts := &websocket.ServerOptions{
					AddTimeout: time.Hour,
					HandleClientAdd: func(_ context.Context, conn int) {
						added <- conn
						do("HandleClientAdd")
					},
					HandleText:       func(conn int, p []byte) { do("HandleText"); peer.Echo(conn, p) },
					HandleBin:        func(int, []byte) { do("HandleBin") },
					HandleRsvControl: func(int, *websocket.Frame) { do("HandleRsvControl") },
					HandleClientRemove: func(_ context.Context, conn int) {
						removed <- conn
						do("HandleClientRemove")
					},
				}
				if in == "a routed request" {
					opts.HandleText = nil
				}
				s := peer.Start(t, opts)
				require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *websocket.Request) websocket.Response {
					do("a routed request")
					return websocket.Response{}
				}))
				other := s.Connect(t)
				peer.Get(t, added)
				other.Text(`{"id":2,"method":"GET","target":"/"}`)
				_, _, err := other.Frame()
				require.NoError(t, err) // its HandleClientAdd has returned
				armed.Store(true)
				c := s.Connect(t)
				conn := peer.Get(t, added)
				switch in {
				case "HandleText":
					c.Text("x")
				case "HandleBin":
					c.Send(websocket.NewFrameBin(true, nil))
				case "HandleRsvControl":
					c.Send(websocket.NewFrame(websocket.OpcodeControlRsvC, true, nil))
				case "HandleClientRemove":
					c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
				case "a routed request":
					c.Text(`{"id":1,"method":"GET","target":"/"}`)
				}
				if in == "HandleClientRemove" {
					c.ExpectClose(websocket.StatusNormal) // it had been answered already
				} else {
					c.ExpectClose(websocket.StatusInternalError)
				}
				require.Equal(t, conn, peer.Get(t, removed))
				for range 2 { // every loop lives
					again := s.Connect(t)
					again.Text(`{"id":2,"method":"GET","target":"/"}`)
					op, _, err := again.Frame()
					require.NoError(t, err)
					require.Equal(t, websocket.OpcodeText, op)
				}
				other.Text(`{"id":2,"method":"GET","target":"/"}`)
				op, _, err := other.Frame()
				require.NoError(t, err)
				require.Equal(t, websocket.OpcodeText, op)
				require.Empty(t, removed, "Remove is called once")
			})
		}
	}
}
