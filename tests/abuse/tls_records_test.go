//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// TestAbuseRecords attacks what is behind the TLS handshake, record by record.
func TestAbuseRecords(t *testing.T) { runRowsWith(t, abuse{tls: true}, recordRows) }

var recordRows = []attackRow{
	{name: "1,000 clients that claim a record of 16 KiB cost nothing", attack: claimedRecords},
	{name: "records that no client sends are answered with an alert, and end the connection", attack: badRecords},
	{name: "KeyUpdates that ask for one are answered, at any place in what is sent", attack: keyUpdates},
	{name: "300,000 KeyUpdates that ask for one, from a client that does not read, cost bounded memory", attack: keyUpdateFlood},
	{name: "records of one byte are one message in bounded memory", attack: tinyRecords},
	{name: "what ends in the middle of a record is the end of the connection, and no message", attack: cutRecords},
	{name: "FIN without close_notify, close_notify without FIN and a reset end the connection", attack: ends},
	{name: "clients that never read are dropped in time, and their queues are the limit", logs: []string{"websocket: slow clients dropped"}, attack: neverRead},
}

// each is what each of many connections may cost in bytes that has sent nothing to be kept.
const each = 512

// costs fails the test if many connections make the heap grow by more than limit bytes each, in what is done to them.
func (a *abuse) costs(n, limit int, act func()) {
	a.t.Helper()
	before := live()
	act()
	c := a.Connect(a.t) // what came before it has been read
	c.Text("x")
	c.ExpectText("x")
	var after uint64
	ok := peer.Eventually(func() bool { after = live(); return after <= before+uint64(n*limit) })
	cost := float64(int64(after)-int64(before)) / float64(n)
	assert.True(a.t, ok, "%.0f bytes each", cost)
	a.t.Logf("%.0f bytes each", cost)
}

func claimedRecords(a *abuse) {
	const peers = 1000
	a.start(&websocket.ServerOptions{})
	conns := a.connectAll(peers)
	for _, length := range []uint16{claimedRecord, maxRecord} {
		half := conns[:peers/2]
		conns = conns[peers/2:]
		a.costs(len(half), each, func() {
			for _, c := range half {
				_, err := c.Socket().Write(binary.BigEndian.AppendUint16([]byte{recordData, 3, 3}, length))
				require.NoError(a.t, err)
			}
		})
	}
}

// badRecord is what no client sends.
type badRecord struct {
	name    string
	version uint16
	send    func(r *records) []byte
	alert   alertError
}

// times is the same record many times.
func times(n int, kind byte, payload ...byte) func(r *records) []byte {
	return func(r *records) (b []byte) {
		for range n {
			b = r.client.seal(b, kind, payload)
		}
		return b
	}
}

func verbatim(b ...byte) func(*records) []byte { return func(*records) []byte { return b } }

var badRecordRows = []badRecord{
	{"empty records", tls.VersionTLS13, times(1000, recordData), alertUnexpectedMessage},
	{"empty records", tls.VersionTLS12, times(1000, recordData), alertUnexpectedMessage},
	{"KeyUpdates alone", tls.VersionTLS13, func(r *records) (b []byte) {
		for range 1000 {
			b = r.keyUpdate(b, 1)
		}
		return b
	}, alertUnexpectedMessage},
	{"warnings", tls.VersionTLS12, times(1000, recordAlert, 1, 90), alertUnexpectedMessage},
	{"a record that was changed", tls.VersionTLS13, changed, alertBadRecordMAC},
	{"a record that was changed", tls.VersionTLS12, changed, alertBadRecordMAC},
	{"a record that comes again", tls.VersionTLS13, again, alertBadRecordMAC},
	{"a record that comes again", tls.VersionTLS12, again, alertBadRecordMAC},
	{"a record that is too large", tls.VersionTLS13, verbatim(recordData, 3, 3, 0xFF, 0xFF, 1), alertRecordOverflow},
	{"a record that is too large", tls.VersionTLS12, verbatim(recordData, 3, 3, 0xFF, 0xFF, 1), alertRecordOverflow},
	{"a record of one byte too many", tls.VersionTLS13, oversized(maxRecord + 1), alertRecordOverflow},
	{"a record of one byte too many", tls.VersionTLS12, oversized(maxRecord12 + 1), alertRecordOverflow},
	{"a record of another version", tls.VersionTLS13, verbatim(recordData, 0x47, 0x45, 0, 1, 1), alertProtocolVersion},
	{"a request in the clear", tls.VersionTLS12, verbatim([]byte(peer.Request)...), alertProtocolVersion},
	{"a second ClientHello", tls.VersionTLS13, clientHello, alertUnexpectedMessage},
	{"a second ClientHello, which asks for a renegotiation", tls.VersionTLS12, clientHello, alertUnexpectedMessage},
	{"a HelloRequest, which is for servers", tls.VersionTLS12, times(1, recordHandshake, 0, 0, 0, 0), alertNoRenegotiation},
	{"a change of ciphers", tls.VersionTLS12, times(1, recordCipherSpec, 1), alertUnexpectedMessage},
	{"an empty record of the handshake", tls.VersionTLS13, times(1, recordHandshake), alertUnexpectedMessage},
}

func changed(r *records) []byte {
	b := r.client.seal(nil, recordData, websocket.NewFrameText(true, []byte("never")))
	b[len(b)-1] ^= 1
	return b
}

