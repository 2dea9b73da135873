package websocket

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// maxInterim is how many answers with a status 1xx may come before the one that counts (RFC 9110, section 15.2).
	maxInterim = 16

	// maxRefusalBody is how many bytes of a refusal's body the program is shown, and maxRefusalTime how long they are awaited.
	maxRefusalBody = 4 << 10
	maxRefusalTime = time.Second

	// answerReadSize is how many bytes of the answer to an opening handshake one read has room for, at least.
	answerReadSize = 1 << 10
)

var (
	errConnected = errors.New("websocket: client is connected already")
	errAbandoned = fmt.Errorf("websocket: connect: ended by Close or Quit: %w", ErrConnClosed)
)

// Connect is ConnectContext without a context. It takes HandshakeTimeout at most.
func (cl *Client) Connect() (err error) { return cl.ConnectContext(context.Background()) }

// ConnectContext opens the connection and returns when the opening handshake is done (RFC 6455, section 4.1), after HandshakeTimeout at
// the latest. If the server answers with another status than 101, the error is a *HandshakeError, with the status, the reason, the
// header fields and the beginning of the body. A client whose connection has ended may connect again; connecting while it is connected,
// or is connecting, is an error.
//
// The context is for connecting only. If it ends before that is done, the error matches its Err, and no connection is left; once
// ConnectContext has returned nil, its end changes nothing. Close, CloseWith and Quit end a ConnectContext in the same way; its error
// then matches ErrConnClosed. The next ConnectContext first waits until the one that they have ended has returned, which is soon.
func (cl *Client) ConnectContext(ctx context.Context) (err error) {
	at, err := cl.beginAttempt(ctx)
	if err != nil {
		return err
	}
	c, response, err := cl.dial(at.ctx)
	return cl.endAttempt(at, c, response, err)
}

// attempt is a Connect that is at work. It is immutable.
type attempt struct {
	ctx  context.Context         // derived from the program's, and ended by Close and Quit
	end  context.CancelCauseFunc // ends ctx
	done chan struct{}           // closed when the attempt has ended
}

// abandoned returns why an attempt has to end, nil if it may go on.
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

