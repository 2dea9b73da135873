package interop

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

var errUnable = errors.New("this side cannot be told to do that")

// ours is the package under test. Its server does not show the codes that clients close with; its client closes with 1000
// only.
var ours = peer{
	name:      "ours",
	serve:     serveOurs,
	serveCan:  fragments | pingsBetween | choosesPing | breaksText | showsEmpty | closesWith | closesWithAny | closesWithNone,
	client:    clientOurs,
	clientCan: choosesPing | breaksText | showsEmpty | showsClose,
}

type protocolKey struct{}

func serveOurs(t *testing.T, s security) (url string, accepted <-chan conn) {
	// Pings of the server's own, after much was sent or on a slow machine, would come between the events that a case waits for.
	return startOurs(t, &websocket.ServerOptions{MaxMessageSize: limit, PingInterval: -1, TLSConfig: s.server(t)})
}

// startOurs starts a server with the options, on a free port if they have no address. It sets their handlers, but not a
// HandleText that is there.
func startOurs(t *testing.T, opts *websocket.ServerOptions) (url string, accepted <-chan conn) {
	arrivals := make(chan conn, inboxSize)
	var conns sync.Map // descriptor to *serverConn
	of := func(fd int) *serverConn {
		c, _ := conns.Load(fd)
		return c.(*serverConn)
	}
	opts.Address = cmp.Or(opts.Address, "127.0.0.1:0")
	opts.Logger = cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		for offer := range strings.SplitSeq(string(req.Protocol), ",") {
			if strings.TrimSpace(offer) == chosenProtocol {
				req.ResponseHeader.Set("Sec-WebSocket-Protocol", chosenProtocol)
			}
		}
		return context.WithValue(context.Background(), protocolKey{}, req.ResponseHeader.Get("Sec-WebSocket-Protocol")), nil
	}
	opts.HandleClientAdd = func(ctx context.Context, fd int) {
		c := &serverConn{inbox: newInbox(), id: websocket.ID(fd), protocol: ctx.Value(protocolKey{}).(string)}
		conns.Store(fd, c)
		arrivals <- c
	}
	if opts.HandleText == nil {
		opts.HandleText = func(fd int, payload []byte) { of(fd).put(text, payload) }
	}
	opts.HandleBin = func(fd int, payload []byte) { of(fd).put(binary, payload) }
	opts.HandleClientRemove = func(_ context.Context, fd int) { of(fd).putClosed(dropped, "") }
	server := websocket.NewServer(opts)
	ln, err := net.Listen("tcp", opts.Address)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Stop()
		assert.NoError(t, <-ended)
	})
	if opts.TLSConfig != nil {
		return "wss://" + ln.Addr().String(), arrivals
	}
	return "ws://" + ln.Addr().String(), arrivals
}

// serverConn is a connection of our server.
type serverConn struct {
	inbox
	id       uint64
	protocol string
}

func (c *serverConn) subprotocol() string { return c.protocol }

func opcodeOf(k kind) websocket.Opcode {
	if k == text {
		return websocket.OpcodeText
	}
	return websocket.OpcodeBin
}

func (c *serverConn) send(k kind, payload []byte) error {
	return websocket.SendID(c.id, websocket.NewFrame(opcodeOf(k), false, payload))
}

func (c *serverConn) sendParts(k kind, parts, pings [][]byte) error {
	const fin = 0x80
	opcode := opcodeOf(k)
	for i, part := range parts {
		frame := websocket.NewFrame(opcode, false, part)
		if i < len(parts)-1 {
			frame[0] &^= fin
		}
		if err := websocket.SendID(c.id, frame); err != nil {
			return err
		}
		if i < len(pings) {
			if err := c.ping(pings[i]); err != nil {
				return err
			}
		}
		opcode = websocket.OpcodeCont
	}
	return nil
}

func (c *serverConn) ping(payload []byte) error {
	return websocket.SendID(c.id, websocket.NewFramePing(false, payload))
}

func (c *serverConn) close(code int, reason string) error {
	frame := websocket.NewFrameClose(false, websocket.CloseCode(code), []byte(reason))
	if code == noStatus {
		frame = websocket.NewFrame(websocket.OpcodeClose, false, nil)
	}
	return websocket.SendID(c.id, frame)
}

func (c *serverConn) drop() {
	if err := c.close(1000, ""); err != nil && !errors.Is(err, net.ErrClosed) {
		panic(err)
	}
}

func clientOurs(_ *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
	return func(url string, offer []string) (conn, error) {
		client := &websocket.Client{Endpoint: url, MaxMessageSize: limit, TLSConfig: s.client()}
		client.PingInterval = time.Hour // a case may take long on a slow machine, and waits for events
		return dialOurs(client, offer)
	}
}

// dialOurs connects a client, whose handlers it sets.
func dialOurs(client *websocket.Client, offer []string) (conn, error) {
	c := &clientConn{inbox: newInbox(), client: client}
	client.Logger = slog.New(slog.DiscardHandler)
	client.HandleText = func(_ *websocket.Client, f *websocket.Frame) error { c.put(text, f.Payload()); return nil }
	client.HandleBin = func(_ *websocket.Client, f *websocket.Frame) error { c.put(binary, f.Payload()); return nil }
	client.HandleQuit = c.quit
	if len(offer) > 0 {
		client.Headers = http.Header{"Sec-Websocket-Protocol": {strings.Join(offer, ", ")}}
	}
	return c, client.Connect()
}

// clientConn is a connection of our client.
type clientConn struct {
	inbox
	client *websocket.Client
}

func (c *clientConn) quit() {
	var closeErr *websocket.CloseError
	switch err := c.client.Err(); {
	case !errors.As(err, &closeErr):
		c.putClosed(dropped, "")
	case closeErr.Code == 0:
		c.putClosed(noStatus, closeErr.Reason)
	default:
		c.putClosed(int(closeErr.Code), closeErr.Reason)
	}
}

func (c *clientConn) subprotocol() string { return c.client.Response().Get("Sec-Websocket-Protocol") }

func (c *clientConn) send(k kind, payload []byte) error {
	if k == text {
		return c.client.SendText(payload)
	}
	return c.client.SendBin(payload)
}

func (c *clientConn) sendParts(kind, [][]byte, [][]byte) error { return errUnable }

func (c *clientConn) ping(payload []byte) error { return c.client.SendPing(payload) }

func (c *clientConn) close(code int, reason string) error {
	if code != 1000 || reason != "" {
		return errUnable
	}
	return c.client.Close()
}

func (c *clientConn) drop() { c.client.Quit() }
