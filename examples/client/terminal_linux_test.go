package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a terminal: what a user has before them, and what a program has.
func openTerminal(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { user.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { tty.Close() })
	return user, tty
}

// leftToRead makes the terminal as a shell does that edits lines itself, and returns what the shell would find in it.
func leftToRead(t *testing.T, tty *os.File) (text string) {
	t.Helper()
	fd := int(tty.Fd())
	state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	require.NoError(t, err)
	state.Lflag &^= unix.ICANON | unix.ECHO
	state.Cc[unix.VMIN], state.Cc[unix.VTIME] = 0, 0
	require.NoError(t, unix.IoctlSetTermios(fd, unix.TCSETS, state))
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	require.NoError(t, err)
	return string(buf[:n])
}

func TestNothingThatWasTypedIsLeftToTheShell(t *testing.T) {
	for name, end := range map[string]struct {
		how  func(stop, interrupt func())
		code int
	}{
		"when the server goes":        {func(stop, _ func()) { stop() }, 1},
		"when the program is told to": {func(_, interrupt func()) { interrupt() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			url, stop := startServer(t)
			user, tty := openTerminal(t)
			ctx, interrupt := context.WithCancel(t.Context())
			shown := newOutput()
			go io.Copy(shown, user)

			exited := make(chan int, 1)
			go func() { exited <- run(ctx, []string{"-url", url, "-user", "alice"}, tty, tty, io.Discard) }()
			shown.wait(t, "You are here as alice")
			_, err := io.WriteString(user, "rm -rf half a li")
			require.NoError(t, err)
			shown.wait(t, "half a li")
			end.how(stop, interrupt)
			select {
			case code := <-exited:
				assert.Equal(t, end.code, code)
			case <-time.After(patience):
				require.Fail(t, "the program does not end")
			}
			assert.Empty(t, leftToRead(t, tty))
		})
	}
}
