package websocket

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMain fails the run where goroutines of this package outlive all tests.
func TestMain(m *testing.M) {
	code := m.Run()
	var left []string
	gone := eventually(func() bool {
		left = left[:0]
		for _, stack := range packageGoroutines() {
			if !strings.Contains(stack, "TestMain(") {
				left = append(left, stack)
			}
		}
		return len(left) == 0
	})
	if code == 0 && !gone {
		fmt.Fprintf(os.Stderr, "%d goroutines are left:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}
