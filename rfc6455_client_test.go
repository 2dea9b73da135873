package websocket

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Section 4 at the client: what it asks, to the byte, and answers with what becomes of them. Clauses that no row shows:
//
//	3, 4.1  schemes, hosts and ports: TestClient_endpoint; TLS with the server's name: TestClient_tls
//	4.1     one connection at a time to a host: two Clients know nothing of each other; one has one (TestClient_Connect)
//	4.1     proxies: there are none; Origin and cookies: they are the program's, in Client.Headers
//	4.1     401 is told to the program; redirects are followed (tests/client/redirect_test.go)

// rfcAsk is a row about what goes out. The client sends nothing more before it has the answer.
type rfcAsk struct {
	section  string
	name     string
	endpoint string
	headers  http.Header
	speaks   []string // Client.Subprotocols
	out      string   // KEY stands for the key
}

const rfcOwnFields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13\r\n"

var rfcAsks = []rfcAsk{
	{section: "4.1", name: "a path and a port", endpoint: "ws://example.com:81/chat", out: "GET /chat HTTP/1.1\r\nHost: example.com:81\r\n" + rfcOwnFields + "\r\n"},
	{section: "3", name: "no path is a slash, a default port is left out", endpoint: "ws://example.com:80", out: "GET / HTTP/1.1\r\nHost: example.com\r\n" + rfcOwnFields + "\r\n"},
	{section: "3", name: "a query is a part of the resource name", endpoint: "ws://example.com/a%20b?c=d%26&e", out: "GET /a%20b?c=d%26&e HTTP/1.1\r\nHost: example.com\r\n" + rfcOwnFields + "\r\n"},
	{section: "3", name: "a query without a path", endpoint: "ws://example.com?c=d", out: "GET /?c=d HTTP/1.1\r\nHost: example.com\r\n" + rfcOwnFields + "\r\n"},
	{section: "3", name: "user information is sent as credentials", endpoint: "ws://user:pass%20word@example.com/", out: "GET / HTTP/1.1\r\nHost: example.com\r\n" + rfcOwnFields + "Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n\r\n"},
	{section: "3", name: "credentials of the program go first", endpoint: "ws://user:secret@example.com/", headers: http.Header{"authorization": {"Bearer x"}}, out: "GET / HTTP/1.1\r\nHost: example.com\r\n" + rfcOwnFields + "Authorization: Bearer x\r\n\r\n"},
	{section: "3", name: "the zone of an address is not sent", endpoint: "ws://[fe80::1%25eth0]:81/", out: "GET / HTTP/1.1\r\nHost: [fe80::1]:81\r\n" + rfcOwnFields + "\r\n"},
	{section: "4.1", name: "subprotocols, extensions and other fields are those of the program", endpoint: "ws://[::1]:9001/", headers: http.Header{"Origin": {"http://a"}, "Sec-Websocket-Protocol": {"chat, v2"}, "Sec-Websocket-Extensions": {"x"}}, out: "GET / HTTP/1.1\r\nHost: [::1]:9001\r\n" + rfcOwnFields + "Origin: http://a\r\nSec-Websocket-Extensions: x\r\nSec-Websocket-Protocol: chat, v2\r\n\r\n"},
	{section: "4.1", name: "subprotocols in order of preference, in one field", endpoint: "ws://example.com/", headers: http.Header{"sec-websocket-protocol": {"x"}}, speaks: []string{"v2", "chat"}, out: "GET / HTTP/1.1\r\nHost: example.com\r\n" + rfcOwnFields + "Sec-Websocket-Protocol: v2, chat\r\n\r\n"},
	{section: "4.1", name: "fields of the handshake itself are there once", endpoint: "ws://example.com/", headers: http.Header{"Host": {"x"}, "upgrade": {"x"}, "CONNECTION": {"x"}, "Sec-Websocket-Key": {"x"}, "Sec-Websocket-Version": {"8"}}, out: "GET / HTTP/1.1\r\nHost: example.com\r\n" + rfcOwnFields + "\r\n"},
}

// rfcAnswer is a row about an answer. One that is accepted leaves TCP open. One that is not has Connect tell why, and ends TCP.
type rfcAnswer struct {
	section string
	name    string
	in      string      // with the accept key of the key in RFC 6455
	offered http.Header // in the request
	says    string      // in the text of Connect's error
	is      error       // what that error is
	ends    bool        // the server ends its side
	status  int         // of the HandshakeError that Connect returns; 0: it is none
}

const rfcSwitching = "HTTP/1.1 101 Switching Protocols"

var rfcOffered = http.Header{"Sec-Websocket-Protocol": {"chat, v2", "v3"}, "Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits, x-other"}}

