package interop

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
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

// The addresses in the configurations of the proxies that tests replace.
const (
	configuredListen = "127.0.0.1:8080"
	configuredServer = "127.0.0.1:9090"
)

// proxy is a program that stands between clients and server.
type proxy struct {
	name    string
	config  string   // its file in the folder proxy
	private []string // old and new strings in the configuration: what a test needs
	quiet   []string // the same, for connections that may be quiet for 5 seconds only
	args    []string // of the command, in front of the configuration's path
}

var (
	nginx = proxy{
		name:   "nginx",
		config: "nginx.conf",
		private: []string{"http {", `http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;`},
		quiet: []string{"proxy_read_timeout 60s", "proxy_read_timeout 5s", "proxy_send_timeout 60s", "proxy_send_timeout 5s"},
		args:  []string{"-p", ".", "-g", "daemon off; pid nginx.pid; error_log stderr;", "-c"},
	}
	haproxy = proxy{
		name:    "haproxy",
		config:  "haproxy.cfg",
		private: []string{"timeout connect 5s", "timeout connect 5s\n\ttimeout check 20s"}, // a busy machine may take its 2 seconds
		quiet:   []string{"timeout tunnel 60s", "timeout tunnel 5s"},
		args:    []string{"-db", "-f"},
	}
	proxies = []proxy{nginx, haproxy}
)

// start starts the proxy in front of a server, with edits to its configuration, as old and new strings, and returns its
// address. It ends with the test.
func (p proxy) start(t *testing.T, server string, edits ...string) (address string) {
	if _, err := exec.LookPath(p.name); err != nil {
		missing(t, p.name+" is not installed")
	}
	config, err := os.ReadFile(filepath.Join("proxy", p.config))
	require.NoError(t, err)
	for i := 0; i < len(edits); i += 2 {
		require.Contains(t, string(config), edits[i], "what is to be edited in %s", p.config)
	}
	const tries = 5 // somebody else may take the free port first
	for range tries {
		address = freeAddress(t)
		private := append([]string{configuredListen, address, configuredServer, server}, p.private...)
		if p.run(t, address, strings.NewReplacer(append(private, edits...)...).Replace(string(config))) {
			return address
		}
	}
	require.FailNow(t, p.name+" does not start")
	return ""
}

// run reports whether the proxy listens on the address. It ends with the test, by its process id.
func (p proxy) run(t *testing.T, address, config string) bool {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, p.config), []byte(config), 0o644))
	var said bytes.Buffer
	cmd := exec.Command(p.name, append(p.args, filepath.Join(dir, p.config))...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(deadline):
			cmd.Process.Kill()
			<-ended
			t.Errorf("%s did not end before the deadline", p.name)
		}
		if t.Failed() && said.Len() > 0 {
			t.Logf("%s said: %s", p.name, said.Bytes())
		}
	})
	return listens(address, ended)
}

// listens waits until somebody listens on an address, and reports whether it is so before the end.
func listens(address string, ended <-chan struct{}) bool {
	for giveUp := time.After(deadline); ; {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-giveUp:
			return false
		case <-time.After(10 * time.Millisecond): // nobody tells
		}
	}
}

// freeAddress returns an address that nobody listens on just now.
func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// route is a way to a server.
type route struct {
	name  string
	proxy *proxy // nil: none
}

var routes = []route{{"directly", nil}, {"through nginx", &nginx}, {"through HAProxy", &haproxy}}

// start starts what stands on the way to a server, and returns its address.
func (way route) start(t *testing.T, server string) (address string) {
	if way.proxy == nil {
		return server
	}
	return way.proxy.start(t, server)
}

// host returns the "host:port" of a URL that serve has returned.
func host(url string) (address string) {
	_, rest, _ := strings.Cut(url, "://")
	address, _, _ = strings.Cut(rest, "/")
	return address
}

func TestProxies(t *testing.T) {
	t.Parallel()
	var running sync.WaitGroup
	defer running.Wait()
	for _, p := range proxies {
		run := func(does string, test func(t *testing.T, p proxy)) {
			running.Go(func() { t.Run(p.name+" "+does, func(t *testing.T) { test(t, p) }) })
		}
		run("passes messages of each size both ways", testProxiedMessages)
		run("keeps a connection open whose client sends nothing but Pongs", testProxiedIdle)
		run("passes the status, and then an upgrade on the same connection", testProxiedStatus)
	}
}

func testProxiedMessages(t *testing.T, p proxy) {
	url, accepted := ours.serve(t, plain)
	address := p.start(t, host(url))
	for _, client := range []peer{ours, gorilla} {
		theirs, err := client.client(t, plain)("ws://"+address, []string{chosenProtocol})
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
	theirs, err := gorilla.client(t, plain)("ws://"+p.start(t, host(url), p.quiet...), nil)
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
	c, err := net.Dial("tcp", p.start(t, host(url)))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(deadline)))
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

