//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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

// requestAdding is the opening handshake with more header lines, each without its line end.
func requestAdding(lines ...string) string {
	head := strings.TrimSuffix(peer.Request, "\r\n")
	for _, line := range lines {
		head += line + "\r\n"
	}
	return head + "\r\n"
}

// requestReplacing is the opening handshake with one of its header lines replaced.
func requestReplacing(name, line string) string {
	lines := strings.Split(strings.TrimSuffix(peer.Request, "\r\n\r\n"), "\r\n")
	for i := range lines {
		if strings.HasPrefix(lines[i], name+":") {
			lines[i] = line
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// exchange sends a request and reads an HTTP answer and the end of the connection. The connection may end with a reset: the
// server does not read all of what is too much. It may be called from any goroutine.
func exchange(c *peer.Conn, request string) (*http.Response, string, error) {
	go io.WriteString(c, request) // fails if the server has had enough
	return readAnswer(c)
}

func readAnswer(c *peer.Conn) (*http.Response, string, error) {
	res, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		return nil, "", fmt.Errorf("no answer: %w", err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		return nil, "", fmt.Errorf("no body: %w", err)
	}
	if !res.Close {
		return nil, "", errors.New("the answer does not close the connection")
	}
	return res, string(body), c.ReadToEnd()
}

// refused sends requests, each on a connection of its own, that must be answered with that status and end their connection.
func (a *abuse) refused(status int, requests ...string) {
	a.t.Helper()
	for _, request := range requests {
		c := a.Dial(a.t)
		res, _, err := exchange(c, request)
		require.NoError(a.t, err, "%.200q", request)
		assert.Equal(a.t, status, res.StatusCode, "%.200q", request)
		c.Close()
	}
}

// here returns the status that is answered by the server's own listener, or behind net/http.
func (a *abuse) here(own, behind int) int {
	if a.mounted {
		return behind
	}
	return own
}

func TestAbuseHandshake(t *testing.T) { runRows(t, handshakeRows) }

// TestAbuseHandshakeWithHandler has a server that gives all other requests to the program: whatever reaches it is refused as well.
func TestAbuseHandshakeWithHandler(t *testing.T) {
	runRowsWith(t, abuse{handler: refusing}, handshakeRows)
}

// refusing is the program's handler.
var refusing = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	status := http.StatusBadRequest
	if r.URL.Path != "/" {
		status = http.StatusNotFound
	}
	http.Error(w, "the program's", status)
})

// TestAbuseHandshakeByServeHTTP has the server behind one of net/http, which reads the head of a request first: the rows are run that
// are left for the server to decide.
func TestAbuseHandshakeByServeHTTP(t *testing.T) { runRowsWith(t, abuse{mounted: true}, handshakeRows) }

var handshakeRows = []attackRow{
	{name: "500 clients that send nothing or one byte per second are closed at the time-out, others get in", attack: slowHandshakes,
		inHTTP: "a slow head is the business of the program's http.Server"},
	{name: "200 header fields are answered with 431", attack: func(a *abuse) {
		a.start(&websocket.ServerOptions{})
		var lines []string
		for i := range 200 {
			lines = append(lines, fmt.Sprintf("X-%d: y", i))
		}
		a.refused(http.StatusRequestHeaderFieldsTooLarge, requestAdding(lines...))
	}},
	{name: "one header field of 64 KiB is answered with 431", attack: func(a *abuse) {
		a.start(&websocket.ServerOptions{})
		a.refused(http.StatusRequestHeaderFieldsTooLarge, requestAdding("X: "+strings.Repeat("y", 64<<10)))
	}},
	{name: "endless header lines, request lines and blank lines are answered with 431 or 400, and never read on", attack: endlessHeaders,
		inHTTP: "it reads up to http.Server.MaxHeaderBytes, and then answers 431"},
	{name: "32 kB of blanks, commas, quotes or semicolons in a header are read in linear time", attack: longLists},
	{name: "malformed lines are answered with 400", inHTTP: "it takes folded lines and bare line feeds; TestServeHTTP has what it lets through", attack: func(a *abuse) {
		a.start(&websocket.ServerOptions{})
		bad := []string{
			requestAdding("no colon here"),
			requestAdding(": no name"),
			requestAdding("X : blank before the colon"),
			requestAdding("X: bare\nY: line feed"),
			strings.ReplaceAll(peer.Request, "\r\n", "\n"),
			requestAdding("X: folded", " line"),
			requestAdding("X: folded", "\tline"),
			requestAdding("X: nul\x00byte"),
			requestAdding("X\x00: y"),
			requestAdding("X: bare\rreturn"),
			requestAdding("X: \x7f"),
			strings.Replace(peer.Request, "GET / ", "GET /\x00 ", 1),
			strings.Replace(peer.Request, "GET / ", "GET /\x01\x02 ", 1),
			strings.Replace(peer.Request, "GET / ", "GET /\x7f ", 1),
			strings.Replace(peer.Request, "GET / ", "GET /\x1b[2J ", 1),
			strings.Replace(peer.Request, "GET / ", "GET /a\tb ", 1),
			strings.Replace(peer.Request, "GET / ", "GET  ", 1),
			strings.Replace(peer.Request, "GET / HTTP/1.1", "GET /", 1),
			strings.Replace(peer.Request, "GET / ", "GET /#fragment ", 1),
			strings.Replace(peer.Request, "GET / ", "GET /%zz ", 1),
			strings.Replace(peer.Request, "GET / ", "G\x00T / ", 1),
			"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 200) + "\r\n\r\n", // TLS
			"\r\n\r\n\r\n",
		}
		a.refused(http.StatusBadRequest, bad...)
	}},
	{name: "line ends in the text of a HandleAuth error and in what a handler answers add no header line", attack: splitAnswers,
		inHTTP: "refusals are its answers, with header fields of its own; TestServeHTTP"},
	{name: "a request with a body is answered with 400", attack: func(a *abuse) {
		a.start(&websocket.ServerOptions{})
		second := strings.Replace(peer.Request, "GET / ", "GET /smuggled ", 1)
		a.refused(http.StatusBadRequest,
			requestAdding("Content-Length: 5")+"hello",
			requestAdding(fmt.Sprint("Content-Length: ", len(second)))+second,
			requestAdding("Content-Length: 0", "Content-Length: 5")+"hello",
			requestAdding("Content-Length: -1"),
			requestAdding("Content-Length: 99999999999999999999"),
			requestAdding("Transfer-Encoding: chunked")+"5\r\nhello\r\n0\r\n\r\n",
			requestAdding("Transfer-Encoding: chunked", "Content-Length: 3")+"0\r\n\r\n",
		)
		a.refused(a.here(http.StatusBadRequest, http.StatusNotImplemented), requestAdding("Transfer-Encoding: identity"))
	}},
	{name: "a second request behind the first is answered with 400, one behind the answer with 1002", attack: pipelined},
	{name: "a HandleAuth that panics is answered with 500", logs: []string{"websocket: handler panicked"}, attack: func(a *abuse) {
		a.start(&websocket.ServerOptions{HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			if req.URL.RawQuery == "panic" {
				panic("HandleAuth of the test")
			}
			return context.Background(), nil
		}})
		for range 50 {
			a.refused(http.StatusInternalServerError, strings.Replace(peer.Request, "GET / ", "GET /?panic ", 1))
		}
		require.Equal(a.t, 50, a.log.count("websocket: handler panicked"))
	}},
	{name: "a HandleAuth that blocks holds up nobody else, and no client that has gone", attack: blockedAuth},
	{name: "a HandleAuth that returns no context opens the connection with an empty one", attack: func(a *abuse) {
		opts := &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) { return nil, nil }}
		contexts := make(chan context.Context, 8)
		opts.HandleClientAdd = func(ctx context.Context, _ int) { contexts <- ctx }
		a.start(opts)
		require.Equal(a.t, context.Background(), peer.Get(a.t, contexts))
		c := a.Connect(a.t)
		require.Equal(a.t, context.Background(), peer.Get(a.t, contexts))
		c.Text("x")
		c.ExpectText("x")
	}},
}

