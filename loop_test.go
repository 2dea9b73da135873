//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestRound drives a loop by hand, with connections in the middle of a message of 1 MiB.
func TestRound(t *testing.T) {
	const begun, read = 64 << 10, maxDirect
	var l *loop
	var lease *lease
	long := func(t *testing.T, waiting int) (c *conn, taken func() int) {
		t.Helper()
		c, peer := serveConn(t, l)
		head := appendHeader(nil, header{first: bitFin | byte(OpcodeBin), masked: true, length: 1 << 20})
		l.parse(c, append(head, make([]byte, begun)...))
		require.True(t, c.in.isLong())
		for waiting > 0 {
			n, err := writeSocket(peer, make([]byte, min(waiting, 16<<10)), false)
			require.NoError(t, err)
			waiting -= n
		}
		c.readable = true
		return c, func() int { return len(c.in.partial.message) - begun }
	}
	start := func(t *testing.T) {
		l, lease = serveLoop(t, func(int, []byte) {})
		l.left = readRound
	}
	t.Run("a long message is read on until its socket is empty", func(t *testing.T) {
		start(t)
		c, taken := long(t, read+1000)
		l.serve(lease, c)
		assert.Equal(t, read+1000, taken())
		assert.Equal(t, readRound-read-1000, l.left)
		assert.False(t, c.readable)
		assert.Empty(t, l.agenda.ready)
	})
	t.Run("or until the round has read enough, and again in the next", func(t *testing.T) {
		start(t)
		l.left = 1
		c, taken := long(t, 2*read+1000)
		l.serve(lease, c)
		assert.Equal(t, read, taken())
		require.Equal(t, []*conn{c}, l.agenda.ready)
		l.collect()
		assert.Equal(t, c, l.next())
		assert.Equal(t, readRound, l.left)
		l.serve(lease, c)
		assert.Equal(t, 2*read+1000, taken())
	})
	t.Run("however many there are, and however little of each has arrived", func(t *testing.T) {
		start(t)
		const waiting = 60 << 10
		total := 0
		for range 2 * readRound / waiting {
			c, taken := long(t, waiting)
			l.serve(lease, c)
			total += taken()
		}
		assert.LessOrEqual(t, total, readRound+waiting)
		assert.NotEmpty(t, l.agenda.deferred)
	})
	t.Run("but not once the connection ends", func(t *testing.T) {
		start(t)
		c, taken := long(t, 2*read)
		l.deadlines.set(c, never)
		c.end(endReason{discard: true})
		c.readable, c.look = false, true
		l.serve(lease, c)
		require.Equal(t, phaseDraining, c.phase)
		c.readable = true
		l.serve(lease, c)
		assert.EqualValues(t, readSize, c.drained)
		assert.Zero(t, taken())
		assert.Equal(t, readRound, l.left)
	})
	t.Run("a message whose end is missing is read on, too", func(t *testing.T) {
		start(t)
		handled := 0
		l.opts.HandleBin = func(int, []byte) { handled++ }
		c, peer := serveConn(t, l)
		_, err := writeSocket(peer, NewFrameBin(true, make([]byte, readSize)), false)
		require.NoError(t, err)
		c.readable = true
		l.serve(lease, c)
		assert.Equal(t, 1, handled)
	})
	t.Run("but not if there is no end to its fragments", func(t *testing.T) {
		start(t)
		l.rules.Store(&rules{maxMessage: 1 << 20, maxFragments: 1 << 20, fromClient: true})
		c, peer := serveConn(t, l)
		in := append(appendHeader(nil, header{first: byte(OpcodeBin), masked: true, length: 3}), "abc"...)
		more := append(appendHeader(nil, header{masked: true, length: 2}), "de"...)
		for in = append(in, bytes.Repeat(more, 2*readSize/len(more))...); len(in) > 0; { // each read ends before an e
			n, err := writeSocket(peer, in[:min(len(in), 16<<10)], false)
			require.NoError(t, err)
			in = in[n:]
		}
		c.readable = true
		l.serve(lease, c)
		assert.True(t, c.in.isInData())
		assert.Equal(t, []*conn{c}, l.agenda.ready)
		assert.Equal(t, readRound, l.left)
	})
	t.Run("but not behind messages that are complete, of which one read has enough", func(t *testing.T) {
		start(t)
		c, peer := serveConn(t, l)
		short := NewFrameBin(true, make([]byte, 16<<10))
		_, err := writeSocket(peer, bytes.Repeat(short, 5), false)
		require.NoError(t, err)
		c.readable = true
		l.serve(lease, c)
		assert.True(t, c.in.isInData())
		assert.Equal(t, []*conn{c}, l.agenda.ready)
		assert.Equal(t, readRound, l.left)
	})
	t.Run("others that are long wait for the next round, in which they come first", func(t *testing.T) {
		start(t)
		l.left = 1
		first, _ := long(t, 2*read+1000)
		second, taken := long(t, 1000)
		third, _ := long(t, 1000)
		for _, c := range []*conn{first, second, third, second} {
			l.serve(lease, c)
		}
		require.Zero(t, taken())
		require.Len(t, l.agenda.deferred, 2)
		l.collect()
		assert.Equal(t, []*conn{second, third, first}, l.agenda.round)
		l.serve(lease, second)
		assert.Equal(t, 1000, taken())
	})
	t.Run("short messages do not wait for it", func(t *testing.T) {
		start(t)
		handled := 0
		l.opts.HandleBin = func(int, []byte) { handled++ }
		l.left = 0
		c, peer := serveConn(t, l)
		_, err := writeSocket(peer, NewFrameBin(true, make([]byte, 100)), false)
		require.NoError(t, err)
		c.readable = true
		l.serve(lease, c)
		assert.Equal(t, 1, handled)
	})
}

