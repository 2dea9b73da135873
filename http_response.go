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
	dst = appendFields(dst, req.ResponseHeader, "Upgrade", "Connection", "Sec-WebSocket-Accept", "Content-Length")
	return append(dst, "\r\n"...)
}

// Reasons for refusing a request that is not at fault itself, or was not complete in time.
var (
	errSlowRequest   = errors.New("request takes too long")
	errHandlerFailed = errors.New("handler failed")
	errTooMany       = errors.New("too many connections")

	errTooManyOfAddress = errors.New("too many connections from this address")
)

// portText tells a stranger what this port is for.
const portText = "This port serves WebSocket connections (RFC 6455)."

// refusal is how a request is refused.
type refusal struct {
	status int
	reason string // for the status line
	fields string // fields besides those that every response has
	text   string // for the body, if it says more than the reason
}

// refusalFor returns how a request is refused because of an error. The reason is the error's text, unless HTTP has one for the
// status.
func refusalFor(err error) refusal {
	const upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	reason := err.Error()
	switch {
	case errors.Is(err, ErrUnsupportedWSVersion): // RFC 6455, section 4.4
		return refusal{status: http.StatusUpgradeRequired, reason: reason, fields: upgrade}
	case errors.Is(err, errPlainGet): // RFC 9110, section 15.5.22
		return refusal{status: http.StatusUpgradeRequired, reason: http.StatusText(http.StatusUpgradeRequired), fields: upgrade, text: portText}
	case errors.Is(err, errUnknownPath):
		return refusal{status: http.StatusNotFound, reason: reason, text: reason + ". " + portText}
	case errors.Is(err, errHeaderTooLarge): // RFC 6585, section 5
		return refusal{status: http.StatusRequestHeaderFieldsTooLarge, reason: reason}
	case errors.Is(err, errSlowRequest):
		return refusal{status: http.StatusRequestTimeout, reason: http.StatusText(http.StatusRequestTimeout)}
	case errors.Is(err, errHandlerFailed):
		return refusal{status: http.StatusInternalServerError, reason: http.StatusText(http.StatusInternalServerError)}
	case errors.Is(err, errTooMany), errors.Is(err, errTooManyOfAddress):
		return refusal{status: http.StatusServiceUnavailable, reason: reason, fields: "Retry-After: 10\r\n"}
	}
	return refusal{status: http.StatusBadRequest, reason: reason}
}

// appendRefusal appends the response to a request that is refused. The text is in the body too, since proxies drop the reason
// of a status line.
func appendRefusal(dst []byte, err error, isHead bool) []byte {
	r := refusalFor(err)
	if r.text == "" {
		r.text = oneLine(r.reason)
	}
	return appendResponse(dst, isHead, r.status, r.reason, r.fields, "text/plain; charset=utf-8", []byte(r.text))
}

// asksHead reports whether a request, of which only the beginning may be there, is a HEAD request.
func asksHead(request []byte) bool {
	return bytes.HasPrefix(bytes.TrimPrefix(request, []byte("\r\n")), []byte(http.MethodHead+" "))
}

// appendStatus appends the response to a request for StatusPath.
func appendStatus(dst []byte, req *Handshake, contentType string, body []byte) []byte {
	return appendResponse(dst, req.verb == verbHead, http.StatusOK, http.StatusText(http.StatusOK), "", contentType, body)
}

// appendOptions appends the response that lists the methods of StatusPath (RFC 9110, section 9.3.7).
func appendOptions(dst []byte) []byte {
	return appendResponse(dst, false, http.StatusOK, http.StatusText(http.StatusOK), "Allow: GET, HEAD, OPTIONS\r\n", "", nil)
}

// appendResponse appends an HTTP response, after which the connection is closed. No cache may keep it: it is about this moment.
// The response to a HEAD request has the length of the body but not the body (RFC 9110, section 9.3.2).
func appendResponse(dst []byte, isHead bool, status int, reason, fields, contentType string, body []byte) []byte {
	dst = append(strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(status), 10), ' ')
	dst = append(append(append(dst, oneLine(reason)...), "\r\n"...), fields...)
	if contentType != "" {
		dst = append(append(append(dst, "Content-Type: "...), oneLine(contentType)...), "\r\n"...)
	}
	dst = strconv.AppendInt(append(dst, "Content-Length: "...), int64(len(body)), 10)
	dst = append(dst, "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"...)
	if isHead {
		return dst
	}
	return append(dst, body...)
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
