// Command soak runs a server in a process of its own under mixed traffic over a bad network for a while: clients that behave,
// users with several devices, requests, churn, slow readers, dead and hostile peers, handlers that block and panic; half of all
// this over TLS. It checks that no message is lost, out of order, misdelivered or corrupted, that no connection ends that should
// not, and that the server has as many goroutines and descriptors and as much memory at the end as at the start.
//
//	go run ./soak -for 10m
//
// The network is `tc netem` on the loopback of a network namespace if that is permitted (Linux), else a proxy that
// delays, splits, stalls and resets. Interrupting it ends the traffic early; the checks still run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"
)

// roleVariable is the environment variable that tells a process started by this program what it is.
const (
	roleVariable = "SOAK_ROLE"
	roleServer   = "server"
	roleInside   = "inside" // the driver in a network namespace of its own
)

// Networks.
const (
	netAuto  = "auto"
	netNetem = "netem"
	netProxy = "proxy"
	netNone  = "none"
)

// Exit codes.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitNoNetwork = 75 // of the role inside: netem cannot be had
)

// config is what the flags say.
type config struct {
	duration time.Duration
	conns    int
	seed     uint64
	network  string
	growth   int // MiB
	every    time.Duration
}

func main() { os.Exit(command(os.Args[1:], os.Getenv(roleVariable), os.Stdout)) }

// command is the program: it returns the exit code.
func command(args []string, role string, out io.Writer) int {
	if role == roleServer {
		return serverMain(os.Stdin, out)
	}
	cfg, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if role == roleInside {
		go func() { // its end is that of the process that started this one
			io.Copy(io.Discard, os.Stdin)
			stop()
		}()
		if err := startNetem(ctx); err != nil {
			fmt.Fprintln(out, "network: netem:", err)
			return exitNoNetwork
		}
		cfg.network = netNetem
		return soak(ctx, cfg, out)
	}
	if cfg.network == netAuto || cfg.network == netNetem {
		code, err := runInNamespace(ctx, args, out)
		if err == nil {
			return code
		}
		fmt.Fprintln(out, "network: no namespace with netem:", err)
		if cfg.network == netNetem {
			return exitFailed
		}
		cfg.network = netProxy
	}
	return soak(ctx, cfg, out)
}

func parseFlags(args []string) (cfg config, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.DurationVar(&cfg.duration, "for", 2*time.Minute, "how long the traffic lasts; the checks take up to a minute more")
	flags.IntVar(&cfg.conns, "conns", 500, "number of connections at a time")
	flags.Uint64Var(&cfg.seed, "seed", 0, "seed of all that is random; 0 stands for one that is chosen and printed")
	flags.StringVar(&cfg.network, "net", netAuto, "network: netem, proxy, none, or auto: netem if permitted, else proxy")
	flags.IntVar(&cfg.growth, "growth", 32, "how many MiB the server's resident memory may have grown at the end")
	flags.DurationVar(&cfg.every, "every", 5*time.Second, "time between the lines that are printed")
	if err = flags.Parse(args); err != nil {
		return cfg, err
	}
	switch cfg.network {
	case netAuto, netNetem, netProxy, netNone:
	default:
		err = fmt.Errorf("unknown network %q", cfg.network)
		fmt.Fprintln(flags.Output(), err)
		return cfg, err
	}
	if cfg.seed == 0 {
		cfg.seed = uint64(rand.Uint32())
	}
	return cfg, nil
}

// soak runs the traffic and the checks and returns the exit code.
func soak(ctx context.Context, cfg config, out io.Writer) int {
	fmt.Fprintf(out, "soak: %v, %d connections, network %s, seed %d\n", cfg.duration, cfg.conns, cfg.network, cfg.seed)
	ok, err := drive(ctx, cfg, out)
	switch {
	case err != nil:
		fmt.Fprintln(out, "soak:", err)
	case !ok:
		fmt.Fprintln(out, "soak: FAILED")
	default:
		fmt.Fprintln(out, "soak: passed")
		return 0
	}
	return exitFailed
}