// rfcFields are the required fields of an answer, and more.
func rfcFields(more ...string) []string {
	return append([]string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: " + handshakeAnswer}, more...)
}

// rfcInterim is an answer before the final one.
func rfcInterim(status string, fields ...string) string {
	return rfcAnswerOf("HTTP/1.1 "+status, fields...)
}

// rfcInterimPadded is two interim answers and a final one of that size together.
func rfcInterimPadded(size int) string {
	all := rfcInterim("100 Continue") + rfcInterim("103 Early Hints", "X: ") + rfcAnswerOf(rfcSwitching, rfcFields()...)
	return strings.Replace(all, "X: ", "X: "+strings.Repeat("x", size-len(all)), 1)
}

func rfcAnswerOf(line string, fields ...string) string {
	return line + "\r\n" + strings.Join(append(fields, "", ""), "\r\n")
}

var rfcGoodAnswers = []rfcAnswer{
	{section: "4.1", name: "the example of RFC 6455", in: rfcAnswerOf(rfcSwitching, rfcFields()...)},
	{section: "4.1", name: "any reason", in: rfcAnswerOf("HTTP/1.1 101 Whatever", rfcFields()...)},
	{section: "4.1", name: "no reason", in: rfcAnswerOf("HTTP/1.1 101", rfcFields()...)},
	{section: "4.1", name: "any case, and lists", in: rfcAnswerOf(rfcSwitching, "upgrade: WebSocket", "connection: keep-alive, UPGRADE", "SEC-WEBSOCKET-ACCEPT:"+handshakeAnswer)},
	{section: "4.1", name: "an interim answer in front", in: rfcInterim("100 Continue") + rfcAnswerOf(rfcSwitching, rfcFields()...)},
	{section: "4.1", name: "interim answers of every kind in front", in: rfcInterim("102 Processing") + rfcInterim("103 Early Hints", "Link: </x>; rel=preload", "Set-Cookie: a") + rfcInterim("199") + "HTTP/1.0 100 \r\n\r\n" + rfcAnswerOf(rfcSwitching, rfcFields()...)},
	{section: "4.1", name: "an interim answer with malformed fields", in: rfcInterim("100 Continue", "nonsense") + rfcAnswerOf(rfcSwitching, rfcFields()...)},
	{section: "10.4", name: "as many interim answers as the limit", in: strings.Repeat(rfcInterim("100 Continue"), maxInterim) + rfcAnswerOf(rfcSwitching, rfcFields()...)},
	{section: "10.4", name: "interim answers and the final one of as many bytes as the limit", in: rfcInterimPadded(rfcMaxHeader)},
	{section: "4.1", name: "folded fields", in: rfcAnswerOf(rfcSwitching, "Upgrade:", " websocket", "Connection: keep-alive,", "\t Upgrade", rfcFields()[2], "X-A: a", " ", "  b")},
	{section: "4.1", name: "a folded field at the end", in: rfcAnswerOf(rfcSwitching, rfcFields("X-A: a", " b")...)},
	{section: "4.1", name: "an empty subprotocol is none", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol:")...), offered: rfcOffered},
	{section: "4.1", name: "an empty subprotocol is none if none was offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: ")...)},
	{section: "9.1", name: "empty extensions are none", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Extensions: ,")...)},
	{section: "4.1", name: "Upgrade twice", in: rfcAnswerOf(rfcSwitching, rfcFields("Upgrade: websocket")...)},
	{section: "4.1", name: "Connection over several lines, the token in any of them", in: rfcAnswerOf(rfcSwitching, rfcFields()[0], "Connection: keep-alive", "Connection: Upgrade", rfcFields()[2])},
	{section: "4.1", name: "fields that do not matter", in: rfcAnswerOf(rfcSwitching, rfcFields("Server: x", "Set-Cookie: a", "Set-Cookie: b")...)},
	{section: "4.1", name: "a subprotocol that was offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: v2")...), offered: rfcOffered},
	{section: "4.1", name: "a subprotocol that was offered in a second field", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: v3")...), offered: rfcOffered},
	{section: "4.1", name: "no subprotocol although some were offered", in: rfcAnswerOf(rfcSwitching, rfcFields()...), offered: rfcOffered},
	{section: "4.1", name: "an extension that was offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10")...), offered: rfcOffered},
	{section: "4.1", name: "two extensions that were offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Extensions: x-other", "Sec-WebSocket-Extensions: permessage-deflate")...), offered: rfcOffered},
	{section: "10.4", name: "as many bytes as the limit", in: rfcAnswerOf(rfcSwitching, rfcFields("X: "+strings.Repeat("x", rfcMaxHeader-len(rfcAnswerOf(rfcSwitching, rfcFields("X: ")...))))...)},
	{section: "10.4", name: "as many fields as the limit", in: rfcAnswerOf(rfcSwitching, rfcFields(slices.Repeat([]string{"X: y"}, rfcMaxFields-3)...)...)},
}

