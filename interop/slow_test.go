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

// on returns the transfer on each way to the server.
func (tr transfer) on(ways ...route) (all []transfer) {
	for _, way := range ways {
		tr.way = way
		all = append(all, tr)
	}
	return all
}

// held is the transfer through a relay that takes in all of it.
func (tr transfer) held() []transfer {
	tr.link.holds = tr.size
	return tr.on(route{name: "through a relay that takes in all of it"})
}

// honest are the clients that answer Pings immediately.
var honest = []transfer{
	{name: "our client", dial: func(url string) (conn, error) { return dialOurs(&websocket.Client{Endpoint: url}, nil) }},
	{name: "gorilla's client", dial: func(url string) (conn, error) { return clientGorilla(nil, plain)(url, nil) }},
}

// slowTransfers are those with the time-outs that are the defaults.
func slowTransfers() (all []transfer) {
	for _, tr := range honest {
		tr.name, tr.size = "3 MiB to "+tr.name+" at 80 kB/s", 3<<20
		tr.link = link{down: 80_000, delay: 50 * time.Millisecond}
		all = append(append(all, tr.on(routes...)...), tr.held()...)
	}
	up := honest[0]
	up.name, up.size, up.up, up.link = "14 MB of our client at 400 kB/s", 14_000_000, true, link{up: 400_000}
	return append(append(all, up.on(routes...)...), steadyTransfers()...)
}

// steadyTransfers are longer than all buffers on the way hold, and a proxy must take some of them each few seconds. It takes nothing until a
// third of what waits in the system for the client is gone, so that only those can which limit that.
func steadyTransfers() (all []transfer) {
	foreign := honest[1]
	foreign.name, foreign.size = "10 MiB to "+foreign.name+" at 256 KiB/s and a write time-out of 4s", 10<<20
	foreign.link = link{down: 256 << 10}
	foreign.options.WriteTimeout = 4 * time.Second
	for _, tr := range foreign.on(routes[1:]...) {
		if !tr.way.proxy.roomy {
			all = append(all, tr)
		}
	}
	return all
}

// haste is how long the time-outs of hastyTransfers are. It is a quarter of what a message takes, and as much as a client needs to
// answer on a slow machine, too.
const haste = 2 * time.Second

// hastyTransfers are those with short time-outs. A proxy may take nothing for longer, see steadyTransfers: behind one that limits nothing the
// write time-out is the default.
func hastyTransfers() (all []transfer) {
	for _, tr := range honest {
		tr.name, tr.size = "8 MiB to "+tr.name+" at 1 MiB/s and time-outs of "+haste.String(), 8<<20
		tr.link = link{down: 1 << 20}
		tr.options = websocket.ServerOptions{PingInterval: haste, SilenceTimeout: haste, WriteTimeout: haste}
		all = append(all, tr.on(routes[0])...)
	}
	foreign := all[1]
	all = append(all, foreign.held()...)
	for _, tr := range foreign.on(routes[1:]...) {
		if tr.way.proxy.roomy {
			tr.options.WriteTimeout = 0
		}
		all = append(all, tr)
	}
	return all
}

// longPayload is what all transfers take theirs from, since they run at the same time.
var longPayload = sync.OnceValue(func() []byte { return sized(binary, 14_000_000) })

func TestSlowLinks(t *testing.T) {
	t.Parallel()
	runTransfers(t, slowTransfers())
}

// TestSlowLinksInHaste is not run beside other tests: clients have little time to answer.
func TestSlowLinksInHaste(t *testing.T) { runTransfers(t, hastyTransfers()) }

// runTransfers runs transfers at the same time, however many processors there are: they wait nearly all of it.
func runTransfers(t *testing.T, all []transfer) {
	longPayload() // takes a while, in which no connection is to be kept waiting
	var running sync.WaitGroup
	defer running.Wait()
	for _, tr := range all {
		running.Go(func() { t.Run(tr.name+" "+tr.way.name+" arrive", tr.run) })
	}
}

// run expects that the message arrives, and that the connection can be used afterwards.
func (tr transfer) run(t *testing.T) {
	tr.options.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	url, accepted := startOurs(t, &tr.options)
	r := startRelay(t, tr.way.start(t, host(url)), tr.link)
	client, err := tr.dial(tr.way.url(r.address))
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
