package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
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

// onTerminal is the program on a terminal.
type onTerminal struct {
	t         *testing.T
	user, tty *os.File
	shown     *output // all that the terminal was sent, and what it shows of what is typed
	exited    chan int
	interrupt func()
}

// startOnTerminal runs the program as alice.
func startOnTerminal(t *testing.T, url, kind string) *onTerminal {
	t.Helper()
	t.Setenv("TERM", kind)
	user, tty := openTerminal(t)
	ctx, interrupt := context.WithCancel(t.Context())
	p := &onTerminal{t: t, user: user, tty: tty, shown: newOutput(), exited: make(chan int, 1), interrupt: interrupt}
	go io.Copy(p.shown, user)
	go func() { p.exited <- run(ctx, []string{"-url", url, "-user", "alice"}, tty, tty, io.Discard) }()
	return p
}

func (p *onTerminal) press(keys string) {
	p.t.Helper()
	_, err := io.WriteString(p.user, keys)
	require.NoError(p.t, err)
}

// exit waits for the program's end.
func (p *onTerminal) exit() (code int) {
	p.t.Helper()
	select {
	case code = <-p.exited:
	case <-time.After(patience):
		require.Fail(p.t, "the program does not end")
	}
	return code
}

// settings returns what a terminal does with what is typed.
func settings(t *testing.T, tty *os.File) *unix.Termios {
	t.Helper()
	c, err := tty.SyscallConn()
	require.NoError(t, err)
	var state *unix.Termios
	require.NoError(t, c.Control(func(fd uintptr) { state, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) }))
	require.NoError(t, err)
	return state
}

func TestNothingThatWasTypedIsLeftToTheShell(t *testing.T) {
	for name, end := range map[string]struct {
		how  func(leave chan<- struct{}, interrupt func())
		code int
	}{
		"when the server wants no more of the user": {func(leave chan<- struct{}, _ func()) { close(leave) }, 1},
		"when the program is told to":               {func(_ chan<- struct{}, interrupt func()) { interrupt() }, 0},
	} {
		for _, kind := range []string{"xterm", "dumb"} {
			t.Run(kind+": "+name, func(t *testing.T) {
				leave := make(chan struct{})
				url := startFake(t, &websocket.ServerOptions{HandleClientAdd: func(_ context.Context, conn int) {
					websocket.Send(conn, notice(chat.NoticeWelcome, `{"name": "alice"}`))
					select {
					case <-leave:
						websocket.Send(conn, websocket.NewFrameClose(false, websocket.StatusForbidden, nil))
					case <-websocket.Done(conn):
					}
				}})
				p := startOnTerminal(t, url, kind)
				p.shown.wait(t, "You are here as alice")
				p.press("rm -rf half a li")
				p.shown.wait(t, "half a li")
				end.how(leave, p.interrupt)
				assert.Equal(t, end.code, p.exit())
				state := settings(t, p.tty)
				assert.NotZero(t, state.Lflag&unix.ICANON)
				assert.NotZero(t, state.Lflag&unix.ECHO, "the shell shows what is typed")
				assert.Empty(t, leftToRead(t, p.tty))
			})
		}
	}
}

func TestWhatIsTypedIsShownAgain(t *testing.T) {
	url, _ := startServer(t)
	p := startOnTerminal(t, url, "xterm")
	p.shown.wait(t, "/help shows the commands.\r\n"+clearLine+"> ")
	p.press("Hello, wrold")
	p.shown.wait(t, clearLine+"> Hello, wrold")
	code, _, stderr := runToEnd(t, "-url", url, "-user", "bob", "-say", "in between")
	require.Zero(t, code, stderr)
	p.shown.wait(t, "bob: in between\r\n"+clearLine+"> Hello, wrold")
	p.press("\b\b\b\borld\x1b[D\x1b[D")
	p.shown.wait(t, clearLine+"> Hello, world\x1b[2D")
	p.press("\r")
	p.shown.wait(t, clearLine+"> Hello, world\r\n")
	p.shown.wait(t, "you: Hello, world\r\n"+clearLine+"> ")
	p.press("/quit\r")
	assert.Zero(t, p.exit())
}

func TestAConnectionIsReplacedUnderWhatIsTyped(t *testing.T) {
	url, stop := startServer(t)
	p := startOnTerminal(t, url, "xterm")
	p.shown.wait(t, "You are here as alice")
	p.press("half a li")
	p.shown.wait(t, "> half a li")
	stop()
	p.shown.wait(t, "* The connection was lost: ")
	p.shown.wait(t, clearLine+promptOffline+"half a li")
	startedAgain(t, url)
	p.press("ne\r")
	p.shown.wait(t, "* The connection is back. Here: alice.\r\n")
	p.shown.wait(t, "you: half a line\r\n"+clearLine+"> ")
	p.press("more\x15\x04") // Ctrl+U, Ctrl+D
	assert.Zero(t, p.exit())
	assert.NotContains(t, p.shown.String(), "you: more")
}

func TestALineIsLongerThanTheTerminalIsWide(t *testing.T) {
	url, _ := startServer(t)
	p := startOnTerminal(t, url, "xterm")
	p.shown.wait(t, "You are here as alice")
	resize, err := p.user.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, resize.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 20})
	}))
	require.NoError(t, err)
	p.press("0123456789abcdefghijklmnop")
	p.shown.wait(t, clearLine+"> 9abcdefghijklmnop") // and the cursor in the last column
	p.press("\x01")                                  // Ctrl+A
	p.shown.wait(t, clearLine+"> 0123456789abcdefg\x1b[17D")
	p.press("\r")
	p.shown.wait(t, "you: 0123456789abcdefghijklmnop\r\n")
	p.interrupt()
	assert.Zero(t, p.exit())
}

func TestTheTerminalIsTakenAgainWhenTheProgramGoesOn(t *testing.T) {
	url, _ := startServer(t)
	p := startOnTerminal(t, url, "xterm")
	p.shown.wait(t, "You are here as alice")
	p.press("half a li")
	p.shown.wait(t, "> half a li")
	taken := settings(t, p.tty)
	shells := *taken
	shells.Lflag |= unix.ICANON | unix.ECHO
	tty, err := p.tty.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, tty.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETS, &shells) }))
	require.NoError(t, err)
	before := len(p.shown.String())
	require.NoError(t, unix.Kill(unix.Getpid(), unix.SIGCONT))
	require.Eventually(t, func() bool { return strings.Contains(p.shown.String()[before:], clearLine+"> half a li") }, patience, time.Millisecond)
	assert.Equal(t, taken, settings(t, p.tty))
	p.press("ne\r")
	p.shown.wait(t, "you: half a line\r\n")
	p.interrupt()
	assert.Zero(t, p.exit())
}