func again(r *records) []byte {
	b := r.client.seal(nil, recordData, websocket.NewFramePong(true, nil))
	return append(b, b...)
}

func oversized(length int) func(*records) []byte {
	return func(*records) []byte {
		return append([]byte{recordData, 3, 3, byte(length >> 8), byte(length)}, make([]byte, length)...)
	}
}

func clientHello(r *records) []byte {
	return r.client.seal(nil, recordHandshake, peer.ClientHello(nil)[recordHeader:])
}

func badRecords(a *abuse) {
	got := make(chan string, 1)
	a.start(&websocket.ServerOptions{HandleText: func(conn int, p []byte) {
		if !calmEcho(conn, p) {
			got <- string(p)
		}
	}})
	for _, row := range badRecordRows {
		c, r := a.takeOver(row.version)
		require.NoError(a.t, c.Shake(), row.name)
		sent := row.send(r)
		go r.Conn.Write(sent) // the server may have had enough before the end of it
		_, err := io.Copy(io.Discard, c.Reader)
		assert.ErrorIs(a.t, err, row.alert, "%s (%s)", row.name, tls.VersionName(row.version))
		assert.NoError(a.t, toEnd(r.Conn), row.name)
		c.Close()
	}
	assert.Empty(a.t, got)
}

// toEnd reads up to the end of a connection, whichever kind of end it is. It returns an error if none comes.
func toEnd(conn io.Reader) error {
	_, err := io.Copy(io.Discard, conn)
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("the server does not close the connection: %w", err)
	}
	return nil
}

func keyUpdates(a *abuse) {
	a.start(&websocket.ServerOptions{})
	c, r := a.takeOver(tls.VersionTLS13)
	require.NoError(a.t, c.Shake())
	frame := websocket.NewFrameText(true, []byte("hello"))
	for i := range 3 * len(frame) { // between any two bytes of a message, and between messages
		at := i % (len(frame) + 1)
		sent := r.client.seal(nil, recordData, frame[:at])
		sent = r.keyUpdate(sent, byte(i%2))
		sent = r.client.seal(sent, recordData, frame[at:])
		_, err := r.Conn.Write(sent)
		require.NoError(a.t, err)
		c.ExpectText("hello")
	}
}

// keyUpdateFlood has a message follow each KeyUpdate, so that it is not one of too many. The answers are more than sockets take.
func keyUpdateFlood(a *abuse) {
	const pairs = 300_000
	a.start(&websocket.ServerOptions{WriteTimeout: time.Hour})
	c, r := a.takeOver(tls.VersionTLS13)
	require.NoError(a.t, c.Shake())
	require.NoError(a.t, c.Socket().SetReadBuffer(16<<10))
	var sent []byte // made before: what others notice of it is the server's
	for pong := websocket.NewFramePong(true, nil); len(sent) < pairs*minPair; {
		sent = r.client.seal(r.keyUpdate(sent, 1), recordData, pong)
	}
	before := live()
	r.SetWriteDeadline(time.Now().Add(timeLimit(3 * time.Second)))
	n, err := r.Conn.Write(sent)
	assert.ErrorIs(a.t, err, os.ErrDeadlineExceeded, "it is not held up")
	var after uint64
	assert.True(a.t, peer.Eventually(func() bool { after = live(); return after <= before+1<<20 }), "%d bytes more", int64(after)-int64(before))
	a.t.Logf("%d of %d bytes were taken", n, len(sent))
	runtime.KeepAlive(sent)
	r.Close()
}

// minPair is the size of a KeyUpdate and a Pong in bytes.
const minPair = 2*(recordHeader+1+16) + 5 + 6

func tinyRecords(a *abuse) {
	const size = 100_000
	got := make(chan int, 1)
	a.start(&websocket.ServerOptions{HandleBin: func(_ int, p []byte) { got <- len(p) }})
	c, r := a.takeOver(tls.VersionTLS13)
	require.NoError(a.t, c.Shake())
	var sent []byte
	for _, b := range websocket.NewFrameBin(true, make([]byte, size)) {
		sent = r.client.seal(sent, recordData, []byte{b})
	}
	done := a.bounded(8 << 20)
	_, err := r.Conn.Write(sent)
	require.NoError(a.t, err)
	require.Equal(a.t, size, peer.Get(a.t, got))
	done()
}

func cutRecords(a *abuse) {
	const clients = 100
	closed := make(chan websocket.CloseCause, clients)
	got := make(chan string, clients)
	a.start(&websocket.ServerOptions{
		OnClose: func(_ websocket.ConnInfo, cause websocket.CloseCause) { closed <- cause },
		HandleText: func(conn int, p []byte) {
			if !calmEcho(conn, p) {
				got <- string(p)
			}
		},
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for i := range clients / 2 {
			c, r := a.takeOver(version)
			require.NoError(a.t, c.Shake())
			sent := r.client.seal(nil, recordData, websocket.NewFrameText(true, []byte("never")))
			_, err := r.Conn.Write(sent[:i%len(sent)])
			require.NoError(a.t, err)
			require.NoError(a.t, c.Socket().CloseWrite())
			require.NoError(a.t, toEnd(r.Conn))
			require.Equal(a.t, websocket.ClosedLost, peer.Get(a.t, closed).Kind)
			c.Close()
		}
	}
	require.Empty(a.t, got)
}
