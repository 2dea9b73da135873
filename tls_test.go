//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestWholeRecords(t *testing.T) {
	record := func(kind byte, size int) string {
		return string([]byte{kind, 3, 3, byte(size >> 8), byte(size)}) + string(make([]byte, size))
	}
	one := record(recordHandshake, 100)
	for _, row := range []struct {
		name  string
		b     string
		whole int
	}{
		{"nothing is whole", "", 0},
		{"a part of a header is not", one[:4], 0},
		{"nor is a header whose body has not come", one[:5], 0},
		{"nor one that claims the most there may be", record(recordApplication, maxRecordBody)[:5], 0},
		{"nor a record but for its last byte", one[:104], 0},
		{"a record is", one, 105},
		{"so is an empty one", record(recordApplication, 0), 5},
		{"what is behind it waits", one + one[:7], 105},
		{"two are", one + record(recordAlert, 2), 112},
		{"from a header on that is none crypto/tls sees all", one + "GET / HTTP/1.1", 119},
		{"a body that is too long is none", one + record(recordApplication, maxRecordBody+1)[:6], 111},
		{"a type that is too low is none", "\x13\x03\x03\x00\x10", 5},
		{"a type that is too high is none", "\x18\x03\x03\x00\x10", 5},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.whole, wholeRecords([]byte(row.b))) })
	}
}

// FuzzRecords has what is true of any bytes: they are whole up to a place that does not depend on how they come, and a hello that is cut
// says the same.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\x00\x05hello\x17\x03\x03\x00\x01x\x15"))
	f.Add(append([]byte("\x16\x03\x01\x06\x00"), make([]byte, 1536)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := wholeRecords(b)
		for i := range b {
			part := wholeRecords(b[:i])
			require.LessOrEqual(t, part, min(i, whole))
			require.True(t, part == whole || i < whole || whole == len(b), "what is behind them does not matter")
		}
		require.Equal(t, whole, wholeRecords(b[:whole]))
		cut := appendHello(nil, b)
		require.Equal(t, tlsBodies(b), tlsBodies(cut))
		for len(cut) > 0 && cut[0] == recordHandshake {
			size, ok := parseRecord(cut)
			if !ok || size == 0 || size > len(cut) {
				break
			}
			require.LessOrEqual(t, size, recordHeader+maxHelloRecord)
			cut = cut[size:]
		}
	})
}

// tlsBodies joins what is in the records that are there, each run of those of one type.
func tlsBodies(b []byte) (bodies []string) {
	last := -1
	for {
		size, ok := parseRecord(b)
		if !ok || size == 0 || size > len(b) {
			return append(bodies, string(b))
		}
		if body := string(b[recordHeader:size]); int(b[0]) == last {
			bodies[len(bodies)-1] += body
		} else {
			bodies = append(bodies, body)
		}
		last, b = int(b[0]), b[size:]
	}
}

var tlsCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// tlsLoop is a loop that nobody runs, for servers that speak TLS.
func tlsLoop(tb testing.TB, handle HandlerPayloadFn) (l *loop, t *lease) {
	l, t = serveLoop(tb, handle)
	l.tls = &tls.Config{Certificates: []tls.Certificate{tlsCertificate()}}
	l.wire, l.buf = make([]byte, wireSize), make([]byte, wireSize)[:readSize]
	l.handshakes.limit = 8
	return l, t
}

// tlsConn is a connection of the loop whose TLS handshake is to come.
func tlsConn(tb testing.TB, l *loop) (c *conn, peer int) {
	c, peer = serveConn(tb, l)
	require.NoError(tb, unix.SetNonblock(c.fd(), true))
	require.NoError(tb, unix.SetNonblock(peer, true))
	c.life, c.rare, c.reads = life{}, &rare{opening: new(opening), moments: moments{phaseBegan: now()}}, readRecords
	c.about = &about{tls: newTLSStream(c, l.tls)}
	return c, peer
}

// tlsPeer is the client's side: crypto/tls waits for what cut lets through.
type tlsPeer struct {
	net.Conn
	cut func() int // how many bytes are written next
	out func(b []byte)
	in  func() []byte
	buf []byte
}

func (p *tlsPeer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		size := min(len(b)-n, p.cut())
		p.out(b[n : n+size])
		n += size
	}
	return n, nil
}

func (p *tlsPeer) Read(b []byte) (n int, err error) {
	for len(p.buf) == 0 {
		p.buf = p.in()
	}
	n = copy(b, p.buf)
	p.buf = p.buf[n:]
	return n, nil
}

