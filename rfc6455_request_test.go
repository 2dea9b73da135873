package websocket

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Section 4 at the server: requests, what they are answered with, to the byte, and whether TCP stays open. Clauses that no
// row shows:
//
//	4.2    proxies and TLS: the server offers neither
//	4.2.2  401, 403 and redirects: HandleAuth refuses with 400 and a text of its own, see TestHandshakeHandleAuth; so are the
//	       subprotocol and the extensions that it chooses
//	4.2.2  Origin, likewise; a browser's request is a row
//	4.3    the grammar of the fields is that of RFC 9110, which the rows with lists and tokens keep to
//
// The request of a client has rows in rfc6455_answer_test.go.

// Limits of the server that answers the rows.
const (
	rfcMaxHeader = 1000
	rfcMaxFields = 20
)

// rfcRequest is a row. TCP stays open with status 101; else the server ends it.
type rfcRequest struct {
	section string
	name    string
	in      string    // what the client sends
	status  int       // of the answer; 0: none
	err     error     // why it is refused
	text    string    // of the status line, where it is not that of err
	key     string    // of the request, where it is not that of the RFC
	out     []rfcSent // what follows the answer, for frames behind the request
	ends    bool      // the client ends its side
	wire    bool      // what a running server alone decides
	whole   bool      // it counts that all of it comes in one piece
}

// answer is what goes out.
func (row *rfcRequest) answer() string {
	text, extra := row.text, ""
	switch {
	case row.status == 0:
		return ""
	case row.status == 101:
		accept := handshakeAnswer
		if row.key != "" {
			accept = acceptKey([]byte(row.key))
		}
		return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Accept: " + accept + "\r\n\r\n"
	case row.status == 426: // section 4.4
		extra = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	}
	if text == "" {
		text = row.err.Error()
	}
	body := text
	switch row.err {
	case errPlainGet:
		body = portText
	case errUnknownPath:
		body += ". " + portText
	}
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
		row.status, text, extra, len(body))
	if strings.HasPrefix(row.in, "HEAD ") { // RFC 9110, section 9.3.2
		return head
	}
	return head + body
}

// rfcRequests are the rows.
func rfcRequests() []rfcRequest {
	table := append(append([]rfcRequest{}, rfcRefused...), rfcAccepted...)
	for _, field := range handshakeFields {
		name, _, _ := strings.Cut(field, ":")
		table = append(table, rfcRequest{section: "4.2.1", name: "a request without " + name,
			in: handshakeRequest(handshakeLine, name, handshakePad), status: 400, err: ErrMissingRequiredHeader})
	}
	return table
}

