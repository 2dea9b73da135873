package websocket

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// requireSet compares a set with the ids that are in it, in order, and looks at its pages.
func requireSet(t *testing.T, s *idSet, ids []uint64) {
	t.Helper()
	require.Equal(t, len(ids) == 0, s.isEmpty())
	require.True(t, slices.Equal(ids, s.all()), "all %d, in order", len(ids))
	room := 0
	for i, page := range s.pages {
		require.NotEmpty(t, page)
		require.LessOrEqual(t, len(page), idPage)
		require.LessOrEqual(t, cap(page), max(4*len(page), 2*idPage))
		room += cap(page)
		if i > 0 && len(page)+len(s.pages[i-1]) < idPage/4 {
			require.Fail(t, "two pages where one would do")
		}
	}
	require.LessOrEqual(t, room, 16*len(ids)+2*idPage, "memory for what is not there")
}

func TestIDSet(t *testing.T) {
	sizes := []int{0, 1, 2, idPage/2 - 1, idPage / 2, idPage - 1, idPage, idPage + 1, 2*idPage + 1, 9 * idPage}
	sorted := func(n int) (ids []uint64) {
		for i := range n {
			ids = append(ids, uint64(3*i+1))
		}
		return ids
	}
	for name, reorder := range map[string]func(ids []uint64){
		"in order":              func([]uint64) {},
		"in the opposite order": func(ids []uint64) { slices.Reverse(ids) },
		"in no order": func(ids []uint64) {
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		},
		"from the middle outwards": func(ids []uint64) { slices.Reverse(ids[:len(ids)/2]) },
	} {
		t.Run("ids that come and go "+name+" are in it, in order, and then not any more", func(t *testing.T) {
			for _, n := range sizes {
				var s idSet
				ids := sorted(n)
				reorder(ids)
				for _, id := range ids {
					require.False(t, s.has(id))
					s.add(id)
					require.True(t, s.has(id))
				}
				requireSet(t, &s, sorted(n))
				for _, id := range ids {
					require.False(t, s.remove(id+1))
					require.True(t, s.remove(id))
					require.False(t, s.remove(id))
				}
				requireSet(t, &s, nil)
				require.Empty(t, s.pages)
			}
		})
	}
	t.Run("it is what a map is, whatever comes and goes", func(t *testing.T) {
		random := rand.New(rand.NewPCG(3, 4))
		for _, span := range []int{10, idPage, 8 * idPage} {
			var s idSet
			model := make(map[uint64]bool)
			for step := range 16 * span {
				id := uint64(random.IntN(span))
				grows := step/(4*span)%2 == 0 == (random.IntN(4) > 0) // it grows, shrinks, grows and shrinks
				if !grows {
					require.Equal(t, model[id], s.remove(id))
					delete(model, id)
				} else if !model[id] {
					s.add(id)
					model[id] = true
				}
				if step%(span/4+1) == 0 {
					var ids []uint64
					for id := range model {
						ids = append(ids, id)
					}
					slices.Sort(ids)
					requireSet(t, &s, ids)
				}
			}
		}
	})
	t.Run("a copy stays what it was", func(t *testing.T) {
		var s idSet
		for id := range uint64(10) {
			s.add(id)
		}
		all := s.all()
		s.remove(4)
		assert.Equal(t, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, all)
	})
	t.Run("what comes in order fills pages, and what is left of many is kept in few", func(t *testing.T) {
		var s idSet
		for id := range uint64(100 * idPage) {
			s.add(id)
		}
		require.Len(t, s.pages, 100)
		for id := range uint64(100 * idPage) {
			if id%idPage != 0 {
				s.remove(id)
			}
		}
		require.LessOrEqual(t, len(s.pages), 2)
		requireSet(t, &s, s.all())
	})
}
