package websocket

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// readPlain reads a request as most programs write it: an object of the four members, each a string or, for the id, digits, and
// there once. It returns false for everything else, right or wrong; encoding/json has the word on that. What it takes it reads
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

// plainToken skips white space and one character, if it is there.
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

// unquote returns the string that is meant by one in quotation marks, which it is part of where nothing is escaped.
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

// plainDigits returns a number without sign, fraction and exponent, and what follows it; nothing where there is none.
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
