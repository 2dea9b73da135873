//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestHandleClientAdd(t *testing.T) {
	t.Run("it returns before the first message is handled", func(t *testing.T) {
		var added atomic.Bool
		early := make(chan bool, 100)
		s := peer.Start(t, &websocket.ServerOptions{
			AddTimeout:      time.Hour,
			HandleClientAdd: func(context.Context, int) { <-time.After(5 * time.Millisecond); added.Store(true) },
			HandleText:      func(conn int, p []byte) { early <- !added.Load(); peer.Echo(conn, p) },
		})
		c := s.Dial(t)
		all := []byte(peer.Request)
		for range 100 {
			all = append(all, websocket.NewFrameText(true, []byte("x"))...)
		}
		c.Send(all)
		_, err := c.Reader.Discard(len(peer.Accepted))
		require.NoError(t, err)
		for range 100 {
			c.ExpectText("x")
			require.False(t, peer.Get(t, early))
		}
	})
	t.Run("after AddTimeout it goes on as a writer while messages are handled", func(t *testing.T) {
		ended := make(chan struct{})
		words := make(chan string)
		opts := &websocket.ServerOptions{AddTimeout: 10 * time.Millisecond, HandleText: peer.Echo}
		opts.HandleClientAdd = func(_ context.Context, conn int) {
			defer close(ended)
			for word := range words {
				if websocket.Send(conn, websocket.NewFrameText(false, []byte(word))) != nil {
					return
				}
			}
		}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		for i := range 100 {
			c.Text("message")
			c.ExpectText("message")
			words <- fmt.Sprint(i)
			c.ExpectText(fmt.Sprint(i))
		}
		c.Reset()
		close(words)
		peer.Done(t, ended)
		peer.Get(t, removed)
	})
	t.Run("a client's Close ends it, if it writes until it cannot", func(t *testing.T) {
		ended := make(chan error, 1)
		opts := &websocket.ServerOptions{AddTimeout: 10 * time.Millisecond, WriteTimeout: time.Hour, HandleText: peer.Echo}
		opts.HandleClientAdd = func(_ context.Context, conn int) {
			for {
				if err := websocket.Send(conn, websocket.NewFramePing(false, nil)); err != nil {
					ended <- err
					return
				}
				<-time.After(time.Millisecond)
			}
		}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		c.Text("message")
		for op := websocket.OpcodePing; op == websocket.OpcodePing; {
			var err error
			op, _, err = c.Frame()
			require.NoError(t, err)
		}
		c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
		require.ErrorIs(t, peer.Get(t, ended), websocket.ErrConnClosed)
		peer.Get(t, removed)
	})
}

func TestAddAndRemove(t *testing.T) {
	const workers, each = 10, 100
	type record struct{ adds, removes, running int }
	records := make(map[uint64]*record)
	var mu sync.Mutex
	var problems []string
	note := func(ok bool, problem string) {
		if !ok {
			problems = append(problems, problem)
		}
	}
	ids := make(map[int]uint64) // the last id on each number
	s := peer.Start(t, nil)
	s.StopAndWait(t)
	opts := s.Options
	opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) {
		return context.WithValue(context.Background(), websocket.CtxKeyUID, 7), nil
	}
	opts.HandleClientAdd = func(ctx context.Context, conn int) {
		mu.Lock()
		defer mu.Unlock()
		id := websocket.ID(conn)
		note(id != 0 && records[id] == nil, "an id is 0 or comes twice")
		records[id] = &record{adds: 1}
		ids[conn] = id
	}
	opts.HandleText = func(conn int, p []byte) {
		mu.Lock()
		rec := records[ids[conn]]
		note(rec != nil && rec.removes == 0, "a message before Add or after Remove")
		rec.running++
		mu.Unlock()
		if len(p) == 3 {
			runtime.Gosched()
		}
		peer.Echo(conn, p)
		mu.Lock()
		rec.running--
		mu.Unlock()
	}
	opts.HandleClientRemove = func(ctx context.Context, conn int) {
		got, ok := s.Clients.Context(conn)
		listed := slices.Contains(s.Clients.All(), conn) || slices.Contains(s.Clients.Conns(7), conn)
		mu.Lock()
		defer mu.Unlock()
		note(ok && got == ctx, "Context does not answer in Remove")
		note(!listed, "All or Conns list a connection in Remove")
		rec := records[ids[conn]]
		note(rec != nil, "Remove without Add")
		note(websocket.ID(conn) == ids[conn], "ID does not answer in Remove")
		rec.removes++
		note(rec.running == 0, "a handler runs in Remove")
	}
	s.Restart(t)
	peer.All(t, workers, func(worker int) error {
		for i := range each {
			c, err := s.Join()
			if err != nil {
				return err
			}
			if _, err = c.Write(websocket.NewFrameText(true, fmt.Appendf(nil, "%d", i))); err != nil {
				return err
			}
			switch i % 4 {
			case 0, 1: // with answers on their way
				c.Reset()
				continue
			case 2:
				err = errors.Join(c.Compare(websocket.OpcodeText, fmt.Sprint(i)))
			case 3:
				c.Write(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
				err = errors.Join(c.Compare(websocket.OpcodeText, fmt.Sprint(i)), c.Compare(websocket.OpcodeClose, peer.CloseBody(websocket.StatusNormal, "")))
			}
			c.Close()
			if err != nil {
				return fmt.Errorf("worker %d, %d: %w", worker, i, err)
			}
		}
		return nil
	})
	require.True(t, peer.Eventually(func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, rec := range records {
			if rec.removes == 0 {
				return false
			}
		}
		return len(records) == workers*each
	}))
	s.StopAndWait(t)
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, problems)
	for _, rec := range records {
		require.Equal(t, record{adds: 1, removes: 1}, *rec)
	}
}

