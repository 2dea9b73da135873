package websocket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

const (
	// firstCallID is the first id that Call chooses: no program counts so far, no clock of milliseconds shows it, and it is exact in
	// programs whose numbers are floating point (RFC 8259, section 6).
	firstCallID = 1 << 52

	// maxCallBacklog is how many bytes of messages wait for handlers, besides one of the greatest size, if a handler runs that may be
	// waiting for an answer behind them.
	maxCallBacklog = 4 << 20

	// callPatience is how long a Call waits for an answer while nothing is read because maxCallBacklog wait for a handler, which may
	// itself be waiting for it.
	callPatience = time.Second

	// handlerPatience is how long a Call that needs another connection waits for a handler that keeps the client from connecting.
	handlerPatience = time.Second
)

var (
	errCallBacklog = errors.New("websocket: call: too many messages wait for a handler in front of the answer")
	errNoRequest   = errors.New("websocket: call: no request")
)

// CallError is what Call returns if there is no answer. errors.Is finds in Err what has ended the wait: the error of the context, or,
// if the connection was lost or there is none, one that matches ErrConnClosed.
type CallError struct {
	// InDoubt says that the server may have carried out the request, or may yet. If it is false the server has surely never got
	// all of it.
	InDoubt bool

	Err error
}

// Error returns a text with the cause.
func (err *CallError) Error() string {
	if err.InDoubt {
		return fmt.Sprintf("websocket: call: no answer, the request may have been carried out: %v", err.Err)
	}
	return fmt.Sprintf("websocket: call: request was not sent: %v", err.Err)
}

// Unwrap returns the cause.
func (err *CallError) Unwrap() error { return err.Err }

// ResponseError is what CallJSON returns for an answer whose Code is not one of success, 200 to 299.
type ResponseError struct {
	Code    int32
	Message string
	Body    string
}

// Error returns a text with the code and the message.
func (err *ResponseError) Error() string {
	return fmt.Sprintf("websocket: call: answer %d %s", err.Code, err.Message)
}

// Call sends a request, as the server's RegisterTextHandler expects it, and returns the answer: the Response with the same ID. Whatever
// its Code, the error is nil. Of the request Method, Target, Body and ID are sent; it is not changed. If ID is 0, as usual, the client
// chooses one that it has not used before. Any number of calls may be in flight, from any goroutines; answers come in any order. Calls
// with an ID of their own share it with nobody: one that is in flight already is an error.
//
// The wait ends with ctx, and with the connection: then the error is a *CallError, which says whether the server may have carried
// out the request. An answer that comes later is dropped, but one with an ID of the program's own reaches HandleText. If the client is
// not connected, Call returns a *CallError at once that matches ErrConnClosed. With Reconnect.Resend a Call outlives its connection: it
// is sent again on the next one, with the same ID.
//
// All other texts of the server reach HandleText, broadcasts among them. An answer overtakes messages that wait for their handlers, so a
// handler may Call, HandleState too. While it waits, up to MaxMessageSize and 4 MiB of messages wait for it; if the answer is behind
// more than that, Call returns an error.
func (cl *Client) Call(ctx context.Context, req *Request) (*Response, error) {
	if req == nil {
		return nil, errNoRequest
	}
	id := req.ID
	if id == 0 {
		id = firstCallID - 1 + cl.lastCall.Add(1)
	}
	payload := appendRequestJSON(make([]byte, 0, requestSize(req)), req, id)
	s := cl.resending(req)
	for inDoubt := false; ; {
		c, err := cl.connection(ctx, s)
		if err != nil {
			return nil, &CallError{InDoubt: inDoubt, Err: err}
		}
		res, err := c.callOver(ctx, id, payload)
		var failed *CallError
		if !errors.As(err, &failed) {
			return res, err
		}
		failed.InDoubt = failed.InDoubt || inDoubt
		if s == nil || !c.isEnding() {
			return nil, err
		}
		inDoubt = failed.InDoubt
	}
}

// CallJSON is Call with values: body becomes the Body of the request as JSON, and the Body of the answer a T. If body is nil, or the
// answer has no Body, it is empty, or the zero value. If the Code of the answer is not one of success, 200 to 299, the error is a
// *ResponseError.
func CallJSON[T any](ctx context.Context, cl *Client, method, target string, body any) (value T, err error) {
	req := &Request{Method: method, Target: target}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return value, fmt.Errorf("websocket: call: %w", err)
		}
		req.Body = string(text)
	}
	res, err := cl.Call(ctx, req)
	switch {
	case err != nil:
		return value, err
	case res.Code < http.StatusOK || res.Code >= http.StatusMultipleChoices:
		return value, &ResponseError{res.Code, res.Message, res.Body}
	case res.Body == "":
		return value, nil
	}
	if err = json.Unmarshal([]byte(res.Body), &value); err != nil {
		return value, fmt.Errorf("websocket: call: answer: %w", err)
	}
	return value, nil
}

