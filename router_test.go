package websocket

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// routesNamed answers with its name, so that a test can tell handlers from each other.
func routesNamed(name string) RouteHandler {
	return func(context.Context, *Request) Response { return Response{Message: name} }
}

// routesFound is the name of the handler for a request, "" if there is none, and its parameters.
func routesFound(r *routes, method, path string) (name string, params targetParam) {
	handler, params := r.find(method, path)
	if handler == nil {
		return "", nil
	}
	return handler(context.Background(), nil).Message, params
}

func TestRoutesAdd(t *testing.T) {
	handler := routesNamed("x")
	for _, c := range []struct {
		name    string
		method  string
		target  string
		handler RouteHandler
		is      error // nil: any
	}{
		{name: "an empty method", target: "/", handler: handler},
		{name: "an empty target", method: "GET", handler: handler},
		{name: "no handler", method: "GET", target: "/"},
		{"a method that is none of the five", "HEAD", "/", handler, ErrRouteInvMethod},
		{"a method with a blank", "GET ", "/", handler, ErrRouteInvMethod},
		{"a target without a leading slash", "GET", "users", handler, ErrRouteInvTarget},
		{"a parameter without a leading slash", "GET", ":id", handler, ErrRouteInvTarget},
		{"two parameter names at one place", "GET", "/users/:name", handler, ErrRouteDupParam},
		{"two parameter names at one place in the middle", "GET", "/users/:name/more", handler, ErrRouteDupParam},
		{"two parameter names at one place, empty segments apart", "GET", "//users//:name", handler, ErrRouteDupParam},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			var r routes
			require.NoError(t, r.add("GET", "/users/:id", routesNamed("kept")))
			err := r.add(c.method, c.target, c.handler)
			require.Error(t, err)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			name, params := routesFound(&r, "GET", "/users/7")
			assert.Equal(t, "kept", name)
			assert.Equal(t, targetParam{"id": "7"}, params)
		})
	}

	t.Run("the five methods are taken in any case", func(t *testing.T) {
		var r routes
		for _, method := range []string{"DELETE", "GET", "PATCH", "POST", "PUT"} {
			for _, spelled := range []string{method, strings.ToLower(method), method[:1] + strings.ToLower(method[1:])} {
				require.NoError(t, r.add(spelled, "/a", routesNamed(method)))
				name, _ := routesFound(&r, spelled, "/a")
				assert.Equal(t, method, name)
			}
		}
	})
	t.Run("each method has targets of its own", func(t *testing.T) {
		var r routes
		require.NoError(t, r.add("GET", "/a/:x", routesNamed("get")))
		require.NoError(t, r.add("PUT", "/a/:y", routesNamed("put"))) // another parameter name is fine
		name, params := routesFound(&r, "PUT", "/a/1")
		assert.Equal(t, "put", name)
		assert.Equal(t, targetParam{"y": "1"}, params)
		name, _ = routesFound(&r, "POST", "/a/1")
		assert.Empty(t, name)
	})
	t.Run("a later registration takes the place of an earlier one", func(t *testing.T) {
		var r routes
		require.NoError(t, r.add("GET", "/a/:x", routesNamed("one")))
		require.NoError(t, r.add("GET", "//a//:x/", routesNamed("two")))
		name, _ := routesFound(&r, "GET", "/a/1")
		assert.Equal(t, "two", name)
	})
}

