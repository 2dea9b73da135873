package interop

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const gorillaCan = fragments | pingsBetween | choosesPing | showsControl | breaksText | showsEmpty | showsClose | awaitsClose |
	closesWith | closesWithAny | closesWithNone

var gorilla = peer{
	name:      "gorilla",
	serve:     serveGorilla,
	serveCan:  gorillaCan,
	client:    clientGorilla,
	clientCan: gorillaCan,
	secured:   []security{tls13AES, tls12ChaRSA},

	compressing:  compressingGorilla,
	compressions: []compression{{bits: 15}},
}

// gorillaBuffer is more than the sizes that are to be one frame, and less than the parts of a fragmented message.
const gorillaBuffer = 70_000

// compressingGorilla has no choice. What it compresses is fragmented as the size of the write buffer has it.
func compressingGorilla(compression) peer {
	return peer{
		serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
			return startGorilla(t, s, websocket.Upgrader{WriteBufferSize: partSize, EnableCompression: true})
		},
		client: func(*testing.T, security) (dial func(url string, offer []string) (conn, error)) {
			return func(url string, _ []string) (conn, error) {
				return dialGorilla(&websocket.Dialer{WriteBufferSize: partSize, EnableCompression: true}, url)
			}
		},
	}
}

func serveGorilla(t *testing.T, s security) (url string, accepted <-chan conn) {
	return startGorilla(t, s, websocket.Upgrader{Subprotocols: []string{chosenProtocol}, WriteBufferSize: gorillaBuffer})
}

func startGorilla(t *testing.T, s security, upgrader websocket.Upgrader) (url string, accepted <-chan conn) {
	arrivals := make(chan conn, inboxSize)
	url = startHTTP(t, s, func(w http.ResponseWriter, r *http.Request) {
		if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
			arrivals <- newGorillaConn(ws)
		}
	})
	return url, arrivals
}

func clientGorilla(_ *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
	return func(url string, offer []string) (conn, error) {
		return dialGorilla(&websocket.Dialer{Subprotocols: offer, TLSClientConfig: s.client()}, url)
	}
}

// earlyGorilla connects with a packet right behind the request.
func earlyGorilla(url string, packet []byte) (conn, error) {
	dial := func(context.Context, string, string) (net.Conn, error) { return dialEager(url, packet) }
	return dialGorilla(&websocket.Dialer{NetDialContext: dial, NetDialTLSContext: dial}, url)
}

func dialGorilla(dialer *websocket.Dialer, url string) (conn, error) {
	dialer.HandshakeTimeout, dialer.WriteBufferSize = deadline, cmp.Or(dialer.WriteBufferSize, gorillaBuffer)
	ws, _, err := dialer.Dial(url, nil)
	if err != nil {
		return nil, err
	}
	return newGorillaConn(ws), nil
}

type gorillaConn struct {
	inbox
	ws *websocket.Conn
	mu sync.Mutex // held while a message is written
}

func newGorillaConn(ws *websocket.Conn) *gorillaConn {
	c := &gorillaConn{inbox: newInbox(), ws: ws}
	answer := ws.PingHandler()
	ws.SetPingHandler(func(payload string) error {
		c.put(ping, []byte(payload))
		return answer(payload)
	})
	ws.SetPongHandler(func(payload string) error {
		c.put(pong, []byte(payload))
		return nil
	})
	go c.read()
	return c
}

func (c *gorillaConn) read() {
	for {
		opcode, payload, err := c.ws.ReadMessage()
		if err != nil {
			c.ws.Close()
			if closeErr := (*websocket.CloseError)(nil); errors.As(err, &closeErr) {
				c.putClosed(closeErr.Code, closeErr.Text)
			} else {
				c.putClosed(dropped, "")
			}
			return
		}
		if opcode == websocket.TextMessage {
			c.put(text, payload)
		} else {
			c.put(binary, payload)
		}
	}
}

func gorillaType(k kind) int {
	if k == text {
		return websocket.TextMessage
	}
	return websocket.BinaryMessage
}

func (c *gorillaConn) subprotocol() string { return c.ws.Subprotocol() }

func (c *gorillaConn) send(k kind, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ws.WriteMessage(gorillaType(k), payload)
}

func (c *gorillaConn) sendParts(k kind, parts, pings [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, err := c.ws.NextWriter(gorillaType(k))
	if err != nil {
		return err
	}
	for i, part := range parts {
		if _, err = w.Write(part); err != nil {
			return err
		}
		if i < len(pings) {
			if err = c.ping(pings[i]); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

func (c *gorillaConn) ping(payload []byte) error {
	return c.ws.WriteControl(websocket.PingMessage, payload, time.Now().Add(deadline))
}

func (c *gorillaConn) close(code int, reason string) error {
	return c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(deadline))
}

func (c *gorillaConn) drop() { c.ws.Close() }
