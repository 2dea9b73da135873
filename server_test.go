//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

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
	"golang.org/x/sys/unix"
)

// startIdle makes a server that does not run yet.
func startIdle(t *testing.T, opts *ServerOptions) *rawServer {
	t.Helper()
	checkGoroutines(t)
	checkDescriptors(t)
	s := &rawServer{Server: NewServer(rawQuiet(opts)), t: t}
	t.Cleanup(func() { s.stop(t) })
	return s
}

func TestNewServer(t *testing.T) {
	t.Run("defaults are filled into the given options", func(t *testing.T) {
		opts := &ServerOptions{ConnectPath: "/ws"}
		s := NewServer(opts)
		require.Same(t, opts, s.Options)
		require.Equal(t, ":80", opts.Address)
		require.Equal(t, "/ws/status", opts.StatusPath)
		require.NotNil(t, opts.HandleText)
		require.NotNil(t, opts.HandleStatus)
	})
	t.Run("nil options are good", func(t *testing.T) {
		s := NewServer(nil)
		require.Equal(t, "/", s.Options.ConnectPath)
		require.Equal(t, "/status", s.Options.StatusPath)
		require.NotNil(t, s.Clients)
		require.Nil(t, s.Addr())
		s.Stop()
	})
	t.Run("values below zero stand for the default", func(t *testing.T) {
		opts := &ServerOptions{MaxMessageSize: -1, MaxFragments: -1, MaxHeaderSize: -1, MaxHeaderFields: -1, MaxConnections: -1,
			SendQueueSize: -1, MessagesAtOnce: -1, RequestsAtOnce: -1, HandshakeTimeout: -1, WriteTimeout: -1, PingInterval: -1,
			SilenceTimeout: -1, AddTimeout: -1, HandleText: rawEcho}
		s := startServer(t, opts)
		require.Equal(t, defaultMaxMessageSize, opts.MaxMessageSize)
		require.Equal(t, defaultMaxFragments, opts.MaxFragments)
		require.Equal(t, defaultMaxHeaderSize, opts.MaxHeaderSize)
		require.Equal(t, defaultMaxHeaderFields, opts.MaxHeaderFields)
		require.Positive(t, opts.MaxConnections)
		require.Equal(t, defaultSendQueueSize, opts.SendQueueSize)
		require.Equal(t, 1, opts.MessagesAtOnce)
		require.Equal(t, defaultRequestsAtOnce, opts.RequestsAtOnce)
		require.Equal(t, defaultHandshakeTimeout, opts.HandshakeTimeout)
		require.Equal(t, defaultWriteTimeout, opts.WriteTimeout)
		require.Negative(t, opts.PingInterval)
		require.Equal(t, defaultSilenceTimeout, opts.SilenceTimeout)
		require.Equal(t, defaultAddTimeout, opts.AddTimeout)
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
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
			s := startIdle(t, &ServerOptions{Address: address, HandleText: rawEcho})
			require.Nil(t, s.Addr())
			s.served = make(chan error, 1)
			go func() { s.served <- s.Start() }()
			require.True(t, eventually(func() bool { return s.Addr() != nil }))
			s.network, s.address = "tcp", s.Addr().String()
			require.NotContains(t, s.address, ":0")
			c := s.connect(t)
			c.text("x")
			c.expectText("x")
			c.Close()
			s.stop(t)
			require.Nil(t, s.Addr())
		})
	}
	t.Run("an address that is malformed or in use is an error", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		for _, address := range []string{"127.0.0.1", "127.0.0.1:port", "256.0.0.1:1", "127.0.0.1:99999", ln.Addr().String()} {
			s := startIdle(t, &ServerOptions{Address: address})
			require.Error(t, s.Start(), address)
			require.NotErrorIs(t, s.Start(), ErrServerRunning)
			require.Nil(t, s.Addr())
		}
	})
	t.Run("a second Start while one runs is ErrServerRunning, and harms nothing", func(t *testing.T) {
		s := startServer(t, &ServerOptions{Address: "127.0.0.1:0", HandleText: rawEcho})
		c := s.connect(t)
		require.ErrorIs(t, s.Start(), ErrServerRunning)
		s.Options.Address = s.address // in use by itself
		require.ErrorIs(t, s.Start(), ErrServerRunning)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(ln), ErrServerRunning)
		_, err = ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed, "the listener is closed")
		c.text("x")
		c.expectText("x")
		s.connect(t)
	})
	t.Run("many Starts at once leave one that runs", func(t *testing.T) {
		s := startIdle(t, &ServerOptions{Address: "127.0.0.1:0"})
		errs := make(chan error, 16)
		for range cap(errs) {
			go func() { errs <- s.Start() }()
		}
		for range cap(errs) - 1 {
			require.ErrorIs(t, rawGet(t, errs), ErrServerRunning)
		}
		require.NotNil(t, s.Addr())
		s.Stop()
		require.NoError(t, rawGet(t, errs))
	})
}

