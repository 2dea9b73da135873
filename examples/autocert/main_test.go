package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/wsloop/websocket"
)

// deadline is how long a test waits for something that should happen immediately.
const deadline = 20 * time.Second

// cache has certificates, and keeps no others.
type cache map[string][]byte

func (c cache) Get(_ context.Context, name string) ([]byte, error) {
	if entry := c[name]; entry != nil {
		return entry, nil
	}
	return nil, autocert.ErrCacheMiss
}

func (c cache) Put(context.Context, string, []byte) error { return nil }
func (c cache) Delete(context.Context, string) error      { return nil }

// newCache makes certificates for domains, and returns them as roots too.
func newCache(t *testing.T, domains ...string) (c cache, roots *x509.CertPool) {
	t.Helper()
	c, roots = make(cache), x509.NewCertPool()
	for _, domain := range domains {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{DNSNames: []string{domain}, NotAfter: time.Now().Add(100 * 24 * time.Hour)} // it need not be renewed
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		private, err := x509.MarshalECPrivateKey(key)
		require.NoError(t, err)
		c[domain] = append(
			pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
			pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		roots.AddCert(cert)
	}
	return c, roots
}

func newManager(c cache, domains ...string) *autocert.Manager {
	return &autocert.Manager{Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(domains...), Cache: c}
}

// serve runs the example's server until the end of the test.
func serve(t *testing.T, manager *autocert.Manager) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serv := newServer(manager)
	ended := make(chan error, 1)
	go func() { ended <- serv.Serve(ln) }()
	t.Cleanup(func() {
		for end := time.After(deadline); ; {
			serv.Stop() // does nothing before Serve has begun
			select {
			case err := <-ended:
				require.NoError(t, err)
				return
			case <-end:
				require.Fail(t, "the server does not stop")
			case <-time.After(time.Millisecond):
			}
		}
	})
	return ln.Addr().String()
}

// client connects as one of a domain, which is at an address.
type client struct {
	*websocket.Client
	heard chan string
}

func newClient(t *testing.T, address, domain string, roots *x509.CertPool) *client {
	c := &client{heard: make(chan string, 1)}
	c.Client = &websocket.Client{
		Endpoint:         "wss://" + address + "/",
		TLSConfig:        &tls.Config{RootCAs: roots, ServerName: domain},
		HandshakeTimeout: deadline,
		HandleText: func(_ *websocket.Client, frame *websocket.Frame) error {
			c.heard <- string(frame.Payload())
			return nil
		},
	}
	t.Cleanup(c.Quit)
	return c
}

// echoes requires that a message comes back.
func (c *client) echoes(t *testing.T, message string) {
	t.Helper()
	require.NoError(t, c.SendText([]byte(message)))
	assert.Equal(t, message, within(t, c.heard))
}

func within[T any](t *testing.T, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(deadline):
		require.Fail(t, "nothing came in time")
	}
	return value
}

// slowAuthority is one that does not answer before it is told to, and then refuses.
func slowAuthority(t *testing.T) (client *acme.Client, asked <-chan struct{}, tell func()) {
	t.Helper()
	requests, told := make(chan struct{}, 10), make(chan struct{})
	tell = sync.OnceFunc(func() { close(told) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- struct{}{}
		<-told
		http.Error(w, "no certificate today", http.StatusBadRequest)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(tell) // before
	return &acme.Client{DirectoryURL: server.URL}, requests, tell
}

func TestOneWhoWaitsForACertificateHoldsUpNobody(t *testing.T) {
	const first, known = "new.example.com", "known.example.com"
	cache, roots := newCache(t, known)
	manager := newManager(cache, first, known)
	client, asked, tell := slowAuthority(t)
	manager.Client = client
	address := serve(t, manager)
	open := newClient(t, address, known, roots)
	require.NoError(t, open.Connect())

	waits, connected := newClient(t, address, first, roots), make(chan error, 1)
	go func() { connected <- waits.Connect() }()
	within(t, asked)
	open.echoes(t, "one that is connected")
	next := newClient(t, address, known, roots)
	require.NoError(t, next.Connect())
	next.echoes(t, "one that connects")
	assert.Empty(t, connected)

	tell()
	assert.ErrorContains(t, within(t, connected), "TLS", "there is no certificate")
	open.echoes(t, "one that is still connected")
}

func TestPageIsServedByHTTPS(t *testing.T) {
	const domain = "chat.example.com"
	cache, roots := newCache(t, domain)
	address := serve(t, newManager(cache, domain))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: domain}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, Timeout: deadline}).Get("https://" + address + "/")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Contains(t, string(body), "wss://"+address+"/")
}

func TestStrangersAskForNoCertificate(t *testing.T) {
	const domain = "chat.example.com"
	cache, roots := newCache(t, domain)
	address := serve(t, newManager(cache, domain))
	assert.ErrorContains(t, newClient(t, address, "evil.example.com", roots).Connect(), "TLS")
	good := newClient(t, address, domain, roots)
	require.NoError(t, good.Connect())
	good.echoes(t, "hello")
}

// TestProofsForLetsEncryptGoThroughOurPort has a client ask as Let's Encrypt does, which gets the certificate with the proof and no more.
func TestProofsForLetsEncryptGoThroughOurPort(t *testing.T) {
	const domain = "chat.example.com"
	cache, roots := newCache(t, domain)
	cache[domain+"+token"] = cache[domain]
	address := serve(t, newManager(cache, domain))
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: domain, NextProtos: []string{"acme-tls/1"}})
	require.NoError(t, err)
	defer conn.Close()
	assert.Equal(t, "acme-tls/1", conn.ConnectionState().NegotiatedProtocol)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(deadline)))
	_, err = conn.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
}
