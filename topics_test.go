//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newTopicClients returns connections without sockets that may subscribe to so many topics.
func newTopicClients(t testing.TB, n, most int) *benchClients {
	cls := newBenchClients(t, n)
	cls.spare[0].loop.opts.MaxTopics = most
	return cls
}

// end ends a connection as stepLocked does.
func (cls *benchClients) end(c *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.move(factEnded)
	cls.remove(c)
	cls.unsubscribeAllLocked(c)
}

// requireNoTopics looks for what a connection could have left behind.
func requireNoTopics(t *testing.T, cls *ClientManager) {
	t.Helper()
	require.Zero(t, cls.Topics())
	for i := range clientShards {
		require.Empty(t, cls.topics[i].topics)
		require.Empty(t, cls.shards[i].topics)
	}
}

func TestTopics(t *testing.T) {
	t.Run("they are what a plain model says, whatever is done in any order", func(t *testing.T) {
		const most = 3
		cls := newTopicClients(t, 60, most)
		random := rand.New(rand.NewPCG(1, 1))
		model := make(map[string]map[int]bool) // subscribers by topic
		topicsOf := func(conn int) (n int) {
			for _, in := range model {
				if in[conn] {
					n++
				}
			}
			return n
		}
		var open []int
		for i := range cls.conns {
			open = append(open, i)
		}
		for step := 0; len(open) > 0; step++ {
			at := random.IntN(len(open))
			c := &cls.conns[open[at]]
			name := fmt.Sprint("topic", random.IntN(7))
			if model[name] == nil {
				model[name] = make(map[int]bool)
			}
			switch random.IntN(40) {
			default:
				err := cls.Subscribe(c.fd(), name)
				if !model[name][c.fd()] && topicsOf(c.fd()) == most {
					require.Equal(t, ErrTooManyTopics, err)
					break
				}
				require.NoError(t, err)
				model[name][c.fd()] = true
			case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
				require.NoError(t, cls.Unsubscribe(c.fd(), name))
				delete(model[name], c.fd())
			case 13:
				cls.end(c)
				require.Equal(t, ErrConnClosed, cls.Subscribe(c.fd(), name))
				require.Equal(t, ErrConnClosed, cls.Unsubscribe(c.fd(), name))
				open = slices.Delete(open, at, at+1)
				for _, in := range model {
					delete(in, c.fd())
				}
			}
			there := 0
			for name, in := range model {
				require.Equal(t, slices.Sorted(maps.Keys(in)), append([]int(nil), cls.Subscribers(name)...), "in the order in which they were opened")
				there += min(len(in), 1)
			}
			require.Equal(t, there, cls.Topics())
		}
		requireNoTopics(t, cls.ClientManager)
	})
	t.Run("a name is a copy, since it may be a part of a message", func(t *testing.T) {
		cls := newTopicClients(t, 1, 1)
		message := strings.Repeat("x", 1<<10)
		require.NoError(t, cls.Subscribe(cls.conns[0].fd(), message[:5]))
		for name := range cls.topicShard("xxxxx").topics {
			assert.NotSame(t, unsafe.StringData(message), unsafe.StringData(name))
		}
	})
	t.Run("names that have a pattern are spread", func(t *testing.T) {
		for _, format := range []string{"%d", "room/%d", "%064d", "%d/events"} {
			used := make(map[*topicShard]int)
			cls := new(ClientManager)
			for i := range 64 * clientShards {
				used[cls.topicShard(fmt.Sprintf(format, i))]++
			}
			for _, n := range used {
				require.Less(t, n, 64*clientShards/4, format)
			}
		}
	})
	t.Run("connections without topics have nothing looked for at their end", func(t *testing.T) {
		cls := newTopicClients(t, 1, 1)
		c := &cls.conns[0]
		require.Zero(t, c.marks.Load())
		require.Error(t, cls.Subscribe(c.fd(), ""))
		require.Zero(t, c.marks.Load())
		require.NoError(t, cls.Subscribe(c.fd(), "a"))
		require.Equal(t, markSubscribed, c.marks.Load())
	})
	t.Run("no subscription outlives its connection, whoever subscribes and publishes meanwhile", func(t *testing.T) {
		const loops = 4
		cls := newTopicClients(t, 4000, 8)
		w := cls.Watch()
		var all sync.WaitGroup
		for loop := range loops {
			all.Go(func() { // subscribes, while the connection ends at some time
				random := rand.New(rand.NewPCG(2, uint64(loop)))
				for range 5 * len(cls.conns) {
					conn := cls.conns[random.IntN(len(cls.conns))].fd()
					name := fmt.Sprint(random.IntN(100))
					switch random.IntN(8) {
					case 0:
						cls.Unsubscribe(conn, name)
					case 1:
						cls.Subscribers(name)
					default:
						cls.Subscribe(conn, name)
					}
				}
			})
			all.Go(func() {
				for i := loop; i < len(cls.conns); i += loops {
					cls.end(&cls.conns[i])
					runtime.Gosched()
				}
			})
		}
		all.Wait()
		requireNoTopics(t, cls.ClientManager)
		_, told := drain(t, w, make(map[uint64]bool), make(map[string]bool))
		require.Empty(t, told)
	})
}

