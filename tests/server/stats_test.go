//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// statsCome waits until a figure of a server is what it has to be: it may be counted a moment after a client sees what it counts.
func statsCome[T any](t *testing.T, s *websocket.Server, want T, figure func(s websocket.Stats) T) {
	t.Helper()
	var got T
	if !peer.Eventually(func() bool { got = figure(s.Stats()); return assert.ObjectsAreEqual(want, got) }) {
		assert.Equal(t, want, got)
	}
}

func refusedOf(s websocket.Stats) []websocket.Refused { return s.Refused }
func endedOf(s websocket.Stats) []websocket.Ended     { return s.Ended }
func phasesOf(s websocket.Stats) websocket.Phases     { return s.Connections }

// statsRefusal is a way in which a handshake is refused.
type statsRefusal struct {
	name   string
	sends  string // the whole request, unless does is there
	opts   websocket.ServerOptions
	does   func(t *testing.T, s *peer.Server)
	status int
	reason string
}

func statsRefusals() []statsRefusal {
	const limit = 20 * time.Millisecond
	proxied := websocket.ServerOptions{ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	inside, release := make(chan struct{}), make(chan struct{})
	auth := func(err error) websocket.ServerOptions {
		return websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) { return nil, err }}
	}
	return []statsRefusal{
		{name: "no path of the server", sends: strings.Replace(peer.Request, "GET /", "GET /no", 1), status: 404, reason: "unknown path"},
		{name: "a page", sends: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", status: 426, reason: "upgrade required"},
		{name: "another version of the protocol", sends: peer.RequestWith("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), status: 426, reason: "unsupported Sec-WebSocket-Version"},
		{name: "a method that opens nothing", sends: strings.Replace(peer.Request, "GET", "POST", 1), status: 400, reason: "invalid HTTP method"},
		{name: "HTTP/1.0", sends: strings.Replace(peer.Request, "1.1", "1.0", 1), status: 400, reason: "invalid HTTP version"},
		{name: "a line that is none", sends: "nonsense\r\n\r\n", status: 400, reason: "bad request"},
		{name: "a field that is none", sends: "GET / HTTP/1.1\nHost: x\r\n\r\n", status: 400, reason: "invalid Header format"},
		{name: "no host", sends: peer.RequestWith("Host", "Host: "), status: 400, reason: "invalid Host header"},
		{name: "no upgrade", sends: peer.RequestWith("Upgrade", "Upgrade: h2c"), status: 400, reason: "invalid Upgrade header"},
		{name: "another Connection", sends: peer.RequestWith("Connection", "Connection: close"), status: 400, reason: "invalid Connection header"},
		{name: "a bad key", sends: peer.RequestWith("Sec-WebSocket-Key", "Sec-WebSocket-Key: x"), status: 400, reason: "invalid Sec-Websocket-Key header"},
		{name: "a bad version", sends: peer.RequestWith("Sec-WebSocket-Version", "Sec-WebSocket-Version: "), status: 400, reason: "invalid Sec-Websocket-Version header"},
		{name: "bad extensions", sends: peer.RequestWith("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: ;"), status: 400, reason: "invalid Sec-Websocket-Extensions header"},
		{name: "bad subprotocols", sends: peer.RequestWith("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a b"), status: 400, reason: "invalid Sec-Websocket-Protocol header"},
		{name: "a missing field", sends: peer.RequestWith("Sec-WebSocket-Key", "X: "+strings.Repeat("x", 99)), status: 400, reason: "missing required headers"},
		{name: "a missing field in a short request", sends: peer.RequestWith("Sec-WebSocket-Key", ""), status: 400, reason: "bad request: length is less than minimum"},
		{name: "a missing field in a request with a long path", sends: strings.Replace(peer.RequestWith("Sec-WebSocket-Key", ""), "GET /", "GET /?"+strings.Repeat("x", 99), 1), status: 400, reason: "bad request: header length is less than minimum"},
		{name: "a body", sends: peer.RequestWith("Host", "Host: x\r\nContent-Length: 1"), status: 400, reason: "bad request: request must have no body"},
		{name: "a second request behind it", sends: peer.Request + peer.Request, status: 400, reason: "bad request: data before the handshake is done"},
		{name: "too many fields", sends: "GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 101) + "\r\n", status: 431, reason: "request header fields too large"},
		{name: "another origin", sends: peer.RequestWith("Host", "Host: x\r\nOrigin: http://evil.example"), opts: websocket.ServerOptions{Origins: []string{"https://x"}}, status: 403, reason: "origin not allowed"},
		{name: "a slow request", sends: "GET /", opts: websocket.ServerOptions{HandshakeTimeout: limit}, status: 408, reason: "request takes too long"},
		{name: "no PROXY protocol header", sends: peer.Request, opts: proxied, status: 400, reason: "bad request: PROXY protocol header expected"},
		{name: "a broken PROXY protocol header", sends: "PROXY nonsense\r\n", opts: proxied, status: 400, reason: "bad request: malformed PROXY protocol header"},
		{name: "a PROXY protocol header that is too long", sends: "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", opts: proxied, status: 400, reason: "bad request: PROXY protocol header too long"},
		{name: "a HandleAuth that says no", sends: peer.Request, opts: auth(errors.New("the text of the program")), status: 400, reason: "HandleAuth"},
		{name: "a HandleAuth with a status of its own", sends: peer.Request, opts: auth(&websocket.HandshakeError{Status: 401}), status: 401, reason: "HandleAuth"},
		{name: "a HandleAuth that panics", sends: peer.Request, opts: websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) { panic("of the test") }}, status: 500, reason: "handler failed"},
		{name: "a client that says nothing", opts: websocket.ServerOptions{HandshakeTimeout: limit}, does: func(t *testing.T, s *peer.Server) { s.Dial(t) }, reason: "silent"},
		{name: "a client that leaves at once", does: func(t *testing.T, s *peer.Server) { s.Dial(t).Close() }, reason: "lost"},
		{name: "a server that stops", does: func(t *testing.T, s *peer.Server) {
			c := s.Dial(t)
			statsCome(t, s.Server, 1, func(s websocket.Stats) int { return s.Connections.Opening })
			c.Leave()
			s.StopAndWait(t)
		}, reason: "shut down"},
		{name: "one connection of its address too many", opts: websocket.ServerOptions{MaxConnectionsPerAddress: 1}, does: func(t *testing.T, s *peer.Server) {
			s.Connect(t)
			s.Dial(t).Answer()
		}, status: 503, reason: "too many connections from this address"},
		{name: "one connection too many", opts: websocket.ServerOptions{MaxConnections: 1}, does: func(t *testing.T, s *peer.Server) {
			s.Connect(t)
			s.Dial(t).Answer()
		}, status: 503, reason: "too many connections"},
		{name: "one connection too many, over TLS", opts: websocket.ServerOptions{MaxConnections: 1, TLSConfig: peer.ServerTLS()}, does: func(t *testing.T, s *peer.Server) {
			s.Connect(t)
			require.Error(t, s.Dial(t).Handshake())
		}, reason: "too many connections"},
		{name: "plain HTTP for TLS", opts: websocket.ServerOptions{TLSConfig: peer.ServerTLS()}, does: func(t *testing.T, s *peer.Server) {
			c := s.DialPlain(t)
			c.Send([]byte(peer.Request))
			c.Answer()
		}, status: 400, reason: "plain HTTP on a port for TLS"},
		{name: "a TLS handshake that fails", opts: websocket.ServerOptions{TLSConfig: peer.ServerTLS()}, does: func(t *testing.T, s *peer.Server) {
			c := s.DialPlain(t)
			c.Secure(&tls.Config{ServerName: "nobody knows"})
			require.Error(t, c.Handshake())
		}, reason: "protocol error"},
		{name: "another protocol over TLS", opts: websocket.ServerOptions{TLSConfig: &tls.Config{
			Certificates: peer.ServerTLS().Certificates, NextProtos: []string{"acme-tls/1"}}}, does: func(t *testing.T, s *peer.Server) {
			config := peer.ClientTLS()
			config.NextProtos = []string{"acme-tls/1"}
			c := s.DialPlain(t)
			c.Secure(config)
			require.NoError(t, c.Handshake())
		}, reason: "removed"},
		{name: "a callback of TLSConfig that panics", opts: websocket.ServerOptions{TLSConfig: &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { panic("of the test") }}}, does: func(t *testing.T, s *peer.Server) {
			require.Error(t, s.Dial(t).Handshake())
		}, reason: "protocol error"},
		{name: "a server that shuts down", opts: websocket.ServerOptions{HandleText: func(int, []byte) { inside <- struct{}{}; <-release }}, does: func(t *testing.T, s *peer.Server) {
			now := peer.Release(t, release)
			c := s.Connect(t)
			c.Text("x")
			peer.Get(t, inside)
			result := shutDown(t.Context(), s.Server)
			departed(t, s.Server)
			late := s.Dial(t)
			late.Send([]byte(peer.Request))
			late.Answer()
			now()
			c.Leave()
			require.NoError(t, peer.Get(t, result))
		}, status: 503, reason: "server is shutting down"},
		{name: "a bad request of net/http", does: func(t *testing.T, s *peer.Server) {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}, status: 426, reason: "upgrade required"},
		{name: "a connection of net/http that cannot be taken over", does: func(t *testing.T, s *peer.Server) {
			s.ServeHTTP(httptest.NewRecorder(), statsUpgrade(t))
		}, status: 500, reason: "connection cannot be taken over"},
		{name: "a request of net/http behind Stop", does: func(t *testing.T, s *peer.Server) {
			s.StopAndWait(t)
			s.ServeHTTP(httptest.NewRecorder(), statsUpgrade(t))
		}, status: 503, reason: "server is stopped"},
	}
}

