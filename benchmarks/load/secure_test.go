package main

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"golang.org/x/sys/unix"
)

// startEcho starts an echo server over TLS and returns its address and the configuration of its clients.
func startEcho(t *testing.T, config *tls.Config) (addr string, client *tls.Config) {
	upgrader := new(websocket.Upgrader)
	serv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, payload, err := c.ReadMessage()
			if err != nil || c.WriteMessage(kind, payload) != nil {
				return
			}
		}
	}))
	serv.Config.ErrorLog = log.New(io.Discard, "", 0)
	serv.TLS = config
	serv.StartTLS()
	t.Cleanup(serv.Close)
	trusting := serv.Client().Transport.(*http.Transport).TLSClientConfig
	return serv.Listener.Addr().String(), &tls.Config{RootCAs: trusting.RootCAs, ServerName: "example.com"}
}

func newTestLoad(t *testing.T, s *plan.Scenario, addr string, config *tls.Config) *load {
	l, err := newLoad(s, addr, os.Getpid(), 1, config)
	require.NoError(t, err)
	t.Cleanup(func() {
		for fd, c := range l.byFD {
			if c != nil {
				unix.Close(fd)
			}
		}
	})
	return l
}

func TestMessagesOfAnySizeAreEchoedOverTLS(t *testing.T) {
	addr, config := startEcho(t, nil)
	for _, size := range []int{1, 128, 16 << 10, 1 << 20} {
		l := newTestLoad(t, &plan.Scenario{Size: size, Connections: 3, Needs: plan.Encrypts}, addr, config)
		require.NoError(t, l.echo(0, time.Millisecond), size)
		assert.Positive(t, l.Messages, size)
		assert.Equal(t, "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768", l.TLS)
	}
}

func TestWhatWasNegotiatedIsSaid(t *testing.T) {
	addr, config := startEcho(t, &tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.X25519}})
	l := newTestLoad(t, &plan.Scenario{Size: 16, Needs: plan.Encrypts}, addr, config)
	require.NoError(t, l.open(1, true))
	assert.Equal(t, "TLS 1.2, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, X25519", l.TLS)
}

func TestACertificateThatIsNotTrustedEndsTheLoad(t *testing.T) {
	addr, config := startEcho(t, nil)
	config.ServerName = "elsewhere.example"
	l := newTestLoad(t, &plan.Scenario{Size: 16, Needs: plan.Encrypts}, addr, config)
	var unknown *tls.CertificateVerificationError
	assert.ErrorAs(t, l.open(1, true), &unknown)
}

func TestTheRecordedClientHelloIsAnswered(t *testing.T) {
	addr, config := startEcho(t, nil)
	l := newTestLoad(t, &plan.Scenario{Kind: plan.Flood, Metric: plan.Rate, Size: 16, Connections: 2, Flooders: 3, Needs: plan.Encrypts},
		addr, config)
	require.NoError(t, l.flood(0, 50*time.Millisecond))
	assert.Positive(t, l.Messages)
	assert.Positive(t, l.Replays)
	assert.Positive(t, l.P99)
}

func TestADrainedSocketIsReadAgainOnceThePollerSaysSo(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fds[0])
	tr := &transport{fd: fds[0]}
	b := make([]byte, 4)
	_, err = tr.Read(b)
	assert.Equal(t, errDrained, err)

	_, err = unix.Write(fds[1], []byte{1})
	require.NoError(t, err)
	_, err = tr.Read(b)
	assert.Equal(t, errDrained, err, "not before the poller says so")
	tr.drained = false
	n, err := tr.Read(b)
	require.NoError(t, err)
	assert.Equal(t, 1, n)

	unix.Close(fds[1])
	tr.drained = false
	_, err = tr.Read(b)
	assert.Equal(t, io.EOF, err)
}
