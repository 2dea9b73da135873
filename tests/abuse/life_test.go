//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

var panicked = []string{"websocket: handler panicked"}

func TestAbuseLife(t *testing.T) { runRows(t, lifeRows) }

var lifeRows = []attackRow{
	{name: "a client that reads nothing during a broadcast of 100 MB is dropped, others lose nothing", logs: []string{"websocket: slow clients dropped"}, attack: broadcast},
	{name: "a client that reads slowly is kept for longer than the write time-out", attack: slowClient},
	{name: "a million small messages to a slow handler are handled in order, and TCP pushes back", attack: messages,
		inTLS: "a write that has run out of time cannot be taken up again"},
	{name: "handlers that panic end their own connection, with 1011", logs: panicked, attack: panicking},
	{name: "handlers that block for a minute hold up nobody, and are waited for by nobody", attack: blockedHandlers},
	{name: "handlers that remove their own connection", attack: removeOwn},
	{name: "handlers that remove each other's connections", attack: removeOthers},
	{name: "2,000 connections that are reset at the same time, in the middle of what they send and receive", attack: resets},
}

// broadcast sends 100 MiB to everybody, as fast as the readers are. The readers check that they get all of it in order.
func broadcast(a *abuse) {
	const (
		readers, size = 8, 64 << 10
		packets       = 100 << 20 / size
		ahead         = 8 // packets that the sender may be ahead of the slowest reader: half of a send queue
		queue         = 2 * ahead * size
	)
	if a.tls && raced() {
		a.t.Skip("the race detector, which watches each byte on each of its ways, takes longer than the connections live")
	}
	room := queue + size
	if a.tls {
		room += ciphertext
	}
	opts := &websocket.ServerOptions{SendQueueSize: queue, WriteTimeout: scale(peer.WriteTimeout)}
	added, removed := peer.Added(opts), peer.Removed(opts)
	a.start(opts)
	peer.Get(a.t, added)
	deaf := a.Connect(a.t)
	deafConn := peer.Get(a.t, added)
	slow := a.Connect(a.t) // reads a packet now and then: what it gets depends on the machine
	slowConn := peer.Get(a.t, added)
	a.bounded(48 << 20)

	got := make(chan int, readers*packets)
	ended := make(chan error, readers)
	for range readers {
		c := a.Connect(a.t)
		peer.Get(a.t, added)
		go func() { ended <- readBroadcast(c, packets, size, func(int) { got <- 1 }) }()
	}
	stop := make(chan struct{})
	slowEnded := make(chan error, 1)
	go func() { slowEnded <- readSlowly(slow, stop) }()

	lost := make(map[int]int)
	ping, pings := websocket.NewFramePing(false, nil), 0 // what the client that does not read is sent besides
	var longest time.Duration
	read := 0
	for i := range packets {
		payload := peer.Pattern(size, i)
		binary.BigEndian.PutUint64(payload, uint64(i))
		begin := time.Now()
		packet := websocket.NewFrameBin(false, payload)
		_, failed := a.Clients.SendAll(packet)
		longest = max(longest, time.Since(begin))
		for conn, err := range failed {
			lost[conn]++
			if conn != deafConn && conn != slowConn || !errors.Is(err, websocket.ErrSendQueueFull) && !errors.Is(err, websocket.ErrConnClosed) {
				require.NoError(a.t, err, "connection %d", conn)
			}
		}
		_, held, ok := deaf.InKernel(deafConn)
		switch err := websocket.TrySend(deafConn, ping); {
		case errors.Is(err, websocket.ErrConnClosed): // it has been dropped, and its queue with it
			ok = false
		case err == nil:
			pings++
		}
		if ok {
			taken := (i+1-lost[deafConn])*len(packet) + pings*len(ping)
			require.LessOrEqual(a.t, taken-held, room, "the queue of the client that does not read")
		}
		for read < (i+1-ahead)*readers {
			read += peer.Get(a.t, got)
		}
	}
	for range readers {
		require.NoError(a.t, peer.Get(a.t, ended))
	}
	require.Equal(a.t, deafConn, peer.Get(a.t, removed))
	assert.Less(a.t, longest, timeLimit(echoLimit), "the longest SendAll")
	assert.ErrorIs(a.t, websocket.Send(deafConn, websocket.NewFramePing(false, nil)), websocket.ErrConnClosed)
	close(stop)
	require.NoError(a.t, peer.Get(a.t, slowEnded), "what the slow client gets is whole, and in order")
	require.NoError(a.t, deaf.ReadToEnd())
	a.t.Logf("the longest SendAll took %v; the slow client lost %d of %d packets", longest, lost[slowConn], packets)
}

