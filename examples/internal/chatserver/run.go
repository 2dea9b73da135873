package chatserver

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// stopTimeout is how long clients have to take what they were sent when the server stops, and handlers to return.
const stopTimeout = 3 * time.Second

// Program is what runs the chat.
type Program struct {
	Start          Starter
	Args           []string            // without the program's name
	Flags          func(*flag.FlagSet) // adds some; nil: none
	Stdout, Stderr io.Writer           // what to connect to, and the log
	Ready          func(on net.Addr)   // is called when clients can connect; nil: nobody wants to know
}

// Main is the program until SIGINT or SIGTERM, and returns the exit code. A second signal ends it immediately.
func Main(start Starter, flags ...func(*flag.FlagSet)) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	p := Program{Start: start, Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr}
	for _, add := range flags {
		p.Flags = add
	}
	return p.Run(ctx)
}

// Run serves until ctx is done, and returns the exit code.
func (p *Program) Run(ctx context.Context) (code int) {
	cfg, err := p.parse()
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // the flag package has said what is wrong
	}
	if err := p.serve(ctx, cfg); err != nil {
		fmt.Fprintln(p.Stderr, "chat server:", err)
		return 1
	}
	return 0
}

// serve listens, and serves until ctx is done or something fails.
func (p *Program) serve(ctx context.Context, cfg config) error {
	s, err := newConfigured(cfg, p.Stderr)
	if err != nil {
		return err
	}
	if cfg.cert != "" || cfg.users != "" {
		defer atHangup(func() { s.reload(cfg) })()
	}
	ln, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	if err := s.prepare(cfg, ln.Addr()); err != nil {
		ln.Close()
		return err
	}
	spread, leave, err := p.Start(ctx, s.ws, s.keep())
	if err != nil {
		ln.Close()
		return err
	}
	defer leave()
	s.spread = spread
	ended := make(chan error, 1)
	go func() { ended <- s.ws.Serve(ln) }()
	s.announce(p.Stdout, cfg, ln.Addr())
	if p.Ready != nil {
		p.Ready(ln.Addr())
	}
	select {
	case <-ctx.Done():
		return s.stop(ended)
	case err = <-ended:
		return err
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
	s.isDemo, s.public, s.proxies = cfg.users == "", cfg.public, cfg.proxies
	if cfg.cert != "" {
		s.certificate, err = loadCertificate(cfg.cert, cfg.key, s.log)
	}
	return s, err
}

// reload reads the files again: that of the users, and those of the certificate, which a look did not show to have changed.
func (s *server) reload(cfg config) {
	if cfg.users != "" {
		s.reloadUsers(cfg.users)
	}
	if cfg.cert != "" {
		s.certificate.refresh()
	}
}

// atHangup calls a function at each SIGHUP until stop is called.
func atHangup(do func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			do()
		}
	}()
	return func() {
		signal.Stop(hangups) // nothing is sent after it
		close(hangups)
	}
}

// prepare gives the server what depends on where it listens.
func (s *server) prepare(cfg config, on net.Addr) (err error) {
	if cfg.tls {
		if s.certificate, err = makeCertificate(certifiedHosts(cfg.addr, on)); err != nil {
			return err
		}
	}
	opts := s.ws.Options
	opts.Origins = s.pageOrigins(cfg.addr, on)
	if s.certificate != nil {
		opts.TLSConfig = s.certificate.config()
	}
	opts.Handler = s.page()
	return nil
}

// stop ends all connections, spread over a moment so that not all clients come back at once. Shutdown does nothing before Serve has
// begun, so it is called again until Serve has returned.
func (s *server) stop(ended <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for {
		if err := s.ws.Shutdown(ctx); err != nil {
			s.log.Warn("some clients were cut off", "error", err)
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// announce says how to connect.
func (s *server) announce(w io.Writer, cfg config, on net.Addr) {
	at := s.reachable(on)
	socket := "ws://" + at + "/"
	if s.certificate != nil {
		socket = "wss://" + at + "/"
	}
	fmt.Fprintf(w, "WebSocket  %s\n", socket)
	fmt.Fprintf(w, "Web page   %s://%s/\n", s.pageScheme(), at)
	if s.public != "" {
		fmt.Fprintf(w, "Public     %s/ (a proxy in front)\n", s.public)
	}
	client := "go run ./examples/client -url " + socket
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
