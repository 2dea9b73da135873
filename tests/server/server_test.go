//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

// startIdle makes a server that does not run yet.
func startIdle(t *testing.T, opts *websocket.ServerOptions) *peer.Server {
	t.Helper()
	peer.CheckGoroutines(t)
	peer.CheckDescriptors(t)
	s := &peer.Server{Server: websocket.NewServer(peer.Quiet(opts)), T: t}
	t.Cleanup(func() { s.StopAndWait(t) })
	return s
}

func TestNewServer(t *testing.T) {
	t.Run("defaults are filled into the given options", func(t *testing.T) {
		opts := &websocket.ServerOptions{ConnectPath: "/ws"}
		s := websocket.NewServer(opts)
		require.Same(t, opts, s.Options)
		require.Equal(t, ":80", opts.Address)
		require.Equal(t, "/ws/status", opts.StatusPath)
		require.NotNil(t, opts.HandleText)
		require.NotNil(t, opts.HandleStatus)
	})
	t.Run("nil options are good", func(t *testing.T) {
		s := websocket.NewServer(nil)
		require.Equal(t, "/", s.Options.ConnectPath)
		require.Equal(t, "/status", s.Options.StatusPath)
		require.NotNil(t, s.Clients)
		require.Nil(t, s.Addr())
		s.Stop()
	})
	t.Run("values below zero stand for the default", func(t *testing.T) {
		opts := &websocket.ServerOptions{MaxMessageSize: -1, MaxFragments: -1, MaxHeaderSize: -1, MaxHeaderFields: -1, MaxConnections: -1,
			SendQueueSize: -1, MessagesAtOnce: -1, RequestsAtOnce: -1, HandshakeTimeout: -1, WriteTimeout: -1, PingInterval: -1,
			SilenceTimeout: -1, AddTimeout: -1, HandleText: peer.Echo}
		s := peer.Start(t, opts)
		require.Equal(t, peer.MaxMessageSize, opts.MaxMessageSize)
		require.Equal(t, peer.MaxFragments, opts.MaxFragments)
		require.Equal(t, peer.MaxHeaderSize, opts.MaxHeaderSize)
		require.Equal(t, peer.MaxHeaderFields, opts.MaxHeaderFields)
		require.Positive(t, opts.MaxConnections)
		require.Equal(t, peer.SendQueueSize, opts.SendQueueSize)
		require.Equal(t, 1, opts.MessagesAtOnce)
		require.Equal(t, peer.RequestsAtOnce, opts.RequestsAtOnce)
		require.Equal(t, peer.HandshakeTimeout, opts.HandshakeTimeout)
		require.Equal(t, peer.WriteTimeout, opts.WriteTimeout)
		require.Negative(t, opts.PingInterval)
		require.Equal(t, peer.SilenceTimeout, opts.SilenceTimeout)
		require.Equal(t, peer.AddTimeout, opts.AddTimeout)
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
	})
}

