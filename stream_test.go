//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// streamPair returns the streams at both ends of a socket.
func streamPair(t *testing.T) (a, b *stream) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
	for _, fd := range pair {
		require.NoError(t, unix.SetNonblock(fd, true))
	}
	return &stream{nextID(pair[0])}, &stream{nextID(pair[1])}
}

func TestStream(t *testing.T) {
	buf := make([]byte, 100)
	t.Run("bytes arrive one by one, in their order", func(t *testing.T) {
		a, b := streamPair(t)
		for _, sent := range rawPattern(1000, 0) {
			n, err := a.write([]byte{sent}, false)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			n, err = b.read(buf)
			require.NoError(t, err)
			require.Equal(t, []byte{sent}, buf[:n])
		}
	})
	t.Run("if nothing has arrived there is no end", func(t *testing.T) {
		a, _ := streamPair(t)
		_, err := a.read(buf)
		require.ErrorIs(t, err, errWouldBlock)
	})
	t.Run("both parts are written as one", func(t *testing.T) {
		a, b := streamPair(t)
		n, more, err := a.writeParts([]byte("head "), []byte("body"))
		require.NoError(t, err)
		require.True(t, more)
		require.Equal(t, 9, n)
		n, err = b.read(buf)
		require.NoError(t, err)
		require.Equal(t, "head body", string(buf[:n]))
	})
	t.Run("a full socket takes what it takes, and more when there is room", func(t *testing.T) {
		a, b := streamPair(t)
		sent := rawPattern(8<<20, 0)
		left := sent
		n, err := a.write(left, false)
		require.NoError(t, err)
		require.NotZero(t, n)
		require.Less(t, n, len(left))
		left = left[n:]
		n, more, err := a.writeParts(left[:10], left[10:])
		require.NoError(t, err)
		require.Zero(t, n)
		require.False(t, more)
		var got []byte
		large := make([]byte, 64<<10)
		for len(got) < len(sent) {
			n, err := b.read(large)
			require.NoError(t, err)
			got = append(got, large[:n]...)
			n, err = a.write(left, false)
			require.NoError(t, err)
			left = left[n:]
		}
		require.Equal(t, sent, got)
	})
	t.Run("after the half-close the peer reads the end, and can still send", func(t *testing.T) {
		a, b := streamPair(t)
		_, err := a.write([]byte("last"), true)
		require.NoError(t, err)
		a.halfClose()
		n, err := b.read(buf)
		require.NoError(t, err)
		require.Equal(t, "last", string(buf[:n]))
		n, err = b.read(buf)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = b.write([]byte("answer"), false)
		require.NoError(t, err)
		n, err = a.read(buf)
		require.NoError(t, err)
		require.Equal(t, "answer", string(buf[:n]))
	})
	t.Run("a peer that is gone is an error, and costs no signal", func(t *testing.T) {
		a, b := streamPair(t)
		b.cover(-1, false)
		_, err := a.write([]byte("x"), false)
		require.Error(t, err)
		_, _, err = a.writeParts([]byte("x"), []byte("y"))
		require.Error(t, err)
	})
	t.Run("a covered number is the placeholder", func(t *testing.T) {
		placeholder, err := newPlaceholder()
		require.NoError(t, err)
		defer unix.Close(placeholder)
		a, b := streamPair(t)
		require.NoError(t, a.cover(placeholder, false))
		n, err := b.read(buf)
		require.NoError(t, err)
		assert.Zero(t, n, "the peer reads the end")
		_, err = a.write([]byte("x"), false)
		assert.Error(t, err, "and nothing written to the number reaches it")
	})
}
