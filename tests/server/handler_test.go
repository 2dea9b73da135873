//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// page is the program's handler of these tests: it says what it was asked.
func page() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Asked", r.Method+" "+r.URL.Path)
		body, err := io.ReadAll(r.Body) // before the answer begins: net/http reads only some of it then
		if err == nil {
			w.Write(body)
		}
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("of the handler") })
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			io.WriteString(conn, "mine") // and never closes it
		}
	})
	return mux
}

// asked reads an answer of page.
func asked(t *testing.T, c *peer.Conn, method, path, body string) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(c.Reader, &http.Request{Method: method})
	require.NoError(t, err)
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s", got)
	require.Equal(t, method+" "+path, res.Header.Get("X-Asked"))
	require.Equal(t, len(body), len(got))
	require.True(t, body == string(got))
	return res
}

func TestHandler(t *testing.T) {
	s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, Handler: page()})
	const get = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"

	t.Run("the page of the path that connections are opened at", func(t *testing.T) {
		c := s.Dial(t)
		c.Send([]byte("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n"))
		asked(t, c, "GET", "/", "")
		require.NoError(t, c.Shake())
	})
	t.Run("a connection is kept for three requests, and then becomes one of WebSocket", func(t *testing.T) {
		c := s.Dial(t)
		for range 3 {
			c.Send([]byte(get))
			asked(t, c, "GET", "/page", "")
		}
		require.NoError(t, c.Shake())
		c.Text("x")
		c.ExpectText("x")
		c.Send(websocket.NewFrameClose(true, 4001, nil))
		c.ExpectClose(4001)
	})
	t.Run("requests and the upgrade behind them in one piece", func(t *testing.T) {
		c := s.Dial(t)
		long := strings.Repeat("x", 10<<10)
		c.Send([]byte(get + get + peer.Request + string(websocket.NewFrameText(true, []byte(long)))))
		asked(t, c, "GET", "/page", "")
		asked(t, c, "GET", "/page", "")
		answer := make([]byte, len(peer.Accepted))
		_, err := io.ReadFull(c.Reader, answer)
		require.NoError(t, err)
		require.Equal(t, peer.Accepted, string(answer))
		c.ExpectText(long)
	})
	t.Run("requests byte by byte", func(t *testing.T) {
		c := s.Dial(t)
		for i := range len(get) {
			c.Send([]byte(get[i : i+1]))
		}
		asked(t, c, "GET", "/page", "")
	})
	t.Run("HEAD", func(t *testing.T) {
		c := s.Dial(t)
		c.Send([]byte("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n" + get))
		asked(t, c, "HEAD", "/", "")
		asked(t, c, "GET", "/page", "")
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		c := s.Dial(t)
		c.Send([]byte("GET /old HTTP/1.0\r\n\r\n"))
		asked(t, c, "GET", "/old", "")
		c.ExpectEOF()
	})
	body := string(peer.Pattern(1<<20, 1))
	t.Run("a body of 1 MiB", func(t *testing.T) {
		c := s.Dial(t)
		written := make(chan error, 1)
		go func() {
			_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n"+body+get)
			written <- err
		}()
		asked(t, c, "POST", "/", body)
		asked(t, c, "GET", "/page", "")
		require.NoError(t, peer.Get(t, written))
	})
	t.Run("a chunked body", func(t *testing.T) {
		c := s.Dial(t)
		c.Send([]byte("PUT /chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"))
		c.Send([]byte("4\r\ndefg\r\n0\r\n\r\n" + get))
		asked(t, c, "PUT", "/chunks", "abcdefg")
		asked(t, c, "GET", "/page", "")
	})
	t.Run("a body that waits for 100 Continue", func(t *testing.T) {
		c := s.Dial(t)
		c.Send([]byte("POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"))
		line, err := c.Reader.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
		c.Reader.ReadString('\n')
		c.Send([]byte("abc"))
		asked(t, c, "POST", "/wait", "abc")
	})
	t.Run("StatusPath is the server's, first and later", func(t *testing.T) {
		for _, first := range []string{"", get} {
			c := s.Dial(t)
			c.Send([]byte(first + "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"))
			if first != "" {
				asked(t, c, "GET", "/page", "")
			}
			res, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err)
			got, _ := io.ReadAll(res.Body)
			assert.Equal(t, "OK", string(got))
		}
	})
	t.Run("a bad opening handshake is refused by the server, first and later", func(t *testing.T) {
		for _, first := range []string{"", get} {
			c := s.Dial(t)
			c.Send([]byte(first + peer.RequestWith("Sec-WebSocket-Key", "Sec-WebSocket-Key: short")))
			if first != "" {
				asked(t, c, "GET", "/page", "")
			}
			res, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err)
			got, _ := io.ReadAll(res.Body)
			assert.Equal(t, http.StatusBadRequest, res.StatusCode)
			assert.Equal(t, "invalid Sec-Websocket-Key header", string(got))
		}
	})
	t.Run("requests that nobody can read", func(t *testing.T) {
		for request, status := range map[string]int{
			"GET / HTTP/1.1\r\n\r\n":                                 http.StatusBadRequest, // no Host
			"GET / HTTP/1.1\r\nHost: a\r\nbad field : x\r\n\r\n":     http.StatusBadRequest,
			"GET / HTTP/3.7\r\nHost: a\r\n\r\n":                      http.StatusBadRequest,
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                       http.StatusBadRequest,
			"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n": http.StatusBadRequest,
		} {
			c := s.Dial(t)
			c.Send([]byte(request))
			res, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err, request)
			assert.Equal(t, status, res.StatusCode, request)
		}
	})
	t.Run("a panic is net/http's and ends its connection only", func(t *testing.T) {
		c, other := s.Dial(t), s.Connect(t)
		c.Send([]byte("GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		c.ExpectEOF()
		other.Text("x")
		other.ExpectText("x")
	})
	t.Run("a header that is too large", func(t *testing.T) {
		for _, first := range []string{"", get} {
			c := s.Dial(t)
			go io.WriteString(c, first+"GET / HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n")
			if first != "" {
				asked(t, c, "GET", "/page", "")
			}
			res, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err)
			assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, res.StatusCode)
		}
	})
}

