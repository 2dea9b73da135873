package websocket

import (
	"sync"
	"time"
)

const (
	// corkSize is how many corked bytes are written without waiting for the rest of the batch.
	corkSize = 32 << 10

	// joinSize is the size from which on a payload is written from where it is, behind its header, in bytes. Shorter ones are
	// copied.
	joinSize = 4 << 10

	// largeSize is the size from which on a packet is copied before the connection's lock is taken, since copying it would
	// hold up those who wait for the lock, the loop among them. No more than this is written at once either.
	largeSize = 4 << 20
)

// sendQueue is what a connection has to send and has not yet written. It is guarded by the connection's mu. A connection has
// one only while it is corked or its socket takes nothing.
type sendQueue struct {
	buf  []byte
	sent int // bytes at the front of buf that the socket has taken

	stalled bool  // the socket is full: it will be writable
	more    bool  // or it was not, but others wait for the lock: the loop writes on
	since   int64 // when the socket last took something, or had it acknowledged, if stalled
	held    int   // bytes that were not acknowledged when the system was last asked, if stalled; 0 if it was not

	pong    []byte // payload of the Pong that follows buf, if hasPong: the latest Ping's
	hasPong bool
	room    chan struct{} // closed when the socket has taken something, for those who wait for room
}

func (q *sendQueue) len() int { return len(q.buf) - q.sent }

// Send sends a packet, one or more whole frames (see NewFrame), to a connection. It may be called from any goroutine,
// handlers included; packets of concurrent calls are never mixed. It keeps no reference to the packet.
//
// For a connection of a Server it writes what the socket takes, queues the rest and returns. At the limit of the queue
// (ServerOptions.SendQueueSize, 1 MiB by default; an empty queue takes a packet of any size) it waits for room, for
// ServerOptions.WriteTimeout (10 seconds by default) at most. A packet of 4 MiB or more, or of more than the limit, waits for
// an empty queue, which others that send all the time may keep from it. After the time-out, a peer that has taken nothing for
// half of that time is disconnected and the error is ErrWriteTimeout; one that is only slow is kept and the error is
// ErrSendQueueFull. On a connection that was removed, that has been sent a Close frame or whose peer is gone it is
// ErrConnClosed, as errors.Is tells. A Close frame in the packet starts the closing handshake (RFC 6455, section 7.1.2);
// frames behind it are not sent.
//
// The number of a closed connection is not used again for as long as a budget allows. See SendID for programs that keep
// connections for longer.
//
// On any other connected stream socket, blocking or not, Send writes all of the packet. It gives up with ErrWriteTimeout
// where the socket takes nothing for 10 seconds.
func Send(fd int, packet []byte) (err error) {
	if c := descriptors.get(fd); c != nil {
		return c.send(packet, true)
	}
	return foreign.send(fd, packet)
}

// SendText sends a text message of one frame, without the packet that Send wants and its copy of the payload. Else it does
// what Send does with a packet of NewFrameText.
func SendText(conn int, payload []byte) (err error) { return sendMessage(conn, OpcodeText, payload) }

// SendBin sends a binary message of one frame, as SendText does with text.
func SendBin(conn int, payload []byte) (err error) { return sendMessage(conn, OpcodeBin, payload) }

func sendMessage(fd int, opcode Opcode, payload []byte) error {
	if c := descriptors.get(fd); c != nil {
		return c.sendMessage(opcode, payload)
	}
	return foreign.send(fd, NewFrame(opcode, false, payload))
}

// TrySend is a Send that never waits: where the packet does not fit into the send queue, it returns ErrSendQueueFull and sends
// nothing of it. On a socket that is not a connection of a Server it returns ErrConnClosed.
func TrySend(fd int, packet []byte) (err error) {
	if c := descriptors.get(fd); c != nil {
		return c.send(packet, false)
	}
	return ErrConnClosed
}

// ID returns the id of a connection of a Server: a number above 0 that this process never uses for another one. It is 0 where
// conn is no such connection, or was one; HandleClientRemove may still ask. It may be called from any goroutine.
func ID(conn int) uint64 {
	if c := descriptors.get(conn); c != nil && c.isUp() {
		return c.id
	}
	return 0
}

