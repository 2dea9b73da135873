package websocket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Reasons for not using a proxy. None quotes its URL, which may have a password in it.
var (
	errProxyScheme = errors.New("not an http or https URL with a host")
	errProxySOCKS  = errors.New("SOCKS is not spoken here: set Client.DialContext to a dialer that does, and Client.Proxy to http.ProxyURL(nil)")
)

// ProxyError is the answer of a proxy that opens no tunnel to the server (RFC 9110, section 9.3.6): any status but 200 to 299, such as
// 407 if it wants to know who asks. Client.Connect returns one; errors.As finds it. It belongs to the caller.
type ProxyError struct {
	// Status is the status code, and Reason what the status line says besides.
	Status int
	Reason string

	// Header holds the header fields under their canonical names, such as Proxy-Authenticate. It is nil if they were malformed.
	Header http.Header

	// Body has what has come of the body's first 4 KiB, which is awaited for a second at most, and not beyond HandshakeTimeout.
	Body []byte
}

// Error returns a text with the status and the reason.
func (err *ProxyError) Error() string {
	return strings.TrimRight(fmt.Sprintf("websocket: proxy refused: %d %s", err.Status, oneLine((*HandshakeError)(err).reason())), " ")
}

// proxyFor returns the proxy on the way to a server, nil if there is none. Its URL has a port.
func (cl *Client) proxyFor(ctx context.Context, to hop) (via *url.URL, err error) {
	choose := cl.Proxy
	if choose == nil {
		choose = http.ProxyFromEnvironment
	}
	u := to.web()
	request := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: cl.offers(to), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if via, err = choose(request.WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("websocket: proxy: %w", err)
	}
	if via == nil {
		return nil, nil
	}
	if via, err = checkProxy(via); err != nil {
		return nil, fmt.Errorf("websocket: proxy: %w", err)
	}
	return via, nil
}

// checkProxy returns the URL of a proxy with a port, if it is one.
func checkProxy(u *url.URL) (via *url.URL, err error) {
	via = &url.URL{Scheme: strings.ToLower(u.Scheme), User: u.User}
	port := "80"
	switch {
	case strings.HasPrefix(via.Scheme, "socks"):
		return nil, errProxySOCKS
	case via.Scheme != "http" && via.Scheme != "https" || u.Hostname() == "":
		return nil, errProxyScheme
	case via.Scheme == "https":
		port = "443"
	}
	if via.Host, err = hostAndPort(u, port); err == nil {
		_, err = basicCredentials(u.User)
	}
	return via, err
}

// tunnel has a proxy open a tunnel to a server, over a connection to the proxy (RFC 9110, section 9.3.6).
func (cl *Client) tunnel(conn net.Conn, to hop, via *url.URL, deadline time.Time) (net.Conn, error) {
	if via.Scheme == "https" {
		config := cl.tlsConfig()
		config.ServerName, config.NextProtos, config.EncryptedClientHelloConfigList = serverName(via), nil, nil // the server's
		var err error
		if conn, err = startTLS(conn, config); err != nil {
			return nil, fmt.Errorf("websocket: proxy: TLS: %w", err)
		}
	}
	if _, err := conn.Write(appendConnect(nil, to.url, via.User)); err != nil {
		return nil, fmt.Errorf("websocket: proxy: %w", err)
	}
	head, rest, err := cl.readAnswer(conn)
	if err != nil {
		return nil, fmt.Errorf("websocket: proxy: %w", err)
	}
	if err = checkTunnel(head); err != nil {
		if refused, ok := err.(*ProxyError); ok {
			refused.Body = readRefusal(conn, rest, (*HandshakeError)(refused), deadline)
		}
		return nil, err
	}
	return &tunnelConn{Conn: conn, rest: rest}, nil
}

// appendConnect appends the request for a tunnel to a server.
func appendConnect(dst []byte, server *url.URL, user *url.Userinfo) []byte {
	address := net.JoinHostPort(serverName(server), server.Port())
	dst = append(dst, "CONNECT "+address+" HTTP/1.1\r\nHost: "+address+"\r\n"...)
	if credentials, _ := basicCredentials(user); credentials != "" {
		dst = append(dst, "Proxy-Authorization: "+credentials+"\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// checkTunnel returns an error unless the head of a proxy's answer opens the tunnel; then its fields mean nothing, Content-Length
// included. The error is a ProxyError, without its body, if the proxy refuses.
func checkTunnel(head []byte) error {
	line, fields, _ := strings.Cut(string(head), "\r\n")
	_, status, reason, err := parseStatusLine(line)
	switch {
	case err != nil:
		return fmt.Errorf("websocket: proxy: %w", err)
	case status >= 200 && status <= 299:
		return nil
	}
	header, _ := parseFields(unfold(fields))
	return &ProxyError{Status: status, Reason: reason, Header: header}
}

// tunnelConn is a connection through a proxy. What has come right behind the proxy's answer is the server's, and is read first.
type tunnelConn struct {
	net.Conn
	rest []byte // owned by the goroutine that reads
}

func (c *tunnelConn) Read(b []byte) (n int, err error) {
	if len(c.rest) > 0 {
		n = copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}
