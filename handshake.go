package websocket

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// minRequest and minHeader are the lengths that a complete request and its header part have at least. If a shorter one lacks a
// header, the error says that it is too short.
const (
	minRequest = 144
	minHeader  = 128

	keyLength = 24 // characters of base64 for 16 bytes
)

var (
	errHeaderTooLarge = errors.New("request header fields too large")
	errUnknownPath    = errors.New("unknown path")
	errPlainGet       = errors.New("upgrade required")
	errBody           = fmt.Errorf("%w: request must have no body", ErrBadRequest)
	errForeign        = errors.New("no opening handshake")
	errPipelined      = fmt.Errorf("%w: data before the handshake is done", ErrBadRequest)
)

// Handshake is the request of a client's opening handshake (RFC 6455, section 4.1). A handler may keep it, its slices and
// its maps.
type Handshake struct {
	// URL is the request target.
	URL *url.URL

	// Header holds all header fields under their canonical names.
	Header http.Header

	// ResponseHeader is for HandleAuth to fill: fields for the answer that accepts the connection, such as Set-Cookie or
	// Sec-WebSocket-Extensions. It is never nil in HandleAuth. Upgrade, Connection, Sec-WebSocket-Accept and Content-Length are left
	// out; a field with a control character refuses the handshake. Sec-WebSocket-Protocol is sent as it is, in place of Subprotocol.
	ResponseHeader http.Header

	// Params has the values of the parameters of ServerOptions.ConnectPath, percent-decoded, as their client wrote them: none is
	// empty, but one may be ".." or have a slash in it. It is nil if ConnectPath has no parameters.
	Params map[string]string

	// Subprotocol is the one that was chosen for the connection (RFC 6455, section 1.9): the first of ServerOptions.Subprotocols that
	// the client offers, empty if there is none. HandleAuth may change it to another one that was offered, see Protocol, or to none;
	// if it is something else, the handshake is refused with status 500 and the log is told at level error. If HandleAuth puts
	// Sec-WebSocket-Protocol into ResponseHeader, that is the answer instead.
	Subprotocol string

	// Context is the one of the *http.Request if the connection came by Server.ServeHTTP, with the values that middleware has put
	// into it, but without its end: net/http cancels it as soon as the connection has been taken over. Else it is
	// context.Background(). A HandleAuth that returns it, or one made of it, gives the connection those values, and keeps for as
	// long as the connection lasts what they refer to.
	Context context.Context

	// Host is the value of the Host field, or the host of URL if that has one.
	Host []byte

	// Key is the value of Sec-WebSocket-Key.
	Key []byte

	// Extensions is what Sec-WebSocket-Extensions offers; several fields are joined by commas. It is empty if there is none. With
	// ServerOptions.Compression an offer of permessage-deflate is taken behind HandleAuth, unless that sets Extensions to nil, or puts
	// Sec-WebSocket-Extensions into ResponseHeader: then that is the answer, for extensions of the program's own.
	Extensions []byte

	// Protocol is what Sec-WebSocket-Protocol offers; several fields are joined by commas. It is empty if there is none.
	Protocol []byte

	// RemoteAddr is the address of the peer: what a PROXY protocol header says that ServerOptions.ProxyProtocol trusts; behind
	// ServeHTTP, the one of the *http.Request, which middleware may have changed; or else what the system knows. It is a
	// *net.TCPAddr, or a *net.UnixAddr for a Unix socket; nil if the peer has gone.
	// It is the server's, and not to be changed.
	RemoteAddr net.Addr

	// TLS is the state of the TLS connection, with the client's certificates if ServerOptions.TLSConfig asks for them: the server's own, or
	// that of net/http behind ServeHTTP. It is nil for a plain connection, and not to be changed.
	TLS *tls.ConnectionState

	extension string // what is answered to Extensions, empty if nothing is: see agreeLocked

	size   int  // bytes of the whole request
	fields int  // bytes of its header part
	verb   verb // what it asks for
	isOld  bool // it is HTTP/1.0
}

// verb is the method of a request, one of those that StatusPath answers. All others are refused immediately.
type verb uint8

const (
	verbGet verb = iota
	verbHead
	verbOptions
)

// headerScanner finds the end of the head of a request or a response as its bytes arrive, and looks at each byte once.
type headerScanner struct {
	next  int // the first byte not looked at
	line  int // where the current line starts
	lines int // lines so far
}