var rfcBadAnswers = []rfcAnswer{
	{section: "4.1", name: "a refusal tells status and reason", in: rfcAnswerOf("HTTP/1.1 400 Missing authorization", rfcFields()...), offered: rfcOffered, says: "400 Missing authorization", status: 400, ends: true},
	{section: "4.1", name: "a refusal with a body", in: rfcAnswerOf("HTTP/1.1 401 Unauthorized", "Content-Length: 5") + "hello", offered: rfcOffered, says: "401 Unauthorized", status: 401},
	{section: "4.1", name: "a refusal with a body in chunks", in: rfcAnswerOf("HTTP/1.1 503 later", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n", offered: rfcOffered, says: "503 later", status: 503},
	{section: "4.1", name: "a refusal without fields", in: rfcAnswerOf("HTTP/1.0 403 Forbidden"), offered: rfcOffered, says: "403 Forbidden", status: 403, ends: true},
	{section: "4.1", name: "200 is no 101", in: rfcAnswerOf("HTTP/1.1 200 OK", rfcFields()...), offered: rfcOffered, says: "200 OK", status: 200, ends: true},
	{section: "4.1", name: "1010 is no 101", in: rfcAnswerOf("HTTP/1.1 1010 x", rfcFields()...), offered: rfcOffered, says: "1010 x"},
	{section: "4.1", name: "a redirect to nowhere", in: rfcAnswerOf("HTTP/1.1 302 Found", rfcFields()...), offered: rfcOffered, says: "302 Found", status: 302, ends: true},
	{section: "4.1", name: "two blanks before the status", in: rfcAnswerOf("HTTP/1.1  101 x", rfcFields()...), offered: rfcOffered, says: "refused"},
	{section: "4.1", name: "something else than HTTP", in: rfcAnswerOf("SSH-2.0-x 101", rfcFields()...), offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "HTTP/2", in: rfcAnswerOf("HTTP/2 101 x", rfcFields()...), offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "no status", in: rfcAnswerOf("HTTP/1.1", rfcFields()...), offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "an empty answer", in: "\r\n\r\n", offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "a reason with an escape", in: rfcAnswerOf("HTTP/1.1 400 \x1b[2J"), offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "a malformed field", in: rfcAnswerOf(rfcSwitching, rfcFields("nonsense")...), offered: rfcOffered, is: ErrInvalidHeaderFormat},
	{section: "4.1", name: "a folded line in front of all fields", in: rfcAnswerOf(rfcSwitching, append([]string{" X-A: a"}, rfcFields()...)...), offered: rfcOffered, is: ErrInvalidHeaderFormat},
	{section: "4.1", name: "a folded value that is wrong", in: rfcAnswerOf(rfcSwitching, rfcFields()[0], "Connection: up", " grade", rfcFields()[2]), offered: rfcOffered, is: ErrInvalidHeaderConn},
	{section: "4.1", name: "a refusal behind an interim answer", in: rfcInterim("100 Continue") + rfcAnswerOf("HTTP/1.1 403 Forbidden"), offered: rfcOffered, says: "403 Forbidden", status: 403, ends: true},
	{section: "4.1", name: "an interim answer alone", in: rfcInterim("100 Continue"), says: "no complete answer", ends: true},
	{section: "4.1", name: "an interim answer in place of the next one's fields", in: rfcInterim("100 Continue", rfcFields()...) + rfcAnswerOf(rfcSwitching), is: ErrMissingRequiredHeader},
	{section: "4.1", name: "101 for something else is no interim answer", in: rfcInterim("101 Switching Protocols", "Upgrade: TLS/1.2", "Connection: Upgrade") + rfcAnswerOf(rfcSwitching, rfcFields()...), is: ErrInvalidHeaderUpgrade},
	{section: "4.1", name: "a status 1000 is no interim answer", in: rfcInterim("1000 x") + rfcAnswerOf(rfcSwitching, rfcFields()...), says: "1000 x"},
	{section: "4.1", name: "a status 1x0 is no interim answer", in: rfcInterim("1x0 x") + rfcAnswerOf(rfcSwitching, rfcFields()...), says: "1x0 x"},
	{section: "10.4", name: "one interim answer over the limit", in: strings.Repeat(rfcInterim("100 Continue"), maxInterim+1) + rfcAnswerOf(rfcSwitching, rfcFields()...), says: "100 Continue", status: 100},
	{section: "10.4", name: "interim answers of one byte over the limit", in: rfcInterimPadded(rfcMaxHeader + 1), says: "too large"},
	{section: "10.4", name: "interim answers as large as the limit", in: strings.Repeat(rfcInterim("103 x", "X: "+strings.Repeat("y", rfcMaxHeader/2-len(rfcInterim("103 x", "X: ")))), 2) + rfcAnswerOf(rfcSwitching, rfcFields()...), says: "too large"},
	{section: "4.1", name: "no Upgrade", in: rfcAnswerOf(rfcSwitching, rfcFields()[1:]...), offered: rfcOffered, is: ErrMissingRequiredHeader},
	{section: "4.1", name: "another Upgrade", in: rfcAnswerOf(rfcSwitching, "Upgrade: h2c", rfcFields()[1], rfcFields()[2]), offered: rfcOffered, is: ErrInvalidHeaderUpgrade},
	{section: "4.1", name: "Upgrade twice to something else", in: rfcAnswerOf(rfcSwitching, "Upgrade: h2c", "Upgrade: TLS/1.2", rfcFields()[1], rfcFields()[2]), offered: rfcOffered, is: ErrInvalidHeaderUpgrade},
	{section: "4.1", name: "no Connection", in: rfcAnswerOf(rfcSwitching, rfcFields()[0], rfcFields()[2]), offered: rfcOffered, is: ErrMissingRequiredHeader},
	{section: "4.1", name: "another Connection", in: rfcAnswerOf(rfcSwitching, rfcFields()[0], "Connection: close", rfcFields()[2]), offered: rfcOffered, is: ErrInvalidHeaderConn},
	{section: "4.1", name: "no accept key", in: rfcAnswerOf(rfcSwitching, rfcFields()[:2]...), offered: rfcOffered, says: "Sec-WebSocket-Accept"},
	{section: "4.1", name: "another accept key", in: rfcAnswerOf(rfcSwitching, rfcFields()[0], rfcFields()[1], "Sec-WebSocket-Accept: "+acceptKey([]byte("x"))), offered: rfcOffered, says: "Sec-WebSocket-Accept"},
	{section: "4.1", name: "the accept key in another case", in: rfcAnswerOf(rfcSwitching, rfcFields()[0], rfcFields()[1], "Sec-WebSocket-Accept: "+strings.ToUpper(handshakeAnswer)), offered: rfcOffered, says: "Sec-WebSocket-Accept"},
	{section: "4.1", name: "the accept key twice", in: rfcAnswerOf(rfcSwitching, rfcFields(rfcFields()[2])...), offered: rfcOffered, says: "Sec-WebSocket-Accept"},
	{section: "4.1", name: "the key itself", in: rfcAnswerOf(rfcSwitching, rfcFields()[0], rfcFields()[1], "Sec-WebSocket-Accept: "+handshakeKey), offered: rfcOffered, says: "Sec-WebSocket-Accept"},
	{section: "4.1", name: "a subprotocol that was not offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: v9")...), offered: rfcOffered, says: "subprotocol"},
	{section: "4.1", name: "a subprotocol in another case", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: CHAT")...), offered: rfcOffered, says: "subprotocol"},
	{section: "4.1", name: "a list of subprotocols", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: chat, v2")...), offered: rfcOffered, says: "subprotocol"},
	{section: "4.1", name: "two subprotocols", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: v2")...), offered: rfcOffered, says: "subprotocol"},
	{section: "4.1", name: "a subprotocol with an empty element", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: chat,")...), offered: rfcOffered, says: "subprotocol"},
	{section: "4.1", name: "two subprotocols and an empty one", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol: v2")...), offered: rfcOffered, says: "subprotocol"},
	{section: "9.1", name: "an extension that was not offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Extensions: x-unknown")...), offered: rfcOffered, says: "extension"},
	{section: "9.1", name: "an extension that was not offered behind one that was", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Extensions: x-other, x-unknown")...), offered: rfcOffered, says: "extension"},
	{section: "4.1", name: "a subprotocol if none was offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: chat")...), says: "subprotocol"},
	{section: "9.1", name: "an extension if none was offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Extensions: permessage-deflate")...), says: "extension"},
	{section: "4.1", name: "a line that ends without CR", in: strings.Replace(rfcAnswerOf(rfcSwitching, rfcFields()...), "\r\n", "\n", 1), is: ErrInvalidHeaderFormat},
	{section: "4.1", name: "an answer that is cut off", in: strings.TrimSuffix(rfcAnswerOf(rfcSwitching, rfcFields()...), "\r\n"), says: "no complete answer", ends: true},
	{section: "4.1", name: "an end of TCP instead of an answer", says: "no complete answer", ends: true},
	{section: "10.4", name: "one byte over the limit", in: rfcAnswerOf(rfcSwitching, rfcFields("X: "+strings.Repeat("x", rfcMaxHeader+1-len(rfcAnswerOf(rfcSwitching, rfcFields("X: ")...))))...), says: "too large"},
	{section: "10.4", name: "one field over the limit", in: rfcAnswerOf(rfcSwitching, rfcFields(slices.Repeat([]string{"X: y"}, rfcMaxFields-2)...)...), says: "too large"},
}

