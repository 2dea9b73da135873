package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// maxProblems is how many problems are printed; the others are only counted.
const maxProblems = 20

// driver makes the traffic and checks it.
type driver struct {
	// Immutable once the traffic has begun.
	cfg       config
	server    *serverProcess
	entrances []entrances
	fill      *filler
	tally     *tally
	started   time.Time

	// With locks of their own.
	ids      atomic.Uint32
	cuts     cutList
	problems atomic.Int64
	heart    heartbeat
	slowest  time.Duration // delay of this process or the server's; owned by the goroutine that prints lines
	out      lockedWriter

	quiet chan struct{} // closed when the server sends nothing more of its own accord
	last  report        // of that moment; set before quiet is closed
}

// lockedWriter keeps lines apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// traffic is a kind of traffic: what one of its clients does until the context ends, and how many of 100 connections have it.
type traffic struct {
	share int
	run   func(d *driver, ctx context.Context, rng *rand.Rand)
}

var mix = []traffic{
	{34, (*driver).echoes},
	{6, (*driver).lags},
	{24, (*driver).chats},
	{12, (*driver).requests},
	{4, (*driver).blocks},
	{8, (*driver).churns},
	{2, (*driver).readsSlowly},
	{2, (*driver).isDeaf},
	{3, (*driver).isDead},
	{5, (*driver).isHostile},
}

// drive runs the traffic and the checks. ok is false if one failed.
func drive(ctx context.Context, cfg config, out io.Writer) (ok bool, err error) {
	d := &driver{cfg: cfg, tally: new(tally), quiet: make(chan struct{}), out: lockedWriter{w: out}}
	d.fill = newFiller(rand.New(rand.NewPCG(cfg.seed, 0)))
	d.started = time.Now()
	server, first, err := startServer(&d.out)
	if err != nil {
		return false, err
	}
	defer func() {
		if endErr := server.end(); err == nil && endErr != nil {
			ok, err = false, fmt.Errorf("server: %w", endErr)
		}
	}()
	d.server = server
	ctx, stop := context.WithTimeout(ctx, cfg.duration)
	defer stop()
	if err = d.connectNetwork(ctx, first); err != nil {
		return false, err
	}
	if _, err = server.ask(cmdPush); err != nil {
		return false, err
	}
	clients := d.startTraffic(ctx)
	go d.heart.run(clients)
	if err = d.watch(ctx.Done()); err != nil {
		return false, err
	}
	if d.last, err = server.ask(cmdQuiet); err != nil {
		return false, err
	}
	close(d.quiet)
	if err = d.watch(clients); err != nil {
		return false, err
	}
	return d.judge(first)
}

// connectNetwork sets up the network between clients and server.
func (d *driver) connectNetwork(ctx context.Context, first report) (err error) {
	d.entrances = first.Entrances
	switch d.cfg.network {
	case netNetem:
		go changeWeather(ctx, rand.New(rand.NewPCG(d.cfg.seed, 1)), func(text string) { fmt.Fprintln(&d.out, text) })
	case netProxy:
		for i := range d.entrances {
			for _, at := range []*door{&d.entrances[i].Echo, &d.entrances[i].Router} {
				if at.Address, err = d.startProxy(at.Address); err != nil {
					return err
				}
			}
		}
	}
	return err
}

// startTraffic starts all clients. The channel is closed when all have ended.
func (d *driver) startTraffic(ctx context.Context) <-chan struct{} {
	var clients sync.WaitGroup
	const firstStream = 100
	for i, kind := range mix {
		for j := range max(1, d.cfg.conns*kind.share/100) {
			rng := rand.New(rand.NewPCG(d.cfg.seed, uint64(firstStream+i+j*len(mix))))
			clients.Go(func() {
				if pause(ctx, rng, time.Second) {
					kind.run(d, ctx, rng)
				}
			})
		}
	}
	ended := make(chan struct{})
	go func() {
		clients.Wait()
		close(ended)
	}()
	return ended
}

// watch prints a line now and then until the channel is closed.
func (d *driver) watch(until <-chan struct{}) error {
	ticker := time.NewTicker(d.cfg.every)
	defer ticker.Stop()
	for {
		select {
		case <-until:
			return nil
		case <-ticker.C:
		}
		r, err := d.server.ask(cmdStats)
		if err != nil {
			return err
		}
		d.printLine(r)
	}
}

func (d *driver) printLine(r report) {
	delay := d.heart.take()
	d.slowest = max(d.slowest, delay, r.Delay)
	t := d.tally
	fmt.Fprintf(&d.out, "%5.0fs conns %d sent %d back %d pushed %d answered %d churned %d attacks %d cut %d | "+
		"lost %d order %d misdelivered %d corrupted %d closes %d kept %d | p50 %v p99 %v | "+
		"delays %v %v | goroutines %d fds %d+%d rss %d MiB\n",
		time.Since(d.started).Seconds(), r.Conns, t.sent.Load(), t.echoed.Load(), t.pushed.Load(), t.answered.Load(),
		t.churned.Load(), t.attacks.Load(), t.cut.Load(),
		t.lost.Load(), t.disordered.Load(), t.misdelivered.Load(), t.corrupted.Load(), t.closes.Load(), t.kept.Load(),
		t.latency.quantile(0.5), t.latency.quantile(0.99), delay, r.Delay, r.Goroutines, r.Descriptors, r.Held, r.Resident/mebibyte)
}

// judge has the server settle and stop, and prints the checks.
func (d *driver) judge(first report) (ok bool, err error) {
	settled, err := d.server.ask(cmdSettle)
	if err != nil {
		return false, err
	}
	stopped, err := d.server.ask(cmdStop)
	if err != nil {
		return false, err
	}
	d.printLine(settled)
	t := d.tally
	fmt.Fprintf(&d.out, "sessions %d, ended with messages under way on purpose %d, messages skipped for full queues %d, "+
		"slow readers %d, dead and deaf peers dropped %d, panics on command %d (server: %d)\n", t.connects.Load(), t.throwaway.Load(),
		len(d.last.Skipped), t.slow.Load(), t.dead.Load(), t.panics.Load(), settled.Panics)
	fmt.Fprintf(&d.out, "longest time for which a process was held up: %v; closing handshakes that took too long meanwhile: %d\n",
		d.slowest, t.late.Load())
	ok = true
	for _, c := range d.checks(first, settled, stopped) {
		fmt.Fprintln(&d.out, c)
		ok = ok && c.passes()
	}
	for _, r := range []report{settled, stopped} {
		if r.Stacks != "" {
			fmt.Fprintf(&d.out, "goroutines that are left:\n%s\n", r.Stacks)
		}
	}
	return ok, nil
}

// finals returns the numbers of the server's last messages to a user and to all, by kind. They are known once d.quiet is
// closed.
func (d *driver) finals(user uint32) map[byte]uint32 {
	return map[byte]uint32{kindBroadcast: d.last.LastBroadcast, kindUser: d.last.LastUser[user]}
}

// problem prints what is wrong.
func (d *driver) problem(format string, values ...any) {
	if d.problems.Add(1) <= maxProblems {
		fmt.Fprintf(&d.out, "%5.0fs !! %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, values...))
	}
}

// pause waits for a random time around the mean. It returns false if the context has ended.
func pause(ctx context.Context, rng *rand.Rand, mean time.Duration) bool {
	timer := time.NewTimer(min(time.Duration(rng.ExpFloat64()*float64(mean)), 4*mean))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
