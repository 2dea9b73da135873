package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/raw"
	"github.com/wsloop/websocket/benchmarks/internal/results"
	"golang.org/x/sys/unix"
)

const (
	openAtOnce  = 128              // handshakes
	openTimeout = 60 * time.Second // for all connections
	stall       = 5 * time.Second  // without an answer, beyond the time that is measured
	readSize    = 256 << 10
)

type load struct {
	results.Measure

	scenario   *plan.Scenario
	pid        int
	addr       unix.SockaddrInet4
	random     *rand.Rand
	handshakes *handshakes
	ring       *ring
	inflater   *inflater
	tls        *tls.Config // nil without TLS
	hello      []byte      // what flooders send
	poller     *raw.Poller
	buffer     []byte
	byFD       []*conn
	conns      []*conn
	messages   int64
	wire       int64 // bytes that came after the handshakes
	plain      int64 // bytes that the same messages are without compression
	compressed int64 // messages
	replays    int64
	timing     bool
	latencies  []float64

	opened   func(*conn) error        // a handshake is done
	answered func(*conn) error        // all answers are in
	ended    func(*conn, error) error // the stream has ended or failed
}

func newLoad(s *plan.Scenario, addr string, pid int, seed uint64, config *tls.Config) (l *load, err error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(seed, 0))
	l = &load{
		scenario:   s,
		pid:        pid,
		addr:       unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()},
		random:     random,
		handshakes: newHandshakes(addr, offer(s), random),
		ring:       newRing(s, s.Kind, max(s.InFlight, 1), random),
		inflater:   newInflater(),
		tls:        config,
		buffer:     make([]byte, readSize),
		answered:   func(*conn) error { return nil },
		ended:      func(_ *conn, err error) error { return fmt.Errorf("the server closed a connection: %w", err) },
	}
	l.opened = l.answered
	l.poller, err = raw.NewPoller()
	return l, err
}

// dial opens a connection and sends the request of the handshake, or begins that of TLS.
func (l *load) dial() error {
	i := l.handshakes.next
	l.handshakes.next = (i + 1) % len(l.handshakes.requests)
	c := &conn{state: upgrading, ring: l.ring, request: l.handshakes.requests[i], accept: l.handshakes.accepts[i]}
	if err := l.connect(c); err != nil {
		return err
	}
	if l.tls != nil {
		c.state = securing
		c.secure = newSecure(c.fd, l.tls)
		return l.handshake(c)
	}
	return l.write(c, c.request)
}

// connect opens the socket of a connection.
func (l *load) connect(c *conn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err = unix.Connect(fd, &l.addr); err != nil { // on the loopback this does not wait
		return fmt.Errorf("connecting: %w", err)
	}
	for fd >= len(l.byFD) {
		l.byFD = append(l.byFD, make([]*conn, 1024)...)
	}
	c.fd, c.number = fd, len(l.conns)
	c.next = c.number * 7 * l.ring.each % len(l.ring.want) // neighbours send different messages
	c.expect = c.next
	l.byFD[fd] = c
	return l.poller.Add(fd, false)
}

// open opens connections until there are n; with echo, each has sent its messages, one or as many as the scenario says, and got
// the answers.
func (l *load) open(n int, echo bool) error {
	ready := func(c *conn) error {
		l.conns = append(l.conns, c)
		return nil
	}
	l.opened, l.answered = ready, func(*conn) error { return nil }
	if echo {
		l.opened = func(c *conn) error { return l.send(c, 1) }
		l.answered = func(c *conn) error {
			if c.answers < l.scenario.Echoes {
				return l.send(c, 1)
			}
			return ready(c)
		}
	}
	dialled, deadline := len(l.conns), now()+int64(openTimeout)
	for len(l.conns) < n {
		for dialled < n && dialled-len(l.conns) < openAtOnce {
			if err := l.dial(); err != nil {
				return err
			}
			dialled++
		}
		if err := l.turn(); err != nil {
			return err
		}
		if now() > deadline {
			return fmt.Errorf("%d of %d connections open after %v", len(l.conns), n, openTimeout)
		}
	}
	l.opened, l.answered = func(*conn) error { return nil }, func(*conn) error { return nil }
	return nil
}

// turn serves what is ready, or waits for it for 10 ms.
func (l *load) turn() error {
	n, err := l.poller.Poll(10)
	if err != nil {
		return err
	}
	for i := range n {
		fd, readable, writable := l.poller.At(i)
		c := l.byFD[fd]
		if c == nil {
			continue
		}
		if writable {
			err = l.flush(c)
		}
		if err == nil && readable {
			err = l.read(c)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
			err = l.ended(c, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run serves for that long, and until there was an answer unless it is quiet.
func (l *load) run(d time.Duration, quiet bool) error {
	begin, before := now(), l.messages
	for {
		if err := l.turn(); err != nil {
			return err
		}
		switch t := now() - begin; {
		case t >= int64(d) && (quiet || l.messages > before):
			return nil
		case t >= int64(d+stall):
			return fmt.Errorf("no answer for %v", stall)
		}
	}
}

// measured runs the part that counts.
func (l *load) measured(window time.Duration, quiet bool) error {
	before, err := l.clocks()
	if err != nil {
		return err
	}
	if err = l.run(window, quiet); err != nil {
		return err
	}
	after, err := l.clocks()
	if err != nil {
		return err
	}
	l.Messages = after.messages - before.messages
	l.Seconds = float64(after.wall-before.wall) / 1e9
	l.ServerCPU = float64(after.server-before.server) / 1e9
	l.LoadCPU = float64(after.load-before.load) / 1e9
	if l.plain > 0 { // else no message was sent back, as where connections only open
		l.Wire = float64(l.wire) / float64(l.plain)
	}
	l.Replays = float64(after.replays-before.replays) / l.Seconds
	l.LoadLimited = l.LoadCPU > 0.95*l.Seconds && l.ServerCPU < 0.9*l.Seconds
	if quiet {
		l.Value = 100 * l.ServerCPU / l.Seconds
		return nil
	}
	l.Value = 1e6 * l.ServerCPU / float64(l.Messages)
	if l.scenario.Metric == plan.Rate {
		l.Value = float64(l.Messages) / l.Seconds
	}
	return nil
}

func (l *load) echo(warmup, window time.Duration) error {
	s := l.scenario
	if err := l.open(s.Connections, false); err != nil {
		return err
	}
	active := l.conns
	if s.Active > 0 {
		active = l.conns[:s.Active]
	}
	l.answered = func(c *conn) error { return l.send(c, max(s.InFlight, 1)) }
	for _, c := range active {
		if err := l.answered(c); err != nil {
			return err
		}
	}
	return l.warmAndMeasure(warmup, window)
}

func (l *load) warmAndMeasure(warmup, window time.Duration) error {
	if err := l.run(warmup, false); err != nil {
		return err
	}
	return l.measured(window, false)
}

// broadcast has all connections get what the first one sends. Each does an echo at first: then the server knows it.
func (l *load) broadcast(warmup, window time.Duration) error {
	shared := l.ring
	l.ring = newRing(l.scenario, plan.TextEcho, 1, l.random)
	if err := l.open(l.scenario.Connections, true); err != nil {
		return err
	}
	for _, c := range l.conns {
		c.ring, c.next, c.expect = shared, 0, 0
	}
	missing := 1
	l.answered = func(*conn) error {
		if missing--; missing > 0 {
			return nil
		}
		missing = len(l.conns)
		for _, c := range l.conns[1:] {
			c.missing = 1
		}
		return l.send(l.conns[0], 1)
	}
	if err := l.answered(l.conns[0]); err != nil {
		return err
	}
	return l.warmAndMeasure(warmup, window)
}

// churn keeps as many connections at work as the scenario says; each is closed after one echo or none, and another one opened.
// What counts as a message is a connection.
func (l *load) churn(echo bool, warmup, window time.Duration) error {
	leave := func(c *conn) error {
		c.state = closing
		return l.write(c, appendMasked(nil, opClose, []byte{1000 >> 8, 1000 & 0xFF}, l.random.Uint32()))
	}
	l.opened = leave
	if echo {
		l.opened = func(c *conn) error { return l.send(c, 1) }
		l.answered = func(c *conn) error {
			l.messages-- // the connection counts once it has ended
			return leave(c)
		}
	}
	l.ended = func(c *conn, err error) error {
		if c.state != closing {
			return fmt.Errorf("the server closed a connection: %w", err)
		}
		l.messages++
		l.drop(c)
		return l.dial()
	}
	for range l.scenario.Connections {
		if err := l.dial(); err != nil {
			return err
		}
	}
	return l.warmAndMeasure(warmup, window)
}

func (l *load) drop(c *conn) {
	l.byFD[c.fd] = nil
	unix.Close(c.fd)
}

// block compares latencies without and with a connection whose handler sleeps.
func (l *load) block(warmup, window time.Duration) error {
	if err := l.open(l.scenario.Connections, false); err != nil {
		return err
	}
	l.answered = func(c *conn) error { return l.send(c, 1) }
	l.latencies = make([]float64, 0, 1<<22)
	l.timing = true
	for _, c := range l.conns[1:] {
		if err := l.answered(c); err != nil {
			return err
		}
	}
	var err error
	if _, l.P99Without, err = l.percentiles(warmup, window); err != nil {
		return err
	}
	blocked := l.conns[0]
	blocked.ring = newRing(l.scenario, plan.Sleep, 1, l.random)
	blocked.next, blocked.expect = 0, 0
	if err = l.answered(blocked); err != nil {
		return err
	}
	if l.P50, l.P99, err = l.percentiles(warmup, window); err != nil {
		return err
	}
	l.Value = l.P99 / l.P99Without
	return nil
}

func (l *load) percentiles(warmup, window time.Duration) (p50, p99 float64, err error) {
	if err = l.run(warmup, false); err != nil {
		return 0, 0, err
	}
	l.latencies = l.latencies[:0]
	if err = l.measured(window, false); err != nil {
		return 0, 0, err
	}
	slices.Sort(l.latencies)
	n := len(l.latencies)
	return l.latencies[n/2], l.latencies[n*99/100], nil
}

// memory opens some connections and then many more, and takes the slope of the server's resident memory.
func (l *load) memory() error {
	var resident [2]int64
	steps := [2]int{l.scenario.Active, l.scenario.Connections}
	for i, n := range steps {
		err := l.open(n, true)
		if err == nil {
			resident[i], err = l.settle()
		}
		if err != nil {
			return err
		}
	}
	l.Resident = resident[1]
	l.Value = float64(resident[1]-resident[0]) / float64(steps[1]-steps[0])
	return nil
}

// settle lets the server give back memory and returns what stays resident.
func (l *load) settle() (resident int64, err error) {
	for last := int64(-1); resident != last; {
		if err = unix.Kill(l.pid, unix.SIGUSR1); err != nil {
			return 0, err
		}
		if err = l.run(500*time.Millisecond, true); err != nil {
			return 0, err
		}
		last = resident
		if resident, err = residentBytes(l.pid); err != nil {
			return 0, err
		}
		if last > 0 && (resident-last)*200 < last && (last-resident)*200 < last {
			break
		}
	}
	return resident, nil
}

func (l *load) idle(window time.Duration) error {
	if err := l.open(l.scenario.Connections, true); err != nil {
		return err
	}
	return l.measured(window, true)
}