func (p *tlsPeer) Close() error { return nil }

// tlsDial is the client of a connection, which the loop serves each time when bytes have been written, or are wanted.
func tlsDial(t *testing.T, l *loop, lease *lease, c *conn, peer int, cut func() int) *tls.Conn {
	serve := func() {
		c.readable, c.look = true, true
		for range 4 { // read, take the handshake on, go on with what is secured, read
			l.left = readRound
			l.takeHandshake()
			l.serve(lease, c)
			for next := l.agenda.next(); next != nil; next = l.agenda.next() {
				l.serve(lease, next)
			}
			l.mailbox.take(&l.agenda)
		}
	}
	p := &tlsPeer{cut: cut}
	p.out = func(b []byte) {
		for len(b) > 0 {
			n, err := writeSocket(peer, b, false)
			require.True(t, err == nil || err == errWouldBlock, err)
			b = b[n:]
			serve()
		}
	}
	p.in = func() []byte {
		b := make([]byte, 64<<10)
		for range 100 {
			n, err := readSocket(peer, b)
			if err == nil {
				require.Positive(t, n, "the end")
				return b[:n]
			}
			c.mu.Lock()
			c.flushLocked()
			c.mu.Unlock()
			serve()
		}
		require.Fail(t, "nothing comes")
		return nil
	}
	return tls.Client(p, &tls.Config{InsecureSkipVerify: true})
}

// tlsOpen opens a connection of the loop.
func tlsOpen(t *testing.T, l *loop, lease *lease, cut func() int) (c *conn, peer int, client *tls.Conn) {
	c, peer = tlsConn(t, l)
	client = tlsDial(t, l, lease, c, peer, cut)
	_, err := io.WriteString(client, rawRequest)
	require.NoError(t, err)
	answer := make([]byte, len(rawAccepted))
	_, err = io.ReadFull(client, answer)
	require.NoError(t, err)
	require.Equal(t, rawAccepted, string(answer))
	require.True(t, c.isOpen())
	require.Nil(t, c.about.tls.handshake)
	return c, peer, client
}

// tlsMessages has a client send messages over TLS and returns what the handler was given. The echoes are compared here.
func tlsMessages(t *testing.T, sizes []int, cut func() int) (got [][]byte) {
	l, lease := tlsLoop(t, func(conn int, payload []byte) {
		got = append(got, payload)
		SendBin(conn, payload)
	})
	c, _, client := tlsOpen(t, l, lease, cut)
	for _, size := range sizes { // crypto/tls has small records at first, and full ones behind 128 KiB
		_, err := client.Write(NewFrameBin(true, rawPattern(size, 0)))
		require.NoError(t, err)
		echo := make([]byte, len(NewFrameBin(false, make([]byte, size))))
		_, err = io.ReadFull(client, echo)
		require.NoError(t, err)
		require.Equal(t, NewFrameBin(false, rawPattern(size, 0)), echo)
	}
	require.Empty(t, c.about.tls.in)
	require.Empty(t, c.about.tls.tail)
	l.deadlines.remove(c)
	return got
}

func TestTLSStream(t *testing.T) {
	for _, row := range []struct {
		name  string
		cut   int
		sizes []int
	}{
		{"messages as they come", 1 << 20, []int{0, 1, 125, 126, 1000, 16379, 16380, 16381, 65530, 65536, 65537, 300000, 16384, 16379, 16380, 65536}},
		{"byte by byte", 1, []int{0, 1, 130, 2000}},
		{"in pieces that are no records", 1021, []int{0, 1, 130, 5000, 16384, 40000, 100000, 16384}},
		{"in pieces of a record and a bit", 16409, []int{5000, 16384, 70000, 100000, 16384, 16379}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := tlsMessages(t, row.sizes, func() int { return row.cut })
			require.Len(t, got, len(row.sizes))
			for i, size := range row.sizes {
				require.Equal(t, rawPattern(size, 0), got[i])
			}
		})
	}
}

// FuzzTLSStream cuts a conversation anywhere: the messages are the same.
func FuzzTLSStream(f *testing.F) {
	f.Add([]byte{1, 0, 255, 3}, uint16(130), uint16(17000))
	f.Add([]byte{255, 255, 0, 0, 7}, uint16(0), uint16(65535))
	f.Fuzz(func(t *testing.T, cuts []byte, one, two uint16) {
		next := 0
		cut := func() int {
			if len(cuts) < 2 {
				return 1 << 14
			}
			size := int(cuts[next%len(cuts)])<<3 + int(cuts[(next+1)%len(cuts)])&7 + 1
			next++
			return size
		}
		got := tlsMessages(t, []int{int(one), int(two)}, cut)
		require.Equal(t, [][]byte{rawPattern(int(one), 0), rawPattern(int(two), 0)}, got)
	})
}

