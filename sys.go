package websocket

import (
	"errors"
	"math"
	"time"
)

// The engine calls the system through two files for each kind of system. They offer the same, and nothing else in the
// package knows which one it is:
//
//	sys_linux.go, sys_bsd.go    readSocket, waitingBytes, writeSocket, writeSocketParts, unackedBytes, unsentBytes, acceptSocket,
//	                            newPlaceholder, coverSocket, newSocketPair, formerPeer, carriedBytes
//	sys_unix.go                 listenerDescriptor, unblockListener, waitSocket, halfCloseSocket, shutSocket,
//	                            closeDescriptor, maxDescriptors, peerAddress, localAddress, socketOf, connOf, newPair,
//	                            isOutOfDescriptors
//	poll_linux.go, poll_bsd.go  poller
//
// sys_other.go has them all for systems without a poller, where each fails.
//
// A poller has
//
//	newPoller() (*poller, error)
//	add(fd, gen)        watch a socket for reading and writing, once per change (edge-triggered); gen comes back with events
//	wantWrite(fd, gen)  a write found no room: an event follows when there is some
//	remove(fd)          stop watching; an event that was fetched before may still be returned
//	wait(until) n       wait for events until a moment of the clock, at most; n of them can be had by at
//	rests               what wait calls if there is nothing to return yet; it may be set before the first wait
//	at(i) readiness
//	wake()              end a wait, from any goroutine
//	close()
//
// An event is a hint: its socket may have been drained, closed or replaced since. Whoever follows it must be ready to find
// nothing there.

// readiness is an event.
type readiness struct {
	fd       int
	gen      uint32
	readable bool // there is something to read, or the end of the stream, or an error
	writable bool
	hangup   bool // the peer has closed its side, or the connection failed
}

// anyGeneration is the generation of an event from a poller that does not know it.
const anyGeneration = 0

// What the files above return in place of the system's numbers.
var (
	errWouldBlock     = errors.New("websocket: nothing to read or no room to write")
	errNoDescriptors  = errors.New("websocket: out of descriptors or memory")
	errConnectionLost = errors.New("websocket: connection lost before it was accepted")
	errWaitedTooLong  = errors.New("websocket: waited too long for a socket")
)

// The engine keeps time in nanoseconds since the process started, on the monotonic clock: a moment is an int64.

var clockStart = time.Now()

// never is the moment of a deadline that is not set.
const never = math.MaxInt64

// maxTimeout is the longest time that can be added to any moment: 73 years.
const maxTimeout = 1 << 61

// now returns the present moment.
func now() int64 { return int64(time.Since(clockStart)) }

// momentTime returns the time of a moment.
func momentTime(moment int64) time.Time { return clockStart.Add(time.Duration(moment)) }
