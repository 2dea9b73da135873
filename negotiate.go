package websocket

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// errOrigin refuses a page that is not one of ServerOptions.Origins (RFC 6455, section 10.2).
var errOrigin = errors.New("origin not allowed")

// terms are what ServerOptions say about opening handshakes.
type terms struct {
	connect, status pathPattern
	statusFirst     bool // what is for both paths is for status
	origins         []origin
	anyOrigin       bool
	subprotocols    []string // in order of preference
}

// destination is what a request is for.
type destination uint8

const (
	toNothing destination = iota
	toConnect
	toStatus
)

// find returns what a request for a target is for, and the parameters of its path.
func (t *terms) find(target *url.URL) (to destination, params map[string]string) {
	params, isConnect := t.connect.match(target)
	_, isStatus := t.status.match(target)
	switch {
	case isStatus && (t.statusFirst || !isConnect):
		return toStatus, nil
	case isConnect:
		return toConnect, params
	}
	return toNothing, nil
}

// negotiate decides about the origin of a checked request, and chooses a subprotocol (RFC 6455, section 4.2.2).
func (t *terms) negotiate(req *Handshake) error {
	if !t.allows(req.Header["Origin"]) {
		return errOrigin
	}
	for _, name := range t.subprotocols {
		if req.isOffered(name) {
			req.Subprotocol = name
			break
		}
	}
	return nil
}

// settle holds what HandleAuth has made of a request to the rules. A Sec-WebSocket-Protocol in ResponseHeader is what the program
// answers, as it is.
func (t *terms) settle(req *Handshake) error {
	if err := checkFields(req.ResponseHeader); err != nil {
		return err
	}
	if values, ok := req.answers("Sec-WebSocket-Protocol"); ok {
		req.Subprotocol = joinLines(values)
		return nil
	}
	if req.Subprotocol != "" && !req.isOffered(req.Subprotocol) { // RFC 6455, section 4.2.2
		return fmt.Errorf("%w: subprotocol %.100q was not offered", errHandlerFailed, req.Subprotocol)
	}
	if i := slices.Index(t.subprotocols, req.Subprotocol); i >= 0 {
		req.Subprotocol = t.subprotocols[i] // a connection that keeps it should not keep the request
	} else {
		req.Subprotocol = strings.Clone(req.Subprotocol)
	}
	return nil
}

// isOffered reports whether a client offers the subprotocol. Names differ by case.
func (req *Handshake) isOffered(name string) bool {
	for _, line := range req.Header["Sec-Websocket-Protocol"] {
		for offered := range listElements(line) {
			if offered == name {
				return true
			}
		}
	}
	return false
}

// answers returns the lines of a field in ResponseHeader. A program may have written its name in any case.
func (req *Handshake) answers(field string) (values []string, ok bool) {
	for name, lines := range req.ResponseHeader {
		if strings.EqualFold(name, field) {
			values, ok = append(values, lines...), true
		}
	}
	return values, ok
}

// checkSubprotocols returns an error unless the names can be offered, or chosen: tokens, none twice (RFC 6455, section 4.1).
func checkSubprotocols(names []string) error {
	for i, name := range names {
		switch {
		case !isToken(name):
			return fmt.Errorf("websocket: Subprotocols: %q is not a token", name)
		case slices.Contains(names[:i], name):
			return fmt.Errorf("websocket: Subprotocols has %q twice", name)
		}
	}
	return nil
}

// origin is where pages come from (RFC 6454), or which pages are allowed. The zero value is that of pages that hide it: "null".
type origin struct {
	scheme   string // in lower case, as the host is
	host     string // an IPv6 address is in brackets, in its shortest form
	port     string // empty if it is the default one of the scheme
	anyLabel bool   // of what is allowed: one label of any name is in front of the host
}

// parseOrigin reads the value of an Origin field (RFC 6454, section 6.2), and nothing that only begins as one.
func parseOrigin(s string) (o origin, ok bool) {
	if s == "null" {
		return o, true
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !isScheme(scheme) {
		return o, false
	}
	o.scheme = strings.ToLower(scheme)
	host, port := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		host, port = rest[:i], rest[i+1:]
		if o.port, ok = originPort(o.scheme, port); !ok {
			return o, false
		}
	}
	o.host, ok = originHost(host)
	isFile := rest == "" && o.scheme == "file" // of a page that some programs show from a file
	return o, ok || isFile
}

// isScheme reports whether s is the scheme of a URI (RFC 3986, section 3.1).
func isScheme(s string) bool {
	for i := range len(s) {
		switch c := s[i] | 0x20; {
		case c >= 'a' && c <= 'z':
		case i > 0 && (isDigit(s[i]) || strings.IndexByte("+-.", s[i]) >= 0):
		default:
			return false
		}
	}
	return s != ""
}

// originPort returns a port without the zeros in front, empty if it is the default one.
func originPort(scheme, s string) (port string, ok bool) {
	number, err := strconv.ParseUint(s, 10, 16)
	switch {
	case err != nil || number == 0:
		return "", false
	case scheme == "http" && number == 80, scheme == "https" && number == 443:
		return "", true
	}
	return strconv.FormatUint(number, 10), true
}

// originHost returns a host in the form in which it is compared. International names are in their ASCII form.
func originHost(s string) (host string, ok bool) {
	if inner, isBracketed := strings.CutPrefix(s, "["); isBracketed {
		inner, ok = strings.CutSuffix(inner, "]")
		address, err := netip.ParseAddr(inner)
		return "[" + address.String() + "]", ok && err == nil && address.Is6() && address.Zone() == ""
	}
	for i := range len(s) {
		switch c := s[i] | 0x20; {
		case c >= 'a' && c <= 'z', isDigit(s[i]), strings.IndexByte("-._", s[i]) >= 0:
		default:
			return "", false
		}
	}
	return strings.ToLower(s), s != ""
}

// parseAllowed reads an element of ServerOptions.Origins.
func parseAllowed(s string) (o origin, err error) {
	exact := s
	scheme, host, isWild := strings.Cut(s, "://*.")
	if isWild {
		exact = scheme + "://" + host
	}
	o, ok := parseOrigin(exact)
	o.anyLabel = isWild
	switch {
	case !ok, isWild && (o.host == "" || strings.HasPrefix(o.host, ".") || strings.HasPrefix(o.host, "[")):
		return o, fmt.Errorf("websocket: Origins: %q is neither scheme://host nor scheme://host:port nor \"null\"", s)
	case o.scheme == "ws" || o.scheme == "wss":
		return o, fmt.Errorf("websocket: Origins: %q is no page: those have http or https", s)
	}
	return o, nil
}

// allows reports whether a request with these Origin fields may connect. Browsers always send one, and programs mostly none.
func (t *terms) allows(fields []string) bool {
	if t.anyOrigin || len(fields) == 0 {
		return true
	}
	from, ok := parseOrigin(fields[0])
	return ok && len(fields) == 1 && slices.ContainsFunc(t.origins, func(o origin) bool { return o.covers(from) })
}

// covers reports whether a page of the other origin is allowed.
func (o origin) covers(from origin) bool {
	if o.anyLabel {
		label, host, ok := strings.Cut(from.host, ".")
		if !ok || label == "" {
			return false
		}
		from.host, from.anyLabel = host, true
	}
	return o == from
}
