package websocket

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

// How many connections are accepted in one round, and how long accepting rests if descriptors have run out.
const (
	acceptBatch = 64
	acceptRest  = 100 * time.Millisecond
)

// acceptor accepts the connections of a listener, if there is one, and looks after the quarantine. It is owned by one of the loops.
type acceptor struct {
	given atomic.Pointer[givenListener] // what it accepts from, or did until it was closed

	// Everything following is owned by the loop.
	fd     int   // -1: no listener
	ready  bool  // connections may be waiting
	resume int64 // when to try again after descriptors had run out; never: not resting
	trim   int64 // when the quarantine has to be looked at
}

// givenListener is a listener that is given to an acceptor, with the acceptor's own descriptor of it, which the poller watches. The zero
// value stands for one that was closed.
type givenListener struct {
	listener net.Listener // immutable, as are the others but for closes
	fd       int
	closed   chan struct{} // closed when the listener is
	closes   atomic.Bool   // it is to be closed; set by any goroutine
}

// give gives the acceptor its listener, for good. It returns false if it has one, or has been closed. It may be called from any
// goroutine.
func (a *acceptor) give(ln net.Listener, fd int) bool {
	return a.given.CompareAndSwap(nil, &givenListener{listener: ln, fd: fd, closed: make(chan struct{})})
}

// due is when the acceptor has something to do on its own.
func (a *acceptor) due() int64 {
	if given := a.givenListener(); a.ready || given != nil && (a.fd < 0 || given.closes.Load()) {
		return 0
	}
	return min(a.resume, a.trim)
}

// accept accepts the connections that wait, up to a batch.
func (a *acceptor) accept(l *loop) {
	if a.trim = l.numbers.trim(); a.resume <= l.now {
		a.ready, a.resume = true, never
	}
	if given := a.givenListener(); given != nil && given.closes.Load() {
		a.shut(l)
	} else if given != nil && a.fd < 0 {
		a.fd, a.ready = given.fd, true
	}
	if a.ready {
		unblockListener(a.fd)
	}
	for range acceptBatch {
		if !a.ready {
			return
		}
		switch fd, err := acceptSocket(a.fd); err {
		case nil:
			l.adopt(fd)
		case errWouldBlock:
			a.ready = false
		case errConnectionLost:
		case errNoDescriptors:
			if l.numbers.evict(acceptBatch) == 0 {
				a.rest(l, err)
			}
		default:
			a.rest(l, err)
		}
	}
}

// rest stops accepting for a while.
func (a *acceptor) rest(l *loop, err error) {
	a.ready, a.resume = false, l.now+int64(acceptRest)
	l.tally.pauses.Add(1)
	l.warn(&l.starved, "websocket: cannot accept", "error", err, "connections", l.connections.Load())
}

// givenListener returns the listener, nil if there is none, or it was closed.
func (a *acceptor) givenListener() *givenListener {
	if given := a.given.Load(); given != nil && given.listener != nil {
		return given
	}
	return nil
}

// hasShut reports whether there was a listener, which was closed.
func (a *acceptor) hasShut() bool {
	given := a.given.Load()
	return given != nil && given.listener == nil
}

// shut closes the listener. There will be no other one. The socket may be another process's too.
func (a *acceptor) shut(l *loop) {
	given := a.given.Swap(new(givenListener))
	a.fd, a.ready, a.resume = -1, false, never
	if given != nil && given.listener != nil {
		l.poll.remove(given.fd)
		closeDescriptor(given.fd)
		given.listener.Close()
		close(given.closed)
	}
}

// closeListener has the acceptor close the listener, if there is one, and waits for that.
func (e *engine) closeListener() {
	if given := e.acceptor.givenListener(); given != nil {
		given.closes.Store(true)
		e.loops[0].wake()
		<-given.closed
	}
}

// close stops accepting for good.
func (a *acceptor) close(l *loop) {
	a.shut(l)
	l.acceptor = nil
	l.leave()
}