func TestHandleClientRemove(t *testing.T) {
	t.Run("it waits for the handler that runs", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		var returned atomic.Bool
		early := make(chan bool, 1)
		s := peer.Start(t, &websocket.ServerOptions{
			HandleText: func(int, []byte) {
				inside <- struct{}{}
				<-release
				returned.Store(true)
			},
			HandleClientRemove: func(context.Context, int) { early <- !returned.Load() },
		})
		now := peer.Release(t, release)
		c := s.Connect(t)
		c.Text("x")
		peer.Get(t, inside)
		conn := s.Clients.All()[0]
		c.Reset()
		require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 0 }), "it leaves Clients immediately")
		_, ok := s.Clients.Context(conn)
		require.True(t, ok)
		require.Empty(t, early)
		now()
		require.False(t, peer.Get(t, early))
		require.True(t, peer.Eventually(func() bool { _, ok := s.Clients.Context(conn); return !ok }))
	})
	t.Run("if a handler blocks for longer than the write time-out, the socket goes all the same", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		opts := &websocket.ServerOptions{WriteTimeout: 50 * time.Millisecond, HandleText: func(int, []byte) {
			inside <- struct{}{}
			<-release
		}}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c := s.Connect(t)
		c.Text("x")
		peer.Get(t, inside)
		conn := s.Clients.All()[0]
		c.Send(websocket.NewFrameClose(true, 4000, nil))
		c.ExpectClose(4000)
		c.Close()
		require.ErrorIs(t, websocket.Send(conn, []byte("x")), websocket.ErrConnClosed)
		require.Empty(t, removed)
		now()
		require.Equal(t, conn, peer.Get(t, removed))
	})
	t.Run("it may send a goodbye when the program removes the connection", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleClientRemove: func(_ context.Context, conn int) {
			websocket.Send(conn, websocket.NewFrameText(false, []byte("goodbye")))
		}})
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
		s.ClientRemove(s.Clients.All()[0])
		c.ExpectText("goodbye")
		c.ExpectClose(websocket.StatusNormal)
	})
	t.Run("its goodbye may be a Close frame of its own", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleClientRemove: func(_ context.Context, conn int) {
			websocket.Send(conn, websocket.NewFrameClose(false, 4001, []byte("mine")))
		}})
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
		s.ClientRemove(s.Clients.All()[0])
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4001, "mine"))
		c.ExpectEOF()
	})
	t.Run("it cannot send after the client's Close was answered", func(t *testing.T) {
		errs := make(chan error, 1)
		s := peer.Start(t, &websocket.ServerOptions{HandleClientRemove: func(_ context.Context, conn int) {
			errs <- websocket.Send(conn, websocket.NewFrameText(false, []byte("goodbye")))
		}})
		c := s.Connect(t)
		c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
		c.ExpectClose(websocket.StatusNormal)
		require.ErrorIs(t, peer.Get(t, errs), websocket.ErrConnClosed)
	})
}

