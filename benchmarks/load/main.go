// Command load is the load generator: one thread with an epoll loop of its own. It checks every byte of every answer, and the
// first wrong one ends it with an error. It takes the CPU time of the server's process around the part that counts, and prints
// what it measured as JSON.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/results"
)

// memoryLimit is where garbage is collected: a TLS handshake leaves much of it.
const memoryLimit = 1 << 30

func main() {
	name := flag.String("scenario", "echo-128", "which one")
	addr := flag.String("addr", "127.0.0.1:9001", "IP:port of the server")
	pid := flag.Int("pid", 0, "the server's process")
	window := flag.Duration("window", 500*time.Millisecond, "time that is measured")
	warmup := flag.Duration("warmup", 300*time.Millisecond, "time before that")
	seed := flag.Uint64("seed", 1, "for the content of messages")
	ca := flag.String("ca", "", "PEM file with the certificate to trust, for scenarios over TLS")
	flag.Parse()
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	m, err := measure(*name, *addr, *ca, *pid, *warmup, *window, *seed)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func measure(name, addr, ca string, pid int, warmup, window time.Duration, seed uint64) (m results.Measure, err error) {
	s, ok := plan.Find(name)
	if !ok {
		return m, fmt.Errorf("no scenario %q", name)
	}
	if s.Window > 0 {
		window = s.Window
	}
	var config *tls.Config
	if s.Encrypted() {
		var err error
		if config, err = clientConfig(ca); err != nil {
			return m, err
		}
	}
	l, err := newLoad(s, addr, pid, seed, config)
	if err != nil {
		return m, err
	}
	switch s.Kind {
	case plan.Broadcast:
		err = l.broadcast(warmup, window)
	case plan.Churn:
		err = l.churn(true, warmup, window)
	case plan.Handshake:
		err = l.churn(false, warmup, window)
	case plan.Flood:
		err = l.flood(warmup, window)
	case plan.Claim:
		err = l.claim()
	case plan.Memory:
		err = l.memory()
	case plan.Idle:
		err = l.idle(window)
	case plan.Block:
		err = l.block(warmup, window)
	default:
		err = l.echo(warmup, window)
	}
	if err == nil {
		err = l.insist()
	}
	return l.Measure, err
}
