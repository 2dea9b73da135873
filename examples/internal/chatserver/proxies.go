package chatserver

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the addresses of those whose X-Forwarded-For is believed. Anybody can send that field: what a client writes into it is
// worth nothing.
type proxies []netip.Prefix

// loopback is where a proxy on the same machine comes from.
var loopback = proxies{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// parseProxies reads addresses and prefixes with commas between.
func parseProxies(text string) (p proxies, err error) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		prefix, err := netip.ParsePrefix(part)
		if addr, addrErr := netip.ParseAddr(part); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a prefix", part)
		}
		p = append(p, prefix.Masked())
	}
	return p, nil
}

func (p proxies) has(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// client returns the address of the client whose request came from a peer: the last one in X-Forwarded-For that is not that of a trusted
// proxy, if the peer is one; else that of the peer.
func (p proxies) client(peer net.Addr, header http.Header) string {
	if peer == nil {
		return ""
	}
	at, err := netip.ParseAddrPort(peer.String())
	if err != nil || !p.has(at.Addr()) {
		return peer.String()
	}
	client := peer.String()
	path := strings.Split(strings.Join(header.Values("X-Forwarded-For"), ","), ",")
	for i := len(path) - 1; i >= 0; i-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(path[i]))
		if err != nil {
			break
		}
		client = addr.String()
		if !p.has(addr) {
			break
		}
	}
	return client
}
