package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

// fewDescriptors is the environment variable that makes TestAcceptWithoutDescriptors the server of its child process.
const fewDescriptors = "WEBSOCKET_TEST_FEW_DESCRIPTORS"

func TestAcceptWithoutDescriptors(t *testing.T) {
	const limit = 48
	if os.Getenv(fewDescriptors) != "" {
		serveFew(t, limit)
		return
	}
	peer.CheckGoroutines(t)
	peer.CheckDescriptors(t)
	child := exec.Command(os.Args[0], "-test.run=^TestAcceptWithoutDescriptors$", "-test.count=1")
	child.Env = append(os.Environ(), fewDescriptors+"=1")
	in, err := child.StdinPipe()
	require.NoError(t, err)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	defer child.Wait()
	defer in.Close() // ends the child
	lines := bufio.NewScanner(out)
	var address string
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "address "); ok {
			address = rest
			break
		}
	}
	require.NotEmpty(t, address)
	s := &peer.Server{T: t, Network: "tcp", Address: address}

	// Twice as many clients as there are descriptors: what is not accepted waits, and comes in as others leave.
	const peers = 2 * limit
	waiting := make([]*peer.Conn, peers)
	for i := range waiting {
		waiting[i] = s.Dial(t)
		waiting[i].Send([]byte(peer.Request))
	}
	served := make(chan error, peers)
	for _, c := range waiting {
		go func() {
			answer := make([]byte, len(peer.Accepted))
			_, err := io.ReadFull(c.Reader, answer)
			if err == nil && string(answer) != peer.Accepted {
				err = fmt.Errorf("%q", answer)
			}
			if err == nil {
				_, err = c.Write(websocket.NewFrameText(true, []byte("x")))
			}
			if err == nil {
				err = c.Compare(websocket.OpcodeText, "x")
			}
			c.Close()
			served <- err
		}()
	}
	for range peers {
		require.NoError(t, peer.Get(t, served))
	}

	// Numbers are given back early if there is need: many more clients come and go than a second's hold lets through.
	come := make(chan error, 1)
	go func() {
		var err error
		for range 800 {
			var c *peer.Conn
			if c, err = s.Join(); err != nil {
				break
			}
			c.Reset()
		}
		come <- err
	}()
	require.NoError(t, peer.Get(t, come))
	c := s.Connect(t)
	c.Text("x")
	c.ExpectText("x")
	c.Text("full?")
	_, payload, err := c.Frame()
	require.NoError(t, err)
	require.Equal(t, "true", string(payload), "descriptors had run out")
}

// serveFew serves with few descriptors until its standard input ends.
func serveFew(t *testing.T, limit uint64) {
	var full atomic.Bool
	var serv *websocket.Server
	opts := &websocket.ServerOptions{MaxConnections: 1 << 20, Logger: slog.New(warningLog{slog.DiscardHandler, &full})}
	opts.HandleText = func(conn int, p []byte) {
		if string(p) == "full?" {
			p = fmt.Append(nil, full.Load() && serv.Stats().AcceptPauses > 0)
		}
		peer.Echo(conn, p)
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serv = websocket.NewServer(opts)
	errs := make(chan error, 1)
	go func() { errs <- serv.Serve(ln) }()
	fmt.Println("address", ln.Addr())
	io.Copy(io.Discard, os.Stdin)
	serv.Stop()
	require.NoError(t, peer.Get(t, errs))
}

// warningLog is a log that remembers a warning.
type warningLog struct {
	slog.Handler
	warned *atomic.Bool
}

func (h warningLog) Enabled(context.Context, slog.Level) bool { return true }

func (h warningLog) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		h.warned.Store(true)
	}
	return nil
}
