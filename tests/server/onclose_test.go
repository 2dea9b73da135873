//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// told is what OnClose was told.
type told struct {
	info  websocket.ConnInfo
	cause websocket.CloseCause
}

// toldBy sets OnClose and returns what it is told.
func toldBy(opts *websocket.ServerOptions) <-chan told {
	all := make(chan told, 1<<12)
	opts.OnClose = func(info websocket.ConnInfo, cause websocket.CloseCause) { all <- told{info, cause} }
	return all
}

// onlyTold returns what OnClose was told of the one connection, once the server has stopped.
func onlyTold(t *testing.T, s *peer.Server, all <-chan told) told {
	t.Helper()
	got := peer.Get(t, all)
	s.StopAndWait(t)
	require.Empty(t, all, "it is told more than once")
	return got
}

// closeRow is a way in which a connection ends.
type closeRow struct {
	name  string
	end   func(t *testing.T, s *peer.Server, c *peer.Conn, conn int)
	cause websocket.CloseCause
	opts  websocket.ServerOptions
}

func sends(frame []byte) func(*testing.T, *peer.Server, *peer.Conn, int) {
	return func(_ *testing.T, _ *peer.Server, c *peer.Conn, _ int) { c.Send(frame) }
}

func sendsClose(code websocket.CloseCode, reason string) []byte {
	return websocket.NewFrameClose(false, code, []byte(reason))
}

