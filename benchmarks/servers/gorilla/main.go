// Command gorilla is an echo server with github.com/gorilla/websocket.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
)

var (
	readMessage = flag.Bool("readmessage", false, "as most programs are written: default options, ReadMessage and WriteMessage in the HTTP handler")

	upgrader = websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 4096, WriteBufferPool: new(sync.Pool)}
	defaults = websocket.Upgrader{}
	conns    peer.Set[*websocket.Conn]
)

func main() {
	quiet := log.New(io.Discard, "", 0) // about handshakes that fail
	serv := &http.Server{Handler: http.HandlerFunc(handle), ErrorLog: quiet}
	peer.Serve(func(addr string) error {
		upgrader.EnableCompression = *peer.Deflate != ""
		return serv.Serve(peer.Listen(addr))
	})
}

func handle(w http.ResponseWriter, r *http.Request) {
	if *readMessage {
		echoInHandler(w, r)
		return
	}
	upgrade(w, r)
}

// upgrade starts another goroutine for the connection: the handler's own has the larger stack of net/http.
func upgrade(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	go echo(c)
}

func echo(c *websocket.Conn) {
	defer c.Close()
	c.SetReadLimit(peer.MaxMessageSize)
	conns.Add(c)
	defer conns.Remove(c)
	for {
		kind, r, err := c.NextReader()
		if err != nil || answer(c, kind, r) != nil {
			return
		}
	}
}

func answer(c *websocket.Conn, kind int, r io.Reader) error {
	payload, err := peer.ReadAll(r)
	if err != nil {
		return err
	}
	defer payload.Release()
	if kind == websocket.TextMessage {
		if peer.IsBroadcast(payload.Bytes()) {
			return broadcast(payload.Bytes())
		}
		if requested := peer.Requested(payload.Bytes()); requested != nil {
			return sendAll(c, requested)
		}
		peer.Sleep(payload.Bytes())
	}
	return c.WriteMessage(kind, payload.Bytes())
}

func sendAll(c *websocket.Conn, messages [][]byte) error {
	for _, m := range messages {
		if err := c.WriteMessage(websocket.TextMessage, m); err != nil {
			return err
		}
	}
	return nil
}

// echoInHandler is the loop of the library's own documentation.
func echoInHandler(w http.ResponseWriter, r *http.Request) {
	c, err := defaults.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetReadLimit(peer.MaxMessageSize)
	conns.Add(c)
	defer conns.Remove(c)
	for {
		kind, payload, err := c.ReadMessage()
		if err != nil {
			return
		}
		if kind == websocket.TextMessage && peer.IsBroadcast(payload) {
			conns.Each(func(c *websocket.Conn) { c.WriteMessage(kind, payload) })
			continue
		}
		if kind == websocket.TextMessage {
			peer.Sleep(payload)
		}
		if c.WriteMessage(kind, payload) != nil {
			return
		}
	}
}

func broadcast(payload []byte) error {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, payload)
	if err != nil {
		return err
	}
	conns.Each(func(c *websocket.Conn) { c.WritePreparedMessage(message) })
	return nil
}
