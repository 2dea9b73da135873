package peer

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"

	"github.com/stretchr/testify/require"
)

// ServerTLS is the configuration of a server with an ECDSA certificate.
func ServerTLS() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{CertificateECDSA()}} }

// ClientTLS is the configuration of a client that trusts the certificates of tests.
func ClientTLS() *tls.Config { return &tls.Config{RootCAs: Trust(), ServerName: ServerName} }

// Secure starts TLS on a connection: what is sent from now on goes through it. The handshake is made with the first byte, or by Handshake.
// A nil configuration is ClientTLS.
func (c *Conn) Secure(config *tls.Config) *tls.Conn {
	if config == nil {
		config = ClientTLS()
	}
	conn := tls.Client(c.Conn, config)
	c.Conn = conn
	c.Reader.Reset(conn)
	return conn
}

// TLS is the TLS connection, nil if there is none.
func (c *Conn) TLS() *tls.Conn {
	conn, _ := c.Conn.(*tls.Conn)
	return conn
}

// Handshake makes the TLS handshake. It may be called from any goroutine.
func (c *Conn) Handshake() error { return c.TLS().Handshake() }

// Socket is the socket under it all.
func (c *Conn) Socket() *net.TCPConn {
	c.T.Helper()
	tcp, ok := under(c.Conn).(*net.TCPConn)
	require.True(c.T, ok, "a socket is wanted, and not a %T", c.Conn)
	return tcp
}

// under is the connection that others were made of.
func under(conn net.Conn) net.Conn {
	for {
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = over.NetConn()
	}
}

// CutConn writes its bytes in pieces of at most that size, each a call of its own.
type CutConn struct {
	net.Conn
	Size int
}

// NetConn is what it writes to.
func (c *CutConn) NetConn() net.Conn { return c.Conn }

func (c *CutConn) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Conn.Write(b[n:min(n+c.Size, len(b))])
		n += m
	}
	return n, err
}

// HeldConn can hold back what is written, and keeps a copy of what has been read.
type HeldConn struct {
	net.Conn

	mu   sync.Mutex
	hold bool         // guarded by mu
	held bytes.Buffer // guarded by mu
	read bytes.Buffer // guarded by mu
}

// NetConn is what it reads and writes.
func (c *HeldConn) NetConn() net.Conn { return c.Conn }

// Hold holds back what is written from now on.
func (c *HeldConn) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = true
}

// Held takes what was held back. It is for the caller to send, or not.
func (c *HeldConn) Held() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = false
	held := bytes.Clone(c.held.Bytes())
	c.held.Reset()
	return held
}

// WasRead is what has been read.
func (c *HeldConn) WasRead() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.read.Bytes())
}

func (c *HeldConn) Read(b []byte) (n int, err error) {
	n, err = c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read.Write(b[:n])
	return n, err
}

func (c *HeldConn) Write(b []byte) (n int, err error) {
	c.mu.Lock()
	hold := c.hold
	if hold {
		c.held.Write(b)
	}
	c.mu.Unlock()
	if hold {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// ClientHello is the first flight of a client, as a connection would send it.
func ClientHello(config *tls.Config) []byte {
	if config == nil {
		config = ClientTLS()
	}
	near, far := net.Pipe()
	far.Close() // there is no answer
	c := &HeldConn{Conn: near}
	c.Hold()
	tls.Client(c, config).Handshake()
	near.Close()
	return c.firstRecords()
}

// firstRecords is what was held back before an alert.
func (c *HeldConn) firstRecords() []byte {
	held := c.Held()
	for n := 0; n+5 <= len(held); {
		if held[n] != 0x16 {
			return held[:n]
		}
		n += 5 + int(held[n+3])<<8 + int(held[n+4])
	}
	return held
}