// join is the longest that others may take to connect, beyond what a plain connection took at the same moment.
const join = 100 * time.Millisecond

// slowHandshakes has half of its clients send a byte per second, the others nothing. Others connect until all of them
// are closed.
func slowHandshakes(a *abuse) {
	const peers = 500
	timeout := scale(peer.HandshakeTimeout)
	a.start(defaults(new(websocket.ServerOptions)))
	start := time.Now()
	ready, ended := make(chan struct{}, peers), make(chan error, peers)
	for i := range peers {
		begun, c := time.Now(), a.Dial(a.t)
		go func() {
			if a.tls {
				c.Handshake() // what it lacks is a request
			}
			ready <- struct{}{}
			took, err := slowHandshake(c, i%2 == 1, begun)
			if err == nil && took < timeout*9/10 {
				err = fmt.Errorf("closed after %v", took)
			}
			ended <- err
		}()
	}
	for range peers {
		peer.Get(a.t, ready)
	}
	opened := time.Since(start)
	a.othersJoin(func() bool { return len(ended) == peers || time.Since(start) > opened+timeout+wait })
	for range peers {
		require.NoError(a.t, peer.Get(a.t, ended))
	}
	assert.Less(a.t, time.Since(start), opened+timeout+peer.DrainTime+timeLimit(time.Second), "until all slow ones were closed")
}

