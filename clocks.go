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

// heard takes note of bytes from the peer: it is alive, but may not have got what is on its way to it.
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

// stallLooks is how often a full socket is tried within the write time-out.
const stallLooks = 8

// pingSteps is in how many steps of an interval Pings are sent, and minPingStep is the shortest step, in nanoseconds. A Ping may be a
// step late; so may be the end of a silent client, if the silence may last for an interval or longer.
const (
	pingSteps   = 64
	minPingStep = int64(1e6)
)

// limits are the time-outs of a server, in nanoseconds: what ServerOptions say.
type limits struct {
	handshake, write, silence, add int64
	ping                           int64 // below zero: no Pings
	rate                           int   // MinRate, in bytes a second
}

// moments are those from which a connection's time-outs count. Each has one meaning, and some have none in a phase.
type moments struct {
	phaseBegan int64 // not for phaseOpen, which has no limit
	addBegan   int64 // HandleClientAdd was called
	closeSent  int64 // a Close frame was sent; while it waits for the socket, it is now
}

// clocks is what is known of a peer's silence. It is owned by the loop.
type clocks struct {
	heard    int64 // when bytes last arrived
	pinged   int64 // when a Ping was sent, or the system last had some of what is in front of it acknowledged; 0: the peer was heard since
	unproven int32 // bytes in front of the last Ping that no Pong has answered for: the peer may not have got them yet
	held     int32 // those of them that the system had not got acknowledged when it was last asked; 0 if it was not
	asked    byte  // the number of the last Ping with something in front of it, its payload
}

// clockState is what else the clocks of a connection go by.
type clockState struct {
	life       life
	moments    moments
	end        *endReason // from phaseEnding on
	sent       int        // bytes that the socket has taken since the last Ping
	addAwaited bool       // messages wait for HandleClientAdd, which runs
	closeSent  bool       // a Close frame was sent, and the connection is open
	stalled    bool       // the socket is full,
	took       int64      // and took something, or had it acknowledged, then
}

// clockAction is what a clock wants done before it is asked again.
type clockAction uint8

const (
	clockWaits        clockAction = iota // nothing: look again at the moment
	clockRefuses                         // the request takes too long
	clockPings                           // send a Ping
	clockJudges                          // end a silent connection, unless the system says that the peer takes something
	clockEndsStalled                     // end a connection whose peer takes nothing
	clockEndsUnclosed                    // end one whose peer does not answer a Close frame
	clockGoesOn                          // no longer wait for HandleClientAdd
)

// due returns what a connection's clocks want done by now, or until when they may be left alone.
func (k *clocks) due(now int64, s *clockState, lim *limits) (moment int64, do clockAction) {
	moment = s.phaseEnds(lim)
	switch {
	case s.life.awaitsRequest() && moment <= now:
		return now, clockRefuses
	case s.life.isOpen():
		if moment, do = k.silenceDue(now, s, lim); do == clockWaits {
			var by int64
			by, do = k.openDue(now, s, lim)
			moment = min(moment, by)
		}
	}
	if do == clockWaits && s.addAwaited {
		by := s.moments.addBegan + lim.add
		if by <= now {
			return now, clockGoesOn
		}
		moment = min(moment, by)
	}
	return moment, do
}

// phaseEnds returns until when the connection may be in its phase.
func (s *clockState) phaseEnds(lim *limits) int64 {
	switch began := s.moments.phaseBegan; {
	case s.life.awaitsRequest():
		return began + lim.handshake
	case s.life.isEnding():
		return s.end.waitsUntil(began, lim.write)
	case s.life.isFlushing() && s.end != nil && s.end.patient && s.stalled:
		return s.took + lim.write
	case s.life.isFlushing():
		return began + lim.write
	case s.life.isDraining():
		return began + int64(maxDrainTime)
	}
	return never // HandleAuth may take its time, and an open connection has other clocks
}

// waitsUntil returns until when handlers that run are awaited, for a connection that began to end at a moment.
func (why *endReason) waitsUntil(began, write int64) int64 {
	if why.patient {
		return never
	}
	if why.code != 0 && !why.farewell {
		return began + min(int64(maxAnswerTime), write)
	}
	return began + write
}

