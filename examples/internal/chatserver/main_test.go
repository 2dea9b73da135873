package chatserver

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

func TestRunRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	none := filepath.Join(t.TempDir(), "none")
	cert, key := writePair(t, t.TempDir(), newCertificate(t))
	_, other := writePair(t, t.TempDir(), newCertificate(t))
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"an unknown flag":            {[]string{"-nope"}, 2, "-nope"},
		"an argument":                {[]string{"nope"}, 2, "nope"},
		"a negative history":         {[]string{"-history", "-1"}, 2, "-history"},
		"a history beyond the limit": {[]string{"-history", "201"}, 2, "-history"},
		"a public URL with a path":   {[]string{"-public-url", "https://chat.example.com/chat"}, 2, "-public-url"},
		"a public URL with a query":  {[]string{"-public-url", "https://chat.example.com/?x"}, 2, "-public-url"},
		"a public URL with a user":   {[]string{"-public-url", "https://me@chat.example.com"}, 2, "-public-url"},
		"a public URL of a socket":   {[]string{"-public-url", "wss://chat.example.com"}, 2, "-public-url"},
		"a public URL without host":  {[]string{"-public-url", "https://"}, 2, "-public-url"},
		"a public URL for a policy":  {[]string{"-public-url", "https://a;script-src"}, 2, "-public-url"},
		"a public URL of no sort":    {[]string{"-public-url", "chat.example.com"}, 2, "-public-url"},
		"a certificate without key":  {[]string{"-cert", cert}, 2, "-cert needs -key"},
		"a key without certificate":  {[]string{"-key", key}, 2, "-key needs -cert"},
		"two certificates":           {[]string{"-tls", "-cert", cert, "-key", key}, 2, "without -cert"},
		"a missing certificate":      {[]string{"-cert", none, "-key", key}, 1, "-cert, -key: stat " + none},
		"a missing key":              {[]string{"-cert", cert, "-key", none}, 1, "-cert, -key: stat " + none},
		"a certificate for a key":    {[]string{"-cert", cert, "-key", cert}, 1, "-cert, -key: tls:"},
		"a key of another":           {[]string{"-cert", cert, "-key", other}, 1, "private key does not match"},
		"a folder for a certificate": {[]string{"-cert", t.TempDir(), "-key", key}, 1, "-cert, -key: read"},
		"a missing users file":       {[]string{"-users", none}, 1, "none"},
		"an address that is taken":   {[]string{"-addr", taken.Addr().String()}, 1, "in use"},
		"a proxy that is no address": {[]string{"-trust", "10.0.0.0/8,proxy"}, 2, "-trust"},
	} {
		t.Run(name, func(t *testing.T) {
			var output bytes.Buffer
			p := program(&output, test.args...)
			p.Ready = func(net.Addr) { assert.Fail(t, "it serves") }
			assert.Equal(t, test.code, p.Run(t.Context()))
			assert.Contains(t, output.String(), test.says)
		})
	}
}

func TestRunExplainsItsFlags(t *testing.T) {
	var output, log bytes.Buffer
	p := program(&output, "-h")
	p.Stderr = &log
	assert.Zero(t, p.Run(t.Context()))
	assert.Empty(t, log.String())
	for _, flag := range []string{"-addr", "-users", "-history", "-public-url", "-trust", "-tls", "-cert", "-key", "-debug", "examples/cluster"} {
		assert.Contains(t, output.String(), flag)
	}
}

