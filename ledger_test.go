package websocket

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLedger(t *testing.T) {
	t.Run("a message whose last byte has not left is unsent, one whose last byte was not acknowledged in doubt", func(t *testing.T) {
		var l ledger
		for _, end := range []uint64{10, 20, 30, 40} {
			l.add(end, nil)
		}
		for _, row := range []struct {
			acked, left     uint64
			unsent, inDoubt int
		}{
			{0, 0, 4, 0},
			{0, 9, 4, 0},
			{0, 10, 3, 1},
			{9, 10, 3, 1},
			{10, 10, 3, 0},
			{10, 25, 2, 1},
			{19, 39, 1, 2},
			{19, 40, 0, 3},
			{40, 40, 0, 0},
			{50, 50, 0, 0},
		} {
			unsent, inDoubt := l.count(row.acked, row.left)
			assert.Equal(t, row.unsent, unsent, "%+v", row)
			assert.Equal(t, row.inDoubt, inDoubt, "%+v", row)
		}
	})
	t.Run("nobody is asked for the first 32 messages, and then now and then", func(t *testing.T) {
		var l ledger
		asked := 0
		for i := range uint64(ledgerLook) {
			l.add(i, nil)
		}
		for i := range uint64(3200) {
			l.add(ledgerLook+i, func() uint64 { asked++; return ledgerLook + i - 1 })
		}
		assert.LessOrEqual(t, asked, 100)
		assert.LessOrEqual(t, cap(l.entries), 2*ledgerLook)
	})
	t.Run("it has a limit, and what it can no longer tell is in doubt and not surely unsent", func(t *testing.T) {
		var l ledger
		const n = 1_000_000
		for i := range uint64(n) {
			l.add(i+1, func() uint64 { return 0 })
			require.LessOrEqual(t, len(l.entries), maxLedger)
		}
		for _, left := range []uint64{0, 1, 1000, n / 2, n - 1, n} {
			unsent, inDoubt := l.count(0, left)
			assert.Equal(t, n, unsent+inDoubt)
			assert.LessOrEqual(t, unsent, n-int(left), "those that have left")
			assert.GreaterOrEqual(t, unsent, n-int(left)-n/1000)
		}
		unsent, inDoubt := l.count(n, n)
		assert.Zero(t, unsent+inDoubt)
		l.trim(n)
		assert.Empty(t, l.entries)
	})
	t.Run("it counts as a list of all messages does, whatever is acknowledged meanwhile", func(t *testing.T) {
		chance := rand.New(rand.NewPCG(3, 4))
		var l ledger
		var all []uint64
		end, acked := uint64(0), uint64(0)
		for range 20_000 {
			end += 1 + chance.Uint64N(100)
			all = append(all, end)
			l.add(end, func() uint64 { return acked })
			if chance.IntN(50) == 0 {
				acked += chance.Uint64N(end - acked + 1)
				left := acked + chance.Uint64N(end-acked+1)
				wantUnsent, wantInDoubt := 0, 0
				for _, e := range all {
					if e > left {
						wantUnsent++
					} else if e > acked {
						wantInDoubt++
					}
				}
				unsent, inDoubt := l.count(acked, left)
				require.Equal(t, wantUnsent, unsent)
				require.Equal(t, wantInDoubt, inDoubt)
			}
		}
	})
}
