//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
)

func TestLogMayUseTheConnection(t *testing.T) {
	for _, end := range []struct {
		name string
		text string // of the record
		do   func(s *rawServer, c *rawConn, conn int)
	}{
		{"the client closes", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) {
			c.send(NewFrameClose(true, StatusNormal, nil))
		}},
		{"the client is reset", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) { c.reset() }},
		{"the client breaks a rule", "websocket: connection ends", func(_ *rawServer, c *rawConn, _ int) { c.send([]byte{0xFF, 0xFF}) }},
		{"the program removes it", "websocket: connection ends", func(s *rawServer, _ *rawConn, conn int) { s.ClientRemove(conn) }},
		{"its handler panics", "websocket: handler panicked", func(_ *rawServer, c *rawConn, _ int) { c.send(NewFrameBin(true, nil)) }},
		{"the server stops", "websocket: connection ends", func(s *rawServer, _ *rawConn, _ int) { s.stop(s.t) }},
	} {
		t.Run("where "+end.name, func(t *testing.T) {
			var server atomic.Pointer[Server]
			returned := make(chan string, 64)
			opts := &ServerOptions{HandleText: rawEcho, HandleBin: func(int, []byte) { panic("handler of the test") }}
			opts.Logger = slog.New(logFunc(func(text string, attrs map[string]slog.Value) {
				s, conn := server.Load(), int(attrs["conn"].Int64())
				packet := NewFrameText(false, []byte(text))
				s.Clients.Context(conn)
				id := ID(conn)
				Send(conn, packet)
				TrySend(conn, packet)
				SendID(id, packet)
				s.ClientRemove(conn)
				returned <- text
			}))
			added := rawAdded(opts)
			s := startServer(t, opts)
			server.Store(s.Server)
			c := s.connect(t)
			conn := rawGet(t, added)
			end.do(s, c, conn)
			for text := ""; text != end.text; {
				text = rawGet(t, returned)
			}
			if s.Addr() == nil {
				return
			}
			for range runtime.GOMAXPROCS(0) { // every loop lives
				other := s.connect(t)
				other.text("x")
				other.expectText("x")
			}
		})
	}
}
