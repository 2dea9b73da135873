package cluster

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// The clocks of the embedded server. A peer that is silent has gone after (routePings + 1) × routePing; presence is wrong for as long.
const (
	routePing        = time.Second
	routePings       = 2
	routeAuthTimeout = 5 // seconds
	routeRetries     = 600
	startTimeout     = 10 * time.Second
	startLook        = time.Millisecond
)

// clientUser is the name of this process at its own server.
const clientUser = "node"

// Limits of the embedded server in bytes.
const (
	packetRoom = 64 << 10 // beyond the largest message, for what is around it
	maxPayload = 64 << 20 // of NATS
	minPending = 64 << 20 // for each connection
	storeRoom  = 16 << 20 // beyond History.Bytes, for the server itself
)

// broker is the NATS server in this process.
type broker struct {
	server  *server.Server
	account *server.Account
	scratch string // directory to be removed at the end; empty: none
	secret  string // for connections of clients, of which this process is the only one
}

// startBroker runs a server. maxMessage is the size of the largest message that has to go through, in bytes.
func startBroker(ctx context.Context, opts *Options, maxMessage int, log *slog.Logger) (_ *broker, err error) {
	b := new(broker)
	defer func() {
		if err != nil {
			b.stop(context.Background())
		}
	}()
	settings, err := b.settings(opts, maxMessage)
	if err != nil {
		return nil, err
	}
	if b.server, err = server.NewServer(settings); err != nil {
		return nil, fmt.Errorf("websocket: cluster: embedded server: %w", err)
	}
	fatal := make(chan string, 1)
	b.server.SetLoggerV2(serverLog{log, fatal}, false, false, false)
	go b.server.Start()
	if err := b.awaitStart(ctx, fatal); err != nil {
		return nil, fmt.Errorf("websocket: cluster: embedded server: %w", err)
	}
	b.account = b.server.GlobalAccount()
	return b, nil
}

// awaitStart waits until the server is ready, or says that it never will be.
func (b *broker) awaitStart(ctx context.Context, fatal <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !b.server.ReadyForConnections(startLook) {
		select {
		case text := <-fatal:
			return errors.New(text)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(startLook):
		}
	}
	return nil
}

func (b *broker) settings(opts *Options, maxMessage int) (*server.Options, error) {
	payload := min(maxMessage+packetRoom, maxPayload)
	b.secret = rand.Text()
	settings := &server.Options{
		ServerName:                 serverName(opts.Node),
		DontListen:                 opts.Listen == "",
		CustomClientAuthentication: password{clientUser, b.secret},
		NoSigs:                     true,
		MaxPayload:                 int32(payload),
		MaxPending:                 max(minPending, 2*int64(payload)),
		DisableJetStreamBanner:     true,
	}
	if opts.Listen != "" {
		if err := joinRoutes(settings, opts); err != nil {
			return nil, err
		}
	}
	if opts.History.Messages > 0 {
		return settings, b.keepHistory(settings, &opts.History)
	}
	return settings, nil
}

// serverName is the name of a node's server, to which a space or what a log cannot show would be none.
func serverName(node string) string {
	for i := range len(node) {
		if c := node[i]; c <= ' ' || c > '~' || c == escape {
			return encodeName(node)
		}
	}
	return node
}

// keepHistory gives the server a store.
func (b *broker) keepHistory(settings *server.Options, h *History) (err error) {
	settings.JetStream = true
	settings.JetStreamMaxMemory, settings.JetStreamMaxStore = h.Bytes+storeRoom, h.Bytes+storeRoom
	if settings.StoreDir = h.Dir; h.Dir == "" {
		// The server keeps what its quorums know in files, whatever it keeps in memory.
		b.scratch, err = os.MkdirTemp("", "websocket-cluster-")
		settings.StoreDir = b.scratch
	}
	return err
}

