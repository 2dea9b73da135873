package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// web holds the page: plain HTML, CSS and JavaScript, part of the program.
//
//go:embed web
var web embed.FS

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

// page returns what serves the page.
func (s *server) page(wsPort string) http.Handler {
	files, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	address := func(host string) string { return s.pageConnectsTo(host, wsPort) }
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /config.json", func(w http.ResponseWriter, r *http.Request) {
		config := pageConfig{URL: address(r.Host), MaxText: chat.MaxText, DemoUsers: []chat.Login{}}
		if s.isDemo {
			config.DemoUsers = chat.DemoUsers()
		}
		writeJSON(w, http.StatusOK, config)
	})
	mux.HandleFunc("GET /login", s.checkLogin)
	return secured(mux, address)
}

// newWeb makes the server of a page that has a port of its own.
func (s *server) newWeb(wsPort string) *http.Server {
	return &http.Server{
		Handler:           s.page(wsPort),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       pageTimeout,
		WriteTimeout:      pageTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // above all of browsers that know no such certificate
	}
}

func (s *server) serveWeb(web *http.Server, ln net.Listener) error {
	if s.certificate == nil {
		return web.Serve(ln)
	}
	web.TLSConfig = s.certificate.config()
	return web.ServeTLS(ln, "", "")
}

// timely limits the time of requests for a page that has no port of its own: ServerOptions.Handler is called without such limits.
func timely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limits, end := http.NewResponseController(w), time.Now().Add(pageTimeout)
		limits.SetReadDeadline(end) // an error, here or there, means that the connection has gone
		limits.SetWriteDeadline(end)
		next.ServeHTTP(w, r)
	})
}

// pageConnectsTo returns the address of the WebSocket server for the page: wsPort of the host that the page was loaded from, or
// the public one.
func (s *server) pageConnectsTo(host, wsPort string) string {
	if s.public != "" {
		return "ws" + strings.TrimPrefix(s.public, "http") + "/" // https becomes wss
	}
	return s.wsURL(host, wsPort)
}

// wsURL returns the address of the WebSocket server for those on that host. It speaks TLS if the page does: a browser lets no page that
// came by https connect without.
func (s *server) wsURL(host, wsPort string) string {
	return "ws" + strings.TrimPrefix(s.pageScheme(), "http") + "://" + net.JoinHostPort(hostname(host), wsPort) + "/"
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
