package websocket

import (
	"cmp"
	"slices"
)

// idPage is how many ids a page of an idSet has at most: 4 KiB, which move in less time than it takes to find them.
const idPage = 512

// idSet is a set of connections by their ids, in the order of the ids: that in which the connections were opened. What comes or goes
// moves one page, however large the set is. The zero value is empty.
type idSet struct {
	pages [][]uint64 // in order, none empty
}

// isEmpty reports whether nothing is in the set.
func (s *idSet) isEmpty() bool { return len(s.pages) == 0 }

// all returns a copy of the set, in order.
func (s *idSet) all() []uint64 { return slices.Concat(s.pages...) }

// has reports whether an id is in the set.
func (s *idSet) has(id uint64) bool {
	_, _, found := s.find(id)
	return found
}

// find returns the page that an id belongs into, and its place in it.
func (s *idSet) find(id uint64) (page, at int, found bool) {
	if s.isEmpty() {
		return 0, 0, false
	}
	page, found = slices.BinarySearchFunc(s.pages, id, func(page []uint64, id uint64) int { return cmp.Compare(page[0], id) })
	if found {
		return page, 0, true
	}
	page = max(page-1, 0)
	at, found = slices.BinarySearch(s.pages[page], id)
	return page, at, found
}

// add puts an id that is not there into the set.
func (s *idSet) add(id uint64) {
	if s.isEmpty() {
		s.pages = [][]uint64{{id}}
		return
	}
	page, at, _ := s.find(id)
	ids := s.pages[page]
	switch {
	case len(ids) < idPage:
		s.pages[page] = slices.Insert(ids, at, id)
	case at == idPage: // connections come in order, mostly: so pages are full, mostly
		s.pages = slices.Insert(s.pages, page+1, []uint64{id})
	default:
		s.pages[page] = ids[:idPage/2]
		s.pages = slices.Insert(s.pages, page+1, slices.Clone(ids[idPage/2:]))
		s.add(id)
	}
}

// remove takes an id out of the set. It returns whether it was there.
func (s *idSet) remove(id uint64) bool {
	page, at, found := s.find(id)
	if !found {
		return false
	}
	ids := slices.Delete(s.pages[page], at, at+1)
	if len(ids) == 0 {
		s.pages = slices.Delete(s.pages, page, page+1)
		return true
	}
	if 4*len(ids) < cap(ids) {
		ids = slices.Clone(ids)
	}
	s.pages[page] = ids
	if len(ids) <= idPage/4 {
		s.join(page)
		s.join(page - 1)
	}
	return true
}

// join makes one page of a page and the next, if both are there and half a page is enough.
func (s *idSet) join(page int) {
	if page < 0 || page+1 >= len(s.pages) {
		return
	}
	ids, next := s.pages[page], s.pages[page+1]
	if len(ids)+len(next) <= idPage/2 {
		s.pages[page] = append(ids, next...)
		s.pages = slices.Delete(s.pages, page+1, page+2)
	}
}
