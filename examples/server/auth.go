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
	errOrigin     = errors.New("pages of this origin may not connect: see -public-url")
	errTooMany    = errors.New("too many devices")
)

// sinceKey is for the id of the last message that a client has seen, an int64, in the context of its connection.
type sinceKey struct{}

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
	u, err := s.admit(key)
	if err != nil {
		return nil, err
	}
	ctx = context.WithValue(context.Background(), websocket.CtxKeyUID, u.id)
	id, ok, err := parseSince(req.URL.Query())
	if ok {
		ctx = context.WithValue(ctx, sinceKey{}, id)
	}
	return ctx, err
}

// admit returns the user who may connect with a key.
func (s *server) admit(key string) (*user, error) {
	u := s.users.login(key)
	switch {
	case u == nil:
		return nil, errUnknownKey
	case len(s.ws.Clients.Conns(u.id)) >= maxDevices:
		return nil, errTooMany
	}
	return u, nil
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
// all that the server gets is the Origin (RFC 6455, section 10.2). If users log in with a cookie, which the browser adds by
// itself, a server that does not check it lets foreign pages act for its users. A key must be known to the page, so here the
// check is a second line of defence. Programs send no Origin, and could send any.
//
// Our page comes from the port of -web and the same host as the handshake. Behind a proxy neither server sees what the browser
// does, so there the page comes from the origin of -public-url, such as https://chat.example.com.
func (s *server) originAllowed(origin, host string) bool {
	if origin == "" {
		return true
	}
	if s.public != "" {
		return origin == s.public
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
