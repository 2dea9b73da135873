package interop

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
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
	mu     sync.Mutex
	packet []byte // guarded by mu
}

// dialEager connects to the host of a URL.
func dialEager(target string, packet []byte) (net.Conn, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	var c net.Conn
	if u.Scheme == "wss" {
		c, err = tls.Dial("tcp", u.Host, nil)
	} else {
		c, err = net.Dial("tcp", u.Host)
	}
	if err != nil {
		return nil, err
	}
	return &eager{Conn: c, packet: packet}, nil
}

func (c *eager) Write(b []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.packet == nil {
		return c.Conn.Write(b)
	}
	all := append(bytes.Clone(b), c.packet...)
	c.packet = nil
	if _, err = c.Conn.Write(all); err != nil {
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
