//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBars(t *testing.T) {
	for _, row := range []struct {
		took time.Duration
		bar  int
	}{
		{0, 0}, {50 * time.Microsecond, 0}, {50*time.Microsecond + 1, 1}, {time.Millisecond, 4}, {time.Millisecond + 1, 5},
		{10 * time.Second, len(bounds) - 1}, {10*time.Second + 1, len(bounds)}, {time.Hour, len(bounds)},
	} {
		t.Run(fmt.Sprintf("%v is in bar %d", row.took, row.bar), func(t *testing.T) {
			var b bars
			b.add(int64(row.took), 3)
			h := newHistogram()
			b.addTo(&h)
			want := make([]uint64, len(bounds)+1)
			want[row.bar] = 3
			assert.Equal(t, Histogram{Bounds: bounds[:], Counts: want, Count: 3, Sum: 3 * row.took}, h)
		})
	}
}

func TestRoundIsCounted(t *testing.T) {
	const lag, asleep = int64(2e9), int64(20e9)
	for _, row := range []struct {
		name   string
		served bool
		rests  bool
		bar    time.Duration // the bound below; 0: none
	}{
		{"until the next one if there was something to do at once", true, false, 10 * time.Second},
		{"until there was nothing to do", true, true, time.Second},
		{"unless nothing was served", false, true, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			l.rounds.served = row.served
			if row.rests {
				l.rest(l.now + lag)
			}
			l.beginRound(l.now + lag + asleep)
			h := newHistogram()
			l.tally.lag.addTo(&h)
			if row.bar == 0 {
				require.Zero(t, h.Count)
				return
			}
			require.EqualValues(t, 1, h.Count)
			for i, n := range h.Counts {
				if n > 0 {
					assert.Equal(t, row.bar, h.Bounds[i-1])
				}
			}
		})
	}
	t.Run("by a loop without rest from time to time", func(t *testing.T) {
		l, _ := serveLoop(t, nil)
		l.beginRound(1)
		l.bring()
		l.got.traffic = traffic{messages: [kinds]uint64{1}}
		l.beginRound(bringEvery + 1)
		require.Zero(t, l.tally.received.messages[kindText].Load())
		l.beginRound(bringEvery + 2)
		require.EqualValues(t, 1, l.tally.received.messages[kindText].Load())
	})
	t.Run("when the poller has nothing", func(t *testing.T) {
		l, _ := serveLoop(t, nil)
		l.got.traffic = traffic{messages: [kinds]uint64{1}}
		_, err := l.poll.wait(0)
		require.NoError(t, err)
		require.Zero(t, l.tally.received.messages[kindText].Load(), "it does not wait")
		_, err = l.poll.wait(now() + int64(time.Millisecond))
		require.NoError(t, err)
		require.EqualValues(t, 1, l.tally.received.messages[kindText].Load())
	})
}

func TestWarnings(t *testing.T) {
	told := make(chan int64, 8)
	log := slog.New(logFunc(func(_ string, attrs map[string]slog.Value) { told <- attrs["times"].Int64() }))
	e := &engine{reports: newReports(log)}
	for range 5 {
		e.warn(&e.slow, "text")
	}
	assert.EqualValues(t, 1, rawGet(t, told), "the first one at once")
	e.slow.told.Add(-int64(warnEvery))
	for range 5 {
		e.warn(&e.slow, "text")
	}
	assert.EqualValues(t, 5, rawGet(t, told), "those since then with the next one")
	e.warn(&e.full, "text")
	assert.EqualValues(t, 1, rawGet(t, told), "one of another kind has a time of its own")
	e.reports.end()
	assert.Empty(t, told)
}

func TestAcceptPausesAreCounted(t *testing.T) {
	l, _ := serveLoop(t, nil)
	a := &acceptor{fd: -1}
	for range 3 {
		a.rest(l, errNoDescriptors)
	}
	assert.EqualValues(t, 3, l.tally.pauses.Load())
	l.reports.end()
}

func TestReasonsAreFew(t *testing.T) {
	for _, row := range []struct {
		err       error
		byProgram bool
		want      string
	}{
		{errors.New("whatever a client can bring about"), false, "bad request"},
		{fmt.Errorf("%w: malformed request line", ErrBadRequest), false, "bad request"},
		{fmt.Errorf("%w: %w", errNoTakeover, errors.New("of the system")), false, "connection cannot be taken over"},
		{errGoing, false, "server is shutting down"},
		{errGoing, true, "server is shutting down"},
		{errors.New("whatever a program says"), true, "HandleAuth"},
		{ErrInvalidHeaderFormat, true, "HandleAuth"},
		{fmt.Errorf("%w: subprotocol was not offered", errHandlerFailed), true, "handler failed"},
	} {
		assert.Equal(t, row.want, reasonOf(row.err, row.byProgram))
	}
	var y tally
	for code := range CloseCode(5000) {
		y.connectionEnded(CloseCause{Kind: ClosedByPeer, Code: code})
	}
	y.connectionEnded(CloseCause{Kind: ClosedRemoved, Code: 4321})
	assert.EqualValues(t, 1, y.ended.by[endedAs{ClosedRemoved, 4321}], "the program's own are told apart")
	assert.EqualValues(t, 1000, y.ended.by[endedAs{ClosedByPeer, 4000}])
	assert.EqualValues(t, 1000, y.ended.by[endedAs{ClosedByPeer, 3000}])
}

