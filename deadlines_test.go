//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPingClock sets the clock of a loop by hand.
func TestPingClock(t *testing.T) {
	const interval, step, start = int64(16 * time.Second), int64(16*time.Second) / pingSteps, 1000 * int64(time.Hour)
	const at = start + step/2 // between two steps
	for _, row := range []struct {
		name          string
		silence       time.Duration
		heard, pinged int64
		paused        bool
		pings         bool
		due           int64
	}{
		{"a client that was heard is pinged at the first step an interval later", time.Minute, at, 0, false, false, start + interval + step},
		{"a Ping's answer is waited for until the next Ping is due", 16 * time.Second, at - interval - step, 0, false, true, start + interval + step},
		{"or for the silence, where that is shorter", time.Second, at - interval - step, 0, false, true, at + int64(time.Second)},
		{"a client that still may answer is looked at when the next Ping is due if it has", time.Hour, at - 2*interval, at - interval/2, false, false,
			start + interval + step},
		{"or when the silence is over, where that is sooner", 16 * time.Second, at - 2*interval, at - interval/2, false, false, at + interval/2},
		{"the clock stands still while nothing is read", 16 * time.Second, at - 2*interval, at - interval, true, false, start + interval + step},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			l.limits.silence, l.now = int64(row.silence), at
			c, peer := serveConn(t, l)
			c.clocks.heard, c.clocks.pinged = row.heard, row.pinged
			if row.paused {
				c.lanes.backlog = &backlog{bytes: maxBacklog}
			}
			require.Equal(t, row.due, l.clockLocked(c))
			n, err := readSocket(peer, make([]byte, 10))
			if row.pings {
				require.NoError(t, err)
				require.Equal(t, len(emptyPing), n)
				require.Equal(t, at, c.clocks.pinged)
			} else {
				require.ErrorIs(t, err, errWouldBlock)
			}
		})
	}
}
