package websocket

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// minPingInterval is the default of Client.PingInterval, and the shortest one.
	minPingInterval = 10 * time.Second

	// closeTimeout is how long Close waits for the server's Close frame, and for the end of the connection.
	closeTimeout = 10 * time.Second
)

// ClientHandler is given a whole message as one frame, or a reserved control frame, from the server. The frame and its payload belong
// to it; a payload of a message that nobody uses any more may be given to PutBuffer, which saves much of what long messages cost. An
// error closes the connection with StatusBadRequest; its text is the reason, cut after 123 bytes. A panic is logged, and closes the
// connection likewise.
type ClientHandler func(cl *Client, frame *Frame) (err error)

// Client is a WebSocket client (RFC 6455). The zero value with an Endpoint is ready to Connect. A Client must not be copied.
//
// The fields are set before Connect, and not changed until the connection has ended or Close or Quit has returned: then they may be
// set for the next one, even while a handler still runs. With Reconnect that a connection has ended is not enough; HandleState may set
// them then. All methods may be called from any goroutine, handlers included.
//
// An idle connection has one goroutine. It reads, and calls the handlers itself, one at a time, in the order of the messages. If they take
// longer than a few milliseconds, another goroutine goes on reading, and messages wait for the first one: up to 64 KiB of them, or one
// message; then nothing is read, and TCP makes the server wait. A handler that calls Close, or waits for a Call, need not care.
//
// Pings of the server are answered each in its place: behind what handlers send about earlier messages, unless they take longer than 200
// milliseconds, and in front of what they send about later ones. If the server does not read its Pongs, only its latest Ping is answered.
//
// What the server sent before its Close frame, or before it broke the protocol, is still handled and may be answered; the client's
// Close frame waits for that, for a second at most. Sending after that returns ErrConnClosed.
type Client struct {
	// Headers are sent with the opening handshake: Origin, for example. Host, Upgrade, Connection, Sec-WebSocket-Key and
	// Sec-WebSocket-Version are left out, since the handshake has its own. A name or value that HTTP does not allow is an error of
	// Connect. The map is not changed.
	Headers http.Header

	// Subprotocols are offered to the server, in order of preference (RFC 6455, section 1.9), in place of a Sec-WebSocket-Protocol in
	// Headers. A server that chooses none is accepted, while a browser would fail the connection: see Subprotocol. One that chooses
	// another, or several, is an error of Connect, and so is a name that is not a token or is there twice. If it is empty, what Headers
	// has is offered.
	Subprotocols []string

	// Compression offers permessage-deflate to the server (RFC 7692), with a second offer for servers that cannot limit their window to
	// Compression.Window. If the server takes one, messages of Compression.MinSize or more are compressed, unless they would not get
	// shorter; a server that takes none is accepted. An answer that is none to the offers is an error of Connect that matches
	// ErrInvalidHeaderWSExtensions, and so is an offer of permessage-deflate in Headers beside this one. MaxMessageSize holds for
	// what a message is once inflated. If it is nil, nothing is offered.
	Compression *Compression

	// TLSConfig is for the schemes wss and https; Connect sets it to nil for the others. It is for each server that a redirect leads
	// to, and for a proxy with https, too: of one that was set to nil the Client knows for that, as long as the Endpoint stays the same.
	// If it is nil, or names no server, a server's certificate is checked for the host of its URL. If NextProtos offers h2 or another
	// version of HTTP, http/1.1 is offered instead; the configuration itself is not changed.
	TLSConfig *tls.Config

	// Proxy returns the URL of the proxy for a server, nil for none. If it is nil, http.ProxyFromEnvironment does: HTTP_PROXY is for ws and
	// http, HTTPS_PROXY for wss and https, and NO_PROXY has the exceptions. http.ProxyURL(nil) is a Proxy for those who want none.
	//
	// Connect calls it for the Endpoint and for each server that a redirect leads to, with a request that is never sent: its URL has http
	// or https in place of ws and wss, and its Context ends with the Connect. An error is one of Connect.
	//
	// The scheme of a proxy is http or https, and the user of its URL is sent to it as Basic authorization. It is asked by CONNECT for a
	// tunnel, for ws too (RFC 9110, section 9.3.6); any other answer than a tunnel is a *ProxyError. TLS to a proxy is that of TLSConfig,
	// with the proxy's host as ServerName and without NextProtos; a certificate of the client is shown to it as well, if it asks for one.
	// Any other scheme is an error of Connect. For SOCKS, see DialContext.
	Proxy func(*http.Request) (*url.URL, error)

	// DialContext opens the network connection to the server, or to its proxy. The network is "tcp", and the address a host with a port.
	// If it is nil, a net.Dialer does, which tries the addresses of a name one after the other, and IPv6 and IPv4 side by side (RFC
	// 8305). One that wants no proxy, since it goes to a Unix socket or by SOCKS or SSH, has http.ProxyURL(nil) as Proxy beside it.
	//
	// What it returns belongs to the Client; deadlines must work there, and TLS is put on top for wss and https. It is called on a
	// goroutine of its own, with a context that ends after HandshakeTimeout and with the Connect. If it does not heed that, Connect
	// returns all the same, and a connection that comes afterwards is closed. A panic is logged, and an error of Connect; so is one in
	// Proxy, Jar or TLSConfig.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// Jar has the cookies that are sent with an opening handshake (RFC 6265), behind those of a Cookie in Headers, and is given those of
	// the answer: of refusals and redirects, too. Its URLs have http or https in place of ws and wss. If it is nil, only what Headers has
	// is sent.
	Jar http.CookieJar

	// HandleBin is given binary messages. If it is nil they are dropped.
	HandleBin ClientHandler

	// HandleReader is given each message while it comes, however long it is, if it is of a kind that has no handler: binary messages if
	// HandleBin is nil, text messages if HandleText is. So a message need not be held in memory; MaxMessageSize and MaxFragments do not
	// apply. It is called once the beginning has come, and r waits for more. While 64 KiB wait to be read, nothing more is read from the
	// server, and TCP makes it wait; Pings are answered until then. Text is checked to be UTF-8 as it comes; a read may end inside a
	// character.
	//
	// r returns io.EOF at the end of the message. If the connection ends before that, what has come can be read, and then the error
	// matches io.ErrUnexpectedEOF and ErrConnClosed. r is for one goroutine, and until HandleReader returns; what that leaves unread is
	// dropped as it comes. Its error, or panic, closes the connection as that of a ClientHandler does. A compressed message is
	// inflated whole first, and limited by MaxMessageSize; so is a text that begins while a Call waits for its answer, or has given up
	// waiting and the answer may still come.
	HandleReader func(cl *Client, opcode Opcode, r io.Reader) (err error)

	// HandleQuit is called once for each connection that was opened, after the last of the other handlers has returned,
	// whoever ended it. It may call Connect, unless Reconnect does that.
	HandleQuit func()

	// HandleRsvControl is given control frames with a reserved opcode, 0xB to 0xF (RFC 6455, section 5.2). If it is nil they close
	// the connection with StatusBadRequest. Those that come between the frames of a message that HandleReader reads wait for its end;
	// more than 64 KiB of them close the connection with StatusForbidden.
	HandleRsvControl ClientHandler

	// HandleText is given text messages, which are valid UTF-8. If it is nil they are dropped.
	HandleText ClientHandler

	// Logger is told of handlers that panic, and at debug level why the connection has ended. If it is nil, slog.Default() is.
	Logger *slog.Logger

	// Endpoint is where to connect: "ws://user:password@host:port/path?query", or with the scheme wss, http or https (RFC 6455,
	// section 3). The ports default to 80, and to 443 for wss and https. User and password are sent as Basic authorization,
	// unless Headers has Authorization. An international host name has to be in its ASCII form. A fragment is an error.
	Endpoint string

	// PingInterval is the time between the Pings that are sent to the server (RFC 6455, section 5.5.2). Less than 10 seconds, zero
	// included, stands for 10 seconds.
	PingInterval time.Duration

	// HandshakeTimeout is the time that Connect has to reach the server and to shake hands; TLS, a proxy and redirects are included.
	// Zero or less stands for 10 seconds.
	HandshakeTimeout time.Duration

	// WriteTimeout is how long a Send waits for a server that takes no data, not a byte, before the connection is dropped and the
	// Send returns ErrWriteTimeout. Zero or less stands for 10 seconds.
	WriteTimeout time.Duration

	// SilenceTimeout is how long after a Ping the server may stay silent before the connection is dropped, with a Close frame of
	// StatusForbidden if that can be sent without waiting. The time starts when the Ping has left this system; while the Ping is
	// on its way, it starts anew whenever some of the bytes in front of it leave. See also MinRate. Zero or less stands for 16
	// seconds.
	SilenceTimeout time.Duration

	// MinRate is the rate, in bytes a second, of the slowest server that is still honest. The bytes in front of a Ping that no
	// Pong has answered for give the server more time than SilenceTimeout to answer: a proxy may hold them, or the server. Zero or
	// less stands for 16 KiB a second.
	MinRate int

	// FragmentSize is how many bytes of a message go into one frame. A longer message is sent in fragments of that size (RFC 6455,
	// section 5.4), so that a Ping, a Pong or a Close frame waits for no more than one of them; to the server it is one message
	// all the same. Zero stands for 64 KiB. If it is negative, messages are never fragmented, for a server that does not know
	// fragments.
	FragmentSize int

	// MaxMessageSize and MaxFragments limit a message of the server in bytes and frames, as in ServerOptions. Zero or less stands
	// for 16 MiB and 131,072.
	MaxMessageSize int
	MaxFragments   int

	// MaxHeaderSize and MaxHeaderFields limit a server's answer to the opening handshake, and that of a proxy, in bytes and fields. Zero
	// or less stands for 16 KiB and 100. Up to 16 answers with a status 1xx may come before it; their bytes count too.
	MaxHeaderSize   int
	MaxHeaderFields int

	// Reconnect makes the client connect again by itself when a connection has ended that the program did not end. If it is nil, it
	// does not. See Reconnect.
	Reconnect *Reconnect

	// HandleState is told each change of the client's state, with the cause of StateWaiting and StateEnded, also if Reconnect is nil.
	// It is called for one state after the other, in their order, and may block. A Connect outside of it waits, however long, while it
	// runs for StateConnecting, and for StateEnded if the Connect fails. While it runs for StateConnected no other
	// handler of the connection is called; for StateWaiting and StateEnded it is called last, after HandleQuit. While it runs for
	// StateWaiting or StateConnecting it may set fields for the attempt that follows, such as Headers with a new token; the handler
	// itself, Reconnect and Logger stay as they were when Connect was called. It may call all methods: Quit, to end reconnecting, or
	// Connect, once it was told StateEnded; what that changes is told when it has returned. Once the program has called Connect again
	// nothing more is told of the connection before.
	HandleState func(cl *Client, state ClientState, cause error)

	lastCall atomic.Uint64 // how many ids Call has chosen

	// The fields below are guarded by mu, which is held for a moment; no other lock of this package is taken meanwhile, but those of a
	// connection that is started.
	mu          sync.Mutex
	conn        *clientConn   // the last connection, nil before the first; it may have ended
	attempt     *attempt      // the attempt to connect that is at work, or waits to be; nil if there is none
	session     *session      // of conn and attempt; it may be over
	quits       int           // how often Close, CloseWith or Quit was called
	response    http.Header   // of the last handshake that has opened a connection
	nextAttempt time.Time     // when attempt begins, if it waits
	turn        chan struct{} // closed when there is another connection, or none will come; nil until somebody may wait for that
	news        []news        // for HandleState, in order
	isTelling   bool          // HandleState runs
	spare       spareTLS      // what TLSConfig was before it was set to nil
}