// openingRequest is an opening handshake by hand (RFC 6455, section 1.2).
const openingRequest = "GET / HTTP/1.1\r\nHost: service\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// healthChecks are the ways in which HAProxy asks whether a server is there.
var healthChecks = []struct {
	name   string
	status string // StatusPath
	config string
}{
	{"bare httpchk, if / is the StatusPath", "/", "option httpchk"},
	{"httpchk with the StatusPath", "/status", "option httpchk /status"},
	{"OPTIONS over HTTP/1.1", "/status", "option httpchk\n\thttp-check send meth OPTIONS uri /status ver HTTP/1.1 hdr Host x"},
	{"GET over HTTP/1.0", "/status", "option httpchk GET /status"},
	{"GET over HTTP/1.1", "/status", "option httpchk\n\thttp-check send meth GET uri /status ver HTTP/1.1 hdr Host x"},
	{"HEAD over HTTP/1.0", "/status", "option httpchk HEAD /status"},
	{"HEAD over HTTP/1.1", "/status", "option httpchk\n\thttp-check send meth HEAD uri /status ver HTTP/1.1 hdr Host x"},
}

// TestHealthChecksOfHAProxy expects that each of the checks finds the server up.
func TestHealthChecksOfHAProxy(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "haproxy") // t.TempDir is too long for the address of a Unix socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "stats")

	servers := make(map[string]string) // by StatusPath
	var backends strings.Builder
	for i, check := range healthChecks {
		if servers[check.status] == "" {
			url, _ := startOurs(t, &websocket.ServerOptions{ConnectPath: "/ws", StatusPath: check.status})
			servers[check.status] = host(url)
		}
		fmt.Fprintf(&backends, "backend check%d\n\t%s\n\tserver s %s check inter 100ms rise 1 fall 1\n",
			i, check.config, servers[check.status])
	}
	haproxy.start(t, servers["/"],
		"defaults\n", fmt.Sprintf("global\n\tstats socket %s\ndefaults\n", socket),
		"\nbackend service\n", "\n"+backends.String()+"backend service\n")
	for i, check := range healthChecks {
		t.Run(check.name, func(t *testing.T) {
			server := checkedServer(t, socket, fmt.Sprintf("check%d", i))
			assert.Equal(t, "L7OK", server["check_status"], server["last_chk"])
			assert.Equal(t, "UP", server["status"])
		})
	}
}

// checkedServer returns what HAProxy knows of the server of a backend, once it was checked.
func checkedServer(t *testing.T, socket, backend string) (server map[string]string) {
	for giveUp := time.Now().Add(deadline); time.Now().Before(giveUp); time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		require.NoError(t, err)
		io.WriteString(c, "show stat\n")
		rows, err := csv.NewReader(c).ReadAll()
		c.Close()
		require.NoError(t, err)
		for _, row := range rows {
			if row[0] != backend || row[1] != "s" {
				continue
			}
			server = make(map[string]string)
			for i, name := range rows[0] {
				server[name] = row[i]
			}
		}
		if !strings.HasPrefix(server["check_status"], "L7") {
			continue // "INI" before the first check, "* " while one is at work
		}
		return server
	}
	require.FailNowf(t, "no check before the deadline", "last seen: %v", server)
	return nil
}

// nginxStream is nginx as a proxy of TCP.
var nginxStream = proxy{
	name:    "nginx",
	config:  "nginx-stream.conf",
	private: []string{"load_module modules/", "load_module /usr/lib/nginx/modules/"},
	args:    nginx.args,
}

// TestProxyProtocol has proxies tell the server who its clients are: one at a time, since HAProxy would share a port with another one.
func TestProxyProtocol(t *testing.T) {
	for _, way := range []struct {
		name  string
		proxy proxy
		edits []string
	}{
		{"HAProxy with send-proxy", haproxy, []string{" check\n", " check send-proxy\n"}},
		{"HAProxy with send-proxy-v2", haproxy, []string{" check\n", " check send-proxy-v2\n"}},
		{"HAProxy with TLVs", haproxy, []string{" check\n", " check send-proxy-v2 proxy-v2-options crc32c,unique-id\n", "\tbind", "\tunique-id-format %rt-%pid\n\tbind"}},
		{"nginx with proxy_protocol", nginxStream, nil},
	} {
		t.Run(way.name, func(t *testing.T) {
			if way.proxy.config == nginxStream.config {
				if _, err := os.Stat("/usr/lib/nginx/modules/ngx_stream_module.so"); err != nil {
					missing(t, "nginx has no stream module")
				}
			}
			opts := &websocket.ServerOptions{ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, MaxConnectionsPerAddress: 1 << 10}
			ended := make(chan websocket.ConnInfo, 16)
			opts.OnClose = func(info websocket.ConnInfo, _ websocket.CloseCause) { ended <- info }
			url, accepted := startOurs(t, opts)
			address := way.proxy.start(t, host(url), way.edits...)
			for range 3 {
				c, err := net.Dial("tcp", address)
				require.NoError(t, err)
				defer c.Close()
				require.NoError(t, c.SetDeadline(time.Now().Add(deadline)))
				io.WriteString(c, openingRequest)
				in := bufio.NewReader(c)
				answer, err := http.ReadResponse(in, nil)
				require.NoError(t, err)
				require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
				side := accept(t, accepted)
				require.NoError(t, side.send(text, []byte("hello")))
				want := websocket.NewFrameText(false, []byte("hello"))
				got := make([]byte, len(want))
				_, err = io.ReadFull(in, got)
				require.NoError(t, err)
				assert.Equal(t, want, got)
				c.Write(websocket.NewFrameClose(true, 1000, nil))
				select {
				case info := <-ended:
					assert.Equal(t, c.LocalAddr().String(), info.RemoteAddr.String())
				case <-time.After(deadline):
					require.FailNow(t, "the connection does not end")
				}
			}
		})
	}
}
