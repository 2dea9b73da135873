// Upgrade is an echo server that replaces itself by a new process without refusing anybody or losing a message.
//
//	go build -C examples/upgrade -o upgrade . && examples/upgrade/upgrade -addr 127.0.0.1:8080 -pid upgrade.pid
//	go build -C examples/upgrade -o upgrade . && kill -HUP $(cat upgrade.pid)
//
// On SIGHUP it starts the program that is on the disk by then, with the same flags, and gives it the listening socket. Once the new
// process serves, the old one stops accepting, and closes its connections one after the other, with StatusGone: their clients connect
// again, and reach the new one. Messages that have come are answered first. If the new process does not come up, the old one goes on.
//
// On SIGTERM or SIGINT nobody takes over: new clients are told to come later, with status 503, until the connections have been closed.
//
// It is a module of its own, so that this package need not depend on github.com/cloudflare/tableflip.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"

	"github.com/wsloop/websocket"
)

// patience is how long an old process may take: for the connections to be closed, and for the last answers.
const patience = time.Minute

func main() {
	address := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on")
	pidFile := flag.String("pid", "", "`file` for the number of the process that serves")
	flag.Parse()
	log.SetPrefix("upgrade: ")
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	if err := run(*address, *pidFile); err != nil {
		log.Fatal(err)
	}
}

func run(address, pidFile string) error {
	terms, hups := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(terms, os.Interrupt, syscall.SIGTERM)
	signal.Notify(hups, syscall.SIGHUP)
	upgrader, err := tableflip.New(tableflip.Options{PIDFile: pidFile})
	if err != nil {
		return err
	}
	defer upgrader.Stop()
	ln, err := upgrader.Listen("tcp", address) // the socket of the process before, if there is one
	if err != nil {
		return err
	}
	serv, answered := newServer()
	served := make(chan error, 1)
	go func() { served <- serv.Serve(ln) }()
	if err = upgrader.Ready(); err != nil { // whoever connects waits in the socket until Serve accepts
		return err
	}
	select {
	case err = <-served: // it cannot be started
		return err
	case <-upgraded(upgrader, hups):
		serv.CloseListener() // before Shutdown: from here on the new process accepts, and nobody is told to come later
	case <-terms:
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = serv.Shutdown(ctx)
	log.Printf("%d has answered %d messages", os.Getpid(), answered.Load())
	return err
}

// upgraded replaces the process at a signal. The channel is closed when the new one serves.
func upgraded(upgrader *tableflip.Upgrader, hups <-chan os.Signal) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		for range hups {
			err := upgrader.WaitForParent(context.Background()) // there are two processes at most
			if err == nil {
				err = upgrader.Upgrade()
			}
			if err == nil {
				close(done)
				return
			}
			log.Print("goes on: ", err)
		}
	}()
	return done
}

// newServer makes the echo server, which counts its answers.
func newServer() (serv *websocket.Server, answered *atomic.Int64) {
	answered = new(atomic.Int64)
	return websocket.NewServer(&websocket.ServerOptions{
		HandleText: func(conn int, payload []byte) {
			if err := websocket.SendText(conn, payload); err == nil {
				answered.Add(1)
			}
			websocket.PutBuffer(payload)
		},
	}), answered
}
