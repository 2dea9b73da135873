//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

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
	"golang.org/x/sys/unix"
)

func TestSendOnServerConnection(t *testing.T) {
	t.Run("concurrent packets are never mixed, and a slow reader loses nothing", func(t *testing.T) {
		opts := new(ServerOptions)
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		const senders, each, size = 8, 6, 300 << 10
		errs := make(chan error, senders)
		for i := range senders {
			go func() {
				var err error
				for n := range each {
					packet := NewFrameBin(false, append([]byte{byte(n)}, bytes.Repeat([]byte{byte(i)}, size+i)...))
					err = errors.Join(err, Send(conn, packet))
					clear(packet) // it keeps no reference
				}
				errs <- err
			}()
		}
		next := make(map[byte]byte)
		for range senders * each {
			op, body, err := c.rawFrame()
			require.NoError(t, err)
			require.Equal(t, OpcodeBin, op)
			sender := body[1]
			require.Equal(t, size+int(sender), len(body)-1)
			require.Equal(t, len(body)-1, bytes.Count(body[1:], body[1:2]))
			require.Equal(t, next[sender], body[0], "packets of one sender come in their order")
			next[sender]++
		}
		for range senders {
			require.NoError(t, rawGet(t, errs))
		}
	})
	t.Run("Recv reads nothing from it", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		_, err := Recv(conn)
		require.ErrorIs(t, err, ErrManaged)
		c.text("still there")
		c.expectText("still there")
		c.Close()
		rawGet(t, removed)
		require.True(t, eventually(func() bool { _, err = Recv(conn); return errors.Is(err, ErrConnClosed) }))
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, Send(conn, []byte("x")), net.ErrClosed)
		require.ErrorIs(t, Send(conn, nil), ErrConnClosed)
		require.ErrorIs(t, TrySend(conn, []byte("x")), ErrConnClosed)
	})
	t.Run("an empty queue takes a packet of any size, and a slow reader gets all of it", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 1}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		want := rawPattern(8<<20, 3)
		packet := NewFrameText(false, want)
		require.NoError(t, TrySend(conn, packet))
		clear(packet)
		require.ErrorIs(t, TrySend(conn, []byte{0x89, 0}), ErrSendQueueFull)
		c.expectText(string(want))
	})
	t.Run("a full queue makes TrySend fail at once and Send wait for room", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 64 << 10}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		packet := NewFrameText(false, rawPattern(8<<10, 0))
		sent := rawFill(t, conn, packet)
		const waiting = 8
		errs := make(chan error, waiting)
		for range waiting {
			go func() { errs <- Send(conn, packet) }()
		}
		require.ErrorIs(t, TrySend(conn, packet), ErrSendQueueFull)
		require.Empty(t, errs, "nobody had room")
		for range sent + waiting {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
		for range waiting {
			require.NoError(t, rawGet(t, errs))
		}
		require.NoError(t, Send(conn, NewFrameText(false, []byte("end"))))
		c.expectText("end")
	})
	t.Run("a packet over the size of the queue waits until the queue is empty", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 32 << 10}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		sent := rawFill(t, conn, NewFrameText(false, rawPattern(8<<10, 0)))
		errs := make(chan error, 1)
		go func() { errs <- Send(conn, NewFrameText(false, rawPattern(1<<20, 1))) }()
		for range sent {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
		c.expectText(string(rawPattern(1<<20, 1)))
		require.NoError(t, rawGet(t, errs))
	})
	t.Run("a queue smaller than the answers to one read delays and loses nothing", func(t *testing.T) {
		s := startServer(t, &ServerOptions{SendQueueSize: 1, HandleText: rawEcho})
		c := s.connect(t)
		var all []byte
		for i := range 500 {
			all = append(all, NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.send(all)
		for i := range 500 {
			c.expectText(fmt.Sprint(i))
		}
	})
	t.Run("a queue that is never empty keeps to its size", func(t *testing.T) {
		const queue, packets = 64 << 10, 4000
		opts := &ServerOptions{SendQueueSize: queue}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		sent := rawFill(t, conn, NewFrameText(false, rawPattern(8<<10, 0)))
		errs, most := make(chan error, 1), 0
		go func() {
			packet := NewFrameText(false, rawPattern(8<<10, 0))
			mc := descriptors.get(conn)
			for range packets {
				if err := Send(conn, packet); err != nil {
					errs <- err
					return
				}
				mc.mu.Lock()
				if mc.out != nil {
					most = max(most, cap(mc.out.buf))
				}
				mc.mu.Unlock()
			}
			errs <- nil
		}()
		for range sent + packets {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
		require.NoError(t, rawGet(t, errs))
		require.LessOrEqual(t, most, 4*queue)
	})
	t.Run("Send that waits for room is woken by the end of the connection", func(t *testing.T) {
		for name, end := range map[string]func(s *rawServer, c *rawConn, conn int){
			"reset":        func(_ *rawServer, c *rawConn, _ int) { c.reset() },
			"ClientRemove": func(s *rawServer, _ *rawConn, conn int) { s.ClientRemove(conn) },
		} {
			opts := &ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: time.Hour}
			added := rawAdded(opts)
			s := startServer(t, opts)
			c := s.connect(t)
			conn := rawGet(t, added)
			packet := NewFrameText(false, rawPattern(8<<10, 0))
			rawFill(t, conn, packet)
			errs, started := make(chan error, 1), make(chan struct{})
			go func() {
				close(started)
				errs <- Send(conn, packet)
			}()
			rawDone(t, started)
			end(s, c, conn)
			require.ErrorIs(t, rawGet(t, errs), ErrConnClosed, name)
			c.reset() // the queue of the removed one does not hold up the end of the test
		}
	})
	t.Run("frames behind a Close frame in one packet are not sent", func(t *testing.T) {
		opts := new(ServerOptions)
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		packet := NewFrameText(false, []byte("before"))
		packet = append(packet, NewFrameClose(false, StatusForbidden, []byte("enough"))...)
		packet = append(packet, NewFrameText(false, []byte("behind"))...)
		require.NoError(t, Send(conn, packet))
		require.ErrorIs(t, Send(conn, NewFrameText(false, []byte("later"))), ErrConnClosed)
		require.ErrorIs(t, TrySend(conn, NewFrameText(false, []byte("later"))), net.ErrClosed)
		c.expectText("before")
		c.expect(OpcodeClose, rawCloseBody(StatusForbidden, "enough"))
		c.send(NewFrameClose(true, StatusForbidden, nil))
		c.expectEOF()
	})
}

func TestSendToSlowPeer(t *testing.T) {
	const timeout = time.Second
	for name, send := range map[string]func(conn int, packet []byte) error{
		"Send":   Send,
		"SendID": func(conn int, packet []byte) error { return SendID(ID(conn), packet) },
	} {
		t.Run(name+" to a peer that takes nothing fails with ErrWriteTimeout, and only that peer is removed", func(t *testing.T) {
			opts := &ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: timeout, HandleText: rawEcho}
			added, removed := rawAdded(opts), rawRemoved(opts)
			s := startServer(t, opts)
			slow := s.connect(t)
			conn := rawGet(t, added)
			other := s.connect(t)
			rawGet(t, added)
			packet := NewFrameText(false, rawPattern(8<<10, 0))
			var err error
			for err == nil {
				err = send(conn, packet)
			}
			require.Truef(t, errors.Is(err, ErrWriteTimeout) || errors.Is(err, ErrSendQueueFull), "%v", err)
			require.Equal(t, conn, rawGet(t, removed))
			err = send(conn, packet)
			require.ErrorIs(t, err, ErrConnClosed)
			require.ErrorIs(t, err, net.ErrClosed)
			other.text("unharmed")
			other.expectText("unharmed")
			require.Equal(t, 1, s.Clients.Len())
			slow.Close()
			require.True(t, eventually(func() bool { return errors.Is(send(conn, packet), ErrConnClosed) }))
		})
	}
	t.Run("TrySend alone does not hide that a peer takes nothing", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: timeout}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		s.connect(t)
		conn := rawGet(t, added)
		packet := NewFrameText(false, rawPattern(8<<10, 0))
		rawFill(t, conn, packet)
		// Again and again: the system takes a little more later, without the peer.
		require.True(t, eventually(func() bool { return errors.Is(TrySend(conn, packet), ErrConnClosed) }))
		require.Equal(t, conn, rawGet(t, removed))
	})
	t.Run("ErrWriteTimeout reaches a Send that waits", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: timeout}
		added := rawAdded(opts)
		s := startServer(t, opts)
		s.connect(t)
		conn := rawGet(t, added)
		packet := NewFrameText(false, rawPattern(8<<10, 0))
		rawFill(t, conn, packet)
		var err error
		for err == nil || errors.Is(err, ErrSendQueueFull) { // the system takes a little more later, without the peer
			err = Send(conn, packet)
		}
		require.ErrorIs(t, err, ErrWriteTimeout)
	})
	t.Run("a peer that reads slowly but steadily is kept", func(t *testing.T) {
		const steady, parts = 2 * time.Second, 24
		opts := &ServerOptions{WriteTimeout: steady}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		want := rawPattern(parts<<20, 0)
		require.NoError(t, Send(conn, NewFrameText(false, want)))
		head := make([]byte, 10)
		_, err := io.ReadFull(c.r, head)
		require.NoError(t, err)
		got := make([]byte, len(want))
		for part := range slices.Chunk(got, 1<<20) {
			<-time.After(steady * 5 / 4 / parts) // longer than the write time-out, all in all
			_, err = io.ReadFull(c.r, part)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(want, got))
		require.NoError(t, Send(conn, NewFrameText(false, []byte("end"))))
		c.expectText("end")
	})
	t.Run("Pongs for a peer that does not read are coalesced to the latest", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 64 << 10}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		require.NoError(t, unix.SetsockoptInt(conn, unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10))
		sent := rawFill(t, conn, NewFrameText(false, rawPattern(8<<10, 0)))
		queued := func() int {
			mc := descriptors.get(conn)
			mc.mu.Lock()
			defer mc.mu.Unlock()
			return cap(mc.out.buf) + cap(mc.out.pong)
		}
		before := queued()
		const pings = 20_000
		var packet []byte
		for i := range pings {
			packet = NewFramePing(true, fmt.Appendf(nil, "%0120d", i))
			c.send(packet)
		}
		require.True(t, eventually(func() bool {
			mc := descriptors.get(conn)
			mc.mu.Lock()
			defer mc.mu.Unlock()
			return mc.out.hasPong && string(mc.out.pong) == fmt.Sprintf("%0120d", pings-1)
		}))
		require.LessOrEqual(t, queued(), before+maxControl+1<<10)
		for range sent {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
		pongs, last := 0, ""
		for last != fmt.Sprintf("%0120d", pings-1) { // the system takes a little more later, without the peer
			op, payload, err := c.rawFrame()
			require.NoError(t, err)
			require.Equal(t, OpcodePong, op)
			require.Greater(t, string(payload), last)
			pongs, last = pongs+1, string(payload)
		}
		require.Less(t, pongs, pings/10)
		c.text(`{"id":1}`)
		op, _, err := c.rawFrame()
		require.NoError(t, err)
		require.Equal(t, OpcodeText, op, "the latest Pong is the last")
	})
}

