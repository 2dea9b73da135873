package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"
)

var (
	errPanicked = errors.New("a function of the program panicked")
	errNoConn   = errors.New("DialContext returned neither a connection nor an error")
)

// open connects to one server, perhaps through a proxy, and shakes hands with it. The connection that it returns has not been started.
func (cl *Client) open(ctx context.Context, to hop, deadline time.Time) (c *clientConn, response http.Header, err error) {
	via, err := cl.proxyFor(ctx, to)
	if err != nil {
		return nil, nil, err
	}
	conn, err := cl.reach(ctx, to, via, deadline)
	if err != nil {
		return nil, nil, err
	}
	c = newClientConn(cl)
	c.url = (&url.URL{Scheme: to.url.Scheme, Host: to.url.Host, Path: to.url.Path}).String() // for the log: no credentials, no query
	c.attach(conn)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	isOpen := false
	defer func() {
		stop()
		if !isOpen {
			conn.Close()
		}
	}()
	if err = conn.SetDeadline(deadline); err != nil {
		return nil, nil, fmt.Errorf("websocket: connect: %w", err)
	}
	if err = cl.pave(c, to, via, deadline); err != nil {
		return nil, nil, err
	}
	if response, err = cl.shakeHands(c, to, deadline); err != nil {
		return nil, nil, err
	}
	if err = conn.SetDeadline(time.Time{}); err != nil {
		return nil, nil, fmt.Errorf("websocket: connect: %w", err)
	}
	isOpen = true
	return c, response, nil
}

// reach opens the network connection to a server, or to its proxy if there is one.
func (cl *Client) reach(ctx context.Context, to hop, via *url.URL, deadline time.Time) (conn net.Conn, err error) {
	first, what := to.url, "connect"
	if via != nil {
		first, what = via, "connect: proxy"
	}
	address := net.JoinHostPort(first.Hostname(), first.Port())
	if cl.DialContext == nil {
		dialer := net.Dialer{Deadline: deadline}
		conn, err = dialer.DialContext(ctx, "tcp", address)
	} else {
		conn, err = cl.callDialContext(ctx, address, deadline)
	}
	if err != nil {
		return nil, fmt.Errorf("websocket: %s: %w", what, err)
	}
	return conn, nil
}

// callDialContext calls the program's DialContext. It does not wait for one that goes on when its time is over; what that opens all the
// same is closed.
func (cl *Client) callDialContext(ctx context.Context, address string, deadline time.Time) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	dial, log, results := cl.DialContext, cl.logger(), make(chan result)
	go func() {
		r := result{err: errNoConn} // what it is if dial ends its goroutine
		defer func() {
			if reason := recover(); reason != nil {
				r.err = panicked(log, reason)
			}
			select {
			case results <- r:
			case <-ctx.Done():
				if r.err == nil {
					r.conn.Close()
				}
			}
		}()
		if r.conn, r.err = dial(ctx, "tcp", address); r.conn == nil && r.err == nil {
			r.err = errNoConn
		}
	}()
	select {
	case r := <-results:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pave lays on an open network connection what a WebSocket connection needs below it: a tunnel through a proxy, and TLS.
func (cl *Client) pave(c *clientConn, to hop, via *url.URL, deadline time.Time) (err error) {
	if via != nil {
		if c.conn, err = cl.tunnel(c.conn, to, via, deadline); err != nil {
			return err
		}
	}
	if !isSecure(to.url) {
		return nil
	}
	config := cl.tlsConfig()
	if config.ServerName == "" {
		config.ServerName = serverName(to.url)
	}
	config.NextProtos = overHTTP1(config.NextProtos)
	if c.conn, err = startTLS(c.conn, config); err == nil {
		return nil
	}
	if len(config.NextProtos) > 0 { // they may be what the server does not like
		return fmt.Errorf("websocket: handshake: TLS: offering %s: %w", strings.Join(config.NextProtos, ", "), err)
	}
	return fmt.Errorf("websocket: handshake: TLS: %w", err)
}

func startTLS(conn net.Conn, config *tls.Config) (net.Conn, error) {
	secured := tls.Client(conn, config)
	if err := secured.Handshake(); err != nil {
		return nil, err
	}
	return secured, nil
}

// tlsConfig returns a copy of the program's TLSConfig, also of one that was set to nil because of the Endpoint: a redirect may lead to
// TLS, and so may a proxy.
func (cl *Client) tlsConfig() *tls.Config {
	switch {
	case cl.TLSConfig != nil:
		return cl.TLSConfig.Clone()
	case cl.spare.config != nil && cl.spare.endpoint == cl.Endpoint:
		return cl.spare.config.Clone()
	}
	return new(tls.Config)
}

// spareTLS is the TLSConfig of a Client whose Endpoint needs none.
type spareTLS struct {
	config   *tls.Config
	endpoint string // for which the program has set it
}

// firstHop returns where the Endpoint is. If it is not for TLS, TLSConfig is set to nil.
func (cl *Client) firstHop() (to hop, err error) {
	u, secure, err := parseEndpoint(cl.Endpoint)
	if err != nil {
		return hop{}, err
	}
	if !secure && cl.TLSConfig != nil {
		cl.spare = spareTLS{cl.TLSConfig, cl.Endpoint}
		cl.TLSConfig = nil
	}
	return hop{url: u, isTrusted: true}, nil
}

// addCookies adds the cookies that the program's Jar has for a server to those that Headers has.
func (cl *Client) addCookies(header http.Header, to hop) {
	if cl.Jar == nil {
		return
	}
	own := &http.Request{Header: make(http.Header)}
	for _, cookie := range cl.Jar.Cookies(to.web()) {
		own.AddCookie(cookie)
	}
	if line := own.Header.Get("Cookie"); line != "" { // one line has them all: RFC 6265, section 5.4
		header.Set("Cookie", strings.Join(append(header["Cookie"], line), "; "))
	}
}

// keepCookies gives the program's Jar the cookies that a server has set.
func (cl *Client) keepCookies(header http.Header, from hop) {
	if cl.Jar == nil {
		return
	}
	if cookies := (&http.Response{Header: header}).Cookies(); len(cookies) > 0 {
		cl.Jar.SetCookies(from.web(), cookies)
	}
}

// logger returns the program's Logger, or the default one.
func (cl *Client) logger() *slog.Logger {
	if cl.Logger == nil {
		return slog.Default()
	}
	return cl.Logger
}

// panicked logs that a function of the program panicked while Connect was at work, and returns the error for that.
func panicked(log *slog.Logger, reason any) error {
	log.Error("websocket: client: a function of the program panicked", "panic", reason, "stack", string(debug.Stack()))
	return errPanicked
}