// rfcRunAnswers runs the rows of answers: over a pipe, where each piece is one read of the client, and the answers over TCP
// too.
func rfcRunAnswers(t *testing.T, count *rfcCount) {
	checkGoroutines(t)
	checkDescriptors(t)
	for _, row := range rfcAsks {
		t.Run(row.section+": "+row.name, func(t *testing.T) {
			count.runs.Add(1)
			synctest.Test(t, row.run)
		})
	}
	for _, row := range append(append([]rfcAnswer{}, rfcGoodAnswers...), rfcBadAnswers...) {
		t.Run(row.section+": "+row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				row.each(count, 1, func(how string, pieces [][]byte) {
					require.NoError(t, row.overPipe(pieces), "%s, over a pipe", how)
				})
			})
			row.each(count, 1+len(row.in)/2, func(how string, pieces [][]byte) {
				require.NoError(t, row.overTCP(t, pieces), "%s, over TCP", how)
			})
		})
	}
}

// run compares the request of a client.
func (row *rfcAsk) run(t *testing.T) {
	cl := &Client{Endpoint: row.endpoint, Headers: row.headers, Subprotocols: row.speaks}
	keys := make(map[string]bool)
	for range 3 {
		client, server := net.Pipe()
		l := newClientConn(cl)
		l.conn = client
		to, err := cl.firstHop()
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := cl.shakeHands(l, to, time.Now().Add(time.Hour))
			done <- err
		}()
		got := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(server)
			got <- string(b)
		}()
		synctest.Wait() // all that the client sends without an answer has come
		client.Close()
		request := <-got
		assert.Error(t, <-done)
		server.Close()
		_, key, _ := strings.Cut(request, "Sec-WebSocket-Key: ")
		key, _, _ = strings.Cut(key, "\r\n")
		require.Equal(t, strings.Replace(row.out, "KEY", key, 1), request)
		nonce, err := base64.StdEncoding.DecodeString(key)
		require.NoError(t, err)
		require.Len(t, nonce, 16)
		require.False(t, keys[key], "each handshake has a key of its own")
		keys[key] = true
	}
}

// each calls f for the answer whole, byte by byte and cut everywhere, or after each so many bytes. Behind one that is
// accepted comes a message.
func (row *rfcAnswer) each(count *rfcCount, step int, f func(how string, pieces [][]byte)) {
	in := []byte(row.in)
	if row.isGood() {
		in = append(in, NewFrameText(false, []byte("Hello"))...)
	}
	run := func(how string, pieces ...[]byte) {
		count.runs.Add(1)
		f(how, pieces)
	}
	run("whole", in)
	run("byte by byte", rfcEach(in, 1)...)
	for cut := step; cut < len(in); cut += step {
		run(fmt.Sprintf("cut at %d", cut), in[:cut], in[cut:])
	}
}

func (row *rfcAnswer) isGood() bool { return row.says == "" && row.is == nil }

// subject is a client that makes the request of the row.
func (row *rfcAnswer) subject() *rfcSubject {
	s := rfcNewSubject(rfcCase{}.plan(rfcClient))
	s.Headers, s.MaxHeaderSize, s.MaxHeaderFields = row.offered, rfcMaxHeader, rfcMaxFields
	return s
}

// overPipe answers a client over a pipe.
func (row *rfcAnswer) overPipe(pieces [][]byte) error {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	s := row.subject()
	connected := make(chan error, 1)
	go func() { connected <- s.connectOver(newClientConn(s.Client), client) }()
	return row.answer(s, server, pieces, connected)
}

// overTCP answers a client over TCP.
func (row *rfcAnswer) overTCP(t *testing.T, pieces [][]byte) error {
	s, ln := row.subject(), scriptedListen(t)
	defer s.Quit()
	s.Endpoint = ln.endpoint()
	connected := scriptedConnect(s.Client)
	conn, err := ln.ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	ln.ln.Close()
	return row.answer(s, conn, pieces, connected)
}