// joinRoutes lets the server listen for those of other nodes, and find them.
func joinRoutes(settings *server.Options, opts *Options) error {
	host, port, err := net.SplitHostPort(opts.Listen)
	if err != nil {
		return err
	}
	// The server listens for nodes only if it listens for clients as well. On loopback it lets in nobody: they do not know the secret.
	settings.Host, settings.Port = "127.0.0.1", server.RANDOM_PORT
	settings.Cluster = server.ClusterOpts{
		Name:           encodeName(opts.Name),
		Host:           host,
		AuthTimeout:    routeAuthTimeout,
		TLSTimeout:     routeAuthTimeout,
		ConnectRetries: routeRetries,
		PingInterval:   cmp.Or(opts.routePing, routePing),
		MaxPingsOut:    routePings,
		NoAdvertise:    true, // of ports for clients
		Advertise:      opts.advertise,
	}
	if settings.Cluster.Port, err = strconv.Atoi(port); err != nil {
		return fmt.Errorf("%w: Listen: %w", ErrOptions, err)
	}
	if opts.Secret != "" {
		user, secret := credentials(opts)
		settings.Cluster.Username, settings.Cluster.Password = user, secret // that it shows to others
		settings.CustomRouterAuthentication = password{user, secret}        // that it wants to see
	}
	if opts.TLSConfig != nil {
		settings.Cluster.TLSConfig = opts.TLSConfig.Clone()
	}
	for _, peer := range opts.Peers {
		route := &url.URL{Scheme: "nats", Host: peer}
		if opts.Secret != "" {
			route.User = url.UserPassword(credentials(opts))
		}
		settings.Routes = append(settings.Routes, route)
	}
	return nil
}

// chosenPort returns a Listen with a port that is free now in the place of 0: the name of a node comes from it, and the server needs that
// before it listens.
func chosenPort(listen string) (string, error) {
	host, port, _ := net.SplitHostPort(listen)
	if listen == "" || port != "0" {
		return listen, nil
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err = net.SplitHostPort(ln.Addr().String())
	return net.JoinHostPort(host, port), err
}

// credentials are what nodes show each other: derived, so that a server's log or a listener never has the Secret itself, nor what opens
// another cluster with the same one.
func credentials(opts *Options) (user, password string) {
	mac := hmac.New(sha256.New, []byte(opts.Secret))
	mac.Write([]byte("websocket cluster routes\x00" + opts.Name))
	return "node", hex.EncodeToString(mac.Sum(nil))
}

// password lets in whoever has it. How long that takes tells nothing about it.
type password struct{ user, secret string }

// Check is called by the server for a connection.
func (p password) Check(c server.ClientAuthentication) bool {
	shown := c.GetOpts()
	user := subtle.ConstantTimeCompare([]byte(shown.Username), []byte(p.user))
	return user&subtle.ConstantTimeCompare([]byte(shown.Password), []byte(p.secret)) == 1
}

// address returns where the server listens for other nodes, empty if it does not.
func (b *broker) address() string {
	if addr := b.server.ClusterAddr(); addr != nil {
		return addr.String()
	}
	return ""
}

// stop ends the server, and waits for that as long as ctx lasts.
func (b *broker) stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if b.server != nil {
			b.server.Shutdown()
			b.server.WaitForShutdown()
		}
		if b.scratch != "" {
			os.RemoveAll(b.scratch)
		}
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serverLog tells the program's log what the server has to say.
type serverLog struct {
	log   *slog.Logger
	fatal chan string // what keeps it from working
}

func (l serverLog) tell(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "websocket: cluster: broker", "record", strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}

// What is a notice to those who run a NATS server is a detail to those who run a program with one inside.
func (l serverLog) Noticef(format string, v ...any) { l.tell(slog.LevelDebug, format, v) }
func (l serverLog) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Maximum payloads over") { // is advice to those who set it
		return
	}
	l.tell(slog.LevelWarn, format, v)
}
func (l serverLog) Errorf(format string, v ...any) { l.tell(slog.LevelWarn, format, v) }
func (l serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
func (l serverLog) Debugf(format string, v ...any) { l.tell(slog.LevelDebug, format, v) }
func (l serverLog) Tracef(format string, v ...any) { l.tell(slog.LevelDebug, format, v) }
