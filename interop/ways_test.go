package interop

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// way is a way by which a connection comes to our server.
type way struct {
	name    string
	program string // that it needs
	http2   bool   // the client has to open a stream of HTTP/2
	start   func(t *testing.T) (url string)
}

var ways = []way{
	{name: "own listener", start: func(t *testing.T) string { return ownListener(t, nil, plain) }},
	{name: "own listener with a Handler", start: func(t *testing.T) string { return ownListener(t, page, plain) }},
	{name: "own listener with TLS 1.3", start: func(t *testing.T) string { return ownListener(t, nil, tls13AES) }},
	{name: "own listener with a Handler and TLS 1.2", start: func(t *testing.T) string { return ownListener(t, page, tls12AESRSA) }},
	{name: "mux", start: func(t *testing.T) string {
		mux := http.NewServeMux()
		mux.Handle("/", page)
		mux.Handle("GET /chat", echoServer(t, nil))
		return "ws://" + serveHTTP(t, mux, plain) + "/chat"
	}},
	{name: "middleware", start: func(t *testing.T) string {
		return "ws://" + serveHTTP(t, wrapping(echoServer(t, nil)), plain) + "/chat"
	}},
	{name: "TLS of net/http", start: func(t *testing.T) string {
		return "wss://" + serveHTTP(t, echoServer(t, nil), tls13AES) + "/chat"
	}},
	{name: "httptest", start: func(t *testing.T) string {
		server := httptest.NewServer(echoServer(t, nil))
		t.Cleanup(server.Close)
		return "ws" + strings.TrimPrefix(server.URL, "http") + "/chat"
	}},
	{name: "HTTP/2", http2: true, start: func(t *testing.T) string {
		return "wss://" + serveHTTP(t, onlyStreams(echoServer(t, nil)), tls13AES) + "/chat"
	}},
	{name: "HTTP/2 between HAProxy and net/http", program: haproxy.program, start: func(t *testing.T) string {
		address := serveHTTP(t, onlyStreams(echoServer(t, nil)), tls13AES)
		return "ws://" + haproxy.start(t, address, "server service "+configuredServer+" check",
			"server service "+address+" ssl verify none alpn h2 ws h2") + "/chat"
	}},
}

// visitor is a client that comes to our server in all ways, but for what it lacks.
type visitor struct {
	peer
	visit func(t *testing.T, streams string) dialers // streams is the URL of HTTP/2
	lacks map[string]string                          // the name of a way, or earlyBytes, and why
}

// dialers are the functions of a client that connect: as most do, by HTTP/2, and with a packet right behind the request.
type dialers struct {
	dial  func(url string, offer []string) (conn, error)
	http2 func(url string, early []byte) (conn, error)
	early func(url string, early []byte) (conn, error)
}

const (
	earlyBytes = "early bytes"
	onlyHTTP1  = "it writes requests of HTTP/1.1 itself"
	noHook     = "it sends nothing before the answer, and lets nobody between itself and its socket"
)

var visitors = []visitor{
	{ours, func(t *testing.T, _ string) dialers { return dialers{dial: clientOurs(t, plain)} },
		map[string]string{"HTTP/2": onlyHTTP1, earlyBytes: noHook}},
	{gorilla, func(t *testing.T, _ string) dialers {
		return dialers{dial: clientGorilla(t, plain), early: earlyGorilla}
	},
		map[string]string{"HTTP/2": onlyHTTP1}},
	{coder, func(t *testing.T, _ string) dialers {
		return dialers{dial: clientCoder(t, plain), http2: streamCoder, early: earlyCoder}
	}, nil},
	{gws, func(t *testing.T, _ string) dialers { return dialers{dial: clientGWS(t, plain), early: earlyGWS} },
		map[string]string{"HTTP/2": onlyHTTP1}},
	{nodeBuiltIn, func(t *testing.T, _ string) dialers { return dialers{dial: nodeBuiltIn.client(t, plain)} },
		map[string]string{"HTTP/2": "its version here speaks HTTP/1.1", earlyBytes: noHook}},
	{nodeWS, func(t *testing.T, _ string) dialers { return dialers{dial: nodeWS.client(t, plain)} },
		map[string]string{"HTTP/2": onlyHTTP1, earlyBytes: noHook}},
	{chromium, func(t *testing.T, streams string) dialers {
		first := openTab(t, startBrowser(t))
		second := openTab(t, first) // a browser goes by HTTP/2 if it has had the page by it
		require.NoError(t, chromedp.Do(second, chromedp.Navigate("https"+strings.TrimPrefix(streams, "wss"))))
		onPage := remoteTab(t, second)
		return dialers{
			dial:  remoteTab(t, first).dial,
			http2: func(url string, _ []byte) (conn, error) { return onPage.dial(url, nil) },
		}
	}, map[string]string{earlyBytes: noHook}},
}