// answer sends the answer, with the key of the request, and looks at what becomes of it.
func (row *rfcAnswer) answer(s *rfcSubject, conn net.Conn, pieces [][]byte, connected <-chan error) error {
	r := bufio.NewReader(conn)
	request, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	key := request.Header.Get("Sec-WebSocket-Key")
	accept := acceptKey([]byte(key))
	named := strings.NewReplacer(handshakeAnswer, accept, strings.ToUpper(handshakeAnswer), strings.ToUpper(accept), handshakeKey, key)
	all := []byte(named.Replace(string(slices.Concat(pieces...))))
	p := rfcNewPeer(conn, r, rfcClient, nil)
	for _, piece := range pieces {
		if _, err = conn.Write(all[:len(piece)]); err != nil {
			break // it may be refused before it is complete
		}
		all = all[len(piece):]
	}
	if row.ends {
		p.end()
	}
	if err = <-connected; !row.isGood() {
		return row.refused(p, err)
	}
	if err == nil {
		err = p.wait(func() bool { return len(p.got) == 1 })
	}
	p.end()
	if err = errors.Join(err, p.toEnd()); err == nil && !slices.Equal(p.got, []rfcSent{{OpcodeText, "Hello"}}) {
		err = fmt.Errorf("went out: %v", p.got)
	}
	return err
}

// refused compares the error of Connect, and sees TCP end, by a reset if bytes were left.
func (row *rfcAnswer) refused(p *rfcPeer, err error) error {
	switch {
	case err == nil:
		return errors.New("the answer is accepted")
	case !strings.HasPrefix(err.Error(), "websocket: "), !strings.Contains(err.Error(), row.says), row.is != nil && !errors.Is(err, row.is):
		return fmt.Errorf("the error is %q", err)
	}
	var refused *HandshakeError
	if errors.As(err, &refused) != (row.status != 0) || refused != nil && refused.Status != row.status {
		return fmt.Errorf("the error is %#v", err)
	}
	if end := p.toEnd(); errors.Is(end, errTCPOpen) || len(p.got) > 0 {
		return fmt.Errorf("went out: %v, %v", p.got, end)
	}
	return nil
}

// Rows about frames with a Client: over a pipe, where each piece is one read of the client and time is the test's own, and
// over TCP.

// rfcRunClient runs all rows for the client.
func rfcRunClient(t *testing.T, count *rfcCount) {
	checkGoroutines(t)
	checkDescriptors(t)
	var keys rfcKeys
	t.Run("rows", func(t *testing.T) {
		rfcEachRow(func(name string, pl *rfcPlan) {
			if pl.side != rfcClient {
				return
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					for _, way := range pl.ways(pl.everyCut()...) {
						count.runs.Add(1)
						require.NoError(t, rfcPipe(pl, way, &keys), "%s, over a pipe", way.name)
					}
				})
				if pl.rules.allowedRsv != 0 {
					return // a Client allows no reserved bits
				}
				for _, way := range pl.ways(len(pl.in) / 2) {
					count.runs.Add(1)
					require.NoError(t, rfcDialed(t, pl, way, &keys), "%s, over TCP", way.name)
				}
			})
		})
	})
	t.Run("5.3, 10.3: each frame has a masking key of its own that nobody can predict", func(t *testing.T) {
		distinct := make(map[[4]byte]bool)
		var bits [32]int
		for _, key := range keys.keys {
			distinct[key] = true
			for i := range bits {
				bits[i] += int(key[i/8] >> (i % 8) & 1)
			}
		}
		n := len(keys.keys)
		require.Greater(t, n, 1000)
		assert.GreaterOrEqual(t, len(distinct), n-5, "random keys seldom repeat")
		for i, ones := range bits {
			assert.InDelta(t, n/2, ones, float64(n)/10, "bit %d of the keys", i)
		}
	})
}

// everyCut is each place where the input can be cut.
func (pl *rfcPlan) everyCut() (cuts []int) {
	if pl.long {
		return []int{len(pl.in) / 2}
	}
	for cut := range pl.in {
		cuts = append(cuts, cut)
	}
	return cuts
}

// rfcSubject is a client under test.
type rfcSubject struct {
	*Client
	quit chan bool // told by HandleQuit

	mu      sync.Mutex
	handled []rfcEvent // what the handlers were given; guarded by mu
}

func rfcNewSubject(pl *rfcPlan) *rfcSubject {
	s := &rfcSubject{quit: make(chan bool, 2)}
	handle := func(cl *Client, f *Frame) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		kind := eventMessage
		if f.IsControl() {
			kind = eventControl
		}
		s.handled = append(s.handled, rfcEvent{kind, f.Opcode(), string(f.Payload()), 0, f.head.rsv()})
		cl.send(f.Opcode(), f.Payload()) // fails if the server has closed
		return nil
	}
	s.Client = &Client{Endpoint: "ws://example.com/", HandleText: handle, HandleBin: handle, Logger: slog.New(slog.DiscardHandler),
		MaxMessageSize: int(pl.rules.maxMessage), MaxFragments: pl.rules.maxFragments, HandleQuit: func() { s.quit <- true }}
	if pl.rules.reservedControl {
		s.HandleRsvControl = handle
	}
	return s
}

// connectOver is Connect with a connection that is there. As in Connect, it is closed if that fails.
func (s *rfcSubject) connectOver(l *clientConn, conn net.Conn) error {
	l.attach(conn)
	to, err := s.firstHop()
	if err == nil {
		_, err = s.shakeHands(l, to, time.Now().Add(time.Hour))
	}
	if err != nil {
		conn.Close()
		return err
	}
	s.Client.mu.Lock()
	defer s.Client.mu.Unlock()
	s.conn = l
	l.start()
	return nil
}