// scan looks for the empty line in b, which holds all bytes so far. It returns the length of the head, 0 if its end is not
// there yet, and an error as soon as a line does not end in CR LF or a limit is passed.
func (s *headerScanner) scan(b []byte, maxSize, maxFields int) (n int, err error) {
	for {
		i := bytes.IndexByte(b[min(s.next, len(b)):min(len(b), maxSize)], '\n')
		if i < 0 {
			s.next = min(len(b), maxSize)
			if len(b) >= maxSize {
				return 0, errHeaderTooLarge
			}
			return 0, nil
		}
		end := s.next + i
		if end == 0 || b[end-1] != '\r' { // RFC 9112, section 2.2
			return 0, ErrInvalidHeaderFormat
		}
		if end-1 == s.line && s.lines > 0 {
			return end + 1, nil
		}
		s.next, s.line = end+1, end+1
		if s.lines++; s.lines-1 > maxFields { // the request line is none
			return 0, errHeaderTooLarge
		}
	}
}

// parseRequest reads the head of a request, which ends with its empty line: the request line and the fields (RFC 9112). The
// Handshake keeps no reference to b. The rules of WebSocket are left to check.
func parseRequest(b []byte) (req *Handshake, err error) {
	head := string(bytes.TrimPrefix(b, []byte("\r\n"))) // RFC 9112, section 2.2
	line, fields, _ := strings.Cut(head, "\r\n")
	req = &Handshake{size: len(head), fields: len(fields)}
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || target == "" || !strings.HasPrefix(version, "HTTP/") {
		return nil, fmt.Errorf("%w: malformed request line", ErrBadRequest)
	}
	if err = req.setVerb(method, version); err != nil {
		return nil, err
	}
	if req.URL, err = parseTarget(strings.Clone(target)); err != nil {
		return nil, err
	}
	if req.Header, err = parseFields(fields); err != nil {
		return nil, err
	}
	return req, nil
}

// setVerb stores the method and the version, and returns an error for those that no path of a server answers.
func (req *Handshake) setVerb(method, version string) error {
	switch method {
	case http.MethodGet:
	case http.MethodHead:
		req.verb = verbHead
	case http.MethodOptions:
		req.verb = verbOptions
	default:
		return ErrInvalidHTTPMethod
	}
	switch version {
	case "HTTP/1.1":
	case "HTTP/1.0":
		req.isOld = true
	default:
		return ErrInvalidHTTPVersion
	}
	return nil
}

