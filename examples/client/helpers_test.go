package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// patience is how long a test waits for something that should happen immediately.
const patience = 20 * time.Second

// serverProgram is the chat server, built once for all tests.
var serverProgram string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "chat")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	serverProgram = filepath.Join(dir, "server.exe") // the name that Windows wants
	if out, err := exec.Command("go", "build", "-o", serverProgram, "../server").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the server: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// startServer starts the real server on a free port. stop ends it as Ctrl+C does.
func startServer(t *testing.T, args ...string) (url string, stop func()) {
	t.Helper()
	printed, stop := launchServer(t, args...)
	return urlIn(t, printed), stop
}

// urlIn returns the URL for clients in what a server has printed.
func urlIn(t *testing.T, printed string) (url string) {
	t.Helper()
	line, _, _ := strings.Cut(printed, "\n")
	_, url, found := strings.Cut(line, "WebSocket  ")
	require.True(t, found, printed)
	return url
}

// launchServer starts the real server and returns what it prints.
func launchServer(t *testing.T, args ...string) (printed string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	cmd := exec.CommandContext(ctx, serverProgram, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	stop = sync.OnceFunc(func() {
		defer cancel()
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.NoError(t, cmd.Wait())
	})
	t.Cleanup(stop)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Stop with") {
		printed += lines.Text() + "\n"
	}
	require.NoError(t, lines.Err())
	return printed, stop
}

// startFake starts a server whose answers are up to the test.
func startFake(t *testing.T, opts *websocket.ServerOptions) (url string) {
	t.Helper()
	_, url = fakeServer(t, opts)
	return url
}

func fakeServer(t *testing.T, opts *websocket.ServerOptions) (srv *websocket.Server, url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv = websocket.NewServer(opts)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	t.Cleanup(func() {
		for deadline := time.After(patience); ; {
			srv.Stop() // does nothing before Serve has begun
			select {
			case err := <-ended:
				require.NoError(t, err)
				return
			case <-deadline:
				require.Fail(t, "the server does not stop")
			case <-time.After(time.Millisecond):
			}
		}
	})
	return srv, "ws://" + ln.Addr().String() + "/"
}

// notice is a packet that a fake server sends.
func notice(name, body string) []byte {
	packet, err := websocket.NewBroadcast(name, body)
	if err != nil {
		panic(err)
	}
	return packet
}

// output is what a program has written so far.
type output struct {
	mu      sync.Mutex
	text    strings.Builder // guarded by mu
	changed chan struct{}   // closed at the next write; guarded by mu
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(b []byte) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) String() string {
	text, _ := o.state()
	return text
}

func (o *output) state() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

// wait waits until the output contains a text.
func (o *output) wait(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		got, changed := o.state()
		if strings.Contains(got, text) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			require.Fail(t, "not written in time", "%q is not in\n%s", text, got)
		}
	}
}

// program is a client that runs.
type program struct {
	t              *testing.T
	stdin          *io.PipeWriter
	stdout, stderr *output
	exited         chan int
	interrupt      func()
}

// startClient runs the program until its input ends.
func startClient(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in, stdin := io.Pipe()
	p := &program{t: t, stdin: stdin, stdout: newOutput(), stderr: newOutput(), exited: make(chan int, 1), interrupt: cancel}
	t.Cleanup(func() {
		stdin.Close()
		cancel()
	})
	go func() {
		p.exited <- run(ctx, args, in, p.stdout, p.stderr)
		in.Close()
	}()
	return p
}

// enter types a line.
func (p *program) enter(line string) {
	p.t.Helper()
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(p.stdin, line+"\n")
		written <- err
	}()
	select {
	case err := <-written:
		require.NoError(p.t, err)
	case <-time.After(patience):
		require.Fail(p.t, "the program does not read", line)
	}
}

// exit waits for the program's end.
func (p *program) exit() (code int) {
	p.t.Helper()
	select {
	case code = <-p.exited:
	case <-time.After(patience):
		require.Fail(p.t, "the program does not end", "%s", p.stdout)
	}
	return code
}
