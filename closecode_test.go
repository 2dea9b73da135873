package websocket

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCloseCodeOnWire(t *testing.T) {
	for code := range 1 << 16 {
		want := code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006 || code >= 3000 && code <= 4999
		if got := CloseCode(code).onWire(); got != want {
			t.Errorf("code %d may be on the wire: %v, want %v", code, got, want)
		}
	}
}

func TestParseCloseBody(t *testing.T) {
	cases := []struct {
		name   string
		body   string
		code   CloseCode
		reason string
		err    *protocolError
	}{
		{name: "an empty body has no code"},
		{name: "one byte is malformed", body: "\x03", err: errCloseShort},
		{name: "a code alone", body: "\x03\xe8", code: 1000},
		{name: "a code and a reason", body: "\x0f\xa0good \xf0\x9f\x98\x80", code: 4000, reason: "good 😀"},
		{name: "a code that must not be on the wire", body: "\x03\xed", err: errCloseCode},
		{name: "a reason that is not UTF-8", body: "\x03\xe8\xff", err: errCloseReason},
		{name: "a reason that ends inside a character", body: "\x03\xe8\xe2\x82", err: errCloseReason},
		{name: "a forbidden code is told before the reason", body: "\x00\x00\xff", err: errCloseCode},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, reason, err := parseCloseBody([]byte(c.body))
			assert.Same(t, c.err, err)
			assert.Equal(t, c.code, code)
			assert.Equal(t, c.reason, string(reason))
		})
	}
}

func TestAppendCloseBody(t *testing.T) {
	t.Run("what was appended parses, for every code that may be on the wire", func(t *testing.T) {
		for code := range CloseCode(5001) {
			got, reason, err := parseCloseBody(appendCloseBody(nil, code, []byte("reason")))
			if code.onWire() {
				assert.Nil(t, err)
				assert.Equal(t, code, got)
				assert.Equal(t, "reason", string(reason))
			} else {
				assert.Same(t, errCloseCode, err)
			}
		}
	})
	t.Run("what is there is kept", func(t *testing.T) {
		assert.Equal(t, "x\x03\xe8y", string(appendCloseBody([]byte("x"), 1000, []byte("y"))))
	})
}