// statsUpgrade is a good request as net/http has it.
func statsUpgrade(t *testing.T) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	return r
}

func TestStats_refused(t *testing.T) {
	for _, row := range statsRefusals() {
		t.Run(row.name, func(t *testing.T) {
			opts := row.opts
			s := peer.Start(t, &opts)
			if row.does != nil {
				row.does(t, s)
			} else {
				s.Dial(t).Send([]byte(row.sends))
			}
			statsCome(t, s.Server, []websocket.Refused{{Status: row.status, Reason: row.reason, Count: 1}}, refusedOf)
		})
	}
	t.Run("far too many are told nothing", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{MaxConnections: 1})
		s.Connect(t)
		told := s.Dial(t) // and drained for as long as it does not leave: there is room for 16 of those
		for range 20 {
			s.Dial(t)
		}
		told.Answer()
		statsCome(t, s.Server, uint64(21), func(s websocket.Stats) (n uint64) {
			for _, r := range s.Refused {
				n += r.Count
				assert.Equal(t, "too many connections", r.Reason)
			}
			return n
		})
		assert.Len(t, s.Stats().Refused, 2)
		assert.Zero(t, s.Stats().Refused[0].Status)
	})
	t.Run("so are far too many of one address, behind a proxy", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{MaxConnectionsPerAddress: 1, ProxyProtocol: loopback})
		for range 20 {
			s.Dial(t).Send([]byte(proxyLine("192.0.2.1")))
		}
		statsCome(t, s.Server, true, func(s websocket.Stats) bool {
			return len(s.Refused) == 2 && s.Refused[0] == websocket.Refused{Reason: "too many connections from this address", Count: 3}
		})
	})
	t.Run("what Handler and StatusPath answer is not refused", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{Handler: page()})
		c := s.Dial(t)
		c.Send([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n"))
		asked(t, c, "GET", "/page", "")
		statsCome(t, s.Server, 1, func(s websocket.Stats) int { return s.Connections.HTTP })
		c.Close()
		statsCome(t, s.Server, websocket.Phases{}, phasesOf)
		c = s.Dial(t)
		c.Send([]byte("GET /status HTTP/1.1\r\n\r\n"))
		c.Answer()
		assert.Empty(t, s.Stats().Refused)
		assert.EqualValues(t, 2, s.Stats().Accepted)
	})
}

