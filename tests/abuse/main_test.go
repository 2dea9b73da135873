//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"testing"

	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }
