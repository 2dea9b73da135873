//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"errors"
	"fmt"
	random "math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// TestConcurrentCompressedSends has many send to one connection, in all ways, while its client reads late: what does not fit into the queue
// must not be counted as sent.
func TestConcurrentCompressedSends(t *testing.T) {
	for _, row := range codecs {
		t.Run(row.name, func(t *testing.T) {
			const senders, each = 7, 24
			opts := &websocket.ServerOptions{Compression: &row.compression, SendQueueSize: 64 << 10}
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			c := s.Dial(t).Extend(row.offer)
			conn := peer.Get(t, added)
			peer.Fill(t, conn, websocket.NewFrame(websocket.OpcodeControlRsvB, false, make([]byte, 100)))
			require.ErrorIs(t, websocket.TrySend(conn, websocket.NewFrameText(false, peer.Pattern(5000, 1))), websocket.ErrSendQueueFull)
			done := make(chan error, senders)
			for i := range senders {
				go func() { done <- sendMany(s, conn, i, each) }()
			}
			errs := make(chan error, 1)
			go func() { errs <- readMany(c, senders, each) }()
			for range senders {
				require.NoError(t, peer.Get(t, done))
			}
			require.NoError(t, websocket.Send(conn, websocket.NewFrameClose(false, 4001, nil)))
			require.NoError(t, peer.Get(t, errs))
			c.Close()
		})
	}
}

// numbered is the n-th message of the i-th sender. Some cannot be compressed.
func numbered(i, n int) []byte {
	payload := peer.Pattern(100+n*n*n*(1+i)/2, i)
	if n%7 == 3 {
		noise := random.New(random.NewPCG(uint64(i), uint64(n)))
		for at := range payload {
			payload[at] = byte(noise.Uint32()) & 0x7F
		}
	}
	payload[0], payload[1] = byte(i), byte(n)
	return payload
}

// sendMany sends numbered messages in the i-th way, and some random ones. A queue that is full is tried again.
func sendMany(s *peer.Server, conn, i, each int) error {
	way := sendings[i%len(sendings)]
	if way.name == "SendUser" {
		way = sendings[0]
	}
	for n := range each {
		payload := numbered(i, n)
		err := websocket.ErrSendQueueFull
		for errors.Is(err, websocket.ErrSendQueueFull) {
			if err = way.send(s, conn, payload); err != nil {
				<-time.After(time.Millisecond)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
	}
	return nil
}

// readMany reads what sendMany has sent, up to a Close frame.
func readMany(c *peer.Deflated, senders, each int) error {
	next := make([]int, senders)
	total := 0
	for {
		op, payload, _, err := c.Message()
		switch {
		case err != nil:
			return fmt.Errorf("behind %d messages: %w", total, err)
		case op == websocket.OpcodeControlRsvB:
		case op == websocket.OpcodeClose && total == senders*each:
			return nil
		case op != websocket.OpcodeText:
			return fmt.Errorf("opcode %x behind %d messages", op, total)
		case len(payload) < 100 || int(payload[0]) >= senders || !bytes.Equal(payload, numbered(int(payload[0]), next[payload[0]])):
			return fmt.Errorf("behind %d messages: %.40q (%d bytes)", total, payload, len(payload))
		default:
			next[payload[0]]++
			total++
		}
	}
}

// TestRefusedCompressedMessages has messages that do not fit into the queue: they do not count as sent.
func TestRefusedCompressedMessages(t *testing.T) {
	for _, row := range codecs {
		t.Run(row.name, func(t *testing.T) {
			row.compression.MinSize = 100
			opts := &websocket.ServerOptions{Compression: &row.compression, SendQueueSize: 16 << 10}
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			c := s.Dial(t).Extend(row.offer)
			conn := peer.Get(t, added)
			for _, size := range []int{4000, 30_000} {
				message := bytes.Repeat(numbered(1, 10)[:100], size/100) // its second half refers to the first
				copy(message, numbered(0, 24)[:600])
				frame := websocket.NewFrame(websocket.OpcodeControlRsvB, false, peer.Pattern(100, 0))
				queued := 40*peer.Fill(t, conn, bytes.Repeat(frame, 40)) + peer.Fill(t, conn, frame)
				require.ErrorIs(t, websocket.TrySend(conn, websocket.NewFrameText(false, message)), websocket.ErrSendQueueFull)
				_, failed := s.Clients.SendAll(websocket.NewFrameText(false, message))
				require.ErrorIs(t, failed[conn], websocket.ErrSendQueueFull)
				for range queued {
					c.Expect(websocket.OpcodeControlRsvB, string(peer.Pattern(100, 0)))
				}
				for _, part := range [][]byte{message[size-300:], message} {
					require.NoError(t, websocket.SendText(conn, part))
					require.True(t, c.ExpectMessage(websocket.OpcodeText, string(part)))
				}
			}
		})
	}
}
