package websocket

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// webIdle is how long a connection may wait for its next request.
const webIdle = time.Minute

// web serves the requests of a server's own listener that are not WebSocket's: it is a server of net/http, whose listener is this
// room. A connection comes from its loop with the bytes that were read, and is counted as before; it leaves by an upgrade, or is
// closed.
type web struct {
	// Immutable.
	engine *engine
	server *http.Server
	bell   chan struct{} // rung when there is something to accept, and at the end

	// Guarded by mu.
	mu      sync.Mutex
	waiting []handover            // to be accepted
	conns   map[*webConn]struct{} // that net/http has
	serves  bool                  // serve runs
	stopped bool                  // nothing is accepted any more
}

// handover is a socket, what was read from it, and what there is to tell of it, which may be nil.
type handover struct {
	fd    int
	early early
	tells *about

	awaited bool // Shutdown waits for it
}

// webKey is the key of the web in the context of its requests.
type webKey struct{}

func newWeb(e *engine) *web {
	w := &web{engine: e, bell: make(chan struct{}, 1), conns: make(map[*webConn]struct{})}
	w.server = &http.Server{
		Handler:           w,
		ReadHeaderTimeout: e.opts.HandshakeTimeout,
		IdleTimeout:       webIdle,
		ConnContext:       withTLS,
		MaxHeaderBytes:    e.opts.MaxHeaderSize,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelError),
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(context.Background(), webKey{}, w) },
	}
	return w
}

// handOverLocked takes the connection out of its loop, which has read a request that is not WebSocket's, and gives its socket to the
// program's Handler. No program knows its number.
func (c *conn) handOverLocked() {
	l := c.loop
	early := c.rare.opening.buf
	c.rare.opening = nil
	l.poll.remove(c.fd())
	l.deadlines.remove(c)
	descriptors.set(c.fd(), nil)
	next := handover{c.fd(), early, c.about, c.isAwaitedLocked() || c.mayBeginLocked()} // with HTTP/2 nothing was asked yet
	if c.owedLocked() > 0 {                                                             // its client asks for more than it takes
		l.web.drop(next)
		return
	}
	l.web.take(next)
}

// take takes a connection over. It may be called with the mu of a connection held.
func (w *web) take(next handover) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		w.drop(next)
		return
	}
	w.waiting = append(w.waiting, next)
	if !w.serves {
		w.serves = true
		w.engine.entrances.Add(1)
		go w.serve()
	}
	w.ring()
}

// drop closes a connection that is not served.
func (w *web) drop(h handover) {
	w.gone(h.tells, h.awaited)
	closeDescriptor(h.fd)
}

// gone is told that a connection has gone, which nobody waits for any more.
func (w *web) gone(tells *about, awaited bool) {
	w.engine.givePlace(tells)
	if awaited {
		w.engine.forgo()
	}
}

// depart has every connection end with the request that it is at.
func (w *web) depart() {
	defer w.engine.leave()
	w.server.SetKeepAlivesEnabled(false)
}

func (w *web) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

// serve runs the server of net/http until the engine stops, and closes all connections that are left then, whoever has them.
func (w *web) serve() {
	defer w.engine.leave()
	w.server.Serve(w)
	ctx, cancel := context.WithTimeout(context.Background(), w.engine.opts.WriteTimeout)
	defer cancel()
	w.server.Shutdown(ctx)
	rest := w.rest()
	for _, c := range rest {
		w.cutOff(c.awaited)
	}
	w.server.Close()
	for _, c := range rest {
		c.Close()
	}
}

// cutOff counts a request that a Shutdown would have waited for.
func (w *web) cutOff(awaited bool) {
	if awaited {
		w.engine.cut.requests.Add(1)
	}
}

// rest returns the connections that are left.
func (w *web) rest() (left []*webConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		left = append(left, c)
	}
	return left
}

// len returns how many connections there are.
func (w *web) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) + len(w.conns)
}

// stop has no connection accepted any more.
func (w *web) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	for _, h := range w.waiting {
		w.cutOff(h.awaited)
		w.drop(h)
	}
	w.waiting = nil
	w.ring()
}

// Accept is of net.Listener.
func (w *web) Accept() (net.Conn, error) {
	for {
		next, ok := w.next()
		switch {
		case !ok:
			return nil, net.ErrClosed
		case next.fd < 0:
			<-w.bell
			continue
		}
		conn, err := connOf(next.fd)
		if err == nil {
			return w.register(conn, next).served(), nil
		}
		w.gone(next.tells, next.awaited)
		w.engine.report(slog.LevelWarn, "websocket: cannot hand over a connection", "error", err)
	}
}

// next returns what waits; its descriptor is -1 if nothing does. It returns false after the end.
func (w *web) next() (h handover, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.waiting = nil
		return handover{fd: -1}, !w.stopped
	}
	h, w.waiting = w.waiting[0], w.waiting[1:]
	return h, true
}

// Close is of net.Listener. Only stop closes it.
func (w *web) Close() error { return nil }

