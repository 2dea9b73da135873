package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/wsloop/websocket"
)

const (
	// incomingSize is how many messages of other nodes may wait here. Beyond that they are lost, and counted (Stats.Overruns).
	incomingSize = 1 << 14

	connectTimeout = 2 * time.Second
	reconnectWait  = 250 * time.Millisecond
	brokerPing     = 2 * time.Second // to an external NATS
	brokerPings    = 2
)

// Node is a server's place in a cluster. Join makes one. All methods may be called from any goroutine.
type Node struct {
	// Immutable.
	srv      *websocket.Server
	opts     Options
	log      *slog.Logger
	subjects subjects
	broker   *broker // nil: an external one
	conn     *nats.Conn
	incoming chan *nats.Msg
	watcher  *websocket.Watcher
	ctx      context.Context // ends when the node leaves
	leave    context.CancelFunc
	running  sync.WaitGroup

	interest interest
	inbox    inbox
	members  membership
	history  *history // nil: there is none
	crowd    crowd

	closing  atomic.Bool
	overruns atomic.Int64
	received atomic.Int64
	sent     atomic.Int64
}

// Join makes a server a node of a cluster, or of one. The server may be running or not, and may be stopped and started again: its
// connections, and what they subscribe to, are the node's for as long as that has not left (see Close). A server is in one cluster.
//
// Join starts the embedded server, if there is no URL, and returns when that works inside this process, or the error why it does not. It
// does not wait for other nodes, nor for an external NATS: a node that is alone serves its own connections. ctx is for Join alone.
func Join(ctx context.Context, srv *websocket.Server, opts Options) (n *Node, err error) {
	if err = opts.fill(); err != nil {
		return nil, err
	}
	if err = ctx.Err(); err != nil {
		return nil, err
	}
	if opts.Listen, err = chosenPort(opts.Listen); err != nil {
		return nil, fmt.Errorf("%w: Listen: %w", ErrOptions, err)
	}
	if opts.Node == "" {
		opts.Node = nodeName(opts.Listen)
	}
	n = &Node{
		srv:      srv,
		opts:     opts,
		log:      srv.Options.Logger,
		subjects: subjectsOf(opts.Name),
		incoming: make(chan *nats.Msg, incomingSize),
	}
	n.interest.init()
	n.crowd.waiting, n.crowd.ended = make(chan awaited, aheadSize), make(chan struct{})
	n.ctx, n.leave = context.WithCancel(context.Background())
	if err = n.open(ctx); err != nil {
		n.shut(context.Background())
		return nil, err
	}
	n.watcher = srv.Clients.Watch()
	n.running.Go(n.deliver)
	n.running.Go(n.serveCrowd)
	n.running.Go(n.follow)
	n.running.Go(n.beat)
	if n.history != nil {
		n.running.Go(n.history.look)
	}
	return n, nil
}

// open connects the node.
func (n *Node) open(ctx context.Context) (err error) {
	if n.opts.URL == "" {
		if n.broker, err = startBroker(ctx, &n.opts, n.srv.Options.MaxMessageSize, n.log); err != nil {
			return err
		}
	}
	if n.conn, err = n.connect(); err != nil {
		return fmt.Errorf("websocket: cluster: %w", err)
	}
	if err = n.listen(); err != nil {
		return fmt.Errorf("websocket: cluster: %w", err)
	}
	if n.opts.History.Messages > 0 {
		n.history, err = newHistory(n)
	}
	return err
}

