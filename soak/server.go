package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsloop/websocket"
)

// The server's clocks. Dead peers have gone after pingInterval + silenceTimeout and the time that what was sent to them in front of their
// Ping earns, such as the answers to a flood of Pings; minRate fits the links here, so that it is little.
const (
	pingInterval   = 5 * time.Second
	silenceTimeout = 30 * time.Second
	writeTimeout   = 20 * time.Second
	minRate        = 1 << 20 // bytes a second

	// settleTime is how long the server may take at the end to be as it was at the start.
	settleTime = 45 * time.Second
	settlePoll = 50 * time.Millisecond
)

// onCommand is what handlers panic with when they are told to.
const onCommand = "on command"

// identity is what the server knows about a client, from the query of its handshake.
type identity struct {
	session uint32
	user    uint32
	checked bool // it behaves, and counts what it gets
}

type identityKey struct{}

// subject is the server under test: for messages and for requests, without TLS and with it, in one process.
type subject struct {
	echoes, routers []*websocket.Server // in the order of the entrances
	running         sync.WaitGroup
	before          baseline // before the servers were started
	start           baseline // with the servers running and no client
	panics          atomic.Int64
	failures        atomic.Int64
	pusher          *pusher
	heart           heartbeat
	stale           staleSender
}

// baseline is what the process has while it serves no client.
type baseline struct {
	descriptors inventory
	goroutines  int
}

func takeBaseline() baseline { return baseline{takeInventory(), runtime.NumGoroutine()} }

// serverMain is the process of the server: it answers commands until they end.
func serverMain(in io.Reader, out io.Writer) int {
	signal.Ignore(os.Interrupt) // the driver decides when it is over
	s := &subject{}
	encoder := json.NewEncoder(out)
	if err := s.startAll(); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		return exitFailed
	}
	first := s.report()
	first.StoppedGoroutines, first.StoppedDescriptors = s.before.goroutines, s.before.descriptors.total
	first.Entrances = s.entrances()
	if encoder.Encode(first) != nil {
		return exitFailed
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if encoder.Encode(s.obey(lines.Text())) != nil {
			break
		}
	}
	s.stopAll()
	return 0
}

func (s *subject) obey(command string) report {
	switch command {
	case cmdPush:
		s.pusher = startPusher(s.echoes)
		s.pusher.done.Go(func() { s.heart.run(s.pusher.ended) })
		s.stale.begin()
	case cmdQuiet:
		s.stale.end()
		return s.fill(s.pusher.stop())
	case cmdSettle:
		return s.settle(s.start)
	case cmdStop:
		s.stopAll()
		return s.settle(s.before)
	}
	return s.report()
}

func (s *subject) startAll() error {
	if r, w, err := os.Pipe(); err == nil { // the runtime opens its poller with the first
		r.Close()
		w.Close()
	}
	s.before = takeBaseline()
	secure, err := serverTLS()
	if err != nil {
		return err
	}
	for _, config := range [ways]*tls.Config{nil, secure} {
		if err = s.startPair(config); err != nil {
			return err
		}
	}
	debug.FreeOSMemory()
	s.start = takeBaseline()
	return nil
}

// startPair starts a server for messages and one for requests, with that configuration of TLS or without.
func (s *subject) startPair(config *tls.Config) error {
	echo, router := websocket.NewServer(s.options(config)), websocket.NewServer(s.options(config))
	echo.Options.HandleText = s.answer(echo, websocket.OpcodeText)
	echo.Options.HandleBin = s.answer(echo, websocket.OpcodeBin)
	echo.Options.HandleClientRemove = s.stale.add
	if err := registerRoutes(router); err != nil {
		return err
	}
	s.echoes, s.routers = append(s.echoes, echo), append(s.routers, router)
	if err := s.startOne(echo); err != nil {
		return err
	}
	return s.startOne(router)
}

// entrances tells how to get in.
func (s *subject) entrances() (all []entrances) {
	at := func(serv *websocket.Server) door { return door{serv.Addr().String(), serv.Options.TLSConfig != nil} }
	for i := range s.echoes {
		all = append(all, entrances{at(s.echoes[i]), at(s.routers[i])})
	}
	return all
}

// servers returns all of them.
func (s *subject) servers() []*websocket.Server { return slices.Concat(s.echoes, s.routers) }

