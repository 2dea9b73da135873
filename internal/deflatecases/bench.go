package deflatecases

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// stream is what a connection sends, one message after the other.
type stream struct {
	messages [][]byte
	plain    []byte // all of it

	compressed [][]byte
	dicts      [][]byte
}

// newStream compresses messages with a history of so many bytes.
func newStream(b *testing.B, codec websocket.DeflateCodec, messages [][]byte, history int) *stream {
	s := &stream{messages: messages, plain: bytes.Join(messages, nil)}
	at := 0
	for _, message := range messages {
		dict := s.plain[max(at-history, 0):at]
		compressed, err := codec.Deflate(nil, message, dict)
		require.NoError(b, err)
		s.dicts, s.compressed = append(s.dicts, dict), append(s.compressed, compressed)
		at += len(message)
	}
	return s
}

// ratio returns the bytes of all frames from a server, divided by those without compression.
func (s *stream) ratio() float64 {
	compressed, plain := 0, 0
	for i, message := range s.messages {
		compressed += len(websocket.NewFrame(websocket.OpcodeBin, false, s.compressed[i]))
		plain += len(websocket.NewFrame(websocket.OpcodeBin, false, message))
	}
	return float64(compressed) / float64(plain)
}

// Bench measures a codec with 1,000 messages of about 180 bytes, without a history and, if it takes one, with 4 KiB. The ratio is that
// of the bytes on the wire.
func Bench(b *testing.B, codec websocket.DeflateCodec) {
	for _, set := range []struct {
		name     string
		messages [][]byte
	}{{"orders", Orders(1000)}, {"chat", Chat(1000)}} {
		b.Run(set.name, func(b *testing.B) { benchSet(b, codec, set.messages, 0) })
		if codec.TakesDict() {
			b.Run(set.name+"-4KiB", func(b *testing.B) { benchSet(b, codec, set.messages, 4<<10) })
		}
	}
}

func benchSet(b *testing.B, codec websocket.DeflateCodec, messages [][]byte, history int) {
	s := newStream(b, codec, messages, history)
	b.Run("Deflate", func(b *testing.B) {
		b.ReportAllocs()
		var out []byte
		for i := 0; b.Loop(); i++ {
			out, _ = codec.Deflate(out[:0], s.messages[i%len(messages)], s.dicts[i%len(messages)])
		}
		b.ReportMetric(s.ratio(), "ratio")
	})
	b.Run("Inflate", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			_, _ = codec.Inflate(nil, s.compressed[i%len(messages)], s.dicts[i%len(messages)], 1<<20)
		}
	})
}
