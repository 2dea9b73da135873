//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package figures

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/wsloop/websocket"
	"golang.org/x/sys/unix"
)

// processorTime returns what this process has used so far, of the system too.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// What does it cost to publish to 1,000 connections, beside a SendAll to as many? The topic has all connections of a server, or every
// second one of twice as many, which are not neighbours in memory.
func BenchmarkPublish(b *testing.B) {
	b.Run("all", func(b *testing.B) {
		room := newPublishRoom(b, 1)
		room.compare(b, room)
	})
	b.Run("half", func(b *testing.B) { newPublishRoom(b, 2).compare(b, newPublishRoom(b, 1)) })
}

const publishedTo = 1000

// publishRoom is a server with 1,000 subscribers to "news".
type publishRoom struct {
	*websocket.ClientManager
	subscribers []*figureClient
}

func newPublishRoom(b *testing.B, every int) *publishRoom {
	added := make(chan int, 1)
	serv, address := server(b, &websocket.ServerOptions{PingInterval: -1, HandleClientAdd: func(_ context.Context, conn int) { added <- conn }})
	room := &publishRoom{ClientManager: serv.Clients}
	for i := range every * publishedTo {
		c := mustDial(b, address)
		if conn := <-added; i%every == 0 {
			room.subscribers = append(room.subscribers, c)
			if err := room.Subscribe(conn, "news"); err != nil {
				b.Fatal(err)
			}
		}
	}
	return room
}

// compare measures publishing in one room and sending to all in another one by turns. The clients read in between, so that nothing but
// the sends is measured.
func (room *publishRoom) compare(b *testing.B, other *publishRoom) {
	const rounds = 200
	packet := websocket.NewFrameText(false, make([]byte, 128))
	measure := func(send func() (int, map[int]error), to []*figureClient) time.Duration {
		before := processorTime(b)
		sent, failed := send()
		took := processorTime(b) - before
		if sent != publishedTo || failed != nil {
			b.Fatal(sent, failed)
		}
		for _, c := range to {
			if _, err := io.CopyN(io.Discard, c.in, int64(len(packet))); err != nil {
				b.Fatal(err)
			}
		}
		return took
	}
	for range b.N {
		var toAll, toTopic []time.Duration
		for range rounds {
			toAll = append(toAll, measure(func() (int, map[int]error) { return other.SendAll(packet) }, other.subscribers))
			toTopic = append(toTopic, measure(func() (int, map[int]error) { return room.Publish("news", packet) }, room.subscribers))
		}
		slices.Sort(toAll)
		slices.Sort(toTopic)
		b.ReportMetric(float64(toAll[rounds/2].Microseconds()), "µs-SendAll")
		b.ReportMetric(float64(toTopic[rounds/2].Microseconds()), "µs-Publish")
		b.ReportMetric(float64(toTopic[rounds/2])/float64(toAll[rounds/2]), "Publish/SendAll")
	}
}
