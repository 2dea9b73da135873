package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// route registers the requests of package chat. The server answers all others with 404 by itself.
func (s *server) route() error {
	return errors.Join(
		s.ws.RegisterTextHandler(http.MethodGet, "/users", s.getUsers),
		s.ws.RegisterTextHandler(http.MethodGet, "/history", s.getHistory),
		s.ws.RegisterTextHandler(http.MethodPost, "/messages", s.postMessage),
		s.ws.RegisterTextHandler(http.MethodPost, "/users/:name/messages", s.postPrivate),
	)
}

func (s *server) getUsers(context.Context, *websocket.Request) websocket.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return answer(http.StatusOK, s.hereLocked())
}

func (s *server) getHistory(_ context.Context, req *websocket.Request) websocket.Response {
	last := s.keep
	if text := req.Query.Get("last"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return refusal(http.StatusBadRequest, "last is not a number of messages")
		}
		last = min(n, s.keep)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return answer(http.StatusOK, s.lastLocked(last))
}

func (s *server) postMessage(ctx context.Context, req *websocket.Request) websocket.Response {
	text, err := checkText(req.Body)
	if err != nil {
		return *err
	}
	me := s.userOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mayTalkLocked(me) {
		return refusal(http.StatusTooManyRequests, "too many messages: wait a moment")
	}
	return answer(http.StatusCreated, s.sayLocked(me, text))
}

func (s *server) postPrivate(ctx context.Context, req *websocket.Request) websocket.Response {
	text, err := checkText(req.Body)
	if err != nil {
		return *err
	}
	me, to := s.userOf(ctx), s.users.byName[req.Params["name"]]
	switch to {
	case nil:
		return refusal(http.StatusNotFound, "there is no such user")
	case me:
		return refusal(http.StatusBadRequest, "that is you")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices[to.id] == 0 {
		return refusal(http.StatusConflict, to.name+" is not here")
	}
	if !s.mayTalkLocked(me) {
		return refusal(http.StatusTooManyRequests, "too many messages: wait a moment")
	}
	return answer(http.StatusCreated, s.whisperLocked(me, req.Conn, to, text))
}

// checkText returns the text of a message as it is sent on, or what is wrong with it.
func checkText(body string) (text string, wrong *websocket.Response) {
	var res websocket.Response
	text = strings.TrimSpace(strings.ReplaceAll(body, "\r\n", "\n"))
	switch {
	case text == "":
		res = refusal(http.StatusBadRequest, "the message is empty")
	case utf8.RuneCountInString(text) > chat.MaxText:
		res = refusal(http.StatusRequestEntityTooLarge, fmt.Sprintf("the message has more than %d characters", chat.MaxText))
	case strings.ContainsFunc(text, isForbidden):
		res = refusal(http.StatusBadRequest, "the message has control characters")
	default:
		return text, nil
	}
	return "", &res
}

// isForbidden reports whether a character has no place in a message. Those who show it must not rely on that.
func isForbidden(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 }

func answer(code int32, body any) websocket.Response {
	return websocket.Response{Code: code, Message: http.StatusText(int(code)), Body: encode(body)}
}

func refusal(code int32, why string) websocket.Response {
	return websocket.Response{Code: code, Message: why}
}
