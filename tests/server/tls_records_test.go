//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// lateConn holds back what a client writes from its first read on: its Finished, and what it has to say behind it.
type lateConn struct{ peer.HeldConn }

func (c *lateConn) Read(b []byte) (int, error) {
	c.Hold()
	return c.HeldConn.Read(b)
}

// finish makes the TLS handshake of TLS 1.3, and returns the client's Finished and then the rest of what it says, encrypted and not sent.
func finish(t *testing.T, s *peer.Server, says []byte) (c *peer.Conn, socket net.Conn, flight []byte) {
	t.Helper()
	c = s.DialPlain(t)
	socket = c.Socket()
	late := &lateConn{peer.HeldConn{Conn: socket}}
	c.Conn = late
	c.Secure(nil)
	require.NoError(t, c.Handshake())
	c.Send(says)
	return c, socket, late.Held()
}

// accepted reads the answer that accepts a client.
func accepted(t *testing.T, c *peer.Conn) {
	t.Helper()
	answer := make([]byte, len(peer.Accepted))
	_, err := io.ReadFull(c.Reader, answer)
	require.NoError(t, err)
	require.Equal(t, peer.Accepted, string(answer))
}

// TestTLS_earlyBytes has a client's Finished come together with what follows it.
func TestTLS_earlyBytes(t *testing.T) {
	s := peer.Start(t, secure(websocket.ServerOptions{HandleText: peer.Echo, Handler: page()}))
	message, large := websocket.NewFrameText(true, []byte("early")), peer.Pattern(70_000, 1)
	t.Run("the request", func(t *testing.T) {
		c, socket, flight := finish(t, s, []byte(peer.Request))
		_, err := socket.Write(flight)
		require.NoError(t, err)
		accepted(t, c)
	})
	t.Run("the request and messages behind it", func(t *testing.T) {
		c, socket, flight := finish(t, s, slices.Concat([]byte(peer.Request), message, websocket.NewFrameText(true, large)))
		_, err := socket.Write(flight)
		require.NoError(t, err)
		accepted(t, c)
		c.ExpectText("early")
		c.ExpectText(string(large))
	})
	t.Run("the request of a page", func(t *testing.T) {
		c, socket, flight := finish(t, s, []byte("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		_, err := socket.Write(flight)
		require.NoError(t, err)
		asked(t, c, "GET", "/page", "")
	})
	t.Run("the request, and the end of the stream", func(t *testing.T) {
		c, socket, flight := finish(t, s, []byte(peer.Request))
		_, err := socket.Write(flight)
		require.NoError(t, err)
		require.NoError(t, socket.(*net.TCPConn).CloseWrite())
		require.NoError(t, c.ReadToEnd())
	})
	t.Run("half of the request, and the rest later", func(t *testing.T) {
		c, socket, flight := finish(t, s, []byte(peer.Request[:50]))
		_, err := socket.Write(flight)
		require.NoError(t, err)
		c.Send([]byte(peer.Request[50:]))
		accepted(t, c)
	})
}

// TestTLS_splits cuts what a client sends into two at every byte, and into pieces of every small size.
func TestTLS_splits(t *testing.T) {
	s := peer.Start(t, secure(websocket.ServerOptions{HandleText: peer.Echo}))
	other := s.Connect(t)
	around := func() { // the loop goes round
		other.Text("x")
		other.ExpectText("x")
	}
	says := slices.Concat([]byte(peer.Request), websocket.NewFrameText(true, []byte("hello")), websocket.NewFrameText(true, []byte("there")))
	expect := func(t *testing.T, c *peer.Conn) {
		t.Helper()
		accepted(t, c)
		c.ExpectText("hello")
		c.ExpectText("there")
		c.Close()
	}
	_, _, flight := finish(t, s, says)
	length, step := len(flight), 1
	if testing.Short() || peer.Raced() {
		step = 7
	}
	t.Run("Finished, the request and messages, in two", func(t *testing.T) {
		for at := 1; at < length; at += step {
			c, socket, flight := finish(t, s, says)
			_, err := socket.Write(flight[:at])
			require.NoError(t, err)
			around()
			_, err = socket.Write(flight[at:])
			require.NoError(t, err)
			expect(t, c)
		}
	})
	t.Run("the ClientHello, in two", func(t *testing.T) {
		hello := len(peer.ClientHello(nil))
		for at := 1; at < hello; at += 10 * step {
			c := s.DialPlain(t)
			c.Conn = &cutOnce{Conn: c.Conn, at: at, between: around}
			c.Secure(nil)
			c.Send(says)
			expect(t, c)
		}
	})
	for _, size := range []int{1, 2, 3, 5, 6, 21, 22, 23, 550} {
		t.Run(fmt.Sprintf("all of it, in pieces of %d bytes", size), func(t *testing.T) {
			bothVersions(t, func(t *testing.T, version uint16) {
				c := s.DialPlain(t)
				c.Conn = &peer.CutConn{Conn: c.Conn, Size: size}
				c.Secure(clientWith(func(config *tls.Config) { config.MaxVersion = version }))
				c.Send(says)
				large := peer.Pattern(20_000, size)
				c.Send(websocket.NewFrameText(true, large))
				accepted(t, c)
				c.ExpectText("hello")
				c.ExpectText("there")
				c.ExpectText(string(large))
			})
		})
	}
}

// cutOnce cuts its first bytes in two.
type cutOnce struct {
	net.Conn
	at      int
	between func()
}

func (c *cutOnce) NetConn() net.Conn { return c.Conn }

func (c *cutOnce) Write(b []byte) (n int, err error) {
	if at := min(c.at, len(b)); at > 0 {
		c.at = 0
		if n, err = c.Conn.Write(b[:at]); err != nil {
			return n, err
		}
		c.between()
	}
	m, err := c.Conn.Write(b[n:])
	return n + m, err
}

// TestTLS_slowReader has a client read a little at a time of what fills its queue again and again.
func TestTLS_slowReader(t *testing.T) {
	const packets, size = 200, 30_011
	opts := secure(websocket.ServerOptions{SendQueueSize: 100_000, HandleText: peer.Echo})
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	c := s.Connect(t)
	require.NoError(t, c.Socket().SetReadBuffer(64<<10))
	conn := peer.Get(t, added)
	other := s.Connect(t)
	sent := make(chan error, 1)
	go func() {
		for i := range packets {
			if err := websocket.Send(conn, websocket.NewFrameBin(false, peer.Pattern(size, i))); err != nil {
				sent <- fmt.Errorf("packet %d: %w", i, err)
				return
			}
		}
		sent <- nil
	}()
	c.Reader.Reset(&smallReader{c.Conn})
	echoed := 0
	for i := 0; i < packets; {
		c.SetDeadline(time.Now().Add(peer.Wait))
		op, payload, err := c.Frame()
		require.NoError(t, err)
		if op == websocket.OpcodeText { // it comes between packets
			require.Equal(t, "still here", string(payload))
			echoed++
			continue
		}
		require.True(t, bytes.Equal(peer.Pattern(size, i), payload), "packet %d", i)
		if i++; i%10 == 0 { // its own bytes go on, and others'
			c.Text("still here")
			other.Text("x")
			other.ExpectText("x")
		}
	}
	require.NoError(t, peer.Get(t, sent))
	for ; echoed < packets/10; echoed++ {
		c.ExpectText("still here")
	}
}

// smallReader reads a little at a time.
type smallReader struct{ io.Reader }

func (r *smallReader) Read(b []byte) (int, error) { return r.Reader.Read(b[:min(len(b), 1000)]) }

// TestTLS_ends looks at the last bytes of a connection, as they are on the wire.
func TestTLS_ends(t *testing.T) {
	bothVersions(t, func(t *testing.T, version uint16) {
		opts := secure(websocket.ServerOptions{HandleText: peer.Echo})
		added, told := peer.Added(opts), toldBy(opts)
		s := peer.Start(t, opts)
		for name, end := range map[string]func(c *peer.Conn, conn int){
			"the client closes":              func(c *peer.Conn, _ int) { c.Send(websocket.NewFrameClose(true, 1000, nil)) },
			"the client breaks the protocol": func(c *peer.Conn, _ int) { c.Send(websocket.NewFrameText(false, nil)) },
			"the server removes it":          func(_ *peer.Conn, conn int) { s.ClientRemove(conn) },
			"the server closes it":           func(_ *peer.Conn, conn int) { s.Clients.Close(conn, 4000, strings.Repeat("x", 123)) },
			"a program sends a Close frame": func(c *peer.Conn, conn int) {
				websocket.Send(conn, sendsClose(4000, "bye"))
				c.Send(websocket.NewFrameClose(true, 4000, nil))
			},
			"a full queue is in front of it": func(_ *peer.Conn, conn int) {
				for websocket.TrySend(conn, websocket.NewFrameBin(false, make([]byte, 100_000))) == nil {
				}
				s.ClientRemove(conn)
			},
		} {
			t.Run(name+", and close_notify is the last record", func(t *testing.T) {
				c := s.DialPlain(t)
				wire := &peer.HeldConn{Conn: c.Conn}
				c.Conn = wire
				c.Secure(clientWith(func(config *tls.Config) { config.MaxVersion = version }))
				require.NoError(t, c.Shake())
				end(c, peer.Get(t, added))
				_, err := c.CloseCode()
				require.NoError(t, err)
				c.ExpectEOF()
				peer.Get(t, told)
				checkLastRecord(t, wire.WasRead(), version)
			})
		}
	})
}

// checkLastRecord fails the test if the last record is not as long as an alert, or not whole.
func checkLastRecord(t *testing.T, wire []byte, version uint16) {
	t.Helper()
	const header = 5
	var last []byte
	for len(wire) > 0 {
		require.GreaterOrEqual(t, len(wire), header)
		length := header + int(wire[3])<<8 + int(wire[4])
		require.GreaterOrEqual(t, len(wire), length)
		last, wire = wire[:length], wire[length:]
	}
	want := []byte{21, 3, 3, 0, 2 + 8 + 16} // an explicit nonce and a tag of AES-GCM
	if version == tls.VersionTLS13 {
		want = []byte{23, 3, 3, 0, 2 + 1 + 16}
	}
	require.True(t, bytes.HasPrefix(last, want), "% x", last)
}
