//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The contract that sys.go states, held by the poller and the system calls of the system that runs the tests, and compiled for
// all of them.

// socketPair returns two connected, non-blocking stream sockets.
func socketPair(t *testing.T) (a, b int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	for _, fd := range pair {
		require.NoError(t, unix.SetNonblock(fd, true))
		t.Cleanup(func() { unix.Close(fd) })
	}
	return pair[0], pair[1]
}

func startPoller(t *testing.T) *poller {
	t.Helper()
	p, err := newPoller()
	require.NoError(t, err)
	t.Cleanup(p.close)
	return p
}

// soon is a deadline that a passing test does not reach.
func soon() int64 { return now() + int64(10*time.Second) }

// waitFor waits until an event of the descriptor satisfies the condition.
func waitFor(t *testing.T, p *poller, fd int, condition func(readiness) bool) readiness {
	t.Helper()
	for until := soon(); now() < until; {
		n, err := p.wait(until)
		require.NoError(t, err)
		for i := range n {
			if ev := p.at(i); ev.fd == fd && condition(ev) {
				return ev
			}
		}
	}
	t.Fatal("no such event")
	return readiness{}
}

// quiet reports whether no event of the descriptor is there now.
func quiet(t *testing.T, p *poller, fd int) bool {
	t.Helper()
	n, err := p.wait(0)
	require.NoError(t, err)
	for i := range n {
		if p.at(i).fd == fd {
			return false
		}
	}
	return true
}

// fillSocket writes until the socket takes no more.
func fillSocket(t *testing.T, fd int) {
	t.Helper()
	for {
		if _, err := writeSocket(fd, make([]byte, 64<<10), false); err == errWouldBlock {
			return
		} else {
			require.NoError(t, err)
		}
	}
}

func readable(ev readiness) bool { return ev.readable }
func writable(ev readiness) bool { return ev.writable }
func hungUp(ev readiness) bool   { return ev.hangup }

func TestPollerReportsEachChangeOnce(t *testing.T) {
	p := startPoller(t)
	a, b := socketPair(t)
	require.NoError(t, p.add(a, 7))
	_, err := writeSocket(b, []byte("one"), false)
	require.NoError(t, err)
	ev := waitFor(t, p, a, readable)
	assert.Contains(t, []uint32{7, anyGeneration}, ev.gen)
	assert.False(t, ev.hangup)
	assert.True(t, quiet(t, p, a), "an event came twice for one change")
	_, err = writeSocket(b, []byte("two"), false)
	require.NoError(t, err)
	waitFor(t, p, a, readable)
}

func TestPollerReportsRoomOnceAskedFor(t *testing.T) {
	p := startPoller(t)
	a, b := socketPair(t)
	require.NoError(t, p.add(a, 1))
	fillSocket(t, a)
	p.wantWrite(a, 1)
	for !quiet(t, p, a) { // what was there before
	}
	buf := make([]byte, 1<<20)
	for {
		if _, err := readSocket(b, buf); err == errWouldBlock {
			break
		} else {
			require.NoError(t, err)
		}
	}
	waitFor(t, p, a, writable)
}

func TestPollerReportsTheEndOfThePeer(t *testing.T) {
	p := startPoller(t)
	a, b := socketPair(t)
	require.NoError(t, p.add(a, 1))
	halfCloseSocket(b)
	ev := waitFor(t, p, a, hungUp)
	assert.True(t, ev.readable)
	n, err := readSocket(a, make([]byte, 1))
	assert.NoError(t, err)
	assert.Zero(t, n)
}

func TestPollerWaitEnds(t *testing.T) {
	t.Run("at its deadline, any number of times", func(t *testing.T) {
		p := startPoller(t)
		for range 3 {
			until := now() + int64(time.Millisecond)
			for now() < until {
				n, err := p.wait(until)
				require.NoError(t, err)
				assert.Zero(t, n)
			}
		}
	})
	t.Run("by wake, also one that came before", func(t *testing.T) {
		p := startPoller(t)
		for range 3 {
			p.wake()
			n, err := p.wait(never)
			require.NoError(t, err)
			for i := range n {
				assert.Nil(t, descriptors.get(p.at(i).fd), "an event of the waker is none of a connection")
			}
			go p.wake()
			_, err = p.wait(never)
			require.NoError(t, err)
		}
	})
}

func TestPollerForgetsARemovedSocket(t *testing.T) {
	p := startPoller(t)
	a, b := socketPair(t)
	require.NoError(t, p.add(a, 1))
	p.remove(a)
	_, err := writeSocket(b, []byte("x"), false)
	require.NoError(t, err)
	assert.True(t, quiet(t, p, a))
}

func TestSocketCalls(t *testing.T) {
	t.Run("a read would block if nothing is there", func(t *testing.T) {
		a, _ := socketPair(t)
		_, err := readSocket(a, make([]byte, 1))
		assert.Equal(t, errWouldBlock, err)
	})
	t.Run("writing to a peer that is gone is an error, not a signal", func(t *testing.T) {
		a, b := socketPair(t)
		unix.Shutdown(b, unix.SHUT_RDWR)
		_, err := writeSocket(a, []byte("x"), false)
		assert.Equal(t, unix.EPIPE, err)
	})
	t.Run("waiting for room ends with the limit", func(t *testing.T) {
		a, _ := socketPair(t)
		fillSocket(t, a)
		assert.Equal(t, errWaitedTooLong, waitSocket(a, true, time.Millisecond))
	})
	t.Run("an error of a single connection does not stop accepting", func(t *testing.T) {
		_, err := acceptSocket(-1)
		assert.Equal(t, unix.EBADF, err)
	})
}

func TestCoveredSocketKeepsItsNumberAndTakesNothing(t *testing.T) {
	placeholder, err := newPlaceholder()
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(placeholder) })
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(pair[1]) })
	_, err = writeSocket(pair[0], []byte("last words"), false)
	require.NoError(t, err)
	require.NoError(t, coverSocket(pair[0], placeholder))

	buf := make([]byte, 64)
	n, err := readSocket(pair[1], buf)
	require.NoError(t, err)
	assert.Equal(t, "last words", string(buf[:n]))
	n, err = readSocket(pair[1], buf)
	assert.NoError(t, err)
	assert.Zero(t, n, "the peer sees the end")

	_, err = writeSocket(pair[0], []byte("x"), false)
	assert.Equal(t, unix.ENOTCONN, err)
	flags, err := unix.FcntlInt(uintptr(pair[0]), unix.F_GETFD, 0)
	require.NoError(t, err, "the number is taken")
	assert.NotZero(t, flags&unix.FD_CLOEXEC)
	closeDescriptor(pair[0])
}
