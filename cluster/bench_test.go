package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

const roleDrain = "drain"

// rawGuest opens a connection of a user without a client, which would cost more than the server.
func rawGuest(addr string, uid uint64) (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(conn, "GET /?uid=%d HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", uid)
	in := bufio.NewReaderSize(conn, 64<<10)
	res, err := http.ReadResponse(in, nil)
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return conn, in, err
}

// drain starts a process with connections of users, from 1 on, that throw away what they get.
func drain(b *testing.B, addr string, count int) {
	start(b, roleDrain, settings{Addr: addr, Count: count})
}

func playDrain(s settings) int {
	for uid := range s.Count {
		_, in, err := rawGuest(s.Addr, uint64(uid+1))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go io.Copy(io.Discard, in)
	}
	return ready()
}

// cpu returns the time that this process has had processors for.
func cpu() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkStart(b *testing.B) {
	for name, opts := range map[string]Options{
		"alone":            {},
		"alone, in memory": {History: History{Messages: 100}},
		"alone, in files":  {History: History{Messages: 100, Dir: "files"}},
		"listening":        {Listen: "127.0.0.1:0"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if opts.History.Dir != "" {
					opts.History.Dir = b.TempDir()
				}
				srv := newServer()
				node, err := Join(context.Background(), srv, opts)
				require.NoError(b, err)
				for opts.History.Messages > 0 && !node.Stats().History {
					time.Sleep(100 * time.Microsecond)
				}
				b.StopTimer()
				node.Close(context.Background())
				b.StartTimer()
			}
		})
	}
}

// BenchmarkLocal sends to users of this node: without a cluster, in one of this node alone, and in one of three. The connections are in
// another process. All three are measured in turn, in one run, as times of different runs differ by more than they do.
func BenchmarkLocal(b *testing.B) {
	packet := websocket.NewFrameText(false, make([]byte, 128))
	const users = 64
	plain := &site{srv: newServer()}
	plain.addr = serve(b, plain.srv)
	alone, three := join(b, Options{}), gather(b, 3, Options{})
	ways := []struct {
		name string
		s    *site
		send func(uid uint64)
	}{
		{"plain", plain, func(uid uint64) { plain.srv.Clients.SendUser(uid, packet) }},
		{"alone", alone, func(uid uint64) { alone.SendUser(context.Background(), uid, packet) }},
		{"three", three[0], func(uid uint64) { three[0].SendUser(context.Background(), uid, packet) }},
	}
	for _, way := range ways {
		drain(b, way.s.addr, users)
		eventually(b, "the users are there", func() bool { return way.s.srv.Clients.Users() == users })
	}
	settle(b, three)
	settle(b, []*site{alone})
	const round = 2000
	spent := make([]time.Duration, len(ways))
	rounds := 0
	for b.Loop() {
		rounds++
		for i := range ways {
			at := (i + rounds) % len(ways)
			before := cpu()
			for n := range round {
				ways[at].send(uint64(1 + n%users))
			}
			spent[at] += cpu() - before
		}
	}
	for i, way := range ways {
		b.ReportMetric(float64(spent[i].Nanoseconds())/float64(rounds*round), way.name+"-ns/msg")
		b.ReportMetric(float64(spent[i])/float64(spent[0]), way.name+"/plain")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLatency is the time from SendUser to the client's receipt, on this node and on another one, in turn.
func BenchmarkLatency(b *testing.B) {
	sites := gather(b, 3, Options{})
	_, onHere, err := rawGuest(sites[0].addr, 1)
	require.NoError(b, err)
	_, onThere, err := rawGuest(sites[1].addr, 2)
	require.NoError(b, err)
	eventually(b, "the users are there", func() bool { return sites[0].Stats().Users == 1 && sites[1].Stats().Users == 1 })
	settle(b, sites)
	packet := websocket.NewFrameText(false, make([]byte, 128))
	got := make([]byte, len(packet))
	send := func(uid uint64, in *bufio.Reader) (arrived, returned time.Duration) {
		begin := time.Now()
		done := make(chan time.Duration, 1)
		go func() {
			sites[0].SendUser(context.Background(), uid, packet)
			done <- time.Since(begin)
		}()
		_, err := io.ReadFull(in, got)
		require.NoError(b, err)
		arrived = time.Since(begin)
		return arrived, <-done
	}
	var here, there, call []time.Duration
	for b.Loop() {
		arrived, _ := send(1, onHere)
		here = append(here, arrived)
		arrived, returned := send(2, onThere)
		there, call = append(there, arrived), append(call, returned)
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)/2].Nanoseconds()) / 1000
	}
	b.ReportMetric(median(here), "here-µs")
	b.ReportMetric(median(there), "there-µs")
	b.ReportMetric(median(there)-median(here), "added-µs")
	b.ReportMetric(median(call), "call-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkInterest is the memory for the interest in 20,000 users of a node: in this node alone, and in all three of a cluster together.
func BenchmarkInterest(b *testing.B) {
	const users = 20_000
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			var sites []*site
			if sites = []*site{join(b, Options{})}; nodes > 1 {
				sites = gather(b, nodes, Options{})
			}
			for b.Loop() {
				before := heap()
				changes := websocket.Changes{Users: make(map[uint64]bool)}
				for i := range uint64(users) {
					changes.Users[1_000_000_000+i*7919] = true
				}
				sites[0].gain(changes)
				for _, s := range sites {
					eventually(b, "all know", func() bool { return int(s.broker.server.NumSubscriptions()) >= users })
				}
				changes = websocket.Changes{}
				b.ReportMetric(float64(heap()-before)/users, "B/user")
				gone := websocket.Changes{Users: make(map[uint64]bool)}
				for i := range uint64(users) {
					gone.Users[1_000_000_000+i*7919] = false
				}
				sites[0].drop(gone)
				for _, s := range sites {
					eventually(b, "all have forgotten", func() bool { return int(s.broker.server.NumSubscriptions()) < users })
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// heap returns the bytes in use, after what is unused has been freed.
func heap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// BenchmarkPublish is the time of Publish to one local subscriber: without history, and through the store.
func BenchmarkPublish(b *testing.B) {
	s := join(b, Options{History: History{Messages: 1000, Topics: []string{"kept"}}})
	awaitHistory(b, s)
	packet := broadcast("a body of some length, as messages of a chat have")
	for _, topic := range []string{"plain", "kept"} {
		b.Run(topic, func(b *testing.B) {
			for b.Loop() {
				_, err := s.Publish(context.Background(), topic, packet)
				require.NoError(b, err)
			}
		})
	}
}
