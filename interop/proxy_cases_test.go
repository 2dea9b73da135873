package interop

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

func TestProxies(t *testing.T) {
	t.Parallel()
	var together sync.WaitGroup
	defer together.Wait()
	for _, p := range proxies {
		run := func(does string, test func(t *testing.T, p proxy)) {
			together.Go(func() { t.Run(p.name+" "+does, func(t *testing.T) { test(t, p) }) })
		}
		run("passes messages of each size both ways", testProxiedMessages)
		run("keeps a connection open whose client sends nothing but Pongs", testProxiedIdle)
		if p.secure {
			continue // it passes on bytes: the server closes the connection behind the status
		}
		run("tells the address of a client that claims to have another one", testForgedAddress)
		run("passes the status, and then an upgrade on the same connection", testProxiedStatus)
	}
}

// TestProxiedPeers runs the cases of peers of each language behind the two proxies that most have. Those of limits are left out: a client
// that still sends when its connection ends may not be shown the Close frame, since the proxy then ends both sides at once.
func TestProxiedPeers(t *testing.T) {
	cases := slices.Concat(messageCases(text, binary), fragmentCases(), pingCases(), closeCases(), failureCases(), subprotocolCases())
	for _, p := range []peer{gorilla, nodeWS, chromium, pyWebsockets} {
		for _, way := range routes[1:3] {
			testPeer(t, p, way, plain, cases)
		}
	}
}

// TestProxiedVisits has clients come by each proxy, to the server whose connections end as they are told.
func TestProxiedVisits(t *testing.T) {
	url := ownListener(t, nil, plain)
	for _, way := range routes[1:] {
		for _, v := range visitors {
			if v.name != ours.name && v.name != gorilla.name && v.name != nodeWS.name {
				continue
			}
			if way.proxy == &caddy {
				v.lacks = map[string]string{earlyBytes: "its version here drops what comes in front of its answer"}
			}
			t.Run(v.name+" "+way.name, func(t *testing.T) {
				t.Parallel()
				runVisits(t, v, ways[0], v.visit(t, ""), way.to(t, url))
			})
		}
	}
}

func testProxiedMessages(t *testing.T, p proxy) {
	url, accepted := ours.serve(t, plain)
	address := p.start(t, host(url))
	for _, client := range []peer{ours, gorilla} {
		theirs, err := client.client(t, plain)(p.url(address), []string{chosenProtocol})
		require.NoError(t, err)
		side := accept(t, accepted)
		assert.Equal(t, chosenProtocol, theirs.subprotocol())
		for _, size := range []int{0, 1, 125, 126, 65535, 65536, limit} {
			for _, k := range []kind{text, binary} {
				deliver(t, theirs, side, k, sized(k, size))
				deliver(t, side, theirs, k, sized(k, size))
			}
		}
		require.NoError(t, theirs.close(1000, ""))
		assert.Equal(t, closed, next(t, theirs).kind)
		assert.Equal(t, closed, next(t, side).kind)
	}
}

// testProxiedIdle waits for three intervals between Pings, which is longer than the proxy lets a connection be quiet.
func testProxiedIdle(t *testing.T, p proxy) {
	const interval, pings = 2 * time.Second, 4
	url, accepted := startOurs(t, &websocket.ServerOptions{PingInterval: interval})
	theirs, err := gorilla.client(t, plain)(p.url(p.start(t, host(url), p.quiet...)), nil)
	require.NoError(t, err)
	defer theirs.drop()
	side := accept(t, accepted)
	for range pings {
		require.Equal(t, ping, next(t, theirs).kind)
	}
	require.NoError(t, theirs.send(text, []byte("still there")))
	expect(t, side, event{kind: text, payload: []byte("still there")})
	require.NoError(t, side.send(text, []byte("still there")))
	expectAfter(t, theirs, ping, event{kind: text, payload: []byte("still there")})
}

func testProxiedStatus(t *testing.T, p proxy) {
	url, accepted := ours.serve(t, plain)
	c := p.dial(t, p.start(t, host(url)))
	answers := bufio.NewReader(c)
	for range 2 {
		io.WriteString(c, "GET /status HTTP/1.1\r\nHost: service\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, "200 OK", resp.Status)
		assert.Equal(t, "OK", string(body))
		assert.False(t, resp.Close, "the connection between client and proxy stays open")
	}
	io.WriteString(c, openingRequest)
	resp, err := http.ReadResponse(answers, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	side := accept(t, accepted)
	require.NoError(t, side.send(text, []byte("hello")))
	want := websocket.NewFrameText(false, []byte("hello"))
	got := make([]byte, len(want))
	_, err = io.ReadFull(answers, got)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

// testForgedAddress expects that the server is told the address of the client, and nothing that the client says of itself.
func testForgedAddress(t *testing.T, p proxy) {
	seen := make(chan []string, 1)
	server := websocket.NewServer(&websocket.ServerOptions{
		Logger: slog.New(slog.DiscardHandler),
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			seen <- req.Header.Values("X-Forwarded-For")
			return nil, nil
		},
	})
	c := p.dial(t, p.start(t, listen(t, server)))
	const forged = "X-Forwarded-For: 192.0.2.1\r\n"
	io.WriteString(c, strings.TrimSuffix(openingRequest, "\r\n")+forged+forged+"\r\n")
	assert.Equal(t, []string{"127.0.0.1"}, within(t, seen))
}

// openingRequest is an opening handshake by hand (RFC 6455, section 1.2).
const openingRequest = "GET / HTTP/1.1\r\nHost: service\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