func TestRoutesFind(t *testing.T) {
	var r routes
	for _, target := range []string{
		"/", "/users", "/users/:id", "/users/me", "/users/:id/posts/:post", "/users/me/settings",
		"//double//slash/", "/:any/fixed", "/deep/:a/:b/:c", "/no/handler/above", "/Case",
	} {
		require.NoError(t, r.add("GET", target, routesNamed(target)))
	}
	for _, c := range []struct {
		name   string
		path   string
		want   string // "": nothing is found
		params targetParam
	}{
		{"the root", "/", "/", targetParam{}},
		{"two slashes are the root", "//", "/", targetParam{}},
		{"a literal", "/users", "/users", targetParam{}},
		{"a trailing slash", "/users/", "/users", targetParam{}},
		{"a parameter", "/users/7", "/users/:id", targetParam{"id": "7"}},
		{"a parameter with a trailing slash", "/users/7/", "/users/:id", targetParam{"id": "7"}},
		{"a literal wins over a parameter", "/users/me", "/users/me", targetParam{}},
		{"a literal wins without going back", "/users/me/posts/1", "", nil},
		{"a literal's own child", "/users/me/settings", "/users/me/settings", targetParam{}},
		{"two parameters", "/users/7/posts/x", "/users/:id/posts/:post", targetParam{"id": "7", "post": "x"}},
		{"three parameters in a row", "/deep/1/2/3", "/deep/:a/:b/:c", targetParam{"a": "1", "b": "2", "c": "3"}},
		{"a first segment that is a parameter", "/what/fixed", "/:any/fixed", targetParam{"any": "what"}},
		{"a literal first segment hides the parameter", "/users/fixed", "/users/:id", targetParam{"id": "fixed"}},
		{"empty segments are ignored when registering", "/double/slash", "//double//slash/", targetParam{}},
		{"a value that looks like a parameter", "/users/:id", "/users/:id", targetParam{"id": ":id"}},
		{"a value stays percent-encoded", "/users/%2F", "/users/:id", targetParam{"id": "%2F"}},
		{"a value that is not ASCII", "/users/é\x00", "/users/:id", targetParam{"id": "é\x00"}},
		{"an empty value is none", "/users//posts/x", "", nil},
		{"a node without a handler", "/no/handler", "", nil},
		{"a target that stops at a parameter without handler", "/deep/1/2", "", nil},
		{"a target that goes on behind its route", "/users/7/posts/x/y", "", nil},
		{"a path in another case", "/case", "", nil},
		{"an unknown path", "/nowhere", "", nil},
		{"no leading slash", "users", "", nil},
		{"an empty path", "", "", nil},
		{"a star", "*", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, params := routesFound(&r, "GET", c.path)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.params, params)
		})
	}

	t.Run("the zero value finds nothing", func(t *testing.T) {
		var r routes
		name, _ := routesFound(&r, "GET", "/")
		assert.Empty(t, name)
	})
	t.Run("an unknown or empty method finds nothing", func(t *testing.T) {
		for _, method := range []string{"", "HEAD", "GET "} {
			name, _ := routesFound(&r, method, "/")
			assert.Empty(t, name)
		}
	})
	t.Run("a path of 100,000 segments finds nothing", func(t *testing.T) {
		name, _ := routesFound(&r, "GET", strings.Repeat("/deep", 100_000))
		assert.Empty(t, name)
	})
	t.Run("parameters belong to who asked", func(t *testing.T) {
		_, one := routesFound(&r, "GET", "/users/1")
		_, two := routesFound(&r, "GET", "/users/2")
		one["id"] = "changed"
		assert.Equal(t, targetParam{"id": "2"}, two)
	})
}

func TestRoutesClone(t *testing.T) {
	var r routes
	require.NoError(t, r.add("GET", "/a/:x/b", routesNamed("old")))
	c := r.clone()
	for _, target := range []string{"/a/:x/b", "/a/:x/c", "/a/:x", "/a/literal", "/new", "/a/:x/b/:y"} {
		require.NoError(t, c.add("GET", target, routesNamed("new")))
	}
	require.NoError(t, c.add("PUT", "/a", routesNamed("new")))

	t.Run("what is registered in a clone is not in the original", func(t *testing.T) {
		name, _ := routesFound(&r, "GET", "/a/1/b")
		assert.Equal(t, "old", name)
		name, _ = routesFound(&r, "GET", "/a/literal/b")
		assert.Equal(t, "old", name)
		for _, path := range []string{"/a/1/c", "/a/1", "/a/literal", "/new", "/a/1/b/2"} {
			name, _ = routesFound(&r, "GET", path)
			assert.Empty(t, name, path)
		}
		name, _ = routesFound(&r, "PUT", "/a")
		assert.Empty(t, name)
	})
	t.Run("a clone has what the original had, and what is new", func(t *testing.T) {
		for _, path := range []string{"/a/1/b", "/a/1/c", "/a/1", "/a/literal", "/new", "/a/1/b/2"} {
			name, _ := routesFound(c, "GET", path)
			assert.Equal(t, "new", name, path)
		}
	})
	t.Run("what is registered in the original is not in a clone", func(t *testing.T) {
		require.NoError(t, r.add("GET", "/late", routesNamed("late")))
		name, _ := routesFound(c, "GET", "/late")
		assert.Empty(t, name)
	})
	t.Run("a clone of nothing can be used", func(t *testing.T) {
		c := new(routes).clone()
		require.NoError(t, c.add("GET", "/", routesNamed("x")))
		name, _ := routesFound(c, "GET", "/")
		assert.Equal(t, "x", name)
	})
	t.Run("many clones in a row keep all that was registered", func(t *testing.T) {
		c := new(routes)
		for i := range 50 {
			c = c.clone()
			require.NoError(t, c.add("GET", fmt.Sprintf("/%d/:x", i), routesNamed(fmt.Sprint(i))))
		}
		for i := range 50 {
			name, _ := routesFound(c, "GET", fmt.Sprintf("/%d/x", i))
			assert.Equal(t, fmt.Sprint(i), name)
		}
	})
}

