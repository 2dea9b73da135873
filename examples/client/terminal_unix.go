//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// takeTyping has a terminal hand over each key as it is pressed, and show none, until restore is called. What is written to it, and the
// keys for signals, stay as they are. If the program is stopped and goes on, again is called once the terminal, which a shell has had
// meanwhile, does so again. ok is false if that cannot be done.
func takeTyping(in, _ *os.File, again func()) (restore func(), ok bool) {
	before, ok := takeTerminal(in)
	if !ok {
		return nil, false
	}
	goesOn, done, gone := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(goesOn, unix.SIGCONT)
	go func() {
		defer close(gone)
		for {
			select {
			case <-goesOn:
				if _, ok := takeTerminal(in); ok {
					again()
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(goesOn)
		close(done)
		<-gone
		withDescriptor(in, func(fd int) { unix.IoctlSetTermios(fd, setTermios, before) })
	}, true
}

// takeTerminal takes a terminal, and returns what it did before.
func takeTerminal(in *os.File) (before *unix.Termios, ok bool) {
	withDescriptor(in, func(fd int) {
		now, err := unix.IoctlGetTermios(fd, getTermios)
		if err != nil || !inForeground(fd) {
			return
		}
		was := *now
		now.Lflag &^= unix.ICANON | unix.ECHO | unix.IEXTEN
		now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
		before, ok = &was, unix.IoctlSetTermios(fd, setTermios, now) == nil
	})
	return before, ok
}

// columns returns how wide a terminal is, 0 if it does not tell.
func columns(terminal *os.File) (n int) {
	withDescriptor(terminal, func(fd int) {
		if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
			n = int(size.Col)
		}
	})
	return n
}

// flushInput discards what the system keeps of a terminal's input, unless the terminal is in use by another program.
func flushInput(terminal *os.File) {
	withDescriptor(terminal, func(fd int) {
		if inForeground(fd) {
			discardInput(fd)
		}
	})
}

// withDescriptor calls do with the descriptor of a file. Unlike File.Fd it leaves the way alone in which the file is read.
func withDescriptor(f *os.File, do func(fd int)) {
	if c, err := f.SyscallConn(); err == nil {
		c.Control(func(fd uintptr) { do(int(fd)) })
	}
}
