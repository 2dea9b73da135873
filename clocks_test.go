package websocket

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Seconds and a point in time for clocks, in nanoseconds.
const (
	clockSecond = int64(1e9)
	clockNow    = 1000 * 3600 * clockSecond
)

func clockLimits() *limits {
	return &limits{
		handshake: 10 * clockSecond, write: 8 * clockSecond, ping: 16 * clockSecond, silence: 32 * clockSecond, add: 2 * clockSecond,
		rate: defaultMinRate,
	}
}

// TestClocksDue asks the clocks of a connection one nanosecond before something is due, and when it is.
func TestClocksDue(t *testing.T) {
	heardNow := clocks{heard: clockNow}
	closed, removed := &endReason{code: StatusNormal}, &endReason{code: StatusNormal, farewell: true}
	for _, row := range []struct {
		name   string
		clocks clocks
		state  clockState
		due    int64
		do     clockAction // from then on
	}{
		{"a request has the handshake's time-out", clocks{}, clockState{life: life{phaseOpening}, moments: moments{phaseBegan: clockNow}},
			clockNow + 10*clockSecond, clockRefuses},
		{"an open connection is pinged when it was idle for an interval", heardNow, clockState{life: life{phaseOpen}},
			clockNow + 16*clockSecond, clockPings},
		{"a Ping that was not answered ends it after the silence", clocks{heard: 1, pinged: clockNow}, clockState{life: life{phaseOpen}},
			clockNow + 32*clockSecond, clockJudges},
		{"later if there was much in front of the Ping", clocks{heard: 1, pinged: clockNow, unproven: 1 << 20}, clockState{life: life{phaseOpen}},
			clockNow + (32+64)*clockSecond, clockJudges},
		{"a full socket that took something has the write time-out", heardNow, clockState{life: life{phaseOpen}, stalled: true, took: clockNow},
			clockNow + 8*clockSecond, clockEndsStalled},
		{"so has a Close frame's answer", heardNow, clockState{life: life{phaseOpen}, closeSent: true, moments: moments{closeSent: clockNow}},
			clockNow + 8*clockSecond, clockEndsUnclosed},
		{"HandleClientAdd is waited for until AddTimeout after its call", heardNow,
			clockState{life: life{phaseOpen}, addAwaited: true, moments: moments{addBegan: clockNow}}, clockNow + 2*clockSecond, clockGoesOn},
		{"also of a connection that ends", heardNow,
			clockState{life: life{phaseEnding}, end: removed, addAwaited: true, moments: moments{phaseBegan: clockNow, addBegan: clockNow - clockSecond}},
			clockNow + clockSecond, clockGoesOn},
		{"a Close frame does not put off HandleClientAdd's time", heardNow,
			clockState{life: life{phaseOpen}, addAwaited: true, closeSent: true, moments: moments{addBegan: clockNow, closeSent: clockNow + clockSecond}},
			clockNow + 2*clockSecond, clockGoesOn},
		{"nothing is due while HandleAuth runs", clocks{}, clockState{life: life{phaseAuth}}, never, clockWaits},
		{"a client that closed is answered within a second", clocks{}, clockState{life: life{phaseEnding}, end: closed, moments: moments{phaseBegan: clockNow}},
			clockNow + clockSecond, clockWaits},
		{"one that is removed may get a goodbye", clocks{}, clockState{life: life{phaseEnding}, end: removed, moments: moments{phaseBegan: clockNow}},
			clockNow + 8*clockSecond, clockWaits},
		{"what is queued has the write time-out", clocks{}, clockState{life: life{phaseFlushing}, moments: moments{phaseBegan: clockNow}},
			clockNow + 8*clockSecond, clockWaits},
		{"in a Shutdown it has that from when something was taken last", clocks{},
			clockState{life: life{phaseFlushing}, end: &departing, moments: moments{phaseBegan: 1}, stalled: true, took: clockNow}, clockNow + 8*clockSecond, clockWaits},
		{"and handlers have all the time", clocks{}, clockState{life: life{phaseEnding}, end: &departing, moments: moments{phaseBegan: 1}}, never, clockWaits},
		{"the peer's end is awaited for a second", clocks{}, clockState{life: life{phaseDraining}, moments: moments{phaseBegan: clockNow}},
			clockNow + clockSecond, clockWaits},
		{"nothing is due of a covered number", clocks{}, clockState{life: life{phaseClosed}}, never, clockWaits},
	} {
		t.Run(row.name, func(t *testing.T) {
			lim := clockLimits()
			step := lim.ping / pingSteps
			var at int64
			for at = clockNow; ; { // the clocks are followed as the loop follows them
				moment, do := row.clocks.due(at, &row.state, lim)
				if do != clockWaits {
					assert.Equal(t, row.do, do)
					break
				}
				if row.do == clockWaits {
					assert.Equal(t, row.due, moment)
					return
				}
				if !assert.Greater(t, moment, at, "the loop would spin") {
					return
				}
				if before, waits := row.clocks.due(moment-1, &row.state, lim); moment < row.due {
					assert.Equal(t, clockWaits, waits)
					assert.GreaterOrEqual(t, before, moment-1)
				}
				at = moment
			}
			assert.GreaterOrEqual(t, at, row.due)
			assert.LessOrEqual(t, at, row.due+step)
		})
	}
}

