package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

var (
	errLost     = errors.New("connection lost")
	errNoAnswer = errors.New("the server does not answer")
	errOffline  = errors.New("not sent, there is no connection")
)

// longestWait is how long the client waits at most before it tries to connect again.
const longestWait = 10 * time.Second

// session is a user who is logged in, over one connection after the other.
type session struct {
	// Immutable.
	client  *websocket.Client
	url     string // without what is asked for beside
	trust   trust
	out     *screen
	notices *reporter // nil: nobody wants them, nor another connection
	timeout time.Duration
	ended   chan struct{} // closed when nothing follows by itself

	hurries atomic.Bool // the user wants to know what becomes of the next try

	cause error  // written before ended is closed
	told  string // of why there is no connection; owned by HandleState
}

// connect opens the connection and logs in. With -say, notices are ignored, and a connection that is lost is not replaced.
func connect(cfg config, out *screen) (*session, error) {
	s := &session{url: cfg.url, trust: cfg.trust, out: out, timeout: cfg.timeout, ended: make(chan struct{})}
	config, err := cfg.trust.config()
	if err != nil {
		return nil, err
	}
	s.client = &websocket.Client{
		Endpoint:         cfg.url,
		Headers:          http.Header{"Authorization": {"Bearer " + cfg.key}},
		TLSConfig:        config,
		HandshakeTimeout: cfg.timeout,
		HandleState:      func(_ *websocket.Client, state websocket.ClientState, cause error) { s.state(state, cause) },
		Logger:           slog.New(slog.DiscardHandler), // a log would end up in the middle of the chat
	}
	if !cfg.says {
		s.notices = &reporter{out: out, more: s.since}
		s.client.HandleText = s.receive
		s.client.Reconnect = &websocket.Reconnect{
			Max:    longestWait,
			Resend: func(*websocket.Request) bool { return true }, // messages have a name: none is taken twice
		}
	}
	return s, cfg.trust.advise(s.client.Connect(), cfg.url)
}

// receive takes what is no answer: notices.
func (s *session) receive(_ *websocket.Client, frame *websocket.Frame) error {
	var res websocket.Response
	if err := json.Unmarshal(frame.Payload(), &res); err != nil {
		return err
	}
	if res.ID != 0 { // an answer that has come too late
		return nil
	}
	return s.notices.notice(res)
}

// state tells the user what becomes of the connection, and where the next one has to go on.
func (s *session) state(state websocket.ClientState, cause error) {
	switch state {
	case websocket.StateConnected:
		s.told = ""
		s.out.setOffline(false)
	case websocket.StateWaiting:
		var stranger *strangerError
		if errors.As(cause, &stranger) { // and will be
			s.cause = cause
			s.client.Quit()
			return
		}
		s.notices.interrupted()
		s.client.Endpoint = s.notices.goOnAt(s.url)
		s.out.setOffline(true)
		s.tellLost(cause)
	case websocket.StateEnded:
		if cause != nil {
			s.cause = cause
		}
		close(s.ended)
	}
}

// tellLost says why there is no connection: once, and again if that changes, or the user has asked for a try.
func (s *session) tellLost(cause error) {
	var lost *websocket.LostError
	if errors.As(cause, &lost) {
		cause = lost.Err // what was lost is sent again
	}
	isFirst, why, hurries := s.told == "", plain(cause.Error()), s.hurries.Swap(false)
	if s.told == why && !hurries {
		return
	}
	s.told = why
	wait := max(time.Until(s.client.NextAttempt()).Round(time.Second), time.Second)
	if isFirst {
		s.out.print(fmt.Sprintf("* The connection was lost: %s. The next try is in %v; /retry tries now.", why, wait))
		return
	}
	s.out.print(fmt.Sprintf("* No connection yet: %s. The next try is in %v.", why, wait))
}

// retry tries to connect now. It returns false if that is not what is waited for.
func (s *session) retry() bool {
	if s.client.NextAttempt().IsZero() {
		return false
	}
	s.hurries.Store(true)
	s.client.Retry()
	return true
}

// lostBecause is the error of a session that has ended, or of a connection that is not replaced.
func (s *session) lostBecause() error {
	cause := s.client.Err()
	select {
	case <-s.ended:
		cause = s.cause
	default:
	}
	if cause == nil {
		return errLost
	}
	return s.trust.advise(fmt.Errorf("%w: %w", errLost, cause), s.url)
}

// request asks the server, and reads the Body of its answer into body. If there is no connection, it waits for one that is tried now.
func (s *session) request(ctx context.Context, method, target, text string, body any) error {
	s.retry()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	res, err := s.client.Call(ctx, &websocket.Request{Method: method, Target: target, Body: text})
	var failed *websocket.CallError
	switch {
	case errors.As(err, &failed):
		return s.unanswered(failed)
	case err != nil:
		return err
	case res.Code >= http.StatusBadRequest:
		return &refusedError{code: res.Code, why: res.Message}
	}
	return json.Unmarshal([]byte(res.Body), body)
}

// unanswered is the error of a request without an answer.
func (s *session) unanswered(failed *websocket.CallError) error {
	switch {
	case errors.Is(failed, context.Canceled):
		return context.Canceled
	case !errors.Is(failed, context.DeadlineExceeded):
		return s.lostBecause()
	case failed.InDoubt:
		return errNoAnswer
	}
	return errOffline
}

// say sends a message to all, or with a name to that user only. It waits for the answer: the server may handle several requests
// of one connection in any order.
//
// The server ends a connection on which a request is far too long, so what cannot be a message is refused here.
func (s *session) say(ctx context.Context, to, text string) (m chat.Sent, err error) {
	if utf8.RuneCountInString(strings.TrimSpace(text)) > chat.MaxText {
		return m, &refusedError{code: http.StatusRequestEntityTooLarge, why: chat.TooLong}
	}
	target := "/messages"
	if to != "" {
		target = "/users/" + url.PathEscape(to) + "/messages"
	}
	target += "?ref=" + rand.Text()
	return m, s.request(ctx, http.MethodPost, target, strings.ToValidUTF8(text, "\uFFFD"), &m)
}

// since returns messages behind the one with an ID, the oldest first, as many as the server gives at a time.
func (s *session) since(id int64) (page []chat.Message, err error) {
	err = s.request(context.Background(), http.MethodGet, "/history?since="+strconv.FormatInt(id, 10), "", &page)
	return page, err
}

// refusedError is an answer with a code of 400 or above. The connection lives on.
type refusedError struct {
	why  string
	code int32
}

func (err *refusedError) Error() string { return fmt.Sprintf("refused: %s (%d)", err.why, err.code) }
