package peer

import (
	"bytes"
	"io"
	"sync"
)

// Buffer holds one message. It comes from a pool, for libraries that hand out a reader.
type Buffer struct{ bytes.Buffer }

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// ReadAll reads a message.
func ReadAll(r io.Reader) (*Buffer, error) {
	b := buffers.Get().(*Buffer)
	b.Reset()
	if _, err := b.ReadFrom(r); err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

// Release gives the buffer back.
func (b *Buffer) Release() { buffers.Put(b) }