func TestClientRemove(t *testing.T) {
	t.Run("what was sent before it arrives, all of it", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		want := peer.Pattern(16<<20, 0)
		require.NoError(t, websocket.Send(conn, websocket.NewFrameText(false, want)))
		s.ClientRemove(conn)
		require.Empty(t, s.Clients.All())
		c.ExpectText(string(want))
		c.ExpectClose(websocket.StatusNormal)
	})
	t.Run("what is so long that it is written in several goes arrives, while it is read", func(t *testing.T) {
		opts := &websocket.ServerOptions{WriteTimeout: time.Hour}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		packet := websocket.NewFrameText(false, peer.Pattern(64<<20, 0))
		for range 8 {
			c := s.Connect(t)
			conn := peer.Get(t, added)
			got := make(chan []byte, 1)
			go func() {
				all, _ := io.ReadAll(c.Reader)
				got <- all
			}()
			require.NoError(t, websocket.Send(conn, packet))
			s.ClientRemove(conn)
			all := peer.Get(t, got)
			require.True(t, bytes.HasPrefix(all, packet))
			require.Equal(t, websocket.NewFrameClose(false, websocket.StatusNormal, nil), all[len(packet):])
			c.Close()
		}
	})
	t.Run("it does nothing on a number that is no open connection of this server", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		otherOpts := &websocket.ServerOptions{HandleText: peer.Echo}
		otherAdded := peer.Added(otherOpts)
		other := peer.Start(t, otherOpts)
		c, foreign := s.Connect(t), other.Connect(t)
		conn, foreignConn := peer.Get(t, added), peer.Get(t, otherAdded)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		for fd := -2; fd < 1000; fd++ {
			if fd != conn {
				s.ClientRemove(fd)
			}
		}
		s.ClientRemove(math.MaxInt)
		for _, remote := range []*peer.Conn{c, foreign} {
			remote.Text("alive")
			remote.ExpectText("alive")
		}
		require.Equal(t, []int{foreignConn}, other.Clients.All())
		probe, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		probe.Close()
		s.ClientRemove(conn)
		s.ClientRemove(conn)
		c.ExpectClose(websocket.StatusNormal)
		peer.Get(t, removed)
		s.ClientRemove(conn)
		require.True(t, peer.Eventually(func() bool { _, ok := s.Clients.Context(conn); return !ok }))
		s.ClientRemove(conn)
		require.Empty(t, removed)
		foreign.Close()
		other.StopAndWait(t)
		s.StopAndWait(t) // gives the number back, before descriptors are counted
	})
	t.Run("messages that wait for their handler are dropped", func(t *testing.T) {
		inside := make(chan string, 16)
		release := make(chan struct{})
		opts := &websocket.ServerOptions{HandleText: func(_ int, p []byte) {
			inside <- string(p)
			<-release
		}}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c := s.Connect(t)
		c.Text("first")
		require.Equal(t, "first", peer.Get(t, inside))
		c.Text("second")
		c.Send(websocket.NewFramePing(true, nil))
		c.Expect(websocket.OpcodePong, "") // it has been read
		s.ClientRemove(s.Clients.All()[0])
		now()
		peer.Get(t, removed)
		require.Empty(t, inside)
	})
	t.Run("so are those that came in the same read as the one that removes", func(t *testing.T) {
		handled := make(chan string, 64)
		remove := make(chan func(int), 1)
		opts := &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
			handled <- string(p)
			if string(p) == "3" {
				(<-remove)(conn)
			}
		}}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		remove <- s.ClientRemove
		c := s.Connect(t)
		var all []byte
		for i := range 20 {
			all = append(all, websocket.NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.Send(all)
		c.ExpectClose(websocket.StatusNormal)
		peer.Get(t, removed)
		close(handled)
		var got []string
		for p := range handled {
			got = append(got, p)
		}
		require.Equal(t, []string{"0", "1", "2", "3"}, got)
	})
}

func TestCloseFromProgram(t *testing.T) {
	t.Run("data after its Close frame fails, and the client's answer ends the connection without a second one", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		require.NoError(t, websocket.Send(conn, websocket.NewFrameText(false, []byte("last"))))
		require.NoError(t, websocket.Send(conn, websocket.NewFrameClose(false, 4002, []byte("enough"))))
		require.ErrorIs(t, websocket.Send(conn, websocket.NewFrameText(false, []byte("more"))), websocket.ErrConnClosed)
		require.ErrorIs(t, websocket.Send(conn, websocket.NewFrameClose(false, websocket.StatusNormal, nil)), websocket.ErrConnClosed)
		sent, failed := s.Clients.SendAll(websocket.NewFrameText(false, []byte("more")))
		require.Zero(t, sent)
		for _, err := range failed {
			require.ErrorIs(t, err, websocket.ErrConnClosed)
		}
		c.ExpectText("last")
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4002, "enough"))
		c.Send(websocket.NewFramePing(true, []byte("x"))) // not answered any more
		c.Send(websocket.NewFrameClose(true, 4002, nil))
		c.ExpectEOF()
		require.Equal(t, conn, peer.Get(t, removed))
	})
	t.Run("a client that does not answer is disconnected after the write time-out", func(t *testing.T) {
		opts := &websocket.ServerOptions{WriteTimeout: 50 * time.Millisecond}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		require.NoError(t, websocket.Send(conn, websocket.NewFrameClose(false, 4002, nil)))
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4002, ""))
		c.ExpectEOF()
		require.Equal(t, conn, peer.Get(t, removed))
	})
	t.Run("a Close frame from a handler goes out behind its answers", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
			peer.Echo(conn, p)
			if string(p) == "9" {
				websocket.Send(conn, websocket.NewFrameClose(false, 4003, nil))
			}
		}})
		c := s.Connect(t)
		var all []byte
		for i := range 20 {
			all = append(all, websocket.NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.Send(all)
		for i := range 10 {
			c.ExpectText(fmt.Sprint(i))
		}
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4003, ""))
		c.Send(websocket.NewFrameClose(true, 4003, nil))
		c.ExpectEOF()
	})
}
