package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// What the programs of the tests must find there as they start: net/http looks at GODEBUG once, and crypto/tls and Node at
// their certificates.
const (
	http2Connect = "http2xconnect=1"
	goRoots      = "SSL_CERT_FILE" // of OpenSSL too
	nodeRoots    = "NODE_EXTRA_CA_CERTS"

	authorityFolder = "INTEROP_AUTHORITY"
	authorityOwner  = "INTEROP_AUTHORITY_OWNER"
)

// TestMain runs the tests in an environment where net/http offers WebSocket over HTTP/2, and programs trust the authority of the tests.
func TestMain(m *testing.M) {
	if os.Getenv("GODEBUG") != http2Connect {
		fmt.Fprintln(os.Stderr, again())
		os.Exit(1)
	}
	code := m.Run()
	if os.Getenv(authorityOwner) == strconv.Itoa(os.Getpid()) { // and not one that a test runs
		os.RemoveAll(os.Getenv(authorityFolder))
	}
	os.Exit(code)
}

// again starts this program again, and returns only if it cannot.
func again() error {
	folder, err := os.MkdirTemp("", "authority-*")
	if err != nil {
		return err
	}
	if err = createAuthority(folder); err != nil {
		return err
	}
	roots := filepath.Join(folder, rootsFile)
	for name, value := range map[string]string{
		"GODEBUG":       http2Connect,
		goRoots:         roots,
		nodeRoots:       roots,
		authorityFolder: folder,
		authorityOwner:  strconv.Itoa(os.Getpid()),
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