func TestStart(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "[::1]:0", ":0"} {
		t.Run("it listens on "+address+" and tells the bound address", func(t *testing.T) {
			if ln, err := net.Listen("tcp", address); err != nil {
				t.Skip(err)
			} else {
				ln.Close()
			}
			s := startIdle(t, &websocket.ServerOptions{Address: address, HandleText: peer.Echo})
			require.Nil(t, s.Addr())
			s.Served = make(chan error, 1)
			go func() { s.Served <- s.Start() }()
			require.True(t, peer.Eventually(func() bool { return s.Addr() != nil }))
			s.Network, s.Address = "tcp", s.Addr().String()
			require.NotContains(t, s.Address, ":0")
			c := s.Connect(t)
			c.Text("x")
			c.ExpectText("x")
			c.Close()
			s.StopAndWait(t)
			require.Nil(t, s.Addr())
		})
	}
	t.Run("an address that is malformed or in use is an error", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		for _, address := range []string{"127.0.0.1", "127.0.0.1:port", "256.0.0.1:1", "127.0.0.1:99999", ln.Addr().String()} {
			s := startIdle(t, &websocket.ServerOptions{Address: address})
			require.Error(t, s.Start(), address)
			require.NotErrorIs(t, s.Start(), websocket.ErrServerRunning)
			require.Nil(t, s.Addr())
		}
	})
	t.Run("a second Start while one runs is ErrServerRunning, and harms nothing", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{Address: "127.0.0.1:0", HandleText: peer.Echo})
		c := s.Connect(t)
		require.ErrorIs(t, s.Start(), websocket.ErrServerRunning)
		s.Options.Address = s.Address // in use by itself
		require.ErrorIs(t, s.Start(), websocket.ErrServerRunning)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(ln), websocket.ErrServerRunning)
		_, err = ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed, "the listener is closed")
		c.Text("x")
		c.ExpectText("x")
		s.Connect(t)
	})
	t.Run("many Starts at the same time leave one that runs", func(t *testing.T) {
		s := startIdle(t, &websocket.ServerOptions{Address: "127.0.0.1:0"})
		errs := make(chan error, 16)
		for range cap(errs) {
			go func() { errs <- s.Start() }()
		}
		for range cap(errs) - 1 {
			require.ErrorIs(t, peer.Get(t, errs), websocket.ErrServerRunning)
		}
		require.NotNil(t, s.Addr())
		s.Stop()
		require.NoError(t, peer.Get(t, errs))
	})
}

// plainConn hides the descriptor of a listener.
type plainConn struct{ net.Listener }

func TestServe(t *testing.T) {
	t.Run("a Unix socket is served", func(t *testing.T) {
		s := startIdle(t, &websocket.ServerOptions{HandleText: peer.Echo})
		path := filepath.Join(t.TempDir(), "socket")
		ln, err := net.Listen("unix", path)
		require.NoError(t, err)
		s.ServeOn(ln)
		require.Equal(t, path, s.Addr().String())
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
		big := string(peer.Pattern(1<<20, 0))
		c.Text(big)
		c.ExpectText(big)
		left := make(chan error, 1)
		go func() {
			err := c.Compare(websocket.OpcodeClose, peer.CloseBody(websocket.StatusGone, ""))
			if err == nil {
				_, _, err = c.Frame()
			}
			c.Close()
			left <- err
		}()
		s.StopAndWait(t)
		require.ErrorIs(t, peer.Get(t, left), io.EOF)
		require.NoFileExists(t, path)
	})
	t.Run("a listener without a descriptor is ErrUnsupported, and closed", func(t *testing.T) {
		s := startIdle(t, nil)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		err = s.Serve(plainConn{ln})
		require.ErrorIs(t, err, websocket.ErrUnsupported)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		_, err = ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		require.Nil(t, s.Addr())
	})
	t.Run("a listener that is closed already is an error", func(t *testing.T) {
		s := startIdle(t, nil)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ln.Close()
		require.Error(t, s.Serve(ln))
		s.ServeOn(func() net.Listener {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			return ln
		}())
		s.Connect(t)
	})
}

func TestServeContext(t *testing.T) {
	listen := func(t *testing.T) net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return ln
	}
	t.Run("it ends when its context does, as with Stop", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		s := &peer.Server{Server: websocket.NewServer(peer.Quiet(nil)), T: t, Served: make(chan error, 1)}
		ln := listen(t)
		s.Network, s.Address = ln.Addr().Network(), ln.Addr().String()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { s.Served <- s.ServeContext(ctx, ln) }()
		c := s.Connect(t)
		cancel()
		c.ExpectClose(websocket.StatusGone)
		require.NoError(t, peer.Get(t, s.Served))
		require.Nil(t, s.Addr())
		_, err := net.Dial(s.Network, s.Address)
		require.Error(t, err, "the listener is closed")
	})
	t.Run("it does not begin if its context has ended", func(t *testing.T) {
		peer.CheckDescriptors(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		ln := listen(t)
		require.NoError(t, websocket.NewServer(peer.Quiet(nil)).ServeContext(ctx, ln))
		_, err := ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
	})
	t.Run("Stop ends it too, and its context then ends nothing else", func(t *testing.T) {
		s := peer.Start(t, nil)
		s.StopAndWait(t)
		ctx, cancel := context.WithCancel(context.Background())
		ln := listen(t)
		s.Served = make(chan error, 1)
		go func() { s.Served <- s.ServeContext(ctx, ln) }()
		require.True(t, peer.Eventually(func() bool { return s.Addr() != nil }))
		s.StopAndWait(t)
		s.Restart(t)
		cancel()
		s.Connect(t)
	})
}

