package websocket

import (
	"fmt"
	"strings"
)

// leastHandshake is the shortest complete opening handshake, but without a path, and leastFields the number of its fields.
const (
	leastHandshake = "GET  HTTP/1.1\r\nHost:a\r\nConnection:upgrade\r\nUpgrade:websocket\r\n" +
		"Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version:13\r\n\r\n"
	leastFields = 5
)

// check returns an error if no client could ever be served as the options say, whose defaults are filled in.
func (opts *ServerOptions) check() error {
	for _, of := range []struct{ name, path string }{{"ConnectPath", opts.ConnectPath}, {"StatusPath", opts.StatusPath}} {
		switch {
		case !strings.HasPrefix(of.path, "/"):
			return fmt.Errorf("websocket: %s %q does not begin with a slash: no request has it", of.name, of.path)
		case strings.ContainsAny(of.path, "?#"):
			return fmt.Errorf("websocket: %s %q has more than a path: no request has it", of.name, of.path)
		}
	}
	least := len(leastHandshake) + len(opts.ConnectPath)
	switch {
	case opts.ConnectPath == opts.StatusPath:
		return fmt.Errorf("websocket: ConnectPath and StatusPath are both %q: no client could connect", opts.StatusPath)
	case opts.MaxHeaderSize < least:
		return fmt.Errorf("websocket: MaxHeaderSize of %d is less than any opening handshake has, %d bytes", opts.MaxHeaderSize, least)
	case opts.MaxHeaderFields < leastFields:
		return fmt.Errorf("websocket: MaxHeaderFields of %d is less than any opening handshake has, %d", opts.MaxHeaderFields, leastFields)
	}
	return nil
}
