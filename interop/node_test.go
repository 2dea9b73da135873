package interop

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	nodeWSCan = fragments | pingsBetween | choosesPing | showsControl | breaksText | showsEmpty | showsClose | awaitsClose |
		closesWith | closesWithAny | closesWithNone

	// standardCan is what the class WebSocket of browsers and Node does.
	standardCan = showsEmpty | showsClose | awaitsClose | closesWith | closesWithNone
)

// nodeWS is the package ws for Node.
var nodeWS = peer{
	name: "ws",
	serve: func(t *testing.T) (url string, accepted <-chan conn) {
		needNodeModules(t)
		r := startNode(t, "peer.mjs", "ws", "serve")
		return within(t, r.address), r.accepted
	},
	serveCan: nodeWSCan,
	client: func(t *testing.T) (dial func(url string, offer []string) (conn, error)) {
		needNodeModules(t)
		return startNode(t, "peer.mjs", "ws").dial
	},
	clientCan: nodeWSCan,
}

// nodeBuiltIn is the client that Node itself has: from version 22 on, before behind a flag.
var nodeBuiltIn = peer{
	name: "node",
	client: func(t *testing.T) (dial func(url string, offer []string) (conn, error)) {
		return startNode(t, append(builtInFlags(t), "peer.mjs", "builtin")...).dial
	},
	clientCan: standardCan,
}

func needNode(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "node is not installed")
	}
}

func needNodeModules(t *testing.T) {
	t.Helper()
	needNode(t)
	if _, err := os.Stat("node/node_modules/ws"); err != nil {
		missing(t, "interop/node/node_modules is not installed: npm ci")
	}
}

// builtInFlags returns what has to stand on Node's command line for its WebSocket.
func builtInFlags(t *testing.T) []string {
	t.Helper()
	needNode(t)
	for _, flags := range [][]string{nil, {"--experimental-websocket"}} {
		out, err := exec.Command("node", append(flags, "--print", "typeof WebSocket")...).Output()
		if err == nil && strings.TrimSpace(string(out)) == "function" {
			return flags
		}
	}
	missing(t, "this version of node has no WebSocket")
	return nil
}

// startNode runs node in the folder node. It ends when its standard input does, at the end of the test.
func startNode(t *testing.T, args ...string) *remote {
	t.Helper()
	cmd := exec.Command("node", args...)
	cmd.Dir = "node"
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	r := newRemote()
	var mu sync.Mutex // held for one line
	encoder := json.NewEncoder(in)
	r.tell = func(c command) error {
		mu.Lock()
		defer mu.Unlock()
		return encoder.Encode(c)
	}
	ended := make(chan error, 1)
	go func() {
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadBytes('\n')
			if err == nil {
				err = r.report(line)
			}
			if err != nil {
				break
			}
		}
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		in.Close()
		select {
		case err := <-ended:
			assert.NoError(t, err, "node")
		case <-time.After(deadline):
			cmd.Process.Kill()
			t.Error("node did not end before the deadline")
		}
	})
	return r
}