// SendID is Send for the connection with that id. Once that connection has gone it returns ErrConnClosed, for ever.
func SendID(id uint64, packet []byte) (err error) {
	if c := descriptors.byID(id); c != nil {
		return c.send(packet, true)
	}
	return ErrConnClosed
}

// TrySendID is TrySend for the connection with that id.
func TrySendID(id uint64, packet []byte) (err error) {
	if c := descriptors.byID(id); c != nil {
		return c.send(packet, false)
	}
	return ErrConnClosed
}

// closeFrameIn looks for a Close frame in a packet of whole frames. It returns the packet's length up to the end of it.
func closeFrameIn(packet []byte) (end int, found bool) {
	for end < len(packet) {
		h, n := parseHeader(packet[end:])
		if n == 0 || h.length > uint64(len(packet)-end-n) {
			return len(packet), false
		}
		end += n + int(h.length)
		if h.opcode() == OpcodeClose {
			return end, true
		}
	}
	return end, false
}

// outgoing is what one Send sends: whole frames, in two parts that may be empty.
type outgoing struct {
	head, body []byte
	closes     bool // there is a Close frame at the end
}

func (out *outgoing) len() int { return len(out.head) + len(out.body) }

// send sends a packet of whole frames.
func (c *conn) send(packet []byte, wait bool) error {
	end, closes := closeFrameIn(packet)
	return c.transmit(outgoing{body: packet[:end], closes: closes}, wait)
}

// sendMessage sends a message of one frame.
func (c *conn) sendMessage(opcode Opcode, payload []byte) error {
	var head [maxHeader]byte
	return c.transmit(outgoing{head: appendHeader(head[:0], finished(opcode, len(payload))), body: payload}, true)
}

// transmit writes or queues what is to be sent. Where there is no room in the queue it waits for it, or fails.
func (c *conn) transmit(out outgoing, wait bool) (err error) {
	var large []byte
	if out.len() >= largeSize {
		if err = c.refusal(out.len(), wait); err != nil {
			return err
		}
		// A Close frame or a Pong may follow: they have room too, so that nobody copies it again.
		large = append(append(make([]byte, 0, out.len()+2*(maxHeader+maxControl)), out.head...), out.body...)
	}
	c.mu.Lock()
	if err = c.sendableLocked(); err == nil && !c.hasRoomLocked(out.len()) {
		err = c.makeRoomLocked(out.len(), wait)
	}
	if err == nil {
		if out.closes {
			c.closeSent, c.since = true, now()
			c.attendLocked()
		}
		if large != nil {
			err = c.writeLargeLocked(large)
		} else {
			err = c.writeLocked(&out)
		}
	}
	c.mu.Unlock()
	return err
}

// refusal returns why a packet would not be taken now, so that a large one is not copied in vain.
func (c *conn) refusal(size int, wait bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.sendableLocked(); err != nil || wait || c.corked || c.hasRoomLocked(size) {
		return err
	}
	return ErrSendQueueFull
}

// makeRoomLocked waits until there is room in the queue, or returns why there is none.
func (c *conn) makeRoomLocked(size int, wait bool) error {
	var expired <-chan time.Time
	for {
		switch err := c.sendableLocked(); {
		case err != nil:
			return err
		case c.hasRoomLocked(size):
			return nil
		case c.corked:
			c.uncorkLocked()
			continue
		case !wait:
			return ErrSendQueueFull
		}
		if expired == nil {
			timer := time.NewTimer(c.loop.opts.WriteTimeout)
			defer timer.Stop()
			expired = timer.C
		}
		if !c.awaitRoomLocked(expired) {
			return c.tooSlowLocked()
		}
	}
}

// sendableLocked returns why the connection takes no more data, nil where it does.
func (c *conn) sendableLocked() error {
	switch {
	case !c.sends(), c.closeSent, c.peerGone:
		if c.stalledOut {
			return ErrWriteTimeout
		}
		return ErrConnClosed
	}
	return nil
}

// tooSlowLocked is the error of a Send that has waited for the write time-out. A peer that has taken nothing for half of it is
// disconnected.
func (c *conn) tooSlowLocked() error {
	if c.out != nil && c.out.stalled {
		c.flushLocked() // the poller does not tell of little room
	}
	if err := c.sendableLocked(); err != nil {
		return err
	}
	if q := c.out; q == nil || !q.stalled || now()-q.since < int64(c.loop.opts.WriteTimeout)/2 {
		return ErrSendQueueFull
	}
	c.stalledOutLocked()
	return ErrWriteTimeout
}

