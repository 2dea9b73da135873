//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// callers is where a handler is called from. It is not looked at in there: on a slow machine that alone takes the time after which a
// handler counts as slow.
type callers [32]uintptr

func (c *callers) take() { runtime.Callers(2, c[:]) }

// haveWorker reports whether it was a worker that called, rather than a loop.
func (c *callers) haveWorker() bool {
	frames := runtime.CallersFrames(c[:])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, "websocket.(*conn).worker") {
			return true
		}
		if !more {
			return false
		}
	}
}

func isWary(c *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lanes.offload > 0
}

// TestSlowConnection has a handler block whose connection shares its loop with another one.
func TestSlowConnection(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one loop
	release, blocked := make(chan struct{}), make(chan *conn)
	from := make(chan callers, 1)
	byWorker := func() bool {
		c := rawGet(t, from)
		return c.haveWorker()
	}
	s := startServer(t, &ServerOptions{
		HandleText: rawEcho,
		HandleBin: func(conn int, payload []byte) {
			if string(payload) == "block" {
				blocked <- descriptors.get(conn)
				<-release
				return
			}
			var c callers
			c.take()
			from <- c
		},
	})
	release1 := rawRelease(t, release)
	slow, other := s.connect(t), s.connect(t)
	for range 2 * fastRow { // that one among so many is slow is forgiven the others
		other.text("x")
		other.expectText("x")
	}
	slow.send(NewFrameBin(true, []byte("block")))
	c := rawGet(t, blocked)
	other.text("x") // the loop has to be taken over for it
	other.expectText("x")
	require.True(t, eventually(func() bool { return isWary(c) }))
	release1()

	next := NewFrameBin(true, []byte("fast"))
	slow.send(next)
	if !byWorker() {
		t.Error("the loop itself has called a handler of a connection that held it up")
	}
	n := 1
	for slow.send(next); byWorker(); slow.send(next) { // a starved machine may make any of them slow
		if n++; n > 100*fastRow {
			t.Fatalf("%d fast messages were handled by workers", n)
		}
	}
	if n < fastRow {
		t.Errorf("the loop has called handlers again after %d fast ones, before %d", n, fastRow)
	}
}

func TestSlowAuth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one loop
	release, blocked := make(chan struct{}), make(chan struct{})
	opts := &ServerOptions{
		HandleText: rawEcho,
		HandleAuth: func(req *Handshake) (context.Context, error) {
			if req.URL.RawQuery == "block" {
				close(blocked)
				<-release
			}
			return context.Background(), nil
		},
	}
	added := rawAdded(opts)
	s := startServer(t, opts)
	let := rawRelease(t, release)
	other, slow := s.connect(t), s.dial(t)
	rawGet(t, added)
	slow.send([]byte(strings.Replace(rawRequest, "GET / ", "GET /?block ", 1)))
	rawGet(t, blocked)
	other.text("x") // the loop has to be taken over for it
	other.expectText("x")
	let()
	c := descriptors.get(rawGet(t, added))
	require.False(t, isWary(c), "messages are held to be slow because HandleAuth was")
}
