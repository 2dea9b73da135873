package websocket

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestErrorsMatch(t *testing.T) {
	cases := []struct {
		name   string
		err    error
		target error
		want   bool
	}{
		{"ErrConnClosed is a closed connection of net", ErrConnClosed, net.ErrClosed, true},
		{"ErrConnClosed is itself", ErrConnClosed, ErrConnClosed, true},
		{"ErrConnClosed is not a time-out", ErrConnClosed, ErrWriteTimeout, false},
		{"ErrWriteTimeout is a closed connection", ErrWriteTimeout, ErrConnClosed, true},
		{"ErrWriteTimeout is a closed connection of net", ErrWriteTimeout, net.ErrClosed, true},
		{"a CloseError is a closed connection", &CloseError{Code: 1000}, ErrConnClosed, true},
		{"a CloseError is a closed connection of net", &CloseError{Code: 1000}, net.ErrClosed, true},
		{"a CloseError is not a time-out", &CloseError{Code: 1000}, ErrWriteTimeout, false},
		{"a full queue is no closed connection", ErrSendQueueFull, net.ErrClosed, false},
		{"a managed connection is not closed", ErrManaged, net.ErrClosed, false},
		{"ErrUnsupported is that of errors", ErrUnsupported, errors.ErrUnsupported, true},
		{"a body is a bad request", errBody, ErrBadRequest, true},
		{"data before the handshake is a bad request", errPipelined, ErrBadRequest, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, errors.Is(c.err, c.target)) })
	}
}

func TestErrorTexts(t *testing.T) {
	t.Run("documented texts stay as documented", func(t *testing.T) {
		for err, text := range map[error]string{
			ErrBadRequest:                "bad request",
			ErrRequestLength:             "bad request: length is less than minimum",
			ErrRequestHeaderLength:       "bad request: header length is less than minimum",
			ErrInvalidHTTPMethod:         "invalid HTTP method",
			ErrInvalidHTTPVersion:        "invalid HTTP version",
			ErrInvalidHeaderUpgrade:      "invalid Upgrade header",
			ErrInvalidHeaderFormat:       "invalid Header format",
			ErrInvalidHeaderHost:         "invalid Host header",
			ErrInvalidHeaderWSKey:        "invalid Sec-Websocket-Key header",
			ErrInvalidHeaderWSVersion:    "invalid Sec-Websocket-Version header",
			ErrInvalidHeaderWSExtensions: "invalid Sec-Websocket-Extensions header",
			ErrInvalidHeaderWSProtocol:   "invalid Sec-Websocket-Protocol header",
			ErrInvalidHeaderConn:         "invalid Connection header",
			ErrMissingRequiredHeader:     "missing required headers",
			ErrUnsupportedWSVersion:      "unsupported Sec-WebSocket-Version",
			ErrRouteInvMethod:            "invalid method",
			ErrRouteInvTarget:            "invalid target",
			ErrRouteDupParam:             "duplicate parameter on route",
			ErrConnClosed:                "websocket: client is not connected",
		} {
			assert.EqualError(t, err, text)
		}
	})
	t.Run("the others begin with the package", func(t *testing.T) {
		for _, err := range []error{ErrSendQueueFull, ErrWriteTimeout, ErrManaged, ErrServerRunning, ErrUnsupported, errNotUTF8, &CloseError{}} {
			assert.True(t, strings.HasPrefix(err.Error(), "websocket: "), err)
		}
	})
	t.Run("a CloseError tells code and reason", func(t *testing.T) {
		assert.EqualError(t, &CloseError{Code: 1001}, "websocket: closed with 1001")
		assert.EqualError(t, &CloseError{Code: 1001, Reason: "gone"}, "websocket: closed with 1001: gone")
	})
}
