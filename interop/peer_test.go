package interop

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// deadline is how long anything that a test waits for may take.
	deadline = 20 * time.Second

	// limit is the longest message that our side takes; the peers take more.
	limit     = 1 << 20
	peerLimit = 4 << 20

	// chosenProtocol is the subprotocol that every server here chooses if it is offered.
	chosenProtocol = "v2.chat"

	// noStatus is the code of a Close frame without one (RFC 6455, section 7.1.5), and dropped that of a connection that ended
	// without a Close frame, or whose end the side cannot see into.
	noStatus = 1005
	dropped  = 1006

	inboxSize = 4096
)

// ability is what a side can be told to do, or shows of what it receives. A case names what it needs.
type ability uint

const (
	fragments      ability = 1 << iota // sends a message in several frames
	pingsBetween                       // sends Pings between them
	choosesPing                        // sends Pings with a given payload, and shows the Pongs if it shows control frames
	showsControl                       // shows Pings and Pongs that it receives
	breaksText                         // sends text that is not UTF-8
	showsEmpty                         // shows messages without a byte
	showsClose                         // shows the code and reason of the Close frame that it receives
	awaitsClose                        // having sent a Close frame, waits for that of the other side
	closesWith                         // sends a Close frame with 1000 or 3000 to 4999 and a reason
	closesWithAny                      // with any code
	closesWithNone                     // without a code

)

type kind string

const (
	text   kind = "text"
	binary kind = "binary"
	ping   kind = "ping"
	pong   kind = "pong"
	closed kind = "close" // the last event of every connection
)

// event is what a side of a connection has received.
type event struct {
	kind    kind
	payload []byte
	code    int    // of closed
	reason  string // of closed
}

func (ev event) String() string {
	if ev.kind == closed {
		return fmt.Sprintf("close %d %q", ev.code, ev.reason)
	}
	const shown = 40
	return fmt.Sprintf("%s of %d bytes %.*q", ev.kind, len(ev.payload), shown, ev.payload)
}

func (ev event) equal(other event) bool {
	return ev.kind == other.kind && ev.code == other.code && ev.reason == other.reason && bytes.Equal(ev.payload, other.payload)
}

// conn is one side of a connection. What it is told to do without the ability gives an error.
type conn interface {
	subprotocol() string
	send(k kind, payload []byte) error

	// sendParts sends one message, each part as a frame or several. Without pings it is sent as it is; else each stands
	// between two parts.
	sendParts(k kind, parts [][]byte, pings [][]byte) error
	ping(payload []byte) error

	// close starts the closing handshake. With noStatus the Close frame is empty.
	close(code int, reason string) error

	// drop ends the connection, if it has not.
	drop()
	events() <-chan event
}

// peer is an implementation: a server, a client or both. What they start ends with the test.
type peer struct {
	name string

	// serve starts a server. Every connection that it accepts is sent to accepted.
	serve    func(t *testing.T, s security) (url string, accepted <-chan conn)
	serveCan ability

	// client starts what the client needs, and returns the function that connects.
	client    func(t *testing.T, s security) (dial func(url string, offer []string) (conn, error))
	clientCan ability

	// secured are the securities to try with it: all cases with the first one, and binary messages with the others.
	secured []security

	// clientLacks is what the client is not able to do over TLS.
	clientLacks ability

	// compressing returns the peer with compression, and compressions are those to try with it. None: it has no compression.
	compressing  func(c compression) peer
	compressions []compression
	onlyInflates bool // what it sends itself is plain
}

// inbox is the part of a conn that keeps what was received.
type inbox chan event

func newInbox() inbox { return make(inbox, inboxSize) }

func (in inbox) events() <-chan event { return in }

func (in inbox) put(k kind, payload []byte) {
	in <- event{kind: k, payload: bytes.Clone(payload)}
}

func (in inbox) putClosed(code int, reason string) {
	in <- event{kind: closed, code: code, reason: reason}
}

// next returns the next event.
func next(t *testing.T, c conn) event {
	t.Helper()
	select {
	case ev := <-c.events():
		return ev
	case <-time.After(deadline):
		require.FailNow(t, "no event before the deadline")
		panic("unreachable")
	}
}

// expect fails if the next event is another one.
func expect(t *testing.T, c conn, want event) {
	t.Helper()
	if got := next(t, c); !got.equal(want) {
		require.FailNowf(t, "another event than expected", "got  %v\nwant %v", got, want)
	}
}

// expectAfter is expect, but leaves out events of a kind that may come before.
func expectAfter(t *testing.T, c conn, before kind, want event) {
	t.Helper()
	for {
		got := next(t, c)
		if got.equal(want) {
			return
		}
		if got.kind != before {
			require.FailNowf(t, "another event than expected", "got  %v\nwant %v", got, want)
		}
	}
}

// accept returns the next connection of a server.
func accept(t *testing.T, accepted <-chan conn) conn {
	t.Helper()
	select {
	case c := <-accepted:
		return c
	case <-time.After(deadline):
		require.FailNow(t, "no connection before the deadline")
		panic("unreachable")
	}
}

// missing skips the test because something is not installed. If INTEROP_REQUIRE_ALL is 1, it fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("INTEROP_REQUIRE_ALL") == "1" {
		t.Fatalf("%s; INTEROP_REQUIRE_ALL is set", what)
	}
	t.Skipf("%s (interop/run.sh installs it)", what)
}

// startHTTP runs a handler in a server of net/http.
func startHTTP(t *testing.T, s security, handler http.HandlerFunc) (url string) {
	server := httptest.NewUnstartedServer(handler)
	if server.TLS = s.server(t); server.TLS == nil {
		server.Start()
	} else {
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}
