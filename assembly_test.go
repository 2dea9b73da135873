package websocket

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReceiverRoom(t *testing.T) {
	for _, limit := range []int{directRead, 100_000, 1 << 20, 1<<20 + 1, 3 << 20} {
		for _, frames := range []int{1, 2, 7} {
			for _, read := range []int{1000, 65536, 1 << 20} {
				for _, fin := range []bool{true, false} {
					if read == 1000 && limit > 100_000 { // one of that size is enough
						continue
					}
					t.Run(fmt.Sprintf("%d bytes in %d frames and reads of %d, the last frame %v", limit, frames, read, fin), func(t *testing.T) {
						p := &rules{maxMessage: uint64(limit), maxFragments: frames, fromClient: true}
						r := roomReader{t: t, p: p, read: read}
						for i := range frames {
							length := limit / frames
							if i == frames-1 {
								length = limit - i*length
							}
							h := header{masked: true, length: uint64(length)}
							if i == 0 {
								h.first = byte(OpcodeBin)
							}
							if fin && i == frames-1 {
								h.first |= bitFin
							}
							r.frame(h)
						}
						assert.LessOrEqual(t, r.largest, maxDirect, "bytes of a message may be read in one turn")
						assert.LessOrEqual(t, r.held, roundSize(limit), "bytes that the message holds, whose limit that is")
						assert.Equal(t, fin, r.whole)
						if read <= 64<<10 && limit >= 1<<20 {
							assert.Positive(t, r.largest)
						}
					})
				}
			}
		}
	}
}

// roomReader feeds an endpoint as a loop does: into the room that it offers, else through a buffer.
type roomReader struct {
	t    *testing.T
	p    *rules
	read int // bytes that a read returns at most
	ep   receiver

	largest int // room that was offered
	held    int // capacity of the message
	whole   bool
}

// frame reads a frame of zeros of a binary message.
func (r *roomReader) frame(h header) {
	_, _, err := r.ep.next(r.p, appendHeader(nil, h))
	require.Nil(r.t, err)
	for left := int(h.length); left > 0; {
		room := r.ep.room(func() int { return 0 })
		n := min(left, r.read)
		var ev event
		if room != nil {
			r.largest = max(r.largest, len(room))
			n = min(n, len(room))
			ev, err = r.ep.filled(n)
		} else {
			ev, _, err = r.ep.next(r.p, make([]byte, n))
		}
		require.Nil(r.t, err)
		left -= n
		r.whole = ev.kind == eventMessage
		r.held = max(r.held, cap(ev.payload))
		if r.ep.partial != nil {
			r.held = max(r.held, cap(r.ep.partial.message))
		}
	}
}
