package chatserver

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// local is where servers of these tests are found.
const local = "127.0.0.1"

// newCertificate makes a certificate for hosts.
func newCertificate(t *testing.T, hosts ...string) *certificate {
	t.Helper()
	c, err := makeCertificate(hosts)
	require.NoError(t, err)
	return c
}

// writePair writes a certificate and its key into a folder. Files that are there are written anew, and all are of the same length.
func writePair(t *testing.T, dir string, c *certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.pair.PrivateKey)
	require.NoError(t, err)
	write := func(name, kind string, der []byte) string {
		name = filepath.Join(dir, name)
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		text = append(text, bytes.Repeat([]byte("\n"), 4096-len(text))...)
		require.NoError(t, os.WriteFile(name, text, 0o600))
		return name
	}
	return write("cert.pem", "CERTIFICATE", c.pair.Certificate[0]), write("key.pem", "PRIVATE KEY", key)
}

// replacePair puts other files in the place of those in a folder, as programs do that renew certificates.
func replacePair(t *testing.T, dir string, c *certificate) {
	t.Helper()
	certFile, keyFile := writePair(t, t.TempDir(), c)
	for _, file := range []string{certFile, keyFile} {
		require.NoError(t, os.Rename(file, filepath.Join(dir, filepath.Base(file))))
	}
}

// shown returns the certificate that a server shows.
func shown(t *testing.T, address string) *x509.Certificate {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// trusting returns what a client that trusts the server at an address speaks TLS with.
func trusting(t *testing.T, address string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(shown(t, address))
	return &tls.Config{RootCAs: roots}
}

// secureDevice makes a device that is not yet connected and speaks TLS.
func secureDevice(t *testing.T, addr string, query string, headers http.Header) *device {
	t.Helper()
	d := newDevice(t, addr, query, headers)
	d.client.Endpoint = "wss://" + addr + "/" + query
	d.client.TLSConfig = trusting(t, addr)
	return d
}

// fetchSecurely gets a page by https with a client that leaves no connection behind.
func fetchSecurely(t *testing.T, url string, config *tls.Config, http2 bool) (res *http.Response, body string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: http2}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, Timeout: patience}).Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(b)
}

func TestCertificateOfTheStart(t *testing.T) {
	self, err := os.Hostname()
	require.NoError(t, err)
	var output lockedBuffer
	address, stop := launch(t, &output, "-tls")
	t.Cleanup(stop)
	printed := output.String()
	leaf := shown(t, address)
	assert.Contains(t, printed, "\nSHA-256    "+chat.Fingerprint(leaf.Raw)+" ")
	assert.Contains(t, printed, "-url wss://"+address+"/ -fingerprint "+chat.Fingerprint(leaf.Raw)+" -user alice\n")
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	require.True(t, ok)
	assert.Equal(t, elliptic.P256(), key.Curve)
	assert.False(t, leaf.IsCA)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, host := range []string{"localhost", "127.0.0.1", "::1", self} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
		assert.NoError(t, err, host)
	}
	assert.Error(t, leaf.VerifyHostname("example.com"))

	again := start(t, "-tls")
	assert.NotEqual(t, leaf.Raw, shown(t, again).Raw, "each start makes its own")
}

func TestCertificateOfTheStartIsForWhatIsListenedOn(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 9001} }
	own := []string{"localhost", "127.0.0.1", "::1"}
	for name, test := range map[string]struct {
		given string
		on    net.Addr
		want  []string
	}{
		"a loopback address": {"127.0.0.7:9001", tcp("127.0.0.7"), []string{"127.0.0.7"}},
		"a name":             {"chat.lan:9001", tcp("10.1.2.3"), []string{"chat.lan", "10.1.2.3"}},
		"all":                {":9001", tcp("::"), interfaces(t)},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := newCertificate(t, certifiedHosts(test.given, test.on)...).current().Leaf
			for _, host := range append(test.want, own...) {
				assert.NoError(t, leaf.VerifyHostname(host))
			}
		})
	}
}

// interfaces returns the addresses of this machine.
func interfaces(t *testing.T) (ips []string) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok {
			ips = append(ips, network.IP.String())
		}
	}
	return ips
}

func TestPageAndWebSocketOverTLS(t *testing.T) {
	cert, key := writePair(t, t.TempDir(), newCertificate(t, local))
	for name, args := range map[string][]string{
		"with a certificate of the start": {"-tls"},
		"with one of files":               {"-cert", cert, "-key", key},
	} {
		t.Run(name, func(t *testing.T) {
			addr := start(t, args...)
			page, config := "https://"+addr, trusting(t, addr)
			for version, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
				res, body := fetchSecurely(t, page+"/config.json", config, http2)
				assert.Equal(t, version, res.Proto)
				assert.Equal(t, http.StatusOK, res.StatusCode)
				assert.Contains(t, body, `"url":"wss://`+addr+`/"`)
				assert.Contains(t, res.Header.Get("Content-Security-Policy"), "connect-src 'self' wss://"+addr+"/;")
			}
			for origin, refused := range map[string]string{
				page:                       "",
				"http://" + addr:           "403 origin not allowed",
				"https://chat.example.com": "403 origin not allowed",
			} {
				d := secureDevice(t, addr, "?key="+keyOf(t, "alice"), http.Header{"Origin": {origin}})
				err := d.client.Connect()
				if refused != "" {
					assert.ErrorContains(t, err, refused, origin)
					continue
				}
				require.NoError(t, err)
				d.welcomed()
				assert.Equal(t, "Hello", d.say("Hello").Text)
			}
		})
	}
}

