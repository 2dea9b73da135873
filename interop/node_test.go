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
		return serveNodeWS(t, s, nil)
	},
	serveCan: nodeWSCan,
	client: func(t *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
		needNodeModules(t)
		return startNode(t, nil, append(nodeFlags(s), "peer.mjs", "ws")...).dial
	},
	clientCan: nodeWSCan,
	secured:   []security{tls13ChaCha, tls12AESRSA},

	compressing: func(c compression) peer {
		return peer{
			serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
				return serveNodeWS(t, s, c.env())
			},
			client: func(t *testing.T, _ security) (dial func(url string, offer []string) (conn, error)) {
				needNodeModules(t)
				return startNode(t, c.env(), "peer.mjs", "ws").dial
			},
		}
	},
	compressions: []compression{{takeover: true, bits: 15}, {takeover: true, bits: 9}, {bits: 15}, {bits: 9}},
}

// bun is here for its compression: a server with one window for all, and a client.
var bun = peer{
	name: "bun",
	compressing: func(compression) peer {
		return peer{
			serve: func(t *testing.T, _ security) (url string, accepted <-chan conn) {
				r := startBun(t, "peer.mjs", "bun", "serve")
				return within(t, r.address), r.accepted
			},
			client: func(t *testing.T, _ security) (dial func(url string, offer []string) (conn, error)) {
				return startBun(t, "peer.mjs", "builtin").dial
			},
		}
	},
	compressions: []compression{{takeover: true, bits: 15}},
}

func startBun(t *testing.T, args ...string) *remote {
	const program = "node_modules/.bin/bun"
	if _, err := os.Stat("node/" + program); err != nil {
		missing(t, "interop/node/node_modules is not installed: npm ci")
	}
	return startRemote(t, nil, "node", program, args...)
}

func serveNodeWS(t *testing.T, s security, env []string) (url string, accepted <-chan conn) {
	needNodeModules(t)
	args := append(nodeFlags(s), "peer.mjs", "ws", "serve")
	if s != plain {
		args = append(args, saved(t, issue(t, s.key)))
	}
	r := startNode(t, env, args...)
	return within(t, r.address), r.accepted
}

// nodeBuiltIn is the client that Node itself has: from version 22 on, before behind a flag.
var nodeBuiltIn = peer{
	name:      "node",
	client:    clientNode,
	clientCan: standardCan,
	secured:   []security{tls13ChaRSA, tls12AES},

	compressing:  func(compression) peer { return peer{client: clientNode} }, // it always does
	compressions: []compression{{takeover: true, bits: 15}},
	onlyInflates: true,
}

func clientNode(t *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
	return startNode(t, nil, slices.Concat(builtInFlags(t), nodeFlags(s), []string{"peer.mjs", "builtin"})...).dial
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

// startNode runs node in the folder node, with more in its environment.
func startNode(t *testing.T, env []string, args ...string) *remote {
	return startRemote(t, env, "node", "node", args...)
}