func TestAnswer(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(context.Background(), key{}, "context of the connection")
	var got *Request
	var gotCtx context.Context
	var r routes
	for _, target := range []string{"/", "/echo/:name"} {
		require.NoError(t, r.add("POST", target, func(ctx context.Context, req *Request) Response {
			got, gotCtx = req, ctx
			return Response{Code: 200, Message: "fine", Body: req.Body, ID: 999}
		}))
	}

	t.Run("a request is served with all that it says", func(t *testing.T) {
		res := r.answer(ctx, 42, []byte(`{"id":7,"method":"post","target":"/echo/a%20b?x=1&y=%20&x=2","body":"hello","Conn":13,"more":[]}`))
		assert.Equal(t, Response{Code: 200, Message: "fine", Body: "hello", ID: 7}, res)
		assert.Equal(t, &Request{
			Query:  url.Values{"x": {"1", "2"}, "y": {" "}},
			Params: targetParam{"name": "a%20b"},
			Method: "post",
			Target: "/echo/a%20b?x=1&y=%20&x=2",
			Body:   "hello",
			Path:   "/echo/a%20b",
			ID:     7,
			Conn:   42,
		}, got)
		assert.Equal(t, ctx, gotCtx)
	})
	t.Run("a query without parameters is an empty one", func(t *testing.T) {
		r.answer(ctx, 1, []byte(`{"method":"POST","target":"/?"}`))
		assert.Equal(t, "/", got.Path)
		assert.Empty(t, got.Query)
		assert.NotNil(t, got.Query)
	})
	t.Run("everything behind the first question mark is the query", func(t *testing.T) {
		r.answer(ctx, 1, []byte(`{"method":"POST","target":"/?a=b?c"}`))
		assert.Equal(t, url.Values{"a": {"b?c"}}, got.Query)
	})

	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	for _, c := range []struct {
		name    string
		payload string
		code    int32
		id      uint64
		message string // a part of it
	}{
		{"nothing", "", 400, 0, "unexpected end of JSON input"},
		{"no JSON", "hello", 400, 0, "invalid character"},
		{"JSON that is cut off", `{"id":1,"method":"POST"`, 400, 0, "unexpected end"},
		{"two JSON values", `{"id":1}{"id":2}`, 400, 0, "after top-level value"},
		{"null is a request without a method", "null", 404, 0, " "},
		{"an empty object is one too", "{}", 404, 0, " "},
		{"an array", `[]`, 400, 0, "array"},
		{"a string", `"GET /"`, 400, 0, "string"},
		{"a number", `1`, 400, 0, "number"},
		{"a deep array", deep, 400, 0, "array"},
		{"an array deeper than JSON may be", "[" + deep + "]", 400, 0, "depth"},
		{"a deep value of an unknown field", `{"x":` + deep[1:len(deep)-1] + `,"id":3,"method":"POST","target":"/"}`, 200, 3, "fine"},
		{"a value deeper than JSON may be", `{"x":` + deep + `}`, 400, 0, "depth"},
		{"100,000 open brackets", strings.Repeat("[", 100_000), 400, 0, "depth"},
		{"100,000 open objects", strings.Repeat(`{"a":`, 100_000), 400, 0, "depth"},
		{"a method of another type", `{"id":5,"method":1,"target":"/"}`, 400, 5, "method"},
		{"a target of another type", `{"target":{},"id":5}`, 400, 5, "target"},
		{"a body of another type", `{"id":5,"method":"POST","target":"/","body":{"a":1}}`, 400, 5, "body"},
		{"an id of another type", `{"id":"5","method":"POST","target":"/"}`, 400, 0, "id"},
		{"a negative id", `{"id":-1,"method":"POST","target":"/"}`, 400, 0, "id"},
		{"a fraction as id", `{"id":1.5,"method":"POST","target":"/"}`, 400, 0, "id"},
		{"an exponent as id", `{"id":1e3,"method":"POST","target":"/"}`, 400, 0, "id"},
		{"an id one too large", `{"id":18446744073709551616,"method":"POST","target":"/"}`, 400, 0, "id"},
		{"an id of 100 digits", `{"id":` + strings.Repeat("9", 100) + `,"method":"POST","target":"/"}`, 400, 0, "id"},
		{"the largest id", `{"id":18446744073709551615,"method":"POST","target":"/"}`, 200, math.MaxUint64, "fine"},
		{"null as id", `{"id":null,"method":"POST","target":"/"}`, 200, 0, "fine"},
		{"a connection of another type", `{"id":5,"Conn":"x","method":"POST","target":"/"}`, 400, 5, "Conn"},
		{"an id that is there twice", `{"id":1,"id":2,"method":"POST","target":"/"}`, 400, 1, `"id" is there twice`},
		{"an id that is there twice, the second no number", `{"id":1,"id":"x","method":"POST","target":"/"}`, 400, 1, `"id" is there twice`},
		{"an id that is there twice, the first no number", `{"id":"x","id":1,"method":"POST","target":"/"}`, 400, 0, "id"},
		{"an id that is there twice, the same", `{"id":1,"id":1,"method":"POST","target":"/"}`, 400, 1, `"id" is there twice`},
		{"a method that is there twice", `{"method":"GET","method":"POST","id":2,"target":"/"}`, 400, 2, `"method" is there twice`},
		{"a method that is there three times", `{"method":"POST","method":"POST","method":"POST","id":2,"target":"/"}`, 400, 2, `"method" is there twice`},
		{"a target that is there twice, the first empty", `{"target":"","target":"/","method":"POST","id":2}`, 400, 2, `"target" is there twice`},
		{"a body that is there twice", `{"body":"","method":"POST","target":"/","body":"x","id":2}`, 400, 2, `"body" is there twice`},
		{"a body that is there twice, the second no string", `{"body":"","method":"POST","target":"/","body":1,"id":2}`, 400, 2, "body"},
		{"names that differ in their case", `{"id":2,"method":"POST","Target":"/","TARGET":"/"}`, 400, 2, `"target" is there twice`},
		{"names that differ in their escapes", `{"id":2,"method":"POST","target":"/","t\u0061rget":"/"}`, 400, 2, `"target" is there twice`},
		{"null beside a value is as good as nothing", `{"id":null,"id":2,"method":null,"method":"POST","target":"/","target":null}`, 200, 2, "fine"},
		{"unknown members may be there twice", `{"id":2,"x":1,"x":2,"method":"POST","target":"/","Conn":1,"Conn":2}`, 200, 2, "fine"},
		{"names inside a value of an unknown member do not count", `{"id":2,"x":{"id":1,"id":2},"method":"POST","target":"/"}`, 200, 2, "fine"},
		{"keys in another case", `{"ID":4,"Method":"POST","TARGET":"/"}`, 200, 4, "fine"},
		{"a method that is not registered", `{"id":6,"method":"GET","target":"/"}`, 404, 6, "GET /"},
		{"a method that is none", `{"id":6,"method":"BREW","target":"/"}`, 404, 6, "BREW /"},
		{"a target that is not registered", `{"id":6,"method":"POST","target":"/nowhere?a=1"}`, 404, 6, "POST /nowhere?a=1"},
		{"a target without slash", `{"id":6,"method":"POST","target":"echo/x"}`, 404, 6, "POST echo/x"},
		{"a target that is only a query", `{"id":6,"method":"POST","target":"?a=1"}`, 404, 6, "POST ?a=1"},
		{"a whole URL as target", `{"id":6,"method":"POST","target":"http://a/"}`, 404, 6, "POST http://a/"},
		{"a target with control characters", `{"id":6,"method":"POST","target":"/\u0000\r\n"}`, 404, 6, "POST /\x00\r\n"},
		{"a target with half a surrogate pair", `{"id":6,"method":"POST","target":"/\ud800"}`, 404, 6, "POST /\uFFFD"},
		{"a query with a broken percent-encoding", `{"id":6,"method":"POST","target":"/?a=%zz"}`, 400, 6, "/?a=%zz"},
		{"a query with a semicolon", `{"id":6,"method":"POST","target":"/?a=1;b=2"}`, 400, 6, "/?a=1;b=2"},
		{"a bad query is told before an unknown target", `{"id":6,"method":"POST","target":"/nowhere?%"}`, 400, 6, "/nowhere?%"},
		{"a path with a broken percent-encoding is not decoded", `{"id":6,"method":"POST","target":"/echo/%zz"}`, 200, 6, "fine"},
		{"a target of 100,000 slashes", `{"id":6,"method":"POST","target":"` + strings.Repeat("/", 100_000) + `"}`, 404, 6, "POST //"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := r.answer(ctx, 3, []byte(c.payload))
			assert.Equal(t, c.code, res.Code)
			assert.Equal(t, c.id, res.ID)
			assert.Contains(t, res.Message, c.message)
			payload := res.appendJSON(nil)
			var back Response
			require.NoError(t, json.Unmarshal(payload, &back))
			assert.Equal(t, c.code, back.Code)
			assert.Equal(t, c.id, back.ID)
		})
	}

	t.Run("what is of the wrong type is named as the client knows it", func(t *testing.T) {
		assert.Contains(t, r.answer(ctx, 1, []byte(`{"method":1}`)).Message, "Request.method of type string")
		assert.Contains(t, r.answer(ctx, 1, []byte(`{"id":"1"}`)).Message, "of type uint64")
		assert.NotContains(t, r.answer(ctx, 1, []byte(`{"id":"1"}`)).Message, "websocket")
	})
	t.Run("white space around a request does not matter", func(t *testing.T) {
		for _, request := range []string{`{"id":7,"method":"x"}` + "\n", "\t" + `{"id":7,"method":"x"}` + " \r\n"} {
			res := r.answer(ctx, 1, []byte(request))
			assert.EqualValues(t, 404, res.Code)
			assert.EqualValues(t, 7, res.ID)
		}
		assert.Contains(t, r.answer(ctx, 1, []byte(" \n")).Message, "unexpected end of JSON input")
	})
	t.Run("a program may call the default HandleText and go on using its payload", func(t *testing.T) {
		serv := NewServer(&ServerOptions{Logger: slog.New(slog.DiscardHandler)})
		payload := bytes.Repeat([]byte("x"), 3333)
		serv.Options.HandleText(-1, payload)
		for range 3 {
			if b := spareBuffer(len(payload)); b != nil {
				assert.NotSame(t, &payload[0], &b[:1][0])
			}
		}
	})

	t.Run("the message of a 404 is method and target, of a bad query the target, and nothing else", func(t *testing.T) {
		assert.Equal(t, "get /x?y", r.answer(ctx, 1, []byte(`{"method":"get","target":"/x?y"}`)).Message)
		assert.Equal(t, "/x?%", r.answer(ctx, 1, []byte(`{"method":"get","target":"/x?%"}`)).Message)
	})
	t.Run("a connection without a context is a 500, and nothing is called", func(t *testing.T) {
		got = nil
		var none context.Context
		res := r.answer(none, 3, []byte(`{"id":8,"method":"POST","target":"/"}`))
		assert.EqualValues(t, 500, res.Code)
		assert.EqualValues(t, 8, res.ID)
		assert.Nil(t, got)
	})
	t.Run("the connection is the real one, whatever the JSON says", func(t *testing.T) {
		for _, name := range []string{"Conn", "conn", "CONN"} {
			r.answer(ctx, 42, []byte(`{"`+name+`":13,"method":"POST","target":"/"}`))
			assert.Equal(t, 42, got.Conn)
		}
	})
	t.Run("Path, Query and Params cannot be set by the JSON", func(t *testing.T) {
		r.answer(ctx, 1, []byte(`{"Path":"/x","Query":{"a":["b"]},"Params":{"name":"x"},"method":"POST","target":"/echo/y"}`))
		assert.Equal(t, "/echo/y", got.Path)
		assert.Empty(t, got.Query)
		assert.Equal(t, targetParam{"name": "y"}, got.Params)
	})
	t.Run("a handler keeps a request of its own", func(t *testing.T) {
		payload := []byte(`{"id":1,"method":"POST","target":"/echo/a","body":"one"}`)
		r.answer(ctx, 1, payload)
		one := got
		clear(payload)
		r.answer(ctx, 2, []byte(`{"id":2,"method":"POST","target":"/echo/b","body":"two"}`))
		assert.Equal(t, []any{"one", uint64(1), 1, "a"}, []any{one.Body, one.ID, one.Conn, one.Params["name"]})
	})
}