// silenceDue says when to ping a client, because it is idle or was sent much, and when to end one that had the chance to answer and
// did not.
func (k *clocks) silenceDue(now int64, s *clockState, lim *limits) (moment int64, do clockAction) {
	switch {
	case lim.ping < 0:
		return never, clockWaits
	case k.pinged == now && lim.silence >= lim.ping: // it may answer until the next Ping is due
		return lim.pingStep(now), clockWaits
	case k.pinged != 0:
		if moment = k.silentAt(lim); moment <= now {
			return now, clockJudges
		}
		return min(moment, lim.pingStep(now)), clockWaits // it may have answered by then
	}
	wasSentMuch := earnedTime(s.sent, lim.rate) > lim.ping
	if moment = lim.pingStep(k.heard); moment > now && (!wasSentMuch || k.unproven > 0) { // the last Ping's Pong is to come first
		return moment, clockWaits
	}
	return now, clockPings
}

// openDue says when to end an open connection whose peer takes nothing, or does not answer a Close frame.
func (k *clocks) openDue(now int64, s *clockState, lim *limits) (moment int64, do clockAction) {
	moment = never
	if s.stalled {
		if s.took+lim.write <= now {
			return now, clockEndsStalled
		}
		moment = min(s.took+lim.write, now+lim.write/stallLooks)
	}
	if s.closeSent {
		inFront := inTransit(int(k.unproven), s.sent)
		by := s.moments.closeSent + lim.write + earnedTime(inFront, lim.rate)
		if by <= now {
			return now, clockEndsUnclosed
		}
		moment = min(moment, by)
	}
	return moment, clockWaits
}

// silentAt returns the moment at which a client that was pinged will have been silent for too long.
func (k *clocks) silentAt(lim *limits) int64 {
	return k.pinged + lim.silence + earnedTime(int(k.unproven), lim.rate)
}

// pingStep returns the first step that is at least a Ping's interval after a moment. Pings that are due at nearly the same time share
// one wake-up, and so may their answers.
func (lim *limits) pingStep(from int64) int64 {
	step := max(lim.ping/pingSteps, minPingStep)
	return (from + lim.ping + step - 1) / step * step
}

// spread has the first Ping of a connection come after a quarter to a whole of the interval, by its id, so that those that were opened
// together are not pinged together.
func (k *clocks) spread(now int64, id uint64, lim *limits) {
	if lim.ping > 0 {
		k.heard = now - int64(id*0x9E3779B97F4A7C15%(uint64(lim.ping)*3/4+1))
	}
}

// hears is told that bytes arrived, or that the peer had no chance to send any: nothing is read, or the socket is full.
func (k *clocks) hears(now int64) { k.heard, k.pinged = now, 0 }

// pings is told that a Ping is sent behind a number of bytes. It returns whether its Pong is to prove that they have arrived: then the
// Ping's payload is asked.
func (k *clocks) pings(now int64, sent int32) (proves bool) {
	k.pinged, k.unproven, k.held = now, int32(inTransit(int(k.unproven), int(sent))), 0
	if k.unproven == 0 {
		return false
	}
	k.asked++
	return true
}

// holds is told how many bytes the system holds at the time of a Ping that proves something.
func (k *clocks) holds(unacked int) { k.held = int32(min(unacked, maxInTransit)) }

// ponged is told of a Pong. One for an earlier Ping says nothing of what was sent since then.
func (k *clocks) ponged(number byte) {
	if number == k.asked {
		k.unproven, k.held = 0, 0
	}
}

// moved is told how many bytes the system holds now. It returns whether some of what is in front of the Ping was acknowledged since the
// last look: then the client is slower than MinRate, and the Ping had not left. Its time begins again, with what is still in front.
func (k *clocks) moved(now int64, unacked int, sent int32) bool {
	held := max(int32(min(unacked, maxInTransit))-sent-int32(len(emptyPing)+1), 0)
	if held >= k.held {
		return false
	}
	k.pinged, k.held, k.unproven = now, held, held
	return true
}
