package websocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"unicode/utf8"
)

// Errors of the opening handshake. A server writes their text into the status line of its answer, so that a client can tell
// why it was refused.
var (
	ErrBadRequest                = errors.New("bad request")
	ErrRequestLength             = errors.New("bad request: length is less than minimum")
	ErrRequestHeaderLength       = errors.New("bad request: header length is less than minimum")
	ErrInvalidHTTPMethod         = errors.New("invalid HTTP method")
	ErrInvalidHTTPVersion        = errors.New("invalid HTTP version")
	ErrInvalidHeaderUpgrade      = errors.New("invalid Upgrade header")
	ErrInvalidHeaderFormat       = errors.New("invalid Header format")
	ErrInvalidHeaderHost         = errors.New("invalid Host header")
	ErrInvalidHeaderWSKey        = errors.New("invalid Sec-Websocket-Key header")
	ErrInvalidHeaderWSVersion    = errors.New("invalid Sec-Websocket-Version header")
	ErrInvalidHeaderWSExtensions = errors.New("invalid Sec-Websocket-Extensions header")
	ErrInvalidHeaderWSProtocol   = errors.New("invalid Sec-Websocket-Protocol header")
	ErrInvalidHeaderConn         = errors.New("invalid Connection header")
	ErrMissingRequiredHeader     = errors.New("missing required headers")
	ErrUnsupportedWSVersion      = errors.New("unsupported Sec-WebSocket-Version")
)

// Errors of RegisterTextHandler.
var (
	ErrRouteInvMethod = errors.New("invalid method")
	ErrRouteInvTarget = errors.New("invalid target")
	ErrRouteDupParam  = errors.New("duplicate parameter on route")
)

var (
	// ErrConnClosed is what sending returns once the connection takes no more data: it was never opened, a Close frame was
	// sent on it, it was removed, or the peer is gone. It matches net.ErrClosed too.
	ErrConnClosed error = closedError("websocket: client is not connected")

	// ErrSendQueueFull is returned when a packet finds no room in the send queue of a connection: immediately by TrySend and
	// by the ClientManager's sends, after the write time-out by Send. Nothing of the packet was sent; the connection lives on.
	ErrSendQueueFull = errors.New("websocket: send queue is full")

	// ErrWriteTimeout is returned when a peer took no byte for the write time-out. On a server the connection has been
	// removed. It matches ErrConnClosed and net.ErrClosed too.
	ErrWriteTimeout = fmt.Errorf("websocket: peer takes no data: write time-out: %w", ErrConnClosed)

	// ErrManaged is returned by Recv for a connection of a Server: the server itself reads it.
	ErrManaged = errors.New("websocket: connection is read by its server")

	// ErrServerRunning is returned by Start and Serve while the server runs, a Shutdown included.
	ErrServerRunning = errors.New("websocket: server is already running")

	// ErrUnsupported is returned by Start and Serve on a system without a poller, and by Serve for a listener that has no
	// descriptor. It matches errors.ErrUnsupported.
	ErrUnsupported = fmt.Errorf("websocket: server: %w", errors.ErrUnsupported)
)

// closedError is an error that matches net.ErrClosed.
type closedError string

func (err closedError) Error() string { return string(err) }

func (err closedError) Is(target error) bool { return target == net.ErrClosed }

// CloseError says how a connection ended: with a Close frame with this code and reason, sent or received.
type CloseError struct {
	Reason string
	Code   CloseCode
}

// Error returns a text with the code and, if there is one, the reason.
func (err *CloseError) Error() string {
	if err.Reason == "" {
		return fmt.Sprintf("websocket: closed with %d", err.Code)
	}
	return fmt.Sprintf("websocket: closed with %d: %s", err.Code, err.Reason)
}

// Is makes a CloseError match ErrConnClosed and net.ErrClosed.
func (err *CloseError) Is(target error) bool {
	return target == ErrConnClosed || target == net.ErrClosed
}

// CloseCause says why a connection of a Server ended.
type CloseCause struct {
	// Code and Reason are those of the Close frame that ended the connection: the peer's, or the one that was sent to the peer if the
	// end began here. Code is 0 if there was none, or if the peer's had none.
	Code   CloseCode
	Reason string

	// Kind is what kind of end it was.
	Kind CloseKind
}

// CloseKind is a kind of end of a connection. There may be more of them in time.
type CloseKind uint8