var closeRows = []closeRow{
	{name: "the peer closes", end: sends(websocket.NewFrameClose(true, 4000, []byte("bye"))),
		cause: websocket.CloseCause{Code: 4000, Reason: "bye", Kind: websocket.ClosedByPeer}},
	{name: "the peer closes without a code", end: sends(websocket.NewFrame(websocket.OpcodeClose, true, nil)),
		cause: websocket.CloseCause{Kind: websocket.ClosedByPeer}},
	{name: "the peer does not mask", end: sends(websocket.NewFrameText(false, nil)),
		cause: websocket.CloseCause{Code: 1002, Reason: "frame from client is not masked", Kind: websocket.ClosedProtocolError}},
	{name: "the peer sends what is no text", end: sends(websocket.NewFrameText(true, []byte("\xff"))),
		cause: websocket.CloseCause{Code: 1007, Reason: "text is not UTF-8", Kind: websocket.ClosedProtocolError}},
	{name: "the peer sends too much", opts: websocket.ServerOptions{MaxMessageSize: 9}, end: sends(websocket.NewFrameBin(true, make([]byte, 10))),
		cause: websocket.CloseCause{Code: 1009, Reason: "message is too large", Kind: websocket.ClosedProtocolError}},
	{name: "the peer closes with a code that must not be on the wire", end: sends(websocket.NewFrame(websocket.OpcodeClose, true, []byte{3, 238})),
		cause: websocket.CloseCause{Code: 1002, Kind: websocket.ClosedProtocolError}},
	{name: "the peer is reset", end: func(_ *testing.T, _ *peer.Server, c *peer.Conn, _ int) { c.Reset() },
		cause: websocket.CloseCause{Kind: websocket.ClosedLost}},
	{name: "the peer ends its side", end: func(t *testing.T, _ *peer.Server, c *peer.Conn, _ int) {
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	}, cause: websocket.CloseCause{Kind: websocket.ClosedLost}},
	{name: "the peer is silent", opts: websocket.ServerOptions{PingInterval: 10 * time.Millisecond, SilenceTimeout: 10 * time.Millisecond},
		end:   func(*testing.T, *peer.Server, *peer.Conn, int) {},
		cause: websocket.CloseCause{Code: 1008, Reason: "silent after a ping", Kind: websocket.ClosedSilent}},
	{name: "the peer takes nothing", opts: websocket.ServerOptions{WriteTimeout: 50 * time.Millisecond},
		end: func(_ *testing.T, _ *peer.Server, _ *peer.Conn, conn int) {
			for packet := websocket.NewFrameBin(false, make([]byte, 1<<16)); websocket.TrySend(conn, packet) == nil; {
			}
		}, cause: websocket.CloseCause{Kind: websocket.ClosedSlow}},
	{name: "it is removed", end: func(_ *testing.T, s *peer.Server, _ *peer.Conn, conn int) { s.ClientRemove(conn) },
		cause: websocket.CloseCause{Code: 1000, Kind: websocket.ClosedRemoved}},
	{name: "it is removed, and the peer is reset", end: func(_ *testing.T, s *peer.Server, c *peer.Conn, conn int) {
		s.ClientRemove(conn)
		c.Reset()
	}, cause: websocket.CloseCause{Code: 1000, Kind: websocket.ClosedRemoved}},
	{name: "it is closed", end: func(t *testing.T, s *peer.Server, _ *peer.Conn, conn int) {
		require.NoError(t, s.Clients.Close(conn, 4001, "elsewhere"))
	}, cause: websocket.CloseCause{Code: 4001, Reason: "elsewhere", Kind: websocket.ClosedRemoved}},
	{name: "it is closed with a reason that is too long", end: func(t *testing.T, s *peer.Server, _ *peer.Conn, conn int) {
		require.NoError(t, s.Clients.Close(conn, 4001, strings.Repeat("a", 122)+"é"))
	}, cause: websocket.CloseCause{Code: 4001, Reason: strings.Repeat("a", 122), Kind: websocket.ClosedRemoved}},
	{name: "it is sent a Close frame, and answers", end: func(t *testing.T, _ *peer.Server, c *peer.Conn, conn int) {
		require.NoError(t, websocket.Send(conn, append(websocket.NewFrameText(false, nil), sendsClose(4002, "so long")...)))
		c.Send(websocket.NewFrameClose(true, 4003, []byte("another")))
	}, cause: websocket.CloseCause{Code: 4002, Reason: "so long", Kind: websocket.ClosedRemoved}},
	{name: "it is sent a Close frame, and does not answer", opts: websocket.ServerOptions{WriteTimeout: 10 * time.Millisecond},
		end: func(t *testing.T, _ *peer.Server, _ *peer.Conn, conn int) {
			require.NoError(t, websocket.Send(conn, sendsClose(4002, "so long")))
		}, cause: websocket.CloseCause{Code: 4002, Reason: "so long", Kind: websocket.ClosedRemoved}},
	{name: "it is sent a Close frame, and the server stops", end: func(t *testing.T, s *peer.Server, _ *peer.Conn, conn int) {
		require.NoError(t, websocket.Send(conn, sendsClose(4002, "so long")))
		go s.Stop()
	}, cause: websocket.CloseCause{Code: 4002, Reason: "so long", Kind: websocket.ClosedRemoved}},
	{name: "all are sent a Close frame without a code", end: func(t *testing.T, s *peer.Server, c *peer.Conn, _ int) {
		_, failed := s.Clients.SendAll(websocket.NewFrame(websocket.OpcodeClose, false, nil))
		require.Empty(t, failed)
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	}, cause: websocket.CloseCause{Kind: websocket.ClosedRemoved}},
	{name: "a handler panics", opts: websocket.ServerOptions{HandleText: func(int, []byte) { panic("handler of the test") }},
		end: sends(websocket.NewFrameText(true, nil)), cause: websocket.CloseCause{Code: 1011, Kind: websocket.ClosedPanicked}},
	{name: "a handler ends its goroutine", opts: websocket.ServerOptions{HandleText: func(int, []byte) { runtime.Goexit() }},
		end: sends(websocket.NewFrameText(true, nil)), cause: websocket.CloseCause{Code: 1011, Kind: websocket.ClosedPanicked}},
	{name: "a handler closes behind the peer", opts: websocket.ServerOptions{HandleText: func(conn int, _ []byte) {
		<-websocket.Done(conn)
		websocket.Send(conn, sendsClose(4005, "late"))
	}}, end: sends(append(websocket.NewFrameText(true, nil), websocket.NewFrameClose(true, 4000, []byte("first"))...)),
		cause: websocket.CloseCause{Code: 4000, Reason: "first", Kind: websocket.ClosedByPeer}},
	{name: "the server stops", end: func(_ *testing.T, s *peer.Server, _ *peer.Conn, _ int) { go s.Stop() },
		cause: websocket.CloseCause{Code: 1001, Kind: websocket.ClosedShutdown}},
}

