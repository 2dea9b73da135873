package websocket

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

// ServeHTTP takes over the connection of an opening handshake that another HTTP server has got, and serves it like one of the
// server's own: HandleAuth, HandleClientAdd, Clients, limits and Stop are the same. It is an http.Handler, to be mounted on any path
// of any mux, which decides about the path instead of ConnectPath. Middleware may stand in front of it if its ResponseWriter has
// Unwrap or Hijack (see http.ResponseController); http.TimeoutHandler has neither. It may be called from any goroutine.
//
// The request is held to the rules and limits of an opening handshake as the server's own listener has them. A refusal has the status,
// header fields and body of those, but the reason phrase of net/http, and the connection can go on with another request. So can one
// that asks for StatusPath without an upgrade, and is answered. Header fields that middleware has set before are in
// Handshake.ResponseHeader, and so in the answer. What HandleAuth decides is written to the connection that was taken over.
// MaxConnectionsPerAddress counts by the RemoteAddr of the request, which middleware may have set, with or without a port.
//
// A connection of net/http over TCP or a Unix socket is taken over with its descriptor, and costs what one of the server's own does.
// What has no descriptor of its own is carried over a pair of sockets by two goroutines until it ends: TLS of net/http, a net.Conn of
// the program's own, and a stream of HTTP/2 (RFC 8441; net/http offers it with GODEBUG=http2xconnect=1). ServeHTTP returns as soon as
// a connection was taken over, and for HTTP/2 when its stream ends. It ends such a stream with the last frame, and any other with the
// end of the peer's side, a second after its own. If the peer takes little, what was written before the end has WriteTimeout.
//
// A server that does not run is started by the first call, without a listener and with the checks of Start; one that was stopped, or is
// being shut down, is not, and answers 503 until the next Start. What fails on this side is answered with 500 and told to the log.
func (serv *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, err := serv.runs()
	switch {
	case err == errStopped:
		serv.tallies.outside.httpRefused(err)
		refuseHTTP(w, r, err)
	case err != nil:
		serv.Options.Logger.Error("websocket: cannot start", "error", err)
		serv.tallies.outside.httpRefused(errHandlerFailed)
		refuseHTTP(w, r, errHandlerFailed)
	default:
		e.serveHTTP(w, r, toNothing, context.WithoutCancel(r.Context()))
	}
}

// runs returns the engine that runs, which has been entered. If none has been, it starts one.
func (serv *Server) runs() (e *engine, err error) {
	serv.mu.Lock()
	defer serv.mu.Unlock()
	e = serv.runningLocked()
	if serv.stopped {
		return nil, errStopped
	}
	if e == nil {
		if e, err = serv.startLocked(nil); err != nil {
			return nil, err
		}
	}
	if !e.enter() {
		return nil, errStopped
	}
	return e, nil
}

// serveHTTP answers a request, or takes its connection over. HandleAuth is given the context. Its caller has entered, and knows
// what the request is for, or leaves that to the request. It leaves before it answers: Stop waits neither
// for HandleStatus nor for a client that reads nothing.
func (e *engine) serveHTTP(w http.ResponseWriter, r *http.Request, to destination, ctx context.Context) {
	if answer := e.takeRequest(w, r, to, ctx); answer != nil {
		answer()
	}
}

// takeRequest takes the connection of a request over, or returns what answers the request.
func (e *engine) takeRequest(w http.ResponseWriter, r *http.Request, to destination, ctx context.Context) (answer func()) {
	defer e.leave()
	o, err := e.readRequest(r, ctx)
	if err == nil && (to == toStatus || to == toNothing && o.isStatus) {
		return func() { e.statusHTTP(w, r, o.request) }
	}
	if err == nil {
		err = o.request.check()
	}
	if err == nil {
		err = e.terms.negotiate(o.request)
	}
	if err == nil {
		err = e.addFields(o.request, w.Header())
	}
	var tells *about
	if err == nil && (!e.isOwn(r) || isStream(r)) { // a stream is one of many on a connection, which keeps its place
		tells, err = e.takePlace(addressOf(r))
	}
	if err != nil {
		e.reportRefused(r, err)
		return func() { refuseHTTP(w, r, err) }
	}
	o.isStatus = false
	if isStream(r) {
		o.request.dropStreamFields()
		e.bridgeStream(w, r, o, tells)
	} else {
		e.takeOver(w, r, o, tells)
	}
	return nil
}

// readRequest reads a request of net/http as the server's own listener reads it from a socket. What is left is to check it.
func (e *engine) readRequest(r *http.Request, ctx context.Context) (o *opening, err error) {
	head := appendHead(nil, r)
	o = new(opening)
	if _, err = o.scanner.scan(head, e.opts.MaxHeaderSize, e.opts.MaxHeaderFields); err != nil {
		return nil, err
	}
	if o.request, err = parseRequest(head); err != nil {
		return nil, err
	}
	target := *r.URL // middleware may have cut off the front of its path
	o.request.URL = &target
	o.request.Context, o.request.TLS = ctx, r.TLS
	_, isStatus := e.terms.status.match(&target)
	o.isStatus = isStatus && o.request.Header["Upgrade"] == nil
	o.request.Params, _ = e.terms.connect.match(&target)
	return o, nil
}

