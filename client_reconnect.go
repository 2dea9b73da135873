package websocket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Reconnect makes a Client connect again by itself when a connection that was open has ended: it was lost, or the server has closed it.
// It does not begin before: the first attempt is that of Connect, which returns its error. It ends with Close, CloseWith and Quit, at
// once and from anywhere, HandleState included. From the first connection to StateEnded Connect returns an error.
//
// # Waits
//
// The first try comes after a random time of up to Min. With every try that fails that limit doubles, up to Max; it starts anew once a
// connection has lasted for Max. A server that closes with 1001 (going away) or 1012 (service restart) sends all its clients away at once:
// then the wait is a random time of up to Max from the beginning. After 1013 (try again later) it is between Max and twice that. A
// Retry-After of a refusal, in seconds or as a date, comes on top, up to an hour of it.
//
// So n clients that a server has sent away come at n/Max a second: 333 for 10,000 clients and the default. If it closes them one after
// the other, as Server.Shutdown does, and refuses them until it is done, their tries stay below 500 a second. A server that dies without a
// word and is back at once has nearly all of them within Min, 500 milliseconds. If it is away for t seconds, windows have grown to about
// that: some 1.5 n/t clients come in the first second, 1,600 of 10,000 after 10 seconds, and 2 n/Max, 667, if it takes longer than Max. A
// program with many clients sets Min: with 10 seconds no second has more than 1.7 n/Min tries, and 1,300 of 10,000 clients connect in it.
//
// # What is final
//
// What will not change by itself is not tried again: a status below 500 of the opening handshake, or of a proxy, except 408, 425 and 429;
// a certificate that is not accepted, or no TLS where there should be; an Endpoint that is none; an answer with the wrong Upgrade, Connection,
// extension or subprotocol; Close frames, of either side, with 1000 (the purpose is fulfilled), 1002, 1003, 1007, 1008, 1009, 1010
// (somebody breaks a rule), 3000 and 3003 (unauthorized, forbidden). One exception: 1008 from a server of this package that has found the
// client silent, which a computer that slept hears when it wakes. Everything else is tried again, also after codes of applications (4000
// to 4999); a program that knows better calls Quit when HandleState tells it the cause.
type Reconnect struct {
	// Min and Max limit the waits. Zero or less stands for 500 milliseconds and 30 seconds; a Max below Min for Min.
	Min, Max time.Duration

	// Attempts is how many tries in a row may fail, until the client gives up. Zero or less: it never does.
	Attempts int

	// Resend says whether a Call that was in flight when the connection was lost is sent again on the next one, although the server
	// may have carried it out. If it returns true for a request, its Call also waits for a connection where there is none. If it is
	// nil no request is sent twice, and Call returns a *CallError. It is called for each Call, on its goroutine. Requests go out as soon as
	// the connection is open, perhaps before what HandleState sends there.
	Resend func(req *Request) bool
}

var errReconnecting = errors.New("websocket: client is reconnecting")

// LostError is the cause that HandleState is told if messages that Send had accepted were not acknowledged by the server's system when
// their connection was lost. Systems other than Linux cannot tell; there it does not occur. A message counts once Send has returned nil.
// What is not counted has reached the other end of the TCP connection (the server's system, or a proxy's), which does not mean that the
// server's program has seen it. Messages are text and binary ones, requests of Call included.
type LostError struct {
	// Unsent is how many messages have surely not been delivered: the last byte of each never left this system.
	Unsent int

	// Unacknowledged is how many messages have left, and may have arrived or not.
	Unacknowledged int

	// Err is why the connection has ended.
	Err error
}

// Error returns a text with the numbers and the cause.
func (err *LostError) Error() string {
	return fmt.Sprintf("%v (%d messages unsent, %d unacknowledged)", err.Err, err.Unsent, err.Unacknowledged)
}

// Unwrap returns the cause.
func (err *LostError) Unwrap() error { return err.Err }

// NextAttempt returns when the client tries to connect again. It is zero unless the client is waiting for that: see StateWaiting.
func (cl *Client) NextAttempt() time.Time {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.nextAttempt
}

// Retry ends the wait for the next attempt to connect: it begins now. If the client is not waiting, Retry does nothing.
func (cl *Client) Retry() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.attempt != nil && cl.attempt.hurry != nil {
		notify(cl.attempt.hurry)
	}
}

// session is a Connect and all that follows by itself: its connection, and those that replace it. Sessions of a Client follow each other;
// what an earlier one still does when the next has begun is told to nobody.
type session struct {
	// Immutable.
	handleState func(cl *Client, state ClientState, cause error) // nil: nobody is told
	reconnect   *Reconnect                                       // nil: no
	log         *slog.Logger

	// Guarded by the mu of Client.
	opened bool // there was a connection
	over   bool // nothing follows by itself any more

	backoff backoff // of the goroutine that carries on
}

// newSession returns a session with the settings of a client.
func newSession(cl *Client) *session {
	s := &session{handleState: cl.HandleState, log: cl.logger()}
	if cl.Reconnect != nil {
		r := *cl.Reconnect
		s.reconnect, s.backoff = &r, newBackoff(&r)
	}
	return s
}

