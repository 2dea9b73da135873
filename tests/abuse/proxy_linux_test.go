package abuse

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// The address of a proxy that is trusted; everybody else, the well-behaved client too, comes from 127.0.0.1.
const trustedProxy = "127.0.0.2"

const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// dialAs connects from an address of its own until the end of the test.
func (a *abuse) dialAs(address string) *peer.Conn {
	a.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: peer.Wait}
	conn, err := dialer.Dial(a.Network, a.Address)
	require.NoError(a.t, err)
	a.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(3 * peer.Wait))
	return &peer.Conn{Conn: conn, T: a.t, Reader: bufio.NewReader(conn)}
}

// behindProxy runs the server of a row, which trusts the proxy.
func (a *abuse) behindProxy(opts *websocket.ServerOptions) {
	a.t.Helper()
	opts.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix(trustedProxy + "/32")}
	a.start(opts)
}

func TestAbuseProxy(t *testing.T) {
	runRows(t, []attackRow{
		{name: "200 proxies that send a header byte by byte, or stop in it, are closed at the time-out", attack: slowProxies},
		{name: "whatever is no header, from a trusted proxy, is answered with 400", attack: func(a *abuse) {
			a.behindProxy(new(websocket.ServerOptions))
			for _, sent := range []string{
				peer.Request, "\x16\x03\x01\x02\x00\x01", "\x00", "SSH-2.0-x\r\n", "PROXY\r\n", "PROXY \r\n", "PROXY UNKNOWN\n", "PROXY UNKNOWN" + strings.Repeat("x", 1<<16),
				"PROXY TCP4 999.0.2.1 1.2.3.4 1 2\r\n", "PROXY TCP4 192.0.2.1 1.2.3.4 -1 2\r\n", "PROXY TCP4 192.0.2.1\r\nX-Forwarded-For: 1.2.3.4\r\n",
				proxySignature + "\x21\x11\xff\xff" + strings.Repeat("x", 1<<16), proxySignature + "\x21\x11\x00\x00", proxySignature + "\x2f\x11\x00\x0c",
				proxySignature + "\x21\x12\x00\x0c", proxySignature + "\x01\x11\x00\x0c", proxySignature + proxySignature,
			} {
				c := a.dialAs(trustedProxy)
				res, body, err := exchange(c, sent)
				require.NoError(a.t, err, "%.60q", sent)
				assert.Equal(a.t, http.StatusBadRequest, res.StatusCode, "%.60q", sent)
				assert.Contains(a.t, body, "PROXY protocol header")
				c.Close()
			}
		}},
		{name: "a header from elsewhere is never believed", attack: func(a *abuse) {
			a.behindProxy(&websocket.ServerOptions{MaxConnectionsPerAddress: 40})
			for _, header := range []string{"PROXY TCP4 192.0.2.1 1.2.3.4 1 2\r\n", proxySignature + "\x20\x00\x00\x00", proxySignature + "\x21\x11\x00\x0c" + strings.Repeat("\x01", 12)} {
				a.refused(http.StatusBadRequest, header+peer.Request)
			}
		}},
		{name: "500 connections of one address leave room for others", attack: manyOfOneAddress},
	})
}

func slowProxies(a *abuse) {
	const proxies = 200
	timeout := scale(peer.HandshakeTimeout)
	a.behindProxy(defaults(new(websocket.ServerOptions)))
	headers := []string{"PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\r\n", proxySignature + "\x21\x11\x10\x00"}
	done := make(chan struct{})
	defer close(done)
	ended := make(chan error, proxies)
	for i := range proxies {
		c, header, begun := a.dialAs(trustedProxy), headers[i%2], time.Now()
		if i%4 < 2 {
			go trickle(c, header, done)
		} else {
			c.Send([]byte(header[:1+i%14]))
		}
		go func() {
			res, _, err := readAnswer(c)
			if took := time.Since(begun); err == nil && (res.StatusCode != http.StatusRequestTimeout || took < timeout*9/10) {
				err = fmt.Errorf("status %d after %v", res.StatusCode, took)
			}
			ended <- err
		}()
	}
	start := time.Now()
	a.othersJoin(func() bool { return len(ended) == proxies || time.Since(start) > timeout+wait })
	for range proxies {
		require.NoError(a.t, peer.Get(a.t, ended))
	}
}

func manyOfOneAddress(a *abuse) {
	const limit, attackers = 50, 500
	a.behindProxy(&websocket.ServerOptions{MaxConnectionsPerAddress: limit})
	var open int
	for range attackers {
		c := a.dialAs("127.0.0.3")
		if c.Shake() == nil {
			open++
		}
	}
	assert.Equal(a.t, limit, open)
	for i := range 2 * limit { // by way of the proxy, each of another address
		c := a.dialAs(trustedProxy)
		c.Send(fmt.Appendf(nil, "PROXY TCP6 2001:db8:0:%x::1 ::1 1 2\r\n", i))
		require.NoError(a.t, c.Shake())
	}
	for range limit - 1 { // the well-behaved client is one
		c := a.Dial(a.t)
		require.NoError(a.t, c.Shake())
	}
}
