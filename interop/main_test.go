package interop

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// What the programs of the tests must find there as they start: net/http looks at GODEBUG once, and crypto/tls and Node at
// their certificates.
const (
	http2Connect = "http2xconnect=1"
	goRoots      = "SSL_CERT_FILE"
	nodeRoots    = "NODE_EXTRA_CA_CERTS"
	rootsOwner   = "INTEROP_ROOTS_OWNER"
)

// TestMain runs the tests in an environment where net/http offers WebSocket over HTTP/2, and clients trust the certificate of httptest.
func TestMain(m *testing.M) {
	if os.Getenv("GODEBUG") != http2Connect {
		fmt.Fprintln(os.Stderr, again())
		os.Exit(1)
	}
	code := m.Run()
	if os.Getenv(rootsOwner) == strconv.Itoa(os.Getpid()) { // and not one that a test runs
		os.Remove(os.Getenv(goRoots))
	}
	os.Exit(code)
}

// again starts this program again, and returns only if it cannot.
func again() error {
	server := httptest.NewTLSServer(nil)
	server.Close()
	roots, err := os.CreateTemp("", "roots-*.pem")
	if err != nil {
		return err
	}
	if err = pem.Encode(roots, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"GODEBUG":  http2Connect,
		goRoots:    roots.Name(),
		nodeRoots:  roots.Name(),
		rootsOwner: strconv.Itoa(os.Getpid()),
	} {
		if err = os.Setenv(name, value); err != nil {
			return err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(program, os.Args, os.Environ())
}
