//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestSendOnServerConnection(t *testing.T) {
	t.Run("concurrent packets are never mixed, and a slow reader loses nothing", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		const senders, each, size = 8, 6, 300 << 10
		errs := make(chan error, senders)
		for i := range senders {
			go func() {
				var err error
				for n := range each {
					packet := websocket.NewFrameBin(false, append([]byte{byte(n)}, bytes.Repeat([]byte{byte(i)}, size+i)...))
					err = errors.Join(err, websocket.Send(conn, packet))
					clear(packet) // it keeps no reference
				}
				errs <- err
			}()
		}
		next := make(map[byte]byte)
		for range senders * each {
			op, body, err := c.Frame()
			require.NoError(t, err)
			require.Equal(t, websocket.OpcodeBin, op)
			sender := body[1]
			require.Equal(t, size+int(sender), len(body)-1)
			require.Equal(t, len(body)-1, bytes.Count(body[1:], body[1:2]))
			require.Equal(t, next[sender], body[0], "packets of one sender come in their order")
			next[sender]++
		}
		for range senders {
			require.NoError(t, peer.Get(t, errs))
		}
	})
	t.Run("Recv reads nothing from it", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		_, err := websocket.Recv(conn)
		require.ErrorIs(t, err, websocket.ErrManaged)
		c.Text("still there")
		c.ExpectText("still there")
		c.Close()
		peer.Get(t, removed)
		require.True(t, peer.Eventually(func() bool { _, err = websocket.Recv(conn); return errors.Is(err, websocket.ErrConnClosed) }))
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, websocket.Send(conn, []byte("x")), net.ErrClosed)
		require.ErrorIs(t, websocket.Send(conn, nil), websocket.ErrConnClosed)
		require.ErrorIs(t, websocket.TrySend(conn, []byte("x")), websocket.ErrConnClosed)
	})
	t.Run("an empty queue takes a packet of any size, and a slow reader gets all of it", func(t *testing.T) {
		opts := &websocket.ServerOptions{SendQueueSize: 1}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		want := peer.Pattern(8<<20, 3)
		packet := websocket.NewFrameText(false, want)
		require.NoError(t, websocket.TrySend(conn, packet))
		clear(packet)
		require.ErrorIs(t, websocket.TrySend(conn, []byte{0x89, 0}), websocket.ErrSendQueueFull)
		c.ExpectText(string(want))
	})
	t.Run("a full queue makes TrySend fail immediately and Send wait for room", func(t *testing.T) {
		opts := &websocket.ServerOptions{SendQueueSize: 64 << 10}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		packet := websocket.NewFrameText(false, peer.Pattern(8<<10, 0))
		sent := peer.Fill(t, conn, packet)
		const waiting = 8
		errs := make(chan error, waiting)
		for range waiting {
			go func() { errs <- websocket.Send(conn, packet) }()
		}
		require.ErrorIs(t, websocket.TrySend(conn, packet), websocket.ErrSendQueueFull)
		require.Empty(t, errs, "nobody had room")
		for range sent + waiting {
			c.ExpectText(string(peer.Pattern(8<<10, 0)))
		}
		for range waiting {
			require.NoError(t, peer.Get(t, errs))
		}
		require.NoError(t, websocket.Send(conn, websocket.NewFrameText(false, []byte("end"))))
		c.ExpectText("end")
	})
	t.Run("a packet over the size of the queue waits until the queue is empty", func(t *testing.T) {
		opts := &websocket.ServerOptions{SendQueueSize: 32 << 10}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		sent := peer.Fill(t, conn, websocket.NewFrameText(false, peer.Pattern(8<<10, 0)))
		errs := make(chan error, 1)
		go func() { errs <- websocket.Send(conn, websocket.NewFrameText(false, peer.Pattern(1<<20, 1))) }()
		for range sent {
			c.ExpectText(string(peer.Pattern(8<<10, 0)))
		}
		c.ExpectText(string(peer.Pattern(1<<20, 1)))
		require.NoError(t, peer.Get(t, errs))
	})
	t.Run("a queue smaller than the answers to one read delays and loses nothing", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{SendQueueSize: 1, HandleText: peer.Echo})
		c := s.Connect(t)
		var all []byte
		for i := range 500 {
			all = append(all, websocket.NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.Send(all)
		for i := range 500 {
			c.ExpectText(fmt.Sprint(i))
		}
	})

	t.Run("Send that waits for room is woken by the end of the connection", func(t *testing.T) {
		for name, end := range map[string]func(s *peer.Server, c *peer.Conn, conn int){
			"reset":        func(_ *peer.Server, c *peer.Conn, _ int) { c.Reset() },
			"ClientRemove": func(s *peer.Server, _ *peer.Conn, conn int) { s.ClientRemove(conn) },
		} {
			opts := &websocket.ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: time.Hour}
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			c := s.Connect(t)
			conn := peer.Get(t, added)
			packet := websocket.NewFrameText(false, peer.Pattern(8<<10, 0))
			peer.Fill(t, conn, packet)
			errs, started := make(chan error, 1), make(chan struct{})
			go func() {
				close(started)
				errs <- websocket.Send(conn, packet)
			}()
			peer.Done(t, started)
			end(s, c, conn)
			require.ErrorIs(t, peer.Get(t, errs), websocket.ErrConnClosed, name)
			c.Reset() // the queue of the removed one does not hold up the end of the test
		}
	})
	t.Run("frames behind a Close frame in one packet are not sent", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		packet := websocket.NewFrameText(false, []byte("before"))
		packet = append(packet, websocket.NewFrameClose(false, websocket.StatusForbidden, []byte("enough"))...)
		packet = append(packet, websocket.NewFrameText(false, []byte("behind"))...)
		require.NoError(t, websocket.Send(conn, packet))
		require.ErrorIs(t, websocket.Send(conn, websocket.NewFrameText(false, []byte("later"))), websocket.ErrConnClosed)
		require.ErrorIs(t, websocket.TrySend(conn, websocket.NewFrameText(false, []byte("later"))), net.ErrClosed)
		c.ExpectText("before")
		c.Expect(websocket.OpcodeClose, peer.CloseBody(websocket.StatusForbidden, "enough"))
		c.Send(websocket.NewFrameClose(true, websocket.StatusForbidden, nil))
		c.ExpectEOF()
	})
}

