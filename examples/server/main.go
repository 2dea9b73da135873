// Server is a group chat for terminals and browsers.
//
//	go run ./examples/server
//	go run ./examples/client -user alice
//
// It is a demonstration that can be copied: the names of the demo users and their keys are known to everybody (see -users),
// nothing is kept over a restart, and the connections are plain text. On an open network a proxy with TLS belongs in front.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// stopTimeout is how long requests for the page may go on when the server stops.
	stopTimeout = 3 * time.Second

	// stopAgain is how long Stop is given to reach a server that is about to start.
	stopAgain = 10 * time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, func(addresses) {}))
}

// config is what the flags say.
type config struct {
	addr, web, users string
	public           string // origin of -public-url
	history          int
	debug            bool
}

// addresses are those that the server listens on. web is nil if there is no page.
type addresses struct{ ws, web net.Addr }

// run is the program: it serves until ctx is done, and returns the exit code. ready is called when clients can connect.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, ready func(addresses)) (code int) {
	cfg, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // the flag package has said what is wrong
	}
	if err := serve(ctx, cfg, stdout, stderr, ready); err != nil {
		fmt.Fprintln(stderr, "chat server:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (cfg config, err error) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.addr, "addr", "127.0.0.1:9001", "listen for WebSocket clients on `host:port`")
	flags.StringVar(&cfg.web, "web", "127.0.0.1:9002", "serve the web page on `host:port`; empty: no page")
	flags.StringVar(&cfg.users, "users", "", "`file` with a line name:key for each user (default: demo users)")
	flags.IntVar(&cfg.history, "history", 20, "`number` of messages that newcomers are shown, up to 500; 0: nothing is kept")
	flags.Func("public-url", "`URL` of a proxy in front of both, such as https://chat.example.com", func(text string) (err error) {
		cfg.public, err = parsePublicURL(text)
		return err
	})
	flags.BoolVar(&cfg.debug, "debug", false, "log why connections end")
	if err = flags.Parse(args); err != nil {
		return cfg, err
	}
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case cfg.history < 0 || cfg.history > maxHistory:
		err = fmt.Errorf("-history is not between 0 and %d", maxHistory)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
	}
	return cfg, err
}

// serve listens, and serves until ctx is done or something fails.
func serve(ctx context.Context, cfg config, stdout, stderr io.Writer, ready func(addresses)) (err error) {
	s, err := newConfigured(cfg, stderr)
	if err != nil {
		return err
	}
	ws, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	addrs := addresses{ws: ws.Addr()}
	pageEnded := make(chan error, 1)
	if cfg.web != "" {
		page, err := net.Listen("tcp", cfg.web)
		if err != nil {
			ws.Close()
			return err
		}
		addrs.web = page.Addr()
		s.ws.Options.Origins = s.pageOrigins(cfg.web, addrs.web)
		web := s.newWeb(portOf(addrs.ws))
		go func() { pageEnded <- web.Serve(page) }()
		defer stopWeb(web)
	}
	chatEnded := make(chan error, 1)
	go func() { chatEnded <- s.ws.Serve(ws) }()
	announce(stdout, s, addrs)
	ready(addrs)
	select {
	case <-ctx.Done():
		return s.stop(chatEnded)
	case err = <-chatEnded:
		return err
	case err = <-pageEnded:
		return errors.Join(err, s.stop(chatEnded))
	}
}

func newConfigured(cfg config, stderr io.Writer) (*server, error) {
	users, err := loadUsers(cfg.users)
	if err != nil {
		return nil, err
	}
	s, err := newServer(users, cfg.history, newLogger(stderr, cfg.debug))
	if err != nil {
		return nil, err
	}
	s.isDemo, s.public = cfg.users == "", cfg.public
	s.ws.Options.Origins = s.pageOrigins("", nil) // until the page is there
	return s, nil
}

// stop closes all connections. Stop does nothing before Serve has begun, so it is called again until Serve has returned.
func (s *server) stop(ended <-chan error) error {
	for {
		s.ws.Stop()
		select {
		case err := <-ended:
			return err
		case <-time.After(stopAgain):
		}
	}
}

func stopWeb(web *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if web.Shutdown(ctx) != nil {
		web.Close()
	}
}

// announce says how to connect.
func announce(w io.Writer, s *server, addrs addresses) {
	url := wsURL(reachable(addrs.ws), portOf(addrs.ws))
	fmt.Fprintf(w, "WebSocket  %s\n", url)
	if addrs.web != nil {
		fmt.Fprintf(w, "Web page   http://%s/\n", reachable(addrs.web))
	}
	if s.public != "" {
		fmt.Fprintf(w, "Public     %s/ (a proxy in front of both)\n", s.public)
	}
	if s.isDemo {
		fmt.Fprintf(w, "Terminal   go run ./examples/client -url %s -user alice\n", url)
		fmt.Fprintln(w, "The users alice, bob, carol and dave are for demonstration: everybody knows their keys. See -users.")
	} else {
		fmt.Fprintf(w, "Terminal   CHAT_KEY=... go run ./examples/client -url %s\n", url)
	}
	fmt.Fprintln(w, "Stop with Ctrl+C.")
}

// reachable returns an address that a client on this machine can use: one that listens on all is shown as localhost.
func reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", portOf(addr))
	}
	return addr.String()
}

func portOf(addr net.Addr) string {
	_, port, _ := net.SplitHostPort(addr.String())
	return port
}

func newLogger(w io.Writer, debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
