package interop

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	nbtls "github.com/lesismal/llib/std/crypto/tls"
	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/mempool"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
	"github.com/stretchr/testify/require"
)

const nbioCan = fragments | pingsBetween | choosesPing | showsControl | breaksText | showsClose | awaitsClose |
	closesWith | closesWithAny | closesWithNone

var nbio = peer{
	name:      "nbio",
	serve:     serveNbio,
	serveCan:  nbioCan,
	client:    clientNbio,
	clientCan: nbioCan,
	secured:   []security{tls12AESRSA, tls13ChaCha},

	// If close_notify comes right behind a Close frame, the client may end before it has handled that.
	clientLacks: showsClose,

	compressing:  compressingNbio,
	compressions: []compression{{bits: 15}},
}

// compressingNbio has no choice.
func compressingNbio(compression) peer {
	return peer{
		serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
			return startNbioServer(t, s, true)
		},
		client: func(t *testing.T, _ security) (dial func(url string, offer []string) (conn, error)) {
			return dialerNbio(t, true)
		},
	}
}

// serveNbio lets a server of net/http take connections, which then move to the event loop, with the library's own TLS.
func serveNbio(t *testing.T, s security) (url string, accepted <-chan conn) {
	return startNbioServer(t, s, false)
}

func startNbioServer(t *testing.T, s security, compressed bool) (url string, accepted <-chan conn) {
	arrivals := make(chan conn, inboxSize)
	engine := startNbio(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &nbioConn{inbox: newInbox()}
		upgrader := c.options()
		upgrader.Engine = engine
		upgrader.EnableCompression(compressed)
		upgrader.Subprotocols = []string{chosenProtocol}
		upgrader.BlockingModTrasferConnToPoller = true
		if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
			c.ws = ws
			arrivals <- c
		}
	}))
	scheme := "ws://"
	if s != plain {
		scheme = "wss://"
		server.Listener = nbtls.NewListener(server.Listener, nbioTLS(issue(t, s.key)), mempool.DefaultMemPool)
	}
	server.Start()
	t.Cleanup(server.Close)
	return scheme + server.Listener.Addr().String(), arrivals
}

// The pool of the library takes buffers back that its TLS still reads.
func init() { mempool.DefaultMemPool = mempool.NewSTD() }

// nbioTLS returns the configuration of a server, for the copy of crypto/tls that the event loop has.
func nbioTLS(certificate tls.Certificate) *nbtls.Config {
	return &nbtls.Config{Certificates: []nbtls.Certificate{{Certificate: certificate.Certificate, PrivateKey: certificate.PrivateKey}}}
}

// startNbio starts the event loop that reads and writes.
func startNbio(t *testing.T) *nbhttp.Engine {
	t.Helper()
	logging.SetLevel(logging.LevelNone)
	engine := nbhttp.NewEngine(nbhttp.Config{})
	require.NoError(t, engine.Start())
	t.Cleanup(engine.Stop)
	return engine
}

func clientNbio(t *testing.T, _ security) (dial func(url string, offer []string) (conn, error)) {
	return dialerNbio(t, false)
}

func dialerNbio(t *testing.T, compressed bool) (dial func(url string, offer []string) (conn, error)) {
	engine := startNbio(t)
	return func(url string, offer []string) (conn, error) {
		c := &nbioConn{inbox: newInbox()}
		options := c.options()
		options.EnableCompression(compressed)
		dialer := websocket.Dialer{Engine: engine, Options: options, DialTimeout: deadline, Subprotocols: offer}
		ws, _, err := dialer.Dial(url, nil)
		if err != nil {
			return nil, err
		}
		c.ws = ws
		return c, nil
	}
}

type nbioConn struct {
	inbox
	ws *websocket.Conn

	mu        sync.Mutex
	closeSent bool   // guarded by mu
	code      int    // of the Close frame that was received, or 0; guarded by mu
	reason    string // guarded by mu
}

// options returns handlers that show what is received.
func (c *nbioConn) options() *websocket.Upgrader {
	options := websocket.NewUpgrader()
	options.OnMessage(func(_ *websocket.Conn, opcode websocket.MessageType, payload []byte) {
		if opcode == websocket.TextMessage {
			c.put(text, payload)
		} else {
			c.put(binary, payload)
		}
	})
	options.SetPingHandler(func(ws *websocket.Conn, payload string) {
		c.put(ping, []byte(payload))
		ws.WriteMessage(websocket.PongMessage, []byte(payload))
	})
	options.SetPongHandler(func(_ *websocket.Conn, payload string) { c.put(pong, []byte(payload)) })
	options.SetCloseHandler(func(ws *websocket.Conn, code int, reason string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.code, c.reason = code, reason
		if !c.closeSent {
			c.closeSent = true
			writeNbioClose(ws, code, reason)
		}
	})
	options.OnClose(func(*websocket.Conn, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.code == 0 {
			c.code = dropped
		}
		c.putClosed(c.code, c.reason)
	})
	return options
}

func writeNbioClose(ws *websocket.Conn, code int, reason string) error {
	if code == noStatus {
		return ws.WriteMessage(websocket.CloseMessage, nil)
	}
	return ws.WriteClose(code, reason)
}

func nbioType(k kind) websocket.MessageType {
	if k == text {
		return websocket.TextMessage
	}
	return websocket.BinaryMessage
}

func (c *nbioConn) subprotocol() string { return c.ws.Subprotocol() }

func (c *nbioConn) send(k kind, payload []byte) error {
	return c.ws.WriteMessage(nbioType(k), payload)
}

func (c *nbioConn) sendParts(k kind, parts, pings [][]byte) error {
	for i, part := range parts {
		if err := c.ws.WriteFrame(nbioType(k), i == 0, i == len(parts)-1, part); err != nil {
			return err
		}
		if i < len(pings) {
			if err := c.ping(pings[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *nbioConn) ping(payload []byte) error {
	return c.ws.WriteMessage(websocket.PingMessage, payload)
}

func (c *nbioConn) close(code int, reason string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeSent = true
	return writeNbioClose(c.ws, code, reason)
}

func (c *nbioConn) drop() { c.ws.Close() }
