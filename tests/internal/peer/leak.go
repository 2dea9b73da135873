package peer

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// LeakWait is how long a test's goroutines and descriptors have to go, and LeakPoll how often it is looked at.
const (
	LeakWait = 15 * time.Second
	LeakPoll = 2 * time.Millisecond
)

// CheckGoroutines fails the test if, after it and its other cleanups, goroutines with this module on their stack are left that
// were not there before. It is called first, by a test that does not run in parallel with others.
func CheckGoroutines(t *testing.T) {
	t.Helper()
	before := Goroutines()
	t.Cleanup(func() {
		var left []string
		gone := Eventually(func() bool {
			left = left[:0]
			for id, stack := range Goroutines() {
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

// CheckDescriptors fails the test if, after it and its other cleanups, more descriptors are open than before. It is called
// first, by a test that does not run in parallel with others. It checks nothing if there is no /proc/self/fd.
func CheckDescriptors(t *testing.T) {
	t.Helper()
	if r, w, err := os.Pipe(); err == nil { // the runtime opens its poller with the first
		r.Close()
		w.Close()
	}
	before := OpenDescriptors()
	t.Cleanup(func() {
		var left []string
		if !Eventually(func() bool { left = OpenDescriptors(); return len(left) <= len(before) }) {
			t.Errorf("%d descriptors are open, %d were before:\n%s\nbefore:\n%s", len(left), len(before),
				strings.Join(left, "\n"), strings.Join(before, "\n"))
		}
	})
}

// Eventually reports whether the condition came true before the deadline.
func Eventually(condition func() bool) bool {
	deadline := time.Now().Add(LeakWait)
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(LeakPoll)
	}
	return true
}

// Goroutines returns the stacks of the goroutines that run this module, or were started by it, those of tests left
// out, by the first two words of their heading: "goroutine 7".
func Goroutines() map[string]string {
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

// OpenDescriptors returns what is open, as "number -> name".
func OpenDescriptors() []string {
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
