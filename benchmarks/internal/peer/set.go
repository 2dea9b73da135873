package peer

import "sync"

// Set holds the open connections of a server that has no such set of its own, while Broadcast is asked for.
type Set[C comparable] struct {
	mu sync.RWMutex
	m  map[C]struct{}
}

// Add adds a connection.
func (s *Set[C]) Add(c C) {
	if !*Broadcast {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[C]struct{})
	}
	s.m[c] = struct{}{}
}

// Remove removes a connection.
func (s *Set[C]) Remove(c C) {
	if !*Broadcast {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, c)
}

// Each calls f for each connection.
func (s *Set[C]) Each(f func(C)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for c := range s.m {
		f(c)
	}
}