// TestSendThatWaitedTooLong has a queue in front of a socket that has taken nothing for a while.
func TestSendThatWaitedTooLong(t *testing.T) {
	for _, row := range []struct {
		name  string
		taken time.Duration // before now
		err   error
		phase phase
	}{
		{"a peer that took something is kept", defaultWriteTimeout / 4, ErrSendQueueFull, phaseOpen},
		{"one that has taken nothing for half of the time is not", defaultWriteTimeout / 2, ErrWriteTimeout, phaseEnding},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			c, _ := serveConn(t, l)
			for err := error(nil); err == nil; {
				_, err = writeSocket(c.fd(), make([]byte, readSize), false)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.queue(&outgoing{body: []byte("x")})
			c.watchForRoom()
			c.out.since = now() - int64(row.taken)
			require.Equal(t, row.err, c.tooSlowLocked())
			require.Equal(t, row.phase, c.phase)
		})
	}
}

func TestQueueDoesNotGrowWithWhatPasses(t *testing.T) {
	l, _ := serveLoop(t, nil)
	c, _ := serveConn(t, l)
	piece := rawPattern(1000, 0)
	for range 1000 {
		c.queue(&outgoing{body: piece})
		if c.out.len() == 2*len(piece) {
			require.Equal(t, piece, c.out.buf[c.out.sent:][:len(piece)])
			c.out.sent += len(piece) // as if the socket had taken it
		}
	}
	require.LessOrEqual(t, cap(c.out.buf), 8*len(piece))
}

