package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// validRef holds the names that senders give to messages to characters that need no escaping.
var validRef = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

var errSince = errors.New("since is not the id of a message")

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

func (s *server) getHistory(ctx context.Context, req *websocket.Request) websocket.Response {
	id, ok, err := parseSince(req.Query)
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error())
	}
	if ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		messages, missed := s.sinceLocked(s.userOf(ctx), id)
		if missed || id < s.began {
			return answer(http.StatusPartialContent, messages)
		}
		return answer(http.StatusOK, messages)
	}
	last := s.last
	if text := req.Query.Get("last"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return refusal(http.StatusBadRequest, "last is not a number of messages")
		}
		last = min(n, s.last)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return answer(http.StatusOK, s.history.toAll(last))
}

func (s *server) postMessage(ctx context.Context, req *websocket.Request) websocket.Response {
	text, ref, err := checkMessage(req)
	if err != nil {
		return *err
	}
	me := s.userOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.sentLocked(me, ref); ok {
		return answer(http.StatusOK, m)
	}
	if !s.mayTalkLocked(me) {
		return refusal(http.StatusTooManyRequests, "too many messages: wait a moment")
	}
	return answer(http.StatusCreated, s.sayLocked(me, text, ref))
}

func (s *server) postPrivate(ctx context.Context, req *websocket.Request) websocket.Response {
	text, ref, err := checkMessage(req)
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
	if m, ok := s.sentLocked(me, ref); ok {
		return answer(http.StatusOK, m)
	}
	if s.devices[to.id] == 0 {
		return refusal(http.StatusConflict, to.name+" is not here")
	}
	if !s.mayTalkLocked(me) {
		return refusal(http.StatusTooManyRequests, "too many messages: wait a moment")
	}
	return answer(http.StatusCreated, s.whisperLocked(me, req.Conn, to, text, ref))
}

// checkMessage returns the text of a message as it is sent on and its sender's name for it, or what is wrong with them.
func checkMessage(req *websocket.Request) (text, ref string, wrong *websocket.Response) {
	var res websocket.Response
	text, ref = strings.TrimSpace(strings.ReplaceAll(req.Body, "\r\n", "\n")), req.Query.Get("ref")
	switch {
	case ref != "" && !validRef.MatchString(ref):
		res = refusal(http.StatusBadRequest, "ref is not 1 to 64 letters, digits, - and _")
	case text == "":
		res = refusal(http.StatusBadRequest, "the message is empty")
	case utf8.RuneCountInString(text) > chat.MaxText:
		res = refusal(http.StatusRequestEntityTooLarge, chat.TooLong)
	case strings.ContainsFunc(text, isForbidden):
		res = refusal(http.StatusBadRequest, "the message has control characters")
	default:
		return text, ref, nil
	}
	return "", "", &res
}

// parseSince reads ?since=ID. ok is false if there is none.
func parseSince(query url.Values) (id int64, ok bool, err error) {
	text := query.Get("since")
	if text == "" {
		return 0, false, nil
	}
	id, err = strconv.ParseInt(text, 10, 64)
	if err != nil || id < 0 {
		return 0, false, errSince
	}
	return id, true, nil
}

// isForbidden reports whether a character has no place in a message. Those who show it must not rely on that.
func isForbidden(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 }

func answer(code int32, body any) websocket.Response {
	return websocket.Response{Code: code, Message: http.StatusText(int(code)), Body: encode(body)}
}

func refusal(code int32, why string) websocket.Response {
	return websocket.Response{Code: code, Message: why}
}
