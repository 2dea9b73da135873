package websocket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Request is a text message that a client sends for a function registered with Server.RegisterTextHandler, as JSON:
//
//	{"id": 1512459721269, "method": "GET", "target": "/users/7?full=1", "body": "..."}
//
// A member may be missing or null. A request that has one of these four twice, in whatever case, is answered with 400; other
// members are ignored. Text that is no such JSON is answered with 400, a request that no function was registered for with 404.
// A handler may keep the Request.
type Request struct {
	// Query holds the parameters that follow the question mark in Target.
	Query url.Values `json:"-"`

	// Params is a map[string]string, whatever its type is called: the segments of the path that stand for parameters of the
	// route, under their names without the colon. If the route "/users/:id" serves "/users/7",
	//
	//	id := req.Params["id"] // "7", a string
	//
	// The values are as they were sent: url.PathUnescape undoes their percent-encoding.
	Params targetParam `json:"-"`

	// Method is one of DELETE, GET, PATCH, POST and PUT, in the case in which it was sent.
	Method string `json:"method"`

	// Target is the path with the query.
	Target string `json:"target"`

	// Body is what the handler and the client agree on.
	Body string `json:"body"`

	// Path is Target without the query.
	Path string `json:"-"`

	// ID comes back in the Response. Requests of one connection are answered in the order in which they are done, so a client
	// gives each its own ID.
	ID uint64 `json:"id"`

	// Conn is the connection that the request came from.
	Conn int
}

// targetParam holds the parameters of a path by name. The exported API of the replaced package has this name in it.
type targetParam map[string]string

// RouteHandler answers a request. ctx is the context of the connection. The server sets the ID of the response. It is called
// from any goroutine, for several requests of one connection at the same time, and may block.
type RouteHandler func(ctx context.Context, req *Request) (res Response)

// answer finds and calls the handler for a request in JSON. ctx is nil if the connection has no context.
func (r *routes) answer(ctx context.Context, conn int, payload []byte) (res Response) {
	req, err := readRequest(payload)
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

// serve calls the handler for a request, whose Path, Query and Params it sets.
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

// failure is the answer of the router itself. What it quotes of the request is cut, never inside a character, so that the
// answer to a long request is not as long.
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

// request is what encoding/json reads a Request into.
type request struct {
	ID     number `json:"id"`
	Method text   `json:"method"`
	Target text   `json:"target"`
	Body   text   `json:"body"`
	Conn   int    // of the right type or refused; what it says is ignored
}

// readRequest reads a request in JSON. If there is an error, the request has the members that could be read.
//
// Of equal names encoding/json takes the last, other parsers the first: what a proxy has let through could be another request
// than the one that is served (RFC 8259, section 4). So each member remembers whether it was there.
func readRequest(payload []byte) (*Request, error) {
	var in request
	if in.readPlain(payload) {
		return in.result(nil)
	}
	return unmarshalRequest(payload)
}

// unmarshalRequest reads a request by reflection, which takes longer.
func unmarshalRequest(payload []byte) (*Request, error) {
	var in request
	err := json.Unmarshal(payload, &in)
	return in.result(err)
}

// result returns the request, which was read with the error err.
func (in *request) result(err error) (*Request, error) {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) { // who sends requests does not know the names of our types
		if wrongType.Struct != "" {
			wrongType.Struct = "Request"
		}
		if wrongType.Type == reflect.TypeFor[text]() {
			wrongType.Type = reflect.TypeFor[string]()
		}
	} else if err == nil {
		err = in.repeated()
	}
	return &Request{ID: in.ID.value, Method: in.Method.value, Target: in.Target.value, Body: in.Body.value}, err
}

// repeated returns an error for a member that was there twice.
func (in *request) repeated() error {
	name := ""
	switch {
	case in.ID.again:
		name = "id"
	case in.Method.again:
		name = "method"
	case in.Target.again:
		name = "target"
	case in.Body.again:
		name = "body"
	default:
		return nil
	}
	return fmt.Errorf("member %q is there twice", name)
}

// member remembers whether a member was there, and whether it was there again. Null counts as not there.
type member struct{ seen, again bool }