func TestPagesUnderTheNamesOfTheCertificateMayConnect(t *testing.T) {
	s := &server{certificate: newCertificate(t, "chat.example.com", "*.example.org", "192.0.2.1")}
	origins := s.pageOrigins(":443", &net.TCPAddr{IP: net.IPv6unspecified, Port: 443})
	for _, origin := range []string{"https://chat.example.com", "https://192.0.2.1", "https://localhost", "https://[::1]"} {
		assert.Contains(t, origins, origin)
	}
	for _, origin := range origins {
		assert.NotContains(t, origin, "example.org", "a pattern names no machine")
	}
	s.public = "https://elsewhere.example.com"
	assert.Equal(t, []string{s.public}, s.pageOrigins(":443", &net.TCPAddr{Port: 443}))
}

func TestStopEndsConnectionsWithTLS(t *testing.T) {
	addr, stop := launch(t, io.Discard, "-tls")
	quit := make(chan struct{})
	bob := secureDevice(t, addr, "?key="+keyOf(t, "bob"), nil)
	bob.client.HandleQuit = func() { close(quit) }
	require.NoError(t, bob.client.Connect())
	bob.welcomed()
	fetchSecurely(t, "https://"+addr+"/", bob.client.TLSConfig, true)

	stop()

	receive(t, quit)
	var closed *websocket.CloseError
	require.ErrorAs(t, bob.client.Err(), &closed)
	assert.EqualValues(t, websocket.StatusGone, closed.Code)
	leavesNothing(t, addr)
}

func TestRenewedCertificateIsShownWithoutARestart(t *testing.T) {
	first, second := newCertificate(t, local), newCertificate(t, local)
	for name, renew := range map[string]func(t *testing.T, dir string, c *certificate){
		"when its files are replaced":     replacePair,
		"when its files are written anew": func(t *testing.T, dir string, c *certificate) { writePair(t, dir, c) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cert, key := writePair(t, dir, first)
			past := time.Now().Add(-time.Hour) // else the files may be written twice in one tick of the file system's clock
			require.NoError(t, errors.Join(os.Chtimes(cert, past, past), os.Chtimes(key, past, past)))
			addr := start(t, "-cert", cert, "-key", key)
			alice := secureDevice(t, addr, "?key="+keyOf(t, "alice"), nil)
			require.NoError(t, alice.client.Connect())
			alice.welcomed()
			assert.Equal(t, first.pair.Leaf.Raw, shown(t, addr).Raw)

			renew(t, dir, second)

			assert.Equal(t, second.pair.Leaf.Raw, shown(t, addr).Raw)
			assert.Equal(t, second.pair.Leaf.Raw, shown(t, addr).Raw, "the page's too")
			assert.Equal(t, "still here", alice.say("still here").Text)
		})
	}
}

func TestCertificateStaysWhileItsFilesCannotBeUsed(t *testing.T) {
	first, second := newCertificate(t, local), newCertificate(t, local)
	for name, spoil := range map[string]func(cert, key string) error{
		"the key is still another": func(cert, key string) error { return nil },
		"the key is gone":          func(cert, key string) error { return os.Remove(key) },
		"both are gone":            func(cert, key string) error { return errors.Join(os.Remove(cert), os.Remove(key)) },
		"one is half written":      func(cert, key string) error { return os.Truncate(cert, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cert, key := writePair(t, dir, first)
			var said bytes.Buffer
			c, err := loadCertificate(cert, key, slog.New(slog.NewTextHandler(&said, nil)))
			require.NoError(t, err)
			newCert, newKey := writePair(t, t.TempDir(), second)
			require.NoError(t, os.Rename(newCert, cert))
			require.NoError(t, spoil(cert, key))
			for range 3 {
				assert.Equal(t, first.pair.Leaf.Raw, c.current().Leaf.Raw)
			}
			assert.LessOrEqual(t, bytes.Count(said.Bytes(), []byte("\n")), 1, "not at every handshake: %s", &said)
			c.refresh()
			assert.Equal(t, first.pair.Leaf.Raw, c.current().Leaf.Raw)
			assert.Contains(t, said.String(), "stays as it is")

			writePair(t, dir, second)
			require.NoError(t, os.Rename(newKey, key))
			assert.Equal(t, second.pair.Leaf.Raw, c.current().Leaf.Raw)
			assert.Contains(t, said.String(), "read again")
		})
	}
}

func TestHangupHasTheCertificateReadAgain(t *testing.T) {
	first, second := newCertificate(t, local), newCertificate(t, local)
	dir, past := t.TempDir(), time.Now().Add(-time.Hour)
	write := func(c *certificate) (cert, key string) {
		cert, key = writePair(t, dir, c)
		require.NoError(t, errors.Join(os.Chtimes(cert, past, past), os.Chtimes(key, past, past)))
		return cert, key
	}
	cert, key := write(first)
	addr := start(t, "-cert", cert, "-key", key)
	write(second)
	assert.Equal(t, first.pair.Leaf.Raw, shown(t, addr).Raw, "nothing shows that the files have changed")
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, self.Signal(syscall.SIGHUP))
	isSecond := func() bool { return bytes.Equal(second.pair.Leaf.Raw, shown(t, addr).Raw) }
	assert.Eventually(t, isSecond, patience, 10*time.Millisecond)
}

// limited is an answer whose time is limited.
type limited struct {
	http.ResponseWriter
	read, write time.Time
}

func (l *limited) SetReadDeadline(end time.Time) error  { l.read = end; return nil }
func (l *limited) SetWriteDeadline(end time.Time) error { l.write = end; return nil }

func TestRequestsForThePageAreLimited(t *testing.T) {
	answer := &limited{ResponseWriter: httptest.NewRecorder()}
	timely(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		assert.False(t, answer.read.IsZero())
		assert.False(t, answer.write.IsZero())
	})).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
}