func TestSendToSlowPeer(t *testing.T) {
	const timeout = time.Second
	for name, send := range map[string]func(conn int, packet []byte) error{
		"Send":   websocket.Send,
		"SendID": func(conn int, packet []byte) error { return websocket.SendID(websocket.ID(conn), packet) },
	} {
		t.Run(name+" to a peer that takes nothing fails with ErrWriteTimeout, and only that peer is removed", func(t *testing.T) {
			opts := &websocket.ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: timeout, HandleText: peer.Echo}
			added, removed := peer.Added(opts), peer.Removed(opts)
			s := peer.Start(t, opts)
			slow := s.Connect(t)
			conn := peer.Get(t, added)
			other := s.Connect(t)
			peer.Get(t, added)
			packet := websocket.NewFrameText(false, peer.Pattern(8<<10, 0))
			var err error
			for err == nil {
				err = send(conn, packet)
			}
			require.Truef(t, errors.Is(err, websocket.ErrWriteTimeout) || errors.Is(err, websocket.ErrSendQueueFull), "%v", err)
			require.Equal(t, conn, peer.Get(t, removed))
			err = send(conn, packet)
			require.ErrorIs(t, err, websocket.ErrConnClosed)
			require.ErrorIs(t, err, net.ErrClosed)
			other.Text("unharmed")
			other.ExpectText("unharmed")
			require.Equal(t, 1, s.Clients.Len())
			slow.Close()
			require.True(t, peer.Eventually(func() bool { return errors.Is(send(conn, packet), websocket.ErrConnClosed) }))
		})
	}
	t.Run("TrySend alone does not hide that a peer takes nothing", func(t *testing.T) {
		opts := &websocket.ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: timeout}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		s.Connect(t)
		conn := peer.Get(t, added)
		packet := websocket.NewFrameText(false, peer.Pattern(8<<10, 0))
		peer.Fill(t, conn, packet)
		// Again and again: the system takes a little more later, without the peer.
		require.True(t, peer.Eventually(func() bool { return errors.Is(websocket.TrySend(conn, packet), websocket.ErrConnClosed) }))
		require.Equal(t, conn, peer.Get(t, removed))
	})
	t.Run("ErrWriteTimeout reaches a Send that waits", func(t *testing.T) {
		opts := &websocket.ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: timeout}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		s.Connect(t)
		conn := peer.Get(t, added)
		packet := websocket.NewFrameText(false, peer.Pattern(8<<10, 0))
		peer.Fill(t, conn, packet)
		var err error
		for err == nil || errors.Is(err, websocket.ErrSendQueueFull) { // the system takes a little more later, without the peer
			err = websocket.Send(conn, packet)
		}
		require.ErrorIs(t, err, websocket.ErrWriteTimeout)
	})
	t.Run("a peer that reads slowly but steadily is kept", func(t *testing.T) {
		const steady, parts = 2 * time.Second, 24
		opts := &websocket.ServerOptions{WriteTimeout: steady}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		want := peer.Pattern(parts<<20, 0)
		require.NoError(t, websocket.Send(conn, websocket.NewFrameText(false, want)))
		head := make([]byte, 10)
		_, err := io.ReadFull(c.Reader, head)
		require.NoError(t, err)
		got := make([]byte, len(want))
		for part := range slices.Chunk(got, 1<<20) {
			<-time.After(steady * 5 / 4 / parts) // longer than the write time-out, all in all
			_, err = io.ReadFull(c.Reader, part)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(want, got))
		require.NoError(t, websocket.Send(conn, websocket.NewFrameText(false, []byte("end"))))
		c.ExpectText("end")
	})
}

