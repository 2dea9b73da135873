package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// flushInput discards what the system keeps of a console's input.
func flushInput(terminal *os.File) { windows.FlushConsoleInputBuffer(windows.Handle(terminal.Fd())) }

// takeTyping has a console hand over each key as it is pressed, and show none, until restore is called. ok is false if that cannot be
// done.
func takeTyping(in, out *os.File, _ func()) (restore func(), ok bool) {
	keys, screen := windows.Handle(in.Fd()), windows.Handle(out.Fd())
	var keysBefore, screenBefore uint32
	if windows.GetConsoleMode(keys, &keysBefore) != nil || windows.GetConsoleMode(screen, &screenBefore) != nil {
		return nil, false
	}
	if windows.SetConsoleMode(screen, screenBefore|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return nil, false
	}
	taken := keysBefore&^(windows.ENABLE_LINE_INPUT|windows.ENABLE_ECHO_INPUT) | windows.ENABLE_VIRTUAL_TERMINAL_INPUT
	if windows.SetConsoleMode(keys, taken) != nil {
		windows.SetConsoleMode(screen, screenBefore)
		return nil, false
	}
	return func() {
		windows.SetConsoleMode(keys, keysBefore)
		windows.SetConsoleMode(screen, screenBefore)
	}, true
}

// columns returns how wide a console is, 0 if it does not tell.
func columns(terminal *os.File) int {
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(windows.Handle(terminal.Fd()), &info) != nil {
		return 0
	}
	return int(info.Window.Right-info.Window.Left) + 1
}
