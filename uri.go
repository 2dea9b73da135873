package websocket

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Reasons why a string is not the URI of a WebSocket connection (RFC 6455, section 3). None quotes the URI, which may have a
// password in it.
var (
	errNoScheme     = errors.New("websocket: endpoint is not a ws, wss, http or https URL with a host")
	errURISpace     = errors.New("websocket: endpoint: white space around the URL")
	errURIFragment  = errors.New("websocket: endpoint: URL has a fragment (#), which means nothing here")
	errURIHost      = errors.New("websocket: endpoint: malformed host")
	errURIUnicode   = errors.New("websocket: endpoint: host is not ASCII: give an international name in its encoded form, xn--")
	errURIBrackets  = errors.New("websocket: endpoint: an IPv6 address, and nothing else, is in brackets")
	errURIPort      = errors.New("websocket: endpoint: port is not from 1 to 65535")
	errURIUser      = errors.New("websocket: endpoint: user name has a colon, or it or the password a control character")
	errURIMalformed = errors.New("websocket: endpoint: malformed URL")
)

// parseEndpoint reads a Client's Endpoint. The URL that it returns has a port, as a decimal number.
func parseEndpoint(endpoint string) (u *url.URL, secure bool, err error) {
	switch {
	case strings.TrimSpace(endpoint) != endpoint:
		return nil, false, errURISpace
	case strings.Contains(endpoint, "#"): // RFC 6455, section 3
		return nil, false, errURIFragment
	}
	if u, err = url.Parse(endpoint); err != nil {
		return nil, false, errURIMalformed // the text of err may have a part of a password
	}
	port := "80"
	switch u.Scheme {
	case "ws", "http":
	case "wss", "https":
		secure, port = true, "443"
	default:
		return nil, false, errNoScheme
	}
	if u.Host, err = hostAndPort(u, port); err != nil {
		return nil, false, err
	}
	if _, err = basicCredentials(u.User); err != nil {
		return nil, false, err
	}
	return u, secure, nil
}

// hostAndPort checks the host and the port of a URL and returns them together. An empty port is the default one (RFC 3986, section
// 3.2.3).
func hostAndPort(u *url.URL, defaultPort string) (string, error) {
	host, port := u.Hostname(), u.Port()
	isBracketed := strings.HasPrefix(u.Host, "[")
	switch address, err := netip.ParseAddr(host); {
	case host == "":
		return "", errNoScheme
	case isBracketed != strings.Contains(host, ":"), isBracketed && (err != nil || !address.Is6()):
		return "", errURIBrackets
	case strings.ContainsFunc(host, func(r rune) bool { return r > '~' }):
		return "", errURIUnicode
	case !isHost(host):
		return "", errURIHost
	}
	if port == "" {
		port = defaultPort
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", errURIPort
	}
	if isBracketed {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatUint(number, 10), nil
}

// hostField returns the value of Host for a URL with a port. It leaves out the scheme's default port (RFC 6455, section 4.1)
// and the zone of an address, which means something on this machine alone (RFC 6874, section 4).
func hostField(u *url.URL, secure bool) string {
	host := serverName(u)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "80" && !secure || port != "443" && secure {
		host += ":" + port
	}
	return host
}

// serverName returns the host of a URL without the zone of an address.
func serverName(u *url.URL) string {
	name, _, _ := strings.Cut(u.Hostname(), "%")
	return name
}

// resourceName returns what the request asks for (RFC 6455, section 3): the path and the query as they are, but with what must
// not be in them encoded.
func resourceName(u *url.URL) string {
	name := u.RawPath
	if name == "" {
		name = u.EscapedPath()
	}
	if name == "" {
		name = "/"
	}
	if u.ForceQuery || u.RawQuery != "" {
		name += "?" + u.RawQuery
	}
	return escapeRest(name)
}

// escapeRest encodes the bytes that must not stand anywhere in a URI (RFC 3986, section 2).
func escapeRest(s string) string {
	const rest = "\"<>\\^`{|}"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte(rest, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// basicCredentials returns the value of Authorization for the user information of a URL (RFC 7617, section 2), empty if there
// is none.
func basicCredentials(user *url.Userinfo) (string, error) {
	name := user.Username()
	password, _ := user.Password()
	if name == "" && password == "" {
		return "", nil
	}
	isControl := func(r rune) bool { return r < ' ' || r == 0x7F }
	if strings.Contains(name, ":") || strings.ContainsFunc(name+password, isControl) {
		return "", errURIUser
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)), nil
}

// overHTTP1 returns the protocols for TLS to negotiate (RFC 7301), with other versions of HTTP replaced by that of the opening
// handshake. A program has them in a configuration that it made for net/http.
func overHTTP1(protocols []string) (names []string) {
	const ours = "http/1.1"
	isOther := false
	for _, name := range protocols {
		switch {
		case name == ours:
		case name == "h2", strings.HasPrefix(name, "h2-"), strings.HasPrefix(name, "h3"), strings.HasPrefix(name, "http/"), strings.HasPrefix(name, "spdy/"):
			isOther = true
			continue
		}
		names = append(names, name)
	}
	for _, name := range names {
		isOther = isOther && name != ours
	}
	if isOther {
		names = append(names, ours)
	}
	return names
}
