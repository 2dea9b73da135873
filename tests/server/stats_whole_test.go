//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// emptyFigures returns the figures that are zero, by their names.
func emptyFigures(of reflect.Value, name string) (empty []string) {
	if of.Kind() != reflect.Struct {
		if of.IsZero() {
			return []string{name}
		}
		return nil
	}
	for i := range of.NumField() {
		empty = append(empty, emptyFigures(of.Field(i), strings.TrimPrefix(name+"."+of.Type().Field(i).Name, "."))...)
	}
	return empty
}

// TestStats_whole has one server of which every figure is known, and none is zero. A figure that is added has to be brought about here.
func TestStats_whole(t *testing.T) {
	auth, removing, closing, handling := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	opts := &websocket.ServerOptions{
		TLSConfig: peer.ServerTLS(), Compression: &websocket.Compression{Codec: peer.ContextCodec()},
		WriteTimeout: time.Minute, HandshakeTimeout: time.Minute, SendQueueSize: 8 << 20, // more than the system takes later
	}
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		switch req.URL.RawQuery {
		case "no":
			return nil, errors.New("no")
		case "wait":
			<-auth
		}
		return context.WithValue(context.Background(), websocket.CtxKeyUID, 7), nil
	}
	opts.HandleText = func(conn int, p []byte) {
		if string(p) == "wait" {
			<-handling
		}
		websocket.SendText(conn, p)
	}
	var removes, closes atomic.Int64 // the connections of which those handlers wait
	opts.HandleClientRemove = func(_ context.Context, conn int) {
		if int64(conn) == removes.Load() {
			<-removing
		}
	}
	opts.OnClose = func(info websocket.ConnInfo, _ websocket.CloseCause) {
		if int64(info.Conn) == closes.Load() {
			<-closing
		}
	}
	opts.Handler = page()
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	for _, ch := range []chan struct{}{auth, removing, closing, handling} {
		peer.Release(t, ch)
	}
	var want websocket.Stats
	queued := func() int64 { return 0 }
	come := func() {
		t.Helper()
		var got websocket.Stats
		if !peer.Eventually(func() bool {
			got, want.Queued = s.Stats(), queued()
			got.Takeovers, got.HandlerTime, got.AuthTime, got.LoopLag = 0, websocket.Histogram{}, websocket.Histogram{}, websocket.Histogram{}
			return assert.ObjectsAreEqual(want, got)
		}) {
			require.Equal(t, want, got)
		}
	}
	open := func() (c *peer.Conn, conn int) {
		t.Helper()
		c = s.Connect(t)
		conn = peer.Get(t, added)
		want.Accepted++
		want.Opened++
		want.Connections.Open++
		want.TLS.Done++
		want.Users = 1
		return c, conn
	}

	s.DialPlain(t).Send(peer.ClientHello(nil))
	want.Accepted, want.Connections.Securing, want.TLS.UnderWay = 1, 1, 1
	failed := s.DialPlain(t)
	failed.Secure(&tls.Config{ServerName: "nobody knows"})
	require.Error(t, failed.Handshake())
	failed.Close()
	want.Accepted, want.TLS.Failed, want.HeldBack = 2, 1, 1
	want.Refused = []websocket.Refused{{Reason: "protocol error", Count: 1}}
	shaken := s.Dial(t)
	require.NoError(t, shaken.Handshake())
	want.Accepted, want.TLS.Done, want.Connections.Opening = 3, 1, 1
	for _, query := range []string{"wait", "no", "no"} {
		c := s.Dial(t)
		c.Send([]byte(strings.Replace(peer.Request, "GET /", "GET /?"+query, 1)))
		if query == "no" {
			c.Answer()
		}
	}
	want.Accepted, want.TLS.Done, want.HeldBack, want.Connections.Auth = 6, 4, 3, 1
	want.Refused = append(want.Refused, websocket.Refused{Status: 400, Reason: "HandleAuth", Count: 2})
	web := s.Dial(t)
	web.Send([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n"))
	asked(t, web, "GET", "/page", "")
	want.Accepted, want.TLS.Done, want.Connections.HTTP = 7, 5, 1
	come()

	hs := httptest.NewServer(s.Server)
	t.Cleanup(hs.Close)
	(&peer.Server{T: t, Network: "tcp", Address: hs.Listener.Addr().String()}).Connect(t)
	adopted := peer.Get(t, added)
	want.Adopted, want.Opened, want.Connections.Open, want.Users = 1, 1, 1, 1
	require.NoError(t, s.Clients.Subscribe(adopted, "news"))
	require.NoError(t, s.Clients.Subscribe(adopted, "weather"))
	_, other := open()
	require.NoError(t, s.Clients.Subscribe(other, "news"))
	want.Topics, want.Subscriptions = 2, 3
	come()

	c := s.Dial(t).Extend(peer.DeflateBits)
	peer.Get(t, added)
	want.Accepted++
	want.TLS.Done++
	want.Opened++
	want.Connections.Open++
	text := strings.Repeat("the same again. ", 100)
	packed := c.Sends.Pack([]byte(text))
	c.Send(peer.PackedFrame(websocket.OpcodeText, packed))
	answer, err := peer.ReadFrame(c.Reader)
	require.NoError(t, err)
	c.Send(websocket.NewFrameBin(true, []byte("binary")))
	c.Send(websocket.NewFramePing(true, []byte("ping")))
	c.Expect(websocket.OpcodePong, "ping")
	want.Received.Text = websocket.Volume{Messages: 1, Bytes: uint64(len(packed))}
	want.Received.Compressed = websocket.Compressed{Plain: uint64(len(text)), Wire: uint64(len(packed))}
	want.Received.Binary = websocket.Volume{Messages: 1, Bytes: 6}
	want.Received.Control = websocket.Volume{Messages: 1, Bytes: 4}
	want.Sent.Text = websocket.Volume{Messages: 1, Bytes: uint64(len(answer.Payload))}
	want.Sent.Compressed = websocket.Compressed{Plain: uint64(len(text)), Wire: uint64(len(answer.Payload))}
	want.Sent.Control = want.Received.Control
	come()

	full, conn := open()
	packet := websocket.NewFrameBin(false, make([]byte, 1000))
	n := uint64(peer.Fill(t, conn, packet))
	want.SendsRefused, want.Sent.Binary = 1, websocket.Volume{Messages: n, Bytes: 1000 * n}
	queued = func() int64 {
		info, ok := s.Clients.Info(conn)
		require.True(t, ok)
		return int64(info.Queued)
	}
	come()
	require.Positive(t, want.Queued)
	queued = func() int64 { return s.Stats().Queued } // nobody else knows from now on
	s.ClientRemove(conn)
	want.Connections.Open, want.Connections.Flushing = 3, 1
	want.Ended = []websocket.Ended{{Kind: websocket.ClosedRemoved, Code: 1000, Count: 1}}
	want.Sent.Control.Messages++
	want.Sent.Control.Bytes += 2
	come()

	_, conn = open()
	removes.Store(int64(conn))
	s.ClientRemove(conn)
	want.Connections.Open, want.Connections.Ending = 3, 1
	come()
	gone, conn := open()
	closes.Store(int64(conn))
	s.ClientRemove(conn)
	gone.ExpectClose(1000)
	want.Connections.Open, want.Connections.Closed = 3, 1
	want.Ended[0].Count = 2
	want.Sent.Control.Messages++
	want.Sent.Control.Bytes += 2
	come()
	lost, _ := open()
	lost.Reset()
	want.Connections.Open = 3
	want.HeldBack++
	want.Ended = append([]websocket.Ended{{Kind: websocket.ClosedLost, Count: 1}}, want.Ended...)
	come()
	slow, _ := open()
	slow.Text("wait")
	want.Received.Text.Messages++
	want.Received.Text.Bytes += 4
	come()
	statsCome(t, s.Server, true, func(s websocket.Stats) bool { return s.Takeovers > 0 })

	stats := s.Stats()
	assert.Positive(t, stats.AuthTime.Count)
	assert.Positive(t, stats.LoopLag.Count)
	want.Takeovers, want.AuthTime, want.LoopLag = stats.Takeovers, stats.AuthTime, stats.LoopLag
	assert.Equal(t, []string{
		"Connections.Draining",                                                             // lasts a second: TestStats_draining
		"HandlerTime.Bounds", "HandlerTime.Counts", "HandlerTime.Count", "HandlerTime.Sum", // TestStats_handlers
		"AcceptPauses", // takes a process of its own: TestAcceptWithoutDescriptors
	}, emptyFigures(reflect.ValueOf(want), ""))
	full.Reset()
}

// TestStats_sendings counts what was given to connections for sending once for each, and what was not taken not at all.
func TestStats_sendings(t *testing.T) {
	opts := &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) {
		return context.WithValue(context.Background(), websocket.CtxKeyUID, 7), nil
	}}
	for _, row := range append([]sending{
		{"Publish", func(s *peer.Server, conn int, p []byte) error {
			if err := s.Clients.Subscribe(conn, "news"); err != nil {
				return err
			}
			return allSent(s.Clients.Publish("news", websocket.NewFrameText(false, p)))
		}},
	}, sendings...) {
		t.Run(row.name, func(t *testing.T) {
			opts := *opts
			added := peer.Added(&opts)
			s := peer.Start(t, &opts)
			c := s.Connect(t)
			conn := peer.Get(t, added)
			require.NoError(t, row.send(s, conn, []byte("hello")))
			want := websocket.Traffic{Text: websocket.Volume{Messages: 1, Bytes: 5}}
			assert.Equal(t, want, s.Stats().Sent)
			c.ExpectText("hello")
			c.Reset()
			statsCome(t, s.Server, websocket.Phases{}, phasesOf)
			require.Error(t, row.send(s, conn, []byte("hello")))
			assert.Equal(t, want, s.Stats().Sent)
			assert.Zero(t, s.Stats().SendsRefused, "it is closed, and not full")
		})
	}
	t.Run("the router", func(t *testing.T) {
		s := peer.Start(t, nil)
		require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *websocket.Request) websocket.Response {
			return websocket.Response{Body: "hello"}
		}))
		c := s.Connect(t)
		c.Text(`{"id":1,"method":"GET","target":"/"}`)
		_, answer, err := c.Frame()
		require.NoError(t, err)
		assert.Contains(t, string(answer), "hello")
		assert.Equal(t, websocket.Traffic{Text: websocket.Volume{Messages: 1, Bytes: uint64(len(answer))}}, s.Stats().Sent)
	})
}