// rfcPipe runs a row over a pipe.
func rfcPipe(pl *rfcPlan, way rfcWay, keys *rfcKeys) error {
	s := rfcNewSubject(pl)
	client, server := net.Pipe()
	defer client.Close()
	l := newClientConn(s.Client)
	l.rules.allowedRsv = pl.rules.allowedRsv
	connected := make(chan error, 1)
	go func() { connected <- s.connectOver(l, client) }()
	p, err := rfcAccept(server, way, keys)
	if err == nil {
		err = <-connected
	}
	if err != nil {
		return err
	}
	return pl.runClient(s, p, way, true)
}

// rfcDialed runs a row over TCP.
func rfcDialed(t *testing.T, pl *rfcPlan, way rfcWay, keys *rfcKeys) error {
	s := rfcNewSubject(pl)
	ln := scriptedListen(t)
	s.Endpoint = ln.endpoint()
	defer s.Quit()
	connected := scriptedConnect(s.Client)
	conn, err := ln.ln.Accept()
	if err != nil {
		return err
	}
	ln.ln.Close()
	p, err := rfcAccept(conn, way, keys)
	if err == nil {
		err = scriptedWait(t, connected)
	}
	if err != nil {
		return err
	}
	return pl.runClient(s, p, way, false)
}

// rfcAccept accepts a client's opening handshake.
func rfcAccept(conn net.Conn, way rfcWay, keys *rfcKeys) (*rfcPeer, error) {
	r := bufio.NewReader(conn)
	request, err := http.ReadRequest(r)
	if err != nil {
		return nil, err
	}
	answer := string(scriptedAnswer(request.Header.Get("Sec-WebSocket-Key")))
	p := rfcNewPeer(conn, r, rfcClient, keys.add)
	_, err = io.WriteString(conn, answer+string(way.behind))
	return p, err
}

// runClient runs a row with an open connection. In a bubble, time is its own and all that goes on can be waited for.
func (pl *rfcPlan) runClient(s *rfcSubject, p *rfcPeer, way rfcWay, bubble bool) error {
	if pl.first != nil {
		if err := pl.first.client(s.Client); err != nil {
			return err
		}
		if err := p.wait(func() bool { return len(p.got) == len(pl.first.sent) }); err != nil {
			return err
		}
	}
	if err := pl.say(p, way); err != nil {
		return err
	}
	data, _, closes := rfcSplit(pl.expected(way))
	err := p.wait(func() bool {
		got, _, ends := rfcSplit(p.got)
		return len(ends) == len(closes) && (len(got) == len(data) || len(closes) > 0)
	})
	if err != nil {
		return err
	}
	if bubble && pl.tcp != rfcCloses {
		if err = pl.waitsForEnd(p); err != nil {
			return err
		}
	}
	if pl.tcp != rfcCloses {
		p.end()
	}
	start := time.Now()
	if err = p.toEnd(); err != nil {
		return err
	}
	if took := time.Since(start); bubble && took > 0 {
		return fmt.Errorf("TCP ends after %s", took)
	}
	select {
	case <-s.quit:
	case <-rfcExpired():
		return rfcInVain("HandleQuit is not called")
	}
	if bubble {
		if synctest.Wait(); len(s.quit) > 0 {
			return errors.New("HandleQuit is called twice")
		}
	}
	return errors.Join(pl.compare(p.got, way), pl.checkClient(s, way))
}

// waitsForEnd checks that the client leaves TCP open, whatever comes (section 7.1.1).
func (pl *rfcPlan) waitsForEnd(p *rfcPeer) error {
	if pl.ends() {
		<-time.After(maxDrainTime / 2)
		if _, err := p.conn.Write(pl.late()); err != nil {
			return fmt.Errorf("the client has ended TCP: %w", err)
		}
	}
	synctest.Wait()
	select {
	case f, ok := <-p.frames:
		return fmt.Errorf("a frame goes out, or the client ends TCP: %v, %v", f, ok)
	default:
		return nil
	}
}

// checkClient compares what the program was told.
func (pl *rfcPlan) checkClient(s *rfcSubject, way rfcWay) error {
	var want []rfcEvent
	for _, ev := range pl.events(way) {
		if ev.kind == eventMessage || ev.kind == eventControl {
			want = append(want, ev)
		}
	}
	var end *CloseError
	switch {
	case pl.first != nil && pl.first.closes: // what the program does not want any more is not handled
		want = nil
	case pl.fails != nil:
		end = &CloseError{Code: pl.code, Reason: pl.fails.text}
	case pl.ends():
		last := pl.want[len(pl.want)-1]
		end = &CloseError{Code: last.code, Reason: last.payload}
	}
	if !slices.Equal(want, s.handled) {
		return fmt.Errorf("handled: %+q, want: %+q", s.handled, want)
	}
	var got *CloseError
	switch err := s.Err(); {
	case end != nil && (!errors.As(err, &got) || *got != *end):
		return fmt.Errorf("Err is %v, want %v", err, end)
	case end == nil && pl.first != nil && pl.first.closes && err != nil:
		return fmt.Errorf("Err is %v behind Close", err)
	case end == nil && (pl.first == nil || !pl.first.closes) && (errors.As(err, &got) || !errors.Is(err, ErrConnClosed)):
		return fmt.Errorf("Err is %v for an end without a Close frame", err)
	}
	return nil
}

// What rows about frames have in common when they run between two ends of a connection: how the input is cut, what goes out
// for it, and a peer that holds every frame to the rules of whoever sends.

// rfcPatience is how long a peer waits for something that has to happen. If it was in vain once, the test has failed, and
// the rows that follow do not wait for as long.
var rfcPatience atomic.Int64

func init() { rfcPatience.Store(int64(20 * time.Second)) }

// rfcExpired tells when waiting is in vain.
func rfcExpired() <-chan time.Time { return time.After(time.Duration(rfcPatience.Load())) }