// isReconnecting reports whether another connection will replace one that has ended, or may do so.
func (s *session) isReconnecting() bool { return s != nil && s.opened && !s.over && s.reconnect != nil }

// goOn is called when all handlers of a connection have returned. What follows has a goroutine of its own, since it may wait for long.
func (c *clientConn) goOn() {
	if s := c.session; s != nil && (s.handleState != nil || s.reconnect != nil) {
		cause, cl := c.lossCause(), c.client
		s.backoff.lasted(time.Since(c.opened))
		go cl.carryOn(s, cause)
	}
}

// carryOn connects again, until that succeeds or the session is over.
func (cl *Client) carryOn(s *session, cause error) {
	for {
		at, told := cl.planRetry(s, cause)
		cl.awaitTold(told)
		if at == nil {
			return
		}
		at.wait()
		if cause = cl.retry(at); cause == nil {
			return
		}
		if cause == errAbandoned { // the program wants it
			cause = nil
		}
	}
}

// planRetry decides whether there is another attempt, and when. at is nil if there is none.
func (cl *Client) planRetry(s *session, cause error) (at *attempt, told <-chan bool) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.session != s {
		return nil, nil
	}
	wait, ok := time.Duration(0), false
	if s.isReconnecting() {
		wait, ok = s.backoff.next(cause, time.Now(), jitter)
	}
	if !ok {
		cl.endSessionLocked()
		return nil, cl.noteLocked(s, StateEnded, cause)
	}
	at = newAttempt(context.Background(), s)
	at.due, at.hurry = time.Now().Add(wait), make(chan struct{}, 1)
	cl.attempt, cl.nextAttempt = at, at.due
	return at, cl.noteLocked(s, StateWaiting, cause)
}

// wait returns when the attempt is due, or has to end.
func (at *attempt) wait() {
	timer := time.NewTimer(time.Until(at.due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-at.hurry:
	case <-at.ctx.Done():
	}
}

// retry connects. It returns nil if there is a connection.
func (cl *Client) retry(at *attempt) error {
	cl.mu.Lock()
	cl.nextAttempt = time.Time{}
	var told <-chan bool
	if at.abandoned() == nil {
		told = cl.noteLocked(at.session, StateConnecting, nil)
	}
	cl.mu.Unlock()
	cl.awaitTold(told)
	return cl.connect(at)
}

// connect makes an attempt with the fields of the client as they are now.
func (cl *Client) connect(at *attempt) error {
	settings := cl.settings(at)
	if settings == nil {
		return cl.endAttempt(at, nil, nil, errAbandoned)
	}
	c, response, err := settings.dial(at.ctx)
	return cl.endAttempt(at, c, response, err)
}

// settings returns the fields of the client as they are now, for an attempt: once Close or Quit has returned the program may set them, while
// the attempt that they have ended is still at work. It returns nil if the attempt is to end, which is asked under the same lock as they
// take. For a Connect, TLSConfig is set to nil if the Endpoint needs none.
func (cl *Client) settings(at *attempt) *Client {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if at.abandoned() != nil {
		return nil
	}
	if at.hurry == nil {
		cl.firstHop() // an error is that of the attempt, too
	}
	settings := &Client{
		Headers: cl.Headers.Clone(), Subprotocols: slices.Clone(cl.Subprotocols), Compression: cl.Compression, TLSConfig: cl.TLSConfig,
		Proxy: cl.Proxy, DialContext: cl.DialContext, Jar: cl.Jar,
		HandleBin: cl.HandleBin, HandleQuit: cl.HandleQuit, HandleRsvControl: cl.HandleRsvControl, HandleText: cl.HandleText, HandleReader: cl.HandleReader,
		Logger: cl.Logger, Endpoint: cl.Endpoint,
		PingInterval: cl.PingInterval, HandshakeTimeout: cl.HandshakeTimeout, WriteTimeout: cl.WriteTimeout,
		SilenceTimeout: cl.SilenceTimeout, MinRate: cl.MinRate, FragmentSize: cl.FragmentSize,
		MaxMessageSize: cl.MaxMessageSize, MaxFragments: cl.MaxFragments,
		MaxHeaderSize: cl.MaxHeaderSize, MaxHeaderFields: cl.MaxHeaderFields,
		Reconnect: cl.Reconnect, HandleState: cl.HandleState,
		spare: cl.spare,
	}
	if cl.Compression != nil {
		compression := *cl.Compression
		settings.Compression = &compression
	}
	return settings
}

// endSessionLocked ends what follows by itself. Whoever waits for another connection is told.
func (cl *Client) endSessionLocked() {
	if cl.session != nil {
		cl.session.over = true
	}
	cl.nextAttempt = time.Time{}
	cl.turnLocked()
}

// turnLocked wakes those who wait for another connection: there is one, or none will come.
func (cl *Client) turnLocked() {
	if cl.turn != nil {
		close(cl.turn)
		cl.turn = nil
	}
}
