package websocket

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
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
