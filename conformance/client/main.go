// Client is the echo client that the fuzzingserver of the Autobahn|Testsuite examines. See conformance/README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/conformance/internal/program"
)

func main() { program.Main(run) }

// run is the program: it goes through all cases of the suite, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	base := flags.String("url", "ws://127.0.0.1:9001", "connect to the fuzzingserver at `URL`")
	agent := flags.String("agent", "wsloop", "`name` of this client in the reports")
	logger, code := program.Parse(flags, args, stderr)
	if logger == nil {
		return code
	}
	s := suite{
		base:   strings.TrimRight(*base, "/"),
		agent:  url.QueryEscape(*agent),
		logger: logger,
	}
	if err := s.all(ctx, stdout); err != nil {
		fmt.Fprintln(stderr, "conformance client:", err)
		return 1
	}
	return 0
}

// suite is a fuzzingserver, and the name under which the client reports to it.
type suite struct {
	base, agent string
	logger      *slog.Logger
}

// all goes through the cases and has the reports written.
func (s *suite) all(ctx context.Context, stdout io.Writer) error {
	count, err := s.caseCount(ctx)
	if err != nil {
		return err
	}
	for n := 1; n <= count; n++ {
		fmt.Fprintf(stdout, "case %d of %d\n", n, count)
		if err = s.visit(ctx, fmt.Sprintf("/runCase?case=%d&agent=%s", n, s.agent), s.echo); err != nil {
			return fmt.Errorf("case %d: %w", n, err)
		}
	}
	return s.visit(ctx, "/updateReports?agent="+s.agent, nil)
}

// caseCount asks how many cases there are: a text message has the number.
func (s *suite) caseCount(ctx context.Context) (count int, err error) {
	answer := ""
	err = s.visit(ctx, "/getCaseCount", func(_ *websocket.Client, frame *websocket.Frame) error {
		answer = string(frame.Payload())
		return nil
	})
	if err != nil {
		return 0, err
	}
	if count, err = strconv.Atoi(answer); err != nil {
		return 0, fmt.Errorf("number of cases: %w", err)
	}
	return count, nil
}

// visit connects, has the messages handled, and waits until the server has closed the connection. The server judges how that
// ended; the error says that there was no connection, or that ctx is done.
func (s *suite) visit(ctx context.Context, target string, handle websocket.ClientHandler) error {
	ended := make(chan struct{})
	client := &websocket.Client{
		Endpoint:       s.base + target,
		MaxMessageSize: program.MaxMessageSize,
		MaxFragments:   program.MaxFragments,
		Compression:    program.Compression(),
		Logger:         s.logger,
		HandleText:     handle,
		HandleBin:      handle,
		HandleQuit:     func() { close(ended) },
	}
	if err := client.Connect(); err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		client.Quit()
		<-ended
		return ctx.Err()
	}
}

// echo answers a message. Many cases of the suite end the connection while there is something to answer.
func (s *suite) echo(client *websocket.Client, frame *websocket.Frame) error {
	send := client.SendBin
	if frame.Opcode() == websocket.OpcodeText {
		send = client.SendText
	}
	if err := send(frame.Payload()); err != nil {
		s.logger.Debug("conformance client: no echo", "error", err)
	}
	return nil
}
