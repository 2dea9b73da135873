//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEarnedTime(t *testing.T) {
	for _, row := range []struct {
		name        string
		bytes, rate int
		want        time.Duration
	}{
		{"nothing earns nothing", 0, defaultMinRate, 0},
		{"a byte earns its time", 1, 1000, time.Millisecond},
		{"1 MiB earns a minute at the default rate", 1 << 20, defaultMinRate, 64 * time.Second},
		{"what may be on the way earns all of its time", maxInTransit, defaultMinRate, 1024 * time.Second},
		{"more earns no more", maxInTransit + 1, defaultMinRate, 1024 * time.Second},
		{"the slowest rate does not overflow", maxInTransit, 1, maxInTransit * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.EqualValues(t, row.want, earnedTime(row.bytes, row.rate))
		})
	}
	assert.Equal(t, maxInTransit, inTransit(maxInTransit-1, 1))
	assert.Equal(t, maxInTransit, inTransit(maxInTransit, math.MaxInt))
}

// TestSilence sets the clock of a loop by hand, with a client that was pinged at a moment.
func TestSilence(t *testing.T) {
	const start = 1000 * int64(time.Hour)
	const mib = 1 << 20
	word := NewFrameBin(true, nil)
	pong := func(number byte) []byte { return NewFramePong(true, []byte{number}) }
	for _, row := range []struct {
		name   string
		front  int    // bytes sent in front of the Ping
		behind int    // bytes sent behind it
		hears  []byte // from the client, which is then pinged again
		last   []byte // from the client, behind that
		earned time.Duration
	}{
		{name: "a client that was sent nothing has the silence time-out"},
		{name: "what was sent in front of the Ping earns it time", front: 3 * mib, earned: 192 * time.Second},
		{name: "up to a limit", front: 1 << 30, earned: 1024 * time.Second},
		{name: "what was sent behind it does not", behind: 3 * mib},
		{name: "a Pong proves that it has got all in front of the Ping", front: 3 * mib, hears: pong(1)},
		{name: "and nothing of what came behind", front: 3 * mib, behind: mib, hears: pong(1), earned: 64 * time.Second},
		{name: "a word from the client proves nothing of what may be in a proxy", front: 3 * mib, hears: word, earned: 192 * time.Second},
		{name: "nor does a Pong that nobody asked for", front: 3 * mib, hears: NewFramePong(true, nil), earned: 192 * time.Second},
		{name: "nor one for an earlier Ping, of what was sent since", front: mib, behind: 2 * mib, hears: word, last: pong(1), earned: 192 * time.Second},
		{name: "one for the last Ping does, of all", front: mib, behind: 2 * mib, hears: word, last: pong(2)},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, turn := serveLoop(t, nil)
			c, peer := serveConn(t, l)
			l.now, c.clocks.heard = start, start-2*int64(l.opts.PingInterval)
			c.sent = int32(inTransit(0, row.front))
			l.clockLocked(c)
			require.Equal(t, start, c.clocks.pinged)
			c.sent = int32(inTransit(0, row.behind))
			hear := func(in []byte) {
				_, err := writeSocket(peer, in, false)
				require.NoError(t, err)
				c.readable = true
				l.serve(turn, c)
			}
			if row.hears != nil {
				hear(row.hears)
				require.Zero(t, c.clocks.pinged)
				l.now += 2 * int64(l.opts.PingInterval)
				l.clockLocked(c)
				require.Equal(t, l.now, c.clocks.pinged)
			}
			if row.last != nil {
				pinged := c.clocks.pinged
				hear(row.last)
				c.clocks.pinged = pinged // for the end, of a client that says nothing more
			}
			end := l.now + int64(l.opts.SilenceTimeout+row.earned)
			l.now = end - 1
			l.clockLocked(c)
			require.Equal(t, phaseOpen, c.phase)
			l.now = end
			l.clockLocked(c)
			require.Equal(t, phaseEnding, c.phase)
			require.Equal(t, StatusForbidden, int(c.rare.end.code))
		})
	}
}

func TestPingsOfBusyClients(t *testing.T) {
	const enough = int32(defaultMinRate * defaultPingInterval / time.Second)
	for _, row := range []struct {
		name           string
		sent, unproven int32
		pings          bool
	}{
		{"a client that is heard is not pinged", 0, 0, false},
		{"nor where it was sent what a slow one takes in an interval", enough, 0, false},
		{"but where it was sent more, which its Pong answers for", enough + 1, 0, true},
		{"once its last Pong has come: another number would make that worthless", enough + 1, 1, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			c, peer := serveConn(t, l)
			l.now = 1000 * int64(time.Hour)
			c.clocks.heard, c.sent, c.clocks.unproven = l.now, row.sent, row.unproven
			l.clockLocked(c)
			n, _ := readSocket(peer, make([]byte, 10))
			assert.Equal(t, row.pings, n == len(emptyPing)+1)
			assert.Equal(t, row.pings, c.clocks.pinged == l.now && c.sent == 0 && c.clocks.unproven == row.sent)
		})
	}
}

