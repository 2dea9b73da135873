package interop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gorillalib "github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// maxRequest keeps the fuzzer away from the limits of both servers, which differ.
const maxRequest = 4 << 10

// opening is what a server has made of an opening handshake.
type opening struct {
	url    *url.URL
	host   string
	header http.Header
}

// FuzzOpeningHandshake sends one request to our server and to that of net/http with the upgrader of gorilla/websocket.
//
// What our server accepts, http.ReadRequest must read in the same way: request target, Host and header fields. What the other
// server accepts, ours must accept too, unless the request is one of those that strict leaves out.
func FuzzOpeningHandshake(f *testing.F) {
	for _, request := range seeds {
		f.Add([]byte(request))
	}
	oursAccepts := serveOpenings(f)
	theirsAccepts := serveGorillaOpenings(f)
	f.Fuzz(func(t *testing.T, request []byte) {
		request = oneHead(request)
		if len(request) > maxRequest {
			t.Skip("too long")
		}
		status, ours := oursAccepts(t, request)
		if ours != nil {
			expectSameReading(t, request, ours)
		} else if theirsStatus := theirsAccepts(t, request); theirsStatus == http.StatusSwitchingProtocols && strict(request) {
			t.Errorf("theirs accepts a strict request and ours answers %q:\n%q", status, request)
		}
	})
}

// oneHead cuts the input behind the first empty line, and adds one if there is none: the server answers it then without
// having to wait for more.
func oneHead(b []byte) []byte {
	const end = "\r\n\r\n"
	start := 0
	for bytes.HasPrefix(b[start:], []byte("\r\n")) {
		start += len("\r\n")
	}
	if i := bytes.Index(b[start:], []byte(end)); i >= 0 {
		return bytes.Clone(b[:start+i+len(end)])
	}
	return append(bytes.TrimRight(b, "\r\n"), end...)
}

// strict reports whether a request that the other server accepts must be accepted by ours. These are not strict, and it is on
// purpose that ours refuses them:
//
//   - lines that do not end in CR LF, and lines that continue the one before (RFC 9112, sections 2.2 and 5.2);
//   - more than one empty line before the request line (section 2.2 asks for one at least);
//   - several fields of Host, Sec-WebSocket-Key or Sec-WebSocket-Version;
//   - lists of extensions, subprotocols, connection options and upgrades with elements that are not as RFC 6455, sections 4.1
//     and 9.1, and RFC 9110, section 7, have them;
//   - a body, or a field that announces one: Content-Length other than 0, Transfer-Encoding (RFC 6455, section 4.1);
//   - a request target with a fragment (section 3), with a character that must be percent-encoded, or that is neither a path
//     nor a URI of the schemes http and ws with a host in ASCII and without user information (RFC 9110, section 4.2.4);
//   - an empty Host;
//   - another path than that of the server, and that of its status page.
func strict(request []byte) bool {
	head := strings.TrimPrefix(string(request), "\r\n")
	line, fields, _ := strings.Cut(head, "\r\n")
	if strings.ContainsAny(strings.ReplaceAll(head, "\r\n", ""), "\r\n") || strings.Contains(fields, "\r\n ") ||
		strings.Contains(fields, "\r\n\t") {
		return false
	}
	target := strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1")
	u, err := url.ParseRequestURI(target)
	if err != nil || !slices.Contains([]string{"", "http", "https", "ws", "wss"}, u.Scheme) || u.Opaque != "" || u.Path != "/" && u.Path != "" || !isASCIIGraphic(target) || strings.ContainsAny(target, "#\"<>\\^`{|}") {
		return false
	}
	if u.User != nil || u.Scheme != "" && (u.Host == "" || !isASCIIGraphic(u.Host)) {
		return false
	}
	header := make(http.Header)
	for field := range strings.SplitSeq(strings.TrimSuffix(fields, "\r\n\r\n"), "\r\n") {
		name, value, _ := strings.Cut(field, ":")
		header.Add(name, strings.Trim(value, " \t"))
	}
	for _, name := range []string{"Host", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
		if len(header[name]) != 1 || header[name][0] == "" {
			return false
		}
	}
	if header["Transfer-Encoding"] != nil || header["Content-Length"] != nil && !slices.Equal(header["Content-Length"], []string{"0"}) {
		return false
	}
	for name, list := range simpleLists {
		if values := header[name]; values != nil && !list.MatchString(strings.Join(values, ",")) {
			return false
		}
	}
	return true
}

// simpleLists are those that the grammar allows whatever else it does.
var simpleLists = map[string]*regexp.Regexp{
	"Connection":               regexp.MustCompile(`^[\w-]+( ?, ?[\w-]+)*$`),
	"Upgrade":                  regexp.MustCompile(`^\w+( ?, ?\w+)*$`),
	"Sec-Websocket-Protocol":   regexp.MustCompile(`^\w+( ?, ?\w+)*$`),
	"Sec-Websocket-Extensions": regexp.MustCompile(`^\w+(; ?\w+(=\w+)?)*( ?, ?\w+(; ?\w+(=\w+)?)*)*$`),
}

func isASCIIGraphic(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7F })
}

