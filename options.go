package websocket

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// ContextKey is the type of the keys under which a program's HandleAuth stores what it knows about a connection.
type ContextKey byte

// Keys for the context that HandleAuth returns. The server itself reads CtxKeyUID: the id of the user that the connection
// belongs to, an integer of any type above zero, by which ClientManager.Conns finds it. The others are for the program alone.
const (
	CtxKeyExternalJWT ContextKey = 1 << iota
	CtxKeyInternalJWT
	CtxKeyUID
)

// HandlerAuthFn decides about an opening handshake. If it returns an error, the handshake is refused: as a *HandshakeError in the error
// says, else with status 400 and the text of the error as the reason in the status line of the answer. Otherwise the context becomes
// that of the connection; nil stands for context.Background(). See Handshake for what may be added to the answer.
type HandlerAuthFn func(req *Handshake) (ctx context.Context, err error)

// HandlerClientFn is told of a connection that was opened, or that is about to be closed.
type HandlerClientFn func(ctx context.Context, conn int)

// HandlerFrameFn is given a single frame of a connection. It may keep the frame.
type HandlerFrameFn func(conn int, frame *Frame)

// HandlerPayloadFn is given a whole message of a connection. The payload belongs to it; see PutBuffer for giving it back.
type HandlerPayloadFn func(conn int, payload []byte)

// HandlerStatusFn returns what a GET to ServerOptions.StatusPath is answered with.
type HandlerStatusFn func() (contentType string, data []byte)

// Defaults of ServerOptions and Client.
const (
	defaultAddress     = ":80"
	defaultTLSAddress  = ":443"
	defaultConnectPath = "/"
	statusSegment      = "/status"

	defaultMaxMessageSize   = 16 << 20
	defaultMaxFragments     = 1 << 17
	defaultMaxHeaderSize    = 16 << 10
	defaultMaxHeaderFields  = 100
	defaultMaxHandshakes    = 1 << 10
	defaultSendQueueSize    = 1 << 20
	defaultRequestsAtOnce   = 16
	defaultMaxTopics        = 128
	defaultHandshakeTimeout = 10 * time.Second
	defaultWriteTimeout     = 10 * time.Second
	defaultPingInterval     = 16 * time.Second
	defaultSilenceTimeout   = 16 * time.Second
	defaultAddTimeout       = time.Second
)

