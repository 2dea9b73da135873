//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"crypto/tls"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// oddName is what hostile clients ask for: the program's callbacks do what the row says for it.
const oddName = "odd.example"

// odd returns configurations in which a callback of the program does something for oddName, by the name of the callback.
func odd(do func() error) map[string]*tls.Config {
	certificate, config := peer.CertificateECDSA(), peer.ServerTLS()
	doFor := func(hello *tls.ClientHelloInfo) error {
		if hello.ServerName == oddName {
			return do()
		}
		return nil
	}
	return map[string]*tls.Config{
		"GetCertificate": {GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			err := doFor(hello)
			return &certificate, err
		}},
		"GetConfigForClient": {GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			err := doFor(hello)
			return config, err
		}},
	}
}

// dialOdd connects as a client that asks for oddName, without a handshake.
func (a *abuse) dialOdd() *peer.Conn {
	a.t.Helper()
	c := a.DialPlain(a.t)
	config := peer.ClientTLS()
	config.ServerName, config.InsecureSkipVerify = oddName, true // it is not in the certificate
	c.Secure(config)
	return c
}

// TestAbuseTLSCallbacks has callbacks of tls.Config do what a program's may.
func TestAbuseTLSCallbacks(t *testing.T) {
	var rows []attackRow
	for _, callback := range []string{"GetCertificate", "GetConfigForClient"} {
		rows = append(rows,
			attackRow{name: callback + " that blocks holds up nobody else, and its clients get in after it", attack: func(a *abuse) {
				blockedCallback(a, callback)
			}},
			attackRow{name: callback + " that panics ends its own handshakes", logs: panicked, attack: func(a *abuse) {
				failedCallback(a, callback, func() error { panic("callback of the test") })
				require.NotZero(a.t, a.log.count(panicked[0]))
			}},
			attackRow{name: callback + " that ends its goroutine ends its own handshakes", logs: panicked, attack: func(a *abuse) {
				failedCallback(a, callback, func() error { runtime.Goexit(); return nil })
			}},
			attackRow{name: callback + " that returns an error ends its own handshakes", attack: func(a *abuse) {
				failedCallback(a, callback, func() error { return errors.New("no certificate\r\nSet-Cookie: evil=1") })
			}},
		)
	}
	runRowsWith(t, abuse{tls: true}, rows)
}

func blockedCallback(a *abuse, callback string) {
	const clients = 50
	inside, release := make(chan struct{}, clients), make(chan struct{})
	config := odd(func() error {
		inside <- struct{}{}
		<-release
		return nil
	})[callback]
	a.start(&websocket.ServerOptions{TLSConfig: config, HandshakeTimeout: time.Hour})
	free := peer.Release(a.t, release)
	shaken := make(chan error, clients)
	var blocked []*peer.Conn
	for range clients {
		c := a.dialOdd()
		blocked = append(blocked, c)
		go func() { shaken <- c.Shake() }()
	}
	for range clients {
		peer.Get(a.t, inside)
	}
	for _, c := range blocked[clients/2:] {
		c.Reset()
	}
	for range 20 {
		c := a.Connect(a.t)
		c.Text("x")
		c.ExpectText("x")
		c.Close()
	}
	free()
	failed := 0
	for range clients {
		if peer.Get(a.t, shaken) != nil {
			failed++
		}
	}
	assert.Equal(a.t, clients/2, failed, "those that have gone")
	for _, c := range blocked[:clients/2] {
		c.Text("x")
		c.ExpectText("x")
	}
}

// failedCallback has more handshakes fail than there may be at a time.
func failedCallback(a *abuse, callback string, do func() error) {
	const clients, few = 50, 4
	a.start(&websocket.ServerOptions{TLSConfig: odd(do)[callback], HandshakeTimeout: time.Hour, MaxHandshakes: few})
	for range clients {
		c := a.dialOdd()
		require.Error(a.t, c.Shake())
		require.NoError(a.t, toEnd(c.Socket()))
		c.Close()
	}
	for range 20 {
		c := a.Connect(a.t)
		c.Text("x")
		c.ExpectText("x")
		c.Close()
	}
	require.True(a.t, peer.Eventually(func() bool { return a.Clients.Len() == 1 }))
}
