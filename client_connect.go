package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"time"
)

const (
	// maxInterim is how many answers with a status 1xx may come before the one that counts (RFC 9110, section 15.2).
	maxInterim = 16

	// maxRefusalBody is how many bytes of a refusal's body the program is shown, and maxRefusalTime how long they are awaited.
	maxRefusalBody = 4 << 10
	maxRefusalTime = time.Second

	// deadlineDelay is by how much a context's end precedes the deadline that a dialer is told.
	deadlineDelay = time.Second

	// answerReadSize is how many bytes of the answer to an opening handshake one read has room for, at least.
	answerReadSize = 1 << 10
)

var (
	errConnected = errors.New("websocket: client is connected already")
	errGone      = errors.New("websocket: connect: a function of the program has ended its goroutine")
	errAbandoned = fmt.Errorf("websocket: connect: ended by Close or Quit: %w", ErrConnClosed)
)

// Connect is ConnectContext without a context. It takes HandshakeTimeout at most.
func (cl *Client) Connect() (err error) { return cl.ConnectContext(context.Background()) }

// ConnectContext opens the connection and returns when the opening handshake is done (RFC 6455, section 4.1), after HandshakeTimeout at
// the latest. If the server answers with another status than 101, the error is a *HandshakeError, with the status, the reason, the
// header fields and the beginning of the body. A client whose connection has ended may connect again; connecting while it is connected,
// or is connecting, is an error, and so it is while Reconnect does it: see Reconnect.
//
// A redirect is followed (RFC 9110, section 15.4): status 301, 302, 303, 307 or 308 with a Location, which may be relative or have any
// of the four schemes; up to 10 of them, all within HandshakeTimeout, and never from TLS to a server without. Headers are sent again,
// but Authorization, Cookie, Proxy-Authorization and the user of the Endpoint go to no other host or port, and not back again either;
// from port 80 to 443 with TLS is no other. What a Location has of a user or a fragment is ignored. A redirect that is not followed is
// an error that says why, and matches its *HandshakeError, which has no body.
//
// The context is for connecting only. If it ends before that is done, the error matches its Err, and no connection is left; once
// ConnectContext has returned nil, its end changes nothing. Close, CloseWith and Quit end a ConnectContext in the same way; its error
// then matches ErrConnClosed. The next ConnectContext first waits until the one that they have ended has returned, which is soon.
func (cl *Client) ConnectContext(ctx context.Context) (err error) {
	at, err := cl.beginAttempt(ctx)
	if err != nil {
		return err
	}
	cl.tellStates()
	if err = cl.connect(at); err != nil {
		cl.tellStates() // that it is connected is told by the connection
	}
	return err
}

// attempt is a Connect that is at work, or one that a session makes by itself. It is immutable.
type attempt struct {
	ctx     context.Context         // derived from the program's, and ended by Close and Quit
	end     context.CancelCauseFunc // ends ctx
	done    chan struct{}           // closed when the attempt has ended
	session *session

	// Of an attempt that a session makes: when it begins, and what has an element if it begins earlier.
	due   time.Time
	hurry chan struct{} // nil for a Connect
}

