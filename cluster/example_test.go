package cluster_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/cluster"
)

// A cluster of one needs nothing else; it becomes one of several by its options.
func ExampleJoin() {
	srv := websocket.NewServer(nil)
	ctx := context.Background()
	node, err := cluster.Join(ctx, srv, cluster.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close(ctx)

	packet, _ := websocket.NewBroadcast("greeting", "hello")
	reached, err := node.SendUser(ctx, 7, packet)
	fmt.Println(reached, err)
	// Output: 0 <nil>
}

// Several nodes have the same options but for Listen.
func ExampleJoin_several() {
	peers := []string{"10.0.0.1:6222", "10.0.0.2:6222", "10.0.0.3:6222"}
	srv := websocket.NewServer(nil)
	node, err := cluster.Join(context.Background(), srv, cluster.Options{
		Listen: peers[0],
		Peers:  peers,
		Secret: "from the program's configuration",
		History: cluster.History{
			Messages: 1000,
			Age:      time.Hour,
			Dir:      "/var/lib/chat",
			Replicas: 3,
			Topics:   []string{"chat/*"},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close(context.Background())
}

// A client that has missed something asks for it with the number of the last message that it has.
func ExampleNode_RegisterResume() {
	srv := websocket.NewServer(nil)
	ctx := context.Background()
	node, err := cluster.Join(ctx, srv, cluster.Options{History: cluster.History{Messages: 100}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close(ctx)

	srv.RegisterTextHandler(http.MethodPut, "/subscriptions/:topic", func(_ context.Context, req *websocket.Request) websocket.Response {
		if err := srv.Clients.Subscribe(req.Conn, req.Params["topic"]); err != nil {
			return websocket.Response{Code: http.StatusBadRequest, Message: err.Error()}
		}
		return websocket.Response{Code: http.StatusOK}
	})
	fmt.Println(node.RegisterResume("/topics/:topic/since"))
	// Output: <nil>
}

// The newest three connections of a user are kept, on whatever nodes they are.
func ExampleNode_KeepNewest() {
	var node *cluster.Node // of Join
	srv := websocket.NewServer(&websocket.ServerOptions{
		HandleClientAdd: func(ctx context.Context, conn int) {
			if uid, ok := ctx.Value(websocket.CtxKeyUID).(uint64); ok {
				node.KeepNewest(ctx, uid, 3)
			}
		},
	})
	_ = srv
}
