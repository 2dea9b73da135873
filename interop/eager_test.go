package interop

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/net/http2"
)

// eager is a connection that sends a packet in one write with what is sent first.
type eager struct {
	net.Conn
	below  *held // nil without TLS
	mu     sync.Mutex
	packet []byte // guarded by mu
}

// dialEager connects to the host of a URL. With TLS 1.3, the end of its handshake is in that write too.
func dialEager(target string, packet []byte) (net.Conn, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil || u.Scheme != "wss" {
		return &eager{Conn: c, packet: packet}, err
	}
	below := &held{Conn: c, holds: true}
	secured := tls.Client(below, &tls.Config{ServerName: u.Hostname()})
	if err = secured.Handshake(); err == nil && secured.ConnectionState().Version == tls.VersionTLS13 && len(below.kept) == 0 {
		err = errors.New("the handshake has ended without what comes behind it")
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &eager{Conn: secured, below: below, packet: packet}, nil
}

// held is a connection that keeps what is written until something is read, so that one packet carries it.
type held struct {
	net.Conn
	mu    sync.Mutex
	holds bool   // guarded by mu
	kept  []byte // guarded by mu
}

func (c *held) Write(b []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holds {
		return c.Conn.Write(b)
	}
	c.kept = append(c.kept, b...)
	return len(b), nil
}

func (c *held) Read(b []byte) (n int, err error) {
	if err = c.flush(true); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// flush writes what was kept. holds says whether to go on keeping.
func (c *held) flush(holds bool) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds = c.holds && holds
	if len(c.kept) > 0 {
		_, err = c.Conn.Write(c.kept)
		c.kept = nil
	}
	return err
}

func (c *eager) Write(b []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.packet == nil {
		return c.Conn.Write(b)
	}
	all := append(bytes.Clone(b), c.packet...)
	c.packet = nil
	if _, err = c.Conn.Write(all); err == nil && c.below != nil {
		err = c.below.flush(false)
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// streamTransport opens a stream of HTTP/2 (RFC 8441, section 5) for a client that asks for an upgrade of HTTP/1.1. The packet is sent
// before the answer.
type streamTransport struct{ early []byte }

func (s streamTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, out := io.Pipe()
	connect := r.Clone(context.WithoutCancel(r.Context())) // it ends with the handshake, the stream does not
	connect.Method = http.MethodConnect
	connect.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(s.early), body), body}
	connect.Header[":protocol"] = []string{"websocket"}
	for _, name := range []string{"Connection", "Upgrade", "Sec-WebSocket-Key"} {
		connect.Header.Del(name)
	}
	transport := new(http2.Transport)
	res, err := transport.RoundTrip(connect)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		res.StatusCode = http.StatusSwitchingProtocols
		res.Header.Set("Connection", "Upgrade")
		res.Header.Set("Upgrade", "websocket")
		res.Header.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(accept[:]))
		res.Body = streamBody{res.Body, out, transport}
	}
	return res, nil
}

// streamBody is a stream of HTTP/2 as if it were a connection, the only one of its transport.
type streamBody struct {
	io.ReadCloser
	out       *io.PipeWriter
	transport *http2.Transport
}

func (b streamBody) Write(p []byte) (n int, err error) { return b.out.Write(p) }

func (b streamBody) Close() error {
	b.out.Close()
	err := b.ReadCloser.Close()
	b.transport.CloseIdleConnections()
	return err
}
