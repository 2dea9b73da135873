package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ourlib "github.com/wsloop/websocket"
)

// secured is our server, which tells of each connection how TLS stands.
type secured struct {
	*ourlib.Server
	address string
	shaken  chan *tls.ConnectionState // Handshake.TLS of each
	known   chan *tls.ConnectionState // ConnInfo.TLS of the same
}

// startSecured starts a server with TLS, and with a Handler if it is not nil.
func startSecured(t *testing.T, config *tls.Config, handler http.Handler) *secured {
	s := &secured{shaken: make(chan *tls.ConnectionState, inboxSize), known: make(chan *tls.ConnectionState, inboxSize)}
	s.Server = ourlib.NewServer(&ourlib.ServerOptions{
		TLSConfig:   config,
		Handler:     handler,
		ConnectPath: "/chat",
		Logger:      slog.New(slog.DiscardHandler),
		HandleAuth: func(req *ourlib.Handshake) (context.Context, error) {
			s.shaken <- req.TLS
			return context.Background(), nil
		},
		HandleClientAdd: func(_ context.Context, fd int) {
			info, _ := s.Clients.Info(fd)
			s.known <- info.TLS
		},
		HandleText: func(fd int, payload []byte) { ourlib.SendText(fd, payload) },
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = ln.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		assert.NoError(t, <-ended)
	})
	return s
}

// visit connects, exchanges a message, and returns what the server knows of TLS.
func (s *secured) visit(t *testing.T, dial func(config *tls.Config, url string) (conn, error), config *tls.Config) *tls.ConnectionState {
	t.Helper()
	theirs, err := dial(config, "wss://"+s.address+"/chat")
	require.NoError(t, err)
	deliver(t, theirs, theirs, text, []byte("hello")) // a ticket of TLS 1.3 has come before the answer
	theirs.drop()
	state := within(t, s.shaken)
	require.NotNil(t, state)
	known := within(t, s.known)
	require.NotNil(t, known)
	assert.Equal(t, state.PeerCertificates, known.PeerCertificates)
	return state
}

// configurable are clients that take a configuration of TLS.
var configurable = map[string]func(config *tls.Config, url string) (conn, error){
	ours.name: func(config *tls.Config, url string) (conn, error) {
		return dialOurs(&ourlib.Client{Endpoint: url, TLSConfig: config}, nil)
	},
	gorilla.name: func(config *tls.Config, url string) (conn, error) {
		return dialGorilla(&websocket.Dialer{TLSClientConfig: config}, url)
	},
}

// TestSessionsAreResumed rotates the keys of tickets twice: a ticket is good for as long as its key is among them.
func TestSessionsAreResumed(t *testing.T) {
	t.Parallel()
	for name, dial := range configurable {
		for _, s := range []security{tls13AES, tls12AESRSA} {
			t.Run(name+" by "+tls.VersionName(s.version), func(t *testing.T) {
				t.Parallel()
				server := startSecured(t, s.server(t), nil)
				first, second, third := [32]byte{1}, [32]byte{2}, [32]byte{3}
				config := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
				for _, step := range []struct {
					keys    [][32]byte
					resumes bool
				}{
					{[][32]byte{first}, false},
					{nil, true},
					{[][32]byte{second, first}, true},
					{[][32]byte{second}, true}, // by the ticket that came with the last one
					{[][32]byte{third}, false},
					{nil, true},
				} {
					if step.keys != nil {
						server.SetSessionTicketKeys(step.keys)
					}
					state := server.visit(t, dial, config)
					require.Equal(t, step.resumes, state.DidResume, "with %v", step.keys)
				}
			})
		}
	}
}

// TestOurClientResumes has it come twice to a server of net/http.
func TestOurClientResumes(t *testing.T) {
	t.Parallel()
	for _, s := range []security{tls13AES, tls12AESRSA} {
		t.Run(tls.VersionName(s.version), func(t *testing.T) {
			t.Parallel()
			url, accepted := gorilla.serve(t, s)
			var resumed []bool
			config := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1), VerifyConnection: func(state tls.ConnectionState) error {
				resumed = append(resumed, state.DidResume)
				return nil
			}}
			for range 2 {
				side, err := configurable[ours.name](config, url)
				require.NoError(t, err)
				theirs := accept(t, accepted)
				deliver(t, theirs, side, text, []byte("behind the ticket"))
				side.drop()
			}
			assert.Equal(t, []bool{false, true}, resumed)
		})
	}
}

