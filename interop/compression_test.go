package interop

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/deflate"
)

const (
	// partSize is that of the fragments into which peers cut long messages.
	partSize = 256

	// defaultMinSize is what MinSize is unless it is set.
	defaultMinSize = 128
)

// compression is how a peer compresses in both directions, as far as the other side lets it.
type compression struct {
	takeover bool
	bits     int // of the window
}

func (c compression) String() string {
	if !c.takeover {
		return fmt.Sprintf("a window of %d bits and no takeover", c.bits)
	}
	return fmt.Sprintf("a window of %d bits", c.bits)
}

// env returns what has to be in the environment of a program.
func (c compression) env() []string {
	setting, err := json.Marshal(map[string]any{"takeover": c.takeover, "bits": c.bits})
	if err != nil {
		panic(err)
	}
	return []string{"PEER_COMPRESSION=" + string(setting)}
}

// setting is how our side compresses.
type setting struct {
	name   string
	codec  websocket.DeflateCodec
	window int
	least  int // MinSize
}

// settings are those to try with every peer.
var settings = []setting{
	{name: "the standard codec", least: -1},
	{name: "the standard codec, no takeover", window: -1},
	{name: "the other codec", codec: deflate.Codec(0)},
	{name: "the other codec, 512 bytes", codec: deflate.Codec(0), window: 512, least: -1},
	{name: "the other codec, 32 KiB", codec: deflate.Codec(0), window: 32 << 10, least: -1},
	{name: "the other codec, no takeover", codec: deflate.Codec(0), window: -1, least: -1},
}

func (s setting) compression() *websocket.Compression {
	return &websocket.Compression{Codec: s.codec, Window: s.window, MinSize: s.least}
}

// kept is how many bytes of history our side keeps.
func (s setting) kept() int {
	switch {
	case s.window < 0:
		return 0
	case s.window == 0:
		return 4 << 10
	}
	return s.window
}

func (s setting) takesDict() bool { return s.codec != nil && s.codec.TakesDict() }

func (s setting) serve(t *testing.T) (url string, accepted <-chan conn) {
	return startOurs(t, &websocket.ServerOptions{MaxMessageSize: limit, PingInterval: -1, Compression: s.compression()})
}

func (s setting) dial(url string) (conn, error) {
	client := &websocket.Client{Endpoint: url, MaxMessageSize: limit, Compression: s.compression()}
	client.PingInterval = time.Hour
	return dialOurs(client, nil)
}

func TestCompressingPeers(t *testing.T) {
	for _, p := range append(slices.Clone(peers), bun) {
		for i, c := range p.compressions {
			settings := settings
			if i > 0 && !long() {
				settings = settings[(1+i)%len(settings):][:1]
			}
			compressing := p.compressing(c)
			if compressing.client != nil {
				t.Run(fmt.Sprintf("%s client by %v with our server", p.name, c), func(t *testing.T) {
					t.Parallel()
					dial := compressing.client(t, plain)
					for _, s := range settings {
						t.Run(s.name, func(t *testing.T) { s.testServer(t, dial, p.onlyInflates) })
					}
				})
			}
			if compressing.serve != nil {
				t.Run(fmt.Sprintf("our client with %s server by %v", p.name, c), func(t *testing.T) {
					t.Parallel()
					url, accepted := compressing.serve(t, plain)
					for _, s := range settings {
						t.Run(s.name, func(t *testing.T) { s.testClient(t, url, accepted) })
					}
				})
			}
		}
	}
}

// The browser itself says what was agreed on.
func TestCompressionInTheEyesOfTheBrowser(t *testing.T) {
	tab := openTab(t, startBrowser(t))
	responses := make(chan *network.WebSocketResponse, 1)
	require.NoError(t, chromedp.Listen(tab, func(ev any) {
		if ev, ok := ev.(*network.EventWebSocketHandshakeResponseReceived); ok {
			responses <- ev.Response
		}
	}))
	_, err := chromedp.Call(tab, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	dial := remoteTab(t, tab).dial
	for name, tc := range map[string]struct {
		compression *websocket.Compression
		want        any
	}{
		"a window of 4 KiB":  {&websocket.Compression{Codec: deflate.Codec(0)}, "permessage-deflate; client_max_window_bits=12"},
		"no takeover":        {&websocket.Compression{Window: -1}, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		"no compression":     {nil, nil},
		"a window of 32 KiB": {&websocket.Compression{Codec: deflate.Codec(0), Window: 32 << 10}, "permessage-deflate"},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := startOurs(t, &websocket.ServerOptions{PingInterval: -1, Compression: tc.compression})
			c, err := dial(url, nil)
			require.NoError(t, err)
			defer c.drop()
			assert.Equal(t, tc.want, within(t, responses).Headers[extensionsField])
		})
	}
}

