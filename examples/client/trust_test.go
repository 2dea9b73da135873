package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// authority signs certificates of tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // with cert
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "CA of tests"},
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	ca := &authority{cert: template}
	ca.cert, ca.key, ca.file = ca.issue(t, template)
	return ca
}

// issue signs a certificate and writes it and its key into files, the key into one with ".key" behind the name. The first one is the
// authority's own.
func (ca *authority) issue(t *testing.T, template *x509.Certificate) (cert *x509.Certificate, key *ecdsa.PrivateKey, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signer := ca.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "certificate.pem")
	for name, block := range map[string]*pem.Block{file: {Type: "CERTIFICATE", Bytes: der}, file + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(block), 0o600))
	}
	return cert, key, file
}

// startSigned starts the real server with a certificate of the authority for an address, valid until then.
func (ca *authority) startSigned(t *testing.T, ip string, until time.Time) secureServer {
	t.Helper()
	template := &x509.Certificate{IPAddresses: []net.IP{net.ParseIP(ip)}, NotBefore: until.Add(-time.Hour), NotAfter: until}
	cert, _, file := ca.issue(t, template)
	address, _ := startServer(t, "-cert", file, "-key", file+".key")
	_, port, err := net.SplitHostPort(hostIn(t, address))
	require.NoError(t, err)
	return secureServer{"127.0.0.1:" + port, chat.Fingerprint(cert.Raw)}
}

// hostIn returns the host and the port of a URL.
func hostIn(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Host
}

// secureServer is a server that speaks TLS.
type secureServer struct{ address, fingerprint string }

func TestTrustIsChecked(t *testing.T) {
	some := strings.Repeat("0f", sha256.Size)
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"a fingerprint of no digits":    {[]string{"-fingerprint", strings.Repeat("xy", sha256.Size)}, "64 hexadecimal digits"},
		"a fingerprint of another kind": {[]string{"-fingerprint", strings.Repeat("0f", 20)}, "64 hexadecimal digits"},
		"a fingerprint of nothing":      {[]string{"-fingerprint", ""}, "64 hexadecimal digits"},
		"a fingerprint and a CA":        {[]string{"-fingerprint", some, "-ca", "ca.pem"}, "do not go together"},
		"a fingerprint and a URL of ws": {[]string{"-fingerprint", some, "-url", "ws://127.0.0.1/"}, "wss://"},
		"a CA and a URL of http":        {[]string{"-ca", "ca.pem", "-url", "http://127.0.0.1/"}, "wss://"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runToEnd(t, append([]string{"-user", "alice"}, test.args...)...)
			assert.Equal(t, 2, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, test.says)
		})
	}
}

func TestFileOfTheCAIsChecked(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for file, says := range map[string]string{empty + "-not": "-ca: open ", empty: "has no certificate in PEM form", t.TempDir(): "-ca: read "} {
		code, _, stderr := runToEnd(t, "-user", "alice", "-ca", file)
		assert.Equal(t, 1, code)
		assert.Contains(t, stderr, says)
	}
}

func TestFingerprintIsReadAsOthersWriteIt(t *testing.T) {
	sum := sha256.Sum256([]byte("a certificate"))
	want := chat.Fingerprint([]byte("a certificate"))
	assert.Equal(t, fmt.Sprintf("%x", sum), want)
	for _, text := range []string{
		want,
		strings.ToUpper(want),
		strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf("% X", sum)), " ", ":"), // as openssl does
		" " + want + "\n",
	} {
		got, err := parseFingerprint(text)
		assert.NoError(t, err)
		assert.Equal(t, want, got, "%q", text)
	}
}

func TestSayOverTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	printed, _ := launchServer(t, "-tls")
	address := urlIn(t, printed)
	_, own, found := strings.Cut(printed, "SHA-256    ")
	require.True(t, found, printed)
	own, _, _ = strings.Cut(own, " ")
	valid := ca.startSigned(t, "127.0.0.1", time.Now().Add(time.Hour))
	old := ca.startSigned(t, "127.0.0.1", time.Now().Add(-time.Minute))
	elsewhere := ca.startSigned(t, "127.0.0.2", time.Now().Add(time.Hour))
	plain, _ := startServer(t)
	to := func(s secureServer, args ...string) []string { return append(args, "-url", "wss://"+s.address+"/") }
	for name, test := range map[string]struct {
		args []string
		says string // empty: the message is sent
	}{
		"to one that prints its fingerprint":       {[]string{"-url", address, "-fingerprint", own}, ""},
		"to its address":                           {[]string{"-addr", hostIn(t, address), "-fingerprint", own}, ""},
		"with the fingerprint of another":          {[]string{"-url", address, "-fingerprint", valid.fingerprint}, "another one: its fingerprint is " + own},
		"with an old fingerprint":                  {[]string{"-url", address, "-fingerprint", valid.fingerprint}, "give the -fingerprint that it prints now"},
		"without its fingerprint":                  {[]string{"-url", address}, "give the -fingerprint that it prints; "},
		"with a CA that it has not":                {[]string{"-url", address, "-ca", ca.file}, "do not vouch for it"},
		"with the CA":                              {to(valid, "-ca", ca.file), ""},
		"with the CA, to an address":               {[]string{"-ca", ca.file, "-addr", valid.address}, ""},
		"without the CA":                           {to(valid), "its -ca file"},
		"with another CA of the same name":         {to(valid, "-ca", stranger.file), "do not vouch for it"},
		"with the fingerprint of one that is good": {to(valid, "-fingerprint", valid.fingerprint), ""},
		"with the fingerprint of the CA":           {to(valid, "-fingerprint", chat.Fingerprint(ca.cert.Raw)), "another one"},
		"to one whose certificate is too old":      {to(old, "-ca", ca.file), "the clock of this machine"},
		"to one that is too old but known":         {to(old, "-fingerprint", old.fingerprint), ""},
		"to one whose certificate is for others":   {to(elsewhere, "-ca", ca.file), "a name that the certificate is for"},
		"to one that is for others but known":      {to(elsewhere, "-fingerprint", elsewhere.fingerprint), ""},
		"to one that speaks TLS, without":          {[]string{"-addr", hostIn(t, address)}, "begins with wss://"},
		"to one that speaks no TLS":                {[]string{"-url", "wss" + strings.TrimPrefix(plain, "ws"), "-fingerprint", own}, "begins with ws://"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runToEnd(t, append(test.args, "-user", "alice", "-say", "Hello")...)
			if test.says == "" {
				assert.Zero(t, code)
				assert.Contains(t, stdout, " alice: Hello\n")
				assert.Empty(t, stderr)
				return
			}
			assert.Equal(t, 1, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, test.says)
		})
	}
}

func TestTalkOverTLS(t *testing.T) {
	printed, stop := launchServer(t, "-tls")
	_, command, found := strings.Cut(printed, "go run ./examples/client ")
	require.True(t, found, printed)
	command, _, _ = strings.Cut(command, "\n")
	alice := startClient(t, strings.Fields(command)...) // as the server says
	alice.stdout.wait(t, "You are here as alice")
	alice.enter("over TLS")
	alice.stdout.wait(t, "you: over TLS\n")
	stop()
	alice.stdout.wait(t, "* The connection was lost: websocket: closed with 1001")
	_, host, _ := strings.Cut(command, "wss://")
	host, _, _ = strings.Cut(host, "/")
	launchServer(t, "-tls", "-addr", host)
	alice.enter("/retry")
	assert.Equal(t, 1, alice.exit(), "it has a certificate of its own")
	assert.Contains(t, alice.stderr.String(), "connection lost")
	assert.Contains(t, alice.stderr.String(), "give the -fingerprint that it prints now")
}
