package websocket

import (
	"bytes"
	"compress/flate"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCompressionDefaults(t *testing.T) {
	for _, row := range []struct {
		name            string
		set             Compression
		minSize, window int
	}{
		{"nothing is set", Compression{}, 128, 4096},
		{"no context takeover", Compression{Window: -1}, 128, -1},
		{"no context takeover, far below zero", Compression{Window: -1 << 31}, 128, -1},
		{"messages of any size", Compression{MinSize: -1}, -1, 4096},
		{"messages of one byte", Compression{MinSize: 1}, 1, 4096},
		{"a window below the least", Compression{Window: 1}, 128, 256},
		{"the least window", Compression{Window: 256}, 128, 256},
		{"a window of no power of two", Compression{Window: 511}, 128, 256},
		{"a window of the next", Compression{Window: 512}, 128, 512},
		{"just less than the largest window", Compression{Window: 32<<10 - 1}, 128, 16 << 10},
		{"the largest window", Compression{Window: 32 << 10}, 128, 32 << 10},
		{"a window above the largest", Compression{Window: 1<<31 - 1}, 128, 32 << 10},
	} {
		t.Run(row.name, func(t *testing.T) {
			filled := row.set.filled()
			assert.Equal(t, Compression{Codec: StandardDeflate(), MinSize: row.minSize, Window: row.window}, filled)
			assert.Equal(t, filled, filled.filled(), "filled in twice, as options are")
			if row.minSize > 0 {
				assert.Equal(t, filled, filled.filled())
			}
		})
	}
	t.Run("a codec of one's own stays", func(t *testing.T) {
		assert.Equal(t, dictDeflate{}, Compression{Codec: dictDeflate{}}.filled().Codec)
	})
	t.Run("a window has a power of two", func(t *testing.T) {
		assert.Equal(t, []int{8, 12, 15}, []int{windowBits(256), windowBits(4096), windowBits(32768)})
	})
}

// dictDeflate is a codec with context takeover. It makes an encoder for each message.
type dictDeflate struct{ DeflateCodec }

func (dictDeflate) TakesDict() bool { return true }

func (dictDeflate) Deflate(dst, payload, dict []byte) ([]byte, error) {
	if len(dict) > maxWindow {
		return nil, errors.New("the history is too long")
	}
	var out bytes.Buffer
	writer, err := flate.NewWriter(&out, 6)
	if err != nil {
		return nil, err
	}
	for _, part := range [][]byte{dict, payload} { // NewWriterDict may write the history too: golang.org/issue/80538
		out.Reset()
		if _, err := writer.Write(part); err != nil {
			return nil, err
		}
		if err := writer.Flush(); err != nil {
			return nil, err
		}
	}
	return append(dst, bytes.TrimSuffix(out.Bytes(), []byte(deflateTail))...), nil
}

// deflatePayload returns n bytes with words that come back, near and far.
func deflatePayload(n int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	var payload []byte
	for len(payload) < n {
		word := []byte(strings.Repeat("qwertyuiop", 2)[random.IntN(8):][:4])
		if len(payload) > 40_000 {
			word = payload[random.IntN(len(payload)-16):][:16]
		}
		payload = append(payload, byte(random.Uint32()))
		payload = append(payload, word...)
	}
	return payload[:n]
}

func TestDeflateWithin(t *testing.T) {
	codecs := map[string]DeflateCodec{"a codec that takes a history": dictDeflate{}, "one that takes none": StandardDeflate()}
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			for bits := 8; bits <= 15; bits++ {
				window := 1 << bits
				for _, size := range []int{0, 1, window/2 - 1, window / 2, window/2 + 1, window, window + 1, 3*window + 7} {
					for _, before := range []int{0, window / 2, maxWindow} {
						all := deflatePayload(before + size)
						dict, payload := all[:before], all[before:]
						out, err := deflateWithin(codec, []byte("before"), payload, dict, window)
						require.NoError(t, err)
						require.True(t, bytes.HasPrefix(out, []byte("before")))
						plain, err := windowInflate(out[len("before"):], lastBytes(dict, window), window)
						require.NoError(t, err, "window %d, %d bytes after %d", window, size, before)
						require.True(t, bytes.Equal(payload, plain))
						plain, err = StandardDeflate().Inflate(nil, out[len("before"):], lastBytes(dict, window), size)
						require.NoError(t, err)
						require.True(t, bytes.Equal(payload, plain))
					}
				}
			}
		})
	}

	for name, codec := range codecs {
		t.Run(name+" would reach farther alone", func(t *testing.T) {
			far := []byte("something that comes back far behind where it was before, and is long enough for that to be found")
			payload := append(append(bytes.Clone(far), make([]byte, 500)...), far...)
			out, err := codec.Deflate(nil, payload, nil)
			require.NoError(t, err)
			_, err = windowInflate(out, nil, 512)
			assert.Error(t, err)
			out, err = deflateWithin(codec, nil, payload, nil, 512)
			require.NoError(t, err)
			_, err = windowInflate(out, nil, 512)
			assert.NoError(t, err)
		})
	}

	t.Run("a message after a history is one piece", func(t *testing.T) {
		calls := 0
		_, err := deflateWithin(countingDeflate{dictDeflate{}, &calls}, nil, deflatePayload(180), deflatePayload(4096), 4096)
		require.NoError(t, err)
		assert.Equal(t, 1, calls)
	})

	t.Run("an error of the codec is passed on", func(t *testing.T) {
		for _, takes := range []bool{false, true} {
			_, err := deflateWithin(failingDeflate{takes: takes}, nil, deflatePayload(5000), nil, 256)
			assert.ErrorIs(t, err, errFailingDeflate)
		}
	})
}

