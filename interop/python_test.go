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
	pyWebsockets = pythonPeer("websockets", pyWebsocketsCan, tls13ChaRSA, tls12ChaCha)
	aiohttp      = pythonPeer("aiohttp", aiohttpCan, tls12ChaRSA, tls13AESRSA)
)

func pythonPeer(library string, can ability, secured ...security) peer {
	return peer{
		name: library + " (Python)",
		serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
			needPython(t, library)
			args := []string{"peer.py", library, "serve"}
			if s != plain {
				args = append(args, saved(t, issue(t, s.key)))
			}
			r := startRemote(t, s.openSSL(t), "python", python, args...)
			return within(t, r.address), r.accepted
		},
		serveCan: can,
		client: func(t *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
			needPython(t, library)
			return startRemote(t, s.openSSL(t), "python", python, "peer.py", library).dial
		},
		clientCan: can,
		secured:   secured,
	}
}

func needPython(t *testing.T, library string) {
	t.Helper()
	if err := exec.Command(python, "-c", "import "+library).Run(); err != nil {
		missing(t, "python3-"+library+" is not installed")
	}
}
