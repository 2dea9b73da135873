package interop

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// transfer is one long message over a slow link, whose ends must not take each other for dead.
type transfer struct {
	name    string
	options websocket.ServerOptions
	way     route // between the server and the link to the client
	link    link
	dial    func(url string) (conn, error)
	size    int
	up      bool // from the client to the server
}

// transfers returns all of them: with each client that answers Pings at once, and each way to the server.
func transfers() (all []transfer) {
	ours := func(url string) (conn, error) { return dialOurs(&websocket.Client{Endpoint: url}, nil) }
	gorilla := func(url string) (conn, error) { return clientGorilla(nil)(url, nil) }
	hasty := websocket.ServerOptions{PingInterval: time.Second, SilenceTimeout: time.Second, WriteTimeout: time.Second}
	add := func(t transfer, ways ...route) {
		for _, way := range ways {
			t.way = way
			all = append(all, t)
		}
	}
	for _, client := range []transfer{{name: "our client", dial: ours}, {name: "gorilla's client", dial: gorilla}} {
		slow, fast := client, client
		slow.name, slow.size = "3 MiB to "+client.name+" at 80 kB/s", 3<<20
		slow.link = link{down: 80_000, delay: 50 * time.Millisecond}
		fast.name, fast.size = "8 MiB to "+client.name+" at 1 MiB/s and time-outs of a second", 8<<20
		fast.link, fast.options = link{down: 1 << 20}, hasty
		for _, t := range []transfer{slow, fast} {
			add(t, routes...)
			t.link.holds = t.size
			add(t, route{name: "through a relay that takes in all of it"})
		}
	}
	add(transfer{name: "14 MB of our client at 400 kB/s", dial: ours, size: 14_000_000, up: true, link: link{up: 400_000}}, routes...)
	return all
}

// longPayload is what all transfers take theirs from, since they run at the same time.
var longPayload = sync.OnceValue(func() []byte { return sized(binary, 14_000_000) })

// TestSlowLinks runs all transfers at the same time, however many processors there are: they wait nearly all of it.
func TestSlowLinks(t *testing.T) {
	t.Parallel()
	longPayload() // takes a while, in which no connection is to be kept waiting
	var running sync.WaitGroup
	defer running.Wait()
	for _, tr := range transfers() {
		running.Go(func() { t.Run(tr.name+" "+tr.way.name+" arrive", tr.run) })
	}
}

// run expects that the message arrives, and that the connection can be used afterwards.
func (tr transfer) run(t *testing.T) {
	tr.options.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	url, accepted := startOurs(t, &tr.options)
	r := startRelay(t, tr.way.start(t, host(url)), tr.link)
	client, err := tr.dial("ws://" + r.address)
	require.NoError(t, err)
	defer client.drop()
	server := accept(t, accepted)

	from, to, rate := server, client, tr.link.down
	if tr.up {
		from, to, rate = client, server, tr.link.up
	}
	patience := 2*time.Duration(tr.size/rate)*time.Second + deadline
	payload := longPayload()[:tr.size]
	require.NoError(t, from.send(binary, payload))
	expectData(t, to, event{kind: binary, payload: payload}, patience)
	for range 2 {
		require.NoError(t, from.send(text, []byte("still there")))
		expectData(t, to, event{kind: text, payload: []byte("still there")}, deadline)
		from, to = to, from
	}
}

// expectData is expect, with another deadline, and leaves out Pings and Pongs.
func expectData(t *testing.T, c conn, want event, patience time.Duration) {
	t.Helper()
	began, giveUp := time.Now(), time.After(patience)
	for {
		select {
		case got := <-c.events():
			if got.kind == ping || got.kind == pong {
				continue
			}
			if !got.equal(want) {
				require.FailNowf(t, "another event than expected", "got  %v after %v\nwant %v", got, time.Since(began), want)
			}
		case <-giveUp:
			require.FailNowf(t, "no event", "within %v", patience)
		}
		return
	}
}