// slowClient has a client read 40 KB/s of what fills its queue and the buffers of TCP, for three times the write time-out.
// Pollers report room in a socket only when a large part of its buffer is free; less than that is progress, too.
func slowClient(a *abuse) {
	const piece = 20 << 10
	timeout := scale(peer.WriteTimeout)
	opts := &websocket.ServerOptions{WriteTimeout: timeout}
	added := peer.Added(opts)
	a.start(opts)
	peer.Get(a.t, added)
	c := a.Connect(a.t)
	conn := peer.Get(a.t, added)
	peer.Fill(a.t, conn, websocket.NewFrameBin(false, peer.Pattern(64<<10, 1)))
	ticker := time.NewTicker(scale(500 * time.Millisecond))
	defer ticker.Stop()
	buf := make([]byte, piece)
	c.SetDeadline(time.Now().Add(3*timeout + wait))
	for start := time.Now(); time.Since(start) < 3*timeout; <-ticker.C {
		_, err := io.ReadFull(c.Reader, buf)
		require.NoError(a.t, err)
		_, open := a.Clients.Context(conn)
		require.True(a.t, open, "dropped after %v", time.Since(start))
	}
	c.Reset()
}

// readBroadcast reads numbered packets, all of them in order.
func readBroadcast(c *peer.Conn, packets, size int, got func(int)) error {
	for i := range packets {
		c.SetDeadline(time.Now().Add(wait))
		op, payload, err := c.Frame()
		if err != nil {
			return fmt.Errorf("packet %d: %w", i, err)
		}
		if op != websocket.OpcodeBin || len(payload) != size || binary.BigEndian.Uint64(payload) != uint64(i) {
			return fmt.Errorf("packet %d: opcode %x, %d bytes", i, op, len(payload))
		}
		got(i)
	}
	return nil
}

// readSlowly reads a little now and then. What it gets are whole packets in order, with some left out.
func readSlowly(c *peer.Conn, stop <-chan struct{}) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	last := -1
	for {
		select {
		case <-stop:
			return nil
		case <-ticker.C:
		}
		c.SetDeadline(time.Now().Add(wait))
		_, payload, err := c.Frame()
		if err != nil {
			return nil // dropped, if the machine was too busy for it to take anything
		}
		if i := int(binary.BigEndian.Uint64(payload)); i <= last {
			return fmt.Errorf("packet %d behind %d", i, last)
		} else {
			last = i
		}
	}
}

// messages counts a million messages up. The handler takes nothing at first, then a while for each thousand.
func messages(a *abuse) {
	const n = 1_000_000
	start := make(chan struct{})
	done := make(chan error, 1)
	var next atomic.Int64
	a.start(&websocket.ServerOptions{HandleBin: func(_ int, p []byte) {
		i := next.Load()
		if i == 0 {
			<-start
		}
		if got := int64(binary.BigEndian.Uint64(p)); got != i {
			select {
			case done <- fmt.Errorf("message %d at the place of %d", got, i):
			default:
			}
		}
		if i%10_000 == 9_999 {
			<-time.After(2 * time.Millisecond)
		}
		if next.Add(1) == n {
			done <- nil
		}
	}})
	a.bounded(16 << 20)
	free := peer.Release(a.t, start)
	c := a.Connect(a.t)
	c.Socket().SetWriteBuffer(64 << 10)
	wrote := make(chan error, 1)
	var written atomic.Int64
	stuck := make(chan struct{})
	go func() {
		payload := make([]byte, 8)
		var b []byte
		waits := sync.OnceFunc(func() { close(stuck) })
		for i := range n {
			b = append(b, websocket.NewFrameBin(true, binary.BigEndian.AppendUint64(payload[:0], uint64(i)))...)
			if len(b) < 32<<10 && i < n-1 {
				continue
			}
			for len(b) > 0 {
				c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
				m, err := c.Write(b)
				written.Add(int64(m))
				b = b[:copy(b, b[m:])]
				if errors.Is(err, os.ErrDeadlineExceeded) {
					waits() // TCP pushes back
				} else if err != nil {
					wrote <- err
					return
				}
			}
		}
		waits()
		wrote <- nil
	}()
	peer.Done(a.t, stuck)
	before := written.Load()
	assert.Less(a.t, before, int64(n*14), "all was taken from the client while the handler took nothing")
	free()
	require.NoError(a.t, peer.Get(a.t, wrote))
	require.NoError(a.t, peer.Get(a.t, done))
	a.t.Logf("%d KiB were taken before TCP pushed back", before>>10)
}

