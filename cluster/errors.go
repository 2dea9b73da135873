package cluster

import (
	"errors"
	"net"
)

var (
	// ErrOptions is wrapped by what Join returns for options that cannot be: names that are too long, limits that contradict.
	ErrOptions = errors.New("websocket: cluster: bad options")

	// ErrNoSecret is returned by Join for a Listen that others than this machine can reach, without a Secret.
	ErrNoSecret = errors.New("websocket: cluster: Listen is not a loopback address and there is no Secret")

	// ErrTooLarge is returned for a packet that is larger than the broker, or the history, takes. It was delivered to the connections of
	// this node, unless the topic has history, and sent to no other node.
	ErrTooLarge = errors.New("websocket: cluster: packet is too large")

	// ErrDisconnected is returned while the broker cannot be reached. What was to be sent has been delivered to the connections of this
	// node, unless the topic has history, and to no other node.
	ErrDisconnected = errors.New("websocket: cluster: broker is not connected")

	// ErrPartial is returned when not all nodes have answered in time: the result is what the others said.
	ErrPartial = errors.New("websocket: cluster: not all nodes have answered")

	// ErrHistoryUnavailable is returned by Publish and Since while the store of the topics with history cannot be used: it has no quorum,
	// or its node is gone, or it is full, or has not been made yet. Publish has delivered the packet to nobody. If it had begun to store it,
	// the packet may still come to be stored, and is delivered then.
	ErrHistoryUnavailable = errors.New("websocket: cluster: history is not available")

	// ErrNoHistory is returned by Since for a topic without history.
	ErrNoHistory = errors.New("websocket: cluster: topic has no history")

	// ErrNoNode is returned by CloseConn if there is no node of that name.
	ErrNoNode = errors.New("websocket: cluster: no such node")

	// ErrClosed is returned once the node has left. It matches net.ErrClosed too.
	ErrClosed error = closedError("websocket: cluster: node has left")
)

// closedError is an error that matches net.ErrClosed.
type closedError string

func (err closedError) Error() string { return string(err) }

func (err closedError) Is(target error) bool { return target == net.ErrClosed }