func TestClocksOfBusyClients(t *testing.T) {
	lim := clockLimits()
	enough := int(int64(lim.rate) * lim.ping / clockSecond)
	for _, row := range []struct {
		name     string
		sent     int
		unproven int32
		do       clockAction
	}{
		{"what a slow client takes in an interval asks for no Ping", enough, 0, clockWaits},
		{"more does", enough + 1, 0, clockPings},
		{"but not before the last Pong has come", enough + 1, 1, clockWaits},
	} {
		t.Run(row.name, func(t *testing.T) {
			k := clocks{heard: clockNow, unproven: row.unproven}
			_, do := k.due(clockNow, &clockState{life: life{phaseOpen}, sent: row.sent}, lim)
			assert.Equal(t, row.do, do)
		})
	}
	t.Run("below zero there are no Pings", func(t *testing.T) {
		lim := clockLimits()
		lim.ping = -1
		k := clocks{}
		moment, do := k.due(clockNow, &clockState{life: life{phaseOpen}, sent: 1 << 20}, lim)
		assert.Equal(t, clockWaits, do)
		assert.Equal(t, int64(never), moment)
	})
}

func TestClocksEvidence(t *testing.T) {
	const sent = 100 << 10
	t.Run("a Ping behind nothing proves nothing", func(t *testing.T) {
		k := clocks{}
		assert.False(t, k.pings(clockNow, 0))
		assert.Zero(t, k.asked)
	})
	t.Run("the Pong for the last Ping proves what was in front of it, one for an earlier Ping nothing", func(t *testing.T) {
		k := clocks{}
		assert.True(t, k.pings(clockNow, sent))
		first := k.asked
		assert.True(t, k.pings(clockNow+1, sent))
		assert.EqualValues(t, 2*sent, k.unproven)
		k.ponged(first)
		assert.EqualValues(t, 2*sent, k.unproven)
		k.ponged(k.asked)
		assert.Zero(t, k.unproven)
	})
	t.Run("no more counts than may be on the way", func(t *testing.T) {
		k := clocks{unproven: maxInTransit}
		k.pings(clockNow, maxInTransit)
		assert.EqualValues(t, maxInTransit, k.unproven)
		k.holds(2 * maxInTransit)
		assert.EqualValues(t, maxInTransit, k.held)
	})
	t.Run("what the system had acknowledged puts the end off, and earns less from then on", func(t *testing.T) {
		k := clocks{}
		k.pings(clockNow, sent)
		k.holds(sent)
		ping := len(emptyPing) + 1
		assert.False(t, k.moved(clockNow+1, sent+ping, 0), "nothing moved")
		assert.False(t, k.moved(clockNow+1, sent+ping+7, 7), "nor is what came behind the Ping in front of it")
		assert.True(t, k.moved(clockNow+2, sent+ping-10, 0))
		assert.Equal(t, clockNow+2, k.pinged)
		assert.EqualValues(t, sent-10, k.unproven)
		assert.True(t, k.moved(clockNow+3, 0, 0))
		assert.False(t, k.moved(clockNow+4, 0, 0), "the Ping has left")
	})
	t.Run("bytes from the peer are life, and prove nothing", func(t *testing.T) {
		k := clocks{}
		k.pings(clockNow, sent)
		k.hears(clockNow + 5)
		assert.Zero(t, k.pinged)
		assert.Equal(t, clockNow+5, k.heard)
		assert.EqualValues(t, sent, k.unproven)
	})
	t.Run("the first Pings are spread over three quarters of the interval", func(t *testing.T) {
		lim := clockLimits()
		var first, last int64
		for id := range uint64(1000) {
			k := clocks{}
			k.spread(clockNow, id<<fdBits, lim)
			due := lim.pingStep(k.heard) - clockNow
			assert.GreaterOrEqual(t, due, lim.ping/4)
			assert.LessOrEqual(t, due, lim.ping+lim.ping/pingSteps)
			if id == 0 || due < first {
				first = due
			}
			last = max(last, due)
		}
		assert.Greater(t, last-first, lim.ping*7/10)
	})
}
