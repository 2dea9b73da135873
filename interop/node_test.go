package interop

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
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
	serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
		needNodeModules(t)
		args := append(nodeFlags(s), "peer.mjs", "ws", "serve")
		if s != plain {
			args = append(args, saved(t, issue(t, s.key)))
		}
		r := startNode(t, args...)
		return within(t, r.address), r.accepted
	},
	serveCan: nodeWSCan,
	client: func(t *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
		needNodeModules(t)
		return startNode(t, append(nodeFlags(s), "peer.mjs", "ws")...).dial
	},
	clientCan: nodeWSCan,
	secured:   []security{tls13ChaCha, tls12AESRSA},
}

// nodeBuiltIn is the client that Node itself has: from version 22 on, before behind a flag.
var nodeBuiltIn = peer{
	name: "node",
	client: func(t *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
		return startNode(t, slices.Concat(builtInFlags(t), nodeFlags(s), []string{"peer.mjs", "builtin"})...).dial
	},
	clientCan: standardCan,
	secured:   []security{tls13ChaRSA, tls12AES},
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

// nodeFlags returns what has to stand on Node's command line for a security.
func nodeFlags(s security) []string {
	if s.byPeer() {
		return []string{"--tls-cipher-list=TLS_CHACHA20_POLY1305_SHA256"}
	}
	return nil
}

// startNode runs node in the folder node.
func startNode(t *testing.T, args ...string) *remote {
	return startRemote(t, nil, "node", "node", args...)
}
