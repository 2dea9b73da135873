package interop

import (
	"bufio"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// TestProxyProtocol has proxies tell the server who its clients are: one at a time, since HAProxy would share a port with another one.
func TestProxyProtocol(t *testing.T) {
	for _, way := range []struct {
		name  string
		proxy proxy
		edits []string
	}{
		{"HAProxy with send-proxy", haproxy, []string{" check\n", " check send-proxy\n"}},
		{"HAProxy with send-proxy-v2", haproxy, []string{" check\n", " check send-proxy-v2\n"}},
		{"HAProxy with TLVs", haproxy, []string{" check\n", " check send-proxy-v2 proxy-v2-options crc32c,unique-id\n", "\tbind", "\tunique-id-format %rt-%pid\n\tbind"}},
		{"nginx with proxy_protocol", nginxStream, nil},
		{"Varnish with version 1", varnish, []string{`.port = "9090";`, `.port = "9090"; .proxy_header = 1;`}},
		{"Varnish with version 2", varnish, []string{`.port = "9090";`, `.port = "9090"; .proxy_header = 2;`}},
		{"stunnel with protocol = proxy", stunnel, []string{";protocol = proxy", "protocol = proxy"}},
	} {
		t.Run(way.name, func(t *testing.T) {
			opts := &websocket.ServerOptions{ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, MaxConnectionsPerAddress: 1 << 10}
			ended := make(chan websocket.ConnInfo, 16)
			opts.OnClose = func(info websocket.ConnInfo, _ websocket.CloseCause) { ended <- info }
			url, accepted := startOurs(t, opts)
			address := way.proxy.start(t, host(url), way.edits...)
			for range 3 {
				c := way.proxy.dial(t, address)
				io.WriteString(c, openingRequest)
				in := bufio.NewReader(c)
				answer, err := http.ReadResponse(in, nil)
				require.NoError(t, err)
				require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
				side := accept(t, accepted)
				require.NoError(t, side.send(text, []byte("hello")))
				want := websocket.NewFrameText(false, []byte("hello"))
				got := make([]byte, len(want))
				_, err = io.ReadFull(in, got)
				require.NoError(t, err)
				assert.Equal(t, want, got)
				c.Write(websocket.NewFrameClose(true, 1000, nil))
				select {
				case info := <-ended:
					assert.Equal(t, c.LocalAddr().String(), info.RemoteAddr.String())
				case <-time.After(deadline):
					require.FailNow(t, "the connection does not end")
				}
			}
		})
	}
}
