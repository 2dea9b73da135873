//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// TestAbuseTLSHandshake attacks the handshake of TLS, before there is any HTTP.
func TestAbuseTLSHandshake(t *testing.T) { runRowsWith(t, abuse{tls: true}, tlsHandshakeRows) }

var tlsHandshakeRows = []attackRow{
	{name: "a ClientHello byte by byte, in tiny records, and of 64 KiB is one", attack: oddHellos},
	{name: "a first message that never ends, or is none, ends the connection at once, in bounded memory", attack: badHellos},
	{name: "200 clients that stop anywhere in a handshake are closed at the time-out, others get in", attack: halfHandshakes},
	{name: "1,000 clients that claim a ClientHello of 16 KiB cost nothing", attack: claimedHellos},
	{name: "200 clients that replay a ClientHello do not keep 20 others from their echoes", attack: replays},
	{name: "clients that never finish take no more than MaxHandshakes, and others get in", logs: []string{"websocket: TLS handshakes given up"}, attack: unfinished},
	{name: "a client that speaks plain HTTP is told so with 400", attack: plainClients},
	{name: "a client that speaks TLS to a server without it is answered at once", attack: func(a *abuse) {
		a.tls = false
		a.start(&websocket.ServerOptions{HandshakeTimeout: time.Hour})
		for range 20 {
			c := a.Dial(a.t)
			err := c.Secure(nil).Handshake()
			require.Error(a.t, err)
			assert.NotErrorIs(a.t, err, os.ErrDeadlineExceeded)
			c.Close()
		}
	}},
	{name: "500 resets in the middle of a handshake leave nothing", attack: resetHandshakes},
	{name: "Stop during handshakes of TLS ends them", attack: stopTLSHandshakes},
}

// splitHello is a ClientHello in records of at most that size (RFC 8446, section 5.1).
func splitHello(hello []byte, size int) (split []byte) {
	for len(hello) > 0 {
		length := recordHeader + int(binary.BigEndian.Uint16(hello[3:]))
		for body := hello[recordHeader:length]; len(body) > 0; {
			n := min(size, len(body))
			split = append(split, recordHandshake, 3, 1, byte(n>>8), byte(n))
			split, body = append(split, body[:n]...), body[n:]
		}
		hello = hello[length:]
	}
	return split
}

// splittingConn splits the first flight of a client into records of at most that size.
type splittingConn struct {
	net.Conn
	size  int
	begun bool
}

func (c *splittingConn) NetConn() net.Conn { return c.Conn }

func (c *splittingConn) Write(b []byte) (int, error) {
	sent := b
	if !c.begun {
		c.begun, sent = true, splitHello(b, c.size)
	}
	if _, err := c.Conn.Write(sent); err != nil {
		return 0, err
	}
	return len(b), nil
}

// longHello is a configuration whose ClientHello has some 60 KiB.
func longHello() *tls.Config {
	config := peer.ClientTLS()
	for i := range 240 {
		config.NextProtos = append(config.NextProtos, fmt.Sprintf("%0250d", i))
	}
	config.NextProtos = append(config.NextProtos, "http/1.1")
	return config
}

func oddHellos(a *abuse) {
	a.start(&websocket.ServerOptions{})
	for _, config := range []*tls.Config{peer.ClientTLS(), longHello()} {
		for _, way := range []func(c net.Conn) net.Conn{
			func(c net.Conn) net.Conn { return c },
			func(c net.Conn) net.Conn { return &peer.CutConn{Conn: c, Size: 1} },
			func(c net.Conn) net.Conn { return &splittingConn{Conn: c, size: 1} },
			func(c net.Conn) net.Conn { return &splittingConn{Conn: c, size: 3} },
			func(c net.Conn) net.Conn { return &splittingConn{Conn: c, size: 550} },
			func(c net.Conn) net.Conn { return &splittingConn{Conn: c, size: 16 << 10} },
			func(c net.Conn) net.Conn { return &splittingConn{Conn: &peer.CutConn{Conn: c, Size: 7}, size: 5} },
		} {
			c := a.DialPlain(a.t)
			c.Conn = way(c.Conn)
			c.Secure(config)
			require.NoError(a.t, c.Shake())
			c.Text("x")
			c.ExpectText("x")
			c.Close()
		}
	}
}

