// Server is a group chat for terminals and browsers.
//
//	go run ./examples/server
//	go run ./examples/client -user alice
//
// With TLS, where the server prints the fingerprint:
//
//	go run ./examples/server -tls
//	go run ./examples/client -user alice -fingerprint HEX
//
// It is a demonstration that can be copied: the names of the demo users and their keys are known to everybody (see -users),
// nothing is kept over a restart, and the connections are plain text. On an open network it has to speak TLS (see -tls and -cert), or
// a proxy that does belongs in front.
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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/wsloop/websocket/examples/internal/chat"
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
	cert, key        string
	tls              bool // with a certificate made at start
	onePort          bool // addr is for the page too
	history          int
	debug            bool
}

// addresses are those that the server listens on. web is nil if there is no page, and may be the same as ws.
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
	flags.StringVar(&cfg.web, "web", "127.0.0.1:9002", "serve the web page on `host:port`; with TLS, that of -addr unless given; empty: no page")
	flags.StringVar(&cfg.users, "users", "", "`file` with a line name:key for each user (default: demo users)")
	flags.IntVar(&cfg.history, "history", 20, "`number` of messages that newcomers are shown, up to 500; 0: nothing is kept")
	flags.Func("public-url", "`URL` of a proxy in front of both, such as https://chat.example.com", func(text string) (err error) {
		cfg.public, err = parsePublicURL(text)
		return err
	})
	flags.BoolVar(&cfg.tls, "tls", false, "speak TLS (https and wss) with a certificate made at start, and print its fingerprint")
	flags.StringVar(&cfg.cert, "cert", "", "speak TLS with the certificate in a PEM `file`, read again when it changes and at SIGHUP")
	flags.StringVar(&cfg.key, "key", "", "PEM `file` with the private key of -cert")
	flags.BoolVar(&cfg.debug, "debug", false, "log why connections end")
	if err = flags.Parse(args); err != nil {
		return cfg, err
	}
	if err = cfg.check(flags.Args()); err != nil {
		fmt.Fprintln(stderr, err)
		return cfg, err
	}
	cfg.onePort = cfg.web == cfg.addr && !strings.HasSuffix(cfg.addr, ":0") // which names a port for each
	if cfg.speaksTLS() && !isGiven(flags, "web") {
		cfg.web, cfg.onePort = cfg.addr, true
	}
	return cfg, nil
}

func (cfg *config) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case cfg.history < 0 || cfg.history > maxHistory:
		return fmt.Errorf("-history is not between 0 and %d", maxHistory)
	case cfg.tls && (cfg.cert != "" || cfg.key != ""):
		return errors.New("-tls makes a certificate: it goes without -cert and -key")
	case cfg.cert == "" && cfg.key != "":
		return errors.New("-key needs -cert, the file with its certificate")
	case cfg.cert != "" && cfg.key == "":
		return errors.New("-cert needs -key, the file with its private key")
	}
	return nil
}

func (cfg *config) speaksTLS() bool { return cfg.tls || cfg.cert != "" }

func isGiven(flags *flag.FlagSet, name string) (given bool) {
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// serve listens, and serves until ctx is done or something fails.
func serve(ctx context.Context, cfg config, stdout, stderr io.Writer, ready func(addresses)) (err error) {
	s, err := newConfigured(cfg, stderr)
	if err != nil {
		return err
	}
	if cfg.cert != "" {
		defer s.certificate.refreshAtSignal()()
	}
	on, err := listen(cfg)
	if err != nil {
		return err
	}
	addrs := on.addresses(cfg)
	if err := s.prepare(cfg, addrs); err != nil {
		on.close()
		return err
	}
	pageEnded := make(chan error, 1)
	if on.web != nil {
		web := s.newWeb(portOf(addrs.ws))
		go func() { pageEnded <- s.serveWeb(web, on.web) }()
		defer stopWeb(web)
	}
	chatEnded := make(chan error, 1)
	go func() { chatEnded <- s.ws.Serve(on.ws) }()
	announce(stdout, s, cfg, addrs)
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
	if cfg.cert != "" {
		s.certificate, err = loadCertificate(cfg.cert, cfg.key, s.log)
	}
	return s, err
}

// listeners are for WebSocket clients and, unless it has no port of its own, for the page.
type listeners struct{ ws, web net.Listener }

func listen(cfg config) (on listeners, err error) {
	if on.ws, err = net.Listen("tcp", cfg.addr); err != nil {
		return on, err
	}
	if cfg.web != "" && !cfg.onePort {
		if on.web, err = net.Listen("tcp", cfg.web); err != nil {
			on.ws.Close()
		}
	}
	return on, err
}

func (on listeners) addresses(cfg config) (addrs addresses) {
	addrs.ws = on.ws.Addr()
	switch {
	case cfg.onePort:
		addrs.web = addrs.ws
	case on.web != nil:
		addrs.web = on.web.Addr()
	}
	return addrs
}

func (on listeners) close() {
	on.ws.Close()
	if on.web != nil {
		on.web.Close()
	}
}

// prepare gives the server what depends on where it listens.
func (s *server) prepare(cfg config, addrs addresses) (err error) {
	if cfg.tls {
		if s.certificate, err = makeCertificate(certifiedHosts(cfg, addrs)); err != nil {
			return err
		}
	}
	opts := s.ws.Options
	opts.Origins = s.pageOrigins(cfg.web, addrs.web)
	if s.certificate != nil {
		opts.TLSConfig = s.certificate.config()
	}
	if cfg.onePort {
		opts.Handler = timely(s.page(portOf(addrs.ws)))
	}
	return nil
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
func announce(w io.Writer, s *server, cfg config, addrs addresses) {
	url := s.wsURL(s.reachable(addrs.ws), portOf(addrs.ws))
	fmt.Fprintf(w, "WebSocket  %s\n", url)
	if addrs.web != nil {
		fmt.Fprintf(w, "Web page   %s://%s/\n", s.pageScheme(), s.reachable(addrs.web))
	}
	if s.public != "" {
		fmt.Fprintf(w, "Public     %s/ (a proxy in front of both)\n", s.public)
	}
	client := "go run ./examples/client -url " + url
	if cfg.tls {
		fingerprint := chat.Fingerprint(s.certificate.current().Certificate[0])
		fmt.Fprintf(w, "SHA-256    %s (of the new certificate: a browser warns of it, and shows this)\n", fingerprint)
		client += " -fingerprint " + fingerprint
	}
	if s.isDemo {
		fmt.Fprintf(w, "Terminal   %s -user alice\n", client)
		fmt.Fprintln(w, "The users alice, bob, carol and dave are for demonstration: everybody knows their keys. See -users.")
	} else {
		fmt.Fprintf(w, "Terminal   CHAT_KEY=... %s\n", client)
	}
	fmt.Fprintln(w, "Stop with Ctrl+C.")
}

// reachable returns an address that a client on this machine can use. If there is a certificate, and it is for others alone, it is the
// first of those.
func (s *server) reachable(addr net.Addr) string {
	at := reachable(addr)
	if s.certificate == nil {
		return at
	}
	if names := s.certificate.names(); len(names) > 0 && !slices.Contains(names, hostname(at)) {
		return net.JoinHostPort(names[0], portOf(addr))
	}
	return at
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
