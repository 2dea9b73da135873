package websocket

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxReports is how many records may wait for the program's log. More are counted, not kept.
	maxReports = 1 << 14

	// lastReports is how long Stop waits for the log to take what is left.
	lastReports = time.Second

	// warnEvery is how often the log is told of the same kind of trouble.
	warnEvery = 10 * time.Second
)

// reports brings records to the program's log one after the other, on a goroutine that lives as long as there are any: the
// log may block, or use the connection whose lock is held by whoever reports.
type reports struct {
	// Immutable.
	log  *slog.Logger
	told chan struct{} // closed after end, when the log has taken the last record

	// Guarded by mu.
	mu      sync.Mutex
	waiting []report
	lost    int
	telling bool
	ended   bool
}

type report struct {
	level slog.Level
	text  string
	args  []any
}

func newReports(log *slog.Logger) *reports { return &reports{log: log, told: make(chan struct{})} }

// enabled reports whether the log wants records of a level.
func (r *reports) enabled(level slog.Level) bool { return r.log.Enabled(context.Background(), level) }

// add adds a record. What a goroutine of net/http has to say once the server has stopped is lost.
func (r *reports) add(next report) {
	if !r.enabled(next.level) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if len(r.waiting) >= maxReports {
		r.lost++
		return
	}
	if r.lost > 0 {
		next.args, r.lost = append(next.args, "records lost before", r.lost), 0
	}
	r.waiting = append(r.waiting, next)
	if !r.telling {
		r.telling = true
		go r.tell()
	}
}

// tell brings the records that wait to the log. A log that ends the goroutine loses one record.
func (r *reports) tell() {
	returned := false
	defer func() {
		if !returned {
			go r.tell()
		}
	}()
	for next, ok := r.next(); ok; next, ok = r.next() {
		r.log.Log(context.Background(), next.level, next.text, next.args...)
	}
	returned = true
}

// next returns the next record. If there is none, tell has to end.
func (r *reports) next() (next report, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.waiting) > 0:
		next, r.waiting = r.waiting[0], r.waiting[1:]
		return next, true
	case r.lost > 0:
		next, r.lost = report{slog.LevelWarn, "websocket: records lost", []any{"records lost before", r.lost}}, 0
		return next, true
	}
	r.waiting, r.telling = nil, false
	if r.ended {
		close(r.told)
	}
	return report{}, false
}

// end waits until the log has taken all records, for up to lastReports. None is taken after it.
func (r *reports) end() {
	r.mu.Lock()
	r.ended = true
	if !r.telling {
		close(r.told)
	}
	r.mu.Unlock()
	select {
	case <-r.told:
	case <-time.After(lastReports):
	}
}

// reportLocked brings a record about a connection to the program's log. If the log does not want it, nothing is asked of the system.
func (c *conn) reportLocked(level slog.Level, text string, args ...any) {
	if c.loop.reports.enabled(level) {
		c.loop.report(level, text, append(c.attrsLocked(), args...)...)
	}
}

// reportEndLocked brings a record about the end of a connection, or of its handshake, to the program's log: for how long it was open,
// or its handshake has gone on, and how much TCP has carried both ways, as far as the system counts that.
func (c *conn) reportEndLocked(text string, args ...any) {
	if !c.loop.reports.enabled(slog.LevelDebug) {
		return
	}
	args = append(append(c.attrsLocked(), args...), "duration", time.Duration(now()-c.opened))
	if received, sent, ok := carriedBytes(c.fd()); ok {
		args = append(args, "received", received, "sent", sent)
	}
	c.loop.report(slog.LevelDebug, text, args...)
}

// attrs tells which connection a record is about.
func (c *conn) attrs() []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attrsLocked()
}

// attrsLocked tells which connection a record is about: its number, the address of its peer as far as that is known, and its user.
func (c *conn) attrsLocked() []any {
	attrs := addressAttrs(c.fd(), c.remoteLocked())
	if c.uid != 0 {
		attrs = append(attrs, "user", c.uid)
	}
	return attrs
}

// addressAttrs tells a descriptor and the address of its peer, which may be nil.
func addressAttrs(fd int, address net.Addr) []any {
	attrs := []any{"conn", fd}
	if address != nil {
		attrs = append(attrs, "address", address.String())
	}
	return attrs
}

// warning is something that an operator has to see. The log is told at once, and then not more often than warnEvery, with how often it
// happened since.
type warning struct {
	told  atomic.Int64 // when; 0: never
	since atomic.Int64 // how often since then
}

// warn takes note of a warning.
func (e *engine) warn(w *warning, text string, args ...any) {
	w.since.Add(1)
	at, told := now(), w.told.Load()
	if told != 0 && at < told+int64(warnEvery) || !w.told.CompareAndSwap(told, at) {
		return
	}
	e.report(slog.LevelWarn, text, append(args, "times", w.since.Swap(0))...)
}

// tooMany is told of a client that was turned away since MaxConnections are there.
func (e *engine) tooMany() {
	e.warn(&e.full, "websocket: too many connections", "most", e.opts.MaxConnections)
}