type countingDeflate struct {
	DeflateCodec
	calls *int
}

func (c countingDeflate) Deflate(dst, payload, dict []byte) ([]byte, error) {
	*c.calls++
	return c.DeflateCodec.Deflate(dst, payload, dict)
}

type failingDeflate struct {
	DeflateCodec
	takes bool
}

var errFailingDeflate = errors.New("no")

func (c failingDeflate) TakesDict() bool { return c.takes }
func (failingDeflate) Deflate(dst, _, _ []byte) ([]byte, error) {
	return dst, errFailingDeflate
}

func TestHistory(t *testing.T) {
	for _, size := range []int{256, 512, 4096, 32 << 10} {
		for _, step := range []int{1, 125, 126, 127, 180, size - 1, size, size + 1, 3*size + 5} {
			all := deflatePayload(4*size + 3*step)
			h := newHistory(size)
			for at := 0; at+step <= len(all); at += step {
				h.add(all[at : at+step])
				require.LessOrEqual(t, cap(h.ring), size)
				if step == 1 && at%97 != 0 {
					continue
				}
				require.True(t, bytes.Equal(lastBytes(all[:at+step], size), h.appendTo(nil)), "size %d, by %d, at %d", size, step, at)
			}
		}
	}

	t.Run("without a size it keeps nothing", func(t *testing.T) {
		for _, h := range []history{{}, newHistory(0), newHistory(-1)} {
			h.add([]byte("something"))
			assert.Empty(t, h.appendTo(nil))
			assert.Nil(t, h.ring)
		}
	})
	t.Run("it takes memory as bytes come", func(t *testing.T) {
		h := newHistory(4096)
		h.add(nil)
		assert.Zero(t, cap(h.ring))
		for _, row := range []struct{ add, room int }{{180, 256}, {76, 256}, {1, 512}, {1000, 2048}, {1000, 4096}, {10000, 4096}} {
			h.add(make([]byte, row.add))
			assert.Equal(t, row.room, cap(h.ring))
		}
	})
	t.Run("it appends", func(t *testing.T) {
		h := newHistory(256)
		h.add([]byte("after"))
		assert.Equal(t, "before, after", string(h.appendTo([]byte("before, "))))
	})
	t.Run("full it takes no memory for a message", func(t *testing.T) {
		h, payload := newHistory(4096), make([]byte, 180)
		h.add(make([]byte, 4096))
		assert.Zero(t, testing.AllocsPerRun(100, func() { h.add(payload) }))
	})
	t.Run("it is small itself", func(t *testing.T) {
		assert.LessOrEqual(t, unsafe.Sizeof(history{}), uintptr(32))
	})
}