func TestStop(t *testing.T) {
	t.Run("it may come before Start, and twice", func(t *testing.T) {
		s := startIdle(t, &websocket.ServerOptions{HandleText: peer.Echo})
		s.Stop()
		s.Stop()
		s.Restart(t)
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
		c.Leave()
		s.StopAndWait(t)
		s.Stop()
	})
	t.Run("it may come while Start is under way", func(t *testing.T) {
		s := startIdle(t, &websocket.ServerOptions{Address: "127.0.0.1:0"})
		for range 100 {
			errs := make(chan error, 1)
			go func() { errs <- s.Start() }()
			for stopped := false; !stopped; {
				s.Stop()
				select {
				case err := <-errs:
					require.NoError(t, err)
					stopped = true
				default:
					runtime.Gosched()
				}
			}
		}
	})
	t.Run("many at the same time all return", func(t *testing.T) {
		s := peer.Start(t, nil)
		for range 8 {
			s.Connect(t).Leave()
		}
		peer.All(t, 16, func(int) error {
			s.Stop()
			return nil
		})
	})
	t.Run("clients get what was sent before it, and a Close frame with 1001", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		added, removed := peer.Added(opts), peer.Removed(opts)
		s := peer.Start(t, opts)
		const peers = 16
		conns := make([]*peer.Conn, peers)
		for i := range conns {
			conns[i] = s.Connect(t)
			require.NoError(t, websocket.Send(peer.Get(t, added), websocket.NewFrameText(false, peer.Pattern(1<<20, i))))
		}
		stopped := make(chan struct{})
		go func() {
			s.Stop()
			close(stopped)
		}()
		for i, c := range conns {
			c.ExpectText(string(peer.Pattern(1<<20, i)))
			c.ExpectClose(websocket.StatusGone)
			c.Close()
		}
		peer.Done(t, stopped)
		for range peers {
			peer.Get(t, removed)
		}
		require.Zero(t, s.Clients.Len())
	})
	t.Run("the server starts again with what it had", func(t *testing.T) {
		s := peer.Start(t, nil)
		require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *websocket.Request) websocket.Response {
			return websocket.Response{Code: 200}
		}))
		for range 5 {
			c := s.Connect(t)
			c.Text(`{"id":1,"method":"GET","target":"/"}`)
			c.ExpectText(`{"message":"","body":"","id":1,"code":200}`)
			c.Close()
			s.StopAndWait(t)
			_, err := s.Open()
			require.Error(t, err, "nothing listens")
			s.Restart(t)
		}
	})
	t.Run("clients in their handshake are closed", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		s := peer.Start(t, &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) {
			inside <- struct{}{}
			<-release
			return nil, nil
		}})
		now := peer.Release(t, release)
		silent, half, auth := s.Dial(t), s.Dial(t), s.Dial(t)
		half.Send([]byte(peer.Request[:50]))
		auth.Send([]byte(peer.Request))
		peer.Get(t, inside)
		s.StopAndWait(t)
		for _, c := range []*peer.Conn{silent, half, auth} {
			c.ExpectEOF()
		}
		now()
	})
	t.Run("handlers that block for ever do not hold it up, and Remove comes when they return", func(t *testing.T) {
		const peers = 24
		inside := make(chan struct{}, peers)
		release := make(chan struct{})
		opts := &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
			inside <- struct{}{}
			<-release
			peer.Echo(conn, p)
		}}
		removed := peer.Removed(opts)
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		conns := make([]*peer.Conn, peers)
		for i := range conns {
			conns[i] = s.Connect(t)
			conns[i].Text("x")
			peer.Get(t, inside)
		}
		s.StopAndWait(t)
		require.Empty(t, removed)
		for _, c := range conns {
			c.ExpectClose(websocket.StatusGone)
		}
		s.Restart(t) // on the same numbers, perhaps
		c := s.Connect(t)
		now()
		for range peers {
			peer.Get(t, removed)
		}
		c.Text("after")
		c.ExpectText("after")
		require.Empty(t, removed)
	})
	t.Run("a peer that takes nothing holds it up for the write time-out at most", func(t *testing.T) {
		opts := &websocket.ServerOptions{WriteTimeout: time.Second}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		s.Connect(t)
		peer.Fill(t, peer.Get(t, added), websocket.NewFrameText(false, peer.Pattern(8<<10, 0)))
		s.StopAndWait(t)
	})
	t.Run("connections that come and go all the while are all ended", func(t *testing.T) {
		var adds, removes atomic.Int32
		opts := &websocket.ServerOptions{HandleText: peer.Echo,
			HandleClientAdd:    func(context.Context, int) { adds.Add(1) },
			HandleClientRemove: func(context.Context, int) { removes.Add(1) },
		}
		s := startIdle(t, opts)
		for range 5 {
			s.Restart(t)
			quit := make(chan struct{})
			var peers sync.WaitGroup
			begun := make(chan struct{}, 1<<12)
			for range 8 {
				peers.Go(func() {
					for {
						select {
						case <-quit:
							return
						default:
						}
						c, err := s.Join()
						if err != nil {
							continue
						}
						c.Write(websocket.NewFrameText(true, []byte("x")))
						c.Frame()
						c.Reset()
						select {
						case begun <- struct{}{}:
						default:
						}
					}
				})
			}
			for range 20 {
				peer.Get(t, begun)
			}
			s.StopAndWait(t)
			close(quit)
			peers.Wait()
			require.True(t, peer.Eventually(func() bool { return adds.Load() == removes.Load() }))
			require.Zero(t, s.Clients.Len())
		}
		require.Positive(t, adds.Load())
	})
}

