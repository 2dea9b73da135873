package websocket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain fails the run if goroutines of this package outlive all tests.
func TestMain(m *testing.M) {
	code := m.Run()
	var left []string
	gone := eventually(func() bool {
		left = left[:0]
		for _, stack := range packageGoroutines() {
			if !strings.Contains(stack, "TestMain(") {
				left = append(left, stack)
			}
		}
		return len(left) == 0
	})
	if code == 0 && !gone {
		fmt.Fprintf(os.Stderr, "%d goroutines are left:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// leakDeadline is how long a test's goroutines and descriptors have to go, and leakPoll how often that is looked at.
const (
	leakDeadline = 15 * time.Second
	leakPoll     = 2 * time.Millisecond
)

// checkGoroutines fails the test if, after it and its other cleanups, goroutines with this package on their stack are left
// that were not there before. It is called first, by a test that does not run in parallel with others.
func checkGoroutines(t *testing.T) {
	t.Helper()
	before := packageGoroutines()
	t.Cleanup(func() {
		var left []string
		gone := eventually(func() bool {
			left = left[:0]
			for id, stack := range packageGoroutines() {
				if _, ok := before[id]; !ok {
					left = append(left, stack)
				}
			}
			return len(left) == 0
		})
		if !gone {
			t.Errorf("%d goroutines are left:\n\n%s", len(left), strings.Join(left, "\n\n"))
		}
	})
}

// checkDescriptors fails the test if, after it and its other cleanups, more descriptors are open than before. It is called
// first, by a test that does not run in parallel with others. It checks nothing if there is no /proc/self/fd.
func checkDescriptors(t *testing.T) {
	t.Helper()
	if r, w, err := os.Pipe(); err == nil { // the runtime opens its poller with the first
		r.Close()
		w.Close()
	}
	before := openDescriptors()
	t.Cleanup(func() {
		var left []string
		if !eventually(func() bool { left = openDescriptors(); return len(left) <= len(before) }) {
			t.Errorf("%d descriptors are open, %d were before:\n%s\nbefore:\n%s", len(left), len(before),
				strings.Join(left, "\n"), strings.Join(before, "\n"))
		}
	})
}

// raced says that the race detector is at work.
var raced = sync.OnceValue(func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
})

// eventually reports whether the condition came true before the deadline.
func eventually(condition func() bool) bool {
	deadline := time.Now().Add(leakDeadline)
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(leakPoll)
	}
	return true
}

// packageGoroutines returns the stacks of the goroutines that run this package, or were started by it, those of tests left
// out, by the first two words of their heading: "goroutine 7".
func packageGoroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	found := make(map[string]string)
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		heading, _, _ := strings.Cut(stack, " [")
		if strings.Contains(stack, "github.com/wsloop/websocket") && !strings.Contains(stack, "testing.tRunner(") {
			found[heading] = stack
		}
	}
	return found
}

// openDescriptors returns what is open, as "number -> name".
func openDescriptors() []string {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var open []string
	for _, entry := range entries {
		name, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // the one that ReadDir itself had open
		}
		open = append(open, entry.Name()+" -> "+name)
	}
	slices.Sort(open)
	return open
}

// logFunc is a program's log, which is told of everything. It is given the text of a record and its attributes.
type logFunc func(text string, attrs map[string]slog.Value)

func (f logFunc) Enabled(context.Context, slog.Level) bool { return true }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f logFunc) WithGroup(string) slog.Handler            { return f }

func (f logFunc) Handle(_ context.Context, r slog.Record) error {
	attrs := make(map[string]slog.Value)
	r.Attrs(func(attr slog.Attr) bool {
		attrs[attr.Key] = attr.Value
		return true
	})
	f(r.Message, attrs)
	return nil
}

// rawWait is how long a test waits for something that has to happen.
const rawWait = 10 * time.Second

// The opening handshake of a raw peer, from RFC 6455, section 1.3, and what accepts it.
const (
	rawRequest = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	rawAccepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

// rawServer is a running server of a test.
type rawServer struct {
	*Server
	t       *testing.T
	network string
	address string
	served  chan error // what Serve returned
}

// startServer runs a server until the end of the test, after which no goroutine and no descriptor may be left.
func startServer(t *testing.T, opts *ServerOptions) *rawServer {
	t.Helper()
	checkGoroutines(t)
	checkDescriptors(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &rawServer{Server: NewServer(rawQuiet(opts)), t: t}
	s.serve(ln)
	t.Cleanup(func() { s.stop(t) })
	return s
}

// rawQuiet makes the options of a test: no log, and no Pings between the frames that it waits for unless it wants them.
func rawQuiet(opts *ServerOptions) *ServerOptions {
	if opts == nil {
		opts = new(ServerOptions)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.PingInterval == 0 {
		opts.PingInterval = -1
	}
	return opts
}

// serve lets the server run with the listener, and waits until it does.
func (s *rawServer) serve(ln net.Listener) {
	s.t.Helper()
	s.network, s.address = ln.Addr().Network(), ln.Addr().String()
	s.served = make(chan error, 1)
	go func() { s.served <- s.Serve(ln) }()
	require.True(s.t, eventually(func() bool { return s.Addr() != nil }), "the server does not start")
}

// stop stops the server and waits for Serve to return.
func (s *rawServer) stop(t *testing.T) {
	t.Helper()
	stopped := make(chan struct{})
	go func() {
		s.Stop()
		close(stopped)
	}()
	rawDone(t, stopped)
	if s.served != nil {
		require.NoError(t, rawGet(t, s.served))
		s.served = nil
	}
}

// rawGet returns what arrives on a channel.
func rawGet[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(2 * rawWait):
		require.FailNow(t, "nothing arrives on the channel")
	}
	return v
}

// rawDone waits until a channel is closed.
func rawDone(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(2 * rawWait):
		require.FailNow(t, "the channel is not closed")
	}
}

// rawEcho sends a message back as it is.
func rawEcho(conn int, payload []byte) { Send(conn, NewFrameText(false, payload)) }

// rawAdded makes HandleClientAdd tell the numbers of the connections.
func rawAdded(opts *ServerOptions) <-chan int {
	added := make(chan int, 1<<12)
	opts.HandleClientAdd = func(_ context.Context, conn int) { added <- conn }
	return added
}

// rawRemoved makes HandleClientRemove tell the numbers of the connections.
func rawRemoved(opts *ServerOptions) <-chan int {
	removed := make(chan int, 1<<12)
	opts.HandleClientRemove = func(_ context.Context, conn int) { removed <- conn }
	return removed
}

// rawConn is a peer that is written by hand.
type rawConn struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

// rawOpen connects without a handshake. It may be called from any goroutine.
func (s *rawServer) rawOpen() (*rawConn, error) {
	conn, err := net.DialTimeout(s.network, s.address, rawWait)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(3 * rawWait))
	return &rawConn{Conn: conn, t: s.t, r: bufio.NewReader(conn)}, nil
}

