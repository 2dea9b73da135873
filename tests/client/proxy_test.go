package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// tunnels is a proxy that opens tunnels, all of them to one server, whatever it is asked for.
type tunnels struct {
	url   *url.URL
	asked chan *http.Request
}

// startTunnels starts a proxy, with TLS if there is a configuration for it. It asks everybody for the user, if there is one.
func startTunnels(t *testing.T, server string, config *tls.Config, user *url.Userinfo) *tunnels {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &tunnels{&url.URL{Scheme: "http", Host: ln.Addr().String(), User: user}, make(chan *http.Request, 100)}
	if config != nil {
		p.url.Scheme = "https"
		ln = tls.NewListener(ln, config)
	}
	var ends sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		ends.Wait()
	})
	ends.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			ends.Go(func() { p.serve(conn, server) })
		}
	})
	return p
}

func (p *tunnels) serve(conn net.Conn, server string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	request, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	p.asked <- request
	if password, ok := p.url.User.Password(); ok {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.url.User.Username()+":"+password))
		if request.Header.Get("Proxy-Authorization") != want {
			io.WriteString(conn, "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 5\r\n\r\nknock")
			return
		}
	}
	far, err := net.Dial("tcp", server)
	if err != nil {
		io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer far.Close()
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")
	go func() {
		io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{in}) // not by splice, which some systems emulate slowly
		far.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{far})
}

// toProxy is a Client.Proxy.
func toProxy(u *url.URL) func(*http.Request) (*url.URL, error) { return http.ProxyURL(u) }

func TestClient_proxy(t *testing.T) {
	const name = "server.test" // which nobody can look up
	serverTLS := &tls.Config{Certificates: []tls.Certificate{peer.Certificate(name)}}
	proxyTLS := &tls.Config{Certificates: []tls.Certificate{peer.Certificate("proxy.test")}} // and for 127.0.0.1
	for _, test := range []struct {
		endpoint, asks string
		proxy, server  *tls.Config
	}{
		{"ws://" + name + "/chat", name + ":80", nil, nil},
		{"http://" + name + ":81/", name + ":81", nil, nil},
		{"ws://" + name + "/", name + ":80", proxyTLS, nil},
		{"wss://" + name + "/", name + ":443", nil, serverTLS},
		{"https://" + name + ":444", name + ":444", proxyTLS, serverTLS},
	} {
		t.Run(fmt.Sprintf("%s is reached by a tunnel, through a proxy with TLS: %t", test.endpoint, test.proxy != nil), func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			s := peer.Listen(t)
			p := startTunnels(t, s.Socket.Addr().String(), test.proxy, url.UserPassword("me", "secret:%"))
			if test.server != nil {
				s.Socket = tls.NewListener(s.Socket, test.server)
			}
			texts := make(chan string, 1)
			cl := &websocket.Client{Endpoint: test.endpoint, Proxy: toProxy(p.url), TLSConfig: &tls.Config{RootCAs: peer.Trust()},
				HandleText: func(_ *websocket.Client, f *websocket.Frame) error {
					texts <- string(f.Payload())
					return nil
				}}
			for range 2 { // TLSConfig is set to nil, and needed all the same
				c := s.Open(cl, websocket.NewFrameText(false, []byte("welcome"))...)
				request := peer.Receive(t, p.asked)
				assert.Equal(t, "CONNECT", request.Method)
				assert.Equal(t, test.asks, request.RequestURI)
				assert.Equal(t, test.asks, request.Host)
				assert.Equal(t, http.Header{"Proxy-Authorization": {"Basic bWU6c2VjcmV0OiU="}}, request.Header)
				assert.Empty(t, c.Request.Header["Proxy-Authorization"], "that is not for the server")
				assert.Equal(t, "welcome", peer.Receive(t, texts))
				big := peer.Pattern(1<<20, 0)
				sent := make(chan error, 1)
				go func() { sent <- cl.SendText(big) }()
				for got := 0; got < len(big); {
					f, err := peer.ReadFrame(c.In)
					require.NoError(t, err)
					got += len(f.Payload)
				}
				require.NoError(t, peer.Receive(t, sent))
				closed := make(chan error, 1)
				go func() { closed <- cl.Close() }()
				c.ReadClose()
				c.Send(websocket.NewFrameClose(false, websocket.StatusNormal, nil))
				c.Conn.Close()
				assert.NoError(t, peer.Receive(t, closed))
			}
		})
	}
	t.Run("a name that TLSConfig has for the server is not that of the proxy", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		p := startTunnels(t, s.Socket.Addr().String(), proxyTLS, nil)
		s.Socket = tls.NewListener(s.Socket, serverTLS)
		config := &tls.Config{RootCAs: peer.Trust(), ServerName: name}
		s.Open(&websocket.Client{Endpoint: "wss://192.0.2.1", Proxy: toProxy(p.url), TLSConfig: config})
		assert.Equal(t, "192.0.2.1:443", peer.Receive(t, p.asked).RequestURI)
	})
	t.Run("a proxy whose certificate is not trusted is an error", func(t *testing.T) {
		peer.CheckGoroutines(t)
		p := startTunnels(t, "", proxyTLS, nil)
		cl := &websocket.Client{Endpoint: "ws://" + name, Proxy: toProxy(p.url)}
		assert.ErrorContains(t, cl.Connect(), "proxy: TLS: ")
		assert.Empty(t, p.asked)
	})
	for endpoint, want := range map[string]string{
		"ws://[::1]:8080/":               "[::1]:8080",
		"ws://[fe80::1%25eth0]/":         "[fe80::1]:80",
		"wss://EXAMPLE.test./":           "EXAMPLE.test.:443",
		"ws://user:password@a.test:009/": "a.test:9",
	} {
		t.Run("the tunnel for "+endpoint+" is to "+want, func(t *testing.T) {
			peer.CheckGoroutines(t)
			p := startTunnels(t, "127.0.0.1:0", nil, nil)
			err := (&websocket.Client{Endpoint: endpoint, Proxy: toProxy(p.url)}).Connect()
			var refused *websocket.ProxyError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, 502, refused.Status)
			request := peer.Receive(t, p.asked)
			assert.Equal(t, want, request.RequestURI)
			assert.Equal(t, want, request.Host)
			assert.Empty(t, request.Header)
		})
	}
}

