package websocket

import "math"

// maxBacklog is how many bytes of messages may wait for their handlers before the connection is no longer read. Each message
// counts messageCost in addition to its payload; one message of any size may wait.
const (
	maxBacklog  = 64 << 10
	messageCost = 64
)

// lane is a class of handlers of one connection. Each lane has a number of handlers that may run at the same time; further ones wait.
type lane uint8

const (
	laneOrdered  lane = iota // HandleText, HandleBin, HandleRsvControl
	laneRequests             // routed requests
	lanePacked               // what comes on a connection with permessage-deflate, to be inflated in its order, and then for the lanes above
	laneLife                 // HandleAuth, HandleClientAdd, HandleClientRemove
	laneCount
)

// message is something for a handler of a connection.
type message struct {
	payload []byte
	head    header
}

// backlog holds messages that wait for their handlers, and the Pongs between them.
type backlog struct {
	waiting [laneLife][]message
	bytes   int
	packed  int    // of bytes, those of lanePacked
	pongs   []pong // answers to Pings that came behind messages of laneOrdered
}

// pong has the answers to Pings that came behind the same message, and are sent once that has been handled.
type pong struct {
	frames []byte
	behind int // how many messages come first
}

func (b *backlog) add(l lane, m message) {
	b.waiting[l] = append(b.waiting[l], m)
	b.count(l, len(m.payload)+messageCost)
}

// cost returns what messages count while they wait, in bytes.
func cost(messages []message) (bytes int) {
	for i := range messages {
		bytes += len(messages[i].payload) + messageCost
	}
	return bytes
}

// count is told of bytes that wait in a lane from now on, or, below zero, do not any more.
func (b *backlog) count(l lane, bytes int) {
	b.bytes += bytes
	if l == lanePacked {
		b.packed += bytes
	}
}

func (b *backlog) isEmpty() bool {
	return len(b.waiting[laneOrdered])+len(b.waiting[laneRequests])+len(b.waiting[lanePacked])+len(b.pongs) == 0
}

// addPong adds the answer to a Ping that came behind messages. Those behind the same message are written together.
func (b *backlog) addPong(payload []byte) {
	behind := len(b.waiting[laneOrdered])
	if n := len(b.pongs); n == 0 || b.pongs[n-1].behind != behind {
		b.pongs = append(b.pongs, pong{behind: behind})
	}
	last := &b.pongs[len(b.pongs)-1]
	last.frames = appendFrame(last.frames, OpcodePong, false, payload)
}

// takePongs returns the answers to the Pings that came before the n-th message that is being handled, counted from 0.
func (b *backlog) takePongs(n int) (frames []byte) {
	for len(b.pongs) > 0 && b.pongs[0].behind <= n {
		if next := b.pongs[0].frames; frames == nil {
			frames = next
		} else {
			frames = append(frames, next...)
		}
		b.pongs = b.pongs[1:]
	}
	return frames
}

func (b *backlog) clear() {
	for l := range b.waiting {
		clear(b.waiting[l])
		b.waiting[l] = b.waiting[l][:0]
	}
	b.bytes, b.packed = 0, 0
	b.clearPongs()
}

func (b *backlog) clearPongs() {
	clear(b.pongs)
	b.pongs = b.pongs[:0]
}

// reading is what bytes that were read from a connection, or inflated, amount to.
type reading struct {
	inbox  *backlog
	pongs  []byte // a Pong for each Ping that came before the messages
	ponged bool   // a Pong came that says which Ping it answers
	number byte   // of that Ping
	end    endReason
	ends   bool
	rest   []message // that are still to be inflated, by another job

	traffic traffic // what has come; it is of no interest once it is inflated, for then it has been counted
}

func (got *reading) isEmpty() bool { return got.inbox.isEmpty() && len(got.pongs) == 0 && !got.ends }

func (got *reading) finish(why endReason) {
	if !got.ends {
		got.end, got.ends = why, true
	}
}

// jobKind tells which handler a job is for.
type jobKind uint8

const (
	jobMessages jobKind = iota
	jobInflate          // no handler: messages are inflated
	jobSecure           // a step of the TLS handshake
	jobAuth             // HandleAuth, or HandleStatus
	jobAdd
	jobRemove
	jobClose // OnClose
)