// isStream reports whether a request opens a WebSocket connection as a stream of HTTP/2 (RFC 8441, section 5).
func isStream(r *http.Request) bool {
	return r.ProtoMajor == 2 && r.Method == http.MethodConnect && slices.Equal(r.Header[":protocol"], []string{"websocket"})
}

// streamFields are what an opening handshake has in HTTP/1.1 and not in HTTP/2 (RFC 8441, section 5).
const streamFields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

// dropStreamFields forgets them again.
func (req *Handshake) dropStreamFields() {
	req.Key = nil
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Key"} {
		delete(req.Header, name)
	}
}

// appendHead appends the head of a request as it was, or would have been, in HTTP/1.1.
func appendHead(dst []byte, r *http.Request) []byte {
	method, target, version := r.Method, r.RequestURI, r.Proto
	without := []string{"Host", ":protocol"}
	if r.ProtoMajor > 1 {
		version = "HTTP/1.1"
	}
	if isStream(r) {
		method, target = http.MethodGet, r.URL.RequestURI()
		without = append(without, "Connection", "Upgrade", "Sec-Websocket-Key")
	}
	if target == "" {
		target = r.URL.RequestURI()
	}
	dst = fmt.Appendf(dst, "%s %s %s\r\n", method, target, version)
	if r.Host != "" {
		dst = fmt.Appendf(dst, "Host: %s\r\n", r.Host)
	}
	if isStream(r) {
		dst = append(dst, streamFields...)
	}
	for _, coding := range r.TransferEncoding {
		dst = fmt.Appendf(dst, "Transfer-Encoding: %s\r\n", coding)
	}
	return append(appendFields(dst, r.Header, without...), "\r\n"...)
}

// addFields adds the header fields that middleware has set to those of the answer that accepts the connection.
func (e *engine) addFields(req *Handshake, header http.Header) error {
	if err := checkFields(header); err != nil {
		e.report(slog.LevelError, "websocket: cannot answer a handshake", "error", err)
		return errHandlerFailed
	}
	for name, values := range header {
		req.ResponseHeader[name] = slices.Clone(values)
	}
	return nil
}

// isOwn reports whether a request came by the server's own listener: its connection has been counted.
func (e *engine) isOwn(r *http.Request) bool {
	own, _ := r.Context().Value(webKey{}).(*web)
	return own != nil && own == e.web
}

// statusHTTP answers a request for StatusPath.
func (e *engine) statusHTTP(w http.ResponseWriter, r *http.Request, req *Handshake) {
	answer := appendOptions(nil)
	if req.verb != verbOptions {
		contentType, body := e.opts.HandleStatus()
		answer = appendStatus(nil, req, contentType, body)
	}
	relayBytes(w, r, answer)
}

// reportRefused tells the log why a request is refused.
func (e *engine) reportRefused(r *http.Request, err error) {
	e.tallies.outside.httpRefused(err)
	if errors.Is(err, errTooMany) {
		e.tooMany()
	}
	if e.reports.enabled(slog.LevelDebug) {
		attrs := refusalAttrs(refusalFor(err).status, err, &Handshake{URL: r.URL, Header: r.Header}, nil)
		e.report(slog.LevelDebug, textRefused, append([]any{"address", r.RemoteAddr}, attrs...)...)
	}
}

// refuseHTTP refuses a request that net/http has got.
func refuseHTTP(w http.ResponseWriter, r *http.Request, err error) {
	relayBytes(w, r, appendRefusal(nil, err, r.Method == http.MethodHead))
}

// relayBytes gives an answer to net/http.
func relayBytes(w http.ResponseWriter, r *http.Request, answer []byte) {
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), r)
	if err != nil { // such as for a status that is none
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	relay(w, r, res)
}

// relay gives an answer to net/http, but for what concerns the connection.
func relay(w http.ResponseWriter, r *http.Request, res *http.Response) {
	copyHeader(w.Header(), res.Header, r.ProtoMajor)
	w.WriteHeader(res.StatusCode)
	io.Copy(w, res.Body)
}

// copyHeader sets header fields, but for those that concern the connection.
func copyHeader(dst, src http.Header, version int) {
	for name, values := range src {
		if name != "Connection" && (name != "Upgrade" || version == 1) {
			dst[name] = values
		}
	}
}

// textNoTakeover is the record of a connection that cannot be taken over, because of a ResponseWriter or of the system.
const textNoTakeover = "websocket: cannot take over a connection"

