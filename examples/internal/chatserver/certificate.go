package chatserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// A certificate of -tls is valid from a while ago, for clients whose clocks are slow, and for a year.
const (
	clockSkew = time.Hour
	lifetime  = 365 * 24 * time.Hour
)

// certificate is what the server shows its clients, and the key that goes with it.
type certificate struct {
	// Immutable. Without files the certificate was made at start.
	certFile, keyFile string
	log               *slog.Logger

	mu   sync.Mutex
	pair *tls.Certificate // guarded by mu
	seen [2]os.FileInfo   // the files as they were before they were last read; guarded by mu
}

// loadCertificate reads the files of -cert and -key.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, err := c.look()
	if err == nil {
		err = c.readLocked(seen)
	}
	if err != nil {
		return nil, fmt.Errorf("-cert, -key: %w", err)
	}
	return c, nil
}

// makeCertificate makes a certificate for hosts, which are names and addresses. Nobody vouches for it: a client has to know its
// fingerprint.
func makeCertificate(hosts []string) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "chat demonstration"},
		NotBefore:             time.Now().Add(-clockSkew),
		NotAfter:              time.Now().Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if validHost.MatchString(host) {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &certificate{pair: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}, nil
}

// certifiedHosts returns what a certificate of -tls is for: this machine under all names that it knows of, and what the server
// listens on.
func certifiedHosts(given string, listening net.Addr) (hosts []string) {
	hosts = []string{"localhost", "127.0.0.1", "::1"}
	if self, err := os.Hostname(); err == nil {
		hosts = append(hosts, self)
	}
	hosts = append(hosts, hostsOf(given, listening)...)
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// config returns what a server speaks TLS with.
func (c *certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil }}
}

// current returns the certificate for a handshake. It looks at the files each time, which costs some microseconds where a handshake
// costs hundreds: so one that was renewed is shown to the next client. Whoever is connected stays so.
func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.certFile != "" {
		if seen, err := c.look(); err == nil && !isSame(seen, c.seen) {
			c.refreshLocked(seen)
		}
	}
	return c.pair
}

// refresh reads the files again, whether they have changed or not.
func (c *certificate) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, err := c.look()
	if err != nil {
		c.log.Warn("the certificate stays as it is", "error", err)
		return
	}
	c.refreshLocked(seen)
}

// refreshLocked reads the files again. While they cannot be used the certificate stays as it is: they may be in the middle of being
// replaced, one after the other.
func (c *certificate) refreshLocked(seen [2]os.FileInfo) {
	if err := c.readLocked(seen); err != nil {
		c.log.Warn("the certificate stays as it is", "error", err)
		return
	}
	c.log.Info("the certificate was read again", "valid until", c.pair.Leaf.NotAfter)
}

// readLocked reads the files, which were looked at before: if they change meanwhile, the next look shows it.
func (c *certificate) readLocked(seen [2]os.FileInfo) error {
	c.seen = seen
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair = &pair
	return nil
}

func (c *certificate) look() (seen [2]os.FileInfo, err error) {
	for i, name := range [...]string{c.certFile, c.keyFile} {
		if seen[i], err = os.Stat(name); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

func isSame(a, b [2]os.FileInfo) bool {
	for i := range a {
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

// names returns the hosts that the certificate is for, without patterns.
func (c *certificate) names() (hosts []string) {
	leaf := c.current().Leaf
	for _, name := range leaf.DNSNames {
		if !strings.Contains(name, "*") {
			hosts = append(hosts, name)
		}
	}
	for _, ip := range leaf.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}
