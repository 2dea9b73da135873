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
