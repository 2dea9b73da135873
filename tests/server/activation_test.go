//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// TestSocketActivation restarts a service over and over whose listening socket belongs to somebody else, as with systemd. Clients that
// come while there is no process wait: none is refused or reset, and each has its message answered.
func TestSocketActivation(t *testing.T) {
	peer.CheckGoroutines(t)
	peer.CheckDescriptors(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	socket, err := ln.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	s := &peer.Server{T: t, Network: "tcp", Address: ln.Addr().String()}
	ln.Close()

	var served atomic.Int64
	ctx, finish := context.WithCancel(t.Context())
	ends := make(chan error, 8)
	for range cap(ends) {
		go func() {
			var err error
			for err == nil && ctx.Err() == nil {
				if err = stays(s); err == nil {
					served.Add(1)
				}
			}
			ends <- err
		}()
	}
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestActivatedService$")
		cmd.ExtraFiles = []*os.File{socket} // the first is number 3
		cmd.Env = append(os.Environ(), "LISTEN_FDS=1")
		require.NoError(t, cmd.Start())
		before := served.Load()
		assert.True(t, peer.Eventually(func() bool { return served.Load() > before+10 }))
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		assert.NoError(t, cmd.Wait())
		require.Empty(t, ends)
	}
	finish()
	last := &peer.Server{T: t, Server: websocket.NewServer(peer.Quiet(&websocket.ServerOptions{HandleText: peer.Echo}))} // for those who wait
	own, err := net.FileListener(socket)
	require.NoError(t, err)
	last.ServeOn(own)
	for range cap(ends) {
		assert.NoError(t, peer.Get(t, ends))
	}
	last.StopAndWait(t)
}

// TestActivatedService is that service.
func TestActivatedService(t *testing.T) {
	if n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS")); n != 1 {
		t.Skip("it needs a process of its own")
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	defer signal.Stop(terms)
	file := os.NewFile(3, "socket")
	ln, err := net.FileListener(file)
	require.NoError(t, err)
	file.Close()
	serv := websocket.NewServer(peer.Quiet(&websocket.ServerOptions{HandleText: peer.Echo}))
	served := make(chan error, 1)
	go func() { served <- serv.Serve(ln) }()
	select {
	case <-terms:
	case <-time.After(3 * peer.Wait):
		require.FailNow(t, "nobody ends the service")
	}
	serv.CloseListener()
	require.NoError(t, serv.Shutdown(t.Context()))
	require.NoError(t, peer.Get(t, served))
}
