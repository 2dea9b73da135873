package websocket

import (
	"fmt"
	"runtime"
	"testing"
)

// benchClients are connections without sockets in a ClientManager, four for each user, and some that are not in it yet.
type benchClients struct {
	*ClientManager
	conns []conn
	spare []conn
	users uint64
}

// Numbers that no descriptor of this process has.
const benchDescriptors = 1 << 20

func newBenchClients(b testing.TB, n int) *benchClients {
	const perUser, spare = 4, 1 << 10
	cls := &benchClients{ClientManager: new(ClientManager), users: uint64(max(n/perUser, 1))}
	loop := &loop{engine: &engine{clients: cls.ClientManager}}
	all := make([]conn, n+spare)
	cls.conns, cls.spare = all[:n], all[n:]
	for i := range all {
		c := &all[i]
		c.id, c.loop, c.uid = nextID(benchDescriptors+i), loop, uint64(i)%cls.users+1
		c.ctx, c.phase = b.Context(), phaseOpen
		descriptors.set(c.fd(), c)
	}
	for i := range cls.conns {
		cls.add(&cls.conns[i])
	}
	b.Cleanup(func() {
		for i := range all {
			descriptors.set(all[i].fd(), nil)
		}
	})
	return cls
}

// change adds and removes a connection.
func (cls *benchClients) change(i int) {
	c := &cls.spare[i%len(cls.spare)]
	cls.add(c)
	cls.remove(c)
}

// BenchmarkClients measures the ClientManager: alone, from as many goroutines as there are processors, and so while another one
// adds and removes connections all the time.
func BenchmarkClients(b *testing.B) {
	for _, n := range []int{10, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cls := newBenchClients(b, n)
			for _, c := range []struct {
				name string
				step func(i int)
			}{
				{"Conns", func(i int) { cls.Conns(uint64(i)%cls.users + 1) }},
				{"Context", func(i int) { cls.Context(benchDescriptors + i%n) }},
				{"SendUser", func(i int) { cls.SendUser(uint64(i)%cls.users+1, nil) }},
				{"Len", func(int) { cls.Len() }},
				{"Users", func(int) { cls.Users() }},
				{"All", func(int) { cls.All() }},
			} {
				cls.measure(b, c.name, c.step)
			}
			b.Run("AddRemove/alone", func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					cls.change(i)
				}
			})
			b.Run("AddRemove/Conns", func(b *testing.B) {
				defer benchBeside(func(i int) { cls.Conns(uint64(i)%cls.users + 1) })()
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					cls.change(i)
				}
			})
			b.Run("AddRemove/All", func(b *testing.B) {
				defer benchBeside(func(int) { cls.All() })()
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					cls.change(i)
				}
			})
			b.Run("AddRemove/each", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					for i := range cls.conns {
						cls.remove(&cls.conns[i])
					}
					for i := range cls.conns {
						cls.add(&cls.conns[i])
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/conn")
			})
		})
	}
}

func (cls *benchClients) measure(b *testing.B, name string, step func(i int)) {
	b.Run(name+"/alone", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			step(i)
		}
	})
	parallel := func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				step(i)
			}
		})
	}
	b.Run(name+"/parallel", parallel)
	b.Run(name+"/changing", func(b *testing.B) {
		defer benchBeside(cls.change)()
		parallel(b)
	})
}

// benchBeside does step on a goroutine of its own until the function that it returns is called.
func benchBeside(step func(i int)) (end func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			default:
				step(i)
			}
			if i%1024 == 0 {
				runtime.Gosched()
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