func TestOnClose(t *testing.T) {
	for _, row := range closeRows {
		for _, with := range []string{"with all handlers", "alone"} {
			t.Run(with+": "+row.name, func(t *testing.T) {
				opts := row.opts
				all := toldBy(&opts)
				var server atomic.Pointer[peer.Server]
				tell := opts.OnClose
				opts.OnClose = func(info websocket.ConnInfo, cause websocket.CloseCause) {
					ctx, ok := server.Load().Clients.Context(info.Conn)
					if assert.True(t, ok, "the program may still ask") {
						assert.Equal(t, 7, ctx.Value(websocket.CtxKeyUID))
					}
					tell(info, cause)
				}
				var adds, removes atomic.Int32
				if with != "alone" {
					opts.HandleClientAdd = func(context.Context, int) { adds.Add(1) }
					opts.HandleClientRemove = func(context.Context, int) { removes.Add(1) }
				}
				opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) {
					return context.WithValue(context.Background(), websocket.CtxKeyUID, 7), nil
				}
				s := peer.Start(t, &opts)
				server.Store(s)
				before := time.Now()
				c := s.Connect(t)
				var conns []int
				require.True(t, peer.Eventually(func() bool { conns = s.Clients.All(); return len(conns) == 1 }))
				id := websocket.ID(conns[0])
				row.end(t, s, c, conns[0])
				got := peer.Get(t, all)
				assert.Equal(t, adds.Load(), removes.Load(), "HandleClientRemove comes first")
				c.Close()
				s.StopAndWait(t)
				assert.Empty(t, all, "it is told once")
				assert.Equal(t, row.cause, got.cause)
				assert.Equal(t, conns[0], got.info.Conn)
				assert.Equal(t, id, got.info.ID)
				assert.EqualValues(t, 7, got.info.UID)
				if runtime.GOOS == "linux" || got.info.RemoteAddr != nil { // others forget the address of a peer that is reset
					assert.Equal(t, c.LocalAddr().String(), got.info.RemoteAddr.String())
				}
				assert.WithinRange(t, got.info.Opened, before, time.Now())
			})
		}
	}
}