func TestStats_ended(t *testing.T) {
	t.Run("each kind of end has a row", func(t *testing.T) {
		rows := make(map[websocket.CloseKind]bool)
		for _, row := range closeRows {
			rows[row.cause.Kind] = true
		}
		for kind := websocket.CloseKind(1); !strings.HasPrefix(kind.String(), "CloseKind("); kind++ {
			assert.True(t, rows[kind], kind)
		}
	})
	t.Run("a Shutdown ends each connection once, in time or not", func(t *testing.T) {
		for _, left := range []time.Duration{0, time.Hour} {
			s := peer.Start(t, nil)
			for range 3 {
				s.Connect(t).Leave()
			}
			statsCome(t, s.Server, uint64(3), func(s websocket.Stats) uint64 { return s.Opened })
			ctx, cancel := context.WithTimeout(t.Context(), left)
			defer cancel()
			s.Shutdown(ctx)
			assert.Equal(t, []websocket.Ended{{Kind: websocket.ClosedShutdown, Code: 1001, Count: 3}}, s.Stats().Ended)
			assert.Equal(t, websocket.Phases{}, s.Stats().Connections)
		}
	})
	for _, row := range closeRows {
		t.Run(row.name, func(t *testing.T) {
			opts := row.opts
			s := peer.Start(t, &opts)
			c := s.Connect(t)
			var conns []int
			require.True(t, peer.Eventually(func() bool { conns = s.Clients.All(); return len(conns) == 1 }))
			statsCome(t, s.Server, websocket.Phases{Open: 1}, phasesOf)
			row.end(t, s, c, conns[0])
			want := websocket.Ended{Kind: row.cause.Kind, Code: row.cause.Code, Count: 1}
			if want.Kind == websocket.ClosedByPeer && want.Code > 3000 {
				want.Code = 4000 // they count together
			}
			statsCome(t, s.Server, []websocket.Ended{want}, endedOf)
			c.Close()
			statsCome(t, s.Server, websocket.Phases{}, phasesOf)
			assert.EqualValues(t, 1, s.Stats().Opened)
			assert.EqualValues(t, 1, s.Stats().Accepted)
			assert.Empty(t, s.Stats().Refused)
		})
	}
}

