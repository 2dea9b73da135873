package deflatecases

import (
	"bytes"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// Run holds a codec to what DeflateCodec says.
func Run(t *testing.T, codec websocket.DeflateCodec) {
	t.Run("examples inflate", func(t *testing.T) { runExamples(t, codec) })
	t.Run("what is invalid is an error", func(t *testing.T) { runInvalid(t, codec) })
	t.Run("limits hold", func(t *testing.T) { runLimits(t, codec) })
	t.Run("a message that is cut off anywhere is an error", func(t *testing.T) { runCuts(t, codec) })
	t.Run("what Deflate makes has the form of a message", func(t *testing.T) { runForm(t, codec) })
	t.Run("a bomb takes no memory", func(t *testing.T) { runBombs(t, codec) })
	t.Run("goroutines may use it at the same time", func(t *testing.T) { runAtOnce(t, codec) })
}

// RoundTrip has one codec inflate what another one compressed, for each payload and history.
func RoundTrip(t *testing.T, from, to websocket.DeflateCodec) {
	eachMessage(from, func(payload, history Sample, dict []byte) {
		compressed, err := from.Deflate([]byte("before"), payload.Bytes, dict)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(compressed, []byte("before")))
		out, err := to.Inflate([]byte("before"), compressed[len("before"):], history.Bytes, len(payload.Bytes))
		require.NoError(t, err, "%s after %s", payload.Name, history.Name)
		require.True(t, "before"+string(payload.Bytes) == string(out), "%s after %s", payload.Name, history.Name)
	})
}

func runExamples(t *testing.T, codec websocket.DeflateCodec) {
	for _, example := range Examples() {
		t.Run(example.Section+" "+example.Name, func(t *testing.T) {
			out, err := codec.Inflate(nil, []byte(example.Compressed), []byte(example.Dict), len(example.Payload))
			require.NoError(t, err)
			assert.Equal(t, example.Payload, string(out))
		})
	}
}

func runInvalid(t *testing.T, codec websocket.DeflateCodec) {
	for _, example := range Invalid() {
		t.Run(example.Section+" "+example.Name, func(t *testing.T) {
			_, err := codec.Inflate(nil, []byte(example.Compressed), []byte(example.Dict), 1<<20)
			require.Error(t, err)
			assert.NotErrorIs(t, err, websocket.ErrMessageTooLarge)
		})
	}
}

func runLimits(t *testing.T, codec websocket.DeflateCodec) {
	for _, payload := range Payloads() {
		compressed, err := codec.Deflate(nil, payload.Bytes, nil)
		require.NoError(t, err)
		size := len(payload.Bytes)
		for _, limit := range []int{size, size + 1, 1 << 30} {
			out, err := codec.Inflate(nil, compressed, nil, limit)
			require.NoError(t, err, payload.Name)
			require.True(t, bytes.Equal(payload.Bytes, out), payload.Name)
		}
		for _, limit := range []int{size - 1, size / 2, 0} {
			if limit >= 0 && limit < size {
				_, err := codec.Inflate(nil, compressed, nil, limit)
				require.ErrorIs(t, err, websocket.ErrMessageTooLarge, payload.Name)
			}
		}
	}
}

func runCuts(t *testing.T, codec websocket.DeflateCodec) {
	for _, payload := range Payloads() {
		if len(payload.Bytes) > 1000 { // more blocks than one: where one ends a message may end
			continue
		}
		compressed, err := codec.Deflate(nil, payload.Bytes, nil)
		require.NoError(t, err)
		for n := 1; n < len(compressed); n++ {
			out, err := codec.Inflate(nil, compressed[:n], nil, 1<<20)
			if err == nil && string(compressed[:n]) != "\x00" { // which is an empty message
				// What is behind a message is read as its next bytes (RFC 7692, section 7.2.2), even those of a block that is not compressed.
				assert.Equal(t, string(payload.Bytes[:max(len(payload.Bytes)-len(Tail), 0)])+Tail, string(out), "%s, %d bytes of it", payload.Name, n)
			}
		}
	}
}

func runForm(t *testing.T, codec websocket.DeflateCodec) {
	compressed, err := codec.Deflate(nil, nil, []byte("Hello"))
	require.NoError(t, err)
	assert.Equal(t, "\x00", string(compressed), "RFC 7692, section 7.2.3.6")
	for _, payload := range Payloads() {
		before := bytes.Clone(payload.Bytes)
		dst := make([]byte, 3, 5)
		compressed, err := codec.Deflate(dst, payload.Bytes, nil)
		require.NoError(t, err)
		assert.Equal(t, before, payload.Bytes)
		assert.Equal(t, string(dst), string(compressed[:3]))
		assert.NotEmpty(t, compressed[3:])
		assert.LessOrEqual(t, len(compressed), len(payload.Bytes)+len(payload.Bytes)/1000+20, payload.Name)
	}
}

// Bomb returns a message that inflates to so many MiB, at about a KB for each.
func Bomb(t testing.TB, mib int) []byte {
	piece, err := websocket.StandardDeflate().Deflate(nil, make([]byte, 1<<20), nil)
	require.NoError(t, err)
	bomb := strings.Repeat(string(piece)+Tail, mib)
	return []byte(strings.TrimSuffix(bomb, Tail))
}

func runBombs(t *testing.T, codec websocket.DeflateCodec) {
	bomb := Bomb(t, 256)
	require.Less(t, len(bomb), 2<<20)
	_, _ = codec.Inflate(nil, bomb, nil, 1<<20) // which fills the pools

	t.Run("many at the same time", func(t *testing.T) {
		taken := allocated(func() {
			var all sync.WaitGroup
			for range 32 {
				all.Go(func() {
					_, err := codec.Inflate(nil, bomb, nil, 4<<20)
					assert.ErrorIs(t, err, websocket.ErrMessageTooLarge)
				})
			}
			all.Wait()
		})
		assert.Less(t, taken, 4<<20)
	})

	t.Run("one that is just not too large takes its own size", func(t *testing.T) {
		bomb := Bomb(t, 8)
		taken := allocated(func() {
			out, err := codec.Inflate(nil, bomb, nil, 8<<20)
			require.NoError(t, err)
			require.Len(t, out, 8<<20)
		})
		assert.Less(t, taken, 9<<20)
	})

	t.Run("a small limit is no reason to inflate more", func(t *testing.T) {
		taken := allocated(func() {
			for _, limit := range []int{0, 1, 125, 126, 127, 65535, 65536} {
				_, err := codec.Inflate(nil, bomb, nil, limit)
				assert.ErrorIs(t, err, websocket.ErrMessageTooLarge)
			}
		})
		assert.Less(t, taken, 2<<20)
	})
}

// allocated returns how many bytes of memory f took, also of what it gave back.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

func runAtOnce(t *testing.T, codec websocket.DeflateCodec) {
	messages := Chat(200)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			var dict, compressed []byte
			for _, message := range messages {
				var err error
				compressed, err = codec.Deflate(compressed[:0], message, dict)
				assert.NoError(t, err)
				out, err := codec.Inflate(nil, compressed, dict, len(message))
				assert.NoError(t, err)
				assert.Equal(t, string(message), string(out))
				if codec.TakesDict() {
					dict = message
				}
			}
		})
	}
	all.Wait()
}