// rawPlain hides the descriptor of a listener.
type rawPlain struct{ net.Listener }

func TestServe(t *testing.T) {
	t.Run("a Unix socket is served", func(t *testing.T) {
		s := startIdle(t, &ServerOptions{HandleText: rawEcho})
		path := filepath.Join(t.TempDir(), "socket")
		ln, err := net.Listen("unix", path)
		require.NoError(t, err)
		s.serve(ln)
		require.Equal(t, path, s.Addr().String())
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
		big := string(rawPattern(1<<20, 0))
		c.text(big)
		c.expectText(big)
		left := make(chan error, 1)
		go func() {
			err := c.rawExpect(OpcodeClose, rawCloseBody(StatusGone, ""))
			if err == nil {
				_, _, err = c.rawFrame()
			}
			c.Close()
			left <- err
		}()
		s.stop(t)
		require.ErrorIs(t, rawGet(t, left), io.EOF)
		require.NoFileExists(t, path)
	})
	t.Run("a listener without a descriptor is ErrUnsupported, and closed", func(t *testing.T) {
		s := startIdle(t, nil)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		err = s.Serve(rawPlain{ln})
		require.ErrorIs(t, err, ErrUnsupported)
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
		s.serve(func() net.Listener {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			return ln
		}())
		s.connect(t)
	})
}

func TestServeContext(t *testing.T) {
	listen := func(t *testing.T) net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return ln
	}
	t.Run("it ends when its context does, as with Stop", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		s := &rawServer{Server: NewServer(rawQuiet(nil)), t: t, served: make(chan error, 1)}
		ln := listen(t)
		s.network, s.address = ln.Addr().Network(), ln.Addr().String()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { s.served <- s.ServeContext(ctx, ln) }()
		c := s.connect(t)
		cancel()
		c.expectClose(StatusGone)
		require.NoError(t, rawGet(t, s.served))
		require.Nil(t, s.Addr())
		_, err := net.Dial(s.network, s.address)
		require.Error(t, err, "the listener is closed")
	})
	t.Run("it does not begin where its context has ended", func(t *testing.T) {
		checkDescriptors(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		ln := listen(t)
		require.NoError(t, NewServer(rawQuiet(nil)).ServeContext(ctx, ln))
		_, err := ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
	})
	t.Run("Stop ends it too, and its context then ends nothing else", func(t *testing.T) {
		s := startServer(t, nil)
		s.stop(t)
		ctx, cancel := context.WithCancel(context.Background())
		ln := listen(t)
		s.served = make(chan error, 1)
		go func() { s.served <- s.ServeContext(ctx, ln) }()
		require.True(t, eventually(func() bool { return s.Addr() != nil }))
		s.stop(t)
		s.restart(t)
		cancel()
		s.connect(t)
	})
}

