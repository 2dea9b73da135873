package interop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// peers are the implementations that ours is tried with.
var peers = []peer{gorilla, coder, gws, nbio, nodeWS, nodeBuiltIn, chromium, pyWebsockets, aiohttp}

// testCase is one thing to try on a connection between our side and that of a peer. ours and theirs are what the sides must be
// able to do.
type testCase struct {
	name         string
	ours, theirs ability
	offer        []string // subprotocols
	run          func(t *testing.T, ours, theirs conn)
}

// allCases returns the table.
var allCases = sync.OnceValue(func() []testCase {
	return slices.Concat(messageCases(text, binary), limitCases(text, binary), fragmentCases(), pingCases(), closeCases(), failureCases(), subprotocolCases())
})

// casePeers are the peers whose connections bear 80 cases one after the other, and with INTEROP_LONG=1 all. What nbio has of a
// connection that has ended now and then ends the next one as it comes, maybe because that has its descriptor's number.
func casePeers() []peer {
	if long() {
		return peers
	}
	return slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return p.name == nbio.name })
}

func TestPeers(t *testing.T) {
	for _, p := range casePeers() {
		testPeer(t, p, routes[0], plain, allCases())
	}
}

// TestSecuredPeers is TestPeers over TLS: what TLS cannot change is left out.
func TestSecuredPeers(t *testing.T) {
	for _, p := range casePeers() {
		for i, s := range p.secured {
			cases := messageCases(binary)
			if i == 0 {
				cases = slices.Concat(messageCases(text, binary), limitCases(binary), fragmentCases(), pingCases(), closeCases())
			}
			testPeer(t, p, routes[0], s, cases)
		}
	}
}

// testPeer runs cases on a route, with our server and the client of a peer, and with our client and its server.
func testPeer(t *testing.T, p peer, way route, s security, cases []testCase) {
	by, clientCan := "", p.clientCan
	if s != plain {
		by, clientCan = " by "+s.String(), clientCan&^p.clientLacks
	}
	if way.proxy != nil {
		by = " " + way.name
	}
	if p.client != nil {
		t.Run(p.name+" client with our server"+by, func(t *testing.T) {
			t.Parallel()
			dial := p.client(t, s)
			url, accepted := ours.serve(t, s)
			url = way.to(t, url)
			runCases(t, cases, ours.serveCan, clientCan, func(t *testing.T, offer []string) (ours, theirs conn) {
				theirs, err := dial(url, offer)
				require.NoError(t, err)
				return accept(t, accepted), theirs
			})
		})
	}
	if p.serve != nil {
		t.Run("our client with "+p.name+" server"+by, func(t *testing.T) {
			t.Parallel()
			dial := ours.client(t, s)
			url, accepted := p.serve(t, s)
			url = way.to(t, url)
			runCases(t, cases, ours.clientCan, p.serveCan, func(t *testing.T, offer []string) (ours, theirs conn) {
				ours, err := dial(url, offer)
				require.NoError(t, err)
				return ours, accept(t, accepted)
			})
		})
	}
}

// runCases runs the cases that both sides are able to, each on a connection of its own.
func runCases(t *testing.T, cases []testCase, oursCan, theirsCan ability, connect func(t *testing.T, offer []string) (ours, theirs conn)) {
	ran := 0
	for _, tc := range cases {
		if oursCan&tc.ours != tc.ours || theirsCan&tc.theirs != tc.theirs {
			continue
		}
		ran++
		t.Run(tc.name, func(t *testing.T) {
			ours, theirs := connect(t, tc.offer)
			defer ours.drop()
			defer theirs.drop()
			tc.run(t, ours, theirs)
		})
	}
	t.Logf("%d cases", ran)
}

// sized returns a payload of that size, for text one with characters of one to four bytes.
func sized(k kind, size int) []byte {
	if k == text {
		return append(bytes.Repeat([]byte("aé€😀"), size/10), strings.Repeat("z", size%10)...)
	}
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// deliver sends a message and expects it at the other side. A Ping of the server may come before it if much was sent.
func deliver(t *testing.T, from, to conn, k kind, payload []byte) {
	t.Helper()
	require.NoError(t, from.send(k, bytes.Clone(payload)))
	expectAfter(t, to, ping, event{kind: k, payload: payload})
}

func messageCases(kinds ...kind) (cases []testCase) {
	for _, k := range kinds {
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, limit - 1, limit} {
			var needs ability
			if size == 0 {
				needs = showsEmpty
			}
			payload := sized(k, size)
			cases = append(cases,
				testCase{
					name: fmt.Sprintf("%s of %d bytes is delivered to us", k, size),
					run: func(t *testing.T, ours, theirs conn) {
						deliver(t, theirs, ours, k, payload)
						deliver(t, theirs, ours, k, []byte("and the next"))
					},
				},
				testCase{
					name:   fmt.Sprintf("%s of %d bytes is delivered to them", k, size),
					theirs: needs,
					run: func(t *testing.T, ours, theirs conn) {
						deliver(t, ours, theirs, k, payload)
						deliver(t, ours, theirs, k, []byte("and the next"))
					},
				},
			)
		}
	}
	return append(cases, testCase{
		name: "messages sent both ways at the same time arrive in order",
		run: func(t *testing.T, ours, theirs conn) {
			const count = 300
			payload := func(i int) []byte { return sized(text, 1+i*i%9000) }
			send := func(c conn) <-chan error {
				failed := make(chan error, 1)
				go func() {
					var err error
					for i := 0; i < count && err == nil; i++ {
						err = c.send(text, payload(i))
					}
					failed <- err
				}()
				return failed
			}
			oursSent, theirsSent := send(ours), send(theirs)
			for i := range count {
				expect(t, ours, event{kind: text, payload: payload(i)})
				expect(t, theirs, event{kind: text, payload: payload(i)})
			}
			assert.NoError(t, within(t, oursSent))
			assert.NoError(t, within(t, theirsSent))
		},
	})
}

