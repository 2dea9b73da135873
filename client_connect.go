package websocket

import (
	"context"
	"fmt"
	"net/http"
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
