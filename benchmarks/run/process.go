package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/results"
	"golang.org/x/sys/unix"
)

const (
	bunProgram   = "node_modules/.bin/bun"
	startTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
	loadTimeout  = 3 * time.Minute
)

// cpus says where the server and the generator may run.
type cpus struct {
	server, load unix.CPUSet
}

func chooseCPUs(how string) (c cpus, err error) {
	var all unix.CPUSet
	if err = unix.SchedGetaffinity(0, &all); err != nil {
		return c, err
	}
	var list []int
	for i := range 1024 {
		if all.IsSet(i) {
			list = append(list, i)
		}
	}
	switch {
	case how == "any":
		return cpus{server: all, load: all}, nil
	case how == "shared":
		list = []int{list[0], list[0]}
	case how != "own":
		return c, fmt.Errorf("-cpus is own, shared or any, not %q", how)
	case len(list) < 2:
		return c, errors.New("there is one CPU only: use -cpus shared")
	}
	c.server.Set(list[0])
	c.load.Set(list[1])
	return c, nil
}

// start starts a command that may run on those CPUs only. A Go program sets its GOMAXPROCS to their number by itself.
func start(cmd *exec.Cmd, where *unix.CPUSet) error {
	runtime.LockOSThread() // the child inherits what is set for this thread
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, where); err != nil {
		return err
	}
	defer unix.SchedSetaffinity(0, &before)
	return cmd.Start()
}

// runLoad runs a program that measures, and reads what it answers into a struct. An error has what the program complains of.
func runLoad(load *exec.Cmd, where cpus, answer any) error {
	var out, complaint bytes.Buffer
	load.Stdout, load.Stderr = &out, &complaint
	if err := start(load, &where.load); err != nil {
		return err
	}
	guard := time.AfterFunc(loadTimeout, func() { load.Process.Kill() })
	defer guard.Stop()
	if err := load.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return json.Unmarshal(out.Bytes(), answer)
}

// measure starts a server, has the generator measure it, and stops it.
func (o *options) measure(s *plan.Scenario, server *plan.Server, round int, where cpus) (m results.Measure, err error) {
	addr, err := freeAddress()
	if err != nil {
		return m, err
	}
	cmd := o.serverCommand(s, server, round, addr)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err = start(cmd, &where.server); err != nil {
		return m, err
	}
	defer stop(cmd)
	if err = awaitServer(addr); err != nil {
		return m, err
	}
	load := exec.Command(filepath.Join(o.bin, "load"), "-scenario", s.Name, "-addr", addr, "-pid", fmt.Sprint(cmd.Process.Pid),
		"-window", o.window.String(), "-warmup", o.warmup.String(), "-seed", fmt.Sprint(round+1), "-ca", o.certificate.cert)
	if err = runLoad(load, where, &m); err != nil {
		stop(cmd)
		return m, fmt.Errorf("%w %s", err, strings.TrimSpace(stderr.String()))
	}
	if s.Encrypted() && !strings.HasPrefix(m.TLS, server.Terms()) {
		return m, fmt.Errorf("%s was negotiated instead of %s", m.TLS, server.Terms())
	}
	return m, nil
}

func (o *options) serverCommand(s *plan.Scenario, server *plan.Server, round int, addr string) *exec.Cmd {
	args := append([]string{"-addr", addr}, server.Args...)
	args = append(args, s.Args...)
	if s.Encrypted() {
		args = append(args, "-cert", o.certificate.cert, "-key", o.certificate.key)
	}
	if s.Kind == plan.Feed {
		args = append(args, "-messages", o.messages(s.Set))
	}
	if server.Dir == plan.Bun {
		for i, arg := range args { // its flags have two dashes
			if strings.HasPrefix(arg, "-") {
				args[i] = "-" + arg
			}
		}
		return exec.Command(filepath.Join(o.bun, bunProgram), append([]string{filepath.Join(o.bun, "server.js")}, args...)...)
	}
	if o.profiles != "" {
		args = append(args, "-cpuprofile", filepath.Join(o.profiles, fmt.Sprintf("%s-%s-%d.pprof", server.Name, s.Name, round)))
	}
	return exec.Command(filepath.Join(o.bin, server.Dir), args...)
}

func freeAddress() (addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

func awaitServer(addr string) error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not listen: %w", err)
		}
	}
}

func stop(cmd *exec.Cmd) {
	cmd.Process.Signal(syscall.SIGTERM)
	guard := time.AfterFunc(stopTimeout, func() { cmd.Process.Kill() })
	defer guard.Stop()
	cmd.Wait()
}
