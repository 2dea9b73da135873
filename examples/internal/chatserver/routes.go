package chatserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

var errSince = errors.New("since is not the id of a message")

// route registers the requests of package chat. The server answers all others with 404 by itself.
func (s *server) route() error {
	return errors.Join(
		s.ws.RegisterTextHandler(http.MethodGet, "/heartbeat", s.getHeartbeat),
		s.ws.RegisterTextHandler(http.MethodGet, "/users", s.getUsers),
		s.ws.RegisterTextHandler(http.MethodGet, "/people", s.getPeople),
		s.ws.RegisterTextHandler(http.MethodGet, "/history", s.getHistory),
		s.ws.RegisterTextHandler(http.MethodGet, "/rooms", s.getRooms),
		s.ws.RegisterTextHandler(http.MethodPut, "/rooms/:room", s.limited(s.putRoom)),
		s.ws.RegisterTextHandler(http.MethodDelete, "/rooms/:room", s.deleteRoom),
		s.ws.RegisterTextHandler(http.MethodPost, "/presence", s.limited(s.postPresence)),
		s.ws.RegisterTextHandler(http.MethodPost, "/messages", s.postMessage),
		s.ws.RegisterTextHandler(http.MethodPost, "/rooms/:room/messages", s.postToRoom),
		s.ws.RegisterTextHandler(http.MethodPost, "/users/:name/messages", s.postPrivate),
		s.ws.RegisterTextHandler(http.MethodPost, "/rooms/:room/typing", s.limited(s.postTyping)),
		s.ws.RegisterTextHandler(http.MethodPost, "/users/:name/typing", s.limited(s.postTypingTo)),
	)
}

// limited holds what others are told of to a pace.
func (s *server) limited(next websocket.RouteHandler) websocket.RouteHandler {
	return func(ctx context.Context, req *websocket.Request) websocket.Response {
		from := visitOf(ctx).user.sender
		from.mu.Lock()
		wait := from.signals.take(signalling, time.Now())
		from.mu.Unlock()
		if wait > 0 {
			return tooEarly("too many requests", wait)
		}
		return next(ctx, req)
	}
}

// getHeartbeat is for clients that want a sign of life.
func (s *server) getHeartbeat(context.Context, *websocket.Request) websocket.Response {
	return websocket.Response{Code: http.StatusOK}
}

func (s *server) getUsers(context.Context, *websocket.Request) websocket.Response {
	ctx, cancel := brief()
	defer cancel()
	return answer(http.StatusOK, s.here(s.spread.Elsewhere(ctx)))
}

func (s *server) getPeople(context.Context, *websocket.Request) websocket.Response {
	ctx, cancel := brief()
	defer cancel()
	return answer(http.StatusOK, s.people(s.spread.Elsewhere(ctx)))
}

func (s *server) getHistory(ctx context.Context, req *websocket.Request) websocket.Response {
	id, ok, err := parseSince(req.Query)
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error())
	}
	spreadCtx, cancel := brief()
	defer cancel()
	if !ok {
		return s.historyBefore(spreadCtx, visitOf(ctx), req.Query)
	}
	page, missed, err := s.spread.Since(spreadCtx, visitOf(ctx).view(), id)
	if err != nil {
		return noHistory()
	}
	if _, began, err := s.spread.Ends(spreadCtx); missed || err != nil || id < began {
		return answer(http.StatusPartialContent, page)
	}
	return answer(http.StatusOK, page)
}

// historyBefore answers with the last messages of one conversation.
func (s *server) historyBefore(ctx context.Context, v *visit, query url.Values) websocket.Response {
	last, err := parseNumber(query.Get("last"), int64(s.last))
	if err != nil {
		return refusal(http.StatusBadRequest, "last is not a number of messages")
	}
	before, err := parseNumber(query.Get("before"), 0)
	if err != nil {
		return refusal(http.StatusBadRequest, "before is not the id of a message")
	}
	view := View{Rooms: []string{chat.Lobby}}
	if room := query.Get("room"); room != "" {
		view.Rooms[0] = room
	}
	if with := query.Get("with"); with != "" {
		view = View{User: v.user.name, With: with}
	}
	page, err := s.spread.Before(ctx, view, before, int(min(last, chat.MaxPage)))
	if err != nil {
		return noHistory()
	}
	return answer(http.StatusOK, page)
}

func (s *server) postPresence(ctx context.Context, req *websocket.Request) websocket.Response {
	presence := chat.Presence(req.Body)
	if presence != chat.Here && presence != chat.Away {
		return refusal(http.StatusBadRequest, "one is here or away")
	}
	u := visitOf(ctx).user
	return answer(http.StatusOK, chat.Person{Name: u.name, Presence: s.setAway(u, req.Conn, presence == chat.Away)})
}

func (s *server) postTyping(ctx context.Context, req *websocket.Request) websocket.Response {
	room := req.Params["room"]
	if !s.isRoom(room) {
		return refusal(http.StatusNotFound, "there is no such room")
	}
	typing := chat.Typing{Name: visitOf(ctx).user.name, Room: room}
	s.spread.Notify(ctx, 0, room, Packet(chat.NoticeTyping, typing))
	return answer(http.StatusOK, typing)
}

func (s *server) postTypingTo(ctx context.Context, req *websocket.Request) websocket.Response {
	to, wrong := s.otherUser(ctx, req)
	if wrong != nil {
		return *wrong
	}
	typing := chat.Typing{Name: visitOf(ctx).user.name}
	s.spread.Notify(ctx, to.id, "", Packet(chat.NoticeTyping, typing))
	return answer(http.StatusOK, typing)
}

// parseSince reads ?since=ID. ok is false if there is none.
func parseSince(query url.Values) (id int64, ok bool, err error) {
	text := query.Get("since")
	if text == "" {
		return 0, false, nil
	}
	if id, err = parseNumber(text, 0); err != nil {
		return 0, false, errSince
	}
	return id, true, nil
}

// parseNumber reads a number that is not below zero. If there is none it is fallback.
func parseNumber(text string, fallback int64) (int64, error) {
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err
}

// parseRooms reads ?rooms=ONE,TWO. What is no name of a room is no room, either.
func parseRooms(query url.Values) []string {
	rooms := strings.Split(query.Get("rooms"), ",")
	return rooms[:min(len(rooms), MaxRooms)]
}

func answer(code int32, body any) websocket.Response {
	return websocket.Response{Code: code, Message: http.StatusText(int(code)), Body: encode(body)}
}

func refusal(code int32, why string) websocket.Response {
	return websocket.Response{Code: code, Message: why}
}

func noHistory() websocket.Response {
	return refusal(http.StatusServiceUnavailable, "the history cannot be had at the moment")
}

// tooEarly says when a request may be made again.
func tooEarly(why string, wait time.Duration) websocket.Response {
	wait = wait.Round(time.Millisecond) + time.Millisecond
	res := refusal(http.StatusTooManyRequests, fmt.Sprintf("%s: wait %.1f s", why, wait.Seconds()))
	res.Body = encode(chat.Refusal{RetryAfter: wait.Milliseconds()})
	return res
}
