//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestServerAnswersInTurn has what a client sends in one piece answered in the order in which it was sent.
func TestServerAnswersInTurn(t *testing.T) {
	t.Run("Pings and messages, by a loop that calls the handlers itself", func(t *testing.T) {
		l, turn := serveLoop(t, func(conn int, p []byte) { SendBin(conn, p) })
		c, peer := serveConn(t, l)
		var in, want []byte
		for i := range 10 {
			ping, message := fmt.Appendf(nil, "ping %d", i), fmt.Appendf(nil, "message %d", i)
			in = append(append(in, NewFramePing(true, ping)...), NewFrameBin(true, message)...)
			want = append(append(want, NewFramePong(false, ping)...), NewFrameBin(false, message)...)
		}
		in, want = append(in, NewFramePing(true, nil)...), append(want, NewFramePong(false, nil)...)
		for range 3 { // what is kept from one read to the next does not show
			_, err := writeSocket(peer, in, false)
			require.NoError(t, err)
			c.readable = true
			l.serve(turn, c)
			got := make([]byte, len(want)+1)
			n, err := readSocket(peer, got)
			require.NoError(t, err)
			require.Equal(t, want, got[:n])
			require.Nil(t, c.lanes.backlog)
		}
	})
}

func TestPongsThatWait(t *testing.T) {
	b := new(backlog)
	b.addPong([]byte("0"))
	b.addPong([]byte("1"))
	require.Len(t, b.pongs, 1, "those behind the same message are one write")
	b.add(laneOrdered, message{})
	b.addPong([]byte("2"))
	require.Len(t, b.pongs, 2)
	require.False(t, b.isEmpty())
	b.clear()
	require.True(t, b.isEmpty(), "the next connection that has it gets no Pong of this one")

	t.Run("they end with the messages in front of them", func(t *testing.T) {
		l, turn := serveLoop(t, nil)
		l.opts.HandleBin = func(conn int, _ []byte) { panic("a handler of the test") }
		c, peer := serveConn(t, l)
		in := append(NewFrameBin(true, nil), NewFramePing(true, nil)...)
		_, err := writeSocket(peer, in, false)
		require.NoError(t, err)
		c.readable = true
		l.serve(turn, c)
		require.Nil(t, c.lanes.backlog)
	})
}

func TestHowLongAnEndWaitsForHandlers(t *testing.T) {
	opts := &ServerOptions{WriteTimeout: 10 * time.Second}
	for _, row := range []struct {
		name string
		why  endReason
		want time.Duration
	}{
		{"a client's Close frame waits for a second", endReason{code: StatusNormal}, maxAnswerTime},
		{"one that is removed may get a goodbye", endReason{code: StatusNormal, farewell: true}, opts.WriteTimeout},
		{"one that has ended its side gets answers", endReason{}, opts.WriteTimeout},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.EqualValues(t, 1000+row.want, row.why.waitsUntil(1000, int64(opts.WriteTimeout)))
		})
	}
	opts.WriteTimeout = time.Millisecond
	require.EqualValues(t, 1000+time.Millisecond, (&endReason{code: StatusNormal}).waitsUntil(1000, int64(opts.WriteTimeout)))
}
