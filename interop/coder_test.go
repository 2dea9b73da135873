package interop

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// The payload of this library's Pings is its own; its Ping waits for the Pong, and its Close for the answer.
const coderCan = fragments | pingsBetween | showsControl | breaksText | showsEmpty | showsClose |
	closesWith | closesWithAny | closesWithNone

var coder = peer{
	name:      "coder",
	serve:     serveCoder,
	serveCan:  coderCan,
	client:    clientCoder,
	clientCan: coderCan,
	secured:   []security{tls13AESRSA, tls12ChaCha},

	compressing:  compressingCoder,
	compressions: []compression{{takeover: true, bits: 15}, {bits: 15}},
}

func compressingCoder(c compression) peer {
	mode := websocket.CompressionNoContextTakeover
	if c.takeover {
		mode = websocket.CompressionContextTakeover
	}
	return peer{
		serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
			return startCoder(t, s, websocket.AcceptOptions{CompressionMode: mode, CompressionThreshold: 1})
		},
		client: func(*testing.T, security) (dial func(url string, offer []string) (conn, error)) {
			return func(url string, _ []string) (conn, error) {
				return dialCoder(url, &websocket.DialOptions{CompressionMode: mode, CompressionThreshold: 1})
			}
		},
	}
}

func serveCoder(t *testing.T, s security) (url string, accepted <-chan conn) {
	return startCoder(t, s, websocket.AcceptOptions{Subprotocols: []string{chosenProtocol}})
}

func startCoder(t *testing.T, s security, options websocket.AcceptOptions) (url string, accepted <-chan conn) {
	arrivals := make(chan conn, inboxSize)
	url = startHTTP(t, s, func(w http.ResponseWriter, r *http.Request) {
		c := newCoderConn()
		options := options
		options.OnPingReceived, options.OnPongReceived = c.onPing, c.onPong
		ws, err := websocket.Accept(w, r, &options)
		if err == nil {
			c.start(ws)
			arrivals <- c
		}
	})
	return url, arrivals
}

func clientCoder(_ *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
	return func(url string, offer []string) (conn, error) {
		transport := &http.Transport{TLSClientConfig: s.client(), DisableKeepAlives: true}
		return dialCoder(url, &websocket.DialOptions{Subprotocols: offer, HTTPClient: &http.Client{Transport: transport}})
	}
}

// earlyCoder connects with a packet right behind the request.
func earlyCoder(url string, packet []byte) (conn, error) {
	dial := func(context.Context, string, string) (net.Conn, error) { return dialEager(url, packet) }
	transport := &http.Transport{DialContext: dial, DialTLSContext: dial}
	return dialCoder(url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
}

// streamCoder connects by HTTP/2, with a packet right behind the request.
func streamCoder(url string, packet []byte) (conn, error) {
	return dialCoder(url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: streamTransport{packet}}})
}

func dialCoder(url string, options *websocket.DialOptions) (conn, error) {
	c := newCoderConn()
	ctx, cancel := context.WithTimeout(c.ctx, deadline)
	defer cancel()
	options.OnPingReceived, options.OnPongReceived = c.onPing, c.onPong
	ws, _, err := websocket.Dial(ctx, url, options)
	if err != nil {
		return nil, err
	}
	c.start(ws)
	return c, nil
}

type coderConn struct {
	inbox
	ws     *websocket.Conn
	ctx    context.Context // of everything that is done with ws
	cancel context.CancelFunc
}

func newCoderConn() *coderConn {
	ctx, cancel := context.WithCancel(context.Background())
	return &coderConn{inbox: newInbox(), ctx: ctx, cancel: cancel}
}

func (c *coderConn) onPing(_ context.Context, payload []byte) bool {
	c.put(ping, payload)
	return true
}

func (c *coderConn) onPong(_ context.Context, payload []byte) { c.put(pong, payload) }

func (c *coderConn) start(ws *websocket.Conn) {
	c.ws = ws
	ws.SetReadLimit(peerLimit)
	go c.read()
}

func (c *coderConn) read() {
	for {
		opcode, payload, err := c.ws.Read(c.ctx)
		if err != nil {
			if closeErr := (websocket.CloseError{}); errors.As(err, &closeErr) {
				c.putClosed(int(closeErr.Code), closeErr.Reason)
			} else {
				c.putClosed(dropped, "")
			}
			return
		}
		if opcode == websocket.MessageText {
			c.put(text, payload)
		} else {
			c.put(binary, payload)
		}
	}
}

func coderType(k kind) websocket.MessageType {
	if k == text {
		return websocket.MessageText
	}
	return websocket.MessageBinary
}

func (c *coderConn) subprotocol() string { return c.ws.Subprotocol() }

func (c *coderConn) send(k kind, payload []byte) error {
	return c.ws.Write(c.ctx, coderType(k), payload)
}

func (c *coderConn) sendParts(k kind, parts, pings [][]byte) error {
	w, err := c.ws.Writer(c.ctx, coderType(k))
	if err != nil {
		return err
	}
	for i, part := range parts {
		if _, err = w.Write(part); err != nil {
			return err
		}
		if i < len(pings) {
			if err = c.ping(nil); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

func (c *coderConn) ping(payload []byte) error {
	if payload != nil {
		return errUnable
	}
	ctx, cancel := context.WithTimeout(c.ctx, deadline)
	defer cancel()
	return c.ws.Ping(ctx)
}

func (c *coderConn) close(code int, reason string) error {
	err := c.ws.Close(websocket.StatusCode(code), reason)
	if code == noStatus && websocket.CloseStatus(err) == websocket.StatusNormalClosure {
		return nil // what we answer
	}
	return err
}

func (c *coderConn) drop() {
	c.ws.CloseNow()
	c.cancel()
}
