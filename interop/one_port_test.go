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
	"strings"
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
  const socket = new WebSocket("ws://" + location.host + "/chat" + location.search);
  const got = document.querySelector("#got");
  socket.onopen = () => socket.send("hello from " + location.origin);
  socket.onmessage = ({ data }) => { got.textContent += data; socket.send("close 4001 over"); };
  socket.onclose = ({ code, reason }) => { got.textContent += " " + code + " " + reason; };
</script>
`

// TestPageAndWebSocketOnOneAddress has a browser load a page, whose script connects to its own origin.
func TestPageAndWebSocketOnOneAddress(t *testing.T) {
	t.Parallel()
	allocator := startBrowser(t)
	address := strings.TrimSuffix(strings.TrimPrefix(ownListener(t, site(), plain), "ws://"), "/chat")
	url, left := departures.expect("http://" + address + "/")
	tab := &chatTab{ctx: openTab(t, allocator), name: "page"}
	t.Cleanup(func() { keepScreenshots(t, tab) })
	tab.run(t, chromedp.Navigate(url))
	tab.waitFor(t, "#got", "hello from http://"+address+" 4001 over")
	within(t, left)
	tab.run(t, chromedp.Navigate("http://"+address+"/chat/status"))
	tab.waitFor(t, "body", "OK")
}

// TestCurl has curl ask the port of a WebSocket server with a Handler for what is not WebSocket's.
func TestCurl(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		missing(t, "curl is not installed")
	}
	address := strings.TrimSuffix(strings.TrimPrefix(ownListener(t, site(), plain), "ws://"), "/chat")
	file := filepath.Join(t.TempDir(), "body")
	body := sized(binary, 1<<20)
	require.NoError(t, os.WriteFile(file, body, 0o644))
	sum := fmt.Sprintf("%d %x", len(body), sha256.Sum256(body))
	length := fmt.Sprint(len(sitePage))
	const counts = "\n%{response_code} %{num_connects}\n" // of what was answered, and of the connections made for it

	for _, tc := range []struct {
		name string
		args []string
		path []string
		want string
	}{
		{"HEAD", []string{"--head", "--output", os.DevNull, "--write-out", "%{response_code} %header{content-length} %{size_download}"},
			[]string{"/"}, "200 " + length + " 0"},
		{"GET", nil, []string{"/"}, sitePage},
		{"GET by HTTP/1.0", []string{"--http1.0"}, []string{"/"}, sitePage},
		{"GET that offers to go on with HTTP/2", []string{"--http2", "--write-out", "%{http_version}"}, []string{"/"}, sitePage + "1.1"},
		{"GET of 1 MiB, chunked", nil, []string{"/long"}, string(sized(text, limit))},
		{"GET of nothing that is there", []string{"--output", os.DevNull, "--write-out", "%{response_code}"}, []string{"/elsewhere"}, "404"},
		{"the status", nil, []string{"/chat/status"}, "OK"},
		{"POST of 1 MiB", []string{"--data-binary", "@" + file}, []string{"/sum"}, sum},
		{"POST of 1 MiB, chunked", []string{"--data-binary", "@" + file, "--header", "Transfer-Encoding: chunked"}, []string{"/sum"}, sum},
		{"POST of 1 MiB after 100 Continue", []string{"--data-binary", "@" + file, "--header", "Expect: 100-continue"}, []string{"/sum"}, sum},
		{"three GETs on one connection", []string{"--write-out", counts}, []string{"/", "/", "/"},
			sitePage + "\n200 1\n" + sitePage + "\n200 0\n" + sitePage + "\n200 0\n"},
		{"three POSTs on one connection", []string{"--data-binary", "@" + file, "--write-out", counts}, []string{"/sum", "/sum", "/sum"},
			sum + "\n200 1\n" + sum + "\n200 0\n" + sum + "\n200 0\n"},
		{"page, status and page on one connection", []string{"--write-out", counts}, []string{"/", "/chat/status", "/"},
			sitePage + "\n200 1\nOK\n200 0\n" + sitePage + "\n200 0\n"},
		{"status first, which closes, and page", []string{"--write-out", counts}, []string{"/chat/status", "/"}, "OK\n200 1\n" + sitePage + "\n200 1\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--silent", "--show-error", "--noproxy", "*"}, tc.args...)
			for _, path := range tc.path {
				args = append(args, "http://"+address+path)
			}
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			var out, said bytes.Buffer
			cmd := exec.CommandContext(ctx, "curl", args...)
			cmd.Stdout, cmd.Stderr = &out, &said
			require.NoError(t, cmd.Run(), "%s", &said)
			assert.True(t, tc.want == out.String(), "%.2000s", &out)
		})
	}
}
