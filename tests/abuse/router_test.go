//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// routes registers what a program of the suite has: an echo, a parameter, and a handler that panics.
func (a *abuse) routes(calls *atomic.Int64) {
	a.t.Helper()
	for method, target := range map[string]string{"POST": "/echo", "GET": "/users/:id/items/:item", "PUT": "/"} {
		require.NoError(a.t, a.RegisterTextHandler(method, target, func(_ context.Context, req *websocket.Request) websocket.Response {
			calls.Add(1)
			return websocket.Response{Code: http.StatusOK, Message: req.Target, Body: fmt.Sprint(req.Conn)}
		}))
	}
	require.NoError(a.t, a.RegisterTextHandler("DELETE", "/", func(context.Context, *websocket.Request) websocket.Response {
		panic("handler of the test")
	}))
}

// ask sends a request and reads its answer.
func ask(c *peer.Conn, request string) (res websocket.Response, size int) {
	c.T.Helper()
	c.Text(request)
	op, payload, err := c.Frame()
	require.NoError(c.T, err, "%.100q", request)
	require.Equal(c.T, websocket.OpcodeText, op, "%.100q", request)
	require.NoError(c.T, json.Unmarshal(payload, &res))
	return res, len(payload)
}

// startRouter runs a server with the JSON router. Its well-behaved client is at another server, since it sends no JSON.
func (a *abuse) startRouter(opts *websocket.ServerOptions) (calls *atomic.Int64) {
	a.t.Helper()
	a.startBeside()
	a.Server = a.newServer(opts)
	a.Launch(a.t)
	calls = new(atomic.Int64)
	a.routes(calls)
	return calls
}

