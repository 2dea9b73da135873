package websocket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol (versions 1 and 2, haproxy.org/download/2.9/doc/proxy-protocol.txt): what a proxy sends in front of the bytes of a
// client, so that its server knows where they come from.
const (
	proxyLine      = "PROXY "                 // in front of version 1, section 2.1
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n" // in front of version 2, section 2.2
	proxyHead      = len(proxySignature) + 4  // then version and command, family, length
	proxyUnixPath  = 108                      // bytes of a path in version 2
	maxProxyLine   = 107                      // bytes of a header of version 1, section 2.1
	maxProxyHeader = 4 << 10                  // bytes of a header of version 2; it may claim 64 KiB
	proxyLocal     = 0x20                     // version 2, command LOCAL
	proxyProxied   = 0x21                     // version 2, command PROXY
	proxyTCP4      = 0x11                     // AF_INET, SOCK_STREAM
	proxyTCP6      = 0x21                     // AF_INET6, SOCK_STREAM
	proxyUnix      = 0x31                     // AF_UNIX, SOCK_STREAM
	proxyUnknown   = 0x00                     // AF_UNSPEC: what the proxy knows of the client does not fit in
)

var (
	errProxyMissing   = fmt.Errorf("%w: PROXY protocol header expected", ErrBadRequest)
	errProxyMalformed = fmt.Errorf("%w: malformed PROXY protocol header", ErrBadRequest)
	errProxyTooLong   = fmt.Errorf("%w: PROXY protocol header too long", ErrBadRequest)
)

// proxyHeader is what a PROXY protocol header says of the client. It says nothing if source is not valid and isUnix is not set: the
// proxy speaks for itself, such as for a health check, or does not know.
type proxyHeader struct {
	source netip.AddrPort // IPv4 as such, not mapped into IPv6
	path   string         // of a client's Unix socket, as package net has it; mostly there is none
	isUnix bool
}

// parseProxy reads a PROXY protocol header of either version at the beginning of b. Its length is n, 0 if more bytes are needed. It
// keeps no reference to b. The address that the client connected to, and the TLVs of version 2, are of no use here and skipped.
func parseProxy(b []byte) (h proxyHeader, n int, err error) {
	switch {
	case beginsAs(b, proxyLine):
		return parseProxyLine(b)
	case beginsAs(b, proxySignature):
		return parseProxyBinary(b)
	}
	return h, 0, errProxyMissing
}

// beginsAs reports whether b has a prefix, as far as b goes.
func beginsAs(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

// parseProxyLine reads a header of version 1.
func parseProxyLine(b []byte) (h proxyHeader, n int, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxProxyLine)], '\n')
	switch {
	case end < 0 && len(b) >= maxProxyLine:
		return h, 0, errProxyTooLong
	case end < 0:
		return h, 0, nil
	case b[end-1] != '\r':
		return h, 0, errProxyMalformed
	}
	fields := strings.Split(string(b[len(proxyLine):end-1]), " ")
	switch {
	case fields[0] == "UNKNOWN": // whatever follows is ignored
		return h, end + 1, nil
	case len(fields) != 5 || fields[0] != "TCP4" && fields[0] != "TCP6":
		return h, 0, errProxyMalformed
	}
	isIPv6 := fields[0] == "TCP6"
	source, ok := parseProxyAddress(fields[1], fields[3], isIPv6)
	_, ok2 := parseProxyAddress(fields[2], fields[4], isIPv6)
	if !ok || !ok2 {
		return h, 0, errProxyMalformed
	}
	h.source = source
	return h, end + 1, nil
}

// parseProxyAddress reads an address and a port of version 1.
func parseProxyAddress(address, port string, isIPv6 bool) (of netip.AddrPort, ok bool) {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Is6() != isIPv6 || ip.Zone() != "" {
		return of, false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return of, false
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), true
}

// parseProxyBinary reads a header of version 2. Its head is checked as soon as it is there.
func parseProxyBinary(b []byte) (h proxyHeader, n int, err error) {
	if len(b) < proxyHead {
		return h, 0, nil
	}
	head := b[len(proxySignature):]
	command, family, length := head[0], head[1], int(binary.BigEndian.Uint16(head[2:]))
	switch {
	case command != proxyLocal && command != proxyProxied:
		return h, 0, errProxyMalformed
	case length > maxProxyHeader-proxyHead:
		return h, 0, errProxyTooLong
	}
	if command == proxyLocal {
		family = proxyUnknown // and whatever follows is ignored
	}
	least, ok := proxyAddresses(family)
	switch {
	case !ok || length < least:
		return h, 0, errProxyMalformed
	case len(b) < proxyHead+length:
		return h, 0, nil
	}
	return readProxyAddress(family, b[proxyHead:]), proxyHead + length, nil
}

// proxyAddresses returns how many bytes the addresses of a family have. ok is false for one that no client of ours has.
func proxyAddresses(family byte) (size int, ok bool) {
	switch family {
	case proxyUnknown:
		return 0, true
	case proxyTCP4:
		return 2 * (4 + 2), true
	case proxyTCP6:
		return 2 * (16 + 2), true
	case proxyUnix:
		return 2 * proxyUnixPath, true
	}
	return 0, false
}

// readProxyAddress reads the client's address, in front of b: both sides' addresses, then both ports.
func readProxyAddress(family byte, b []byte) (h proxyHeader) {
	switch family {
	case proxyTCP4:
		h.source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[2*4:]))
	case proxyTCP6:
		h.source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[2*16:]))
	case proxyUnix:
		h.isUnix = true
		path := b[:proxyUnixPath]
		if path[0] != 0 {
			path, _, _ = bytes.Cut(path, []byte{0})
			h.path = string(path)
		} else if path = bytes.TrimRight(path, "\x00"); len(path) > 1 { // a name of Linux's own
			h.path = "@" + string(path[1:])
		}
	}
	return h
}
