package peer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"time"
)

// ServerName is a name that the certificates of tests are for, besides 127.0.0.1.
const ServerName = "localhost"

// authority signs the certificates of tests. It is made once in a process.
var authority = sync.OnceValue(func() *signer {
	s := &signer{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	s.certificate = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key))))
	s.pool = x509.NewCertPool()
	s.pool.AddCert(s.certificate)
	return s
})

// signer is a certificate that others are signed with.
type signer struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pool        *x509.CertPool
}

// Trust is the pool that trusts the certificates of tests, those of clients too.
func Trust() *x509.CertPool { return authority().pool }

// CertificateECDSA is a certificate for 127.0.0.1 and ServerName with a key on P-256, and CertificateRSA one with 2,048 bits of RSA.
var (
	CertificateECDSA = sync.OnceValue(func() tls.Certificate { return Certificate(ServerName) })
	CertificateRSA   = sync.OnceValue(func() tls.Certificate {
		return authority().sign(ServerName, must(rsa.GenerateKey(rand.Reader, 2048)))
	})
)

// Certificate makes a certificate for 127.0.0.1 and a name, on P-256, for a server or a client.
func Certificate(name string) tls.Certificate {
	return authority().sign(name, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
}

func (s *signer) sign(name string, key crypto.Signer) tls.Certificate {
	template := &x509.Certificate{SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der := must(x509.CreateCertificate(rand.Reader, template, s.certificate, key.Public(), s.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}
}

// must is for what cannot fail.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
