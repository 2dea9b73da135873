// Cluster is the chat of examples/server on several servers, which are one by the module cluster: whoever is connected to one of them
// hears what is said at the others, and a page that loses its server goes on at another one.
//
// Two servers on one machine, each with a part of NATS inside:
//
//	go run . -addr 127.0.0.1:9001 -listen 127.0.0.1:6222 -peers 127.0.0.1:6222,127.0.0.1:6223
//	go run . -addr 127.0.0.1:9002 -listen 127.0.0.1:6223 -peers 127.0.0.1:6222,127.0.0.1:6223
//
// Any number of them at a NATS server with JetStream:
//
//	go run . -nats nats://127.0.0.1:4222
//
// All have the same users. With -public-url, which all have too, a load balancer may send a client to any of them.
package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/cluster"
	"github.com/wsloop/websocket/examples/internal/chatserver"
)

// leaveTimeout is how long the other nodes may take to hear that this one leaves.
const leaveTimeout = 3 * time.Second

// secretVariable has the secret, which does not belong into a command line.
const secretVariable = "CHAT_SECRET"

// errNothingKept is for -history 0: which rooms there are, and what was sent already, a server knows by what is kept.
var errNothingKept = errors.New("-history 0 is for a server that is the only one")

func main() {
	o := new(options)
	os.Exit(chatserver.Main(o.start, o.flags))
}

// options are the flags of this program, beside those of the server.
type options struct {
	nats, listen, peers, dir string
	replicas                 int
}

func (o *options) flags(flags *flag.FlagSet) {
	flags.StringVar(&o.nats, "nats", "", "`URL` of a NATS server with JetStream; empty: a part of one runs in this process")
	flags.StringVar(&o.listen, "listen", "", "`host:port` for the other nodes; one that is not a loopback address needs "+secretVariable+" in the environment")
	flags.StringVar(&o.peers, "peers", "", "`addresses` of -listen of all nodes, with commas between")
	flags.StringVar(&o.dir, "dir", "", "`folder` for what is said, of this node alone; empty: it is kept in memory")
	flags.IntVar(&o.replicas, "replicas", 1, "`number` of nodes that keep what is said: 1, 3 or 5")
}

// start makes the server a node.
func (o *options) start(ctx context.Context, ws *websocket.Server, keep int) (chatserver.Spread, func(), error) {
	if keep == 0 {
		return nil, nil, errNothingKept
	}
	opts := cluster.Options{
		Name:   "chat",
		URL:    o.nats,
		Listen: o.listen,
		Secret: os.Getenv(secretVariable),
		History: cluster.History{
			Messages: min(keep, keptMessages),
			Dir:      o.dir,
			Replicas: o.replicas,
			Topics:   []string{chatserver.Topic("*"), inbox("*"), rooms},
		},
	}
	if o.peers != "" {
		opts.Peers = strings.Split(o.peers, ",")
	}
	node, err := cluster.Join(ctx, ws, opts)
	if err != nil {
		return nil, nil, err
	}
	leave := func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		defer cancel()
		node.Close(ctx) // an error means that the others see it by themselves
	}
	return &spread{node: node, clients: ws.Clients}, leave, nil
}
