//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// The abuse suite: "go test -v ./tests/abuse". Each row is an attack and the answer to it. While it goes on, and after it, the
// same is checked of every row: a well-behaved client that was there before gets its echoes, each within echoLimit; no panic
// and no other error is logged that the row does not expect; and goroutines, descriptors and memory go back to what they were.
// The rows are in the other files, SECURITY.md lists what they hold.
//
// Time-outs, and what hostile peers and handlers wait for, are a tenth of the real times. "make abuse" takes the real ones, the
// server's defaults among them, in about five minutes:
//
//	go test -count=1 -v ./tests/abuse -abuse.real
//
// Limits that do not depend on a time-out are the same for both.

var realTimes = flag.Bool("abuse.real", false, "run the abuse suite with the real times instead of a tenth of them")

// scale is a real time in this run.
func scale(d time.Duration) time.Duration {
	if *realTimes {
		return d
	}
	return d / 10
}

// defaults sets the time-outs of a server to their defaults, in this run.
func defaults(opts *websocket.ServerOptions) *websocket.ServerOptions {
	opts.HandshakeTimeout = scale(peer.HandshakeTimeout)
	opts.WriteTimeout = scale(peer.WriteTimeout)
	opts.PingInterval = scale(peer.PingInterval)
	opts.SilenceTimeout = scale(peer.SilenceTimeout)
	opts.AddTimeout = scale(peer.AddTimeout)
	return opts
}

const (
	// echoLimit is the longest that a well-behaved client may wait for its echo during an attack. Three times what a plain
	// echo over TCP took meanwhile, without this package, is added: so long the machine was busy with something else.
	echoLimit = time.Second

	// echoPace is the time between two echoes of a well-behaved client.
	echoPace = 5 * time.Millisecond

	// heap is how much larger than before the heap may be after an attack. Buffers of the test are in it.
	heap = 4 << 20

	// wait is how long anything that has to happen may take, beyond the time-outs and handlers that it waits for.
	wait = 20 * time.Second
)

// timeLimit is a limit of time in this build: five times as long with the race detector, which makes both sides of each
// connection that much slower.
func timeLimit(d time.Duration) time.Duration {
	if peer.Raced() {
		return 5 * d
	}
	return d
}

// attackRow is one attack.
type attackRow struct {
	name   string // the attack and the answer to it, as a sentence
	attack func(a *abuse)
	logs   []string // beginnings of the messages that the log may have, panics among them
	inHTTP string   // what net/http does in its own way, before ServeHTTP is called; empty: nothing
	inTLS  string   // what cannot be asked over TLS; empty: nothing
}

// abuse is an attack in progress: its server, and the client that must not notice.
type abuse struct {
	*peer.Server
	t    *testing.T
	log  *recorder
	calm *calmClient
	pace time.Duration // between two echoes of that client

	handler http.Handler // of the server; nil if it has none
	mounted bool         // the server is a handler of net/http
	tls     bool         // the server speaks TLS, and so do its clients
}

// runRows runs rows one after the other.
func runRows(t *testing.T, rows []attackRow) { runRowsWith(t, abuse{}, rows) }

// runRowsWith is runRows for a server that is reached in another way.
func runRowsWith(t *testing.T, way abuse, rows []attackRow) {
	for _, row := range rows {
		if way.mounted && row.inHTTP != "" || way.tls && row.inTLS != "" {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			a := &abuse{t: t, log: new(recorder), pace: echoPace, handler: way.handler, mounted: way.mounted, tls: way.tls}
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			a.checkHeap()
			t.Cleanup(func() { a.log.check(t, row.logs) })
			row.attack(a)
			require.NotNil(t, a.calm, "the row has no well-behaved client")
			a.calm.finish(t)
		})
	}
}

// start runs the server of the row. The well-behaved client is one of its clients; its messages begin with helloPrefix.
func (a *abuse) start(opts *websocket.ServerOptions) {
	a.t.Helper()
	a.startApart(opts)
	a.watch(a.Server)
}

// startApart runs the server of a row without the well-behaved client, which the row has to put somewhere else.
func (a *abuse) startApart(opts *websocket.ServerOptions) {
	a.t.Helper()
	if opts.HandleText == nil {
		opts.HandleText = peer.Echo
	}
	a.Server = a.newServer(opts) // before it runs: handlers use it
	if a.mounted {
		a.Server.Mount(a.t)
	} else {
		a.Server.Launch(a.t)
	}
}

