package main

import (
	"sync/atomic"
	"time"
)

// heartbeatTick is how often a heartbeat beats.
const heartbeatTick = 50 * time.Millisecond

// For heldUpTime after a process was held up for heldUp, it cannot tell whether it was the server that was late.
const (
	heldUp     = time.Second
	heldUpTime = 20 * time.Second
)

// heartbeat notes for how long a process was held up: by a machine that has too much to do, or by itself. It tells a slow
// server from a slow machine.
type heartbeat struct {
	worst atomic.Int64
	held  atomic.Int64 // when it was last for heldUp or longer, in Unix nanoseconds
}

// run beats until the channel is closed.
func (h *heartbeat) run(until <-chan struct{}) {
	ticker := time.NewTicker(heartbeatTick)
	defer ticker.Stop()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-until:
			return
		case <-ticker.C:
		}
		late := int64(time.Since(last) - heartbeatTick)
		if late >= int64(heldUp) {
			h.held.Store(time.Now().UnixNano())
		}
		for worst := h.worst.Load(); late > worst && !h.worst.CompareAndSwap(worst, late); worst = h.worst.Load() {
		}
	}
}

// wasHeldUp reports whether the process has been held up lately.
func (h *heartbeat) wasHeldUp() bool { return time.Since(time.Unix(0, h.held.Load())) < heldUpTime }

// take returns the longest delay since the last call.
func (h *heartbeat) take() time.Duration {
	return time.Duration(h.worst.Swap(0)).Round(time.Millisecond)
}
