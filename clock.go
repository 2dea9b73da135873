package websocket

import (
	"math"
	"time"
)

// The engine keeps time in nanoseconds since the process started, on the monotonic clock: a moment is an int64.

var clockStart = time.Now()

// never is the moment of a deadline that is not set.
const never = math.MaxInt64

// maxTimeout is the longest time that can be added to any moment: 73 years.
const maxTimeout = 1 << 61

// now returns the present moment.
func now() int64 { return int64(time.Since(clockStart)) }

// momentTime returns the time of a moment.
func momentTime(moment int64) time.Time { return clockStart.Add(time.Duration(moment)) }