func rfcInVain(format string, args ...any) error {
	rfcPatience.Store(int64(time.Second / 2))
	return fmt.Errorf(format, args...)
}

// rfcSent is a frame that goes out.
type rfcSent struct {
	opcode  Opcode
	payload string
}

func (f rfcSent) String() string { return fmt.Sprintf("%X %.40q", byte(f.opcode), f.payload) }

func rfcSentClose(code CloseCode, reason string) rfcSent {
	return rfcSent{OpcodeClose, string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason}
}

// rfcAnswers is what goes out for events, if the protocol leaves no choice: a Pong for each Ping (section 5.5.2), a Close
// with the code and reason of the peer's (5.5.1), and a Close with the code of a breach (7.1.7), after what the handlers send
// back.
func rfcAnswers(side rfcSide, events []rfcEvent, breach *protocolError) (out []rfcSent) {
	inClose := false
	for _, ev := range events {
		switch {
		case ev.kind == eventMessage, ev.kind == eventControl:
			out = append(out, rfcSent{ev.opcode, ev.payload})
		case ev.kind == eventPing:
			out = append(out, rfcSent{OpcodePong, ev.payload})
		case ev.kind == eventClose && breach == nil:
			out = append(out, rfcSentClose(ev.code, ev.payload))
		case ev.kind == eventClose:
			inClose = true
		}
	}
	switch {
	case breach == nil:
	case inClose && side == rfcServer: // whose reason for closing is the peer's
		out = append(out, rfcSentClose(breach.code, ""))
	default:
		out = append(out, rfcSentClose(breach.code, breach.text))
	}
	return out
}

// events is what the input amounts to if it comes in that way.
func (pl *rfcPlan) events(way rfcWay) (events []rfcEvent) {
	if way.before {
		events = append(events, rfcBefore)
	}
	return append(append(events, slices.Repeat(pl.want, way.times)...), pl.then...)
}

// expected is the frames that go out for it.
func (pl *rfcPlan) expected(way rfcWay) (out []rfcSent) {
	switch {
	case pl.out == nil && pl.first == nil:
		return rfcAnswers(pl.side, pl.events(way), pl.fails)
	case pl.first != nil:
		out = append(out, pl.first.sent...)
	case way.before:
		out = append(out, rfcSent{OpcodeText, rfcBefore.payload})
	}
	if pl.out == nil {
		return append(out, rfcAnswers(pl.side, pl.events(way), pl.fails)...)
	}
	return append(out, slices.Repeat(pl.out, way.times)...)
}

// rfcWay is one way in which the input comes.
type rfcWay struct {
	name   string
	behind []byte   // in one piece with the opening handshake
	pieces [][]byte // after it
	times  int      // how often it comes
	before bool     // a message comes before it
	waits  bool     // for the answers to each piece
}

// rfcBefore is the message of ways that begin with one.
var rfcBefore = rfcText("b")

// ways are those in which a row runs between two ends.
func (pl *rfcPlan) ways(cuts ...int) (ways []rfcWay) {
	in, last := pl.in, len(pl.in)-1
	add := func(way rfcWay) {
		way.times = max(way.times, 1)
		ways = append(ways, way)
	}
	if len(in) == 0 {
		return append(ways, rfcWay{name: "without a byte", times: 1})
	}
	add(rfcWay{name: "whole", pieces: [][]byte{in}})
	add(rfcWay{name: "in small pieces", pieces: rfcEach(in, 1+len(in)/1000)})
	if pl.first == nil {
		before := rfcFrame(0x81, rfcBefore.payload)(pl.rules.fromClient)
		add(rfcWay{name: "in one piece behind a message", pieces: [][]byte{append(before, in...)}, before: true})
		add(rfcWay{name: "in one piece with the handshake", behind: in})
		add(rfcWay{name: "in one piece with the handshake but for its last byte", behind: in[:last], pieces: [][]byte{in[last:]}})
	}
	for _, cut := range cuts {
		if cut > 0 && cut <= last {
			add(rfcWay{name: fmt.Sprintf("cut at %d", cut), pieces: [][]byte{in[:cut], in[cut:]}})
		}
	}
	if pl.first == nil && pl.out == nil {
		add(rfcWay{name: "frame by frame", pieces: pl.pieces, waits: true})
	}
	switch {
	case pl.ends():
		add(rfcWay{name: "with more behind it", pieces: [][]byte{append(bytes.Clone(in), pl.late()...)}})
	case !pl.open:
		add(rfcWay{name: "twice in one piece", pieces: [][]byte{append(bytes.Clone(in), in...)}, times: 2})
	}
	return ways
}

// rfcPeer is the peer of the endpoint under test.
type rfcPeer struct {
	conn   net.Conn
	frames chan rfcSent // what goes out; closed at the end of TCP
	fault  error        // what else ended it; set before frames is closed
	got    []rfcSent
}

// rfcNewPeer reads what the endpoint sends, until the end of TCP. keys is told the masking key of each frame of a client.
func rfcNewPeer(conn net.Conn, r *bufio.Reader, side rfcSide, keys func([4]byte)) *rfcPeer {
	p := &rfcPeer{conn: conn, frames: make(chan rfcSent, 1<<10)}
	go func() {
		defer close(p.frames)
		for {
			f, key, err := rfcReadFrame(r, side == rfcClient)
			if err != nil {
				if err != io.EOF && !errors.Is(err, io.ErrClosedPipe) {
					p.fault = err
				}
				return
			}
			if keys != nil {
				keys(key)
			}
			p.frames <- f
		}
	}()
	return p
}

