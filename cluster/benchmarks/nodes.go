package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/centrifugal/centrifuge"
	"github.com/nats-io/nats.go"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/cluster"
)

// playOurs is a node of this package.
func playOurs(s settings) (addr string, publish func()) {
	// Nobody sends Pings: the subscribers only count, and would be taken for silent.
	srv := websocket.NewServer(&websocket.ServerOptions{Logger: slog.New(slog.DiscardHandler), PingInterval: -1})
	srv.RegisterTextHandler(http.MethodPut, "/subscription", func(_ context.Context, req *websocket.Request) (res websocket.Response) {
		if err := srv.Clients.Subscribe(req.Conn, req.Body); err != nil {
			return websocket.Response{Code: http.StatusBadRequest}
		}
		return websocket.Response{Code: http.StatusOK}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go srv.Serve(ln)
	node, err := cluster.Join(context.Background(), srv, cluster.Options{URL: s.URL, Listen: s.Listen, Peers: s.Peers})
	if err != nil {
		panic(err)
	}
	return ln.Addr().String(), func() {
		packet, _ := websocket.NewBroadcast(topic, body) // as for each message that a program makes
		if _, err := node.Publish(context.Background(), topic, packet); err != nil {
			panic(err)
		}
	}
}

// playCentrifuge is a node of centrifuge, with NATS between the nodes.
func playCentrifuge(s settings) (addr string, publish func()) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		panic(err)
	}
	conn, err := nats.Connect(s.URL)
	if err != nil {
		panic(err)
	}
	node.SetBroker(&natsBroker{conn: conn, subs: make(map[string]*nats.Subscription)})
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "1"}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
			reply(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err = node.Run(); err != nil {
		panic(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1},
	}))
	go http.Serve(ln, mux)
	data := []byte(`"` + body + `"`)
	return ln.Addr().String(), func() {
		if _, err := node.Publish(topic, data); err != nil {
			panic(err)
		}
	}
}

// natsBroker carries publications over NATS: the least that centrifuge needs for that, without history.
type natsBroker struct {
	conn   *nats.Conn
	events centrifuge.BrokerEventHandler

	mu   sync.Mutex
	subs map[string]*nats.Subscription // by channel; guarded by mu
}

const channelPrefix = "channel."

func (b *natsBroker) RegisterBrokerEventHandler(events centrifuge.BrokerEventHandler) error {
	b.events = events
	return nil
}

func (b *natsBroker) Subscribe(channels ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, channel := range channels {
		sub, err := b.conn.Subscribe(channelPrefix+channel, func(msg *nats.Msg) {
			pub := &centrifuge.Publication{Data: msg.Data}
			b.events.HandlePublication(strings.TrimPrefix(msg.Subject, channelPrefix), pub, centrifuge.StreamPosition{}, false, nil)
		})
		if err != nil {
			return err
		}
		b.subs[channel] = sub
	}
	return b.conn.Flush()
}

func (b *natsBroker) Unsubscribe(channels ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, channel := range channels {
		if sub := b.subs[channel]; sub != nil {
			sub.Unsubscribe()
			delete(b.subs, channel)
		}
	}
	return nil
}

func (b *natsBroker) Publish(channel string, data []byte, _ centrifuge.PublishOptions) (centrifuge.PublishResult, error) {
	return centrifuge.PublishResult{}, b.conn.Publish(channelPrefix+channel, data)
}

func (b *natsBroker) PublishJoin(string, *centrifuge.ClientInfo) error  { return nil }
func (b *natsBroker) PublishLeave(string, *centrifuge.ClientInfo) error { return nil }

func (b *natsBroker) History(string, centrifuge.HistoryOptions) ([]*centrifuge.Publication, centrifuge.StreamPosition, error) {
	return nil, centrifuge.StreamPosition{}, centrifuge.ErrorNotAvailable
}

func (b *natsBroker) RemoveHistory(string) error { return centrifuge.ErrorNotAvailable }
