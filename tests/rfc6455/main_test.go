//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

// Package rfc6455 runs the package's table of RFC 6455 with a running server, over TCP: what comes from a client, what goes out,
// with which close code the connection ends and who closes TCP. The rows are in the package's rfc6455_test.go and
// handshake_test.go, where they run without I/O and with a client.
package rfc6455

import (
	"bytes"
	"sync/atomic"
	"testing"

	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }

func TestRFC6455(t *testing.T) {
	all := readRows(t)
	var runs atomic.Int64
	t.Run("frames, a server", func(t *testing.T) { runFrames(t, all.Frames, &runs) })
	t.Run("opening handshake, a server", func(t *testing.T) { runRequests(t, all.Requests, &runs) })
	t.Logf("%d rows, %d runs", len(all.Frames)+len(all.Requests), runs.Load())
}

// each is an input as pieces of n bytes.
func each(in []byte, n int) (pieces [][]byte) {
	for len(in) > n {
		pieces, in = append(pieces, in[:n]), in[n:]
	}
	return append(pieces, in)
}

// join is an input and more behind it, in a slice of its own.
func join(in, more []byte) []byte { return append(bytes.Clone(in), more...) }
