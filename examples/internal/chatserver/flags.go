package chatserver

import (
	"errors"
	"flag"
	"fmt"

	"github.com/wsloop/websocket/examples/internal/chat"
)

// config is what the flags say.
type config struct {
	addr, users string
	public      string // origin of -public-url
	proxies     proxies
	cert, key   string
	tls         bool // with a certificate made at start
	history     int
	debug       bool
}

func (p *Program) parse() (cfg config, err error) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(p.Stderr)
	flags.StringVar(&cfg.addr, "addr", "127.0.0.1:9001", "listen on `host:port`, for browsers and WebSocket clients")
	flags.StringVar(&cfg.users, "users", "", "`file` with a line name:key for each user, read again at SIGHUP (default: demo users)")
	flags.IntVar(&cfg.history, "history", 20, fmt.Sprintf("`number` of messages that newcomers are shown of each room, up to %d; 0: nothing is kept", chat.MaxPage))
	flags.Func("public-url", "`URL` of a proxy in front, such as https://chat.example.com", func(text string) (err error) {
		cfg.public, err = parsePublicURL(text)
		return err
	})
	flags.Func("trust", "`addresses` of proxies, with commas between, whose X-Forwarded-For is believed (default: this machine's with -public-url)",
		func(text string) (err error) {
			cfg.proxies, err = parseProxies(text)
			return err
		})
	flags.BoolVar(&cfg.tls, "tls", false, "speak TLS (https and wss) with a certificate made at start, and print its fingerprint")
	flags.StringVar(&cfg.cert, "cert", "", "speak TLS with the certificate in a PEM `file`, read again when it changes and at SIGHUP")
	flags.StringVar(&cfg.key, "key", "", "PEM `file` with the private key of -cert")
	flags.BoolVar(&cfg.debug, "debug", false, "log why connections end")
	flags.Usage = func() {}
	if p.Flags != nil {
		p.Flags(flags)
	}
	switch err = flags.Parse(p.Args); {
	case errors.Is(err, flag.ErrHelp):
		p.explain(flags)
		return cfg, err
	case err != nil:
		fmt.Fprintln(p.Stderr, "-help shows the flags")
		return cfg, err
	}
	if err = cfg.check(flags.Args()); err != nil {
		fmt.Fprintln(p.Stderr, err)
		return cfg, err
	}
	if cfg.public != "" && cfg.proxies == nil {
		cfg.proxies = loopback
	}
	return cfg, nil
}

// explain is what -help prints.
func (p *Program) explain(flags *flag.FlagSet) {
	fmt.Fprintln(p.Stdout, "The server of a group chat for browsers and terminals. Flags:")
	flags.SetOutput(p.Stdout)
	flags.PrintDefaults()
	if p.Flags == nil {
		fmt.Fprintln(p.Stdout, "For several servers as one, over NATS: cd examples/cluster && go run . -help")
	}
}

func (cfg *config) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case cfg.history < 0 || cfg.history > chat.MaxPage:
		return fmt.Errorf("-history is not between 0 and %d", chat.MaxPage)
	case cfg.tls && (cfg.cert != "" || cfg.key != ""):
		return errors.New("-tls makes a certificate: it goes without -cert and -key")
	case cfg.cert == "" && cfg.key != "":
		return errors.New("-key needs -cert, the file with its certificate")
	case cfg.cert != "" && cfg.key == "":
		return errors.New("-cert needs -key, the file with its private key")
	}
	return nil
}
