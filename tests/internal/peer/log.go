package peer

import (
	"context"
	"log/slog"
)

// LogFunc is a program's log, which is told of everything. It is given the text of a record and its attributes.
type LogFunc func(text string, attrs map[string]slog.Value)

func (f LogFunc) Enabled(context.Context, slog.Level) bool { return true }

func (f LogFunc) WithAttrs([]slog.Attr) slog.Handler { return f }

func (f LogFunc) WithGroup(string) slog.Handler { return f }

func (f LogFunc) Handle(_ context.Context, r slog.Record) error {
	attrs := make(map[string]slog.Value)
	r.Attrs(func(attr slog.Attr) bool {
		attrs[attr.Key] = attr.Value
		return true
	})
	f(r.Message, attrs)
	return nil
}
