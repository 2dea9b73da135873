//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// Types of records (RFC 8446, section 5.1), and the most that one may claim (section 5.2; RFC 5246, section 6.2.3).
const (
	recordCipherSpec  = 20
	recordAlert       = 21
	recordHandshake   = 22
	recordData        = 23
	recordHeader      = 5
	maxRecord         = 16<<10 + 256
	maxRecord12       = 16<<10 + 2048
	claimedRecord     = 16 << 10
	handshakeHeader   = 4
	messageKeyUpdate  = 24
	maxHandshakeBytes = 64 << 10 // of a message: what crypto/tls takes
)

// Alerts (RFC 8446, section 6).
const (
	alertCloseNotify       = 0
	alertUnexpectedMessage = 10
	alertBadRecordMAC      = 20
	alertRecordOverflow    = 22
	alertProtocolVersion   = 70
	alertNoRenegotiation   = 100
)

// alertError is an alert of the server.
type alertError byte

func (e alertError) Error() string { return fmt.Sprintf("alert %d", byte(e)) }

// records is a client's end of TLS, record by record: it says what crypto/tls would not. It is a connection of what is in the records.
type records struct {
	net.Conn
	in      *bufio.Reader
	version uint16
	client  *direction // what it sends
	server  *direction // what it is sent
	data    []byte     // what is left of the last record
}

// NetConn is what it reads and writes.
func (r *records) NetConn() net.Conn { return r.Conn }

// direction protects the records of one side with AES-128-GCM and SHA-256 (RFC 8446, section 5.2; RFC 5288).
type direction struct {
	version uint16
	secret  []byte // of application traffic, TLS 1.3 alone
	aead    cipher.AEAD
	iv      []byte
	seq     uint64
}

// takeOver makes the TLS handshake and takes the connection over from crypto/tls, until the end of the test.
func (a *abuse) takeOver(version uint16) (*peer.Conn, *records) {
	a.t.Helper()
	c := a.DialPlain(a.t)
	held, keys := &peer.HeldConn{Conn: c.Conn}, new(bytes.Buffer)
	config := peer.ClientTLS()
	config.MinVersion, config.MaxVersion, config.KeyLogWriter = version, version, keys
	config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	conn := tls.Client(held, config)
	require.NoError(a.t, conn.Handshake())
	suite := conn.ConnectionState().CipherSuite
	if suite != tls.TLS_AES_128_GCM_SHA256 && suite != config.CipherSuites[0] {
		a.t.Skip("crypto/tls prefers another cipher suite here: ", tls.CipherSuiteName(suite))
	}
	r := &records{Conn: c.Conn, in: bufio.NewReader(c.Conn), version: version}
	if version == tls.VersionTLS13 {
		r.client, r.server = newDirection(logged(a, keys, "CLIENT_TRAFFIC_SECRET_0")), newDirection(logged(a, keys, "SERVER_TRAFFIC_SECRET_0"))
	} else {
		r.expand(logged(a, keys, "CLIENT_RANDOM"), held.WasRead())
	}
	c.Conn = r
	c.Reader.Reset(r)
	return c, r
}

// secret is a line of a key log: a secret, and the random bytes of the ClientHello.
type secret struct{ random, key []byte }

// logged finds a secret in a key log.
func logged(a *abuse, keys *bytes.Buffer, label string) (s secret) {
	a.t.Helper()
	for line := range strings.Lines(keys.String()) {
		if fields := strings.Fields(line); fields[0] == label {
			s.random, _ = hex.DecodeString(fields[1])
			s.key, _ = hex.DecodeString(fields[2])
		}
	}
	require.NotEmpty(a.t, s.key, label)
	return s
}

func newDirection(s secret) *direction {
	d := &direction{version: tls.VersionTLS13}
	d.take(s.key)
	return d
}

// take takes a traffic secret (RFC 8446, section 7.3).
func (d *direction) take(secret []byte) {
	d.secret, d.seq = secret, 0
	d.aead, d.iv = newGCM(d.expand("key", 16)), d.expand("iv", 12)
}

// update takes the next traffic secret (section 7.2).
func (d *direction) update() { d.take(d.expand("traffic upd", sha256.Size)) }

// expand is HKDF-Expand-Label (section 7.1).
func (d *direction) expand(label string, length int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(append(info, byte(len("tls13 "+label))), "tls13 "+label...)
	key, err := hkdf.Expand(sha256.New, d.secret, string(append(info, 0)), length)
	if err != nil {
		panic(err)
	}
	return key
}

