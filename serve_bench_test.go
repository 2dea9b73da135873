//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"fmt"
	"log/slog"
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
		{"a packet for each", func(conn int, payload []byte) { Send(conn, NewFrameBin(false, payload)) }},
		{"buffers given back", func(conn int, payload []byte) {
			SendBin(conn, payload)
			PutBuffer(payload)
		}},
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

func benchServe(b *testing.B, echo HandlerPayloadFn, size, messages int) {
	e := &engine{clients: new(ClientManager), log: slog.New(slog.DiscardHandler)}
	e.opts.HandleBin = echo
	e.opts.fill()
	e.atOnce = [laneCount]int{1, 1, 1}
	e.protocol.Store(&protocol{maxMessage: 1 << 20, maxFragments: 1, fromClient: true})
	l, err := newLoop(e)
	require.NoError(b, err)
	defer l.poll.close()
	e.loops = []*loop{l}
	e.monitor = &monitor{loops: e.loops, bell: make(chan struct{}, 1)}
	t := l.turn.Load()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(b, err)
	ours, theirs := pair[0], pair[1]
	defer unix.Close(ours)
	defer unix.Close(theirs)
	c := &conn{id: nextID(ours), loop: l, place: -1, phase: phaseOpen, reads: readMessages}
	descriptors.set(ours, c)
	defer descriptors.set(ours, nil)

	var in []byte
	for range messages {
		in = append(in, NewFrame(OpcodeBin, true, make([]byte, size))...)
	}
	out := make([]byte, messages*len(NewFrame(OpcodeBin, false, make([]byte, size))))
	b.SetBytes(int64(size * messages))
	b.ReportAllocs()
	for b.Loop() {
		if n, err := writeSocket(theirs, in); n < len(in) {
			b.Fatal(n, err)
		}
		for c.readable = true; c.readable; {
			l.serve(t, c)
		}
		if n, err := readSocket(theirs, out); n < len(out) {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
}