// badHellos has each of its clients send the same again and again: it must be cut off long before a TiB.
func badHellos(a *abuse) {
	a.start(&websocket.ServerOptions{HandshakeTimeout: time.Hour})
	a.bounded(8 << 20)
	whole := append([]byte{recordHandshake, 3, 1, 0x40, 0}, make([]byte, claimedRecord)...)
	hello := peer.ClientHello(nil)
	for _, row := range []struct {
		name         string
		begin, again []byte
		alert        bool
	}{
		{"a message that claims 16 MiB", []byte{recordHandshake, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF}, whole, true},
		{"a message of 64 KiB without a sense", append([]byte{recordHandshake, 3, 1, 0, 4, 1, 1, 0, 0}, whole...), whole, true},
		{"empty records", nil, []byte{recordHandshake, 3, 1, 0, 0}, true},
		{"empty records in a message", []byte{recordHandshake, 3, 1, 0, 4, 1, 0, 2, 0}, []byte{recordHandshake, 3, 1, 0, 0}, true},
		{"a record that is too large", []byte{recordHandshake, 3, 1, 0xFF, 0xFF}, whole, false},
		{"changes of ciphers", nil, []byte{recordCipherSpec, 3, 1, 0, 1, 1}, false},
		{"warnings", nil, []byte{recordAlert, 3, 1, 0, 2, 1, 90}, true},
		{"data", nil, []byte{recordData, 3, 3, 0, 1, 1}, false},
		{"a server's message", nil, []byte{recordHandshake, 3, 1, 0, 4, 2, 0, 0, 0}, true},
		{"a second ClientHello behind the first", hello, hello, false},
		{"data behind the first", hello, append([]byte{recordData, 3, 3, 0x40, 0}, make([]byte, claimedRecord)...), false},
		{"zeros", nil, make([]byte, 1<<10), false},
		{"SSL 2", nil, []byte{0x80, 0x2E, 1, 0, 2, 0, 0x15}, false},
	} {
		c := a.DialPlain(a.t)
		ended := make(chan error, 1)
		go func() {
			io.WriteString(c, string(row.begin))
			_, err := flood(c, row.again, 1<<30)
			ended <- err
		}()
		err := plainAlert(c.Reader)
		if alert := alertError(0); row.alert && !errors.As(err, &alert) {
			assert.NoError(a.t, err, "%s: no alert", row.name)
		}
		assert.NoError(a.t, toEnd(c.Conn), row.name)
		c.Close()
		assert.Error(a.t, peer.Get(a.t, ended), "%s: all was taken", row.name)
	}
}

// halfHandshakes has clients stop at many places of what they have to say, and others connect meanwhile.
func halfHandshakes(a *abuse) {
	const clients = 200
	opts := defaults(new(websocket.ServerOptions))
	timeout := opts.HandshakeTimeout
	a.start(opts)
	a.bounded(clients*(64<<10) + 8<<20)
	hello := peer.ClientHello(nil)
	long := peer.ClientHello(longHello())
	parts := [][]byte{nil, hello[:1], hello[:5], hello[:6], hello[:100], hello[:len(hello)-1], long[:20_000], long[:len(long)-1], hello, long,
		append(bytes.Clone(hello), recordCipherSpec, 3, 3, 0, 1, 1), append(bytes.Clone(hello), recordData, 3, 3, 0, 53)}
	ended := make(chan error, clients)
	start := time.Now()
	for i := range clients {
		begun, c := time.Now(), a.DialPlain(a.t)
		c.Send(parts[i%len(parts)])
		go func() {
			err := toEnd(c.Conn)
			if took := time.Since(begun); err == nil && took < timeout*9/10 {
				err = fmt.Errorf("client %d was closed after %v", i, took)
			}
			ended <- err
		}()
	}
	opened := time.Since(start)
	a.othersJoin(func() bool { return len(ended) == clients || time.Since(start) > opened+timeout+wait })
	for range clients {
		require.NoError(a.t, peer.Get(a.t, ended))
	}
	assert.Less(a.t, time.Since(start), opened+timeout+peer.DrainTime+timeLimit(time.Second))
}

func claimedHellos(a *abuse) {
	const clients = 1000
	a.start(&websocket.ServerOptions{HandshakeTimeout: time.Hour})
	conns := make([]*peer.Conn, clients)
	for i := range conns {
		conns[i] = a.DialPlain(a.t)
	}
	a.awaitSockets(clients + 1)
	a.costs(clients, each, func() {
		for _, c := range conns {
			c.Send([]byte{recordHandshake, 3, 1, claimedRecord >> 8, 0})
		}
	})
}

// awaitSockets waits until the server has accepted that many connections.
func (a *abuse) awaitSockets(n int) {
	a.t.Helper()
	require.True(a.t, peer.Eventually(func() bool { return len(a.Sockets()) == n }), "the server has %d connections", len(a.Sockets()))
}

