package interop

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// cipher is that of the records of TLS.
type cipher string

const (
	aesGCM   cipher = "AES-GCM"
	chaCha20 cipher = "ChaCha20"
)

// security is what stands between a connection and TCP. The zero value is nothing, else it is a version of TLS, a cipher, and the
// algorithm of the server's certificate.
type security struct {
	version uint16
	cipher  cipher
	key     algorithm
}

// The securities that peers are tried with. No program in Go can be made to ask for ChaCha20 by TLS 1.3.
var (
	plain security

	tls13AES      = security{tls.VersionTLS13, aesGCM, ecdsaKey}
	tls13AESRSA   = security{tls.VersionTLS13, aesGCM, rsaKey}
	tls13ChaCha   = security{tls.VersionTLS13, chaCha20, ecdsaKey}
	tls13ChaRSA   = security{tls.VersionTLS13, chaCha20, rsaKey}
	tls12AES      = security{tls.VersionTLS12, aesGCM, ecdsaKey}
	tls12AESRSA   = security{tls.VersionTLS12, aesGCM, rsaKey}
	tls12ChaCha   = security{tls.VersionTLS12, chaCha20, ecdsaKey}
	tls12ChaRSA   = security{tls.VersionTLS12, chaCha20, rsaKey}
	allSecurities = []security{tls13AES, tls13AESRSA, tls13ChaCha, tls13ChaRSA, tls12AES, tls12AESRSA, tls12ChaCha, tls12ChaRSA}
)

func (s security) String() string {
	if s == plain {
		return "no TLS"
	}
	return fmt.Sprintf("%s, %s, %s", tls.VersionName(s.version), s.cipher, s.key)
}

// ciphers are the suites of TLS 1.3 and 1.2 with a cipher. Programs in Go choose among the former by themselves.
var ciphers = map[cipher][]uint16{
	aesGCM: {
		tls.TLS_AES_128_GCM_SHA256,
		tls.TLS_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	},
	chaCha20: {
		tls.TLS_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	},
}

// client returns what our client and those in Go are to use. A connection with another security is refused.
func (s security) client() *tls.Config {
	if s == plain {
		return nil
	}
	return &tls.Config{
		MinVersion:   s.version,
		MaxVersion:   s.version,
		CipherSuites: ciphers[s.cipher],
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.Version != s.version || !slices.Contains(ciphers[s.cipher], state.CipherSuite) {
				return errors.New("not the version and cipher of the test: " + tls.CipherSuiteName(state.CipherSuite))
			}
			return nil
		},
	}
}

// server returns what our server and those in Go are to use.
func (s security) server(t testing.TB) *tls.Config {
	config := s.client()
	if config != nil {
		config.Certificates = []tls.Certificate{issue(t, s.key)}
	}
	return config
}

// byPeer reports whether the cipher is one that a peer must insist on: Go does not.
func (s security) byPeer() bool { return s.version == tls.VersionTLS13 && s.cipher == chaCha20 }

// onlyChaCha20 is the configuration of OpenSSL for a program that is to offer and choose no other cipher by TLS 1.3.
const onlyChaCha20 = `openssl_conf = configuration
[configuration]
ssl_conf = modules
[modules]
system_default = defaults
[defaults]
Ciphersuites = TLS_CHACHA20_POLY1305_SHA256
`

// openSSL returns what has to be in the environment of a program with OpenSSL.
func (s security) openSSL(t *testing.T) (env []string) {
	if s.byPeer() {
		file := filepath.Join(t.TempDir(), "openssl.cnf")
		require.NoError(t, os.WriteFile(file, []byte(onlyChaCha20), 0o600))
		env = append(env, "OPENSSL_CONF="+file)
	}
	return env
}