// TestClient_chooseProxy has what a Proxy is asked, and what its answer means.
func TestClient_chooseProxy(t *testing.T) {
	for endpoint, want := range map[string]string{
		"ws://a.test":                   "http://a.test/",
		"http://a.test:80/b?c=d":        "http://a.test/b?c=d",
		"ws://user:secret@a.test:443/b": "http://a.test:443/b",
		"wss://a.test":                  "https://a.test/",
		"https://a.test:443/b%2Fc":      "https://a.test/b%2Fc",
		"wss://[::1]:80":                "https://[::1]:80/",
	} {
		t.Run("it is asked for "+want+" if the endpoint is "+endpoint, func(t *testing.T) {
			no := errors.New("no")
			var asked *http.Request
			cl := &websocket.Client{Endpoint: endpoint, Headers: http.Header{"X-Y": {"z"}}, Proxy: func(request *http.Request) (*url.URL, error) {
				asked = request
				return nil, no
			}}
			assert.ErrorIs(t, cl.Connect(), no)
			assert.Equal(t, want, asked.URL.String())
			assert.Equal(t, asked.URL.Host, asked.Host)
			assert.Equal(t, "GET", asked.Method)
			assert.Equal(t, "z", asked.Header.Get("X-Y"))
			assert.Error(t, asked.Context().Err(), "it has ended with the Connect")
		})
	}
	t.Run("no URL is no proxy", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.Open(t, &websocket.Client{Proxy: toProxy(nil)})
	})
	t.Run("one that panics is logged and an error, and Connect may be called again", func(t *testing.T) {
		peer.CheckGoroutines(t)
		logs := make(chan string, 1)
		cl := &websocket.Client{Endpoint: "ws://a.test", Logger: slog.New(peer.LogFunc(func(_ string, attrs map[string]slog.Value) { logs <- attrs["panic"].String() })), Proxy: func(*http.Request) (*url.URL, error) { panic("oh no") }}
		assert.ErrorContains(t, cl.Connect(), "panicked")
		assert.Contains(t, peer.Receive(t, logs), "oh no")
		cl.Endpoint, cl.Proxy = "", toProxy(nil)
		peer.Open(t, cl)
	})
	for _, test := range []struct{ proxy, wrong string }{
		{"socks5://user:secret@127.0.0.1:1080", "DialContext"},
		{"SOCKS5H://127.0.0.1:1080", "DialContext"},
		{"ftp://127.0.0.1", "proxy: not an http or https URL"},
		{"//127.0.0.1:80", "proxy: not an http or https URL"},
		{"http:secret", "proxy: not an http or https URL"},
		{"http://:80", "proxy: not an http or https URL"},
		{"http://user:secret@127.0.0.1:0", "proxy: port"},
		{"http://user:secret@bücher.example", "proxy: host is not ASCII"},
		{"http://us%3Aer:secret@127.0.0.1", "proxy: user name has a colon"},
		{"http://user:secret%0A@127.0.0.1", "proxy: user name has a colon"},
	} {
		t.Run(test.proxy+" is an error, and nobody is asked", func(t *testing.T) {
			u, err := url.Parse(test.proxy)
			require.NoError(t, err)
			err = (&websocket.Client{Endpoint: "ws://192.0.2.1", Proxy: toProxy(u)}).Connect()
			assert.ErrorContains(t, err, test.wrong)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
	t.Run("a host with line ends adds no line to the request", func(t *testing.T) {
		err := (&websocket.Client{Endpoint: "ws://192.0.2.1", Proxy: toProxy(&url.URL{Scheme: "http", Host: "a.test\r\nX"})}).Connect()
		assert.ErrorContains(t, err, "proxy: malformed host")
	})
}

func TestClient_proxyAnswer(t *testing.T) {
	// Ask has a client ask a proxy that is played by hand.
	ask := func(t *testing.T, cl *websocket.Client) (proxy *peer.Script, connected <-chan error) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		s := peer.Listen(t)
		cl.Endpoint = "ws://a.test"
		cl.Proxy = toProxy(&url.URL{Scheme: "http", Host: s.Socket.Addr().String(), User: url.UserPassword("user", "secret")})
		connected = peer.Connect(cl)
		return s.Accept(), connected
	}
	for name, answer := range map[string]string{
		"200":                             "HTTP/1.1 200 OK\r\n\r\n",
		"no reason":                       "HTTP/1.1 200\r\n\r\n",
		"HTTP/1.0":                        "HTTP/1.0 200 Connection established\r\n\r\n",
		"another status of success":       "HTTP/1.1 299 x\r\n\r\n",
		"interim answers":                 "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"a length, which means nothing":   "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
		"chunks, which mean nothing":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a close, which means nothing":    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
		"fields that are folded":          "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
		"fields that are not well formed": "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
	} {
		t.Run("a tunnel is opened by "+name, func(t *testing.T) {
			cl := new(websocket.Client)
			c, connected := ask(t, cl)
			c.Send([]byte(answer))
			c.ReadRequest()
			c.Send(c.Answer())
			require.NoError(t, peer.Receive(t, connected))
			assert.Equal(t, "a.test", c.Request.Host)
			cl.Quit()
		})
	}
	t.Run("what comes right behind the proxy's answer is the server's", func(t *testing.T) {
		cl := new(websocket.Client)
		c, connected := ask(t, cl)
		c.Send([]byte("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Pro"))
		c.ReadRequest()
		c.Send([]byte(strings.TrimPrefix(string(c.Answer()), "HTTP/1.1 101 Switching Pro")))
		require.NoError(t, peer.Receive(t, connected))
		cl.Quit()
	})
	for name, test := range map[string]struct {
		answer string
		want   websocket.ProxyError
	}{
		"a user is asked for": {"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nhi there",
			websocket.ProxyError{Status: 407, Reason: "Proxy Authentication Required", Header: http.Header{"Proxy-Authenticate": {"Basic realm=x"}, "Content-Length": {"2"}}, Body: []byte("hi")}},
		"the server is not allowed": {"HTTP/1.0 403\r\n\r\nno",
			websocket.ProxyError{Status: 403, Header: http.Header{}, Body: []byte("no")}},
		"a redirect is not followed": {"HTTP/1.1 302 Found\r\nLocation: ws://b.test/\r\nContent-Length: 0\r\n\r\n",
			websocket.ProxyError{Status: 302, Reason: "Found", Header: http.Header{"Location": {"ws://b.test/"}, "Content-Length": {"0"}}, Body: []byte{}}},
		"an upgrade is none": {"HTTP/1.1 101 x\r\n\r\n", websocket.ProxyError{Status: 101, Reason: "x", Header: http.Header{}, Body: []byte{}}},
		"malformed fields are left out": {"HTTP/1.1 504 x\r\nnonsense\r\nContent-Length: 0\r\n\r\n",
			websocket.ProxyError{Status: 504, Reason: "x", Body: []byte{}}},
	} {
		t.Run("a refusal is shown to the program: "+name, func(t *testing.T) {
			c, connected := ask(t, new(websocket.Client))
			c.Send([]byte(test.answer))
			c.Conn.Close()
			err := peer.Receive(t, connected)
			var refused *websocket.ProxyError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, &test.want, refused)
			assert.ErrorContains(t, err, fmt.Sprintf("websocket: proxy refused: %d", test.want.Status))
			var ofServer *websocket.HandshakeError
			assert.NotErrorAs(t, err, &ofServer, "it is not the server's word")
		})
	}
	for name, test := range map[string]struct{ answer, wrong string }{
		"another protocol":                {"SSH-2.0-x\r\n\r\n", "malformed status line"},
		"another version":                 {"HTTP/2 200 OK\r\n\r\n", "malformed status line"},
		"a status that is none":           {"HTTP/1.1 2x0 OK\r\n\r\n", "malformed status"},
		"control characters":              {"HTTP/1.1 200 \x1b[2J\r\n\r\n", "malformed status line"},
		"lines without CR":                {"HTTP/1.1 200 OK\n\n", "invalid Header"},
		"a head above the limit":          {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 1000) + "\r\n\r\n", "too large"},
		"more fields than the limit":      {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 11) + "\r\n", "too large"},
		"interim answers above the limit": {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 17) + "HTTP/1.1 200 OK\r\n\r\n", "proxy refused: 100"},
		"an end in the middle":            {"HTTP/1.1 200 OK\r\nX: y\r\n", "no complete answer"},
		"nothing":                         {"", "no complete answer"},
	} {
		t.Run("an answer with "+name+" is an error", func(t *testing.T) {
			c, connected := ask(t, &websocket.Client{MaxHeaderSize: 1000, MaxHeaderFields: 10})
			c.Send([]byte(test.answer))
			c.Conn.Close()
			err := peer.Receive(t, connected)
			assert.ErrorContains(t, err, test.wrong)
			assert.ErrorContains(t, err, "websocket: proxy")
			assert.NotContains(t, err.Error(), "secret")
			assert.NotContains(t, err.Error(), base64.StdEncoding.EncodeToString([]byte("user:secret")))
			assert.NotContains(t, err.Error(), "\x1b")
		})
	}
	for name, end := range connectEnds() {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+" ends the wait for a proxy with "+scheme, func(t *testing.T) {
				peer.CheckGoroutines(t)
				s := peer.Listen(t)
				cl := &websocket.Client{Endpoint: "ws://a.test", HandshakeTimeout: time.Hour, Proxy: toProxy(&url.URL{Scheme: scheme, Host: s.Socket.Addr().String()})}
				connected := beginConnect(t, cl)
				conn, err := s.Socket.Accept()
				require.NoError(t, err)
				defer conn.Close()
				_, err = io.ReadFull(conn, make([]byte, 10)) // it has begun to ask
				require.NoError(t, err)
				connected.endBy(end)
			})
		}
	}
	for _, scheme := range []string{"http", "https"} {
		t.Run("a proxy with "+scheme+" that says nothing is not awaited beyond HandshakeTimeout", func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			s := peer.Listen(t)
			cl := &websocket.Client{Endpoint: "ws://a.test", HandshakeTimeout: 50 * time.Millisecond, Proxy: toProxy(&url.URL{Scheme: scheme, Host: s.Socket.Addr().String()})}
			var timeout net.Error // on a busy machine the dialer's
			require.ErrorAs(t, cl.Connect(), &timeout)
			assert.True(t, timeout.Timeout())
		})
	}
	t.Run("a proxy that cannot be reached is an error that says so", func(t *testing.T) {
		s := peer.Listen(t)
		s.Socket.Close()
		cl := &websocket.Client{Endpoint: "ws://a.test", Proxy: toProxy(&url.URL{Scheme: "http", Host: s.Socket.Addr().String(), User: url.UserPassword("user", "secret")})}
		err := cl.Connect()
		assert.ErrorContains(t, err, "connect: proxy: ")
		assert.NotContains(t, err.Error(), "secret")
	})
}

