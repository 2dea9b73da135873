package websocket

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Section 4 at the client: what it asks, to the byte, and answers with what becomes of them. Clauses that no row shows:
//
//	3, 4.1  schemes, hosts and ports: TestClient_endpoint; TLS with the server's name: TestClient_tls
//	4.1     one connection at a time to a host: two Clients know nothing of each other; one has one (TestClient_Connect)
//	4.1     proxies: there are none; Origin and cookies: they are the program's, in Client.Headers
//	4.1     401 and redirects are told to the program, which may follow them

// rfcAsk is a row about what goes out. The client sends nothing more before it has the answer.
type rfcAsk struct {
	section  string
	name     string
	endpoint string
	headers  http.Header
	out      string // KEY stands for the key
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
	{section: "4.1", name: "an empty subprotocol is none where none was offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: ")...)},
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
	{section: "4.1", name: "a refusal tells status and reason", in: rfcAnswerOf("HTTP/1.1 400 Missing authorization", rfcFields()...), offered: rfcOffered, says: "400 Missing authorization"},
	{section: "4.1", name: "a refusal without fields", in: rfcAnswerOf("HTTP/1.0 403 Forbidden"), offered: rfcOffered, says: "403 Forbidden"},
	{section: "4.1", name: "200 is no 101", in: rfcAnswerOf("HTTP/1.1 200 OK", rfcFields()...), offered: rfcOffered, says: "200 OK"},
	{section: "4.1", name: "1010 is no 101", in: rfcAnswerOf("HTTP/1.1 1010 x", rfcFields()...), offered: rfcOffered, says: "1010 x"},
	{section: "4.1", name: "a redirect", in: rfcAnswerOf("HTTP/1.1 302 Found", rfcFields("Location: /x")...), offered: rfcOffered, says: "302 Found"},
	{section: "4.1", name: "two blanks before the status", in: rfcAnswerOf("HTTP/1.1  101 x", rfcFields()...), offered: rfcOffered, says: "refused"},
	{section: "4.1", name: "something else than HTTP", in: rfcAnswerOf("SSH-2.0-x 101", rfcFields()...), offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "HTTP/2", in: rfcAnswerOf("HTTP/2 101 x", rfcFields()...), offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "no status", in: rfcAnswerOf("HTTP/1.1", rfcFields()...), offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "an empty answer", in: "\r\n\r\n", offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "a reason with an escape", in: rfcAnswerOf("HTTP/1.1 400 \x1b[2J"), offered: rfcOffered, says: "status line"},
	{section: "4.1", name: "a malformed field", in: rfcAnswerOf(rfcSwitching, rfcFields("nonsense")...), offered: rfcOffered, is: ErrInvalidHeaderFormat},
	{section: "4.1", name: "a folded line in front of all fields", in: rfcAnswerOf(rfcSwitching, append([]string{" X-A: a"}, rfcFields()...)...), offered: rfcOffered, is: ErrInvalidHeaderFormat},
	{section: "4.1", name: "a folded value that is wrong", in: rfcAnswerOf(rfcSwitching, rfcFields()[0], "Connection: up", " grade", rfcFields()[2]), offered: rfcOffered, is: ErrInvalidHeaderConn},
	{section: "4.1", name: "a refusal behind an interim answer", in: rfcInterim("100 Continue") + rfcAnswerOf("HTTP/1.1 403 Forbidden"), offered: rfcOffered, says: "403 Forbidden"},
	{section: "4.1", name: "an interim answer alone", in: rfcInterim("100 Continue"), says: "no complete answer", ends: true},
	{section: "4.1", name: "an interim answer in place of the next one's fields", in: rfcInterim("100 Continue", rfcFields()...) + rfcAnswerOf(rfcSwitching), is: ErrMissingRequiredHeader},
	{section: "4.1", name: "101 for something else is no interim answer", in: rfcInterim("101 Switching Protocols", "Upgrade: TLS/1.2", "Connection: Upgrade") + rfcAnswerOf(rfcSwitching, rfcFields()...), is: ErrInvalidHeaderUpgrade},
	{section: "4.1", name: "a status 1000 is no interim answer", in: rfcInterim("1000 x") + rfcAnswerOf(rfcSwitching, rfcFields()...), says: "1000 x"},
	{section: "4.1", name: "a status 1x0 is no interim answer", in: rfcInterim("1x0 x") + rfcAnswerOf(rfcSwitching, rfcFields()...), says: "1x0 x"},
	{section: "10.4", name: "one interim answer over the limit", in: strings.Repeat(rfcInterim("100 Continue"), maxInterim+1) + rfcAnswerOf(rfcSwitching, rfcFields()...), says: "100 Continue"},
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
	{section: "4.1", name: "a subprotocol where none was offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Protocol: chat")...), says: "subprotocol"},
	{section: "9.1", name: "an extension where none was offered", in: rfcAnswerOf(rfcSwitching, rfcFields("Sec-WebSocket-Extensions: permessage-deflate")...), says: "extension"},
	{section: "4.1", name: "a line that ends without CR", in: strings.Replace(rfcAnswerOf(rfcSwitching, rfcFields()...), "\r\n", "\n", 1), is: ErrInvalidHeaderFormat},
	{section: "4.1", name: "an answer that is cut off", in: strings.TrimSuffix(rfcAnswerOf(rfcSwitching, rfcFields()...), "\r\n"), says: "no complete answer", ends: true},
	{section: "4.1", name: "an end of TCP instead of an answer", says: "no complete answer", ends: true},
	{section: "10.4", name: "one byte over the limit", in: rfcAnswerOf(rfcSwitching, rfcFields("X: "+strings.Repeat("x", rfcMaxHeader+1-len(rfcAnswerOf(rfcSwitching, rfcFields("X: ")...))))...), says: "too large"},
	{section: "10.4", name: "one field over the limit", in: rfcAnswerOf(rfcSwitching, rfcFields(slices.Repeat([]string{"X: y"}, rfcMaxFields-2)...)...), says: "too large"},
}

// rfcRunAnswers runs the rows of this file: over a pipe, where each piece is one read of the client, and the answers over TCP
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
	cl := &Client{Endpoint: row.endpoint, Headers: row.headers}
	keys := make(map[string]bool)
	for range 3 {
		client, server := net.Pipe()
		l := newClientConn(cl)
		l.conn = client
		u, _, err := cl.serverURL()
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := cl.shakeHands(l, u)
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

// refused compares the error of Connect, and sees TCP end, by a reset where bytes were left.
func (row *rfcAnswer) refused(p *rfcPeer, err error) error {
	switch {
	case err == nil:
		return errors.New("the answer is accepted")
	case !strings.HasPrefix(err.Error(), "websocket: "), !strings.Contains(err.Error(), row.says), row.is != nil && !errors.Is(err, row.is):
		return fmt.Errorf("the error is %q", err)
	}
	if end := p.toEnd(); errors.Is(end, errTCPOpen) || len(p.got) > 0 {
		return fmt.Errorf("went out: %v, %v", p.got, end)
	}
	return nil
}
