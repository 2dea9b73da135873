//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import "testing"

// The rows that are there for plain connections, over TLS.

func TestAbuseHandshakeOverTLS(t *testing.T) { runRowsWith(t, abuse{tls: true}, handshakeRows) }

func TestAbuseHandshakeWithHandlerOverTLS(t *testing.T) {
	runRowsWith(t, abuse{tls: true, handler: refusing}, handshakeRows)
}

func TestAbuseFramesOverTLS(t *testing.T) { runRowsWith(t, abuse{tls: true}, frameRows) }
func TestAbuseLifeOverTLS(t *testing.T)   { runRowsWith(t, abuse{tls: true}, lifeRows) }
func TestAbuseStopOverTLS(t *testing.T)   { runRowsWith(t, abuse{tls: true}, stopRows) }
