// Package client_test tests a Client from outside, against servers that are played by hand, byte by byte, and against a Server.
package client_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }

// connectEnds are the ways to end a Connect that is at work, each with what its error matches.
func connectEnds() map[string]func(cl *websocket.Client, cancel func()) error {
	return map[string]func(cl *websocket.Client, cancel func()) error{
		"Close":             func(cl *websocket.Client, _ func()) error { cl.Close(); return websocket.ErrConnClosed },
		"Quit":              func(cl *websocket.Client, _ func()) error { cl.Quit(); return websocket.ErrConnClosed },
		"the context's end": func(_ *websocket.Client, cancel func()) error { cancel(); return context.Canceled },
	}
}

// connecting is a Connect that is at work.
type connecting struct {
	t      *testing.T
	client *websocket.Client
	cancel func() // ends its context
	result chan error
}

// beginConnect begins one, whose context ends with the test at the latest.
func beginConnect(t *testing.T, cl *websocket.Client) *connecting {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c := &connecting{t, cl, cancel, make(chan error, 1)}
	go func() { c.result <- cl.ConnectContext(ctx) }()
	return c
}

// endBy ends it in one of connectEnds, and expects the error of that.
func (c *connecting) endBy(end func(cl *websocket.Client, cancel func()) error) {
	c.t.Helper()
	want := end(c.client, c.cancel)
	assert.ErrorIs(c.t, peer.Receive(c.t, c.result), want)
}
