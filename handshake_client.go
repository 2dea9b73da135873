package websocket

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ownFields are the fields that a client's request sets itself.
var ownFields = []string{"Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"}

// appendRequest appends the opening handshake of a client with a fresh key (RFC 6455, section 4.1).
func appendRequest(dst []byte, target, host string, header http.Header) (request []byte, key string, err error) {
	if err = checkFields(header); err != nil {
		return nil, "", err
	}
	if !isFieldValue(target) || strings.Contains(target, " ") || !isFieldValue(host) || strings.Contains(host, " ") {
		return nil, "", errors.New("websocket: control character in endpoint")
	}
	var raw [16]byte
	rand.Read(raw[:]) // never fails
	key = base64.StdEncoding.EncodeToString(raw[:])
	dst = append(dst, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: "+key+"\r\nSec-WebSocket-Version: 13\r\n"...)
	dst = appendFields(dst, header, ownFields...)
	return append(dst, "\r\n"...), key, nil
}

// checkAccept holds the head of a server's answer to the rules of RFC 6455, section 4.1. The error is a HandshakeError, without its
// body, if the server refuses.
func checkAccept(head []byte, key string, offered http.Header) (http.Header, error) {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	header, err := parseFields(unfold(string(fields)))
	if statusErr := checkStatusLine(string(line)); statusErr != nil {
		if refused, ok := statusErr.(*HandshakeError); ok && err == nil {
			refused.Header = header
		}
		return nil, statusErr
	}
	if err != nil {
		return nil, fmt.Errorf("websocket: malformed answer: %w", err)
	}
	answer := &Handshake{Header: header, size: minRequest, fields: minHeader}
	if err = answer.token("Upgrade", "websocket", ErrInvalidHeaderUpgrade); err != nil {
		return nil, fmt.Errorf("websocket: answer without Upgrade: %w", err)
	}
	if err = answer.token("Connection", "upgrade", ErrInvalidHeaderConn); err != nil {
		return nil, fmt.Errorf("websocket: answer without Connection: %w", err)
	}
	if accept := header["Sec-Websocket-Accept"]; len(accept) != 1 || accept[0] != acceptKey([]byte(key)) {
		return nil, errors.New("websocket: wrong Sec-WebSocket-Accept")
	}
	dropEmpty(header, "Sec-Websocket-Protocol")
	if err = checkChosen(header, offered); err != nil {
		return nil, err
	}
	return header, nil
}

// isInterim reports whether an answer precedes the final one, so that a client may ignore it (RFC 9110, section 15.2). A 101 is
// final: it upgrades.
func isInterim(head []byte) bool {
	const line = "HTTP/1.1 1xx"
	if len(head) < len(line) || !bytes.HasPrefix(head, []byte("HTTP/1.")) {
		return false
	}
	status, after := head[len(line)-4:len(line)], head[len(line):]
	if status[0] != ' ' || status[1] != '1' || string(status[1:]) == "101" {
		return false
	}
	return isDigit(status[2]) && isDigit(status[3]) && (bytes.HasPrefix(after, []byte(" ")) || bytes.HasPrefix(after, []byte("\r\n")))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// checkStatusLine returns an error unless the first line of an answer opens the connection. For a refusal it is a HandshakeError with
// the status and its reason.
func checkStatusLine(line string) error {
	version, status, reason, err := parseStatusLine(line)
	switch {
	case err != nil:
		return fmt.Errorf("websocket: handshake refused: %w", err)
	case status != http.StatusSwitchingProtocols:
		return &HandshakeError{Status: status, Reason: reason}
	case version != "HTTP/1.1": // RFC 6455, section 4.2.2
		return errors.New("websocket: answer is not HTTP/1.1")
	}
	return nil
}

// parseStatusLine reads the first line of an answer (RFC 9112, section 4).
func parseStatusLine(line string) (version string, status int, reason string, err error) {
	version, rest, ok := strings.Cut(line, " ")
	if !ok || !strings.HasPrefix(version, "HTTP/1.") || !isFieldValue(rest) {
		return "", 0, "", errors.New("malformed status line")
	}
	code, reason, _ := strings.Cut(rest, " ")
	if len(code) != 3 || code[0] == '0' || !isDigit(code[0]) || !isDigit(code[1]) || !isDigit(code[2]) { // RFC 9110, section 15
		return "", 0, "", fmt.Errorf("malformed status: %s", rest)
	}
	status, _ = strconv.Atoi(code)
	return version, status, reason, nil
}

// contentLength returns how many bytes an answer has for a body, as far as its status and fields tell (RFC 9112, section 6.3). If it
// is in chunks, or ends with the connection, that is not known.
func contentLength(status int, header http.Header) (n int64, isKnown, isChunked bool) {
	if status < 200 || status == http.StatusNoContent || status == http.StatusNotModified {
		return 0, true, false
	}
	if coding := header["Transfer-Encoding"]; coding != nil {
		return 0, false, strings.EqualFold(joinLines(coding), "chunked")
	}
	lengths := header["Content-Length"]
	if len(lengths) == 0 {
		return 0, false, false
	}
	n, err := strconv.ParseInt(lengths[0], 10, 64)
	return max(n, 0), err == nil && n >= 0, false
}

// dropEmpty removes the empty lines of a field from a header: some servers send one to say that they chose none.
func dropEmpty(header http.Header, name string) {
	values := slices.DeleteFunc(header[name], func(value string) bool { return value == "" })
	if len(values) == 0 {
		delete(header, name)
	} else {
		header[name] = values
	}
}

// checkChosen returns an error if an answer has an extension or a subprotocol that was not offered.
func checkChosen(header, offered http.Header) error {
	extensions := extensionNames(offered)
	for _, chosen := range extensionNames(header) {
		if !slices.Contains(extensions, chosen) {
			return errors.New("websocket: extension that was not offered")
		}
	}
	protocols := slices.Collect(listElements(joinLines(offered["Sec-Websocket-Protocol"])))
	if chosen := header["Sec-Websocket-Protocol"]; len(chosen) > 1 || len(chosen) == 1 && !slices.Contains(protocols, chosen[0]) {
		return errors.New("websocket: subprotocol that was not offered")
	}
	return nil
}

// extensionNames returns the extensions of a header without their parameters.
func extensionNames(header http.Header) (names []string) {
	for element := range listElements(joinLines(header["Sec-Websocket-Extensions"])) {
		name, _, _ := strings.Cut(element, ";")
		names = append(names, strings.Trim(name, " \t"))
	}
	return names
}

// Reasons why a string is not the URI of a WebSocket connection (RFC 6455, section 3), or of a proxy. None quotes the URI, which may
// have a password in it.
var (
	errNoScheme     = errors.New("not a ws, wss, http or https URL with a host")
	errURISpace     = errors.New("white space around the URL")
	errURIFragment  = errors.New("URL has a fragment (#), which means nothing here")
	errURIHost      = errors.New("malformed host")
	errURIUnicode   = errors.New("host is not ASCII: give an international name in its encoded form, xn--")
	errURIBrackets  = errors.New("an IPv6 address, and nothing else, is in brackets")
	errURIPort      = errors.New("port is not from 1 to 65535")
	errURIUser      = errors.New("user name has a colon, or it or the password a control character")
	errURIMalformed = errors.New("malformed URL")
)

// errEndpoint marks what is wrong with an Endpoint: no server was asked.
var errEndpoint = errors.New("websocket: endpoint")

// parseEndpoint reads a Client's Endpoint. The URL that it returns has a port, as a decimal number.
func parseEndpoint(endpoint string) (u *url.URL, secure bool, err error) {
	switch {
	case strings.TrimSpace(endpoint) != endpoint:
		err = errURISpace
	case strings.Contains(endpoint, "#"): // RFC 6455, section 3
		err = errURIFragment
	default:
		u, err = parseReference(new(url.URL), endpoint)
	}
	if err == nil {
		_, err = basicCredentials(u.User)
	}
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errEndpoint, err)
	}
	return u, isSecure(u), nil
}

// parseReference reads the URL of a server, which may be relative to another one (RFC 3986, section 5). It has a port, as a decimal
// number.
func parseReference(base *url.URL, reference string) (u *url.URL, err error) {
	if u, err = url.Parse(reference); err != nil {
		return nil, errURIMalformed // the text of err may have a part of a password
	}
	if u.Scheme == "" && base.Scheme != "" {
		u = base.ResolveReference(u)
	}
	port := "80"
	switch u.Scheme {
	case "ws", "http":
	case "wss", "https":
		port = "443"
	default:
		return nil, errNoScheme
	}
	if u.Host, err = hostAndPort(u, port); err != nil {
		return nil, err
	}
	return u, nil
}

// isSecure reports whether a URL of a server is for TLS.
func isSecure(u *url.URL) bool { return u.Scheme == "wss" || u.Scheme == "https" }

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
		case name == "h2", strings.HasPrefix(name, "h2-"), strings.HasPrefix(name, "h3"),
			strings.HasPrefix(name, "http/"), strings.HasPrefix(name, "spdy/"):
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