// resending returns the session over whose connections a call goes on. It is nil if it does not.
func (cl *Client) resending(req *Request) *session {
	cl.mu.Lock()
	s := cl.session
	mayBe := s.isReconnecting()
	cl.mu.Unlock()
	if mayBe && s.reconnect.Resend != nil && s.reconnect.Resend(req) {
		return s
	}
	return nil
}

// connection returns the connection. If there is none, and a session is given, it waits for the next one of that, but not for a handler
// that may itself be waiting for us.
func (cl *Client) connection(ctx context.Context, s *session) (*clientConn, error) {
	for {
		cl.mu.Lock()
		c, isOurs, isFollowed := cl.conn, s == nil || cl.session == s, s != nil && cl.session == s && s.isReconnecting()
		if isFollowed && cl.turn == nil {
			cl.turn = make(chan struct{})
		}
		turn := cl.turn
		cl.mu.Unlock()
		switch {
		case isOurs && c != nil && !c.isEnding():
			return c, nil
		case !isFollowed:
			return nil, ErrConnClosed
		}
		select {
		case <-turn:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(handlerPatience):
			if cl.isHeldUp() {
				return nil, ErrConnClosed
			}
		}
	}
}

// isHeldUp reports whether the client does not connect because a handler of the connection before, or HandleState, runs.
func (cl *Client) isHeldUp() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.conn.isDown() && (cl.attempt == nil || cl.isTelling)
}

// isEnding reports whether the program can send nothing any more.
func (c *clientConn) isEnding() bool { return c.isDown() || c.out.isSealed() }

// callOver makes a call over a connection. That there was no answer is a *CallError.
func (c *clientConn) callOver(ctx context.Context, id uint64, payload []byte) (*Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, &CallError{Err: err}
	}
	answered, err := c.calls.add(id)
	if err != nil {
		return nil, err
	}
	c.beginWait()
	sending := make(chan error, 1)
	if ctx.Done() == nil {
		sending <- c.send(OpcodeText, payload)
	} else { // which may end before the server takes the request
		go func() { sending <- c.send(OpcodeText, payload) }()
	}
	select {
	case a := <-answered:
		return a.res, a.err
	case err = <-sending:
	case <-ctx.Done():
		return c.endCall(id, answered, true, ctx.Err())
	}
	if err != nil {
		return c.endCall(id, answered, false, err)
	}
	select {
	case a := <-answered:
		return a.res, a.err
	case <-ctx.Done():
		return c.endCall(id, answered, true, ctx.Err())
	case <-c.down:
		if err = c.err(); err == nil {
			err = ErrConnClosed
		}
		return c.endCall(id, answered, true, err)
	}
}

// endCall gives a call up, unless its answer is there.
func (c *clientConn) endCall(id uint64, answered <-chan callEnd, inDoubt bool, err error) (*Response, error) {
	end := c.calls.remove
	if inDoubt {
		end = c.calls.giveUp
	}
	if end(id) == nil {
		a := <-answered
		return a.res, a.err
	}
	return nil, &CallError{InDoubt: inDoubt, Err: err}
}

// beginWait is called before a Call waits, which may be that of a handler: reading, if it waits for room in the backlog, goes on.
func (c *clientConn) beginWait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stepAsideLocked()
	if c.backlogCost >= maxBacklog {
		c.changed.Broadcast()
	}
	if c.isFullLocked() { // all the same
		time.AfterFunc(callPatience, c.failCalls)
	}
}

// backlogLimitLocked returns how many bytes of messages wait for their handlers before reading does. A handler that runs may be waiting
// for an answer.
func (c *clientConn) backlogLimitLocked() int {
	if c.handling && c.calls.waiting.Load() > 0 {
		return min(int(c.rules.maxMessage), math.MaxInt-maxCallBacklog) + maxCallBacklog
	}
	return maxBacklog
}

// failCalls is called when reading has waited for room in the backlog for callPatience. If it still does, calls are failed: one may be that
// of the handler that it waits for.
func (c *clientConn) failCalls() {
	c.mu.Lock()
	isStuck := c.isFullLocked()
	c.mu.Unlock()
	if isStuck {
		c.calls.failAll(errCallBacklog)
	}
}

// requestSize is the length of a request as JSON, with the longest id, if no character has to be escaped.
func requestSize(req *Request) int {
	const rest = len(`{"id":18446744073709551615,"method":"","target":"","body":""}`)
	return rest + len(req.Method) + len(req.Target) + len(req.Body)
}

// appendRequestJSON appends a request as the server reads it.
func appendRequestJSON(dst []byte, req *Request, id uint64) []byte {
	dst = strconv.AppendUint(append(dst, `{"id":`...), id, 10)
	dst = appendString(append(dst, `,"method":`...), req.Method)
	dst = appendString(append(dst, `,"target":`...), req.Target)
	dst = appendString(append(dst, `,"body":`...), req.Body)
	return append(dst, '}')
}
