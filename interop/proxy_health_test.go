package interop

import (
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
