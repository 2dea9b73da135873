// Package client_test tests a Client from outside, against servers that are played by hand, byte by byte, and against a Server.
package client_test

import (
	"testing"

	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }
