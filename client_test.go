package websocket

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

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
			u, secure, err := cl.endpoint()
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

func TestClient_request(t *testing.T) {
	t.Run("the zero client with an endpoint opens a connection", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		s := scriptedListen(t)
		cl := &Client{Endpoint: s.endpoint() + "chat/room?user=7&x=%20"}
		c := s.open(cl)
		assert.Equal(t, "GET", c.request.Method)
		assert.Equal(t, "/chat/room?user=7&x=%20", c.request.RequestURI)
		assert.Equal(t, "HTTP/1.1", c.request.Proto)
		assert.Equal(t, s.ln.Addr().String(), c.request.Host)
		assert.Equal(t, "websocket", c.request.Header.Get("Upgrade"))
		assert.Equal(t, "Upgrade", c.request.Header.Get("Connection"))
		assert.Equal(t, "13", c.request.Header.Get("Sec-WebSocket-Version"))
		assert.Len(t, c.request.Header.Get("Sec-WebSocket-Key"), keyLength)
		assert.Equal(t, "Upgrade", cl.Response().Get("Connection"))
		assert.NoError(t, cl.Err())
	})
	t.Run("each handshake has a key of its own", func(t *testing.T) {
		checkGoroutines(t)
		s, cl := scriptedListen(t), new(Client)
		first := s.open(cl).request.Header.Get("Sec-WebSocket-Key")
		cl.Quit()
		second := s.open(cl).request.Header.Get("Sec-WebSocket-Key")
		assert.NotEqual(t, first, second)
	})
	t.Run("headers are sent without the five that belong to the handshake, and the map is not changed", func(t *testing.T) {
		checkGoroutines(t)
		headers := http.Header{
			"Origin": {"https://example.com"}, "X-Token": {"a", "b"}, "lower-case": {"c"},
			"Host": {"evil"}, "upgrade": {"evil"}, "CONNECTION": {"evil"}, "Sec-Websocket-Key": {"evil"}, "sec-webSocket-Version": {"evil"},
		}
		before := headers.Clone()
		c := scriptedOpen(t, &Client{Headers: headers})
		assert.Equal(t, before, headers)
		assert.Equal(t, []string{"https://example.com"}, c.request.Header["Origin"])
		assert.Equal(t, []string{"a", "b"}, c.request.Header["X-Token"])
		assert.Equal(t, []string{"c"}, c.request.Header["Lower-Case"])
		for _, name := range []string{"Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
			assert.Len(t, c.request.Header[name], 1, name)
			assert.NotContains(t, c.request.Header[name], "evil")
		}
		assert.NotEqual(t, "evil", c.request.Host)
	})
	for name, headers := range map[string]http.Header{
		"a header value with a line break is refused": {"X-Token": {"a\r\nX-Evil: b"}},
		"a header name with a space is refused":       {"X Token": {"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			checkDescriptors(t)
			cl := &Client{Endpoint: scriptedListen(t).endpoint(), Headers: headers}
			assert.ErrorContains(t, cl.Connect(), "header field")
		})
	}
	t.Run("the default port is left out of Host", func(t *testing.T) {
		for endpoint, host := range map[string]string{
			"ws://example.com/": "example.com", "http://[::1]:80": "[::1]", "wss://example.com:443": "example.com",
			"https://example.com:80": "example.com:80", "ws://example.com:443": "example.com:443",
		} {
			cl := &Client{Endpoint: endpoint}
			u, _, err := cl.endpoint()
			require.NoError(t, err)
			client, server := net.Pipe()
			l := newLink(cl)
			l.conn = client
			done := make(chan error, 1)
			go func() {
				_, err := cl.shakeHands(l, u)
				done <- err
			}()
			request, err := http.ReadRequest(bufio.NewReader(server))
			require.NoError(t, err)
			assert.Equal(t, host, request.Host)
			server.Close()
			assert.Error(t, scriptedWait(t, done))
		}
	})
}

// accepted is the answer that accepts a key, with the fields changed: an empty value leaves one out.
func accepted(key string, changes ...string) string {
	fields := map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": acceptKey([]byte(key))}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\n"
	for name, value := range fields {
		if value != "" {
			answer += name + ": " + value + "\r\n"
		}
	}
	return answer + "\r\n"
}

func TestClient_answer(t *testing.T) {
	offers := http.Header{"Sec-Websocket-Protocol": {"chat, superchat", "last"}, "sec-websocket-extensions": {"x-one"}}
	filled := func(key string, size int) string {
		answer := accepted(key, "X", "y")
		return strings.Replace(answer, "X: y", "X: "+strings.Repeat("y", 1+size-len(answer)), 1)
	}
	lines := func(key string, count int) string {
		answer := accepted(key)
		return strings.TrimSuffix(answer, "\r\n") + strings.Repeat("X: y\r\n", count-3) + "\r\n"
	}
	for _, test := range []struct {
		name    string
		headers http.Header
		answer  func(key string) string
		wrong   string // in the text of the error; empty: accepted
	}{
		{"a plain answer is accepted", nil, func(key string) string { return accepted(key) }, ""},
		{"tokens in any case, in lists, are accepted", nil, func(key string) string {
			return accepted(key, "Upgrade", "h2c, WebSocket", "Connection", "keep-alive, UPGRADE")
		}, ""},
		{"a reason phrase of the server's own is accepted", nil, func(key string) string {
			return strings.Replace(accepted(key), "Switching Protocols", "welcome", 1)
		}, ""},
		{"a refusal has its status and reason in the error", nil, func(string) string {
			return "HTTP/1.1 400 Missing authorization\r\nContent-Length: 0\r\n\r\n"
		}, "400 Missing authorization"},
		{"a refusal without fields is told", nil, func(string) string { return "HTTP/1.1 404 unknown path\r\n\r\n" }, "404 unknown path"},
		{"a redirect is not followed", nil, func(string) string {
			return "HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\n\r\n"
		}, "302 Found"},
		{"status 200 is refused", nil, func(key string) string {
			return strings.Replace(accepted(key), "101 Switching Protocols", "200 OK", 1)
		}, "200 OK"},
		{"status 1010 is refused", nil, func(key string) string {
			return strings.Replace(accepted(key), "101 ", "1010 ", 1)
		}, "refused"},
		{"an answer that is not HTTP is refused", nil, func(string) string { return "SSH-2.0-OpenSSH_9.6\r\n\r\n" }, "malformed status line"},
		{"an accept key for another handshake is refused", nil, func(string) string {
			return accepted("dGhlIHNhbXBsZSBub25jZQ==")
		}, "Sec-WebSocket-Accept"},
		{"an answer without accept key is refused", nil, func(key string) string {
			return accepted(key, "Sec-WebSocket-Accept", "")
		}, "Sec-WebSocket-Accept"},
		{"two accept keys are refused", nil, func(key string) string {
			return strings.Replace(accepted(key), "\r\n\r\n", "\r\nSec-WebSocket-Accept: "+acceptKey([]byte(key))+"\r\n\r\n", 1)
		}, "Sec-WebSocket-Accept"},
		{"an answer without Upgrade is refused", nil, func(key string) string { return accepted(key, "Upgrade", "") }, "Upgrade"},
		{"an Upgrade to something else is refused", nil, func(key string) string { return accepted(key, "Upgrade", "h2c") }, "Upgrade"},
		{"an answer without Connection is refused", nil, func(key string) string { return accepted(key, "Connection", "") }, "Connection"},
		{"a Connection without upgrade is refused", nil, func(key string) string {
			return accepted(key, "Connection", "keep-alive")
		}, "Connection"},
		{"a subprotocol that was offered is accepted", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Protocol", "superchat")
		}, ""},
		{"a subprotocol of a second field is accepted", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Protocol", "last")
		}, ""},
		{"a subprotocol that was not offered is refused", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Protocol", "other")
		}, "subprotocol"},
		{"a subprotocol is refused where none was offered", nil, func(key string) string {
			return accepted(key, "Sec-WebSocket-Protocol", "chat")
		}, "subprotocol"},
		{"an extension that was offered is accepted", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Extensions", "x-one")
		}, ""},
		{"an extension that was not offered is refused", nil, func(key string) string {
			return accepted(key, "Sec-WebSocket-Extensions", "permessage-deflate")
		}, "extension"},
		{"another extension than the offered one is refused", offers, func(key string) string {
			return accepted(key, "Sec-WebSocket-Extensions", "permessage-deflate")
		}, "extension"},
		{"a line without a colon is refused", nil, func(key string) string {
			return strings.Replace(accepted(key), "\r\n\r\n", "\r\nno colon\r\n\r\n", 1)
		}, "Header format"},
		{"a line that ends without CR is refused", nil, func(string) string {
			return "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\r\n\r\n"
		}, "Header format"},
		{"a head one byte below the limit is accepted", nil, func(key string) string { return filled(key, 1023) }, ""},
		{"a head at the limit is accepted", nil, func(key string) string { return filled(key, 1024) }, ""},
		{"a head one byte above the limit is refused", nil, func(key string) string { return filled(key, 1025) }, "too large"},
		{"one field below the limit is accepted", nil, func(key string) string { return lines(key, 9) }, ""},
		{"fields at the limit are accepted", nil, func(key string) string { return lines(key, 10) }, ""},
		{"one field above the limit is refused", nil, func(key string) string { return lines(key, 11) }, "too large"},
		{"an answer that is cut off is an error", nil, func(key string) string { return accepted(key)[:80] }, "no complete answer"},
		{"no answer is an error", nil, func(string) string { return "" }, "no complete answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := scriptedListen(t)
			quit := make(chan bool, 1)
			cl := &Client{Endpoint: s.endpoint(), Headers: test.headers, MaxHeaderSize: 1024, MaxHeaderFields: 10,
				HandleQuit: func() { quit <- true }}
			connected := scriptedConnect(cl)
			c := s.accept()
			c.send([]byte(test.answer(c.request.Header.Get("Sec-WebSocket-Key"))))
			c.conn.(*net.TCPConn).CloseWrite()
			err := scriptedWait(t, connected)
			if test.wrong == "" {
				require.NoError(t, err)
				scriptedWait(t, quit)
				return
			}
			require.ErrorContains(t, err, test.wrong)
			assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
			assert.NoError(t, cl.Close())
			c.readEnd()
			assert.Empty(t, quit, "HandleQuit is for connections that were opened")
		})
	}
}

func TestClient_answerWithoutEnd(t *testing.T) {
	for name, piece := range map[string]string{
		"header lines without end are refused": strings.Repeat("X-Filler: y\r\n", 100),
		"a line without end is refused":        strings.Repeat("y", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := scriptedListen(t)
			connected := scriptedConnect(&Client{Endpoint: s.endpoint()})
			c := s.accept()
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(c.conn, "HTTP/1.1 101 Switching Protocols\r\nX: ")
				for err == nil {
					_, err = io.WriteString(c.conn, piece)
				}
				sent <- err
			}()
			assert.ErrorContains(t, scriptedWait(t, connected), "too large")
			assert.NotErrorIs(t, scriptedWait(t, sent), errWaitedTooLong)
		})
	}
}

func TestClient_silentHandshake(t *testing.T) {
	for name, script := range map[string]func(c *scriptedConn){
		"a server that does not answer is given up": func(*scriptedConn) {},
		"half an answer is given up":                func(c *scriptedConn) { c.send(c.answer()[:40]) },
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := scriptedListen(t)
			connected := scriptedConnect(&Client{Endpoint: s.endpoint(), HandshakeTimeout: 50 * time.Millisecond})
			c := s.accept()
			script(c)
			err := scriptedWait(t, connected)
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			assert.True(t, netErr.Timeout())
			c.readEnd()
		})
	}
	t.Run("TLS without an answer is given up", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		cl := &Client{Endpoint: "wss://" + s.ln.Addr().String(), HandshakeTimeout: 50 * time.Millisecond}
		var netErr net.Error
		require.ErrorAs(t, scriptedWait(t, scriptedConnect(cl)), &netErr)
		assert.True(t, netErr.Timeout())
	})
	t.Run("nobody listens", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		s.ln.Close()
		var opErr *net.OpError
		assert.ErrorAs(t, (&Client{Endpoint: s.endpoint()}).Connect(), &opErr)
	})
}

