//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// tlsPage is page, which also says over what it was asked.
func tlsPage() http.Handler {
	inner := page()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			w.Header().Set("X-TLS", fmt.Sprintf("%s %s %t", r.TLS.ServerName, tls.VersionName(r.TLS.Version), r.TLS.HandshakeComplete))
		}
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Remote", r.RemoteAddr)
		inner.ServeHTTP(w, r)
	})
}

const getPage = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"

func TestTLS_handler(t *testing.T) {
	states := make(chan *tls.ConnectionState, 64)
	s := peer.Start(t, secure(websocket.ServerOptions{ConnectPath: "/ws", HandleText: peer.Echo, Handler: tlsPage(),
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			states <- req.TLS
			return nil, nil
		}}))
	upgrade := strings.Replace(peer.Request, "GET / ", "GET /ws ", 1)
	bothVersions(t, func(t *testing.T, version uint16) {
		dial := func(t *testing.T) *peer.Conn {
			return dialWith(t, s, clientWith(func(config *tls.Config) { config.MaxVersion = version }))
		}
		want := fmt.Sprintf("%s %s true", peer.ServerName, tls.VersionName(version))
		t.Run("pages, and a connection that becomes one of WebSocket after them", func(t *testing.T) {
			c := dial(t)
			for range 3 {
				c.Send([]byte(getPage))
				res := asked(t, c, "GET", "/page", "")
				assert.Equal(t, want, res.Header.Get("X-TLS"))
				assert.Equal(t, c.LocalAddr().String(), res.Header.Get("X-Remote"))
			}
			c.Send([]byte(upgrade + string(websocket.NewFrameText(true, []byte("early")))))
			accepted(t, c)
			require.Equal(t, version, peer.Get(t, states).Version)
			c.ExpectText("early")
			large := peer.Pattern(100_000, 1)
			go c.Write(websocket.NewFrameText(true, large))
			c.ExpectText(string(large))
			c.Send(websocket.NewFrameClose(true, 4001, nil))
			c.ExpectClose(4001)
		})
		t.Run("one of WebSocket from the start", func(t *testing.T) {
			c := dial(t)
			c.Send([]byte(upgrade))
			accepted(t, c)
			require.Equal(t, peer.ServerName, peer.Get(t, states).ServerName)
			c.Text("x")
			c.ExpectText("x")
		})
		t.Run("a body of 1 MiB, in one piece with the next request", func(t *testing.T) {
			c, body := dial(t), string(peer.Pattern(1<<20, 1))
			go io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n"+body+getPage)
			asked(t, c, "POST", "/", body)
			asked(t, c, "GET", "/page", "")
		})
		t.Run("a request in pieces of one byte", func(t *testing.T) {
			c := s.DialPlain(t)
			c.Conn = &peer.CutConn{Conn: c.Conn, Size: 1}
			c.Secure(clientWith(func(config *tls.Config) { config.MaxVersion = version }))
			c.Send([]byte(getPage + getPage))
			asked(t, c, "GET", "/page", "")
			asked(t, c, "GET", "/page", "")
		})
		t.Run("StatusPath, and an answer that ends the connection with close_notify", func(t *testing.T) {
			c := dial(t)
			c.Send([]byte("GET /ws/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
			status, _, body := c.Answer()
			require.Contains(t, status, "200")
			require.Equal(t, "OK", body)
		})
		t.Run("a handler that panics, and one that takes the connection over", func(t *testing.T) {
			c := dial(t)
			c.Send([]byte("GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n"))
			require.NoError(t, c.ReadToEnd())
			c = dial(t)
			c.Send([]byte("GET /hijack HTTP/1.1\r\nHost: localhost\r\n\r\n"))
			mine := make([]byte, 4)
			_, err := io.ReadFull(c.Reader, mine)
			require.NoError(t, err)
			require.Equal(t, "mine", string(mine))
		})
	})
	for _, protocols := range []struct {
		offers []string
		want   string
	}{{[]string{"h2", "http/1.1"}, "h2"}, {[]string{"h2"}, "h2"}, {[]string{"http/1.1"}, "http/1.1"}, {nil, ""}} {
		t.Run(fmt.Sprintf("a client that offers %q gets %q", protocols.offers, protocols.want), func(t *testing.T) {
			c := dialWith(t, s, clientWith(func(config *tls.Config) { config.NextProtos = protocols.offers }))
			require.NoError(t, c.Handshake())
			require.Equal(t, protocols.want, c.TLS().ConnectionState().NegotiatedProtocol)
		})
	}
}

// httpClient is a client of net/http for the server.
func httpClient(t *testing.T, h2 bool) *http.Client {
	transport := &http.Transport{TLSClientConfig: peer.ClientTLS(), ForceAttemptHTTP2: h2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: peer.Wait}
}

func TestTLS_http2(t *testing.T) {
	opts := secure(websocket.ServerOptions{ConnectPath: "/ws", HandleText: peer.Echo, Handler: tlsPage()})
	s := peer.Start(t, opts)
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto+": many pages at a time", func(t *testing.T) {
			client := httpClient(t, proto == "HTTP/2.0")
			defer client.CloseIdleConnections()
			body := string(peer.Pattern(100_000, 1))
			peer.All(t, 50, func(i int) error {
				res, err := client.Post(fmt.Sprintf("https://%s/page/%d", s.Address, i), "text/plain", strings.NewReader(body))
				if err != nil {
					return err
				}
				defer res.Body.Close()
				got, err := io.ReadAll(res.Body)
				switch {
				case err != nil:
					return err
				case string(got) != body || res.Proto != proto || res.Header.Get("X-Proto") != proto:
					return fmt.Errorf("%d bytes over %s, and the handler saw %s", len(got), res.Proto, res.Header.Get("X-Proto"))
				case res.Header.Get("X-Asked") != fmt.Sprintf("POST /page/%d", i) || res.Header.Get("X-TLS") != "localhost TLS 1.3 true":
					return fmt.Errorf("asked %s over %s", res.Header.Get("X-Asked"), res.Header.Get("X-TLS"))
				}
				return nil
			})
		})
	}
	t.Run("beside connections of WebSocket, which Stop ends with the others", func(t *testing.T) {
		client := httpClient(t, true)
		c := s.Dial(t)
		c.Send([]byte(strings.Replace(peer.Request, "GET / ", "GET /ws ", 1)))
		accepted(t, c)
		res, err := client.Get("https://" + s.Address + "/page")
		require.NoError(t, err)
		res.Body.Close()
		c.Text("x")
		c.ExpectText("x")
		left := c.Leave()
		s.StopAndWait(t)
		peer.Done(t, left)
		_, err = client.Get("https://" + s.Address + "/page")
		require.Error(t, err)
	})
}

// TestStreamsHaveTheirPlaces has streams come and go on one connection of the server's own listener: each is counted, in and out.
func TestStreamsHaveTheirPlaces(t *testing.T) { runOfHTTP2(t, "TestStreamsHaveTheirPlacesOfHTTP2") }

func TestStreamsHaveTheirPlacesOfHTTP2(t *testing.T) {
	onlyOfHTTP2(t)
	opts := secure(websocket.ServerOptions{HandleText: peer.Echo, Handler: http.NotFoundHandler(), MaxConnections: 3})
	s := peer.Start(t, opts)
	m := &mount{Server: s.Server, network: "tcp", address: s.Addr().String()}
	asks := slices.Clone(streamHandshake)
	asks[3] = ":path=/"
	c, st := openStream(t, m)
	for range 10 {
		require.NoError(t, st.ask(asks...))
		c.Text("x")
		c.ExpectText("x")
		require.NoError(t, st.CloseWrite())
		c.Reader.ReadByte()
		require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 0 }))
	}
	in := 0
	for range 12 {
		c := s.DialPlain(t)
		c.Secure(peer.ClientTLS())
		if c.Shake() == nil {
			in++
		}
	}
	assert.LessOrEqual(t, in, 2, "net/http has one of the three")
}
