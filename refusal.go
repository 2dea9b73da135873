package websocket

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// HandshakeError is an answer to an opening handshake that is no connection (RFC 6455, section 4).
//
// A HandleAuth returns one, wrapped or not, to refuse with a status of its own: 401 with WWW-Authenticate, 302 with Location, 503 with
// Retry-After. The server keeps no reference to it, so several connections may be refused with the same one, which must not be changed
// meanwhile. What cannot be sent is answered with status 500, and the log is told at level error: a status that is not from 300 to 599,
// a control character in Reason or Header, a nil pointer.
//
// Client.Connect returns one for every answer but 101 and the redirects that it follows; errors.As finds it. It is the server's word, and
// belongs to the caller. A HandleAuth that returns it passes that answer on.
type HandshakeError struct {
	// Status is the status code. A server sends 300 to 599.
	Status int

	// Reason is what the status line says besides the code. If it is empty, a server sends the usual text of the status.
	Reason string

	// Header holds the header fields. A server sends them without those that are its own: Content-Length, Connection, Upgrade,
	// Transfer-Encoding, and all that begin with Sec-WebSocket-; status 426 has those that it needs. Content-Type is
	// "text/plain; charset=utf-8", and Cache-Control "no-store", unless they are given. From Client.Connect the names are
	// canonical, and the map is nil if the fields were malformed.
	Header http.Header

	// Body is the body. If it is nil, a server sends the reason as plain text; if it is empty, none. From Client.Connect it has what
	// has come of the body's first 4 KiB, which is awaited for a second at most, and not beyond HandshakeTimeout.
	Body []byte
}

// Error returns a text with the status and the reason.
func (err *HandshakeError) Error() string {
	if err == nil {
		return "websocket: handshake refused"
	}
	return strings.TrimRight(fmt.Sprintf("websocket: handshake refused: %d %s", err.Status, oneLine(err.reason())), " ")
}

// reason returns Reason, or the usual text of the status.
func (err *HandshakeError) reason() string {
	if err.Reason == "" {
		return http.StatusText(err.Status)
	}
	return err.Reason
}

// asHandshakeError returns the HandshakeError in an error, nil if there is none.
func asHandshakeError(err error) *HandshakeError {
	var own *HandshakeError
	if !errors.As(err, &own) {
		return nil
	}
	if own == nil { // a nil pointer that became an error
		return new(HandshakeError)
	}
	return own
}

// check returns an error if the answer cannot be sent.
func (err *HandshakeError) check() error {
	switch {
	case err.Status < 300 || err.Status > 599:
		return fmt.Errorf("websocket: HandshakeError: status %d is not from 300 to 599", err.Status)
	case !isFieldValue(err.Reason):
		return errors.New("websocket: HandshakeError: reason has a control character")
	}
	return checkFields(err.Header)
}

// answer returns what a server answers, if it can be sent.
func (err *HandshakeError) answer() answer {
	a := refusal(err.Status, err.reason(), "", "")
	if err.Status == http.StatusUpgradeRequired {
		a.fields = upgradeFields
	}
	header := make(http.Header, len(err.Header))
	for name, values := range err.Header {
		switch lower := strings.ToLower(name); {
		case lower == "content-length" || lower == "connection" || lower == "upgrade" || lower == "transfer-encoding":
		case strings.HasPrefix(lower, "sec-websocket-"):
		case lower == "content-type":
			if err.Body != nil && len(values) > 0 {
				a.contentType = values[0]
			}
		default:
			header[name] = values
			a.caches = a.caches || lower == "cache-control" && len(values) > 0
		}
	}
	a.fields += string(appendFields(nil, header))
	if err.Body != nil {
		a.body = err.Body
	}
	return a
}
