package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// site is a page that connects to where it came from, and what curl asks for.
func site() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, sitePage)
	})
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%d %x", len(body), sha256.Sum256(body))
	})
	mux.HandleFunc("GET /long", func(w http.ResponseWriter, r *http.Request) { w.Write(sized(text, limit)) })
	return mux
}

const sitePage = `<!DOCTYPE html>
<title>One port</title>
<p id="got"></p>
<script>
  const socket = new WebSocket(location.protocol.replace("http", "ws") + "//" + location.host + "/chat" + location.search);
  const got = document.querySelector("#got");
  socket.onopen = () => socket.send("hello from " + location.origin);
  socket.onmessage = ({ data }) => { got.textContent += data; socket.send("close 4001 over"); };
  socket.onclose = ({ code, reason }) => { got.textContent += " " + code + " " + reason; };
</script>
`

// TestPageAndWebSocketOnOneAddress has a browser load a page, whose script connects to its own origin.
func TestPageAndWebSocketOnOneAddress(t *testing.T) {
	t.Parallel()
	browser := openTab(t, startBrowser(t))
	for _, way := range []struct {
		scheme, protocol string // of the page
		security
	}{{"http", "http/1.1", plain}, {"https", "h2", tls13AES}, {"https", "h2", tls12AESRSA}} {
		t.Run(way.String(), func(t *testing.T) {
			origin := way.scheme + "://" + host(ownListener(t, site(), way.security))
			url, left := departures.expect(origin + "/")
			tab := &chatTab{ctx: openTab(t, browser), name: "page"}
			t.Cleanup(func() { keepScreenshots(t, tab) })
			tab.run(t, chromedp.Navigate(url))
			tab.waitFor(t, "#got", "hello from "+origin+" 4001 over")
			within(t, left)
			tab.expect(t, `() => performance.getEntriesByType("navigation")[0].nextHopProtocol === "`+way.protocol+`"`, true)
			tab.run(t, chromedp.Navigate(origin+"/chat/status"))
			tab.waitFor(t, "body", "OK")
		})
	}
}

// curlWay is how curl asks.
type curlWay struct {
	name, scheme, version string
	security
	args []string
}

var curlWays = []curlWay{
	{"HTTP/1.1", "http", "1.1", plain, nil},
	{"HTTP/1.1 over TLS", "https", "1.1", tls13AES, []string{"--http1.1"}},
	{"HTTP/2 over TLS", "https", "2", tls12AESRSA, []string{"--http2"}},
}

// curlCase is what curl asks for. only is the scheme or version of the ways in which that makes sense, or "".
type curlCase struct {
	name string
	args []string
	path []string
	want string
	only string
}

// TestCurl has curl ask the port of a WebSocket server with a Handler for what is not WebSocket's.
func TestCurl(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "body")
	body := sized(binary, 1<<20)
	require.NoError(t, os.WriteFile(file, body, 0o644))
	sum := fmt.Sprintf("%d %x", len(body), sha256.Sum256(body))
	t.Run("every way", func(t *testing.T) { // which keeps the file until they have ended
		for _, way := range curlWays {
			address := host(ownListener(t, site(), way.security))
			for _, tc := range curlCases(file, sum, way.version) {
				if tc.only != "" && tc.only != way.scheme && tc.only != way.version {
					continue
				}
				t.Run(tc.name+" by "+way.name, func(t *testing.T) {
					t.Parallel()
					args := slices.Concat(way.args, tc.args)
					for _, path := range tc.path {
						args = append(args, way.scheme+"://"+address+path)
					}
					out := runCurl(t, args...)
					assert.True(t, tc.want == out, "%.2000s", out)
				})
			}
		}
	})
}

// runCurl returns what curl writes.
func runCurl(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		missing(t, "curl is not installed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "curl", append([]string{"--silent", "--show-error", "--noproxy", "*", "--cacert", os.Getenv(goRoots)}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &said
	require.NoError(t, cmd.Run(), "%s", &said)
	return out.String()
}

// curlCases returns what to ask for. The file has the sum, and the version is that of the answers.
func curlCases(file, sum, version string) []curlCase {
	length := fmt.Sprint(len(sitePage))
	const counts = "\n%{response_code} %{num_connects}\n" // of what was answered, and of the connections made for it
	return []curlCase{
		{"the version", []string{"--output", os.DevNull, "--write-out", "%{http_version}"}, []string{"/"}, version, ""},
		{"HEAD", []string{"--head", "--output", os.DevNull, "--write-out", "%{response_code} %header{content-length} %{size_download}"},
			[]string{"/"}, "200 " + length + " 0", ""},
		{"GET", nil, []string{"/"}, sitePage, ""},
		{name: "GET by HTTP/1.0", args: []string{"--http1.0"}, path: []string{"/"}, want: sitePage, only: "http"},
		{name: "GET that offers to go on with HTTP/2", args: []string{"--http2", "--write-out", "%{http_version}"}, path: []string{"/"},
			want: sitePage + "1.1", only: "http"},
		{"GET of 1 MiB, chunked", nil, []string{"/long"}, string(sized(text, limit)), ""},
		{"GET of nothing that is there", []string{"--output", os.DevNull, "--write-out", "%{response_code}"}, []string{"/elsewhere"}, "404", ""},
		{"the status", nil, []string{"/chat/status"}, "OK", ""},
		{"POST of 1 MiB", []string{"--data-binary", "@" + file}, []string{"/sum"}, sum, ""},
		{"POST of 1 MiB, chunked", []string{"--data-binary", "@" + file, "--header", "Transfer-Encoding: chunked"}, []string{"/sum"}, sum, ""},
		{"POST of 1 MiB after 100 Continue", []string{"--data-binary", "@" + file, "--header", "Expect: 100-continue"}, []string{"/sum"}, sum, ""},
		{"three GETs on one connection", []string{"--write-out", counts}, []string{"/", "/", "/"},
			sitePage + "\n200 1\n" + sitePage + "\n200 0\n" + sitePage + "\n200 0\n", ""},
		{"three POSTs on one connection", []string{"--data-binary", "@" + file, "--write-out", counts}, []string{"/sum", "/sum", "/sum"},
			sum + "\n200 1\n" + sum + "\n200 0\n" + sum + "\n200 0\n", ""},
		{"page, status and page on one connection", []string{"--write-out", counts}, []string{"/", "/chat/status", "/"},
			sitePage + "\n200 1\nOK\n200 0\n" + sitePage + "\n200 0\n", ""},
		{name: "status first, which closes, and page", args: []string{"--write-out", counts}, path: []string{"/chat/status", "/"},
			want: "OK\n200 1\n" + sitePage + "\n200 1\n", only: "1.1"},
	}
}