func TestClient_splitAnswer(t *testing.T) {
	checkGoroutines(t)
	frame := string(NewFrameText(false, []byte("hello")))
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	size := len(accepted(key) + frame)
	// shake sends the answer with a text behind it in pieces, each of which the client reads on its own.
	shake := func(t *testing.T, pieces func(answer []byte) [][]byte) {
		t.Helper()
		texts := make(chan string, 1)
		cl := &Client{Endpoint: "ws://example.com/", HandleText: func(_ *Client, f *Frame) error {
			texts <- string(f.Payload())
			return nil
		}}
		u, _, err := cl.endpoint()
		require.NoError(t, err)
		client, server := net.Pipe()
		defer server.Close()
		l := newLink(cl)
		l.conn = client
		done := make(chan error, 1)
		go func() {
			_, err := cl.shakeHands(l, u)
			if err == nil {
				l.start()
			}
			done <- err
		}()
		c := &scriptedConn{t: t, conn: server}
		c.readRequest()
		for _, piece := range pieces(append(c.answer(), frame...)) {
			c.send(piece)
		}
		require.NoError(t, scriptedWait(t, done))
		require.Equal(t, "hello", scriptedWait(t, texts))
		l.drop(ErrConnClosed)
	}
	t.Run("an answer in two pieces is read, with the message behind it", func(t *testing.T) {
		for at := range size + 1 {
			shake(t, func(answer []byte) [][]byte { return [][]byte{answer[:at], answer[at:]} })
		}
	})
	t.Run("an answer in single bytes is read", func(t *testing.T) {
		shake(t, func(answer []byte) (pieces [][]byte) {
			for i := range answer {
				pieces = append(pieces, answer[i:i+1])
			}
			return pieces
		})
	})
	t.Run("messages in one piece with the answer are handled in order", func(t *testing.T) {
		got := make(chan string, 3)
		handle := func(_ *Client, f *Frame) error {
			got <- fmt.Sprint(f.Opcode(), string(f.Payload()))
			return nil
		}
		more := append(NewFrameText(false, []byte("one")), NewFrameBin(false, []byte("two"))...)
		more = append(append(more, NewFramePing(false, []byte("ping"))...), NewFrameText(false, []byte("three"))...)
		c := scriptedOpen(t, &Client{HandleText: handle, HandleBin: handle}, more...)
		for _, want := range []string{"1one", "2two", "1three"} {
			assert.Equal(t, want, scriptedWait(t, got))
		}
		assert.Equal(t, OpcodePong, c.read().opcode)
	})
}

// selfSigned makes a certificate for 127.0.0.1, and the pool that trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestClient_tls(t *testing.T) {
	certificate, pool := selfSigned(t)
	listen := func(t *testing.T) *scriptedServer {
		s := scriptedListen(t)
		s.ln = tls.NewListener(s.ln, &tls.Config{Certificates: []tls.Certificate{certificate}})
		return s
	}
	for _, scheme := range []string{"wss", "https"} {
		t.Run(scheme+" talks to a server whose certificate is trusted", func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := listen(t)
			texts, quit := make(chan string, 1), make(chan bool, 1)
			config := &tls.Config{RootCAs: pool}
			cl := &Client{
				Endpoint:  scheme + "://" + s.ln.Addr().String() + "/",
				TLSConfig: config,
				HandleText: func(_ *Client, f *Frame) error {
					texts <- string(f.Payload())
					return nil
				},
				HandleQuit: func() { quit <- true },
			}
			c := s.open(cl, NewFrameText(false, []byte("welcome"))...)
			assert.Equal(t, "welcome", scriptedWait(t, texts))
			require.NoError(t, cl.SendText([]byte("hello")))
			assert.Equal(t, "hello", string(c.read().payload))
			closed := make(chan error, 1)
			go func() { closed <- cl.Close() }()
			code, _ := c.readClose()
			assert.Equal(t, StatusNormal, code)
			c.send(NewFrameClose(false, code, nil))
			assert.NoError(t, scriptedWait(t, closed))
			scriptedWait(t, quit)
			assert.Same(t, config, cl.TLSConfig)
			assert.Empty(t, config.ServerName, "the program's configuration is not changed")
		})
	}
	for name, config := range map[string]*tls.Config{
		"a certificate that is not trusted is refused":           nil,
		"a certificate for another name is refused":              {RootCAs: pool, ServerName: "example.com"},
		"a version that the server does not speak is an error":   {RootCAs: pool, MaxVersion: tls.VersionTLS10},
		"without its pool the certificate is refused likewise":   {},
		"a pool without the server's certificate does not trust": {RootCAs: x509.NewCertPool()},
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := listen(t)
			cl := &Client{Endpoint: "wss://" + s.ln.Addr().String(), TLSConfig: config}
			connected := scriptedConnect(cl)
			conn, err := s.ln.Accept()
			require.NoError(t, err)
			conn.SetDeadline(time.Now().Add(scriptedDeadline))
			assert.Error(t, conn.(*tls.Conn).Handshake())
			conn.Close()
			assert.ErrorContains(t, scriptedWait(t, connected), "tls: ")
		})
	}
	t.Run("Quit ends a write that the server does not take", func(t *testing.T) {
		checkGoroutines(t)
		s := listen(t)
		cl := &Client{Endpoint: "wss://" + s.ln.Addr().String(), TLSConfig: &tls.Config{RootCAs: pool}}
		s.open(cl)
		sent := make(chan error, 1)
		go func() { sent <- cl.SendBin(make([]byte, 64<<20)) }()
		cl.Quit()
		assert.ErrorIs(t, scriptedWait(t, sent), ErrConnClosed)
	})
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
	t.Run("a failed one may be repeated", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		cl := &Client{Endpoint: s.endpoint()}
		first := scriptedConnect(cl)
		s.accept().send([]byte("HTTP/1.1 503 Service Unavailable\r\n\r\n"))
		assert.ErrorContains(t, scriptedWait(t, first), "503 Service Unavailable")
		assert.NoError(t, cl.Err())
		assert.Nil(t, cl.Response())
		s.open(cl)
	})
	t.Run("HandleQuit may connect again", func(t *testing.T) {
		checkGoroutines(t)
		s := scriptedListen(t)
		texts, again, quits := make(chan string, 1), make(chan error, 1), 0
		cl := &Client{HandleText: func(_ *Client, f *Frame) error {
			texts <- string(f.Payload())
			return nil
		}}
		cl.HandleQuit = func() {
			if quits++; quits == 1 {
				again <- cl.Connect()
			} else {
				close(again)
			}
		}
		s.open(cl).conn.Close()
		c := s.accept()
		c.send(append(c.answer(), NewFrameText(false, []byte("back"))...))
		require.NoError(t, scriptedWait(t, again))
		assert.Equal(t, "back", scriptedWait(t, texts))
		assert.NoError(t, cl.Err(), "a new connection has no error")
		require.NoError(t, cl.SendText([]byte("hello")))
		assert.Equal(t, "hello", string(c.read().payload))
		cl.Quit()
		scriptedWait(t, again)
		assert.Equal(t, 2, quits)
	})
}

// sends are the methods that send, by name.
var sends = map[string]struct {
	send   func(cl *Client, payload []byte) error
	opcode Opcode
}{
	"SendText": {(*Client).SendText, OpcodeText},
	"SendBin":  {(*Client).SendBin, OpcodeBin},
	"SendPing": {(*Client).SendPing, OpcodePing},
	"SendPong": {(*Client).SendPong, OpcodePong},
}