// takeOver makes a connection of the server out of one of net/http. A place has been counted for it.
func (e *engine) takeOver(w http.ResponseWriter, r *http.Request, o *opening, tells *about) {
	conn, buffered, err := e.hijack(w, r, tells)
	if err != nil {
		e.report(slog.LevelError, textNoTakeover, "error", err, "address", r.RemoteAddr)
		e.tallies.outside.httpRefused(errNoTakeover)
		refuseHTTP(w, r, fmt.Errorf("%w: %w", errNoTakeover, err))
		return
	}
	conn.SetDeadline(time.Time{})
	if buffered != nil { // some middleware gives none
		o.buf = readBuffered(buffered.Reader)
	}
	if conn, tells, err = e.takeBack(conn, r, o, tells); err != nil { // Stop was faster
		if !e.isOwn(r) {
			e.givePlace(tells)
		}
		return
	}
	fd, isSocket, err := e.socketOf(conn)
	if err == nil && !isSocket {
		err = e.bridgeConn(conn, r, o, tells)
	} else if err == nil {
		e.admit(fd, o, withRemote(tells, conn, r), e.pipelined(o))
	}
	if err != nil {
		e.givePlace(tells)
		e.report(slog.LevelError, textNoTakeover, "error", err, "address", r.RemoteAddr)
		e.tallies.outside.httpRefused(errNoTakeover)
		conn.SetWriteDeadline(time.Now().Add(maxAnswerTime))
		conn.Write(appendRefusal(nil, errNoTakeover, false))
		conn.Close()
	}
}

// hijack takes a connection from net/http. If it fails, or middleware panics, its place is given back.
func (e *engine) hijack(w http.ResponseWriter, r *http.Request, tells *about) (conn net.Conn, buffered *bufio.ReadWriter, err error) {
	hijacked := false
	defer func() {
		if !hijacked && !e.isOwn(r) {
			e.givePlace(tells)
		}
	}()
	conn, buffered, err = http.NewResponseController(w).Hijack()
	hijacked = err == nil
	return conn, buffered, err
}

// takeBack takes a connection back that came by the own listener of a server, this one or another. It returns what there is to tell of
// it: with a connection of this server comes its place.
func (e *engine) takeBack(conn net.Conn, r *http.Request, o *opening, tells *about) (net.Conn, *about, error) {
	own, ok := conn.(*webConn)
	if !ok {
		if e.isOwn(r) { // the program has put something around it, which closes it in the end: until then it has a place of its own
			e.connections.Add(1)
		}
		return conn, tells, nil
	}
	conn, rest, err := own.handBack(o.buf)
	o.buf = rest
	if e.isOwn(r) {
		return conn, own.tells, err
	}
	if err == nil {
		own.web.engine.givePlace(own.tells)
		if own.tells != nil && own.tells.remote != nil { // a proxy has told the other server
			tells = cmp.Or(tells, new(about))
			tells.remote = own.tells.remote
		}
	}
	return conn, tells, err
}

// withRemote adds the peer's address to what there is to tell, if the request has another one than the socket: middleware may have
// written it, or a proxy may have told it to another server.
func withRemote(tells *about, conn net.Conn, r *http.Request) *about {
	if socket := conn.RemoteAddr(); socket != nil && socket.String() == r.RemoteAddr {
		return tells
	}
	if tells != nil && tells.remote != nil && tells.remote.String() == r.RemoteAddr {
		return tells
	}
	if tells == nil {
		tells = new(about)
	}
	tells.remote = addressOf(r)
	return tells
}

// readBuffered returns what net/http has read behind the request.
func readBuffered(in *bufio.Reader) []byte {
	rest, _ := in.Peek(in.Buffered())
	return slices.Clone(rest)
}

// pipelined returns the error for a request with a second one behind it.
func (e *engine) pipelined(o *opening) error {
	if e.isPipelined(o.buf) {
		return errPipelined
	}
	return nil
}

// socketOf takes the descriptor of a connection. If the process has none left, numbers that are held back make room.
func (e *engine) socketOf(conn net.Conn) (fd int, ok bool, err error) {
	for {
		fd, ok, err = socketOf(conn)
		if err == nil && ok && fd >= 1<<fdBits {
			closeDescriptor(fd)
			return -1, true, errTooMany
		}
		if err == nil || !isOutOfDescriptors(err) || e.numbers.evict(acceptBatch) == 0 {
			return fd, ok, err
		}
	}
}

// remoteAddr is the address of a peer as net/http tells it.
type remoteAddr string

func (remoteAddr) Network() string  { return "tcp" }
func (a remoteAddr) String() string { return string(a) }

// addressOf returns the address of the peer of a request. Middleware may have written one without a port.
func addressOf(r *http.Request) net.Addr {
	if address, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return net.TCPAddrFromAddrPort(address)
	}
	if ip, err := netip.ParseAddr(r.RemoteAddr); err == nil {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
	}
	return remoteAddr(r.RemoteAddr)
}
