package websocket

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// What RFC 6455 section 1.3 appends to the key before it is hashed.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// A complete request is at least as long as this, all of it and its header part: below, a missing header is explained so.
const (
	minRequest = 144
	minHeader  = 128

	keyLength = 24 // characters of base64 for 16 bytes
)

var (
	errHeaderTooLarge = errors.New("request header fields too large")
	errUnknownPath    = errors.New("unknown path")
	errBody           = fmt.Errorf("%w: request must have no body", ErrBadRequest)
	errPipelined      = fmt.Errorf("%w: data before the handshake is done", ErrBadRequest)
)

// Handshake is the request of a client's opening handshake (RFC 6455, section 4.1). A handler may keep it, its slices and
// its maps.
type Handshake struct {
	// URL is the request target.
	URL *url.URL

	// Header holds all header fields under their canonical names.
	Header http.Header

	// ResponseHeader is for HandleAuth to fill: fields for the answer that accepts the connection, such as
	// Sec-WebSocket-Protocol with one of the offered subprotocols (a browser gives up where it offered some and none is
	// chosen), Sec-WebSocket-Extensions or Set-Cookie. It is never nil in HandleAuth. Upgrade, Connection,
	// Sec-WebSocket-Accept and Content-Length are left out; a field with a control character refuses the handshake.
	ResponseHeader http.Header

	// Host is the value of the Host field.
	Host []byte

	// Key is the value of Sec-WebSocket-Key.
	Key []byte

	// Extensions is what Sec-WebSocket-Extensions offers; several fields are joined by commas. Empty where it is missing.
	Extensions []byte

	// Protocol is what Sec-WebSocket-Protocol offers, likewise.
	Protocol []byte

	size   int // bytes of the whole request
	fields int // bytes of its header part
}

// headerScanner finds the end of a request's or an answer's head as its bytes arrive, looking at each byte once.
type headerScanner struct {
	next  int // the first byte not looked at
	line  int // where the current line starts
	lines int // lines so far
}

// scan looks for the empty line in b, which holds all bytes so far. It returns the length of the head, 0 where the end is not
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

// parseRequest reads a request head that ends with its empty line: the request line and the fields, as RFC 9112 has them.
// The Handshake keeps nothing of b, but parts of one copy. What is WebSocket about it is for check.
func parseRequest(b []byte) (req *Handshake, err error) {
	head := string(bytes.TrimPrefix(b, []byte("\r\n"))) // RFC 9112, section 2.2
	line, fields, _ := strings.Cut(head, "\r\n")
	req = &Handshake{size: len(head), fields: len(fields)}
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	switch {
	case !ok || !ok2 || target == "" || !strings.HasPrefix(version, "HTTP/"):
		return nil, fmt.Errorf("%w: malformed request line", ErrBadRequest)
	case method != http.MethodGet: // RFC 6455, section 4.1
		return nil, ErrInvalidHTTPMethod
	case version != "HTTP/1.1": // section 4.1
		return nil, ErrInvalidHTTPVersion
	}
	if req.URL, err = parseTarget(target); err != nil {
		return nil, err
	}
	if req.Header, err = parseFields(fields); err != nil {
		return nil, err
	}
	return req, nil
}