// TestLateLoop has what a client sent in time wait in its socket when its deadline has passed.
func TestLateLoop(t *testing.T) {
	for _, row := range []struct {
		name string
		in   []byte
		kept bool
	}{
		{"a Pong", NewFramePong(true, nil), true},
		{"a part of a frame", NewFramePong(true, nil)[:1], true},
		{"nothing", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, left := range []int{readRound, 0} {
				l, lease := serveLoop(t, nil)
				l.now, l.left = now(), left
				c, peer := serveConn(t, l)
				c.clocks.pinged = l.now - int64(l.opts.SilenceTimeout)
				l.deadlines.set(c, l.now)
				_, err := writeSocket(peer, row.in, false)
				require.NoError(t, err)
				l.takeDue()
				require.Equal(t, c, l.next())
				l.serve(lease, c)
				assert.Equal(t, row.kept, c.phase == phaseOpen)
			}
		})
	}
	t.Run("a piece of a long message, if the round has read enough", func(t *testing.T) {
		l, lease := serveLoop(t, nil)
		l.now = now()
		c, peer := serveConn(t, l)
		head := appendHeader(nil, header{first: bitFin | byte(OpcodeBin), masked: true, length: 1 << 20})
		l.parse(c, append(head, make([]byte, 64<<10)...))
		c.clocks.pinged = l.now - int64(l.opts.SilenceTimeout)
		l.deadlines.set(c, l.now)
		_, err := writeSocket(peer, make([]byte, 1), false)
		require.NoError(t, err)
		l.takeDue()
		l.serve(lease, l.next())
		assert.Equal(t, phaseOpen, c.phase)
	})
	t.Run("a request", func(t *testing.T) {
		l, lease := serveLoop(t, nil)
		l.now = now()
		c, peer := serveConn(t, l)
		c.phase, c.reads = phaseOpening, readHandshake
		c.rare = &rare{opening: new(opening), moments: moments{phaseBegan: l.now - int64(l.opts.HandshakeTimeout)}}
		l.deadlines.set(c, l.now)
		_, err := writeSocket(peer, []byte(rawRequest), false)
		require.NoError(t, err)
		l.takeDue()
		l.serve(lease, l.next())
		assert.Equal(t, phaseOpen, c.phase)
	})
}

