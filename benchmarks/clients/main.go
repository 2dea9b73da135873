// Command clients is one client process: it echoes with a server through one of the libraries, and says what that cost the process.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"golang.org/x/sys/unix"
)

// answerTimeout is how long an answer may take before the run has failed.
const answerTimeout = 10 * time.Second

// conn is a connection that sends each message that it receives again.
type conn interface {
	send(payload []byte) error
	end()
}

// libraries open a connection. answered is told of each message, and returns whether it is to be sent again.
var libraries = map[string]func(url string, answered func(payload []byte) bool) (conn, error){
	"wsloop":      dialWsloop,
	"wsloop-kept": dialWsloopKept,
	"gws":         dialGws,
	"gorilla":     dialGorilla,
	"coder":       dialCoder,
}

// echoes counts the answers on all connections.
type echoes struct {
	size    int
	goesOn  bool // answers are sent again
	count   atomic.Int64
	corrupt atomic.Bool
}

func (e *echoes) answered(payload []byte) bool {
	if len(payload) != e.size || payload[0] != 1 || payload[e.size-1] != byte(e.size) {
		e.corrupt.Store(true)
	}
	e.count.Add(1)
	return e.goesOn
}

// await waits until there were that many answers.
func (e *echoes) await(count int64) error {
	for deadline := time.Now().Add(answerTimeout); e.count.Load() < count; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d answers instead of %d", e.count.Load(), count)
		}
	}
	return nil
}

func (e *echoes) message() []byte {
	payload := make([]byte, e.size)
	payload[0], payload[e.size-1] = 1, byte(e.size)
	return payload
}

func main() {
	library := flag.String("library", "wsloop", "wsloop, wsloop-kept, gws, gorilla or coder")
	url := flag.String("url", "ws://127.0.0.1:9001/", "of an echo server")
	size := flag.Int("size", 128, "bytes of a message, 2 at least")
	inFlight := flag.Int("in-flight", 1, "messages under way")
	idle := flag.Int("idle", 0, "measure the memory of that many idle connections instead")
	warmup := flag.Duration("warmup", 300*time.Millisecond, "time before what is measured")
	window := flag.Duration("window", time.Second, "time that is measured")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the window to this file")
	flag.Parse()
	e := &echoes{size: *size, goesOn: *idle == 0}
	dial := func() (conn, error) { return libraries[*library](*url, e.answered) }
	var m plan.ClientMeasure
	err := fmt.Errorf("unknown library %q", *library)
	switch {
	case libraries[*library] == nil:
	case *idle > 0:
		m, err = measureIdle(e, dial, *idle)
	default:
		m, err = measureEcho(e, dial, *inFlight, *warmup, *window, *profile)
	}
	if err == nil && e.corrupt.Load() {
		err = fmt.Errorf("a wrong answer")
	}
	if err != nil {
		log.Fatal(err)
	}
	json.NewEncoder(os.Stdout).Encode(m)
}

func measureEcho(e *echoes, dial func() (conn, error), inFlight int, warmup, window time.Duration, profile string) (m plan.ClientMeasure, err error) {
	c, err := dial()
	if err != nil {
		return m, err
	}
	for range inFlight {
		if err = c.send(e.message()); err != nil {
			return m, err
		}
	}
	time.Sleep(warmup)
	if err = e.await(1); err != nil {
		return m, err
	}
	if profile != "" {
		stop, err := startProfile(profile)
		if err != nil {
			return m, err
		}
		defer stop()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	count, cpu, begun := e.count.Load(), cpuTime(), time.Now()
	time.Sleep(window)
	m.Messages, m.CPU, m.Seconds = e.count.Load()-count, (cpuTime() - cpu).Seconds(), time.Since(begun).Seconds()
	runtime.ReadMemStats(&after)
	if m.Messages == 0 {
		return m, fmt.Errorf("no answers")
	}
	m.Allocations = float64(after.Mallocs-before.Mallocs) / float64(m.Messages)
	m.Allocated = float64(after.TotalAlloc-before.TotalAlloc) / float64(m.Messages)
	return m, nil
}

// measureIdle opens a tenth of the connections, and then the rest. What the process needs by itself drops out.
func measureIdle(e *echoes, dial func() (conn, error), count int) (m plan.ClientMeasure, err error) {
	var conns []conn
	open := func(until int) (resident int64, goroutines int, err error) {
		for len(conns) < until {
			c, err := dial()
			if err != nil {
				return 0, 0, err
			}
			conns = append(conns, c)
			if err = c.send(e.message()); err != nil {
				return 0, 0, err
			}
		}
		if err = e.await(int64(until)); err != nil {
			return 0, 0, err
		}
		time.Sleep(500 * time.Millisecond)
		debug.FreeOSMemory()
		resident, err = residentBytes()
		return resident, runtime.NumGoroutine(), err
	}
	first := max(count/10, 1)
	resident, goroutines, err := open(first)
	if err != nil {
		return m, err
	}
	residentAll, goroutinesAll, err := open(first + count)
	m.Resident = float64(residentAll-resident) / float64(count)
	m.Goroutines = float64(goroutinesAll-goroutines) / float64(count)
	for _, c := range conns {
		c.end()
	}
	return m, err
}

// cpuTime is what the process has used so far, user and system.
func cpuTime() time.Duration {
	var usage unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func residentBytes() (n int64, err error) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int64
	_, err = fmt.Sscan(string(statm), &size, &pages)
	return pages * int64(os.Getpagesize()), err
}

func startProfile(name string) (stop func(), err error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	return pprof.StopCPUProfile, pprof.StartCPUProfile(f)
}
