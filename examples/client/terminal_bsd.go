//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import "golang.org/x/sys/unix"

const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
)

// inForeground reports whether the terminal is not in use by another program.
func inForeground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

func discardInput(fd int) {
	const fread = 1 // <sys/fcntl.h>: the input only
	unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, fread)
}