func TestOnCloseIsTheLastHandler(t *testing.T) {
	t.Run("its words in HandleClientRemove are what a removed connection is told", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		all := toldBy(opts)
		opts.HandleClientRemove = func(_ context.Context, conn int) { websocket.Send(conn, sendsClose(4006, "goodbye")) }
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		s.ClientRemove(peer.Get(t, added))
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4006, "goodbye"))
		c.Close()
		assert.Equal(t, websocket.CloseCause{Code: 4006, Reason: "goodbye", Kind: websocket.ClosedRemoved}, onlyTold(t, s, all).cause)
	})
	t.Run("Stop meets a handler that blocks", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		all, removed := toldBy(opts), peer.Removed(opts)
		started, release := make(chan int, 1), make(chan struct{})
		opts.HandleText = func(conn int, _ []byte) { started <- conn; <-release }
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c := s.Connect(t)
		c.Text("x")
		conn := peer.Get(t, started)
		left := c.Leave()
		s.StopAndWait(t)
		peer.Done(t, left)
		require.Empty(t, all, "the handler has not returned")
		info, ok := s.Clients.Info(conn)
		require.True(t, ok)
		assert.Equal(t, c.LocalAddr().String(), info.RemoteAddr.String(), "the socket has gone, and the address was kept")
		now()
		got := peer.Get(t, all)
		assert.Len(t, removed, 1)
		assert.Equal(t, websocket.CloseCause{Code: 1001, Kind: websocket.ClosedShutdown}, got.cause)
		assert.Equal(t, c.LocalAddr().String(), got.info.RemoteAddr.String())
		assert.True(t, peer.Eventually(func() bool { _, ok := s.Clients.Info(conn); return !ok }))
		assert.Empty(t, all)
	})
	for _, end := range doneEnds {
		t.Run("a HandleClientAdd is a writer, and "+end.name, func(t *testing.T) {
			opts := &websocket.ServerOptions{AddTimeout: 10 * time.Millisecond}
			all := toldBy(opts)
			var running atomic.Int32
			tell := opts.OnClose
			opts.OnClose = func(info websocket.ConnInfo, cause websocket.CloseCause) {
				assert.Zero(t, running.Load(), "the writer has returned")
				tell(info, cause)
			}
			started := make(chan int, 1)
			opts.HandleClientAdd = func(_ context.Context, conn int) {
				running.Add(1)
				defer running.Add(-1)
				started <- conn
				<-websocket.Done(conn)
				<-time.After(20 * time.Millisecond)
			}
			removed := peer.Removed(opts)
			s := peer.Start(t, opts)
			c := s.Connect(t)
			end.end(s, c, peer.Get(t, started))
			peer.Get(t, removed)
			c.Close()
			peer.Get(t, all)
			s.StopAndWait(t)
			assert.Empty(t, all)
		})
	}
	t.Run("it runs beside no other handler of the connection", func(t *testing.T) {
		const clients = 20
		opts := &websocket.ServerOptions{MessagesAtOnce: 4}
		all := toldBy(opts)
		var running [1 << 12]atomic.Int32
		tell := opts.OnClose
		opts.OnClose = func(info websocket.ConnInfo, cause websocket.CloseCause) {
			assert.Zero(t, running[info.Conn].Load())
			tell(info, cause)
		}
		opts.HandleText = func(conn int, _ []byte) {
			running[conn].Add(1)
			defer running[conn].Add(-1)
			<-time.After(time.Millisecond)
		}
		s := peer.Start(t, opts)
		for range clients {
			c := s.Connect(t)
			for range 8 {
				c.Text("x")
			}
			c.Send(websocket.NewFrameClose(true, 1000, nil))
		}
		for range clients {
			peer.Get(t, all)
		}
		s.StopAndWait(t)
		assert.Empty(t, all)
	})
	t.Run("nothing waits for it, but the connection's number", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		release, started := make(chan struct{}), make(chan int, 1)
		opts.OnClose = func(info websocket.ConnInfo, _ websocket.CloseCause) {
			select {
			case started <- info.Conn:
				<-release
			default: // of the other one
			}
		}
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c, other := s.Connect(t), s.Connect(t)
		c.Send(websocket.NewFrameClose(true, 1000, nil))
		conn := peer.Get(t, started)
		c.ExpectClose(1000)
		other.Text("x")
		other.ExpectText("x")
		_, ok := s.Clients.Context(conn)
		assert.True(t, ok, "it may ask")
		assert.ErrorIs(t, websocket.Send(conn, websocket.NewFrameText(false, nil)), websocket.ErrConnClosed)
		assert.NotContains(t, s.Clients.All(), conn)
		left := other.Leave()
		s.StopAndWait(t)
		peer.Done(t, left)
		now()
	})
	t.Run("it may stop the server", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		stopped := make(chan struct{})
		var server atomic.Pointer[peer.Server]
		opts.OnClose = func(_ websocket.ConnInfo, cause websocket.CloseCause) {
			if cause.Kind == websocket.ClosedByPeer {
				server.Load().Stop()
				close(stopped)
			}
		}
		s := peer.Start(t, opts)
		server.Store(s)
		c := s.Connect(t)
		c.Send(websocket.NewFrameClose(true, 1000, nil))
		c.Leave()
		peer.Done(t, stopped)
	})
	t.Run("a panic is logged, and that is all", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		records := loggedBy(opts)
		opts.OnClose = func(websocket.ConnInfo, websocket.CloseCause) { panic("OnClose of the test") }
		s := peer.Start(t, opts)
		c, other := s.Connect(t), s.Connect(t)
		c.Send(websocket.NewFrameClose(true, 4000, nil))
		attrs := nextLogged(t, records, "websocket: handler panicked")
		assert.Equal(t, "OnClose of the test", attrs["panic"].Any())
		c.ExpectClose(4000)
		other.Text("x")
		other.ExpectText("x")
	})
	t.Run("it is not told of handshakes that were refused", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) { return nil, errors.New("no") }}
		all := toldBy(opts)
		s := peer.Start(t, opts)
		c := s.Dial(t)
		c.Send([]byte(peer.Request))
		c.Answer()
		s.Dial(t).Reset()
		s.StopAndWait(t)
		assert.Empty(t, all)
	})
	t.Run("it is told of each of many, however they end", func(t *testing.T) {
		const clients = 200
		opts := &websocket.ServerOptions{HandleText: peer.Echo, Logger: slog.New(slog.DiscardHandler)}
		all, added := toldBy(opts), peer.Added(opts)
		s := peer.Start(t, opts)
		ids := make(map[uint64]bool)
		for i := range clients {
			c := s.Connect(t)
			conn := peer.Get(t, added)
			ids[websocket.ID(conn)] = true
			if end := doneEnds[i%len(doneEnds)]; i%len(doneEnds) < len(doneEnds)-1 {
				end.end(s, c, conn)
			}
			c.Leave()
		}
		s.StopAndWait(t)
		for range clients {
			got := peer.Get(t, all)
			require.True(t, ids[got.info.ID], "of %d, once", got.info.Conn)
			delete(ids, got.info.ID)
		}
		assert.Empty(t, all)
	})
}

func TestCloseKindsHaveNames(t *testing.T) {
	names := []string{"peer", "protocol error", "silent", "slow", "lost", "removed", "handler panicked", "shut down"}
	for i, name := range names {
		assert.Equal(t, name, websocket.CloseKind(i+1).String())
	}
	assert.Equal(t, "CloseKind(0)", websocket.CloseKind(0).String())
	assert.Equal(t, "CloseKind(9)", websocket.CloseKind(len(names)+1).String())
}
