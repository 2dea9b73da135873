//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDone(t *testing.T) {
	t.Run("it keeps nothing of connections that have ended", func(t *testing.T) {
		opts := &ServerOptions{}
		opts.HandleClientAdd = func(_ context.Context, conn int) { Done(conn) }
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		for range 10 {
			s.connect(t).Close()
			rawGet(t, removed)
		}
		s.mu.Lock()
		e := s.runningLocked()
		s.mu.Unlock()
		e.ends.mu.Lock()
		defer e.ends.mu.Unlock()
		assert.Empty(t, e.ends.channels)
	})
}

func TestRemoveBesideWriter(t *testing.T) {
	t.Run("AddTimeout counts from the call of HandleClientAdd", func(t *testing.T) {
		l, _ := serveLoop(t, nil)
		l.limits.add = int64(time.Hour)
		l.opts.HandleClientAdd = func(context.Context, int) {}
		c, _ := serveConn(t, l)
		c.mu.Lock()
		c.lanes.add = addDue
		_, ok := c.takeLocked()
		require.True(t, ok)
		require.False(t, c.lanes.add == addAwaited, "it has not been called")
		c.mu.Unlock()
		c.addStarts()
		c.mu.Lock()
		defer c.mu.Unlock()
		require.True(t, c.lanes.add == addAwaited)
		began := c.rare.moments.addBegan
		c.endLocked(endReason{})
		s := c.clockStateLocked()
		by, _ := c.clocks.due(began, &s, &l.limits)
		require.LessOrEqual(t, by, began+int64(time.Hour))
		_, do := c.clocks.due(began+int64(time.Hour), &s, &l.limits)
		require.Equal(t, clockGoesOn, do)
	})
	t.Run("a HandleClientRemove that has the time to send a goodbye sends it beside a writer", func(t *testing.T) {
		added, gone, inside, release := make(chan int, 1), make(chan struct{}), make(chan struct{}), make(chan struct{})
		errs := make(chan error, 1)
		opts := &ServerOptions{AddTimeout: time.Millisecond, HandleText: rawEcho}
		opts.HandleClientAdd = func(_ context.Context, conn int) { added <- conn; <-gone }
		opts.HandleClientRemove = func(_ context.Context, conn int) {
			close(inside)
			<-release
			errs <- SendBin(conn, []byte("bye"))
			close(gone)
		}
		s := startServer(t, opts)
		now := rawRelease(t, release)
		c := s.connect(t)
		conn := rawGet(t, added)
		c.text("x")
		c.expectText("x") // the writer is waited for no more
		s.ClientRemove(conn)
		rawDone(t, inside)
		d := descriptors.get(conn)
		d.mu.Lock()
		d.postLocked() // the loop looks at it once more
		d.mu.Unlock()
		now()
		require.NoError(t, rawGet(t, errs))
		c.expect(OpcodeBin, "bye")
	})
	t.Run("nothing keeps a connection whose HandleClientAdd has returned", func(t *testing.T) {
		release := make(chan struct{})
		s := startServer(t, &ServerOptions{AddTimeout: time.Hour, HandleClientAdd: func(context.Context, int) { <-release }})
		now := rawRelease(t, release)
		c := s.connect(t)
		require.True(t, eventually(func() bool { return s.Clients.Len() == 1 }))
		d := descriptors.get(s.Clients.All()[0])
		c.reset()
		s.stop(t)
		d.mu.Lock()
		timer := d.rare.goesOn
		d.mu.Unlock()
		require.NotNil(t, timer)
		now()
		require.True(t, eventually(func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.phase == phaseGone }))
		require.False(t, timer.Stop(), "it was stopped")
	})
}
