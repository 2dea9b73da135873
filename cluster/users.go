package cluster

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/wsloop/websocket"
)

// Online reports whether a user has a connection, on any node. Of other nodes only those are asked that have connections of the user; if
// they do not answer in time, the error is ErrPartial.
func (n *Node) Online(ctx context.Context, uid uint64) (bool, error) {
	if err := n.left(); err != nil || uid == 0 {
		return false, err
	}
	if len(n.srv.Clients.Conns(uid)) > 0 {
		return true, nil
	}
	online := false
	if !n.isElsewhere(uid) {
		return false, nil
	}
	err := n.askUser(ctx, uid, []byte{byte(kindOnline)}, func(a answer) { online = online || a.count() > 0 })
	if online {
		err = nil // whatever the others would have said
	}
	return online, err
}

// Kick closes all connections of a user, on all nodes, as ClientManager.Close does: with a code and a reason in the Close frame (RFC 6455,
// section 7.4). closed is how many there were; errors are those of SendUser. One that is opened meanwhile may be missed: whoever wants to
// keep a user out refuses them in HandleAuth first. A code that must not be on the wire, or a reason that is not UTF-8, is an error.
func (n *Node) Kick(ctx context.Context, uid uint64, code websocket.CloseCode, reason string) (closed int, err error) {
	f := farewell{code, reason}
	if err = errors.Join(n.left(), checkFarewell(&f)); err != nil || uid == 0 {
		return 0, err
	}
	closed = n.kickLocal(uid, f)
	if n.isElsewhere(uid) {
		err = n.askUser(ctx, uid, appendFarewell([]byte{byte(kindKick)}, f), func(a answer) { closed += a.count() })
	}
	return closed, err
}

func (n *Node) kickLocal(uid uint64, f farewell) (closed int) {
	for _, conn := range n.srv.Clients.Conns(uid) {
		if n.srv.Clients.Close(conn, f.code, f.reason) == nil {
			closed++
		}
	}
	return closed
}

// CloseConn closes the connection with that id (see websocket.ID) of the node with that name, such as a log or ConnInfo told. It returns
// websocket.ErrConnClosed if the node has no such connection, and ErrNoNode if there is no such node.
func (n *Node) CloseConn(ctx context.Context, node string, id uint64, code websocket.CloseCode, reason string) error {
	f := farewell{code, reason}
	if err := errors.Join(n.left(), checkFarewell(&f)); err != nil {
		return err
	}
	if node == n.opts.Node {
		return n.closeLocal(id, f)
	}
	closed := 0
	err := n.ask(ctx, question{
		subject: n.subjects.node(node),
		body:    appendFarewell(binary.AppendUvarint([]byte{byte(kindClose)}, id), f),
		want:    func() int { return 1 },
		take:    func(a answer) { closed = a.count() },
	})
	switch {
	case errors.Is(err, errNobody):
		return ErrNoNode
	case err == nil && closed == 0:
		return websocket.ErrConnClosed
	}
	return err
}

// KeepNewest limits how many connections a user has in the whole cluster: it closes all but the newest ones, on whatever node they are,
// with StatusForbidden (1008) and the reason "too many connections", and returns how many that were. A server that wants the limit calls it in
// HandleClientAdd. The oldest goes, rather than that the newest is refused, since it may well be dead without the server knowing yet.
//
// How old a connection is each node says by its own clock, so those need not agree. If connections are opened on two nodes in the same
// moment, either may be missed by the other's count, and the limit is exceeded until the next call; or both nodes may close connections,
// and where they disagree about the oldest, by less than the time that a question takes, one too many is closed. If a node does not answer
// the error is ErrPartial, and nothing was closed.
func (n *Node) KeepNewest(ctx context.Context, uid uint64, most int) (closed int, err error) {
	if err = n.left(); err != nil || uid == 0 {
		return 0, err
	}
	devices := n.localDevices(uid)
	if n.isElsewhere(uid) {
		err = n.askUser(ctx, uid, []byte{byte(kindDevices)}, func(a answer) {
			others, _ := parseDevices(a.node, a.body)
			devices = append(devices, others...)
		})
	}
	if err != nil || len(devices) <= most {
		return 0, err
	}
	slices.SortFunc(devices, func(a, b device) int {
		return cmp.Or(cmp.Compare(a.age, b.age), cmp.Compare(a.node, b.node), cmp.Compare(b.id, a.id))
	})
	for _, d := range devices[max(most, 0):] {
		switch failed := n.CloseConn(ctx, d.node, d.id, websocket.StatusForbidden, "too many connections"); {
		case failed == nil:
			closed++
		case !errors.Is(failed, websocket.ErrConnClosed): // it went by itself
			err = failed
		}
	}
	return closed, err
}

// localDevices returns the connections of a user on this node.
func (n *Node) localDevices(uid uint64) (devices []device) {
	for _, conn := range n.srv.Clients.Conns(uid) {
		if info, ok := n.srv.Clients.Info(conn); ok {
			devices = append(devices, device{info.ID, max(time.Since(info.Opened), 0), n.opts.Node})
		}
	}
	return devices
}
