package websocket

import (
	"net/http"
	"strings"
	"testing"
)

// benchRequest is what a browser sends for a page of the same site.
var benchRequest = strings.ReplaceAll(`GET /chat?room=lobby HTTP/1.1
Host: chat.example.com
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36
Upgrade: websocket
Origin: https://chat.example.com
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits

`, "\n", "\r\n")

func BenchmarkHandshake(b *testing.B) {
	for _, c := range []struct{ name, request string }{
		{"browser", benchRequest},
		{"minimal", handshakeRequest(handshakeLine)},
	} {
		in := []byte(c.request)
		benchRun(b, c.name+"/whole", len(in), func() {
			var s headerScanner
			n, err := s.scan(in, defaultMaxHeaderSize, defaultMaxHeaderFields)
			if err != nil || n != len(in) {
				b.Fatal(n, err)
			}
			req, err := parseRequest(in)
			if err == nil {
				err = req.check()
			}
			if err != nil {
				b.Fatal(err)
			}
			appendAccept(nil, req)
		})
		benchRun(b, c.name+"/scan", len(in), func() {
			var s headerScanner
			s.scan(in, defaultMaxHeaderSize, defaultMaxHeaderFields)
		})
		benchRun(b, c.name+"/parse", len(in), func() { parseRequest(in) })
		req, err := parseRequest(in)
		if err != nil {
			b.Fatal(err)
		}
		benchRun(b, c.name+"/check", len(in), func() { req.check() })
		benchRun(b, c.name+"/accept", len(in), func() { appendAccept(nil, req) })
	}
}

func BenchmarkHandshakeClient(b *testing.B) {
	header := http.Header{"Origin": {"https://chat.example.com"}, "Authorization": {"Bearer 0123456789abcdef"}}
	benchRun(b, "request", 0, func() { appendRequest(nil, "/chat?room=lobby", "chat.example.com", header) })
	answer := appendAccept(nil, &Handshake{Key: []byte(handshakeKey)})
	benchRun(b, "answer", len(answer), func() {
		if _, err := checkAccept(answer, handshakeKey, header); err != nil {
			b.Fatal(err)
		}
	})
}
