package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// maxInterim is how many answers of the kind "wait a little" may come before the one that counts.
	maxInterim = 16

	// answerReadSize is how much of the answer to an opening handshake is read at once, at least, in bytes.
	answerReadSize = 1 << 10
)

var (
	errConnected = errors.New("websocket: client is connected already")
	errAbandoned = fmt.Errorf("websocket: connect: ended by Close or Quit: %w", ErrConnClosed)
)

// Connect is ConnectContext without a context: it takes HandshakeTimeout at most.
func (cl *Client) Connect() (err error) { return cl.ConnectContext(context.Background()) }

// ConnectContext opens the connection and returns when the opening handshake is done (RFC 6455, section 4.1). Where the server
// refuses it, the text of the error has the status code and the reason. A client whose connection has ended may connect again,
// from any goroutine; while it is connected, or is connecting, that is an error.
//
// The context is for connecting: where it ends, the error matches its Err, and no connection is left. Once ConnectContext has
// returned nil, it is of no matter. Close, CloseWith and Quit end a ConnectContext likewise, whose error then matches
// ErrConnClosed. One that is called after them waits for the end of the former, which is near.
func (cl *Client) ConnectContext(ctx context.Context) (err error) {
	at, err := cl.beginAttempt(ctx)
	if err != nil {
		return err
	}
	c, response, err := cl.dial(at.ctx)
	return cl.endAttempt(at, c, response, err)
}

// attempt is a Connect that is at work.
type attempt struct {
	ctx  context.Context         // of the program, and ended by Close and Quit
	end  context.CancelCauseFunc // of ctx
	done chan struct{}           // closed when it has ended
}

// abandoned returns why an attempt is to end, nil where it is not.
func (at *attempt) abandoned() error {
	switch err := at.ctx.Err(); {
	case err == nil:
		return nil
	case context.Cause(at.ctx) == errAbandoned:
		return errAbandoned
	default:
		return fmt.Errorf("websocket: connect: %w", err)
	}
}

// beginAttempt makes an attempt the one that is at work. It waits for one that was ended by Close or Quit.
func (cl *Client) beginAttempt(ctx context.Context) (*attempt, error) {
	at := &attempt{done: make(chan struct{})}
	at.ctx, at.end = context.WithCancelCause(ctx)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for quits := cl.quits; ; {
		former := cl.attempt
		err := at.abandoned()
		switch {
		case err != nil:
		case cl.quits != quits:
			err = errAbandoned
		case cl.conn != nil && !cl.conn.isDown(), former != nil && former.abandoned() == nil:
			err = errConnected
		case former == nil:
			cl.attempt = at
			return at, nil
		}
		if err != nil {
			at.end(nil)
			return nil, err
		}
		cl.mu.Unlock()
		select {
		case <-former.done:
		case <-ctx.Done():
		}
		cl.mu.Lock()
	}
}

// endAttempt keeps the connection that an attempt has opened, unless it is not wanted any more.
func (cl *Client) endAttempt(at *attempt, c *clientConn, response http.Header, err error) error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	defer at.end(nil)
	defer close(at.done)
	cl.attempt = nil
	if abandoned := at.abandoned(); abandoned != nil {
		if err == nil {
			go c.conn.Close() // with TLS it may take a while
		}
		return abandoned
	}
	if err != nil {
		return err
	}
	cl.conn, cl.response = c, response
	c.start()
	return nil
}

// abandon ends a Connect that is at work.
func (cl *Client) abandon() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.quits++
	if cl.attempt != nil {
		cl.attempt.end(errAbandoned)
	}
}

