// Command wsloop is an echo server with this repository's package, through its public API.
package main

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
)

func main() { peer.Serve(serve) }

func serve(addr string) error {
	var serv *websocket.Server
	opts := &websocket.ServerOptions{
		Address: addr,
		HandleBin: func(conn int, payload []byte) {
			websocket.Send(conn, websocket.NewFrameBin(false, payload))
		},
	}
	if !*peer.Router {
		opts.HandleText = func(conn int, payload []byte) {
			if peer.IsBroadcast(payload) {
				serv.Clients.SendAll(websocket.NewFrameText(false, payload))
				return
			}
			peer.Sleep(payload)
			websocket.Send(conn, websocket.NewFrameText(false, payload))
		}
	}
	if *peer.Users {
		var last atomic.Uint64
		opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) {
			return context.WithValue(context.Background(), websocket.CtxKeyUID, last.Add(1)), nil
		}
	}
	serv = websocket.NewServer(opts)
	err := serv.RegisterTextHandler(http.MethodPost, "/echo/:name", func(_ context.Context, req *websocket.Request) websocket.Response {
		return websocket.Response{Code: http.StatusOK, Body: req.Body}
	})
	if err != nil {
		return err
	}
	return serv.Start()
}
