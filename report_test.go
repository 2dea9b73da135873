package websocket

import (
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReports(t *testing.T) {
	t.Run("the log is told in order, and all before the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var got []int64
			r := newReports(slog.New(logFunc(func(_ string, attrs map[string]slog.Value) {
				time.Sleep(time.Millisecond)
				got = append(got, attrs["n"].Int64())
			})))
			for n := range 100 {
				r.add(report{slog.LevelInfo, "text", []any{"n", n}})
			}
			r.end()
			require.Len(t, got, 100)
			assert.IsIncreasing(t, got)
		})
	})
	t.Run("a log that blocks keeps a bounded number of records, and is told how many were lost", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			told, lost := 0, int64(0)
			r := newReports(slog.New(logFunc(func(_ string, attrs map[string]slog.Value) {
				<-release
				told++
				if n, ok := attrs["records lost before"]; ok {
					lost += n.Int64()
				}
			})))
			for range 3 * maxReports {
				r.add(report{level: slog.LevelInfo, text: "text"})
			}
			start := time.Now()
			r.end()
			assert.Equal(t, lastReports, time.Since(start), "the end does not wait for ever")
			close(release)
			<-r.told
			assert.InDelta(t, maxReports+1, told, 1) // and one that says so
			assert.EqualValues(t, 3*maxReports-told+1, lost)
		})
	})
	t.Run("a log that ends its goroutine loses no other record", func(t *testing.T) {
		told := make(chan int64, 3)
		r := newReports(slog.New(logFunc(func(_ string, attrs map[string]slog.Value) {
			told <- attrs["n"].Int64()
			runtime.Goexit()
		})))
		for n := range 3 {
			r.add(report{slog.LevelInfo, "text", []any{"n", n}})
		}
		r.end()
		<-r.told
		close(told)
		for n := range int64(3) {
			assert.Equal(t, n, <-told)
		}
	})
	t.Run("nothing runs where nothing was reported", func(t *testing.T) {
		r := newReports(slog.New(slog.DiscardHandler))
		r.add(report{level: slog.LevelError, text: "text"})
		assert.False(t, r.telling)
		r.end()
	})
}
