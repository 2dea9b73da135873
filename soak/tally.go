package main

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// tally holds what is counted, by any goroutine.
type tally struct {
	open      atomic.Int64 // sessions and other connections
	connects  atomic.Int64
	sent      atomic.Int64
	echoed    atomic.Int64
	pushed    atomic.Int64
	answered  atomic.Int64
	churned   atomic.Int64
	attacks   atomic.Int64
	slow      atomic.Int64
	dead      atomic.Int64
	panics    atomic.Int64
	cut       atomic.Int64 // sessions that the network cut
	latency   latencies
	missing   missingPushes
	late      atomic.Int64 // closing handshakes that took too long while this process was held up
	throwaway atomic.Int64 // sessions ended on purpose with messages under way

	// What should stay 0.
	lost         atomic.Int64
	disordered   atomic.Int64
	misdelivered atomic.Int64
	corrupted    atomic.Int64
	closes       atomic.Int64
	kept         atomic.Int64 // peers that the server should have dropped
}

// missingPushes are messages of the server that sessions did not get.
type missingPushes struct {
	mu  sync.Mutex
	set map[push]bool // guarded by mu
}

// add notes the messages from a number up to another one, without that.
func (p *missingPushes) add(session uint32, kind byte, from, to uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == nil {
		p.set = make(map[push]bool)
	}
	for ; from < to; from++ {
		p.set[push{session, kind, from}] = true
	}
}

// without returns those that the server did send.
func (p *missingPushes) without(skipped []push) (lost []push) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, each := range skipped {
		delete(p.set, each)
	}
	for each := range p.set {
		lost = append(lost, each)
	}
	return lost
}

// latencies is a histogram with two buckets for each power of two.
type latencies [128]atomic.Int64

func (l *latencies) note(d time.Duration) {
	us := max(uint64(d.Microseconds()), 2)
	exponent := bits.Len64(us) - 1
	l[2*exponent+int(us>>(exponent-1)&1)].Add(1)
}

// quantile returns the upper end of the bucket of a quantile.
func (l *latencies) quantile(q float64) time.Duration {
	var total, seen int64
	for i := range l {
		total += l[i].Load()
	}
	for i := range l {
		if seen += l[i].Load(); seen > int64(q*float64(total)) {
			us := uint64(3+i%2) << (i / 2) / 2
			return time.Duration(us) * time.Microsecond
		}
	}
	return 0
}

// check is something that is compared at the end.
type check struct {
	name        string
	value, most int
	unit        string
}

func (c check) passes() bool { return c.value <= c.most }

func (c check) String() string {
	verdict := "ok"
	if !c.passes() {
		verdict = "FAILED"
	}
	return fmt.Sprintf("%-6s %-42s %8d%s (at most %d)", verdict, c.name, c.value, c.unit, c.most)
}

const mebibyte = 1 << 20

// maxHeapGrowth is how many MiB of live heap the server may have more at the end: its tables and pools.
const maxHeapGrowth = 8

// checks compares the server's reports, and what the clients counted.
func (d *driver) checks(first, settled, stopped report) []check {
	t := d.tally
	lost := t.missing.without(d.last.Skipped)
	for i, each := range lost {
		if i < maxProblems {
			d.problem("session %d did not get message %q %d", each.Session, each.Kind, each.Seq)
		}
	}
	count := func(name string, value int64) check { return check{name: name, value: int(value)} }
	return []check{
		count("messages lost", t.lost.Load()+int64(len(lost))),
		count("messages out of order", t.disordered.Load()),
		count("messages misdelivered", t.misdelivered.Load()),
		count("messages corrupted", t.corrupted.Load()),
		count("answers that could not be sent", int64(settled.Failures)),
		count("unexpected closes", t.closes.Load()),
		count("dead, deaf and hostile peers not dropped", t.kept.Load()),
		{"server: connections", settled.Conns, 0, ""},
		{"server: goroutines", settled.Goroutines, first.Goroutines, ""},
		{"server: descriptors (without held numbers)", settled.Descriptors, first.Descriptors, ""},
		{"server: resident memory", settled.Resident / mebibyte, first.Resident/mebibyte + d.cfg.growth, " MiB"},
		{"server: live heap", settled.Heap / mebibyte, first.Heap/mebibyte + maxHeapGrowth, " MiB"},
		{"server stopped: goroutines", stopped.Goroutines, first.StoppedGoroutines, ""},
		{"server stopped: descriptors", stopped.Descriptors + stopped.Held, first.StoppedDescriptors, ""},
	}
}
