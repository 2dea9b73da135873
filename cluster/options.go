package cluster

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nuid"
)

// Defaults and limits of Options.
const (
	defaultName         = "websocket"
	defaultHistoryBytes = 64 << 20
	minHistoryAge       = 100 * time.Millisecond // of NATS
	maxReplicas         = 5                      // of NATS
)

// Options say what a node joins. The zero value is a cluster of one.
type Options struct {
	// Name is that of the cluster: nodes with different names have nothing to do with each other, also at the same NATS. It has at most 64
	// bytes, any bytes. Empty stands for "websocket".
	Name string

	// Node is the name of this node in the cluster, of at most 64 bytes. No two nodes may have the same. A node that keeps history in a
	// cluster of several has to have the same name after a restart; it is the member of a quorum by it. Empty stands for Listen, with the
	// name of the machine in the place of an address that means all of its interfaces and the port that was taken in the place of 0;
	// without Listen, for the name of the machine and a random part.
	Node string

	// URL is that of a NATS server that runs already, or several with commas between: "nats://user:password@host:4222". Empty: one
	// runs inside the process. Join does not wait for a server that cannot be reached now: the node connects when it can.
	URL string

	// Listen is the host:port at which the embedded server listens for those of other nodes. Port 0 takes a free one (see Node.Addr).
	// Empty: it does not listen, and the cluster is this node. With Listen there is a port for clients of NATS as well, on loopback alone: it
	// lets in nobody but this process.
	Listen string

	// Peers are the host:port of the other nodes' Listen; one that is this node itself does no harm, so all nodes may have the same list.
	// What nodes know of others they tell each other, so that one peer is enough to find the rest; but see History.Replicas. A peer that
	// cannot be reached is tried each second. With Listen and History there has to be one.
	Peers []string

	// Secret is shared by the nodes of a cluster, and keeps out others. It is needed unless Listen is a loopback address (else Join
	// returns ErrNoSecret). What crosses the network is derived from it; whoever can listen in there could use that, so beyond a
	// network that is trusted, add TLSConfig. With URL it is the token for NATS, unless the URL has credentials.
	Secret string

	// TLSConfig encrypts the connections between nodes, or to URL. Between nodes it is used on both sides: it needs a certificate, by the
	// names or addresses that are in Peers, and RootCAs. To be certain of both sides by certificates, set ClientAuth and ClientCAs.
	TLSConfig *tls.Config

	// History is what is kept of topics. All nodes of a cluster have to have the same. The zero value keeps nothing.
	History History

	advertise string        // what nodes tell each other, instead of Listen; tests put proxies between nodes
	routePing time.Duration // instead of the constant, if it is not 0; tests have to go on where nodes get no turn for seconds
}

// History says which topics have a history, and how long. What is published to such a topic is stored, numbered and then delivered, so
// that a subscriber that has missed something can get it by Since.
type History struct {
	// Messages are kept for each topic, the latest ones. 0: there is no history.
	Messages int

	// Age is for how long they are kept. 0: without end; else at least 100 ms.
	Age time.Duration

	// Bytes are kept of all topics together, with some 100 bytes for each message added; the oldest go first. 0: 64 MiB.
	Bytes int64

	// Dir is the directory of the files. It belongs to this node alone. Empty: the history is in memory. (A directory of the system for
	// temporary files has what the embedded server needs otherwise, some KiB, until Close.)
	Dir string

	// Replicas is how many nodes have all of the history: 1, 3 or 5; 0 stands for 1. Of 3 one may fail, of 5 two. With 1 there is no
	// history while the node that has it is gone. For more than 1, each node has all others in Peers.
	Replicas int

	// Topics are those that have a history: a name, or the beginning of names with "*" behind it. nil: all.
	Topics []string
}

// keeps reports whether a topic has a history.
func (h *History) keeps(topic string) bool {
	if h.Messages == 0 {
		return false
	}
	if h.Topics == nil {
		return true
	}
	for _, pattern := range h.Topics {
		if beginning, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(topic, beginning) || pattern == topic {
			return true
		}
	}
	return false
}

// fill puts in the defaults, or says what cannot be.
func (opts *Options) fill() error {
	if opts.Name == "" {
		opts.Name = defaultName
	}
	if len(opts.Name) > maxName || len(opts.Node) > maxName {
		return fmt.Errorf("%w: a name has more than %d bytes", ErrOptions, maxName)
	}
	if opts.URL != "" && (opts.Listen != "" || len(opts.Peers) > 0) {
		return fmt.Errorf("%w: URL is for another NATS, Listen and Peers are for the embedded one", ErrOptions)
	}
	if opts.Listen == "" && len(opts.Peers) > 0 {
		return fmt.Errorf("%w: Peers need Listen, by which they find this node", ErrOptions)
	}
	if opts.Listen != "" && len(opts.Peers) == 0 && opts.History.Messages > 0 {
		return fmt.Errorf("%w: Listen with History needs Peers: the store is agreed with them", ErrOptions)
	}
	if err := opts.checkListen(); err != nil {
		return err
	}
	return opts.History.fill()
}

// checkListen refuses a port that is open for everyone.
func (opts *Options) checkListen() error {
	if opts.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(opts.Listen)
	if err != nil {
		return fmt.Errorf("%w: Listen: %w", ErrOptions, err)
	}
	for _, peer := range opts.Peers {
		if _, _, err := net.SplitHostPort(peer); err != nil {
			return fmt.Errorf("%w: Peers: %w", ErrOptions, err)
		}
	}
	if opts.Secret == "" && !isLoopback(host) {
		return ErrNoSecret
	}
	return nil
}

// isLoopback reports whether a host is this machine for itself alone. Names other than localhost are not looked up: what they stand for
// may change.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (h *History) fill() error {
	switch {
	case h.Messages < 0 || h.Bytes < 0 || h.Age < 0 || h.Replicas < 0:
		return fmt.Errorf("%w: History has a limit below zero", ErrOptions)
	case h.Age > 0 && h.Age < minHistoryAge:
		return fmt.Errorf("%w: History.Age is less than %v", ErrOptions, minHistoryAge)
	case h.Replicas > maxReplicas || h.Replicas > 0 && h.Replicas%2 == 0:
		return fmt.Errorf("%w: History.Replicas is not 1, 3 or 5", ErrOptions)
	}
	if h.Bytes == 0 {
		h.Bytes = defaultHistoryBytes
	}
	if h.Replicas == 0 {
		h.Replicas = 1
	}
	return nil
}

// nodeName is the name of a node that has not been given one. address is where it listens, or empty.
func nodeName(address string) string {
	machine, err := os.Hostname()
	if err != nil {
		machine = "node"
	}
	if address == "" {
		return cut(machine, maxName-1-8) + "-" + nuid.Next()[14:]
	}
	host, port, _ := net.SplitHostPort(address)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = machine
	}
	return net.JoinHostPort(cut(host, maxName-len("[]:65535")), port)
}

func cut(s string, most int) string { return s[:min(len(s), most)] }
