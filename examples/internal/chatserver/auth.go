package chatserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/wsloop/websocket"
)

// maxDevices is how many connections one user may have.
const maxDevices = 16

// The client reads these in the status line of the answer, and the page in that of its question before.
var (
	errNoKey      = errors.New("no key: send Authorization: Bearer KEY or ?key=KEY")
	errUnknownKey = errors.New("unknown key")
	errOrigin     = errors.New("pages of this origin may not connect: see -public-url")
	errTooMany    = errors.New("too many devices")
)

// authenticate decides about an opening handshake, and stores who the connection belongs to.
func (s *server) authenticate(req *websocket.Handshake) (ctx context.Context, err error) {
	v := &visit{address: s.proxies.client(req.RemoteAddr, req.Header)}
	// A browser cannot add a header to a WebSocket handshake, so its page sends the key in the query. URLs end up in logs:
	// a real server gives the page a ticket that can be used once and for a few seconds.
	query := req.URL.Query()
	key := bearer(req.Header)
	if key == "" {
		key = query.Get("key")
	}
	if key == "" {
		err = errNoKey
	} else {
		v.user, err = s.admit(key)
	}
	if err != nil {
		s.log.Info("refused", "address", v.address, "why", err)
		return nil, refused(err)
	}
	if v.since, v.isBack, err = parseSince(query); err != nil {
		return nil, refused(err)
	}
	v.rooms = parseRooms(query)
	ctx = context.WithValue(context.Background(), websocket.CtxKeyUID, v.user.id)
	return context.WithValue(ctx, visitKey{}, v), nil
}

// admit returns the user who may connect with a key.
func (s *server) admit(key string) (*user, error) {
	u := s.users.Load().login(key)
	switch {
	case u == nil:
		return nil, errUnknownKey
	case len(s.ws.Clients.Conns(u.id)) >= maxDevices:
		return nil, errTooMany
	}
	return u, nil
}

// refused returns the answer that tells why somebody may not connect.
func refused(why error) *websocket.HandshakeError {
	answer := &websocket.HandshakeError{Status: http.StatusUnauthorized, Reason: why.Error(), Header: make(http.Header)}
	switch why {
	case errOrigin:
		answer.Status = http.StatusForbidden
	case errSince:
		answer.Status = http.StatusBadRequest
	case errTooMany:
		answer.Status = http.StatusTooManyRequests
	default:
		answer.Header.Set("WWW-Authenticate", "Bearer")
	}
	return answer
}

// bearer returns the key in "Authorization: Bearer KEY".
func bearer(header http.Header) string {
	scheme, key, _ := strings.Cut(header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

// pageOrigins returns the origins whose pages may connect: for ServerOptions.Origins, which does not look at what programs send.
//
// Browsers let every page in the world open a WebSocket to every server, without asking as they do for other requests (CORS);
// all that the server gets is the Origin (RFC 6455, section 10.2). If users log in with a cookie, which the browser adds by
// itself, a server that does not check it lets foreign pages act for its users. A key must be known to the page, so here the
// check is a second line of defence.
//
// Behind a proxy this server does not see what the browser does, so there the page comes from the origin of -public-url, and from
// nowhere else. Without one it comes from the port of -addr, under a name or an address of this machine, the name in -addr, or one in the
// certificate. The Host field of a request would be no measure: a foreign page chooses the name under which a browser finds this
// server.
func (s *server) pageOrigins(given string, listening net.Addr) (origins []string) {
	if s.public != "" {
		return []string{s.public}
	}
	hosts := hostsOf(given, listening)
	if s.certificate != nil {
		hosts = append(hosts, s.certificate.names()...)
	}
	for _, host := range hosts {
		at := net.JoinHostPort(host, portOf(listening))
		if origin := originOf(s.pageScheme(), at); validHost.MatchString(at) && !slices.Contains(origins, origin) {
			origins = append(origins, origin)
		}
	}
	return origins
}

// hostsOf returns the names and addresses under which others may know what was told to listen on given.
func hostsOf(given string, listening net.Addr) (hosts []string) {
	tcp, ok := listening.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		if name, _, _ := net.SplitHostPort(given); name != "" {
			hosts = append(hosts, name)
		}
		hosts = append(hosts, hostname(listening.String()))
	}
	if ok && (tcp.IP.IsUnspecified() || tcp.IP.IsLoopback()) {
		hosts = append(hosts, "localhost")
	}
	if ok && tcp.IP.IsUnspecified() {
		if self, err := os.Hostname(); err == nil { // without it, this machine is found by address
			hosts = append(hosts, self)
		}
		addresses, _ := net.InterfaceAddrs()
		for _, address := range addresses {
			if network, ok := address.(*net.IPNet); ok {
				hosts = append(hosts, network.IP.String())
			}
		}
	}
	return hosts
}

// hostname returns a Host field without its port.
func hostname(host string) string {
	u := url.URL{Host: host}
	return u.Hostname()
}