// hasRoomLocked reports whether the queue takes that many bytes. Large packets go into an empty one, where they are not copied.
func (c *conn) hasRoomLocked(size int) bool {
	return c.out == nil || c.out.len() == 0 || size < largeSize && c.out.len()+size <= c.loop.opts.SendQueueSize
}

// awaitRoomLocked lets go of mu until the socket has taken something or the connection has ended. It returns false where
// that took too long.
func (c *conn) awaitRoomLocked(expired <-chan time.Time) bool {
	if c.out.room == nil {
		c.out.room = make(chan struct{})
	}
	room := c.out.room
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-room:
		return true
	case <-expired:
		return false
	}
}

// writeLocked writes behind what is queued: at once where nothing is, or into the queue where the connection is corked or its
// socket full.
func (c *conn) writeLocked(out *outgoing) error {
	stalled := c.out != nil && c.out.stalled
	if stalled || c.corked && out.len() < corkSize/2 || len(out.head) > 0 && len(out.body) < joinSize {
		c.queueLocked(out)
		if !stalled && (!c.corked || c.out.len() >= corkSize) {
			return c.flushLocked()
		}
		return nil
	}
	if err := c.flushLocked(); err != nil { // what is corked comes first
		return err
	}
	if c.out == nil {
		if err := c.writeOutLocked(out); err != nil || out.len() == 0 {
			return err
		}
	}
	c.queueLocked(out)
	c.stallLocked()
	return nil
}

// writeOutLocked writes as much as the socket takes and leaves the rest in out.
func (c *conn) writeOutLocked(out *outgoing) error {
	if len(out.head) > 0 {
		n, err := writeSocketParts(c.fd(), out.head, out.body)
		if err != nil && err != errWouldBlock {
			c.peerGoneLocked()
			return closedBy(err)
		}
		c.sent = int32(inTransit(int(c.sent), n))
		taken := min(n, len(out.head))
		out.head, out.body = out.head[taken:], out.body[n-taken:]
		if err != nil || len(out.head) > 0 {
			return nil
		}
	}
	n, err := c.writeSocketLocked(out.body)
	out.body = out.body[n:]
	return err
}

// writeLargeLocked writes a copy of a packet, which an empty queue keeps.
func (c *conn) writeLargeLocked(packet []byte) error {
	if c.out == nil {
		c.out = queues.Get().(*sendQueue)
	}
	c.out.buf = packet
	return c.flushLocked()
}

func (c *conn) queueLocked(out *outgoing) {
	if c.out == nil {
		c.out = queues.Get().(*sendQueue)
	}
	q := c.out
	if q.sent > 0 && len(q.buf)+out.len() > cap(q.buf) {
		q.buf = q.buf[:copy(q.buf, q.buf[q.sent:])]
		q.sent = 0
	}
	q.buf = append(append(q.buf, out.head...), out.body...)
}

// stallLocked notes that the socket is full and has the loop watch for room, and for its lack.
func (c *conn) stallLocked() {
	if !c.out.stalled {
		c.out.stalled, c.out.since = true, now()
		c.attendLocked()
	}
	c.loop.poll.wantWrite(c.fd(), c.gen())
}

// writeSocketLocked writes as much as the socket takes. A failed connection is on its way to be removed when it returns.
func (c *conn) writeSocketLocked(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := writeSocket(c.fd(), b[n:], c.endsStream())
		if err == errWouldBlock {
			break
		}
		if err != nil {
			c.peerGoneLocked()
			return n, closedBy(err)
		}
		n += m
	}
	c.sent = int32(inTransit(int(c.sent), n))
	return n, nil
}

