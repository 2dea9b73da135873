package websocket

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// acceptGUID is what is appended to the key before it is hashed (RFC 6455, section 1.3).
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// acceptKey returns the value of Sec-WebSocket-Accept for a key (RFC 6455, section 4.2.2).
func acceptKey(key []byte) string {
	var buf [keyLength + len(acceptGUID)]byte
	sum := sha1.Sum(append(append(buf[:0], key...), acceptGUID...))
	return string(base64.StdEncoding.AppendEncode(buf[:0], sum[:]))
}

// appendAccept appends the response that opens the connection (RFC 6455, section 4.2.2).
func appendAccept(dst []byte, req *Handshake) []byte {
	const head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
	dst = append(slices.Grow(dst, len(head)+len("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")), head...)
	dst = append(append(dst, acceptKey(req.Key)...), "\r\n"...)
	if _, ok := req.answers("Sec-WebSocket-Protocol"); req.Subprotocol != "" && !ok {
		dst = append(append(append(dst, "Sec-WebSocket-Protocol: "...), req.Subprotocol...), "\r\n"...)
	}
	if req.extension != "" {
		dst = append(append(append(dst, "Sec-WebSocket-Extensions: "...), req.extension...), "\r\n"...)
	}
	dst = appendFields(dst, req.ResponseHeader, "Upgrade", "Connection", "Sec-WebSocket-Accept", "Content-Length")
	return append(dst, "\r\n"...)
}

// Reasons for refusing a request that is not at fault itself, or was not complete in time.
var (
	errSlowRequest   = errors.New("request takes too long")
	errHandlerFailed = errors.New("handler failed")
	errTooMany       = errors.New("too many connections")

	errPlainHTTP        = errors.New("plain HTTP on a port for TLS")
	errTooManyOfAddress = errors.New("too many connections from this address")
	errStopped          = errors.New("server is stopped")
	errGoing            = errors.New("server is shutting down")
	errNoTakeover       = errors.New("connection cannot be taken over")
)

// portText tells a stranger what this port is for.
const portText = "This port serves WebSocket connections (RFC 6455)."

// tlsText tells a client that speaks plain HTTP what this port is for.
const tlsText = "This port is for TLS: use https or wss."

// plainText is the type of the bodies that are the server's own.
const plainText = "text/plain; charset=utf-8"

// answer is what is answered to a request that opens no connection.
type answer struct {
	status      int
	reason      string // for the status line
	fields      string // fields besides those that every answer has
	contentType string // empty: none
	body        []byte
	caches      bool // the fields say what caches may do
}

// refusal returns the answer that tells why, with a text for the body if it says more than the reason.
func refusal(status int, reason, fields, text string) answer {
	if text == "" {
		text = oneLine(reason)
	}
	return answer{status: status, reason: reason, fields: fields, contentType: plainText, body: []byte(text)}
}

// upgradeFields are for a client that has to come another way (RFC 6455, section 4.4; RFC 9110, section 15.5.22).
const upgradeFields = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

// refusalFor returns how a request is refused because of an error. The reason is the error's text, unless HTTP has one for the
// status, or the error is a HandshakeError.
func refusalFor(err error) answer {
	if own := asHandshakeError(err); own != nil {
		if own.check() != nil {
			err = errHandlerFailed
		} else {
			return own.answer()
		}
	}
	reason := err.Error()
	switch {
	case errors.Is(err, ErrUnsupportedWSVersion):
		return refusal(http.StatusUpgradeRequired, reason, upgradeFields, "")
	case errors.Is(err, errPlainGet):
		return refusal(http.StatusUpgradeRequired, http.StatusText(http.StatusUpgradeRequired), upgradeFields, portText)
	case errors.Is(err, ErrInvalidHTTPMethod):
		return refusal(http.StatusBadRequest, reason, "", reason+". "+portText)
	case errors.Is(err, errUnknownPath):
		return refusal(http.StatusNotFound, reason, "", reason+". "+portText)
	case errors.Is(err, errOrigin):
		return refusal(http.StatusForbidden, reason, "", "")
	case errors.Is(err, errHeaderTooLarge): // RFC 6585, section 5
		return refusal(http.StatusRequestHeaderFieldsTooLarge, reason, "", "")
	case errors.Is(err, errSlowRequest):
		return refusal(http.StatusRequestTimeout, http.StatusText(http.StatusRequestTimeout), "", "")
	case errors.Is(err, errHandlerFailed):
		return refusal(http.StatusInternalServerError, http.StatusText(http.StatusInternalServerError), "", "")
	case errors.Is(err, errNoTakeover):
		return refusal(http.StatusInternalServerError, http.StatusText(http.StatusInternalServerError), "", reason)
	case errors.Is(err, errPlainHTTP):
		return refusal(http.StatusBadRequest, http.StatusText(http.StatusBadRequest), "", tlsText)
	case errors.Is(err, errTooMany), errors.Is(err, errTooManyOfAddress), errors.Is(err, errStopped), errors.Is(err, errGoing):
		return refusal(http.StatusServiceUnavailable, reason, "Retry-After: 10\r\n", "")
	}
	return refusal(http.StatusBadRequest, reason, "", "")
}

// appendRefusal appends the response to a request that is refused. The text is in the body too, since proxies drop the reason
// of a status line.
func appendRefusal(dst []byte, err error, isHead bool) []byte {
	return refusalFor(err).append(dst, isHead)
}

// asksHead reports whether a request, of which only the beginning may be there, is a HEAD request.
func asksHead(request []byte) bool {
	return bytes.HasPrefix(bytes.TrimPrefix(request, []byte("\r\n")), []byte(http.MethodHead+" "))
}

// appendStatus appends the response to a request for StatusPath.
func appendStatus(dst []byte, req *Handshake, contentType string, body []byte) []byte {
	ok := answer{status: http.StatusOK, reason: http.StatusText(http.StatusOK), contentType: contentType, body: body}
	return ok.append(dst, req.verb == verbHead)
}

// appendOptions appends the response that lists the methods of StatusPath (RFC 9110, section 9.3.7).
func appendOptions(dst []byte) []byte {
	ok := answer{status: http.StatusOK, reason: http.StatusText(http.StatusOK), fields: "Allow: GET, HEAD, OPTIONS\r\n"}
	return ok.append(dst, false)
}

// append appends the answer, after which the connection is closed. No cache may keep it, unless its fields say otherwise: it is about
// this moment. The answer to a HEAD request has the length of the body but not the body (RFC 9110, section 9.3.2), and that of a status
// without content neither (section 15.4.5).
func (a answer) append(dst []byte, isHead bool) []byte {
	dst = append(strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(a.status), 10), ' ')
	dst = append(append(append(dst, oneLine(a.reason)...), "\r\n"...), a.fields...)
	if a.contentType != "" {
		dst = append(append(append(dst, "Content-Type: "...), oneLine(a.contentType)...), "\r\n"...)
	}
	isEmpty := a.status == http.StatusNotModified
	if !isEmpty {
		dst = append(strconv.AppendInt(append(dst, "Content-Length: "...), int64(len(a.body)), 10), "\r\n"...)
	}
	if !a.caches {
		dst = append(dst, "Cache-Control: no-store\r\n"...)
	}
	dst = append(dst, "Connection: close\r\n\r\n"...)
	if isHead || isEmpty {
		return dst
	}
	return append(dst, a.body...)
}

// oneLine replaces control characters with spaces, so that no text can add a header line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return ' '
		}
		return r
	}, s)
}