func TestSendID(t *testing.T) {
	t.Run("an id finds its connection and never another one", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		id := websocket.ID(conn)
		require.NotZero(t, id)
		require.Equal(t, id, websocket.ID(conn))
		require.NoError(t, websocket.SendID(id, websocket.NewFrameText(false, []byte("one"))))
		require.NoError(t, websocket.TrySendID(id, websocket.NewFrameText(false, []byte("two"))))
		c.ExpectText("one")
		c.ExpectText("two")
		c.Close()
		peer.Get(t, removed)
		require.True(t, peer.Eventually(func() bool { return websocket.ID(conn) == 0 }))
		require.ErrorIs(t, websocket.SendID(id, []byte("x")), net.ErrClosed)
		require.ErrorIs(t, websocket.TrySendID(id, []byte("x")), websocket.ErrConnClosed)

		// After Stop the numbers are given back, and another server's connection gets this one.
		s.StopAndWait(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		s.ServeOn(ln)
		for range 64 {
			other := s.Connect(t)
			number := peer.Get(t, added)
			require.NotEqual(t, id, websocket.ID(number))
			require.ErrorIs(t, websocket.SendID(id, websocket.NewFrameText(false, []byte("stray"))), websocket.ErrConnClosed)
			require.ErrorIs(t, websocket.TrySendID(id, websocket.NewFrameText(false, []byte("stray"))), websocket.ErrConnClosed)
			other.Text("mine")
			other.ExpectText("mine")
			if number == conn {
				return
			}
		}
		t.Log("the number was not used again")
	})
	t.Run("it answers in HandleClientRemove", func(t *testing.T) {
		ids := make(chan uint64, 2)
		opts := &websocket.ServerOptions{
			HandleClientAdd: func(_ context.Context, conn int) { ids <- websocket.ID(conn) },
			HandleClientRemove: func(_ context.Context, conn int) {
				id := websocket.ID(conn)
				websocket.SendID(id, websocket.NewFrameText(false, []byte("bye")))
				ids <- id
			},
		}
		s := peer.Start(t, opts)
		c := s.Connect(t)
		id := peer.Get(t, ids)
		s.ClientRemove(s.Clients.All()[0])
		c.ExpectText("bye")
		require.Equal(t, id, peer.Get(t, ids))
	})
}

func TestSendDuringHandshake(t *testing.T) {
	errs := make(chan error, 1)
	opts := &websocket.ServerOptions{HandleText: peer.Echo}
	servers := make(chan *peer.Server, 1)
	opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) {
		var all []error
		tried := 0
		for _, fd := range (<-servers).Sockets() {
			tried++
			for name, err := range map[string]error{
				"Send":    websocket.Send(fd, websocket.NewFrameText(false, []byte("too early"))),
				"TrySend": websocket.TrySend(fd, websocket.NewFrameText(false, []byte("too early"))),
			} {
				if !errors.Is(err, websocket.ErrConnClosed) {
					all = append(all, fmt.Errorf("%s: %v", name, err))
				}
			}
			if _, err := websocket.Recv(fd); !errors.Is(err, websocket.ErrManaged) {
				all = append(all, fmt.Errorf("Recv: %v", err))
			}
			if websocket.ID(fd) != 0 {
				all = append(all, errors.New("it has an id"))
			}
		}
		if tried == 0 {
			all = append(all, errors.New("the connection was not found"))
		}
		errs <- errors.Join(all...)
		return nil, nil
	}
	s := peer.Start(t, opts)
	servers <- s
	c := s.Connect(t) // compares the answer
	require.NoError(t, peer.Get(t, errs))
	c.Text("now")
	c.ExpectText("now")
}

func TestStaleNumbers(t *testing.T) {
	t.Run("the number of a closed connection is not used for another one, and nothing sent to it arrives anywhere", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		stale := make(map[int]bool)
		var mu sync.Mutex
		const rounds, each = 8, 32
		for range rounds {
			peer.All(t, each, func(int) error {
				c, err := s.Join()
				if err != nil {
					return err
				}
				defer c.Close()
				mu.Lock()
				numbers := make([]int, 0, len(stale))
				for conn := range stale {
					numbers = append(numbers, conn)
				}
				mu.Unlock()
				for _, conn := range numbers {
					if err := websocket.Send(conn, websocket.NewFrameText(false, []byte("stray"))); !errors.Is(err, websocket.ErrConnClosed) {
						return fmt.Errorf("Send to a stale number: %w", err)
					}
				}
				_, err = c.Write(websocket.NewFrameText(true, []byte("mine")))
				return errors.Join(err, c.Compare(websocket.OpcodeText, "mine"))
			})
			for range each {
				conn := peer.Get(t, added)
				mu.Lock()
				assert.False(t, stale[conn], "the number %d was used again", conn)
				mu.Unlock()
			}
			for range each {
				conn := peer.Get(t, removed)
				mu.Lock()
				stale[conn] = true
				mu.Unlock()
			}
			for conn := range stale { // Remove may still send
				require.True(t, peer.Eventually(func() bool { return errors.Is(websocket.Send(conn, nil), websocket.ErrConnClosed) }))
			}
		}
		require.Len(t, stale, rounds*each)
	})
}
