package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"

	"github.com/wsloop/websocket/benchmarks/internal/raw"
	"golang.org/x/sys/unix"
)

// certificateName is the name that the run's certificate is for.
const certificateName = "localhost"

// clientConfig is a client's with its defaults, which trusts the certificates of a PEM file. Only the records are of full size from
// the first one on, as otherwise those of a connection that has sent 128 KiB are.
func clientConfig(caFile string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", caFile)
	}
	return &tls.Config{RootCAs: roots, ServerName: certificateName, DynamicRecordSizingDisabled: true}, nil
}

// secure is the TLS of a connection: crypto/tls over a transport that never waits. The handshake is a coroutine, which gives way
// where it needs bytes that are not there yet.
type secure struct {
	conn      *tls.Conn
	transport transport
	proceed   func() (gaveWay struct{}, more bool)
	abandon   func()
	err       error // of the handshake
}

func newSecure(fd int, config *tls.Config) *secure {
	s := &secure{transport: transport{fd: fd}}
	s.conn = tls.Client(&s.transport, config)
	s.proceed, s.abandon = iter.Pull(func(yield func(struct{}) bool) {
		s.transport.giveWay = yield
		s.err = s.conn.Handshake()
		s.transport.giveWay = nil
	})
	return s
}

// handshake goes on as far as it can.
func (s *secure) handshake() (done bool, err error) {
	s.transport.drained = false
	if _, more := s.proceed(); more {
		return false, nil
	}
	s.proceed, s.abandon = nil, nil
	return true, s.err
}

// flight returns what the handshake has to send.
func (s *secure) flight() []byte {
	b := s.transport.out
	s.transport.out = nil
	return b
}

// seal encrypts b. The result stays as it is until the next call, and longer if that is told that some of it is unsent.
func (s *secure) seal(b []byte, unsent bool) (ciphertext []byte, err error) {
	if !unsent {
		s.transport.out = s.transport.out[:0]
	}
	n := len(s.transport.out)
	_, err = s.conn.Write(b)
	return s.transport.out[n:], err
}

// read decrypts what has arrived: one record at a time, until it returns 0 without an error.
func (s *secure) read(b []byte) (n int, err error) {
	n, err = s.conn.Read(b)
	switch {
	case errors.Is(err, errDrained):
		return n, nil
	case errors.Is(err, io.ErrUnexpectedEOF): // the end without close_notify
		return n, io.EOF
	}
	return n, err
}

// terms says what was negotiated.
func (s *secure) terms() string {
	state := s.conn.ConnectionState()
	terms := fmt.Sprintf("%s, %s, %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.CurveID)
	if key, ok := state.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey); ok {
		terms += ", ECDSA " + key.Params().Name
	}
	if state.DidResume {
		terms += ", resumed"
	}
	return terms
}

// recordClientHello returns the first record of a client.
func recordClientHello(config *tls.Config) ([]byte, error) {
	s := newSecure(-1, config)
	s.transport.drained = true
	if _, more := s.proceed(); !more {
		return nil, s.err
	}
	s.abandon()
	return s.flight(), nil
}

// transport reads from a socket and collects what is written.
type transport struct {
	net.Conn // none: crypto/tls calls nothing else here

	fd      int
	drained bool // the socket has no more, until the poller says so
	out     []byte
	giveWay func(struct{}) bool // during the handshake: returns true once the poller has said so
}

func (t *transport) Read(b []byte) (n int, err error) {
	for t.drained {
		if t.giveWay == nil {
			return 0, errDrained
		}
		if !t.giveWay(struct{}{}) {
			return 0, net.ErrClosed
		}
	}
	n, err = raw.Recv(t.fd, b)
	t.drained = n < len(b)
	switch {
	case err == unix.EAGAIN:
		return t.Read(b)
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (t *transport) Write(b []byte) (n int, err error) {
	t.out = append(t.out, b...)
	return len(b), nil
}

// errDrained is temporary, which crypto/tls forgives.
var errDrained net.Error = drained{}

type drained struct{}

func (drained) Error() string   { return "nothing to read" }
func (drained) Timeout() bool   { return true }
func (drained) Temporary() bool { return true }