// TestWays has every client come in every way. Each case is a connection.
func TestWays(t *testing.T) {
	urls := make(map[string]string)
	for _, w := range ways {
		if _, err := exec.LookPath(w.program); w.program != "" && err != nil {
			t.Run(w.name, func(t *testing.T) { missing(t, w.program+" is not installed") })
			continue
		}
		urls[w.name] = w.start(t)
	}
	for _, v := range visitors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			d := v.visit(t, urls["HTTP/2"])
			for _, w := range ways {
				if v.lacks[w.name] == "" && urls[w.name] != "" {
					t.Run(w.name, func(t *testing.T) { runVisits(t, v, w, d, urls[w.name]) })
				}
			}
		})
	}
}

// visitCase is one thing to try with a connection. needs is what the client must be able to do.
type visitCase struct {
	name  string
	needs ability
	early bool
	run   func(t *testing.T, theirs conn)
}

// runVisits runs the cases that a client is able to, and waits in each for our server to let go of the connection.
func runVisits(t *testing.T, v visitor, w way, d dialers, url string) {
	for _, vc := range visitCases() {
		if v.clientCan&vc.needs != vc.needs || vc.early && v.lacks[earlyBytes] != "" {
			continue
		}
		t.Run(vc.name, func(t *testing.T) {
			t.Parallel()
			url, left := departures.expect(url)
			var early []byte
			if vc.early {
				early = earlyPacket()
			}
			var theirs conn
			var err error
			switch {
			case w.http2:
				theirs, err = d.http2(url, early)
			case vc.early:
				theirs, err = d.early(url, early)
			default:
				theirs, err = d.dial(url, nil)
			}
			require.NoError(t, err)
			vc.run(t, theirs)
			theirs.drop()
			within(t, left)
		})
	}
}

func visitCases() (cases []visitCase) {
	cases = []visitCase{
		{name: "messages of all sizes come back", run: func(t *testing.T, theirs conn) {
			for _, k := range []kind{text, binary} {
				for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, limit} {
					deliver(t, theirs, theirs, k, sized(k, size))
				}
			}
		}},
		{name: "messages sent without waiting come back in order", run: func(t *testing.T, theirs conn) {
			const count = 100
			for i := range count {
				require.NoError(t, theirs.send(text, sized(text, 1+i*i)))
			}
			for i := range count {
				expectAfter(t, theirs, ping, event{kind: text, payload: sized(text, 1+i*i)})
			}
		}},
		{name: "frames right behind the request come back", early: true, run: func(t *testing.T, theirs conn) {
			for _, size := range earlySizes {
				expect(t, theirs, event{kind: binary, payload: sized(binary, size)})
			}
			deliver(t, theirs, theirs, text, []byte("and the next"))
		}},
	}
	for _, end := range []struct {
		code   int
		reason string
		needs  ability
	}{{1000, "", 0}, {1000, "done", closesWith}, {3000, "", closesWith}, {4999, strings.Repeat("r", 123), closesWith}, {noStatus, "", closesWithNone}} {
		name := fmt.Sprintf("%d and a reason of %d bytes", end.code, len(end.reason))
		cases = append(cases, visitCase{name: "their close with " + name + " is answered", needs: end.needs, run: func(t *testing.T, theirs conn) {
			require.NoError(t, theirs.close(end.code, end.reason))
			expectEnd(t, theirs, end.code, end.reason)
		}})
	}
	for _, end := range []event{
		{kind: closed, code: 1000},
		{kind: closed, code: 1001, reason: "away"},
		{kind: closed, code: 4999, reason: strings.Repeat("r", 123)},
		{kind: closed, code: noStatus},
	} {
		name := fmt.Sprintf("our close with %d and a reason of %d bytes is shown", end.code, len(end.reason))
		cases = append(cases, visitCase{name: name, needs: showsClose, run: func(t *testing.T, theirs conn) {
			require.NoError(t, theirs.send(text, fmt.Appendf(nil, "%s%d %s", closeCommand, end.code, end.reason)))
			expect(t, theirs, end)
		}})
	}
	return cases
}

