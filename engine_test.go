//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// engineStart returns an engine without a listener that echoes text.
func engineStart(t *testing.T) *engine {
	opts := ServerOptions{HandleText: func(conn int, p []byte) { Send(conn, NewFrameText(false, p)) }}
	opts.fill()
	e := newEngine(opts, false, 0, new(ClientManager))
	require.NoError(t, e.start(nil))
	return e
}

// enginePair returns both ends of a socket: one to be adopted, one that blocks.
func enginePair(t *testing.T) (ours, peer int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(pair[0], true))
	return pair[0], pair[1]
}

func engineSend(t *testing.T, fd int, packet []byte) {
	n, err := writeSocket(fd, packet, false)
	require.NoError(t, err)
	require.Equal(t, len(packet), n)
}

// engineExpect reads as many bytes as are wanted.
func engineExpect(t *testing.T, fd int, want []byte) {
	var got []byte
	buf := make([]byte, 1024)
	for len(got) < len(want) {
		n, err := unix.Read(fd, buf)
		require.NoError(t, err)
		require.NotZero(t, n, "the end of the stream")
		got = append(got, buf[:n]...)
	}
	require.Equal(t, string(want), string(got))
}

func TestEngineWithoutAListener(t *testing.T) {
	checkGoroutines(t)
	checkDescriptors(t)
	e := engineStart(t)
	ours, peer := enginePair(t)
	defer unix.Close(peer)
	require.True(t, e.adopt(ours))
	engineSend(t, peer, []byte(rawRequest))
	engineExpect(t, peer, []byte(rawAccepted))
	engineSend(t, peer, NewFrameText(true, []byte("x")))
	engineExpect(t, peer, NewFrameText(false, []byte("x")))
	assert.Equal(t, 1, e.clients.Len())
	e.stop()
	engineExpect(t, peer, NewFrameClose(false, StatusGone, nil))
	unix.Close(peer)
	<-e.done
	assert.Zero(t, e.clients.Len())
	assert.Zero(t, e.connections.Load())
}

// TestEngineAdoptsUntilItStops has goroutines bring connections while the engine stops: each is served or refused, and none is left.
func TestEngineAdoptsUntilItStops(t *testing.T) {
	checkGoroutines(t)
	checkDescriptors(t)
	const adopters, each = 8, 50
	e := engineStart(t)
	var wg sync.WaitGroup
	for i := range adopters {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range each {
				pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				if !assert.NoError(t, err) {
					return
				}
				unix.SetNonblock(pair[0], true)
				e.adopt(pair[0])
				unix.Close(pair[1])
			}
		}()
		if i == adopters/2 {
			e.stop()
		}
	}
	wg.Wait()
	<-e.done
	assert.Zero(t, e.connections.Load())
	assert.Zero(t, e.entrances.Load())
	ours, peer := enginePair(t)
	defer unix.Close(peer)
	assert.False(t, e.adopt(ours), "it has ended")
	n, err := unix.Read(peer, make([]byte, 1))
	assert.NoError(t, err)
	assert.Zero(t, n, "the socket was closed")
}

// TestDeadlinesAreTheRegister drives a loop by hand.
func TestDeadlinesAreTheRegister(t *testing.T) {
	l, lease := serveLoop(t, nil)
	l.placeholder = -1
	serveAll := func() {
		l.collect()
		for c := l.agenda.next(); c != nil; c = l.agenda.next() {
			l.serve(lease, c)
		}
	}
	var conns []*conn
	var peers []int
	for range 4 {
		ours, peer := enginePair(t)
		defer unix.Close(peer)
		require.True(t, l.adopt(ours))
		conns, peers = append(conns, descriptors.get(ours)), append(peers, peer)
	}
	require.Empty(t, l.deadlines)
	engineSend(t, peers[0], []byte(rawRequest))
	serveAll()
	require.Len(t, l.deadlines, 4, "opening or open")
	require.True(t, conns[0].isOpen())
	conns[1].mu.Lock()
	conns[1].stepLocked(factRequest) // HandleAuth takes its time
	conns[1].postLocked()
	conns[1].mu.Unlock()
	serveAll()
	require.Equal(t, int64(never), l.deadlines[conns[1].heapIndex].due)
	require.Len(t, l.deadlines, 4, "without a deadline too")
	l.endAll()
	serveAll()
	for _, c := range conns {
		require.True(t, c.hasEnded())
	}
	for _, peer := range peers {
		unix.Shutdown(peer, unix.SHUT_WR)
	}
	for len(l.deadlines) > 0 {
		serveAll()
	}
	require.Zero(t, l.connections.Load())
	for _, c := range conns {
		require.False(t, c.hasSocket())
	}
}

// TestWakeOfALoopThatHasEnded has the numbers of its poller be somebody else's.
func TestWakeOfALoopThatHasEnded(t *testing.T) {
	e := engineStart(t)
	e.stop()
	<-e.done
	var others []int
	for range 16 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		for _, fd := range pair {
			require.NoError(t, unix.SetNonblock(fd, true))
			defer unix.Close(fd)
			others = append(others, fd)
		}
	}
	for _, l := range e.loops {
		l.asleep.Store(true) // as whoever wakes it may have seen it
		l.wake()
	}
	for _, fd := range others {
		_, err := readSocket(fd, make([]byte, 10))
		require.ErrorIs(t, err, errWouldBlock)
	}
}
