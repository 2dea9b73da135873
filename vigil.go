package websocket

import "time"

// vigil judges by evidence whether a peer is silent: one that had the chance to answer a Ping, and did not. It has no clock, and
// counts in bytes that were sent on the connection since its beginning. The zero value awaits nothing.
type vigil struct {
	base    uint64    // what the peer is known to have got, since a Pong has answered for it
	front   uint64    // what was sent in front of the last Ping
	ping    uint64    // what was sent up to its end; 0: none is to be answered
	taken   uint64    // how much of that is known to have left this system
	since   time.Time // when that last grew, or the Ping was sent
	pinging bool      // a Ping is being sent, and nothing was heard since that began
	deaf    bool      // nothing is read: an answer cannot be heard
}

// heard notes that bytes came from the peer: it lives, but need not have got what is on the way to it.
func (v *vigil) heard() { *v = vigil{base: v.base, front: v.front, deaf: v.deaf} }

// ponged notes that a Pong came for a Ping, not the last one perhaps, in front of which so many bytes had been sent at least: the peer
// has got them.
func (v *vigil) pongReceived(got uint64) {
	if got <= v.front { // else it answers something else
		v.base = max(v.base, got)
	}
}

// listen notes whether what comes from the peer is read. Where it was not, an answer may have come meanwhile.
func (v *vigil) setReading(hears bool) {
	v.deaf = !hears
	v.heard()
}

// beginPing notes that a Ping is about to be sent. It starts no clock.
func (v *vigil) beginPing() { v.pinging = true }

// pinged notes that a Ping of so many bytes was sent, and with it so many in all. The peer may have answered before.
func (v *vigil) pingSent(at time.Time, sent, size uint64) {
	if v.pinging && v.ping == 0 && !v.deaf {
		v.front, v.ping, v.taken, v.since = sent-size, sent, v.base, at
	}
	v.pinging = false
}

// awaits reports whether an answer is awaited.
func (v *vigil) awaits() bool { return v.ping != 0 }

// silent returns from when on a peer whose answer is awaited is silent, as far as is known at a moment at which so many bytes had
// left this system. As long as the Ping, or what was sent before it, is on its way, each byte that leaves puts that off. It does
// not wait for bytes that were sent behind the Ping.
func (v *vigil) silent(at time.Time, left uint64, base time.Duration, rate int) (from time.Time) {
	if left = min(left, v.ping); left > v.taken {
		v.taken, v.since = left, at
	}
	earned := min(v.taken, v.front)
	earned -= min(earned, v.base)
	return v.since.Add(base + time.Duration(earnedTime(int(min(earned, maxInTransit)), rate)))
}

// isOnItsWay reports whether the Ping has not left this system, as far as is known from the last call of silent.
func (v *vigil) isOnItsWay() bool { return v.taken < v.ping }
