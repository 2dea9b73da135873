package websocket

import (
	"crypto/tls"
	"net"
	"time"
)

// ConnInfo is what a server knows of one of its connections, at one moment.
type ConnInfo struct {
	// Conn is the number of the connection, and ID what ID returns for it.
	Conn int
	ID   uint64

	// UID is the id of its user, 0 if it has none (see CtxKeyUID).
	UID uint64

	// RemoteAddr is the address of the peer: what a trusted PROXY header says (see ServerOptions.ProxyProtocol), or else what the
	// system knows. It is a *net.TCPAddr, or a *net.UnixAddr for a Unix socket; nil if the peer is gone and the system has forgotten it.
	// It is the server's, and not to be changed.
	RemoteAddr net.Addr

	// Subprotocol is the one that was chosen in the opening handshake (RFC 6455, section 1.9), empty if there is none.
	Subprotocol string

	// TLS is the state of the TLS connection: the server's own, or that of net/http if it came by ServeHTTP over one. It is nil for a
	// plain connection, and not to be changed.
	TLS *tls.ConnectionState

	// Compressed says that messages may be compressed (RFC 7692).
	Compressed bool

	// Opened is when the opening handshake was accepted.
	Opened time.Time

	// Queued is how many bytes wait in the send queue, which ServerOptions.SendQueueSize limits.
	Queued int
}

// Info returns what is known of a connection. ok is false if conn is not a connection of this server. As Context does, it answers
// from when HandleAuth has accepted the connection until HandleClientRemove, and OnClose, have returned. The address of the peer is
// asked of the system each time, unless a proxy has told it: that takes less than a microsecond, and the connection's lock.
func (cls *ClientManager) Info(conn int) (info ConnInfo, ok bool) {
	c := cls.find(conn)
	if c == nil {
		return info, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || !c.known() {
		return info, false
	}
	return c.infoLocked(), true
}

// Close removes a connection as Server.ClientRemove does, with a code and a reason of the program's own in the Close frame (RFC 6455,
// sections 7.1.2 and 7.4): the connection leaves All and Conns at once, HandleClientRemove is called, the Close frame is sent behind
// what was sent before, whatever the limit of the queue, and ends the server's side of the stream. TCP ends when the peer has ended
// its own, behind the Close frame with which it answers, or after a second (section 7.1.1). Close waits for none of that.
//
// The reason must be UTF-8, and is cut after 123 bytes, between two characters. If the code must not be on the wire (see CloseCode; 0 is
// one of those), or the reason is not UTF-8, Close does nothing and returns an error. It returns ErrConnClosed if conn is not an open
// connection of this server, or was sent a Close frame before. It may be called from any goroutine, handlers included.
func (cls *ClientManager) Close(conn int, code CloseCode, reason string) error {
	if err := checkClose(code, reason); err != nil {
		return err
	}
	c := cls.find(conn)
	if c == nil {
		return ErrConnClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isOpen() {
		return ErrConnClosed
	}
	if err := c.sendableLocked(); err != nil {
		return err
	}
	c.removeLocked(code, cutReason(reason))
	return nil
}

// removeLocked ends an open connection because the program says so.
func (c *conn) removeLocked(code CloseCode, reason string) {
	c.endLocked(endReason{kind: ClosedRemoved, code: code, reason: reason, cause: "removed by the program", discard: true, farewell: true})
}

// noteCloseLocked keeps the code and the reason of a Close frame that the program sends, at the end of a packet. It is what ends the
// connection, or takes the place of one that was to be sent.
func (c *conn) noteCloseLocked(packet []byte) {
	kind := ClosedRemoved
	if !c.isOpen() {
		kind = c.rare.end.kind
		if c.rare.end.code == 0 || kind == ClosedByPeer {
			return
		}
	}
	code, reason := lastClose(packet)
	c.rareLocked().closed = &CloseCause{Code: code, Reason: reason, Kind: kind}
}

// endsLocked returns what OnClose is told of a connection that has ended.
func (c *conn) endsLocked() (info ConnInfo, cause CloseCause) {
	return c.infoLocked(), c.causeLocked()
}

// causeLocked returns why a connection ends.
func (c *conn) causeLocked() CloseCause {
	if closed := c.rare.closed; closed != nil {
		return *closed
	}
	return c.rare.end.told()
}

// sealLocked sends the Close frame, behind which nothing is sent any more. Why the connection ends is known from then on.
func (c *conn) sealLocked() {
	c.closeFrameLocked()
	c.uncorkLocked()
	cause := c.causeLocked()
	c.loop.tally.connectionEnded(cause)
	c.reportEndLocked("websocket: connection ends", "cause", c.rare.end.cause, "kind", cause.Kind.String(), "code", cause.Code)
}

// tellEnd calls OnClose.
func (c *conn) tellEnd() {
	c.mu.Lock()
	info, cause := c.endsLocked()
	c.mu.Unlock()
	c.loop.opts.OnClose(info, cause)
}

// infoLocked returns what is known of a connection that the program knows.
func (c *conn) infoLocked() ConnInfo {
	tells := c.tellsLocked()
	return ConnInfo{
		Conn:        c.fd(),
		ID:          c.id,
		UID:         c.uid,
		RemoteAddr:  c.remoteLocked(),
		Subprotocol: tells.subprotocol,
		TLS:         tells.state(),
		Compressed:  tells.deflation != nil,
		Opened:      momentTime(c.opened),
		Queued:      c.out.len(),
	}
}

// about is what few connections have to tell, or need for as long as they live. It is guarded by the connection's mu.
type about struct {
	subprotocol string
	remote      net.Addr      // as a proxy or a request told, or the system before the socket was given up; nil: ask the system
	counted     *addressCount // by which MaxConnectionsPerAddress counts it; nil: not at all
	deflation   *deflation    // how messages are compressed; nil: not at all. It is set before the program knows the connection
	tls         *tlsStream    // between the connection and its socket; nil: what is written is plain
	bridged     *bridged      // how a peer without a descriptor is reached; nil: it has one
}

// aboutLocked returns what the connection has to tell, made if there is nothing.
func (c *conn) aboutLocked() *about {
	if c.about == nil {
		c.about = new(about)
	}
	return c.about
}

// tellsLocked returns what the connection has to tell, which may be nothing.
func (c *conn) tellsLocked() (a about) {
	if c.about != nil {
		a = *c.about
	}
	return a
}

// state returns what is known of TLS, by which the peer is reached: nil if that is not so.
func (a *about) state() *tls.ConnectionState {
	switch {
	case a.tls != nil:
		return a.tls.state()
	case a.bridged != nil:
		return a.bridged.tls
	}
	return nil
}

// tlsLocked returns what is between the connection and its socket, nil if what is written is plain.
func (c *conn) tlsLocked() *tlsStream {
	if c.about == nil {
		return nil
	}
	return c.about.tls
}

// localLocked returns the address of the socket, nil if it has none any more.
func (c *conn) localLocked() net.Addr {
	if !c.hasSocket() {
		return nil
	}
	return localAddress(c.fd())
}

// remoteLocked returns the address of the peer: nil if it has none, or nobody knows it any more. The system is asked for it, rather than
// that it is kept for every connection.
func (c *conn) remoteLocked() net.Addr {
	remote := c.tellsLocked().remote
	if remote == nil && c.hasSocket() { // else the placeholder is there
		remote = peerAddress(c.fd())
	}
	return remote
}
