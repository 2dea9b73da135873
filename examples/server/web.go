package main

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"time"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// web holds the page: plain HTML, CSS and JavaScript, part of the program.
//
//go:embed web
var web embed.FS

// validHost is what may stand in the Host field of a request for the page: a name or an address. It is written into
// Content-Security-Policy, where other characters would have a meaning.
var validHost = regexp.MustCompile(`^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$`)

// pageConfig is what the page has to know.
type pageConfig struct {
	URL       string       `json:"url"` // of the WebSocket server
	MaxText   int          `json:"maxText"`
	DemoUsers []chat.Login `json:"demoUsers"` // to choose from; none where the users are real
}

// newWeb makes the server of the page. The page connects to wsPort of the host that it was loaded from.
func (s *server) newWeb(wsPort string) *http.Server {
	files, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /config.json", func(w http.ResponseWriter, r *http.Request) {
		config := pageConfig{URL: wsURL(r.Host, wsPort), MaxText: chat.MaxText, DemoUsers: []chat.Login{}}
		if s.isDemo {
			config.DemoUsers = chat.DemoUsers()
		}
		writeJSON(w, http.StatusOK, config)
	})
	mux.HandleFunc("GET /login", s.checkLogin)
	return &http.Server{
		Handler:           secured(mux, wsPort),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// wsURL returns the address of the WebSocket server for a page of that host. It is plain text, as the page is: on an open
// network both belong behind TLS, https and wss.
func wsURL(host, wsPort string) string {
	return "ws://" + net.JoinHostPort(hostname(host), wsPort) + "/"
}

// checkLogin tells the page whether a key is right. The WebSocket handshake tells it nothing: a script learns only that it
// failed, not why.
func (s *server) checkLogin(w http.ResponseWriter, r *http.Request) {
	u := s.users.login(bearer(r.Header))
	if u == nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": errUnknownKey.Error()})
		return
	}
	writeJSON(w, http.StatusOK, chat.User{Name: u.name})
}

// secured sets what browsers have to know to protect the user: the page runs only scripts and styles of its own, talks only to
// this server, and is not shown inside of other pages.
func secured(next http.Handler, wsPort string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !validHost.MatchString(r.Host) {
			http.Error(w, "bad Host field", http.StatusBadRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self' "+wsURL(r.Host, wsPort)+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
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