func newAttempt(ctx context.Context, s *session) *attempt {
	at := &attempt{done: make(chan struct{}), session: s}
	at.ctx, at.end = context.WithCancelCause(lateDeadline{ctx})
	return at
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
	at := newAttempt(ctx, newSession(cl))
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for quits := cl.quits; ; {
		former := cl.attempt
		err := at.abandoned()
		switch {
		case err != nil:
		case cl.quits != quits:
			err = errAbandoned
		case cl.conn != nil && !cl.conn.isDown():
			err = errConnected
		case cl.session.isReconnecting():
			err = errReconnecting
		case former != nil && former.abandoned() == nil:
			err = errConnected
		case former == nil:
			cl.attempt, cl.session = at, at.session
			cl.noteLocked(at.session, StateConnecting, nil)
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

// lateDeadline puts off what a context says of its deadline, at which it ends all the same. net.Dialer shares the time until then among
// the addresses of a name, and keeps it with a timer of its own: without the delay it might fail a moment before the context has ended,
// with an error that does not match that.
type lateDeadline struct{ context.Context }

func (ctx lateDeadline) Deadline() (deadline time.Time, ok bool) {
	deadline, ok = ctx.Context.Deadline()
	return deadline.Add(deadlineDelay), ok
}

// endAttempt keeps and starts the connection that an attempt has opened, unless the attempt was ended meanwhile. It returns what
// Connect returns. If that is an error, the session of a Connect is over.
func (cl *Client) endAttempt(at *attempt, c *clientConn, response http.Header, err error) error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	defer at.end(nil)
	defer close(at.done)
	if cl.attempt == at {
		cl.attempt = nil
	}
	if abandoned := at.abandoned(); abandoned != nil {
		if err == nil {
			go c.conn.Close() // with TLS this may take a while
		}
		err = abandoned
	}
	switch {
	case err == nil:
		cl.openLocked(at.session, c, response)
	case at.hurry == nil:
		at.session.over = true
		cl.noteLocked(at.session, StateEnded, endCause(err))
	}
	return err
}

// openLocked starts a connection.
func (cl *Client) openLocked(s *session, c *clientConn, response http.Header) {
	cl.conn, cl.response = c, response
	s.opened = true
	s.backoff.opened()
	c.client, c.session, c.opened = cl, s, time.Now()
	c.toldOpened = cl.noteLocked(s, StateConnected, nil)
	c.start()
	cl.turnLocked()
}

// endCause returns what HandleState is told of an error of Connect: nothing if the program wanted it.
func endCause(err error) error {
	if err == errAbandoned {
		return nil
	}
	return err
}

// abandon ends the attempt that is at work, if there is one, and all that would follow by itself. An attempt that a session makes is
// not waited for by the next Connect: it may have called us.
func (cl *Client) abandon() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.quits++
	cl.endSessionLocked()
	if cl.attempt == nil {
		return
	}
	cl.attempt.end(errAbandoned)
	if cl.attempt.hurry != nil {
		cl.attempt = nil
	}
}

// dial connects and shakes hands with the server, or with the one that redirects lead to, unless the context ends first. The connection
// that it returns has not been started. It is made on a goroutine of its own: Proxy, Jar and what TLSConfig calls are the program's, and may
// panic or end it, but nobody else must wait for this attempt for ever.
func (cl *Client) dial(ctx context.Context) (c *clientConn, response http.Header, err error) {
	done := make(chan struct{})
	err = errGone
	go func() {
		defer close(done)
		defer func() {
			if reason := recover(); reason != nil {
				err = fmt.Errorf("websocket: connect: %w", panicked(cl.logger(), reason))
			}
		}()
		c, response, err = cl.dialHops(ctx)
	}()
	<-done
	return c, response, err
}

// dialHops is dial on that goroutine.
func (cl *Client) dialHops(ctx context.Context) (c *clientConn, response http.Header, err error) {
	to, err := cl.firstHop()
	if err == nil {
		err = cl.checkOffers(to)
	}
	if err != nil {
		return nil, nil, err
	}
	deadline := time.Now().Add(min(orDefault(cl.HandshakeTimeout, defaultHandshakeTimeout), maxTimeout))
	for {
		c, response, err = cl.open(ctx, to, deadline)
		answer, ok := err.(*HandshakeError)
		if !ok || !answer.isRedirect() {
			return c, response, err
		}
		if to, err = to.follow(answer); err != nil {
			return nil, nil, err
		}
	}
}

// shakeHands sends the opening handshake and reads the answer (RFC 6455, section 4.1). What follows the answer stays in the connection's
// buffer.
func (cl *Client) shakeHands(c *clientConn, to hop, deadline time.Time) (response http.Header, err error) {
	offered := cl.offers(to)
	cl.addCookies(offered, to)
	if options := c.compression; options != nil {
		offered.Add("Sec-WebSocket-Extensions", offerDeflate(options.Window, options.Codec.TakesDict()))
	}
	request, key, err := appendRequest(nil, resourceName(to.url), hostField(to.url, isSecure(to.url)), offered)
	if err != nil {
		return nil, err
	}
	if _, err = c.conn.Write(request); err != nil {
		return nil, fmt.Errorf("websocket: handshake: %w", err)
	}
	head, rest, err := cl.readAnswer(c.conn)
	if err != nil {
		return nil, fmt.Errorf("websocket: handshake: %w", err)
	}
	if response, err = checkAccept(head, key, offered); err != nil {
		if refused, ok := err.(*HandshakeError); ok {
			cl.keepCookies(refused.Header, to)
			if !refused.isRedirect() {
				refused.Body = readRefusal(c.conn, rest, refused, deadline)
			}
		}
		return nil, err
	}
	cl.keepCookies(response, to)
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
func (cl *Client) checkOffers(to hop) error {
	if err := checkFields(cl.Headers); err != nil {
		return err
	}
	if cl.Compression != nil && slices.Contains(extensionNames(cl.offers(to)), deflateName) {
		return fmt.Errorf("websocket: %w: Headers offers permessage-deflate, and so does Compression", ErrInvalidHeaderWSExtensions)
	}
	return checkSubprotocols(cl.Subprotocols)
}

// offers returns the fields that the program, and the user of the URL, add to the request. Who is not trusted gets no credentials.
func (cl *Client) offers(to hop) http.Header {
	header := make(http.Header, len(cl.Headers))
	for name, values := range cl.Headers {
		for _, value := range values {
			header.Add(name, value)
		}
	}
	if len(cl.Subprotocols) > 0 {
		header.Set("Sec-WebSocket-Protocol", joinLines(cl.Subprotocols))
	}
	if credentials, _ := basicCredentials(to.url.User); credentials != "" && header["Authorization"] == nil {
		header.Set("Authorization", credentials)
	}
	if !to.isTrusted {
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
			header.Del(name)
		}
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

// readAnswer reads the head of the final answer of a server or a proxy. rest is what came behind it. Answers with a status 1xx before it
// are skipped; their bytes count towards the limit of its size.
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
			return nil, nil, fmt.Errorf("answer: %w", err)
		case n > 0 && interim < maxInterim && isInterim(answer[:n]):
			interim++
			answer, maxSize, scanner = answer[n:], maxSize-n, headerScanner{}
			continue
		case n > 0:
			return answer[:n], answer[n:], nil
		case readErr != nil:
			return nil, nil, fmt.Errorf("no complete answer: %w", readErr)
		}
		answer = slices.Grow(answer, answerReadSize)
		n, readErr = conn.Read(answer[len(answer):cap(answer)])
		answer = answer[:len(answer)+n]
	}
}
