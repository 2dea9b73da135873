//go:build unix

package websocket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// listen listens on a free port, so that the examples can run anywhere. A program gives ServerOptions.Address and calls Start.
func listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return ln
}

// A server that sends every text back, and a client that says hello.
func ExampleServer() {
	serv := NewServer(&ServerOptions{
		HandleText: func(conn int, payload []byte) {
			if err := Send(conn, NewFrameText(false, payload)); err != nil {
				log.Print(err)
			}
		},
	})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	echo := make(chan string)
	client := &Client{
		Endpoint: "ws://" + ln.Addr().String(),
		HandleText: func(_ *Client, frame *Frame) error {
			echo <- string(frame.Payload())
			return nil
		},
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	if err := client.SendText([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-echo)
	if err := client.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: hello
}

// Serve takes a listener of the program and returns after Stop.
func ExampleServer_Serve() {
	ln, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		log.Fatal(err)
	}
	serv := NewServer(nil)
	served := make(chan error)
	go func() { served <- serv.Serve(ln) }()

	quit := make(chan bool)
	client := &Client{
		Endpoint:   "ws://" + ln.Addr().String(),
		HandleQuit: func() { close(quit) },
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("same address:", serv.Addr() == ln.Addr())

	serv.Stop()
	<-quit
	fmt.Println("client:", client.Err())
	fmt.Println("server:", <-served)
	// Output:
	// same address: true
	// client: websocket: closed with 1001
	// server: <nil>
}

// A server that ends without cutting off anybody, if that takes no longer than a minute.
func ExampleServer_Shutdown() {
	handling, release := make(chan bool), make(chan bool)
	serv := NewServer(&ServerOptions{HandleText: func(conn int, payload []byte) {
		close(handling)
		<-release
		SendText(conn, payload)
	}})
	ln := listen()
	go serv.Serve(ln)

	quit := make(chan bool)
	client := &Client{
		Endpoint: "ws://" + ln.Addr().String(),
		HandleText: func(_ *Client, frame *Frame) error {
			fmt.Printf("client: %s\n", frame.Payload())
			return nil
		},
		HandleQuit: func() { close(quit) },
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	client.SendText([]byte("hello"))
	<-handling

	done := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		done <- serv.Shutdown(ctx)
	}()
	close(release)
	<-quit
	fmt.Println("client:", client.Err())
	fmt.Println("server:", <-done)
	// Output:
	// client: hello
	// client: websocket: closed with 1001
	// server: <nil>
}

// A service of systemd with a .socket unit. Clients that come while it is restarted wait in the socket, which is systemd's: CloseListener
// leaves them there, and nobody is refused.
func ExampleServer_CloseListener() {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" { // see sd_listen_fds(3)
		return
	}
	file := os.NewFile(3, "socket")
	ln, err := net.FileListener(file)
	if err != nil {
		log.Fatal(err)
	}
	file.Close() // the listener has a descriptor of its own
	serv := NewServer(nil)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		serv.CloseListener()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // less than TimeoutStopSec
		defer cancel()
		if err := serv.Shutdown(ctx); err != nil {
			log.Print(err) // how many were cut off
		}
	})
	if err := serv.Serve(ln); err != nil {
		log.Fatal(err)
	}
	// Output:
}