func TestClient_sendNotConnected(t *testing.T) {
	opened := func(t *testing.T) (*Client, *scriptedConn) {
		cl := new(Client)
		return cl, scriptedOpen(t, cl)
	}
	for name, client := range map[string]func(t *testing.T) *Client{
		"the zero client is not connected": func(*testing.T) *Client { return new(Client) },
		"a client before Connect is not connected": func(t *testing.T) *Client {
			return &Client{Endpoint: scriptedListen(t).endpoint()}
		},
		"a client after Quit is not connected": func(t *testing.T) *Client {
			cl, _ := opened(t)
			cl.Quit()
			return cl
		},
		"a client after Close is not connected": func(t *testing.T) *Client {
			cl, c := opened(t)
			closed := make(chan error, 1)
			go func() { closed <- cl.Close() }()
			c.readClose()
			c.send(NewFrameClose(false, StatusNormal, nil))
			require.NoError(t, scriptedWait(t, closed))
			return cl
		},
		"a client that has sent Close takes no more": func(t *testing.T) *Client {
			cl, c := opened(t)
			go cl.Close()
			c.readClose()
			return cl
		},
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			cl := client(t)
			for name, method := range sends {
				err := method.send(cl, []byte("hello"))
				assert.ErrorIs(t, err, ErrConnClosed, name)
				assert.ErrorIs(t, err, net.ErrClosed, name)
			}
			assert.NoError(t, cl.Err())
			cl.Quit()
			assert.NoError(t, cl.Close())
		})
	}
}

