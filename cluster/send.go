package cluster

import (
	"context"
	"errors"

	"github.com/wsloop/websocket"
)

// maxTopic is the length of a topic's name in bytes, as in ClientManager.Subscribe.
const maxTopic = 255

// SendUser sends one packet to every connection of a user, on all nodes, as ClientManager.SendUser does on each: no connection is waited
// for. reached is how many connections took it, here and where nodes have answered until ctx ends, or for two seconds; (0, nil) if the
// user is not there. No node is waited for if no other has connections of the user.
//
// The connections of this node have it before another node is asked. If not all nodes answer in time, the error is ErrPartial (and that of
// ctx), and reached a lower limit; ErrDisconnected and ErrTooLarge mean that it was delivered here alone. With an external NATS, which does
// not tell how many nodes will answer, one that is slower than another by more than 5 ms is not counted; its connections get the packet all
// the same.
func (n *Node) SendUser(ctx context.Context, uid uint64, packet []byte) (reached int, err error) {
	if err = n.left(); err != nil || uid == 0 {
		return 0, err
	}
	reached, _ = n.srv.Clients.SendUser(uid, packet)
	if !n.isElsewhere(uid) { // most users are on one node, and it has them
		return reached, nil
	}
	more, err := n.sendElsewhere(ctx, uid, packet)
	return reached + more, err
}

func (n *Node) sendElsewhere(ctx context.Context, uid uint64, packet []byte) (reached int, err error) {
	err = n.askUser(ctx, uid, carry(packet), func(a answer) { reached += a.count() })
	return reached, err
}

// SendAll sends one packet to every connection of every node, as ClientManager.SendAll does on each: first on this one. It does not wait
// for the others, and does not learn what they did. With many connections here it does not wait for them either, unless too much waits for
// them already or the packet has more than 16 KiB: what is sent faster than it is written is written together. ErrDisconnected and
// ErrTooLarge mean that it was delivered here alone.
func (n *Node) SendAll(_ context.Context, packet []byte) error {
	if err := n.left(); err != nil {
		return err
	}
	n.deliverHere(target{all: true}, &n.crowd.all, packet)
	if n.alone() {
		return nil
	}
	return n.send(n.subjects.all(), packet)
}

// Publish sends one packet to every subscriber of a topic, on all nodes, as ClientManager.Publish does on each.
//
// Of a topic without history the subscribers of this node come first; the others are not waited for, nor are many here (see SendAll), and
// seq is 0. ErrDisconnected and ErrTooLarge mean that it was delivered here alone.
//
// Of a topic with history the packet is stored first, and seq is its number: above that of everything published to the topic before, not
// more than 2^53, and not the next one. All subscribers get it in the order of the numbers. If it is a text frame with a Response, such as
// NewBroadcast makes, subscribers find the number, and the one before it, in Response.Seq and Response.Prev. Publish waits until the packet
// is stored, while ctx lasts, but no longer than five seconds; then, and at once while it is known that there is no store, because there
// is no quorum or an election goes on, it returns ErrHistoryUnavailable. ErrTooLarge is returned for a packet that is larger than the
// store. In both cases nobody has got it. Without a store that works, a topic with history is silent.
//
// The name of a topic has 1 to 255 bytes, any bytes; others give websocket.ErrTopicName.
func (n *Node) Publish(ctx context.Context, topic string, packet []byte) (seq uint64, err error) {
	if err = n.left(); err != nil {
		return 0, err
	}
	if topic == "" || len(topic) > maxTopic {
		return 0, websocket.ErrTopicName
	}
	if n.history != nil && n.opts.History.keeps(topic) {
		return n.history.publish(ctx, topic, packet)
	}
	var f *fan
	if feed := n.interest.topic(topic); feed != nil {
		f = &feed.fan
	}
	n.deliverHere(target{topic: topic}, f, packet)
	if n.alone() {
		return 0, nil
	}
	if n.broker != nil && n.othersTopic(topic) == 0 {
		return 0, nil
	}
	return 0, n.send(n.subjects.topic(topic), packet)
}

// left returns ErrClosed once the node has left.
func (n *Node) left() error {
	if n.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// alone reports whether this node is known to be the only one that is connected.
func (n *Node) alone() bool {
	return n.broker != nil && n.members.len() == 0 && n.broker.server.NumRoutes() == 0
}

// isElsewhere reports whether another node may have connections of a user.
func (n *Node) isElsewhere(uid uint64) bool {
	return !n.alone() && (n.broker == nil || n.othersUser(uid) > 0)
}

// carry returns the message that carries a packet.
func carry(packet []byte) []byte { return appendPacket(make([]byte, 0, 1+len(packet)), packet) }

// send sends a packet to whom a subject interests.
func (n *Node) send(subject string, packet []byte) error {
	if err := n.check(1 + len(packet)); err != nil {
		return err
	}
	return n.publish(subject, "", carry(packet))
}

// askUser asks the other nodes that have connections of a user. It is no error if there are none.
func (n *Node) askUser(ctx context.Context, uid uint64, body []byte, take func(answer)) error {
	q := question{subject: n.subjects.user(uid), body: body, take: take, want: n.members.len, lull: true}
	if n.broker != nil {
		q.interest, q.lull = true, false
		q.want = func() int { return n.othersUser(uid) }
	}
	err := n.ask(ctx, q)
	if errors.Is(err, errNobody) {
		return nil
	}
	return err
}
