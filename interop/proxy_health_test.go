package interop

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

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
	socket := statsSocket(t)
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
		"global\n", fmt.Sprintf("global\n\tstats socket %s\n", socket),
		"\nbackend service\n", "\n"+backends.String()+"backend service\n")
	for i, check := range healthChecks {
		t.Run(check.name, func(t *testing.T) {
			server := checkedServer(t, socket, fmt.Sprintf("check%d", i))
			assert.Equal(t, "L7OK", server["check_status"], server["last_chk"])
			assert.Equal(t, "UP", server["status"])
		})
	}
}

// TestHealthCheckOfAShutdown expects that HAProxy takes a server for down as soon as its Shutdown begins, and leaves it the connection that it
// waits for.
func TestHealthCheckOfAShutdown(t *testing.T) {
	t.Parallel()
	server := echoServer(t, nil)
	entered, release := make(chan struct{}), make(chan struct{})
	server.Options.HandleText = func(fd int, payload []byte) {
		close(entered)
		<-release
		websocket.SendText(fd, payload)
	}
	socket := statsSocket(t)
	proxy := haproxy.start(t, listen(t, server), "global\n", "global\n\tstats socket "+socket+"\n", "server service", "server s",
		"uri /status", "uri /chat/status", " check\n", " check inter 100ms rise 1 fall 1\n")
	theirs, err := gorilla.client(t, plain)("ws://"+proxy+"/chat", nil)
	require.NoError(t, err)
	defer theirs.drop()
	require.NoError(t, theirs.send(text, []byte("keeps its handler busy")))
	within(t, entered)
	assert.Equal(t, "UP", checkedServer(t, socket, "service")["status"])

	left := make(chan error, 1)
	go func() { left <- server.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool {
		found := checkedServer(t, socket, "service")
		return found["status"] == "DOWN" && found["check_code"] == "503"
	}, deadline, 10*time.Millisecond, "HAProxy finds the server down")
	close(release)
	expect(t, theirs, event{kind: text, payload: []byte("keeps its handler busy")})
	expect(t, theirs, event{kind: closed, code: 1001})
	assert.NoError(t, within(t, left))
}

// statsSocket returns a path for the Unix socket on which HAProxy tells what it knows.
func statsSocket(t *testing.T) (path string) {
	folder, err := os.MkdirTemp("", "haproxy") // t.TempDir is too long for the address of a Unix socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	return filepath.Join(folder, "stats")
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