// expectEnd expects the end of a connection that its client has closed. Not all show what they were answered.
func expectEnd(t *testing.T, theirs conn, code int, reason string) {
	t.Helper()
	got := next(t, theirs)
	assert.Equal(t, closed, got.kind)
	switch {
	case code == noStatus:
		assert.Contains(t, []int{1000, noStatus, dropped}, got.code) // 1000 is what we answer
	case got.code != dropped:
		assert.Equal(t, event{kind: closed, code: code, reason: reason}, got)
	}
}

// earlySizes are those of the messages right behind a request: more than net/http has read with it.
var earlySizes = []int{1, 125, 20_000}

func earlyPacket() (packet []byte) {
	for _, size := range earlySizes {
		packet = append(packet, websocket.NewFrameBin(true, sized(binary, size))...)
	}
	return packet
}

// departures tells when our server lets go of a connection.
var departures = arrivals{left: make(map[string]chan struct{})}

// arrivals knows connections by a number in their URL.
type arrivals struct {
	last atomic.Int64
	mu   sync.Mutex
	left map[string]chan struct{} // guarded by mu
}

// expect returns the URL for a connection, and what is closed at its end.
func (a *arrivals) expect(url string) (numbered string, left <-chan struct{}) {
	number := strconv.FormatInt(a.last.Add(1), 10)
	gone := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left[number] = gone
	return url + "?number=" + number, gone
}

func (a *arrivals) leave(number string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if gone, ok := a.left[number]; ok { // else its connections are none of a test's, or have begun to leave
		close(gone)
		delete(a.left, number)
	}
}

// closeCommand begins a text that our server answers with a Close frame: the code and the reason follow.
const closeCommand = "close "

type numberKey struct{}

// echoServer makes a server that has not been started. It is stopped after the test.
func echoServer(t *testing.T, handler http.Handler) *websocket.Server {
	server := websocket.NewServer(&websocket.ServerOptions{
		Handler:        handler,
		ConnectPath:    "/chat",
		MaxMessageSize: limit,
		Logger:         slog.New(slog.DiscardHandler),
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			return context.WithValue(context.Background(), numberKey{}, req.URL.Query().Get("number")), nil
		},
		HandleText: func(fd int, payload []byte) {
			if command, ok := strings.CutPrefix(string(payload), closeCommand); ok {
				code, reason, _ := strings.Cut(command, " ")
				number, _ := strconv.Atoi(code)
				(&serverConn{id: websocket.ID(fd)}).close(number, reason)
				return
			}
			websocket.SendText(fd, payload)
		},
		HandleBin:          func(fd int, payload []byte) { websocket.SendBin(fd, payload) },
		HandleClientRemove: func(ctx context.Context, _ int) { departures.leave(ctx.Value(numberKey{}).(string)) },
	})
	t.Cleanup(server.Stop)
	return server
}

// page answers what is not WebSocket's.
var page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "a page") })

func ownListener(t *testing.T, handler http.Handler, s security) (url string) {
	server := echoServer(t, handler)
	server.Options.TLSConfig = s.server(t)
	address := listen(t, server)
	if s != plain {
		return "wss://" + address + "/chat"
	}
	return "ws://" + address + "/chat"
}

// listen has a server listen on a free port, until the end of the test, and returns its address.
func listen(t *testing.T, server *websocket.Server) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Stop()
		assert.NoError(t, <-ended)
	})
	return ln.Addr().String()
}

// serveHTTP runs a server of net/http.
func serveHTTP(t *testing.T, handler http.Handler, s security) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	ended := make(chan error, 1)
	if s == plain {
		go func() { ended <- server.Serve(ln) }()
	} else {
		server.TLSConfig = s.server(t)
		go func() { ended <- server.ServeTLS(ln, "", "") }()
	}
	t.Cleanup(func() {
		server.Close()
		assert.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
	return ln.Addr().String()
}

// wrapped is a ResponseWriter as middleware has it.
type wrapped struct {
	http.ResponseWriter
	status int
}

func (w *wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *wrapped) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func wrapping(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&wrapped{ResponseWriter: w}, r) })
}

// onlyStreams lets nothing but WebSocket over HTTP/2 through.
func onlyStreams(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.ProtoMajor != 2:
			http.Error(w, "HTTP/2 only", http.StatusHTTPVersionNotSupported)
		case r.Method != http.MethodConnect:
			page(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