// TestClientCertificates expects those of clients with Handshake and ConnInfo, and clients without one to be refused.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	for _, s := range []security{tls13AES, tls12AESRSA} {
		for _, key := range []algorithm{ecdsaKey, rsaKey} {
			t.Run(fmt.Sprintf("%s of a client by %s", key, tls.VersionName(s.version)), func(t *testing.T) {
				t.Parallel()
				config := s.server(t)
				config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, rootsPool(t)
				server := startSecured(t, config, nil)
				certificate := issue(t, key, "alice.test")
				for name, dial := range configurable {
					state := server.visit(t, dial, &tls.Config{Certificates: []tls.Certificate{certificate}})
					assert.Equal(t, []*x509.Certificate{certificate.Leaf}, state.PeerCertificates, name)
					require.Len(t, state.VerifiedChains, 1, name)
					theirs, err := dial(nil, "wss://"+server.address+"/chat")
					if !assert.Error(t, err, name) {
						theirs.drop()
					}
				}
				c := dialOpenSSL(t, "wss://"+server.address+"/chat", "-cert", saved(t, certificate), "-key", saved(t, certificate))
				assert.Equal(t, certificate.Leaf, within(t, server.shaken).PeerCertificates[0]) // with that of the authority
				c.end(t)
			})
		}
	}
}

// TestCertificateByName expects that of the name that a client asks for.
func TestCertificateByName(t *testing.T) {
	t.Parallel()
	config := &tls.Config{Certificates: []tls.Certificate{issue(t, ecdsaKey, "one.test"), issue(t, rsaKey, "two.test")}}
	server := startSecured(t, config, page)
	for i, name := range []string{"one.test", "two.test"} {
		t.Run(name, func(t *testing.T) {
			for client, dial := range configurable {
				var got *x509.Certificate
				state := server.visit(t, dial, &tls.Config{ServerName: name, VerifyConnection: func(state tls.ConnectionState) error {
					got = state.PeerCertificates[0]
					return nil
				}})
				assert.Equal(t, config.Certificates[i].Leaf, got, client)
				assert.Equal(t, name, state.ServerName, client)
			}
			_, port, err := net.SplitHostPort(server.address)
			require.NoError(t, err)
			out := runCurl(t, "--connect-to", "::"+server.address, "https://"+net.JoinHostPort(name, port)+"/")
			assert.Equal(t, "a page\n", out)
		})
	}
	_, err := configurable[gorilla.name](&tls.Config{ServerName: "three.test"}, "wss://"+server.address+"/chat")
	assert.ErrorContains(t, err, "three.test")
}

// TestProtocolOfTheConnection has clients offer versions of HTTP (RFC 7301).
func TestProtocolOfTheConnection(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		offer            []string
		without, handler string // what is chosen without and with a Handler; "refused" if nothing fits
	}{
		{nil, "", ""},
		{[]string{"http/1.1"}, "http/1.1", "http/1.1"},
		{[]string{"h2", "http/1.1"}, "http/1.1", "h2"},
		{[]string{"http/1.1", "h2"}, "http/1.1", "h2"},
		{[]string{"h2"}, "refused", "h2"},
		{[]string{"h3"}, "refused", "refused"},
	} {
		t.Run("offered "+strings.Join(tc.offer, " "), func(t *testing.T) {
			t.Parallel()
			for want, handler := range map[string]http.Handler{"without " + tc.without: nil, "with " + tc.handler: page} {
				server := startSecured(t, tls13AES.server(t), handler)
				chosen := "refused"
				c, err := tls.Dial("tcp", server.address, &tls.Config{NextProtos: tc.offer})
				if err == nil {
					chosen = c.ConnectionState().NegotiatedProtocol
					c.Close()
				}
				_, want, _ = strings.Cut(want, " ")
				assert.Equal(t, want, chosen)
			}
		})
	}
}