// TestTLSWrite has a socket take little at a time: what is encrypted once is not encrypted again, and is as plain text where it was.
func TestTLSWrite(t *testing.T) {
	l, lease := tlsLoop(t, nil)
	c, peer := tlsConn(t, l)
	client := tlsDial(t, l, lease, c, peer, func() int { return 1 << 20 })
	require.NoError(t, client.Handshake())
	require.NoError(t, unix.SetsockoptInt(c.fd(), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
	s := c.about.tls
	want := rawPattern(400000, 0)
	rest, most := want, 0
	take := func(parts bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		var n int
		var err error
		size := min(len(rest), 100000)
		if parts && len(rest) > 3 && len(s.unsent) == 0 {
			n, err = s.writeParts(c.fd(), rest[:3], rest[3:size], false)
		} else {
			n, err = s.write(c.fd(), rest[:size], false)
		}
		require.NoError(t, err)
		rest = rest[n:]
		most = max(most, len(s.unsent))
	}
	p := client.NetConn().(*tlsPeer)
	p.in = func() []byte {
		b := make([]byte, 3000)
		for i := 0; ; i++ {
			if n, err := readSocket(peer, b); err == nil {
				return b[:n]
			}
			take(i%2 == 0)
		}
	}
	got := make([]byte, len(want))
	_, err := io.ReadFull(client, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	take(false)
	require.Empty(t, rest)
	require.Empty(t, s.unsent)
	require.LessOrEqual(t, most, sealSize+sealSize/16)
	l.deadlines.remove(c)
}

// TestTLSSlowPeer has a peer take less than is encrypted at once: that counts as taking something.
func TestTLSSlowPeer(t *testing.T) {
	l, lease := tlsLoop(t, nil)
	c, peer, _ := tlsOpen(t, l, lease, func() int { return 1 << 20 })
	require.NoError(t, unix.SetsockoptInt(c.fd(), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
	require.NoError(t, c.sendMessage(OpcodeBin, make([]byte, 300_000)))
	require.True(t, c.out.isStalled())
	c.out.since = 1
	left := c.out.len()
	_, err := readSocket(peer, make([]byte, 8192))
	require.NoError(t, err)
	l.now = now()
	c.mu.Lock()
	l.lookAtSocketLocked(c)
	c.mu.Unlock()
	require.Equal(t, left, c.out.len(), "a part of what is encrypted counts as not written")
	assert.NotEqual(t, int64(1), c.out.since)
	l.deadlines.remove(c)
}

// tlsHello is the first record of a client.
func tlsHello(t *testing.T) []byte {
	a, b := net.Pipe()
	defer b.Close()
	go tls.Client(a, &tls.Config{InsecureSkipVerify: true}).Handshake()
	hello := make([]byte, 4096)
	n, err := b.Read(hello)
	require.NoError(t, err)
	return hello[:n]
}

// TestTLSCallback has callbacks go on for longer than their clients, and others who wait for their turn, are there.
func TestTLSCallback(t *testing.T) {
	type call struct {
		conn          net.Conn
		remote, local string
	}
	loops := runtime.GOMAXPROCS(0)
	inside, release := make(chan call, loops), make(chan struct{})
	certificate := tlsCertificate()
	s := startServer(t, &ServerOptions{MaxHandshakes: 1, HandshakeTimeout: 500 * time.Millisecond, TLSConfig: &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			inside <- call{hello.Conn, hello.Conn.RemoteAddr().String(), hello.Conn.LocalAddr().String()}
			<-release
			return &certificate, nil
		}}})
	hello := tlsHello(t)
	for range loops {
		s.dial(t).send(hello)
	}
	var calls []call
	for range loops {
		calls = append(calls, rawGet(t, inside))
	}
	for range 100 {
		c := s.dial(t)
		c.send(hello)
		c.reset()
	}
	require.True(t, eventually(func() bool { return s.engine.connections.Load() == 0 }), "nobody waits for a callback")
	for _, l := range s.engine.loops {
		l.handshakes.mu.Lock()
		assert.Zero(t, l.handshakes.fresh.Len(), "who has gone waits no longer")
		l.handshakes.mu.Unlock()
	}
	for _, call := range calls {
		assert.Equal(t, s.Addr().String(), call.local)
		assert.Equal(t, call.remote, call.conn.RemoteAddr().String(), "it is known for as long as the callback runs")
		assert.NotEmpty(t, call.conn.LocalAddr().String(), "there is something to print")
	}
	close(release)
}

// tlsShake is a handshake of no connection, for the queue.
func tlsShake(begun bool) *tlsHandshake { return &tlsHandshake{begun: begun} }

func TestHandshakes(t *testing.T) {
	now := leastPatience
	take := func(q *handshakes, n int) (taken []*tlsHandshake) {
		for range n {
			h, givenUp := q.next(now)
			if givenUp != nil {
				taken = append(taken, givenUp)
			}
			if h == nil {
				break
			}
			h.begun = true
			taken = append(taken, h)
		}
		return taken
	}
	t.Run("the one that came last begins first", func(t *testing.T) {
		q := handshakes{limit: 2}
		a, b := tlsShake(false), tlsShake(false)
		q.add(a)
		q.add(b)
		assert.Equal(t, []*tlsHandshake{b, a}, take(&q, 3))
		assert.Equal(t, int64(never), q.due())
	})
	t.Run("those that have begun go on first", func(t *testing.T) {
		q := handshakes{limit: 2}
		a, b := tlsShake(false), tlsShake(false)
		q.add(a)
		take(&q, 1)
		q.park(a, 1)
		q.add(b)
		q.add(a)
		assert.Equal(t, []*tlsHandshake{a, b}, take(&q, 2))
	})
	t.Run("at the limit nobody begins while nobody waits for a client", func(t *testing.T) {
		q := handshakes{limit: 1}
		a, b := tlsShake(false), tlsShake(false)
		q.add(b)
		q.add(a)
		require.Equal(t, []*tlsHandshake{a}, take(&q, 2))
		require.Equal(t, int64(never), q.due(), "the loop may sleep")
		q.leave(a)
		require.Zero(t, q.due())
		assert.Equal(t, []*tlsHandshake{b}, take(&q, 2))
	})
	t.Run("the one that has waited longest for its client gives way", func(t *testing.T) {
		q := handshakes{limit: 2}
		a, b, c := tlsShake(false), tlsShake(false), tlsShake(false)
		q.add(a)
		q.add(b)
		take(&q, 2)
		q.park(b, 1)
		q.park(a, 1)
		q.add(c)
		require.Empty(t, take(&q, 1), "but not before its time")
		now = q.due()
		require.Equal(t, leastPatience+1, now)
		assert.Equal(t, []*tlsHandshake{b, c}, take(&q, 1))
		q.leave(b) // its goroutine ends
		assert.Equal(t, 2, q.n)
		q.leave(a)
		q.leave(c)
		assert.Equal(t, 0, q.n+q.parked.Len())
	})
	t.Run("one that ends before its turn is forgotten", func(t *testing.T) {
		q := handshakes{limit: 2}
		a := tlsShake(false)
		q.add(a)
		q.leave(a)
		assert.Equal(t, int64(never), q.due())
		assert.Empty(t, take(&q, 1))
	})
	t.Run("one that has ended is not parked", func(t *testing.T) {
		q := handshakes{limit: 2}
		a := tlsShake(false)
		q.add(a)
		take(&q, 1)
		q.leave(a)
		q.park(a, 1)
		assert.Equal(t, 0, q.n+q.parked.Len())
	})
}

func TestTLSConfig(t *testing.T) {
	for _, row := range []struct {
		protos, want []string
		handler      bool
	}{
		{nil, []string{"http/1.1"}, false},
		{nil, []string{"h2", "http/1.1"}, true},
		{[]string{"http/1.1"}, []string{"http/1.1"}, true},
		{[]string{"h2", "http/1.1", "acme-tls/1"}, []string{"h2", "http/1.1", "acme-tls/1"}, true},
		{[]string{"h2", "http/1.1", "acme-tls/1"}, []string{"http/1.1", "acme-tls/1"}, false},
		{[]string{"acme-tls/1"}, []string{"acme-tls/1", "http/1.1"}, false},
	} {
		t.Run(fmt.Sprint(row.protos, " with a Handler: ", row.handler), func(t *testing.T) {
			given := &tls.Config{NextProtos: slices.Clone(row.protos)}
			opts := ServerOptions{TLSConfig: given}
			if row.handler {
				opts.Handler = http.NotFoundHandler()
			}
			assert.Equal(t, row.want, opts.tlsConfig().NextProtos)
			assert.Equal(t, row.protos, given.NextProtos, "the program's own is as it was")
		})
	}
}
