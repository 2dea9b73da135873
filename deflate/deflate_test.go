package deflate

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/internal/deflatecases"
)

func TestCodec(t *testing.T) {
	standard := websocket.StandardDeflate()
	deflatecases.Run(t, Codec(0))
	for level := 1; level <= 9; level++ {
		t.Run(fmt.Sprintf("level %d", level), func(t *testing.T) {
			codec := Codec(level)
			t.Run("the standard codec inflates what it compressed", func(t *testing.T) { deflatecases.RoundTrip(t, codec, standard) })
			if level == defaultLevel || level == 9 { // the two kinds of encoders
				t.Run("zlib understands it, and it zlib", func(t *testing.T) { deflatecases.Zlib(t, codec) })
			}
		})
	}
	t.Run("it inflates what the standard codec compressed", func(t *testing.T) { deflatecases.RoundTrip(t, standard, Codec(0)) })
}

func TestLevels(t *testing.T) {
	for level, same := range map[int]int{-1 << 31: 1, -1: 1, 0: 4, 10: 9, 1<<31 - 1: 9} {
		assert.Equal(t, Codec(same), Codec(level), "level %d", level)
	}
	assert.True(t, Codec(0).TakesDict())
}

// FuzzDeflate has every codec inflate what every other one compressed, after a history.
func FuzzDeflate(f *testing.F) {
	f.Add([]byte("Hello, Hello"), []byte("Hello"), 5)
	f.Add(deflatecases.Noise(300), deflatecases.Noise(300)[7:], 7) // what is stored must not be the history
	f.Add(deflatecases.Orders(2)[1], deflatecases.Orders(1)[0], 1)
	f.Fuzz(func(t *testing.T, payload, dict []byte, level int) {
		dict = dict[max(len(dict)-32<<10, 0):]
		codecs := []websocket.DeflateCodec{websocket.StandardDeflate(), Codec(level % 10), Codec(0)}
		for _, from := range codecs {
			compressed, err := from.Deflate(nil, payload, dict)
			require.NoError(t, err)
			for _, to := range codecs {
				after := dict
				if !from.TakesDict() {
					after = nil
				}
				out, err := to.Inflate(nil, compressed, after, len(payload))
				require.NoError(t, err)
				require.True(t, bytes.Equal(payload, out))
			}
		}
	})
}

func BenchmarkDeflate(b *testing.B) {
	for _, level := range []int{1, 4, 5, 6, 7, 9} {
		b.Run(fmt.Sprintf("level%d", level), func(b *testing.B) { deflatecases.Bench(b, Codec(level)) })
	}
}
