//go:build unix

package websocket

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// A server that stops on a signal: clients get a Close frame, and what was sent before it.
func ExampleServer_ServeContext() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	serv := NewServer(nil)
	time.AfterFunc(10*time.Millisecond, func() { syscall.Kill(os.Getpid(), syscall.SIGTERM) }) // as an operator does
	fmt.Println(serv.ServeContext(ctx, listen()))
	// Output: <nil>
}

// A client that connects again, with a pause that grows and is not the same for all.
func ExampleClient_ConnectContext() {
	serv := NewServer(&ServerOptions{HandleText: func(conn int, _ []byte) {
		Send(conn, NewFrameClose(false, StatusGone, []byte("come back")))
	}})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	quit := make(chan struct{}, 1)
	client := &Client{
		Endpoint:   "ws://" + ln.Addr().String(),
		HandleQuit: func() { quit <- struct{}{} },
	}
	const shortest, longest = 10 * time.Millisecond, 30 * time.Second
	for wait, visits := shortest, 0; ctx.Err() == nil; {
		if err := client.ConnectContext(ctx); err == nil {
			wait, visits = shortest, visits+1
			client.SendText([]byte("hello"))
			select {
			case <-quit:
				fmt.Println(client.Err())
			case <-ctx.Done():
				client.Close()
			}
		}
		if visits == 2 {
			stop() // enough for an example
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
			wait = min(2*wait, longest)
		case <-ctx.Done():
		}
	}
	// Output:
	// websocket: closed with 1001: come back
	// websocket: closed with 1001: come back
}

// Only the pages of one origin may connect; programs, which send none, may too.
func ExampleServerOptions_origin() {
	serv := NewServer(&ServerOptions{HandleAuth: func(req *Handshake) (context.Context, error) {
		if origin := req.Header.Get("Origin"); origin != "" && origin != "https://chat.example.com" {
			return nil, errors.New("origin not allowed")
		}
		return context.Background(), nil
	}})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	for _, origin := range []string{"https://chat.example.com", "https://elsewhere.example"} {
		client := &Client{Endpoint: "ws://" + ln.Addr().String(), Headers: http.Header{"Origin": {origin}}}
		fmt.Println(client.Connect())
		client.Close()
	}
	// Output:
	// <nil>
	// websocket: handshake refused: 400 origin not allowed
}

// A HandleClientAdd that goes on as the writer of its connection, until that ends.
func ExampleDone() {
	ended := make(chan string)
	serv := NewServer(&ServerOptions{HandleClientAdd: func(_ context.Context, conn int) {
		ticks := time.NewTicker(time.Hour)
		defer ticks.Stop()
		for {
			select {
			case at := <-ticks.C:
				if err := SendText(conn, []byte(at.String())); err != nil {
					log.Print(err)
				}
			case <-Done(conn):
				ended <- "the writer has ended"
				return
			}
		}
	}})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	client := &Client{Endpoint: "ws://" + ln.Addr().String()}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	client.Close()
	fmt.Println(<-ended)
	// Output: the writer has ended
}
