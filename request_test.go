package websocket

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
