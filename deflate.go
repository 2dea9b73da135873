package websocket

import (
	"compress/flate"
	"sync"
)

// standardLevel is the level of compress/flate. The higher ones take twice the time and more, mostly to clear their tables for each
// message, and make a message of 180 bytes hardly shorter.
const standardLevel = flate.BestSpeed

// StandardDeflate returns the codec that is used by default, on compress/flate of the standard library. It compresses each message by
// itself: its TakesDict is false. A message that is short, at most 64 KiB before and after, is inflated at once; of longer ones, no
// more at the same time than there are processors, and others wait.
func StandardDeflate() DeflateCodec { return standardDeflate }

// standardCodec keeps what costs too much memory to have for each connection: an encoder has 1.2 MB, an inflater 110 KB.
type standardCodec struct {
	encoders  sync.Pool
	inflaters sync.Pool
	long      chan struct{} // has an element for each long message that is being inflated
}

func newStandardCodec(processors int) *standardCodec {
	return &standardCodec{
		encoders:  sync.Pool{New: func() any { return newEncoder() }},
		inflaters: sync.Pool{New: func() any { return newInflater() }},
		long:      make(chan struct{}, processors),
	}
}

func (c *standardCodec) TakesDict() bool { return false }

func (c *standardCodec) Deflate(dst, payload, _ []byte) ([]byte, error) {
	if len(payload) == 0 {
		return append(dst, 0), nil // RFC 7692, section 7.2.3.6
	}
	e := c.encoders.Get().(*encoder)
	dst, err := e.deflate(dst, payload)
	c.encoders.Put(e)
	return dst, err
}

// encoder is a compress/flate writer that appends.
type encoder struct {
	writer *flate.Writer
	out    []byte
}

func newEncoder() *encoder {
	e := new(encoder)
	e.writer, _ = flate.NewWriter(e, standardLevel) // fails for another level
	return e
}

func (e *encoder) Write(p []byte) (int, error) {
	e.out = append(e.out, p...)
	return len(p), nil
}

func (e *encoder) deflate(dst, payload []byte) ([]byte, error) {
	e.out = dst
	e.writer.Reset(e)
	_, err := e.writer.Write(payload)
	if err == nil {
		err = e.writer.Flush()
	}
	dst, e.out = e.out, nil
	if err != nil {
		return dst, err
	}
	return dst[:len(dst)-len(deflateTail)], nil
}
