package main

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/benchmarks/internal/plan"
)

// unmasked returns the frame that a server sends.
func unmasked(opcode byte, payload []byte) []byte {
	b := []byte{0x80 | opcode, byte(len(payload))}
	if len(payload) > 125 {
		b = []byte{0x80 | opcode, 126, byte(len(payload) >> 8), byte(len(payload))}
	}
	return append(b, payload...)
}

func newExpectation() (l *load, c *conn) {
	r := newRing(&plan.Scenario{Size: 130}, plan.Echo, 1, rand.New(rand.NewPCG(1, 2)))
	l = &load{ring: r, answered: func(*conn) error { return nil }}
	return l, &conn{ring: r, state: open, missing: 1}
}

func TestAnswersAreReadInPiecesOfAnySize(t *testing.T) {
	l, _ := newExpectation()
	answer := unmasked(opBinary, l.ring.want[0])
	for cut := range answer {
		l, c := newExpectation()
		require.NoError(t, l.frames(c, answer[:cut]))
		assert.Equal(t, 1, c.missing)
		require.NoError(t, l.frames(c, answer[cut:]))
		assert.Equal(t, 0, c.missing)
		assert.Equal(t, int64(1), l.messages)
	}
}

func TestAWrongByteAnywhereIsFound(t *testing.T) {
	l, _ := newExpectation()
	for i := range unmasked(opBinary, l.ring.want[0]) {
		l, c := newExpectation()
		answer := unmasked(opBinary, l.ring.want[0])
		answer[i] ^= 0x10
		err := l.frames(c, answer)
		assert.True(t, err != nil || c.missing == 1, "byte %d", i)
	}
}

func TestFragmentsAreOneAnswer(t *testing.T) {
	l, c := newExpectation()
	want := l.ring.want[0]
	first := unmasked(opBinary, want[:50])
	first[0] &^= 0x80
	require.NoError(t, l.frames(c, append(first, unmasked(0, want[50:])...)))
	assert.Equal(t, 0, c.missing)
}

func TestAnAnswerThatNobodyAskedForIsWrong(t *testing.T) {
	l, c := newExpectation()
	answer := unmasked(opBinary, l.ring.want[0])
	assert.ErrorIs(t, l.frames(c, append(answer, answer...)), errWrong)
}

func TestAShortAnswerIsWrong(t *testing.T) {
	l, c := newExpectation()
	assert.ErrorIs(t, l.frames(c, unmasked(opBinary, l.ring.want[0][:129])), errWrong)
}

func TestMessagesHaveTheirSize(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, kind := range []plan.Kind{plan.Echo, plan.TextEcho, plan.Sleep, plan.Broadcast, plan.Router} {
		send, _ := newMessage(kind, 128, 3, random)
		assert.Len(t, send, 128, kind)
	}
}