// drain takes what a watcher has to tell over into what it told before, and checks that each change is one.
func drain(t *testing.T, w *Watcher, users map[uint64]bool, topics map[string]bool) (map[uint64]bool, map[string]bool) {
	t.Helper()
	changes, err := w.take()
	require.NoError(t, err)
	apply(t, users, changes.Users)
	apply(t, topics, changes.Topics)
	return users, topics
}

func apply[K comparable](t *testing.T, there map[K]bool, changes map[K]bool) {
	t.Helper()
	for of, here := range changes {
		require.NotEqual(t, there[of], here, "it was told before: %v", of)
		if delete(there, of); here {
			there[of] = true
		}
	}
}

// requireWatched compares what a watcher has told with what is there.
func requireWatched(t *testing.T, cls *benchClients, users map[uint64]bool, topics map[string]bool) {
	t.Helper()
	require.Equal(t, cls.Users(), len(users))
	for uid := range users {
		require.NotEmpty(t, cls.Conns(uid))
	}
	require.Equal(t, cls.Topics(), len(topics))
	for name := range topics {
		require.NotEmpty(t, cls.Subscribers(name))
	}
}

func TestWatch(t *testing.T) {
	t.Run("it tells first of all that is there", func(t *testing.T) {
		cls := newTopicClients(t, 8, 2)
		for i := range cls.conns {
			require.NoError(t, cls.Subscribe(cls.conns[i].fd(), fmt.Sprint(i/4)))
		}
		changes, err := cls.Watch().Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, Changes{map[uint64]bool{1: true, 2: true}, map[string]bool{"0": true, "1": true}}, changes)
	})
	t.Run("it tells of the first and the last alone, and of nothing that is undone before it is told", func(t *testing.T) {
		cls := newTopicClients(t, 8, 2) // the users are 1, 2, 1, 2 ...
		w := cls.Watch()
		w.take()
		for _, i := range []int{0, 2, 4} {
			require.NoError(t, cls.Subscribe(cls.conns[i].fd(), "a"))
			require.NoError(t, cls.Subscribe(cls.conns[i].fd(), "b"))
			cls.end(&cls.conns[i])
			require.NoError(t, cls.Subscribe(cls.conns[7].fd(), "a"))
		}
		changes, err := w.take()
		require.NoError(t, err)
		require.Equal(t, Changes{map[uint64]bool{}, map[string]bool{"a": true}}, changes)
		cls.end(&cls.conns[6])
		cls.end(&cls.conns[7])
		changes, err = w.take()
		require.NoError(t, err)
		require.Equal(t, Changes{map[uint64]bool{1: false}, map[string]bool{"a": false}}, changes)
		changes, err = w.take()
		require.NoError(t, err)
		require.Empty(t, changes)
	})
	t.Run("what it has told is what is there, after whatever has happened meanwhile", func(t *testing.T) {
		cls := newTopicClients(t, 400, 4)
		for i := range 100 {
			require.NoError(t, cls.Subscribe(cls.conns[i].fd(), fmt.Sprint(i%20)))
		}
		var w *Watcher
		var users map[uint64]bool
		var topics map[string]bool
		for round := range 60 {
			if round%20 == 0 { // another takes its place in the middle of it all
				w, users, topics = nil, make(map[uint64]bool), make(map[string]bool)
			}
			var all sync.WaitGroup
			for worker := range 4 {
				all.Go(func() {
					random := rand.New(rand.NewPCG(uint64(round), uint64(worker)))
					for i := range 100 {
						conn, name := cls.conns[4*random.IntN(80)+worker].fd(), fmt.Sprint(random.IntN(20))
						if random.IntN(2) == 0 {
							cls.Subscribe(conn, name)
						} else {
							cls.Unsubscribe(conn, name)
						}
						cls.change(256*worker + i%256)
					}
				})
			}
			if w == nil {
				w = cls.Watch()
			}
			for range 5 {
				drain(t, w, users, topics)
			}
			all.Wait()
			drain(t, w, users, topics)
			requireWatched(t, cls, users, topics)
		}
	})
	t.Run("what it keeps does not grow with what comes and goes", func(t *testing.T) {
		cls := newTopicClients(t, 4, 1)
		w := cls.Watch()
		w.take()
		for i := range 10_000 {
			require.NoError(t, cls.Subscribe(cls.conns[0].fd(), fmt.Sprint(i)))
			require.NoError(t, cls.Unsubscribe(cls.conns[0].fd(), fmt.Sprint(i)))
		}
		require.Empty(t, w.changes.Topics)
	})
	t.Run("Next waits for a change, its context, or the end", func(t *testing.T) {
		cls := newTopicClients(t, 1, 1)
		w := cls.Watch()
		_, err := w.Next(t.Context())
		require.NoError(t, err)
		got := make(chan Changes)
		go func() {
			changes, _ := w.Next(t.Context())
			got <- changes
		}()
		require.NoError(t, cls.Subscribe(cls.conns[0].fd(), "a"))
		require.Equal(t, map[string]bool{"a": true}, (<-got).Topics)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = w.Next(ctx)
		require.ErrorIs(t, err, context.Canceled)

		ended := make(chan error)
		go func() {
			_, err := w.Next(t.Context())
			ended <- err
		}()
		w.Close()
		require.ErrorIs(t, <-ended, net.ErrClosed)
		w.Close()
		_, err = w.Next(t.Context())
		require.ErrorIs(t, err, net.ErrClosed)
		require.Nil(t, cls.topicShard("a").watcher)
	})
	t.Run("another one takes its place, and is not closed with it", func(t *testing.T) {
		cls := newTopicClients(t, 1, 1)
		first := cls.Watch()
		second := cls.Watch()
		_, err := first.Next(t.Context())
		require.ErrorIs(t, err, net.ErrClosed)
		first.Close()
		changes, err := second.Next(t.Context())
		require.NoError(t, err)
		require.Len(t, changes.Users, 1)
		require.NoError(t, cls.Subscribe(cls.conns[0].fd(), "a"))
		changes, err = second.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"a": true}, changes.Topics)
	})
}