// wrappedHijack is a ResponseWriter of middleware that counts bytes, for example.
type wrappedHijack struct{ http.ResponseWriter }

func (w wrappedHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return struct{ net.Conn }{conn}, rw, err
}

func TestHandlerLimits(t *testing.T) {
	const get = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
	t.Run("its connections count, until they are closed", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, Handler: page(), MaxConnections: 1})
		c := s.Dial(t)
		for range 3 {
			c.Send([]byte(get))
			asked(t, c, "GET", "/page", "")
			second := s.Dial(t)
			status, _, _ := second.Answer()
			assert.Equal(t, "HTTP/1.1 503 too many connections", status)
		}
		require.NoError(t, c.Shake()) // which is no second one
		c.Text("x")
		c.ExpectText("x")
		c.Close()
		require.True(t, peer.Eventually(func() bool {
			c, err := s.Join()
			if err == nil {
				c.Close()
			}
			return err == nil
		}))
		require.True(t, peer.Eventually(func() bool {
			c, err := s.Open()
			require.NoError(t, err)
			defer c.Close()
			io.WriteString(c, get)
			res, err := http.ReadResponse(c.Reader, nil)
			return err == nil && res.StatusCode == http.StatusOK
		}))
	})
	t.Run("another server behind its Handler takes the connection, and the place goes with it", func(t *testing.T) {
		inner := websocket.NewServer(peer.Quiet(&websocket.ServerOptions{HandleText: peer.Echo}))
		s := peer.Start(t, &websocket.ServerOptions{ConnectPath: "/outer", MaxConnections: 1, Handler: inner})
		t.Cleanup(inner.Stop)
		for range 3 {
			c := s.Connect(t)
			c.Text("x")
			c.ExpectText("x")
		}
		assert.Equal(t, 3, inner.Clients.Len())
	})
	t.Run("a connection around that of the server is not counted for ever", func(t *testing.T) {
		var serv *websocket.Server
		s := &peer.Server{T: t, Server: websocket.NewServer(peer.Quiet(&websocket.ServerOptions{
			ConnectPath: "/elsewhere", MaxConnections: 2, HandleText: peer.Echo,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serv.ServeHTTP(wrappedHijack{w}, r) }),
		}))}
		serv = s.Server
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		s.Launch(t)
		for range 10 {
			require.True(t, peer.Eventually(func() bool {
				c, err := s.Join()
				if err != nil {
					return false
				}
				defer c.Close()
				c.Text("x")
				return c.Compare(websocket.OpcodeText, "x") == nil
			}))
		}
	})
	t.Run("a header that does not come to its end in time", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{Handler: page(), HandshakeTimeout: 50 * time.Millisecond})
		c := s.Dial(t)
		c.Send([]byte(get + "GET / HT"))
		asked(t, c, "GET", "/page", "")
		require.NoError(t, c.ReadToEnd())
	})
	t.Run("a panic is told to the log", func(t *testing.T) {
		records := make(chan string, 10)
		log := peer.LogFunc(func(text string, _ map[string]slog.Value) { records <- text })
		s := peer.Start(t, &websocket.ServerOptions{Handler: page(), Logger: slog.New(log)})
		c := s.Dial(t)
		c.Send([]byte("GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		c.ExpectEOF()
		assert.Contains(t, peer.Get(t, records), "of the handler")
	})
}

func TestHandlerStop(t *testing.T) {
	const get = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
	t.Run("a request that is handled gets its answer, idle connections end", func(t *testing.T) {
		asks, release := make(chan struct{}), make(chan struct{})
		s := peer.Start(t, &websocket.ServerOptions{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(asks)
				<-release
			}
			w.Header().Set("X-Asked", r.Method+" "+r.URL.Path)
		})})
		idle, busy := s.Dial(t), s.Dial(t)
		idle.Send([]byte(get))
		asked(t, idle, "GET", "/page", "")
		busy.Send([]byte("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		peer.Done(t, asks)
		stopped := make(chan struct{})
		go func() {
			s.Stop()
			close(stopped)
		}()
		idle.ExpectEOF()
		close(release)
		asked(t, busy, "GET", "/slow", "")
		peer.Done(t, stopped)
	})
	t.Run("one that is handled for longer does not hold it up, nor does a connection that Handler has taken", func(t *testing.T) {
		asks, release := make(chan struct{}), make(chan struct{})
		handler := page().(*http.ServeMux)
		handler.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) {
			close(asks)
			<-release
		})
		s := peer.Start(t, &websocket.ServerOptions{Handler: handler, WriteTimeout: 50 * time.Millisecond})
		now := peer.Release(t, release)
		busy, taken := s.Dial(t), s.Dial(t)
		busy.Send([]byte("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		taken.Send([]byte("GET /hijack HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		mine := make([]byte, 4)
		_, err := io.ReadFull(taken.Reader, mine)
		require.NoError(t, err)
		peer.Done(t, asks)
		s.StopAndWait(t)
		require.NoError(t, busy.ReadToEnd())
		require.NoError(t, taken.ReadToEnd())
		now()
	})
	t.Run("Stop from Handler", func(t *testing.T) {
		stop, stopped := make(chan func(), 1), make(chan struct{})
		s := peer.Start(t, &websocket.ServerOptions{WriteTimeout: 50 * time.Millisecond, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			(<-stop)()
			close(stopped)
		})})
		stop <- s.Stop
		c := s.Dial(t)
		c.Send([]byte(get))
		peer.Done(t, stopped)
		require.NoError(t, c.ReadToEnd())
	})
	t.Run("a server with a Handler can be started again, over and over, while requests come", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{Handler: page(), HandleText: peer.Echo, WriteTimeout: time.Second})
		address := make(chan string)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for to := range address {
				for range 20 {
					conn, err := net.Dial("tcp", to)
					if err != nil {
						continue
					}
					conn.SetDeadline(time.Now().Add(peer.Wait))
					io.WriteString(conn, get)
					conn.Read(make([]byte, 1))
					conn.Close()
				}
			}
		}()
		for range 20 {
			address <- s.Address
			s.StopAndWait(t)
			s.Restart(t)
		}
		close(address)
		peer.Done(t, done)
	})
}
