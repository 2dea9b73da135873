// Client is the group chat of examples/server for terminals.
//
//	go run ./examples/client -user alice
//	go run ./examples/client -user bob -say "Hello, all"
//	go run ./examples/client -user carol -fingerprint HEX   # of a server that runs with -tls and has printed it
//
// A connection that is lost is replaced by another one, with what was said meanwhile. It exits with 0 when the user quits or the message
// was sent; with 1 when it could not connect, the server does not want the user any more, the connection of -say was lost, or a message
// was refused (one that was typed at a terminal does not count); and with 2 when the flags are wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// keyVariable is the environment variable with the key. Other users of a machine can read the flags of a process, but not
// its environment.
const keyVariable = "CHAT_KEY"

const defaultTimeout = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// config is what the flags say.
type config struct {
	url, key string
	trust    trust
	say, to  string
	says     bool // there is -say
	timeout  time.Duration
}

// run is the program. It returns the exit code. A read of stdin may go on when it has returned: that ends with the process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	cfg, err := parse(args, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	out := newScreen(stdout)
	err = chatUntilDone(ctx, cfg, out, stdin)
	if !cfg.says && (err != nil || ctx.Err() != nil) {
		forgetTyped(stdin) // the user was in the middle of a line, or of several, that are for the chat and not for the shell
	}
	if err != nil {
		fmt.Fprintln(stderr, "chat:", plain(err.Error())) // the text may be the server's
		return 1
	}
	return 0
}

func chatUntilDone(ctx context.Context, cfg config, out *screen, stdin io.Reader) error {
	s, err := connect(cfg, out)
	if err != nil {
		return err
	}
	defer s.client.Close()
	if cfg.says {
		return sayOnce(ctx, s, out, cfg)
	}
	return talk(ctx, s, out, stdin)
}

// forgetTyped discards what was typed at a terminal and not read: the terminal itself keeps it, for whoever reads next. It does
// nothing if that cannot be done.
func forgetTyped(stdin io.Reader) {
	if isTerminal(stdin) {
		flushInput(stdin.(*os.File))
	}
}

const about = `A client of the group chat for terminals. It logs in, shows what is said and sends what is typed; with
-say it sends one message. The server is github.com/wsloop/websocket/examples/server.

    client -user alice
    client -user bob -say "Hello, all"

Flags:
`

func parse(args []string, stdout, stderr io.Writer) (cfg config, err error) {
	var addr, user string
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {}
	define(flags, &cfg)
	flags.StringVar(&addr, "addr", "127.0.0.1:9001", "connect to the server on `host:port`, with TLS if there is -ca or -fingerprint")
	flags.StringVar(&user, "user", "", "log in as a demo user: `name` is alice, bob, carol or dave")
	switch err = flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(stdout, about)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return cfg, err
	case err != nil:
		fmt.Fprintln(stderr, "-help shows the flags")
		return cfg, err
	}
	flags.Visit(func(f *flag.Flag) { cfg.says = cfg.says || f.Name == "say" })
	if cfg.url == "" {
		cfg.url = cfg.trust.scheme() + "://" + addr + "/"
	}
	if user != "" {
		key, ok := chat.DemoKey(user)
		if !ok {
			err = fmt.Errorf("%q is not a demo user: log in with -key", user)
		}
		cfg.key = key
	}
	if err = errors.Join(err, check(cfg, flags.Args())); err != nil {
		fmt.Fprintln(stderr, err)
	}
	return cfg, err
}

// define defines the flags that are parts of a config.
func define(flags *flag.FlagSet, cfg *config) {
	flags.StringVar(&cfg.url, "url", "", "connect to a `URL` instead, such as wss://chat.example.com/")
	flags.StringVar(&cfg.trust.ca, "ca", "", "trust the certificates in a PEM `file`, and those they vouch for, in place of the system's")
	flags.Func("fingerprint", "trust the certificate with that SHA-256 in `hex`, 64 digits, and no other", func(text string) (err error) {
		cfg.trust.fingerprint, err = parseFingerprint(text)
		return err
	})
	flags.StringVar(&cfg.key, "key", os.Getenv(keyVariable), "log in with a `key` (default: environment variable "+keyVariable+")")
	flags.Lookup("key").DefValue = "" // the help must not show the key
	flags.StringVar(&cfg.say, "say", "", "send one message, the `text`, print it as the server took it, and exit")
	flags.StringVar(&cfg.to, "to", "", "send the message of -say to the user with that `name` only")
	flags.DurationVar(&cfg.timeout, "timeout", defaultTimeout, "how long the server may take to answer")
}

func check(cfg config, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case cfg.trust.ca != "" && cfg.trust.fingerprint != "":
		return errors.New("-ca and -fingerprint do not go together")
	case cfg.trust.isGiven() && !speaksTLS(cfg.url):
		return errors.New("-ca and -fingerprint need a URL with TLS: wss://")
	case cfg.timeout <= 0:
		return errors.New("-timeout is not above zero")
	case cfg.says && strings.TrimSpace(cfg.say) == "":
		return errors.New("-say has no text")
	case cfg.to != "" && !cfg.says:
		return errors.New("-to goes with -say; in the chat it is /to NAME TEXT")
	case cfg.key == "":
		return errors.New("log in with -user NAME (demo users) or -key KEY")
	}
	return nil
}

// sayOnce is the program with -say.
func sayOnce(ctx context.Context, s *session, out *screen, cfg config) error {
	m, err := s.say(ctx, cfg.to, cfg.say)
	if err == nil {
		out.print(describeSent(m, "")) // with all names, for scripts
	}
	return err
}
