package websocket

import (
	"encoding/binary"
	"unicode/utf8"
)

// CloseCode is the status code that a Close frame carries (RFC 6455, section 7.4).
type CloseCode uint16

// Status codes for Close frames (RFC 6455, section 7.4.1). A program may also send 1012 to 1014, which are registered, and
// 3000 to 4999, which are for libraries and applications. Any other code must not be on the wire; an endpoint that receives
// one answers with StatusBadRequest.
const (
	// StatusNormal says that the purpose of the connection has been fulfilled.
	StatusNormal CloseCode = 1000

	// StatusGone says that the endpoint is going away: a server stops, or a browser leaves the page.
	StatusGone = 1001

	// StatusBadRequest says that the peer broke the protocol.
	StatusBadRequest = 1002

	// StatusUnsupportedType says that the endpoint cannot take this type of data.
	StatusUnsupportedType = 1003

	// StatusInvalidData says that a message was not what its type claims, such as text that is not UTF-8.
	StatusInvalidData = 1007

	// StatusForbidden says that a message is against the endpoint's policy.
	StatusForbidden = 1008

	// StatusRequestEntityTooLarge says that a message is longer than the endpoint takes.
	StatusRequestEntityTooLarge = 1009

	// StatusBadGateway is sent by a client that misses an extension in the server's opening handshake.
	StatusBadGateway = 1010

	// StatusInternalError says that the server met a condition that keeps it from going on.
	StatusInternalError = 1011
)

// statusNone stands for a Close frame without a code (RFC 6455, section 7.1.5).
const statusNone CloseCode = 1005

// maxControl is the largest payload of a control frame in bytes (RFC 6455, section 5.5).
const maxControl = 125

// onWire reports whether a Close frame may carry the code (RFC 6455, section 7.4.2).
func (code CloseCode) onWire() bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return code >= 3000 && code <= 4999
}

// parseCloseBody returns the code and the reason of a Close frame's body. An empty body has code 0 (RFC 6455, section 7.1.5).
// The reason is a part of body.
func parseCloseBody(body []byte) (code CloseCode, reason []byte, err *protocolError) {
	if len(body) == 0 {
		return 0, nil, nil
	}
	if len(body) == 1 {
		return 0, nil, errCloseShort
	}
	code, reason = CloseCode(binary.BigEndian.Uint16(body)), body[2:]
	if !code.onWire() {
		return 0, nil, errCloseCode
	}
	if !utf8.Valid(reason) {
		return 0, nil, errCloseReason
	}
	return code, reason, nil
}

// appendCloseBody appends the body of a Close frame; a reason that does not fit is cut between two characters.
func appendCloseBody(dst []byte, code CloseCode, reason []byte) []byte {
	const room = maxControl - 2
	if len(reason) > room {
		cut := room
		for cut > room-utf8.UTFMax && !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut]
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}