// slowHandshake is a client of slowHandshakes. It returns how long it was kept.
func slowHandshake(c *peer.Conn, silent bool, begun time.Time) (time.Duration, error) {
	if silent { // it is told nothing
		err := c.ReadToEnd()
		return time.Since(begun), err
	}
	done := make(chan struct{})
	defer close(done)
	go trickle(c, peer.Request, done)
	res, _, err := readAnswer(c)
	if err == nil && res.StatusCode != http.StatusRequestTimeout {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return time.Since(begun), err
}

// trickle writes a byte per second until it is done or the reader has had enough.
func trickle(w io.Writer, text string, done <-chan struct{}) {
	ticker := time.NewTicker(scale(time.Second))
	defer ticker.Stop()
	for i := range len(text) {
		if _, err := io.WriteString(w, text[i:i+1]); err != nil {
			return
		}
		select {
		case <-done:
			return
		case <-ticker.C:
		}
	}
}

// othersJoin has others connect, one at a time, and checks how long each of them takes.
func (a *abuse) othersJoin(enough func() bool) {
	a.t.Helper()
	plain := peer.PlainServer(a.t)
	ticker := time.NewTicker(echoPace)
	defer ticker.Stop()
	limit := join
	if a.tls { // both sides have more to do
		limit = timeLimit(join)
	}
	joined := 0
	var longest, most time.Duration
	for ; !enough(); <-ticker.C {
		stop, beside := make(chan struct{}), make(chan time.Duration, 1)
		go func() { beside <- plainJoins(plain, stop) }()
		begin := time.Now()
		c, err := a.Join()
		took := time.Since(begin)
		close(stop)
		control := peer.Get(a.t, beside)
		require.NoError(a.t, err)
		c.Reset()
		assert.Less(a.t, took, limit+control, "to connect; a plain connection took %v", control)
		joined, longest, most = joined+1, max(longest, took), max(most, control)
	}
	a.t.Logf("%d others connected, the longest in %v (plain ones: %v)", joined, longest.Round(10*time.Microsecond), most.Round(10*time.Microsecond))
}

// plainJoins connects to a plain server and has a byte come back, until it is stopped. It returns how long the longest took.
func plainJoins(address string, stop <-chan struct{}) (longest time.Duration) {
	for b := make([]byte, 1); ; {
		start := time.Now()
		c, err := net.Dial("tcp", address)
		if err != nil {
			return longest
		}
		c.Write(b)
		c.Read(b)
		longest = max(longest, time.Since(start))
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		select {
		case <-stop:
			return longest
		default:
		}
	}
}

func endlessHeaders(a *abuse) {
	a.start(&websocket.ServerOptions{})
	a.bounded(24 << 20)
	rows := []struct {
		begin, again string
		status       int
	}{
		{strings.TrimSuffix(peer.Request, "\r\n") + "X: ", "yyyyyyyyyyyyyyyy", http.StatusRequestHeaderFieldsTooLarge},
		{strings.TrimSuffix(peer.Request, "\r\n"), "X: y\r\n", http.StatusRequestHeaderFieldsTooLarge},
		{"GET /", "aaaaaaaaaaaaaaaa", http.StatusRequestHeaderFieldsTooLarge},
		{"", " ", http.StatusRequestHeaderFieldsTooLarge},
		{"", "\x00", http.StatusRequestHeaderFieldsTooLarge},
		{"", "\n", http.StatusBadRequest},
		{"GET / HTTP/1.1\r\n", " \n", http.StatusBadRequest},
	}
	peer.All(a.t, len(rows), func(i int) error {
		row := rows[i]
		c, err := a.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		wrote := make(chan int, 1)
		go func() {
			io.WriteString(c, row.begin)
			n, _ := flood(c, []byte(row.again), 1<<30/len(row.again))
			wrote <- n * len(row.again)
		}()
		res, _, err := readAnswer(c)
		if err != nil {
			return fmt.Errorf("%q: %w", row.again, err)
		}
		if n := <-wrote; res.StatusCode != row.status || n > 32<<20 { // sockets buffer some MiB
			return fmt.Errorf("%q: status %d after %d bytes", row.again, res.StatusCode, n)
		}
		return nil
	})
}

// longLists sends each of its requests often enough that quadratic time would be minutes.
func longLists(a *abuse) {
	const size, times = 32 << 10, 25
	a.start(&websocket.ServerOptions{MaxHeaderSize: 64 << 10})
	start, requests := time.Now(), 0
	for _, name := range []string{"Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"} {
		for _, fill := range []string{" ", ",", " ,", "\t", `"`, `"\`, `\"`, ";", "a;", "a,", `a;b="`, "="} {
			line := name + ": x" + strings.Repeat(fill, size/len(fill)) + "x"
			request := requestAdding(line)
			if strings.Contains(peer.Request, "\r\n"+name+":") {
				request = requestReplacing(name, line)
			}
			for range times / 5 {
				requests += 5
				peer.All(a.t, 5, func(int) error {
					c, err := a.Open()
					if err != nil {
						return err
					}
					defer c.Close()
					if _, err = io.WriteString(c, request); err != nil {
						return err
					}
					res, err := http.ReadResponse(c.Reader, nil)
					if err != nil {
						return fmt.Errorf("%s with %q: %w", name, fill, err)
					}
					if res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusSwitchingProtocols {
						return fmt.Errorf("%s with %q: status %d", name, fill, res.StatusCode)
					}
					return nil
				})
			}
		}
	}
	took := time.Since(start)
	a.t.Logf("%d requests in %v", requests, took)
	assert.Less(a.t, took, wait)
}

// splitAnswers has the program's texts carry the lines of another answer.
func splitAnswers(a *abuse) {
	const evil = "no\r\nSet-Cookie: evil=1\r\n\r\n<script>\n\r\x00\x7f"
	a.start(&websocket.ServerOptions{
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			switch req.URL.RawQuery {
			case "error":
				return nil, errors.New(evil)
			case "path":
				return nil, fmt.Errorf("no access to %s for %s", req.URL.Path, req.Header.Get("X"))
			case "value":
				req.ResponseHeader.Set("X", evil)
			case "name":
				req.ResponseHeader["X\r\nSet-Cookie: evil=1\r\nY"] = []string{"z"}
			case "forbidden":
				req.ResponseHeader["upgrade"] = []string{"h2c"}
				req.ResponseHeader["Content-Length"] = []string{"100"}
				req.ResponseHeader["Sec-WebSocket-Accept"] = []string{"evil"}
			}
			return context.Background(), nil
		},
		HandleStatus: func() (string, []byte) { return "text/plain" + evil, []byte("OK") },
	})
	for _, query := range []string{"error", "path", "value", "name"} {
		c := a.Dial(a.t)
		c.Send([]byte(strings.Replace(requestAdding("X: %0d%0aSet-Cookie: evil=1"), "GET / ", "GET /?"+query+" ", 1)))
		status, header, body := c.Answer()
		assert.True(a.t, strings.HasPrefix(status, "HTTP/1.1 400 "), "%s: %q", query, status)
		assert.Equal(a.t, status, "HTTP/1.1 400 "+body, query)
		assert.Equal(a.t, map[string]string{"Content-Type": "text/plain; charset=utf-8", "Content-Length": fmt.Sprint(len(body)),
			"Cache-Control": "no-store", "Connection": "close"}, header, query)
		assert.True(a.t, isFieldValue(status), "%q", status)
	}
	c := a.Dial(a.t)
	c.Send([]byte(strings.Replace(peer.Request, "GET / ", "GET /status ", 1)))
	_, header, body := c.Answer()
	assert.Equal(a.t, "OK", body)
	assert.Len(a.t, header, 4)
	c = a.Dial(a.t)
	c.Send([]byte(strings.Replace(peer.Request, "GET / ", "GET /?forbidden ", 1)))
	answer := make([]byte, len(peer.Accepted))
	_, err := io.ReadFull(c.Reader, answer)
	require.NoError(a.t, err)
	assert.Equal(a.t, peer.Accepted, string(answer))
}

// pipelined looks for a socket that stays in HTTP mode.
func pipelined(a *abuse) {
	release := make(chan struct{})
	paths, inside := make(chan string, 64), make(chan struct{}, 1)
	a.start(&websocket.ServerOptions{HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
		if req.URL.RawQuery == "block" {
			inside <- struct{}{}
			<-release
		}
		paths <- req.URL.RawQuery
		return context.Background(), nil
	}})
	free := peer.Release(a.t, release)
	require.Empty(a.t, peer.Get(a.t, paths)) // the well-behaved client's
	second := strings.Replace(peer.Request, "GET / ", "GET /?second ", 1)
	a.refused(http.StatusBadRequest, peer.Request+second, peer.Request+"POST / HTTP/1.1\r\n\r\n", peer.Request+second[:1])
	// Behind net/http the mux has decided about the path, and what asks for an upgrade is an opening handshake.
	a.refused(a.here(http.StatusNotFound, http.StatusBadRequest), strings.Replace(peer.Request, "GET / ", "GET /other ", 1)+second)
	a.refused(a.here(http.StatusOK, http.StatusBadRequest), strings.Replace(peer.Request, "GET / ", "GET /status ", 1)+second)

	c := a.Connect(a.t) // the second one comes after the answer: it is read as frames, which it is not
	c.Send([]byte(second))
	c.ExpectClose(websocket.StatusBadRequest)
	c = a.Dial(a.t) // or while HandleAuth decides
	c.Send([]byte(strings.Replace(peer.Request, "GET / ", "GET /?block ", 1)))
	peer.Get(a.t, inside)
	c.Send([]byte(second))
	free()
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c.Reader, int64(len(peer.Accepted)))), nil)
	require.NoError(a.t, err)
	require.Equal(a.t, http.StatusSwitchingProtocols, res.StatusCode)
	c.ExpectClose(websocket.StatusBadRequest)
	for range len(paths) {
		assert.NotEqual(a.t, "second", <-paths)
	}
}

// blockedAuth has HandleAuth block for longer than the time-out of the handshake, which does not count it.
func blockedAuth(a *abuse) {
	const peers = 100
	release, inside := make(chan struct{}), make(chan struct{}, peers)
	opts := defaults(new(websocket.ServerOptions))
	hold := opts.HandshakeTimeout * 3 / 2
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		if req.URL.RawQuery == "block" {
			inside <- struct{}{}
			blocker(hold, release)
		}
		return context.Background(), nil
	}
	a.start(opts)
	peer.Release(a.t, release)
	request := []byte(strings.Replace(peer.Request, "GET / ", "GET /?block ", 1))
	var blocked []*peer.Conn
	start := time.Now()
	for range peers {
		c := a.Dial(a.t)
		c.Send(request)
		blocked = append(blocked, c)
	}
	for range peers {
		peer.Get(a.t, inside)
	}
	for _, c := range blocked[:peers/2] {
		c.Reset()
	}
	for range 20 {
		c := a.Connect(a.t)
		c.Text("x")
		c.ExpectText("x")
		c.Close()
	}
	for _, c := range blocked[peers/2:] {
		answer := make([]byte, len(peer.Accepted))
		_, err := io.ReadFull(c.Reader, answer)
		require.NoError(a.t, err)
		require.Equal(a.t, peer.Accepted, string(answer))
	}
	assert.GreaterOrEqual(a.t, time.Since(start), hold)
}

// isFieldValue reports whether a text can stand in a header field or a log line without a trick: it has no control characters
// but tabs.
func isFieldValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F })
}
