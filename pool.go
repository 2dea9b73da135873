package websocket

import "sync"

// recvSize is how much Recv reads at least, in bytes, if it is there.
const recvSize = 16 << 10

var recvBuffers = sync.Pool{New: func() any { return new([recvSize]byte) }}

// PutBuffer gives a packet that Recv returned back, to be used by a later Recv. The caller must not use the packet any more,
// nor anything that shares its memory (what Unpack returns does not). It need not be called: a packet that is kept is
// ordinary memory. It may be called from any goroutine, and with any slice.
func PutBuffer(packet []byte) {
	if cap(packet) == recvSize {
		recvBuffers.Put((*[recvSize]byte)(packet[:recvSize]))
	}
}

func getBuffer() []byte { return recvBuffers.Get().(*[recvSize]byte)[:] }

// backlogs are the message lists of connections that are being served.
var backlogs = sync.Pool{New: func() any { return new(backlog) }}

// queues are the send queues of connections that have something to send.
var queues = sync.Pool{New: func() any { return new(sendQueue) }}