func TestAnswerID(t *testing.T) {
	t.Run("a handler that changes its request changes no id", func(t *testing.T) {
		var kept *Request
		var r routes
		require.NoError(t, r.add("GET", "/", func(_ context.Context, req *Request) Response {
			req.ID, req.Conn, kept = 77, 78, req
			return Response{Code: 200, ID: 79}
		}))
		res := r.answer(context.Background(), 1, []byte(`{"id":5,"method":"GET","target":"/"}`))
		assert.Equal(t, Response{Code: 200, ID: 5}, res)
		assert.EqualValues(t, 77, kept.ID, "a request that a handler keeps is not written to")
	})
	t.Run("a handler's goroutine may use the request while the answer is made", func(t *testing.T) {
		done := make(chan uint64, 1)
		var r routes
		require.NoError(t, r.add("GET", "/", func(_ context.Context, req *Request) Response {
			go func() {
				req.ID++ // the race detector sees whoever else touches it
				done <- req.ID
			}()
			return Response{Code: 200}
		}))
		res := r.answer(context.Background(), 1, []byte(`{"id":5,"method":"GET","target":"/"}`))
		assert.EqualValues(t, 5, res.ID)
		assert.EqualValues(t, 6, <-done)
	})
	t.Run("ids of all sizes come back", func(t *testing.T) {
		var r routes
		for shift := range 64 {
			id := uint64(1)<<shift | 1
			res := r.answer(context.Background(), 1, []byte(`{"id":`+strconv.FormatUint(id, 10)+`}`))
			assert.Equal(t, id, res.ID)
		}
	})
}

