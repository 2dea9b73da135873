package cluster

import (
	"sync/atomic"

	"github.com/wsloop/websocket"
)

const (
	// joinSize is up to how many bytes of packets for the same connections are sent together: what waits for its turn at the same time
	// costs each connection one write then, rather than one for each packet.
	joinSize = 32 << 10

	// crowdSize is from how many subscribers on Publish does not deliver itself: see crowd.
	crowdSize = 32

	// aheadSize is how many packets may wait for a crowd, until Publish waits.
	aheadSize = 128
)

// target is all connections of this node, or the subscribers of a topic.
type target struct {
	all   bool
	topic string
}

// joiner delivers packets to connections of this node, those that follow each other and are for the same ones together. It is owned by one
// goroutine.
type joiner struct {
	clients *websocket.ClientManager
	alone   bool // packets stay alone: joined ones are not compressed
	to      target
	packets []byte // that wait
	reach   *atomic.Int64
}

func newJoiner(srv *websocket.Server) *joiner {
	return &joiner{clients: srv.Clients, alone: srv.Options.Compression != nil}
}

// add delivers a packet, at the latest when flush is called. It keeps no reference to it. If reach is not nil it is told to how many
// connections a packet went.
func (j *joiner) add(to target, packet []byte, reach *atomic.Int64) {
	if to != j.to || len(j.packets)+len(packet) > joinSize {
		j.flush()
	}
	j.to, j.reach = to, reach
	if j.alone || len(packet) > joinSize/2 {
		j.flush() // what waits comes first
		j.send(packet)
		return
	}
	j.packets = append(j.packets, packet...)
}

// flush delivers what waits.
func (j *joiner) flush() {
	if len(j.packets) > 0 {
		j.send(j.packets)
		j.packets = j.packets[:0]
	}
}

func (j *joiner) send(packet []byte) {
	var sent int
	if j.to.all {
		sent, _ = j.clients.SendAll(packet)
	} else {
		sent, _ = j.clients.Publish(j.to.topic, packet)
	}
	if j.reach != nil {
		j.reach.Store(int64(sent))
	}
}

// crowd delivers packets to many connections of this node on a goroutine of its own, so that those which are published one after the other
// can be joined. Few connections are served by Publish itself, which costs less then.
type crowd struct {
	waiting chan awaited
	ended   chan struct{} // closed when nothing that waits is delivered any more
	all     fan
}

// fan is how a target of this node is served.
type fan struct {
	reach  atomic.Int64 // how many connections took the last packet
	queued atomic.Int64 // packets that wait for the goroutine, or are with it
}

// awaited is a packet that waits.
type awaited struct {
	to     target
	fan    *fan
	packet []byte
	served chan struct{} // closed when it is delivered; nil if nobody waits for that
}

// deliverHere delivers a packet to connections of this node, or has it delivered. It waits while too much waits.
func (n *Node) deliverHere(to target, f *fan, packet []byte) {
	if f != nil && (f.reach.Load() >= crowdSize || f.queued.Load() > 0) && n.enqueue(to, f, packet) {
		return
	}
	var sent int
	if to.all {
		sent, _ = n.srv.Clients.SendAll(packet)
	} else {
		sent, _ = n.srv.Clients.Publish(to.topic, packet)
	}
	if f != nil {
		f.reach.Store(int64(sent))
	}
}

// enqueue has a packet delivered. It returns false if the node leaves. One that is too large to be joined is not copied: it is waited for,
// so that what waits needs little memory.
func (n *Node) enqueue(to target, f *fan, packet []byte) bool {
	a := awaited{to: to, fan: f}
	if len(packet) <= joinSize/2 {
		a.packet = append([]byte(nil), packet...)
	} else {
		a.packet, a.served = packet, make(chan struct{})
	}
	f.queued.Add(1)
	select {
	case n.crowd.waiting <- a:
	case <-n.ctx.Done():
		f.queued.Add(-1)
		return false
	}
	if a.served != nil {
		select {
		case <-a.served:
		case <-n.crowd.ended:
		}
	}
	return true
}

// serveCrowd delivers what waits, until the node leaves and nothing does any more.
func (n *Node) serveCrowd() {
	defer close(n.crowd.ended)
	j := newJoiner(n.srv)
	for {
		select {
		case a := <-n.crowd.waiting:
			n.serveWaiting(j, a)
		case <-n.ctx.Done():
			select {
			case a := <-n.crowd.waiting:
				n.serveWaiting(j, a)
			default:
				return
			}
		}
	}
}

// serveWaiting delivers a packet, and those behind it that wait already.
func (n *Node) serveWaiting(j *joiner, a awaited) {
	served := []awaited{a}
	j.add(a.to, a.packet, &a.fan.reach)
	for len(served) < aheadSize {
		select {
		case a = <-n.crowd.waiting:
			served = append(served, a)
			j.add(a.to, a.packet, &a.fan.reach)
			continue
		default:
		}
		break
	}
	j.flush()
	for _, a := range served {
		a.fan.queued.Add(-1)
		if a.served != nil {
			close(a.served)
		}
	}
}