func TestAbuseRouter(t *testing.T) {
	const huge = 1 << 20
	deep := func(open, inner, end string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	runRows(t, []attackRow{
		{name: "JSON that is none, too deep, too large or of the wrong types is answered with 400", attack: func(a *abuse) {
			calls := a.startRouter(&websocket.ServerOptions{})
			c := a.Connect(a.t)
			for _, request := range []string{
				"", " ", "{", "}", "nil", `"text"`, "7", "true", "[]", "[{}]", "{}{}", "\x00", "{\"id\":1,}", `{"id":1}x`, "\ufeff{}",
				deep("[", "", "]", 9_999), deep("[", "", "]", 10_001), deep("[", "", "", 200_000),
				`{"x":` + deep("[", "1", "]", 10_001) + `}`,
				deep(`{"body":`, "1", "}", 9_000), deep(`{"a":`, "1", "}", 100_000), deep(`{"a":`, "", "", 100_000),
				`{"id":` + strings.Repeat("9", huge) + `}`, `{"id":1.` + strings.Repeat("0", huge) + `}`, `{"id":1e` + strings.Repeat("9", huge) + `}`,
				`{"id":-1}`, `{"id":-0.5}`, `{"id":1.5}`, `{"id":1e400}`, `{"id":18446744073709551616}`, `{"id":"1"}`, `{"id":[1]}`, `{"id":true}`,
				`{"method":1}`, `{"method":["GET"]}`, `{"method":{}}`, `{"target":1}`, `{"target":null,"body":1}`, `{"body":{}}`, `{"body":[]}`,
				`{"Conn":"x"}`, `{"Conn":1e99}`,
				`{"method":"POST","target":"/echo?%zz"}`, `{"method":"POST","target":"/echo?a;b=1"}`,
				`{"id":1,"id":-1,"method":"POST","target":"/echo"}`, `{"id":1,"method":"POST","target":"/echo","target":{}}`,
			} {
				res, _ := ask(c, request)
				assert.EqualValues(a.t, http.StatusBadRequest, res.Code, "%.100q: %.100q", request, res.Message)
			}
			require.Zero(a.t, calls.Load())
		}},
		{name: "requests for what is not there are answered with 404 and their id", attack: func(a *abuse) {
			calls := a.startRouter(&websocket.ServerOptions{})
			c := a.Connect(a.t)
			for i, pair := range [][2]string{
				{"POST", ""}, {"POST", "echo"}, {"POST", "*"}, {"POST", "//echo"}, {"POST", "/echo//x"}, {"POST", "/ECHO"}, {"POST", "/echo\x00"},
				{"POST", "/echo/.."}, {"POST", "/x/../echo"}, {"POST", "/./echo"}, {"POST", "/%65cho"}, {"POST", "/echo%00"}, {"POST", " /echo"},
				{"POST", "http://host/echo"}, {"POST", "/echo#x"}, {"POST", "\\echo"}, {"POST", "?/echo"}, {"POST", "/:id"},
				{"GET", "/users//items/1"}, {"GET", "/users/:id"}, {"GET", "/users/1/items"}, {"GET", "/users/1/items/2/3"}, {"GET", "/"},
				{"GET", strings.Repeat("/users", 100_000)}, {"GET", strings.Repeat("/", 100_000)}, {"POST", "/" + strings.Repeat("x", huge)},
				{"", "/echo"}, {"HEAD", "/echo"}, {"CONNECT", "/echo"}, {"GET\x00", "/echo"}, {"POST ", "/echo"}, {"P\u017fT", "/echo"},
				{strings.Repeat("POST", huge/4), "/echo"},
			} {
				id := uint64(1)<<63 + uint64(i)
				b, err := json.Marshal(map[string]any{"id": id, "method": pair[0], "target": pair[1]})
				require.NoError(a.t, err)
				res, _ := ask(c, string(b))
				assert.EqualValues(a.t, http.StatusNotFound, res.Code, "%.100q", b)
				assert.Equal(a.t, id, res.ID, "%.100q", b)
			}
			for _, request := range []string{
				"{}", "null", `{"id":18446744073709551615}`, `{"ID":7,"Target":"/echo"}`, `{"x":` + deep("[", "1", "]", 5_000) + `}`,
				`{"method":"POST","method":null,"target":"/none"}`,
			} {
				res, _ := ask(c, request)
				assert.EqualValues(a.t, http.StatusNotFound, res.Code, "%.100q", request)
			}
			require.Zero(a.t, calls.Load())
		}},
		{name: "requests with a member twice are answered with 400 and their id, whichever another parser would take", attack: func(a *abuse) {
			calls := a.startRouter(&websocket.ServerOptions{})
			c := a.Connect(a.t)
			for _, request := range []string{
				`{"id":5,"id":5,"method":"POST","target":"/echo"}`, `{"id":5,"ID":6,"method":"POST","target":"/echo"}`,
				`{"id":5,"method":"POST","target":"/echo","target":"/none"}`, `{"id":5,"method":"POST","target":"/none","target":"/echo"}`,
				`{"id":5,"method":"POST","method":"DELETE","target":"/"}`, `{"method":"DELETE","Method":"POST","target":"/echo","id":5}`,
				`{"id":5,"method":"POST","target":"/echo","body":"a","b\u006fdy":"a"}`, `{"method":"POST","target":"/echo","\u0054ARGET":"/","id":5}`,
				`{"id":5,"method":"POST","target":"/echo"` + strings.Repeat(`,"body":"x"`, 100_000) + `}`,
			} {
				res, _ := ask(c, request)
				assert.EqualValues(a.t, http.StatusBadRequest, res.Code, "%.100q", request)
				assert.EqualValues(a.t, 5, res.ID, "%.100q", request)
			}
			require.Zero(a.t, calls.Load())
		}},
		{name: "a request that names another's connection has its own", attack: func(a *abuse) {
			opts := new(websocket.ServerOptions)
			added := peer.Added(opts)
			a.startRouter(opts)
			victim := a.Connect(a.t)
			other := peer.Get(a.t, added)
			c := a.Connect(a.t)
			own := peer.Get(a.t, added)
			for _, name := range []string{"Conn", "conn", "CONN"} {
				res, _ := ask(c, fmt.Sprintf(`{%q:%d,"method":"POST","target":"/echo","Path":"/","Params":{"id":"x"},"Query":{"a":["b"]}}`, name, other))
				assert.EqualValues(a.t, http.StatusOK, res.Code)
				assert.Equal(a.t, fmt.Sprint(own), res.Body)
			}
			victim.Text(`{}`)
			op, payload, err := victim.Frame()
			require.NoError(a.t, err)
			require.Equal(a.t, websocket.OpcodeText, op)
			require.Contains(a.t, string(payload), "404", "the first thing that it gets is the answer to its own")
		}},
		{name: "an error's answer is not larger than its request", attack: func(a *abuse) {
			const huge = 64 << 10
			a.startRouter(&websocket.ServerOptions{})
			c := a.Connect(a.t)
			for _, fill := range []string{"x", "<", "&", "\u2028", "\\u0000", "\x7f", "\\\""} {
				for _, request := range []string{
					`{"method":"GET","target":"/` + strings.Repeat(fill, huge/len(fill)) + `"}`,
					`{"method":"` + strings.Repeat(fill, huge/len(fill)) + `"}`,
					`{"target":"?%zz` + strings.Repeat(fill, huge/len(fill)) + `"}`,
				} {
					res, size := ask(c, request)
					assert.NotEqualValues(a.t, http.StatusOK, res.Code)
					assert.LessOrEqual(a.t, size, len(request)+256, "%.60q", request)
				}
			}
		}},
		{name: "handlers of requests that panic end their connection with 1011", logs: []string{"websocket: handler panicked"}, attack: func(a *abuse) {
			a.startRouter(&websocket.ServerOptions{})
			for range 20 {
				c := a.Connect(a.t)
				c.Text(`{"method":"DELETE","target":"/"}`)
				c.ExpectClose(websocket.StatusInternalError)
			}
			require.Equal(a.t, 20, a.log.count("websocket: handler panicked"))
		}},
	})
}
