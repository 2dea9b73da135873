package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/wsloop/websocket"
)

// Member is a user who has subscribed to a topic on one node, with so many connections there. UID 0 stands for all connections that
// belong to no user.
type Member struct {
	UID   uint64
	Conns int
	Node  string
}

// memberBytes is how many bytes of members go into one message at most.
const memberBytes = 256 << 10

// Presence returns who has subscribed to a topic, in the order of users and nodes. A user with connections on two nodes is there twice.
// Every node is asked and answers for its own connections, as they are at that moment. If one does not answer while ctx lasts, but no
// longer than two seconds, the error is ErrPartial and members has what the others said; ErrDisconnected comes with those of this node.
func (n *Node) Presence(ctx context.Context, topic string) (members []Member, err error) {
	if err = n.left(); err != nil {
		return nil, err
	}
	if topic == "" || len(topic) > maxTopic {
		return nil, websocket.ErrTopicName
	}
	members = n.localMembers(topic)
	if !n.alone() {
		err = n.ask(ctx, question{
			subject: n.subjects.all(),
			body:    append([]byte{byte(kindPresence)}, topic...),
			want:    n.nodes,
			take: func(a answer) {
				others, _ := parseMembers(a.node, a.body)
				members = append(members, others...)
			},
		})
	}
	if errors.Is(err, errNobody) {
		err = nil
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Or(cmp.Compare(a.UID, b.UID), cmp.Compare(a.Node, b.Node)) })
	return members, err
}

// nodes returns how many other nodes there are.
func (n *Node) nodes() int {
	if n.broker == nil {
		return n.members.len()
	}
	return max(n.broker.account.Interest(n.subjects.all())-1, 0)
}

// isThere reports whether another node is there.
func (n *Node) isThere(name string) bool {
	if n.broker == nil {
		return n.members.has(name)
	}
	return n.broker.account.Interest(n.subjects.node(name)) > 0
}

// localMembers returns who has subscribed to a topic on this node.
func (n *Node) localMembers(topic string) (members []Member) {
	conns := make(map[uint64]int)
	for _, conn := range n.srv.Clients.Subscribers(topic) {
		if info, ok := n.srv.Clients.Info(conn); ok {
			conns[info.UID]++
		}
	}
	for uid, count := range conns {
		members = append(members, Member{UID: uid, Conns: count, Node: n.opts.Node})
	}
	return members
}

// answerMembers answers with members, in as many messages as that takes.
func (n *Node) answerMembers(to *nats.Msg, members []Member) {
	var list []byte
	for _, m := range members {
		if list = appendMember(list, m); len(list) >= memberBytes {
			n.answer(to, answer{more: true, body: list})
			list = nil
		}
	}
	n.answer(to, answer{body: list})
}
