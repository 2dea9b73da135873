package websocket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// minPingInterval is the default of Client.PingInterval, and the least it may be.
	minPingInterval = 10 * time.Second

	// closeTimeout is how long Close waits for the server's Close frame.
	closeTimeout = 10 * time.Second
)

// ClientHandler is given a whole message, as one frame, or a reserved control frame from the server. The frame, with its payload, belongs to it. An
// error closes the connection with StatusBadRequest.
type ClientHandler func(cl *Client, frame *Frame) (err error)

// Client is a WebSocket client. Its fields are set before Connect and are not changed while it is connecting or connected. The zero
// value with an Endpoint works.
//
// One goroutine reads and another calls the handlers in the order of the messages, so that every method may be called from a
// handler. A third sends Pings, and answers those of the server, each in its place: in front of what handlers send about later
// messages, however long a handler takes. Of a server that does not read its Pongs, only the latest Ping is answered. When handlers
// are slow, up to 64 KiB of messages or one message wait for them; then nothing is read, and TCP makes the server wait.
//
// What the server sent before its Close frame, or before it broke the protocol, is handled and may be answered; for that the Close
// frame of the client waits a second at most. What is sent later returns ErrConnClosed.
type Client struct {
	// Headers are sent with the opening handshake, Origin for example. Host, Upgrade, Connection, Sec-WebSocket-Key and
	// Sec-WebSocket-Version are left out. The map is not changed.
	Headers http.Header

	// TLSConfig is for the schemes wss and https; Connect sets it to nil for the others. Without one, the server's
	// certificate is checked for the host of the Endpoint. Where NextProtos offers h2 or another version of HTTP, http/1.1 is
	// offered in its place; the configuration itself is not changed.
	TLSConfig *tls.Config

	// HandleBin is given binary messages. Without one they are dropped.
	HandleBin ClientHandler

	// HandleQuit is called once for each connection that was opened, after the last of the other handlers has returned,
	// whoever ended it. It may call Connect.
	HandleQuit func()

	// HandleRsvControl is given control frames with a reserved opcode, 0xB to 0xF. Without one they close the connection
	// with StatusBadRequest.
	HandleRsvControl ClientHandler

	// HandleText is given text messages, which are valid UTF-8. Without one they are dropped.
	HandleText ClientHandler

	// Logger is told of handlers that panic, and at debug level why the connection ended. The default is slog.Default().
	Logger *slog.Logger

	// Endpoint is where to connect: "ws://user:password@host:port/path?query", or with the schemes wss, http or https (RFC 6455,
	// section 3). The ports default to 80, and to 443 for wss and https. User and password are sent as Basic authorization,
	// unless Headers has Authorization. An international host name has to be in its ASCII form. A fragment is an error.
	Endpoint string

	// PingInterval is the time between the Pings that are sent to the server. It is 10 seconds at least; less, or zero,
	// stands for that.
	PingInterval time.Duration

	// HandshakeTimeout is the time that Connect has to reach the server and to shake hands. Zero or less stands for 10
	// seconds.
	HandshakeTimeout time.Duration

	// WriteTimeout is how long a Send waits for a server that takes no data, not a byte, before the connection is dropped. Zero
	// or less stands for 10 seconds.
	WriteTimeout time.Duration

	// SilenceTimeout is how long after a Ping the server may stay silent before the connection is dropped, with a Close frame of
	// StatusForbidden where that can be sent without waiting. The time begins when the Ping has left this system, and as long as
	// it is on its way whenever a part of what is in front of it leaves; see also MinRate. Zero or less stands for 16 seconds.
	SilenceTimeout time.Duration

	// MinRate is how many bytes a second a server takes that is slow but honest. Bytes that were sent to it since it was last heard,
	// up to a Ping, give it more time than SilenceTimeout to answer that: a proxy may hold them, or the server. Zero or less stands
	// for 16 KiB a second.
	MinRate int

	// FragmentSize is how many bytes of a message go into one frame. A longer message is sent as fragments of that size (RFC 6455,
	// section 5.4), so that a Ping, a Pong or a Close frame waits for no more than one of them; the server gets it as one message
	// all the same. Zero stands for 64 KiB, less for any size: then no message is fragmented, for a server that does not
	// know fragments.
	FragmentSize int

	// MaxMessageSize and MaxFragments limit a message of the server, as in ServerOptions: 16 MiB and 131,072 where they are
	// zero or less.
	MaxMessageSize int
	MaxFragments   int

	// MaxHeaderSize and MaxHeaderFields limit the server's answer to the opening handshake, in bytes and fields: 16 KiB and
	// 100 where they are zero or less. Up to 16 answers with a status 1xx may come before it; they count for its size.
	MaxHeaderSize   int
	MaxHeaderFields int

	mu       sync.Mutex  // taken before those of conn
	conn     *clientConn // the connection; nil before the first Connect; guarded by mu
	attempt  *attempt    // a Connect that is at work; guarded by mu
	quits    int         // how often Close or Quit was called; guarded by mu
	response http.Header // of the last handshake; guarded by mu
}