// A server that is mounted on the mux of another HTTP server.
func ExampleServer_ServeHTTP() {
	serv := NewServer(&ServerOptions{HandleText: func(conn int, payload []byte) { SendText(conn, payload) }})
	defer serv.Stop()
	mux := http.NewServeMux()
	mux.Handle("GET /ws", serv)
	ln := listen()
	go http.Serve(ln, mux)
	defer ln.Close()

	echo := make(chan string)
	client := &Client{
		Endpoint: "ws://" + ln.Addr().String() + "/ws",
		HandleText: func(_ *Client, frame *Frame) error {
			echo <- string(frame.Payload())
			return nil
		},
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	client.SendText([]byte("hello"))
	fmt.Println(<-echo)
	client.Close()
	// Output: hello
}

// A server that has a page on the port of its connections.
func ExampleServerOptions_handler() {
	serv := NewServer(&ServerOptions{
		ConnectPath: "/ws",
		Handler:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the page") }),
	})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	res, err := http.Get("http://" + ln.Addr().String() + "/")
	if err != nil {
		log.Fatal(err)
	}
	page, _ := io.ReadAll(res.Body)
	fmt.Printf("%s\n", page)
	http.DefaultClient.CloseIdleConnections()

	client := &Client{Endpoint: "ws://" + ln.Addr().String() + "/ws"}
	fmt.Println(client.Connect())
	client.Close()
	// Output:
	// the page
	// <nil>
}

// Without a HandleText, text messages are requests for the functions that are registered.
func ExampleServer_RegisterTextHandler() {
	serv := NewServer(nil)
	greet := func(_ context.Context, req *Request) Response {
		return Response{
			Code:    http.StatusOK,
			Message: "Hello, " + req.Params["name"],
			Body:    req.Query.Get("lang"),
		}
	}
	if err := serv.RegisterTextHandler(http.MethodGet, "/hello/:name", greet); err != nil {
		log.Fatal(err)
	}
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	responses := make(chan Response)
	client := &Client{
		Endpoint: "ws://" + ln.Addr().String(),
		HandleText: func(_ *Client, frame *Frame) error {
			var res Response
			if err := json.Unmarshal(frame.Payload(), &res); err != nil {
				return err
			}
			responses <- res
			return nil
		},
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for id, target := range []string{"/hello/Ayu?lang=id", "/goodbye/Ayu"} {
		request, err := json.Marshal(Request{ID: uint64(id + 1), Method: http.MethodGet, Target: target})
		if err != nil {
			log.Fatal(err)
		}
		if err := client.SendText(request); err != nil {
			log.Fatal(err)
		}
		res := <-responses
		fmt.Println(res.ID, res.Code, res.Message, res.Body)
	}
	// Output:
	// 1 200 Hello, Ayu id
	// 2 404 GET /goodbye/Ayu
}

// A user with two devices gets a message on both of them.
func ExampleClientManager_SendUser() {
	added := make(chan int)
	serv := NewServer(&ServerOptions{
		HandleAuth: func(req *Handshake) (context.Context, error) {
			uid, err := strconv.ParseUint(req.URL.Query().Get("user"), 10, 64)
			if err != nil {
				return nil, errors.New("unknown user")
			}
			return context.WithValue(context.Background(), CtxKeyUID, uid), nil
		},
		HandleClientAdd: func(_ context.Context, conn int) { added <- conn },
	})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	received := make(chan string)
	for _, device := range []string{"phone", "laptop"} {
		client := &Client{
			Endpoint: "ws://" + ln.Addr().String() + "/?user=7",
			HandleText: func(_ *Client, frame *Frame) error {
				received <- fmt.Sprintf("%s: %s", device, frame.Payload())
				return nil
			},
		}
		if err := client.Connect(); err != nil {
			log.Fatal(err)
		}
		defer client.Close()
		<-added
	}

	sent, failed := serv.Clients.SendUser(7, NewFrameText(false, []byte("dinner is ready")))
	fmt.Println("sent to", sent, "devices, failed:", len(failed))
	fmt.Println(<-received)
	fmt.Println(<-received)
	// Unordered output:
	// sent to 2 devices, failed: 0
	// phone: dinner is ready
	// laptop: dinner is ready
}

// A client that is refused until it says who it is.
func ExampleClient() {
	serv := NewServer(&ServerOptions{
		HandleAuth: func(req *Handshake) (context.Context, error) {
			if req.Header.Get("Authorization") == "" {
				return nil, errors.New("missing authorization")
			}
			return context.Background(), nil
		},
	})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	quit := make(chan bool)
	client := &Client{
		Endpoint:   "ws://" + ln.Addr().String(),
		HandleQuit: func() { close(quit) },
	}
	fmt.Println(client.Connect())

	client.Headers = http.Header{"Authorization": {"Bearer secret"}}
	fmt.Println(client.Connect())

	fmt.Println(client.Close())
	<-quit
	fmt.Println(client.SendText([]byte("anyone there?")))
	// Output:
	// websocket: handshake refused: 400 missing authorization
	// <nil>
	// <nil>
	// websocket: client is not connected
}

// A client of a server on a Unix socket. The host of its endpoint is only what the request says.
func ExampleClient_dialContext() {
	folder, err := os.MkdirTemp("", "chat")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, "socket")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	serv := NewServer(&ServerOptions{HandleText: func(conn int, payload []byte) { SendText(conn, payload) }})
	go serv.Serve(ln)
	defer serv.Stop()

	echo := make(chan string)
	client := &Client{
		Endpoint: "ws://unix/",
		Proxy:    http.ProxyURL(nil),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		HandleText: func(_ *Client, frame *Frame) error {
			echo <- string(frame.Payload())
			return nil
		},
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Quit()
	client.SendText([]byte("hello"))
	fmt.Println(<-echo)
	// Output: hello
}

// A client that goes through a proxy, as long as that lets it.
func ExampleClient_proxy() {
	client := &Client{
		Endpoint: "wss://chat.example/",
		Proxy:    http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.example:3128", User: url.UserPassword("me", "secret")}),
	}
	err := client.Connect()
	var refused *ProxyError
	if errors.As(err, &refused) && refused.Status == http.StatusProxyAuthRequired {
		log.Fatal("the proxy wants another password: ", refused.Header.Get("Proxy-Authenticate"))
	}
}

// A client with SOCKS, by golang.org/x/net/proxy: its dialers have the method that DialContext is.
func ExampleClient_socks() {
	// dialer, err := proxy.SOCKS5("tcp", "127.0.0.1:1080", nil, proxy.Direct)
	// socks := dialer.(proxy.ContextDialer)
	var socks interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = new(net.Dialer)
	client := &Client{
		Endpoint:    "wss://chat.example/", // the proxy looks up its address
		Proxy:       http.ProxyURL(nil),
		DialContext: socks.DialContext,
	}
	if err := client.Connect(); err != nil {
		log.Print(err)
	}
}

// A client that sends and receives a message of any length without holding it in memory. The server's HandleBin is given the whole.
func ExampleClient_NewWriter() {
	serv := NewServer(&ServerOptions{HandleBin: func(conn int, payload []byte) {
		if err := SendBin(conn, payload); err != nil {
			log.Print(err)
		}
	}})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	received := make(chan string, 1)
	client := &Client{
		Endpoint: "ws://" + ln.Addr().String(),
		HandleReader: func(_ *Client, _ Opcode, r io.Reader) error {
			n, err := io.Copy(io.Discard, r) // or to a file
			received <- fmt.Sprint(n, " bytes received")
			return err
		},
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	w, err := client.NewWriter(OpcodeBin)
	if err != nil {
		log.Fatal(err)
	}
	n, err := io.Copy(w, io.LimitReader(rand.NewChaCha8([32]byte{}), 1<<20)) // or from a file
	if err != nil {
		client.CloseWith(StatusInternalError, "cannot read the file") // the message cannot be taken back
		return
	}
	fmt.Println(n, "bytes written,", w.Close())
	fmt.Println(<-received)
	// Output:
	// 1048576 bytes written, <nil>
	// 1048576 bytes received
}

// A packet may hold several frames, and its last one may be cut off.
func ExampleUnpack() {
	packet := NewFrameText(true, []byte("hello"))
	packet = append(packet, NewFramePing(false, nil)...)
	packet = append(packet, NewFrameBin(false, []byte("the rest is missing"))[:10]...)

	for i, frame := range Unpack(packet).All() {
		fmt.Printf("%d: opcode %d, masked %t, complete %t, %q\n",
			i, frame.Opcode(), frame.IsMasked(), frame.IsComplete(), frame.Payload())
	}
	// Output:
	// 0: opcode 1, masked true, complete true, "hello"
	// 1: opcode 9, masked false, complete true, ""
	// 2: opcode 2, masked false, complete false, "the rest"
}

// A Close frame carries a code, and a reason for people to read.
func ExampleNewFrameClose() {
	packet := NewFrameClose(false, StatusForbidden, []byte("no spam, please"))

	for _, frame := range Unpack(packet).All() {
		fmt.Printf("%d %s\n", frame.CloseCode(), frame.CloseReason())
	}
	// Output: 1008 no spam, please
}

// A server that stops on a signal: clients get a Close frame, and what was sent before it.
func ExampleServer_ServeContext() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	serv := NewServer(nil)
	time.AfterFunc(10*time.Millisecond, func() { syscall.Kill(os.Getpid(), syscall.SIGTERM) }) // as an operator does
	fmt.Println(serv.ServeContext(ctx, listen()))
	// Output: <nil>
}

// Connect tries once; a program that begins before its server does, or without a network, tries for as long as it likes.
func ExampleClient_ConnectContext() {
	ready := make(chan struct{})
	serv := NewServer(&ServerOptions{HandleAuth: func(*Handshake) (context.Context, error) {
		select {
		case <-ready:
			return context.Background(), nil
		default:
			close(ready)
			return nil, &HandshakeError{Status: http.StatusServiceUnavailable}
		}
	}})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	client := &Client{Endpoint: "ws://" + ln.Addr().String(), Reconnect: &Reconnect{}}
	for client.ConnectContext(ctx) != nil && ctx.Err() == nil {
		fmt.Println("not yet")
		time.Sleep(rand.N(100 * time.Millisecond))
	}
	fmt.Println("connected, from now on Reconnect sees to it")
	client.Close()
	// Output:
	// not yet
	// connected, from now on Reconnect sees to it
}

// A client that connects again by itself.
func ExampleReconnect() {
	serv := NewServer(&ServerOptions{HandleText: func(conn int, _ []byte) {
		Send(conn, NewFrameClose(false, StatusGone, []byte("restarting")))
	}})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	ended := make(chan struct{})
	visits := 0
	client := &Client{
		Endpoint:  "ws://" + ln.Addr().String(),
		Reconnect: &Reconnect{Min: time.Millisecond, Max: 10 * time.Millisecond}, // by default 500 ms and 30 s
		HandleState: func(client *Client, state ClientState, cause error) {
			switch state {
			case StateConnected:
				client.SendText([]byte("hello")) // and whatever the server has to know again
			case StateWaiting:
				fmt.Println("lost:", cause) // the next attempt is at client.NextAttempt()
				if visits++; visits == 2 {
					client.Close() // enough for an example
				}
			case StateEnded: // cause says why, if it was not the program
				fmt.Println("ended:", cause)
				close(ended)
			}
		},
	}
	if err := client.Connect(); err != nil {
		fmt.Println(err)
	}
	<-ended
	// Output:
	// lost: websocket: closed with 1001: restarting
	// lost: websocket: closed with 1001: restarting
	// ended: <nil>
}

// Requests and answers over one connection.
func ExampleClient_Call() {
	serv := NewServer(nil)
	serv.RegisterTextHandler(http.MethodGet, "/users/:id", func(_ context.Context, req *Request) Response {
		return Response{Code: http.StatusOK, Body: "user " + req.Params["id"]}
	})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()
	client := &Client{Endpoint: "ws://" + ln.Addr().String()}
	if err := client.Connect(); err != nil {
		fmt.Println(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	res, err := client.Call(ctx, &Request{Method: http.MethodGet, Target: "/users/7"})
	fmt.Println(res.Code, res.Body, err)

	client.Close()
	_, err = client.Call(ctx, &Request{Method: http.MethodGet, Target: "/users/7"})
	var failed *CallError
	fmt.Println(errors.Is(err, ErrConnClosed), errors.As(err, &failed) && !failed.InDoubt)
	// Output:
	// 200 user 7 <nil>
	// true true
}

// The same with values in place of texts.
func ExampleCallJSON() {
	type sum struct{ A, B int }
	serv := NewServer(nil)
	serv.RegisterTextHandler(http.MethodPost, "/sum", func(_ context.Context, req *Request) Response {
		var in sum
		if err := json.Unmarshal([]byte(req.Body), &in); err != nil {
			return Response{Code: http.StatusBadRequest, Message: err.Error()}
		}
		return Response{Code: http.StatusOK, Body: fmt.Sprint(in.A + in.B)}
	})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()
	client := &Client{Endpoint: "ws://" + ln.Addr().String()}
	if err := client.Connect(); err != nil {
		fmt.Println(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println(CallJSON[int](ctx, client, http.MethodPost, "/sum", sum{2, 3}))
	_, err := CallJSON[int](ctx, client, http.MethodPost, "/sum", "two and three")
	var refused *ResponseError
	fmt.Println(errors.As(err, &refused), refused.Code)
	// Output:
	// 5 <nil>
	// true 400
}

// Only the pages of one origin may connect; programs, which send none, may too.
func ExampleServerOptions_origin() {
	serv := NewServer(&ServerOptions{Origins: []string{"https://chat.example.com"}})
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
	// websocket: handshake refused: 403 origin not allowed
}

// Charging stations connect under their names, and speak one of two versions. One that is not known is told so.
func ExampleHandshakeError() {
	serv := NewServer(&ServerOptions{
		ConnectPath:  "/ocpp/:station",
		Subprotocols: []string{"ocpp2.0.1", "ocpp1.6"},
		HandleAuth: func(req *Handshake) (context.Context, error) {
			if req.Params["station"] != "CP 1" {
				return nil, &HandshakeError{Status: http.StatusNotFound, Reason: "unknown station"}
			}
			return context.Background(), nil
		},
	})
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	for _, station := range []string{"CP%201", "CP%202"} {
		client := &Client{Endpoint: "ws://" + ln.Addr().String() + "/ocpp/" + station, Subprotocols: []string{"ocpp1.6", "ocpp2.0.1"}}
		err := client.Connect()
		if refused := (*HandshakeError)(nil); errors.As(err, &refused) {
			fmt.Println("refused:", refused.Status, refused.Reason)
			continue
		}
		fmt.Println("connected:", client.Subprotocol())
		client.Close()
	}
	// Output:
	// connected: ocpp2.0.1
	// refused: 404 unknown station
}

// What ended each connection: here the program did, with a code of its own.
func ExampleClientManager_Close() {
	causes := make(chan CloseCause, 1)
	opts := &ServerOptions{OnClose: func(_ ConnInfo, cause CloseCause) { causes <- cause }}
	serv := NewServer(opts)
	opts.HandleText = func(conn int, _ []byte) {
		if err := serv.Clients.Close(conn, 4001, "session replaced"); err != nil {
			log.Print(err)
		}
	}
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	client := &Client{Endpoint: "ws://" + ln.Addr().String()}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	if err := client.SendText([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	cause := <-causes
	fmt.Println(cause.Kind, cause.Code, cause.Reason)
	// Output: removed 4001 session replaced
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

// A server whose status page is its figures in the text format of Prometheus. A program may read them itself, too.
func ExampleServer_Metrics() {
	opts := new(ServerOptions)
	serv := NewServer(opts)
	opts.HandleStatus = serv.Metrics
	ln := listen()
	go serv.Serve(ln)
	defer serv.Stop()

	client := &Client{Endpoint: "ws://" + ln.Addr().String()}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Quit()
	res, err := http.Get("http://" + ln.Addr().String() + "/status")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	fmt.Println(res.Header.Get("Content-Type"))
	fmt.Println(serv.Stats().Opened, "opened")
	// Output:
	// text/plain; version=0.0.4; charset=utf-8
	// 1 opened
}