func TestStats_traffic(t *testing.T) {
	type flow struct{ received, sent websocket.Traffic }
	one := func(bytes uint64) websocket.Volume { return websocket.Volume{Messages: 1, Bytes: bytes} }
	for _, row := range []struct {
		name  string
		sends []byte
		gets  int // bytes
		want  flow
	}{
		{"a text is answered", websocket.NewFrameText(true, []byte("hello")), 7, flow{websocket.Traffic{Text: one(5)}, websocket.Traffic{Text: one(5)}}},
		{"long binary data is answered", websocket.NewFrameBin(true, make([]byte, 70_000)), 70_010,
			flow{websocket.Traffic{Binary: one(70_000)}, websocket.Traffic{Binary: one(70_000)}}},
		{"a message in fragments counts once", append(append(websocket.NewFrame(websocket.OpcodeText, true, []byte("he"))[:0:0],
			0x01, 0x82, 0, 0, 0, 0, 'h', 'e', 0x80, 0x83, 0, 0, 0, 0), "llo"...), 7,
			flow{websocket.Traffic{Text: one(5)}, websocket.Traffic{Text: one(5)}}},
		{"a reserved control frame is one", websocket.NewFrame(0xB, true, []byte("what")), 0, flow{received: websocket.Traffic{Control: one(4)}}},
		{"a Pong is not answered", websocket.NewFrame(websocket.OpcodePong, true, []byte("what")), 0, flow{received: websocket.Traffic{Control: one(4)}}},
		{"a message that has not ended does not count", []byte{0x01, 0x81, 0, 0, 0, 0, 'h'}, 0, flow{}},
		{"a Ping is answered", websocket.NewFramePing(true, []byte("now")), 5, flow{websocket.Traffic{Control: one(3)}, websocket.Traffic{Control: one(3)}}},
		{"a Close frame is answered", websocket.NewFrameClose(true, 1000, []byte("bye")), 7, flow{websocket.Traffic{Control: one(5)}, websocket.Traffic{Control: one(5)}}},
		{"what breaks a rule is not a message", websocket.NewFrameText(true, []byte("\xff")), 2 + 2 + len("text is not UTF-8"),
			flow{sent: websocket.Traffic{Control: one(uint64(2 + len("text is not UTF-8")))}}},
		{"many at once are answered at once", slicesRepeat(websocket.NewFrameText(true, []byte("hello")), 1000), 7000,
			flow{websocket.Traffic{Text: websocket.Volume{Messages: 1000, Bytes: 5000}}, websocket.Traffic{Text: websocket.Volume{Messages: 1000, Bytes: 5000}}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := peer.Start(t, &websocket.ServerOptions{
				HandleText: func(conn int, p []byte) { websocket.SendText(conn, p) },
				HandleBin:  func(conn int, p []byte) { websocket.Send(conn, websocket.NewFrameBin(false, p)) },

				HandleRsvControl: func(int, *websocket.Frame) {},
			})
			c := s.Connect(t)
			c.Send(row.sends)
			_, err := io.CopyN(io.Discard, c.Reader, int64(row.gets))
			require.NoError(t, err)
			statsCome(t, s.Server, row.want, func(s websocket.Stats) flow { return flow{s.Received, s.Sent} })
		})
	}
	t.Run("packets of several frames, and those for all", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		s.Connect(t)
		conn := peer.Get(t, added)
		packet := append(websocket.NewFrameText(false, []byte("abc")), websocket.NewFramePing(false, []byte("x"))...)
		packet = append(packet, 0x01, 1, 'a', 0x89, 0, 0x00, 1, 'b', 0x80, 1, 'c') // a message in three frames, with a Ping between them
		require.NoError(t, websocket.Send(conn, packet))
		s.Clients.SendAll(websocket.NewFrameBin(false, make([]byte, 100)))
		want := websocket.Traffic{Text: websocket.Volume{Messages: 2, Bytes: 6}, Binary: one(100), Control: websocket.Volume{Messages: 2, Bytes: 1}}
		statsCome(t, s.Server, want, func(s websocket.Stats) websocket.Traffic { return s.Sent })
	})
	t.Run("what is compressed counts as it is on the wire, with what it is besides", func(t *testing.T) {
		for _, offer := range []string{peer.DeflateBits, peer.Deflate + "; server_no_context_takeover; client_no_context_takeover"} {
			s := peer.Start(t, compressing(websocket.Compression{Codec: peer.ContextCodec()}))
			c := s.Dial(t).Extend(offer)
			text := strings.Repeat("the same again. ", 100)
			packed := c.Sends.Pack([]byte(text))
			c.Send(peer.PackedFrame(websocket.OpcodeText, packed))
			require.True(t, c.ExpectMessage(websocket.OpcodeText, text))
			statsCome(t, s.Server, one(uint64(len(packed))), func(s websocket.Stats) websocket.Volume { return s.Received.Text })
			statsCome(t, s.Server, websocket.Compressed{Plain: uint64(len(text)), Wire: uint64(len(packed))}, func(s websocket.Stats) websocket.Compressed { return s.Received.Compressed })
			sent := s.Stats().Sent
			assert.EqualValues(t, len(text), sent.Compressed.Plain)
			assert.Less(t, sent.Compressed.Wire, sent.Compressed.Plain/4)
			assert.Equal(t, one(sent.Compressed.Wire), sent.Text)
			s.Clients.SendAll(websocket.NewFrameText(false, []byte(text)))
			assert.EqualValues(t, 2*len(text), s.Stats().Sent.Compressed.Plain, "a broadcast counts for each connection")
			s.StopAndWait(t)
		}
	})
}