func TestStop(t *testing.T) {
	t.Run("it may come before Start, and twice", func(t *testing.T) {
		s := startIdle(t, &ServerOptions{HandleText: rawEcho})
		s.Stop()
		s.Stop()
		s.restart(t)
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
		c.rawLeave()
		s.stop(t)
		s.Stop()
	})
	t.Run("it may come while Start is under way", func(t *testing.T) {
		s := startIdle(t, &ServerOptions{Address: "127.0.0.1:0"})
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
	t.Run("many at once all return", func(t *testing.T) {
		s := startServer(t, nil)
		for range 8 {
			s.connect(t).rawLeave()
		}
		rawAll(t, 16, func(int) error {
			s.Stop()
			return nil
		})
	})
	t.Run("clients get what was sent before it, and a Close frame with 1001", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		const peers = 16
		conns := make([]*rawConn, peers)
		for i := range conns {
			conns[i] = s.connect(t)
			require.NoError(t, Send(rawGet(t, added), NewFrameText(false, rawPattern(1<<20, i))))
		}
		stopped := make(chan struct{})
		go func() {
			s.Stop()
			close(stopped)
		}()
		for i, c := range conns {
			c.expectText(string(rawPattern(1<<20, i)))
			c.expectClose(StatusGone)
			c.Close()
		}
		rawDone(t, stopped)
		for range peers {
			rawGet(t, removed)
		}
		require.Zero(t, s.Clients.Len())
	})
	t.Run("the server starts again with what it had", func(t *testing.T) {
		s := startServer(t, nil)
		require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *Request) Response {
			return Response{Code: 200}
		}))
		for range 5 {
			c := s.connect(t)
			c.text(`{"id":1,"method":"GET","target":"/"}`)
			c.expectText(`{"message":"","body":"","id":1,"code":200}`)
			c.Close()
			s.stop(t)
			_, err := s.rawOpen()
			require.Error(t, err, "nothing listens")
			s.restart(t)
		}
	})
	t.Run("clients in their handshake are closed", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		s := startServer(t, &ServerOptions{HandleAuth: func(*Handshake) (context.Context, error) {
			inside <- struct{}{}
			<-release
			return nil, nil
		}})
		now := rawRelease(t, release)
		silent, half, auth := s.dial(t), s.dial(t), s.dial(t)
		half.send([]byte(rawRequest[:50]))
		auth.send([]byte(rawRequest))
		rawGet(t, inside)
		s.stop(t)
		for _, c := range []*rawConn{silent, half, auth} {
			c.expectEOF()
		}
		now()
	})
	t.Run("handlers that block for ever do not hold it up, and Remove comes when they return", func(t *testing.T) {
		const peers = 24
		inside := make(chan struct{}, peers)
		release := make(chan struct{})
		opts := &ServerOptions{HandleText: func(conn int, p []byte) {
			inside <- struct{}{}
			<-release
			rawEcho(conn, p)
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		now := rawRelease(t, release)
		conns := make([]*rawConn, peers)
		for i := range conns {
			conns[i] = s.connect(t)
			conns[i].text("x")
			rawGet(t, inside)
		}
		s.stop(t)
		require.Empty(t, removed)
		for _, c := range conns {
			c.expectClose(StatusGone)
		}
		s.restart(t) // on the same numbers, perhaps
		c := s.connect(t)
		now()
		for range peers {
			rawGet(t, removed)
		}
		c.text("after")
		c.expectText("after")
		require.Empty(t, removed)
	})
	t.Run("a peer that takes nothing holds it up for the write time-out at most", func(t *testing.T) {
		opts := &ServerOptions{WriteTimeout: time.Second}
		added := rawAdded(opts)
		s := startServer(t, opts)
		s.connect(t)
		rawFill(t, rawGet(t, added), NewFrameText(false, rawPattern(8<<10, 0)))
		s.stop(t)
	})
	t.Run("connections that come and go all the while are all ended", func(t *testing.T) {
		var adds, removes atomic.Int32
		opts := &ServerOptions{HandleText: rawEcho,
			HandleClientAdd:    func(context.Context, int) { adds.Add(1) },
			HandleClientRemove: func(context.Context, int) { removes.Add(1) },
		}
		s := startIdle(t, opts)
		for range 5 {
			s.restart(t)
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
						c, err := s.rawJoin()
						if err != nil {
							continue
						}
						c.Write(NewFrameText(true, []byte("x")))
						c.rawFrame()
						c.reset()
						select {
						case begun <- struct{}{}:
						default:
						}
					}
				})
			}
			for range 20 {
				rawGet(t, begun)
			}
			s.stop(t)
			close(quit)
			peers.Wait()
			require.True(t, eventually(func() bool { return adds.Load() == removes.Load() }))
			require.Zero(t, s.Clients.Len())
		}
		require.Positive(t, adds.Load())
	})
}

func TestHugeOptions(t *testing.T) {
	const longest = time.Duration(math.MaxInt64)
	s := startServer(t, &ServerOptions{
		HandleText:       rawEcho,
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
	c := s.connect(t)
	c.text("x")
	c.expectText("x")
}

// The program may have the listener's socket under another number, and make it block.
func TestBlockingListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	file, err := ln.(*net.TCPListener).File()
	require.NoError(t, err)
	defer file.Close()
	serv := NewServer(&ServerOptions{HandleText: rawEcho})
	served := make(chan error, 1)
	go func() { served <- serv.Serve(ln) }()
	s := &rawServer{t: t, network: "tcp", address: ln.Addr().String()}
	for range 3 {
		require.NoError(t, unix.SetNonblock(int(file.Fd()), false))
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
		c.Close()
	}
	runtime.GC() // hangs where a loop waits in a raw call
	serv.Stop()
	require.NoError(t, rawGet(t, served))
}
