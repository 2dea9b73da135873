package interop

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPeersThatCompress is TestPeers with compression, of which our side has the codec with takeover: limits are those of what was
// inflated, text is checked after it was, and control frames come between fragments as ever.
func TestPeersThatCompress(t *testing.T) {
	const takeover = 2
	s := settings[takeover]
	cases := slices.Concat(messageCases(text, binary), limitCases(text, binary), fragmentCases(), pingCases(), closeCases(), failureCases())
	for _, p := range casePeers() {
		if p.compressing == nil {
			continue
		}
		compressing := p.compressing(p.compressions[0])
		if compressing.client != nil {
			t.Run(p.name+" client with our server", func(t *testing.T) {
				t.Parallel()
				dial := compressing.client(t, plain)
				url, accepted := s.serve(t)
				runCases(t, cases, ours.serveCan, p.clientCan, func(t *testing.T, offer []string) (ours, theirs conn) {
					theirs, err := dial(url, offer)
					require.NoError(t, err)
					return accept(t, accepted), theirs
				})
			})
		}
		if compressing.serve != nil {
			t.Run("our client with "+p.name+" server", func(t *testing.T) {
				t.Parallel()
				url, accepted := compressing.serve(t, plain)
				runCases(t, cases, ours.clientCan, p.serveCan, func(t *testing.T, _ []string) (ours, theirs conn) {
					ours, err := s.dial(url)
					require.NoError(t, err)
					return ours, accept(t, accepted)
				})
			})
		}
	}
}
