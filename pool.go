package websocket

import (
	"math/bits"
	"runtime"
	"sync"
)

// recvSize is how many bytes Recv asks for first.
const recvSize = 16 << 10

// Buffers smaller than minSpare bytes cost less to make than to keep, and ones larger than maxSpare bytes are seldom asked for.
const (
	minSpare = 64
	maxSpare = 4 << 20
)

// maxSpares is how many bytes of buffers each processor keeps.
const maxSpares = 8 << 20

// spareBuffers are buffers that were given back, by the number of bits of their size.
type spareBuffers struct {
	bySize [bits.UintSize][][]byte
	bytes  int
}

// spares has spareBuffers for each processor, mostly one, so that nobody waits to take a buffer. The garbage collector empties
// it in time.
var spares = sync.Pool{New: func() any { return new(spareBuffers) }}

// PutBuffer gives a buffer back, for a later message or Recv to be read into: a packet that Recv returned, or a payload that
// HandleText or HandleBin was given. Nobody may use it any more, nor anything that shares its memory: what is still used, or
// given back twice, will hold another client's message. (What Unpack returns shares nothing with its packet, and Send keeps
// nothing.)
//
// Nobody has to call it: a buffer that is kept is ordinary memory. It saves a busy server some work of the garbage collector.
// It may be called from any goroutine, and with any slice.
func PutBuffer(packet []byte) {
	size := cap(packet)
	if size < minSpare || size > maxSpare {
		return
	}
	s := spares.Get().(*spareBuffers)
	if s.bytes += size; s.bytes > maxSpares { // they are not asked for, or not here
		*s = spareBuffers{bytes: size}
	}
	same := &s.bySize[bits.Len(uint(size))]
	*same = append(*same, packet[:0])
	spares.Put(s)
}

// roundSize returns the capacity of a buffer for size bytes: at most an eighth more, so that long messages of nearly the same
// size use the same buffers.
func roundSize(size int) int {
	if size < 1<<10 {
		return size
	}
	step := 1 << (bits.Len(uint(size)) - 4)
	return (size + step - 1) &^ (step - 1)
}

// spareBuffer returns an empty buffer with room for size bytes that was given back, nil if there is none.
func spareBuffer(size int) (b []byte) {
	if size < minSpare || size > maxSpare {
		return nil
	}
	rounded := roundSize(size)
	s := spares.Get().(*spareBuffers)
	same := &s.bySize[bits.Len(uint(rounded))]
	if last := len(*same) - 1; last >= 0 {
		b = (*same)[last]
		*same = (*same)[:last]
		s.bytes -= cap(b)
	}
	spares.Put(s)
	if cap(b) < size { // or too small: there will be others of the size that is wanted now
		return nil
	}
	return b[:0:min(cap(b), rounded)]
}

// newBuffer returns an empty buffer with room for size bytes.
func newBuffer(size int) []byte {
	if b := spareBuffer(size); b != nil {
		return b
	}
	return make([]byte, 0, roundSize(size))
}

// backlogs are the message lists of connections that are being served.
var backlogs = sync.Pool{New: func() any { return new(backlog) }}

func newBacklog() *backlog { return backlogs.Get().(*backlog) }

// putBacklog gives one back that nobody needs any more, with the messages in it.
func putBacklog(b *backlog) {
	b.clear()
	backlogs.Put(b)
}

// readings are those of jobs that inflate messages.
var readings = sync.Pool{New: func() any { return new(reading) }}

// newReading returns an empty reading.
func newReading() *reading {
	got := readings.Get().(*reading)
	if got.inbox == nil {
		got.inbox = newBacklog()
	}
	return got
}

// putReading gives one back whose messages have been taken.
func putReading(got *reading) {
	*got = reading{inbox: got.inbox, pongs: got.pongs[:0]}
	readings.Put(got)
}

// outboxes are those of connections that had something to send.
var outboxes = sync.Pool{New: func() any { return new(outbox) }}

func newOutbox() *outbox { return outboxes.Get().(*outbox) }

// putOutbox gives one back that nobody needs any more. Those who wait for room in it are woken.
func putOutbox(o *outbox) {
	o.reset()
	outboxes.Put(o)
}

// standardDeflate has the encoders and inflaters of compress/flate.
var standardDeflate = newStandardCodec(runtime.GOMAXPROCS(0))
