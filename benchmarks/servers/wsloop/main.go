// Command wsloop is an echo server with this repository's package, through its public API.
package main

import (
	"context"
	"flag"
	"net/http"
	"sync/atomic"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
	"github.com/wsloop/websocket/deflate"
)

var dropin = flag.Bool("dropin", false, "use nothing but what the replaced package has: a packet for each message, no buffers given back")

func main() { peer.Serve(serve) }

// echo sends a message back.
func echo(conn int, payload []byte, send func(int, []byte) error, frame func(bool, []byte) []byte) {
	if *dropin {
		websocket.Send(conn, frame(false, payload))
		return
	}
	send(conn, payload)
	websocket.PutBuffer(payload)
}

// compression returns what is switched on.
func compression(mode string) *websocket.Compression {
	switch mode {
	case "context":
		return &websocket.Compression{Codec: deflate.Codec(0)}
	case "nocontext":
		return &websocket.Compression{Codec: deflate.Codec(0), Window: -1}
	case "standard":
		return new(websocket.Compression)
	}
	return nil
}

func serve(addr string) error {
	var serv *websocket.Server
	opts := &websocket.ServerOptions{
		Address:   addr,
		TLSConfig: peer.TLSConfig(),

		Compression: compression(*peer.Deflate),

		HandleBin: func(conn int, payload []byte) {
			echo(conn, payload, websocket.SendBin, websocket.NewFrameBin)
		},
	}
	if !*peer.Router {
		opts.HandleText = func(conn int, payload []byte) {
			if peer.IsBroadcast(payload) {
				serv.Clients.SendAll(websocket.NewFrameText(false, payload))
				return
			}
			if requested := peer.Requested(payload); requested != nil {
				for _, m := range requested {
					websocket.SendText(conn, m)
				}
				return
			}
			peer.Sleep(payload)
			echo(conn, payload, websocket.SendText, websocket.NewFrameText)
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