func TestAbout(t *testing.T) {
	for name, c := range map[string]struct{ offers, want string }{
		"a connection with a subprotocol keeps it": {"Sec-WebSocket-Protocol: x, v1\r\n", "v1"},
		"one without keeps nothing":                {"Sec-WebSocket-Protocol: x\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l, turn := serveLoop(t, nil)
			l.terms.subprotocols = []string{"v1"}
			l.now = now()
			conn, peer := serveConn(t, l)
			conn.phase, conn.reads = phaseOpening, readHandshake
			conn.rare = &rare{opening: new(opening), moments: moments{phaseBegan: l.now}}
			request := strings.TrimSuffix(rawRequest, "\r\n") + c.offers + "\r\n"
			_, err := writeSocket(peer, append([]byte(request), NewFrameBin(true, nil)...), false)
			require.NoError(t, err)
			conn.readable = true
			l.agenda.add(conn)
			for next := l.agenda.next(); next != nil; next = l.agenda.next() {
				l.serve(turn, next)
			}
			require.True(t, conn.isOpen())
			assert.Nil(t, conn.rare)
			if c.want == "" {
				assert.Nil(t, conn.about)
			} else {
				assert.Equal(t, &about{subprotocol: c.want}, conn.about)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	for _, row := range []struct {
		name    string
		gen     uint32 // beyond the connection's
		drained int32
		follows bool
		ends    bool
	}{
		{"one of the connection is followed", 0, 0, true, false},
		{"one of an earlier connection with the same number is not", 1, 0, false, false},
		{"nobody reads up to the end of the stream behind too much", 0, maxDrainSize + 1, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			c, _ := serveConn(t, l)
			c.drained = row.drained
			l.follow(readiness{fd: c.fd(), gen: c.gen() + row.gen, hangup: true})
			assert.Equal(t, row.follows, slices.Contains(l.agenda.round, c))
			assert.Equal(t, row.follows, c.hangup)
			assert.Equal(t, row.ends, c.peerEnd && c.look)
		})
	}
}

func TestConnectionThatComesAfterTheEnd(t *testing.T) {
	l, lease := serveLoop(t, nil)
	l.now, l.ending = now(), true
	c, _ := serveConn(t, l)
	c.look = true
	l.serve(lease, c)
	assert.Equal(t, phaseDraining, c.phase)
}

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
		{"or for the silence, if that is shorter", time.Second, at - interval - step, 0, false, true, at + int64(time.Second)},
		{"a client that still may answer is looked at when the next Ping is due if it has", time.Hour, at - 2*interval, at - interval/2, false, false,
			start + interval + step},
		{"or when the silence is over, if that is sooner", 16 * time.Second, at - 2*interval, at - interval/2, false, false, at + interval/2},
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
			l, lease := serveLoop(t, nil)
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
				l.serve(lease, c)
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
		{"nor if it was sent what a slow one takes in an interval", enough, 0, false},
		{"but if it was sent more, which its Pong answers for", enough + 1, 0, true},
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

// TestSilenceOfALookThatEmptiesTheOutbox has a Ping wait in the outbox until the loop looks: the time for its answer begins then.
func TestSilenceOfALookThatEmptiesTheOutbox(t *testing.T) {
	l, _ := serveLoop(t, nil)
	c, peer := serveConn(t, l)
	require.NoError(t, unix.SetNonblock(peer, true))
	require.NoError(t, c.send(NewFrameBin(false, make([]byte, 1<<18)), true))
	require.True(t, c.out.stalled)
	l.now = now() + int64(time.Hour)
	c.clocks.pinged, c.out.since = l.now-int64(time.Minute), l.now
	for err := error(nil); err == nil; {
		_, err = readSocket(peer, make([]byte, 64<<10))
	}
	l.clockLocked(c)
	require.Nil(t, c.out, "the look itself has emptied it")
	require.Equal(t, phaseOpen, c.phase)
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

// engineStart returns an engine without a listener that echoes text.
func engineStart(t *testing.T) *engine {
	opts := ServerOptions{HandleText: func(conn int, p []byte) { Send(conn, NewFrameText(false, p)) }}
	opts.fill()
	e := newEngine(opts, false, 0, new(ClientManager))
	require.NoError(t, e.start(nil))
	return e
}

// enginePair returns both ends of a socket: one to be adopted, one that blocks.
func enginePair(t *testing.T) (ours, peer int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(pair[0], true))
	return pair[0], pair[1]
}

func engineSend(t *testing.T, fd int, packet []byte) {
	n, err := writeSocket(fd, packet, false)
	require.NoError(t, err)
	require.Equal(t, len(packet), n)
}

// engineExpect reads as many bytes as are wanted.
func engineExpect(t *testing.T, fd int, want []byte) {
	var got []byte
	buf := make([]byte, 1024)
	for len(got) < len(want) {
		n, err := unix.Read(fd, buf)
		require.NoError(t, err)
		require.NotZero(t, n, "the end of the stream")
		got = append(got, buf[:n]...)
	}
	require.Equal(t, string(want), string(got))
}

func TestEngineWithoutAListener(t *testing.T) {
	checkGoroutines(t)
	checkDescriptors(t)
	e := engineStart(t)
	ours, peer := enginePair(t)
	defer unix.Close(peer)
	require.True(t, e.adopt(ours))
	engineSend(t, peer, []byte(rawRequest))
	engineExpect(t, peer, []byte(rawAccepted))
	engineSend(t, peer, NewFrameText(true, []byte("x")))
	engineExpect(t, peer, NewFrameText(false, []byte("x")))
	assert.Equal(t, 1, e.clients.Len())
	e.stop()
	engineExpect(t, peer, NewFrameClose(false, StatusGone, nil))
	unix.Close(peer)
	<-e.done
	assert.Zero(t, e.clients.Len())
	assert.Zero(t, e.connections.Load())
}

// TestEngineGetsAListener gives engines that run a listener while they stop: it is accepted from and closed, or refused.
func TestEngineGetsAListener(t *testing.T) {
	checkGoroutines(t)
	checkDescriptors(t)
	var served, refused int
	for i := range 200 {
		e := engineStart(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		stopped := make(chan struct{})
		go func() {
			for range i % 20 {
				runtime.Gosched()
			}
			e.stop()
			close(stopped)
		}()
		if e.enter() {
			err = e.listenLocked(ln)
			e.leave()
		} else {
			err = ErrServerRunning
		}
		if err == nil {
			served++
			assert.NotNil(t, e.listener)
		} else {
			refused++
			assert.ErrorIs(t, err, ErrServerRunning)
		}
		ln.Close()
		<-stopped
		<-e.done
	}
	t.Logf("%d served, %d refused", served, refused)
}

// TestEngineAdoptsUntilItStops has goroutines bring connections while the engine stops: each is served or refused, and none is left.
func TestEngineAdoptsUntilItStops(t *testing.T) {
	checkGoroutines(t)
	checkDescriptors(t)
	const adopters, each = 8, 50
	e := engineStart(t)
	var wg sync.WaitGroup
	for i := range adopters {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range each {
				pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				if !assert.NoError(t, err) {
					return
				}
				unix.SetNonblock(pair[0], true)
				e.adopt(pair[0])
				unix.Close(pair[1])
			}
		}()
		if i == adopters/2 {
			e.stop()
		}
	}
	wg.Wait()
	<-e.done
	assert.Zero(t, e.connections.Load())
	assert.Zero(t, e.entrances.Load())
	ours, peer := enginePair(t)
	defer unix.Close(peer)
	assert.False(t, e.adopt(ours), "it has ended")
	n, err := unix.Read(peer, make([]byte, 1))
	assert.NoError(t, err)
	assert.Zero(t, n, "the socket was closed")
}

// TestProxyHeaderInPieces brings a PROXY protocol header, the request behind it and a message in two pieces, split anywhere.
func TestProxyHeaderInPieces(t *testing.T) {
	message := string(NewFrameBin(true, []byte("early")))
	for _, header := range []string{"PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\r\n", proxyBinary(proxyProxied, proxyTCP4, 12, proxyAddrs4)} {
		all := header + rawRequest + message
		var got []string
		l, turn := serveLoop(t, func(_ int, p []byte) { got = append(got, string(p)) })
		l.opts.ConnectPath, l.opts.MaxConnectionsPerAddress = "/", 1
		for split := 1; split < len(all); split++ {
			got = nil
			l.now = now()
			c, peer := serveConn(t, l)
			c.phase, c.reads = phaseOpening, readHandshake
			c.rare = &rare{opening: &opening{proxied: true}, moments: moments{phaseBegan: l.now}}
			for _, piece := range []string{all[:split], all[split:]} {
				engineSend(t, peer, []byte(piece))
				for c.readable = true; c.readable; {
					c.look = true
					l.serve(turn, c)
				}
				if split < len(header) && piece == all[:split] {
					require.True(t, c.isOpening())
					require.Zero(t, l.addresses.len())
				}
			}
			engineExpect(t, peer, []byte(rawAccepted))
			require.Equal(t, []string{"early"}, got, "split at %d", split)
			require.Equal(t, "192.0.2.1:12345", c.remoteLocked().String())
			require.Equal(t, 1, l.addresses.len())
			require.NotNil(t, c.about, "what it has to tell is kept")
			l.addresses.leave(c.about.counted)
			require.Zero(t, l.addresses.len())
			l.deadlines.remove(c)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Run("an address is there while it has a connection", func(t *testing.T) {
		var a addresses
		one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		first, n := a.enter(one)
		require.EqualValues(t, 1, n)
		second, n := a.enter(one)
		require.EqualValues(t, 2, n)
		require.Same(t, first, second)
		third, n := a.enter(other)
		require.EqualValues(t, 1, n)
		require.Equal(t, 2, a.len())
		a.leave(first)
		a.leave(third)
		a.leave(nil)
		require.Equal(t, 1, a.len())
		a.leave(second)
		require.Zero(t, a.len())
		_, n = a.enter(one)
		require.EqualValues(t, 1, n)
	})
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "::1": "::",
		"fe80::1%eth0": "fe80::1", "fe80::1": "fe80::1",
	} {
		t.Run(address+" counts as "+want, func(t *testing.T) {
			got, ok := countedAddress(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 1)))
			require.True(t, ok)
			require.Equal(t, want, got.String())
		})
	}
	t.Run("other peers do not count", func(t *testing.T) {
		for _, peer := range []net.Addr{nil, &net.UnixAddr{}, &net.TCPAddr{}, &net.TCPAddr{IP: net.IP{1}}} {
			_, ok := countedAddress(peer)
			require.False(t, ok)
		}
	})
	t.Run("nothing is counted or kept without the option", func(t *testing.T) {
		l, _ := serveLoop(t, nil)
		who := l.arrive(0)
		require.Nil(t, who.counted)
		require.Zero(t, l.addresses.len())
	})
	t.Run("all that come and go leave none", func(t *testing.T) {
		opts := ServerOptions{MaxConnectionsPerAddress: 20}
		opts.HandleText = func(conn int, p []byte) { Send(conn, NewFrameText(false, p)) }
		s := startServer(t, &opts)
		s.mu.Lock()
		e := s.runningLocked()
		s.mu.Unlock()
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 25 {
					c, err := net.Dial("tcp", e.listener.Addr().String())
					if !assert.NoError(t, err) {
						return
					}
					io.WriteString(c, rawRequest)
					c.Read(make([]byte, 16))
					c.Close()
				}
			}()
		}
		wg.Wait()
		s.Stop()
		assert.Zero(t, e.addresses.len())
		assert.Zero(t, e.connections.Load())
	})
}

