// Package deflate has the standard codec of permessage-deflate go through the cases that every codec goes through.
package deflate

import (
	"testing"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/internal/deflatecases"
)

func TestStandardDeflate(t *testing.T) {
	codec := websocket.StandardDeflate()
	deflatecases.Run(t, codec)
	t.Run("it inflates what it compressed", func(t *testing.T) { deflatecases.RoundTrip(t, codec, codec) })
	t.Run("zlib understands it, and it zlib", func(t *testing.T) { deflatecases.Zlib(t, codec) })
}

func BenchmarkDeflate(b *testing.B) { deflatecases.Bench(b, websocket.StandardDeflate()) }
