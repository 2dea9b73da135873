package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// flushInput discards what the system keeps of a console's input.
func flushInput(terminal *os.File) { windows.FlushConsoleInputBuffer(windows.Handle(terminal.Fd())) }
