// Package peer is the other side of a connection, written by hand: what the suites share that test the package from outside.
//
//	Server, Conn      a server of the package, and a client's end of a connection to it, byte by byte
//	Listener, Script  a server's end, byte by byte, for tests of a Client
//	Secure, Trust     TLS under a Conn, and certificates
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

// Main runs the tests of a suite, and fails the run if goroutines of this module or descriptors outlive all of them. TestMain
// calls it.
func Main(m *testing.M) {
	if r, w, err := os.Pipe(); err == nil { // the runtime opens its poller with the first
		r.Close()
		w.Close()
	}
	before := OpenDescriptors()
	code := m.Run()
	if code == 0 && !(goroutinesGo() && descriptorsGo(before)) {
		code = 1
	}
	os.Exit(code)
}

// goroutinesGo waits for the goroutines of this module to end. It returns false if some are left, and tells which.
func goroutinesGo() bool {
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
	if !gone {
		fmt.Fprintf(os.Stderr, "%d goroutines are left:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
	}
	return gone
}

// descriptorsGo waits until no more descriptors are open than before. It returns false if more are left, and tells which.
func descriptorsGo(before []string) bool {
	var left []string
	gone := Eventually(func() bool { left = OpenDescriptors(); return len(left) <= len(before) })
	if !gone {
		fmt.Fprintf(os.Stderr, "%d descriptors are open, %d were before:\n%s\nbefore:\n%s\n", len(left), len(before),
			strings.Join(left, "\n"), strings.Join(before, "\n"))
	}
	return gone
}
