package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The loopback of the namespace: its name, its MTU in bytes (that of an Ethernet), and how many packets its queue holds.
const (
	loopback    = "lo"
	loopbackMTU = 1500
	netemLimit  = "100000"
)

// weatherTime is how long the network stays as it is.
const weatherTime = 10 * time.Second

// weathers are settings of netem. The first is for the start and the end.
var weathers = []string{
	"delay 2ms 1ms",
	"delay 20ms 5ms",
	"delay 10ms 5ms loss 1% 25%",
	"delay 10ms 8ms reorder 25% 50%",
	"delay 5ms 3ms duplicate 2%",
	"delay 10ms 10ms loss 0.5% duplicate 1% reorder 5% 25%",
}

// runInNamespace runs this program in a network namespace of its own and returns its exit code. An error says that it did
// not run there.
func runInNamespace(ctx context.Context, args []string, out io.Writer) (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleInside)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err = cmd.Start(); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { stdin.Close() }) // interrupts it
	defer stop()
	cmd.Wait()
	if code = cmd.ProcessState.ExitCode(); code == exitNoNetwork {
		return 0, errors.New("tc does not work there")
	}
	return code, nil
}

// startNetem sets the loopback of this process's namespace up.
func startNetem(ctx context.Context) error {
	if err := raiseLoopback(); err != nil {
		return err
	}
	return netem(ctx, "add", weathers[0])
}

// changeWeather changes the network now and then until the context ends.
func changeWeather(ctx context.Context, rng *rand.Rand, say func(text string)) {
	for {
		weather := weathers[rng.IntN(len(weathers))]
		if err := netem(ctx, "change", weather); err != nil && ctx.Err() == nil {
			say("network: netem: " + err.Error())
		}
		say("network: " + weather)
		select {
		case <-time.After(weatherTime):
		case <-ctx.Done():
			netem(context.WithoutCancel(ctx), "change", weathers[0])
			return
		}
	}
}

// netem runs tc.
func netem(ctx context.Context, verb, weather string) error {
	args := append([]string{"qdisc", verb, "dev", loopback, "root", "netem", "limit", netemLimit}, strings.Fields(weather)...)
	output, err := exec.CommandContext(ctx, "tc", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("tc: %w: %s", err, bytes.TrimSpace(output))
	}
	return nil
}

// raiseLoopback brings the loopback up, as an Ethernet as far as its MTU goes.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(loopback)
	if err != nil {
		return err
	}
	req.SetUint32(loopbackMTU)
	if err = unix.IoctlIfreq(fd, unix.SIOCSIFMTU, req); err != nil {
		return fmt.Errorf("MTU: %w", err)
	}
	req.SetUint16(unix.IFF_UP)
	if err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("%s up: %w", loopback, err)
	}
	return nil
}