// TestDeadlinesAreTheRegister drives a loop by hand.
func TestDeadlinesAreTheRegister(t *testing.T) {
	l, lease := serveLoop(t, nil)
	l.placeholder = -1
	serveAll := func() {
		l.collect()
		for c := l.agenda.next(); c != nil; c = l.agenda.next() {
			l.serve(lease, c)
		}
	}
	var conns []*conn
	var peers []int
	for range 4 {
		ours, peer := enginePair(t)
		defer unix.Close(peer)
		require.True(t, l.adopt(ours))
		conns, peers = append(conns, descriptors.get(ours)), append(peers, peer)
	}
	require.Empty(t, l.deadlines)
	engineSend(t, peers[0], []byte(rawRequest))
	serveAll()
	require.Len(t, l.deadlines, 4, "opening or open")
	require.True(t, conns[0].isOpen())
	conns[1].mu.Lock()
	conns[1].stepLocked(factRequest) // HandleAuth takes its time
	conns[1].postLocked()
	conns[1].mu.Unlock()
	serveAll()
	require.Equal(t, int64(never), l.deadlines[conns[1].heapIndex].due)
	require.Len(t, l.deadlines, 4, "without a deadline too")
	l.endAll()
	serveAll()
	for _, c := range conns {
		require.True(t, c.hasEnded())
	}
	for _, peer := range peers {
		unix.Shutdown(peer, unix.SHUT_WR)
	}
	for len(l.deadlines) > 0 {
		serveAll()
	}
	require.Zero(t, l.connections.Load())
	for _, c := range conns {
		require.False(t, c.hasSocket())
	}
}

