//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package abuse

import "github.com/wsloop/websocket/tests/internal/peer"

// abuseInKernel knows nothing: these systems do not tell how much a socket has not sent yet.
func abuseInKernel(*peer.Conn, int) (held int, ok bool) { return 0, false }