// requestPlain reports whether a payload is read without reflection, and requires that it is then read alike.
func requestPlain(t *testing.T, payload []byte) (ok bool) {
	t.Helper()
	var in, want request
	if ok = in.readPlain(payload); ok {
		require.NoError(t, json.Unmarshal(payload, &want), "%q", payload)
		require.Equal(t, want, in, "%q", payload)
	}
	return ok
}

func TestRequestPlain(t *testing.T) {
	for _, row := range []struct {
		name    string
		plain   bool
		payload string
	}{
		{"all members", true, `{"id":7,"method":"GET","target":"/","body":"b"}`},
		{"one member", true, `{"body":""}`},
		{"in another order", true, `{"body":"b","target":"/","id":7,"method":"GET"}`},
		{"white space everywhere", true, " \t\r\n{ \"id\" :\t7\r,\n\"body\" : \"b\" } \n"},
		{"zero as id", true, `{"id":0}`},
		{"the largest id", true, `{"id":18446744073709551615}`},
		{"every escape", true, `{"body":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d"}`},
		{"a backslash before the closing quotation mark", true, `{"body":"\\","method":"\\\\"}`},
		{"other letters", true, `{"body":"grüße 😀"}`},
		{"what is no UTF-8", true, "{\"body\":\"\xff\"}"},
		{"DEL", true, "{\"body\":\"\x7f\"}"},
		{"64 KiB", true, `{"body":"` + strings.Repeat(`x\"`, 64<<10/3) + `"}`},

		{"nothing", false, ""},
		{"white space", false, " \n"},
		{"no member", false, "{}"},
		{"no object", false, `["id",7]`},
		{"a string", false, `"id"`},
		{"null", false, "null"},
		{"an id that is there twice", false, `{"id":1,"id":2}`},
		{"a text that is there twice", false, `{"body":"","body":""}`},
		{"another member", false, `{"id":7,"more":[]}`},
		{"a name in another case", false, `{"ID":7}`},
		{"a name with an escape", false, `{"\u0069d":7}`},
		{"Conn", false, `{"Conn":7}`},
		{"null as id", false, `{"id":null}`},
		{"null as text", false, `{"body":null}`},
		{"a string as id", false, `{"id":"7"}`},
		{"a number as text", false, `{"body":7}`},
		{"a negative id", false, `{"id":-7}`},
		{"a fraction", false, `{"id":7.0}`},
		{"an exponent", false, `{"id":7e1}`},
		{"a leading zero", false, `{"id":07}`},
		{"an id that is too large", false, `{"id":18446744073709551616}`},
		{"an id of 21 digits", false, `{"id":111111111111111111111}`},
		{"no digits", false, `{"id":}`},
		{"a control character in a text", false, "{\"body\":\"\n\"}"},
		{"NUL in a text", false, "{\"body\":\"\x00\"}"},
		{"a bad escape", false, `{"body":"\x"}`},
		{"half an escape", false, `{"body":"\u12"}`},
		{"no end of the text", false, `{"body":"b`},
		{"an escaped quotation mark at the end", false, `{"body":"b\"}`},
		{"no colon", false, `{"id"7}`},
		{"no comma", false, `{"id":7 "body":"b"}`},
		{"a comma at the end", false, `{"id":7,}`},
		{"a comma at the beginning", false, `{,"id":7}`},
		{"no end", false, `{"id":7`},
		{"another end", false, `{"id":7]`},
		{"a second value", false, `{"id":7}{"id":7}`},
		{"something behind it", false, `{"id":7}x`},
		{"a form feed behind it", false, "{\"id\":7}\f"},
		{"a non-breaking space", false, "{\"id\":\u00a07}"},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.plain, requestPlain(t, []byte(row.payload)))
		})
	}
	t.Run("it keeps nothing of the payload", func(t *testing.T) {
		payload := []byte(`{"id":7,"method":"GET","target":"/a","body":"\"b"}`)
		req, err := readRequest(payload)
		require.NoError(t, err)
		clear(payload)
		assert.Equal(t, &Request{ID: 7, Method: "GET", Target: "/a", Body: `"b`}, req)
	})
	t.Run("every prefix of a request is read as encoding/json reads it", func(t *testing.T) {
		const request = ` {"id":70,"method":"GET","target":"/?\u00e9","body":"\\\"\xff"} `
		for n := range len(request) {
			requestPlain(t, []byte(request[:n]))
		}
	})
}

