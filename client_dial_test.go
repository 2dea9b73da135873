package websocket

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// promotedConn is the system's own connection with something else to write, such as a DialContext may return.
type promotedConn struct{ *net.TCPConn }

func TestClientSocketWritesToNothingBelow(t *testing.T) {
	for name, wrap := range map[string]func(*net.TCPConn) net.Conn{
		"wrapped":  func(conn *net.TCPConn) net.Conn { return promotedConn{conn} },
		"like TLS": func(conn *net.TCPConn) net.Conn { return wrappedConn{conn} },
	} {
		t.Run("a connection that is "+name+" is asked for what the system knows, and not written past", func(t *testing.T) {
			conn, peer := tcpPair(t)
			s := newClientSocket(wrap(conn), make(chan struct{}))
			assert.NotNil(t, s.raw)
			s.noWait.Store(true)
			_, err := s.Write([]byte("past it"))
			assert.ErrorIs(t, err, io.ErrShortWrite)
			conn.Close()
			peer.SetDeadline(time.Now().Add(20 * time.Second))
			n, _ := peer.Read(make([]byte, 1))
			assert.Zero(t, n)
		})
	}
}

func TestTunnelConn(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		theirs.Write([]byte("cd"))
		theirs.Close()
	}()
	c := &tunnelConn{Conn: ours, rest: []byte("ab")}
	var got []byte
	for buf := make([]byte, 1); ; {
		n, err := c.Read(buf)
		if got = append(got, buf[:n]...); err != nil {
			break
		}
	}
	assert.Equal(t, "abcd", string(got))
}

// FuzzRedirect follows a Location from an endpoint with a user. Whatever it is, TLS is not left, the request is one that our server
// takes, has no line more, and has the user only if it goes to the same host.
func FuzzRedirect(f *testing.F) {
	f.Fuzz(func(t *testing.T, location string, secure bool) {
		cl := &Client{Endpoint: "ws://user:secret@a.test/b/c?d=e"}
		if secure {
			cl.Endpoint = strings.Replace(cl.Endpoint, "ws", "wss", 1)
		}
		from, err := cl.firstHop()
		require.NoError(t, err)
		redirect := &HandshakeError{Status: http.StatusFound, Header: http.Header{"Location": {location}}}
		to, err := from.follow(redirect)
		if err != nil {
			require.NotContains(t, err.Error(), "secret")
			require.ErrorIs(t, err, redirect)
			return
		}
		require.Equal(t, 1, to.redirects)
		require.True(t, isSecure(to.url) || !secure)
		require.Empty(t, to.url.Fragment)
		require.Nil(t, to.web().User)
		request, _, err := appendRequest(nil, resourceName(to.url), hostField(to.url, isSecure(to.url)), cl.offers(to))
		require.NoError(t, err)
		read, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
		require.NoError(t, err)
		_, err = parseTarget(read.RequestURI)
		require.NoError(t, err)
		isOurs := strings.EqualFold(to.url.Hostname(), "a.test") && to.url.Port() == from.url.Port() ||
			strings.EqualFold(to.url.Host, "a.test:443") && !secure && isSecure(to.url)
		_, password, ok := read.BasicAuth()
		require.Equal(t, isOurs, ok)
		require.True(t, !ok || password == "secret")

		tunnel := appendConnect(nil, to.url, url.UserPassword("proxy", "secret"))
		read, err = http.ReadRequest(bufio.NewReader(bytes.NewReader(tunnel)))
		require.NoError(t, err)
		require.Len(t, read.Header, 1)
	})
}