// dial connects and shakes hands, until the context ends.
func (cl *Client) dial(ctx context.Context) (c *clientConn, response http.Header, err error) {
	u, secure, err := cl.serverURL()
	if err == nil {
		err = checkFields(cl.Headers)
	}
	if err != nil {
		return nil, nil, err
	}
	c = newClientConn(cl)
	c.url = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String() // for the log: no credentials, no query
	deadline := time.Now().Add(min(orDefault(cl.HandshakeTimeout, defaultHandshakeTimeout), maxTimeout))
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), u.Port()))
	if err != nil {
		return nil, nil, fmt.Errorf("websocket: connect: %w", err)
	}
	c.attach(conn)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func(c *clientConn) { // the result is nil where there is an error
		stop()
		if err != nil {
			c.conn.Close()
		}
	}(c)
	if err = c.conn.SetDeadline(deadline); err != nil {
		return nil, nil, fmt.Errorf("websocket: connect: %w", err)
	}
	if secure {
		if c.conn, err = cl.startTLS(c.conn, u); err != nil {
			return nil, nil, err
		}
	}
	if response, err = cl.shakeHands(c, u); err != nil {
		return nil, nil, err
	}
	if err = c.conn.SetDeadline(time.Time{}); err != nil {
		return nil, nil, fmt.Errorf("websocket: connect: %w", err)
	}
	return c, response, nil
}

// startTLS shakes hands for TLS. The connection that it returns is to be closed whether there is an error or not.
func (cl *Client) startTLS(conn net.Conn, u *url.URL) (net.Conn, error) {
	config := new(tls.Config)
	if cl.TLSConfig != nil {
		config = cl.TLSConfig.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = serverName(u)
	}
	config.NextProtos = overHTTP1(config.NextProtos)
	secured := tls.Client(conn, config)
	if err := secured.Handshake(); err != nil {
		if len(config.NextProtos) > 0 { // it may be what the server does not like
			return secured, fmt.Errorf("websocket: handshake: TLS: offering %s: %w", strings.Join(config.NextProtos, ", "), err)
		}
		return secured, fmt.Errorf("websocket: handshake: TLS: %w", err)
	}
	return secured, nil
}

// endpoint reads Endpoint. The URL that it returns has a port.
func (cl *Client) serverURL() (u *url.URL, secure bool, err error) {
	if u, secure, err = parseEndpoint(cl.Endpoint); err == nil && !secure {
		cl.TLSConfig = nil
	}
	return u, secure, err
}

// shakeHands sends the opening handshake and reads the answer. What follows the answer stays in the connection's buffer.
func (cl *Client) shakeHands(c *clientConn, u *url.URL) (response http.Header, err error) {
	offered := make(http.Header, len(cl.Headers))
	for name, values := range cl.Headers {
		for _, value := range values {
			offered.Add(name, value)
		}
	}
	if credentials, _ := basicCredentials(u.User); credentials != "" && offered["Authorization"] == nil {
		offered.Set("Authorization", credentials)
	}
	isSecure := u.Scheme == "wss" || u.Scheme == "https"
	request, key, err := appendRequest(nil, resourceName(u), hostField(u, isSecure), offered)
	if err != nil {
		return nil, err
	}
	if _, err = c.conn.Write(request); err != nil {
		return nil, fmt.Errorf("websocket: handshake: %w", err)
	}
	head, rest, err := cl.readAnswer(c.conn)
	if err != nil {
		return nil, err
	}
	if response, err = checkAccept(head, key, offered); err != nil {
		return nil, err
	}
	c.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(rest), c.conn), clientReadSize)
	return response, nil
}

// readAnswer reads the head of the server's final answer, and perhaps the rest of what came with it. Answers before that one are
// skipped; they count for the limit of its size.
func (cl *Client) readAnswer(conn net.Conn) (head, rest []byte, err error) {
	maxSize := orDefault(cl.MaxHeaderSize, defaultMaxHeaderSize)
	maxFields := orDefault(cl.MaxHeaderFields, defaultMaxHeaderFields)
	var scanner headerScanner
	var answer []byte
	var readErr error
	for interim := 0; ; {
		n, err := scanner.scan(answer, maxSize, maxFields)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("websocket: handshake: answer: %w", err)
		case n > 0 && interim < maxInterim && isInterim(answer[:n]):
			interim++
			answer, maxSize, scanner = answer[n:], maxSize-n, headerScanner{}
			continue
		case n > 0:
			return answer[:n], answer[n:], nil
		case readErr != nil:
			return nil, nil, fmt.Errorf("websocket: handshake: no complete answer: %w", readErr)
		}
		answer = slices.Grow(answer, answerReadSize)
		n, readErr = conn.Read(answer[len(answer):cap(answer)])
		answer = answer[:len(answer)+n]
	}
}
