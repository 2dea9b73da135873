package interop

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func closeCases() (cases []testCase) {
	for _, end := range []struct {
		code   int
		reason string
		needs  ability
	}{
		{1000, "", 0},
		{1000, "done", closesWith},
		{1001, "", closesWithAny},
		{1001, "going away", closesWithAny},
		{3000, "", closesWith},
		{3000, "registered", closesWith},
		{4999, "äußerster Grund", closesWith},
		{4999, strings.Repeat("r", 123), closesWith},
		{noStatus, "", closesWithNone},
	} {
		name := fmt.Sprintf("%d with a reason of %d bytes", end.code, len(end.reason))
		answer := event{kind: closed, code: end.code, reason: end.reason}
		if end.code == noStatus {
			name, answer.code = "an empty close frame", 1000 // what we answer
		}
		cases = append(cases,
			testCase{
				name:   "their close with " + name + " is answered",
				theirs: end.needs | awaitsClose | showsClose,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, theirs.close(end.code, end.reason))
					expect(t, theirs, answer)
					assert.Equal(t, closed, next(t, ours).kind)
				},
			},
			testCase{
				name:   "their close with " + name + " is shown",
				ours:   showsClose,
				theirs: end.needs,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, theirs.close(end.code, end.reason))
					expect(t, ours, event{kind: closed, code: end.code, reason: end.reason})
				},
			},
			testCase{
				name:   "what they send before a close with " + name + " arrives",
				theirs: end.needs,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, theirs.send(binary, sized(binary, limit)))
					require.NoError(t, theirs.close(end.code, end.reason))
					got := next(t, ours)
					assert.Equal(t, binary, got.kind)
					assert.Len(t, got.payload, limit)
					assert.Equal(t, closed, next(t, ours).kind)
				},
			},
			testCase{
				name:   "our close with " + name + " is shown to them",
				ours:   end.needs,
				theirs: showsClose,
				run: func(t *testing.T, ours, theirs conn) {
					require.NoError(t, ours.close(end.code, end.reason))
					expect(t, theirs, event{kind: closed, code: end.code, reason: end.reason})
					assert.Equal(t, closed, next(t, ours).kind)
				},
			},
		)
	}
	return cases
}

func failureCases() (cases []testCase) {
	for name, payload := range map[string][]byte{
		"a byte that never occurs":          {'a', 0xFF, 'b'},
		"a cut-off character":               {'a', 0xE2, 0x82},
		"a surrogate":                       {0xED, 0xA0, 0x80},
		"an overlong form":                  {0xC0, 0xAF},
		"a character above the last one":    {0xF4, 0x90, 0x80, 0x80},
		"a cut-off character in the middle": {0xE2, 0x82, 'a'},
	} {
		cases = append(cases, testCase{
			name:   "text with " + name + " closes with 1007",
			theirs: breaksText | showsClose,
			run: func(t *testing.T, ours, theirs conn) {
				require.NoError(t, theirs.send(text, payload))
				expectFailure(t, ours, theirs, 1007)
			},
		})
	}
	return append(cases, testCase{
		name:   "text that breaks off in the last of several fragments closes with 1007",
		theirs: breaksText | showsClose | fragments,
		run: func(t *testing.T, ours, theirs conn) {
			whole := sized(text, 300_000)
			require.NoError(t, theirs.sendParts(text, [][]byte{whole, append(whole, 0xE2, 0x82)}, nil))
			expectFailure(t, ours, theirs, 1007)
		},
	})
}

func subprotocolCases() (cases []testCase) {
	for _, sub := range []struct {
		name   string
		offer  []string
		chosen string
	}{
		{"no subprotocol is chosen if none is offered", nil, ""},
		{"the only subprotocol is chosen", []string{chosenProtocol}, chosenProtocol},
		{"the second subprotocol is chosen", []string{"v1.chat", chosenProtocol, "v0.chat"}, chosenProtocol},
	} {
		cases = append(cases, testCase{
			name:  sub.name,
			offer: sub.offer,
			run: func(t *testing.T, ours, theirs conn) {
				assert.Equal(t, sub.chosen, ours.subprotocol(), "our side")
				assert.Equal(t, sub.chosen, theirs.subprotocol(), "their side")
				deliver(t, ours, theirs, text, []byte("still there"))
			},
		})
	}
	return cases
}