// job is what one goroutine does for a connection between two looks at its lanes.
type job struct {
	messages []message
	whole    *backlog // the backlog, if these were all its messages; the job owns it
	inflated *reading // what a jobInflate has made of them
	lane     lane
	kind     jobKind
	pongs    bool // Pongs wait behind the messages
	row      bool // more than one message waited: their answers may be written together
	relief   bool // the lanes were full, and are not any more: the connection can be read again
	light    bool // nothing else runs, waits or is collected, and the connection has its socket: nobody waits for this job to end
}

// addState is where HandleClientAdd stands.
type addState uint8

const (
	addNone    addState = iota // there is none, or it has returned
	addDue                     // it is to be called
	addCalled                  // a goroutine is about to call it: messages wait
	addAwaited                 // it runs, and messages wait for it, until AddTimeout
	addWriter                  // it runs on as a writer, and nothing waits for it
)

// lanes decide which handler of a connection is called next: HandleAuth, then HandleClientAdd, then messages, of each lane in their
// order, HandleClientRemove when no message is left, and OnClose when nothing else is and the Close frame is on its way. They are guarded
// by the connection's mu.
type lanes struct {
	backlog *backlog          // nil if no message waits
	running [laneCount]uint16 // jobs that run

	// offload is how many more jobs workers have to run fast before the loop runs them itself again. A slow message sets it.
	offload uint16

	add       addState
	removeDue bool // HandleClientRemove is to be called
	closeDue  bool // OnClose is to be called
}

// next returns the job to run next, and counts it as running until done. atOnce is how many may run at the same time.
func (q *lanes) next(at life, atOnce *[laneCount]int) (j job, ok bool) {
	switch {
	case at.isAsking() && q.running[laneLife] == 0:
		j = job{kind: jobAuth, lane: laneLife}
	case at.isShaking() || q.add == addCalled || q.add == addAwaited:
		return job{}, false
	case q.add == addDue:
		q.add = addCalled
		j = job{kind: jobAdd, lane: laneLife}
	case q.takeMessages(laneOrdered, atOnce, &j), q.takeMessages(laneRequests, atOnce, &j), q.takeMessages(lanePacked, atOnce, &j):
	case q.removeDue && at.hasEnded() && !q.hasMessages(): // HandleClientAdd may go on as a writer
		q.removeDue = false
		j = job{kind: jobRemove, lane: laneLife}
	case q.closeDue && at.isSealed() && q.runs() == 0 && !q.isBusy():
		q.closeDue = false
		j = job{kind: jobClose, lane: laneLife}
	default:
		return job{}, false
	}
	q.running[j.lane]++
	return j, true
}

// secure returns the job of a step of the TLS handshake, which comes before all others, unless one runs.
func (q *lanes) secure() (j job, ok bool) {
	if q.running[laneLife] > 0 {
		return job{}, false
	}
	q.running[laneLife]++
	return job{kind: jobSecure, lane: laneLife}, true
}

// takeMessages takes messages of a lane if one more handler may run: all that wait if they run one at a time, otherwise one.
func (q *lanes) takeMessages(l lane, atOnce *[laneCount]int, j *job) bool {
	b := q.backlog
	if b == nil || len(b.waiting[l]) == 0 || int(q.running[l]) >= atOnce[l] || l == lanePacked && b.bytes-b.packed >= maxBacklog {
		return false
	}
	wasFull := q.isFull()
	j.lane, j.messages = l, b.waiting[l]
	if j.row = len(j.messages) > 1; l == lanePacked {
		j.kind, j.row = jobInflate, false
	}
	if atOnce[l] > 1 && j.row {
		j.messages, b.waiting[l] = b.waiting[l][:1:1], b.waiting[l][1:]
	} else {
		b.waiting[l] = nil
	}
	b.count(l, -cost(j.messages))
	j.pongs = l == laneOrdered && atOnce[l] == 1 && len(b.pongs) > 0
	if b.isEmpty() {
		j.whole, q.backlog = b, nil
	}
	j.relief = wasFull && !q.isFull()
	return true
}

// done ends a job.
func (q *lanes) done(j *job) {
	q.running[j.lane]--
	if j.kind == jobAdd {
		q.add = addNone
	}
	if j.pongs && q.backlog != nil {
		q.backlog.clearPongs()
	}
	if b := q.backlog; b != nil && b.isEmpty() {
		if j.kind == jobMessages && j.whole == nil && b.waiting[j.lane] == nil {
			b.waiting[j.lane] = j.messages[:0]
		}
		q.drop()
	}
}