// newServer makes a server whose log is the row's.
func (a *abuse) newServer(opts *websocket.ServerOptions) *peer.Server {
	opts.Logger, opts.Handler = a.slog(), a.handler
	if a.tls && opts.TLSConfig == nil {
		opts.TLSConfig = peer.ServerTLS()
	}
	return &peer.Server{Server: websocket.NewServer(peer.Quiet(opts)), T: a.t}
}

// connectAll connects many clients with a handshake until the end of the test, and keeps no memory of them after that.
func (a *abuse) connectAll(n int) []*peer.Conn {
	a.t.Helper()
	return openAll(a, n, func() (*peer.Conn, error) { return a.Join() })
}

// openAll opens many connections in one way, until the end of the test.
func openAll[C io.Closer](a *abuse, n int, open func() (C, error)) []C {
	a.t.Helper()
	conns := make([]C, 0, n)
	a.t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
		clear(conns)
	})
	for range n {
		c, err := open()
		require.NoError(a.t, err)
		conns = append(conns, c)
	}
	return conns
}

// startBeside runs a second server in the same process, and has the well-behaved client there: for rows that stop theirs.
func (a *abuse) startBeside() {
	a.t.Helper()
	beside := a.newServer(&websocket.ServerOptions{HandleText: peer.Echo})
	beside.Launch(a.t)
	a.watch(beside)
}

// watch lets a well-behaved client have its echoes from a server until the attack is over.
func (a *abuse) watch(s *peer.Server) {
	a.t.Helper()
	a.calm = &calmClient{c: s.Connect(a.t), pace: a.pace, stop: make(chan struct{}), done: make(chan error, 1),
		plain: make(chan time.Duration, 1)}
	go func() { a.calm.done <- a.calm.run() }()
	plain, err := net.Dial("tcp", peer.PlainServer(a.t))
	require.NoError(a.t, err)
	go func() { a.calm.plain <- a.calm.measure(plain) }()
	a.t.Cleanup(func() { a.calm.end() })
}

// calmEcho echoes a text: what the handler of a row does with messages that are not for it, those of the well-behaved
// client among them. It returns false if the message is one for the row.
func calmEcho(conn int, payload []byte) bool {
	if !strings.HasPrefix(string(payload), helloPrefix) {
		return false
	}
	peer.Echo(conn, payload)
	return true
}

// helloPrefix begins the messages of the well-behaved client.
const helloPrefix = "hello "

// calmClient is the well-behaved client. Broadcasts of the row, which are binary, are read and dropped.
type calmClient struct {
	c       *peer.Conn
	pace    time.Duration
	stop    chan struct{}
	once    sync.Once
	done    chan error
	plain   chan time.Duration // the longest plain echo
	echoes  int                // belongs to run until done
	longest time.Duration      // likewise
	seen    bool               // finish was called
}

func (calm *calmClient) run() error {
	ticker := time.NewTicker(calm.pace)
	defer ticker.Stop()
	for last := false; ; {
		if err := calm.echo(); err != nil || last {
			return err
		}
		select {
		case <-calm.stop:
			last = true
		case <-ticker.C:
		}
	}
}

func (calm *calmClient) echo() error {
	text := helloPrefix + strconv.Itoa(calm.echoes)
	start := time.Now()
	calm.c.SetDeadline(start.Add(wait))
	if _, err := calm.c.Write(websocket.NewFrameText(true, []byte(text))); err != nil {
		return err
	}
	for {
		op, payload, _, err := calm.c.FrameAfterPings()
		switch {
		case err != nil:
			return fmt.Errorf("echo %d: %w", calm.echoes, err)
		case op == websocket.OpcodeBin:
			continue
		case op != websocket.OpcodeText || string(payload) != text:
			return fmt.Errorf("got %x %.40q for %q", op, payload, text)
		}
		break
	}
	calm.echoes++
	calm.longest = max(calm.longest, time.Since(start))
	return nil
}

