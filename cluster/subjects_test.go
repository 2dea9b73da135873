package cluster

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
)

func FuzzName(f *testing.F) {
	for _, name := range []string{"", "a", "=", "==", "a.b", ">", "*", " ", "\r\n", "\x00\xff", "ä", strings.Repeat(".", 255)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		token := encodeName(name)
		decoded, ok := decodeName(token)
		assert.True(t, ok)
		assert.Equal(t, name, decoded, "what is decoded is what was encoded, so different names have different tokens")
		assert.NotContains(t, token, ".")
		assert.True(t, server.IsValidLiteralSubject("ws."+token), token)
		kind, rest := subjectsOf(name).kindOf(subjectsOf(name).topic(name))
		assert.Equal(t, byte('t'), kind)
		assert.Equal(t, token, rest)
	})
}

func FuzzDecodeName(f *testing.F) {
	for _, token := range []string{"", "=", "=4", "=41", "=4g", "a=", "==", "=2e"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if name, ok := decodeName(token); ok {
			again, ok := decodeName(encodeName(name))
			assert.True(t, ok)
			assert.Equal(t, name, again)
		}
	})
}

func TestKindOf(t *testing.T) {
	s := subjectsOf("n")
	for _, subject := range []string{"", "ws.n", "ws.n.", "ws.other.a", "a"} {
		kind, name := s.kindOf(subject)
		assert.Zero(t, kind, subject)
		assert.Empty(t, name)
	}
	kind, name := s.kindOf(s.user(18446744073709551615))
	assert.Equal(t, byte('u'), kind)
	assert.Equal(t, "18446744073709551615", name)
}
