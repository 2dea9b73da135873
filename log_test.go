package websocket

import (
	"context"
	"log/slog"
)

// logFunc is a program's log, which is told of everything. It is given the text of a record and its attributes.
type logFunc func(text string, attrs map[string]slog.Value)

func (f logFunc) Enabled(context.Context, slog.Level) bool { return true }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f logFunc) WithGroup(string) slog.Handler            { return f }

func (f logFunc) Handle(_ context.Context, r slog.Record) error {
	attrs := make(map[string]slog.Value)
	r.Attrs(func(attr slog.Attr) bool {
		attrs[attr.Key] = attr.Value
		return true
	})
	f(r.Message, attrs)
	return nil
}
