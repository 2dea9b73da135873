package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
)

// The attributes of the records in the server's log.
const (
	attrPanic = "panic"
	attrCause = "cause" // why a connection ended
	attrConn  = "conn"
)

// droppedBecause are the causes for which the server drops a client on its own account.
var droppedBecause = map[string]bool{"silent after a ping": true, "takes no data": true, "close frame not answered": true}

// logReader is a log handler that counts the panics that were asked for, says which clients that behave were dropped, and
// passes on what is not for debugging. It calls no function of the server, which may hold a lock when it logs.
type logReader struct {
	slog.Handler
	panics *atomic.Int64
	known  sync.Map // identities by descriptor, as int64; one that is used again is overwritten
}

func (h *logReader) Enabled(context.Context, slog.Level) bool { return true }

func (h *logReader) Handle(ctx context.Context, record slog.Record) error {
	attrs := make(map[string]slog.Value)
	record.Attrs(func(attr slog.Attr) bool {
		attrs[attr.Key] = attr.Value
		return true
	})
	switch cause := attrs[attrCause].String(); {
	case attrs[attrPanic].String() == onCommand:
		h.panics.Add(1)
	case droppedBecause[cause]:
		id, _ := h.known.Load(attrs[attrConn].Int64())
		if id, ok := id.(identity); ok && id.checked {
			fmt.Fprintf(os.Stderr, "server: drops session %d: %s\n", id.session, cause)
		}
	case record.Level > slog.LevelDebug:
		return h.Handler.Handle(ctx, record)
	}
	return nil
}
