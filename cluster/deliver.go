package cluster

import (
	"encoding/binary"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/wsloop/websocket"
)

// deliver handles what other nodes send, one message after the other, until the node leaves. Nothing in it waits.
func (n *Node) deliver() {
	j := newJoiner(n.srv)
	for {
		select {
		case msg := <-n.incoming:
			n.handle(j, msg)
		case <-n.ctx.Done():
			return
		}
		for range len(n.incoming) { // what is there already
			n.handle(j, <-n.incoming)
		}
		j.flush()
	}
}

// handle does what a message says. What cannot be understood, as it may come from a later version, is left alone.
func (n *Node) handle(j *joiner, msg *nats.Msg) {
	n.received.Add(1)
	if len(msg.Data) == 0 {
		return
	}
	what, body := kind(msg.Data[0]), msg.Data[1:]
	letter, name := n.subjects.kindOf(msg.Subject)
	switch {
	case what == kindPacket && letter == 'a':
		j.add(target{all: true}, body, nil)
		return
	case what == kindPacket && letter == 't':
		if topic, ok := decodeName(name); ok {
			n.handleTopic(j, topic, body, msg)
		}
		return
	}
	j.flush() // what came before is done before
	switch letter {
	case 'a':
		n.handleAll(what, body, msg)
	case 'n':
		n.handleNode(what, body, msg)
	case 'u':
		if uid, err := strconv.ParseUint(name, 10, 64); err == nil {
			n.handleUser(uid, what, body, msg)
		}
	}
}

func (n *Node) handleAll(what kind, body []byte, msg *nats.Msg) {
	switch what {
	case kindHere:
		n.meet(string(body))
	case kindGone:
		n.members.gone(string(body))
	case kindPresence:
		members := n.localMembers(string(body))
		n.answerList(msg, len(members), func(list []byte, i int) []byte { return appendMember(list, members[i]) })
	}
}

func (n *Node) handleUser(uid uint64, what kind, body []byte, msg *nats.Msg) {
	switch what {
	case kindPacket:
		sent, _ := n.srv.Clients.SendUser(uid, body)
		n.answerCount(msg, sent)
	case kindOnline:
		n.answerCount(msg, len(n.srv.Clients.Conns(uid)))
	case kindKick:
		if f, ok := parseFarewell(body); ok {
			n.answerCount(msg, n.kickLocal(uid, f))
		}
	case kindDevices:
		devices := n.localDevices(uid)
		n.answerList(msg, len(devices), func(list []byte, i int) []byte { return appendDevice(list, devices[i]) })
	}
}

func (n *Node) handleNode(what kind, body []byte, msg *nats.Msg) {
	if what != kindClose {
		return
	}
	id, rest, ok := parseUvarint(body)
	if !ok {
		return
	}
	if f, ok := parseFarewell(rest); ok {
		closed := 0
		if n.closeLocal(id, f) == nil {
			closed = 1
		}
		n.answerCount(msg, closed)
	}
}

func (n *Node) handleTopic(j *joiner, topic string, packet []byte, msg *nats.Msg) {
	seq, prev, kept := sequenceOf(msg)
	if !kept {
		j.add(target{topic: topic}, packet, nil)
		return
	}
	f := n.interest.topic(topic)
	if f != nil && !f.advance(seq) {
		return // a path that was slower than another one: subscribers have what came after it, and see the gap
	}
	j.add(target{topic: topic}, withSequence(packet, seq, prev), nil)
}

// advance notes that a message is delivered, unless a later one was.
func (f *feed) advance(seq uint64) bool {
	if seq <= f.last.Load() {
		return false
	}
	f.last.Store(seq) // only deliver advances it
	return true
}

// answer answers a message, if that is wanted.
func (n *Node) answer(to *nats.Msg, a answer) {
	if to.Reply != "" {
		a.node = n.opts.Node
		n.conn.Publish(to.Reply, appendAnswer(nil, a))
	}
}

func (n *Node) answerCount(to *nats.Msg, count int) {
	if to.Reply != "" {
		n.answer(to, answer{body: binary.AppendUvarint(nil, uint64(count))})
	}
}

// listBytes is how many bytes of a list go into one message at most.
const listBytes = 256 << 10

// answerList answers with a list of so many things, in as many messages as that takes.
func (n *Node) answerList(to *nats.Msg, count int, add func(list []byte, i int) []byte) {
	most := min(listBytes, int(n.conn.MaxPayload()/2))
	var list []byte
	for i := range count {
		if list = add(list, i); len(list) >= most {
			n.answer(to, answer{more: true, body: list})
			list = nil
		}
	}
	n.answer(to, answer{body: list})
}

// closeLocal closes a connection of this node, which is looked for among all: that takes a millisecond for 100,000.
func (n *Node) closeLocal(id uint64, f farewell) error {
	for _, conn := range n.srv.Clients.All() {
		if websocket.ID(conn) == id {
			return n.srv.Clients.Close(conn, f.code, f.reason)
		}
	}
	return websocket.ErrConnClosed
}