func limitCases(kinds ...kind) (cases []testCase) {
	for _, k := range kinds {
		for size, name := range map[int]string{limit + 1: "one byte more than", 8 * limit: "eight times"} {
			cases = append(cases, testCase{
				name:   fmt.Sprintf("%s of %s the limit closes with 1009", k, name),
				theirs: showsClose,
				run: func(t *testing.T, ours, theirs conn) {
					sent := make(chan struct{})
					go func() {
						theirs.send(k, sized(k, size)) // may fail: the other side does not read it to the end
						close(sent)
					}()
					expectFailure(t, ours, theirs, 1009)
					within(t, sent)
				},
			})
		}
	}
	return cases
}

// within returns what comes from the channel before the deadline.
func within[T any](t *testing.T, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(deadline):
		require.FailNow(t, "nothing came before the deadline")
	}
	return value
}

// expectFailure expects that our side has closed with the code: theirs is shown it, and ours if it can be.
func expectFailure(t *testing.T, ours, theirs conn, code int) {
	t.Helper()
	got := next(t, theirs)
	assert.Equal(t, closed, got.kind)
	assert.Equal(t, code, got.code, "what their side was shown")
	got = next(t, ours)
	assert.Equal(t, closed, got.kind)
	assert.Contains(t, []int{code, dropped}, got.code, "what our side shows")
}

func fragmentCases() (cases []testCase) {
	pings := [][]byte{[]byte("first ping"), []byte("second ping")}
	for _, k := range []kind{text, binary} {
		// Longer than the write buffers of the peers, which some of them fill before they send a frame. The first border is
		// inside of a character.
		payload := sized(k, 450_000)
		parts := [][]byte{payload[:150_002], payload[150_002:300_000], payload[300_000:]}
		cases = append(cases,
			testCase{
				name:   fmt.Sprintf("fragmented %s is delivered to us", k),
				theirs: fragments,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, theirs.sendParts(k, parts, nil))
					expect(t, ours, event{kind: k, payload: payload})
					deliver(t, ours, theirs, k, []byte("still there"))
				},
			},
			testCase{
				name:   fmt.Sprintf("fragmented %s with pings in between is delivered to us", k),
				theirs: fragments | pingsBetween,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, theirs.sendParts(k, parts, pings))
					expect(t, ours, event{kind: k, payload: payload})
					require.NoError(t, ours.send(k, []byte("still there")))
					expectAfter(t, theirs, pong, event{kind: k, payload: []byte("still there")})
				},
			},
			testCase{
				name:   fmt.Sprintf("the last ping between fragments of %s is answered", k),
				theirs: fragments | pingsBetween | choosesPing | showsControl,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, theirs.sendParts(k, parts, pings))
					expectAfter(t, theirs, pong, event{kind: pong, payload: pings[len(pings)-1]})
					expect(t, ours, event{kind: k, payload: payload})
				},
			},
			testCase{
				name: fmt.Sprintf("our fragmented %s is delivered", k),
				ours: fragments,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, ours.sendParts(k, parts, nil))
					expect(t, theirs, event{kind: k, payload: payload})
					deliver(t, theirs, ours, k, []byte("still there"))
				},
			},
			testCase{
				name: fmt.Sprintf("our fragmented %s with empty parts and pings in between is delivered", k),
				ours: fragments | pingsBetween,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, ours.sendParts(k, [][]byte{nil, payload[:2], payload[2:], nil}, pings))
					expectAfter(t, theirs, ping, event{kind: k, payload: payload})
					deliver(t, theirs, ours, k, []byte("still there"))
				},
			},
		)
	}
	return cases
}

func pingCases() (cases []testCase) {
	for name, payload := range map[string][]byte{
		"an empty ping":       nil,
		"a ping of one byte":  {0},
		"a ping of 125 bytes": sized(binary, 125),
	} {
		cases = append(cases,
			testCase{
				name:   name + " to us is answered",
				theirs: choosesPing | showsControl,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, theirs.ping(payload))
					expect(t, theirs, event{kind: pong, payload: payload})
					deliver(t, theirs, ours, text, []byte("still there"))
				},
			},
			testCase{
				name:   name + " from us arrives",
				ours:   choosesPing,
				theirs: showsControl,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, ours.ping(payload))
					expect(t, theirs, event{kind: ping, payload: payload})
					deliver(t, theirs, ours, text, []byte("still there"))
				},
			},
			testCase{
				name: name + " from us does no harm to messages",
				ours: choosesPing,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, ours.ping(payload))
					require.NoError(t, ours.send(text, []byte("behind it")))
					expectAfter(t, theirs, ping, event{kind: text, payload: []byte("behind it")})
					deliver(t, theirs, ours, text, []byte("still there"))
				},
			},
		)
	}
	return cases
}
