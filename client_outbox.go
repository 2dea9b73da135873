package websocket

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	// keysAtOnce is how many masking keys are made at once.
	keysAtOnce = 16

	// pingSize is the length in bytes of a client's Ping. Its payload says how many bytes were sent in front of it.
	pingSize = 2 + keySize + 8

	// maxPongs is how many bytes of Pongs wait for a client's socket.
	maxPongs = 64 << 10
)

// clientOutbox is what a clientConn sends. A message is sent under messageGate, each of its frames under writeGate. Control frames wait
// in a queue for whoever writes next, and are sent in front of its frame. So they wait for one frame at most, and what answers a Ping is
// sent in front of what answers a later message. It is used from any goroutine.
type clientOutbox struct {
	// Immutable once init has been called.
	messageGate gate          // held while a message is sent, so that its fragments are not mixed with those of another
	writeGate   gate          // held while something is written
	room        chan struct{} // has an element if the queue has been emptied
	closeDone   chan struct{} // closed when the Close frame has been written, or never will be

	// Owned by who holds writeGate.
	keys []byte // random bytes for masking keys; reading them one by one would take longer than masking a short message

	pending atomic.Bool  // something is in the queue; set with mu held
	paused  atomic.Int64 // since when a writer that holds messageGate has sent nothing; never if it sends, or none holds it

	// The queue, in the order in which it is sent. Guarded by mu, which is held for a moment.
	mu         sync.Mutex
	pongs      []byte // frames that answer Pings, in order
	latestOnly bool   // the server takes no data: pongs has one frame, for its latest Ping
	controls   []byte // Pings and Pongs of the program, in order
	pingDue    bool   // the client's own Ping is due
	closeFrame []byte // the Close frame, once it is due
	sealed     bool   // the program may send no more
	closeTaken bool   // the Close frame has been written, or is being written, or never will be
}

// init makes the zero value ready.
func (o *clientOutbox) init() {
	o.messageGate, o.writeGate = make(gate, 1), make(gate, 1)
	o.paused.Store(never)
	o.room, o.closeDone = make(chan struct{}, 1), make(chan struct{})
}

// gate is a lock that can be waited for together with something else. The channel has an element while the lock is held.
type gate chan struct{}

// enter takes the lock, or returns false if end is closed. If both are possible, either may happen.
func (g gate) enter(end <-chan struct{}) bool {
	if g.tryEnter() {
		return true
	}
	select {
	case g <- struct{}{}:
		return true
	case <-end:
		return false
	}
}

// tryEnter takes the lock if that is free, and reports whether it was.
func (g gate) tryEnter() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g gate) leave() { <-g }

// notify puts an element into a channel with room for one, if it is empty.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// add queues a control frame of the program. It returns ErrConnClosed if the program may send no more.
func (o *clientOutbox) add(opcode Opcode, payload []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.closeTaken {
		return ErrConnClosed
	}
	o.controls = appendFrame(o.controls, opcode, true, payload)
	o.pending.Store(true)
	return nil
}

// addPing queues the client's own Ping.
func (o *clientOutbox) addPing() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closeTaken {
		return
	}
	o.pingDue = true
	o.pending.Store(true)
}

// addPong queues the answer to a Ping. If too many answers wait it returns false; with instead, this one takes the place of all of them.
func (o *clientOutbox) addPong(payload []byte, instead bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closeTaken:
		return true
	case o.latestOnly || instead:
		o.pongs, o.latestOnly = o.pongs[:0], true
	case len(o.pongs) >= maxPongs:
		return false
	}
	o.pongs = appendFrame(o.pongs, OpcodePong, true, payload)
	o.pending.Store(true)
	return true
}

// addClose queues the Close frame, the last of all. It returns false if that has been done before, or nothing can be sent any more.
func (o *clientOutbox) addClose(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closeTaken || o.closeFrame != nil {
		return false
	}
	o.closeFrame, o.sealed = frame, true
	o.pending.Store(true)
	return true
}

// seal makes the program's sends fail from now on. A message that is being sent is finished.
func (o *clientOutbox) seal() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed = true
}

// end drops what waits and lets nothing more be queued: the server takes no more.
func (o *clientOutbox) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed, o.closeTaken = true, true
	o.pongs, o.controls, o.pingDue = nil, nil, false
	o.pending.Store(false)
	notify(o.room)
}

func (o *clientOutbox) isSealed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sealed
}

// take moves the queue into a buffer that has room for spare more bytes. sent, the bytes written so far, is the payload of a Ping in it.
// pings reports whether there is one, at the end but for a Close frame. closes reports that a Close frame is the last of it, or was
// taken before: nothing may follow. It is called with writeGate held; the caller gives the buffer to PutBuffer.
func (o *clientOutbox) take(spare int, sent uint64) (buf []byte, pings, closes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closeTaken {
		return nil, false, true
	}
	if pings = o.pingDue; pings {
		spare += pingSize
	}
	buf = newBuffer(max(len(o.pongs)+len(o.controls)+len(o.closeFrame)+spare, minSpare))
	buf = append(append(buf, o.pongs...), o.controls...)
	if pings {
		buf = appendFrame(buf, OpcodePing, true, binary.BigEndian.AppendUint64(nil, sent))
	}
	if closes = o.closeFrame != nil; closes {
		buf, o.closeTaken = append(buf, o.closeFrame...), true
	}
	if o.pending.Load() {
		o.pongs, o.controls, o.pingDue, o.latestOnly = emptied(o.pongs), nil, false, false
		o.pending.Store(false)
		notify(o.room)
	}
	return buf, pings, closes
}

// nextKey returns a masking key that nobody can predict. It is called with writeGate held.
func (o *clientOutbox) nextKey() uint32 {
	if len(o.keys) == 0 {
		if o.keys == nil {
			o.keys = make([]byte, keysAtOnce*keySize)
		}
		o.keys = o.keys[:cap(o.keys)]
		rand.Read(o.keys) // never fails
	}
	last := len(o.keys) - keySize
	key := binary.LittleEndian.Uint32(o.keys[last:])
	o.keys = o.keys[:last]
	return key
}

// emptied returns a buffer without its content if it is small enough to be kept, else nil.
func emptied(b []byte) []byte {
	if cap(b) > 1<<10 {
		return nil
	}
	return b[:0]
}