// rfcReadFrame reads a frame and holds it to the rules of sections 5.1, 5.2 and 5.5 for who sends. Each has to be a whole
// message: nothing here is sent in fragments.
func rfcReadFrame(r io.Reader, masked bool) (f rfcSent, key [4]byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return f, key, err
	}
	var field [8]byte
	size := map[byte]int{length16: 2, length64: 8}[head[1]&^bitMasked]
	if _, err = io.ReadFull(r, field[8-size:]); err != nil {
		return f, key, err
	}
	length := binary.BigEndian.Uint64(field[:])
	if size == 0 {
		length = uint64(head[1] &^ bitMasked)
	}
	f.opcode = Opcode(head[0] & 0xF)
	switch {
	case head[0]&bitFin == 0:
		return f, key, fmt.Errorf("a fragment goes out: % x", head)
	case head[0]&bitsRsv != 0:
		return f, key, fmt.Errorf("reserved bits go out: % x", head)
	case head[1]&bitMasked != 0 != masked:
		return f, key, fmt.Errorf("a frame goes out with the wrong mask bit: % x", head)
	case size == 2 && length < length16 || size == 8 && length < 1<<16 || length > 1<<20:
		return f, key, fmt.Errorf("a frame goes out with a length of %d in %d bytes", length, size)
	case f.opcode.isControl() && length > maxControl:
		return f, key, fmt.Errorf("a control frame of %d bytes goes out", length)
	}
	if masked {
		if _, err = io.ReadFull(r, key[:]); err != nil {
			return f, key, err
		}
	}
	payload := make([]byte, length)
	_, err = io.ReadFull(r, payload)
	f.payload = string(coreMask(payload, key, 0))
	return f, key, err
}

// wait reads frames until the condition holds.
func (p *rfcPeer) wait(done func() bool) error {
	expired := rfcExpired()
	for !done() {
		select {
		case f, ok := <-p.frames:
			if !ok {
				return fmt.Errorf("TCP has ended behind %v: %v", p.got, p.fault)
			}
			p.got = append(p.got, f)
		case <-expired:
			return rfcInVain("nothing more comes behind %v", p.got)
		}
	}
	return nil
}

// end ends TCP at the peer's side.
func (p *rfcPeer) end() {
	if half, ok := p.conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	} else {
		p.conn.Close()
	}
}

var errTCPOpen = errors.New("TCP does not end")

// toEnd reads what is left until the endpoint ends TCP, and ends it likewise.
func (p *rfcPeer) toEnd() error {
	defer p.conn.Close()
	expired := rfcExpired()
	for {
		select {
		case f, ok := <-p.frames:
			if !ok {
				return p.fault
			}
			p.got = append(p.got, f)
		case <-expired:
			return rfcInVain("%w behind %v", errTCPOpen, p.got)
		}
	}
}

// rfcProbe shows that a connection is open.
var rfcProbe = rfcSent{OpcodePong, "still there?"}

// say sends the input, what ends it, and a Ping that shows that the connection is still open where it should be, and waits
// for its Pong.
func (pl *rfcPlan) say(p *rfcPeer, way rfcWay) error {
	had := len(p.got)
	for i, piece := range way.pieces {
		if _, err := p.conn.Write(piece); err != nil && !pl.ends() {
			return err
		}
		if way.waits {
			r := rfcReader{p: &pl.rules}
			for _, b := range way.pieces[:i+1] {
				r.feed(b)
			}
			want := had + len(rfcAnswers(pl.side, r.events, r.err))
			if err := p.wait(func() bool { return len(p.got) >= want }); err != nil {
				return err
			}
			if r.rc.hasEnded() {
				return nil
			}
		}
	}
	if pl.ends() {
		return nil
	}
	if len(pl.rest) > 0 {
		if _, err := p.conn.Write(pl.rest); err != nil {
			return err
		}
	}
	if pl.open && pl.rest == nil || pl.first != nil && pl.first.closes {
		return nil
	}
	if err := p.wait(func() bool { return pl.complete(p.got, way) }); err != nil {
		return err
	}
	if _, err := p.conn.Write(NewFramePing(pl.rules.fromClient, []byte(rfcProbe.payload))); err != nil {
		return err
	}
	return p.wait(func() bool { return slices.Contains(p.got, rfcProbe) })
}

// complete reports whether all has gone out that has to, if the connection stays open.
func (pl *rfcPlan) complete(got []rfcSent, way rfcWay) bool {
	data, pongs, _ := rfcSplit(got)
	wantData, wantPongs, _ := rfcSplit(pl.expected(way))
	return len(data) >= len(wantData) && len(pongs) >= len(wantPongs)
}

// rfcSplit tells the frames of data and reserved control frames, Pongs and Close frames apart. Of the first two, each is in
// its own order: Pongs may overtake what handlers send.
func rfcSplit(frames []rfcSent) (data, pongs, closes []rfcSent) {
	for _, f := range frames {
		switch f.opcode {
		case OpcodePong:
			pongs = append(pongs, f)
		case OpcodeClose:
			closes = append(closes, f)
		default:
			data = append(data, f)
		}
	}
	return data, pongs, closes
}

// compare holds the frames that went out against those that had to.
func (pl *rfcPlan) compare(got []rfcSent, way rfcWay) error {
	want := pl.expected(way)
	got = slices.DeleteFunc(slices.Clone(got), func(f rfcSent) bool { return f == rfcProbe })
	data, pongs, closes := rfcSplit(got)
	wantData, wantPongs, wantCloses := rfcSplit(want)
	same := slices.Equal(data, wantData) && slices.Equal(pongs, wantPongs)
	last := len(closes) == 0 || got[len(got)-1].opcode == OpcodeClose
	if !same || !slices.Equal(closes, wantCloses) || !last {
		return fmt.Errorf("went out: %v, want: %v", got, want)
	}
	return nil
}

// rfcKeys collects the masking keys of a client's frames.
type rfcKeys struct {
	mu   sync.Mutex
	keys [][4]byte
}

func (k *rfcKeys) add(key [4]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = append(k.keys, key)
}