// proxyEnvironment says, in the environment of a process that TestClient_proxyEnvironment starts, what it connects to.
const proxyEnvironment = "CLIENT_TEST_PROXY_ENDPOINT"

// TestClient_proxyEnvironment runs itself in other processes, which tell what they would dial: net/http reads the environment once.
func TestClient_proxyEnvironment(t *testing.T) {
	if endpoint := os.Getenv(proxyEnvironment); endpoint != "" {
		cl := &websocket.Client{Endpoint: endpoint, DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			return nil, errors.New("to " + address)
		}}
		fmt.Println(cl.Connect())
		return
	}
	const proxy = "=http://user:secret@proxy.test:3128"
	for _, test := range []struct {
		name, endpoint string
		environment    []string
		want           string
	}{
		{"HTTP_PROXY is for ws", "ws://a.test", []string{"HTTP_PROXY" + proxy}, "connect: proxy: to proxy.test:3128"},
		{"and not for wss", "wss://a.test", []string{"HTTP_PROXY" + proxy}, "connect: to a.test:443"},
		{"HTTPS_PROXY is for wss", "wss://a.test", []string{"HTTPS_PROXY" + proxy}, "connect: proxy: to proxy.test:3128"},
		{"and not for ws", "ws://a.test", []string{"HTTPS_PROXY" + proxy}, "connect: to a.test:80"},
		{"small letters do as well", "https://a.test", []string{"https_proxy" + proxy}, "connect: proxy: to proxy.test:3128"},
		{"the port is that of the scheme", "ws://a.test", []string{"HTTP_PROXY=https://proxy.test"}, "connect: proxy: to proxy.test:443"},
		{"no scheme is http", "ws://a.test", []string{"HTTP_PROXY=proxy.test"}, "connect: proxy: to proxy.test:80"},
		{"NO_PROXY takes out a domain", "wss://b.a.test:1", []string{"HTTPS_PROXY" + proxy, "NO_PROXY=.a.test"}, "connect: to b.a.test:1"},
		{"NO_PROXY takes out a host with the default port", "ws://a.test", []string{"HTTP_PROXY" + proxy, "NO_PROXY=a.test:80"}, "connect: to a.test:80"},
		{"and not with another one", "ws://a.test", []string{"HTTP_PROXY" + proxy, "NO_PROXY=a.test:443"}, "connect: proxy: to proxy.test:3128"},
		{"what is on this machine needs no proxy", "ws://127.0.0.1:99", []string{"HTTP_PROXY" + proxy}, "connect: to 127.0.0.1:99"},
		{"a proxy of SOCKS is an error that says what to do", "ws://a.test", []string{"HTTP_PROXY=socks5://user:secret@proxy.test"}, "proxy: SOCKS is not spoken here: set Client.DialContext"},
		{"a malformed one is none", "ws://a.test", []string{"HTTP_PROXY=http://user:secret%zz@proxy.test"}, "connect: to a.test:80"},
		{"a CGI program takes no proxy from its client", "ws://a.test", []string{"HTTP_PROXY" + proxy, "REQUEST_METHOD=GET"}, "proxy: refusing to use HTTP_PROXY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestClient_proxyEnvironment$", "-test.count=1")
			for _, pair := range os.Environ() {
				if name, _, _ := strings.Cut(pair, "="); !strings.HasSuffix(strings.ToUpper(name), "_PROXY") && name != "REQUEST_METHOD" {
					cmd.Env = append(cmd.Env, pair)
				}
			}
			cmd.Env = append(append(cmd.Env, proxyEnvironment+"="+test.endpoint, "GORACE=atexit_sleep_ms=0"), test.environment...)
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err)
			assert.Contains(t, string(out), "websocket: "+test.want)
			assert.NotContains(t, string(out), "secret")
		})
	}
}