func slicesRepeat(b []byte, n int) (all []byte) {
	for range n {
		all = append(all, b...)
	}
	return all
}

func TestStats_phases(t *testing.T) {
	release, removing := make(chan struct{}), make(chan struct{})
	opts := &websocket.ServerOptions{TLSConfig: peer.ServerTLS(), WriteTimeout: time.Minute}
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		if req.URL.RawQuery == "wait" {
			<-release
		}
		return context.WithValue(context.Background(), websocket.CtxKeyUID, 7), nil
	}
	opts.HandleClientRemove = func(context.Context, int) { <-removing }
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	now, end := peer.Release(t, release), peer.Release(t, removing)
	come := func(want websocket.Phases) { t.Helper(); statsCome(t, s.Server, want, phasesOf) }

	plain := s.DialPlain(t)
	come(websocket.Phases{Securing: 1})
	plain.Secure(nil)
	require.NoError(t, plain.Handshake())
	come(websocket.Phases{Opening: 1})
	plain.Send([]byte(strings.Replace(peer.Request, "GET /", "GET /?wait", 1)))
	come(websocket.Phases{Auth: 1})
	now()
	conn := peer.Get(t, added)
	come(websocket.Phases{Open: 1})
	assert.Equal(t, 1, s.Stats().Users)
	packet := websocket.NewFrameBin(false, make([]byte, 1<<16))
	peer.Fill(t, conn, packet)
	s.ClientRemove(conn)
	come(websocket.Phases{Ending: 1})
	assert.Zero(t, s.Stats().Users)
	end()
	come(websocket.Phases{Flushing: 1})
	plain.Leave()
	come(websocket.Phases{})
	stats := s.Stats()
	assert.Equal(t, websocket.TLSHandshakes{Done: 1}, stats.TLS)
	assert.EqualValues(t, 1, stats.AuthTime.Count)
	assert.Zero(t, stats.Queued)
	assert.Equal(t, 1, stats.HeldBack)
	s.StopAndWait(t)
	assert.Zero(t, s.Stats().HeldBack)
}

