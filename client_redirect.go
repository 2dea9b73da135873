package websocket

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects is how many redirects a Connect follows.
const maxRedirects = 10

var (
	errRedirects      = fmt.Errorf("more than %d of them", maxRedirects)
	errRedirectUnsafe = errors.New("from a server with TLS to one without")
)

// hop is where an opening handshake goes: to the Endpoint, or to where redirects have led from there. It is immutable.
type hop struct {
	url       *url.URL // with a port
	isTrusted bool     // it is the Endpoint's server, and no other one has been asked meanwhile: it may get what shows who the program is
	redirects int      // so many have led there
}

// web returns the URL as HTTP has it, for a Proxy or a Jar: with its scheme, without user information.
func (to hop) web() *url.URL {
	u := *to.url
	u.Scheme, u.User = "http", nil
	if isSecure(to.url) {
		u.Scheme = "https"
	}
	u.Host = hostField(to.url, isSecure(to.url))
	if u.Path == "" {
		u.Path = "/"
	}
	return &u
}

// isRedirect reports whether an answer says where else to connect (RFC 9110, section 15.4). One that does not say where, or says it
// twice, is a refusal like any other.
func (err *HandshakeError) isRedirect() bool {
	switch err.Status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		location := err.Header["Location"]
		return len(location) == 1 && location[0] != ""
	}
	return false
}

// follow returns where a redirect leads. An error matches the redirect too, and quotes nothing of its Location, which may have a
// secret in it.
func (to hop) follow(redirect *HandshakeError) (next hop, err error) {
	u, err := parseReference(to.url, redirect.Header.Get("Location"))
	switch {
	case to.redirects == maxRedirects:
		err = errRedirects
	case err == nil && isSecure(to.url) && !isSecure(u):
		err = errRedirectUnsafe
	}
	if err != nil {
		return hop{}, &redirectError{err, redirect}
	}
	next = hop{url: u, isTrusted: to.isTrusted && isSameServer(to.url, u), redirects: to.redirects + 1}
	u.Fragment, u.RawFragment, u.User = "", "", nil // RFC 9110, sections 10.2.2 and 4.2.4
	if next.isTrusted {
		u.User = to.url.User
	}
	return next, nil
}

// isSameServer reports whether what is for one server may be sent to another: the host is the same, and so is the port, unless it
// goes from the usual one to the usual one of TLS.
func isSameServer(from, to *url.URL) bool {
	if !strings.EqualFold(from.Hostname(), to.Hostname()) {
		return false
	}
	return from.Port() == to.Port() || !isSecure(from) && isSecure(to) && from.Port() == "80" && to.Port() == "443"
}

// redirectError says why a redirect is not followed.
type redirectError struct {
	cause    error
	redirect *HandshakeError
}

func (err *redirectError) Error() string {
	return fmt.Sprintf("websocket: redirect (%d): %s", err.redirect.Status, err.cause)
}

func (err *redirectError) Unwrap() []error { return []error{err.cause, err.redirect} }
