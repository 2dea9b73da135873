//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// TestStatusPathBehindHandler asks for StatusPath with an upgrade, as the first request of a connection and as a later one.
func TestStatusPathBehindHandler(t *testing.T) {
	s := peer.Start(t, &websocket.ServerOptions{ConnectPath: "/ws/:room", StatusPath: "/ws/status", HandleText: peer.Echo, Handler: page(),
		HandleAuth: func(*websocket.Handshake) (context.Context, error) {
			return nil, nil
		}})
	up := strings.Replace(peer.Request, "GET / ", "GET /ws/status ", 1)
	c := s.Dial(t)
	c.Send([]byte(up))
	first, _, _ := c.Answer()
	assert.Contains(t, first, "200")
	c = s.Dial(t)
	c.Send([]byte("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	asked(t, c, "GET", "/page", "")
	c.Send([]byte(up))
	line, _ := c.Reader.ReadString('\n')
	assert.Contains(t, line, "200")
}

// TestStopDoesNotWaitForHandleStatus stops a server while HandleStatus runs for ServeHTTP.
func TestStopDoesNotWaitForHandleStatus(t *testing.T) {
	var serv *websocket.Server
	block := make(chan struct{})
	in := make(chan struct{}, 1)
	m := mounted(t, &websocket.ServerOptions{StatusPath: "/status", HandleStatus: func() (string, []byte) {
		in <- struct{}{}
		<-block
		return "text/plain", nil
	}}, func(sv *websocket.Server) http.Handler { serv = sv; return sv }, nil)
	c := m.dial(t)
	c.Send([]byte("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	<-in
	done := make(chan struct{})
	go func() { serv.Stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		t.Error("Stop waits for HandleStatus")
	}
	close(block)
	<-done
}

// TestStopDoesNotWaitForStatusReader stops a server while a client does not read the answer of HandleStatus.
func TestStopDoesNotWaitForStatusReader(t *testing.T) {
	var serv *websocket.Server
	in := make(chan struct{}, 1)
	m := mounted(t, &websocket.ServerOptions{StatusPath: "/status", WriteTimeout: time.Second, HandleStatus: func() (string, []byte) {
		in <- struct{}{}
		return "text/plain", make([]byte, 16<<20)
	}}, func(sv *websocket.Server) http.Handler { serv = sv; return sv }, nil)
	c := m.dial(t)
	c.Send([]byte("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	<-in
	done := make(chan struct{})
	go func() { serv.Stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(4 * time.Second):
		t.Error("Stop waits for a client that does not read its status")
	}
	c.Close()
	<-done
}

// oddHijack is a ResponseWriter of middleware.
type oddHijack struct {
	http.ResponseWriter
	panics bool
}

func (w oddHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.panics {
		panic(http.ErrAbortHandler)
	}
	conn, _, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return conn, nil, err
}

// TestOddHijack has middleware that panics as it hijacks, and some that has no buffer: no place is lost.
func TestOddHijack(t *testing.T) {
	for _, panics := range []bool{true, false} {
		var fine atomic.Bool
		m := mounted(t, &websocket.ServerOptions{MaxConnections: 1, HandleText: peer.Echo}, func(sv *websocket.Server) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !fine.Load() {
					w = oddHijack{w, panics}
				}
				sv.ServeHTTP(w, r)
			})
		}, nil)
		c := m.dial(t)
		c.Send([]byte(peer.Request))
		_, err := c.Reader.ReadString('\n')
		assert.Equal(t, panics, err != nil)
		c.Close()
		fine.Store(true)
		assert.True(t, peer.Eventually(func() bool {
			c, err := m.open(t)
			if err == nil {
				defer c.Close()
				err = c.Shake()
			}
			return err == nil
		}), "panics %v", panics)
	}
}

// TestProxyThroughHandler has a connection that a proxy has told of go to another server.
func TestProxyThroughHandler(t *testing.T) {
	infos := make(chan string, 4)
	inner := websocket.NewServer(peer.Quiet(&websocket.ServerOptions{MaxConnectionsPerAddress: 1, HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
		infos <- req.RemoteAddr.String()
		return nil, nil
	}}))
	s := peer.Start(t, &websocket.ServerOptions{ConnectPath: "/outer", ProxyProtocol: loopback, Handler: inner})
	defer inner.Stop()
	c := s.Dial(t)
	c.Send([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n" + peer.Request))
	assert.Equal(t, "192.0.2.1:1234", <-infos)
}

// TestAddressWithoutPort has middleware that says who the client is, without a port.
func TestAddressWithoutPort(t *testing.T) {
	m := mounted(t, &websocket.ServerOptions{MaxConnectionsPerAddress: 1, HandleText: peer.Echo}, func(sv *websocket.Server) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = "192.0.2.7" // as chi's middleware.RealIP does
			sv.ServeHTTP(w, r)
		})
	}, nil)
	for i := range 3 {
		c := m.dial(t)
		err := c.Shake()
		assert.Equal(t, i > 0, err != nil)
	}
}