// TestMessageOfAConnectionWithoutASocket has a client send a message and a Close frame, and vanish, while the time for answers is over: the
// message is handled when its connection has no socket any more. The connection and its number go all the same.
func TestMessageOfAConnectionWithoutASocket(t *testing.T) {
	handled := 0
	l, lease := serveLoop(t, func(int, []byte) { handled++ })
	placeholder, err := newPlaceholder()
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(placeholder) })
	l.placeholder, l.limits.write = placeholder, -1
	ours, peer := enginePair(t)
	require.True(t, l.adopt(ours))
	t.Cleanup(l.numbers.end)
	c := descriptors.get(ours)
	serveAll := func() {
		l.collect()
		for c := l.agenda.next(); c != nil; c = l.agenda.next() {
			l.serve(lease, c)
		}
	}
	engineSend(t, peer, []byte(rawRequest))
	serveAll()
	require.True(t, c.isOpen())
	engineSend(t, peer, append(NewFrameBin(true, []byte("x")), NewFrameClose(true, StatusNormal, nil)...))
	unix.Close(peer)
	for range 5 {
		c.mu.Lock()
		c.postLocked()
		c.mu.Unlock()
		serveAll()
	}
	require.Equal(t, 1, handled)
	require.Equal(t, phaseGone, c.phase)
	require.Equal(t, tombstone, descriptors.get(ours))
}

