package websocket

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestVigil(t *testing.T) {
	const base, rate = int64(16 * time.Second), 1000
	const start = 1000 * int64(time.Hour)
	at := func(seconds float64) int64 { return start + int64(seconds*float64(time.Second)) }
	// ping sends a Ping of 6 bytes, the last of so many.
	ping := func(v *vigil, seconds float64, sent uint64) {
		v.beginPing()
		v.pingSent(at(seconds), sent, 6)
	}
	for _, test := range []struct {
		name string
		do   func(v *vigil)
		look float64 // when it is looked at,
		left uint64  // while so many bytes have left
		from float64 // the moment from which on the peer is silent; 0: no answer is awaited
		way  bool    // the Ping is on its way
	}{
		{"without a Ping nothing is awaited", func(*vigil) {}, 100, 0, 0, false},
		{"a Ping that has left is to be answered within the time", func(v *vigil) { ping(v, 10, 6) }, 10, 6, 26, false},
		{"one that does not leave is given up after the same time", func(v *vigil) { ping(v, 10, 6) }, 20, 0, 26, true},
		{"one that leaves late has all of the time", func(v *vigil) { ping(v, 10, 6) }, 20, 6, 36, false},
		{"what leaves in front of it puts that off, and earns time", func(v *vigil) { ping(v, 10, 100_006) }, 20, 5000, 20 + 16 + 5, true},
		{"what is on its way earns none", func(v *vigil) { ping(v, 10, 100_006) }, 20, 0, 26, true},
		{"all that was sent in front of it earns time, itself does not", func(v *vigil) { ping(v, 10, 100_006) }, 10, 100_006, 10 + 16 + 100, false},
		{"what a Pong has answered for does not", func(v *vigil) {
			ping(v, 5, 90_006)
			v.heard()
			v.pongReceived(90_000)
			ping(v, 10, 100_006)
		}, 10, 100_006, 10 + 16 + 10, false},
		{"what was sent before the peer was heard does, for it may be in a proxy", func(v *vigil) {
			ping(v, 5, 90_006)
			v.heard()
			ping(v, 10, 100_006)
		}, 10, 100_006, 10 + 16 + 100, false},
		{"a Pong for an earlier Ping does not answer for what came after that", func(v *vigil) {
			ping(v, 5, 30_006)
			v.heard()
			ping(v, 8, 90_012)
			v.heard()
			v.pongReceived(30_000)
			ping(v, 10, 100_006)
		}, 10, 100_006, 10 + 16 + 70, false},
		{"nor does one that says more than was sent", func(v *vigil) {
			ping(v, 5, 30_006)
			v.heard()
			v.pongReceived(1 << 60)
			ping(v, 10, 100_006)
		}, 10, 100_006, 10 + 16 + 100, false},
		{"more than can be on its way does not", func(v *vigil) { ping(v, 10, 1<<40) }, 10, 1 << 40, 10 + 16 + maxInTransit/1000.0, false},
		{"nor does what is sent behind it", func(v *vigil) { ping(v, 10, 6) }, 20, 1_000_000, 36, false},
		{"a second look without news changes nothing", func(v *vigil) {
			ping(v, 10, 100_006)
			v.silentFrom(at(12), 5000, base, rate)
		}, 20, 5000, 12 + 16 + 5, true},
		{"bytes that leave behind the Ping change nothing", func(v *vigil) {
			ping(v, 10, 6)
			v.silentFrom(at(10), 6, base, rate)
		}, 20, 1_000_000, 26, false},
		{"a system that takes back what it said changes nothing", func(v *vigil) {
			ping(v, 10, 100_006)
			v.silentFrom(at(12), 5000, base, rate)
		}, 20, 4000, 12 + 16 + 5, true},
		{"a second Ping does not put the first off", func(v *vigil) {
			ping(v, 10, 6)
			v.silentFrom(at(10), 6, base, rate)
			ping(v, 20, 12)
		}, 20, 12, 26, false},
		{"whatever is heard is an answer", func(v *vigil) {
			ping(v, 10, 6)
			v.heard()
		}, 100, 6, 0, false},
		{"an answer may come before it is noted that the Ping was sent", func(v *vigil) {
			v.beginPing()
			v.heard()
			v.pingSent(at(10), 6, 6)
		}, 100, 6, 0, false},
		{"a Ping that is being sent starts no clock", func(v *vigil) { v.beginPing() }, 100, 6, 0, false},
		{"one that is sent after an answer does again", func(v *vigil) {
			ping(v, 10, 6)
			v.heard()
			ping(v, 20, 12)
		}, 20, 12, 36.006, false},
		{"while nothing is read nothing is awaited", func(v *vigil) {
			ping(v, 10, 6)
			v.setReading(false)
			ping(v, 20, 12)
		}, 100, 12, 0, false},
		{"the next Ping after that is", func(v *vigil) {
			ping(v, 10, 6)
			v.setReading(false)
			v.setReading(true)
			ping(v, 30, 12)
		}, 30, 12, 46.006, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var v vigil
			test.do(&v)
			assert.Equal(t, test.from != 0, v.awaitsPong())
			if v.awaitsPong() {
				assert.Equal(t, at(test.from), v.silentFrom(at(test.look), test.left, base, rate))
			}
			assert.Equal(t, test.way, v.isPingOnItsWay())
		})
	}
}
