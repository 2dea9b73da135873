//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package main

import "os"

// There is no terminal, or no way to tell it.

func flushInput(*os.File)                                          {}
func takeTyping(_, _ *os.File, _ func()) (restore func(), ok bool) { return nil, false }
func columns(*os.File) int                                         { return 0 }