func TestStandardDeflateSteps(t *testing.T) {
	long, err := StandardDeflate().Deflate(nil, make([]byte, 200_000), nil)
	require.NoError(t, err)
	short, err := StandardDeflate().Deflate(nil, make([]byte, shortMessage), nil)
	require.NoError(t, err)

	t.Run("long messages wait for each other, short ones for none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			codec := newStandardCodec(1)
			codec.long <- struct{}{} // as if one were being inflated
			var done []byte
			go func() { done, _ = codec.Inflate(nil, long, nil, 200_000) }()
			synctest.Wait()
			assert.Nil(t, done)
			out, err := codec.Inflate(nil, short, nil, 1<<20)
			assert.NoError(t, err)
			assert.Len(t, out, shortMessage)
			<-codec.long
			synctest.Wait()
			assert.Len(t, done, 200_000)
			assert.Empty(t, codec.long)
		})
	})

	t.Run("what it inflates stands behind what was there", func(t *testing.T) {
		for _, size := range []int{10, shortMessage, 200_000, 2 << 20} {
			for _, payload := range [][]byte{deflatePayload(size), make([]byte, size)} {
				compressed, err := StandardDeflate().Deflate(nil, payload, nil)
				require.NoError(t, err)
				for _, dst := range [][]byte{nil, []byte("before"), append(make([]byte, 0, 3<<20), "before"...)} {
					out, err := StandardDeflate().Inflate(dst, compressed, nil, size)
					require.NoError(t, err)
					require.True(t, bytes.HasPrefix(out, dst) && bytes.Equal(payload, out[len(dst):]))
				}
			}
		}
	})

	t.Run("memory grows with what was sent, and is near the size of the message", func(t *testing.T) {
		payload := deflatePayload(3 << 20)
		compressed, err := StandardDeflate().Deflate(nil, payload, nil)
		require.NoError(t, err)
		out, err := StandardDeflate().Inflate(nil, compressed, nil, 16<<20)
		require.NoError(t, err)
		assert.Less(t, cap(out), len(payload)*3/2)
	})

	t.Run("a short message is one allocation", func(t *testing.T) {
		if raced() {
			t.Skip("with the race detector pools forget at random")
		}
		compressed, err := StandardDeflate().Deflate(nil, deflatePayload(180), nil)
		require.NoError(t, err)
		assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = StandardDeflate().Inflate(nil, compressed, nil, 1<<20) }), 1.0)
		room := make([]byte, 0, 512)
		assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = StandardDeflate().Deflate(room, compressed, nil) }))
	})

	t.Run("a window is kept over BFINAL where the output is thrown away", func(t *testing.T) {
		final := []byte("\x03\x00") // an empty block
		piece, err := dictDeflate{}.Deflate(nil, deflatePayload(maxWindow), nil)
		require.NoError(t, err)
		again, err := dictDeflate{}.Deflate(nil, deflatePayload(maxWindow), deflatePayload(maxWindow))
		require.NoError(t, err)
		message := append(append(bytes.Clone(piece), deflateTail...), final...)
		for range 40 {
			message = append(append(append(message, again...), deflateTail...), final...)
		}
		out, err := StandardDeflate().Inflate(nil, message, nil, 41*maxWindow)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(bytes.Repeat(deflatePayload(maxWindow), 41), out))
	})
}