// Response returns the header fields of the server's answer to the last opening handshake, such as Sec-Websocket-Protocol with
// the chosen subprotocol. It must not be changed. It is nil before the first.
func (cl *Client) Response() http.Header {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.response
}

// Close sends a Close frame with StatusNormal, waits for the server's answer, for 10 seconds at most, and closes the
// connection. A message that is being sent is finished first, if that takes no longer than a second; else it is cut off, and its
// Send returns ErrConnClosed. Messages of the server that have not been handled by then are dropped. Close does not wait for a
// handler that runs. Where another Close is at work it waits for its end.
//
// Where a Connect is at work, Close ends it, which then returns an error that matches ErrConnClosed, and returns nil. It does
// nothing where the client is not connected, and returns nil. An error says that the server did not answer.
func (cl *Client) Close() (err error) { return cl.closeHandshake(StatusNormal, "") }

// CloseWith is Close with a code and a reason, which is UTF-8 and cut after 123 bytes. With a code that must not be on the wire
// (see CloseCode), 0 among them, or a reason that is not UTF-8, it does nothing and returns an error. Where the closing handshake
// has begun before, neither is sent.
func (cl *Client) CloseWith(code CloseCode, reason string) error {
	if !code.onWire() {
		return fmt.Errorf("websocket: close code %d must not be on the wire", code) // RFC 6455, section 7.4.2
	}
	if !utf8.ValidString(reason) {
		return errors.New("websocket: close reason is not UTF-8") // RFC 6455, section 5.5.1
	}
	return cl.closeHandshake(code, reason)
}

func (cl *Client) closeHandshake(code CloseCode, reason string) error {
	cl.abandon()
	if c := cl.current(); c != nil {
		return c.closeHandshake(code, reason)
	}
	return nil
}

// Quit drops the connection at once, without a Close frame. It ends a Connect that is at work, which then returns an error that
// matches ErrConnClosed. It does nothing where the client is not connected.
func (cl *Client) Quit() {
	cl.abandon()
	if c := cl.current(); c != nil {
		c.drop(ErrConnClosed)
	}
}

// Err returns why the last connection ended: a *CloseError with the code and reason of the server's Close frame, or of the one
// that answered a breach of the protocol, or what the network said. It is nil while the client is connected, after Quit was
// called, and after Close was, unless the closing handshake had begun before.
func (cl *Client) Err() error {
	cl.mu.Lock()
	c := cl.conn
	cl.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.err()
}

// SendBin sends a binary message. The payload is not changed. It returns ErrConnClosed where the client is not connected or
// Close has been called. See WriteTimeout.
func (cl *Client) SendBin(payload []byte) (err error) { return cl.send(OpcodeBin, payload) }

// SendPing sends a Ping with at most 125 bytes of the payload. The server's Pong is not shown to the program.
func (cl *Client) SendPing(payload []byte) (err error) {
	return cl.send(OpcodePing, cutControl(payload))
}

// SendPong sends a Pong with at most 125 bytes of the payload. Pings of the server are answered without it.
func (cl *Client) SendPong(payload []byte) (err error) {
	return cl.send(OpcodePong, cutControl(payload))
}

// SendText sends a text message, which must be UTF-8. See SendBin.
func (cl *Client) SendText(payload []byte) (err error) { return cl.send(OpcodeText, payload) }

func (cl *Client) send(opcode Opcode, payload []byte) error {
	c := cl.current()
	if c == nil {
		return ErrConnClosed
	}
	return c.send(opcode, payload)
}

// current returns the connection, nil where there is none.
func (cl *Client) current() *clientConn {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.conn == nil || cl.conn.isDown() {
		return nil
	}
	return cl.conn
}
