//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

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
)

func TestHandleClientAdd(t *testing.T) {
	t.Run("it returns before the first message is handled", func(t *testing.T) {
		var added atomic.Bool
		early := make(chan bool, 100)
		s := startServer(t, &ServerOptions{
			AddTimeout:      time.Hour,
			HandleClientAdd: func(context.Context, int) { <-time.After(5 * time.Millisecond); added.Store(true) },
			HandleText:      func(conn int, p []byte) { early <- !added.Load(); rawEcho(conn, p) },
		})
		c := s.dial(t)
		all := []byte(rawRequest)
		for range 100 {
			all = append(all, NewFrameText(true, []byte("x"))...)
		}
		c.send(all)
		_, err := c.r.Discard(len(rawAccepted))
		require.NoError(t, err)
		for range 100 {
			c.expectText("x")
			require.False(t, rawGet(t, early))
		}
	})
	t.Run("after AddTimeout it goes on as a writer while messages are handled", func(t *testing.T) {
		ended := make(chan struct{})
		words := make(chan string)
		opts := &ServerOptions{AddTimeout: 10 * time.Millisecond, HandleText: rawEcho}
		opts.HandleClientAdd = func(_ context.Context, conn int) {
			defer close(ended)
			for word := range words {
				if Send(conn, NewFrameText(false, []byte(word))) != nil {
					return
				}
			}
		}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		for i := range 100 {
			c.text("message")
			c.expectText("message")
			words <- fmt.Sprint(i)
			c.expectText(fmt.Sprint(i))
		}
		c.reset()
		close(words)
		rawDone(t, ended)
		rawGet(t, removed)
	})
	t.Run("a client's Close ends it, where it writes until it cannot", func(t *testing.T) {
		ended := make(chan error, 1)
		opts := &ServerOptions{AddTimeout: 10 * time.Millisecond, WriteTimeout: time.Hour, HandleText: rawEcho}
		opts.HandleClientAdd = func(_ context.Context, conn int) {
			for {
				if err := Send(conn, emptyPing); err != nil {
					ended <- err
					return
				}
				<-time.After(time.Millisecond)
			}
		}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		c.text("message")
		for op := OpcodePing; op == OpcodePing; {
			var err error
			op, _, err = c.rawFrame()
			require.NoError(t, err)
		}
		c.send(NewFrameClose(true, StatusNormal, nil))
		require.ErrorIs(t, rawGet(t, ended), ErrConnClosed)
		rawGet(t, removed)
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
	s := startServer(t, nil)
	s.stop(t)
	opts := s.Options
	opts.HandleAuth = func(*Handshake) (context.Context, error) {
		return context.WithValue(context.Background(), CtxKeyUID, 7), nil
	}
	opts.HandleClientAdd = func(ctx context.Context, conn int) {
		mu.Lock()
		defer mu.Unlock()
		id := ID(conn)
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
		rawEcho(conn, p)
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
		note(ID(conn) == ids[conn], "ID does not answer in Remove")
		rec.removes++
		note(rec.running == 0, "a handler runs in Remove")
	}
	s.restart(t)
	rawAll(t, workers, func(worker int) error {
		for i := range each {
			c, err := s.rawJoin()
			if err != nil {
				return err
			}
			if _, err = c.Write(NewFrameText(true, fmt.Appendf(nil, "%d", i))); err != nil {
				return err
			}
			switch i % 4 {
			case 0, 1: // with answers on their way
				c.reset()
				continue
			case 2:
				err = errors.Join(c.rawExpect(OpcodeText, fmt.Sprint(i)))
			case 3:
				c.Write(NewFrameClose(true, StatusNormal, nil))
				err = errors.Join(c.rawExpect(OpcodeText, fmt.Sprint(i)), c.rawExpect(OpcodeClose, rawCloseBody(StatusNormal, "")))
			}
			c.Close()
			if err != nil {
				return fmt.Errorf("worker %d, %d: %w", worker, i, err)
			}
		}
		return nil
	})
	require.True(t, eventually(func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, rec := range records {
			if rec.removes == 0 {
				return false
			}
		}
		return len(records) == workers*each
	}))
	s.stop(t)
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
		s := startServer(t, &ServerOptions{
			HandleText: func(int, []byte) {
				inside <- struct{}{}
				<-release
				returned.Store(true)
			},
			HandleClientRemove: func(context.Context, int) { early <- !returned.Load() },
		})
		now := rawRelease(t, release)
		c := s.connect(t)
		c.text("x")
		rawGet(t, inside)
		conn := s.Clients.All()[0]
		c.reset()
		require.True(t, eventually(func() bool { return s.Clients.Len() == 0 }), "it leaves Clients at once")
		_, ok := s.Clients.Context(conn)
		require.True(t, ok)
		require.Empty(t, early)
		now()
		require.False(t, rawGet(t, early))
		require.True(t, eventually(func() bool { _, ok := s.Clients.Context(conn); return !ok }))
	})
	t.Run("where a handler blocks for longer than the write time-out, the socket goes all the same", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		opts := &ServerOptions{WriteTimeout: 50 * time.Millisecond, HandleText: func(int, []byte) {
			inside <- struct{}{}
			<-release
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		now := rawRelease(t, release)
		c := s.connect(t)
		c.text("x")
		rawGet(t, inside)
		conn := s.Clients.All()[0]
		c.send(NewFrameClose(true, 4000, nil))
		c.expectClose(4000)
		c.Close()
		require.ErrorIs(t, Send(conn, []byte("x")), ErrConnClosed)
		require.Empty(t, removed)
		now()
		require.Equal(t, conn, rawGet(t, removed))
	})
	t.Run("it may send a goodbye when the program removes the connection", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleClientRemove: func(_ context.Context, conn int) {
			Send(conn, NewFrameText(false, []byte("goodbye")))
		}})
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
		s.ClientRemove(s.Clients.All()[0])
		c.expectText("goodbye")
		c.expectClose(StatusNormal)
	})
	t.Run("its goodbye may be a Close frame of its own", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleClientRemove: func(_ context.Context, conn int) {
			Send(conn, NewFrameClose(false, 4001, []byte("mine")))
		}})
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
		s.ClientRemove(s.Clients.All()[0])
		c.expect(OpcodeClose, rawCloseBody(4001, "mine"))
		c.expectEOF()
	})
	t.Run("it cannot send after the client's Close was answered", func(t *testing.T) {
		errs := make(chan error, 1)
		s := startServer(t, &ServerOptions{HandleClientRemove: func(_ context.Context, conn int) {
			errs <- Send(conn, NewFrameText(false, []byte("goodbye")))
		}})
		c := s.connect(t)
		c.send(NewFrameClose(true, StatusNormal, nil))
		c.expectClose(StatusNormal)
		require.ErrorIs(t, rawGet(t, errs), ErrConnClosed)
	})
}

