package websocket

import (
	"fmt"
	"iter"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// parseFields reads header lines up to the empty one (RFC 9112, section 5). Each value has its own memory: a program may keep
// one for as long as the connection lasts, and should not keep the whole head with it.
func parseFields(s string) (http.Header, error) {
	lines := strings.Count(s, "\r\n") // as many as the scanner lets through
	header := make(http.Header, max(lines-1, 0))
	values := make([]string, lines) // of the fields that are there once
	for {
		line, rest, ok := strings.Cut(s, "\r\n")
		if !ok {
			return nil, ErrInvalidHeaderFormat
		}
		if line == "" {
			return header, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || !isFieldValue(value) {
			return nil, ErrInvalidHeaderFormat
		}
		name, value = textproto.CanonicalMIMEHeaderKey(name), strings.Clone(textproto.TrimString(value))
		if there := header[name]; there != nil {
			header[name] = append(there, value)
		} else {
			values[0] = value
			header[name], values = values[:1:1], values[1:]
		}
		s = rest
	}
}

// unfold puts each field that a response folds over several lines into one line. A client must accept such fields, a server
// must not (RFC 9112, section 5.2).
func unfold(fields string) string {
	if !strings.Contains(fields, "\r\n ") && !strings.Contains(fields, "\r\n\t") {
		return fields
	}
	lines := strings.SplitAfter(fields, "\r\n")
	for i, line := range lines[1:] {
		if more := strings.TrimLeft(line, " \t"); len(more) < len(line) {
			lines[i] = strings.TrimSuffix(lines[i], "\r\n") + " "
			lines[i+1] = more
		}
	}
	return strings.Join(lines, "")
}

// joinLines returns the list that the lines of a field make together (RFC 9110, section 5.3).
func joinLines(values []string) string { return strings.Join(values, ", ") }

// listElements iterates over the elements of a comma-separated list, trimmed, empty ones left out. A comma inside a quoted
// string separates nothing.
func listElements(list string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i <= len(list); i++ {
			switch {
			case i < len(list)-1 && quoted && list[i] == '\\':
				i++
				continue
			case i < len(list) && list[i] == '"':
				quoted = !quoted
				continue
			case i < len(list) && (quoted || list[i] != ','):
				continue
			}
			element := strings.Trim(list[start:min(i, len(list))], " \t")
			start = i + 1
			if element != "" && !yield(element) {
				return
			}
		}
	}
}

// hasToken reports whether a comma-separated list has the token, in any case.
func hasToken(list, token string) bool {
	for element := range listElements(list) {
		if strings.EqualFold(element, token) {
			return true
		}
	}
	return false
}

// isExtension reports whether s is an extension with its parameters (RFC 6455, section 9.1).
func isExtension(s string) bool {
	name, params, more := strings.Cut(s, ";")
	if !isToken(strings.Trim(name, " \t")) {
		return false
	}
	for more {
		var param string
		param, params, more = strings.Cut(params, ";")
		if _, _, ok := parseParameter(param); !ok {
			return false
		}
	}
	return true
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isHost reports whether s has only characters of a host and a port (RFC 3986, section 3.2.2).
func isHost(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-._~!$&'()*+,;=%[]:", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s has no control characters except tabs (RFC 9110, section 5.5).
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// checkFields returns an error for a header field that cannot be sent as it is.
func checkFields(header http.Header) error {
	for name, values := range header {
		if !isToken(name) {
			return fmt.Errorf("websocket: header field name %q is not a token", name)
		}
		for _, value := range values {
			if !isFieldValue(value) {
				return fmt.Errorf("websocket: header field %s has a control character", name)
			}
		}
	}
	return nil
}

// appendFields appends checked fields in the order of their names, except those in without.
func appendFields(dst []byte, header http.Header, without ...string) []byte {
	names := make([]string, 0, len(header))
	for name := range header {
		if !slices.ContainsFunc(without, func(s string) bool { return strings.EqualFold(s, name) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range header[name] {
			dst = append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
		}
	}
	return dst
}
