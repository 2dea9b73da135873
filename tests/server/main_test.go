//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

// Package server tests a Server from outside, over sockets.
package server

import (
	"testing"

	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }
