package main

import (
	"time"

	"github.com/wsloop/websocket/benchmarks/internal/raw"
)

// claimOf16KiB is the header of a TLS record with 16 KiB of application data, one byte of type and a tag.
var claimOf16KiB = []byte{23, 3, 3, 0x40, 0x11}

// flood measures echoes beside clients that send a recorded ClientHello, leave once something answers it, and come back at once.
func (l *load) flood(warmup, window time.Duration) error {
	hello, err := recordClientHello(l.tls)
	if err != nil {
		return err
	}
	l.hello = hello
	if err = l.open(l.scenario.Connections, true); err != nil {
		return err
	}
	for range l.scenario.Flooders {
		if err = l.replay(); err != nil {
			return err
		}
	}
	l.answered = func(c *conn) error { return l.send(c, 1) }
	l.latencies = make([]float64, 0, 1<<22)
	l.timing = true
	for _, c := range l.conns {
		if err = l.answered(c); err != nil {
			return err
		}
	}
	l.P50, l.P99, err = l.percentiles(warmup, window)
	return err
}

func (l *load) replay() error {
	c := &conn{state: replaying, ring: l.ring}
	if err := l.connect(c); err != nil {
		return err
	}
	return l.transmit(c, l.hello)
}

// replayed ends a flooder's connection, at whatever it got, and has it come back.
func (l *load) replayed(c *conn) error {
	if n, err := raw.Recv(c.fd, l.buffer); err == nil && n > 0 {
		l.replays++
	}
	l.drop(c)
	return l.replay()
}

// claim takes what the server's resident memory grows by when each connection announces a record that never comes.
func (l *load) claim() error {
	if err := l.open(l.scenario.Connections, true); err != nil {
		return err
	}
	before, err := l.settle()
	if err != nil {
		return err
	}
	for _, c := range l.conns {
		if err = l.transmit(c, claimOf16KiB); err != nil {
			return err
		}
	}
	if l.Resident, err = l.settle(); err != nil {
		return err
	}
	l.Value = float64(l.Resident-before) / float64(l.scenario.Connections)
	return nil
}