// TestReasonsAreDriven has each reason among the rows of the suite that brings them about.
func TestReasonsAreDriven(t *testing.T) {
	rows, err := os.ReadFile("tests/server/stats_test.go")
	if err != nil {
		t.Skip(err) // the package without its suites
	}
	own, named := reasons()
	for _, reason := range append(own, named...) {
		assert.Contains(t, string(rows), fmt.Sprintf("reason: %q}", reason))
	}
	for _, reason := range []string{reasonAuth, reasonOther} {
		assert.Contains(t, string(rows), fmt.Sprintf("reason: %q}", reason))
	}
}

// TestEveryFigureIsAMetric fills in all of Stats, each figure with a value of its own.
func TestEveryFigureIsAMetric(t *testing.T) {
	stats := Stats{
		Refused:     []Refused{{Status: 503, Reason: "because", Count: 1}},
		Ended:       []Ended{{Kind: ClosedSlow, Code: 1001, Count: 2}},
		HandlerTime: newHistogram(), AuthTime: newHistogram(), LoopLag: newHistogram(),
	}
	n, names := int64(100), make(map[float64]string)
	var fill func(of reflect.Value, name string)
	fill = func(of reflect.Value, name string) {
		n++
		switch of.Kind() {
		case reflect.Struct:
			for i := range of.NumField() {
				fill(of.Field(i), name+"."+of.Type().Field(i).Name)
			}
		case reflect.Slice: // is filled in
		case reflect.Uint64:
			of.SetUint(uint64(n))
			names[float64(n)] = name
		default:
			of.SetInt(n)
			names[float64(n)] = name
		}
	}
	fill(reflect.ValueOf(&stats).Elem(), "")
	require.Greater(t, len(names), 30)
	for m := range stats.All() {
		if h := m.Histogram; h != nil {
			delete(names, float64(h.Count))
			delete(names, float64(h.Sum))
			continue
		}
		delete(names, m.Value)
	}
	assert.Empty(t, names, "they are no metric")
}

// TestReportsAfterTheEnd has somebody speak whom the end does not wait for.
func TestReportsAfterTheEnd(t *testing.T) {
	told := make(chan string, 8)
	r := newReports(slog.New(logFunc(func(text string, _ map[string]slog.Value) { told <- text })))
	r.add(report{slog.LevelError, "before", nil})
	r.end()
	r.add(report{slog.LevelError, "after", nil})
	require.Equal(t, "before", rawGet(t, told))
	require.Empty(t, told)
	require.False(t, r.telling)
}

// TestTallyKeepsItsDistance has what different goroutines write on different lines of the processor's cache.
func TestTallyKeepsItsDistance(t *testing.T) {
	var y tally
	const line = 64
	end := uintptr(0)
	for _, group := range [][2]uintptr{
		{unsafe.Offsetof(y.received), unsafe.Offsetof(y.auth) + unsafe.Sizeof(y.auth)},
		{unsafe.Offsetof(y.sent), unsafe.Offsetof(y.overfull) + unsafe.Sizeof(y.overfull)},
		{unsafe.Offsetof(y.phases), unsafe.Offsetof(y.ended) + unsafe.Sizeof(y.ended)},
		{unsafe.Sizeof(y), 0},
	} {
		assert.GreaterOrEqual(t, group[0], end+line)
		end = group[1]
	}
}

// BenchmarkTally is all that counting adds to an echo: what came, what is sent, and the round in which that was done.
func BenchmarkTally(b *testing.B) {
	l, lease := serveLoop(b, nil)
	c, _ := serveConn(b, l)
	ev := event{kind: eventMessage, head: finished(OpcodeBin, 128)}
	out := outgoing{head: appendHeader(nil, finished(OpcodeBin, 128)), body: make([]byte, 128)}
	b.Run("of an echo", func(b *testing.B) {
		for b.Loop() {
			l.got.traffic.addEvent(&ev)
			c.countLocked(&out)
		}
	})
	b.Run("of a packet", func(b *testing.B) {
		packet := asItIs(NewFrameBin(false, make([]byte, 128)))
		for b.Loop() {
			c.countLocked(&packet)
		}
	})
	b.Run("of a round", func(b *testing.B) {
		for b.Loop() {
			l.rounds.served = true
			l.beginRound(l.now + 5000)
		}
	})
	b.Run("of a rest", func(b *testing.B) {
		for b.Loop() {
			l.got.traffic.addEvent(&ev)
			l.rounds.served = true
			l.rest(l.now + 5000)
		}
	})
	b.Run("of a job", func(b *testing.B) {
		j := job{}
		b.Run("timed", func(b *testing.B) {
			for b.Loop() {
				lease.step++
				c.runTimed(lease, &j)
			}
		})
		b.Run("not timed", func(b *testing.B) {
			for b.Loop() {
				c.run(&j)
			}
		})
	})
}
