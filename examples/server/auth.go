package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/wsloop/websocket"
)

// maxDevices is how many connections one user may have.
const maxDevices = 16

// The client reads these in the status line of the answer.
var (
	errNoKey      = errors.New("no key: send Authorization: Bearer KEY or ?key=KEY")
	errUnknownKey = errors.New("unknown key")
	errOrigin     = errors.New("pages of this origin may not connect")
	errTooMany    = errors.New("too many devices")
)

// authenticate decides about an opening handshake, and stores who the connection belongs to.
func (s *server) authenticate(req *websocket.Handshake) (ctx context.Context, err error) {
	if !s.originAllowed(req.Header.Get("Origin"), string(req.Host)) {
		return nil, errOrigin
	}
	// A browser cannot add a header to a WebSocket handshake, so its page sends the key in the query. URLs end up in logs:
	// a real server gives the page a ticket that can be used once and for a few seconds.
	key := bearer(req.Header)
	if key == "" {
		key = req.URL.Query().Get("key")
	}
	if key == "" {
		return nil, errNoKey
	}
	u := s.users.login(key)
	if u == nil {
		return nil, errUnknownKey
	}
	if len(s.ws.Clients.Conns(u.id)) >= maxDevices {
		return nil, errTooMany
	}
	return context.WithValue(context.Background(), websocket.CtxKeyUID, u.id), nil
}

// bearer returns the key in "Authorization: Bearer KEY".
func bearer(header http.Header) string {
	scheme, key, _ := strings.Cut(header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

// originAllowed reports whether a handshake comes from our own page, or from a program.
//
// Browsers let every page in the world open a WebSocket to every server, without asking as they do for other requests (CORS);
// all that the server gets is the Origin (RFC 6455, section 10.2). Where users log in with a cookie, which the browser adds by
// itself, a server that does not check it lets foreign pages act for its users. A key must be known to the page, so here the
// check is a second line of defence. Programs send no Origin, and could send any.
//
// Our page comes from the port of -web and the same host as the handshake. A server behind a proxy with TLS would compare with
// the public origin instead, such as https://chat.example.com.
func (s *server) originAllowed(origin, host string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" || s.webPort == "" {
		return false
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return port == s.webPort && strings.EqualFold(u.Hostname(), hostname(host))
}

// hostname returns a Host field without its port.
func hostname(host string) string {
	u := url.URL{Host: host}
	return u.Hostname()
}

// userOf returns the user of a connection.
func (s *server) userOf(ctx context.Context) *user {
	id, _ := ctx.Value(websocket.CtxKeyUID).(uint64)
	return s.users.byID[id]
}
