package websocket

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// How much a bridge reads at once: little while little comes, so that an idle one has no large buffer.
const (
	bridgeIdle = 512
	bridgeBusy = 32 << 10
)

// bridge carries bytes between a peer that has no descriptor and one end of a pair of sockets. The other end is a connection like any
// other, whose loop neither knows nor cares. A goroutine carries each direction, and passes its end on; the last one to end closes both
// sides. It has entered the engine, which waits for it.
type bridge struct {
	// Immutable.
	engine *engine
	peer   bridgePeer
	pair   *net.UnixConn

	ends atomic.Int32 // directions that have ended
}

// bridged is what a connection knows of its bridge.
type bridged struct {
	tls     *tls.ConnectionState // of net/http; nil if there is none
	covered func()               // is called on a goroutine of its own once the connection has given its socket up
}

// bridgePeer is the side of a bridge where the peer is.
type bridgePeer interface {
	io.ReadWriteCloser

	// finish ends this side of the stream, behind what was written. The peer has some time to end its own.
	finish()

	// expire gives what is left to write some time, and no more.
	expire(after time.Duration)
}

// newBridge makes a connection of the server whose peer it is not yet carried to.
func (e *engine) newBridge(peer bridgePeer, r *http.Request, o *opening, tells *about) (*bridge, error) {
	fd, pair, err := e.newPair()
	if err != nil {
		return nil, err
	}
	b := &bridge{engine: e, peer: peer, pair: pair}
	e.entrances.Add(1)
	told := about{remote: addressOf(r), bridged: &bridged{r.TLS, func() { peer.expire(e.opts.WriteTimeout) }}}
	if tells != nil {
		told.counted = tells.counted
	}
	e.admit(fd, o, &told, e.pipelined(o))
	return b, nil
}

// newPair makes a pair of sockets. If the process has no descriptors left, numbers that are held back make room.
func (e *engine) newPair() (fd int, end *net.UnixConn, err error) {
	for {
		fd, end, err = newPair()
		if err == nil && fd >= 1<<fdBits {
			closeDescriptor(fd)
			end.Close()
			return -1, nil, errTooMany
		}
		if err == nil || !isOutOfDescriptors(err) || e.numbers.evict(acceptBatch) == 0 {
			return fd, end, err
		}
	}
}

// inward carries what the peer sends.
func (b *bridge) inward() {
	defer b.end()
	if err := carry(b.pair, b.peer); err == io.EOF {
		b.pair.CloseWrite()
	} else {
		b.pair.Close()
	}
}

// outward carries what the server sends.
func (b *bridge) outward() {
	defer b.end()
	for {
		buf, err := b.next()
		if err != nil {
			b.peer.finish()
			return
		}
		_, err = b.peer.Write(buf)
		PutBuffer(buf)
		if err != nil {
			b.pair.Close()
			b.peer.Close()
			return
		}
	}
}

// next returns the next bytes of the server, for which it has a buffer only once they are there.
func (b *bridge) next() (buf []byte, err error) {
	raw, err := b.pair.SyscallConn()
	if err != nil {
		return nil, err
	}
	n := 0
	waitErr := raw.Read(func(fd uintptr) bool {
		buf = newBuffer(bridgeBusy)[:bridgeBusy]
		if n, err = readSocket(int(fd), buf); err == errWouldBlock {
			PutBuffer(buf)
			return false
		}
		return true
	})
	switch {
	case waitErr != nil:
		return nil, waitErr
	case err == nil && n == 0:
		err = io.EOF
	}
	return buf[:n], err
}

// end is called at the end of each direction.
func (b *bridge) end() {
	if b.ends.Add(1) == 2 {
		b.peer.Close()
		b.pair.Close()
		b.engine.leave()
	}
}

// carry copies until reading or writing fails. Nobody knows how much waits to be read: a full small buffer is followed by a large one,
// once.
func carry(dst io.Writer, src io.Reader) error {
	buf := make([]byte, bridgeIdle)
	for {
		n, err := src.Read(buf)
		_, writeErr := dst.Write(buf[:n])
		if n == len(buf) && err == nil && writeErr == nil {
			more := newBuffer(bridgeBusy)[:bridgeBusy]
			n, err = src.Read(more)
			_, writeErr = dst.Write(more[:n])
			PutBuffer(more)
		}
		if err = cmp.Or(err, writeErr); err != nil {
			return err
		}
	}
}

// bridgeConn carries a connection that net/http has given up.
func (e *engine) bridgeConn(conn net.Conn, r *http.Request, o *opening, tells *about) error {
	b, err := e.newBridge(connPeer{conn}, r, o, tells)
	if err != nil {
		return err
	}
	go b.inward()
	go b.outward()
	return nil
}

// connPeer is a peer behind a connection, such as one of TLS.
type connPeer struct{ net.Conn }

func (p connPeer) finish() {
	if c, ok := p.Conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		p.SetReadDeadline(time.Now().Add(maxDrainTime))
		return
	}
	p.Close()
}

func (p connPeer) expire(after time.Duration) { p.SetWriteDeadline(time.Now().Add(after)) }

// bridgeStream carries a stream of HTTP/2 until it ends (RFC 8441, section 5). It has been counted.
func (e *engine) bridgeStream(w http.ResponseWriter, r *http.Request, o *opening, tells *about) {
	peer := &streamPeer{w: w, control: http.NewResponseController(w), body: r.Body}
	peer.control.SetReadDeadline(time.Time{}) // those of the program's http.Server are for requests
	peer.control.SetWriteDeadline(time.Time{})
	b, err := e.newBridge(peer, r, o, tells)
	if err != nil {
		e.givePlace(tells)
		e.reportRefused(r, err)
		refuseHTTP(w, r, errNoTakeover)
		return
	}
	go b.inward()
	if peer.answer(r, b.pair) {
		b.outward()
	} else {
		b.pair.Close()
		b.end()
	}
	peer.finish()
}

// streamPeer is a peer behind a stream of HTTP/2. Its stream ends when the handler of the request returns, which may then not touch it
// any more.
type streamPeer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	body    io.ReadCloser

	mu       sync.Mutex
	finished bool // guarded by mu
}

// answer translates the answer to the handshake, which comes through the pair, and writes what was read behind it. It returns whether
// the connection is open.
func (p *streamPeer) answer(r *http.Request, pair net.Conn) bool {
	in := bufio.NewReader(pair)
	res, err := http.ReadResponse(in, &http.Request{Method: http.MethodGet})
	if err != nil { // such as for want of one: Stop, or the client has gone
		refuseHTTP(p.w, r, errStopped)
		return false
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		relay(p.w, r, res)
		return false
	}
	delete(res.Header, "Sec-Websocket-Accept")
	copyHeader(p.w.Header(), res.Header, r.ProtoMajor)
	p.w.WriteHeader(http.StatusOK)
	_, err = p.Write(readBuffered(in))
	return err == nil
}

func (p *streamPeer) Read(b []byte) (n int, err error) { return p.body.Read(b) }

func (p *streamPeer) Write(b []byte) (n int, err error) {
	if n, err = p.w.Write(b); err == nil {
		err = p.control.Flush()
	}
	return n, err
}

// Close is finish: the body is closed once, whichever direction comes first.
func (p *streamPeer) Close() error {
	p.finish()
	return nil
}

// finish has the other direction end: the stream ends as soon as the handler returns.
func (p *streamPeer) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.finished {
		p.finished = true
		p.body.Close()
	}
}

func (p *streamPeer) expire(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.finished {
		p.control.SetWriteDeadline(time.Now().Add(after))
	}
}