func TestStats_draining(t *testing.T) {
	release := make(chan struct{})
	closing := make(chan int, 1)
	opts := &websocket.ServerOptions{OnClose: func(info websocket.ConnInfo, _ websocket.CloseCause) { closing <- info.Conn; <-release }}
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	now := peer.Release(t, release)
	c := s.Connect(t)
	s.ClientRemove(peer.Get(t, added))
	peer.Get(t, closing)
	statsCome(t, s.Server, websocket.Phases{Draining: 1}, phasesOf)
	c.Close()
	statsCome(t, s.Server, websocket.Phases{Closed: 1}, phasesOf)
	now()
	statsCome(t, s.Server, websocket.Phases{}, phasesOf)
}

func TestStats_sends(t *testing.T) {
	opts := &websocket.ServerOptions{SendQueueSize: 1 << 16}
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	c := s.Connect(t)
	conn := peer.Get(t, added)
	sent := peer.Fill(t, conn, websocket.NewFrameBin(false, make([]byte, 1000)))
	stats := s.Stats()
	assert.EqualValues(t, 1, stats.SendsRefused)
	info, _ := s.Clients.Info(conn)
	assert.EqualValues(t, info.Queued, stats.Queued)
	assert.Positive(t, stats.Queued)
	require.ErrorIs(t, websocket.TrySend(conn, websocket.NewFrameBin(false, make([]byte, 5<<20))), websocket.ErrSendQueueFull, "a large packet is refused too")
	s.Clients.SendAll(websocket.NewFrameBin(false, make([]byte, 1000)))
	assert.EqualValues(t, 3, s.Stats().SendsRefused)
	for range sent {
		c.Expect(websocket.OpcodeBin, string(make([]byte, 1000)))
	}
	statsCome(t, s.Server, int64(0), func(s websocket.Stats) int64 { return s.Queued })
	assert.Equal(t, websocket.Volume{Messages: uint64(sent), Bytes: uint64(1000 * sent)}, s.Stats().Sent.Binary)

	peer.Fill(t, conn, websocket.NewFrameBin(false, make([]byte, 1000)))
	c.Reset()
	statsCome(t, s.Server, int64(0), func(s websocket.Stats) int64 { return s.Queued })
}

func TestStats_times(t *testing.T) {
	release, started := make(chan struct{}), make(chan struct{}, 1)
	opts := &websocket.ServerOptions{HandleBin: func(int, []byte) { started <- struct{}{}; <-release }, HandleText: peer.Echo}
	s := peer.Start(t, opts)
	now := peer.Release(t, release)
	c, other := s.Connect(t), s.Connect(t)
	c.Send(websocket.NewFrameBin(true, nil))
	peer.Get(t, started)
	statsCome(t, s.Server, uint64(1), func(s websocket.Stats) uint64 { return s.Takeovers })
	assert.Zero(t, s.Stats().HandlerTime.Count, "it has not returned")
	now()
	statsCome(t, s.Server, uint64(1), func(s websocket.Stats) uint64 { return s.HandlerTime.Count })
	h := s.Stats().HandlerTime
	assert.Equal(t, []uint64{0, 0, 0, 0, 0}, h.Counts[:5], "it held up its loop for longer than a millisecond")
	assert.Greater(t, h.Sum, time.Millisecond)
	for range 400 { // one at a time: fewer jobs than a connection needs to be called by its loop again
		other.Text("x")
		other.ExpectText("x")
	}
	statsCome(t, s.Server, true, func(s websocket.Stats) bool {
		return s.HandlerTime.Count > 1+400-2*16 && s.HandlerTime.Count < 1+400+2*16
	})
	lag := s.Stats().LoopLag
	assert.Greater(t, lag.Count, uint64(400/2))
	sum := uint64(0)
	for _, n := range lag.Counts {
		sum += n
	}
	assert.Equal(t, lag.Count, sum)
	assert.Len(t, lag.Counts, len(lag.Bounds)+1)
}

