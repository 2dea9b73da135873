package main

import "golang.org/x/sys/unix"

const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETS
)

// inForeground reports whether the terminal is not in use by another program.
func inForeground(fd int) bool {
	group, err := unix.IoctlGetUint32(fd, unix.TIOCGPGRP)
	return err != nil || int(group) == unix.Getpgrp()
}

func discardInput(fd int) { unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }
