//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

// Package abuse attacks a Server and a Client, and holds them to what SECURITY.md says.
package abuse

import (
	"testing"

	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }
