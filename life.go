package websocket

// phase is how far a connection has come. It only ever rises.
type phase uint8

const (
	phaseSecuring phase = iota // the TLS handshake is under way; what is plain is in the next phase at once
	phaseOpening               // the loop reads the opening handshake
	phaseAuth                  // HandleAuth decides, or HandleStatus answers
	phaseOpen                  // messages go both ways
	phaseEnding                // out of All and Conns, nothing is read; handlers and HandleClientRemove finish
	phaseFlushing              // sealed: Send fails; the queue is written
	phaseDraining              // half-closed; the peer's end is awaited
	phaseClosed                // the placeholder is over the number
	phaseGone                  // out of the table
)

// facts are what can move a connection to its next phase.
type facts uint16

const (
	factSecured      facts = 1 << iota // what is read and written from now on is plain text
	factRequest                        // the request is complete, and a handler has to see it
	factAccepted                       // the request is accepted
	factEnded                          // the connection is to end, or the handshake was refused
	factHandlersDone                   // no handler runs or is still to be called, or they are no longer awaited
	factWritten                        // nothing is queued, or what was has been given up
	factPeerDone                       // the peer has closed its side, or that is no longer awaited
	factUnused                         // no handler that runs knows the connection
	factForeign                        // what it has to say is for the program's http.Handler
)

// action is what an edge of a connection's life wants done, once the connection is in its new phase.
type action uint8

const (
	doNothing   action = iota
	doGiveUp           // give the TLS handshake up
	doWelcome          // answer the handshake; the program may know the connection
	doDelist           // take it out of the ClientManager, and tell those who wait for its end
	doSeal             // send the Close frame, with the end of the stream to follow
	doHalfClose        // end this side of the stream
	doCover            // put the placeholder over the number
	doRelease          // hold the number back
	doHandOver         // give the socket to the program's http.Handler
)

// edge is a step that a connection may take: up by so many phases. It cannot lead back, since a difference below zero does not compile.
type edge struct {
	when facts
	up   phase
	do   action
}

// edges are all the steps there are. Of the edges of a phase, the first one whose fact holds is taken.
var edges = [phaseGone + 1][]edge{
	phaseSecuring: {
		{factEnded, phaseFlushing - phaseSecuring, doGiveUp},
		{factSecured, phaseOpening - phaseSecuring, doNothing},
		{factForeign, phaseGone - phaseSecuring, doHandOver},
	},
	phaseOpening: {
		{factEnded, phaseFlushing - phaseOpening, doNothing},
		{factAccepted, phaseOpen - phaseOpening, doWelcome},
		{factRequest, phaseAuth - phaseOpening, doNothing},
		{factForeign, phaseGone - phaseOpening, doHandOver},
	},
	phaseAuth: {
		{factEnded, phaseFlushing - phaseAuth, doNothing},
		{factAccepted, phaseOpen - phaseAuth, doWelcome},
	},
	phaseOpen:     {{factEnded, phaseEnding - phaseOpen, doDelist}},
	phaseEnding:   {{factHandlersDone, phaseFlushing - phaseEnding, doSeal}},
	phaseFlushing: {{factWritten, phaseDraining - phaseFlushing, doHalfClose}},
	phaseDraining: {{factPeerDone, phaseClosed - phaseDraining, doCover}},
	phaseClosed:   {{factUnused, phaseGone - phaseClosed, doRelease}},
}

// step returns the phase that follows from the facts, and what is to be done in it: the same phase if none of the facts matters in it.
func (p phase) step(f facts) (next phase, do action) {
	for _, e := range edges[p] {
		if f&e.when != 0 {
			return p + e.up, e.do
		}
	}
	return p, doNothing
}

// life is the phase of a connection. Nothing but move changes it.
type life struct{ phase phase }

// move takes one step, if the facts allow one.
func (l *life) move(f facts) (do action, moved bool) {
	next, do := l.phase.step(f)
	moved = next != l.phase
	l.phase = next
	return do, moved
}

// isShaking reports whether the opening handshake is still going on.
func (l life) isShaking() bool { return l.phase < phaseOpen }

// awaitsRequest reports whether the client's opening handshake, and a TLS handshake in front of it, is read: they have one time-out.
func (l life) awaitsRequest() bool { return l.phase <= phaseOpening }

func (l life) isSecuring() bool { return l.phase == phaseSecuring }
func (l life) isOpening() bool  { return l.phase == phaseOpening }
func (l life) isAsking() bool   { return l.phase == phaseAuth }
func (l life) isOpen() bool     { return l.phase == phaseOpen }
func (l life) isEnding() bool   { return l.phase == phaseEnding }
func (l life) isFlushing() bool { return l.phase == phaseFlushing }
func (l life) isDraining() bool { return l.phase == phaseDraining }
func (l life) isClosed() bool   { return l.phase == phaseClosed }

// hasEnded reports whether an open connection has begun to end, or a handshake was refused.
func (l life) hasEnded() bool { return l.phase > phaseOpen }

// known reports whether the program may know the connection, if its handshake was accepted: ClientManager.Context answers.
func (l life) known() bool { return l.phase >= phaseOpen && l.phase < phaseGone }

// sends reports whether the program may send.
func (l life) sends() bool { return l.phase == phaseOpen || l.phase == phaseEnding }

// hasSocket reports whether the number still stands for the connection's socket, and not for the placeholder.
func (l life) hasSocket() bool { return l.phase < phaseClosed }

// endsStream reports whether the end of the stream follows what is written now: it goes out with it (MSG_MORE on Linux). The
// phase comes first, then the Close frame, so that both are one segment.
func (l life) endsStream() bool { return l.phase == phaseFlushing }

// endReason says why and how a connection ends.
type endReason struct {
	code   CloseCode // of the Close frame to send; 0: none
	noCode bool      // the Close frame that it answers had none
	kind   CloseKind
	reason string
	cause  string // for the log

	discard   bool // waiting messages are not handled
	farewell  bool // the Close frame follows HandleClientRemove, which may still send; otherwise it goes first
	immediate bool // handlers that run are not awaited
	patient   bool // handlers are awaited however long they take, and a peer as long as it takes something
}

// told returns what a program is told of the end.
func (why *endReason) told() CloseCause {
	if why.noCode {
		return CloseCause{Kind: why.kind}
	}
	return CloseCause{Code: why.code, Reason: why.reason, Kind: why.kind}
}

// goingAway is why every connection ends when the server stops.
var goingAway = endReason{kind: ClosedShutdown, code: StatusGone, cause: "server stops", discard: true, immediate: true}

// departing is why every connection ends in a Shutdown.
var departing = endReason{kind: ClosedShutdown, code: StatusGone, cause: "server shuts down", farewell: true, patient: true}

// isSealed reports whether nothing more can be sent.
func (l life) isSealed() bool { return l.phase >= phaseFlushing }

// reads is what the loop may read from a connection.
type reads uint8

const (
	readNothing reads = iota
	readRecords       // of a TLS handshake
	readHandshake
	readMessages
	readRest // and throw it away
)

// reads returns what may be read in this phase.
func (l life) reads() reads {
	switch l.phase {
	case phaseSecuring:
		return readRecords
	case phaseOpening:
		return readHandshake
	case phaseOpen:
		return readMessages
	case phaseDraining:
		return readRest
	}
	return readNothing
}