// TestWakeOfALoopThatHasEnded has the numbers of its poller be somebody else's.
func TestWakeOfALoopThatHasEnded(t *testing.T) {
	e := engineStart(t)
	e.stop()
	<-e.done
	var others []int
	for range 16 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		for _, fd := range pair {
			require.NoError(t, unix.SetNonblock(fd, true))
			defer unix.Close(fd)
			others = append(others, fd)
		}
	}
	for _, l := range e.loops {
		l.asleep.Store(true) // as whoever wakes it may have seen it
		l.wake()
	}
	for _, fd := range others {
		_, err := readSocket(fd, make([]byte, 10))
		require.ErrorIs(t, err, errWouldBlock)
	}
}

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

func TestReports(t *testing.T) {
	t.Run("the log is told in order, and all before the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var got []int64
			r := newReports(slog.New(logFunc(func(_ string, attrs map[string]slog.Value) {
				time.Sleep(time.Millisecond)
				got = append(got, attrs["n"].Int64())
			})))
			for n := range 100 {
				r.add(report{slog.LevelInfo, "text", []any{"n", n}})
			}
			r.end()
			require.Len(t, got, 100)
			assert.IsIncreasing(t, got)
		})
	})
	t.Run("a log that blocks keeps a bounded number of records, and is told how many were lost", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			told, lost := 0, int64(0)
			r := newReports(slog.New(logFunc(func(_ string, attrs map[string]slog.Value) {
				<-release
				told++
				if n, ok := attrs["records lost before"]; ok {
					lost += n.Int64()
				}
			})))
			for range 3 * maxReports {
				r.add(report{level: slog.LevelInfo, text: "text"})
			}
			start := time.Now()
			r.end()
			assert.Equal(t, lastReports, time.Since(start), "the end does not wait for ever")
			close(release)
			<-r.told
			assert.InDelta(t, maxReports+1, told, 1) // and one that says so
			assert.EqualValues(t, 3*maxReports-told+1, lost)
		})
	})
	t.Run("a log that ends its goroutine loses no other record", func(t *testing.T) {
		told := make(chan int64, 3)
		r := newReports(slog.New(logFunc(func(_ string, attrs map[string]slog.Value) {
			told <- attrs["n"].Int64()
			runtime.Goexit()
		})))
		for n := range 3 {
			r.add(report{slog.LevelInfo, "text", []any{"n", n}})
		}
		r.end()
		<-r.told
		close(told)
		for n := range int64(3) {
			assert.Equal(t, n, <-told)
		}
	})
	t.Run("nothing runs if nothing was reported", func(t *testing.T) {
		r := newReports(slog.New(slog.DiscardHandler))
		r.add(report{level: slog.LevelError, text: "text"})
		assert.False(t, r.telling)
		r.end()
	})
}

func TestLogOfConnections(t *testing.T) {
	t.Run("nothing is asked of the system if the log wants nothing", func(t *testing.T) {
		c := &conn{loop: &loop{engine: &engine{reports: newReports(slog.New(slog.DiscardHandler))}}}
		require.Zero(t, testing.AllocsPerRun(100, func() { c.reportLocked(slog.LevelDebug, "text") }))
	})
}
