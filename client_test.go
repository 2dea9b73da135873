package websocket

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClient_endpoint(t *testing.T) {
	config := new(tls.Config)
	for _, test := range []struct {
		name     string
		endpoint string
		host     string // empty: an error
		secure   bool
	}{
		{"ws has port 80", "ws://example.com", "example.com:80", false},
		{"http has port 80", "http://example.com/chat", "example.com:80", false},
		{"wss has port 443", "wss://example.com", "example.com:443", true},
		{"https has port 443", "https://example.com/chat?a=1", "example.com:443", true},
		{"a port of its own is kept", "ws://example.com:8080", "example.com:8080", false},
		{"a port of its own is kept with TLS", "wss://example.com:80", "example.com:80", true},
		{"the scheme may be in capitals", "WS://example.com", "example.com:80", false},
		{"IPv6 gets a port", "ws://[::1]", "[::1]:80", false},
		{"IPv6 keeps its port", "wss://[::1]:9", "[::1]:9", true},
		{"another scheme is refused", "ftp://example.com", "", false},
		{"no scheme is refused", "example.com/chat", "", false},
		{"no host is refused", "ws:///chat", "", false},
		{"a port without a host is refused", "ws://:80/", "", false},
		{"an empty endpoint is refused", "", "", false},
		{"a malformed URL is refused", "ws://exa mple.com", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			cl := &Client{Endpoint: test.endpoint, TLSConfig: config}
			u, secure, err := cl.serverURL()
			if test.host == "" {
				require.Error(t, err)
				assert.Error(t, cl.Connect())
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.host, u.Host)
			assert.Equal(t, test.secure, secure)
			if test.secure {
				assert.Same(t, config, cl.TLSConfig)
			} else {
				assert.Nil(t, cl.TLSConfig, "a plain scheme resets TLSConfig")
			}
		})
	}
}

func TestClient_Connect(t *testing.T) {
	t.Run("a connected client does not connect again", func(t *testing.T) {
		checkGoroutines(t)
		cl := new(Client)
		scriptedOpen(t, cl)
		assert.ErrorIs(t, cl.Connect(), errConnected)
	})
	t.Run("of two at once one is refused", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		cl := &Client{Endpoint: s.endpoint()}
		first := scriptedConnect(cl)
		c := s.accept()
		assert.ErrorIs(t, cl.Connect(), errConnected)
		c.send(c.answer())
		assert.NoError(t, scriptedWait(t, first))
		cl.Quit()
	})
}
