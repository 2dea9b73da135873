// Command original is an echo server with github.com/shuLhan/share/lib/websocket, which this repository's package replaces.
package main

import (
	"context"
	"net/http"

	"github.com/shuLhan/share/lib/websocket"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
)

func main() { peer.Serve(serve) }

func serve(addr string) error {
	opts := &websocket.ServerOptions{
		Address: addr,
		HandleBin: func(conn int, payload []byte) {
			websocket.Send(conn, websocket.NewFrameBin(false, payload))
		},
	}
	if !*peer.Router {
		opts.HandleText = func(conn int, payload []byte) {
			peer.Sleep(payload)
			websocket.Send(conn, websocket.NewFrameText(false, payload))
		}
	}
	serv := websocket.NewServer(opts)
	err := serv.RegisterTextHandler(http.MethodPost, "/echo/:name", func(_ context.Context, req *websocket.Request) websocket.Response {
		return websocket.Response{Code: http.StatusOK, Body: req.Body}
	})
	if err != nil {
		return err
	}
	return serv.Start()
}
