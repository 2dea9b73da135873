package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

var (
	errLost     = errors.New("connection lost")
	errNoAnswer = errors.New("the server does not answer")
)

// session is one connection to the server.
type session struct {
	// Immutable.
	client  *websocket.Client
	notices func(websocket.Response) error // is called in the order of the notices
	timeout time.Duration
	lost    chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	lastID  uint64                             // guarded by mu
	pending map[uint64]chan websocket.Response // by request id; guarded by mu
}

// connect opens the connection and logs in. With -say, notices are ignored.
func connect(cfg config, out *screen) (*session, error) {
	s := &session{
		timeout: cfg.timeout,
		lost:    make(chan struct{}),
		pending: make(map[uint64]chan websocket.Response),
	}
	if cfg.say == "" {
		s.notices = (&reporter{out: out}).notice
	}
	config, err := cfg.trust.config()
	if err != nil {
		return nil, err
	}
	s.client = &websocket.Client{
		Endpoint:         cfg.url,
		Headers:          http.Header{"Authorization": {"Bearer " + cfg.key}},
		TLSConfig:        config,
		HandshakeTimeout: cfg.timeout,
		HandleText:       s.receive,
		HandleQuit:       func() { close(s.lost) },
		Logger:           slog.New(slog.DiscardHandler), // a log would end up in the middle of the chat
	}
	return s, cfg.trust.advise(s.client.Connect(), cfg.url)
}

// receive takes what the server sends: answers carry the id of the request, notices the id 0. An error ends the connection.
func (s *session) receive(_ *websocket.Client, frame *websocket.Frame) error {
	var res websocket.Response
	if err := json.Unmarshal(frame.Payload(), &res); err != nil {
		return err
	}
	if res.ID == 0 {
		if s.notices == nil {
			return nil
		}
		return s.notices(res)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer := s.pending[res.ID]; answer != nil {
		delete(s.pending, res.ID)
		answer <- res // has room for it
	}
	return nil
}

// request asks the server, and reads the Body of its answer into body.
func (s *session) request(ctx context.Context, method, target, text string, body any) error {
	id, answer := s.expect()
	defer s.forget(id)
	packet, err := json.Marshal(&websocket.Request{ID: id, Method: method, Target: target, Body: text})
	if err != nil {
		return err
	}
	if err := s.client.SendText(packet); err != nil {
		return s.lostBecause(err)
	}
	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	select {
	case res := <-answer:
		if res.Code >= http.StatusBadRequest {
			return &refusedError{code: res.Code, why: res.Message}
		}
		return json.Unmarshal([]byte(res.Body), body)
	case <-s.lost:
		return s.lostBecause(s.client.Err())
	case <-timer.C:
		return errNoAnswer
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) expect() (id uint64, answer chan websocket.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	answer = make(chan websocket.Response, 1)
	s.pending[s.lastID] = answer
	return s.lastID, answer
}

func (s *session) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, id)
}

// say sends a message to all, or with a name to that user only. It waits for the answer: the server may handle several requests
// of one connection in any order.
//
// The server ends a connection on which a request is far too long, so what cannot be a message is refused here.
func (s *session) say(ctx context.Context, to, text string) (m chat.Message, err error) {
	if utf8.RuneCountInString(strings.TrimSpace(text)) > chat.MaxText {
		return m, &refusedError{code: http.StatusRequestEntityTooLarge, why: chat.TooLong}
	}
	target := "/messages"
	if to != "" {
		target = "/users/" + url.PathEscape(to) + "/messages"
	}
	return m, s.request(ctx, http.MethodPost, target, strings.ToValidUTF8(text, "\uFFFD"), &m)
}

// lostBecause is the error of a connection that ended.
func (s *session) lostBecause(err error) error {
	if err == nil {
		return errLost
	}
	return fmt.Errorf("%w: %w", errLost, err)
}

// refusedError is an answer with a code of 400 or above. The connection lives on.
type refusedError struct {
	why  string
	code int32
}

func (err *refusedError) Error() string { return fmt.Sprintf("refused: %s (%d)", err.why, err.code) }
