package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type clocks struct {
	wall, server, load, messages, replays int64
}

func (l *load) clocks() (c clocks, err error) {
	c.wall, c.messages, c.replays = now(), l.messages, l.replays
	if c.server, err = clock(processClock(l.pid)); err != nil {
		return c, fmt.Errorf("CPU time of process %d: %w", l.pid, err)
	}
	c.load, err = clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	return c, err
}

// processClock is clock_getcpuclockid(3): the clock of the user and system time of all threads of a process.
func processClock(pid int) int32 { return int32(^pid)<<3 | 2 }

func clock(id int32) (nanoseconds int64, err error) {
	var ts unix.Timespec
	err = unix.ClockGettime(id, &ts)
	return ts.Nano(), err
}

var started = time.Now()

func now() int64 { return int64(time.Since(started)) }

func residentBytes(pid int) (n int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "Rss:") {
			_, err = fmt.Sscanf(line, "Rss: %d kB", &n)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no resident size of process %d", pid)
}
