package main

import (
	"bufio"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"golang.org/x/sys/unix"
)

const (
	insideNamespace = "WSLOOP_BENCH_NAMESPACE"
	congestionFile  = "/proc/sys/net/ipv4/tcp_congestion_control"
)

// enterNamespace runs this program again in a network namespace of its own and ends with it. It returns false if it is in
// there already, or if that is not permitted.
func enterNamespace() bool {
	if os.Getenv(insideNamespace) != "" {
		if err := setUpNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, "run: network namespace:", err)
			os.Exit(1)
		}
		return false
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "run: no network namespace:", err)
		return false
	}
	cmd.Wait()
	os.Exit(cmd.ProcessState.ExitCode())
	return true
}

func setUpNamespace() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return err
	}
	if err = os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("10000 65000"), 0); err != nil {
		return err
	}
	return os.WriteFile(congestionFile, []byte("reno"), 0)
}

func environment(o *options) map[string]string {
	congestion, _ := os.ReadFile(congestionFile)
	var name unix.Utsname
	unix.Uname(&name)
	return map[string]string{
		"date":       time.Now().UTC().Format(time.DateOnly),
		"go":         runtime.Version(),
		"kernel":     unix.ByteSliceToString(name.Release[:]),
		"cpu":        cpuModel(),
		"cpus":       fmt.Sprintf("%d, used: %s", runtime.NumCPU(), o.cpus),
		"congestion": strings.TrimSpace(string(congestion)),
		"window":     o.window.String(),
		"rounds":     fmt.Sprint(o.rounds),
	}
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// versions reads from the programs which version of its module each server has.
func (o *options) versions(servers []plan.Server) map[string]string {
	versions := make(map[string]string)
	for _, server := range servers {
		switch {
		case server.Dir == plan.Bun:
			if out, err := exec.Command(filepath.Join(o.bun, bunProgram), "--version").Output(); err == nil {
				versions[server.Name] = "bun " + strings.TrimSpace(string(out))
			}
		case server.Module != "":
			info, err := buildinfo.ReadFile(filepath.Join(o.bin, server.Dir))
			if err != nil {
				continue
			}
			for _, dep := range info.Deps {
				if dep.Path == server.Module {
					versions[server.Name] = dep.Path + " " + dep.Version
				}
			}
		}
	}
	return versions
}
