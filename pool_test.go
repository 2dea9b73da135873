//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Messages without packets, and buffers that are given back.

func TestPutBuffer(t *testing.T) {
	t.Run("a buffer comes back for a message of its size, and shows no more than that", func(t *testing.T) {
		for _, size := range []int{minSpare, 100, 128, 1000, 1 << 10, 16 << 10, 100_000, 1 << 20} {
			b := spareBuffer(size)
			for b == nil { // the collector, or another processor, may have it
				PutBuffer(make([]byte, 3, roundSize(size)))
				b = spareBuffer(size)
			}
			assert.Empty(t, b)
			assert.GreaterOrEqual(t, cap(b), size)
			assert.LessOrEqual(t, cap(b), size+size/8)
		}
	})
	t.Run("sizes that are not kept are taken all the same", func(t *testing.T) {
		for _, size := range []int{0, 1, minSpare - 1, maxSpare + 1} {
			PutBuffer(make([]byte, size))
			assert.Nil(t, spareBuffer(size))
		}
	})
	t.Run("the size of what is kept is bounded", func(t *testing.T) {
		for range 3 * maxSpares / maxSpare {
			PutBuffer(make([]byte, maxSpare))
		}
		s := spares.Get().(*spareBuffers)
		assert.LessOrEqual(t, s.bytes, maxSpares)
		spares.Put(s)
	})
}
