package websocket

// Silence is judged by evidence: a peer is silent if it had the chance to answer a Ping and did not. What was sent in front of the
// Ping has to reach it first, and may wait in buffers that nobody can look into, such as a proxy's. So those bytes earn the peer time,
// at the slowest rate that counts as honest. Both sides judge by the functions here.

const (
	// defaultMinRate is that rate, in bytes a second.
	defaultMinRate = 16 << 10

	// maxInTransit is how many bytes may be on the way to a peer: more than the buffers of a few systems and proxies hold. What was
	// sent beyond that has arrived, or is in a send queue, which has a clock of its own.
	maxInTransit = 16 << 20

	// silentReason is told to a peer that is given up.
	silentReason = "silent after a ping"
)

// earnedTime is how long, in nanoseconds, a peer may take for bytes that are on the way to it, at a rate in bytes a second.
func earnedTime(bytes, rate int) int64 { return int64(min(bytes, maxInTransit)) * 1e9 / int64(rate) }

// inTransit adds bytes to those that are on the way.
func inTransit(before, more int) int { return min(before+min(more, maxInTransit), maxInTransit) }

// vigil judges a peer by bytes that were sent on its connection, counted since the beginning of that. It has no clock: it is given
// moments. The zero value awaits nothing. It is not safe for concurrent use. A Client has one; a Server's connection keeps less, for it
// has to be small.
type vigil struct {
	base    uint64 // what the peer is known to have got, because a Pong has answered for it
	front   uint64 // what was sent in front of the last Ping
	ping    uint64 // what was sent up to the end of that Ping; 0: no answer is awaited
	taken   uint64 // how much of ping is known to have left this system
	since   int64  // the moment when taken last grew, or when the Ping was sent
	pinging bool   // a Ping is being sent, and nothing has been heard since that began
	deaf    bool   // nothing is read: an answer cannot be heard
}

// heard takes note of bytes from the peer: it is alive, but need not have got what is on its way to it.
func (v *vigil) heard() { *v = vigil{base: v.base, front: v.front, deaf: v.deaf} }

// pongReceived takes note of a Pong. It answers a Ping, perhaps not the last one, in front of which at least got bytes had been sent:
// the peer has got them.
func (v *vigil) pongReceived(got uint64) {
	if got <= v.front { // else it answers something else
		v.base = max(v.base, got)
	}
}

// setReading says whether what comes from the peer is read. While it is not, no answer is awaited; one may have come meanwhile.
func (v *vigil) setReading(isRead bool) {
	v.deaf = !isRead
	v.heard()
}

// beginPing announces a Ping. It starts no clock.
func (v *vigil) beginPing() { v.pinging = true }

// pingSent starts the clock: the last size bytes of all that were sent are the Ping that beginPing has announced. The peer may have
// answered before this call; then nothing is awaited.
func (v *vigil) pingSent(at int64, sent, size uint64) {
	if v.pinging && v.ping == 0 && !v.deaf {
		v.front, v.ping, v.taken, v.since = sent-size, sent, v.base, at
	}
	v.pinging = false
}

// awaitsPong reports whether the peer has to answer a Ping.
func (v *vigil) awaitsPong() bool { return v.ping != 0 }

// silentFrom returns the moment from which on a peer that has to answer a Ping is silent, as far as is known at the moment at, when
// left bytes have left this system. base is how long it may take, in nanoseconds, and rate the slowest honest one in bytes a second.
// As long as the Ping, or what was sent in front of it, is on its way, each byte that leaves puts the end off. Bytes that were sent
// behind the Ping do not.
func (v *vigil) silentFrom(at int64, left uint64, base int64, rate int) int64 {
	if left = min(left, v.ping); left > v.taken {
		v.taken, v.since = left, at
	}
	earned := min(v.taken, v.front)
	earned -= min(earned, v.base)
	return v.since + base + earnedTime(int(min(earned, maxInTransit)), rate)
}

// isPingOnItsWay reports whether the Ping has not left this system, as far as the last call of silentFrom knows.
func (v *vigil) isPingOnItsWay() bool { return v.taken < v.ping }
