//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
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

// runtimeHolds is how many bytes for each connection are allowed for what the runtime and its pools happen to hold when the heap is measured.
const runtimeHolds = 256

// TestMemoryOfCompression has each connection take 100 messages and send as many, and then be idle.
func TestMemoryOfCompression(t *testing.T) {
	plain := idleMemory(t, nil)
	terse := func(dst []byte) ([]byte, error) { return append(dst, 2, 0), nil } // nobody reads what is sent
	context, none := oddCodec{DeflateCodec: peer.ContextCodec(), deflate: terse}, oddCodec{DeflateCodec: websocket.StandardDeflate(), deflate: terse}
	for _, row := range []struct {
		name        string
		compression websocket.Compression
		more        int // bytes of a connection, in addition to a plain one
	}{
		{"without a context", websocket.Compression{Codec: none, Window: -1}, 64},
		{"with a context of 4 KiB", websocket.Compression{Codec: context}, 2*4096 + 512},
		{"that keeps what comes only", websocket.Compression{Codec: none}, 4096 + 512},
	} {
		t.Run(row.name, func(t *testing.T) {
			each := idleMemory(t, &row.compression)
			assert.LessOrEqual(t, each-plain, row.more+runtimeHolds, "bytes more than the %d of a plain one", plain)
			t.Logf("%d bytes for a connection, %d for a plain one", each, plain)
		})
	}
}

// idleMemory returns how many bytes of the heap a connection and its client's end have, and looks for goroutines.
func idleMemory(t *testing.T, compression *websocket.Compression) int {
	t.Helper()
	conns, messages := 1000, 100
	if peer.Raced() {
		conns, messages = 400, 25
	}
	opts := &websocket.ServerOptions{Compression: compression, HandleText: func(conn int, p []byte) { websocket.SendText(conn, p) }}
	s := &peer.Server{Server: websocket.NewServer(peer.Quiet(opts)), T: t}
	s.Restart(t)
	defer s.StopAndWait(t)
	first := s.Dial(t).Extend(peer.DeflateBits)
	var wire []byte
	for i := range messages {
		message := fmt.Appendf(nil, "odd %s", peer.Pattern(180, i))
		frame := websocket.NewFrameText(true, message)
		if first.Answer != "" {
			frame = peer.PackedFrame(websocket.OpcodeText, first.Sends.Pack(message))
		}
		wire = append(wire, frame...)
	}
	first.Send(wire)
	answers := 0
	for range messages {
		f, err := peer.ReadFrame(io.TeeReader(first.Reader, countWriter{&answers}))
		require.NoError(t, err)
		require.Equal(t, websocket.OpcodeText, f.Opcode)
	}
	request := requestFor("/", "Sec-WebSocket-Extensions: "+peer.DeflateBits)
	answered := make([]byte, len(peer.Accepted)+answers)
	if first.Answer != "" {
		answered = append(answered, "Sec-WebSocket-Extensions: \r\n"+first.Answer...)
	}
	all := make([]net.Conn, conns)
	before, goroutines := liveHeap(), len(peer.Goroutines())
	for i := range all {
		c, err := net.DialTimeout(s.Network, s.Address, peer.Wait)
		require.NoError(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * peer.Wait))
		all[i] = c
		_, err = c.Write(append(request[:len(request):len(request)], wire...))
		require.NoError(t, err)
		_, err = io.ReadFull(c, answered)
		require.NoError(t, err)
	}
	used := liveHeap() - before
	assert.LessOrEqual(t, len(peer.Goroutines()), goroutines+2, "none is a connection's")
	for _, c := range all {
		c.SetReadDeadline(time.Now())
		n, _ := c.Read(answered)
		require.Zero(t, n, "all was read")
	}
	return int(used) / conns
}

// countWriter counts what is written.
type countWriter struct{ n *int }

func (w countWriter) Write(b []byte) (int, error) {
	*w.n += len(b)
	return len(b), nil
}