func TestRunSaysHowToConnect(t *testing.T) {
	cert, key := writePair(t, t.TempDir(), newCertificate(t, "chat.example.com"))
	for name, test := range map[string]struct {
		args      []string
		says, not []string
	}{
		"demo users": {says: []string{"ws://127.0.0.1:", "http://127.0.0.1:", "go run ./examples/client", "-user alice"}},
		"a proxy":    {args: []string{"-public-url", "https://chat.example.com"}, says: []string{"ws://127.0.0.1:", "https://chat.example.com/"}},
		"a certificate of the start": {
			args: []string{"-tls"},
			says: []string{"wss://127.0.0.1:", "https://127.0.0.1:", "go run ./examples/client -url wss://127.0.0.1:", " -fingerprint ", "-user alice"},
			not:  []string{"ws://", "http://"},
		},
		"a certificate of others": {
			args: []string{"-cert", cert, "-key", key},
			says: []string{"wss://chat.example.com:", "https://chat.example.com:", "go run ./examples/client -url wss://chat.example.com:"},
			not:  []string{"ws://", "http://", "127.0.0.1", "-fingerprint"},
		},
		"real users": {
			args: []string{"-users", writeUsers(t, "erin:erin-has-a-key")},
			says: []string{"ws://127.0.0.1:", "CHAT_KEY=", "go run ./examples/client"},
			not:  []string{"alice", "erin"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var output bytes.Buffer
			p := program(&output, append([]string{"-addr", "127.0.0.1:0"}, test.args...)...)
			p.Ready = func(net.Addr) { cancel() } // immediately: the server may not have begun
			assert.Zero(t, p.Run(ctx))
			for _, s := range test.says {
				assert.Contains(t, output.String(), s)
			}
			for _, s := range test.not {
				assert.NotContains(t, output.String(), s)
			}
		})
	}
}

func TestUnspecifiedAddressIsShownAsLocalhost(t *testing.T) {
	assert.Equal(t, "localhost:9001", reachable(&net.TCPAddr{IP: net.IPv6unspecified, Port: 9001}))
	assert.Equal(t, "localhost:9001", reachable(&net.TCPAddr{IP: net.IPv4zero, Port: 9001}))
	assert.Equal(t, "[::1]:9001", reachable(&net.TCPAddr{IP: net.IPv6loopback, Port: 9001}))
}

func TestStopTellsClientsAndLeavesNoGoroutine(t *testing.T) {
	addr, stop := launch(t, io.Discard)
	alice, _ := join(t, addr, "alice")
	quit := make(chan struct{})
	bob := newDevice(t, addr, "?key="+keyOf(t, "bob"), nil)
	bob.client.HandleQuit = func() { close(quit) }
	require.NoError(t, bob.client.Connect())
	bob.welcomed()
	res, err := http.Get("http://" + addr + "/")
	require.NoError(t, err)
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()

	stop()

	receive(t, quit)
	var closed *websocket.CloseError
	require.ErrorAs(t, bob.client.Err(), &closed)
	assert.EqualValues(t, websocket.StatusGone, closed.Code)
	alice.client.Quit()
	leavesNothing(t, addr)
}

// leavesNothing requires that a server and its clients have ended.
func leavesNothing(t *testing.T, addr string) {
	t.Helper()
	assert.Eventually(t, func() bool { return leaked() == "" }, patience, 10*time.Millisecond, "%s", lazy(leaked))
	_, err := net.Dial("tcp", addr)
	assert.Error(t, err)
}

// leaked returns the stacks of goroutines that a server or a client has left.
func leaked() (stacks string) {
	buf := make([]byte, 1<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, of := range []string{"websocket.(*loop)", "websocket.(*conn)", "websocket.(*monitor)", "websocket.(*clientConn)", "net/http.", "crypto/tls.", "chatserver.(*Program)"} {
			if strings.Contains(stack, of) {
				stacks += stack + "\n\n"
				break
			}
		}
	}
	return stacks
}

// lazy is formatted when it is needed.
type lazy func() string

func (f lazy) String() string { return f() }

func TestSignalsStopTheProcess(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-addr", "127.0.0.1:0")
			cmd.Env = append(os.Environ(), mainVariable+"=1", "GORACE=atexit_sleep_ms=0")
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			defer cmd.Process.Kill()
			lines := bufio.NewScanner(stdout)
			for lines.Scan() && !strings.HasPrefix(lines.Text(), "Stop with") {
			}
			require.NoError(t, cmd.Process.Signal(signal))
			rest, err := io.ReadAll(stdout)
			require.NoError(t, err)
			assert.Empty(t, rest)
			assert.NoError(t, cmd.Wait())
		})
	}
}
