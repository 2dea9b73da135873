package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The files of the authority that issues the certificates of the tests: its certificate, which all programs of the tests trust, and the
// same with its key.
const (
	rootsFile     = "roots.pem"
	authorityFile = "authority.pem"
)

// createAuthority makes the authority in a folder.
func createAuthority(folder string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Authority of the tests"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	roots, all, err := encode(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
	if err != nil {
		return err
	}
	if err = os.WriteFile(filepath.Join(folder, rootsFile), roots, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, authorityFile), all, 0o600)
}

// encode returns a certificate in PEM, without and with its key.
func encode(certificate tls.Certificate) (public, all []byte, err error) {
	for _, der := range certificate.Certificate {
		public = append(public, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	return public, append(public[:len(public):len(public)], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), err
}

var authority = sync.OnceValues(func() (tls.Certificate, error) {
	file := filepath.Join(os.Getenv(authorityFolder), authorityFile)
	return tls.LoadX509KeyPair(file, file)
})

// algorithm is that of the key of a certificate.
type algorithm string

const (
	ecdsaKey algorithm = "ECDSA"
	rsaKey   algorithm = "RSA"
)

// keys are made once: all certificates with one algorithm have the same.
var keys = map[algorithm]func() (crypto.Signer, error){
	ecdsaKey: sync.OnceValues(func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }),
	rsaKey:   sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
}

// issue returns a certificate for 127.0.0.1 and the names, to be used by servers and clients.
func issue(t testing.TB, key algorithm, names ...string) tls.Certificate {
	t.Helper()
	issuer, err := authority()
	require.NoError(t, err)
	signer, err := keys[key]()
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: append(names, "127.0.0.1")[0]},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     names,
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, signer.Public(), issuer.PrivateKey)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer, Leaf: leaf}
}

// saved returns the name of a file with the certificate and its key.
func saved(t *testing.T, certificate tls.Certificate) (file string) {
	t.Helper()
	_, all, err := encode(certificate)
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "certificate.pem")
	require.NoError(t, os.WriteFile(file, all, 0o600))
	return file
}

// rootsPool returns the certificate of the authority, for what does not trust it by itself.
func rootsPool(t *testing.T) *x509.CertPool {
	t.Helper()
	issuer, err := authority()
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(issuer.Leaf)
	return pool
}

// trustingHome makes a home folder whose owner's browser trusts the authority.
func trustingHome(t *testing.T) (folder string) {
	t.Helper()
	if _, err := exec.LookPath("certutil"); err != nil {
		missing(t, "certutil is not installed")
	}
	folder = t.TempDir()
	store := filepath.Join(folder, ".pki", "nssdb")
	require.NoError(t, os.MkdirAll(store, 0o700))
	out, err := exec.Command("certutil", "-d", "sql:"+store, "-N", "--empty-password").CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command("certutil", "-d", "sql:"+store, "-A", "-t", "C,,", "-n", "authority",
		"-i", filepath.Join(os.Getenv(authorityFolder), rootsFile)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return folder
}
