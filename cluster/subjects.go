package cluster

import (
	"strconv"
	"strings"
)

// maxName is the length in bytes of the name of a cluster or a node.
const maxName = 64

// escape begins a byte that is written in two hexadecimal digits. Alone it is the empty name.
const escape = '='

// subjects are the subjects of a cluster, as the package comment lists them.
type subjects struct {
	prefix string
}

func subjectsOf(cluster string) subjects { return subjects{"ws." + encodeName(cluster) + "."} }

func (s subjects) all() string              { return s.prefix + "a" }
func (s subjects) node(name string) string  { return s.prefix + "n." + encodeName(name) }
func (s subjects) topic(name string) string { return s.prefix + "t." + encodeName(name) }
func (s subjects) kept(name string) string  { return s.prefix + "h." + encodeName(name) }
func (s subjects) inbox(id string) string   { return s.prefix + "r." + id + "." }

// user is built for each message, so it takes one allocation.
func (s subjects) user(uid uint64) string {
	var room [4 + 3*maxName + 24]byte
	return string(strconv.AppendUint(append(append(room[:0], s.prefix...), "u."...), uid, 10))
}

// stream is the name of the store.
func (s subjects) stream(cluster string) string { return "WS-" + encodeName(cluster) }

// keptSubjects and topicSubjects stand for those of all topics.
func (s subjects) keptSubjects() string  { return s.prefix + "h.>" }
func (s subjects) topicSubjects() string { return s.prefix + "t.>" }

// kindOf returns what a subject is about, as the letter behind the prefix, and the name behind that.
func (s subjects) kindOf(subject string) (kind byte, name string) {
	rest, ok := strings.CutPrefix(subject, s.prefix)
	if !ok || rest == "" {
		return 0, ""
	}
	if len(rest) > 1 {
		name = rest[2:]
	}
	return rest[0], name
}

// encodeName writes any bytes as one token of a subject: letters, digits, "-" and "_" as they are, all others as "=XX". Different names
// have different tokens, and a token is a file name too, as NATS makes one of that of a stream.
func encodeName(name string) string {
	if name == "" {
		return string(escape)
	}
	escapes := 0
	for i := range len(name) {
		if !isPlain(name[i]) {
			escapes++
		}
	}
	if escapes == 0 {
		return name
	}
	token := make([]byte, 0, len(name)+2*escapes)
	for i := range len(name) {
		if c := name[i]; isPlain(c) {
			token = append(token, c)
		} else {
			token = append(token, escape, digits[c>>4], digits[c&0xF])
		}
	}
	return string(token)
}

const digits = "0123456789ABCDEF"

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// decodeName undoes encodeName. It returns false for what that does not make.
func decodeName(token string) (name string, ok bool) {
	if strings.IndexByte(token, escape) < 0 {
		return token, token != ""
	}
	if token == string(escape) {
		return "", true
	}
	b := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		if token[i] != escape {
			b = append(b, token[i])
			continue
		}
		if i+2 >= len(token) {
			return "", false
		}
		high, low := strings.IndexByte(digits, token[i+1]), strings.IndexByte(digits, token[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b = append(b, byte(high<<4|low))
		i += 2
	}
	return string(b), true
}
