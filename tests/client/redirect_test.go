package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// web plays all servers of all names: those with the ports 443 and 8443 speak TLS.
type web struct {
	t             *testing.T
	plain, secure net.Listener

	mu     sync.Mutex
	answer func(w *visit)
	visits []string // "ws://host/path", and what shows who the client is
}

// visit is an opening handshake that a server of the web has got.
type visit struct {
	*http.Request
	conn net.Conn
	at   string // "ws://host/path"
}

// startWeb starts the servers. Where pages have a server's answer for a URL, without the empty line, that is the answer; other handshakes
// are accepted.
func startWeb(t *testing.T, pages map[string]string) *web {
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return ln
	}
	w := &web{t: t, plain: listen(), secure: tls.NewListener(listen(), &tls.Config{Certificates: []tls.Certificate{peer.CertificateECDSA()}})}
	w.answer = func(v *visit) {
		if answer, ok := pages[v.at]; ok {
			io.WriteString(v.conn, answer+"\r\n")
		} else {
			v.accept("")
		}
	}
	var ends sync.WaitGroup
	for scheme, ln := range map[string]net.Listener{"ws": w.plain, "wss": w.secure} {
		ends.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				ends.Go(func() { w.serve(conn, scheme) })
			}
		})
	}
	t.Cleanup(func() {
		w.plain.Close()
		w.secure.Close()
		ends.Wait()
	})
	return w
}

func (w *web) serve(conn net.Conn, scheme string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	request, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	v := &visit{request, conn, scheme + "://" + request.Host + request.RequestURI}
	said := v.at
	for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		if values := request.Header[name]; values != nil {
			said += " " + name + "=" + strings.Join(values, "|")
		}
	}
	w.mu.Lock()
	w.visits = append(w.visits, said)
	answer := w.answer
	w.mu.Unlock()
	answer(v)
	io.Copy(io.Discard, in)
}

// answers sets how the servers answer from now on.
func (w *web) answers(answer func(*visit)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// forget forgets the visits.
func (w *web) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.visits = nil
}

// accept opens the connection, with more lines in the answer.
func (v *visit) accept(more string) {
	io.WriteString(v.conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
		peer.AcceptKey([]byte(v.Header.Get("Sec-WebSocket-Key")))+"\r\n"+more+"\r\n")
}

// client returns a client whose names are all those of the web.
func (w *web) client(endpoint string) *websocket.Client {
	cl := &websocket.Client{Endpoint: endpoint, Proxy: http.ProxyURL(nil), TLSConfig: &tls.Config{RootCAs: peer.Trust(), ServerName: peer.ServerName},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ln := w.plain
			if strings.HasSuffix(address, "443") {
				ln = w.secure
			}
			return new(net.Dialer).DialContext(ctx, network, ln.Addr().String())
		}}
	w.t.Cleanup(cl.Quit)
	return cl
}

// visited returns what the servers have got.
func (w *web) visited() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.visits
}

// moved is an answer that redirects.
func moved(status int, location string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\nLocation: %s\r\nContent-Length: 0\r\n", status, location)
}