// flushLocked writes the queue, and the latest Pong behind it.
func (c *conn) flushLocked() error {
	q := c.out
	if q == nil {
		return nil
	}
	for {
		part := q.buf[q.sent:]
		part = part[:min(len(part), largeSize)]
		n, err := c.writeSocketLocked(part)
		if err != nil {
			return err
		}
		q.sent += n
		if n > 0 && q.stalled {
			q.since, q.held = now(), 0
			q.releaseWaiters()
		}
		if q.len() > 0 {
			c.stallLocked()
			if q.more = n == len(part); q.more {
				c.attendLocked()
			}
			return nil
		}
		q.buf, q.sent = q.buf[:0], 0
		if !q.hasPong {
			break
		}
		q.buf = appendFrame(q.buf, OpcodePong, false, q.pong)
		q.hasPong = false
	}
	c.out = nil
	q.recycle()
	if !c.isOpen() {
		c.attendLocked() // the loop waits for the queue to be empty
	}
	return nil
}

// moves is told how many bytes the system still holds for a peer whose socket is full. If some of them were acknowledged since the
// last time, the peer takes data, however slowly: there may be no room for more until it has taken a lot.
func (q *sendQueue) moves(held int, at int64) {
	if held < q.held {
		q.since = at
	}
	q.held = held
}

// releaseWaiters wakes those who wait for room.
func (q *sendQueue) releaseWaiters() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// recycle gives an empty queue back to the pool, without a buffer that is large.
func (q *sendQueue) recycle() {
	q.releaseWaiters()
	buf := q.buf[:0]
	if cap(buf) > 2*corkSize {
		buf = nil
	}
	*q = sendQueue{buf: buf, pong: q.pong[:0]}
	queues.Put(q)
}

// dropQueueLocked forgets what was to be sent.
func (c *conn) dropQueueLocked() {
	if q := c.out; q != nil {
		c.out = nil
		q.recycle()
	}
}

// uncorkLocked ends the time in which packets are collected, and writes them.
func (c *conn) uncorkLocked() {
	c.corked = false
	if c.out != nil && !c.out.stalled {
		c.flushLocked()
	}
}

// pongLocked answers Pings: frames holds a Pong for each. A peer that does not read gets the latest only (RFC 6455, section 5.5.3).
func (c *conn) pongLocked(frames []byte) {
	if c.sendableLocked() != nil {
		return
	}
	if c.out == nil || !c.out.stalled {
		c.writeLocked(&outgoing{body: frames})
		return
	}
	for len(frames) > 0 {
		h, n := parseHeader(frames)
		end := n + int(h.length)
		c.out.pong, c.out.hasPong = append(c.out.pong[:0], frames[n:end]...), true
		frames = frames[end:]
	}
}

// pongBehind answers the Pings that came before the n-th message that is being handled, counted from 0.
func (c *conn) pongBehind(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.backlog != nil {
		c.pongBehindLocked(c.backlog, n)
	}
}

func (c *conn) pongBehindLocked(b *backlog, n int) {
	var frames []byte
	for len(b.pongs) > 0 && b.pongs[0].behind <= n {
		if next := b.pongs[0].frames; frames == nil {
			frames = next
		} else {
			frames = append(frames, next...)
		}
		b.pongs = b.pongs[1:]
	}
	if frames != nil {
		c.pongLocked(frames)
	}
}

// foreignSockets are the sockets of Send that no Server owns.
type foreignSockets struct {
	mu    sync.Mutex
	locks map[int]*foreignLock
}

// foreignLock keeps concurrent packets to one socket apart.
type foreignLock struct {
	mu   sync.Mutex
	uses int // guarded by foreignSockets.mu
}

var foreign = foreignSockets{locks: make(map[int]*foreignLock)}

// send writes all of a packet, waiting up to defaultWriteTimeout for a socket that takes nothing.
func (s *foreignSockets) send(fd int, packet []byte) error {
	s.mu.Lock()
	lock := s.locks[fd]
	if lock == nil {
		lock = new(foreignLock)
		s.locks[fd] = lock
	}
	lock.uses++
	s.mu.Unlock()
	lock.mu.Lock()
	defer func() {
		lock.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		if lock.uses--; lock.uses == 0 {
			delete(s.locks, fd)
		}
	}()
	for len(packet) > 0 {
		n, err := writeSocket(fd, packet, false)
		packet = packet[n:]
		switch err {
		case nil:
		case errWouldBlock:
			if err = waitSocket(fd, true, defaultWriteTimeout); err == errWaitedTooLong {
				return ErrWriteTimeout
			} else if err != nil {
				return closedBy(err)
			}
		default:
			return closedBy(err)
		}
	}
	return nil
}
