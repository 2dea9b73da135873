package interop

import (
	"os/exec"
	"testing"
)

// python is Debian's, which has its packages python3-websockets and python3-aiohttp.
const python = "/usr/bin/python3"

const (
	pyWebsocketsCan = fragments | pingsBetween | choosesPing | showsEmpty | showsClose | awaitsClose | closesWith | closesWithAny

	// aiohttpCan leaves out awaitsClose: who closes is shown the code of the answer, but not the reason. See
	// TestCloseWhileAHandlerRuns.
	aiohttpCan = choosesPing | showsControl | showsEmpty | showsClose | closesWith | closesWithAny
)

var (
	pyWebsockets = pythonPeer("websockets", pyWebsocketsCan, []security{tls13ChaRSA, tls12ChaCha}, []compression{
		{takeover: true, bits: 15}, {takeover: true, bits: 9}, {bits: 15}, {bits: 9},
	})
	aiohttp = pythonPeer("aiohttp", aiohttpCan, []security{tls12ChaRSA, tls13AESRSA}, []compression{
		{takeover: true, bits: 15}, {takeover: true, bits: 9},
	})
)

func pythonPeer(library string, can ability, secured []security, compressions []compression) peer {
	return peer{
		name: library + " (Python)",
		serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
			return servePython(t, library, s, s.openSSL(t))
		},
		serveCan: can,
		client: func(t *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
			needPython(t, library)
			return startRemote(t, s.openSSL(t), "python", python, "peer.py", library).dial
		},
		clientCan: can,
		secured:   secured,
		compressing: func(c compression) peer {
			return peer{
				serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
					return servePython(t, library, s, c.env())
				},
				client: func(t *testing.T, _ security) (dial func(url string, offer []string) (conn, error)) {
					needPython(t, library)
					return startRemote(t, c.env(), "python", python, "peer.py", library).dial
				},
			}
		},
		compressions: compressions,
	}
}

func servePython(t *testing.T, library string, s security, env []string) (url string, accepted <-chan conn) {
	needPython(t, library)
	args := []string{"peer.py", library, "serve"}
	if s != plain {
		args = append(args, saved(t, issue(t, s.key)))
	}
	r := startRemote(t, env, "python", python, args...)
	return within(t, r.address), r.accepted
}

func needPython(t *testing.T, library string) {
	t.Helper()
	if err := exec.Command(python, "-c", "import "+library).Run(); err != nil {
		missing(t, "python3-"+library+" is not installed")
	}
}