func TestSendID(t *testing.T) {
	t.Run("an id finds its connection and never another one", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		id := ID(conn)
		require.NotZero(t, id)
		require.Equal(t, id, ID(conn))
		require.NoError(t, SendID(id, NewFrameText(false, []byte("one"))))
		require.NoError(t, TrySendID(id, NewFrameText(false, []byte("two"))))
		c.expectText("one")
		c.expectText("two")
		c.Close()
		rawGet(t, removed)
		require.True(t, eventually(func() bool { return ID(conn) == 0 }))
		require.ErrorIs(t, SendID(id, []byte("x")), net.ErrClosed)
		require.ErrorIs(t, TrySendID(id, []byte("x")), ErrConnClosed)

		// After Stop the numbers are given back, and another server's connection gets this one.
		s.stop(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		s.serve(ln)
		for range 64 {
			other := s.connect(t)
			number := rawGet(t, added)
			require.NotEqual(t, id, ID(number))
			require.ErrorIs(t, SendID(id, NewFrameText(false, []byte("stray"))), ErrConnClosed)
			require.ErrorIs(t, TrySendID(id, NewFrameText(false, []byte("stray"))), ErrConnClosed)
			other.text("mine")
			other.expectText("mine")
			if number == conn {
				return
			}
		}
		t.Log("the number was not used again")
	})
	t.Run("it answers in HandleClientRemove", func(t *testing.T) {
		ids := make(chan uint64, 2)
		opts := &ServerOptions{
			HandleClientAdd: func(_ context.Context, conn int) { ids <- ID(conn) },
			HandleClientRemove: func(_ context.Context, conn int) {
				id := ID(conn)
				SendID(id, NewFrameText(false, []byte("bye")))
				ids <- id
			},
		}
		s := startServer(t, opts)
		c := s.connect(t)
		id := rawGet(t, ids)
		s.ClientRemove(s.Clients.All()[0])
		c.expectText("bye")
		require.Equal(t, id, rawGet(t, ids))
	})
}

