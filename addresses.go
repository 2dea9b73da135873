package websocket

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// addresses counts the connections of each peer's address, for MaxConnectionsPerAddress. It has those only that have a connection.
type addresses struct {
	mu     sync.Mutex
	counts map[netip.Addr]*addressCount // guarded by mu
}

// addressCount is how many connections an address has.
type addressCount struct {
	of netip.Addr // immutable
	n  int64      // guarded by the mu of addresses
}

// enter counts one more connection of an address, and returns the how manieth it is.
func (a *addresses) enter(of netip.Addr) (count *addressCount, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if count = a.counts[of]; count == nil {
		if a.counts == nil {
			a.counts = make(map[netip.Addr]*addressCount)
		}
		count = &addressCount{of: of}
		a.counts[of] = count
	}
	count.n++
	return count, count.n
}

// leave counts one less. It may be nil.
func (a *addresses) leave(count *addressCount) {
	if count == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if count.n--; count.n == 0 {
		delete(a.counts, count.of)
	}
}

// len returns how many addresses have a connection.
func (a *addresses) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.counts)
}

// countedAddress returns by which address a peer is counted: IPv4, however it is written, as it is, IPv6 by its first 64 bits, which one
// customer has, or as it is if everybody on the link has the same ones. A Unix socket is not counted.
func countedAddress(peer net.Addr) (of netip.Addr, ok bool) {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return of, false
	}
	of = tcp.AddrPort().Addr().Unmap().WithZone("")
	if of.Is6() && !of.IsLinkLocalUnicast() {
		if customer, err := of.Prefix(64); err == nil {
			of = customer.Addr()
		}
	}
	return of, of.IsValid()
}

// trusts reports whether a peer is one that a PROXY protocol header is expected from. Who may connect to a Unix socket is a matter of
// its file: there it is anybody.
func (opts *ServerOptions) trusts(peer net.Addr) bool {
	if len(opts.ProxyProtocol) == 0 {
		return false
	}
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		_, ok = peer.(*net.UnixAddr)
		return ok
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, network := range opts.ProxyProtocol {
		if network.Contains(ip) || network.Addr().Is4In6() && ip.Is4() && network.Contains(netip.AddrFrom16(ip.As16())) {
			return true
		}
	}
	return false
}

// arrival is what is known of a socket that has come: whether there is room for one more.
type arrival struct {
	counted *addressCount // of its address; nil if that is not counted, or not known yet
	proxied bool          // a PROXY protocol header is expected
	err     error         // why it is turned away; nil: it is let in
	untold  bool          // and not even told
}

// arrive counts a socket, as one of all and as one of its address.
func (e *engine) arrive(fd int) (who arrival) {
	who.limit(e.connections.Add(1), e.opts.MaxConnections, errTooMany)
	if e.opts.MaxConnectionsPerAddress <= 0 && len(e.opts.ProxyProtocol) == 0 {
		return who
	}
	peer := peerAddress(fd)
	if who.proxied = e.opts.trusts(peer); !who.proxied {
		e.countAddress(&who, peer)
	}
	return who
}

// countAddress counts one more connection of a peer's address.
func (e *engine) countAddress(who *arrival, peer net.Addr) {
	if e.opts.MaxConnectionsPerAddress <= 0 {
		return
	}
	if of, ok := countedAddress(peer); ok {
		var n int64
		who.counted, n = e.addresses.enter(of)
		who.limit(n, e.opts.MaxConnectionsPerAddress, errTooManyOfAddress)
	}
}

// limit turns away the n-th of a limit if it is one too many. Some of those are told, and count too, for a second.
func (who *arrival) limit(n int64, limit int, err error) {
	most := int64(limit)
	if n > most && who.err == nil {
		who.err = err
	}
	who.untold = who.untold || n > most+most/32+16
}

// takePlace counts a connection that net/http has, as one of all and as one of its address. It returns what such a connection has to
// tell, which may be nil.
func (e *engine) takePlace(peer net.Addr) (tells *about, err error) {
	var who arrival
	who.limit(e.connections.Add(1), e.opts.MaxConnections, errTooMany)
	e.countAddress(&who, peer)
	if who.counted != nil {
		tells = &about{counted: who.counted}
	}
	if who.err != nil {
		e.givePlace(tells)
		return nil, who.err
	}
	return tells, nil
}

// givePlace takes back what was counted of a connection that is not, or no longer, the server's.
func (e *engine) givePlace(tells *about) {
	if e.connections.Add(-1) == 0 {
		e.ring()
	}
	if tells != nil {
		e.addresses.leave(tells.counted)
	}
}

// sendAway closes a socket that has come, without a word to it.
func (e *engine) sendAway(fd int, who *arrival) {
	e.givePlace(&about{counted: who.counted})
	if who.err == nil { // its number is too large
		who.err = errTooMany
	}
	e.tallies.outside.handshakeRefused(0, who.err, false)
	if who.err == errTooMany {
		e.tooMany()
	}
	if e.reports.enabled(slog.LevelDebug) {
		e.report(slog.LevelDebug, textRefused, append(addressAttrs(fd, peerAddress(fd)), "cause", who.err)...)
	}
	closeDescriptor(fd)
}

// readProxy takes the PROXY protocol header in front of a request. It returns what is behind that, and whether all of it is there and
// the connection goes on.
func (l *loop) readProxy(c *conn, b []byte) (rest []byte, ok bool) {
	o := c.rare.opening
	if len(o.buf) > 0 {
		o.buf = append(o.buf, b...)
		b = o.buf
	}
	h, n, err := parseProxy(b)
	if err == nil && n == 0 {
		o.buf = append(o.buf, b[len(o.buf):]...)
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look = true
	switch {
	case c.hasEnded():
	case err != nil:
		c.turnAwayLocked(err, nil, b)
	default:
		o.proxied, o.buf = false, nil
		c.introduceLocked(&h)
	}
	return b[n:], !c.hasEnded()
}

// readProxied is readProxy for what is in front of a TLS handshake.
func (l *loop) readProxied(c *conn, b []byte) {
	if rest, ok := l.readProxy(c, b); ok {
		t := c.throughTLS()
		t.tail, c.readable = slices.Clone(rest), true
	}
}

// introduceLocked takes note of who a proxy says that the peer is, and looks whether there is room for one more of that address.
func (c *conn) introduceLocked(h *proxyHeader) {
	switch {
	case h.isUnix:
		c.aboutLocked().remote = &net.UnixAddr{Name: h.path, Net: "unix"}
	case h.source.IsValid():
		c.aboutLocked().remote = net.TCPAddrFromAddrPort(h.source)
	}
	var who arrival
	c.loop.countAddress(&who, c.remoteLocked())
	if who.counted != nil {
		c.aboutLocked().counted = who.counted
	}
	switch {
	case who.untold:
		c.loop.tally.handshakeRefused(0, who.err, false)
		c.reportEndLocked(textRefused, "cause", who.err)
		c.outState = outLost // nothing is awaited
		c.endLocked(endReason{})
	case who.err != nil:
		c.turnAwayLocked(who.err, nil, nil)
	}
}
