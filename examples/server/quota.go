package main

import "time"

// A user may send messagesAtOnce messages in a burst and one each messageEvery in the long run.
const (
	messagesAtOnce = 20
	messageEvery   = 250 * time.Millisecond
)

// quota limits how much one user can make everybody else read, on all devices together.
type quota struct {
	used  time.Duration // messageEvery for each message, less what has passed since
	since time.Time
}

// take reports whether the user may send a message now, and counts it.
func (q *quota) take(now time.Time) bool {
	q.used = max(0, q.used-now.Sub(q.since))
	q.since = now
	if q.used > (messagesAtOnce-1)*messageEvery {
		return false
	}
	q.used += messageEvery
	return true
}

// mayTalkLocked reports whether the user may send a message now, and counts it.
func (s *server) mayTalkLocked(u *user) bool {
	q := s.quotas[u.id]
	if q == nil {
		q = new(quota)
		s.quotas[u.id] = q
	}
	return q.take(time.Now())
}