// connect returns a connection to the broker. An external one may not be there yet.
func (n *Node) connect() (*nats.Conn, error) {
	settings := []nats.Option{
		nats.Name(n.opts.Node),
		nats.NoEcho(),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectBufSize(-1), // what cannot be sent now is an error now
		nats.Timeout(connectTimeout),
		nats.PingInterval(brokerPing),
		nats.MaxPingsOutstanding(brokerPings),
		nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(n.noteError),
		nats.DisconnectErrHandler(n.noteDisconnect),
		nats.ReconnectHandler(n.noteReconnect),
	}
	if n.broker != nil {
		settings = append(settings, nats.Timeout(startTimeout), nats.InProcessServer(n.broker.server), nats.UserInfo(clientUser, n.broker.secret), nats.IgnoreDiscoveredServers())
		return nats.Connect("", settings...)
	}
	settings = append(settings, nats.RetryOnFailedConnect(true))
	if n.opts.Secret != "" {
		settings = append(settings, nats.Token(n.opts.Secret))
	}
	if n.opts.TLSConfig != nil {
		settings = append(settings, nats.Secure(n.opts.TLSConfig.Clone()))
	}
	return nats.Connect(n.opts.URL, settings...)
}

// listen subscribes to what is for every node, and for this one.
func (n *Node) listen() error {
	n.inbox.init(n.subjects.inbox(nuid.Next()))
	answers, err := n.conn.Subscribe(n.inbox.prefix+"*", n.inbox.take)
	if err != nil {
		return err
	}
	answers.SetPendingLimits(-1, -1) // there are as many as were asked for
	for _, subject := range []string{n.subjects.all(), n.subjects.node(n.opts.Node)} {
		if _, err := n.conn.ChanSubscribe(subject, n.incoming); err != nil {
			return err
		}
	}
	return nil
}

// noteError tells of what the connection to the broker went through.
func (n *Node) noteError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		n.overruns.Add(1)
		n.log.Warn("websocket: cluster: messages of other nodes are lost: this node is too slow", "node", n.opts.Node)
		return
	}
	n.log.Warn("websocket: cluster: broker", "node", n.opts.Node, "error", err)
}

func (n *Node) noteDisconnect(_ *nats.Conn, err error) {
	if n.ctx.Err() == nil {
		n.log.Warn("websocket: cluster: broker is disconnected", "node", n.opts.Node, "error", err)
	}
}

func (n *Node) noteReconnect(*nats.Conn) {
	n.log.Info("websocket: cluster: broker is connected again", "node", n.opts.Node)
}

// Name returns the name of the node.
func (n *Node) Name() string { return n.opts.Node }

// Addr returns the host:port at which the node listens for other nodes, for their Peers; empty if it does not.
func (n *Node) Addr() string {
	if n.broker == nil {
		return ""
	}
	return n.broker.address()
}

// Close leaves the cluster: the other nodes are told, what was sent is written, and the embedded server, if there is one, is stopped.
// The websocket server and its connections go on. When ctx ends Close returns its error, and leaves the rest of the work to itself.
// Afterwards everything returns ErrClosed. Closing twice does nothing.
func (n *Node) Close(ctx context.Context) error {
	if n.closing.Swap(true) {
		return nil
	}
	n.sayGone()
	n.leave()
	n.watcher.Close()
	var err error
	if n.conn.IsConnected() {
		flushing, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		err = n.conn.FlushWithContext(flushing)
	}
	return errors.Join(err, n.shut(ctx))
}

// shut ends what open has begun, and the goroutines.
func (n *Node) shut(ctx context.Context) (err error) {
	n.leave()
	if n.conn != nil {
		n.conn.Close()
	}
	n.running.Wait()
	if n.broker != nil {
		err = n.broker.stop(ctx)
	}
	return err
}

// Stats is what a node counts.
type Stats struct {
	Connected bool     // to the broker
	Nodes     []string // other nodes that are there, by name
	Users     int      // whose messages the node asks for: those with a connection here
	Topics    int      // the same for topics
	Sent      int64    // messages to other nodes
	Received  int64    // messages of other nodes
	Overruns  int64    // how often this node was so slow that messages of other nodes were lost
	History   bool     // there is a store, and it works as far as is known
}

// Stats returns what the node has counted until now.
func (n *Node) Stats() Stats {
	s := Stats{
		Connected: n.conn.IsConnected(),
		Nodes:     n.members.names(),
		Sent:      n.sent.Load(),
		Received:  n.received.Load(),
		Overruns:  n.overruns.Load(),
		History:   n.history != nil && n.history.ready.Load(),
	}
	s.Users, s.Topics = n.interest.sizes()
	return s
}
