//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// doneEnds are the ways in which a connection ends.
var doneEnds = []struct {
	name string
	end  func(s *rawServer, c *rawConn, conn int)
}{
	{"the client closes", func(_ *rawServer, c *rawConn, _ int) { c.Write(NewFrameClose(true, StatusNormal, nil)) }},
	{"the client is gone", func(_ *rawServer, c *rawConn, _ int) { c.reset() }},
	{"the client breaks a rule", func(_ *rawServer, c *rawConn, _ int) { c.Write(NewFrameText(false, nil)) }},
	{"it is removed", func(s *rawServer, _ *rawConn, conn int) { s.ClientRemove(conn) }},
	{"the server stops", func(s *rawServer, _ *rawConn, _ int) { go s.Stop() }},
}

func TestDone(t *testing.T) {
	for _, end := range doneEnds {
		t.Run("it is closed when "+end.name, func(t *testing.T) {
			opts := new(ServerOptions)
			added, removed := rawAdded(opts), rawRemoved(opts)
			s := startServer(t, opts)
			c := s.connect(t)
			conn := rawGet(t, added)
			done := Done(conn)
			require.NotNil(t, done)
			require.Equal(t, done, Done(conn), "it is the same one each time")
			select {
			case <-done:
				require.Fail(t, "closed while the connection is open")
			default:
			}
			end.end(s, c, conn)
			rawDone(t, done)
			c.Close()
			rawGet(t, removed)
			s.stop(t)
		})
	}
	t.Run("it is closed for a connection that has ended", func(t *testing.T) {
		opts := new(ServerOptions)
		got := make(chan (<-chan struct{}), 1)
		opts.HandleClientRemove = func(_ context.Context, conn int) { got <- Done(conn) }
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		c.Close()
		rawDone(t, rawGet(t, got))
		rawDone(t, Done(conn))
	})
	t.Run("it is nil for a number that is no connection", func(t *testing.T) {
		for _, fd := range []int{-1, 0, 1 << 30} {
			assert.Nil(t, Done(fd))
		}
	})
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

// TestWriters has a HandleClientAdd write until HandleClientRemove, or Done, ends it, as programs do.
func TestWriters(t *testing.T) {
	const clients = 20
	for _, end := range doneEnds {
		for _, addTimeout := range []time.Duration{10 * time.Millisecond, 300 * time.Millisecond} {
			t.Run(fmt.Sprintf("one that ranges over a channel which HandleClientRemove closes ends when %s, with %v for Add", end.name, addTimeout), func(t *testing.T) {
				var queues sync.Map // by connection
				added, returned := make(chan int, clients), make(chan int, 2*clients)
				s := startServer(t, &ServerOptions{
					AddTimeout:   addTimeout,
					WriteTimeout: time.Hour,
					HandleClientAdd: func(_ context.Context, conn int) {
						words := make(chan []byte)
						queues.Store(conn, words)
						added <- conn
						for word := range words {
							SendText(conn, word)
						}
						returned <- conn
					},
					HandleClientRemove: func(_ context.Context, conn int) {
						words, _ := queues.LoadAndDelete(conn)
						close(words.(chan []byte))
						returned <- conn
					},
				})
				conns := make(map[*rawConn]int)
				for range clients {
					c := s.connect(t)
					conns[c] = rawGet(t, added)
				}
				for c, conn := range conns {
					end.end(s, c, conn)
					c.rawLeave()
				}
				for range 2 * clients {
					rawGet(t, returned)
				}
				s.stop(t)
			})
		}
	}
	t.Run("a routed request that waits for its connection's end ends with it", func(t *testing.T) {
		opts := &ServerOptions{WriteTimeout: time.Hour}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		waits := make(chan struct{})
		require.NoError(t, s.RegisterTextHandler("GET", "/wait", func(_ context.Context, req *Request) (res Response) {
			close(waits)
			<-Done(req.Conn)
			return res
		}))
		c := s.connect(t)
		conn := rawGet(t, added)
		c.text(`{"id":1,"method":"GET","target":"/wait"}`)
		rawDone(t, waits)
		c.reset()
		require.Equal(t, conn, rawGet(t, removed))
	})
	t.Run("HandleClientRemove waits for a HandleClientAdd that is not yet a writer, after Stop too", func(t *testing.T) {
		var returned sync.WaitGroup
		returned.Add(1)
		inside, release, removed := make(chan struct{}), make(chan struct{}), make(chan struct{})
		s := startServer(t, &ServerOptions{
			AddTimeout:         time.Hour,
			HandleClientAdd:    func(context.Context, int) { close(inside); <-release; returned.Done() },
			HandleClientRemove: func(context.Context, int) { returned.Wait(); close(removed) },
		})
		now := rawRelease(t, release)
		c := s.connect(t)
		rawDone(t, inside)
		c.rawLeave()
		s.stop(t)
		select {
		case <-removed:
			require.Fail(t, "HandleClientRemove did not wait")
		default:
		}
		now()
		rawDone(t, removed)
	})
}

func TestRemoveBesideWriter(t *testing.T) {
	t.Run("it comes AddTimeout after the start of HandleClientAdd, whatever the socket takes", func(t *testing.T) {
		for _, end := range doneEnds {
			gone, removed := make(chan struct{}), make(chan struct{})
			full := make(chan int, 1)
			s := startServer(t, &ServerOptions{
				AddTimeout:   300 * time.Millisecond,
				WriteTimeout: time.Hour,
				HandleClientAdd: func(_ context.Context, conn int) {
					rawFill(t, conn, NewFrameBin(false, make([]byte, 64<<10)))
					full <- conn
					<-gone
				},
				HandleClientRemove: func(context.Context, int) { close(removed); close(gone) },
			})
			c := s.connect(t)
			end.end(s, c, rawGet(t, full))
			rawDone(t, removed)
			c.reset()
			s.stop(t)
		}
	})
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