func TestClient_redirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprintf("status %d is followed", status), func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			w := startWeb(t, map[string]string{"ws://a.test/": moved(status, "/b")})
			cl := w.client("ws://a.test/")
			require.NoError(t, cl.Connect())
			assert.Equal(t, []string{"ws://a.test/", "ws://a.test/b"}, w.visited())
			assert.Equal(t, "ws://a.test/", cl.Endpoint, "it is the program's")
			assert.NoError(t, cl.SendText([]byte("hello")))
		})
	}
	for _, test := range []struct{ name, from, location, to string }{
		{"the root", "ws://a.test/b/c?d=e", "/", "ws://a.test/"},
		{"a path beside it", "ws://a.test/b/c?d=e", "f?g=h", "ws://a.test/b/f?g=h"},
		{"a path above it", "ws://a.test/b/c", "../../../f", "ws://a.test/f"},
		{"a query", "ws://a.test/b/c?d=e", "?g=h", "ws://a.test/b/c?g=h"},
		{"another host with the same scheme", "ws://a.test/b", "//b.test/c", "ws://b.test/c"},
		{"another host with the same scheme, TLS", "wss://a.test/b", "//b.test/c", "wss://b.test/c"},
		{"ws", "ws://a.test/", "ws://b.test", "ws://b.test/"},
		{"http", "ws://a.test/", "http://b.test/", "ws://b.test/"},
		{"HTTP", "http://a.test/", "HTTP://B.test/", "ws://B.test/"},
		{"wss", "ws://a.test/", "wss://a.test/", "wss://a.test/"},
		{"https", "ws://a.test:80/", "https://a.test:443/", "wss://a.test/"},
		{"from TLS to TLS", "wss://a.test/", "https://b.test:8443/", "wss://b.test:8443/"},
		{"a fragment, which is left out", "ws://a.test/", "/b?c#d?e", "ws://a.test/b?c"},
		{"a user, who is left out", "ws://a.test/", "ws://user:password@b.test/", "ws://b.test/"},
		{"a malformed user, who is left out as well", "ws://a.test/", "ws://us%3Aer:x%0A@b.test/", "ws://b.test/"},
		{"escapes", "ws://a.test/", "/b%2fc%41;d", "ws://a.test/b%2fc%41;d"},
		{"letters beyond ASCII", "ws://a.test/", "/é \"b\"", "ws://a.test/%C3%A9%20%22b%22"},
		{"bytes beyond UTF-8", "ws://a.test/", "/\xe9", "ws://a.test/%E9"},
		{"an escaped line end", "ws://a.test/", "/%0d%0aX:%20y", "ws://a.test/%0d%0aX:%20y"},
		{"white space around", "ws://a.test/", " \t/b\t ", "ws://a.test/b"},
		{"12,000 bytes", "ws://a.test/", "/" + strings.Repeat("b", 12_000), "ws://a.test/" + strings.Repeat("b", 12_000)},
	} {
		t.Run("a Location may be "+test.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			w := startWeb(t, nil)
			first := true
			w.answers(func(v *visit) {
				if first { // one visit after the other
					first = false
					io.WriteString(v.conn, moved(302, test.location)+"\r\n")
				} else {
					v.accept("")
				}
			})
			require.NoError(t, w.client(test.from).Connect())
			require.Len(t, w.visited(), 2)
			assert.Equal(t, test.to, w.visited()[1])
		})
	}
	for _, test := range []struct{ name, from, location, wrong string }{
		{"from TLS to ws", "wss://a.test/", "ws://a.test:8443/?secret", "from a server with TLS to one without"},
		{"from TLS to http", "https://a.test/", "http://a.test/?secret", "from a server with TLS to one without"},
		{"another scheme", "ws://a.test/", "ftp://a.test/?secret", "not a ws, wss, http or https URL"},
		{"a file", "ws://a.test/", "file:///etc/secret", "not a ws, wss, http or https URL"},
		{"no host", "ws://a.test/", "ws:///secret", "not a ws, wss, http or https URL"},
		{"a scheme without slashes", "ws://a.test/", "wss:secret", "not a ws, wss, http or https URL"},
		{"a malformed host", "ws://a.test/", "ws://secret test/", "malformed URL"},
		{"an international name", "ws://a.test/", "ws://sécret.test/", "not ASCII"},
		{"a malformed port", "ws://a.test/", "ws://user:secret@b.test:x/", "malformed URL"},
		{"port 0", "ws://a.test/", "ws://user:secret@b.test:0/", "port"},
		{"a malformed escape", "ws://a.test/", "/secret%zz", "malformed URL"},
		{"a tab", "ws://a.test/", "/secret\tX", "malformed URL"},
	} {
		t.Run(test.name+" is an error", func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			w := startWeb(t, map[string]string{test.from[:strings.Index(test.from, ":")] + "://a.test/": moved(302, test.location),
				"wss://a.test/": moved(302, test.location)})
			err := w.client(test.from).Connect()
			assert.ErrorContains(t, err, "websocket: redirect (302): ")
			assert.ErrorContains(t, err, test.wrong)
			assert.NotContains(t, err.Error(), "secret")
			assert.Equal(t, test.location, refusedWith(t, err).Header.Get("Location"))
			assert.Nil(t, refusedWith(t, err).Body, "nobody waits for it")
			assert.Len(t, w.visited(), 1)
		})
	}
	for name, answer := range map[string]string{
		"no Location":       "HTTP/1.1 302 x\r\nContent-Length: 2\r\n\r\nhi",
		"an empty Location": "HTTP/1.1 302 x\r\nLocation: \r\nContent-Length: 2\r\n\r\nhi",
		"two Locations":     "HTTP/1.1 302 x\r\nLocation: /b\r\nLocation: /c\r\nContent-Length: 2\r\n\r\nhi",
		"status 300":        "HTTP/1.1 300 x\r\nLocation: /b\r\nContent-Length: 2\r\n\r\nhi",
		"status 305":        "HTTP/1.1 305 x\r\nLocation: /b\r\nContent-Length: 2\r\n\r\nhi",
		"status 201":        "HTTP/1.1 201 x\r\nLocation: /b\r\nContent-Length: 2\r\n\r\nhi",
	} {
		t.Run("an answer with "+name+" is a refusal with a body", func(t *testing.T) {
			w := startWeb(t, map[string]string{"ws://a.test/": answer})
			refused := refusedWith(t, w.client("ws://a.test/").Connect())
			assert.Contains(t, string(refused.Body), "hi")
			assert.Len(t, w.visited(), 1)
		})
	}
	for n, isFollowed := range map[int]bool{9: true, 10: true, 11: false} {
		t.Run(fmt.Sprintf("%d redirects are followed: %t", n, isFollowed), func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			pages := make(map[string]string)
			for i := range n {
				pages[fmt.Sprintf("ws://a.test/%d", i)] = moved(307, fmt.Sprint(i+1))
			}
			w := startWeb(t, pages)
			err := w.client("ws://a.test/0").Connect()
			if isFollowed {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, "more than 10")
				assert.Equal(t, 307, refusedWith(t, err).Status)
			}
			assert.Len(t, w.visited(), min(n, 10)+1)
		})
	}
	t.Run("a loop ends", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, map[string]string{"ws://a.test/": moved(301, "/")})
		assert.ErrorContains(t, w.client("ws://a.test/").Connect(), "more than 10")
	})
	t.Run("a refusal at its end is that server's word", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, map[string]string{"ws://a.test/": moved(302, "//b.test/"), "ws://b.test/": "HTTP/1.1 403 no\r\nContent-Length: 2\r\n\r\nhi"})
		refused := refusedWith(t, w.client("ws://a.test/").Connect())
		assert.Equal(t, 403, refused.Status)
	})
	t.Run("the body of a redirect is not awaited", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, map[string]string{"ws://a.test/": "HTTP/1.1 302 x\r\nLocation: /b\r\nContent-Length: 1000000\r\n"})
		require.NoError(t, w.client("ws://a.test/").Connect())
	})
	t.Run("each handshake has a key of its own, and the program's fields", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, nil)
		keys := make(chan string, 2)
		w.answers(func(v *visit) {
			keys <- v.Header.Get("Sec-WebSocket-Key")
			assert.Equal(t, "https://origin.test", v.Header.Get("Origin"))
			assert.Equal(t, "v1", v.Header.Get("Sec-WebSocket-Protocol"))
			if v.Host == "a.test" {
				io.WriteString(v.conn, moved(302, "//b.test")+"\r\n")
			} else {
				v.accept("Sec-WebSocket-Protocol: v1\r\n")
			}
		})
		cl := w.client("ws://a.test")
		cl.Headers, cl.Subprotocols = http.Header{"Origin": {"https://origin.test"}}, []string{"v1"}
		require.NoError(t, cl.Connect())
		assert.NotEqual(t, peer.Receive(t, keys), peer.Receive(t, keys))
		assert.Equal(t, "v1", cl.Subprotocol())
	})
	t.Run("TLSConfig is for where a redirect leads, each time", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, map[string]string{"ws://a.test/": moved(302, "wss://a.test/b")})
		cl := w.client("ws://a.test/")
		require.NoError(t, cl.Connect())
		assert.Nil(t, cl.TLSConfig)
		cl.Quit()
		require.NoError(t, cl.Connect(), "it was set to nil, as ever, and is known all the same")
		cl.Quit()
		cl.Endpoint = "ws://a.test"
		assert.ErrorContains(t, cl.Connect(), "TLS", "but not for another endpoint")
	})
	for name, end := range connectEnds() {
		t.Run(name+" ends the wait for the second server", func(t *testing.T) {
			peer.CheckGoroutines(t)
			w := startWeb(t, nil)
			waits := make(chan bool, 1)
			w.answers(func(v *visit) {
				if v.Host == "a.test" {
					io.WriteString(v.conn, moved(302, "//b.test")+"\r\n")
				} else {
					waits <- true
				}
			})
			cl := w.client("ws://a.test")
			cl.HandshakeTimeout = time.Hour
			connected := beginConnect(t, cl)
			peer.Receive(t, waits)
			connected.endBy(end)
		})
	}
	t.Run("all servers have one HandshakeTimeout together", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		w := startWeb(t, nil)
		w.answers(func(v *visit) { // 10 of these take longer
			<-time.After(50 * time.Millisecond)
			io.WriteString(v.conn, moved(302, "/")+"\r\n")
		})
		cl := w.client("ws://a.test")
		cl.HandshakeTimeout = 200 * time.Millisecond
		err := cl.Connect()
		assert.Error(t, err)
		assert.NotContains(t, err.Error(), "more than 10")
	})
}