// Response returns the header fields of the answer with which the server has accepted the last connection. The map must not be
// changed. It is nil before the first connection.
func (cl *Client) Response() http.Header {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.response
}

// Subprotocol returns the subprotocol that the server has chosen for the last connection, from those that Subprotocols or Headers
// offered. It is empty if the server chose none, and before the first connection.
func (cl *Client) Subprotocol() string {
	return cl.Response().Get("Sec-WebSocket-Protocol")
}

// Close sends a Close frame with StatusNormal, waits for the server's answer and the end of the connection, for 10 seconds at most
// (RFC 6455, section 7.1.2). If a message is being sent, it is finished first, provided that this takes no longer than a second; else
// it is cut off, and its Send returns ErrConnClosed. Messages of the server that have not been handled by then are dropped. Close does
// not wait for a handler that runs. If another Close is at work, it waits for that to end.
//
// If a Connect is at work, Close makes it return an error that matches ErrConnClosed. If the client waits to connect again, or tries
// to, Close ends that. If the client is not connected, Close returns nil. An error says that the server did not answer.
func (cl *Client) Close() (err error) { return cl.closeHandshake(StatusNormal, "") }

// CloseWith is Close with a code and a reason. The reason must be UTF-8, and is cut after 123 bytes, between two characters. If the
// code must not be on the wire (see CloseCode; 0 is one of those), or the reason is not UTF-8, CloseWith does nothing and returns an
// error. If the closing handshake has begun before, code and reason are not sent.
func (cl *Client) CloseWith(code CloseCode, reason string) error {
	if err := checkClose(code, reason); err != nil {
		return err
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

// Quit drops the connection immediately, without a Close frame. If a Connect is at work, Quit makes it return an error that matches
// ErrConnClosed. If the client waits to connect again, or tries to, Quit ends that. If the client is not connected, Quit does nothing
// else.
func (cl *Client) Quit() {
	cl.abandon()
	if c := cl.current(); c != nil {
		c.drop(ErrConnClosed)
	}
}

// Err returns why the last connection has ended: a *CloseError with the code and reason of the server's Close frame, or of the one
// that the client sent because the server broke the protocol or a handler failed; ErrWriteTimeout; or what the network said, an error
// that matches ErrConnClosed. It is nil before the first connection, while the client is connected, after Quit has dropped the
// connection, and after Close, unless the closing handshake had begun before. HandleState is told more: see LostError.
func (cl *Client) Err() error {
	cl.mu.Lock()
	c := cl.conn
	cl.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.err()
}

// SendBin sends a binary message, masked. It waits until the system has taken the whole message; messages of several goroutines are
// sent one after the other. The payload is not changed, and not kept. SendBin returns an error that matches ErrConnClosed if the client
// is not connected or Close has been called, and ErrWriteTimeout if the server takes nothing for WriteTimeout.
func (cl *Client) SendBin(payload []byte) (err error) { return cl.send(OpcodeBin, payload) }

// SendPing sends a Ping with at most the first 125 bytes of the payload. The server's Pong is not shown to the program. See SendBin.
func (cl *Client) SendPing(payload []byte) (err error) {
	return cl.send(OpcodePing, cutControl(payload))
}

// SendPong sends a Pong with at most the first 125 bytes of the payload. Pings of the server are answered without it. See SendBin.
func (cl *Client) SendPong(payload []byte) (err error) {
	return cl.send(OpcodePong, cutControl(payload))
}

// SendText sends a text message. The payload must be UTF-8, which is not checked. See SendBin.
func (cl *Client) SendText(payload []byte) (err error) { return cl.send(OpcodeText, payload) }

func (cl *Client) send(opcode Opcode, payload []byte) error {
	c := cl.current()
	if c == nil {
		return ErrConnClosed
	}
	return c.send(opcode, payload)
}

// current returns the connection, nil if there is none or it has ended.
func (cl *Client) current() *clientConn {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.conn == nil || cl.conn.isDown() {
		return nil
	}
	return cl.conn
}