// Addr is of net.Listener.
func (w *web) Addr() net.Addr { return webAddr{} }

// webAddr is the address of a listener that has none.
type webAddr struct{}

func (webAddr) Network() string { return "websocket" }
func (webAddr) String() string  { return "websocket" }

// ServeHTTP answers a request: all that may be WebSocket's as the server does, everything else as the program's Handler does.
func (w *web) ServeHTTP(res http.ResponseWriter, r *http.Request) {
	opts := &w.engine.opts
	if c, ok := r.Context().Value(webTLSKey{}).(*webTLSConn); ok {
		state := c.ConnectionState()
		r.TLS = &state
	}
	if w.engine.refuses() {
		w.engine.reportRefused(r, errGoing)
		refuseHTTP(res, r, errGoing)
		return
	}
	to, _ := w.engine.terms.find(r.URL)
	isStatus := to == toStatus && slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, r.Method)
	if isStatus || to == toConnect && isMeant(r) {
		if w.engine.enter() {
			w.engine.serveHTTP(res, r, to, context.Background()) // as for the first request of a connection
		} else {
			w.engine.tallies.outside.httpRefused(errStopped)
			refuseHTTP(res, r, errStopped)
		}
		return
	}
	if w.engine.departure.Load() != nil {
		res.Header().Set("Connection", "close") // for HTTP/2 too: no stream follows
	}
	opts.Handler.ServeHTTP(res, r)
}

// isMeant reports whether a request of net/http is an opening handshake, be it a bad one.
func isMeant(r *http.Request) bool {
	req := Handshake{Header: r.Header}
	return r.Method == http.MethodGet && req.isMeant() || isStream(r)
}

// webConn is a connection of web. What its loop has read comes first.
type webConn struct {
	net.Conn
	web   *web
	tells *about // immutable
	early early  // owned by whoever reads

	awaited bool // Shutdown waits for it; immutable
}

func (w *web) register(conn net.Conn, h handover) *webConn {
	c := &webConn{Conn: conn, web: w, tells: h.tells, early: h.early, awaited: h.awaited}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = struct{}{}
	return c
}

// served returns the connection as net/http is to have it.
func (c *webConn) served() net.Conn {
	if c.tells == nil || c.tells.tls == nil {
		return c
	}
	t := c.tells.tls
	request := c.early
	c.early = append(t.in, t.tail...)
	t.web.Store(c)
	if len(request) == 0 {
		return t.tls // net/http looks for a *tls.Conn, and then for HTTP/2
	}
	return &webTLSConn{Conn: t.tls, early: request}
}

// webTLSConn is a connection of web over TLS on which the loop has read a request.
type webTLSConn struct {
	*tls.Conn
	early early // decrypted; owned by whoever reads
}

func (c *webTLSConn) Read(b []byte) (n int, err error) { return c.early.read(b, c.Conn) }

// webTLSKey is the key of a webTLSConn in the context of its requests.
type webTLSKey struct{}

// withTLS adds a webTLSConn to the context of its requests: net/http does not know it as one of TLS.
func withTLS(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*webTLSConn); ok {
		return context.WithValue(ctx, webTLSKey{}, c)
	}
	return ctx
}

// left takes a connection out of the register. It returns false if it was taken out before.
func (w *web) left(c *webConn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.conns[c]
	delete(w.conns, c)
	return ok
}

// RemoteAddr is the client's, if a proxy has told it.
func (c *webConn) RemoteAddr() net.Addr {
	if c.tells != nil && c.tells.remote != nil {
		return c.tells.remote
	}
	return c.Conn.RemoteAddr()
}

func (c *webConn) Read(b []byte) (n int, err error) { return c.early.read(b, c.Conn) }

// early is what the loop has read of a connection, in front of what is still to be read.
type early []byte

// read reads some of it, or from the connection once nothing is left.
func (e *early) read(b []byte, from net.Conn) (n int, err error) {
	if len(*e) == 0 {
		return from.Read(b)
	}
	n = copy(b, *e)
	if *e = (*e)[n:]; len(*e) == 0 {
		*e = nil
	}
	return n, nil
}

// ReadFrom lets files go the short way.
func (c *webConn) ReadFrom(r io.Reader) (n int64, err error) { return io.Copy(c.Conn, r) }

// CloseWrite is what net/http looks for before it closes a connection that may have more to read.
func (c *webConn) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

func (c *webConn) Close() error {
	if c.web.left(c) {
		c.web.gone(c.tells, c.awaited)
	}
	return c.Conn.Close()
}

// handBack gives the connection back to the server, with its place, and what was read and is not used, behind what net/http has. It
// fails if the connection has been closed.
func (c *webConn) handBack(buffered []byte) (conn net.Conn, rest []byte, err error) {
	if !c.web.left(c) {
		return nil, nil, net.ErrClosed
	}
	if c.awaited {
		c.web.engine.forgo() // as a connection of the server it is waited for again
	}
	return c.Conn, append(buffered, c.early...), nil
}
