// Command coder is an echo server with github.com/coder/websocket.
package main

import (
	"context"
	"io"
	"net/http"

	"github.com/coder/websocket"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
)

var conns peer.Set[*websocket.Conn]

func main() {
	peer.Serve(func(addr string) error { return http.Serve(peer.Listen(addr), http.HandlerFunc(accept)) })
}

// accept starts another goroutine for the connection: the handler's own has the larger stack of net/http.
func accept(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return
	}
	go echo(c)
}

func echo(c *websocket.Conn) {
	defer c.CloseNow()
	c.SetReadLimit(peer.MaxMessageSize)
	conns.Add(c)
	defer conns.Remove(c)
	ctx := context.Background()
	for {
		kind, r, err := c.Reader(ctx)
		if err != nil || answer(ctx, c, kind, r) != nil {
			return
		}
	}
}

func answer(ctx context.Context, c *websocket.Conn, kind websocket.MessageType, r io.Reader) error {
	payload, err := peer.ReadAll(r)
	if err != nil {
		return err
	}
	defer payload.Release()
	if kind == websocket.MessageText {
		if peer.IsBroadcast(payload.Bytes()) {
			conns.Each(func(c *websocket.Conn) { c.Write(ctx, kind, payload.Bytes()) })
			return nil
		}
		peer.Sleep(payload.Bytes())
	}
	return c.Write(ctx, kind, payload.Bytes())
}