// ServerOptions configure a Server. The zero value of each field stands for its default, and so does a value below zero unless
// the field says otherwise. Changes after Start have no effect on the running server.
type ServerOptions struct {
	// Handler answers, on the server's own listener, every request that is neither an opening handshake for ConnectPath (a GET that asks
	// for an upgrade to WebSocket) nor for StatusPath: a page, files, an API. It is called by a server of net/http on goroutines of
	// its own, also if ConnectPath is asked for without an upgrade, and may do whatever an http.Handler may. An opening handshake
	// may follow on the same connection. Its panics are net/http's, which logs them at error level. What cannot be read, such as a
	// malformed header line, is refused by the server. A connection whose first request is for StatusPath is closed behind the answer, as
	// without a Handler; a later one is answered and the connection kept.
	//
	// The first request of a connection is held to MaxHeaderSize, MaxHeaderFields and HandshakeTimeout; of later ones each has
	// HandshakeTimeout for its header, which may have MaxHeaderSize and 4 KiB more, and a minute to begin. There is no limit for
	// bodies, which Handler sets if it wants one (http.MaxBytesReader, http.ResponseController). Its connections count for
	// MaxConnections until they are closed. Stop gives the requests that Handler works on WriteTimeout, then it closes them; Shutdown waits
	// for them, and closes each connection behind its answer.
	//
	// Without a Handler such requests are refused, as ConnectPath and StatusPath say. ServeHTTP never calls it.
	Handler http.Handler

	// HandleAuth decides about opening handshakes. Without one every well-formed handshake is accepted. It may block; other
	// connections do not wait, and HandshakeTimeout does not count the time. A panic is answered with status 500.
	HandleAuth HandlerAuthFn

	// HandleClientAdd is called after the handshake. No message of the connection is handled until it returns, or until
	// AddTimeout has passed: it may go on as long as the connection, as its writer.
	HandleClientAdd HandlerClientFn

	// HandleClientRemove is called once for each HandleClientAdd (for each connection, if there is none), before the
	// descriptor is closed. ClientManager.Context still answers; All and Conns no longer list the connection. No other
	// handler of the connection runs then, but a HandleClientAdd that has outlasted AddTimeout. It may Send
	// unless a Close frame was sent or the peer is gone.
	HandleClientRemove HandlerClientFn

	// OnClose is called once for each connection that was open, that is, which Clients.All may have listed: with what is known of it,
	// and why it ended. It is the last of its handlers: it comes after HandleClientRemove, if there is one, and after all others of the
	// connection have returned, a HandleClientAdd that went on as a writer too. It is told of a connection that ended before
	// HandleClientAdd was called as well, of which HandleClientRemove is not told. Nothing can be sent any more, and the Close frame does
	// not wait for it: it is queued or has been given up by then, and the socket may be gone. Clients.Context and Info still answer. It
	// may block; no other connection waits. Stop does not wait for it. A panic is logged.
	OnClose func(info ConnInfo, cause CloseCause)

	// HandleRsvControl is given control frames with a reserved opcode, 0xB to 0xF. Without one they close the connection
	// with StatusBadRequest.
	HandleRsvControl HandlerFrameFn

	// HandleText is given text messages, which are valid UTF-8. The default reads each as a Request and calls the function
	// that RegisterTextHandler registered for it.
	HandleText HandlerPayloadFn

	// HandleBin is given binary messages. Without one they are dropped.
	HandleBin HandlerPayloadFn

	// HandleStatus answers GET and HEAD requests for StatusPath; HEAD gets the length of the data alone. Server.Metrics is one. The
	// default is "text/plain", "OK".
	HandleStatus HandlerStatusFn

	// Logger is told of panics, lack of descriptors, slow clients and, at debug level, why handshakes are refused and connections end.
	// Records about a connection have its number as "conn", the "address" of its peer as far as the system, or a proxy that is
	// trusted, knows it and, if it has one, the id of its "user"; those of a refused handshake have the "status" and the "path",
	// without the query, and those of an end its "duration" and, on Linux, how many bytes TCP has "received" and "sent".
	// Its handler may block and use the connection, but Enabled must not: it may be asked while the connection is locked. The
	// default is slog.Default().
	Logger *slog.Logger

	// Address is what Start listens on: "host:port" as net.Listen takes it, names, IPv6 and port 0 included. The default is
	// ":80", or ":443" if NewServer is given a TLSConfig.
	Address string

	// ConnectPath is the path of the opening handshake. It begins with a slash, is compared with the decoded path of a request, and
	// may have parameters, "/ocpp/:station", whose values are in Handshake.Params: each is one segment, not empty. With parameters,
	// segments are decoded one by one, so that %2F is a slash in a value. A slash at the end, of the option or of a request, makes no
	// difference. The default is "/". Other paths are answered with status 404, or by Handler.
	//
	// A path without a slash in front, with "?", "#", a control character or a percent-encoding, which no request would ever have, is
	// an error of Start, and so are a parameter without a name and two of one name.
	ConnectPath string

	// StatusPath is the path of status requests: GET, HEAD or OPTIONS, of HTTP/1.1 or HTTP/1.0, which need no header
	// fields. It is written as ConnectPath is, and may have parameters too. If a request is for both paths, that one is meant which
	// has the first literal segment in place of the other's parameter; that both are always for the same requests is an error of
	// Start. During a Shutdown the answer is 503: a load balancer that asks sends nobody any more. The default is ConnectPath joined with
	// "/status".
	StatusPath string

	// TLSConfig has the server speak TLS on its listener (RFC 8446, RFC 5246): wss, and https for Handler and StatusPath. It has
	// certificates, or GetCertificate or GetConfigForClient, or else Start fails. Start uses a copy; what these functions return may
	// change at any time, so that a new certificate needs no restart, and SetSessionTicketKeys changes the keys of tickets. Without
	// NextProtos the protocols are "http/1.1" and, with a Handler, "h2" in front of it; to those of a program "http/1.1" is added, and
	// "h2" taken away unless there is a Handler (with GODEBUG=http2server=0 net/http has no "h2", and NextProtos should say so).
	// Connections that negotiate another protocol, such as acme-tls/1, are closed after the handshake.
	//
	// The functions of the configuration may take their time, such as to fetch a certificate: each may hold up the connections of one loop
	// for a millisecond or two, and then goes on beside it. Their ClientHelloInfo.Context ends when HandshakeTimeout has passed, or the
	// server stops. The state of the connection is in Handshake.TLS and ConnInfo.TLS. A connection costs about 6.5 KB more than a plain
	// one, and 19 KB more than that once its client has sent a record of 16 KiB. Address is ":443" by default, and a client that is one
	// too many gets a TLS alert and no answer of HTTP. A client that speaks plain HTTP gets a plain answer with status 400. The default,
	// nil, is no TLS.
	TLSConfig *tls.Config

	// MaxHandshakes is how many TLS handshakes may be under way at the same time, at about 23 KB each. When one more begins, the one that
	// has waited longest for its client is given up, if that is a second or longer; else the new one waits. The default is 1,024.
	MaxHandshakes int

	// Compression has the server take the offers of permessage-deflate that clients make (RFC 7692); all browsers do. HandleAuth may keep a
	// connection out of it: see Handshake.Extensions. MaxMessageSize holds for what a message is once inflated: set it to what
	// your messages need, since a client can have two of that size in memory for a thousandth of it. NewServer makes a copy. The default,
	// nil, is no compression.
	Compression *Compression

	// Subprotocols are the subprotocols that the server speaks, in order of preference (RFC 6455, section 1.9). The first one that a
	// client offers is in Handshake.Subprotocol, where HandleAuth may change it, and in the answer. A client that offers none of them
	// is let in without one; a browser then fails the connection if it has offered any. A name that is not a token, or is there twice,
	// is an error of Start. The default is none.
	Subprotocols []string

	// Origins are the origins whose pages may connect, by the Origin field that every browser sends (RFC 6455, section 10.2):
	// "https://example.com", with the port if it is not the default one of the scheme; "https://*.example.com" for exactly one label
	// of any name in front, so neither for example.com nor for a.b.example.com; "null" for pages that hide where they come from, such
	// as files and sandboxed frames. Case does not matter, and international names are in their ASCII form (xn--). Other pages are
	// answered with status 403, before HandleAuth is asked. A request without an Origin does not come from a page, and is let in. Two
	// Origins are not. What is no origin is an error of Start.
	//
	// If it is nil, any page of the world may connect, with the cookies, client certificates and network of whoever looks at it: that
	// is dangerous if one of those is all that HandleAuth asks for. An empty list lets no page in.
	Origins []string

	// MaxMessageSize is the size of a message in bytes, all its fragments together. A longer one closes the connection with
	// StatusRequestEntityTooLarge as soon as a header announces it. The default is 16 MiB.
	MaxMessageSize int

	// MaxFragments is the number of frames of one message. More close the connection with StatusRequestEntityTooLarge. The
	// default is 131,072.
	MaxFragments int

	// MaxHeaderSize is the size of the opening handshake's request in bytes, and MaxHeaderFields the number of its header
	// fields. More are answered with status 431. The defaults are 16 KiB and 100.
	MaxHeaderSize   int
	MaxHeaderFields int

	// MaxConnections is the number of connections that are open at the same time, handshakes included. More are answered
	// with status 503, or with a TLS alert. The default is 31/32 of the descriptors that the process may have (RLIMIT_NOFILE).
	MaxConnections int

	// MaxConnectionsPerAddress is the number of connections that one address may have at the same time, handshakes and those that
	// are about to end included. More are answered with status 503. IPv4 counts by address, also if it is mapped into IPv6, and IPv6
	// by its first 64 bits, since one customer has as many addresses (but fe80::/10 by address). What ProxyProtocol says of the client
	// counts, and not the proxy. Unix sockets do not count. A limit costs 64 bytes for each connection and some 100 for each address.
	// The default, 0, is no limit.
	MaxConnectionsPerAddress int

	// ProxyProtocol are the networks of trusted proxies that send a PROXY protocol header, version 1 or 2, in front of what the client
	// sends (HAProxy: send-proxy or send-proxy-v2; nginx: proxy_protocol on). Then the address of the client is the one in the header:
	// in Handshake.RemoteAddr, ConnInfo, log records and MaxConnectionsPerAddress. If the header says LOCAL or UNKNOWN, as those of
	// health checks do, it is that of the proxy.
	//
	// From these networks anything else is answered with status 400. From elsewhere a header is never believed: there it is a bad
	// request. So list the proxies alone: whoever is in these networks can claim to have any address. With at least one network, every
	// peer of a Unix socket is trusted: who may connect to one is a matter of its file.
	//
	// A header has at most 107 bytes in version 1, and 4 KiB in version 2, of which all but the client's address is ignored; its time
	// is part of HandshakeTimeout. The default, none, expects no header from anybody. An invalid prefix is an error of Start.
	ProxyProtocol []netip.Prefix

	// SendQueueSize is how many bytes may wait in the send queue of one connection. A packet of any size fits into an empty
	// queue. The default is 1 MiB.
	SendQueueSize int

	// MessagesAtOnce is how many messages of one connection may be in HandleText, HandleBin and HandleRsvControl at the same
	// time. The default is 1: one after the other, in order. With more, the order is lost.
	MessagesAtOnce int

	// RequestsAtOnce is how many routed requests of one connection may be in their handlers at the same time. The default
	// is 16.
	RequestsAtOnce int

	// MaxTopics is how many topics one connection may have subscribed to at the same time; see ClientManager.Subscribe. A subscription costs
	// about 40 bytes, a topic about 100 and its name. The default is 128.
	MaxTopics int

	// HandshakeTimeout is the time that a client has for its request, and for the TLS handshake before it. Then it is answered with status
	// 408; one that has sent nothing, or is not done with TLS, is disconnected without an answer. The default is 10 seconds.
	HandshakeTimeout time.Duration

	// WriteTimeout is the time after which a client that takes no data is disconnected, for which Send waits for room in the
	// queue, and which a closing connection has to take what is queued, to answer a Close frame (and the time that what is in front
	// of it earns, see MinRate) and to finish its handlers. A client that has sent a Close frame waits for them for a second at
	// most. The default is 10 seconds.
	WriteTimeout time.Duration

	// PingInterval is how long a client may be idle before it is sent a Ping, which may be a 64th of that or a millisecond late.
	// One that is not idle is sent a Ping too, each time it was sent more than MinRate allows for in an interval and has answered
	// the last one. The default is 16 seconds; below zero, no Pings are sent and silent clients are kept.
	PingInterval time.Duration

	// SilenceTimeout is how long after a Ping a client may stay silent before it is disconnected, with a Close frame of
	// StatusForbidden. The time begins when the Ping has left: while some of what is in front of it is still being acknowledged, or
	// waits in the send queue, the client had no chance to answer. What was sent in front of it and may wait in a proxy earns the
	// client more time, see MinRate. The default is 16 seconds.
	SilenceTimeout time.Duration

	// MinRate is the slowest rate, in bytes a second, at which an honest client takes what is sent to it: what it has not yet
	// answered for with a Pong, up to 16 MiB, earns it that much time after a Ping. The default is 16 KiB a second, so that a
	// message of 1 MiB earns a minute.
	MinRate int

	// AddTimeout is how long messages wait for HandleClientAdd to return. The default is 1 second.
	AddTimeout time.Duration

	// ShutdownSpread is over how long Shutdown closes connections, at equal distances, since their clients come again, here or elsewhere.
	// It is what few connections do not need: a hundred or more are closed each second. The default is 20 seconds; below zero, all are
	// closed at once.
	ShutdownSpread time.Duration
}