func TestStats_topics(t *testing.T) {
	opts := new(websocket.ServerOptions)
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	c := s.Connect(t)
	one := peer.Get(t, added)
	s.Connect(t)
	two := peer.Get(t, added)
	figures := func(s websocket.Stats) [2]int { return [2]int{s.Topics, s.Subscriptions} }
	for _, step := range []struct {
		do    func(conn int, topic string) error
		conn  int
		topic string
		want  [2]int
	}{
		{s.Clients.Subscribe, one, "a", [2]int{1, 1}},
		{s.Clients.Subscribe, one, "a", [2]int{1, 1}},
		{s.Clients.Subscribe, one, "b", [2]int{2, 2}},
		{s.Clients.Subscribe, two, "a", [2]int{2, 3}},
		{s.Clients.Unsubscribe, two, "a", [2]int{2, 2}},
		{s.Clients.Unsubscribe, two, "a", [2]int{2, 2}},
	} {
		require.NoError(t, step.do(step.conn, step.topic))
		assert.Equal(t, step.want, figures(s.Stats()))
	}
	c.Close()
	statsCome(t, s.Server, [2]int{}, figures)
}

func TestStats_ways(t *testing.T) {
	t.Run("a connection of ServeHTTP is adopted", func(t *testing.T) {
		s := &peer.Server{Server: websocket.NewServer(peer.Quiet(nil)), T: t}
		s.Mount(t)
		s.Connect(t)
		statsCome(t, s.Server, [3]uint64{0, 1, 1}, func(s websocket.Stats) [3]uint64 { return [3]uint64{s.Accepted, s.Adopted, s.Opened} })
		assert.Equal(t, 1, s.Stats().Connections.Open)
	})
	t.Run("a connection of the own listener that has asked Handler before is both, and a user with two connections is one", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{Handler: page(), HandleAuth: func(*websocket.Handshake) (context.Context, error) {
			return context.WithValue(context.Background(), websocket.CtxKeyUID, 7), nil
		}})
		c := s.Dial(t)
		c.Send([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n"))
		asked(t, c, "GET", "/page", "")
		require.NoError(t, c.Shake())
		other := s.Connect(t)
		figures := func(s websocket.Stats) [5]uint64 {
			return [5]uint64{s.Accepted, s.Adopted, s.Opened, uint64(s.Connections.Open), uint64(s.Users)}
		}
		statsCome(t, s.Server, [5]uint64{2, 1, 2, 2, 1}, figures)
		c.Close()
		statsCome(t, s.Server, [5]uint64{2, 1, 2, 1, 1}, figures)
		other.Close()
		statsCome(t, s.Server, [5]uint64{2, 1, 2, 0, 0}, figures)
		assert.Empty(t, s.Stats().Refused)
	})
	t.Run("TLS handshakes are under way until they are done, or have failed", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{TLSConfig: peer.ServerTLS()})
		c := s.DialPlain(t)
		c.Send(peer.ClientHello(nil))
		statsCome(t, s.Server, websocket.TLSHandshakes{UnderWay: 1}, func(s websocket.Stats) websocket.TLSHandshakes { return s.TLS })
		c.Close()
		statsCome(t, s.Server, websocket.TLSHandshakes{Failed: 1}, func(s websocket.Stats) websocket.TLSHandshakes { return s.TLS })
		s.DialPlain(t).Close() // has not begun one
		s.Connect(t)
		statsCome(t, s.Server, websocket.TLSHandshakes{Failed: 1, Done: 1}, func(s websocket.Stats) websocket.TLSHandshakes { return s.TLS })
	})
	t.Run("a TLS handshake that is given up for others has failed", func(t *testing.T) {
		opts := &websocket.ServerOptions{TLSConfig: peer.ServerTLS(), MaxHandshakes: 1}
		records := loggedBy(opts)
		s := peer.Start(t, opts)
		for range 8 { // a loop has one under way, and a client a second
			s.DialPlain(t).Send(peer.ClientHello(nil))
		}
		assert.Positive(t, nextLogged(t, records, "websocket: TLS handshakes given up: too many are under way")["times"].Int64())
		statsCome(t, s.Server, true, func(s websocket.Stats) bool {
			return s.TLS.Failed > 0 && len(s.Refused) == 1 && s.Refused[0].Reason == "silent"
		})
	})
	t.Run("the figures go on over Stop and Start", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
		assert.Equal(t, websocket.Phases{}, s.Stats().Connections)
		for n := range uint64(3) {
			c := s.Connect(t)
			c.Text("x")
			c.ExpectText("x")
			statsCome(t, s.Server, n+1, func(s websocket.Stats) uint64 { return s.Received.Text.Messages })
			c.Leave()
			s.StopAndWait(t)
			assert.Equal(t, []websocket.Ended{{Kind: websocket.ClosedShutdown, Code: 1001, Count: n + 1}}, s.Stats().Ended)
			assert.Equal(t, n+1, s.Stats().Opened)
			s.Restart(t)
		}
	})
	t.Run("a server that was never started has none", func(t *testing.T) {
		s := websocket.NewServer(nil)
		assert.Zero(t, s.Stats().Accepted)
		assert.Zero(t, s.Stats().LoopLag.Count)
	})
}

