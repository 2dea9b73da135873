package websocket

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// pathPattern is a path of ServerOptions. Its segments are literal ones, and parameters: ":name".
type pathPattern struct {
	path     string // without a slash at its end
	segments []string
	params   int // how many segments are parameters
}

// parsePattern reads a path of ServerOptions. An error says why no request would ever have it, or what is wrong with its parameters.
func parsePattern(path string) (p pathPattern, err error) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return p, errors.New("does not begin with a slash: no request has it")
	case strings.ContainsAny(path, "?#"):
		return p, errors.New("has more than a path: no request has it")
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7F }):
		return p, errors.New("has a control character: no request has it")
	case hasEscape(path):
		return p, errors.New("is percent-encoded, but compared with decoded paths: no request has it")
	}
	p.path = trimSlash(path)
	p.segments = strings.Split(p.path[1:], "/")
	names := make(map[string]bool)
	for _, segment := range p.segments {
		name, ok := strings.CutPrefix(segment, ":")
		switch {
		case !ok:
			continue
		case name == "":
			return p, errors.New("has a parameter without a name")
		case names[name]:
			return p, fmt.Errorf("has two parameters :%s", name)
		}
		names[name] = true
		p.params++
	}
	return p, nil
}

// hasEscape reports whether a path has a percent sign with two hexadecimal digits.
func hasEscape(path string) bool {
	const digits = "0123456789ABCDEFabcdef"
	for i := 0; i+2 < len(path); i++ {
		if path[i] == '%' && strings.IndexByte(digits, path[i+1]) >= 0 && strings.IndexByte(digits, path[i+2]) >= 0 {
			return true
		}
	}
	return false
}

// trimSlash returns a path without the slash at its end. "/" stays as it is.
func trimSlash(path string) string {
	if len(path) > 1 {
		return strings.TrimSuffix(path, "/")
	}
	return path
}

func isParam(segment string) bool { return strings.HasPrefix(segment, ":") }

// least returns how many bytes a request has for the path at least.
func (p *pathPattern) least() (n int) {
	for _, segment := range p.segments {
		if n++; isParam(segment) {
			n++
		} else {
			n += len(segment)
		}
	}
	return n
}

// isSame reports whether the same requests are for both paths.
func (p *pathPattern) isSame(other *pathPattern) bool {
	if len(p.segments) != len(other.segments) {
		return false
	}
	for i, segment := range p.segments {
		if isParam(segment) != isParam(other.segments[i]) || !isParam(segment) && segment != other.segments[i] {
			return false
		}
	}
	return true
}

// goesBefore reports whether a request that is for both paths is for this one: at the first place where one of them has a literal
// segment and the other a parameter, it has the literal one.
func (p *pathPattern) goesBefore(other *pathPattern) bool {
	for i, segment := range p.segments[:min(len(p.segments), len(other.segments))] {
		if isParam(segment) != isParam(other.segments[i]) {
			return !isParam(segment)
		}
	}
	return false
}

// match reports whether a request is for the path, and returns the values of its parameters, nil if it has none. Without parameters
// the decoded path is compared as a whole. With parameters each segment is decoded by itself, so that a value may have a slash; it is
// never empty.
func (p *pathPattern) match(u *url.URL) (params map[string]string, ok bool) {
	if p.params == 0 {
		return nil, trimSlash(u.Path) == p.path
	}
	rest, isEncoded := u.Path, u.RawPath != "" && u.EscapedPath() == u.RawPath
	if isEncoded {
		rest = u.RawPath
	}
	if rest = trimSlash(rest); strings.Count(rest, "/") != len(p.segments) || rest[0] != '/' {
		return nil, false
	}
	rest = rest[1:]
	for _, want := range p.segments {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		if isEncoded {
			segment, _ = url.PathUnescape(segment) // no error: the whole path is valid
		}
		switch name, isParam := strings.CutPrefix(want, ":"); {
		case !isParam && segment == want:
		case !isParam || segment == "":
			return nil, false
		case params == nil:
			params = make(map[string]string, p.params)
			fallthrough
		default:
			params[name] = segment
		}
	}
	return params, true
}