func TestClient_redirectCredentials(t *testing.T) {
	const known = " Authorization=Basic dXNlcjpzZWNyZXQ= Cookie=a=b|c=d Proxy-Authorization=x"
	for _, test := range []struct {
		name string
		urls []string // each redirects to the next one
		keep int      // so many of them get the credentials
	}{
		{"the same host gets them again", []string{"ws://a.test/", "ws://a.test/b", "ws://a.test/c"}, 3},
		{"in any case", []string{"ws://a.test/", "ws://A.TEST/b"}, 2},
		{"with TLS as well", []string{"ws://a.test/", "wss://a.test/", "wss://a.test/b"}, 3},
		{"another port does not", []string{"ws://a.test/", "ws://a.test:81/"}, 1},
		{"another port with TLS neither", []string{"ws://a.test/", "wss://a.test:8443/"}, 1},
		{"nor TLS on the port without", []string{"ws://a.test:81/", "wss://a.test/"}, 1},
		{"another host does not", []string{"ws://a.test/", "ws://b.test/"}, 1},
		{"nor a part of the host", []string{"ws://a.test/", "ws://b.a.test/"}, 1},
		{"nor what it is a part of", []string{"ws://b.a.test/", "ws://a.test/"}, 1},
		{"nor one that ends alike", []string{"ws://a.test/", "ws://ba.test/"}, 1},
		{"nor the first one, if another one has sent us back there", []string{"ws://a.test/", "ws://b.test/", "ws://a.test/b", "ws://a.test/c"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			pages, want := make(map[string]string), []string(nil)
			for i, url := range test.urls {
				if i+1 < len(test.urls) {
					pages[url] = moved(308, test.urls[i+1])
				}
				if i < test.keep {
					url += known
				}
				want = append(want, url)
			}
			w := startWeb(t, pages)
			scheme, rest, _ := strings.Cut(test.urls[0], "://")
			cl := w.client(scheme + "://user:secret@" + rest)
			cl.Headers = http.Header{"cookie": {"a=b", "c=d"}, "PROXY-Authorization": {"x"}}
			require.NoError(t, cl.Connect())
			assert.Equal(t, want, w.visited())
			cl.Quit()

			for i := range want { // the program's own field, in place of the user of the URL
				want[i] = strings.Replace(want[i], "Basic dXNlcjpzZWNyZXQ=", "Bearer x", 1)
			}
			w.forget()
			cl.Endpoint, cl.TLSConfig = test.urls[0], &tls.Config{RootCAs: peer.Trust(), ServerName: peer.ServerName}
			cl.Headers.Set("Authorization", "Bearer x")
			require.NoError(t, cl.Connect())
			assert.Equal(t, want, w.visited())
		})
	}
}
