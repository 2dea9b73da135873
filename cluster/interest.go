package cluster

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/wsloop/websocket"
)

// interest is what the node asks the broker for, beside what is for every node: the subscriptions that the broker is known to have. They
// are entered after it has them and taken out before it is told to forget them, so that others are never mistaken for this node.
type interest struct {
	mu     sync.RWMutex
	users  map[uint64]*nats.Subscription // guarded by mu
	topics map[string]*feed              // guarded by mu
}

// feed is a topic that has a subscriber here.
type feed struct {
	sub  *nats.Subscription // immutable
	last atomic.Uint64      // number of the latest message that was delivered, with history
	fan  fan                // for packets that are published here
}

func (in *interest) init() {
	in.users, in.topics = make(map[uint64]*nats.Subscription), make(map[string]*feed)
}

func (in *interest) user(uid uint64) *nats.Subscription {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.users[uid]
}

func (in *interest) topic(name string) *feed {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.topics[name]
}

func (in *interest) sizes() (users, topics int) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return len(in.users), len(in.topics)
}

// follow keeps the interest what the server's connections make it, until the node leaves.
func (n *Node) follow() {
	for {
		changes, err := n.watcher.Next(n.ctx)
		if err != nil {
			return
		}
		n.drop(changes)
		n.gain(changes)
	}
}

// drop ends the interest in what has gone.
func (n *Node) drop(changes websocket.Changes) {
	for uid, here := range changes.Users {
		if !here {
			n.unsubscribe(n.interest.takeUser(uid))
		}
	}
	for name, here := range changes.Topics {
		if !here {
			n.unsubscribe(n.interest.takeTopic(name))
		}
	}
}

func (in *interest) takeUser(uid uint64) *nats.Subscription {
	in.mu.Lock()
	defer in.mu.Unlock()
	sub := in.users[uid]
	delete(in.users, uid)
	return sub
}

func (in *interest) takeTopic(name string) *nats.Subscription {
	in.mu.Lock()
	defer in.mu.Unlock()
	f := in.topics[name]
	delete(in.topics, name)
	if f == nil {
		return nil
	}
	return f.sub
}

func (n *Node) unsubscribe(sub *nats.Subscription) {
	if sub != nil {
		sub.Unsubscribe() // fails only if the connection is closed, with which the interest ends too
	}
}

// gain begins the interest in what has come.
func (n *Node) gain(changes websocket.Changes) {
	users, topics := make(map[uint64]*nats.Subscription), make(map[string]*nats.Subscription)
	for uid, here := range changes.Users {
		if here {
			users[uid] = n.subscribe(n.subjects.user(uid))
		}
	}
	for name, here := range changes.Topics {
		if here {
			topics[name] = n.subscribe(n.subjects.topic(name))
		}
	}
	if len(users)+len(topics) == 0 {
		return
	}
	// What the broker has not acknowledged by then it gets when it is connected again.
	ctx, cancel := context.WithTimeout(n.ctx, answerTimeout)
	defer cancel()
	n.conn.FlushWithContext(ctx)
	n.interest.enter(users, topics)
}

// subscribe returns nil only once the connection is closed.
func (n *Node) subscribe(subject string) *nats.Subscription {
	sub, err := n.conn.ChanSubscribe(subject, n.incoming)
	if err != nil && n.ctx.Err() == nil {
		n.log.Error("websocket: cluster: cannot subscribe", "subject", subject, "error", err)
	}
	return sub
}

func (in *interest) enter(users map[uint64]*nats.Subscription, topics map[string]*nats.Subscription) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for uid, sub := range users {
		if sub != nil {
			in.users[uid] = sub
		}
	}
	for name, sub := range topics {
		if sub != nil {
			in.topics[name] = &feed{sub: sub}
		}
	}
}

// othersUser returns how many other nodes have connections of a user, as far as the embedded broker knows at the moment.
func (n *Node) othersUser(uid uint64) int {
	own := n.interest.user(uid)
	if own == nil {
		return n.broker.account.Interest(n.subjects.user(uid))
	}
	all := n.broker.account.Interest(own.Subject) // which need not be built then
	if own == n.interest.user(uid) {              // the broker has counted this node, all the time
		all--
	}
	return max(all, 0)
}

// othersTopic is othersUser for the subscribers of a topic.
func (n *Node) othersTopic(topic string) int {
	own := n.interest.topic(topic)
	if own == nil {
		return n.broker.account.Interest(n.subjects.topic(topic))
	}
	all := n.broker.account.Interest(own.sub.Subject)
	if own == n.interest.topic(topic) {
		all--
	}
	return max(all, 0)
}