// dial connects without a handshake until the end of the test.
func (s *rawServer) dial(t *testing.T) *rawConn {
	t.Helper()
	c, err := s.rawOpen()
	require.NoError(t, err)
	c.t = t
	t.Cleanup(func() { c.Close() })
	return c
}

// rawShake makes the opening handshake. It may be called from any goroutine.
func (c *rawConn) rawShake() error {
	if _, err := io.WriteString(c, rawRequest); err != nil {
		return err
	}
	answer := make([]byte, len(rawAccepted))
	if _, err := io.ReadFull(c.r, answer); err != nil {
		return fmt.Errorf("no answer to the handshake: %w: %q", err, answer)
	}
	if string(answer) != rawAccepted {
		return fmt.Errorf("wrong answer to the handshake: %q", answer)
	}
	return nil
}

// connect connects with a handshake until the end of the test.
func (s *rawServer) connect(t *testing.T) *rawConn {
	t.Helper()
	c := s.dial(t)
	require.NoError(t, c.rawShake())
	return c
}

// send writes bytes.
func (c *rawConn) send(b []byte) {
	c.t.Helper()
	_, err := c.Write(b)
	require.NoError(c.t, err)
}

// text writes a text message.
func (c *rawConn) text(s string) {
	c.t.Helper()
	c.send(NewFrameText(true, []byte(s)))
}

// rawFrame reads a frame. It may be called from any goroutine.
func (c *rawConn) rawFrame() (op Opcode, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&^0xF != bitFin || head[1]&bitMasked != 0 {
		return 0, nil, fmt.Errorf("frame with the header % x", head)
	}
	length := uint64(head[1])
	var ext [8]byte
	switch length {
	case length16:
		_, err = io.ReadFull(c.r, ext[6:])
		length = binary.BigEndian.Uint64(ext[:])
	case length64:
		_, err = io.ReadFull(c.r, ext[:])
		length = binary.BigEndian.Uint64(ext[:])
	}
	if err != nil || length > 1<<28 {
		return 0, nil, fmt.Errorf("frame of %d bytes: %w", length, err)
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(c.r, payload)
	return Opcode(head[0] & 0xF), payload, err
}

// rawExpect reads a frame and compares it. It may be called from any goroutine.
func (c *rawConn) rawExpect(op Opcode, payload string) error {
	gotOp, got, err := c.rawFrame()
	if err != nil {
		return fmt.Errorf("want %x %.40q: %w", op, payload, err)
	}
	if gotOp != op || string(got) != payload {
		return fmt.Errorf("got %x %.40q (%d bytes), want %x %.40q (%d bytes)", gotOp, got, len(got), op, payload, len(payload))
	}
	return nil
}

// expect reads a frame and compares it.
func (c *rawConn) expect(op Opcode, payload string) {
	c.t.Helper()
	require.NoError(c.t, c.rawExpect(op, payload))
}

// expectText reads a text message and compares it.
func (c *rawConn) expectText(s string) {
	c.t.Helper()
	c.expect(OpcodeText, s)
}

// reset closes the connection with a reset.
func (c *rawConn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// rawPattern makes n bytes of letters. They repeat after a prime number, so that no usual shift or swap leaves them the same.
func rawPattern(n, seed int) []byte {
	block := make([]byte, min(n, 65_521))
	for i := range block {
		block[i] = 'a' + byte((i*7+i/251+seed)%26)
	}
	if n == 0 {
		return block
	}
	return bytes.Repeat(block, n/len(block)+1)[:n:n]
}

// rawFill lets the server send to a connection whose peer does not read until its queue is full.
func rawFill(t *testing.T, conn int, packet []byte) (sent int) {
	t.Helper()
	for range 1 << 16 {
		err := TrySend(conn, packet)
		if errors.Is(err, ErrSendQueueFull) {
			return sent
		}
		require.NoError(t, err)
		sent++
	}
	require.FailNow(t, "the queue never fills")
	return 0
}

// rawRelease returns what closes a channel that handlers wait for. At the end of the test it is closed in any case. It is
// called after startServer, so that this comes before the server stops.
func rawRelease(t *testing.T, release chan struct{}) (now func()) {
	t.Helper()
	now = sync.OnceFunc(func() { close(release) })
	t.Cleanup(now)
	return now
}
