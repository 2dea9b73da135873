package main

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/benchmarks/internal/plan"
)

// newCompressed returns a connection with permessage-deflate that echoes are expected on, and those, compressed.
func newCompressed(t *testing.T, terms string) (l *load, c *conn, answers [][]byte) {
	s := &plan.Scenario{Kind: plan.TextEcho, Set: plan.Orders, Offers: true}
	r := newRing(s, s.Kind, 1, rand.New(rand.NewPCG(1, 2)))
	l = &load{scenario: s, ring: r, inflater: newInflater(), answered: func(*conn) error { return nil }}
	c = &conn{ring: r, state: open, missing: len(r.want)}
	require.NoError(t, l.negotiated(c, []byte("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-extensions: "+terms+"\r\n")))
	return l, c, deflate(r.want)
}

func TestCompressedAnswersAreInflatedAndCompared(t *testing.T) {
	l, c, answers := newCompressed(t, "permessage-deflate")
	for i, answer := range answers {
		frame := unmasked(opText|rsv1, answer)
		require.NoError(t, l.frames(c, frame[:i%len(frame)]))
		require.NoError(t, l.frames(c, frame[i%len(frame):]))
	}
	assert.Zero(t, c.missing)
	assert.Less(t, l.wire, l.plain)
	assert.NoError(t, l.insist())

	l, c, answers = newCompressed(t, "permessage-deflate")
	assert.ErrorIs(t, l.frames(c, unmasked(opText|rsv1, answers[1])), errWrong, "another message than the one expected")
	l, c, _ = newCompressed(t, "permessage-deflate")
	assert.ErrorIs(t, l.frames(c, unmasked(opText|rsv1, []byte{7})), errWrong, "no block")
}

func TestFragmentsOfACompressedMessageAreOneMessage(t *testing.T) {
	l, c, answers := newCompressed(t, "permessage-deflate")
	first, last := unmasked(opText|rsv1, answers[0][:9]), unmasked(0, answers[0][9:])
	first[0] &^= 0x80
	require.NoError(t, l.frames(c, append(first, last...)))
	assert.Equal(t, int64(1), l.messages)

	l, c, _ = newCompressed(t, "permessage-deflate")
	last[0] |= rsv1
	assert.ErrorIs(t, l.frames(c, append(first, last...)), errWrong, "RSV1 is for the first fragment (RFC 7692, section 6.1)")
}

func TestAServerThatCompressesNothingIsWrong(t *testing.T) {
	l, c, _ := newCompressed(t, "permessage-deflate")
	for _, want := range l.ring.want {
		require.NoError(t, l.frames(c, unmasked(opText, want)))
	}
	assert.Equal(t, l.plain, l.wire)
	assert.ErrorIs(t, l.insist(), errWrong)
}

func TestTheAnswerToAnOfferIsChecked(t *testing.T) {
	for terms, window := range map[string]int{
		"permessage-deflate":                                                        maxWindow,
		"permessage-deflate; server_max_window_bits=12":                             4096,
		"permessage-deflate;server_no_context_takeover; client_no_context_takeover": 0,
		"permessage-deflate; server_max_window_bits=9; client_max_window_bits=15":   512,
	} {
		d, err := newInflation(terms)
		require.NoError(t, err, terms)
		assert.Equal(t, window, d.window, terms)
		for range 7 {
			d.advance(make([]byte, 180))
			assert.LessOrEqual(t, len(d.history), window)
		}
	}
	for _, terms := range []string{"", "permessage-bzip2", "permessage-deflate; server_max_window_bits=16"} {
		_, err := newInflation(terms)
		assert.ErrorIs(t, err, errWrong, terms)
	}
	plain := &load{scenario: new(plan.Scenario)}
	assert.ErrorIs(t, plain.negotiated(new(conn), []byte("Sec-WebSocket-Extensions: permessage-deflate\r\n")), errWrong, "not offered")
}

func TestARequestHasABurstOfAnswers(t *testing.T) {
	r := newRing(&plan.Scenario{Set: plan.Chat, Offers: true}, plan.Feed, 1, rand.New(rand.NewPCG(1, 2)))
	assert.Equal(t, plan.Burst, r.each)
	assert.Len(t, r.want, plan.SetSize)
	assert.Len(t, r.at, plan.SetSize/plan.Burst+2)
}
