// Server is a group chat for browsers and terminals: rooms, private messages, and a page at the address of the WebSocket.
//
//	go run ./examples/server                  # then open http://127.0.0.1:9001/
//	go run ./examples/client -user alice
//
// With TLS, where the server prints the fingerprint:
//
//	go run ./examples/server -tls
//	go run ./examples/client -user alice -fingerprint HEX
//
// It is a demonstration that can be copied, above all from the package examples/internal/chatserver. The names of the demo users and
// their keys are known to everybody (see -users), and nothing is kept over a restart. On an open network it has to speak TLS (see -tls
// and -cert), or a proxy that does belongs in front (see -public-url).
package main

import (
	"os"

	"github.com/wsloop/websocket/examples/internal/chatserver"
)

func main() { os.Exit(chatserver.Main(chatserver.Alone())) }