func (m *member) isFirst() bool {
	m.seen, m.again = true, m.seen
	return !m.again
}

// text is a member that is a string. encoding/json does the unquoting, and refuses other types.
type text struct {
	member
	value string
}

// UnmarshalText sets the value the first time.
func (t *text) UnmarshalText(b []byte) error {
	if t.isFirst() {
		t.value = string(b)
	}
	return nil
}

// number is a member that is an integer.
type number struct {
	member
	value uint64
}

// UnmarshalJSON sets the value the first time.
func (n *number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" || !n.isFirst() {
		return nil
	}
	value, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return json.Unmarshal(b, new(uint64)) // fails with a better text
	}
	n.value = value
	return nil
}

// readPlain reads a request as most programs write it: an object of the four members, each a string or, for the id, digits, and
// there once. It returns false for everything else, right or wrong, and leaves that to encoding/json. What it takes, it reads
// as encoding/json would.
func (in *request) readPlain(b []byte) (ok bool) {
	if b, ok = plainToken(b, '{'); !ok {
		return false
	}
	for ok {
		var name []byte
		if name, b, ok = plainQuoted(b); !ok {
			return false
		}
		if b, ok = plainToken(b, ':'); !ok {
			return false
		}
		if b, ok = in.plainMember(name, b); !ok {
			return false
		}
		b, ok = plainToken(b, ',')
	}
	b, ok = plainToken(b, '}')
	return ok && len(plainSpace(b)) == 0
}

// plainMember reads the value of a member.
func (in *request) plainMember(quoted, b []byte) (rest []byte, ok bool) {
	var into *text
	switch string(quoted) {
	case `"id"`:
		digits, rest := plainDigits(b)
		return rest, len(digits) > 0 && !in.ID.seen && in.ID.UnmarshalJSON(digits) == nil
	case `"method"`:
		into = &in.Method
	case `"target"`:
		into = &in.Target
	case `"body"`:
		into = &in.Body
	default:
		return nil, false
	}
	value, rest, ok := plainQuoted(b)
	if ok = ok && !into.seen; ok {
		value, ok = unquote(value)
	}
	return rest, ok && into.UnmarshalText(value) == nil
}

// plainSpace skips white space.
func plainSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// plainToken skips white space and the token, if that is there.
func plainToken(b []byte, token byte) (rest []byte, ok bool) {
	if rest = plainSpace(b); len(rest) > 0 && rest[0] == token {
		return rest[1:], true
	}
	return b, false
}

// plainQuoted returns a string, with its quotation marks and escapes, and what follows it.
func plainQuoted(b []byte) (quoted, rest []byte, ok bool) {
	b = plainSpace(b)
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for end := 1; ; end++ {
		n := bytes.IndexByte(b[end:], '"')
		if n < 0 {
			return nil, nil, false
		}
		if end += n; !endsEscape(b[:end]) {
			return b[:end+1], b[end+1:], true
		}
	}
}

// endsEscape reports whether what follows is escaped: behind an odd number of backslashes.
func endsEscape(b []byte) bool {
	return (len(b)-len(bytes.TrimRight(b, `\`)))&1 == 1
}

// unquote returns the string that one in quotation marks stands for; it is a part of quoted if nothing is escaped.
func unquote(quoted []byte) (b []byte, ok bool) {
	if b = quoted[1 : len(quoted)-1]; isUnescaped(b) {
		return b, true
	}
	var s string
	err := json.Unmarshal(quoted, &s)
	return []byte(s), err == nil
}

// isUnescaped reports whether what is between quotation marks is the string itself.
func isUnescaped(b []byte) bool {
	ascii := true
	for _, c := range b {
		if c < ' ' || c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(b)
}

// maxDigits is how many digits the largest id has.
const maxDigits = len("18446744073709551615")

// plainDigits returns a number without sign, fraction and exponent, and what follows it; no digits if there is none.
func plainDigits(b []byte) (digits, rest []byte) {
	b = plainSpace(b)
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	if n > 1 && b[0] == '0' || n > maxDigits { // the former is not JSON
		n = 0
	}
	return b[:n], b[n:]
}
