package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

var errFingerprint = errors.New("not the 64 hexadecimal digits of a SHA-256 fingerprint, which colons may separate")

// trust says which certificates of a server are accepted. Without ca and fingerprint it is those that the system trusts.
type trust struct {
	ca          string // file with the certificates to trust
	fingerprint string // of the only one that is accepted, as chat.Fingerprint returns it
}

// parseFingerprint reads a fingerprint as our server prints it, or as browsers and openssl do.
func parseFingerprint(text string) (fingerprint string, err error) {
	sum, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if err != nil || len(sum) != sha256.Size {
		return "", errFingerprint
	}
	return hex.EncodeToString(sum), nil
}

func (tr trust) isGiven() bool { return tr.ca != "" || tr.fingerprint != "" }

// scheme is that of a server of which the address alone is given.
func (tr trust) scheme() string {
	if tr.isGiven() {
		return "wss"
	}
	return "ws"
}

func speaksTLS(address string) bool {
	u, err := url.Parse(address)
	return err != nil || u.Scheme == "wss" || u.Scheme == "https" // a URL that is none is refused later
}

// config returns what a client speaks TLS with.
func (tr trust) config() (*tls.Config, error) {
	switch {
	case tr.fingerprint != "":
		return &tls.Config{
			InsecureSkipVerify: true, // this is all that is verified: who knows the fingerprint needs no name, date or signature
			VerifyConnection:   tr.verify,
		}, nil
	case tr.ca != "":
		pem, err := os.ReadFile(tr.ca)
		if err != nil {
			return nil, fmt.Errorf("-ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("-ca: %s has no certificate in PEM form", tr.ca)
		}
		return &tls.Config{RootCAs: roots}, nil
	}
	return nil, nil
}

// verify accepts the certificate with the fingerprint. The handshake has shown that the server has its key.
func (tr trust) verify(state tls.ConnectionState) error {
	if shown := chat.Fingerprint(state.PeerCertificates[0].Raw); shown != tr.fingerprint {
		return &strangerError{shown}
	}
	return nil
}

// strangerError is of a server with another certificate than the one that is expected.
type strangerError struct{ fingerprint string }

func (err *strangerError) Error() string {
	return "the server's certificate is another one: its fingerprint is " + err.fingerprint
}

// advise adds to the error of a Connect to an address what the user may do.
func (tr trust) advise(err error, address string) error {
	var (
		stranger *strangerError
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		noTLS    tls.RecordHeaderError
		refused  *websocket.HandshakeError
	)
	advice := ""
	switch {
	case errors.As(err, &stranger):
		advice = "somebody may be in between; or the server was started anew with -tls: then give the -fingerprint that it prints now"
	case errors.As(err, &unknown) && tr.ca != "":
		advice = "the certificates in " + tr.ca + " do not vouch for it: give the -ca that does, or the certificate's -fingerprint"
	case errors.As(err, &unknown):
		advice = "if the server runs with -tls, give the -fingerprint that it prints; if a CA of your own vouches for it, its -ca file"
	case errors.As(err, &name):
		advice = "give a -url with a name that the certificate is for, or its -fingerprint"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		advice = "the server needs a new one, if the clock of this machine is right"
	case errors.As(err, &noTLS):
		advice = "the server may speak no TLS: then its URL begins with ws://"
	case errors.As(err, &refused) && refused.Status == http.StatusBadRequest && !speaksTLS(address):
		advice = "the server may speak TLS: then its URL begins with wss://"
	default:
		return err
	}
	return fmt.Errorf("%w\n%s", err, advice)
}
