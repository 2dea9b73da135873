//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"sync"
	"testing"
)

// rawRelease returns what closes a channel that handlers wait for. At the end of the test it is closed in any case. It is
// called after startServer, so that this comes before the server stops.
func rawRelease(t *testing.T, release chan struct{}) (now func()) {
	t.Helper()
	now = sync.OnceFunc(func() { close(release) })
	t.Cleanup(now)
	return now
}
