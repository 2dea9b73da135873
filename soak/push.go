package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wsloop/websocket"
)

// users is the number of users that have devices, from 1 on.
const users = 40

// The server sends to one user each pushTick, and to everyone each broadcastTicks of those. A body has up to maxPush bytes.
const (
	pushTick       = 10 * time.Millisecond
	broadcastTicks = 20
	maxPush        = 2048
)

// pusher is the goroutine that sends to users and to all.
type pusher struct {
	servs []*websocket.Server
	ended chan struct{} // closed to end it
	done  sync.WaitGroup

	// Owned by its goroutine until it has ended.
	broadcasts uint32
	toUser     map[uint32]uint32
	skipped    []push
}

func startPusher(servs []*websocket.Server) *pusher {
	p := &pusher{servs: servs, ended: make(chan struct{}), toUser: make(map[uint32]uint32)}
	p.done.Go(p.run)
	return p
}

// stop ends it and reports what was sent.
func (p *pusher) stop() report {
	close(p.ended)
	p.done.Wait()
	return report{LastBroadcast: p.broadcasts, LastUser: p.toUser, Skipped: p.skipped}
}

func (p *pusher) run() {
	ticker := time.NewTicker(pushTick)
	defer ticker.Stop()
	fill := newFiller(rand.New(rand.NewPCG(0, 0)))
	for tick := 0; ; tick++ {
		select {
		case <-p.ended:
			return
		case <-ticker.C:
		}
		rng := rand.New(rand.NewPCG(1, uint64(tick)))
		user := 1 + rng.Uint32N(users)
		p.toUser[user]++
		p.send(message{kindUser, user, p.toUser[user], fill.cut(rng, websocket.OpcodeText, rng.IntN(maxPush))})
		if tick%broadcastTicks == 0 {
			p.broadcasts++
			p.send(message{kindBroadcast, 0, p.broadcasts, fill.cut(rng, websocket.OpcodeText, rng.IntN(maxPush))})
		}
	}
}

// send sends a message to those it is for, and notes which of them were skipped because their queue was full.
func (p *pusher) send(m message) {
	packet := websocket.NewFrameText(false, appendMessage(nil, m))
	for _, serv := range p.servs {
		var failed map[int]error
		if m.kind == kindUser {
			_, failed = serv.Clients.SendUser(uint64(m.owner), packet)
		} else {
			_, failed = serv.Clients.SendAll(packet)
		}
		for conn, err := range failed {
			if id := identityOf(serv, conn); id.checked && errors.Is(err, websocket.ErrSendQueueFull) {
				p.skipped = append(p.skipped, push{id.session, m.kind, m.seq})
			}
		}
	}
}

// A stale number is sent to for staleTime after its connection has gone: less than the time for which it is certainly held
// back. A stale id is sent to for as long as it is among the last staleIDs.
const (
	staleTime = 700 * time.Millisecond
	staleTick = 20 * time.Millisecond
	staleIDs  = 4096
	idsATick  = 16
)

// staleSender is a part of the program that does not know that connections have gone: it goes on sending to them.
type staleSender struct {
	ended chan struct{}
	done  sync.WaitGroup

	mu     sync.Mutex
	recent []staleConn // guarded by mu
	old    []staleConn // a ring; guarded by mu
	next   int         // the place in the ring that is overwritten next; guarded by mu
}

type staleConn struct {
	gone   time.Time
	id     uint64
	conn   int
	packet []byte
}

// add is HandleClientRemove.
func (s *staleSender) add(ctx context.Context, conn int) {
	id, _ := ctx.Value(identityKey{}).(identity)
	packet := websocket.NewFrameText(false, appendMessage(nil, message{kind: kindStale, owner: id.session}))
	gone := staleConn{time.Now(), websocket.ID(conn), conn, packet}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = append(s.recent, gone)
	if len(s.old) < staleIDs {
		s.old = append(s.old, gone)
		return
	}
	s.old[s.next] = gone
	s.next = (s.next + 1) % staleIDs
}

func (s *staleSender) begin() {
	s.ended = make(chan struct{})
	s.done.Go(s.run)
}

func (s *staleSender) end() {
	close(s.ended)
	s.done.Wait()
}

func (s *staleSender) run() {
	ticker := time.NewTicker(staleTick)
	defer ticker.Stop()
	for {
		select {
		case <-s.ended:
			return
		case <-ticker.C:
		}
		numbers, ids := s.pick()
		for _, c := range numbers {
			if time.Since(c.gone) < staleTime { // picking and sending may have taken long
				websocket.TrySend(c.conn, c.packet)
			}
		}
		for _, c := range ids {
			websocket.TrySendID(c.id, c.packet)
		}
	}
}

func (s *staleSender) pick() (numbers, ids []staleConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.recent) > 0 && time.Since(s.recent[0].gone) > staleTime {
		s.recent = s.recent[1:]
	}
	for range min(idsATick, len(s.old)) {
		ids = append(ids, s.old[rand.IntN(len(s.old))])
	}
	return append(numbers, s.recent...), ids
}
