//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// blocker is what a handler that blocks does. The release is for tests that fail.
func blocker(d time.Duration, release <-chan struct{}) {
	select {
	case <-time.After(d):
	case <-release:
	}
}

// blockedHandlers has every kind of handler block for a minute, for each of its clients.
func blockedHandlers(a *abuse) {
	const each = 30
	hold := scale(time.Minute)
	opts := defaults(new(websocket.ServerOptions))
	clients := blockedClients(opts, hold)
	inside, release := make(chan struct{}, len(clients)*each), make(chan struct{})
	blockAll(opts, func() {
		inside <- struct{}{}
		blocker(hold, release)
	})
	a.start(opts)
	peer.Release(a.t, release)
	ended := make(chan error, len(clients)*each)
	for _, client := range clients {
		for range each {
			c := a.Dial(a.t)
			c.SetDeadline(time.Now().Add(hold + wait))
			go func() {
				ended <- client.play(c)
				c.Reset()
			}()
		}
	}
	for range clients {
		for range each {
			peer.Get(a.t, inside)
		}
	}
	for range 20 { // all of them block
		c := a.Connect(a.t)
		c.Text(helloPrefix)
		c.ExpectText(helloPrefix)
		c.Close()
	}
	for range clients {
		for range each {
			require.NoError(a.t, get(a.t, ended, hold))
		}
	}
	require.True(a.t, peer.Eventually(func() bool { return a.Clients.Len() == 1 }))
}

// blockAll sets handlers that block. HandleAuth, HandleClientAdd and HandleClientRemove do so if the query of the
// handshake says so, HandleText if the message is not the well-behaved client's. Those of messages send them back after
// that.
func blockAll(opts *websocket.ServerOptions, block func()) {
	blockFor := func(ctx context.Context, handler string) {
		if ctx.Value(websocket.CtxKeyInternalJWT) == handler {
			block()
		}
	}
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		ctx := context.WithValue(context.Background(), websocket.CtxKeyInternalJWT, req.URL.RawQuery)
		blockFor(ctx, "auth")
		return ctx, nil
	}
	opts.HandleStatus = func() (string, []byte) {
		block()
		return "text/plain", nil
	}
	opts.HandleClientAdd = func(ctx context.Context, _ int) { blockFor(ctx, "add") }
	opts.HandleClientRemove = func(ctx context.Context, _ int) { blockFor(ctx, "remove") }
	opts.HandleText = func(conn int, p []byte) {
		if !calmEcho(conn, p) {
			block()
			peer.Echo(conn, p)
		}
	}
	opts.HandleBin = func(conn int, p []byte) {
		block()
		peer.Echo(conn, p)
	}
	opts.HandleRsvControl = func(conn int, f *websocket.Frame) {
		block()
		peer.Echo(conn, f.Payload())
	}
}

// blockedClient is a client one of whose handlers blocks: what it sends, and what it gets in answer.
type blockedClient struct {
	name   string // of the handler
	target string // of its request
	frames []byte
	wants  []wanted
}

// wanted is a frame that a client gets; OpcodeCont stands for the end of the connection.
type wanted struct {
	op      websocket.Opcode
	payload string
	after   time.Duration // since the handshake began; at most wait/4 later
	pings   int           // that the client has to answer before, at least
}

// blockedClients are the clients of blockedHandlers. Those that stay have their Pings answered, answer those of the server, and
// get the handler's answer after the minute; those that leave wait for a second at most.
func blockedClients(opts *websocket.ServerOptions, hold time.Duration) []blockedClient {
	hello := websocket.NewFrameText(true, []byte(helloPrefix))
	ping := websocket.NewFramePing(true, []byte("p"))
	closes := websocket.NewFrameClose(true, websocket.StatusNormal, nil)
	text, bin := websocket.NewFrameText(true, []byte("x")), websocket.NewFrameBin(true, []byte("x"))
	control := websocket.NewFrame(websocket.OpcodeControlRsvB, true, []byte("x"))

	echo := wanted{op: websocket.OpcodeText, payload: helloPrefix}
	pong := wanted{op: websocket.OpcodePong, payload: "p"}
	late := wanted{op: websocket.OpcodeText, payload: "x", after: hold, pings: 1}
	closed := wanted{op: websocket.OpcodeClose, payload: peer.CloseBody(websocket.StatusNormal, "")}
	answer := min(peer.AnswerTime, opts.WriteTimeout) // for which the handler is waited for
	end := wanted{after: answer}
	after := func(w wanted, d time.Duration) wanted {
		w.after = d
		return w
	}
	return []blockedClient{
		{"HandleAuth", "/?auth", hello, []wanted{after(echo, hold)}},
		{"HandleStatus", "/status", nil, []wanted{after(end, hold)}},
		{"HandleClientAdd, for which messages wait for AddTimeout", "/?add", hello, []wanted{after(echo, opts.AddTimeout)}},
		{"HandleText", "/", slices.Concat(text, ping), []wanted{pong, late}},
		{"HandleBin", "/", slices.Concat(bin, ping), []wanted{pong, late}},
		{"HandleRsvControl", "/", slices.Concat(control, ping), []wanted{pong, late}},
		{"HandleText of a client that closes", "/", slices.Concat(text, closes), []wanted{after(closed, answer), end}},
		{"HandleClientRemove", "/?remove", closes, []wanted{closed, end}},
		{"HandleBin of a client that is reset", "/", slices.Concat(bin, ping), []wanted{pong}},
	}
}

// play is the life of the client.
func (client blockedClient) play(c *peer.Conn) error {
	start := time.Now()
	_, err := io.WriteString(c, strings.Replace(peer.Request, "GET / ", "GET "+client.target+" ", 1))
	if err == nil && client.frames != nil {
		answer := make([]byte, len(peer.Accepted))
		if _, err = io.ReadFull(c.Reader, answer); err == nil && string(answer) != peer.Accepted {
			err = fmt.Errorf("wrong answer to the handshake: %q", answer)
		}
		c.Write(client.frames)
	}
	for _, want := range client.wants {
		if err == nil {
			err = want.read(c)
		}
		if took := time.Since(start); err == nil && (took < want.after || took > want.after+wait/4) {
			err = fmt.Errorf("opcode %x came after %v", want.op, took)
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", client.name, err)
	}
	return err
}

func (w wanted) read(c *peer.Conn) error {
	if w.op == websocket.OpcodeCont {
		return c.ReadToEnd()
	}
	op, payload, pings, err := c.FrameAfterPings()
	if err == nil && (op != w.op || string(payload) != w.payload || pings < w.pings) {
		err = fmt.Errorf("got %x %.40q after %d Pings", op, payload, pings)
	}
	return err
}
