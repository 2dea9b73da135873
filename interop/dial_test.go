package interop

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gorillaws "github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	socks "golang.org/x/net/proxy"

	"github.com/wsloop/websocket"
)

// talk has our client, with its way to the server, exchange messages of all sizes with a server.
func talk(t *testing.T, client *websocket.Client, accepted <-chan conn) {
	client.MaxMessageSize, client.PingInterval = limit, time.Hour
	theirs, err := dialOurs(client, nil)
	require.NoError(t, err)
	side := accept(t, accepted)
	for _, size := range []int{0, 125, 126, 65535, 65536, limit} {
		deliver(t, theirs, side, binary, sized(binary, size))
		deliver(t, side, theirs, text, sized(text, size))
	}
	require.NoError(t, theirs.close(1000, ""))
	assert.Equal(t, closed, next(t, side).kind)
	assert.Equal(t, closed, next(t, theirs).kind)
}

// socksServer serves SOCKS 5 (RFC 1928) to those who know a user and a password (RFC 1929), and tells the addresses that it is asked for.
func socksServer(t *testing.T, user, password string) (address string, asked <-chan string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	addresses := make(chan string, 16)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serveSOCKS(c, user, password, addresses)
			}()
		}
	}()
	return ln.Addr().String(), addresses
}

func serveSOCKS(c net.Conn, user, password string, asked chan<- string) error {
	in := bufio.NewReader(c)
	part := func() (b []byte) { // a byte that says how many follow
		n, _ := in.ReadByte()
		b = make([]byte, n)
		io.ReadFull(in, b)
		return b
	}
	in.Discard(1)
	if methods := part(); !slices.Contains(methods, 2) {
		_, err := c.Write([]byte{5, 0xFF})
		return err
	}
	c.Write([]byte{5, 2})
	in.Discard(1)
	if string(part()) != user || string(part()) != password {
		_, err := c.Write([]byte{1, 1})
		return err
	}
	c.Write([]byte{1, 0})
	head := make([]byte, 4)
	if io.ReadFull(in, head); head[1] != 1 || head[3] != 3 { // connect to a name
		_, err := c.Write([]byte{5, 7, 0, 1, 0, 0, 0, 0, 0, 0})
		return err
	}
	name, port := part(), make([]byte, 2)
	io.ReadFull(in, port)
	address := net.JoinHostPort(string(name), strconv.Itoa(int(port[0])<<8|int(port[1])))
	asked <- address
	far, err := net.Dial("tcp", strings.Replace(address, "server.test", "127.0.0.1", 1))
	if err != nil {
		c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return err
	}
	defer far.Close()
	c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 0})
	go func() {
		io.Copy(far, in)
		far.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(c, far)
	return err
}

// TestSOCKS has our client go through a SOCKS proxy, by the client of golang.org/x/net.
func TestSOCKS(t *testing.T) {
	t.Parallel()
	address, asked := socksServer(t, "user", "secret")
	through := func(password string) *websocket.Client {
		dialer, err := socks.SOCKS5("tcp", address, &socks.Auth{User: "user", Password: password}, socks.Direct)
		require.NoError(t, err)
		return &websocket.Client{Proxy: http.ProxyURL(nil), DialContext: dialer.(socks.ContextDialer).DialContext}
	}
	for _, s := range []security{plain, tls13AES} {
		for _, server := range []peer{ours, gorilla} {
			t.Run(server.name+", "+s.String(), func(t *testing.T) {
				u, accepted := server.serve(t, s)
				named := strings.Replace(u, "127.0.0.1", "server.test", 1)
				client := through("secret")
				client.Endpoint, client.TLSConfig = named, s.client()
				if client.TLSConfig != nil {
					client.TLSConfig.ServerName = "127.0.0.1"
				}
				talk(t, client, accepted)
				assert.Equal(t, host(named), <-asked, "the name is for the proxy to look up")
			})
		}
	}
	t.Run("a wrong password is an error without it", func(t *testing.T) {
		client := through("Secret")
		client.Endpoint = "ws://server.test"
		err := client.Connect()
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "ecret")
	})
}

// tinyproxy opens tunnels for those who know a user and a password.
var tinyproxy = proxy{name: "tinyproxy", program: "tinyproxy"}

