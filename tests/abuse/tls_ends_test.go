//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"crypto/tls"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// ends has clients go in the ways that TLS adds to those of TCP.
func ends(a *abuse) {
	closed := make(chan websocket.CloseCause, 1)
	a.start(&websocket.ServerOptions{OnClose: func(_ websocket.ConnInfo, cause websocket.CloseCause) { closed <- cause }})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, end := range map[string]func(c *peer.Conn) error{
			"FIN without close_notify": func(c *peer.Conn) error { return c.Socket().CloseWrite() },
			"close_notify without FIN": func(c *peer.Conn) error { return c.TLS().CloseWrite() },
			"close_notify and FIN":     func(c *peer.Conn) error { c.TLS().CloseWrite(); return c.Socket().CloseWrite() },
			"reset":                    func(c *peer.Conn) error { c.Reset(); return nil },
			"close_notify and reset":   func(c *peer.Conn) error { c.TLS().CloseWrite(); c.Reset(); return nil },
		} {
			c := a.DialPlain(a.t)
			config := peer.ClientTLS()
			config.MaxVersion = version
			c.Secure(config)
			require.NoError(a.t, c.Shake())
			c.Text("x")
			c.ExpectText("x")
			start := time.Now()
			require.NoError(a.t, end(c), name)
			require.NoError(a.t, c.ReadToEnd(), name)
			assert.Equal(a.t, websocket.ClosedLost, peer.Get(a.t, closed).Kind, name)
			assert.Less(a.t, time.Since(start), peer.DrainTime+timeLimit(time.Second), name)
			c.Close()
		}
	}
}

// ciphertext is how much of what has left the queue of a connection may wait for its socket, encrypted.
const ciphertext = 128 << 10

// neverRead has the queues of clients filled that read nothing.
func neverRead(a *abuse) {
	const clients, queue, size = 40, 256 << 10, 16 << 10
	timeout := scale(peer.WriteTimeout)
	opts := &websocket.ServerOptions{SendQueueSize: queue, WriteTimeout: timeout}
	added, removed := peer.Added(opts), peer.Removed(opts)
	a.start(opts)
	peer.Get(a.t, added)
	conns := a.connectAll(clients)
	before := live()
	packet := websocket.NewFrameBin(false, peer.Pattern(size, 1))
	numbers := make([]int, clients)
	for i := range conns {
		numbers[i] = peer.Get(a.t, added)
	}
	start := time.Now()
	for i, c := range conns {
		peer.Fill(a.t, numbers[i], packet)
		c.SetDeadline(start.Add(timeout + wait))
	}
	after := live()
	assert.LessOrEqual(a.t, after, before+clients*(queue+size+ciphertext), "%d bytes each", (int(after)-int(before))/clients)
	sent := make(chan error, 1)
	go func() {
		var err error
		for err == nil { // it waits for room, of which there may be some yet
			err = websocket.Send(numbers[0], packet)
		}
		sent <- err
	}()
	for range clients {
		peer.Get(a.t, removed)
	}
	assert.ErrorIs(a.t, peer.Get(a.t, sent), websocket.ErrConnClosed)
	assert.GreaterOrEqual(a.t, time.Since(start), timeout*9/10)
	peer.All(a.t, clients, func(i int) error { return toEnd(conns[i].Socket()) })
}
