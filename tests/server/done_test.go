//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// doneEnds are the ways in which a connection ends.
var doneEnds = []struct {
	name string
	end  func(s *peer.Server, c *peer.Conn, conn int)
}{
	{"the client closes", func(_ *peer.Server, c *peer.Conn, _ int) {
		c.Write(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
	}},
	{"the client is gone", func(_ *peer.Server, c *peer.Conn, _ int) { c.Reset() }},
	{"the client breaks a rule", func(_ *peer.Server, c *peer.Conn, _ int) { c.Write(websocket.NewFrameText(false, nil)) }},
	{"it is removed", func(s *peer.Server, _ *peer.Conn, conn int) { s.ClientRemove(conn) }},
	{"the server stops", func(s *peer.Server, _ *peer.Conn, _ int) { go s.Stop() }},
}

func TestDone(t *testing.T) {
	for _, end := range doneEnds {
		t.Run("it is closed when "+end.name, func(t *testing.T) {
			opts := new(websocket.ServerOptions)
			added, removed := peer.Added(opts), peer.Removed(opts)
			s := peer.Start(t, opts)
			c := s.Connect(t)
			conn := peer.Get(t, added)
			done := websocket.Done(conn)
			require.NotNil(t, done)
			require.Equal(t, done, websocket.Done(conn), "it is the same one each time")
			select {
			case <-done:
				require.Fail(t, "closed while the connection is open")
			default:
			}
			end.end(s, c, conn)
			peer.Done(t, done)
			c.Close()
			peer.Get(t, removed)
			s.StopAndWait(t)
		})
	}
	t.Run("it is closed for a connection that has ended", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		got := make(chan (<-chan struct{}), 1)
		opts.HandleClientRemove = func(_ context.Context, conn int) { got <- websocket.Done(conn) }
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		c.Close()
		peer.Done(t, peer.Get(t, got))
		peer.Done(t, websocket.Done(conn))
	})
	t.Run("it is nil for a number that is no connection", func(t *testing.T) {
		for _, fd := range []int{-1, 0, 1 << 30} {
			assert.Nil(t, websocket.Done(fd))
		}
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
				s := peer.Start(t, &websocket.ServerOptions{
					AddTimeout:   addTimeout,
					WriteTimeout: time.Hour,
					HandleClientAdd: func(_ context.Context, conn int) {
						words := make(chan []byte)
						queues.Store(conn, words)
						added <- conn
						for word := range words {
							websocket.SendText(conn, word)
						}
						returned <- conn
					},
					HandleClientRemove: func(_ context.Context, conn int) {
						words, _ := queues.LoadAndDelete(conn)
						close(words.(chan []byte))
						returned <- conn
					},
				})
				conns := make(map[*peer.Conn]int)
				for range clients {
					c := s.Connect(t)
					conns[c] = peer.Get(t, added)
				}
				for c, conn := range conns {
					end.end(s, c, conn)
					c.Leave()
				}
				for range 2 * clients {
					peer.Get(t, returned)
				}
				s.StopAndWait(t)
			})
		}
	}
	t.Run("a routed request that waits for its connection's end ends with it", func(t *testing.T) {
		opts := &websocket.ServerOptions{WriteTimeout: time.Hour}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		waits := make(chan struct{})
		require.NoError(t, s.RegisterTextHandler("GET", "/wait", func(_ context.Context, req *websocket.Request) (res websocket.Response) {
			close(waits)
			<-websocket.Done(req.Conn)
			return res
		}))
		c := s.Connect(t)
		conn := peer.Get(t, added)
		c.Text(`{"id":1,"method":"GET","target":"/wait"}`)
		peer.Done(t, waits)
		c.Reset()
		require.Equal(t, conn, peer.Get(t, removed))
	})
	t.Run("HandleClientRemove waits for a HandleClientAdd that is not yet a writer, after Stop too", func(t *testing.T) {
		var returned sync.WaitGroup
		returned.Add(1)
		inside, release, removed := make(chan struct{}), make(chan struct{}), make(chan struct{})
		s := peer.Start(t, &websocket.ServerOptions{
			AddTimeout:         time.Hour,
			HandleClientAdd:    func(context.Context, int) { close(inside); <-release; returned.Done() },
			HandleClientRemove: func(context.Context, int) { returned.Wait(); close(removed) },
		})
		now := peer.Release(t, release)
		c := s.Connect(t)
		peer.Done(t, inside)
		c.Leave()
		s.StopAndWait(t)
		select {
		case <-removed:
			require.Fail(t, "HandleClientRemove did not wait")
		default:
		}
		now()
		peer.Done(t, removed)
	})
}

func TestRemoveBesideWriter(t *testing.T) {
	t.Run("it comes AddTimeout after the start of HandleClientAdd, whatever the socket takes", func(t *testing.T) {
		for _, end := range doneEnds {
			gone, removed := make(chan struct{}), make(chan struct{})
			full := make(chan int, 1)
			s := peer.Start(t, &websocket.ServerOptions{
				AddTimeout:   300 * time.Millisecond,
				WriteTimeout: time.Hour,
				HandleClientAdd: func(_ context.Context, conn int) {
					peer.Fill(t, conn, websocket.NewFrameBin(false, make([]byte, 64<<10)))
					full <- conn
					<-gone
				},
				HandleClientRemove: func(context.Context, int) { close(removed); close(gone) },
			})
			c := s.Connect(t)
			end.end(s, c, peer.Get(t, full))
			peer.Done(t, removed)
			c.Reset()
			s.StopAndWait(t)
		}
	})
}
