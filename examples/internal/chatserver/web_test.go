package chatserver

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket/examples/internal/chat"
	"github.com/wsloop/websocket/examples/server/web"
)

// fetch gets a page with a client that leaves no connection behind.
func fetch(t *testing.T, url string, headers http.Header) (res *http.Response, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	req.Header, req.Close = headers, true
	res, err = http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(b)
}

func TestPageIsServedWithItsFiles(t *testing.T) {
	addr := start(t)
	base := "http://" + addr + "/"
	res, page := fetch(t, base, http.Header{})
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Contains(t, res.Header.Get("Content-Type"), "text/html")
	csp := res.Header.Get("Content-Security-Policy")
	assert.Contains(t, csp, "default-src 'none'")
	assert.Contains(t, csp, "connect-src 'self' ws://"+addr+"/;")
	assert.NotContains(t, csp, "unsafe")
	assert.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"))
	assert.NotRegexp(t, `(?i)<script(?: [^>]*)?>[^<]|\son[a-z]+=|\sstyle=`, page, "the policy forbids inline code")

	types := map[string]string{".js": "javascript", ".css": "text/css", ".svg": "image/svg"}
	files := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, files)
	modules, err := fs.Glob(web.Files, "*.js")
	require.NoError(t, err)
	for _, name := range modules {
		assert.Contains(t, page, `"`+name+`"`, "all are fetched at once")
	}
	for _, file := range files {
		res, body := fetch(t, base+file[1], http.Header{})
		assert.Equal(t, http.StatusOK, res.StatusCode, file[1])
		assert.Contains(t, res.Header.Get("Content-Type"), types[path.Ext(file[1])])
		assert.NotEmpty(t, body)
	}
	res, _ = fetch(t, base+"nothing", http.Header{})
	assert.Equal(t, http.StatusNotFound, res.StatusCode)
}

func TestScriptsNeverSetHTML(t *testing.T) {
	scripts, err := fs.Glob(web.Files, "*.js")
	require.NoError(t, err)
	require.NotEmpty(t, scripts)
	for _, name := range scripts {
		script, err := fs.ReadFile(web.Files, name)
		require.NoError(t, err)
		assert.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(`, string(script), name)
		if name != "wsloop.js" { // which stays one file, to be taken along
			assert.LessOrEqual(t, strings.Count(string(script), "\n"), 400, name)
		}
	}
}

func TestConfigNamesTheWebSocketServer(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		demo []chat.Login
	}{
		"demo users": {nil, chat.DemoUsers()},
		"real users": {[]string{"-users", writeUsers(t, "erin:erin-has-a-key")}, []chat.Login{}},
	} {
		t.Run(name, func(t *testing.T) {
			addr := start(t, test.args...)
			res, body := fetch(t, "http://"+addr+"/config.json", http.Header{})
			assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
			var config pageConfig
			require.NoError(t, json.Unmarshal([]byte(body), &config))
			assert.Equal(t, pageConfig{URL: "ws://" + addr + "/", MaxText: chat.MaxText, DemoUsers: test.demo}, config)
		})
	}
}

func TestPageLearnsWhetherAKeyIsRight(t *testing.T) {
	addr := start(t)
	url := "http://" + addr + "/login"
	res, body := fetch(t, url, http.Header{"Authorization": {"Bearer " + keyOf(t, "alice")}})
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.JSONEq(t, `{"name": "alice"}`, body)
	assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	for _, headers := range []http.Header{{}, {"Authorization": {"Bearer wrong-key"}}} {
		res, body = fetch(t, url, headers)
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		assert.Contains(t, body, "unknown key")
	}
	for origin, code := range map[string]int{
		"http://" + addr:     http.StatusOK,
		"https://" + addr:    http.StatusForbidden,
		"http://example.com": http.StatusForbidden,
	} {
		res, _ = fetch(t, url+"?origin="+origin, http.Header{"Authorization": {"Bearer " + keyOf(t, "alice")}})
		assert.Equal(t, code, res.StatusCode, origin)
	}
}

func TestHostFieldCannotChangeThePolicy(t *testing.T) {
	handler := secured(http.NotFoundHandler(), new(server).pageConnectsTo)
	for host, code := range map[string]int{
		"chat.example.com:9002":      http.StatusNotFound,
		"[::1]:9002":                 http.StatusNotFound,
		"":                           http.StatusBadRequest,
		"a;script-src *":             http.StatusBadRequest,
		"a,b":                        http.StatusBadRequest,
		"chat.example.com:9002/path": http.StatusBadRequest,
	} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Host = host
		res := httptest.NewRecorder()
		handler.ServeHTTP(res, req)
		assert.Equal(t, code, res.Code, host)
		assert.NotContains(t, res.Header().Get("Content-Security-Policy"), "script-src *")
	}
}