// conns returns how many connections there are.
func (s *subject) conns() (n int) {
	for _, serv := range s.servers() {
		n += serv.Clients.Len()
	}
	return n
}

func (s *subject) options(config *tls.Config) *websocket.ServerOptions {
	log := &logReader{Handler: slog.NewTextHandler(os.Stderr, nil), panics: &s.panics}
	return &websocket.ServerOptions{
		HandleAuth: authenticate,
		HandleClientAdd: func(ctx context.Context, conn int) {
			id, _ := ctx.Value(identityKey{}).(identity)
			log.known.Store(int64(conn), id)
		},
		TLSConfig:      config,
		Logger:         slog.New(log),
		MinRate:        minRate,
		PingInterval:   pingInterval,
		SilenceTimeout: silenceTimeout,
		WriteTimeout:   writeTimeout,
	}
}

// startOne starts a server on a port of its own and returns when it serves.
func (s *subject) startOne(serv *websocket.Server) error {
	config := net.ListenConfig{Control: limitSendBuffer}
	ln, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	s.running.Go(func() { failed <- serv.Serve(ln) })
	for serv.Addr() == nil {
		select {
		case err := <-failed:
			return err
		case <-time.After(settlePoll):
		}
	}
	return nil
}

func (s *subject) stopAll() {
	for _, serv := range s.servers() {
		serv.Stop()
	}
	s.running.Wait()
}

// report describes the state of the server.
func (s *subject) report() report { return s.fill(report{}) }

func (s *subject) fill(r report) report {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	now := takeInventory()
	r.Goroutines = runtime.NumGoroutine()
	r.Held = now.held(s.start.descriptors)
	r.Descriptors = now.total - r.Held
	r.Resident, r.Heap = residentMemory(&memory), int(memory.HeapAlloc)
	r.Conns = s.conns()
	r.Delay = s.heart.take()
	r.Panics, r.Failures = int(s.panics.Load()), int(s.failures.Load())
	return r
}

// settle waits until the server is as it was, and reports.
func (s *subject) settle(want baseline) report {
	deadline := time.Now().Add(settleTime)
	for !s.isAs(want) && time.Now().Before(deadline) {
		<-time.After(settlePoll)
	}
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what pools held on to is free the second time
	r := s.report()
	if r.Goroutines > want.goroutines {
		buf := make([]byte, 64<<10)
		r.Stacks = string(buf[:runtime.Stack(buf, true)])
	}
	return r
}

func (s *subject) isAs(want baseline) bool {
	now := takeBaseline()
	descriptors := now.descriptors.total - now.descriptors.held(s.start.descriptors)
	return s.conns() == 0 &&
		now.goroutines <= want.goroutines && descriptors <= want.descriptors.total
}

// authenticate is HandleAuth: it believes what clients say about themselves.
func authenticate(req *websocket.Handshake) (context.Context, error) {
	query := req.URL.Query()
	number := func(name string) uint32 {
		n, _ := strconv.ParseUint(query.Get(name), 10, 32)
		return uint32(n)
	}
	id := identity{session: number("id"), user: number("uid"), checked: query.Has("checked")}
	ctx := context.WithValue(context.Background(), identityKey{}, id)
	return context.WithValue(ctx, websocket.CtxKeyUID, id.user), nil
}

// identityOf returns who a connection said it is.
func identityOf(serv *websocket.Server, conn int) (id identity) {
	if ctx, ok := serv.Clients.Context(conn); ok {
		id, _ = ctx.Value(identityKey{}).(identity)
	}
	return id
}

// answer returns a handler that does what messages say.
func (s *subject) answer(serv *websocket.Server, opcode websocket.Opcode) websocket.HandlerPayloadFn {
	return func(conn int, payload []byte) {
		switch {
		case len(payload) < headSize:
		case payload[0] == kindPanic:
			panic(onCommand)
		case payload[0] == kindSleep && len(payload) >= headSize+sleepDigits:
			ms, _ := strconv.ParseUint(string(payload[headSize:headSize+sleepDigits]), 16, 16)
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
		err := websocket.Send(conn, websocket.NewFrame(opcode, false, payload))
		if err != nil && !errors.Is(err, net.ErrClosed) && identityOf(serv, conn).checked {
			s.failures.Add(1)
			fmt.Fprintln(os.Stderr, "server: cannot answer:", err)
		}
	}
}