func panicking(a *abuse) {
	const each = 20
	opts := &websocket.ServerOptions{}
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		return context.WithValue(context.Background(), websocket.CtxKeyInternalJWT, req.URL.RawQuery), nil
	}
	why := func(ctx context.Context) string { return ctx.Value(websocket.CtxKeyInternalJWT).(string) }
	var removes atomic.Int64
	opts.HandleClientAdd = func(ctx context.Context, conn int) {
		if why(ctx) == "add" {
			panic(conn)
		}
	}
	opts.HandleClientRemove = func(ctx context.Context, conn int) {
		removes.Add(1)
		if why(ctx) == "remove" {
			panic("HandleClientRemove of the test")
		}
	}
	opts.HandleText = func(conn int, p []byte) {
		if !calmEcho(conn, p) {
			panic(errors.New("HandleText of the test"))
		}
	}
	opts.HandleBin = func(_ int, p []byte) { _ = p[len(p)] }
	opts.HandleRsvControl = func(int, *websocket.Frame) { panic(nil) }
	a.start(opts)
	for _, row := range []struct {
		query string
		frame []byte
		code  websocket.CloseCode
	}{
		{"add", nil, websocket.StatusInternalError},
		{"text", websocket.NewFrameText(true, []byte("x")), websocket.StatusInternalError},
		{"bin", websocket.NewFrameBin(true, []byte("x")), websocket.StatusInternalError},
		{"control", websocket.NewFrame(0xB, true, nil), websocket.StatusInternalError},
		{"remove", websocket.NewFrameClose(true, websocket.StatusNormal, nil), websocket.StatusNormal},
	} {
		before := a.log.count(panicked[0])
		for range each {
			c := a.Dial(a.t)
			c.Send([]byte(strings.Replace(peer.Request, "GET / ", "GET /?"+row.query+" ", 1)))
			answer := make([]byte, len(peer.Accepted))
			_, err := io.ReadFull(c.Reader, answer)
			require.NoError(a.t, err)
			c.Write(row.frame)
			c.ExpectClose(row.code)
		}
		require.True(a.t, peer.Eventually(func() bool { return a.log.count(panicked[0]) == before+each }), row.query)
	}
	require.True(a.t, peer.Eventually(func() bool { return removes.Load() == 5*each }), "HandleClientRemove")
	require.Equal(a.t, 1, a.Clients.Len())
}

func removeOwn(a *abuse) {
	const peers = 200
	opts := &websocket.ServerOptions{}
	removed := peer.Removed(opts)
	var late atomic.Int64
	opts.HandleText = func(conn int, p []byte) {
		if calmEcho(conn, p) {
			return
		}
		if string(p) == "late" {
			late.Add(1)
		}
		a.Clients.Context(conn)
		a.ClientRemove(conn)
		a.ClientRemove(conn)
		peer.Echo(conn, p)
	}
	a.start(opts)
	peer.All(a.t, peers, func(int) error {
		c, err := a.Join()
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err = c.Write(append(websocket.NewFrameText(true, []byte("now")), websocket.NewFrameText(true, []byte("late"))...)); err != nil {
			return err
		}
		code, err := c.CloseCode()
		if err == nil && code != websocket.StatusNormal {
			err = fmt.Errorf("closed with %d", code)
		}
		return err
	})
	for range peers {
		peer.Get(a.t, removed)
	}
	require.Zero(a.t, late.Load())
	require.Equal(a.t, 1, a.Clients.Len())
}

// removeOthers has each handler remove every connection but the well-behaved client's, with sends in between.
func removeOthers(a *abuse) {
	const peers, rounds = 100, 5
	opts := &websocket.ServerOptions{}
	added := peer.Added(opts)
	var calm, count atomic.Int64
	opts.HandleClientRemove = func(_ context.Context, conn int) {
		count.Add(1)
		for _, other := range a.Clients.All() {
			if int64(other) != calm.Load() {
				websocket.TrySend(other, websocket.NewFramePing(false, nil))
				a.ClientRemove(other)
			}
		}
	}
	opts.HandleText = func(conn int, p []byte) {
		if calmEcho(conn, p) {
			return
		}
		for _, other := range a.Clients.All() {
			if int64(other) != calm.Load() {
				a.ClientRemove(other)
			}
		}
	}
	a.start(opts)
	calm.Store(int64(peer.Get(a.t, added)))
	for range rounds {
		conns := a.connectAll(peers)
		for range peers {
			peer.Get(a.t, added)
		}
		peer.All(a.t, peers, func(i int) error {
			c := conns[i]
			c.Write(websocket.NewFrameText(true, []byte("x"))) // fails if another was first
			code, err := c.CloseCode()
			if err == nil && code != websocket.StatusNormal {
				err = fmt.Errorf("closed with %d", code)
			}
			c.Close()
			return err
		})
	}
	require.True(a.t, peer.Eventually(func() bool { return count.Load() == peers*rounds }), "%d were removed", count.Load())
	require.Equal(a.t, 1, a.Clients.Len())
}

func resets(a *abuse) {
	const peers = 2000
	var count atomic.Int64
	opts := &websocket.ServerOptions{HandleClientRemove: func(context.Context, int) { count.Add(1) }}
	a.start(opts)
	message := websocket.NewFrameText(true, peer.Pattern(20_000, 1))
	conns := a.connectAll(peers)
	for i, c := range conns {
		c.Send(message[:i*7%len(message)])
	}
	for i, c := range conns {
		if i%2 == 0 {
			c.Reset()
		} else { // its end comes with more of the message
			c.Write(message[:1000])
			c.Close()
		}
	}
	require.True(a.t, peer.Eventually(func() bool { return count.Load() == peers }), "%d were removed", count.Load())
	require.Equal(a.t, 1, a.Clients.Len())
}
