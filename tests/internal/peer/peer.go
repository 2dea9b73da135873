// Package peer is the other side of a connection, written by hand: what the suites share that test the package from outside.
//
//	Server, Conn      a server of the package, and a client's end of a connection to it, byte by byte
//	Listener, Script  a server's end, byte by byte, for tests of a Client
//	Check…, Main      nothing may be left behind: goroutines, descriptors
//	Get, Done, All    waiting, with a deadline
//
// What can fail the test is for the test's goroutine. What returns an error instead may be called from any.
package peer

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Main runs the tests of a suite, and fails the run if goroutines of this module outlive all of them. TestMain calls it.
func Main(m *testing.M) {
	code := m.Run()
	var left []string
	gone := Eventually(func() bool {
		left = left[:0]
		for _, stack := range Goroutines() {
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
