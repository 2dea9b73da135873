package peer

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Wait is how long a test waits for something that has to happen.
const Wait = 10 * time.Second

// Get returns what arrives on a channel.
func Get[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(2 * Wait):
		require.FailNow(t, "nothing arrives on the channel")
	}
	return v
}

// Done waits until a channel is closed.
func Done(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(2 * Wait):
		require.FailNow(t, "the channel is not closed")
	}
}

// All runs a function n times side by side and waits for all of them.
func All(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- f(i) }()
	}
	var all []error
	for range n {
		select {
		case err := <-errs:
			all = append(all, err)
		case <-time.After(4 * Wait):
			require.FailNow(t, "a goroutine of the test does not end")
		}
	}
	require.NoError(t, errors.Join(all...))
}

// Pattern makes n bytes of letters. They repeat after a prime number, so that no usual shift or swap leaves them the same.
func Pattern(n, seed int) []byte {
	block := make([]byte, min(n, 65_521))
	for i := range block {
		block[i] = 'a' + byte((i*7+i/251+seed)%26)
	}
	if n == 0 {
		return block
	}
	return bytes.Repeat(block, n/len(block)+1)[:n:n]
}

// Release returns what closes a channel that handlers wait for. The end of the test closes it in any case. Release is called
// after Start, so that this comes before the server stops.
func Release(t *testing.T, release chan struct{}) (now func()) {
	t.Helper()
	now = sync.OnceFunc(func() { close(release) })
	t.Cleanup(now)
	return now
}

// Tries repeats a comparison of times until it holds: a try fails if the machine gave its processors to something else.
// What is wrong fails every time.
func Tries(t *testing.T, n int, try func() (holds bool)) {
	t.Helper()
	for range n {
		if try() {
			return
		}
	}
	t.Errorf("it held in none of %d tries", n)
}