// expand makes the keys of TLS 1.2 (RFC 5246, section 6.3). Each side has sent its Finished.
func (r *records) expand(master secret, wasRead []byte) {
	const random = recordHeader + handshakeHeader + 2 // its place in the ServerHello
	seed := append([]byte("key expansion"), wasRead[random:random+32]...)
	seed = append(seed, master.random...)
	mac := func(b ...[]byte) []byte {
		h := hmac.New(sha256.New, master.key)
		h.Write(bytes.Join(b, nil))
		return h.Sum(nil)
	}
	var keys []byte
	for a := mac(seed); len(keys) < 40; a = mac(a) {
		keys = append(keys, mac(a, seed)...)
	}
	r.client = &direction{version: r.version, aead: newGCM(keys[:16]), iv: keys[32:36], seq: 1}
	r.server = &direction{version: r.version, aead: newGCM(keys[16:32]), iv: keys[36:40], seq: 1}
}

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// protection returns the nonce of the next record and the bytes that are authenticated with it.
func (d *direction) protection(kind byte, length int) (nonce, also []byte) {
	seq := binary.BigEndian.AppendUint64(nil, d.seq)
	d.seq++
	if d.version != tls.VersionTLS13 {
		return append(bytes.Clone(d.iv), seq...), append(seq[:8:8], kind, 3, 3, byte(length>>8), byte(length))
	}
	nonce = bytes.Clone(d.iv)
	for i := range seq {
		nonce[4+i] ^= seq[i]
	}
	length += 1 + d.aead.Overhead()
	return nonce, []byte{recordData, 3, 3, byte(length >> 8), byte(length)}
}

// seal appends a record.
func (d *direction) seal(dst []byte, kind byte, payload []byte) []byte {
	nonce, also := d.protection(kind, len(payload))
	if d.version != tls.VersionTLS13 {
		length := 8 + len(payload) + d.aead.Overhead()
		dst = append(dst, kind, 3, 3, byte(length>>8), byte(length))
		return d.aead.Seal(append(dst, nonce[4:]...), nonce, payload, also)
	}
	return d.aead.Seal(append(dst, also...), nonce, append(payload[:len(payload):len(payload)], kind), also)
}

// open returns what is in a record.
func (d *direction) open(kind byte, body []byte) (byte, []byte, error) {
	if d.version != tls.VersionTLS13 {
		nonce, also := d.protection(kind, len(body)-8-d.aead.Overhead())
		plain, err := d.aead.Open(nil, nonce, body[8:], also)
		return kind, plain, err
	}
	nonce, also := d.protection(kind, len(body)-1-d.aead.Overhead())
	plain, err := d.aead.Open(nil, nonce, body, also)
	plain = bytes.TrimRight(plain, "\x00") // padding
	if err != nil || len(plain) == 0 {
		return 0, nil, fmt.Errorf("record of the server: %w", err)
	}
	return plain[len(plain)-1], plain[:len(plain)-1], nil
}

// record reads a record as it is on the wire.
func record(in io.Reader) (kind byte, body []byte, err error) {
	var head [recordHeader]byte
	if _, err = io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err = io.ReadFull(in, body); err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return head[0], body, err
}

// Read reads what the server sends. It follows its KeyUpdates; its alerts are errors, and the end of the stream is one without close_notify.
func (r *records) Read(b []byte) (int, error) {
	for len(r.data) == 0 {
		kind, body, err := record(r.in)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		if kind, body, err = r.server.open(kind, body); err != nil {
			return 0, err
		}
		switch {
		case kind == recordData:
			r.data = body
		case kind == recordHandshake && body[0] == messageKeyUpdate:
			r.server.update()
		case kind == recordAlert && body[1] == alertCloseNotify:
			return 0, io.EOF
		case kind == recordAlert:
			return 0, alertError(body[1])
		}
	}
	n := copy(b, r.data)
	r.data = r.data[n:]
	return n, nil
}

// Write sends application data in records.
func (r *records) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		part := b[n:min(n+claimedRecord, len(b))]
		_, err = r.Conn.Write(r.client.seal(nil, recordData, part))
		n += len(part)
	}
	return n, err
}

// keyUpdate appends a KeyUpdate and changes the keys.
func (r *records) keyUpdate(dst []byte, requested byte) []byte {
	dst = r.client.seal(dst, recordHandshake, []byte{messageKeyUpdate, 0, 0, 1, requested})
	r.client.update()
	return dst
}

// plainAlert reads records that are not protected up to an alert.
func plainAlert(in io.Reader) error {
	for {
		kind, body, err := record(in)
		if err != nil {
			return err
		}
		if kind == recordAlert && len(body) == 2 {
			return alertError(body[1])
		}
	}
}
