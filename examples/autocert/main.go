// Autocert is an echo server whose certificates come from Let's Encrypt by themselves, and are renewed while it runs.
//
//	go -C examples/autocert run . -domain chat.example.com
//
// The domain has to lead to this machine, and the ports 443 and 80 have to be open to the world: there Let's Encrypt asks for a proof
// that the domain is ours. It is a module of its own, so that this package need not depend on golang.org/x/crypto.
//
// The first handshake for a domain has to wait until its certificate has been made, which takes seconds. It holds up nobody: the functions
// of a TLSConfig are called on a goroutine of that handshake, and neither open connections nor other handshakes wait for them. The time
// is part of HandshakeTimeout, which is a minute here. A client that gives up earlier finds the certificate when it comes again. The
// manager, however, looks into its Cache with a lock held: that should be fast.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/wsloop/websocket"
)

// patience is how long a first handshake may wait for its certificate.
const patience = time.Minute

func main() {
	domains := flag.String("domain", "", "`names` of this server, with commas between them")
	cache := flag.String("cache", "certificates", "`folder` to keep the certificates in: Let's Encrypt makes only a few a week")
	flag.Parse()
	if *domains == "" {
		log.Fatal("-domain is missing")
	}
	manager := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		HostPolicy: autocert.HostWhitelist(strings.Split(*domains, ",")...), // without one, strangers choose what is asked for
		Cache:      autocert.DirCache(*cache),
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	serv := newServer(manager)
	context.AfterFunc(ctx, serv.Stop)
	go func() { // answers Let's Encrypt, and sends browsers to https
		web := &http.Server{Addr: ":80", Handler: manager.HTTPHandler(nil), ReadTimeout: patience, WriteTimeout: patience}
		log.Fatal(web.ListenAndServe())
	}()
	if err := serv.Start(); err != nil {
		log.Fatal(err)
	}
}

// newServer makes a server for :443. TLSConfig has the manager's GetCertificate, and answers Let's Encrypt on this port too
// (TLS-ALPN-01): NextProtos has acme-tls/1.
func newServer(manager *autocert.Manager) *websocket.Server {
	return websocket.NewServer(&websocket.ServerOptions{
		TLSConfig:        manager.TLSConfig(),
		HandshakeTimeout: patience,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "Send a message to wss://"+r.Host+"/, and it comes back.\n")
		}),
		HandleText: func(conn int, payload []byte) {
			if err := websocket.SendText(conn, payload); err != nil && !errors.Is(err, websocket.ErrConnClosed) {
				log.Print(err)
			}
		},
	})
}