func TestSendDuringHandshake(t *testing.T) {
	errs := make(chan error, 1)
	opts := &ServerOptions{HandleText: rawEcho}
	opts.HandleAuth = func(*Handshake) (context.Context, error) {
		var all []error
		tried := 0
		for fd := range 1 << 14 {
			if c := descriptors.get(fd); c == nil || c == tombstone {
				continue
			}
			tried++
			for name, err := range map[string]error{
				"Send":    Send(fd, NewFrameText(false, []byte("too early"))),
				"TrySend": TrySend(fd, NewFrameText(false, []byte("too early"))),
			} {
				if !errors.Is(err, ErrConnClosed) {
					all = append(all, fmt.Errorf("%s: %v", name, err))
				}
			}
			if _, err := Recv(fd); !errors.Is(err, ErrManaged) {
				all = append(all, fmt.Errorf("Recv: %v", err))
			}
			if ID(fd) != 0 {
				all = append(all, errors.New("it has an id"))
			}
		}
		if tried == 0 {
			all = append(all, errors.New("the connection was not found"))
		}
		errs <- errors.Join(all...)
		return nil, nil
	}
	s := startServer(t, opts)
	c := s.connect(t) // compares the answer
	require.NoError(t, rawGet(t, errs))
	c.text("now")
	c.expectText("now")
}

func TestStaleNumbers(t *testing.T) {
	t.Run("the number of a closed connection is not used for another one, and nothing sent to it arrives anywhere", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		stale := make(map[int]bool)
		var mu sync.Mutex
		const rounds, each = 8, 32
		for range rounds {
			rawAll(t, each, func(int) error {
				c, err := s.rawJoin()
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
					if err := Send(conn, NewFrameText(false, []byte("stray"))); !errors.Is(err, ErrConnClosed) {
						return fmt.Errorf("Send to a stale number: %w", err)
					}
				}
				_, err = c.Write(NewFrameText(true, []byte("mine")))
				return errors.Join(err, c.rawExpect(OpcodeText, "mine"))
			})
			for range each {
				conn := rawGet(t, added)
				mu.Lock()
				assert.False(t, stale[conn], "the number %d was used again", conn)
				mu.Unlock()
			}
			for range each {
				conn := rawGet(t, removed)
				mu.Lock()
				stale[conn] = true
				mu.Unlock()
			}
			for conn := range stale { // Remove may still send
				require.True(t, eventually(func() bool { return errors.Is(Send(conn, nil), ErrConnClosed) }))
			}
		}
		require.Len(t, stale, rounds*each)
	})
}
