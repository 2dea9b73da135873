//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

// What a server does when its process has no descriptors left. It runs in a process of its own, this test binary run again,
// with 64 of them.

const (
	childVariable = "WEBSOCKET_ABUSE_CHILD" // in the environment of that process
	few           = 64
)

func TestAbuseDescriptors(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		serveFew(t)
		return
	}
	runRows(t, []attackRow{{
		name:   "150 clients of a server with 64 descriptors cost little time, few log lines, and it goes on by itself",
		attack: fewDescriptors,
	}})
}

func fewDescriptors(a *abuse) {
	const peers, window = 150, 2 * time.Second
	child := startChild(a.t)
	a.pace = 100 * time.Millisecond // the time that its echoes take is not what is measured
	s := &peer.Server{T: a.t, Network: "tcp", Address: child.address}
	a.watch(s)
	before := child.ask("state")

	var conns []*peer.Conn
	for range peers {
		conns = append(conns, s.Dial(a.t))
	}
	answered := make(chan error, peers)
	for _, c := range conns {
		c.SetDeadline(time.Now().Add(3 * peer.Wait))
		go func() { answered <- c.Shake() }()
	}
	inside := 0
	for quiet := false; !quiet; { // as many as there are descriptors for
		select {
		case err := <-answered:
			require.NoError(a.t, err)
			inside++
		case <-time.After(time.Second):
			quiet = true
		}
	}
	require.Less(a.t, inside, few)
	require.Greater(a.t, inside, few/2)

	// Nothing happens in this time but the echoes of the well-behaved client.
	earlier, start := child.ask("state"), time.Now()
	<-time.NewTimer(window).C
	state := child.ask("state")
	cost := float64(state.used-earlier.used) / float64(time.Since(start))
	a.t.Logf("%d of %d clients are in; the server uses %.2f %% of a processor; it has logged %d lines", inside, peers, 100*cost, state.logged)
	assert.Less(a.t, cost, 0.05, "of a processor")
	assert.LessOrEqual(a.t, state.logged, 5, "lines in the log")
	assert.NotZero(a.t, state.logged, "nobody is told")

	for _, c := range conns { // those who wait get in as the others leave
		c.Close()
	}
	for ; inside < peers; inside++ {
		peer.Get(a.t, answered)
	}
	for range 10 {
		begin := time.Now()
		c, err := s.Join()
		require.NoError(a.t, err)
		_, err = c.Write(websocket.NewFrameText(true, []byte("x")))
		require.NoError(a.t, err)
		require.NoError(a.t, c.Compare(websocket.OpcodeText, "x"))
		c.Close()
		assert.Less(a.t, time.Since(begin), 5*time.Second)
	}
	require.True(a.t, peer.Eventually(func() bool {
		after := child.ask("state")
		return after.connections == 1 && after.goroutines <= before.goroutines
	}))
	a.calm.finish(a.t)
	child.ask("stop")
	require.NoError(a.t, child.end())
}

// childState is what the child says of itself.
type childState struct {
	used                            time.Duration
	logged, goroutines, connections int
}

// childProcess is the server's process.
type childProcess struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.WriteCloser
	lines   chan string
	address string
	waited  bool
}

func startChild(t *testing.T) *childProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAbuseDescriptors$", "-test.v=false")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	child := &childProcess{t: t, cmd: cmd, in: in, lines: make(chan string, 64)}
	go func() {
		defer close(child.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			child.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() { child.end() })
	child.address = strings.TrimPrefix(child.line("address "), "address ")
	return child
}

// line returns the next line that begins so.
func (child *childProcess) line(start string) string {
	child.t.Helper()
	for {
		line := peer.Get(child.t, child.lines)
		if strings.HasPrefix(line, start) {
			return line
		}
		require.NotEmpty(child.t, line, "the child has ended")
	}
}

// ask sends a command and reads the state that answers it.
func (child *childProcess) ask(command string) (state childState) {
	child.t.Helper()
	_, err := fmt.Fprintln(child.in, command)
	require.NoError(child.t, err)
	_, err = fmt.Sscanf(child.line("state "), "state %d %d %d %d", &state.used, &state.logged, &state.goroutines, &state.connections)
	require.NoError(child.t, err)
	return state
}

func (child *childProcess) end() error {
	if child.waited {
		return nil
	}
	child.waited = true
	child.in.Close()
	for range child.lines {
	}
	return child.cmd.Wait()
}

// serveFew is the child: it serves until its standard input ends or says "stop".
func serveFew(t *testing.T) {
	log := new(recorder)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: few, Max: few}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serv := websocket.NewServer(&websocket.ServerOptions{
		HandleText: peer.Echo, Logger: slog.New(log), MaxConnections: 1 << 16, PingInterval: -1,
	})
	served := make(chan error, 1)
	go func() { served <- serv.Serve(ln) }()
	fmt.Println("address", ln.Addr())
	before := len(peer.Goroutines())
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		stop := commands.Text() == "stop"
		if stop {
			serv.Stop()
			require.NoError(t, peer.Get(t, served))
			require.True(t, peer.Eventually(func() bool { return len(peer.Goroutines()) <= before }))
			require.LessOrEqual(t, len(peer.OpenDescriptors()), 16)
		}
		var used unix.Rusage
		require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &used))
		fmt.Println("state", used.Utime.Nano()+used.Stime.Nano(), log.count(""), len(peer.Goroutines()), serv.Clients.Len())
		if stop {
			return
		}
	}
	serv.Stop()
}
