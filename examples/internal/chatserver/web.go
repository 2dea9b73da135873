package chatserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/wsloop/websocket/examples/internal/chat"
	"github.com/wsloop/websocket/examples/server/web"
)

// pageTimeout is how long a request for the page may take.
const pageTimeout = 10 * time.Second

// validHost is what may stand in the Host field of a request for the page: a name or an address. It is written into
// Content-Security-Policy, where other characters would have a meaning.
var validHost = regexp.MustCompile(`^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$`)

// pageConfig is what the page has to know.
type pageConfig struct {
	URL       string       `json:"url"` // of the WebSocket server
	MaxText   int          `json:"maxText"`
	DemoUsers []chat.Login `json:"demoUsers"` // to choose from; none if the users are real
}

// page serves what is neither an opening handshake nor a request for the status, on the same port (ServerOptions.Handler).
func (s *server) page() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(web.Files))
	mux.HandleFunc("GET /config.json", func(w http.ResponseWriter, r *http.Request) {
		config := pageConfig{URL: s.pageConnectsTo(r.Host), MaxText: chat.MaxText, DemoUsers: []chat.Login{}}
		if s.isDemo {
			config.DemoUsers = chat.DemoUsers()
		}
		writeJSON(w, http.StatusOK, config)
	})
	mux.HandleFunc("GET /login", s.checkLogin)
	mux.HandleFunc("GET /metrics", s.metrics)
	return timely(secured(mux, s.pageConnectsTo))
}

// timely limits the time of requests: ServerOptions.Handler is called without such limits.
func timely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limits, end := http.NewResponseController(w), time.Now().Add(pageTimeout)
		limits.SetReadDeadline(end) // an error, here or there, means that the connection has gone
		limits.SetWriteDeadline(end)
		next.ServeHTTP(w, r)
	})
}

// pageConnectsTo returns the address of the WebSocket server for the page: that under which the page was loaded, or the public one.
func (s *server) pageConnectsTo(host string) string {
	origin := s.public
	if origin == "" {
		origin = s.pageScheme() + "://" + host
	}
	return "ws" + strings.TrimPrefix(origin, "http") + "/" // https becomes wss
}

func (s *server) pageScheme() string {
	if s.certificate != nil {
		return "https"
	}
	return "http"
}

// parsePublicURL returns the origin that a browser names for a page of that URL.
func parsePublicURL(text string) (origin string, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	isOrigin := strings.EqualFold(strings.TrimSuffix(text, "/"), u.Scheme+"://"+u.Host)
	if !isOrigin || (u.Scheme != "http" && u.Scheme != "https") || !validHost.MatchString(u.Host) {
		return "", fmt.Errorf("%q is not of the form https://HOST or https://HOST:PORT", text)
	}
	return originOf(u.Scheme, u.Host), nil
}

// originOf returns an origin as browsers name it. host may have a port.
func originOf(scheme, host string) string {
	defaultPort := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return scheme + "://" + strings.ToLower(strings.TrimSuffix(host, defaultPort))
}

// checkLogin tells the page whether its connection would be accepted. The WebSocket handshake tells it nothing: a script learns
// only that it failed, not why. So the page asks here, before the first attempt and after one that failed. It says where it
// comes from, since browsers add no Origin to a request of this kind.
func (s *server) checkLogin(w http.ResponseWriter, r *http.Request) {
	u, err := s.admit(bearer(r.Header))
	if origin := r.URL.Query().Get("origin"); origin != "" && !slices.Contains(s.ws.Options.Origins, origin) {
		err = errOrigin
	}
	if err != nil {
		answer := refused(err)
		maps.Copy(w.Header(), answer.Header)
		writeJSON(w, answer.Status, map[string]string{"error": answer.Reason})
		return
	}
	writeJSON(w, http.StatusOK, chat.User{Name: u.name})
}

// secured sets what browsers have to know to protect the user: the page runs only scripts and styles of its own, talks only to
// this server and its WebSocket address, and is not shown inside of other pages.
func secured(next http.Handler, address func(host string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !validHost.MatchString(r.Host) {
			http.Error(w, "bad Host field", http.StatusBadRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self' "+address(r.Host)+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body) // an error means that the browser has gone
}