func TestClientRemove(t *testing.T) {
	t.Run("what was sent before it arrives, all of it", func(t *testing.T) {
		opts := new(ServerOptions)
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		want := rawPattern(16<<20, 0)
		require.NoError(t, Send(conn, NewFrameText(false, want)))
		s.ClientRemove(conn)
		require.Empty(t, s.Clients.All())
		c.expectText(string(want))
		c.expectClose(StatusNormal)
	})
	t.Run("what is so long that it is written in several goes arrives, while it is read", func(t *testing.T) {
		opts := &ServerOptions{WriteTimeout: time.Hour}
		added := rawAdded(opts)
		s := startServer(t, opts)
		packet := NewFrameText(false, rawPattern(16*largeSize, 0))
		for range 8 {
			c := s.connect(t)
			conn := rawGet(t, added)
			got := make(chan []byte, 1)
			go func() {
				all, _ := io.ReadAll(c.r)
				got <- all
			}()
			require.NoError(t, Send(conn, packet))
			s.ClientRemove(conn)
			all := rawGet(t, got)
			require.True(t, bytes.HasPrefix(all, packet))
			require.Equal(t, NewFrameClose(false, StatusNormal, nil), all[len(packet):])
			c.Close()
		}
	})
	t.Run("it does nothing on a number that is no open connection of this server", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		otherOpts := &ServerOptions{HandleText: rawEcho}
		otherAdded := rawAdded(otherOpts)
		other := startServer(t, otherOpts)
		c, foreign := s.connect(t), other.connect(t)
		conn, foreignConn := rawGet(t, added), rawGet(t, otherAdded)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		for fd := -2; fd < 1000; fd++ {
			if fd != conn {
				s.ClientRemove(fd)
			}
		}
		s.ClientRemove(math.MaxInt)
		for _, peer := range []*rawConn{c, foreign} {
			peer.text("alive")
			peer.expectText("alive")
		}
		require.Equal(t, []int{foreignConn}, other.Clients.All())
		probe, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		probe.Close()
		s.ClientRemove(conn)
		s.ClientRemove(conn)
		c.expectClose(StatusNormal)
		rawGet(t, removed)
		s.ClientRemove(conn)
		require.True(t, eventually(func() bool { _, ok := s.Clients.Context(conn); return !ok }))
		s.ClientRemove(conn)
		require.Empty(t, removed)
		foreign.Close()
		other.stop(t)
		s.stop(t) // gives the number back, before descriptors are counted
	})
	t.Run("messages that wait for their handler are dropped", func(t *testing.T) {
		inside := make(chan string, 16)
		release := make(chan struct{})
		opts := &ServerOptions{HandleText: func(_ int, p []byte) {
			inside <- string(p)
			<-release
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		now := rawRelease(t, release)
		c := s.connect(t)
		c.text("first")
		require.Equal(t, "first", rawGet(t, inside))
		c.text("second")
		c.send(NewFramePing(true, nil))
		c.expect(OpcodePong, "") // it has been read
		s.ClientRemove(s.Clients.All()[0])
		now()
		rawGet(t, removed)
		require.Empty(t, inside)
	})
	t.Run("so are those that came in the same read as the one that removes", func(t *testing.T) {
		handled := make(chan string, 64)
		remove := make(chan func(int), 1)
		opts := &ServerOptions{HandleText: func(conn int, p []byte) {
			handled <- string(p)
			if string(p) == "3" {
				(<-remove)(conn)
			}
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		remove <- s.ClientRemove
		c := s.connect(t)
		var all []byte
		for i := range 20 {
			all = append(all, NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.send(all)
		c.expectClose(StatusNormal)
		rawGet(t, removed)
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
		opts := new(ServerOptions)
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		require.NoError(t, Send(conn, NewFrameText(false, []byte("last"))))
		require.NoError(t, Send(conn, NewFrameClose(false, 4002, []byte("enough"))))
		require.ErrorIs(t, Send(conn, NewFrameText(false, []byte("more"))), ErrConnClosed)
		require.ErrorIs(t, Send(conn, NewFrameClose(false, StatusNormal, nil)), ErrConnClosed)
		sent, failed := s.Clients.SendAll(NewFrameText(false, []byte("more")))
		require.Zero(t, sent)
		for _, err := range failed {
			require.ErrorIs(t, err, ErrConnClosed)
		}
		c.expectText("last")
		c.expect(OpcodeClose, rawCloseBody(4002, "enough"))
		c.send(NewFramePing(true, []byte("x"))) // not answered any more
		c.send(NewFrameClose(true, 4002, nil))
		c.expectEOF()
		require.Equal(t, conn, rawGet(t, removed))
	})
	t.Run("a client that does not answer is disconnected after the write time-out", func(t *testing.T) {
		opts := &ServerOptions{WriteTimeout: 50 * time.Millisecond}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		require.NoError(t, Send(conn, NewFrameClose(false, 4002, nil)))
		c.expect(OpcodeClose, rawCloseBody(4002, ""))
		c.expectEOF()
		require.Equal(t, conn, rawGet(t, removed))
	})
	t.Run("a Close frame from a handler goes out behind its answers", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: func(conn int, p []byte) {
			rawEcho(conn, p)
			if string(p) == "9" {
				Send(conn, NewFrameClose(false, 4003, nil))
			}
		}})
		c := s.connect(t)
		var all []byte
		for i := range 20 {
			all = append(all, NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.send(all)
		for i := range 10 {
			c.expectText(fmt.Sprint(i))
		}
		c.expect(OpcodeClose, rawCloseBody(4003, ""))
		c.send(NewFrameClose(true, 4003, nil))
		c.expectEOF()
	})
}
