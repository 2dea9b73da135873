// Package deflate is a codec for permessage-deflate (RFC 7692) that compresses with context takeover, on
// github.com/klauspost/compress/flate:
//
//	opts.Compression = &websocket.Compression{Codec: deflate.Codec(0)}
//
// Messages that resemble the ones before them become a sixth of their size, where the standard codec, which compresses each by itself,
// leaves three quarters and more. A connection costs no more than the history that Compression.Window has it keep.
package deflate

import (
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/wsloop/websocket"
)

// defaultLevel is the lowest level that makes any message of 180 bytes shorter without a history too, as for a broadcast. With one, the
// next levels save a twentieth of what is left, for an eighth more time.
const defaultLevel = 4

// tail is what a message is sent without (RFC 7692, section 7.2.1).
const tail = "\x00\x00\xff\xff"

// encoders are by their level. One has about 1 MB, so that no connection has its own.
var encoders [flate.BestCompression + 1]sync.Pool

// Codec returns a codec that compresses with a level from 1, the fastest, to 9. 0 is the default, level 4; what is out of range is
// taken as the nearest level. Levels 1 to 3 make many short messages no shorter without a history, and 7 to 9 clear large tables
// for each message, which takes longer than to compress a short one.
//
// The codec inflates as websocket.StandardDeflate does. Codecs of one level share their memory.
func Codec(level int) websocket.DeflateCodec {
	if level == 0 {
		level = defaultLevel
	}
	level = min(max(level, flate.BestSpeed), flate.BestCompression)
	return codec{DeflateCodec: websocket.StandardDeflate(), level: level}
}

// codec has the Inflate of the standard codec.
type codec struct {
	websocket.DeflateCodec
	level int
}

func (c codec) TakesDict() bool { return true }

func (c codec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	if len(payload) == 0 {
		return append(dst, 0), nil // RFC 7692, section 7.2.3.6
	}
	e, ok := encoders[c.level].Get().(*encoder)
	if !ok {
		e = newEncoder(c.level)
	}
	dst, err := e.deflate(dst, payload, dict)
	encoders[c.level].Put(e)
	return dst, err
}

// encoder is a writer of package flate that appends.
type encoder struct {
	writer *flate.Writer
	out    []byte
}

func newEncoder(level int) *encoder {
	e := new(encoder)
	e.writer, _ = flate.NewWriter(e, level) // fails for no level that Codec has
	return e
}

func (e *encoder) Write(p []byte) (int, error) {
	e.out = append(e.out, p...)
	return len(p), nil
}

func (e *encoder) deflate(dst, payload, dict []byte) ([]byte, error) {
	e.out = dst
	e.writer.ResetDict(e, dict)
	_, err := e.writer.Write(payload)
	if err == nil {
		err = e.writer.Flush()
	}
	dst, e.out = e.out, nil
	if err != nil {
		return dst, err
	}
	return dst[:len(dst)-len(tail)], nil
}
