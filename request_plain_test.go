package websocket

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
