package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// flushInput discards what the system keeps of a terminal's input, unless the terminal is in use by another program.
func flushInput(terminal *os.File) {
	fd := int(terminal.Fd())
	if group, err := unix.IoctlGetUint32(fd, unix.TIOCGPGRP); err == nil && int(group) != unix.Getpgrp() {
		return
	}
	unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
}
