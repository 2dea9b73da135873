package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"math/rand/v2"
	"net"
	"time"
)

// door is a way into the process of the server: an address, and whether TLS is spoken there.
type door struct {
	Address string
	TLS     bool
}

// entrances are the doors of the two servers, for messages and for requests.
type entrances struct {
	Echo, Router door
}

// ways is how many entrances there are: without TLS and with it. A client takes any of them.
const ways = 2

// entrance chooses how a client gets in.
func (d *driver) entrance(rng *rand.Rand) entrances { return d.entrances[rng.IntN(len(d.entrances))] }

// dial connects. The query is that of the handshake to come: with TLS it is the name that is asked for as well, which nobody checks, but
// by which the simulated network knows the session.
func (at door) dial(query string) (net.Conn, error) {
	conn, err := dialTCP(at.Address)
	if err != nil || !at.TLS {
		return conn, err
	}
	return tls.Client(conn, clientTLS(query)), nil
}

// clientTLS is a client's configuration: whom it talks to is no matter here.
func clientTLS(query string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "?" + query}
}

// url is what a Client connects to.
func (at door) url(query string) string {
	scheme := "ws"
	if at.TLS {
		scheme = "wss"
	}
	return scheme + "://" + at.Address + "/?" + query
}

// serverTLS is the server's configuration, with a certificate of its own.
func serverTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{"soak"}}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

// tcpOf returns the socket under a connection, nil if there is none.
func tcpOf(conn net.Conn) *net.TCPConn {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}
