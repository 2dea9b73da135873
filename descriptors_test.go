//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDescriptorTable(t *testing.T) {
	var table descriptorTable
	for _, fd := range []int{0, 1, 1<<chunkBits - 1, 1 << chunkBits, 1<<fdBits - 1} {
		assert.Nil(t, table.get(fd))
		c := &conn{stream: stream{nextID(fd)}}
		table.set(fd, c)
		assert.Same(t, c, table.get(fd))
		assert.Same(t, c, table.byID(c.id))
		assert.Equal(t, fd, c.fd())
		table.set(fd, &conn{stream: stream{nextID(fd)}})
		assert.Nil(t, table.byID(c.id), "an id outlived its connection")
		table.set(fd, nil)
		assert.Nil(t, table.byID(c.id))
	}
	for _, fd := range []int{-1, 1 << fdBits, math.MaxInt} {
		assert.Nil(t, table.get(fd))
	}
}

func TestIDsNeverRepeat(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var makers sync.WaitGroup
	for range 4 {
		makers.Go(func() {
			for range 1000 {
				id := nextID(5)
				mu.Lock()
				assert.False(t, seen[id])
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	makers.Wait()
}

// heldSocket returns a number for the quarantine.
func heldSocket(t *testing.T) int {
	t.Helper()
	fd, err := newPlaceholder()
	require.NoError(t, err)
	descriptors.set(fd, tombstone)
	return fd
}

func isTaken(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

func TestQuarantine(t *testing.T) {
	t.Run("holds numbers within its budget for as long as it can", func(t *testing.T) {
		q := quarantine{budget: 2}
		t.Cleanup(q.end)
		a, b := heldSocket(t), heldSocket(t)
		q.hold(a)
		q.hold(b)
		q.held[0].since -= 1000 * int64(minHold)
		assert.Equal(t, int64(never), q.trim())
		assert.True(t, isTaken(a))
	})
	t.Run("gives the oldest back beyond its budget, but none before its time", func(t *testing.T) {
		q := quarantine{budget: 1}
		t.Cleanup(q.end)
		a, b, c := heldSocket(t), heldSocket(t), heldSocket(t)
		q.hold(a)
		q.hold(b)
		assert.Greater(t, q.trim(), now(), "will have to look again")
		assert.True(t, isTaken(a))
		q.held[0].since -= int64(minHold)
		q.hold(c)
		assert.False(t, isTaken(a))
		assert.Nil(t, descriptors.get(a))
		assert.True(t, isTaken(b))
		assert.Same(t, tombstone, descriptors.get(b))
	})
	t.Run("gives back whatever its age when descriptors run out", func(t *testing.T) {
		q := quarantine{budget: 10}
		t.Cleanup(q.end)
		a, b := heldSocket(t), heldSocket(t)
		q.hold(a)
		q.hold(b)
		assert.Equal(t, 1, q.evict(1))
		assert.False(t, isTaken(a))
		assert.Equal(t, 1, q.evict(5))
		assert.False(t, isTaken(b))
		assert.Zero(t, q.evict(5))
	})
	t.Run("holds nothing after its end", func(t *testing.T) {
		q := quarantine{budget: 10}
		a, b := heldSocket(t), heldSocket(t)
		q.hold(a)
		q.end()
		q.hold(b)
		assert.False(t, isTaken(a))
		assert.False(t, isTaken(b))
	})
}
