//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package main

import "os"

// flushInput does nothing: there is no terminal, or no way to tell it.
func flushInput(*os.File) {}
