package websocket

import (
	"context"
	"log/slog"
	"math"
	"net"
	"path"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ServerOptions configure a Server. The zero value of each field stands for its default, and so does a value below zero unless
// the field says otherwise. Changes after Start have no effect on the running server.
type ServerOptions struct {
	// HandleAuth decides about opening handshakes. Without one every well-formed handshake is accepted. It may block; other
	// connections do not wait, and HandshakeTimeout does not count the time. A panic is answered with status 500.
	HandleAuth HandlerAuthFn

	// HandleClientAdd is called after the handshake. No message of the connection is handled until it returns, or until
	// AddTimeout has passed: it may go on as long as the connection, as its writer.
	HandleClientAdd HandlerClientFn

	// HandleClientRemove is called once for each HandleClientAdd (for each connection, where there is none), before the
	// descriptor is closed. ClientManager.Context still answers, All and Conns do not list the connection any more. No other
	// handler of the connection runs then. It may Send unless a Close frame was sent or the peer is gone.
	HandleClientRemove HandlerClientFn

	// HandleRsvControl is given control frames with a reserved opcode, 0xB to 0xF. Without one they close the connection
	// with StatusBadRequest.
	HandleRsvControl HandlerFrameFn

	// HandleText is given text messages, which are valid UTF-8. The default reads each as a Request and calls the function
	// that RegisterTextHandler registered for it.
	HandleText HandlerPayloadFn

	// HandleBin is given binary messages. Without one they are dropped.
	HandleBin HandlerPayloadFn

	// HandleStatus answers GET and HEAD requests for StatusPath; HEAD gets the length of the data alone. The default is
	// "text/plain", "OK".
	HandleStatus HandlerStatusFn

	// Logger is told of panics, lack of descriptors and, at debug level, why handshakes are refused and connections end.
	// Records about a connection have its number as "conn", the "address" of its peer as far as the system knows it and,
	// where there is one, the id of its "user"; those of a refused handshake the "status" and the "path", without the query.
	// Its handler may block and use the connection, but Enabled must not: it may be asked while the connection is locked. The
	// default is slog.Default().
	Logger *slog.Logger

	// Address is what Start listens on: "host:port" as net.Listen takes it, names, IPv6 and port 0 included. The default is
	// ":80".
	Address string

	// ConnectPath is the path of the opening handshake, compared with the decoded path of a request. It begins with a slash and
	// has neither "?" nor "#", else Start returns an error. The default is "/". Other paths are answered with status 404.
	ConnectPath string

	// StatusPath is the path of status requests: GET, HEAD or OPTIONS, of HTTP/1.1 or HTTP/1.0, without a header that is
	// needed. It is compared as ConnectPath is, and must be another path. The default is ConnectPath joined with "/status".
	StatusPath string

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
	// with status 503. The default is 31/32 of the descriptors that the process may have (RLIMIT_NOFILE).
	MaxConnections int

	// SendQueueSize is how many bytes may wait in the send queue of one connection. A packet of any size fits into an empty
	// queue. The default is 1 MiB.
	SendQueueSize int

	// MessagesAtOnce is how many messages of one connection may be in HandleText, HandleBin and HandleRsvControl at the same
	// time. The default is 1: one after the other, in order. With more, the order is lost.
	MessagesAtOnce int

	// RequestsAtOnce is how many routed requests of one connection may be in their handlers at the same time. The default
	// is 16.
	RequestsAtOnce int

	// HandshakeTimeout is the time that a client has for its request. Then it is answered with status 408; one that has sent
	// nothing is disconnected without an answer. The default is 10 seconds.
	HandshakeTimeout time.Duration

	// WriteTimeout is the time after which a client that takes no data is disconnected, for which Send waits for room in the
	// queue, and which a closing connection has to take what is queued, to answer a Close frame (and the time that what is in front
	// of it earns, see MinRate) and to finish its handlers. A client that has sent a Close frame waits for them for a second at
	// most. The default is 10 seconds.
	WriteTimeout time.Duration

	// PingInterval is how long a client may be idle before it is sent a Ping, at most a 64th of that or a millisecond late. One
	// that is not idle is sent a Ping too each time it was sent more than MinRate allows for in an interval, and has answered the
	// last one. The default is 16 seconds; below zero, no Pings are sent and silent clients are kept.
	PingInterval time.Duration

	// SilenceTimeout is how long after a Ping a client may stay silent before it is disconnected, with a Close frame of
	// StatusForbidden. The time begins when the Ping has left: while some of what is in front of it is still being acknowledged, or
	// waits in the send queue, the client had no chance to answer. What was sent in front of it and may wait in a proxy earns the
	// client more time, see MinRate. The default is 16 seconds.
	SilenceTimeout time.Duration

	// MinRate is the slowest rate, in bytes a second, at which an honest client takes what is sent to it: what it has not yet
	// answered for with a Pong, up to 16 MiB, earns it that much time after a Ping. The default is 16 KiB a second, so that a
	// message of 1 MiB makes a minute.
	MinRate int

	// AddTimeout is how long messages wait for HandleClientAdd to return. The default is 1 second.
	AddTimeout time.Duration
}

// fill sets what is not set to its default.
func (opts *ServerOptions) fill() {
	setDefault(&opts.Address, defaultAddress)
	setDefault(&opts.ConnectPath, defaultConnectPath)
	setDefault(&opts.StatusPath, path.Join(opts.ConnectPath, statusSegment))
	setDefault(&opts.MaxMessageSize, defaultMaxMessageSize)
	setDefault(&opts.MaxFragments, defaultMaxFragments)
	setDefault(&opts.MaxHeaderSize, defaultMaxHeaderSize)
	setDefault(&opts.MaxHeaderFields, defaultMaxHeaderFields)
	setDefault(&opts.MaxConnections, maxDescriptors()/32*31+maxDescriptors()%32)
	setDefault(&opts.SendQueueSize, defaultSendQueueSize)
	setDefault(&opts.MessagesAtOnce, 1)
	setDefault(&opts.RequestsAtOnce, defaultRequestsAtOnce)
	setDefault(&opts.HandshakeTimeout, defaultHandshakeTimeout)
	setDefault(&opts.WriteTimeout, defaultWriteTimeout)
	setDefault(&opts.SilenceTimeout, defaultSilenceTimeout)
	setDefault(&opts.MinRate, defaultMinRate)
	setDefault(&opts.AddTimeout, defaultAddTimeout)
	if opts.PingInterval == 0 {
		opts.PingInterval = defaultPingInterval
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.HandleStatus == nil {
		opts.HandleStatus = func() (contentType string, data []byte) { return "text/plain", []byte("OK") }
	}
}

// clamp cuts values with which sums of moments or numbers would overflow.
func (opts *ServerOptions) clamp() {
	opts.MaxConnections = min(opts.MaxConnections, 1<<fdBits)
	opts.MessagesAtOnce = min(opts.MessagesAtOnce, math.MaxUint16)
	opts.RequestsAtOnce = min(opts.RequestsAtOnce, math.MaxUint16)
	for _, d := range []*time.Duration{&opts.HandshakeTimeout, &opts.WriteTimeout, &opts.PingInterval, &opts.SilenceTimeout, &opts.AddTimeout} {
		*d = min(*d, maxTimeout)
	}
}

// limits returns the time-outs as the clocks want them.
func (opts *ServerOptions) limits() limits {
	return limits{
		handshake: int64(opts.HandshakeTimeout),
		write:     int64(opts.WriteTimeout),
		ping:      int64(opts.PingInterval),
		silence:   int64(opts.SilenceTimeout),
		add:       int64(opts.AddTimeout),
		rate:      opts.MinRate,
	}
}

// setDefault sets a value that is zero or below to its default.
func setDefault[T int | time.Duration | string](value *T, otherwise T) {
	var zero T
	if *value <= zero {
		*value = otherwise
	}
}

// Server is a WebSocket server. NewServer makes one.
type Server struct {
	// Clients knows the connections and their users.
	Clients *ClientManager

	// Options are those given to NewServer, with the defaults filled in.
	Options *ServerOptions

	routes atomic.Pointer[routes]

	mu         sync.Mutex
	engine     *engine // what runs or ran last; guarded by mu
	allowedRsv byte    // guarded by mu

	routerGiven bool // the program has had the router in Options.HandleText, and may call it in its own; immutable
}

// NewServer makes a server. It fills the defaults into opts, which may be nil, and keeps it. Nothing runs until Start.
func NewServer(opts *ServerOptions) (serv *Server) {
	if opts == nil {
		opts = new(ServerOptions)
	}
	serv = &Server{Clients: new(ClientManager), Options: opts}
	serv.routes.Store(new(routes))
	opts.fill()
	if opts.HandleText == nil || serv.isRouter(opts.HandleText) {
		opts.HandleText, serv.routerGiven = serv.handleRequest, true
	}
	return serv
}

// isRouter reports whether a HandleText is the default one, of this server or another with the same options.
func (serv *Server) isRouter(handler HandlerPayloadFn) bool {
	return reflect.ValueOf(handler).Pointer() == reflect.ValueOf(serv.handleRequest).Pointer()
}

// AllowReservedBits says which of RSV1, RSV2 and RSV3 frames may have set, because HandleAuth negotiates an extension that uses
// them. A frame with another one closes its connection with StatusBadRequest (RFC 6455, section 5.2). The bits of messages are
// not shown to the handlers.
func (serv *Server) AllowReservedBits(one, two, three bool) {
	var allowed byte
	for _, bit := range []struct {
		allow bool
		bit   byte
	}{{one, bitRsv1}, {two, bitRsv2}, {three, bitRsv3}} {
		if bit.allow {
			allowed |= bit.bit
		}
	}
	serv.mu.Lock()
	defer serv.mu.Unlock()
	serv.allowedRsv = allowed
	if e := serv.runningLocked(); e != nil {
		p := *e.protocol.Load()
		p.allowedRsv = allowed
		e.protocol.Store(&p)
	}
}

// runningLocked returns what runs, nil where the server is stopped.
func (serv *Server) runningLocked() *engine {
	if serv.engine != nil {
		select {
		case <-serv.engine.done:
			serv.engine = nil
		default:
		}
	}
	return serv.engine
}

// RegisterTextHandler registers the function for requests with that method (DELETE, GET, PATCH, POST or PUT, in any case) and
// target: a path of literal segments and of parameters, ":name", whose values the handler finds in Request.Params. Where both
// match a request's segment, the literal one is taken. Registering a method and target again replaces the handler. It may be
// called at any time.
//
// Nothing calls a registered function where Options.HandleText was set to another function than the default: then the log is
// told, once for each Start.
//
// Empty segments of a target are ignored. Every method has routes of its own. An unknown method gives ErrRouteInvMethod, a
// target without a slash in front ErrRouteInvTarget, and a second name for a parameter at the same place ErrRouteDupParam.
func (serv *Server) RegisterTextHandler(method, target string, handler RouteHandler) (err error) {
	e, err := serv.register(method, target, handler)
	if e != nil {
		e.log.Warn(textUnroutable)
	}
	return err
}

// textUnroutable is the record of registered functions that nothing will ever call.
const textUnroutable = "websocket: registered routes are never called: HandleText is set, and is not the router"

// register adds a route. It returns the engine whose log is to be warned of it.
func (serv *Server) register(method, target string, handler RouteHandler) (warns *engine, err error) {
	serv.mu.Lock()
	defer serv.mu.Unlock()
	next := serv.routes.Load().clone()
	if err = next.add(method, target, handler); err != nil {
		return nil, err
	}
	serv.routes.Store(next)
	if e := serv.runningLocked(); e != nil && serv.warnsLocked(e) {
		return e, nil
	}
	return nil, nil
}

// warnsLocked reports whether there are routes that nothing will ever call, once for each Start.
func (serv *Server) warnsLocked(e *engine) bool {
	if e.warnedOfRoutes || e.textLane == laneRequests || serv.routerGiven || len(serv.routes.Load().byMethod) == 0 {
		return false
	}
	e.warnedOfRoutes = true
	return true
}

// ClientRemove closes a connection. It leaves Clients.All and Clients.Conns at once; then HandleClientRemove is called, a Close
// frame with StatusNormal is sent behind what was sent before, and TCP is closed. It does not wait for any of that. Messages
// that wait for their handler are dropped. A number that is not an open connection of this server is ignored.
func (serv *Server) ClientRemove(conn int) {
	c := descriptors.get(conn)
	if c == nil || c == tombstone || c.loop.clients != serv.Clients {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isOpen() {
		c.endLocked(endReason{code: StatusNormal, cause: "removed by the program", discard: true, farewell: true})
	}
}

// Start listens on Options.Address and serves until Stop, then returns nil. It returns an error where it cannot listen,
// ErrServerRunning where the server runs, ErrUnsupported on a system without a poller, and an error for options under which no
// client could ever be served. A stopped server may be started again.
func (serv *Server) Start() (err error) {
	ln, err := net.Listen("tcp", serv.Options.Address)
	if err != nil {
		if serv.Addr() != nil {
			return ErrServerRunning
		}
		return err
	}
	return serv.Serve(ln)
}

// Serve is Start with a listener of the caller, for TCP or a Unix socket, such as one that was handed over by socket
// activation. It is closed when Serve returns; closing it earlier does not end Serve, which has a descriptor of its own. A
// listener that has no descriptor gives ErrUnsupported.
func (serv *Server) Serve(ln net.Listener) (err error) {
	return serv.ServeContext(context.Background(), ln)
}

// ServeContext is Serve until ctx ends, as if Stop were called then: it returns nil. Where ctx has ended before, it closes the
// listener and returns nil at once.
func (serv *Server) ServeContext(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	if ctx.Err() != nil {
		return nil
	}
	e, err := serv.start(ln)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, e.stop)()
	<-e.done
	return nil
}

func (serv *Server) start(ln net.Listener) (*engine, error) {
	serv.mu.Lock()
	defer serv.mu.Unlock()
	if serv.runningLocked() != nil {
		return nil, ErrServerRunning
	}
	opts := *serv.Options
	opts.fill()
	if err := opts.check(); err != nil {
		return nil, err
	}
	opts.clamp()
	e := &engine{opts: opts, clients: serv.Clients, log: opts.Logger, reports: newReports(opts.Logger), listener: ln, done: make(chan struct{})}
	e.limits = opts.limits()
	e.atOnce = [laneCount]int{laneOrdered: opts.MessagesAtOnce, laneRequests: opts.RequestsAtOnce, laneLife: 1}
	if opts.HandleText == nil || serv.isRouter(opts.HandleText) { // routed requests are asynchronous
		e.opts.HandleText, e.textLane = serv.handleRequest, laneRequests
	}
	e.protocol.Store(&rules{
		maxMessage:      uint64(opts.MaxMessageSize),
		maxFragments:    opts.MaxFragments,
		allowedRsv:      serv.allowedRsv,
		fromClient:      true,
		reservedControl: opts.HandleRsvControl != nil,
	})
	if err := e.start(); err != nil {
		return nil, err
	}
	serv.engine = e
	if serv.warnsLocked(e) {
		e.report(slog.LevelWarn, textUnroutable)
	}
	return e, nil
}

// Addr returns the address that the server listens on, nil while it does not run.
func (serv *Server) Addr() net.Addr {
	serv.mu.Lock()
	defer serv.mu.Unlock()
	e := serv.runningLocked()
	if e == nil {
		return nil
	}
	return e.listener.Addr()
}

// Stop stops accepting, sends every client a Close frame with StatusGone behind what was sent before, and closes the
// connections: a client has a second to answer, and WriteTimeout to take what is queued. Stop returns when all descriptors have
// been given back. It may be called at any time, from handlers too. It does not wait for handlers that run: their connections
// are closed, and HandleClientRemove is called when they return, or AddTimeout after the start of a HandleClientAdd that does not.
func (serv *Server) Stop() {
	serv.mu.Lock()
	e := serv.runningLocked()
	serv.mu.Unlock()
	if e != nil {
		e.stop()
		<-e.done
	}
}

// engine is what runs between Start and Stop.
type engine struct {
	// Immutable.
	opts        ServerOptions
	limits      limits
	atOnce      [laneCount]int
	textLane    lane
	clients     *ClientManager
	log         *slog.Logger // for goroutines that hold no lock
	listener    net.Listener
	placeholder int
	loops       []*loop
	monitor     *monitor
	done        chan struct{} // closed when all has been given back

	// Guarded by the Server's mu.
	warnedOfRoutes bool

	// With locks of their own.
	reports     *reports
	protocol    atomic.Pointer[rules]
	numbers     quarantine
	ends        ends
	connections atomic.Int64 // that have a socket
	stopping    atomic.Bool
	accepting   atomic.Bool
	running     atomic.Int32 // loops that have not ended
}

// start makes the loops and lets them run.
func (e *engine) start() (err error) {
	e.placeholder = -1
	a := &acceptor{fd: -1, resume: never, trim: never}
	defer func() {
		if err == nil {
			return
		}
		for _, l := range e.loops {
			l.poll.close()
		}
		if a.fd >= 0 {
			closeDescriptor(a.fd)
		}
		if e.placeholder >= 0 {
			closeDescriptor(e.placeholder)
		}
	}()
	if a.fd, err = listenerDescriptor(e.listener); err != nil {
		return err
	}
	if e.placeholder, err = newPlaceholder(); err != nil {
		return err
	}
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(e)
		if err != nil {
			return err
		}
		e.loops = append(e.loops, l)
	}
	if err = e.loops[0].poll.add(a.fd, anyGeneration); err != nil {
		return err
	}
	e.loops[0].acceptor = a
	e.numbers.budget = maxDescriptors() / 4
	e.monitor = &monitor{loops: e.loops, bell: make(chan struct{}, 1), ended: make(chan struct{})}
	e.accepting.Store(true)
	e.running.Store(int32(len(e.loops)))
	go e.monitor.run()
	for _, l := range e.loops {
		go l.run(l.lease.Load())
	}
	return nil
}

// report brings a record to the program's log. It may be called with any lock held, by loops that have not ended.
func (e *engine) report(level slog.Level, text string, args ...any) {
	e.reports.add(report{level, text, args})
}

// stop has the loops end all connections.
func (e *engine) stop() {
	e.stopping.Store(true)
	for _, l := range e.loops {
		l.wake()
	}
}

// loopDone is called by each loop as its last act.
func (e *engine) loopDone() {
	if e.running.Add(-1) > 0 {
		return
	}
	close(e.monitor.ended)
	e.numbers.end()
	closeDescriptor(e.placeholder)
	e.reports.end()
	close(e.done)
}
