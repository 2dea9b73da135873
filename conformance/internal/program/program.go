// Package program is what the client and the server for the Autobahn|Testsuite share.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/wsloop/websocket"
)

// The suite sends messages of 16 MiB and one of 65,536 fragments; we leave room for more.
const (
	MaxMessageSize = 64 << 20
	MaxFragments   = 1 << 20
)

// Compression is what both offer and accept: cases 12 and 13 count as not implemented where there is none. Messages of any size are
// compressed, since a case should see more than the handshake.
func Compression() *websocket.Compression { return &websocket.Compression{MinSize: -1} }

// Main calls run, whose context is done when the process is told to end, and ends the process with its exit code.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) (code int)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Parse reads flags, -debug among them, and returns a logger for stderr. If the program must not go on, the logger is nil and
// code is its exit code.
func Parse(flags *flag.FlagSet, args []string, stderr io.Writer) (logger *slog.Logger, code int) {
	flags.SetOutput(stderr)
	debug := flags.Bool("debug", false, "log why connections end")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, 0
	case err != nil:
		return nil, 2 // the flag package has said what is wrong
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "unexpected argument %q\n", flags.Arg(0))
		return nil, 2
	}
	level := slog.LevelInfo
	if *debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})), 0
}