// beginAttempt registers an attempt as the one that is at work. If Close or Quit has ended another one, it waits for that to return.
func (cl *Client) beginAttempt(ctx context.Context) (*attempt, error) {
	at := &attempt{done: make(chan struct{})}
	at.ctx, at.end = context.WithCancelCause(withoutDeadline{ctx})
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

// withoutDeadline hides the deadline of a context, which ends at it all the same. net.Dialer would keep it with a timer of its own, and
// might fail a moment before the context has ended, with an error that does not match that.
type withoutDeadline struct{ context.Context }

func (withoutDeadline) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// endAttempt keeps and starts the connection that an attempt has opened, unless the attempt was ended meanwhile. It returns what
// Connect returns.
func (cl *Client) endAttempt(at *attempt, c *clientConn, response http.Header, err error) error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	defer at.end(nil)
	defer close(at.done)
	cl.attempt = nil
	if abandoned := at.abandoned(); abandoned != nil {
		if err == nil {
			go c.conn.Close() // with TLS this may take a while
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

// abandon ends the Connect that is at work, if there is one.
func (cl *Client) abandon() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.quits++
	if cl.attempt != nil {
		cl.attempt.end(errAbandoned)
	}
}

// dial connects and shakes hands, unless the context ends first. The connection that it returns has not been started.
func (cl *Client) dial(ctx context.Context) (c *clientConn, response http.Header, err error) {
	u, secure, err := cl.serverURL()
	if err == nil {
		err = cl.checkOffers(u)
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
	defer func(c *clientConn) { // the result is nil if there is an error
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
	if response, err = cl.shakeHands(c, u, deadline); err != nil {
		return nil, nil, err
	}
	if err = c.conn.SetDeadline(time.Time{}); err != nil {
		return nil, nil, fmt.Errorf("websocket: connect: %w", err)
	}
	return c, response, nil
}

// startTLS makes the handshake of TLS. The caller has to close the connection that it returns, also if there is an error.
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
		if len(config.NextProtos) > 0 { // they may be what the server does not like
			return secured, fmt.Errorf("websocket: handshake: TLS: offering %s: %w", strings.Join(config.NextProtos, ", "), err)
		}
		return secured, fmt.Errorf("websocket: handshake: TLS: %w", err)
	}
	return secured, nil
}

// serverURL parses Endpoint. The URL that it returns has a port. If it is not for TLS, TLSConfig is set to nil.
func (cl *Client) serverURL() (u *url.URL, secure bool, err error) {
	if u, secure, err = parseEndpoint(cl.Endpoint); err == nil && !secure {
		cl.TLSConfig = nil
	}
	return u, secure, err
}

// shakeHands sends the opening handshake and reads the answer (RFC 6455, section 4.1). What follows the answer stays in the connection's
// buffer.
func (cl *Client) shakeHands(c *clientConn, u *url.URL, deadline time.Time) (response http.Header, err error) {
	offered := cl.offers(u)
	if options := c.compression; options != nil {
		offered.Add("Sec-WebSocket-Extensions", offerDeflate(options.Window, options.Codec.TakesDict()))
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
		if refused, ok := err.(*HandshakeError); ok {
			refused.Body = readRefusal(c.conn, rest, refused, deadline)
		}
		return nil, err
	}
	if err = c.agree(response); err != nil {
		return nil, err
	}
	c.in, c.intake.unread, c.intake.at = c.conn, slices.Clone(rest), time.Now()
	return response, nil
}

// agree takes what the server has answered to the offer of permessage-deflate.
func (c *clientConn) agree(response http.Header) error {
	if c.compression == nil {
		return nil
	}
	options := c.compression
	terms, err := acceptDeflate(response["Sec-Websocket-Extensions"], options.Window, options.Codec.TakesDict())
	if err == nil && terms.on() {
		c.deflation = newDeflation(&deflateOptions{*options, int(c.rules.maxMessage)}, terms)
		c.rules.deflates = true
	}
	return err
}

// checkOffers returns an error if the program's fields or subprotocols cannot be sent.
func (cl *Client) checkOffers(u *url.URL) error {
	if err := checkFields(cl.Headers); err != nil {
		return err
	}
	if cl.Compression != nil && slices.Contains(extensionNames(cl.offers(u)), deflateName) {
		return fmt.Errorf("websocket: %w: Headers offers permessage-deflate, and so does Compression", ErrInvalidHeaderWSExtensions)
	}
	return checkSubprotocols(cl.Subprotocols)
}

// offers returns the fields that the program, and the user of the URL, add to the request.
func (cl *Client) offers(u *url.URL) http.Header {
	header := make(http.Header, len(cl.Headers))
	for name, values := range cl.Headers {
		for _, value := range values {
			header.Add(name, value)
		}
	}
	if len(cl.Subprotocols) > 0 {
		header.Set("Sec-WebSocket-Protocol", joinLines(cl.Subprotocols))
	}
	if credentials, _ := basicCredentials(u.User); credentials != "" && header["Authorization"] == nil {
		header.Set("Authorization", credentials)
	}
	return header
}

// readRefusal reads the beginning of a refusal's body, of which rest has come with the head. What does not come in time is left out.
func readRefusal(conn net.Conn, rest []byte, refused *HandshakeError, deadline time.Time) (body []byte) {
	n, isKnown, isChunked := contentLength(refused.Status, refused.Header)
	if soon := time.Now().Add(maxRefusalTime); soon.Before(deadline) {
		deadline = soon
	}
	conn.SetReadDeadline(deadline) // if it fails, the reads do
	in := io.MultiReader(bytes.NewReader(rest), conn)
	switch {
	case isChunked:
		in = httputil.NewChunkedReader(in)
	case isKnown:
		in = io.LimitReader(in, n)
	}
	body, _ = io.ReadAll(io.LimitReader(in, maxRefusalBody))
	return body
}

// readAnswer reads the head of the server's final answer. rest is what came behind it. Answers with a status 1xx before it are skipped;
// their bytes count towards the limit of its size.
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
