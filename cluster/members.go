package cluster

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A node says that it is there each beatTime; one that has not said so for beatTimeout is gone.
const (
	beatTime    = time.Second
	beatTimeout = 3500 * time.Millisecond
)

// membership is which other nodes there are.
type membership struct {
	mu   sync.Mutex
	seen map[string]time.Time // when a node was last heard of; guarded by mu

	count atomic.Int64 // how many there are; changed with mu held
}

// here notes that a node is there. It returns whether it was not known.
func (m *membership) here(name string, now time.Time) (isNew bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = make(map[string]time.Time)
	}
	_, known := m.seen[name]
	m.seen[name] = now
	m.count.Store(int64(len(m.seen)))
	return !known
}

func (m *membership) gone(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.seen, name)
	m.count.Store(int64(len(m.seen)))
}

// expire forgets the nodes that have not been heard of.
func (m *membership) expire(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, seen := range m.seen {
		if now.Sub(seen) > beatTimeout {
			delete(m.seen, name)
		}
	}
	m.count.Store(int64(len(m.seen)))
}

func (m *membership) names() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (m *membership) has(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.seen[name]
	return known
}

func (m *membership) len() int { return int(m.count.Load()) }

// beat tells the others that this node is there, until it leaves.
func (n *Node) beat() {
	ticker := time.NewTicker(beatTime)
	defer ticker.Stop()
	for {
		n.sayHere()
		select {
		case <-ticker.C:
			n.members.expire(time.Now())
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) sayHere() {
	n.conn.Publish(n.subjects.all(), append([]byte{byte(kindHere)}, n.opts.Node...))
}
func (n *Node) sayGone() {
	n.conn.Publish(n.subjects.all(), append([]byte{byte(kindGone)}, n.opts.Node...))
}

// meet notes a node that says that it is there. One that is new is told of this one, rather than at the next beat.
func (n *Node) meet(name string) {
	if n.members.here(name, time.Now()) {
		n.sayHere()
		n.log.Info("websocket: cluster: node is there", "node", name)
	}
}