func TestResponseJSON(t *testing.T) {
	t.Run("it has all fields", func(t *testing.T) {
		res := Response{ID: 18446744073709551615, Code: -1, Message: "a\"b", Body: "é\x00"}
		assert.Equal(t, `{"message":"a\"b","body":"é\u0000","id":18446744073709551615,"code":-1}`, string(res.appendJSON(nil)))
	})
	t.Run("it is what json.Marshal makes, for every character and every place of it", func(t *testing.T) {
		texts := []string{"", "plain", "a\u2028b", "é", "世界", "\U0001F642", "\xff", "a\xc3", "\xed\xa0\x80", strings.Repeat("x", 1000) + "<"}
		for c := range 256 {
			texts = append(texts, string([]byte{byte(c)}), "ab"+string([]byte{byte(c)})+"yz")
		}
		for _, text := range texts {
			for _, res := range []Response{{Message: text}, {Body: text, ID: math.MaxUint64, Code: math.MinInt32}, {Message: text, Body: text, ID: 1, Code: math.MaxInt32},
				{Message: text, Seq: 1}, {Body: text, Seq: math.MaxUint64, Prev: 1}, {Prev: 7}} {
				want, err := json.Marshal(res)
				require.NoError(t, err)
				require.Equal(t, string(want), string(res.appendJSON(nil)))
			}
		}
	})
	t.Run("it goes behind what is there, in the room that it asks for", func(t *testing.T) {
		res := Response{ID: math.MaxUint64, Code: math.MinInt32, Message: "message", Body: "body"}
		assert.Equal(t, "before"+string(res.appendJSON(nil)), string(res.appendJSON([]byte("before"))))
		assert.Len(t, res.appendJSON(nil), res.leastSize())
		res.Seq, res.Prev = math.MaxUint64, math.MaxUint64
		assert.Len(t, res.appendJSON(nil), res.leastSize(), "with the numbers of a topic")
	})
	t.Run("text that is not UTF-8 is made so", func(t *testing.T) {
		res := Response{Body: "a\xff\xfeb"}
		assert.Contains(t, string(res.appendJSON(nil)), `a\ufffd\ufffdb`)
	})
}

