//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// flushInput discards what the system keeps of a terminal's input, unless the terminal is in use by another program.
func flushInput(terminal *os.File) {
	const fread = 1 // <sys/fcntl.h>: the input only
	fd := int(terminal.Fd())
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && group != unix.Getpgrp() {
		return
	}
	unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, fread)
}
