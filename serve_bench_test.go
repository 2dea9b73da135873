//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkServe is the way of a message through the engine: read, parsed, handled, answered, with the system's part of it.
// One goroutine does it all, so that nothing but the work is measured.
func BenchmarkServe(b *testing.B) {
	for _, way := range []struct {
		name string
		echo HandlerPayloadFn
	}{
		{"a packet for each", servePacket},
		{"buffers given back", serveGivenBack},
	} {
		for _, size := range []int{128, 16 << 10} {
			for _, messages := range []int{1, 64} {
				if size*messages > 1<<17 {
					continue
				}
				b.Run(fmt.Sprintf("%s/%d B/%d in one read", way.name, size, messages), func(b *testing.B) {
					benchServe(b, way.echo, size, messages)
				})
			}
		}
	}
}

func servePacket(conn int, payload []byte) { Send(conn, NewFrameBin(false, payload)) }

func serveGivenBack(conn int, payload []byte) {
	SendBin(conn, payload)
	PutBuffer(payload)
}

func benchServe(b *testing.B, echo HandlerPayloadFn, size, messages int) {
	round := serveRound(b, echo, size, messages)
	b.SetBytes(int64(size * messages))
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
}

// serveLoop returns a loop that nobody runs, and its turn.
func serveLoop(tb testing.TB, handle HandlerPayloadFn) (l *loop, t *lease) {
	e := &engine{clients: new(ClientManager), log: slog.New(slog.DiscardHandler)}
	e.reports = newReports(e.log)
	e.opts.HandleBin = handle
	e.opts.fill()
	e.limits = e.opts.limits()
	e.atOnce = [laneCount]int{1, 1, 1}
	e.protocol.Store(&rules{maxMessage: 1 << 20, maxFragments: 1, fromClient: true})
	l, err := newLoop(e)
	require.NoError(tb, err)
	tb.Cleanup(l.poll.close)
	e.loops = []*loop{l}
	e.monitor = &monitor{loops: e.loops, bell: make(chan struct{}, 1)}
	return l, l.lease.Load()
}

// serveConn returns an open connection of the loop, and the other end of its socket.
func serveConn(tb testing.TB, l *loop) (c *conn, peer int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(tb, err)
	c = &conn{stream: stream{nextID(pair[0])}, loop: l, heapIndex: -1, life: life{phaseOpen}, reads: readMessages}
	descriptors.set(pair[0], c)
	tb.Cleanup(func() {
		descriptors.set(pair[0], nil)
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
	return c, pair[1]
}

// serveRound returns what sends messages over a socket, in one piece, has a loop serve them and reads the answers.
func serveRound(tb testing.TB, echo HandlerPayloadFn, size, messages int) (round func()) {
	l, t := serveLoop(tb, echo)
	c, peer := serveConn(tb, l)
	var in []byte
	for range messages {
		in = append(in, NewFrame(OpcodeBin, true, make([]byte, size))...)
	}
	out := make([]byte, messages*len(NewFrame(OpcodeBin, false, make([]byte, size))))
	return func() {
		if n, err := writeSocket(peer, in, false); n < len(in) {
			tb.Fatal(n, err)
		}
		for c.readable = true; c.readable; {
			l.serve(t, c)
		}
		if n, err := readSocket(peer, out); n < len(out) {
			tb.Fatal(n, err)
		}
	}
}

func TestAllocationsOfEcho(t *testing.T) {
	if raced() {
		t.Skip("the race detector has pools forget")
	}
	for _, row := range []struct {
		name  string
		echo  HandlerPayloadFn
		limit float64 // per message
	}{
		{"the payload and the packet", servePacket, 2},
		{"nothing, where buffers are given back", serveGivenBack, 0},
	} {
		for _, messages := range []int{1, 64} {
			t.Run(fmt.Sprintf("%s, %d in one read", row.name, messages), func(t *testing.T) {
				defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector empties pools
				round := serveRound(t, row.echo, 128, messages)
				perRound := testing.AllocsPerRun(1000, round)
				require.LessOrEqual(t, perRound, row.limit*float64(messages))
			})
		}
	}
}

// TestLocksOfEcho has a handler take the connection's lock for itself once it has sent its answer: nothing else may want it then. Serving
// takes it once, the answer once, and the end of the handler not at all.
func TestLocksOfEcho(t *testing.T) {
	var c *conn
	l, lease := serveLoop(t, func(conn int, payload []byte) {
		SendBin(conn, payload)
		c.mu.Lock()
	})
	c, peer := serveConn(t, l)
	for range 3 { // what one leaves to the next does not show
		_, err := writeSocket(peer, NewFrameBin(true, []byte("x")), false)
		require.NoError(t, err)
		c.readable = true
		require.True(t, l.serve(lease, c))
		require.False(t, c.mu.TryLock(), "it is the handler that has it")
		c.mu.Unlock()
		got := make([]byte, 10)
		n, err := readSocket(peer, got)
		require.NoError(t, err)
		require.Equal(t, NewFrameBin(false, []byte("x")), got[:n])
	}
}
