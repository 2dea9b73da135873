package websocket

const (
	// corkSize is how many corked bytes are written without waiting for the rest of the batch.
	corkSize = 32 << 10

	// joinSize is the size in bytes from which a payload is written from where it is, behind its header. Shorter ones are copied.
	joinSize = 4 << 10

	// largeSize is the size in bytes from which a packet is copied before the connection's lock is taken, since copying it under
	// the lock would hold up those who wait for that, the loop among them. Nor is more than this written in one go.
	largeSize = 4 << 20
)

// outgoing is what one Send sends: whole frames, in two parts that may be empty. It is owned by the goroutine that sends, and so are
// the bytes: whoever keeps some of them copies them.
type outgoing struct {
	head, body []byte
	packed     *packedText // what it adds to the peer's window; nil: nothing
	text       int         // bytes that the message had before it was compressed; 0: it is not
	closes     bool        // there is a Close frame at the end
	uncounted  bool        // these are no frames, or whoever sends them counts them
	lone       uint8       // 1 above how body is counted, if it is known to be one frame; else 0
	front      uint8       // bytes of that frame's header
}

// packedText is what the peer's window has of a compressed message: its text, nil if the program has compressed it.
type packedText struct{ text []byte }

func (out *outgoing) len() int { return len(out.head) + len(out.body) }

// took drops n bytes from the front.
func (out *outgoing) took(n int) {
	part := min(n, len(out.head))
	out.head, out.body = out.head[part:], out.body[n-part:]
}

// outbox is what a connection has to send and its socket has not yet taken, in the order of the wire: whole packets, then the Pong for
// the latest Ping. A connection has one only while it is corked or its socket is full; nil is an empty one. It is guarded by the
// connection's mu. It does no I/O: whoever writes gets the front from it, and tells it what the socket took.
type outbox struct {
	buf  []byte
	sent int // bytes at the front of buf that the socket has taken

	stalled bool  // bytes are left, and the socket is full as far as is known: the loop writes on when it is writable
	more    bool  // if stalled: the socket took all it was given, and others were to get the lock; the loop writes on without waiting
	since   int64 // when the socket last took something, or had it acknowledged, if stalled
	held    int   // bytes that were not acknowledged when the system was last asked, if stalled; 0 if it was not

	pong    []byte // payload of the Pong that follows buf, if hasPong: the latest Ping's
	hasPong bool
	room    chan struct{} // closed when the socket has taken something, for those who wait for room

	traffic traffic // what was added, and is not in the counters yet
	counted int     // bytes that the counters have as waiting
}

// len returns how many bytes of packets are left.
func (o *outbox) len() int {
	if o == nil {
		return 0
	}
	return len(o.buf) - o.sent
}

// waits returns how many bytes wait for a socket that is full.
func (o *outbox) waits() int {
	if o.isStalled() {
		return o.len()
	}
	return 0
}

// isStalled reports whether what is left has to wait for the loop, since the socket is full as far as is known.
func (o *outbox) isStalled() bool { return o != nil && o.stalled }

// hasRoom reports whether a packet may be added, up to a limit in bytes. An empty outbox takes one of any size; a large packet goes
// into an empty one only, which keeps it without copying it.
func (o *outbox) hasRoom(size, limit int) bool {
	return o.len() == 0 || size < largeSize && o.len()+size <= limit
}

// add copies a packet behind what is there.
func (o *outbox) add(out *outgoing) {
	if o.sent > 0 && len(o.buf)+out.len() > cap(o.buf) {
		o.buf = o.buf[:copy(o.buf, o.buf[o.sent:])]
		o.sent = 0
	}
	o.buf = append(append(o.buf, out.head...), out.body...)
}

// addLarge puts a packet into an empty outbox without copying it.
func (o *outbox) addLarge(packet []byte) { o.buf, o.sent = packet, 0 }

// answer puts a Pong behind the packets. It replaces one that has not left (RFC 6455, section 5.5.3).
func (o *outbox) answer(payload []byte) {
	o.pong, o.hasPong = append(o.pong[:0], payload...), true
}

// front returns what is to be written next: at most largeSize bytes, none if all has been taken.
func (o *outbox) front() []byte {
	if o.len() == 0 {
		o.buf, o.sent = o.buf[:0], 0
		if o.hasPong {
			o.buf = appendFrame(o.buf, OpcodePong, false, o.pong)
			o.traffic.addFrames(o.buf)
			o.hasPong = false
		}
	}
	part := o.buf[o.sent:]
	return part[:min(len(part), largeSize)]
}

// took is told how much of the front the socket has taken, at a moment. If that is not all, the socket is full. It returns whether
// there is something left that cannot, or should not, be written now.
func (o *outbox) took(n, of int, at int64) (left bool) {
	o.sent += n
	if n > 0 && o.stalled {
		o.moved(at)
		o.releaseWaiters()
	}
	o.more = n == of && of > 0
	return o.len() > 0
}

// moved is told that a full socket has taken something, at a moment.
func (o *outbox) moved(at int64) { o.since, o.held = at, 0 }

// stall is told that the socket is full, at a moment. It returns whether that is news.
func (o *outbox) stall(at int64) bool {
	if o.stalled {
		return false
	}
	o.stalled, o.since = true, at
	return true
}

// moves is told how many bytes the system still holds for the peer of a full socket. If some of them have been acknowledged since
// the last call, the peer takes data, however slowly: the socket may have no room for more until the peer has taken a lot.
func (o *outbox) moves(held int, at int64) {
	if held < o.held {
		o.since = at
	}
	o.held = held
}

// awaitRoom returns a channel that is closed when the socket has taken something, or when nothing can be sent any more.
func (o *outbox) awaitRoom() <-chan struct{} {
	if o.room == nil {
		o.room = make(chan struct{})
	}
	return o.room
}

// releaseWaiters wakes those who wait for room, once.
func (o *outbox) releaseWaiters() {
	if o != nil && o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// reset empties the outbox. It keeps the buffer, unless that is large.
func (o *outbox) reset() {
	o.releaseWaiters()
	buf := o.buf[:0]
	if cap(buf) > 2*corkSize {
		buf = nil
	}
	*o = outbox{buf: buf, pong: o.pong[:0]}
}

// outState is what a connection's outbox still takes.
type outState uint8

const (
	outOpen    outState = iota
	outClosed           // nothing: a Close frame is written or queued
	outLost             // nothing, and writing is pointless: the peer is gone
	outStalled          // likewise: the peer took nothing for the write time-out
)

// isLost reports whether writing is pointless.
func (s outState) isLost() bool { return s >= outLost }