func TestClient_send(t *testing.T) {
	t.Run("frames are masked, in the shortest form, and payloads are not changed", func(t *testing.T) {
		checkGoroutines(t)
		cl := new(Client)
		c := scriptedOpen(t, cl)
		for name, method := range sends {
			for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536} {
				payload := []byte(strings.Repeat("x", size))
				sent := make(chan error, 1)
				go func() { sent <- method.send(cl, payload) }()
				f := c.read()
				require.NoError(t, scriptedWait(t, sent))
				if method.opcode.isControl() {
					size = min(size, 125)
				}
				assert.Equal(t, method.opcode, f.opcode, name)
				assert.Equal(t, strings.Repeat("x", size), string(f.payload))
				assert.Equal(t, strings.Repeat("x", len(payload)), string(payload))
			}
		}
	})
	t.Run("frames of many goroutines are whole, with a masking key each", func(t *testing.T) {
		checkGoroutines(t)
		const senders, each = 16, 50
		cl := new(Client)
		c := scriptedOpen(t, cl)
		var group sync.WaitGroup
		errs := make(chan error, senders*each)
		for sender := range senders {
			group.Go(func() {
				send := []func([]byte) error{cl.SendText, cl.SendBin, cl.SendPing, cl.SendPong}[sender%4]
				size := []int{3, 5000, 100, 125}[sender%4]
				for range each {
					errs <- send([]byte(strings.Repeat(string(rune('a'+sender)), size)))
				}
			})
		}
		counts, keys := make(map[byte]int), make(map[[4]byte]bool)
		for range senders * each {
			f := c.read()
			require.NotEmpty(t, f.payload)
			sender := f.payload[0] - 'a'
			require.Equal(t, []Opcode{OpcodeText, OpcodeBin, OpcodePing, OpcodePong}[sender%4], f.opcode)
			require.Len(t, f.payload, []int{3, 5000, 100, 125}[sender%4])
			require.Equal(t, strings.Repeat(string(f.payload[0]), len(f.payload)), string(f.payload))
			counts[sender]++
			keys[f.key] = true
		}
		group.Wait()
		close(errs)
		for err := range errs {
			assert.NoError(t, err)
		}
		for sender := range senders {
			assert.Equal(t, each, counts[byte(sender)])
		}
		assert.Greater(t, len(keys), senders*each-5, "keys that nobody can predict seldom repeat")
	})
	t.Run("a handler may send", func(t *testing.T) {
		checkGoroutines(t)
		cl := &Client{HandleText: func(cl *Client, f *Frame) error { return cl.SendBin(f.Payload()) }}
		c := scriptedOpen(t, cl, NewFrameText(false, []byte("echo"))...)
		assert.Equal(t, "echo", string(c.read().payload))
	})
	t.Run("a server that does not read is given up", func(t *testing.T) {
		checkGoroutines(t)
		quit := make(chan bool, 1)
		cl := &Client{WriteTimeout: 50 * time.Millisecond, HandleQuit: func() { quit <- true }}
		scriptedOpen(t, cl)
		err := cl.SendBin(make([]byte, 64<<20))
		assert.ErrorIs(t, err, ErrWriteTimeout)
		assert.ErrorIs(t, err, net.ErrClosed)
		scriptedWait(t, quit)
		assert.ErrorIs(t, cl.Err(), ErrWriteTimeout)
	})
	t.Run("a server that is gone is told", func(t *testing.T) {
		checkGoroutines(t)
		cl := new(Client)
		c := scriptedOpen(t, cl)
		require.NoError(t, c.conn.(*net.TCPConn).SetLinger(0))
		c.conn.Close()
		deadline := time.Now().Add(scriptedDeadline)
		var err error
		for err == nil && time.Now().Before(deadline) {
			err = cl.SendText([]byte("hello"))
		}
		assert.ErrorIs(t, err, ErrConnClosed)
		assert.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestClient_realServer(t *testing.T) {
	// serve runs a server until the end of the test.
	serve := func(t *testing.T, opts *ServerOptions) *Server {
		t.Helper()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		opts.Address = ln.Addr().String()
		serv, served := NewServer(opts), make(chan error, 1)
		go func() { served <- serv.Serve(ln) }()
		t.Cleanup(func() {
			serv.Stop()
			if err := scriptedWait(t, served); !errors.Is(err, ErrUnsupported) {
				assert.NoError(t, err)
			}
		})
		for serv.Addr() == nil {
			select {
			case err := <-served:
				served <- err
				if errors.Is(err, ErrUnsupported) {
					t.Skip(err)
				}
				require.FailNow(t, "the server has ended", "%v", err)
			case <-time.After(leakPoll):
			}
		}
		return serv
	}
	t.Run("messages of every size come back", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		serv := serve(t, &ServerOptions{
			HandleText: func(conn int, payload []byte) { Send(conn, NewFrameText(false, payload)) },
			HandleBin:  func(conn int, payload []byte) { Send(conn, NewFrameBin(false, payload)) },
		})
		got, quit := make(chan *Frame, 1), make(chan bool, 1)
		handle := func(_ *Client, f *Frame) error {
			got <- f
			return nil
		}
		cl := &Client{Endpoint: "ws://" + serv.Options.Address, HandleText: handle, HandleBin: handle,
			HandleQuit: func() { quit <- true }}
		require.NoError(t, cl.Connect())
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 1 << 20} {
			payload := []byte(strings.Repeat("x", size))
			require.NoError(t, cl.SendText(payload))
			f := scriptedWait(t, got)
			assert.Equal(t, OpcodeText, f.Opcode())
			assert.Equal(t, payload, f.Payload())
			require.NoError(t, cl.SendBin(payload))
			f = scriptedWait(t, got)
			assert.Equal(t, OpcodeBin, f.Opcode())
			assert.Equal(t, payload, f.Payload())
		}
		assert.NoError(t, cl.Close())
		scriptedWait(t, quit)
		assert.NoError(t, cl.Err())
	})
	t.Run("the reason of HandleAuth is in the error", func(t *testing.T) {
		checkGoroutines(t)
		serv := serve(t, &ServerOptions{HandleAuth: func(*Handshake) (context.Context, error) {
			return nil, errors.New("Missing authorization")
		}})
		cl := &Client{Endpoint: "ws://" + serv.Options.Address}
		assert.ErrorContains(t, cl.Connect(), "400 Missing authorization")
	})
	for name, test := range map[string]struct {
		end  func(serv *Server)
		code CloseCode
	}{
		"a server that stops says so":           {(*Server).Stop, StatusGone},
		"a server that removes us says goodbye": {func(serv *Server) { serv.ClientRemove(serv.Clients.All()[0]) }, StatusNormal},
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			added, quit := make(chan bool, 1), make(chan bool, 1)
			serv := serve(t, &ServerOptions{HandleClientAdd: func(context.Context, int) { added <- true }})
			cl := &Client{Endpoint: "ws://" + serv.Options.Address, HandleQuit: func() { quit <- true }}
			require.NoError(t, cl.Connect())
			scriptedWait(t, added)
			test.end(serv)
			scriptedWait(t, quit)
			var closeErr *CloseError
			require.ErrorAs(t, cl.Err(), &closeErr)
			assert.Equal(t, test.code, closeErr.Code)
			assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
		})
	}
}