// expectSameReading compares what our server has read with what http.ReadRequest reads.
func expectSameReading(t *testing.T, request []byte, ours *opening) {
	t.Helper()
	theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(request, []byte("\r\n")))))
	if err != nil {
		t.Errorf("ours accepts what http.ReadRequest does not: %v\n%q", err, request)
		return
	}
	want := theirs.URL
	if want.Path == "" {
		want.Path = "/"
	}
	assert.Equal(t, want, ours.url, "URL of %q", request)
	assert.Equal(t, theirs.Host, ours.host, "Host of %q", request)
	header := ours.header.Clone()
	header.Del("Host") // http.ReadRequest removes it
	if theirs.ContentLength == 0 {
		theirs.Header.Del("Content-Length")
		header.Del("Content-Length")
	}
	// http.ReadRequest adds it for the sake of caches of HTTP/1.0.
	if header["Cache-Control"] == nil && slices.Equal(header["Pragma"], []string{"no-cache"}) {
		theirs.Header.Del("Cache-Control")
	}
	assert.Equal(t, theirs.Header, header, "header fields of %q", request)
}

// listenUnix returns a listener of its own, and a function that sends a request there and reads the status of the answer. With
// ends, no more comes: a server that waits for a body does not wait then.
func listenUnix(f *testing.F, ends bool) (ln net.Listener, exchange func(t *testing.T, request []byte) (status int, line string)) {
	dir, err := os.MkdirTemp("", "opening")
	require.NoError(f, err)
	f.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	ln, err = net.Listen("unix", path)
	require.NoError(f, err)
	return ln, func(t *testing.T, request []byte) (status int, line string) {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(deadline)))
		conn.Write(request) // may fail: an answer can come before the end
		if ends {
			conn.CloseWrite()
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoErrorf(t, err, "answer to %q", request)
		answer.Body.Close()
		return answer.StatusCode, answer.Status
	}
}

// serveOpenings runs our server. accepts returns what HandleAuth was given, nil if the handshake was refused.
func serveOpenings(f *testing.F) (accepts func(t *testing.T, request []byte) (status string, got *opening)) {
	ln, exchange := listenUnix(f, false)
	seen := make(chan *opening, 1)
	server := websocket.NewServer(&websocket.ServerOptions{
		Logger: slog.New(slog.DiscardHandler),
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			seen <- &opening{req.URL, string(req.Host), req.Header}
			return nil, nil
		},
	})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	f.Cleanup(func() {
		server.Stop()
		assert.NoError(f, <-ended)
	})
	return func(t *testing.T, request []byte) (string, *opening) {
		status, line := exchange(t, request)
		if status != http.StatusSwitchingProtocols {
			return line, nil
		}
		return line, <-seen
	}
}

// serveGorillaOpenings runs the other server, and returns a function that tells the status of its answer.
func serveGorillaOpenings(f *testing.F) (accepts func(t *testing.T, request []byte) (status int)) {
	ln, exchange := listenUnix(f, true)
	upgrader := gorillalib.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	server := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
				ws.Close()
			}
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	f.Cleanup(func() {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			f.Error(err)
		}
	})
	return func(t *testing.T, request []byte) int {
		status, _ := exchange(t, request)
		return status
	}
}

const seedKey = "dGhlIHNhbXBsZSBub25jZQ=="

// seed is a well-formed request with this target and these fields in addition.
func seed(target string, fields ...string) string {
	more := ""
	for _, field := range fields {
		more += field + "\r\n"
	}
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n", target, seedKey, more)
}

var seeds = []string{
	seed("/"),
	seed("/?a=b&c=%20"),
	seed("http://example.com/?q"),
	seed("ws://other.example:81"),
	seed("//example.com/"),
	seed("/a/.."),
	seed("/#fragment"),
	seed("/%2F"),
	seed("/other"),
	seed("/status"),
	seed("*"),
	"\r\n" + seed("/"),
	seed("/", "Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: c"),
	seed("/", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, other; a=\"b\""),
	seed("/", "Origin: http://example.com", "Cookie: a=b; c=d", "X-Empty:", "X-Tab:\ta\t"),
	seed("/", "Content-Length: 0"),
	seed("/", "Content-Length: 1"),
	seed("/", "Transfer-Encoding: chunked"),
	seed("/", "Pragma: no-cache"),
	seed("/", "Pragma: no-cache", "Cache-Control: no-store"),
	seed("/", "X-Odd: \x80\xff"),
	seed("/", "X Odd: name"),
	seed("/", "X-Odd : name"),
	seed("/", "X-Fold: a\r\n b"),
	seed("/", "Host: example.org"),
	seed("/", "Upgrade: h2c"),
	seed("/", "Connection: keep-alive"),
	seed("ws://user:password@example.com/"),
	seed("ws://[::1]:81/"),
	strings.Replace(seed("/"), "Connection: Upgrade", "Connection: keep-alive, UPGRADE", 1),
	strings.Replace(seed("/"), "Upgrade: websocket", "Upgrade: h2c, WebSocket", 1),
	strings.Replace(seed("/"), "Host: example.com", "Host: [::1]:80", 1),
	strings.Replace(seed("/"), "Host: example.com", "Host: exa mple", 1),
	strings.Replace(seed("/"), "Host: example.com", "Host:", 1),
	strings.Replace(seed("/"), "Host: example.com\r\n", "", 1),
	strings.Replace(seed("/"), "==", "", 1),
	strings.Replace(seed("/"), "ZQ==", "ZR==", 1),
	strings.Replace(seed("/"), ": 13", ": 8", 1),
	strings.Replace(seed("/"), "HTTP/1.1", "HTTP/1.0", 1),
	strings.Replace(seed("/"), "GET", "POST", 1),
	strings.ReplaceAll(seed("/"), "\r\n", "\n"),
}
