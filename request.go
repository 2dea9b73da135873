package websocket

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Request is a text message that a client sends for a function registered with Server.RegisterTextHandler, as JSON:
//
//	{"id": 1512459721269, "method": "GET", "target": "/users/7?full=1", "body": "..."}
//
// A handler may keep it.
type Request struct {
	// Query holds the parameters behind the question mark of Target.
	Query url.Values `json:"-"`

	// Params holds the segments of the path that stand for parameters of the route, under their names without the colon and
	// as they were sent: percent-encoding is not undone.
	Params targetParam `json:"-"`

	// Method is one of DELETE, GET, PATCH, POST and PUT, in the case in which it was sent.
	Method string `json:"method"`

	// Target is the path with the query.
	Target string `json:"target"`

	// Body is what the handler and the client agree on.
	Body string `json:"body"`

	// Path is Target without the query.
	Path string `json:"-"`

	// ID comes back in the Response. Requests of one connection are answered as they are done, so a client gives each one
	// of its own.
	ID uint64 `json:"id"`

	// Conn is the connection that the request came from.
	Conn int
}

// targetParam holds the parameters of a path by name.
type targetParam map[string]string

// RouteHandler answers a request. ctx is the context of the connection. Of the response, ID is set by the server. It is called
// from any goroutine, for several requests of one connection at once, and may block.
type RouteHandler func(ctx context.Context, req *Request) (res Response)

// answer finds and calls the handler for a request in JSON. ctx is nil where the connection has no context.
func (r *routes) answer(ctx context.Context, conn int, payload []byte) (res Response) {
	req := new(Request)
	err := json.Unmarshal(payload, req)
	req.Conn = conn
	id := req.ID // the handler may change its request, and go on using it
	switch {
	case err != nil:
		res = failure(http.StatusBadRequest, err.Error())
	case ctx == nil:
		res = failure(http.StatusInternalServerError, "connection has no context")
	default:
		res = r.serve(ctx, req)
	}
	res.ID = id
	return res
}

func (r *routes) serve(ctx context.Context, req *Request) (res Response) {
	var query string
	var err error
	req.Path, query, _ = strings.Cut(req.Target, "?")
	if req.Query, err = url.ParseQuery(query); err != nil {
		return failure(http.StatusBadRequest, req.Target)
	}
	handler, params := r.find(req.Method, req.Path)
	if handler == nil {
		return failure(http.StatusNotFound, req.Method+" "+req.Target)
	}
	req.Params = params
	return handler(ctx, req)
}

// maxQuote is how many bytes of a request its refusal repeats.
const maxQuote = 512

// failure is the answer of the router itself. What it quotes of the request is cut, never inside a character, so that a long
// request has no longer an answer.
func failure(code int32, message string) Response {
	if len(message) > maxQuote {
		cut := maxQuote
		for !utf8.RuneStart(message[cut]) {
			cut--
		}
		message = message[:cut] + "…"
	}
	return Response{Code: code, Message: message}
}
