// Command nbio is an echo server with github.com/lesismal/nbio.
package main

import (
	"net/http"

	"github.com/lesismal/llib/std/crypto/tls"
	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
)

var conns peer.Set[*websocket.Conn]

func main() { peer.Serve(serve) }

func serve(addr string) error {
	logging.SetLevel(logging.LevelError)
	upgrader := websocket.NewUpgrader()
	upgrader.KeepaliveTime = 0 // no deadline that each message moves
	upgrader.EnableCompression(*peer.Deflate != "")
	upgrader.OnOpen(conns.Add)
	upgrader.OnClose(func(c *websocket.Conn, _ error) { conns.Remove(c) })
	upgrader.OnMessage(echo)
	config := nbhttp.Config{
		Network: "tcp",
		MaxLoad: 1 << 20,
		IOMod:   nbhttp.IOModNonBlocking,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { upgrader.Upgrade(w, r, nil) }),

		ReleaseWebsocketPayload: true,
	}
	if peer.Encrypted() {
		config.AddrsTLS = []string{addr}
		config.TLSConfig = &tls.Config{Certificates: []tls.Certificate{peer.Certificate(tls.LoadX509KeyPair)}}
	} else {
		config.Addrs = []string{addr}
	}
	engine := nbhttp.NewEngine(config)
	if err := engine.Start(); err != nil {
		return err
	}
	select {}
}

func echo(c *websocket.Conn, kind websocket.MessageType, payload []byte) {
	if kind == websocket.TextMessage {
		if peer.IsBroadcast(payload) {
			conns.Each(func(c *websocket.Conn) { c.WriteMessage(kind, payload) })
			return
		}
		if requested := peer.Requested(payload); requested != nil {
			for _, m := range requested {
				c.WriteMessage(kind, m)
			}
			return
		}
		peer.Sleep(payload)
	}
	c.WriteMessage(kind, payload)
}
