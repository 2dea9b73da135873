package websocket

import (
	"cmp"
	"slices"
	"time"
)

// Stats are the figures of a Server: what has been counted since NewServer, over all runs of the server, and what there is at the moment.
// Each figure is right by itself; while the server works, two of them may be a few microseconds apart, and what a loop has read is counted
// when it has served all that were ready.
type Stats struct {
	// Connections are those that there are, by how far they have come.
	Connections Phases

	// Users and Topics are those that have a connection, and Subscriptions those of all topics.
	Users, Topics, Subscriptions int

	// Accepted is how many sockets came by the server's own listener, and Adopted how many connections by ServeHTTP, which is also what a
	// Handler of the program's uses. Opened is how many opening handshakes were accepted.
	Accepted, Adopted, Opened uint64

	// Refused are the handshakes that were refused or given up, by status and reason. Requests for StatusPath and Handler are none, unless
	// a Shutdown refuses them.
	Refused []Refused

	// Ended are the connections that were open and have ended, by kind and code. Those of ClosedSlow are the slow clients that were
	// dropped.
	Ended []Ended

	// Received and Sent are the messages that came, whole and as the protocol wants them (though what is compressed counts before it is
	// inflated), and those that were given to connections for sending, lost or not. The answers to Pings and the Close frames of the server
	// itself are among them, handshakes and the records of TLS are not.
	Received, Sent Traffic

	// Queued is how many bytes wait in send queues because sockets are full.
	Queued int64

	// SendsRefused is how many times a send returned ErrSendQueueFull; one packet for many connections may count for each.
	SendsRefused uint64

	// HandlerTime is how long the handlers of messages took: HandleText, HandleBin, HandleRsvControl and those of routes. Messages of a
	// connection that came together and are handled in a row count as one. Of what the loops call themselves one in 16 is measured, and
	// counts 16 times; what held up a loop, or was called beside it, always is. Compression is not part of it.
	HandlerTime Histogram

	// AuthTime is how long HandleAuth took.
	AuthTime Histogram

	// LoopLag is how long the rounds of the loops took, in each of which a loop serves all connections that were ready. A connection that
	// becomes ready meanwhile waits for up to as long.
	LoopLag Histogram

	// Takeovers is how many times a handler, or a callback of TLSConfig, held up a loop, so that another goroutine went on with that.
	Takeovers uint64

	// HeldBack is how many numbers of closed connections are held back from being used again.
	HeldBack int

	// AcceptPauses is how many times accepting rested for a tenth of a second, since descriptors or memory had run out.
	AcceptPauses uint64

	// TLS are the handshakes of TLS on the server's own listener.
	TLS TLSHandshakes
}

// Phases are numbers of connections by how far they have come.
type Phases struct {
	Securing int // the TLS handshake is awaited, or under way
	Opening  int // the opening handshake is read
	Auth     int // HandleAuth decides, or HandleStatus answers
	Open     int // messages go both ways: what ClientManager.Len counts
	Ending   int // the last handlers run
	Flushing int // what is queued is written
	Draining int // the peer's end of TCP is awaited
	Closed   int // the socket has been closed, and a handler has not returned
	HTTP     int // requests of theirs are for Handler: net/http has them
}

// Refused is how many opening handshakes were refused with a status, for a reason.
type Refused struct {
	// Status is the one of the answer; 0 if there was none.
	Status int

	// Reason is one of a few texts, never the client's or the program's own: "HandleAuth" for what that has refused; the text of an error
	// of the opening handshake, such as "unknown path"; or, for what was given up without an answer, that of a CloseKind, such as "silent"
	// if no request came.
	Reason string

	Count uint64
}

// Ended is how many connections have ended in one way.
type Ended struct {
	Kind CloseKind

	// Code is that of CloseCause. Codes from 3000 on that peers have sent are 3000 or 4000 here: there would be too many.
	Code CloseCode

	Count uint64
}

// Traffic is what went in one direction.
type Traffic struct {
	// Text and Binary are messages, Control control frames. A frame by which a program goes on with a message of an earlier packet is
	// among the bytes of Binary.
	Text, Binary, Control Volume

	// Compressed are the messages among them that were compressed by this package (RFC 7692).
	Compressed Compressed
}

// Volume is a number of messages, and of the bytes of their payload as it is on the wire: compressed, if it is compressed.
type Volume struct {
	Messages, Bytes uint64
}

