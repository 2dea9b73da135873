package interop

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// reload is how an operator has a proxy take a new configuration, and leave its connections alone.
type reload struct {
	proxy
	signal syscall.Signal
	hurry  []string // old and new strings of the configuration: the time that connections are left is a second
	mark   []string // likewise, of the new configuration: answers have the field generation
}

const generation = "X-Generation"

var reloads = []reload{
	{nginx, syscall.SIGHUP, []string{"worker_shutdown_timeout 4h", "worker_shutdown_timeout 1s"},
		[]string{"location / {", "location / {\n\t\t\tadd_header " + generation + " new;"}},
	{haproxy, syscall.SIGUSR2, []string{"hard-stop-after 4h", "hard-stop-after 1s"},
		[]string{"frontend clients", "frontend clients\n\thttp-response set-header " + generation + " new"}},
}

// TestProxiesReload expects that connections outlive a reload for as long as the configuration says, that both sides then learn of
// their end, and that clients get in all the while.
func TestProxiesReload(t *testing.T) {
	t.Parallel()
	for _, r := range reloads {
		t.Run(r.name+" keeps connections", func(t *testing.T) {
			t.Parallel()
			s := startProxied(t, r.proxy)
			old := s.connect(t)
			s.reload(t, r)
			old.talk(t)
			s.connect(t).talk(t)
			old.talk(t)
		})
		t.Run(r.name+" ends connections when their time is over", func(t *testing.T) {
			t.Parallel()
			s := startProxied(t, r.proxy, r.hurry...)
			old := s.connect(t)
			s.reload(t, r)
			s.expectEnd(t, old)
			s.connect(t).talk(t)
		})
	}
}

// TestProxiesRestart ends each proxy with all its connections, and starts it again. All do at the same time, since some take theirs.
func TestProxiesRestart(t *testing.T) {
	t.Parallel()
	var together sync.WaitGroup
	defer together.Wait()
	for _, p := range proxies {
		together.Go(func() { t.Run(p.name, func(t *testing.T) { testRestart(t, p) }) })
	}
}

func testRestart(t *testing.T, p proxy) {
	s := startProxied(t, p)
	old := s.connect(t)
	s.stop(t)
	s.expectEnd(t, old)
	require.True(t, s.run(t), "%s starts again", p.name)
	s.connect(t).talk(t)
}

// TestRollingRestart shuts down one of two servers behind a proxy while clients come all the time. Nobody is refused: those that are told to
// go come again, as new ones do, and get in.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	for _, r := range []struct {
		proxy
		second []string // old and new strings in the configuration: another server
	}{
		{nginx, []string{"server 127.0.0.1:9090;", "server 127.0.0.1:9090; server %s;"}},
		{haproxy, []string{"server service 127.0.0.1:9090 check", "server first 127.0.0.1:9090 check\n\tserver second %s check",
			"uri /status", "uri /chat/status"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			leaving := echoServer(t, nil)
			first, second := listen(t, leaving), listen(t, echoServer(t, nil))
			for i := range r.second {
				r.second[i] = strings.ReplaceAll(r.second[i], "%s", second)
			}
			testRollingRestart(t, r.start(t, first, r.second...), leaving)
		})
	}
}

func testRollingRestart(t *testing.T, address string, leaving *websocket.Server) {
	const clients = 200
	connect := func() conn {
		c, err := gorilla.client(t, plain)("ws://"+address+"/chat", nil)
		require.NoError(t, err)
		t.Cleanup(c.drop)
		return c
	}
	var all []conn
	for range clients {
		all = append(all, connect())
	}
	left := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	go func() { left <- leaving.Shutdown(ctx) }()
	for going := true; going; {
		select {
		case err := <-left:
			require.NoError(t, err)
			going = false
		default:
			connect().drop()
		}
	}
	told := 0
	for _, c := range all {
		select {
		case end := <-c.events():
			require.Equal(t, event{kind: closed, code: 1001}, event{kind: end.kind, code: end.code})
			told++
			c = connect()
		default:
		}
		deliver(t, c, c, text, []byte("hello"))
	}
	assert.InDelta(t, clients/2, told, clients/4, "how many were told to go")
}

// proxied is our server behind a proxy.
type proxied struct {
	*running
	accepted <-chan conn
	ended    <-chan websocket.CloseCause // of each connection
}

func startProxied(t *testing.T, p proxy, edits ...string) *proxied {
	ended := make(chan websocket.CloseCause, 16)
	url, accepted := startOurs(t, &websocket.ServerOptions{
		OnClose: func(_ websocket.ConnInfo, cause websocket.CloseCause) { ended <- cause },
	})
	return &proxied{running: p.launch(t, host(url), edits...), accepted: accepted, ended: ended}
}

// pair are both sides of a connection.
type pair struct{ theirs, side conn }

func (s *proxied) connect(t *testing.T) pair {
	t.Helper()
	theirs, err := gorilla.client(t, plain)(s.url(s.address), nil)
	require.NoError(t, err)
	t.Cleanup(theirs.drop)
	return pair{theirs, accept(t, s.accepted)}
}

// talk has both sides hear of each other.
func (p pair) talk(t *testing.T) {
	t.Helper()
	deliver(t, p.theirs, p.side, text, []byte("hello"))
	deliver(t, p.side, p.theirs, text, []byte("hello"))
}

// reload has the proxy take another configuration, and waits until its new processes answer. Meanwhile nobody is refused.
func (s *proxied) reload(t *testing.T, r reload) {
	t.Helper()
	file := filepath.Join(s.folder, s.config)
	configured, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(configured), r.mark[0])
	require.NoError(t, os.WriteFile(file, []byte(strings.NewReplacer(r.mark...).Replace(string(configured))), 0o644))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: deadline}
	var told time.Time
	for giveUp := time.Now().Add(deadline); ; {
		if time.Since(told) > time.Second { // HAProxy does not listen to signals while it starts
			require.NoError(t, s.process.Signal(r.signal))
			told = time.Now()
		}
		answer, err := client.Get("http://" + s.address + "/status")
		require.NoError(t, err)
		answer.Body.Close()
		require.Equal(t, http.StatusOK, answer.StatusCode)
		if answer.Header.Get(generation) != "" {
			return
		}
		require.True(t, time.Now().Before(giveUp), "the new configuration is not in use before the deadline")
	}
}

// expectEnd expects that both sides learn of the end of a connection that the proxy has cut off. Caddy sends each a Close frame with 1001,
// but does not mask that for the server, which may also be reached by the client's answer first.
func (s *proxied) expectEnd(t *testing.T, p pair) {
	t.Helper()
	for _, c := range []conn{p.theirs, p.side} {
		assert.Equal(t, closed, next(t, c).kind)
	}
	assert.Contains(t, []websocket.CloseKind{websocket.ClosedLost, websocket.ClosedProtocolError, websocket.ClosedByPeer}, within(t, s.ended).Kind)
}
