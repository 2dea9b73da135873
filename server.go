package websocket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
)

// Server is a WebSocket server. NewServer makes one.
type Server struct {
	// Clients knows the connections and their users.
	Clients *ClientManager

	// Options are those given to NewServer, with the defaults filled in.
	Options *ServerOptions

	routes  atomic.Pointer[routes]
	tallies tallies

	mu         sync.Mutex
	engine     *engine    // what runs or ran last; guarded by mu
	ticketKeys [][32]byte // guarded by mu
	stopped    bool       // ServeHTTP starts nothing: Stop or Shutdown was called since the last Start; guarded by mu
	allowedRsv byte       // guarded by mu

	routerGiven bool // the program finds the router in Options.HandleText, and may call it from its own handler; immutable
}

// NewServer makes a server. It fills the defaults into opts, which may be nil, and keeps it. Nothing runs until Start or ServeHTTP.
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
// not shown to the handlers. On a connection with permessage-deflate RSV1 is that of compression, whatever one says.
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
		e.allowReservedBits(allowed)
	}
}

// runningLocked returns the engine that runs, nil if the server is stopped.
func (serv *Server) runningLocked() *engine {
	if serv.engine != nil {
		select {
		case <-serv.engine.done:
			serv.engine, serv.stopped = nil, true
		default:
		}
	}
	return serv.engine
}

// RegisterTextHandler registers the function for requests with that method (DELETE, GET, PATCH, POST or PUT, in any case) and
// target: a path of literal segments and of parameters, ":name", whose values the handler finds in Request.Params. If both
// match a request's segment, the literal one is taken. Registering a method and target again replaces the handler. It may be
// called at any time.
//
// Nothing calls a registered function if Options.HandleText was set to another function than the default. The log is told of
// that, once for each Start.
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

// ClientRemove closes a connection. The connection leaves Clients.All and Clients.Conns immediately; then HandleClientRemove is
// called, a Close frame with StatusNormal is sent behind what was sent before, and TCP is closed. ClientRemove does not wait
// for any of that. Messages that wait for their handlers are dropped. Clients.Close does the same with another code. A number that
// is not an open connection of this server is ignored.
func (serv *Server) ClientRemove(conn int) {
	c := serv.Clients.find(conn)
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isOpen() {
		c.removeLocked(StatusNormal, "")
	}
}

// Start listens on Options.Address and serves until Stop, then returns nil. It returns an error if it cannot listen,
// ErrServerRunning if the server has a listener, ErrUnsupported on a system without a poller, and an error for options under which
// no client could ever be served. A stopped server may be started again. One that ServeHTTP has started gets the listener, and
// goes on with the options that it was started with.
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

// ServeContext is Serve until ctx ends, as if Stop were called then: it returns nil. If ctx has ended before, it closes the
// listener and returns nil immediately.
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

// start runs the server with a listener. What ServeHTTP has started gets it.
func (serv *Server) start(ln net.Listener) (*engine, error) {
	serv.mu.Lock()
	defer serv.mu.Unlock()
	e := serv.runningLocked()
	if e == nil {
		return serv.startLocked(ln)
	}
	if e.listener != nil || serv.stopped || !e.enter() {
		return nil, ErrServerRunning
	}
	defer e.leave()
	return e, e.listenLocked(ln)
}

// startLocked makes an engine and lets it run, with a listener or without one.
func (serv *Server) startLocked(ln net.Listener) (*engine, error) {
	opts := *serv.Options
	opts.fill()
	if err := opts.check(); err != nil {
		return nil, err
	}
	opts.clamp()
	isRouter := opts.HandleText == nil || serv.isRouter(opts.HandleText)
	if isRouter {
		opts.HandleText = serv.handleRequest
	}
	e := newEngine(opts, isRouter, serv.allowedRsv, serv.Clients)
	e.tallies = &serv.tallies
	e.setTicketKeys(serv.ticketKeys)
	if err := e.start(ln); err != nil {
		return nil, err
	}
	serv.engine, serv.stopped = e, false
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
	if e == nil || e.listener == nil {
		return nil
	}
	return e.listener.Addr()
}

// Stop stops accepting, sends every client a Close frame with StatusGone behind what was sent before, and closes the
// connections: a client has a second to answer, and WriteTimeout to take what is queued. Requests that Handler works on have
// WriteTimeout too. Afterwards ServeHTTP answers 503, until the next Start. Stop returns when all descriptors have
// been given back. It may be called at any time, from handlers too. It does not wait for handlers that run: their connections
// are closed, and HandleClientRemove is called when they return, or AddTimeout after the start of a HandleClientAdd that does not;
// then OnClose. Stop is a Shutdown that has no time, and cuts one short that is at work.
func (serv *Server) Stop() {
	noTime, end := context.WithCancel(context.Background())
	end()
	serv.Shutdown(noTime)
}

// handleRequest is the default HandleText. It keeps no reference to the payload, so a program that calls it may go on using it.
func (serv *Server) handleRequest(conn int, payload []byte) {
	ctx, ok := serv.Clients.Context(conn)
	if !ok {
		ctx = nil
	}
	res := serv.routes.Load().answer(ctx, conn, payload)
	answer := res.appendJSON(newBuffer(res.leastSize()))
	err := SendText(conn, answer)
	PutBuffer(answer)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		serv.Options.Logger.Error("websocket: cannot answer a request", "conn", conn, "error", err)
	}
}
