package interop

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// The defaults of our server, and of our client's PingInterval.
const (
	pingInterval       = 16 * time.Second
	silenceTimeout     = 16 * time.Second
	writeTimeout       = 10 * time.Second
	clientPingInterval = 10 * time.Second
	minRate            = 16 << 10 // bytes a second: what was sent since the client was last heard earns it time at this rate

	// slack is what a busy machine may add.
	slack = 8 * time.Second
)

// silentAfter is how long a silent client may be kept to which so much was sent.
func silentAfter(sent int) time.Duration {
	return pingInterval + silenceTimeout + time.Duration(sent)*time.Second/minRate + slack
}

// deadPeer is a client that is gone from one moment on: nothing of it arrives any more, and nobody says so.
type deadPeer struct {
	name  string
	way   route
	mode  traffic       // how it is gone
	sent  int           // bytes of a message that it is sent afterwards
	bound time.Duration // of the time in which it is given up
}

func deadPeers() (all []deadPeer) {
	all = []deadPeer{
		{"a client that stops reading", routes[0], stall, 0, silentAfter(0)},
		{"a client that stops reading, until the kernel takes no more,", routes[0], stall, 16 << 20, writeTimeout + slack},
		{"a client that vanishes", routes[0], blackHole, 0, silentAfter(0)},
	}
	const sent = 128 << 10
	for _, way := range routes {
		all = append(all,
			deadPeer{"a client that stops reading what it is sent " + way.name, way, stall, sent, silentAfter(sent)},
			deadPeer{"a client that vanishes with what it is sent " + way.name, way, blackHole, sent, silentAfter(sent)},
		)
	}
	return all
}

// TestDeadPeers expects that our server, at its defaults, gives up clients that are gone, in time. All of them die at the same
// time, however many processors there are.
func TestDeadPeers(t *testing.T) {
	t.Parallel()
	var running sync.WaitGroup
	defer running.Wait()
	for _, dead := range deadPeers() {
		running.Go(func() { t.Run(dead.name+" is found", dead.run) })
	}
	for _, sent := range []int{0, 64 << 10} {
		running.Go(func() {
			t.Run(fmt.Sprintf("a client that takes %d bytes and says nothing is found, and told with a Close frame", sent),
				func(t *testing.T) { testSpeechless(t, sent) })
		})
	}
	running.Go(func() { t.Run("clients whose packets are dropped are found", testDroppedPackets) })
}

// run expects that the client, for which the server is as dead, finds out too.
func (dead deadPeer) run(t *testing.T) {
	url, accepted := startOurs(t, &websocket.ServerOptions{})
	r := startRelay(t, dead.way.start(t, host(url)), link{})
	client, err := dialOurs(&websocket.Client{Endpoint: dead.way.url(r.address)}, nil)
	require.NoError(t, err)
	defer client.drop()
	server := accept(t, accepted)
	deliver(t, client, server, text, []byte("there"))
	r.turn(dead.mode)
	if dead.sent > 0 {
		require.NoError(t, server.send(binary, make([]byte, dead.sent)))
	}
	expectData(t, server, event{kind: closed, code: dropped}, dead.bound)
	expectData(t, client, event{kind: closed, code: dropped}, clientPingInterval+silenceTimeout+slack)
}

// testSpeechless is about a client that lives as far as TCP is concerned: it reads everything and writes
// nothing, not even a Pong.
func testSpeechless(t *testing.T, sent int) {
	url, accepted := startOurs(t, &websocket.ServerOptions{})
	c, err := net.Dial("tcp", host(url))
	require.NoError(t, err)
	defer c.Close()
	io.WriteString(c, openingRequest)
	server := accept(t, accepted)
	received := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(c) // the error would be that of a reset
		received <- all
	}()
	if sent > 0 {
		require.NoError(t, server.send(binary, make([]byte, sent)))
	}
	expectData(t, server, event{kind: closed, code: dropped}, silentAfter(sent))
	_, frames, _ := bytes.Cut(within(t, received), []byte("\r\n\r\n"))
	last := &websocket.Frame{}
	for _, last = range websocket.Unpack(frames).All() {
	}
	assert.Equal(t, websocket.Opcode(websocket.OpcodeClose), last.Opcode(), "opcode of the last frame")
}

// testDroppedPackets is about clients that vanish as those of a machine do that loses its power: not even TCP answers any more.
// They live in a network namespace.
func testDroppedPackets(t *testing.T) {
	needPython(t, "websockets")
	namespace, address := startNamespace(t)
	url, accepted := startOurs(t, &websocket.ServerOptions{Address: net.JoinHostPort(address, "0")})
	clients := startRemote(t, nil, "python", "ip", "netns", "exec", namespace, python, "peer.py", "websockets")
	var servers []conn
	for range 2 {
		client, err := clients.dial(url, nil)
		require.NoError(t, err)
		servers = append(servers, accept(t, accepted))
		deliver(t, client, servers[len(servers)-1], text, []byte("there"))
	}
	const dropAll = "table inet vanish { chain input { type filter hook input priority 0; policy drop; }\n" +
		"chain output { type filter hook output priority 0; policy drop; }\n}"
	require.NoError(t, execute("ip", "netns", "exec", namespace, "nft", dropAll))
	began := time.Now()
	const sent = 64 << 10
	require.NoError(t, servers[1].send(binary, make([]byte, sent)))
	expectData(t, servers[0], event{kind: closed, code: dropped}, silentAfter(0))
	expectData(t, servers[1], event{kind: closed, code: dropped}, time.Until(began.Add(silentAfter(sent))))
}

// startNamespace makes a network namespace with a way to this one, and returns its name and our address on that way. Both end
// with the test, which is skipped if that is not permitted.
func startNamespace(t *testing.T) (namespace, address string) {
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, program+" is not installed")
		}
	}
	id := os.Getpid()
	namespace = fmt.Sprintf("interop%d", id)
	ours, theirs := fmt.Sprintf("ours%d", id), fmt.Sprintf("theirs%d", id)
	subnet := id % (1 << 15) * 4 // of 198.18.0.0/15, which is for tests
	at := func(i int) string { return fmt.Sprintf("198.%d.%d.%d", 18+subnet>>16, subnet>>8&255, subnet&255+i) }
	t.Cleanup(func() {
		execute("ip", "link", "del", ours) // by itself: a namespace lives as long as a socket in it
		execute("ip", "netns", "del", namespace)
	})
	for _, args := range [][]string{
		{"netns", "add", namespace},
		{"link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", namespace},
		{"address", "add", at(1) + "/30", "dev", ours},
		{"link", "set", ours, "up"},
		{"-n", namespace, "address", "add", at(2) + "/30", "dev", theirs},
		{"-n", namespace, "link", "set", theirs, "up"},
	} {
		if err := execute("ip", args...); err != nil {
			t.Skipf("no network namespace can be had here: %v", err)
		}
	}
	return namespace, at(1)
}

// execute runs a program to its end.
func execute(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}