func TestHugeOptions(t *testing.T) {
	const longest = time.Duration(math.MaxInt64)
	s := peer.Start(t, &websocket.ServerOptions{
		HandleText:       peer.Echo,
		MaxMessageSize:   math.MaxInt,
		MaxFragments:     math.MaxInt,
		MaxHeaderSize:    math.MaxInt,
		MaxHeaderFields:  math.MaxInt,
		MaxConnections:   math.MaxInt,
		SendQueueSize:    math.MaxInt,
		MessagesAtOnce:   math.MaxInt,
		RequestsAtOnce:   math.MaxInt,
		HandshakeTimeout: longest,
		WriteTimeout:     longest,
		PingInterval:     longest,
		SilenceTimeout:   longest,
		AddTimeout:       longest,
	})
	c := s.Connect(t)
	c.Text("x")
	c.ExpectText("x")
}

// The program may have the listener's socket under another number, and make it block.
func TestBlockingListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	file, err := ln.(*net.TCPListener).File()
	require.NoError(t, err)
	defer file.Close()
	serv := websocket.NewServer(&websocket.ServerOptions{HandleText: peer.Echo})
	served := make(chan error, 1)
	go func() { served <- serv.Serve(ln) }()
	s := &peer.Server{T: t, Network: "tcp", Address: ln.Addr().String()}
	for range 3 {
		require.NoError(t, unix.SetNonblock(int(file.Fd()), false))
		c := s.Connect(t)
		c.Text("x")
		c.ExpectText("x")
		c.Close()
	}
	runtime.GC() // hangs if a loop waits in a raw call
	serv.Stop()
	require.NoError(t, peer.Get(t, served))
}