// release gives back the memory of a job that was done, with its messages cleared.
func (j *job) release() {
	if b := j.whole; b != nil {
		b.waiting[j.lane] = j.messages[:0]
		j.whole = nil
		putBacklog(b)
	}
}

// enqueue adds what one read brought. It returns an empty backlog for the next read, which is b itself if that was not kept, and
// the Pongs to be sent now: if messages wait already, their handlers may take long.
func (q *lanes) enqueue(b *backlog) (empty *backlog, pongs []byte) {
	if b.isEmpty() {
		return b, nil
	}
	if q.backlog == nil {
		q.backlog = b
		return newBacklog(), nil
	}
	for l := range b.waiting {
		for _, m := range b.waiting[l] {
			q.backlog.add(lane(l), m)
		}
	}
	pongs = b.takePongs(math.MaxInt)
	b.clear()
	return b, pongs
}

// putBack puts messages in front of those that wait to be inflated.
func (q *lanes) putBack(rest []message) {
	if len(rest) == 0 {
		return
	}
	if q.backlog == nil {
		q.backlog = newBacklog()
	}
	b := q.backlog
	b.waiting[lanePacked] = append(rest, b.waiting[lanePacked]...)
	b.count(lanePacked, cost(rest))
}

// dropPacked forgets the messages that wait to be inflated: one in front of them could not be.
func (q *lanes) dropPacked() {
	if b := q.backlog; b != nil {
		b.count(lanePacked, -b.packed)
		clear(b.waiting[lanePacked])
		b.waiting[lanePacked] = b.waiting[lanePacked][:0]
	}
}

// drop forgets the messages that wait.
func (q *lanes) drop() {
	if b := q.backlog; b != nil {
		q.backlog = nil
		putBacklog(b)
	}
}

// takePongs returns the answers to the Pings that came before the n-th message that is being handled, counted from 0.
func (q *lanes) takePongs(n int) []byte {
	if q.backlog == nil {
		return nil
	}
	return q.backlog.takePongs(n)
}

// open says which handlers of an open connection are to be called besides those of its messages.
func (q *lanes) open(adds, removes, closes bool) {
	if adds {
		q.add = addDue
	}
	q.removeDue, q.closeDue = removes, closes
}

// discard forgets the messages that wait, and HandleClientAdd and HandleClientRemove if the first has not been called yet.
func (q *lanes) discard() {
	q.drop()
	if q.add == addDue {
		q.add, q.removeDue = addNone, false
	}
}

// addStarts is told that HandleClientAdd is called now.
func (q *lanes) addStarts() { q.add = addAwaited }

// goOn ends the wait for a HandleClientAdd that runs: it is a writer from now on. It returns false if nothing waited for one.
func (q *lanes) goOn() bool {
	if q.add != addCalled && q.add != addAwaited {
		return false
	}
	q.add = addWriter
	return true
}

// awaitsAdd reports whether HandleClientAdd is to be called, or waited for.
func (q *lanes) awaitsAdd() bool { return q.add != addNone && q.add != addWriter }

// isFull reports whether so much waits that the connection is no longer read.
func (q *lanes) isFull() bool { return q.backlog != nil && q.backlog.bytes >= maxBacklog }

// hasMessages reports whether messages, or Pongs behind them, wait or are being handled.
func (q *lanes) hasMessages() bool {
	return q.running[laneOrdered]+q.running[laneRequests]+q.running[lanePacked] > 0 || q.backlog != nil && !q.backlog.isEmpty()
}

// runs returns how many jobs run.
func (q *lanes) runs() (n int) {
	for _, running := range q.running {
		n += int(running)
	}
	return n
}

// isBusy reports whether a handler runs or is still to be called, OnClose aside: the end of a connection does not wait for that.
func (q *lanes) isBusy() bool {
	return q.running[laneLife] > 0 || q.hasMessages() || q.add == addDue || q.removeDue
}

// isUsed reports whether a handler runs or is still to be called, OnClose included: it may ask for the connection.
func (q *lanes) isUsed() bool { return q.isBusy() || q.closeDue }

// hasWriterOnly reports whether a HandleClientAdd that is a writer is all that is left.
func (q *lanes) hasWriterOnly() bool {
	return q.add == addWriter && q.running[laneLife] == 1 && !q.removeDue && !q.hasMessages()
}
