//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// abuseBlock is what a handler that blocks does. The release is for tests that fail.
func abuseBlock(d time.Duration, release <-chan struct{}) {
	select {
	case <-time.After(d):
	case <-release:
	}
}

// abuseBlocked has every kind of handler block for a minute, for each of its clients.
func abuseBlocked(a *abuse) {
	const each = 30
	hold := abuseScale(time.Minute)
	opts := abuseDefaults(new(ServerOptions))
	clients := abuseBlockedClients(opts, hold)
	inside, release := make(chan struct{}, len(clients)*each), make(chan struct{})
	abuseBlockAll(opts, func() {
		inside <- struct{}{}
		abuseBlock(hold, release)
	})
	a.start(opts)
	rawRelease(a.t, release)
	ended := make(chan error, len(clients)*each)
	for _, client := range clients {
		for range each {
			c := a.dial(a.t)
			c.SetDeadline(time.Now().Add(hold + abuseWait))
			go func() {
				ended <- client.play(c)
				c.reset()
			}()
		}
	}
	for range clients {
		for range each {
			rawGet(a.t, inside)
		}
	}
	for range 20 { // all of them block
		c := a.connect(a.t)
		c.text(abuseHello)
		c.expectText(abuseHello)
		c.Close()
	}
	for range clients {
		for range each {
			require.NoError(a.t, abuseGet(a.t, ended, hold))
		}
	}
	require.True(a.t, eventually(func() bool { return a.Clients.Len() == 1 }))
}

// abuseBlockAll sets handlers that block. HandleAuth, HandleClientAdd and HandleClientRemove do so where the query of the
// handshake says so, HandleText where the message is not the well-behaved client's. Those of messages send them back after
// that.
func abuseBlockAll(opts *ServerOptions, block func()) {
	blockFor := func(ctx context.Context, handler string) {
		if ctx.Value(CtxKeyInternalJWT) == handler {
			block()
		}
	}
	opts.HandleAuth = func(req *Handshake) (context.Context, error) {
		ctx := context.WithValue(context.Background(), CtxKeyInternalJWT, req.URL.RawQuery)
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
		if !abuseCalmEcho(conn, p) {
			block()
			rawEcho(conn, p)
		}
	}
	opts.HandleBin = func(conn int, p []byte) {
		block()
		rawEcho(conn, p)
	}
	opts.HandleRsvControl = func(conn int, f *Frame) {
		block()
		rawEcho(conn, f.Payload())
	}
}

// abuseBlockedClient is a client one of whose handlers blocks: what it sends, and what it gets in answer.
type abuseBlockedClient struct {
	name   string // of the handler
	target string // of its request
	frames []byte
	wants  []abuseWanted
}

// abuseWanted is a frame that a client gets; OpcodeCont stands for the end of the connection.
type abuseWanted struct {
	op      Opcode
	payload string
	after   time.Duration // since the handshake began; at most abuseWait/4 later
	pings   int           // that the client has to answer before, at least
}

// abuseBlockedClients are the clients of abuseBlocked. Those that stay have their Pings answered, answer those of the server, and
// get the handler's answer after the minute; those that leave wait for a second at most.
func abuseBlockedClients(opts *ServerOptions, hold time.Duration) []abuseBlockedClient {
	hello := NewFrameText(true, []byte(abuseHello))
	ping := NewFramePing(true, []byte("p"))
	closes := NewFrameClose(true, StatusNormal, nil)
	text, bin := NewFrameText(true, []byte("x")), NewFrameBin(true, []byte("x"))
	control := NewFrame(OpcodeControlRsvB, true, []byte("x"))

	echo := abuseWanted{op: OpcodeText, payload: abuseHello}
	pong := abuseWanted{op: OpcodePong, payload: "p"}
	late := abuseWanted{op: OpcodeText, payload: "x", after: hold, pings: 1}
	closed := abuseWanted{op: OpcodeClose, payload: rawCloseBody(StatusNormal, "")}
	answer := min(maxAnswerTime, opts.WriteTimeout) // for which the handler is waited for
	end := abuseWanted{after: answer}
	after := func(w abuseWanted, d time.Duration) abuseWanted {
		w.after = d
		return w
	}
	return []abuseBlockedClient{
		{"HandleAuth", "/?auth", hello, []abuseWanted{after(echo, hold)}},
		{"HandleStatus", "/status", nil, []abuseWanted{after(end, hold)}},
		{"HandleClientAdd, where messages wait for AddTimeout", "/?add", hello, []abuseWanted{after(echo, opts.AddTimeout)}},
		{"HandleText", "/", slices.Concat(text, ping), []abuseWanted{pong, late}},
		{"HandleBin", "/", slices.Concat(bin, ping), []abuseWanted{pong, late}},
		{"HandleRsvControl", "/", slices.Concat(control, ping), []abuseWanted{pong, late}},
		{"HandleText of a client that closes", "/", slices.Concat(text, closes), []abuseWanted{after(closed, answer), end}},
		{"HandleClientRemove", "/?remove", closes, []abuseWanted{closed, end}},
		{"HandleBin of a client that is reset", "/", slices.Concat(bin, ping), []abuseWanted{pong}},
	}
}

// play is the life of the client.
func (client abuseBlockedClient) play(c *rawConn) error {
	start := time.Now()
	_, err := io.WriteString(c, strings.Replace(rawRequest, "GET / ", "GET "+client.target+" ", 1))
	if err == nil && client.frames != nil {
		answer := make([]byte, len(rawAccepted))
		if _, err = io.ReadFull(c.r, answer); err == nil && string(answer) != rawAccepted {
			err = fmt.Errorf("wrong answer to the handshake: %q", answer)
		}
		c.Write(client.frames)
	}
	for _, want := range client.wants {
		if err == nil {
			err = want.read(c)
		}
		if took := time.Since(start); err == nil && (took < want.after || took > want.after+abuseWait/4) {
			err = fmt.Errorf("opcode %x came after %v", want.op, took)
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", client.name, err)
	}
	return err
}

func (w abuseWanted) read(c *rawConn) error {
	if w.op == OpcodeCont {
		return c.abuseEnd()
	}
	op, payload, pings, err := c.abuseFrame()
	if err == nil && (op != w.op || string(payload) != w.payload || pings < w.pings) {
		err = fmt.Errorf("got %x %.40q after %d Pings", op, payload, pings)
	}
	return err
}