// TestSilenceOfSlowSystem has the system hold what is in front of a Ping, for longer than MinRate allows for.
func TestSilenceOfSlowSystem(t *testing.T) {
	if unackedBytes(-1) != 0 || !knowsUnacked(t) {
		t.Skip("the system does not tell")
	}
	const size = 32 << 10
	l, _ := serveLoop(t, nil)
	c, peer := serveConn(t, l)
	l.now = 1000 * int64(time.Hour)
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 3 {
		require.NoError(t, c.writeLocked(&outgoing{body: make([]byte, size)}))
	}
	require.EqualValues(t, 3*size, c.sent)
	c.clocks.heard = l.now - 2*int64(l.opts.PingInterval)
	l.clockLocked(c)
	require.EqualValues(t, 3*size, c.clocks.unproven)
	take := func(n int) {
		t.Helper()
		for n > 0 {
			m, err := readSocket(peer, make([]byte, n))
			require.NoError(t, err)
			n -= m
		}
	}
	for _, n := range []int{size, size, size + len(emptyPing) + 1} { // each time it takes a part just before it is thought silent
		l.now = c.clocks.silentAt(&l.limits)
		take(n)
		l.clockLocked(c)
		require.Equal(t, phaseOpen, c.phase)
		require.Equal(t, l.now, c.clocks.pinged, "its time begins again")
		require.Equal(t, c.clocks.held, c.clocks.unproven, "with what is still in front")
	}
	require.Zero(t, c.clocks.held, "the Ping has left")
	l.now = c.clocks.silentAt(&l.limits)
	l.clockLocked(c)
	require.Equal(t, phaseEnding, c.phase)
}

// knowsUnacked reports whether unackedBytes can tell.
func knowsUnacked(t *testing.T) bool {
	l, _ := serveLoop(t, nil)
	c, _ := serveConn(t, l)
	_, err := writeSocket(c.fd(), make([]byte, 100), false)
	require.NoError(t, err)
	return unackedBytes(c.fd()) > 0
}

func TestCloseFrameNotAnswered(t *testing.T) {
	for _, row := range []struct {
		name           string
		unproven, sent int32
		earned         time.Duration
	}{
		{"a client has the write time-out to answer a Close frame", 0, 0, 0},
		{"and the time that what is in front of the Close frame earns", 2 << 20, 1 << 20, 192 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			c, _ := serveConn(t, l)
			l.now = 1000 * int64(time.Hour)
			c.outState, c.clocks.heard, c.clocks.unproven, c.sent = outClosed, l.now+int64(time.Hour), row.unproven, row.sent
			c.rareLocked().moments.closeSent = l.now
			end := l.clockLocked(c)
			require.Equal(t, l.now+int64(l.opts.WriteTimeout+row.earned), end)
			require.Equal(t, phaseOpen, c.phase)
			l.now = end
			l.clockLocked(c)
			require.Equal(t, phaseEnding, c.phase)
		})
	}
	t.Run("the time begins when it has left the queue", func(t *testing.T) {
		l, _ := serveLoop(t, nil)
		c, peer := serveConn(t, l)
		packet := append(NewFrameBin(false, make([]byte, 1<<20)), NewFrameClose(false, 0, nil)...)
		require.NoError(t, c.send(packet, true))
		require.True(t, c.out.stalled)
		for range 3 {
			_, err := readSocket(peer, make([]byte, 128<<10)) // it takes a part
			require.NoError(t, err)
			l.now = now() + int64(l.opts.WriteTimeout)
			c.out.since = l.now
			l.clockLocked(c)
			require.Equal(t, phaseOpen, c.phase)
			require.Equal(t, l.now, c.rare.moments.closeSent)
		}
	})
}

func TestSilenceWhileTheQueueIsStalled(t *testing.T) {
	l, _ := serveLoop(t, nil)
	c, _ := serveConn(t, l)
	require.NoError(t, c.send(NewFrameBin(false, make([]byte, 1<<20)), true))
	require.True(t, c.out.stalled)
	l.now = 1000 * int64(time.Hour)
	c.clocks.pinged = l.now - int64(time.Hour)
	c.out.since = l.now
	due := l.clockLocked(c)
	require.Equal(t, phaseOpen, c.phase)
	require.Zero(t, c.clocks.pinged)
	require.Greater(t, due, l.now)
}