// The kinds of end. What came first counts: a connection that is removed, and whose peer then vanishes, was removed.
const (
	// ClosedByPeer says that the peer has sent a Close frame.
	ClosedByPeer CloseKind = iota + 1

	// ClosedProtocolError says that the peer broke the protocol, or went beyond a limit: StatusBadRequest, StatusInvalidData or
	// StatusRequestEntityTooLarge was sent to it.
	ClosedProtocolError

	// ClosedSilent says that the peer did not answer a Ping for ServerOptions.SilenceTimeout: StatusForbidden was sent to it.
	ClosedSilent

	// ClosedSlow says that the peer took no data for ServerOptions.WriteTimeout.
	ClosedSlow

	// ClosedLost says that TCP ended without a Close frame: the peer ended its side, or the connection was reset or timed out.
	ClosedLost

	// ClosedRemoved says that the program ended the connection: by Server.ClientRemove, with StatusNormal, by ClientManager.Close, or by
	// sending a Close frame, whether the peer has answered it or not.
	ClosedRemoved

	// ClosedPanicked says that a handler of the connection panicked, or ended its goroutine: StatusInternalError was sent to the peer.
	ClosedPanicked

	// ClosedShutdown says that the server stopped, or was shut down: StatusGone was sent to the peer.
	ClosedShutdown
)

// String returns a few words for logs and metrics, such as "protocol error".
func (kind CloseKind) String() string {
	switch kind {
	case ClosedByPeer:
		return "peer"
	case ClosedProtocolError:
		return "protocol error"
	case ClosedSilent:
		return "silent"
	case ClosedSlow:
		return "slow"
	case ClosedLost:
		return "lost"
	case ClosedRemoved:
		return "removed"
	case ClosedPanicked:
		return "handler panicked"
	case ClosedShutdown:
		return "shut down"
	}
	return fmt.Sprintf("CloseKind(%d)", uint8(kind))
}

// protocolError is a breach of RFC 6455 by the peer, with the code of the Close frame that answers it.
type protocolError struct {
	text string
	code CloseCode
}

func (err *protocolError) Error() string { return "websocket: " + err.text }

// Every reason for which a receiver fails a connection, with its close code. The section is that of RFC 6455.
var (
	errReservedBits     = &protocolError{"reserved bit is set", StatusBadRequest}                        // 5.2
	errReservedOpcode   = &protocolError{"reserved opcode", StatusBadRequest}                            // 5.2
	errLengthForm       = &protocolError{"payload length is not in its shortest form", StatusBadRequest} // 5.2
	errLengthRange      = &protocolError{"payload length has its top bit set", StatusBadRequest}         // 5.2
	errNotMasked        = &protocolError{"frame from client is not masked", StatusBadRequest}            // 5.1
	errMasked           = &protocolError{"frame from server is masked", StatusBadRequest}                // 5.1
	errNoStart          = &protocolError{"continuation without a started message", StatusBadRequest}     // 5.4
	errInterleaved      = &protocolError{"new message inside a fragmented one", StatusBadRequest}        // 5.4
	errControlFragment  = &protocolError{"fragmented control frame", StatusBadRequest}                   // 5.5
	errControlLength    = &protocolError{"control frame longer than 125 bytes", StatusBadRequest}        // 5.5
	errCloseShort       = &protocolError{"close frame with one byte", StatusBadRequest}                  // 5.5.1
	errCloseCode        = &protocolError{"close code that must not be on the wire", StatusBadRequest}    // 7.4
	errCloseReason      = &protocolError{"close reason is not UTF-8", StatusBadRequest}                  // 5.5.1
	errNotUTF8          = &protocolError{"text is not UTF-8", StatusInvalidData}                         // 8.1
	errNotDeflate       = &protocolError{"compressed data is invalid", StatusInvalidData}                // RFC 7692, section 7.2.2
	errMessageTooLarge  = &protocolError{"message is too large", StatusRequestEntityTooLarge}            // 10.4
	errTooManyFragments = &protocolError{"message has too many fragments", StatusRequestEntityTooLarge}  // 10.4
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

// lastClose returns the code and the reason of the Close frame at the end of a packet: as they are, valid or not.
func lastClose(packet []byte) (code CloseCode, reason string) {
	for len(packet) > 0 {
		h, n := parseHeader(packet)
		end := n + int(h.length)
		if end == len(packet) && h.length >= 2 {
			body := packet[n:]
			return CloseCode(binary.BigEndian.Uint16(body)), string(body[2:])
		}
		packet = packet[end:]
	}
	return 0, ""
}

// checkClose returns an error if a program must not send a Close frame with a code and a reason.
func checkClose(code CloseCode, reason string) error {
	if !code.onWire() {
		return fmt.Errorf("websocket: close code %d must not be on the wire", code) // RFC 6455, section 7.4.2
	}
	if !utf8.ValidString(reason) {
		return errors.New("websocket: close reason is not UTF-8") // RFC 6455, section 5.5.1
	}
	return nil
}

// appendCloseBody appends the body of a Close frame; a reason that does not fit is cut.
func appendCloseBody(dst []byte, code CloseCode, reason []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, cutReason(reason)...)
}

// cutReason cuts a reason that does not fit into a Close frame, between two characters.
func cutReason[T string | []byte](reason T) T {
	const room = maxControl - 2
	if len(reason) <= room {
		return reason
	}
	cut := room
	for cut > room-utf8.UTFMax && !utf8.RuneStart(reason[cut]) {
		cut--
	}
	return reason[:cut]
}
