package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/wsloop/websocket"
)

// Slow, deaf and dead peers.
const (
	slowRead  = 2 << 10 // bytes read at a time
	slowPause = 50 * time.Millisecond
	slowTime  = 20 * time.Second

	deafMessage = 64 << 10 // bytes

	// dropTime is the time in which a peer that takes nothing or says nothing must have been dropped: the server's time-outs
	// with as much again for a network that loses what tells of it.
	dropTime = 2 * (pingInterval + silenceTimeout)
)

// openPeer connects without the checks of a session. It returns nil if that fails, which may happen. The connection is closed when the
// context ends.
func (d *driver) openPeer(ctx context.Context, rng *rand.Rand) (c *rawConn, leave func()) {
	c, err := dialRaw(d.entrance(rng).Echo, "id=0")
	if err != nil {
		return nil, nil
	}
	d.tally.open.Add(1)
	unhook := context.AfterFunc(ctx, func() { c.Close() })
	return c, func() {
		unhook()
		c.reset()
		d.tally.open.Add(-1)
	}
}

// readsSlowly is a peer that asks for more than it reads.
func (d *driver) readsSlowly(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, rng, time.Second) {
		c, leave := d.openPeer(ctx, rng)
		if c == nil {
			continue
		}
		c.narrow()
		packet := websocket.NewFrameBin(true, d.fill.cut(rng, websocket.OpcodeBin, 1<<16))
		go func() {
			for c.write(packet) == nil {
			}
		}()
		buf := make([]byte, slowRead)
		until := time.Now().Add(slowTime)
		for time.Now().Before(until) && pause(ctx, rng, slowPause) {
			if _, err := c.in.Read(buf); err != nil {
				break
			}
		}
		leave()
		d.tally.slow.Add(1)
	}
}

// isDeaf is a peer that asks for much and reads nothing at all.
func (d *driver) isDeaf(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, rng, time.Second) {
		c, leave := d.openPeer(ctx, rng)
		if c == nil {
			continue
		}
		packet := websocket.NewFrameBin(true, d.fill.cut(rng, websocket.OpcodeBin, deafMessage))
		var err error
		for err == nil { // until nothing is taken for so long
			c.SetWriteDeadline(time.Now().Add(dropTime))
			_, err = c.Write(packet)
		}
		d.noteDrop(ctx, err, "deaf")
		leave()
	}
}

// isDead is a peer that does not say anything, not even a Pong.
func (d *driver) isDead(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, rng, time.Second) {
		c, leave := d.openPeer(ctx, rng)
		if c == nil {
			continue
		}
		c.SetReadDeadline(time.Now().Add(dropTime))
		_, err := io.Copy(io.Discard, c.in)
		d.noteDrop(ctx, err, "dead")
		leave()
	}
}

// noteDrop notes whether a peer was dropped before its time limit.
func (d *driver) noteDrop(ctx context.Context, err error, peer string) {
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		d.tally.kept.Add(1)
		d.problem("the server keeps a %s peer", peer)
	default:
		d.tally.dead.Add(1)
	}
}