// parseTarget reads a request target: an absolute path, or a whole http or ws URI (RFC 6455, section 4.1; RFC 9112, section 3.2).
func parseTarget(target string) (*url.URL, error) {
	if !isFieldValue(target) || strings.ContainsAny(target, " \t") {
		return nil, fmt.Errorf("%w: control character in request target", ErrBadRequest)
	}
	if strings.Contains(target, "#") { // RFC 6455, section 3
		return nil, fmt.Errorf("%w: fragment in request target", ErrBadRequest)
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Scheme != "" && u.Host == "" {
		return nil, fmt.Errorf("%w: malformed request target", ErrBadRequest)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// parseFields reads header lines up to the empty one (RFC 9112, section 5).
func parseFields(s string) (http.Header, error) {
	lines := strings.Count(s, "\r\n") // as many as the scanner lets through
	header := make(http.Header, max(lines-1, 0))
	values := make([]string, lines) // of the fields that are there once
	for {
		line, rest, ok := strings.Cut(s, "\r\n")
		if !ok {
			return nil, ErrInvalidHeaderFormat
		}
		if line == "" {
			return header, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || !isFieldValue(value) {
			return nil, ErrInvalidHeaderFormat
		}
		name, value = textproto.CanonicalMIMEHeaderKey(name), strings.Trim(value, " \t")
		if there := header[name]; there != nil {
			header[name] = append(there, value)
		} else {
			values[0] = value
			header[name], values = values[:1:1], values[1:]
		}
		s = rest
	}
}

// check holds the request to the rules of RFC 6455, section 4.2.1, and sets the fields that stand for single headers.
func (req *Handshake) check() error {
	host, err := req.required("Host", ErrInvalidHeaderHost)
	if err != nil {
		return err
	}
	if !isHost(host) {
		return ErrInvalidHeaderHost
	}
	if err = req.token("Connection", "upgrade", ErrInvalidHeaderConn); err != nil {
		return err
	}
	if err = req.token("Upgrade", "websocket", ErrInvalidHeaderUpgrade); err != nil {
		return err
	}
	key, err := req.required("Sec-Websocket-Key", ErrInvalidHeaderWSKey)
	if err != nil {
		return err
	}
	if raw, err := base64.StdEncoding.Strict().DecodeString(key); err != nil || len(key) != keyLength || len(raw) != 16 {
		return ErrInvalidHeaderWSKey
	}
	version, err := req.required("Sec-Websocket-Version", ErrInvalidHeaderWSVersion)
	if err != nil {
		return err
	}
	if version != "13" {
		return ErrUnsupportedWSVersion
	}
	extensions, err := req.offers("Sec-Websocket-Extensions", isExtension, ErrInvalidHeaderWSExtensions)
	if err != nil {
		return err
	}
	protocols, err := req.offers("Sec-Websocket-Protocol", isToken, ErrInvalidHeaderWSProtocol)
	if err != nil {
		return err
	}
	if length := req.Header["Content-Length"]; req.Header["Transfer-Encoding"] != nil ||
		length != nil && !slices.Equal(length, []string{"0"}) {
		return errBody
	}
	req.Host, req.Key = []byte(host), []byte(key)
	req.Extensions, req.Protocol = []byte(extensions), []byte(protocols)
	req.ResponseHeader = make(http.Header)
	return nil
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

// token checks a field that must be there once, as a list with the wanted token in any case.
func (req *Handshake) token(name, want string, invalid error) error {
	values := req.Header[name]
	switch {
	case len(values) == 0:
		return req.missing()
	case len(values) > 1 || !hasToken(values[0], want):
		return invalid
	}
	return nil
}

// missing tells a request that ended early from one that lacks a header.
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
	list := strings.Join(req.Header[name], ", ")
	for element := range listElements(list) {
		if !valid(element) {
			return "", invalid
		}
	}
	return list, nil
}

// listElements iterates over the elements of a comma-separated list, trimmed, empty ones left out. A comma inside a quoted
// string separates nothing.
func listElements(list string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i <= len(list); i++ {
			switch {
			case i < len(list)-1 && quoted && list[i] == '\\':
				i++
				continue
			case i < len(list) && list[i] == '"':
				quoted = !quoted
				continue
			case i < len(list) && (quoted || list[i] != ','):
				continue
			}
			element := strings.Trim(list[start:min(i, len(list))], " \t")
			start = i + 1
			if element != "" && !yield(element) {
				return
			}
		}
	}
}

// hasToken reports whether a comma-separated list has the token, in any case.
func hasToken(list, token string) bool {
	for element := range listElements(list) {
		if strings.EqualFold(element, token) {
			return true
		}
	}
	return false
}

// isExtension reports whether s is an extension with its parameters (RFC 6455, section 9.1).
func isExtension(s string) bool {
	name, params, more := strings.Cut(s, ";")
	if !isToken(strings.Trim(name, " \t")) {
		return false
	}
	for more {
		var param string
		param, params, more = strings.Cut(params, ";")
		key, value, hasValue := strings.Cut(param, "=")
		value = strings.Trim(value, " \t")
		if unquoted, err := strconv.Unquote(value); err == nil && strings.HasPrefix(value, `"`) {
			value = unquoted
		}
		if !isToken(strings.Trim(key, " \t")) || hasValue && !isToken(value) {
			return false
		}
	}
	return true
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isHost reports whether s has only characters of a host and a port (RFC 3986, section 3.2.2).
func isHost(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-._~!$&'()*+,;=%[]:", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s has no control character but tabs (RFC 9110, section 5.5).
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// acceptKey is the value of Sec-WebSocket-Accept for a key (RFC 6455, section 4.2.2).
func acceptKey(key []byte) string {
	var buf [keyLength + len(acceptGUID)]byte
	sum := sha1.Sum(append(append(buf[:0], key...), acceptGUID...))
	return string(base64.StdEncoding.AppendEncode(buf[:0], sum[:]))
}

// checkFields returns an error for a header field that could not be sent as it is.
func checkFields(header http.Header) error {
	for name, values := range header {
		if !isToken(name) {
			return fmt.Errorf("websocket: header field name %q is not a token", name)
		}
		for _, value := range values {
			if !isFieldValue(value) {
				return fmt.Errorf("websocket: header field %s has a control character", name)
			}
		}
	}
	return nil
}

// appendFields appends checked fields, in the order of their names, without the ones named.
func appendFields(dst []byte, header http.Header, without ...string) []byte {
	names := make([]string, 0, len(header))
	for name := range header {
		if !slices.ContainsFunc(without, func(s string) bool { return strings.EqualFold(s, name) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range header[name] {
			dst = append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
		}
	}
	return dst
}

// appendAccept appends the answer that opens the connection (RFC 6455, section 4.2.2).
func appendAccept(dst []byte, req *Handshake) []byte {
	const head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
	dst = append(slices.Grow(dst, len(head)+len("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")), head...)
	dst = append(append(dst, acceptKey(req.Key)...), "\r\n"...)
	dst = appendFields(dst, req.ResponseHeader, "Upgrade", "Connection", "Sec-WebSocket-Accept", "Content-Length")
	return append(dst, "\r\n"...)
}

// appendRefusal appends the answer to a request that is refused: the error's text is the reason in the status line.
func appendRefusal(dst []byte, err error) []byte {
	status, extra := http.StatusBadRequest, ""
	switch {
	case errors.Is(err, ErrUnsupportedWSVersion): // RFC 6455, section 4.4
		status, extra = http.StatusUpgradeRequired, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	case errors.Is(err, errUnknownPath):
		status = http.StatusNotFound
	case errors.Is(err, errHeaderTooLarge): // RFC 6585, section 5
		status = http.StatusRequestHeaderFieldsTooLarge
	}
	return appendResponse(dst, status, err.Error(), extra, "", nil)
}

// appendResponse appends an HTTP answer after which the connection is closed.
func appendResponse(dst []byte, status int, reason, extra, contentType string, body []byte) []byte {
	dst = append(strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(status), 10), ' ')
	dst = append(append(append(dst, oneLine(reason)...), "\r\n"...), extra...)
	if contentType != "" {
		dst = append(append(append(dst, "Content-Type: "...), oneLine(contentType)...), "\r\n"...)
	}
	dst = strconv.AppendInt(append(dst, "Content-Length: "...), int64(len(body)), 10)
	return append(append(dst, "\r\nConnection: close\r\n\r\n"...), body...)
}

// oneLine replaces control characters, so that no text can add a header line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return ' '
		}
		return r
	}, s)
}

// The fields that a client's request sets itself.
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

// checkAccept holds the head of a server's answer to the rules of RFC 6455, section 4.1. A refusal is an error with the
// status and its reason.
func checkAccept(head []byte, key string, offered http.Header) (http.Header, error) {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	version, status, ok := strings.Cut(string(line), " ")
	if !ok || !strings.HasPrefix(version, "HTTP/1.") || !isFieldValue(status) {
		return nil, errors.New("websocket: malformed status line")
	}
	code, _, _ := strings.Cut(status, " ")
	if code != strconv.Itoa(http.StatusSwitchingProtocols) {
		return nil, fmt.Errorf("websocket: handshake refused: %s", status)
	}
	if version != "HTTP/1.1" { // RFC 6455, section 4.2.2
		return nil, errors.New("websocket: answer is not HTTP/1.1")
	}
	header, err := parseFields(string(fields))
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
	extensions := extensionNames(offered)
	for _, chosen := range extensionNames(header) {
		if !slices.Contains(extensions, chosen) {
			return nil, errors.New("websocket: extension that was not offered")
		}
	}
	protocols := slices.Collect(listElements(strings.Join(offered["Sec-Websocket-Protocol"], ",")))
	if chosen := header["Sec-Websocket-Protocol"]; len(chosen) > 1 || chosen != nil && !slices.Contains(protocols, chosen[0]) {
		return nil, errors.New("websocket: subprotocol that was not offered")
	}
	return header, nil
}

// extensionNames returns the extensions of a header without their parameters.
func extensionNames(header http.Header) (names []string) {
	for element := range listElements(strings.Join(header["Sec-Websocket-Extensions"], ",")) {
		name, _, _ := strings.Cut(element, ";")
		names = append(names, strings.Trim(name, " \t"))
	}
	return names
}