// Compressed is the payload of messages in bytes: as programs see it, and as it is on the wire.
type Compressed struct {
	Plain, Wire uint64
}

// Histogram has how often something took how long.
type Histogram struct {
	// Bounds are the upper bounds of the bars, in ascending order; the last bar has none, and there is no bound for it.
	Bounds []time.Duration

	// Counts has one number for each bar: of what took no longer than its bound, and longer than the one before.
	Counts []uint64

	// Count is the sum of Counts, and Sum of all times.
	Count uint64
	Sum   time.Duration
}

// TLSHandshakes are numbers of TLS handshakes: those that are done, those that have begun and failed, and those under way.
type TLSHandshakes struct {
	Done, Failed uint64
	UnderWay     int
}

// Stats returns the figures of the server. It takes some microseconds, however many connections there are, and may be called at any time,
// from any goroutine, handlers included. When the server is stopped it returns what the figures have come to.
func (serv *Server) Stats() Stats {
	serv.mu.Lock()
	e := serv.runningLocked()
	all := append([]*tally{&serv.tallies.outside}, serv.tallies.loops...)
	serv.mu.Unlock()
	s := Stats{HandlerTime: newHistogram(), AuthTime: newHistogram(), LoopLag: newHistogram()}
	refused, ended := make(map[refusedAs]uint64), make(map[endedAs]uint64)
	for _, y := range all {
		y.addTo(&s)
		y.refused.addTo(refused)
		y.ended.addTo(ended)
	}
	for as, n := range refused {
		s.Refused = append(s.Refused, Refused{as.status, as.reason, n})
	}
	for as, n := range ended {
		s.Ended = append(s.Ended, Ended{as.kind, as.code, n})
	}
	slices.SortFunc(s.Refused, func(a, b Refused) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Reason, b.Reason))
	})
	slices.SortFunc(s.Ended, func(a, b Ended) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Code, b.Code)) })
	s.Users, s.Topics, s.Subscriptions = serv.Clients.Users(), serv.Clients.Topics(), serv.Clients.subscriptions()
	if e != nil {
		e.addTo(&s)
	}
	return s
}

// addTo adds the figures that only a running engine has.
func (e *engine) addTo(s *Stats) {
	s.HeldBack = e.numbers.len()
	for _, l := range e.loops {
		s.TLS.UnderWay += l.handshakes.len()
	}
	if e.web != nil {
		s.Connections.HTTP = e.web.len()
	}
}

// addTo adds the counters to the figures.
func (y *tally) addTo(s *Stats) {
	for at, n := range map[phase]*int{
		phaseSecuring: &s.Connections.Securing, phaseOpening: &s.Connections.Opening, phaseAuth: &s.Connections.Auth,
		phaseOpen: &s.Connections.Open, phaseEnding: &s.Connections.Ending, phaseFlushing: &s.Connections.Flushing,
		phaseDraining: &s.Connections.Draining, phaseClosed: &s.Connections.Closed,
	} {
		*n += int(y.phases[at].Load())
	}
	s.Accepted += y.accepted.Load()
	s.Adopted += y.adopted.Load()
	s.Opened += y.opened.Load()
	s.SendsRefused += y.overfull.Load()
	s.Takeovers += y.takeovers.Load()
	s.AcceptPauses += y.pauses.Load()
	s.TLS.Done += y.secured.Load()
	s.TLS.Failed += y.unsecured.Load()
	s.Queued += y.queued.Load()
	y.received.addTo(&s.Received)
	y.sent.addTo(&s.Sent)
	y.handlers.addTo(&s.HandlerTime)
	y.auth.addTo(&s.AuthTime)
	y.lag.addTo(&s.LoopLag)
}

func (ts *traffics) addTo(sum *Traffic) {
	for kind, v := range []*Volume{kindText: &sum.Text, kindBin: &sum.Binary, kindControl: &sum.Control} {
		v.Messages += ts.messages[kind].Load()
		v.Bytes += ts.bytes[kind].Load()
	}
	sum.Compressed.Plain += ts.plain.Load()
	sum.Compressed.Wire += ts.packed.Load()
}

func newHistogram() Histogram {
	return Histogram{Bounds: slices.Clone(bounds[:]), Counts: make([]uint64, len(bounds)+1)}
}

func (b *bars) addTo(h *Histogram) {
	for i := range b.counts {
		n := b.counts[i].Load()
		h.Counts[i] += n
		h.Count += n
	}
	h.Sum += time.Duration(b.sum.Load())
}