// replays has clients send the same ClientHello again and again, each on a connection of its own, until the echoes of others have come.
func replays(a *abuse) {
	const clients, others, echoes = 200, 20, 50
	a.start(&websocket.ServerOptions{})
	hello := peer.ClientHello(nil)
	conns := a.connectAll(others)
	stop, ended := make(chan struct{}), make(chan int, clients)
	enough := peer.Release(a.t, stop)
	for i := range clients {
		go func() { ended <- a.replay(hello, i%2 == 0, stop) }()
	}
	start := time.Now()
	peer.All(a.t, others, func(i int) error {
		for range echoes {
			if _, err := conns[i].Write(websocket.NewFrameText(true, []byte("x"))); err != nil {
				return err
			}
			if err := conns[i].Compare(websocket.OpcodeText, "x"); err != nil {
				return err
			}
		}
		return nil
	})
	took := time.Since(start)
	enough()
	replayed := 0
	for range clients {
		replayed += peer.Get(a.t, ended)
	}
	a.t.Logf("%d echoes in %v, %d handshakes replayed", others*echoes, took.Round(time.Millisecond), replayed)
	a.awaitSockets(1 + others)
}

// replay sends a ClientHello until it is stopped, and returns how often. It goes when it has been answered, or with what it has sent.
func (a *abuse) replay(hello []byte, waits bool, stop <-chan struct{}) (n int) {
	for {
		select {
		case <-stop:
			return n
		default:
		}
		c, err := a.OpenPlain()
		if err != nil {
			continue
		}
		if _, err = c.Write(hello); err == nil && waits {
			c.Reader.Peek(1)
		}
		c.Reset()
		n++
	}
}

func unfinished(a *abuse) {
	const limit, clients = 32, 80
	a.start(&websocket.ServerOptions{MaxHandshakes: limit, HandshakeTimeout: time.Hour})
	hello := peer.ClientHello(nil)
	for i := range clients {
		a.DialPlain(a.t).Send(hello)
		if i%20 == 19 {
			other := a.Connect(a.t)
			other.Text("x")
			other.ExpectText("x")
			other.Close()
		}
	}
	require.True(a.t, peer.Eventually(func() bool { return len(a.Sockets()) <= 1+limit }))
}

func plainClients(a *abuse) {
	a.start(&websocket.ServerOptions{HandshakeTimeout: time.Hour})
	for _, request := range []string{
		peer.Request, "GET / HTTP/1.0\r\n\r\n", "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1_000_000),
		"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", "PUT / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /" + strings.Repeat("x", 1<<20), "GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 1<<20),
	} {
		c := a.DialPlain(a.t)
		res, body, err := exchange(c, request)
		require.NoError(a.t, err, "%.60q", request)
		assert.Equal(a.t, http.StatusBadRequest, res.StatusCode, "%.60q", request)
		assert.Regexp(a.t, "(?i)TLS|HTTPS", body, "%.60q", request)
		c.Close()
	}
	for _, request := range []string{"SSH-2.0-OpenSSH_9.9\r\n", "\r\n\r\n\r\n\r\n", "EHLO localhost\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PROXY TCP4 192.0.2.1 1.2.3.4 1 2\r\n"} {
		c := a.DialPlain(a.t)
		c.Send([]byte(request))
		assert.NoError(a.t, toEnd(c.Conn), "%.60q", request)
		c.Close()
	}
}

func resetHandshakes(a *abuse) {
	const clients = 500
	a.start(&websocket.ServerOptions{HandshakeTimeout: time.Hour})
	hello := peer.ClientHello(nil)
	for i := range clients {
		c := a.DialPlain(a.t)
		c.Send(hello[:len(hello)*(i%5)/4])
		if i%5 == 4 && i%2 == 0 {
			_, _, err := record(c.Reader) // the ServerHello
			require.NoError(a.t, err)
		}
		c.Reset()
	}
	a.awaitSockets(1)
}

func stopTLSHandshakes(a *abuse) {
	const each = 40
	a.startBeside()
	inside, release := make(chan struct{}, each), make(chan struct{})
	config := peer.ServerTLS()
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName != peer.ServerName {
			inside <- struct{}{}
			<-release
		}
		return &config.Certificates[0], nil
	}
	a.startApart(&websocket.ServerOptions{TLSConfig: config, HandshakeTimeout: time.Hour})
	peer.Release(a.t, release)
	slow := peer.ClientTLS()
	slow.ServerName = "slow.example"
	hello, slowHello := peer.ClientHello(nil), peer.ClientHello(slow)
	var conns []*peer.Conn
	for range each {
		for _, part := range [][]byte{nil, hello[:50], hello, slowHello} {
			c := a.DialPlain(a.t)
			c.Send(part)
			conns = append(conns, c)
		}
	}
	for range each {
		peer.Get(a.t, inside)
	}
	start := time.Now()
	a.StopAndWait(a.t)
	assert.Less(a.t, time.Since(start), peer.DrainTime+timeLimit(2*time.Second))
	peer.All(a.t, len(conns), func(i int) error { return toEnd(conns[i].Conn) })
}
