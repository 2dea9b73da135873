package chatserver

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

func TestLogin(t *testing.T) {
	addr := start(t)
	bearer := func(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }
	page := func(origin string) http.Header { return http.Header{"Origin": {origin}} }
	good := keyOf(t, "alice")
	for name, test := range map[string]struct {
		query   string
		headers http.Header
		refused string // empty: welcome
	}{
		"by header":                            {headers: bearer(good)},
		"by header in another case":            {headers: http.Header{"Authorization": {"bearer " + good}}},
		"by query":                             {query: "?key=" + good},
		"by query from our page":               {query: "?key=" + good, headers: page("http://" + addr)},
		"the header counts":                    {query: "?key=" + good, headers: bearer("wrong-key"), refused: "401 unknown key"},
		"without a key":                        {refused: "401 no key"},
		"with another scheme":                  {headers: http.Header{"Authorization": {"Basic " + good}}, refused: "401 no key"},
		"with an unknown key":                  {query: "?key=wrong-key", refused: "401 unknown key"},
		"with a name for a key":                {query: "?key=alice", refused: "401 unknown key"},
		"from a foreign page":                  {query: "?key=" + good, headers: page("http://example.com"), refused: "403 origin not allowed"},
		"from another port of this host":       {query: "?key=" + good, headers: page("http://127.0.0.1:1"), refused: "403 origin not allowed"},
		"from a sandboxed page":                {query: "?key=" + good, headers: page("null"), refused: "403 origin not allowed"},
		"from our page under another protocol": {query: "?key=" + good, headers: page("https://" + addr), refused: "403 origin not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, addr, test.query, test.headers)
			err := d.client.Connect()
			if test.refused != "" {
				require.ErrorContains(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "alice", d.welcomed().Name)
		})
	}
}

func TestPageOrigins(t *testing.T) {
	tcp := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	s := new(server)
	assert.Equal(t, []string{"http://127.0.0.1:9002", "http://localhost:9002"}, s.pageOrigins("127.0.0.1:9002", tcp("127.0.0.1", 9002)))
	assert.Equal(t, []string{"http://[::1]", "http://localhost"}, s.pageOrigins("[::1]:80", tcp("::1", 80)), "the default port")
	assert.Equal(t, []string{"http://chat.lan:9002", "http://10.1.2.3:9002"}, s.pageOrigins("Chat.lan:9002", tcp("10.1.2.3", 9002)))
	all := s.pageOrigins(":9002", tcp("::", 9002))
	assert.Contains(t, all, "http://localhost:9002")
	assert.Contains(t, all, "http://127.0.0.1:9002")
	assert.NotContains(t, all, "http://[::]:9002")
	s.public = "https://chat.example.com"
	assert.Equal(t, []string{"https://chat.example.com"}, s.pageOrigins(":9002", tcp("::", 9002)))
	for _, origins := range [][]string{all} { // what the server takes
		ws := websocket.NewServer(&websocket.ServerOptions{Address: "127.0.0.1:0", Origins: origins})
		started := make(chan error, 1)
		go func() { started <- ws.Start() }()
		require.Eventually(t, func() bool { return ws.Addr() != nil || len(started) > 0 }, patience, time.Millisecond)
		ws.Stop()
		assert.NoError(t, receive(t, started))
	}
}

func TestRebindingHostMayNotConnect(t *testing.T) {
	addr := start(t)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /?key=%s HTTP/1.1\r\nHost: evil.example:%s\r\nOrigin: http://evil.example:%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", keyOf(t, "alice"), port, port)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	assert.Equal(t, http.StatusForbidden, answer.StatusCode, "a name that a foreign page has given this machine")
}

func TestPublicURLDecidesAboutPages(t *testing.T) {
	for given, want := range map[string]struct {
		origin, ws string
		refused    []string
	}{
		"https://chat.example.com":      {"https://chat.example.com", "wss://chat.example.com/", []string{"http://chat.example.com", "https://chat.example.com:8443", "null"}},
		"https://Chat.Example.com:443/": {"https://chat.example.com", "wss://chat.example.com/", nil},
		"https://chat.example.com:8443": {"https://chat.example.com:8443", "wss://chat.example.com:8443/", []string{"https://chat.example.com"}},
		"http://[::1]:80":               {"http://[::1]", "ws://[::1]/", []string{"https://[::1]"}},
	} {
		t.Run(given, func(t *testing.T) {
			addr := start(t, "-public-url", given)
			d := newDevice(t, addr, "?key="+keyOf(t, "alice"), http.Header{"Origin": {want.origin}})
			require.NoError(t, d.client.Connect())
			res, body := fetch(t, "http://"+addr+"/config.json", http.Header{})
			assert.Contains(t, body, `"url":"`+want.ws+`"`)
			assert.Contains(t, res.Header.Get("Content-Security-Policy"), "connect-src 'self' "+want.ws+";")
			for _, origin := range append(want.refused, "http://"+addr) {
				d := newDevice(t, addr, "?key="+keyOf(t, "alice"), http.Header{"Origin": {origin}})
				assert.ErrorContains(t, d.client.Connect(), "403 origin not allowed", origin)
			}
		})
	}
}

func TestDevicesThatComeAtTheSameTimeAreLimited(t *testing.T) {
	users, err := newDirectory(chat.DemoUsers())
	require.NoError(t, err)
	s, err := newServer(users, 1, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	s.spread = newAlone(s.ws.Clients, 1)
	visits := make([]*visit, 2*maxDevices)
	for i := range visits {
		visits[i] = new(visit)
		visits[i].user, err = s.admit(keyOf(t, "alice")) // all before one of them is there
		require.NoError(t, err)
	}
	for i, v := range visits {
		assert.Equal(t, i < maxDevices, s.enter(v, i, nil) <= maxDevices)
	}
}

func TestLoginLimitsDevices(t *testing.T) {
	addr := start(t)
	for range maxDevices {
		join(t, addr, "alice")
	}
	d := newDevice(t, addr, "?key="+keyOf(t, "alice"), nil)
	assert.ErrorContains(t, d.client.Connect(), "429 too many devices")
	bearer := http.Header{"Authorization": {"Bearer " + keyOf(t, "alice")}}
	res, body := fetch(t, "http://"+addr+"/login", bearer)
	assert.Equal(t, http.StatusTooManyRequests, res.StatusCode)
	assert.Contains(t, body, "too many devices")
	_, welcome := join(t, addr, "bob")
	assert.Equal(t, []string{"alice", "bob"}, welcome.Users)
}
