package websocket

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// What RFC 6455 section 1.3 appends to the key before it is hashed.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// acceptKey is the value of Sec-WebSocket-Accept for a key (RFC 6455, section 4.2.2).
func acceptKey(key []byte) string {
	var buf [keyLength + len(acceptGUID)]byte
	sum := sha1.Sum(append(append(buf[:0], key...), acceptGUID...))
	return string(base64.StdEncoding.AppendEncode(buf[:0], sum[:]))
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
