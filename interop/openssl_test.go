package interop

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// openSSL is a connection of openssl s_client: frames go to its standard input, and a letter alone is a command.
type openSSL struct {
	in     io.WriteCloser
	out    *bufio.Reader
	said   chan string // lines of its standard error
	traced string      // file with its handshake messages
	ended  chan error
}

// dialOpenSSL connects to the host of a URL, and to its path if it has one.
func dialOpenSSL(t *testing.T, url string, args ...string) *openSSL {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		missing(t, "openssl is not installed")
	}
	traced := filepath.Join(t.TempDir(), "trace")
	address, path, _ := strings.Cut(strings.TrimPrefix(url, "wss://"), "/")
	args = append([]string{"s_client", "-brief", "-verify_return_error", "-connect", address, "-msg", "-msgfile", traced}, args...)
	cmd := exec.Command("openssl", args...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	said, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &openSSL{in: in, out: bufio.NewReader(out), said: make(chan string, inboxSize), traced: traced, ended: make(chan error, 1)}
	go func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			c.said <- lines.Text()
		}
		close(c.said)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	watchdog := time.AfterFunc(deadline, func() { cmd.Process.Kill() })
	t.Cleanup(func() { watchdog.Stop() })
	c.upgrade(t, address, path)
	return c
}

func (c *openSSL) upgrade(t *testing.T, address, path string) {
	t.Helper()
	c.write(t, "GET /"+path+" HTTP/1.1\r\nHost: "+address+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	res, err := http.ReadResponse(c.out, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
}

func (c *openSSL) write(t *testing.T, s string) {
	t.Helper()
	_, err := io.WriteString(c.in, s)
	require.NoError(t, err)
}

// command gives a command, and waits for its line of the answer.
func (c *openSSL) command(t *testing.T, letter, answer string) {
	t.Helper()
	c.write(t, letter+"\n")
	for {
		line, ok := <-c.said
		require.True(t, ok, "it has ended")
		if strings.Contains(line, answer) {
			return
		}
	}
}

// echo sends messages of all sizes and expects them back.
func (c *openSSL) echo(t *testing.T, sizes ...int) {
	t.Helper()
	for _, size := range sizes {
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(0x80 | i*i%127) // no letter of a command, also where its buffer begins
		}
		want := websocket.NewFrameBin(false, payload)
		header := bytes.Clone(want[:len(want)-size])
		header[1] |= 0x80 // masked, with a key of zeros
		c.write(t, string(header)+"\x00\x00\x00\x00"+string(payload))
		got := make([]byte, len(want))
		_, err := io.ReadFull(c.out, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%d bytes", size)
	}
}

// end sends a Close frame, and expects its answer and the end of TLS behind it.
func (c *openSSL) end(t *testing.T) {
	t.Helper()
	c.write(t, string(websocket.NewFrameClose(true, 1000, nil)))
	rest, err := io.ReadAll(c.out)
	require.NoError(t, err)
	assert.Equal(t, []byte(websocket.NewFrameClose(false, 1000, nil)), rest)
	for line := range c.said {
		assert.NotContains(t, line, "unexpected eof")
	}
	assert.Regexp(t, "Alert.*close_notify", fromServer(c.trace(t)))
}

// trace returns the messages of TLS: "<<<" are those of the server.
func (c *openSSL) trace(t *testing.T) string {
	t.Helper()
	messages, err := os.ReadFile(c.traced)
	require.NoError(t, err)
	return string(messages)
}

func TestOpenSSL(t *testing.T) {
	t.Parallel()
	for _, s := range allSecurities {
		t.Run("messages of all sizes come back by "+s.String(), func(t *testing.T) {
			t.Parallel()
			url := ownListener(t, nil, s)
			var args []string
			if s.byPeer() {
				args = []string{"-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}
			}
			c := dialOpenSSL(t, url, args...)
			c.echo(t, 0, 1, 125, 126, 127, 65535, 65536, limit-1, limit)
			c.end(t)
		})
	}
	const updated = "KeyUpdate"
	for _, update := range []struct {
		name, commands string
		answers        int
	}{
		{"a KeyUpdate that asks for none", "k", 0},
		{"a KeyUpdate that asks for one", "K", 1},
		{"one KeyUpdate after the other", "kKkKKk", 3},
	} {
		t.Run(update.name+" is followed", func(t *testing.T) {
			t.Parallel()
			c := dialOpenSSL(t, ownListener(t, nil, tls13AES))
			c.echo(t, 1, 20_000)
			for _, letter := range update.commands {
				c.command(t, string(letter), "KEYUPDATE")
				c.echo(t, 125, 65536)
			}
			c.end(t)
			assert.Equal(t, update.answers, strings.Count(fromServer(c.trace(t)), updated))
		})
	}
	t.Run("renegotiation is refused with an alert, and others go on", func(t *testing.T) {
		t.Parallel()
		url := ownListener(t, nil, tls12AES)
		other, err := clientGorilla(t, plain)(url, nil)
		require.NoError(t, err)
		defer other.drop()
		numbered, left := departures.expect(url)
		c := dialOpenSSL(t, numbered)
		c.echo(t, 1)
		c.command(t, "R", "RENEGOTIATING")
		rest, err := io.ReadAll(c.out)
		require.NoError(t, err)
		assert.Empty(t, rest)
		within(t, left)
		assert.Regexp(t, `Alert.*(unexpected_message|no_renegotiation)`, fromServer(c.trace(t)))
		deliver(t, other, other, text, []byte("still there"))
	})
}

// fromServer returns those lines of a trace that tell of a message of the server.
func fromServer(trace string) (lines string) {
	for line := range strings.Lines(trace) {
		if strings.HasPrefix(line, "<<<") {
			lines += line
		}
	}
	return lines
}