// testServer has our server correspond with a client.
func (s setting) testServer(t *testing.T, dial func(url string, offer []string) (conn, error), onlyInflates bool) {
	url, accepted := s.serve(t)
	w := startWire(t, host(url))
	theirs, err := dial("ws://"+w.address, nil)
	require.NoError(t, err)
	ours := accept(t, accepted)
	defer theirs.drop()
	defer ours.drop()
	tap := within(t, w.taps)
	tap.expectAgreement(t)
	assert.NoError(t, tap.disagreement)
	s.correspond(t, ours, theirs)
	tap.expectDirections(t, &tap.down, &tap.up, s)
	if !onlyInflates {
		assert.NotZero(t, tap.up.compressed, "messages that their side compressed")
	}
}

// testClient has our client correspond with a server.
func (s setting) testClient(t *testing.T, url string, accepted <-chan conn) {
	w := startWire(t, host(url))
	ours, err := s.dial("ws://" + w.address)
	require.NoError(t, err)
	theirs := accept(t, accepted)
	defer theirs.drop()
	defer ours.drop()
	tap := within(t, w.taps)
	tap.expectAgreement(t)
	s.correspond(t, ours, theirs)
	tap.expectDirections(t, &tap.up, &tap.down, s)
	assert.NotZero(t, tap.down.compressed, "messages that their side compressed")
}

// correspond sends messages of all sizes, which the peer sends back.
func (s setting) correspond(t *testing.T, ours, theirs conn) {
	sendBack(t, theirs)
	for _, size := range letterSizes {
		correspond(t, ours, count(size), func(n int) letter { return mixed(size, n) }, func(l letter) error { return ours.send(l.kind, l.payload) })
	}
	// Of all sizes in turn: those that are plain, because they are short or sent in fragments, must leave the context alone.
	const rounds = 2
	correspond(t, ours, rounds*len(letterSizes), func(n int) letter {
		return mixed(letterSizes[n*7%len(letterSizes)], n)
	}, func(l letter) error {
		if server, ok := ours.(*serverConn); ok && len(l.payload)%3 == 1 {
			half := len(l.payload) / 2
			return server.sendParts(l.kind, [][]byte{l.payload[:half], nil, l.payload[half:]}, nil)
		}
		return ours.send(l.kind, l.payload)
	})
}

// sendBack has a peer send all messages back, some of them in fragments.
func sendBack(t *testing.T, c conn) {
	if c, ok := c.(*remoteConn); ok {
		require.NoError(t, c.tell(command{Do: "echo", Part: partSize}))
		expect(t, c, event{kind: echoing})
		return
	}
	go func() {
		long := 0
		for ev := range c.events() {
			if ev.kind == closed {
				return
			}
			parts := [][]byte{ev.payload}
			if len(ev.payload) > partSize {
				if long++; long%2 == 1 {
					parts = slices.Collect(slices.Chunk(ev.payload, partSize))
				}
			}
			if len(parts) == 1 || c.sendParts(ev.kind, parts, nil) == errUnable {
				c.send(ev.kind, ev.payload)
			}
		}
	}()
}

// expectAgreement expects that the sides have agreed on compression.
func (c *tap) expectAgreement(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("offer  %s\nanswer %s", c.offer, c.answer)
	require.True(t, c.agreed.compressed, "there is compression")
}

// expectDirections expects that our side has compressed as was agreed, and that it keeps as much history as theirs may refer to.
func (c *tap) expectDirections(t *testing.T, ours, theirs *wireStream, s setting) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("ours   %v\ntheirs %v", ours, theirs)
	assert.NoError(t, ours.violation, "what our side sent")
	assert.NotZero(t, ours.compressed, "messages that our side compressed")
	assert.Equal(t, s.takesDict() && s.kept() > 0 && ours.inflater.takeover, ours.inflater.reached, "our side makes use of the context")
	if s.least < 0 {
		assert.Less(t, ours.shortest, defaultMinSize, "the shortest message that our side compressed")
	} else {
		assert.GreaterOrEqual(t, ours.shortest, defaultMinSize, "the shortest message that our side compressed")
	}
	if theirs.inflater.takeover {
		assert.LessOrEqual(t, theirs.inflater.window, s.kept(), "their window, and what we keep of it")
	}
}