var rfcRefused = []rfcRequest{
	{section: "4.2.1", name: "POST is not GET", in: handshakeRequest("POST / HTTP/1.1"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "methods tell upper from lower case", in: handshakeRequest("get / HTTP/1.1"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "a method is told before a version", in: handshakeRequest("PUT / HTTP/1.0"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "HTTP/1.0 is not HTTP/1.1", in: handshakeRequest("GET / HTTP/1.0"), status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "HTTP/2.0 is not HTTP/1.1", in: handshakeRequest("GET / HTTP/2.0"), status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "a version with a blank behind it", in: handshakeRequest("GET / HTTP/1.1 "), status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "a version without a number", in: handshakeRequest("GET / HTTP/"), status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "no version", in: handshakeRequest("GET /"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "no target", in: handshakeRequest("GET HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "an empty target", in: handshakeRequest("GET  HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "a method alone", in: handshakeRequest("GET"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "an empty line, then fields", in: handshakeRequest(""), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "something else than HTTP", in: handshakeRequest("GET / ICAP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "HTTP in lower case", in: handshakeRequest("GET / http/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "a target with a blank", in: handshakeRequest("GET /a b HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "a target with a tab", in: handshakeRequest("GET /a\tb HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "4.2.1", name: "a target with a NUL", in: handshakeRequest("GET /\x00 HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "4.2.1", name: "a target with a control character", in: handshakeRequest("GET /\x1b HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "4.2.1", name: "a target with a bare CR", in: handshakeRequest("GET /\rX HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "4.2.1", name: "a target with DEL", in: handshakeRequest("GET /\x7f HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "3", name: "a target with a fragment", in: handshakeRequest("GET /#a HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: fragment in request target"},
	{section: "4.2.1", name: "a target with a broken percent-encoding", in: handshakeRequest("GET /%zz HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target that is no path", in: handshakeRequest("GET chat HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target that is only a query", in: handshakeRequest("GET ?a=b HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target with a scheme and no host", in: handshakeRequest("GET ws: HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target with a scheme and a path without slash", in: handshakeRequest("GET mailto:root HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target with an empty host", in: handshakeRequest("GET http:/// HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},

	{section: "4.2.1", name: "a target with user information", in: handshakeRequest("GET ws://user:secret@example.com/ HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: user information in request target"},
	{section: "4.2.1", name: "a target with a host that is none", in: handshakeRequest("GET ws://a,é/ HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target with a port that is none", in: handshakeRequest("GET ws://a:b/ HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a whole URI does not make up for a Host", in: handshakeRequest("GET ws://example.com/ HTTP/1.1", "Host", handshakePad), status: 400, err: ErrMissingRequiredHeader},
	{section: "4.2.1", name: "a target of a host and a port is for CONNECT", in: handshakeRequest("GET example.com:80 HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target of an address and a port is for CONNECT", in: handshakeRequest("GET 127.0.0.1:80 HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "CONNECT is not GET", in: handshakeRequest("CONNECT example.com:80 HTTP/1.1"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "an asterisk is for OPTIONS", in: handshakeRequest("GET * HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "OPTIONS of the whole server", in: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "OPTIONS is not GET", in: "OPTIONS / HTTP/1.0\r\n\r\n", status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "HEAD is not GET", in: handshakeRequest("HEAD / HTTP/1.1"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "HEAD with a malformed field", in: handshakeRequest("HEAD / HTTP/1.1", "+nothing"), status: 400, err: ErrInvalidHeaderFormat},

	{section: "4.2.1", name: "a plain request is told what the port is for", in: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", status: 426, err: errPlainGet, text: "Upgrade Required"},
	{section: "4.2.1", name: "a plain request of a browser", in: "GET /?a=b HTTP/1.1\r\nHost: localhost:9001\r\nConnection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9\r\nAccept-Language: en-US\r\n\r\n", status: 426, err: errPlainGet, text: "Upgrade Required"},
	{section: "4.2.1", name: "a plain request of HTTP/1.0 is not HTTP/1.1", in: "GET / HTTP/1.0\r\nHost: a\r\n\r\n", status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "a plain request with two hosts", in: "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a request with a key and no upgrade, as a proxy may leave it", in: handshakeRequest(handshakeLine, "Upgrade", "Connection: close", handshakePad), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "a short request without a header is too short", in: "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n", status: 400, err: ErrRequestLength},
	{section: "4.2.1", name: "a request of a line alone is too short", in: "GET / HTTP/1.1\r\n\r\n", status: 400, err: ErrRequestLength},
	{section: "4.2.1", name: "a request one byte short of the minimum is too short", in: handshakeSized(minRequest-1, false), status: 400, err: ErrRequestLength},
	{section: "4.2.1", name: "a request of the minimum with a short header part", in: handshakeSized(minRequest, true), status: 400, err: ErrRequestHeaderLength},
	{section: "4.2.1", name: "a long target does not make a header part", in: "GET /?" + strings.Repeat("a", 200) + " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", status: 400, err: ErrRequestHeaderLength},
	{section: "4.2.1", name: "a request that is cut off early is too short", in: "GET / HTTP/1.1\r\nHost: a\r\nConn", status: 400, err: ErrRequestLength, ends: true},
	{section: "4.2.1", name: "a request that is cut off in a short header part", in: "GET /?" + strings.Repeat("a", 200) + " HTTP/1.1\r\nHost: a", status: 400, err: ErrRequestHeaderLength, ends: true},
	{section: "4.2.1", name: "a request that is cut off late misses headers", in: strings.TrimSuffix(handshakeRequest(handshakeLine, handshakePad), "\r\n"), status: 400, err: ErrMissingRequiredHeader, ends: true},

	{section: "4.2.1", name: "a line without a colon", in: handshakeRequest(handshakeLine, "+nothing"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a field without a name", in: handshakeRequest(handshakeLine, "+: value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "white space before the colon", in: handshakeRequest(handshakeLine, "+X-A : value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "white space before the name", in: handshakeRequest(handshakeLine, "+ X-A: value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a folded line", in: handshakeRequest(handshakeLine, "+X-A: value", "+\tmore"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a folded line that looks like a field", in: handshakeRequest(handshakeLine, "+X-A: value", "+ X-B: more"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a name that is no token", in: handshakeRequest(handshakeLine, "+X(A): value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a name that is not ASCII", in: handshakeRequest(handshakeLine, "+X-é: value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with a NUL", in: handshakeRequest(handshakeLine, "+X-A: a\x00b"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with a bare CR", in: handshakeRequest(handshakeLine, "+X-A: a\rb"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with CR before the end of the line", in: handshakeRequest(handshakeLine, "+X-A: a\r"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with an escape", in: handshakeRequest(handshakeLine, "+X-A: \x1b[1m"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with DEL", in: handshakeRequest(handshakeLine, "+X-A: \x7f"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a bare LF behind a field", in: handshakeRequest(handshakeLine, "+X-A: a\nX-B: b"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a bare LF behind the request line", in: strings.Replace(handshakeRequest(handshakeLine), "\r\n", "\n", 1), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "bare LFs all over", in: strings.ReplaceAll(handshakeRequest(handshakeLine), "\r\n", "\n"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "an LF in front of everything", in: "\n" + handshakeRequest(handshakeLine), status: 400, err: ErrInvalidHeaderFormat},

	{section: "4.2.1", name: "Host twice", in: handshakeRequest(handshakeLine, "+Host: b"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "Host twice with one value", in: handshakeRequest(handshakeLine, "+host: server.example.com"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "an empty Host", in: handshakeRequest(handshakeLine, "Host:"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a Host with a blank inside", in: handshakeRequest(handshakeLine, "Host: a b"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a Host with quotes and brackets", in: handshakeRequest(handshakeLine, `Host: a"<>`), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a Host that is not ASCII", in: handshakeRequest(handshakeLine, "Host: ex\xffample"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a Host of blanks", in: handshakeRequest(handshakeLine, "Host: \t "), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "Connection twice without upgrade", in: handshakeRequest(handshakeLine, "Connection: keep-alive", "+Connection: close"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Connection with upgrade split over two lines", in: handshakeRequest(handshakeLine, "Connection: upg", "+Connection: rade"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "an empty Connection", in: handshakeRequest(handshakeLine, "Connection:"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Connection without upgrade", in: handshakeRequest(handshakeLine, "Connection: keep-alive, close"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Connection with a longer word", in: handshakeRequest(handshakeLine, "Connection: upgraded"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Connection with blanks for commas", in: handshakeRequest(handshakeLine, "Connection: keep-alive upgrade"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Upgrade twice to something else", in: handshakeRequest(handshakeLine, "Upgrade: h2c", "+Upgrade: TLS/1.2"), status: 400, err: ErrInvalidHeaderUpgrade},
	{section: "4.2.1", name: "an empty Upgrade", in: handshakeRequest(handshakeLine, "Upgrade:"), status: 400, err: ErrInvalidHeaderUpgrade},
	{section: "4.2.1", name: "Upgrade to something else", in: handshakeRequest(handshakeLine, "Upgrade: h2c"), status: 400, err: ErrInvalidHeaderUpgrade},
	{section: "4.2.1", name: "Upgrade with a version", in: handshakeRequest(handshakeLine, "Upgrade: websocket/13"), status: 400, err: ErrInvalidHeaderUpgrade},
	{section: "4.2.1", name: "Key twice", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Key: "+handshakeKey), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "an empty Key", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key:"), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 23 characters", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: "+handshakeKey[1:]), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 28 characters", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: AAAA"+handshakeKey), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 15 bytes", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 17 bytes", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 18 bytes", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key that is not base64", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of the URL alphabet", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: ____IHNhbXBsZSBub25jZQ=="), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "Version twice", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Version: 13"), status: 400, err: ErrInvalidHeaderWSVersion},
	{section: "4.2.1", name: "an empty Version", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Version:"), status: 400, err: ErrInvalidHeaderWSVersion},
	{section: "4.4", name: "Version 8", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Version: 8"), status: 426, err: ErrUnsupportedWSVersion},
	{section: "4.4", name: "Version 013", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Version: 013"), status: 426, err: ErrUnsupportedWSVersion},
	{section: "4.4", name: "Version as a list", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Version: 13, 8"), status: 426, err: ErrUnsupportedWSVersion},

	{section: "9.1", name: "an extension that is no token", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a b"), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension without a name", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: ;a=1"), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with an empty parameter", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a;"), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with an empty value", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a;b="), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with a quoted value that is no token", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Extensions: a;b="c d"`), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with an open quote", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Extensions: a;b="c`), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with an open quote and a backslash", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Extensions: a;b="c\`), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "the second extension field is wrong", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a", "+Sec-WebSocket-Extensions: b=c"), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "4.2.1", name: "a subprotocol that is no token", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Protocol: chat, super chat"), status: 400, err: ErrInvalidHeaderWSProtocol},
	{section: "4.2.1", name: "a subprotocol with a parameter", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Protocol: chat;v=1"), status: 400, err: ErrInvalidHeaderWSProtocol},
	{section: "4.2.1", name: "a subprotocol in quotes", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Protocol: "chat"`), status: 400, err: ErrInvalidHeaderWSProtocol},
	{section: "4.2.1", name: "a subprotocol with an open quote and a backslash", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Protocol: chat, "\`), status: 400, err: ErrInvalidHeaderWSProtocol},

	{section: "4.2.1", name: "a body by its length", in: handshakeRequest(handshakeLine, "+Content-Length: 1"), status: 400, err: errBody},
	{section: "4.2.1", name: "two lengths", in: handshakeRequest(handshakeLine, "+Content-Length: 0", "+Content-Length: 0"), status: 400, err: errBody},
	{section: "4.2.1", name: "a list of lengths", in: handshakeRequest(handshakeLine, "+Content-Length: 0, 0"), status: 400, err: errBody},
	{section: "4.2.1", name: "a length with a sign", in: handshakeRequest(handshakeLine, "+Content-Length: +0"), status: 400, err: errBody},
	{section: "4.2.1", name: "a body in chunks", in: handshakeRequest(handshakeLine, "+Transfer-Encoding: chunked"), status: 400, err: errBody},
	{section: "4.2.1", name: "an empty transfer encoding", in: handshakeRequest(handshakeLine, "+Transfer-Encoding:"), status: 400, err: errBody},

	{section: "4.2.2", name: "an unknown path", in: handshakeRequest("GET /nowhere?q=1 HTTP/1.1"), status: 404, err: errUnknownPath, wire: true},
	{section: "4.2.2", name: "an unknown path without any header", in: "GET /x HTTP/1.1\r\n\r\n", status: 404, err: errUnknownPath, wire: true},
	{section: "4.1", name: "a second request behind the first", in: handshakeRequest(handshakeLine) + handshakeRequest(handshakeLine), status: 400, err: errPipelined, wire: true, whole: true},
	{section: "4.2.1", name: "a client that connects and leaves is told nothing", ends: true, wire: true},
	{section: "10.4", name: "one byte over the limit", in: rfcPadded(rfcMaxHeader + 1), status: 431, err: errHeaderTooLarge},
	{section: "10.4", name: "one field over the limit", in: rfcFilled(rfcMaxFields + 1), status: 431, err: errHeaderTooLarge},
	{section: "10.4", name: "a line without end", in: strings.Repeat("x", 3*rfcMaxHeader), status: 431, err: errHeaderTooLarge},
}

var rfcAccepted = []rfcRequest{
	{section: "1.3", name: "the example", in: "GET / HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + handshakeKey + "\r\nOrigin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n", status: 101},
	{section: "4.2.1", name: "a complete request however short", in: "GET / HTTP/1.1\r\nHost:a\r\nConnection:upgrade\r\nUpgrade:websocket\r\nSec-WebSocket-Key:" + handshakeKey + "\r\nSec-WebSocket-Version:13\r\n\r\n", status: 101},
	{section: "4.2.1", name: "an empty line in front", in: "\r\n" + handshakeRequest(handshakeLine), status: 101},
	{section: "4.2.1", name: "any case of names", in: strings.NewReplacer("Host:", "hOST:", "Sec-WebSocket-Key:", "SEC-WEBSOCKET-KEY:", "Upgrade:", "upgrade:").Replace(handshakeRequest(handshakeLine)), status: 101},
	{section: "4.2.1", name: "no white space around values", in: handshakeRequest(handshakeLine, "Host:a", "Connection:Upgrade", "Upgrade:websocket"), status: 101},
	{section: "4.2.1", name: "Connection and Upgrade as lists, in any case", in: handshakeRequest(handshakeLine, "Connection: keep-alive , UPGRADE,", "Upgrade: h2c,,WebSocket"), status: 101},
	{section: "4.2.1", name: "Connection over several lines, the token in any of them", in: handshakeRequest(handshakeLine, "Connection: keep-alive", "+Connection: Upgrade", "+Connection:"), status: 101},
	{section: "4.2.1", name: "Connection twice with the same token", in: handshakeRequest(handshakeLine, "+connection: upgrade"), status: 101},
	{section: "4.2.1", name: "Upgrade over several lines", in: handshakeRequest(handshakeLine, "Upgrade: h2c", "+Upgrade: websocket"), status: 101},
	{section: "4.2.1", name: "Upgrade twice with the same token", in: handshakeRequest(handshakeLine, "+Upgrade: websocket"), status: 101},
	{section: "4.2.1", name: "a Key with bits behind its end", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: "+handshakePadded), status: 101, key: handshakePadded},
	{section: "4.2.1", name: "a Key with all bits behind its end", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: "+strings.Repeat("/", 22)+"=="), status: 101, key: strings.Repeat("/", 22) + "=="},
	{section: "9.1", name: "empty elements and empty lists of Extensions and Protocol", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: , a ,,", "+Sec-WebSocket-Protocol:"), status: 101},
	{section: "9.1", name: "white space inside an extension", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a ; b = 1 ;\tc"), status: 101},
	{section: "9.1", name: "an extension's value in quotes", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Extensions: a; b="10"`), status: 101},
	{section: "4.2.1", name: "a body of no length", in: handshakeRequest(handshakeLine, "+Content-Length: 0"), status: 101},
	{section: "4.2.1", name: "a request of a browser", in: handshakeRequest(handshakeLine, "Connection: keep-alive, Upgrade", "+Origin: null", "+User-Agent: Mozilla/5.0", "+Cookie: a=b; c=d", "+Cache-Control: no-cache", "+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), status: 101},
	{section: "4.2.1", name: "a query is for the program", in: handshakeRequest("GET /?x=1&y=%20 HTTP/1.1"), status: 101},
	{section: "4.2.1", name: "a whole URI", in: handshakeRequest("GET ws://example.com:80/ HTTP/1.1"), status: 101},
	{section: "4.2.2", name: "what is offered and not chosen is not in the answer", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Protocol: chat", "+Sec-WebSocket-Protocol: v2", "+Sec-WebSocket-Extensions: a; b=1"), status: 101},
	{section: "4.1", name: "frames in one piece with the request, too early for a client, are answered behind it", in: handshakeRequest(handshakeLine) + string(rfcFrame(0x81, "first")(true)) + string(rfcFrame(0x89, "p")(true)), status: 101, out: []rfcSent{{OpcodeText, "first"}, {OpcodePong, "p"}}},
	{section: "4.1", name: "a Close in one piece with the request is answered behind it", in: handshakeRequest(handshakeLine) + string(rfcClose(4000, "bye")(true)), status: 101, out: []rfcSent{rfcSentClose(4000, "bye")}},
	{section: "4.1", name: "a breach in one piece with the request is answered behind it", in: handshakeRequest(handshakeLine) + "\x81\x00", status: 101, out: []rfcSent{rfcSentClose(1002, errNotMasked.text)}},
	{section: "10.4", name: "one byte below the limit", in: rfcPadded(rfcMaxHeader - 1), status: 101},
	{section: "10.4", name: "as many bytes as the limit", in: rfcPadded(rfcMaxHeader), status: 101},
	{section: "10.4", name: "one field below the limit", in: rfcFilled(rfcMaxFields - 1), status: 101},
	{section: "10.4", name: "as many fields as the limit", in: rfcFilled(rfcMaxFields), status: 101},
}

// rfcPadded is a good request of that size.
func rfcPadded(size int) string {
	short := handshakeRequest(handshakeLine, "+X: ")
	return handshakeRequest(handshakeLine, "+X: "+strings.Repeat("x", size-len(short)))
}

// rfcFilled is a good request with that many fields.
func rfcFilled(fields int) string {
	more := make([]string, fields-len(handshakeFields))
	for i := range more {
		more[i] = "+X: y"
	}
	return handshakeRequest(handshakeLine, more...)
}

// handshakeSized is a request of that size which lacks a header; its header part is short where the target takes the room.
func handshakeSized(size int, target bool) string {
	short := handshakeRequest(handshakeLine, "Sec-WebSocket-Key")
	if target {
		return strings.Replace(short, "GET /", "GET /?"+strings.Repeat("a", size-len(short)-1), 1)
	}
	return strings.Replace(short, "Host: ", "Host: "+strings.Repeat("a", size-len(short)), 1)
}

// rfcJudge takes a request in pieces, as a server does, without one.
func rfcJudge(pieces ...[]byte) (answer string, err error) {
	var s headerScanner
	var b []byte
	for _, piece := range pieces {
		b = append(b, piece...)
		n, err := s.scan(b, rfcMaxHeader, rfcMaxFields)
		if err == nil && n == 0 {
			continue
		}
		var req *Handshake
		if err == nil {
			req, err = parseRequest(b[:n])
		}
		if err == nil {
			err = req.check()
		}
		if err != nil {
			return string(appendRefusal(nil, err, asksHead(b))), err
		}
		return string(appendAccept(nil, req)), nil
	}
	err = cutOff(b)
	return string(appendRefusal(nil, err, asksHead(b))), err
}

// rfcRunRequests runs the rows without I/O.
func rfcRunRequests(t *testing.T, count *rfcCount) {
	for _, row := range rfcRequests() {
		if row.wire {
			continue
		}
		t.Run(row.section+": "+row.name, func(t *testing.T) {
			check := func(how string, pieces ...[]byte) {
				count.runs.Add(1)
				answer, err := rfcJudge(pieces...)
				require.ErrorIs(t, err, row.err, how)
				require.Equal(t, row.answer(), answer, how)
			}
			check("whole", []byte(row.in))
			check("byte by byte", rfcEach([]byte(row.in), 1)...)
			for cut := 1; cut < len(row.in); cut++ {
				check(fmt.Sprintf("cut at %d", cut), []byte(row.in[:cut]), []byte(row.in[cut:]))
			}
		})
	}
}