// measure has plain echoes until the end, and returns how long the longest took.
func (calm *calmClient) measure(c net.Conn) (longest time.Duration) {
	defer c.Close()
	ticker := time.NewTicker(calm.pace)
	defer ticker.Stop()
	for b := make([]byte, 1); ; {
		start := time.Now()
		c.Write(b)
		c.Read(b)
		longest = max(longest, time.Since(start))
		select {
		case <-calm.stop:
			return longest
		case <-ticker.C:
		}
	}
}

func (calm *calmClient) end() { calm.once.Do(func() { close(calm.stop) }) }

// finish checks what the client saw. A row may call it before it stops the server.
func (calm *calmClient) finish(t *testing.T) {
	t.Helper()
	if calm.seen {
		return
	}
	calm.seen = true
	calm.end()
	require.NoError(t, peer.Get(t, calm.done), "the well-behaved client")
	plain := peer.Get(t, calm.plain)
	assert.Less(t, calm.longest, echoLimit+3*plain, "the longest of %d echoes of the well-behaved client", calm.echoes)
	t.Logf("%d echoes of the well-behaved client, the longest in %v (plain ones: %v)", calm.echoes,
		calm.longest.Round(10*time.Microsecond), plain.Round(10*time.Microsecond))
}

func (a *abuse) slog() *slog.Logger { return slog.New(a.log) }

// recorder keeps what a server logs, debug messages left out.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (l *recorder) Enabled(_ context.Context, level slog.Level) bool { return level > slog.LevelDebug }
func (l *recorder) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *recorder) WithGroup(string) slog.Handler                    { return l }

func (l *recorder) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(attr slog.Attr) bool {
		line += " " + attr.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

// count returns the number of lines that begin so.
func (l *recorder) count(start string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.HasPrefix(line, start) {
			n++
		}
	}
	return n
}

// check fails the test for lines that begin with none of the allowed texts.
func (l *recorder) check(t *testing.T, allowed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		ok := false
		for _, start := range allowed {
			ok = ok || strings.HasPrefix(line, start)
		}
		if !ok {
			t.Errorf("the log has: %s", line)
		}
	}
}

// checkHeap fails the test if the heap is larger after it than before.
func (a *abuse) checkHeap() {
	before := live()
	a.t.Cleanup(func() {
		var after uint64
		if !peer.Eventually(func() bool { after = live(); return after <= before+heap }) {
			a.t.Errorf("the heap is %d KiB, it was %d KiB before", after>>10, before>>10)
		}
	})
}

// live is the size of the heap in bytes, without garbage and without what pools hold.
func live() uint64 {
	runtime.GC()
	runtime.GC() // the first one leaves what pools hold
	return heapNow()
}

// heapNow is the size of the heap in bytes, with garbage.
func heapNow() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// bounded fails the test if the heap, with all its garbage, grows by more than limit bytes until the returned function is
// called, or the test ends.
func (a *abuse) bounded(limit uint64) (done func()) {
	a.t.Helper()
	before := live()
	stop, peak := make(chan struct{}), make(chan uint64, 1)
	go func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		most := heapNow()
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-ticker.C:
				most = max(most, heapNow())
			}
		}
	}()
	done = sync.OnceFunc(func() {
		close(stop)
		grown := max(<-peak, before) - before
		assert.LessOrEqual(a.t, grown, limit, "the heap grew by that many bytes")
		a.t.Logf("the heap grew by %d KiB", grown>>10)
	})
	a.t.Cleanup(done)
	return done
}

// flood writes the same bytes again and again, n times in all or until the server has had enough.
func flood(w io.Writer, b []byte, n int) (written int, err error) {
	several := max(1, min(n, 32<<10/len(b)))
	row := make([]byte, 0, several*len(b))
	for range several {
		row = append(row, b...)
	}
	for written < n && err == nil {
		var m int
		m, err = w.Write(row[:min(several, n-written)*len(b)])
		written += m / len(b)
	}
	return written, err
}

// await calls f on a goroutine of its own and returns when it has returned. It fails the test if f returns an error
// or takes too long.
func (a *abuse) await(f func() error) {
	a.t.Helper()
	peer.All(a.t, 1, func(int) error { return f() })
}

// get returns what arrives on a channel. It waits for wait and the time that the attack itself takes.
func get[T any](t *testing.T, ch <-chan T, attack time.Duration) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(wait + attack):
		require.FailNow(t, "nothing arrives on the channel")
	}
	return v
}

// raced says that the race detector is at work.
var raced = sync.OnceValue(func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
})