// parseTarget reads a request target (RFC 9112, section 3.2): an absolute path, which is taken as it is, or a whole URI (RFC
// 6455, section 4.1). The forms for CONNECT and for OPTIONS of a whole server are refused.
func parseTarget(target string) (*url.URL, error) {
	if !isFieldValue(target) || strings.ContainsAny(target, " \t") {
		return nil, fmt.Errorf("%w: control character in request target", ErrBadRequest)
	}
	if strings.Contains(target, "#") { // RFC 6455, section 3
		return nil, fmt.Errorf("%w: fragment in request target", ErrBadRequest)
	}
	u, err := url.ParseRequestURI(target)
	switch {
	case err != nil || target == "*" || u.Scheme != "" && !isHost(u.Host):
		return nil, fmt.Errorf("%w: malformed request target", ErrBadRequest)
	case u.User != nil: // RFC 9110, section 4.2.4
		return nil, fmt.Errorf("%w: user information in request target", ErrBadRequest)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// check holds the request to the rules of RFC 6455, section 4.2.1, and sets the fields that stand for single headers.
func (req *Handshake) check() error {
	switch {
	case req.verb != verbGet: // section 4.1
		return ErrInvalidHTTPMethod
	case req.isOld: // section 4.1
		return ErrInvalidHTTPVersion
	case req.isPlain():
		return errPlainGet
	}
	host, err := req.checkUpgrade()
	if err != nil {
		return err
	}
	key, err := req.checkKey()
	if err != nil {
		return err
	}
	extensions, err := req.offers("Sec-Websocket-Extensions", isExtension, ErrInvalidHeaderWSExtensions)
	if err != nil {
		return err
	}
	protocols, err := req.offers("Sec-Websocket-Protocol", isToken, ErrInvalidHeaderWSProtocol)
	if err != nil {
		return err
	}
	if req.hasBody() {
		return errBody
	}
	req.Host, req.Key = []byte(host), []byte(key)
	req.Extensions, req.Protocol = []byte(extensions), []byte(protocols)
	req.ResponseHeader = make(http.Header)
	return nil
}

// isMeant reports whether a request is an opening handshake, be it a bad one: a GET with something of it.
func (req *Handshake) isMeant() bool {
	if req.verb != verbGet {
		return false
	}
	if hasToken(joinLines(req.Header["Upgrade"]), "websocket") {
		return true
	}
	for name := range req.Header {
		if strings.HasPrefix(name, "Sec-Websocket-") {
			return true
		}
	}
	return false
}

// isPlain reports whether a request is a complete one of HTTP that has nothing to do with WebSocket, such as a browser sends if
// somebody opens the address of a connection as a page.
func (req *Handshake) isPlain() bool {
	if req.Header["Upgrade"] != nil || hasToken(joinLines(req.Header["Connection"]), "upgrade") || req.hasBody() {
		return false
	}
	for name := range req.Header {
		if strings.HasPrefix(name, "Sec-Websocket-") {
			return false
		}
	}
	host := req.Header["Host"]
	return len(host) == 1 && isHost(host[0])
}

// checkUpgrade holds the fields of the HTTP upgrade to the rules, and returns the host.
func (req *Handshake) checkUpgrade() (host string, err error) {
	if host, err = req.required("Host", ErrInvalidHeaderHost); err != nil {
		return "", err
	}
	if !isHost(host) {
		return "", ErrInvalidHeaderHost
	}
	if req.URL.Host != "" { // RFC 9112, section 3.2.2
		host = req.URL.Host
	}
	if err = req.token("Connection", "upgrade", ErrInvalidHeaderConn); err != nil {
		return "", err
	}
	return host, req.token("Upgrade", "websocket", ErrInvalidHeaderUpgrade)
}

// checkKey holds the required fields of the WebSocket protocol to the rules, and returns the key.
func (req *Handshake) checkKey() (key string, err error) {
	if key, err = req.required("Sec-Websocket-Key", ErrInvalidHeaderWSKey); err != nil {
		return "", err
	}
	if !isKey(key) {
		return "", ErrInvalidHeaderWSKey
	}
	version, err := req.required("Sec-Websocket-Version", ErrInvalidHeaderWSVersion)
	if err != nil {
		return "", err
	}
	if version != "13" {
		return "", ErrUnsupportedWSVersion
	}
	return key, nil
}

// isKey reports whether s is 16 bytes in base64. The bits left over before the padding may have any value (RFC 4648, section
// 3.5): there are devices that set them.
func isKey(s string) bool {
	if len(s) != keyLength {
		return false
	}
	var raw [keyLength]byte
	n, err := base64.StdEncoding.Decode(raw[:], []byte(s))
	return err == nil && n == 16
}

// hasBody reports whether the fields announce a body (RFC 9112, section 6.3).
func (req *Handshake) hasBody() bool {
	length := req.Header["Content-Length"]
	return req.Header["Transfer-Encoding"] != nil || length != nil && !slices.Equal(length, []string{"0"})
}

// required returns the value of a field that must be there once, and not empty.
func (req *Handshake) required(name string, invalid error) (string, error) {
	values := req.Header[name]
	switch {
	case len(values) == 0:
		return "", req.missing()
	case len(values) > 1 || values[0] == "":
		return "", invalid
	}
	return values[0], nil
}

// token checks that a field is there, and that its list has the wanted token, in any case.
func (req *Handshake) token(name, want string, invalid error) error {
	values := req.Header[name]
	switch {
	case len(values) == 0:
		return req.missing()
	case !hasToken(joinLines(values), want):
		return invalid
	}
	return nil
}

// missing returns the error for a header that is not there, which tells a request that ended early from one that lacks it.
func (req *Handshake) missing() error {
	switch {
	case req.size < minRequest:
		return ErrRequestLength
	case req.fields < minHeader:
		return ErrRequestHeaderLength
	}
	return ErrMissingRequiredHeader
}

// cutOff explains a request that ends before its head is complete.
func cutOff(b []byte) error {
	_, fields, _ := bytes.Cut(b, []byte("\r\n"))
	req := Handshake{size: len(b), fields: len(fields)}
	return req.missing()
}

// offers joins the fields of that name into one list and checks its elements. Empty elements are ignored (RFC 9110,
// section 5.6.1).
func (req *Handshake) offers(name string, valid func(string) bool, invalid error) (string, error) {
	list := joinLines(req.Header[name])
	for element := range listElements(list) {
		if !valid(element) {
			return "", invalid
		}
	}
	return list, nil
}
