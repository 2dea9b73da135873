//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLogOfConnections(t *testing.T) {
	t.Run("nothing is asked of the system where the log wants nothing", func(t *testing.T) {
		c := &conn{loop: &loop{engine: &engine{reports: newReports(slog.New(slog.DiscardHandler))}}}
		require.Zero(t, testing.AllocsPerRun(100, func() { c.reportLocked(slog.LevelDebug, "text") }))
	})
}