// TestTunnels has our client go through a proxy of HTTP that is in use.
func TestTunnels(t *testing.T) {
	t.Parallel()
	tinyproxy.need(t)
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "tinyproxy.conf")
	require.NoError(t, os.WriteFile(config, []byte("Listen 127.0.0.1\nPort "+port+"\nBasicAuth user secret\nTimeout 60\nMaxClients 20\n"), 0o644))
	r := &running{proxy: tinyproxy, address: address, folder: t.TempDir(), command: []string{"-d", "-c", config}}
	require.True(t, r.run(t))
	through := func(password string) func(*http.Request) (*url.URL, error) {
		return http.ProxyURL(&url.URL{Scheme: "http", Host: address, User: url.UserPassword("user", password)})
	}
	for _, s := range []security{plain, tls13AES, tls12ChaRSA} {
		for _, server := range []peer{ours, gorilla} {
			t.Run(server.name+", "+s.String(), func(t *testing.T) {
				u, accepted := server.serve(t, s)
				talk(t, &websocket.Client{Endpoint: u, Proxy: through("secret"), TLSConfig: s.client()}, accepted)
			})
		}
	}
	t.Run("a wrong password", func(t *testing.T) {
		err := (&websocket.Client{Endpoint: "ws://127.0.0.1:1", Proxy: through("Secret")}).Connect()
		var refused *websocket.ProxyError
		require.ErrorAs(t, err, &refused)
		assert.Contains(t, []int{http.StatusUnauthorized, http.StatusProxyAuthRequired}, refused.Status)
		assert.NotEmpty(t, refused.Body)
		assert.NotContains(t, err.Error(), "ecret")
	})
	t.Run("a server that is not there", func(t *testing.T) {
		err := (&websocket.Client{Endpoint: "ws://" + freeAddress(t), Proxy: through("secret")}).Connect()
		var refused *websocket.ProxyError
		require.ErrorAs(t, err, &refused)
		assert.GreaterOrEqual(t, refused.Status, 500)
	})
}

// TestRedirects has our client follow the redirects of other servers.
func TestRedirects(t *testing.T) {
	t.Parallel()
	t.Run("nginx, to itself and then to a server with TLS", func(t *testing.T) {
		u, accepted := ours.serve(t, tls13AES)
		address := nginx.start(t, host(u), "\t\tlocation / {", `
		location = /old { return 301 /moved?$args; }
		location = /moved { return 308 https://`+host(u)+`/; }
		location / {`)
		talk(t, &websocket.Client{Endpoint: "ws://" + address + "/old?a=b", TLSConfig: tls13AES.client()}, accepted)
	})
	t.Run("net/http and gorilla, which want a cookie", func(t *testing.T) {
		arrivals := make(chan conn, inboxSize)
		mux := http.NewServeMux()
		mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "user" || password != "secret" {
				http.Error(w, "who are you", http.StatusUnauthorized)
				return
			}
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "1", Path: "/", HttpOnly: true})
			http.Redirect(w, r, "chat", http.StatusSeeOther)
		})
		upgrader := gorillaws.Upgrader{WriteBufferSize: gorillaBuffer}
		mux.HandleFunc("/chat", func(w http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie("session"); err != nil {
				http.Redirect(w, r, "/login", http.StatusTemporaryRedirect)
				return
			}
			if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
				arrivals <- newGorillaConn(ws)
			}
		})
		u := startHTTP(t, plain, mux.ServeHTTP)
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		endpoint := strings.Replace(u, "ws://", "ws://user:secret@", 1) + "/chat"
		talk(t, &websocket.Client{Endpoint: endpoint, Jar: jar}, arrivals)

		err = (&websocket.Client{Endpoint: endpoint}).Connect()
		assert.ErrorContains(t, err, "more than 10", "without a jar it goes round in a circle")
		var refused *websocket.HandshakeError
		require.True(t, errors.As((&websocket.Client{Endpoint: u + "/chat"}).Connect(), &refused))
		assert.Equal(t, http.StatusUnauthorized, refused.Status)
		assert.Equal(t, "who are you\n", string(refused.Body))
	})
}