func TestMetrics(t *testing.T) {
	var server *websocket.Server
	opts := &websocket.ServerOptions{HandleText: peer.Echo}
	opts.HandleStatus = func() (string, []byte) { return server.Metrics() }
	s := peer.Start(t, opts)
	server = s.Server
	c := s.Connect(t)
	c.Text("hello")
	c.ExpectText("hello")
	statsCome(t, s.Server, uint64(1), func(s websocket.Stats) uint64 { return s.Received.Text.Messages })
	res, err := http.Get(fmt.Sprintf("http://%s/status", s.Address))
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, "text/plain; version=0.0.4; charset=utf-8", res.Header.Get("Content-Type"))
	for _, line := range []string{
		"# TYPE websocket_connections gauge", `websocket_connections{phase="open"} 1`, "# TYPE websocket_received_bytes_total counter",
		`websocket_received_bytes_total{type="text"} 5`, `websocket_sent_messages_total{type="text"} 1`, "# TYPE websocket_loop_lag_seconds histogram",
		`websocket_handler_seconds_bucket{le="+Inf"} `, `websocket_handler_seconds_bucket{le="5e-05"} `,
	} {
		assert.Contains(t, string(body), "\n"+line)
	}
	t.Run("a figure that is enough ends All", func(t *testing.T) {
		stats, n := s.Stats(), 0
		for range stats.All() {
			if n++; n == 7 {
				break
			}
		}
		assert.Equal(t, 7, n)
	})
}

// TestWarnings says what an operator is told without asking for it.
func TestWarnings(t *testing.T) {
	for _, row := range []struct {
		name string
		opts websocket.ServerOptions
		text string
		does func(t *testing.T, s *peer.Server)
	}{
		{"a slow client is dropped", websocket.ServerOptions{WriteTimeout: 20 * time.Millisecond}, "websocket: slow clients dropped", func(t *testing.T, s *peer.Server) {
			for range 3 {
				s.Connect(t)
			}
			require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 3 }))
			for _, conn := range s.Clients.All() {
				for packet := websocket.NewFrameBin(false, make([]byte, 1<<16)); websocket.TrySend(conn, packet) == nil; {
				}
			}
			statsCome(t, s.Server, []websocket.Ended{{Kind: websocket.ClosedSlow, Count: 3}}, endedOf)
		}},
		{"MaxConnections are there", websocket.ServerOptions{MaxConnections: 1}, "websocket: too many connections", func(t *testing.T, s *peer.Server) {
			s.Connect(t)
			for range 3 {
				s.Dial(t).Answer()
			}
		}},
	} {
		t.Run("if "+row.name+", once for a while", func(t *testing.T) {
			opts := row.opts
			records := loggedBy(&opts)
			s := peer.Start(t, &opts)
			row.does(t, s)
			assert.Positive(t, nextLogged(t, records, row.text)["times"].Int64())
			s.StopAndWait(t)
			for len(records) > 0 {
				assert.NotEqual(t, row.text, (<-records).text)
			}
		})
	}
}
