//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHandlersMayCallAnything(t *testing.T) {
	type call struct {
		name string
		do   func(s *rawServer, own, other int)
	}
	calls := []call{
		{"Send to their own connection", func(_ *rawServer, own, _ int) { Send(own, NewFrameText(false, []byte("x"))) }},
		{"Send to another connection", func(_ *rawServer, _, other int) { Send(other, NewFrameText(false, []byte("x"))) }},
		{"ClientRemove of their own connection", func(s *rawServer, own, _ int) { s.ClientRemove(own); s.ClientRemove(own) }},
		{"ClientRemove of another connection", func(s *rawServer, _, other int) { s.ClientRemove(other) }},
		{"everything of Clients", func(s *rawServer, own, other int) {
			s.Clients.Context(own)
			s.Clients.Context(other)
			s.Clients.Conns(1)
			s.Clients.SendUser(1, NewFrameText(false, []byte("x")))
			s.Clients.SendAll(NewFrameText(false, []byte("x")))
			for _, conn := range s.Clients.All() {
				ID(conn)
			}
			s.Clients.Len()
			s.Clients.Users()
		}},
		{"RegisterTextHandler, AllowReservedBits and Addr", func(s *rawServer, _, _ int) {
			s.RegisterTextHandler("GET", "/x", func(context.Context, *Request) Response { return Response{} })
			s.AllowReservedBits(false, false, false)
			s.Addr()
		}},
		{"a second Start", func(s *rawServer, _, _ int) { s.Start() }},
		{"a Close frame", func(_ *rawServer, own, _ int) { Send(own, NewFrameClose(false, StatusNormal, nil)) }},
		{"Stop", func(s *rawServer, _, _ int) { s.Stop() }},
	}
	for _, tc := range calls {
		for _, from := range []string{"HandleAuth", "HandleClientAdd", "HandleText", "HandleBin", "HandleRsvControl", "HandleClientRemove", "HandleStatus"} {
			t.Run(from+" may call "+tc.name, func(t *testing.T) {
				var s *rawServer
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
				s = startServer(t, &ServerOptions{
					Address:            "127.0.0.1:0",
					HandleAuth:         func(*Handshake) (context.Context, error) { do("HandleAuth", -1); return nil, nil },
					HandleClientAdd:    func(_ context.Context, conn int) { do("HandleClientAdd", conn); added <- conn },
					HandleText:         func(conn int, _ []byte) { do("HandleText", conn) },
					HandleBin:          func(conn int, _ []byte) { do("HandleBin", conn) },
					HandleRsvControl:   func(conn int, _ *Frame) { do("HandleRsvControl", conn) },
					HandleClientRemove: func(_ context.Context, conn int) { do("HandleClientRemove", conn) },
					HandleStatus:       func() (string, []byte) { do("HandleStatus", -1); return "text/plain", nil },
				})
				s.connect(t).rawLeave()
				other.Store(int64(rawGet(t, added)))
				own.Store(-1)
				armed.Store(true)
				c := s.dial(t)
				if from == "HandleStatus" {
					c.send([]byte("GET /status HTTP/1.1\r\n\r\n"))
				} else {
					c.send([]byte(rawRequest))
					c.send(NewFrameText(true, []byte("x")))
					c.send(NewFrameBin(true, []byte("x")))
					c.send(NewFrame(OpcodeControlRsvB, true, nil))
					c.send(NewFrameClose(true, StatusNormal, nil))
				}
				c.rawLeave()
				rawDone(t, done)
			})
		}
	}
}

func TestHandlerPanics(t *testing.T) {
	for name, fail := range map[string]func(){
		"a panic":             func() { panic("handler") },
		"a nil dereference":   func() { var p *rawServer; p.t.Name() },
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
				opts := &ServerOptions{
					AddTimeout: time.Hour,
					HandleClientAdd: func(_ context.Context, conn int) {
						added <- conn
						do("HandleClientAdd")
					},
					HandleText:       func(conn int, p []byte) { do("HandleText"); rawEcho(conn, p) },
					HandleBin:        func(int, []byte) { do("HandleBin") },
					HandleRsvControl: func(int, *Frame) { do("HandleRsvControl") },
					HandleClientRemove: func(_ context.Context, conn int) {
						removed <- conn
						do("HandleClientRemove")
					},
				}
				if in == "a routed request" {
					opts.HandleText = nil
				}
				s := startServer(t, opts)
				require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *Request) Response {
					do("a routed request")
					return Response{}
				}))
				other := s.connect(t)
				rawGet(t, added)
				other.text(`{"id":2,"method":"GET","target":"/"}`)
				_, _, err := other.rawFrame()
				require.NoError(t, err) // its HandleClientAdd has returned
				armed.Store(true)
				c := s.connect(t)
				conn := rawGet(t, added)
				switch in {
				case "HandleText":
					c.text("x")
				case "HandleBin":
					c.send(NewFrameBin(true, nil))
				case "HandleRsvControl":
					c.send(NewFrame(OpcodeControlRsvC, true, nil))
				case "HandleClientRemove":
					c.send(NewFrameClose(true, StatusNormal, nil))
				case "a routed request":
					c.text(`{"id":1,"method":"GET","target":"/"}`)
				}
				if in == "HandleClientRemove" {
					c.expectClose(StatusNormal) // it had been answered already
				} else {
					c.expectClose(StatusInternalError)
				}
				require.Equal(t, conn, rawGet(t, removed))
				for range 2 { // every loop lives
					again := s.connect(t)
					again.text(`{"id":2,"method":"GET","target":"/"}`)
					op, _, err := again.rawFrame()
					require.NoError(t, err)
					require.Equal(t, OpcodeText, op)
				}
				other.text(`{"id":2,"method":"GET","target":"/"}`)
				op, _, err := other.rawFrame()
				require.NoError(t, err)
				require.Equal(t, OpcodeText, op)
				require.Empty(t, removed, "Remove is called once")
			})
		}
	}
}
