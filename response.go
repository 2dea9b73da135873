package websocket

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Response is what a client gets for a Request, with its ID and with Code and Message as in HTTP. Without a request it is a
// broadcast: ID and Code are 0, and Message names what it is about.
type Response struct {
	// Message says in words what Code does, or what a broadcast is about.
	Message string `json:"message"`

	// Body is what the handler and the client agree on.
	Body string `json:"body"`

	// ID is that of the Request; the server sets it.
	ID uint64 `json:"id"`

	// Code is a status code of HTTP, such as http.StatusOK.
	Code int32 `json:"code"`

	// Seq is the number of a broadcast among those of its topic, and Prev that of the one before: a client whose last one had another
	// number has missed some. Whatever keeps the messages of topics sets them, such as the module cluster. 0 is left out of the JSON.
	Seq  uint64 `json:"seq,omitempty"`
	Prev uint64 `json:"prev,omitempty"`
}

// NewBroadcast returns a text frame of the server with a Response that answers no request: Message and Body are given, ID and
// Code are 0. The packet may be sent to any number of connections, such as with ClientManager.SendAll. The error is always nil.
func NewBroadcast(message, body string) (packet []byte, err error) {
	res := Response{Message: message, Body: body}
	return NewFrameText(false, res.appendJSON(nil)), nil
}

// leastSize is the length of the response as JSON, with the longest numbers, if no character has to be escaped.
func (res *Response) leastSize() int {
	const rest = len(`{"message":"","body":"","id":18446744073709551615,"code":-2147483648}`)
	const numbers = len(`,"seq":18446744073709551615,"prev":18446744073709551615`)
	if res.Seq|res.Prev != 0 {
		return rest + numbers + len(res.Message) + len(res.Body)
	}
	return rest + len(res.Message) + len(res.Body)
}

// appendJSON appends what json.Marshal makes of the response.
func (res *Response) appendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"message":`...), res.Message)
	dst = appendString(append(dst, `,"body":`...), res.Body)
	dst = strconv.AppendUint(append(dst, `,"id":`...), res.ID, 10)
	dst = strconv.AppendInt(append(dst, `,"code":`...), int64(res.Code), 10)
	if res.Seq != 0 {
		dst = strconv.AppendUint(append(dst, `,"seq":`...), res.Seq, 10)
	}
	if res.Prev != 0 {
		dst = strconv.AppendUint(append(dst, `,"prev":`...), res.Prev, 10)
	}
	return append(dst, '}')
}

// appendString appends a string as JSON. What has to be escaped or checked is left to encoding/json.
func appendString(dst []byte, s string) []byte {
	if !isPlain(s) {
		quoted, _ := json.Marshal(s) // never fails for a string
		return append(dst, quoted...)
	}
	return append(append(append(dst, '"'), s...), '"')
}

// isPlain reports whether json.Marshal leaves a string as it is.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c > '\\' && c < utf8.RuneSelf: // most letters: one look is enough
		case c < ' ', c >= utf8.RuneSelf, c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}
