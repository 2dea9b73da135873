package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// patience is how long a test waits for what has to happen, on a machine that has much else to do: several elections take long enough
// there. look is how often it looks.
const (
	patience = time.Minute
	look     = 2 * time.Millisecond
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			require.Fail(t, "not so in time: "+what)
		}
		time.Sleep(look)
	}
}

// quiet is a log that only says what should not be, to the test's output.
func quiet() *slog.Logger {
	level := slog.LevelError
	if os.Getenv("CLUSTER_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// newServer makes a server that knows a client's user from the query of its handshake, and lets it subscribe.
func newServer() *websocket.Server {
	srv := websocket.NewServer(&websocket.ServerOptions{
		Logger: quiet(),
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			uid, err := strconv.ParseUint(req.URL.Query().Get("uid"), 10, 64)
			return context.WithValue(context.Background(), websocket.CtxKeyUID, uid), err
		},
	})
	subscribe := func(do func(conn int, topic string) error) websocket.RouteHandler {
		return func(_ context.Context, req *websocket.Request) websocket.Response {
			if err := do(req.Conn, req.Body); err != nil {
				return websocket.Response{Code: http.StatusBadRequest, Message: err.Error()}
			}
			return websocket.Response{Code: http.StatusOK}
		}
	}
	srv.RegisterTextHandler(http.MethodPut, "/subscription", subscribe(srv.Clients.Subscribe))
	srv.RegisterTextHandler(http.MethodDelete, "/subscription", subscribe(srv.Clients.Unsubscribe))
	return srv
}

// site is a node with a server that runs.
type site struct {
	*Node
	srv  *websocket.Server
	addr string
}

// serve runs a server until the test ends.
func serve(t testing.TB, srv *websocket.Server) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(ln)
	}()
	eventually(t, "the server runs", func() bool { return srv.Addr() != nil })
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return ln.Addr().String()
}

// join makes a node that leaves when the test ends.
func join(t testing.TB, opts Options) *site {
	t.Helper()
	s := &site{srv: newServer()}
	s.addr = serve(t, s.srv)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	node, err := Join(ctx, s.srv, opts)
	require.NoError(t, err)
	s.Node = node
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, node.Close(ctx))
	})
	return s
}

// gather makes a cluster of several nodes that know each other.
func gather(t testing.TB, count int, opts Options) (sites []*site) {
	t.Helper()
	for range count {
		if opts.URL != "" {
			sites = append(sites, join(t, opts))
			continue
		}
		opts.Peers = append(opts.Peers[:len(opts.Peers):len(opts.Peers)], freeAddress(t))
	}
	for _, listen := range opts.Peers {
		opts.Listen = listen
		sites = append(sites, join(t, opts))
	}
	together(t, sites...)
	return sites
}

// given are the addresses that tests have been given.
var given sync.Map

// freeAddress returns an address of this machine that is free, and that the system gives to nobody who asks for any: so it stays free.
func freeAddress(t testing.TB) string {
	for range 100 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err != nil {
			continue
		}
		defer ln.Close()
		if _, taken := given.LoadOrStore(ln.Addr().String(), true); !taken {
			return ln.Addr().String()
		}
	}
	require.Fail(t, "no port is free")
	return ""
}

// together waits until nodes know each other.
func together(t testing.TB, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		eventually(t, s.Name()+" knows the others", func() bool { return s.nodes() == len(sites)-1 && s.members.len() == len(sites)-1 })
	}
}

// guest is a client of a server, with what it got.
type guest struct {
	*websocket.Client
	uid uint64

	mu       sync.Mutex
	got      []websocket.Response // guarded by mu
	answers  chan websocket.Response
	asking   sync.Mutex    // one request at a time
	received chan struct{} // something was; capacity 1
	left     chan struct{}
	lastID   uint64
}

// visit connects a client of a user; 0: of none.
func visit(t testing.TB, s *site, uid uint64) *guest {
	t.Helper()
	before := s.ids(uid)
	g, err := connect(s.addr, uid)
	require.NoError(t, err)
	t.Cleanup(func() { g.Quit() })
	eventually(t, "the server knows the client", func() bool {
		return uid == 0 || slices.ContainsFunc(s.ids(uid), func(id uint64) bool { return !slices.Contains(before, id) })
	})
	return g
}

// ids returns those of a user's connections: the system uses the numbers of connections again.
func (s *site) ids(uid uint64) (ids []uint64) {
	for _, conn := range s.srv.Clients.Conns(uid) {
		ids = append(ids, websocket.ID(conn))
	}
	return ids
}

func connect(addr string, uid uint64) (*guest, error) {
	g := &guest{uid: uid, answers: make(chan websocket.Response, 1), received: make(chan struct{}, 1), left: make(chan struct{})}
	g.Client = &websocket.Client{
		Endpoint:   fmt.Sprintf("ws://%s/?uid=%d", addr, uid),
		HandleText: g.take,
		HandleQuit: func() { close(g.left) },
		Logger:     quiet(),
	}
	return g, g.Connect()
}

func (g *guest) take(_ *websocket.Client, frame *websocket.Frame) error {
	var res websocket.Response
	if err := json.Unmarshal(frame.Payload(), &res); err != nil {
		return err
	}
	if res.ID != 0 {
		g.answers <- res
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got = append(g.got, res)
	select {
	case g.received <- struct{}{}:
	default:
	}
	return nil
}

// ask sends a request and waits for the answer.
func (g *guest) ask(method, target, body string) (res websocket.Response, err error) {
	g.asking.Lock()
	defer g.asking.Unlock()
	g.lastID++
	text, _ := json.Marshal(&websocket.Request{ID: g.lastID, Method: method, Target: target, Body: body})
	if err = g.SendText(text); err != nil {
		return res, err
	}
	select {
	case res = <-g.answers:
		return res, nil
	case <-g.left:
		return res, net.ErrClosed
	case <-time.After(patience):
		return res, os.ErrDeadlineExceeded
	}
}

func (g *guest) subscribe(t testing.TB, topic string) {
	t.Helper()
	res, err := g.ask(http.MethodPut, "/subscription", topic)
	require.NoError(t, err)
	require.EqualValues(t, http.StatusOK, res.Code, res.Message)
}

func (g *guest) unsubscribe(t testing.TB, topic string) {
	t.Helper()
	_, err := g.ask(http.MethodDelete, "/subscription", topic)
	require.NoError(t, err)
}

// ends waits until the connection has ended.
func (g *guest) ends(t testing.TB) {
	t.Helper()
	select {
	case <-g.left:
	case <-time.After(patience):
		require.Fail(t, "the connection does not end")
	}
}

// bodies returns the bodies of the broadcasts that came.
func (g *guest) bodies() (bodies []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, res := range g.got {
		bodies = append(bodies, res.Body)
	}
	return bodies
}

func (g *guest) lastBody() string {
	bodies := g.bodies()
	if len(bodies) == 0 {
		return ""
	}
	return bodies[len(bodies)-1]
}

// has waits until a broadcast with this body came.
func (g *guest) has(t testing.TB, body string) {
	t.Helper()
	eventually(t, "the client gets "+body, func() bool { return slices.Contains(g.bodies(), body) })
}

func (g *guest) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.got)
}

// hears waits until exactly these broadcasts came.
func (g *guest) hears(t testing.TB, bodies ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the client gets %q, not %q", bodies, g.bodies()), func() bool { return g.count() >= len(bodies) })
	require.Equal(t, bodies, g.bodies())
}

func broadcast(body string) []byte {
	packet, _ := websocket.NewBroadcast("news", body)
	return packet
}

// within is a context for one call.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
