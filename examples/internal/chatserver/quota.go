package chatserver

import "time"

// pace is how often a user may do something: burst times at once, and once each every in the long run.
type pace struct {
	burst int
	every time.Duration
}

var (
	talking    = pace{20, 250 * time.Millisecond} // messages
	signalling = pace{30, time.Second}            // typing, presence, rooms
)

// quota limits how much one user can make everybody else read, on all devices together.
type quota struct {
	used  time.Duration // the pace's every for each time, less what has passed since
	since time.Time
}

// take returns 0 if the user may do it now, and counts it; else for how long the user has to wait.
func (q *quota) take(p pace, now time.Time) (wait time.Duration) {
	q.used = max(0, q.used-now.Sub(q.since))
	q.since = now
	if wait = q.used - time.Duration(p.burst-1)*p.every; wait > 0 {
		return wait
	}
	q.used += p.every
	return 0
}

// left returns how many times the user could do it now.
func (q *quota) left(p pace) int {
	return max(0, int((time.Duration(p.burst)*p.every-q.used)/p.every))
}
