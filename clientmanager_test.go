//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// clientsModel is a ClientManager in the plainest way.
type clientsModel map[*conn]bool

// requireSame compares a manager of connections without sockets with the model.
func (m clientsModel) requireSame(t *testing.T, cls *ClientManager, users uint64) {
	t.Helper()
	var all []int
	ofUser := make(map[uint64][]int)
	for c := range m {
		all = append(all, c.fd())
		if c.uid != 0 {
			ofUser[c.uid] = append(ofUser[c.uid], c.fd())
		}
	}
	require.ElementsMatch(t, all, cls.All())
	require.Equal(t, len(all), cls.Len())
	require.Equal(t, len(ofUser), cls.Users())
	for uid := range users + 1 {
		require.ElementsMatch(t, ofUser[uid], cls.Conns(uid))
	}
}

func TestClientManager(t *testing.T) {
	t.Run("what comes and goes in any order is there, once, and then not any more", func(t *testing.T) {
		for _, size := range []int{1, 2, 10, 3 * clientShards, 1000} {
			cls := newBenchClients(t, size)
			in := make(clientsModel)
			for i := range cls.conns {
				in[&cls.conns[i]] = true
			}
			in.requireSame(t, cls.ClientManager, cls.users)
			random := rand.New(rand.NewPCG(1, uint64(size)))
			for step := range 4 * size {
				c := &cls.conns[random.IntN(size)]
				if in[c] {
					cls.remove(c)
					delete(in, c)
				} else if step%2 == 0 {
					cls.add(c)
					in[c] = true
				} else {
					cls.remove(c) // that is not there
				}
				if step%(size/8+1) == 0 {
					in.requireSame(t, cls.ClientManager, cls.users)
				}
			}
			for i := range cls.conns {
				cls.remove(&cls.conns[i])
			}
			clientsModel{}.requireSame(t, cls.ClientManager, cls.users)
			require.Zero(t, cls.filled.Load())
		}
	})
	t.Run("those without a user are spread too, and found by All only", func(t *testing.T) {
		cls := newBenchClients(t, 0)
		for i := range cls.spare {
			cls.spare[i].uid = 0
			cls.add(&cls.spare[i])
		}
		require.Len(t, cls.All(), len(cls.spare))
		require.Zero(t, cls.Users())
		require.Empty(t, cls.Conns(0))
		for i := range cls.shards {
			require.Less(t, len(cls.shards[i].ids), len(cls.spare)/4)
		}
	})
	t.Run("users whose ids have a pattern are spread", func(t *testing.T) {
		for _, step := range []uint64{1, 2, 10, 64, 1000, 1 << 20, 1 << 32, 1<<32 + 1} {
			used := make(map[int]int)
			for i := range uint64(64 * clientShards) {
				used[shardIndex(i*step)]++
			}
			for index, users := range used {
				require.Less(t, users, 64*clientShards/4, "shard %d of multiples of %d", index, step)
			}
		}
	})
	t.Run("who is there all the time is in every list while others come and go", func(t *testing.T) {
		cls := newBenchClients(t, 200)
		defer benchBeside(cls.change)()
		for range 200 {
			all := cls.All()
			for i := range cls.conns {
				c := &cls.conns[i]
				require.Contains(t, cls.Conns(c.uid), c.fd())
			}
			require.GreaterOrEqual(t, len(all), len(cls.conns))
			slices.Sort(all)
			require.Equal(t, benchDescriptors, all[0])
			require.Equal(t, benchDescriptors+len(cls.conns)-1, all[len(cls.conns)-1])
			require.Equal(t, len(all), len(slices.Compact(all)), "none is there twice")
			require.EqualValues(t, cls.users, cls.Users())
		}
	})
	t.Run("sending to one that has gone meanwhile fails for it alone", func(t *testing.T) {
		cls := newBenchClients(t, 3)
		gone := &cls.conns[1]
		descriptors.set(gone.fd(), tombstone)
		sent, failed := cls.SendAll(nil)
		require.Equal(t, 2, sent)
		require.Equal(t, map[int]error{gone.fd(): ErrConnClosed}, failed)
		descriptors.set(gone.fd(), gone)
	})
}

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
