// Server is the echo server that the fuzzingclient of the Autobahn|Testsuite examines. See conformance/README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/conformance/internal/program"
)

// stopAgain is how long Stop is given to reach a server that is about to start.
const stopAgain = 10 * time.Millisecond

func main() { program.Main(run) }

// run is the program: it serves until ctx is done, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:9001", "listen on `host:port`")
	logger, code := program.Parse(flags, args, stderr)
	if logger == nil {
		return code
	}
	if err := serve(ctx, *addr, logger, stdout); err != nil {
		fmt.Fprintln(stderr, "conformance server:", err)
		return 1
	}
	return 0
}

// serve echoes until ctx is done.
func serve(ctx context.Context, addr string, logger *slog.Logger, stdout io.Writer) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := websocket.NewServer(&websocket.ServerOptions{
		MaxMessageSize: program.MaxMessageSize,
		MaxFragments:   program.MaxFragments,
		Compression:    program.Compression(),
		Logger:         logger,
		HandleText:     func(conn int, payload []byte) { echo(logger, conn, websocket.NewFrameText(false, payload)) },
		HandleBin:      func(conn int, payload []byte) { echo(logger, conn, websocket.NewFrameBin(false, payload)) },
	})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	fmt.Fprintf(stdout, "ws://%s\n", ln.Addr())
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
	}
	for { // Stop does nothing before Serve has begun
		server.Stop()
		select {
		case err = <-ended:
			return err
		case <-time.After(stopAgain):
		}
	}
}

// echo answers a message. Many cases of the suite end the connection while there is something to answer.
func echo(logger *slog.Logger, conn int, packet []byte) {
	if err := websocket.Send(conn, packet); err != nil {
		logger.Debug("conformance server: no echo", "conn", conn, "error", err)
	}
}