// TestStats_handlers has one handler of each kind hold up its loop, and be timed.
func TestStats_handlers(t *testing.T) {
	type times struct{ takeovers, handlers, auth uint64 }
	upgrade := func(t *testing.T, s *peer.Server) { s.Dial(t).Send([]byte(peer.Request)) }
	sends := func(frame []byte) func(t *testing.T, s *peer.Server) {
		return func(t *testing.T, s *peer.Server) { s.Connect(t).Send(frame) }
	}
	for _, row := range []struct {
		name string
		set  func(opts *websocket.ServerOptions, hold func())
		does func(t *testing.T, s *peer.Server)
		want times
	}{
		{"HandleText", func(opts *websocket.ServerOptions, hold func()) {
			opts.HandleText = func(int, []byte) { hold() }
		}, sends(websocket.NewFrameText(true, nil)), times{1, 1, 0}},
		{"HandleBin", func(opts *websocket.ServerOptions, hold func()) {
			opts.HandleBin = func(int, []byte) { hold() }
		}, sends(websocket.NewFrameBin(true, nil)), times{1, 1, 0}},
		{"HandleRsvControl", func(opts *websocket.ServerOptions, hold func()) {
			opts.HandleRsvControl = func(int, *websocket.Frame) { hold() }
		}, sends(websocket.NewFrame(0xB, true, []byte("x"))), times{1, 1, 0}},
		{"a route", nil, sends(websocket.NewFrameText(true, []byte(`{"id":1,"method":"GET","target":"/"}`))), times{1, 1, 0}},
		{"HandleAuth", func(opts *websocket.ServerOptions, hold func()) {
			opts.HandleAuth = func(*websocket.Handshake) (context.Context, error) { hold(); return nil, nil }
		}, upgrade, times{1, 0, 1}},
		{"HandleStatus", func(opts *websocket.ServerOptions, hold func()) {
			opts.HandleStatus = func() (string, []byte) { hold(); return "", nil }
		}, func(t *testing.T, s *peer.Server) { s.Dial(t).Send([]byte("GET /status HTTP/1.1\r\n\r\n")) }, times{1, 0, 0}},
		{"HandleClientAdd", func(opts *websocket.ServerOptions, hold func()) {
			opts.HandleClientAdd = func(context.Context, int) { hold() }
		}, upgrade, times{1, 0, 0}},
		{"HandleClientRemove", func(opts *websocket.ServerOptions, hold func()) {
			opts.HandleClientRemove = func(context.Context, int) { hold() }
		}, sends(websocket.NewFrameClose(true, 1000, nil)), times{1, 0, 0}},
		{"OnClose", func(opts *websocket.ServerOptions, hold func()) {
			opts.OnClose = func(websocket.ConnInfo, websocket.CloseCause) { hold() }
		}, sends(websocket.NewFrameClose(true, 1000, nil)), times{1, 0, 0}},
		{"GetCertificate", func(opts *websocket.ServerOptions, hold func()) {
			config := peer.ServerTLS()
			own := config.Certificates[0]
			opts.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { hold(); return &own, nil }}
		}, func(t *testing.T, s *peer.Server) { s.DialPlain(t).Send(peer.ClientHello(nil)) }, times{1, 0, 0}},
	} {
		t.Run(row.name, func(t *testing.T) {
			inside, release, opts := make(chan struct{}, 1), make(chan struct{}), new(websocket.ServerOptions)
			hold := func() { inside <- struct{}{}; <-release }
			if row.set != nil {
				row.set(opts, hold)
			}
			s := peer.Start(t, opts)
			require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *websocket.Request) websocket.Response {
				hold()
				return websocket.Response{}
			}))
			now := peer.Release(t, release)
			row.does(t, s)
			peer.Get(t, inside)
			figures := func(s websocket.Stats) times { return times{s.Takeovers, s.HandlerTime.Count, s.AuthTime.Count} }
			statsCome(t, s.Server, times{takeovers: 1}, figures)
			now()
			statsCome(t, s.Server, row.want, figures)
		})
	}
}

// TestStats_refusedByHTTP has what net/http brings refused: the reasons are those of the own listener.
func TestStats_refusedByHTTP(t *testing.T) {
	s := peer.Start(t, &websocket.ServerOptions{MaxConnections: 1, Origins: []string{"https://x"}})
	s.Connect(t)
	ask := func(origin string) int {
		r, w := statsUpgrade(t), httptest.NewRecorder()
		r.Header.Set("Origin", origin)
		s.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, 403, ask("https://evil.example"))
	require.Equal(t, 503, ask("https://x"))
	require.Equal(t, 503, ask("https://x"))
	assert.Equal(t, []websocket.Refused{{Status: 403, Reason: "origin not allowed", Count: 1}, {Status: 503, Reason: "too many connections", Count: 2}},
		s.Stats().Refused)
	assert.Zero(t, s.Stats().Adopted, "none was taken over")
}