// readHandshake takes bytes of the opening handshake, and answers once it is complete or refused.
func (l *loop) readHandshake(c *conn, b []byte) {
	o := c.rare.opening
	if o.proxied {
		var ok bool
		if b, ok = l.readProxy(c, b); !ok || len(b) == 0 {
			return
		}
	}
	if len(o.buf) > 0 { // mostly it comes in one piece
		o.buf = append(o.buf, b...)
		b = o.buf
	}
	n, err := o.scanner.scan(b, l.opts.MaxHeaderSize, l.opts.MaxHeaderFields)
	if err == nil && n == 0 {
		o.buf = append(o.buf, b[len(o.buf):]...)
		return
	}
	if err == nil {
		err = l.checkUpgrade(o, b[:n], b[n:])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look = true
	switch {
	case !c.isOpening():
	case err == errForeign && !c.mayBeginLocked():
		c.turnAwayLocked(errGoing, o.request, b)
	case err == errForeign:
		o.buf = slices.Clone(b)
		c.stepLocked(factForeign)
	case err != nil:
		c.turnAwayLocked(err, o.request, b)
	default:
		c.decideLocked()
	}
}

// refuseCutOff answers a client that has ended its side in the middle of its request.
func (l *loop) refuseCutOff(c *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.rare.opening; c.isOpening() && len(o.buf) > 0 {
		err := errProxyMalformed
		if !o.proxied {
			err = cutOff(o.buf)
		}
		c.turnAwayLocked(err, nil, o.buf)
	}
}

// checkUpgrade reads a complete request. It returns an error if the handshake is to be refused, errForeign if the request is for the
// program's Handler. The rest, which the client sent behind the request, stays in the buffer.
func (l *loop) checkUpgrade(o *opening, request, rest []byte) (err error) {
	if o.request, err = parseRequest(request); errors.Is(err, ErrInvalidHTTPMethod) {
		return l.orForeign(err)
	} else if err != nil {
		return err
	}
	o.request.Context = context.Background()
	o.buf = append([]byte(nil), rest...)
	to, params := l.terms.find(o.request.URL)
	switch to {
	case toNothing:
		return l.orForeign(errUnknownPath)
	case toStatus:
		o.isStatus = true
		return nil
	}
	o.request.Params = params
	switch {
	case l.opts.Handler != nil && !o.request.isMeant():
		return errForeign
	case l.isPipelined(o.buf):
		return errPipelined
	}
	if err = o.request.check(); err != nil {
		return err
	}
	return l.terms.negotiate(o.request)
}

// orForeign is why a request is refused that is no opening handshake, if the program has no Handler for it.
func (l *loop) orForeign(err error) error {
	if l.opts.Handler == nil {
		return err
	}
	return errForeign
}

// isPipelined reports whether what follows an opening handshake is a second request, and no frame.
func (e *engine) isPipelined(rest []byte) bool {
	return len(rest) > 0 && rest[0] >= 'A' && rest[0] <= 'Z' && e.rules.Load().allowedRsv&bitRsv1 == 0
}

// textRefused is the record of a handshake that is refused, and maxLoggedPath how much of its path, or origin, is in it, in bytes.
const (
	textRefused   = "websocket: handshake refused"
	maxLoggedPath = 256
)

// turnAwayLocked refuses a handshake: the answer and the log tell why. req is the request as far as it was parsed, and request its bytes
// as far as they have come; both may be nil.
func (c *conn) turnAwayLocked(err error, req *Handshake, request []byte) {
	answer := refusalFor(err)
	if c.loop.reports.enabled(slog.LevelDebug) {
		c.reportEndLocked(textRefused, refusalAttrs(answer.status, err, req, request)...)
	}
	if errors.Is(err, errTooMany) {
		c.loop.tooMany()
	}
	if c.isSecuring() { // crypto/tls has not begun, and will not
		c.about.tls = nil
		if err != errPlainHTTP {
			c.loop.tally.handshakeRefused(0, err, false)
			c.refuseLocked(appendAlert(nil, alertInternal))
			return
		}
	}
	c.loop.tally.handshakeRefused(answer.status, err, c.isAsking())
	c.refuseLocked(answer.append(nil, asksHead(request) || req != nil && req.verb == verbHead))
}

// refusalAttrs tells why a handshake is refused, and what it asked for.
func refusalAttrs(status int, err error, req *Handshake, request []byte) []any {
	attrs := []any{"status", status, "cause", err}
	if path := loggedPath(req, request); path != "" {
		attrs = append(attrs, "path", path)
	}
	if errors.Is(err, errOrigin) {
		from := joinLines(req.Header["Origin"])
		attrs = append(attrs, "origin", from[:min(len(from), maxLoggedPath)])
	}
	return attrs
}

// expireLocked refuses a handshake that takes too long. A client that never sent a byte is told nothing: it may keep the connection
// for later, and would take what it is told for the answer to its next request.
func (c *conn) expireLocked() {
	if len(c.rare.opening.buf) == 0 {
		cause := "no request came"
		if c.isSecuring() {
			cause = "no TLS handshake came, or only a part"
		}
		c.endLocked(endReason{kind: ClosedSilent, cause: cause})
		return
	}
	c.turnAwayLocked(errSlowRequest, nil, c.rare.opening.buf)
}

// loggedPath returns the path that a request asks for, without the query, which may contain secrets. It is empty if the path is not known.
func loggedPath(req *Handshake, request []byte) string {
	if req != nil && req.URL != nil { // it has been in the hands of HandleAuth
		return req.URL.Path[:min(len(req.URL.Path), maxLoggedPath)]
	}
	line, _, _ := bytes.Cut(bytes.TrimPrefix(request, []byte("\r\n")), []byte("\r\n"))
	_, target, _ := bytes.Cut(line, []byte(" "))
	if len(target) == 0 || target[0] != '/' {
		return ""
	}
	if end := bytes.IndexAny(target, " ?#"); end >= 0 {
		target = target[:end]
	}
	return string(target[:min(len(target), maxLoggedPath)])
}