// BenchmarkSubscriptions reports the bytes of a subscription, all of it: of 10,000 connections with three topics each.
func BenchmarkSubscriptions(b *testing.B) {
	const conns, each = 10_000, 3
	for _, topics := range []int{3, 1000, 3000, conns * each} {
		for _, order := range []string{"ordered", "shuffled"} {
			b.Run(fmt.Sprintf("topics=%d/%s", topics, order), func(b *testing.B) {
				cls := newTopicClients(b, conns, each)
				names := make([]string, topics)
				for i := range names {
					names[i] = fmt.Sprintf("topic/%d", i)
				}
				places := rand.New(rand.NewPCG(1, 1)).Perm(conns)
				if order == "ordered" {
					slices.Sort(places)
				}
				before := benchHeap()
				b.ResetTimer()
				for range b.N {
					for _, i := range places {
						for k := range each {
							if err := cls.Subscribe(cls.conns[i].fd(), names[(i*each+k)%topics]); err != nil {
								b.Fatal(err)
							}
						}
					}
				}
				b.StopTimer()
				b.ReportMetric(float64(benchHeap()-before)/(conns*each), "B/subscription")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*conns*each), "ns/subscription")
				runtime.KeepAlive(cls)
			})
		}
	}
}

// benchHeap returns the size of what is in use on the heap.
func benchHeap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// BenchmarkTopic measures one topic with many subscribers: what a connection costs that comes and goes, and the list of all.
func BenchmarkTopic(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		cls := newTopicClients(b, n, 1)
		for i := range cls.conns {
			if err := cls.Subscribe(cls.conns[i].fd(), "topic"); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("UnsubscribeSubscribe/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				conn := cls.conns[i*7919%n].fd()
				cls.Unsubscribe(conn, "topic")
				cls.Subscribe(conn, "topic")
			}
		})
		b.Run(fmt.Sprintf("Subscribers/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				cls.Subscribers("topic")
			}
		})
	}
}
