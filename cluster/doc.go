// Package cluster makes several servers of package websocket one: what is sent to a user, to all, or published to a topic reaches the
// connections of every server. It stands on NATS, which runs inside the process unless there is one already.
//
//	srv := websocket.NewServer(nil)
//	node, err := cluster.Join(ctx, srv, cluster.Options{}) // a cluster of one
//
//	node.SendUser(ctx, uid, packet)          // all devices of a user, wherever they are connected
//	node.Publish(ctx, "news", packet)        // all subscribers; srv.Clients.Subscribe makes a connection one
//
// With Listen and Peers the same program is one of several nodes, with URL it uses an existing NATS. CLUSTER.md says what one, two and
// three nodes promise, failure by failure, and which test shows it.
//
// # How it works
//
// Each node delivers to its own connections first, directly, and to the other nodes afterwards: a broker that is slow or gone delays no
// local message. The exception is a topic with history, whose order the store makes (see History).
//
// A node tells NATS what it is interested in: always "all" and itself, a user only while that user has a connection here, a topic only
// while it has a subscriber here. Interest is level-triggered: one goroutine asks the ClientManager's Watcher what is there and makes the
// subscriptions the same. All of them share one channel, and one goroutine empties it into the ClientManager, so the order in which
// another node has sent is kept. It never waits: a connection whose queue is full misses the message, as with ClientManager.SendAll.
//
// The subjects of a cluster named "websocket" are, with every name written so that NATS gives no byte of it a meaning:
//
//	ws.websocket.a            all nodes
//	ws.websocket.n.NODE       one node
//	ws.websocket.u.UID        the nodes with a connection of that user
//	ws.websocket.t.TOPIC      the nodes with a subscriber of that topic
//	ws.websocket.h.TOPIC      what is published to a topic with history, for the store, which sends it on to t.TOPIC
//	ws.websocket.r.NODE.N     answers
//
// With the embedded broker a node knows how many other nodes a subject interests before it sends: none, and nothing is sent; some, and
// it knows how many answers to wait for. An external NATS only tells if there is nobody.
//
// # What is promised
//
// Without history a message arrives at most once at each connection. Messages of one node to the same user, topic or all keep their
// order on the way to each connection, if one goroutine sends them. Interest takes a moment (less than a millisecond in a local network)
// to reach the other nodes: what is sent to a user in the moment of their arrival elsewhere may miss them.
//
// With history each message of a topic has a number. It comes to each subscriber at most once, in the order of the numbers, together
// with the number before it: a subscriber knows if one is missing, and gets it by Since, or is told that it is too old.
package cluster
