package websocket

import (
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// wireSize is the size in bytes of a loop's buffers for records and for what is in them: what was left of the last read is put in front of
// a new one.
const wireSize = readSize + 2*(recordHeader+maxRecordBody)

// Of a packet, at most sealSize bytes are encrypted at once, and written at once. A connection whose peer takes nothing is not read any more
// once maxUnsent bytes of records wait for it: its peer asks for answers that TLS gives by itself.
const (
	sealSize  = 63 << 10
	maxUnsent = 2 * sealSize
)

// tlsStream is the stream of a connection through crypto/tls (RFC 8446, RFC 5246), for which it is the net.Conn to the peer: a tlsSocket,
// until net/http gets the connection.
type tlsStream struct {
	// Immutable.
	tls *tls.Conn
	of  *conn

	// Set once, when the connection leaves the loop: nil while that has it.
	web atomic.Pointer[webConn]

	// Owned by the loop, or by whoever takes the handshake on.
	in      []byte // whole records that crypto/tls has not read
	tail    []byte // what has arrived of the record behind them
	left    uint16 // how much of the record at the front of in is left, if crypto/tls has read some of it
	useless uint8  // records without data, one behind the other
	wasted  bool   // there were some in the last read
	broken  bool   // crypto/tls got what is no record: nothing comes behind that
	ended   bool   // the peer's close_notify has come behind data

	// Guarded by the connection's mu.
	ahead  uint16 // bytes at the front of what is written next are in unsent already
	unsent []byte // records that the socket has not taken

	// Set to nil with mu held, by the loop, when the handshake is done. Until then the handshake's own goroutine reads it without mu.
	handshake *tlsHandshake
}

// newTLSStream makes the stream of a connection whose handshake is yet to come.
func newTLSStream(c *conn, config *tls.Config) *tlsStream {
	t := &tlsStream{of: c, handshake: &tlsHandshake{of: c}}
	t.tls = tls.Server(t, config)
	return t
}

// maxUseless is how many records without data may come one behind the other, such as KeyUpdates, each of which costs new keys and an answer.
// From a peer that has sent some uselessReadSize bytes are read at once, so that nobody else waits for all these keys.
const (
	maxUseless      = 32
	uselessReadSize = 2 << 10
)

var (
	errUseless = errors.New("too many records without data")
	errBroken  = errors.New("what came is no record")
)

// errNoRecord is what crypto/tls reads while no whole record is there. It tries again later, because this is a net.Error of its own kind
// that is temporary.
var errNoRecord error = noRecord{}

type noRecord struct{}

func (noRecord) Error() string   { return "websocket: no record has arrived" }
func (noRecord) Timeout() bool   { return true }
func (noRecord) Temporary() bool { return true }

// receive reads once from a socket, behind what was left, into buf. It returns how many bytes were read, and whether there may be more.
// Only the loop calls it, and not while the handshake is taken on.
func (t *tlsStream) receive(fd int, buf []byte) (n int, more bool, err error) {
	have := copy(buf, t.in)
	have += copy(buf[have:], t.tail)
	most := readSize
	switch {
	case t.handshake != nil: // its records are kept
		most = recordHeader + maxRecordBody
	case t.wasted:
		most = uselessReadSize
	}
	room := buf[have:min(have+most, len(buf))]
	n, err = readSocket(fd, room)
	more = n == len(room) || n == 0 && err == nil
	wire := buf[:have+max(n, 0)]
	whole := wholeRecords(wire)
	t.in = wire[:whole]
	t.keep(wire[whole:])
	return n, more, err
}

// keep keeps the beginning of a record in a buffer that grows with it.
func (t *tlsStream) keep(rest []byte) {
	if len(rest) == 0 || cap(t.tail) < len(rest) {
		size := max(len(rest), min(2*cap(t.tail), recordHeader+maxRecordBody))
		PutBuffer(t.tail)
		if t.tail = nil; len(rest) == 0 {
			return
		}
		t.tail = newBuffer(size)
	}
	t.tail = append(t.tail[:0], rest...)
}

// open decrypts the records that are there into dst, which has room for them.
func (t *tlsStream) open(dst []byte) (n int, err error) {
	t.wasted = false
	for len(t.in) > 0 {
		m, err := t.tls.Read(dst[n:])
		t.wasted = t.wasted || t.useless > 1 || err == errNoRecord
		if n += m; m > 0 {
			t.useless = 0
		}
		if err == errNoRecord { // the last record had no data
			break
		}
		if err != nil {
			t.in, t.tail = nil, nil
			return n, err
		}
	}
	t.in = nil
	return n, nil
}

// write encrypts b and writes as much of it as the socket takes. What is encrypted and not taken counts as not written: it is at the front
// of what is written next, and is not encrypted again.
func (t *tlsStream) write(fd int, b []byte, last bool) (n int, err error) {
	if len(t.unsent) > 0 {
		if err = t.drain(fd, last); err != nil || len(t.unsent) > 0 {
			return 0, err
		}
		n, t.ahead = int(t.ahead), 0
	}
	for n < len(b) {
		part := b[n:min(n+sealSize, len(b))]
		if t.unsent == nil {
			t.unsent = newBuffer(sealedSize(len(part)))
		}
		if _, err = t.tls.Write(part); err == nil {
			err = t.drain(fd, last)
		}
		if err != nil {
			return n, err
		}
		if len(t.unsent) > 0 {
			t.ahead = uint16(len(part))
			break
		}
		n += len(part)
	}
	return n, nil
}

// writeParts is write for two parts, which it copies: so they share their records, and may be on a goroutine's stack.
func (t *tlsStream) writeParts(fd int, head, body []byte, last bool) (n int, err error) {
	for len(head)+len(body) > 0 {
		part := body[:min(len(body), sealSize-len(head))]
		both := append(append(newBuffer(len(head)+len(part)), head...), part...)
		m, err := t.write(fd, both, last)
		PutBuffer(both)
		if n += m; err != nil || m < len(both) {
			return n, err
		}
		head, body = nil, body[len(part):]
	}
	return n, nil
}

// sealedSize is the size of the buffer into which so many bytes are encrypted: a power of two, so that many sizes share their buffers, but
// for large ones.
func sealedSize(size int) int {
	need, rounded := size+size/16+128, 512
	for rounded < need {
		rounded *= 2
	}
	if need > 32<<10 {
		return need
	}
	return rounded
}

// drain writes what is encrypted.
func (t *tlsStream) drain(fd int, last bool) error {
	gone := 0
	for gone < len(t.unsent) {
		n, err := writeSocket(fd, t.unsent[gone:], last)
		if err == errWouldBlock {
			t.unsent = t.unsent[:copy(t.unsent, t.unsent[gone:])]
			return nil
		}
		if err != nil {
			return err
		}
		gone += n
	}
	PutBuffer(t.unsent)
	t.unsent = nil
	return nil
}

// end sends close_notify, behind all else (RFC 8446, section 6.1).
func (t *tlsStream) end(fd int) {
	if t.handshake == nil && t.tls.CloseWrite() == nil {
		t.drain(fd, true)
	}
}

// wantsRecords reports whether records may be read: it is the client's turn to send one, and it takes those that answer. nil takes all.
func (t *tlsStream) wantsRecords() bool {
	return t == nil || (t.handshake == nil || t.handshake.turn == turnClient) && len(t.unsent) < maxUnsent
}

// state returns what is told of the TLS connection.
func (t *tlsStream) state() *tls.ConnectionState {
	state := t.tls.ConnectionState()
	return &state
}

// tlsSocket is a tlsStream as crypto/tls sees it while the loop has the connection. Nothing waits, but for the handshake.
type tlsSocket struct{ *tlsStream }

// Read gives crypto/tls no more than the rest of one record, so that it keeps none.
func (t tlsSocket) Read(b []byte) (n int, err error) {
	for len(t.in) == 0 {
		switch {
		case t.broken:
			return 0, errBroken
		case t.handshake == nil:
			return 0, errNoRecord
		}
		if err = t.handshake.park(); err != nil {
			return 0, err
		}
	}
	if t.left == 0 {
		if err = t.begin(); err != nil {
			return 0, err
		}
	}
	n = copy(b, t.in[:t.left])
	t.in, t.left = t.in[n:], t.left-uint16(n)
	return n, nil
}

// begin begins the record at the front of in.
func (t tlsSocket) begin() error {
	size, ok := parseRecord(t.in)
	if !ok || size > len(t.in) { // it has found that out from the header, or would wait for the body
		t.in = t.in[:min(len(t.in), recordHeader)]
		size, t.broken = len(t.in), true
	}
	t.left = uint16(size)
	if t.handshake != nil {
		return nil
	}
	if t.useless++; t.useless > maxUseless {
		return errUseless
	}
	return nil
}

// Write keeps what crypto/tls writes.
func (t tlsSocket) Write(b []byte) (n int, err error) {
	if t.handshake != nil {
		t.handshake.flight = append(t.handshake.flight, b...)
	} else {
		t.unsent = append(t.unsent, b...)
	}
	return len(b), nil
}

// Close does nothing: the loop closes the socket.
func (t tlsSocket) Close() error { return nil }

// LocalAddr and RemoteAddr are asked for in callbacks of a tls.Config, and by who has kept what they were given.
func (t tlsSocket) LocalAddr() net.Addr  { return t.address((*conn).localLocked) }
func (t tlsSocket) RemoteAddr() net.Addr { return t.address((*conn).remoteLocked) }

// address returns an address of the connection, an empty one if nobody knows it any more.
func (t tlsSocket) address(of func(*conn) net.Addr) net.Addr {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	if address := of(t.of); address != nil {
		return address
	}
	return new(net.TCPAddr)
}

// The loop has clocks of its own.

func (t tlsSocket) SetDeadline(time.Time) error      { return nil }
func (t tlsSocket) SetReadDeadline(time.Time) error  { return nil }
func (t tlsSocket) SetWriteDeadline(time.Time) error { return nil }

// transport returns what has the connection.
func (t *tlsStream) transport() net.Conn {
	if web := t.web.Load(); web != nil {
		return web
	}
	return tlsSocket{t}
}

func (t *tlsStream) Read(b []byte) (n int, err error)   { return t.transport().Read(b) }
func (t *tlsStream) Write(b []byte) (n int, err error)  { return t.transport().Write(b) }
func (t *tlsStream) Close() error                       { return t.transport().Close() }
func (t *tlsStream) LocalAddr() net.Addr                { return t.transport().LocalAddr() }
func (t *tlsStream) RemoteAddr() net.Addr               { return t.transport().RemoteAddr() }
func (t *tlsStream) SetDeadline(at time.Time) error     { return t.transport().SetDeadline(at) }
func (t *tlsStream) SetReadDeadline(at time.Time) error { return t.transport().SetReadDeadline(at) }
func (t *tlsStream) SetWriteDeadline(at time.Time) error {
	return t.transport().SetWriteDeadline(at)
}

// writeOut writes as much as the socket takes, and counts it.
func (c *conn) writeOut(b []byte) (n int, err error) {
	if t := c.tlsLocked(); t != nil {
		n, err = t.write(c.fd(), b, c.endsStream())
	} else {
		n, err = c.stream.write(b, c.endsStream())
	}
	c.countSent(n)
	return n, err
}

// owedLocked returns how many bytes of records the socket has not taken. There may be some without data: TLS answers by itself, too.
func (c *conn) owedLocked() int {
	if t := c.tlsLocked(); t != nil {
		return len(t.unsent)
	}
	return 0
}

// settleLocked writes them, unless there is more to write, which they go with.
func (c *conn) settleLocked() {
	if c.owedLocked() > 0 && c.out == nil {
		c.out = newOutbox()
		c.flushLocked()
	}
}
