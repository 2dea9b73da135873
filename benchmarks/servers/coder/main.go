// Command coder is an echo server with github.com/coder/websocket.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net/http"

	"github.com/coder/websocket"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
)

var (
	read = flag.Bool("read", false, "as most programs are written: default options, Read and Write in the HTTP handler")

	conns peer.Set[*websocket.Conn]
)

func main() {
	quiet := log.New(io.Discard, "", 0) // about handshakes that fail
	serv := &http.Server{Handler: http.HandlerFunc(handle), ErrorLog: quiet}
	peer.Serve(func(addr string) error { return serv.Serve(peer.Listen(addr)) })
}

func handle(w http.ResponseWriter, r *http.Request) {
	if *read {
		echoInHandler(w, r)
		return
	}
	accept(w, r)
}

// accept starts another goroutine for the connection: the handler's own has the larger stack of net/http.
func accept(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: compression()})
	if err != nil {
		return
	}
	go echo(c)
}

func compression() websocket.CompressionMode {
	if *peer.Deflate != "" {
		return websocket.CompressionContextTakeover
	}
	return websocket.CompressionDisabled
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
		if requested := peer.Requested(payload.Bytes()); requested != nil {
			for _, m := range requested {
				if err := c.Write(ctx, kind, m); err != nil {
					return err
				}
			}
			return nil
		}
		peer.Sleep(payload.Bytes())
	}
	return c.Write(ctx, kind, payload.Bytes())
}

// echoInHandler is the loop that the library's documentation leads to. It advises against using the request's context.
func echoInHandler(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(peer.MaxMessageSize)
	conns.Add(c)
	defer conns.Remove(c)
	ctx := context.Background()
	for {
		kind, payload, err := c.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageText && peer.IsBroadcast(payload) {
			conns.Each(func(c *websocket.Conn) { c.Write(ctx, kind, payload) })
			continue
		}
		if kind == websocket.MessageText {
			peer.Sleep(payload)
		}
		if c.Write(ctx, kind, payload) != nil {
			return
		}
	}
}
