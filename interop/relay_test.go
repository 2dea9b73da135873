package interop

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// relayBuffer is the size of each socket buffer of a relay. It is small, so that the sender's own socket shows what was
	// not taken.
	relayBuffer = 64 << 10

	// relayChunk is how much a relay takes in one go from a link without a limit, and relayStep how long a chunk takes on one with.
	relayChunk = 32 << 10
	relayStep  = 50 * time.Millisecond
)

// link is what a relay lets through. The zero value is a fast one.
type link struct {
	up, down int           // bytes a second towards the server and towards the client; 0: no limit
	delay    time.Duration // of each byte, either way
	holds    int           // bytes that are taken in and wait to go on, as proxies do; 0: what the delay needs
}

// traffic is what happens on the connections of a relay.
type traffic int32

const (
	pass traffic = iota

	// stall reads no more, and blackHole reads everything and passes nothing on. Neither side sees the other one go.
	stall
	blackHole
)

// relay passes on TCP connections over a link.
type relay struct {
	address string
	link    link
	mode    atomic.Int32 // traffic; pass only in the beginning
	ended   context.Context
	running sync.WaitGroup
}

// startRelay starts a relay to a target, both "host:port". It ends with the test, and its connections with it.
func startRelay(t *testing.T, target string, over link) *relay {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended, end := context.WithCancel(context.Background())
	r := &relay{address: ln.Addr().String(), link: over, ended: ended}
	r.running.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.join(client.(*net.TCPConn), target) })
		}
	})
	t.Cleanup(func() {
		end()
		ln.Close()
		r.running.Wait()
	})
	return r
}

// turn changes what happens from now on. There is no way back to pass.
func (r *relay) turn(mode traffic) { r.mode.Store(int32(mode)) }

func (r *relay) is(mode traffic) bool { return traffic(r.mode.Load()) == mode }

// join passes on one connection, until both sides have ended it or the relay ends.
func (r *relay) join(client *net.TCPConn, target string) {
	defer client.Close()
	dialed, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	server := dialed.(*net.TCPConn)
	defer server.Close()
	for _, c := range []*net.TCPConn{client, server} {
		c.SetReadBuffer(relayBuffer)
		c.SetWriteBuffer(relayBuffer)
	}
	unhook := context.AfterFunc(r.ended, func() {
		client.Close()
		server.Close()
	})
	defer unhook()
	var ways sync.WaitGroup
	ways.Go(func() { r.carry(server, client, r.link.up) })
	ways.Go(func() { r.carry(client, server, r.link.down) })
	ways.Wait()
}

type chunk struct {
	data []byte
	due  time.Time
}

// carry takes in one direction of a connection, and pours it out at the rate.
func (r *relay) carry(to, from *net.TCPConn, rate int) {
	size, room := relayChunk, int(r.link.delay/relayStep)
	if rate > 0 {
		size = max(rate/int(time.Second/relayStep), 1)
	}
	chunks := make(chan chunk, max(room, r.link.holds/size))
	r.running.Go(func() { r.pour(to, from, rate, chunks) })
	defer close(chunks)
	for {
		data := make([]byte, size)
		n, err := from.Read(data)
		if r.is(stall) || err != nil && r.is(blackHole) {
			<-r.ended.Done()
		}
		if err != nil {
			return
		}
		chunks <- chunk{data[:n], time.Now().Add(r.link.delay)}
	}
}

// pour passes on what carry has taken in, and the end of it. If it cannot, carry is ended.
func (r *relay) pour(to, from *net.TCPConn, rate int, chunks <-chan chunk) {
	var free time.Time // when the link has room for the next chunk
	for c := range chunks {
		if free.Before(c.due) {
			free = c.due
		}
		if !r.waitUntil(free) || r.is(blackHole) {
			continue
		}
		if rate > 0 {
			free = free.Add(time.Duration(len(c.data)) * time.Second / time.Duration(rate))
		}
		if _, err := to.Write(c.data); err != nil {
			from.Close()
		}
	}
	to.CloseWrite()
}

// waitUntil reports whether the relay goes on.
func (r *relay) waitUntil(moment time.Time) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ended.Done():
		return false
	}
}
