package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// How clients that behave spend their time.
const (
	echoPause   = 100 * time.Millisecond
	chatPause   = 2 * time.Second
	blockPause  = time.Second
	lagPause    = 50 * time.Millisecond
	lagTime     = 30 * time.Millisecond // for each message
	lagSize     = 32 << 10              // bytes
	churnPause  = 200 * time.Millisecond
	sessionTime = 30 * time.Second
	maxSleep    = 1000 // milliseconds
)

// echoes is a client that sends messages and gets them back.
func (d *driver) echoes(ctx context.Context, rng *rand.Rand) {
	d.sessions(ctx, rng, device{}, func(s *session) bool { return pause(ctx, rng, echoPause) && s.say(rng, randomSize(rng)) })
}

// chats is a device of a user: it mostly listens.
func (d *driver) chats(ctx context.Context, rng *rand.Rand) {
	d.sessions(ctx, rng, device{user: 1 + rng.Uint32N(users)}, func(s *session) bool {
		return pause(ctx, rng, chatPause) && s.say(rng, rng.IntN(maxPush))
	})
}

// lags is a client that takes its time over each message, so that the server's queue for it fills.
func (d *driver) lags(ctx context.Context, rng *rand.Rand) {
	d.sessions(ctx, rng, device{user: 1 + rng.Uint32N(users), lag: lagTime}, func(s *session) bool {
		return pause(ctx, rng, lagPause) && s.say(rng, lagSize+rng.IntN(lagSize))
	})
}

// blocks is a client over whose messages the handler blocks.
func (d *driver) blocks(ctx context.Context, rng *rand.Rand) {
	d.sessions(ctx, rng, device{}, func(s *session) bool { return pause(ctx, rng, blockPause) && s.sleep(rng.IntN(maxSleep)) })
}

// sessions connects again and again, and repeats a step on each connection.
func (d *driver) sessions(ctx context.Context, rng *rand.Rand, dev device, step func(s *session) bool) {
	for ctx.Err() == nil {
		s := d.open(rng, dev)
		if s == nil {
			pause(ctx, rng, time.Second)
			continue
		}
		until := time.Now().Add(time.Duration((0.2 + rng.ExpFloat64()) * float64(sessionTime)))
		for time.Now().Before(until) && step(s) {
		}
		s.finish(ctx)
	}
}

// churns is a client that comes and goes: with and without a closing handshake, with messages under way, after a panic.
func (d *driver) churns(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, rng, churnPause) {
		s := d.open(rng, device{user: rng.Uint32N(users + 1)})
		if s == nil {
			continue
		}
		for n := rng.IntN(4); n > 0 && s.say(rng, rng.IntN(maxPush)); n-- {
		}
		switch n := rng.IntN(20); {
		case n == 0:
			s.sayPanic()
		case n < 7:
			d.tally.throwaway.Add(1)
			s.abort()
		default:
			s.finish(ctx)
		}
		d.tally.churned.Add(1)
	}
}
