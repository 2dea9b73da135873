// Package websocket is a WebSocket server and client (RFC 6455).
//
// The server is an event loop over raw descriptors: epoll on Linux, kqueue on macOS and the BSDs. An idle connection owns
// neither a goroutine nor a buffer, so many thousands of them fit on a small machine. A connection is known to the program by
// its descriptor, an int; Send sends to it, and the server's ClientManager finds the connections of a user. On other systems
// Server.Start returns ErrUnsupported; the client works on every system on which Go has a network.
//
// # Server
//
// A Server calls the handlers of its ServerOptions: HandleAuth for the opening handshake, HandleClientAdd and
// HandleClientRemove around the life of a connection, HandleText and HandleBin for whole messages. Without a HandleText, text
// messages are JSON requests for the functions registered with Server.RegisterTextHandler; see Request and Response.
//
// # Concurrency
//
// Every exported function and method may be called from any goroutine and from any handler, unless it says otherwise. Handlers
// of different connections run at the same time. For one connection, HandleAuth returns before HandleClientAdd is called,
// that returns before the first message is handled (or takes longer than ServerOptions.AddTimeout, and then is a writer that may
// go on beside all others), HandleText, HandleBin and HandleRsvControl are called one after the other, in the order of the
// messages, and HandleClientRemove is the last to be called, but for OnClose. ServerOptions.MessagesAtOnce lets several messages of one
// connection be handled at the same time; routed requests always are, up to ServerOptions.RequestsAtOnce.
//
// A handler may block for as long as it likes without holding up any other connection, the server's Pings and Pongs, or Stop.
// While one does, its connection's messages wait: 64 KiB of them or one, and what a last read of 64 KiB brought. Then the
// socket is not read, and TCP makes the client wait. If a handler waits for anything but its message, it should wait for
// Done as well, which tells that the connection has begun to end.
//
// A handler that panics ends its connection with StatusInternalError; the panic is logged.
//
// # Order and ends
//
// What came first is answered first: a Ping in its place between the messages, for as long as handlers are fast and the peer takes
// data (one that does not gets a Pong for its latest Ping only). Messages that came before the peer's Close frame, or before a
// breach of the protocol, are handled, and answered, before the Close frame goes out, for a second at most.
//
// # Slow peers
//
// A peer is given up for silence if it had the chance to answer a Ping and did not, and for slowness if it takes no byte for the
// write time-out: see ServerOptions.SilenceTimeout, MinRate and WriteTimeout, and the fields of the same names in Client.
//
// # Limits
//
// Every limit has a default and a field: see ServerOptions and Client. One has to be set: ServerOptions.MaxConnectionsPerAddress.
//
// # One port with HTTP
//
// The port of a Server speaks WebSocket at ServerOptions.ConnectPath and answers health checks at ServerOptions.StatusPath. Everything
// else goes to ServerOptions.Handler: a page and an API on the same port. Or the other way round, the Server is an http.Handler, and is
// mounted on the mux of a server of net/http: see Server.ServeHTTP.
//
//	mux.Handle("GET /ws", srv)
//
// # TLS
//
// With ServerOptions.TLSConfig the server speaks TLS by itself, and its connections stay what they are: numbers in an event loop. A
// certificate is made or fetched as for any other server, such as with golang.org/x/crypto/acme/autocert:
//
//	manager := &autocert.Manager{
//		Prompt:     autocert.AcceptTOS,
//		Cache:      autocert.DirCache("certs"),
//		HostPolicy: autocert.HostWhitelist("chat.example.com"),
//	}
//	srv := websocket.NewServer(&websocket.ServerOptions{TLSConfig: manager.TLSConfig()})
//
// # One port, behind a reverse proxy
//
// A page, an API and the WebSocket get one address, with TLS, from a proxy in front too, such as with nginx:
//
//	location /ws {
//		proxy_pass http://127.0.0.1:9001;
//		proxy_http_version 1.1;
//		proxy_set_header Host $host;
//		proxy_set_header Upgrade $http_upgrade;
//		proxy_set_header Connection "upgrade";
//		proxy_read_timeout 60s; # longer than PingInterval
//	}
//
// What the proxy says of a client, such as X-Forwarded-For, is a matter between the two. A proxy of TCP that sends PROXY protocol
// headers is named in ServerOptions.ProxyProtocol; then the client's address is known wherever the server tells one.
//
// # Who may connect
//
// HandleAuth decides. A browser sends its cookies along with whatever page opens a WebSocket, so a server that knows its users by
// them has to say whose pages may connect, or any page may act as its visitors:
//
//	Origins: []string{"https://chat.example.com"},
//	HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
//		uid, err := userOf(req) // from a cookie, a header field, the query or req.Params
//		if err != nil {
//			return nil, &websocket.HandshakeError{
//				Status: http.StatusUnauthorized,
//				Header: http.Header{"WWW-Authenticate": {"Bearer"}},
//			}
//		}
//		return context.WithValue(context.Background(), websocket.CtxKeyUID, uid), nil
//	},
//
// # Subprotocols
//
// Both sides name the subprotocols that they speak, in order of preference. The server's preference counts, and both know what was
// chosen: Handshake.Subprotocol, which HandleAuth may change, and Client.Subprotocol. If they have none in common, the connection opens
// without one. A browser whose page has offered some then fails it (WHATWG WebSockets, "establish a WebSocket connection"), and a Client
// does not: it should look at Subprotocol.
//
// # Topics
//
// A connection subscribes to topics, such as the rooms of a chat, and Publish sends a packet to all subscribers of one. It is framed
// and compressed once, and waits for nobody. Subscriptions end with the connection, before HandleClientRemove is called, so there is
// nothing to clean up:
//
//	srv.Clients.Subscribe(conn, "room/7")
//	srv.Clients.Publish("room/7", websocket.NewFrameText(false, []byte("hello")))
//
// Topics are those of one server, and keep no messages. ClientManager.Watch tells what joins servers to a cluster which users and topics
// are there.
//
// # Compression
//
// An option switches permessage-deflate on, for clients that offer it, as all browsers do:
//
//	Compression: new(websocket.Compression),
//
// The program stays as it is: each message is compressed by itself, by the standard library. Short messages get far shorter if those
// before them are their context, for which there is a codec in a module of its own, and which costs some 8 KiB for a connection:
//
//	Compression: &websocket.Compression{Codec: deflate.Codec(0)}, // github.com/wsloop/websocket/deflate
//
// Compressed lengths tell what is in a message: it should not be on where a secret and text that an attacker chooses go the same way.
//
// # Stopping on a signal
//
// Server.ServeContext ends with its context, and so does Client.ConnectContext while it connects:
//
//	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//	defer stop()
//	ln, err := net.Listen("tcp", "127.0.0.1:9001")
//	if err != nil {
//		return err
//	}
//	return srv.ServeContext(ctx, ln)
//
// That is a Stop: connections are closed at once. Shutdown closes them one after the other, so that their clients do not all come back in
// the same moment, and loses no message that it has accepted:
//
//	<-ctx.Done()
//	limit, cancel := context.WithTimeout(context.Background(), 30*time.Second)
//	defer cancel()
//	err := srv.Shutdown(limit)
//
// # Figures
//
// Server.Stats returns the figures of a server, always on; Server.Metrics writes them in the text format of Prometheus, and can be a
// HandleStatus; Stats.All lists them with names, types and labels for any other system. expvar needs one line:
//
//	expvar.Publish("websocket", expvar.Func(func() any { return srv.Stats() }))
//
// What an operator has to see is in the log at level warn, at most every 10 seconds for each kind of trouble; each refused handshake and
// each end of a connection is there at level debug.
//
// # Connecting again
//
// A Client with Reconnect connects again by itself when a connection that was open has ended, with waits that grow and differ, and tells
// HandleState what it does. Reconnect says when it tries, and when it does not:
//
//	cl := &websocket.Client{Endpoint: endpoint, HandleText: handle, Reconnect: &websocket.Reconnect{}}
//	cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, cause error) {
//		switch state {
//		case websocket.StateConnected:
//			cl.SendText(subscribe) // what the server has to be told for each connection
//		case websocket.StateWaiting:
//			log.Printf("%v; next attempt at %v", cause, cl.NextAttempt())
//		case websocket.StateEnded:
//			log.Printf("given up: %v", cause) // nil if the program wanted it
//		}
//	}
//
// Nothing is sent again by itself. A LostError in the cause says of how many messages the server has surely got nothing, and of how many
// that is not known.
//
// # Requests and answers
//
// Client.Call sends a Request for the router of a Server and returns its Response; CallJSON does so with values. Many may be in
// flight, and handlers may call. What is no answer reaches HandleText.
//
//	user, err := websocket.CallJSON[User](ctx, cl, "GET", "/users/7", nil)
//
// # The way to a server
//
// A Client follows redirects, and goes through the proxy that HTTP_PROXY or HTTPS_PROXY of the environment names, with a tunnel for ws
// too; Client.Proxy says otherwise. Client.DialContext opens the network connection in any other way, and needs no proxy:
//
//	cl := &websocket.Client{
//		Endpoint: "ws://unix/chat", // the host is only what the request says
//		Proxy:    http.ProxyURL(nil),
//		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
//			return new(net.Dialer).DialContext(ctx, "unix", "/run/chat.socket")
//		},
//	}
//
// # What it does not do
//
// A message is in memory as a whole, on both sides. A Client keeps cookies only in a Client.Jar of the program's.
package websocket
