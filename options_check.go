package websocket

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path"
	"slices"
	"time"
)

// fill sets what is not set to its default.
func (opts *ServerOptions) fill() {
	if opts.TLSConfig != nil {
		setDefault(&opts.Address, defaultTLSAddress)
	}
	setDefault(&opts.Address, defaultAddress)
	setDefault(&opts.ConnectPath, defaultConnectPath)
	setDefault(&opts.StatusPath, path.Join(opts.ConnectPath, statusSegment))
	setDefault(&opts.MaxMessageSize, defaultMaxMessageSize)
	setDefault(&opts.MaxFragments, defaultMaxFragments)
	setDefault(&opts.MaxHeaderSize, defaultMaxHeaderSize)
	setDefault(&opts.MaxHeaderFields, defaultMaxHeaderFields)
	setDefault(&opts.MaxConnections, maxDescriptors()/32*31+maxDescriptors()%32)
	setDefault(&opts.MaxHandshakes, defaultMaxHandshakes)
	setDefault(&opts.SendQueueSize, defaultSendQueueSize)
	setDefault(&opts.MessagesAtOnce, 1)
	setDefault(&opts.RequestsAtOnce, defaultRequestsAtOnce)
	setDefault(&opts.MaxTopics, defaultMaxTopics)
	setDefault(&opts.HandshakeTimeout, defaultHandshakeTimeout)
	setDefault(&opts.WriteTimeout, defaultWriteTimeout)
	setDefault(&opts.SilenceTimeout, defaultSilenceTimeout)
	setDefault(&opts.MinRate, defaultMinRate)
	setDefault(&opts.AddTimeout, defaultAddTimeout)
	if opts.Compression != nil {
		filled := opts.Compression.filled()
		opts.Compression = &filled
	}
	if opts.PingInterval == 0 {
		opts.PingInterval = defaultPingInterval
	}
	if opts.ShutdownSpread == 0 {
		opts.ShutdownSpread = defaultShutdownSpread
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.HandleStatus == nil {
		opts.HandleStatus = func() (contentType string, data []byte) { return "text/plain", []byte("OK") }
	}
}

// clamp cuts values that would make sums of moments or numbers overflow, and copies what the program may change.
func (opts *ServerOptions) clamp() {
	opts.MaxConnections = min(opts.MaxConnections, 1<<fdBits)
	opts.ProxyProtocol = slices.Clone(opts.ProxyProtocol) // the program may change its own
	opts.MessagesAtOnce = min(opts.MessagesAtOnce, math.MaxUint16)
	opts.RequestsAtOnce = min(opts.RequestsAtOnce, math.MaxUint16)
	for _, d := range []*time.Duration{&opts.HandshakeTimeout, &opts.WriteTimeout, &opts.PingInterval, &opts.SilenceTimeout, &opts.AddTimeout, &opts.ShutdownSpread} {
		*d = min(*d, maxTimeout)
	}
}

// limits returns the time-outs as the clocks want them.
func (opts *ServerOptions) limits() limits {
	return limits{
		handshake: int64(opts.HandshakeTimeout),
		write:     int64(opts.WriteTimeout),
		ping:      int64(opts.PingInterval),
		silence:   int64(opts.SilenceTimeout),
		add:       int64(opts.AddTimeout),
		rate:      opts.MinRate,
	}
}

// setDefault sets a value that is zero or below to its default.
func setDefault[T int | time.Duration | string](value *T, otherwise T) {
	var zero T
	if *value <= zero {
		*value = otherwise
	}
}

// leastHandshake is the shortest complete opening handshake, but without a path, and leastFields the number of its fields.
const (
	leastHandshake = "GET  HTTP/1.1\r\nHost:a\r\nConnection:upgrade\r\nUpgrade:websocket\r\n" +
		"Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version:13\r\n\r\n"
	leastFields = 5
)

// terms returns what the options, whose defaults are filled in, say about opening handshakes, and an error if that makes no sense.
func (opts *ServerOptions) terms() (t terms, err error) {
	if t.connect, err = parsePattern(opts.ConnectPath); err != nil {
		return t, fmt.Errorf("websocket: ConnectPath %q %w", opts.ConnectPath, err)
	}
	if t.status, err = parsePattern(opts.StatusPath); err != nil {
		return t, fmt.Errorf("websocket: StatusPath %q %w", opts.StatusPath, err)
	}
	if t.status.isSame(&t.connect) {
		return t, fmt.Errorf("websocket: ConnectPath and StatusPath are both %q: no client could connect", t.connect.path)
	}
	t.statusFirst = t.status.goesBefore(&t.connect)
	if err = checkSubprotocols(opts.Subprotocols); err != nil {
		return t, err
	}
	t.subprotocols = slices.Clone(opts.Subprotocols)
	t.anyOrigin = opts.Origins == nil
	for _, s := range opts.Origins {
		o, err := parseAllowed(s)
		if err != nil {
			return t, err
		}
		t.origins = append(t.origins, o)
	}
	return t, nil
}

// check returns an error if no client could ever be served as the options say, whose defaults are filled in.
func (opts *ServerOptions) check() error {
	for _, network := range opts.ProxyProtocol {
		if !network.IsValid() {
			return errors.New("websocket: ProxyProtocol has an invalid prefix: it would trust nobody")
		}
	}
	t, err := opts.terms()
	least := len(leastHandshake) + t.connect.least()
	switch {
	case err != nil:
		return err
	case opts.TLSConfig != nil && !hasCertificate(opts.TLSConfig):
		return errors.New("websocket: TLSConfig has no certificate, and no function that gets one")
	case opts.MaxHeaderSize < least:
		return fmt.Errorf("websocket: MaxHeaderSize of %d is less than any opening handshake has, %d bytes", opts.MaxHeaderSize, least)
	case opts.MaxHeaderFields < leastFields:
		return fmt.Errorf("websocket: MaxHeaderFields of %d is less than any opening handshake has, %d", opts.MaxHeaderFields, leastFields)
	}
	return nil
}