func TestNewBroadcast(t *testing.T) {
	t.Run("it answers no request", func(t *testing.T) {
		packet, err := NewBroadcast("news", "there is some")
		require.NoError(t, err)
		frames := Unpack(packet)
		assert.Equal(t, OpcodeText, frames.Opcode())
		assert.False(t, frames.list[0].IsMasked())
		assert.JSONEq(t, `{"id":0,"code":0,"message":"news","body":"there is some"}`, string(frames.Payload()))
	})
	t.Run("nothing can be said too", func(t *testing.T) {
		packet, err := NewBroadcast("", "")
		require.NoError(t, err)
		assert.JSONEq(t, `{"id":0,"code":0,"message":"","body":""}`, string(Unpack(packet).Payload()))
	})
}

// pathRequest is the URL of a request with that target.
func pathRequest(t testing.TB, target string) *url.URL {
	u, err := parseTarget(target)
	require.NoError(t, err, target)
	return u
}

func TestPathPattern(t *testing.T) {
	type values = map[string]string
	for _, c := range []struct {
		pattern string
		fits    map[string]values // targets, and the parameters in them
		not     []string
	}{
		{"/", map[string]values{"/": nil, "/?a=b": nil, "ws://h": nil, "//": nil}, []string{"/x", "/%20", "///"}},
		{"/ws", map[string]values{"/ws": nil, "/ws/": nil, "/ws?": nil, "/%77s": nil, "ws://h/ws/": nil}, []string{"/", "/WS", "/wss", "/ws//", "/ws/x", "//ws", "/ws/.", "/x/ws"}},
		{"/ws/", map[string]values{"/ws": nil, "/ws/": nil}, []string{"/ws//", "/"}},
		{"/a b/é", map[string]values{"/a%20b/%C3%A9": nil, "/a%20b/%c3%a9/": nil}, []string{"/a+b/%C3%A9", "/a%20b"}},
		{"/a/b", map[string]values{"/a/b": nil, "/a%2Fb": nil}, []string{"/a//b"}},
		{"/100%", map[string]values{"/100%25": nil}, nil},
		{"/:x", map[string]values{
			"/a": {"x": "a"}, "/a/": {"x": "a"}, "/a%20b": {"x": "a b"}, "/a%2Fb": {"x": "a/b"}, "/%2F": {"x": "/"}, "/%3Ax": {"x": ":x"}, "/:x": {"x": ":x"},
			"/..": {"x": ".."}, "/%2e%2E": {"x": ".."}, "/%00%FF": {"x": "\x00\xff"}, "/a%252Fb": {"x": "a%2Fb"}, "/a+b": {"x": "a+b"}, "/a;b=c,d": {"x": "a;b=c,d"}, "/a?x=y": {"x": "a"},
		}, []string{"/", "//", "/a/b", "/a//", "//a"}},
		{"/ocpp/:station", map[string]values{"/ocpp/CP%2F1": {"station": "CP/1"}, "/ocpp/x/": {"station": "x"}, "/%6Fcpp/x": {"station": "x"}, "/%6Fcpp/x%2F": {"station": "x/"}},
			[]string{"/ocpp", "/ocpp/", "/ocpp//", "/ocpp/a/b", "/ocpp%2Fa", "/OCPP/a", "/x/ocpp/a"}},
		{"/:a/x/:b/", map[string]values{"/1/x/2": {"a": "1", "b": "2"}, "/1/x/2/": {"a": "1", "b": "2"}, "/x/x/x": {"a": "x", "b": "x"}, "/%31/%78/%2F2": {"a": "1", "b": "/2"}},
			[]string{"/1/y/2", "/1/x", "/1/x//", "//x/2", "/1/%2Fx/2"}},
	} {
		p, err := parsePattern(c.pattern)
		require.NoError(t, err)
		for target, want := range c.fits {
			t.Run(target+" is for "+c.pattern, func(t *testing.T) {
				params, ok := p.match(pathRequest(t, target))
				assert.True(t, ok)
				assert.Equal(t, want, params)
			})
		}
		for _, target := range c.not {
			t.Run(target+" is not for "+c.pattern, func(t *testing.T) {
				params, ok := p.match(pathRequest(t, target))
				assert.False(t, ok)
				assert.Nil(t, params)
			})
		}
	}
	t.Run("a path that was changed behind its encoded form counts as it is", func(t *testing.T) {
		p, _ := parsePattern("/:x")
		params, ok := p.match(&url.URL{Path: "/new", RawPath: "/old%2Fpath"})
		assert.True(t, ok)
		assert.Equal(t, values{"x": "new"}, params)
	})
	t.Run("a literal path costs no memory", func(t *testing.T) {
		p, _ := parsePattern("/a b/c")
		yes, no, encoded := pathRequest(t, "/a%20b/c/"), pathRequest(t, "/a%20b"), pathRequest(t, "/a%20b%2Fc")
		assert.Zero(t, testing.AllocsPerRun(100, func() { p.match(yes); p.match(no); p.match(encoded) }))
	})
	t.Run("a path with parameters that does not fit costs none either", func(t *testing.T) {
		p, _ := parsePattern("/a/:x")
		no := pathRequest(t, "/b/c")
		assert.Zero(t, testing.AllocsPerRun(100, func() { p.match(no) }))
	})
}

