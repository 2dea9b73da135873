// Package peer is what all echo servers have in common: flags, signals, and what a text message can ask for.
package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"
)

// MaxMessageSize is the longest message that a server has to take.
const MaxMessageSize = 2 << 20

// Flags of every server.
var (
	Addr      = flag.String("addr", "127.0.0.1:9001", "host:port to listen on")
	Broadcast = flag.Bool("broadcast", false, "keep the connections, for text messages that begin with \"broadcast \"")
	Router    = flag.Bool("router", false, "text messages are JSON requests, for servers that have a router")
	Users     = flag.Bool("users", false, "each connection has a context and a user id, for servers that know users")

	Deflate = flag.String("deflate", "", "switch permessage-deflate on: \"context\", \"nocontext\" or another mode that the server has")

	set  = flag.String("messages", "", "file with a message a line, for text messages \"send M N\"")
	cert = flag.String("cert", "", "speak TLS: PEM file with the certificate")
	key  = flag.String("key", "", "PEM file with its key")

	listenOnly = flag.Bool("listen-only", false, "listen, serve nothing and stop: says whether the address is free")
	cpuProfile = flag.String("cpuprofile", "", "write a CPU profile to this file until SIGTERM")
)

// Serve runs a server until SIGTERM or SIGINT. At SIGUSR1 the process gives back what memory it can.
func Serve(serve func(addr string) error) {
	flag.Parse()
	if *listenOnly {
		ln := Listen(*Addr)
		ln.Close()
		return
	}
	if *cpuProfile != "" {
		f, err := os.Create(*cpuProfile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			log.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	collect := make(chan os.Signal, 1)
	signal.Notify(collect, syscall.SIGUSR1)
	go func() {
		for range collect {
			debug.FreeOSMemory()
		}
	}()
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- serve(*Addr) }()
	select {
	case err := <-done:
		log.Print(err)
	case <-stop.Done():
	}
}

// Listen listens, over TLS if a certificate is given, and ends the process if it cannot.
func Listen(addr string) net.Listener {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	if config := TLSConfig(); config != nil {
		return tls.NewListener(ln, config)
	}
	return ln
}

// Encrypted tells whether the server is to speak TLS.
func Encrypted() bool { return *cert != "" }

// TLSConfig returns what a server with its defaults has, or nil if no certificate is given.
func TLSConfig() *tls.Config {
	if !Encrypted() {
		return nil
	}
	return &tls.Config{Certificates: []tls.Certificate{Certificate(tls.LoadX509KeyPair)}}
}

// Certificate loads the certificate that is given, and ends the process if it cannot. Its type is that of crypto/tls, or of a
// variant of that package.
func Certificate[C any](load func(certFile, keyFile string) (C, error)) C {
	c, err := load(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// IsBroadcast tells whether a text message is for all connections.
func IsBroadcast(text []byte) bool { return *Broadcast && bytes.HasPrefix(text, []byte("broadcast ")) }

// Requested returns what a text message "send M N" asks for: messages M to N-1 of the file. For any other text it is nil.
func Requested(text []byte) [][]byte {
	if *set == "" {
		return nil
	}
	var m, n int
	if _, err := fmt.Sscanf(string(text), "send %d %d", &m, &n); err != nil {
		return nil
	}
	return stored()[m:n]
}

// stored reads the messages on first use.
var stored = sync.OnceValue(func() [][]byte {
	b, err := os.ReadFile(*set)
	if err != nil {
		log.Fatal(err)
	}
	return bytes.Split(b, []byte{'\n'})
})

// Sleep does what a message that begins with "sleep N " asks of its handler: to take N milliseconds.
func Sleep(text []byte) {
	text, ok := bytes.CutPrefix(text, []byte("sleep "))
	if !ok {
		return
	}
	milliseconds := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		milliseconds = milliseconds*10 + int(c-'0')
	}
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
}
