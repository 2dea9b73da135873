package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inventory tells which descriptors are open.
type inventory struct {
	total   int
	sockets map[string]int // how many descriptors each socket has
}

func takeInventory() inventory {
	const dir = "/proc/self/fd"
	taken := inventory{sockets: make(map[string]int)}
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // such as the one that ReadDir had open
		}
		taken.total++
		if strings.HasPrefix(target, "socket:") {
			taken.sockets[target]++
		}
	}
	return taken
}

// held returns how many numbers of closed connections are held back: a placeholder, which was there at the start, is over each
// of them.
func (v inventory) held(start inventory) (n int) {
	for socket, count := range start.sockets {
		n += max(0, v.sockets[socket]-count)
	}
	return n
}

// sendBuffer is the size in bytes of the sockets' send buffers: small, so that the server's queues are used.
const sendBuffer = 32 << 10

// limitSendBuffer is for net.ListenConfig: sockets of the listener hold at most sendBuffer bytes that were not sent.
func limitSendBuffer(_, _ string, raw syscall.RawConn) (err error) {
	controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer) })
	if controlErr != nil {
		return controlErr
	}
	return err
}

// residentMemory returns the resident memory of this process in bytes.
func residentMemory(memory *runtime.MemStats) int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return int(memory.Sys - memory.HeapReleased)
	}
	fields := strings.Fields(string(statm))
	pages, _ := strconv.Atoi(fields[1])
	return pages * os.Getpagesize()
}