func TestPathPrecedence(t *testing.T) {
	for _, c := range []struct {
		connect, status string
		isSame          bool
		both            string // a request that is for both; empty: there is none
		statusFirst     bool
	}{
		{"/", "/status", false, "", false},
		{"/ws", "/ws/", true, "/ws", false},
		{"/:a", "/:b/", true, "/x", false},
		{"/:a/x/:b", "/:c/x/:d", true, "/1/x/2", false},
		{"/:a", "/status", false, "/status", true},
		{"/status", "/:a", false, "/status", false},
		{"/:a/x", "/status/:b", false, "/status/x", true},
		{"/x/:a", "/:b/y", false, "/x/y", false},
		{"/x/:a/:b", "/x/:c/y", false, "/x/1/y", true},
		{"/ocpp/:station", "/ocpp/:station/status", false, "", false},
		{"/:a/:b", "/:a", false, "", false},
	} {
		t.Run(c.connect+" and "+c.status, func(t *testing.T) {
			opts := ServerOptions{ConnectPath: c.connect, StatusPath: c.status}
			opts.fill()
			terms, err := opts.terms()
			assert.Equal(t, c.isSame, err != nil)
			if c.isSame {
				assert.ErrorContains(t, opts.check(), "are both")
				return
			}
			if c.both == "" {
				return
			}
			if to, params := terms.find(pathRequest(t, c.both)); c.statusFirst {
				assert.Equal(t, toStatus, to)
				assert.Nil(t, params)
			} else {
				assert.Equal(t, toConnect, to)
			}
		})
	}
}

func TestPathLeast(t *testing.T) {
	for path, want := range map[string]int{"/": 1, "/ws": 3, "/ws/": 3, "/:station": 2, "/ocpp/:a/:b": 9, "/a//b": 5} {
		p, err := parsePattern(path)
		require.NoError(t, err)
		assert.Equal(t, want, p.least(), path)
	}
}
