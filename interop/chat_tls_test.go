package interop

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// trusting makes a browser trust the server at an address, and no other that it does not know.
func trusting(t *testing.T, address string) []chromedp.ExecAllocatorOption {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: deadline}, "tcp", address, &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	defer conn.Close()
	key := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return []chromedp.ExecAllocatorOption{
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])),
	}
}

// TestChatWithACertificateOfItsOwn has the page and the WebSocket come from one port.
func TestChatWithACertificateOfItsOwn(t *testing.T) {
	t.Parallel()
	program := buildChat(t)
	run := func(t *testing.T, environment ...string) *chatServer {
		cmd := exec.Command(program, "-addr", "127.0.0.1:0", "-tls")
		cmd.Env = append(os.Environ(), environment...)
		return runChatAs(t, cmd)
	}
	for name, environment := range map[string]string{
		"each WebSocket by a connection of its own": "GODEBUG=",
		"WebSocket by the connection of its page":   "GODEBUG=" + http2Connect,
	} {
		t.Run(name, func(t *testing.T) {
			server := run(t, environment)
			require.Equal(t, strings.Replace(server.page, "https", "wss", 1), server.ws)
			first := openTab(t, startBrowser(t, trusting(t, hostOf(t, server.page))...))
			alice, bob := openChatTab(t, first, "alice"), openChatTab(t, first, "bob")
			alice.join(t, server.page)
			bob.join(t, server.page)
			alice.expect(t, `() => performance.getEntriesByType("navigation")[0].nextHopProtocol`, "h2")
			alice.enter(t, "over TLS")
			bob.shows(t, "over TLS")

			ctx, cancel := context.WithTimeout(bob.ctx, deadline)
			defer cancel()
			err := chromedp.Do(ctx, chromedp.Navigate(run(t).page))
			assert.ErrorContains(t, err, "ERR_CERT_AUTHORITY_INVALID", "no other certificate is trusted")
		})
	}
}

// TestExampleOfAutocert runs the tests of examples/autocert, which is a module of its own.
func TestExampleOfAutocert(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"vet", "test"} {
		cmd := exec.Command("go", command, "./...")
		cmd.Dir = "../examples/autocert"
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %s: %s", command, out)
	}
}
