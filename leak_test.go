package websocket

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// leakDeadline is how long a test's goroutines and descriptors have to go, and leakPoll how often that is looked at.
const (
	leakDeadline = 15 * time.Second
	leakPoll     = 2 * time.Millisecond
)

// checkGoroutines fails the test where, after it and its other cleanups, goroutines with this package on their stack are left
// that were not there before. It is called first, by a test that does not run in parallel with others.
func checkGoroutines(t *testing.T) {
	t.Helper()
	before := packageGoroutines()
	t.Cleanup(func() {
		var left []string
		gone := eventually(func() bool {
			left = left[:0]
			for id, stack := range packageGoroutines() {
				if _, ok := before[id]; !ok {
					left = append(left, stack)
				}
			}
			return len(left) == 0
		})
		if !gone {
			t.Errorf("%d goroutines are left:\n\n%s", len(left), strings.Join(left, "\n\n"))
		}
	})
}

// checkDescriptors fails the test where, after it and its other cleanups, more descriptors are open than before. It is called
// first, by a test that does not run in parallel with others. It checks nothing where /proc/self/fd does not exist.
func checkDescriptors(t *testing.T) {
	t.Helper()
	if r, w, err := os.Pipe(); err == nil { // the runtime opens its poller with the first
		r.Close()
		w.Close()
	}
	before := openDescriptors()
	t.Cleanup(func() {
		var left []string
		if !eventually(func() bool { left = openDescriptors(); return len(left) <= len(before) }) {
			t.Errorf("%d descriptors are open, %d were before:\n%s\nbefore:\n%s", len(left), len(before),
				strings.Join(left, "\n"), strings.Join(before, "\n"))
		}
	})
}

// raced says that the race detector is at work.
var raced = sync.OnceValue(func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
})

// eventually reports whether the condition came true before the deadline.
func eventually(condition func() bool) bool {
	deadline := time.Now().Add(leakDeadline)
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(leakPoll)
	}
	return true
}

// packageGoroutines returns the stacks of the goroutines that run this package, or were started by it, those of tests left
// out, by the first two words of their heading: "goroutine 7".
func packageGoroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	found := make(map[string]string)
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		heading, _, _ := strings.Cut(stack, " [")
		if strings.Contains(stack, "github.com/wsloop/websocket") && !strings.Contains(stack, "testing.tRunner(") {
			found[heading] = stack
		}
	}
	return found
}

// openDescriptors returns what is open, as "number -> name".
func openDescriptors() []string {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var open []string
	for _, entry := range entries {
		name, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // the one that ReadDir itself had open
		}
		open = append(open, entry.Name()+" -> "+name)
	}
	slices.Sort(open)
	return open
}
