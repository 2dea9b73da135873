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
	pyWebsockets = pythonPeer("websockets", pyWebsocketsCan)
	aiohttp      = pythonPeer("aiohttp", aiohttpCan)
)

func pythonPeer(library string, can ability) peer {
	return peer{
		name: library + " (Python)",
		serve: func(t *testing.T) (url string, accepted <-chan conn) {
			needPython(t, library)
			r := startRemote(t, "python", python, "peer.py", library, "serve")
			return within(t, r.address), r.accepted
		},
		serveCan: can,
		client: func(t *testing.T) (dial func(url string, offer []string) (conn, error)) {
			needPython(t, library)
			return startRemote(t, "python", python, "peer.py", library).dial
		},
		clientCan: can,
	}
}

func needPython(t *testing.T, library string) {
	t.Helper()
	if err := exec.Command(python, "-c", "import "+library).Run(); err != nil {
		missing(t, "python3-"+library+" is not installed")
	}
}
