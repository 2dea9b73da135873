package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	handshakeKey    = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455, section 1.2
	handshakeAnswer = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	handshakePadded = "dGhlIHNhbXBsZSBub25jZR==" // the same 16 bytes, with a bit set behind them
)

// handshakeFields are the required ones.
var handshakeFields = []string{
	"Host: server.example.com",
	"Connection: Upgrade",
	"Upgrade: websocket",
	"Sec-WebSocket-Key: " + handshakeKey,
	"Sec-WebSocket-Version: 13",
}

// handshakeRequest is a request with the required fields. A change without a colon takes out the field of that name, one
// that begins with "+" is added, any other takes the place of the field of its name.
func handshakeRequest(line string, changes ...string) string {
	fields := append([]string{}, handshakeFields...)
	for _, change := range changes {
		if added, ok := strings.CutPrefix(change, "+"); ok {
			fields = append(fields, added)
			continue
		}
		name, _, replaces := strings.Cut(change, ":")
		for i, field := range fields {
			if strings.HasPrefix(field, name+":") {
				if fields = append(fields[:i:i], fields[i+1:]...); replaces {
					fields = append(fields[:i:i], append([]string{change}, fields[i:]...)...)
				}
				break
			}
		}
	}
	return line + "\r\n" + strings.Join(append(fields, "", ""), "\r\n")
}

const handshakeLine = "GET / HTTP/1.1"

// handshakePad makes a request long enough that its length explains nothing.
const handshakePad = "+X-Pad: ................................................................................................................................................"

// handshakeJudge scans, parses and checks a request.
func handshakeJudge(in string) (req *Handshake, err error) {
	var s headerScanner
	n, err := s.scan([]byte(in), defaultMaxHeaderSize, defaultMaxHeaderFields)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, cutOff([]byte(in))
	}
	if req, err = parseRequest([]byte(in[:n])); err == nil {
		err = req.check()
	}
	return req, err
}

func TestHandshakeAccepts(t *testing.T) {
	cases := []struct {
		name  string
		in    string
		check func(t *testing.T, req *Handshake)
	}{
		{"the example of RFC 6455 section 1.2", "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + handshakeKey + "\r\nOrigin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n", func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/chat", req.URL.Path)
			assert.Equal(t, "server.example.com", string(req.Host))
			assert.Equal(t, handshakeKey, string(req.Key))
			assert.Equal(t, "chat, superchat", string(req.Protocol))
			assert.Empty(t, req.Extensions)
			assert.Equal(t, "http://example.com", req.Header.Get("origin"))
			assert.NotNil(t, req.ResponseHeader)
			assert.Empty(t, req.ResponseHeader)
		}},
		{"white space around values", handshakeRequest(handshakeLine, "Host: \t a \t", "Sec-WebSocket-Key:\t"+handshakeKey+" ", "Sec-WebSocket-Version:  13\t"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "a", string(req.Host))
			assert.Equal(t, handshakeKey, string(req.Key))
		}},
		{"empty values of headers that do not matter", handshakeRequest(handshakeLine, "+X-Empty:", "+Cookie: "), func(t *testing.T, req *Handshake) {
			assert.Equal(t, []string{""}, req.Header.Values("x-empty"))
		}},
		{"headers that do not matter twice", handshakeRequest(handshakeLine, "+X-A: 1", "+x-a: 2"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, []string{"1", "2"}, req.Header.Values("X-A"))
		}},
		{"values with tabs, colons and bytes above ASCII", handshakeRequest(handshakeLine, "+X-A: a\tb: \xe9\xff"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "a\tb: \xe9\xff", req.Header.Get("X-A"))
		}},
		{"repeated Extensions and Protocol, joined", handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a; b=1; c", "+Sec-WebSocket-Protocol: chat", "+Sec-WebSocket-Extensions: d;e=\"f\"", "+Sec-WebSocket-Protocol: v2.chat"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, `a; b=1; c, d;e="f"`, string(req.Extensions))
			assert.Equal(t, "chat, v2.chat", string(req.Protocol))
		}},
		{"a query", handshakeRequest("GET /a/b?x=1&y=%20 HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/a/b", req.URL.Path)
			assert.Equal(t, url.Values{"x": {"1"}, "y": {" "}}, req.URL.Query())
		}},
		{"a whole URI", handshakeRequest("GET ws://example.com:80/chat?x HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/chat", req.URL.Path)
		}},
		{"a whole URI without a path", handshakeRequest("GET http://example.com HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/", req.URL.Path)
		}},
		{"a path with two slashes is no host", handshakeRequest("GET //evil/chat HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "//evil/chat", req.URL.Path)
			assert.Empty(t, req.URL.Host)
		}},
		{"a whole URI with a host of its own, which counts", handshakeRequest("GET HTTP://other.example:81/a?b HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/a", req.URL.Path)
			assert.Equal(t, "other.example:81", string(req.Host))
			assert.Equal(t, "server.example.com", req.Header.Get("Host"))
		}},
		{"a whole URI with an IPv6 address", handshakeRequest("GET wss://[::1]:81/a HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "[::1]:81", string(req.Host))
		}},
		{"a path with a colon", handshakeRequest("GET /a:b/:c HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/a:b/:c", req.URL.Path)
		}},
		{"dot segments, which are taken as they are", handshakeRequest("GET /a/../b/./c HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/a/../b/./c", req.URL.Path)
		}},
		{"an escaped path", handshakeRequest("GET /a%20b%2Fc%3Fd HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/a b/c?d", req.URL.Path)
			assert.Equal(t, "/a%20b%2Fc%3Fd", req.URL.EscapedPath())
		}},
		{"a path with characters that should have been escaped", handshakeRequest(`GET /é"<>[]{}|\^` + "` HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, `/é"<>[]{}|\^`+"`", req.URL.Path)
		}},
		{"an empty query", handshakeRequest("GET /? HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "/", req.URL.Path)
			assert.Empty(t, req.URL.RawQuery)
		}},
		{"a query with slashes, colons and question marks", handshakeRequest("GET /?a=//b:c?d&%zz HTTP/1.1"), func(t *testing.T, req *Handshake) {
			assert.Equal(t, "a=//b:c?d&%zz", req.URL.RawQuery)
		}},
		{"a target as long as the head may be", handshakeRequest("GET /" + strings.Repeat("a", defaultMaxHeaderSize-len(handshakeRequest(handshakeLine))) + " HTTP/1.1"), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req, err := handshakeJudge(c.in)
			require.NoError(t, err)
			if c.check != nil {
				c.check(t, req)
			}
		})
	}

	t.Run("a Handshake keeps nothing of the bytes it came from", func(t *testing.T) {
		in := []byte(handshakeRequest("GET /chat?a=b HTTP/1.1", "+X-A: value", "+Sec-WebSocket-Protocol: chat"))
		req, err := parseRequest(in)
		require.NoError(t, err)
		require.NoError(t, req.check())
		clear(in)
		assert.Equal(t, "/chat?a=b", req.URL.String())
		assert.Equal(t, "value", req.Header.Get("X-A"))
		assert.Equal(t, "server.example.com", string(req.Host))
		assert.Equal(t, handshakeKey, string(req.Key))
		assert.Equal(t, "chat", string(req.Protocol))
	})
}

func TestParseRequest(t *testing.T) {
	t.Run("a head without its empty line is malformed wherever it is cut", func(t *testing.T) {
		in := handshakeRequest(handshakeLine)
		for cut := range in {
			_, err := parseRequest([]byte(in[:cut]))
			assert.Error(t, err, "cut at %d", cut)
		}
		_, err := parseRequest([]byte(in))
		assert.NoError(t, err)
	})
}

func TestHeaderScanner(t *testing.T) {
	scan := func(in string, cuts ...int) (n int, err error) {
		var s headerScanner
		for _, cut := range append(cuts, len(in)) {
			if n, err = s.scan([]byte(in[:cut]), 300, 10); n != 0 || err != nil {
				break
			}
		}
		return n, err
	}
	inputs := map[string]string{
		"a request":                           handshakeRequest(handshakeLine),
		"a request with data behind it":       handshakeRequest(handshakeLine) + "\x81\x80\r\n\r\n1234",
		"a request with an empty line before": "\r\n" + handshakeRequest(handshakeLine),
		"an unfinished request":               strings.TrimSuffix(handshakeRequest(handshakeLine), "\r\n"),
		"a bare LF in the middle":             handshakeRequest(handshakeLine, "+X-A: 1\nX-B: 2"),
		"a bare LF as the last line":          strings.TrimSuffix(handshakeRequest(handshakeLine), "\r\n") + "\n",
		"an LF at first":                      "\n",
		"CR without LF":                       "GET / HTTP/1.1\r\r\r\n\r\n",
		"two empty lines":                     "\r\n\r\n",
		"too large":                           "GET /" + strings.Repeat("a", 300) + " HTTP/1.1\r\n\r\n",
		"too many fields":                     "GET / HTTP/1.1\r\n" + strings.Repeat("a:\r\n", 11) + "\r\n",
		"nothing":                             "",
	}
	for name, in := range inputs {
		t.Run(name+" is found the same at every split", func(t *testing.T) {
			want, wantErr := scan(in)
			every := make([]int, len(in))
			for i := range in {
				every[i] = i
				n, err := scan(in, i)
				assert.Equal(t, want, n, "cut at %d", i)
				assert.Equal(t, wantErr, err, "cut at %d", i)
			}
			n, err := scan(in, every...)
			assert.Equal(t, want, n)
			assert.Equal(t, wantErr, err)
		})
	}

	t.Run("the head ends with its empty line, what follows is not part of it", func(t *testing.T) {
		head := handshakeRequest(handshakeLine)
		n, err := scan(head + "more\r\n\r\n")
		assert.NoError(t, err)
		assert.Equal(t, len(head), n)
	})

	t.Run("a head without an end is refused as soon as it has the size", func(t *testing.T) {
		const limit = 200
		for size, want := range map[int]error{limit - 1: nil, limit: errHeaderTooLarge, limit + 1: errHeaderTooLarge} {
			var s headerScanner
			_, err := s.scan(bytes.Repeat([]byte("a"), size), limit, 10)
			assert.Equal(t, want, err, "size %d", size)
		}
	})

	t.Run("each byte is looked at once", func(t *testing.T) {
		in := []byte("GET / HTTP/1.1\r\n" + strings.Repeat("a", 1000))
		var s headerScanner
		for i := range in {
			_, err := s.scan(in[:i], 2000, 10)
			require.NoError(t, err)
			require.Equal(t, i, s.next, "the next scan starts behind the bytes that were there")
		}
	})
}

func TestListElements(t *testing.T) {
	cases := []struct {
		name string
		in   string
		want []string
	}{
		{"nothing", "", nil},
		{"blanks and commas alone", " ,\t, ,,", nil},
		{"one", "a", []string{"a"}},
		{"several, trimmed", " a,b ,\tc d\t", []string{"a", "b", "c d"}},
		{"a comma in quotes separates nothing", `a="b,c", d`, []string{`a="b,c"`, "d"}},
		{"an escaped quote does not end the quotes", `a="b\",c", d`, []string{`a="b\",c"`, "d"}},
		{"a backslash outside of quotes is a character", `a\,b`, []string{`a\`, "b"}},
		{"open quotes run to the end", `a,"b,c`, []string{"a", `"b,c`}},
		{"open quotes with a backslash at the end are an element", `a,"b\`, []string{"a", `"b\`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for element := range listElements(c.in) {
				got = append(got, element)
			}
			assert.Equal(t, c.want, got)
		})
	}

	t.Run("an iteration can be left early", func(t *testing.T) {
		assert.True(t, hasToken("a, upgrade, b", "upgrade"))
	})

	t.Run("a list of 16 kB gives each of its bytes to one element at most", func(t *testing.T) {
		for _, in := range []string{strings.Repeat(",", 16<<10), strings.Repeat(" ", 16<<10), strings.Repeat(", \t", 5<<10), strings.Repeat(`"`, 16<<10), strings.Repeat("a,", 8<<10), strings.Repeat(`"\`, 8<<10)} {
			total := 0
			for element := range listElements(in) {
				total += len(element)
			}
			assert.LessOrEqual(t, total, len(in))
			_, err := handshakeJudge(handshakeRequest(handshakeLine, "Connection: "+in[:12<<10]))
			assert.Same(t, ErrInvalidHeaderConn, err)
		}
	})
}

func TestAcceptKey(t *testing.T) {
	t.Run("the key is not written to", func(t *testing.T) {
		buf := []byte(handshakeKey + strings.Repeat("x", 100))
		acceptKey(buf[:keyLength])
		assert.Equal(t, handshakeKey+strings.Repeat("x", 100), string(buf))
	})
}

// handshakeResponse reads an answer as net/http does, all of it.
func handshakeResponse(t testing.TB, answer []byte) (res *http.Response, body string) {
	r := bufio.NewReader(bytes.NewReader(answer))
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err, "%q", answer)
	if res.Close {
		res.Header.Set("Connection", "close") // which net/http takes out
	}
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	_, err = r.ReadByte()
	require.Equal(t, io.EOF, err, "something is behind the answer %q", answer)
	return res, string(b)
}

func TestAppendAccept(t *testing.T) {
	request := func(t *testing.T) *Handshake {
		req, err := handshakeJudge(handshakeRequest(handshakeLine, "+Sec-WebSocket-Protocol: chat", "+Sec-WebSocket-Extensions: permessage-deflate"))
		require.NoError(t, err)
		return req
	}
	t.Run("ResponseHeader is added, but for the fields that are not its business", func(t *testing.T) {
		req := request(t)
		req.ResponseHeader = http.Header{"Sec-Websocket-Protocol": {"chat"}, "Set-Cookie": {"a=1", "b=2"}, "Upgrade": {"x"}, "connection": {"close"}, "SEC-WEBSOCKET-ACCEPT": {"x"}, "Content-Length": {"5"}}
		require.NoError(t, checkFields(req.ResponseHeader))
		res, _ := handshakeResponse(t, appendAccept(nil, req))
		assert.Equal(t, http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {handshakeAnswer}, "Sec-Websocket-Protocol": {"chat"}, "Set-Cookie": {"a=1", "b=2"}}, res.Header)
	})
	t.Run("the fields have an order", func(t *testing.T) {
		req := request(t)
		for i := range 10 {
			req.ResponseHeader.Set(fmt.Sprintf("X-%d", i), "v")
		}
		want := appendAccept(nil, req)
		for range 20 {
			assert.Equal(t, string(want), string(appendAccept(nil, req)))
		}
	})
	t.Run("what was appended to is kept, and a nil ResponseHeader is none", func(t *testing.T) {
		assert.True(t, bytes.HasPrefix(appendAccept([]byte("x"), &Handshake{Key: []byte(handshakeKey)}), []byte("xHTTP/1.1 101 ")))
	})
}

func TestCheckFields(t *testing.T) {
	for _, value := range []string{"a\r\nX-Injected: 1", "a\nX-Injected: 1", "a\rb", "\x00", "\x1f", "\x7f"} {
		t.Run(fmt.Sprintf("value %q is refused", value), func(t *testing.T) {
			assert.Error(t, checkFields(http.Header{"X-A": {"fine", value}}))
		})
	}
	for _, name := range []string{"", "X A", "X-A:", "X-A\r\nX-Injected", "X-A\n", "é", "X\x00"} {
		t.Run(fmt.Sprintf("name %q is refused", name), func(t *testing.T) {
			assert.Error(t, checkFields(http.Header{name: {"fine"}}))
			assert.Error(t, checkFields(http.Header{name: nil}))
		})
	}
	t.Run("tabs and bytes above ASCII are fine", func(t *testing.T) {
		assert.NoError(t, checkFields(http.Header{"X-A": {"", "a\tb", "é"}, "x_b!": {}}))
		assert.NoError(t, checkFields(nil))
	})
}

func TestAppendRefusal(t *testing.T) {
	cases := []struct {
		name   string
		err    error
		status string
		header http.Header
	}{
		{"a sentinel is a 400 with its text", ErrInvalidHeaderHost, "400 invalid Host header", nil},
		{"a wrapped error is a 400 with its text", errBody, "400 bad request: request must have no body", nil},
		{"the text of HandleAuth is the reason", errors.New("Missing authorization"), "400 Missing authorization", nil},
		{"an empty text", errors.New(""), "400 ", nil},
		{"a text that is not ASCII", errors.New("nicht möglich"), "400 nicht möglich", nil},
		{"another version is a 426 that names ours", ErrUnsupportedWSVersion, "426 unsupported Sec-WebSocket-Version", http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}},
		{"a page is asked for: 426 says what the port is for", errPlainGet, "426 Upgrade Required", http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}},
		{"an unknown path is a 404", errUnknownPath, "404 unknown path", nil},
		{"a slow request is a 408", errSlowRequest, "408 Request Timeout", nil},
		{"a handler that failed is a 500", errHandlerFailed, "500 Internal Server Error", nil},
		{"too many connections are a 503 that says when to come again", errTooMany, "503 too many connections", http.Header{"Retry-After": {"10"}}},
		{"a head that is too large is a 431", errHeaderTooLarge, "431 request header fields too large", nil},
		{"CR and LF add no field", errors.New("no\r\nX-Injected: 1\r\n\r\n<html>"), "400 no  X-Injected: 1    <html>", nil},
		{"LF alone adds no field", errors.New("no\nX-Injected: 1"), "400 no X-Injected: 1", nil},
		{"other control characters are replaced", errors.New("a\x00b\x1bc\x7fd\te"), "400 a b c d e", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			answer := appendRefusal(nil, c.err, false)
			res, body := handshakeResponse(t, answer)
			want := http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Content-Length": {strconv.Itoa(len(body))},
				"Cache-Control": {"no-store"}, "Connection": {"close"}}
			for name, values := range c.header {
				want[name] = values
			}
			assert.True(t, strings.HasPrefix(string(answer), "HTTP/1.1 "+c.status+"\r\n"), "%q", answer)
			assert.Equal(t, want, res.Header)
			switch _, text, _ := strings.Cut(c.status, " "); c.err {
			case errPlainGet:
				assert.Equal(t, portText, body)
			case errUnknownPath, ErrInvalidHTTPMethod:
				assert.Equal(t, text+". "+portText, body)
			default:
				assert.Equal(t, text, body)
			}
			assert.Equal(t, string(answer[:len(answer)-len(body)]), string(appendRefusal(nil, c.err, true)))
		})
	}
}

func TestAppendAnswer(t *testing.T) {
	t.Run("a body has its type and length", func(t *testing.T) {
		res, body := handshakeResponse(t, answer{status: 200, reason: "OK", contentType: "application/json", body: []byte(`{"up":1}`)}.append(nil, false))
		assert.Equal(t, "200 OK", res.Status)
		assert.Equal(t, http.Header{"Content-Type": {"application/json"}, "Content-Length": {"8"}, "Cache-Control": {"no-store"}, "Connection": {"close"}}, res.Header)
		assert.Equal(t, `{"up":1}`, body)
	})
	t.Run("a content type adds no field", func(t *testing.T) {
		res, _ := handshakeResponse(t, answer{status: 200, reason: "OK", contentType: "text/plain\r\nX-Injected: 1"}.append(nil, false))
		assert.Empty(t, res.Header.Get("X-Injected"))
		assert.Len(t, res.Header, 4)
	})
}

func TestAppendStatus(t *testing.T) {
	get := appendStatus(nil, &Handshake{}, "text/plain", []byte("\r\n\r\nup"))
	t.Run("GET gets the body", func(t *testing.T) {
		_, body := handshakeResponse(t, get)
		assert.Equal(t, "\r\n\r\nup", body)
	})
	t.Run("HEAD gets the same fields, and no body", func(t *testing.T) {
		assert.Equal(t, strings.TrimSuffix(string(get), "\r\n\r\nup"), string(appendStatus(nil, &Handshake{verb: verbHead}, "text/plain", []byte("\r\n\r\nup"))))
	})
	t.Run("OPTIONS gets what may be asked", func(t *testing.T) {
		res, body := handshakeResponse(t, appendOptions(nil))
		assert.Equal(t, "200 OK", res.Status)
		assert.Equal(t, http.Header{"Allow": {"GET, HEAD, OPTIONS"}, "Content-Length": {"0"}, "Cache-Control": {"no-store"}, "Connection": {"close"}}, res.Header)
		assert.Empty(t, body)
	})
}

func TestAppendRequest(t *testing.T) {
	t.Run("a server accepts it, and its answer is accepted", func(t *testing.T) {
		header := http.Header{"Origin": {"http://a"}, "Sec-Websocket-Protocol": {"chat", "v2"}, "X-Multi": {"1", "2"}, "host": {"other"}, "Upgrade": {"other"}, "CONNECTION": {"other"}, "Sec-Websocket-Key": {"other"}, "Sec-Websocket-Version": {"8"}}
		before := header.Clone()
		request, key, err := appendRequest(nil, "/chat?a=1", "example.com:81", header)
		require.NoError(t, err)
		assert.Equal(t, before, header)
		req, err := handshakeJudge(string(request))
		require.NoError(t, err)
		assert.Equal(t, "/chat?a=1", req.URL.String())
		assert.Equal(t, "example.com:81", string(req.Host))
		assert.Equal(t, key, string(req.Key))
		assert.Equal(t, "chat, v2", string(req.Protocol))
		assert.Equal(t, "http://a", req.Header.Get("Origin"))
		assert.Equal(t, []string{"1", "2"}, req.Header.Values("X-Multi"))

		req.ResponseHeader.Set("Sec-WebSocket-Protocol", "v2")
		answer, err := checkAccept(appendAccept(nil, req), key, header)
		require.NoError(t, err)
		assert.Equal(t, "v2", answer.Get("Sec-WebSocket-Protocol"))
	})
	for _, c := range []struct {
		name, target, host string
		header             http.Header
	}{
		{"a line break in the target", "/\r\nX-Injected: 1", "a", nil},
		{"a blank in the target", "/ HTTP/1.1\r", "a", nil},
		{"a line break in the host", "/", "a\r\nX-Injected: 1", nil},
		{"a blank in the host", "/", "a b", nil},
		{"a line break in a value", "/", "a", http.Header{"X-A": {"1\r\nX-Injected: 1"}}},
		{"a line break in a name", "/", "a", http.Header{"X-A: 1\r\nX-Injected": {"1"}}},
		{"a line break in a field that is left out", "/", "a", http.Header{"Host": {"1\r\nX-Injected: 1"}}},
	} {
		t.Run(c.name+" makes no request", func(t *testing.T) {
			request, _, err := appendRequest(nil, c.target, c.host, c.header)
			assert.Error(t, err)
			assert.Nil(t, request)
		})
	}
}

func TestHandshakeMemory(t *testing.T) {
	head := []byte("GET /room?name=x HTTP/1.1\r\nHost: h\r\nAuthorization: u1\r\nX-Other: " + strings.Repeat("o", 15<<10) + "\r\n\r\n")
	const n = 300
	kept := make([][3]string, n)
	before := memoryInUse()
	for i := range kept {
		req, err := parseRequest(head)
		require.NoError(t, err)
		kept[i] = [3]string{req.Header.Get("Authorization"), req.URL.Path, req.URL.RawQuery}
	}
	used := memoryInUse() - before
	assert.Less(t, used, int64(n<<10), "a program that keeps a value does not keep the whole request")
	assert.Equal(t, [3]string{"u1", "/room", "name=x"}, kept[n-1])
}

// memoryInUse is the size of the heap without garbage.
func memoryInUse() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestParseEndpoint(t *testing.T) {
	for _, c := range []struct {
		name     string
		endpoint string
		host     string // to connect to
		field    string // Host
		target   string
	}{
		{"the default port is left out of Host", "ws://example.com:80/", "example.com:80", "example.com", "/"},
		{"the other scheme's port is not", "wss://example.com:80/", "example.com:80", "example.com:80", "/"},
		{"an empty port is the default one", "wss://example.com:/a", "example.com:443", "example.com", "/a"},
		{"a port with zeros in front", "ws://example.com:0080/a", "example.com:80", "example.com", "/a"},
		{"the highest port", "ws://example.com:65535/a", "example.com:65535", "example.com:65535", "/a"},
		{"a scheme in capitals", "WSS://Example.COM/A", "Example.COM:443", "Example.COM", "/A"},
		{"https", "HTTPS://example.com:80", "example.com:80", "example.com:80", "/"},
		{"a name with a dot at its end", "ws://example.com./a", "example.com.:80", "example.com.", "/a"},
		{"a name with an underscore", "ws://my_host/a", "my_host:80", "my_host", "/a"},
		{"an encoded international name", "ws://xn--bcher-kva.example/a", "xn--bcher-kva.example:80", "xn--bcher-kva.example", "/a"},
		{"an IPv4 address", "ws://127.0.0.1/a", "127.0.0.1:80", "127.0.0.1", "/a"},
		{"an IPv6 address", "ws://[::1]/a", "[::1]:80", "[::1]", "/a"},
		{"an IPv6 address with an empty port", "ws://[::1]:/a", "[::1]:80", "[::1]", "/a"},
		{"an IPv6 address with a zone, which stays here", "wss://[fe80::1%25eth0]:81/a", "[fe80::1%eth0]:81", "[fe80::1]:81", "/a"},
		{"an IPv4 address in an IPv6 one", "ws://[::ffff:127.0.0.1]/a", "[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]", "/a"},
		{"user information is no part of the host", "ws://user:p%40ss@example.com/a", "example.com:80", "example.com", "/a"},
		{"empty user information", "ws://@example.com/a", "example.com:80", "example.com", "/a"},
		{"no path", "ws://example.com", "example.com:80", "example.com", "/"},
		{"no path, and a query", "ws://example.com?a=b", "example.com:80", "example.com", "/?a=b"},
		{"a question mark alone", "ws://example.com?", "example.com:80", "example.com", "/?"},
		{"a question mark behind a path", "ws://example.com/a?", "example.com:80", "example.com", "/a?"},
		{"a query with question marks, slashes and colons", "ws://example.com/a?b=//c:d?e", "example.com:80", "example.com", "/a?b=//c:d?e"},
		{"a query with broken percent-encoding is the program's", "ws://example.com/a?b=%zz", "example.com:80", "example.com", "/a?b=%zz"},
		{"a query with blanks, quotes and letters beyond ASCII", `ws://example.com/a?b=c d&e="é"`, "example.com:80", "example.com", "/a?b=c%20d&e=%22%C3%A9%22"},
		{"a path with blanks, quotes and letters beyond ASCII", `ws://example.com/a b/"é"`, "example.com:80", "example.com", "/a%20b/%22%C3%A9%22"},
		{"an escaped path is not changed", "ws://example.com/a%2Fb%2fc%41/é", "example.com:80", "example.com", "/a%2Fb%2fc%41/%C3%A9"},
		{"a path with characters of its own", "ws://example.com/a;b=c/:d/@e,f/(g)*", "example.com:80", "example.com", "/a;b=c/:d/@e,f/(g)*"},
		{"a path that begins with two slashes", "ws://example.com//a//b", "example.com:80", "example.com", "//a//b"},
		{"dot segments are the server's", "ws://example.com/a/../b", "example.com:80", "example.com", "/a/../b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, secure, err := parseEndpoint(c.endpoint)
			require.NoError(t, err)
			assert.Equal(t, strings.HasPrefix(strings.ToLower(c.endpoint), "wss:") || strings.HasPrefix(strings.ToLower(c.endpoint), "https:"), secure)
			assert.Equal(t, c.host, net.JoinHostPort(u.Hostname(), u.Port()))
			assert.Equal(t, c.field, hostField(u, secure))
			assert.Equal(t, c.target, resourceName(u))
			_, _, err = appendRequest(nil, resourceName(u), hostField(u, secure), nil)
			assert.NoError(t, err)
			_, err = parseTarget(resourceName(u))
			assert.NoError(t, err, "our server takes it")
		})
	}
	for _, c := range []struct {
		name     string
		endpoint string
		err      error
	}{
		{"nothing", "", errNoScheme},
		{"another scheme", "ftp://example.com/", errNoScheme},
		{"a scheme alone", "ws:", errNoScheme},
		{"no slashes behind the scheme", "ws:example.com", errNoScheme},
		{"one slash behind the scheme", "ws:/example.com", errNoScheme},
		{"three slashes behind the scheme", "ws:///a", errNoScheme},
		{"a host and a port", "localhost:80", errNoScheme},
		{"an address and a port", "127.0.0.1:80/a", errURIMalformed},
		{"two slashes and a host", "//example.com/a", errNoScheme},
		{"a path", "/a", errNoScheme},
		{"a port alone", "ws://:80/", errNoScheme},
		{"user information alone", "ws://user@/", errNoScheme},
		{"a blank in front", " ws://example.com/", errURISpace},
		{"a line end behind", "ws://example.com/\n", errURISpace},
		{"a line end inside", "ws://example.com/\nX: y", errURIMalformed},
		{"a blank in the host", "ws://exa mple.com/", errURIMalformed},
		{"a fragment", "ws://example.com/a#b", errURIFragment},
		{"an empty fragment", "ws://example.com/#", errURIFragment},
		{"an international name", "ws://bücher.example/", errURIUnicode},
		{"an international name, percent-encoded", "ws://b%C3%BCcher.example/", errURIUnicode},
		{"port 0", "ws://example.com:0/", errURIPort},
		{"a port above the highest", "ws://example.com:65536/", errURIPort},
		{"a port with more digits than a number has", "ws://example.com:99999999999999999999/", errURIPort},
		{"a port of letters", "ws://example.com:http/", errURIMalformed},
		{"a negative port", "ws://example.com:-1/", errURIMalformed},
		{"a name in brackets", "ws://[example.com]/", nil},
		{"an IPv4 address in brackets", "ws://[127.0.0.1]/", nil},
		{"an IPv6 address without brackets", "ws://fe80::1/", nil},
		{"an open bracket", "ws://[::1/", errURIMalformed},
		{"a host with quotes", `ws://"a"/`, nil},
		{"a path with broken percent-encoding", "ws://example.com/%zz", errURIMalformed},
		{"a user name with a colon", "ws://a%3Ab:secret@example.com/", errURIUser},
		{"a password with a control character", "ws://a:secret%0A@example.com/", errURIUser},
		{"a password with a slash", "ws://user:secret/secret@example.com/", errURIMalformed},
		{"a password and a malformed port", "ws://user:secret@example.com:http/", errURIMalformed},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			_, _, err := parseEndpoint(c.endpoint)
			require.Error(t, err)
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
			}
			assert.NotContains(t, err.Error(), "secret")
			assert.True(t, strings.HasPrefix(err.Error(), "websocket: endpoint"))
			assert.Equal(t, err, (&Client{Endpoint: c.endpoint}).Connect())
		})
	}
}

func TestBasicCredentials(t *testing.T) {
	for _, c := range []struct {
		name string
		user *url.Userinfo
		want string // decoded; empty: none
	}{
		{"none", nil, ""},
		{"an empty one", url.User(""), ""},
		{"a name", url.User("user"), "user:"},
		{"a name and an empty password", url.UserPassword("user", ""), "user:"},
		{"a name and a password with colons", url.UserPassword("user", "a:b"), "user:a:b"},
		{"a password alone", url.UserPassword("", "word"), ":word"},
		{"letters beyond ASCII", url.UserPassword("jürgen", "pässword"), "jürgen:pässword"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := basicCredentials(c.user)
			require.NoError(t, err)
			if c.want == "" {
				assert.Empty(t, got)
				return
			}
			name, password, _ := strings.Cut(c.want, ":")
			req := &http.Request{Header: http.Header{"Authorization": {got}}}
			gotName, gotPassword, ok := req.BasicAuth()
			assert.True(t, ok)
			assert.Equal(t, []string{name, password}, []string{gotName, gotPassword})
		})
	}
}

func TestOverHTTP1(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing is offered", "", ""},
		{"http/1.1 alone stays", "http/1.1", "http/1.1"},
		{"h2 gives way", "h2", "http/1.1"},
		{"h2 beside http/1.1 is taken out", "h2 http/1.1", "http/1.1"},
		{"every other version is taken out", "h3 h3-29 h2 h2-14 spdy/3 http/1.1 http/1.0", "http/1.1"},
		{"a protocol of the program stays", "mine", "mine"},
		{"a protocol of the program stays in front", "mine h2", "mine http/1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Fields(c.in)
			assert.Equal(t, strings.Fields(c.want), append([]string{}, overHTTP1(in)...))
			assert.Equal(t, strings.Fields(c.in), in, "the program's list is not changed")
		})
	}
}

// Section 4 at the server: requests, what they are answered with, to the byte, and whether TCP stays open. Clauses that no
// row shows:
//
//	4.2    proxies and TLS: the server offers neither
//	4.2.2  401, 403 and redirects: HandleAuth refuses with 400 and a text of its own, see TestHandshakeHandleAuth; so are the
//	       subprotocol and the extensions that it chooses
//	4.2.2  Origin, likewise; a browser's request is a row
//	4.3    the grammar of the fields is that of RFC 9110, which the rows with lists and tokens keep to
//
// The request of a client has rows in rfc6455_client_test.go.

// Limits of the server that answers the rows.
const (
	rfcMaxHeader = 1000
	rfcMaxFields = 20
)

// rfcRequest is a row. TCP stays open with status 101; else the server ends it.
type rfcRequest struct {
	section string
	name    string
	in      string    // what the client sends
	status  int       // of the answer; 0: none
	err     error     // why it is refused
	text    string    // of the status line, if it is not that of err
	key     string    // of the request, if it is not that of the RFC
	out     []rfcSent // what follows the answer, for frames behind the request
	ends    bool      // the client ends its side
	wire    bool      // what a running server alone decides
	whole   bool      // it counts that all of it comes in one piece
}

// answer is what goes out.
func (row *rfcRequest) answer() string {
	text, extra := row.text, ""
	switch {
	case row.status == 0:
		return ""
	case row.status == 101:
		accept := handshakeAnswer
		if row.key != "" {
			accept = acceptKey([]byte(row.key))
		}
		return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Accept: " + accept + "\r\n\r\n"
	case row.status == 426: // section 4.4
		extra = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	}
	if text == "" {
		text = row.err.Error()
	}
	body := text
	switch row.err {
	case errPlainGet:
		body = portText
	case errUnknownPath, ErrInvalidHTTPMethod:
		body += ". " + portText
	}
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
		row.status, text, extra, len(body))
	if strings.HasPrefix(row.in, "HEAD ") { // RFC 9110, section 9.3.2
		return head
	}
	return head + body
}

// rfcRequests are the rows.
func rfcRequests() []rfcRequest {
	table := append(append([]rfcRequest{}, rfcRefused...), rfcAccepted...)
	for _, field := range handshakeFields {
		name, _, _ := strings.Cut(field, ":")
		table = append(table, rfcRequest{section: "4.2.1", name: "a request without " + name,
			in: handshakeRequest(handshakeLine, name, handshakePad), status: 400, err: ErrMissingRequiredHeader})
	}
	return table
}

var rfcRefused = []rfcRequest{
	{section: "4.2.1", name: "POST is not GET", in: handshakeRequest("POST / HTTP/1.1"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "methods tell upper from lower case", in: handshakeRequest("get / HTTP/1.1"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "a method is told before a version", in: handshakeRequest("PUT / HTTP/1.0"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "HTTP/1.0 is not HTTP/1.1", in: handshakeRequest("GET / HTTP/1.0"), status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "HTTP/2.0 is not HTTP/1.1", in: handshakeRequest("GET / HTTP/2.0"), status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "a version with a blank behind it", in: handshakeRequest("GET / HTTP/1.1 "), status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "a version without a number", in: handshakeRequest("GET / HTTP/"), status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "no version", in: handshakeRequest("GET /"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "no target", in: handshakeRequest("GET HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "an empty target", in: handshakeRequest("GET  HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "a method alone", in: handshakeRequest("GET"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "an empty line, then fields", in: handshakeRequest(""), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "something else than HTTP", in: handshakeRequest("GET / ICAP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "HTTP in lower case", in: handshakeRequest("GET / http/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "a target with a blank", in: handshakeRequest("GET /a b HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request line"},
	{section: "4.2.1", name: "a target with a tab", in: handshakeRequest("GET /a\tb HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "4.2.1", name: "a target with a NUL", in: handshakeRequest("GET /\x00 HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "4.2.1", name: "a target with a control character", in: handshakeRequest("GET /\x1b HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "4.2.1", name: "a target with a bare CR", in: handshakeRequest("GET /\rX HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "4.2.1", name: "a target with DEL", in: handshakeRequest("GET /\x7f HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: control character in request target"},
	{section: "3", name: "a target with a fragment", in: handshakeRequest("GET /#a HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: fragment in request target"},
	{section: "4.2.1", name: "a target with a broken percent-encoding", in: handshakeRequest("GET /%zz HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target that is no path", in: handshakeRequest("GET chat HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target that is only a query", in: handshakeRequest("GET ?a=b HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target with a scheme and no host", in: handshakeRequest("GET ws: HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target with a scheme and a path without slash", in: handshakeRequest("GET mailto:root HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target with an empty host", in: handshakeRequest("GET http:/// HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},

	{section: "4.2.1", name: "a target with user information", in: handshakeRequest("GET ws://user:secret@example.com/ HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: user information in request target"},
	{section: "4.2.1", name: "a target with a host that is none", in: handshakeRequest("GET ws://a,é/ HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target with a port that is none", in: handshakeRequest("GET ws://a:b/ HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a whole URI does not make up for a Host", in: handshakeRequest("GET ws://example.com/ HTTP/1.1", "Host", handshakePad), status: 400, err: ErrMissingRequiredHeader},
	{section: "4.2.1", name: "a target of a host and a port is for CONNECT", in: handshakeRequest("GET example.com:80 HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "a target of an address and a port is for CONNECT", in: handshakeRequest("GET 127.0.0.1:80 HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "CONNECT is not GET", in: handshakeRequest("CONNECT example.com:80 HTTP/1.1"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "an asterisk is for OPTIONS", in: handshakeRequest("GET * HTTP/1.1"), status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "OPTIONS of the whole server", in: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, err: ErrBadRequest, text: "bad request: malformed request target"},
	{section: "4.2.1", name: "OPTIONS is not GET", in: "OPTIONS / HTTP/1.0\r\n\r\n", status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "HEAD is not GET", in: handshakeRequest("HEAD / HTTP/1.1"), status: 400, err: ErrInvalidHTTPMethod},
	{section: "4.2.1", name: "HEAD with a malformed field", in: handshakeRequest("HEAD / HTTP/1.1", "+nothing"), status: 400, err: ErrInvalidHeaderFormat},

	{section: "4.2.1", name: "a plain request is told what the port is for", in: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", status: 426, err: errPlainGet, text: "Upgrade Required"},
	{section: "4.2.1", name: "a plain request of a browser", in: "GET /?a=b HTTP/1.1\r\nHost: localhost:9001\r\nConnection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9\r\nAccept-Language: en-US\r\n\r\n", status: 426, err: errPlainGet, text: "Upgrade Required"},
	{section: "4.2.1", name: "a plain request of HTTP/1.0 is not HTTP/1.1", in: "GET / HTTP/1.0\r\nHost: a\r\n\r\n", status: 400, err: ErrInvalidHTTPVersion},
	{section: "4.2.1", name: "a plain request with two hosts", in: "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a request with a key and no upgrade, as a proxy may leave it", in: handshakeRequest(handshakeLine, "Upgrade", "Connection: close", handshakePad), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "a short request without a header is too short", in: "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n", status: 400, err: ErrRequestLength},
	{section: "4.2.1", name: "a request of a line alone is too short", in: "GET / HTTP/1.1\r\n\r\n", status: 400, err: ErrRequestLength},
	{section: "4.2.1", name: "a request one byte short of the minimum is too short", in: handshakeSized(minRequest-1, false), status: 400, err: ErrRequestLength},
	{section: "4.2.1", name: "a request of the minimum with a short header part", in: handshakeSized(minRequest, true), status: 400, err: ErrRequestHeaderLength},
	{section: "4.2.1", name: "a long target does not make a header part", in: "GET /?" + strings.Repeat("a", 200) + " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", status: 400, err: ErrRequestHeaderLength},
	{section: "4.2.1", name: "a request that is cut off early is too short", in: "GET / HTTP/1.1\r\nHost: a\r\nConn", status: 400, err: ErrRequestLength, ends: true},
	{section: "4.2.1", name: "a request that is cut off in a short header part", in: "GET /?" + strings.Repeat("a", 200) + " HTTP/1.1\r\nHost: a", status: 400, err: ErrRequestHeaderLength, ends: true},
	{section: "4.2.1", name: "a request that is cut off late misses headers", in: strings.TrimSuffix(handshakeRequest(handshakeLine, handshakePad), "\r\n"), status: 400, err: ErrMissingRequiredHeader, ends: true},

	{section: "4.2.1", name: "a line without a colon", in: handshakeRequest(handshakeLine, "+nothing"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a field without a name", in: handshakeRequest(handshakeLine, "+: value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "white space before the colon", in: handshakeRequest(handshakeLine, "+X-A : value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "white space before the name", in: handshakeRequest(handshakeLine, "+ X-A: value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a folded line", in: handshakeRequest(handshakeLine, "+X-A: value", "+\tmore"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a folded line that looks like a field", in: handshakeRequest(handshakeLine, "+X-A: value", "+ X-B: more"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a name that is no token", in: handshakeRequest(handshakeLine, "+X(A): value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a name that is not ASCII", in: handshakeRequest(handshakeLine, "+X-é: value"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with a NUL", in: handshakeRequest(handshakeLine, "+X-A: a\x00b"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with a bare CR", in: handshakeRequest(handshakeLine, "+X-A: a\rb"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with CR before the end of the line", in: handshakeRequest(handshakeLine, "+X-A: a\r"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with an escape", in: handshakeRequest(handshakeLine, "+X-A: \x1b[1m"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a value with DEL", in: handshakeRequest(handshakeLine, "+X-A: \x7f"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a bare LF behind a field", in: handshakeRequest(handshakeLine, "+X-A: a\nX-B: b"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "a bare LF behind the request line", in: strings.Replace(handshakeRequest(handshakeLine), "\r\n", "\n", 1), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "bare LFs all over", in: strings.ReplaceAll(handshakeRequest(handshakeLine), "\r\n", "\n"), status: 400, err: ErrInvalidHeaderFormat},
	{section: "4.2.1", name: "an LF in front of everything", in: "\n" + handshakeRequest(handshakeLine), status: 400, err: ErrInvalidHeaderFormat},

	{section: "4.2.1", name: "Host twice", in: handshakeRequest(handshakeLine, "+Host: b"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "Host twice with one value", in: handshakeRequest(handshakeLine, "+host: server.example.com"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "an empty Host", in: handshakeRequest(handshakeLine, "Host:"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a Host with a blank inside", in: handshakeRequest(handshakeLine, "Host: a b"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a Host with quotes and brackets", in: handshakeRequest(handshakeLine, `Host: a"<>`), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a Host that is not ASCII", in: handshakeRequest(handshakeLine, "Host: ex\xffample"), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "a Host of blanks", in: handshakeRequest(handshakeLine, "Host: \t "), status: 400, err: ErrInvalidHeaderHost},
	{section: "4.2.1", name: "Connection twice without upgrade", in: handshakeRequest(handshakeLine, "Connection: keep-alive", "+Connection: close"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Connection with upgrade split over two lines", in: handshakeRequest(handshakeLine, "Connection: upg", "+Connection: rade"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "an empty Connection", in: handshakeRequest(handshakeLine, "Connection:"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Connection without upgrade", in: handshakeRequest(handshakeLine, "Connection: keep-alive, close"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Connection with a longer word", in: handshakeRequest(handshakeLine, "Connection: upgraded"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Connection with blanks for commas", in: handshakeRequest(handshakeLine, "Connection: keep-alive upgrade"), status: 400, err: ErrInvalidHeaderConn},
	{section: "4.2.1", name: "Upgrade twice to something else", in: handshakeRequest(handshakeLine, "Upgrade: h2c", "+Upgrade: TLS/1.2"), status: 400, err: ErrInvalidHeaderUpgrade},
	{section: "4.2.1", name: "an empty Upgrade", in: handshakeRequest(handshakeLine, "Upgrade:"), status: 400, err: ErrInvalidHeaderUpgrade},
	{section: "4.2.1", name: "Upgrade to something else", in: handshakeRequest(handshakeLine, "Upgrade: h2c"), status: 400, err: ErrInvalidHeaderUpgrade},
	{section: "4.2.1", name: "Upgrade with a version", in: handshakeRequest(handshakeLine, "Upgrade: websocket/13"), status: 400, err: ErrInvalidHeaderUpgrade},
	{section: "4.2.1", name: "Key twice", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Key: "+handshakeKey), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "an empty Key", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key:"), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 23 characters", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: "+handshakeKey[1:]), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 28 characters", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: AAAA"+handshakeKey), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 15 bytes", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 17 bytes", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of 18 bytes", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key that is not base64", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "a Key of the URL alphabet", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: ____IHNhbXBsZSBub25jZQ=="), status: 400, err: ErrInvalidHeaderWSKey},
	{section: "4.2.1", name: "Version twice", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Version: 13"), status: 400, err: ErrInvalidHeaderWSVersion},
	{section: "4.2.1", name: "an empty Version", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Version:"), status: 400, err: ErrInvalidHeaderWSVersion},
	{section: "4.4", name: "Version 8", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Version: 8"), status: 426, err: ErrUnsupportedWSVersion},
	{section: "4.4", name: "Version 013", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Version: 013"), status: 426, err: ErrUnsupportedWSVersion},
	{section: "4.4", name: "Version as a list", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Version: 13, 8"), status: 426, err: ErrUnsupportedWSVersion},

	{section: "9.1", name: "an extension that is no token", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a b"), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension without a name", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: ;a=1"), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with an empty parameter", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a;"), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with an empty value", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a;b="), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with a quoted value that is no token", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Extensions: a;b="c d"`), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with an open quote", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Extensions: a;b="c`), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "an extension with an open quote and a backslash", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Extensions: a;b="c\`), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "9.1", name: "the second extension field is wrong", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a", "+Sec-WebSocket-Extensions: b=c"), status: 400, err: ErrInvalidHeaderWSExtensions},
	{section: "4.2.1", name: "a subprotocol that is no token", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Protocol: chat, super chat"), status: 400, err: ErrInvalidHeaderWSProtocol},
	{section: "4.2.1", name: "a subprotocol with a parameter", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Protocol: chat;v=1"), status: 400, err: ErrInvalidHeaderWSProtocol},
	{section: "4.2.1", name: "a subprotocol in quotes", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Protocol: "chat"`), status: 400, err: ErrInvalidHeaderWSProtocol},
	{section: "4.2.1", name: "a subprotocol with an open quote and a backslash", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Protocol: chat, "\`), status: 400, err: ErrInvalidHeaderWSProtocol},

	{section: "4.2.1", name: "a body by its length", in: handshakeRequest(handshakeLine, "+Content-Length: 1"), status: 400, err: errBody},
	{section: "4.2.1", name: "two lengths", in: handshakeRequest(handshakeLine, "+Content-Length: 0", "+Content-Length: 0"), status: 400, err: errBody},
	{section: "4.2.1", name: "a list of lengths", in: handshakeRequest(handshakeLine, "+Content-Length: 0, 0"), status: 400, err: errBody},
	{section: "4.2.1", name: "a length with a sign", in: handshakeRequest(handshakeLine, "+Content-Length: +0"), status: 400, err: errBody},
	{section: "4.2.1", name: "a body in chunks", in: handshakeRequest(handshakeLine, "+Transfer-Encoding: chunked"), status: 400, err: errBody},
	{section: "4.2.1", name: "an empty transfer encoding", in: handshakeRequest(handshakeLine, "+Transfer-Encoding:"), status: 400, err: errBody},

	{section: "4.2.2", name: "an unknown path", in: handshakeRequest("GET /nowhere?q=1 HTTP/1.1"), status: 404, err: errUnknownPath, wire: true},
	{section: "4.2.2", name: "an unknown path without any header", in: "GET /x HTTP/1.1\r\n\r\n", status: 404, err: errUnknownPath, wire: true},
	{section: "4.1", name: "a second request behind the first", in: handshakeRequest(handshakeLine) + handshakeRequest(handshakeLine), status: 400, err: errPipelined, wire: true, whole: true},
	{section: "4.2.1", name: "a client that connects and leaves is told nothing", ends: true, wire: true},
	{section: "10.4", name: "one byte over the limit", in: rfcPadded(rfcMaxHeader + 1), status: 431, err: errHeaderTooLarge},
	{section: "10.4", name: "one field over the limit", in: rfcFilled(rfcMaxFields + 1), status: 431, err: errHeaderTooLarge},
	{section: "10.4", name: "a line without end", in: strings.Repeat("x", 3*rfcMaxHeader), status: 431, err: errHeaderTooLarge},
}

var rfcAccepted = []rfcRequest{
	{section: "1.3", name: "the example", in: "GET / HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + handshakeKey + "\r\nOrigin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n", status: 101},
	{section: "4.2.1", name: "a complete request however short", in: "GET / HTTP/1.1\r\nHost:a\r\nConnection:upgrade\r\nUpgrade:websocket\r\nSec-WebSocket-Key:" + handshakeKey + "\r\nSec-WebSocket-Version:13\r\n\r\n", status: 101},
	{section: "4.2.1", name: "an empty line in front", in: "\r\n" + handshakeRequest(handshakeLine), status: 101},
	{section: "4.2.1", name: "any case of names", in: strings.NewReplacer("Host:", "hOST:", "Sec-WebSocket-Key:", "SEC-WEBSOCKET-KEY:", "Upgrade:", "upgrade:").Replace(handshakeRequest(handshakeLine)), status: 101},
	{section: "4.2.1", name: "no white space around values", in: handshakeRequest(handshakeLine, "Host:a", "Connection:Upgrade", "Upgrade:websocket"), status: 101},
	{section: "4.2.1", name: "Connection and Upgrade as lists, in any case", in: handshakeRequest(handshakeLine, "Connection: keep-alive , UPGRADE,", "Upgrade: h2c,,WebSocket"), status: 101},
	{section: "4.2.1", name: "Connection over several lines, the token in any of them", in: handshakeRequest(handshakeLine, "Connection: keep-alive", "+Connection: Upgrade", "+Connection:"), status: 101},
	{section: "4.2.1", name: "Connection twice with the same token", in: handshakeRequest(handshakeLine, "+connection: upgrade"), status: 101},
	{section: "4.2.1", name: "Upgrade over several lines", in: handshakeRequest(handshakeLine, "Upgrade: h2c", "+Upgrade: websocket"), status: 101},
	{section: "4.2.1", name: "Upgrade twice with the same token", in: handshakeRequest(handshakeLine, "+Upgrade: websocket"), status: 101},
	{section: "4.2.1", name: "a Key with bits behind its end", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: "+handshakePadded), status: 101, key: handshakePadded},
	{section: "4.2.1", name: "a Key with all bits behind its end", in: handshakeRequest(handshakeLine, "Sec-WebSocket-Key: "+strings.Repeat("/", 22)+"=="), status: 101, key: strings.Repeat("/", 22) + "=="},
	{section: "9.1", name: "empty elements and empty lists of Extensions and Protocol", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: , a ,,", "+Sec-WebSocket-Protocol:"), status: 101},
	{section: "9.1", name: "white space inside an extension", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Extensions: a ; b = 1 ;\tc"), status: 101},
	{section: "9.1", name: "an extension's value in quotes", in: handshakeRequest(handshakeLine, `+Sec-WebSocket-Extensions: a; b="10"`), status: 101},
	{section: "4.2.1", name: "a body of no length", in: handshakeRequest(handshakeLine, "+Content-Length: 0"), status: 101},
	{section: "4.2.1", name: "a request of a browser", in: handshakeRequest(handshakeLine, "Connection: keep-alive, Upgrade", "+Origin: null", "+User-Agent: Mozilla/5.0", "+Cookie: a=b; c=d", "+Cache-Control: no-cache", "+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), status: 101},
	{section: "4.2.1", name: "a query is for the program", in: handshakeRequest("GET /?x=1&y=%20 HTTP/1.1"), status: 101},
	{section: "4.2.1", name: "a whole URI", in: handshakeRequest("GET ws://example.com:80/ HTTP/1.1"), status: 101},
	{section: "4.2.2", name: "what is offered and not chosen is not in the answer", in: handshakeRequest(handshakeLine, "+Sec-WebSocket-Protocol: chat", "+Sec-WebSocket-Protocol: v2", "+Sec-WebSocket-Extensions: a; b=1"), status: 101},
	{section: "4.1", name: "frames in one piece with the request, too early for a client, are answered behind it", in: handshakeRequest(handshakeLine) + string(rfcFrame(0x81, "first")(true)) + string(rfcFrame(0x89, "p")(true)), status: 101, out: []rfcSent{{OpcodeText, "first"}, {OpcodePong, "p"}}},
	{section: "4.1", name: "a Close in one piece with the request is answered behind it", in: handshakeRequest(handshakeLine) + string(rfcClose(4000, "bye")(true)), status: 101, out: []rfcSent{rfcSentClose(4000, "bye")}},
	{section: "4.1", name: "a breach in one piece with the request is answered behind it", in: handshakeRequest(handshakeLine) + "\x81\x00", status: 101, out: []rfcSent{rfcSentClose(1002, errNotMasked.text)}},
	{section: "10.4", name: "one byte below the limit", in: rfcPadded(rfcMaxHeader - 1), status: 101},
	{section: "10.4", name: "as many bytes as the limit", in: rfcPadded(rfcMaxHeader), status: 101},
	{section: "10.4", name: "one field below the limit", in: rfcFilled(rfcMaxFields - 1), status: 101},
	{section: "10.4", name: "as many fields as the limit", in: rfcFilled(rfcMaxFields), status: 101},
}

// rfcPadded is a good request of that size.
func rfcPadded(size int) string {
	short := handshakeRequest(handshakeLine, "+X: ")
	return handshakeRequest(handshakeLine, "+X: "+strings.Repeat("x", size-len(short)))
}

// rfcFilled is a good request with that many fields.
func rfcFilled(fields int) string {
	more := make([]string, fields-len(handshakeFields))
	for i := range more {
		more[i] = "+X: y"
	}
	return handshakeRequest(handshakeLine, more...)
}

// handshakeSized is a request of that size which lacks a header; its header part is short if the target takes the room.
func handshakeSized(size int, target bool) string {
	short := handshakeRequest(handshakeLine, "Sec-WebSocket-Key")
	if target {
		return strings.Replace(short, "GET /", "GET /?"+strings.Repeat("a", size-len(short)-1), 1)
	}
	return strings.Replace(short, "Host: ", "Host: "+strings.Repeat("a", size-len(short)), 1)
}

// rfcJudge takes a request in pieces, as a server does, without one.
func rfcJudge(pieces ...[]byte) (answer string, err error) {
	var s headerScanner
	var b []byte
	for _, piece := range pieces {
		b = append(b, piece...)
		n, err := s.scan(b, rfcMaxHeader, rfcMaxFields)
		if err == nil && n == 0 {
			continue
		}
		var req *Handshake
		if err == nil {
			req, err = parseRequest(b[:n])
		}
		if err == nil {
			err = req.check()
		}
		if err != nil {
			return string(appendRefusal(nil, err, asksHead(b))), err
		}
		return string(appendAccept(nil, req)), nil
	}
	err = cutOff(b)
	return string(appendRefusal(nil, err, asksHead(b))), err
}

// rfcRunRequests runs the rows without I/O.
func rfcRunRequests(t *testing.T, count *rfcCount) {
	for _, row := range rfcRequests() {
		if row.wire {
			continue
		}
		t.Run(row.section+": "+row.name, func(t *testing.T) {
			check := func(how string, pieces ...[]byte) {
				count.runs.Add(1)
				answer, err := rfcJudge(pieces...)
				require.ErrorIs(t, err, row.err, how)
				require.Equal(t, row.answer(), answer, how)
			}
			check("whole", []byte(row.in))
			check("byte by byte", rfcEach([]byte(row.in), 1)...)
			for cut := 1; cut < len(row.in); cut++ {
				check(fmt.Sprintf("cut at %d", cut), []byte(row.in[:cut]), []byte(row.in[cut:]))
			}
		})
	}
}

// proxyBinary is a PROXY protocol header of version 2.
func proxyBinary(command, family byte, length int, rest string) string {
	return proxySignature + string([]byte{command, family, byte(length >> 8), byte(length)}) + rest
}

func proxyUnixPaths(source, destination string) string {
	paths := make([]byte, 2*proxyUnixPath)
	copy(paths, source)
	copy(paths[proxyUnixPath:], destination)
	return string(paths)
}

const (
	proxyAddrs4 = "\xc0\x00\x02\x01" + "\xc6\x33\x64\x01" + "\x30\x39" + "\x01\xbb"
	proxyAddrs6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x30\x39" + "\x01\xbb"
	proxyMapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x02" + "\x30\x39" + "\x01\xbb"
)

func TestParseProxy(t *testing.T) {
	from := func(source string) proxyHeader { return proxyHeader{source: netip.MustParseAddrPort(source)} }
	longest := proxyLine + "UNKNOWN " + strings.Repeat("f", maxProxyLine-len(proxyLine)-len("UNKNOWN ")-2) + "\r\n"
	tooLong := maxProxyHeader - proxyHead + 1
	for _, row := range []struct {
		name, header string
		want         proxyHeader
		err          error
	}{
		{"TCP over IPv4", "PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\r\n", from("192.0.2.1:12345"), nil},
		{"TCP over IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n", from("[2001:db8::1]:12345"), nil},
		{"IPv4 mapped into IPv6 is IPv4", "PROXY TCP6 ::ffff:192.0.2.1 ::1 0 65535\r\n", from("192.0.2.1:0"), nil},
		{"unknown", "PROXY UNKNOWN\r\n", proxyHeader{}, nil},
		{"unknown, with what is ignored", "PROXY UNKNOWN ffff::1 x\x00y \r z\r\n", proxyHeader{}, nil},
		{"the longest line", longest, proxyHeader{}, nil},
		{"a line that is a byte too long", strings.Replace(longest, "f", "ff", 1), proxyHeader{}, errProxyTooLong},
		{"a line without an end", proxyLine + "UNKNOWN" + strings.Repeat(" ", 200), proxyHeader{}, errProxyTooLong},
		{"a bare line feed", "PROXY UNKNOWN\n", proxyHeader{}, errProxyMalformed},
		{"a line feed alone", "PROXY \n", proxyHeader{}, errProxyMalformed},
		{"nothing in it", "PROXY \r\n", proxyHeader{}, errProxyMalformed},
		{"another protocol", "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"lower case", "PROXY tcp4 192.0.2.1 198.51.100.1 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"an address of the other version", "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"and the other way round", "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"a name", "PROXY TCP4 localhost 198.51.100.1 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"a bad destination", "PROXY TCP4 192.0.2.1 198.51.100.256 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"an octal address", "PROXY TCP4 192.0.02.1 198.51.100.1 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"a port that is too large", "PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n", proxyHeader{}, errProxyMalformed},
		{"a port with a sign", "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"a port with a zero in front", "PROXY TCP4 192.0.2.1 198.51.100.1 1 02\r\n", proxyHeader{}, errProxyMalformed},
		{"no port", "PROXY TCP4 192.0.2.1 198.51.100.1 1 \r\n", proxyHeader{}, errProxyMalformed},
		{"too few fields", "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n", proxyHeader{}, errProxyMalformed},
		{"too many", "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n", proxyHeader{}, errProxyMalformed},
		{"two blanks", "PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n", proxyHeader{}, errProxyMalformed},
		{"a blank at the end", "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n", proxyHeader{}, errProxyMalformed},
		{"a carriage return inside", "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\r\n", proxyHeader{}, errProxyMalformed},

		{"version 2, IPv4", proxyBinary(proxyProxied, proxyTCP4, 12, proxyAddrs4), from("192.0.2.1:12345"), nil},
		{"version 2, IPv6", proxyBinary(proxyProxied, proxyTCP6, 36, proxyAddrs6), from("[2001:db8::1]:12345"), nil},
		{"version 2, mapped", proxyBinary(proxyProxied, proxyTCP6, 36, proxyMapped), from("192.0.2.1:12345"), nil},
		{"version 2, Unix", proxyBinary(proxyProxied, proxyUnix, 216, proxyUnixPaths("/run/a", "/run/b")), proxyHeader{path: "/run/a", isUnix: true}, nil},
		{"version 2, Unix without a name", proxyBinary(proxyProxied, proxyUnix, 216, proxyUnixPaths("", "/run/b")), proxyHeader{isUnix: true}, nil},
		{"version 2, a name of Linux", proxyBinary(proxyProxied, proxyUnix, 216, proxyUnixPaths("\x00a", "")), proxyHeader{path: "@a", isUnix: true}, nil},
		{"version 2, a path that fills its room", proxyBinary(proxyProxied, proxyUnix, 216, proxyUnixPaths(strings.Repeat("p", 108), "")), proxyHeader{path: strings.Repeat("p", 108), isUnix: true}, nil},
		{"TLVs are skipped", proxyBinary(proxyProxied, proxyTCP4, 19, proxyAddrs4+"\x01\x00\x04http"), from("192.0.2.1:12345"), nil},
		{"malformed ones too", proxyBinary(proxyProxied, proxyTCP4, 14, proxyAddrs4+"\x01\xff"), from("192.0.2.1:12345"), nil},
		{"a health check", proxyBinary(proxyLocal, proxyUnknown, 0, ""), proxyHeader{}, nil},
		{"a health check with what is ignored", proxyBinary(proxyLocal, 0xFF, 3, "abc"), proxyHeader{}, nil},
		{"a family that is not said", proxyBinary(proxyProxied, proxyUnknown, 2, "ab"), proxyHeader{}, nil},
		{"the longest header", proxyBinary(proxyProxied, proxyTCP4, tooLong-1, proxyAddrs4+strings.Repeat("t", tooLong-13)), from("192.0.2.1:12345"), nil},
		{"one that claims a byte more", proxyBinary(proxyProxied, proxyTCP4, tooLong, ""), proxyHeader{}, errProxyTooLong},
		{"one that claims 64 KiB", proxyBinary(proxyLocal, proxyUnknown, 1<<16-1, ""), proxyHeader{}, errProxyTooLong},
		{"version 1 in the form of 2", proxyBinary(0x11, proxyTCP4, 12, ""), proxyHeader{}, errProxyMalformed},
		{"version 3", proxyBinary(0x31, proxyTCP4, 12, ""), proxyHeader{}, errProxyMalformed},
		{"another command", proxyBinary(0x22, proxyTCP4, 12, ""), proxyHeader{}, errProxyMalformed},
		{"datagrams", proxyBinary(proxyProxied, 0x12, 12, ""), proxyHeader{}, errProxyMalformed},
		{"an unknown family", proxyBinary(proxyProxied, 0x41, 12, ""), proxyHeader{}, errProxyMalformed},
		{"too short for IPv4", proxyBinary(proxyProxied, proxyTCP4, 11, ""), proxyHeader{}, errProxyMalformed},
		{"too short for IPv6", proxyBinary(proxyProxied, proxyTCP6, 35, ""), proxyHeader{}, errProxyMalformed},
		{"too short for Unix", proxyBinary(proxyProxied, proxyUnix, 215, ""), proxyHeader{}, errProxyMalformed},

		{"a request", "GET / HTTP/1.1\r\n", proxyHeader{}, errProxyMissing},
		{"TLS", "\x16\x03\x01", proxyHeader{}, errProxyMissing},
		{"nearly version 1", "PROXY\t", proxyHeader{}, errProxyMissing},
		{"nearly version 2", proxySignature[:11] + "\r", proxyHeader{}, errProxyMissing},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, behind := range []string{"", "G", rawRequest, row.header} {
				h, n, err := parseProxy([]byte(row.header + behind))
				require.Equal(t, row.err, err)
				require.Equal(t, row.want, h)
				if row.err == nil {
					require.Equal(t, len(row.header), n)
				}
			}
			failed := false
			for i := range len(row.header) {
				h, n, err := parseProxy([]byte(row.header[:i]))
				require.Zero(t, n, "%d bytes are not all of it", i)
				require.Zero(t, h)
				require.True(t, err != nil || !failed, "what is wrong stays wrong")
				require.True(t, err == nil || row.err != nil)
				failed = err != nil
			}
		})
	}
	t.Run("it keeps no reference to the bytes", func(t *testing.T) {
		b := []byte(proxyBinary(proxyProxied, proxyUnix, 216, proxyUnixPaths("/run/a", "")))
		h, _, err := parseProxy(b)
		require.NoError(t, err)
		clear(b)
		assert.Equal(t, "/run/a", h.path)
	})
}
func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		allowed string
		yes, no []string
	}{
		{"https://example.com",
			[]string{"https://example.com", "https://example.com:443", "HTTPS://EXAMPLE.com", "https://example.com:0443"},
			[]string{
				"http://example.com", "https://example.com:8443", "https://example.com.", "https://example.com/", "https://example.com/path", "https://example.com?",
				"https://example.com#", "https://example.com.evil.org", "https://evil.org/https://example.com", "https://evil.org?https://example.com",
				"https://example.com@evil.org", "https://evil.org@example.com", "https://:@example.com", "https://example.com:443@evil.org", "https://evil.org\\@example.com",
				"https://evil.org#https://example.com", "https://sub.example.com", "https://evilexample.com", "https://example.co", "https://xexample.com", "https://example.com:",
				"https://example.com:0", "https://example.com:65979", "https://example.com:443:443", "https://example.com:+443", "https://example.com:4 43", "https://[example.com]",
				"https:example.com", "https:/example.com", "https:///example.com", "//example.com", "example.com", "://example.com", "", " ", "null", "NULL",
				"https://example.com https://evil.org", "https://evil.org https://example.com", "https://example.com, https://evil.org", "https://example%2Ecom", "https://exampl\u0435.com",
				"https://example.com\x00", "https://example\uff0ecom", "https://", "wss://example.com", "*", "https://*", "https://*.com", "1https://example.com", "ht tps://example.com",
			}},
		{"http://Example.com:80", []string{"http://example.com", "http://example.com:80"}, []string{"https://example.com", "http://example.com:443"}},
		{"http://localhost:9002", []string{"http://localhost:9002", "http://LOCALHOST:9002"}, []string{"http://localhost", "http://127.0.0.1:9002", "http://localhost:90020"}},
		{"https://example.com.", []string{"https://example.com."}, []string{"https://example.com", "https://example.com.."}},
		{"https://*.example.com",
			[]string{"https://a.example.com", "https://A.Example.Com:443", "https://xn--bcher-kva.example.com", "https://a_b-c.example.com", "https://1.example.com"},
			[]string{
				"https://example.com", "https://.example.com", "https://a.b.example.com", "https://a..example.com", "https://*.example.com", "https://a.example.com.", "https://a.example.com:8443",
				"http://a.example.com", "https://a.example.com.evil.org", "https://evil.org/a.example.com", "https://evil.org/.example.com", "https://a@x.example.com", "https://evil.org#.example.com",
				"https://evil.org%2F.example.com", "https://aexample.com", "https://a.evilexample.com", "https://evil.org:1.example.com", "null",
			}},
		{"http://*.localhost:3000", []string{"http://a.localhost:3000"}, []string{"http://a.localhost", "http://localhost:3000"}},
		{"null", []string{"null"}, []string{"", "Null", "NULL", "null/", "http://null", "null null", "file://"}},
		{"http://[::1]:9002", []string{"http://[::1]:9002", "http://[0:0:0:0:0:0:0:1]:9002"}, []string{"http://::1:9002", "http://[::1]", "http://[::1%25lo]:9002", "http://[::1]:9002]", "http://[::1]x:9002", "http://[::2]:9002", "http://[127.0.0.1]:9002", "http://[]:9002", "http://[::1:9002"}},
		{"https://[2001:DB8::0001]", []string{"https://[2001:db8::1]", "https://[2001:db8:0::1]:443"}, []string{"https://[2001:db8::1]:8443"}},
		{"https://xn--bcher-kva.example", []string{"https://XN--bcher-kva.example"}, []string{"https://bücher.example", "https://bucher.example"}},
		{"chrome-extension://abcdefgh", []string{"chrome-extension://abcdefgh"}, []string{"chrome-extension://abcdefghi", "https://abcdefgh"}},
		{"file://", []string{"file://"}, []string{"null", "file:///", "file://x", "http://"}},
	} {
		t.Run("pages of "+c.allowed, func(t *testing.T) {
			o, err := parseAllowed(c.allowed)
			require.NoError(t, err)
			terms := terms{origins: []origin{{scheme: "https", host: "other.example"}, o}}
			for _, from := range c.yes {
				assert.True(t, terms.allows([]string{from}), "%q", from)
			}
			for _, from := range c.no {
				assert.False(t, terms.allows([]string{from}), "%q", from)
			}
			assert.True(t, terms.allows(nil), "programs have none")
			assert.False(t, terms.allows([]string{c.yes[0], c.yes[0]}), "two are one too many")
			assert.False(t, terms.allows([]string{c.yes[0], ""}))
		})
	}
	t.Run("an empty list lets no page in", func(t *testing.T) {
		opts := ServerOptions{Origins: []string{}}
		opts.fill()
		terms, err := opts.terms()
		require.NoError(t, err)
		assert.False(t, terms.allows([]string{"null"}))
		assert.False(t, terms.allows([]string{"https://example.com"}))
		assert.True(t, terms.allows(nil))
	})
	t.Run("without a list any page may connect, whatever it says", func(t *testing.T) {
		opts := new(ServerOptions)
		opts.fill()
		terms, err := opts.terms()
		require.NoError(t, err)
		assert.True(t, terms.allows([]string{"https://evil.org"}))
		assert.True(t, terms.allows([]string{"not an origin", ""}))
	})
	for _, wrong := range []string{
		"", " ", "*", "Null", "example.com", "//example.com", "https://", "https:///", "https://example.com/", "https://example.com/path", "https://user@example.com", "https://example.com?x", "https://example.com#x",
		"https://example.com:", "https://example.com:0", "https://example.com:65536", "https://example.com:https", "https://*", "https://*.", "https://*.*.example.com", "https://a.*.example.com",
		"https://*example.com", "https://a*.example.com", "*.example.com", "*://example.com", "https://*..example.com", "https://*.[::1]", "https://*.", "https://bücher.example", "https://[::1", "https://[::1%25eth0]", "https://::1",
		"https://[1.2.3.4]", "https://a b", " https://example.com", "https://example.com ", "https://example.com\n", "https://a.example,https://b.example", "ws://example.com", "WSS://example.com", "http//example.com", "https://%65xample.com",
	} {
		t.Run(fmt.Sprintf("%q is an error", wrong), func(t *testing.T) {
			_, err := parseAllowed(wrong)
			assert.ErrorContains(t, err, "websocket: Origins: ")
		})
	}
}

// negotiated is the request of a client that offers those lines, as a server with those subprotocols has negotiated it.
func negotiated(t *testing.T, speaks []string, lines ...string) (*terms, *Handshake) {
	var fields []string
	for _, line := range lines {
		fields = append(fields, "+Sec-WebSocket-Protocol: "+line)
	}
	req, err := handshakeJudge(handshakeRequest(handshakeLine, fields...))
	require.NoError(t, err)
	require.NoError(t, checkSubprotocols(speaks))
	terms := &terms{subprotocols: speaks, anyOrigin: true}
	require.NoError(t, terms.negotiate(req))
	return terms, req
}

func TestSubprotocols(t *testing.T) {
	for _, c := range []struct {
		name          string
		speaks, lines []string
		want          string
	}{
		{"the server's preference counts", []string{"v2", "v1"}, []string{"v1, v2"}, "v2"},
		{"over several lines too", []string{"v2", "v1"}, []string{"v0, v1", "x,v2"}, "v2"},
		{"the next best is taken", []string{"v3", "v1"}, []string{"v2", "v1"}, "v1"},
		{"empty elements are none", []string{"v1"}, []string{",, v1 ,"}, "v1"},
		{"names differ by case", []string{"V1"}, []string{"v1"}, ""},
		{"a part of a name is none", []string{"v1"}, []string{"v1.1, xv1"}, ""},
		{"none is spoken", nil, []string{"v1"}, ""},
		{"none is offered", []string{"v1"}, nil, ""},
		{"an empty line offers none", []string{"v1"}, []string{""}, ""},
		{"one offered twice is one", []string{"v1"}, []string{"v1, v1"}, "v1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			terms, req := negotiated(t, c.speaks, c.lines...)
			assert.Equal(t, c.want, req.Subprotocol)
			require.NoError(t, terms.settle(req))
			res, _ := handshakeResponse(t, appendAccept(nil, req))
			want := []string(nil)
			if c.want != "" {
				want = []string{c.want}
			}
			assert.Equal(t, want, res.Header["Sec-Websocket-Protocol"])
		})
	}
	t.Run("tokens only are offered", func(t *testing.T) {
		for _, line := range []string{"a b", `"v1"`, "v1;q=1", "v1, a/b", "é"} {
			_, err := handshakeJudge(handshakeRequest(handshakeLine, "+Sec-WebSocket-Protocol: "+line))
			assert.ErrorIs(t, err, ErrInvalidHeaderWSProtocol, line)
		}
	})
	for _, c := range []struct {
		name    string
		decide  func(req *Handshake) // what HandleAuth does
		want    []string             // in the answer
		chosen  string
		refused bool
	}{
		{"HandleAuth may take another one that was offered", func(req *Handshake) { req.Subprotocol = "x" }, []string{"x"}, "x", false},
		{"or none", func(req *Handshake) { req.Subprotocol = "" }, nil, "", false},
		{"but nothing that was not offered", func(req *Handshake) { req.Subprotocol = "v1" }, nil, "", true},
		{"nor a list", func(req *Handshake) { req.Subprotocol = "v2, x" }, nil, "", true},
		{"nor a line break", func(req *Handshake) { req.Subprotocol = "v2\r\nX: y" }, nil, "", true},
		{"what it puts into ResponseHeader is the answer", func(req *Handshake) { req.ResponseHeader.Set("Sec-WebSocket-Protocol", "x") }, []string{"x"}, "x", false},
		{"under a name of any case", func(req *Handshake) { req.ResponseHeader["sec-WebSocket-Protocol"] = []string{"x"} }, []string{"x"}, "x", false},
		{"also if it was not offered", func(req *Handshake) { req.ResponseHeader.Set("Sec-WebSocket-Protocol", "other") }, []string{"other"}, "other", false},
		{"whatever Subprotocol is", func(req *Handshake) {
			req.Subprotocol = "nonsense"
			req.ResponseHeader.Set("Sec-WebSocket-Protocol", "x")
		}, []string{"x"}, "x", false},
		{"a nil ResponseHeader changes nothing", func(req *Handshake) { req.ResponseHeader = nil }, []string{"v2"}, "v2", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			terms, req := negotiated(t, []string{"v1", "v2"}, "x, v2")
			require.Equal(t, "v2", req.Subprotocol)
			c.decide(req)
			err := terms.settle(req)
			if c.refused {
				assert.ErrorIs(t, err, errHandlerFailed)
				assert.Equal(t, http.StatusInternalServerError, refusalFor(err).status)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.chosen, req.Subprotocol)
			res, _ := handshakeResponse(t, appendAccept(nil, req))
			assert.Equal(t, c.want, res.Header["Sec-Websocket-Protocol"])
		})
	}
	for _, wrong := range [][]string{{""}, {"a b"}, {"a,b"}, {"a", "b", "a"}, {"a/b"}, {"é"}, {"a\r\n"}} {
		t.Run(fmt.Sprintf("%q is an error", wrong), func(t *testing.T) {
			assert.ErrorContains(t, checkSubprotocols(wrong), "websocket: Subprotocols")
		})
	}
}

func TestHandshakeError(t *testing.T) {
	plain := func(body string) http.Header {
		return http.Header{"Content-Type": {plainText}, "Content-Length": {strconv.Itoa(len(body))}, "Cache-Control": {"no-store"}, "Connection": {"close"}}
	}
	with := func(header http.Header, changes ...string) http.Header {
		for i := 0; i < len(changes); i += 2 {
			header[changes[i]] = append(header[changes[i]], changes[i+1])
		}
		return header
	}
	for _, c := range []struct {
		name   string
		err    error
		status string
		header http.Header
		body   string
	}{
		{"a status alone has the usual reason, also as the body", &HandshakeError{Status: 401}, "401 Unauthorized", plain("Unauthorized"), "Unauthorized"},
		{"a wrapped one counts", fmt.Errorf("auth: %w", &HandshakeError{Status: 403}), "403 Forbidden", plain("Forbidden"), "Forbidden"},
		{"fields are sent", &HandshakeError{Status: 401, Header: http.Header{"WWW-Authenticate": {`Bearer realm="x"`, "Basic"}}}, "401 Unauthorized",
			with(plain("Unauthorized"), "Www-Authenticate", `Bearer realm="x"`, "Www-Authenticate", "Basic"), "Unauthorized"},
		{"a redirect", &HandshakeError{Status: 302, Header: http.Header{"Location": {"/x"}}}, "302 Found", with(plain("Found"), "Location", "/x"), "Found"},
		{"a reason of one's own", &HandshakeError{Status: 503, Reason: "à bientôt", Header: http.Header{"Retry-After": {"5"}}}, "503 à bientôt", with(plain("à bientôt"), "Retry-After", "5"), "à bientôt"},
		{"a body", &HandshakeError{Status: 400, Body: []byte("hello\r\n\r\n")}, "400 Bad Request", plain("hello\r\n\r\n"), "hello\r\n\r\n"},
		{"an empty body is none", &HandshakeError{Status: 400, Body: []byte{}}, "400 Bad Request", plain(""), ""},
		{"a body with a type, and a cache that may keep it", &HandshakeError{Status: 404, Header: http.Header{"content-type": {"application/json"}, "Cache-Control": {"max-age=1"}}, Body: []byte("{}")}, "404 Not Found",
			http.Header{"Content-Type": {"application/json"}, "Content-Length": {"2"}, "Cache-Control": {"max-age=1"}, "Connection": {"close"}}, "{}"},
		{"a type without a body is that of the reason", &HandshakeError{Status: 404, Header: http.Header{"Content-Type": {"application/json"}}}, "404 Not Found", plain("Not Found"), "Not Found"},
		{"fields that are the server's own are left out", &HandshakeError{Status: 400, Header: http.Header{
			"Content-Length": {"999"}, "connection": {"upgrade"}, "UPGRADE": {"h2c"}, "Transfer-Encoding": {"chunked"}, "Sec-Websocket-Accept": {"x"}, "sec-websocket-protocol": {"x"}, "X-A": {"b"},
		}}, "400 Bad Request", with(plain("Bad Request"), "X-A", "b"), "Bad Request"},
		{"426 has the fields that it needs, once", &HandshakeError{Status: 426, Header: http.Header{"Upgrade": {"x"}, "Sec-Websocket-Version": {"8"}}}, "426 Upgrade Required",
			with(plain("Upgrade Required"), "Upgrade", "websocket", "Sec-Websocket-Version", "13"), "Upgrade Required"},
		{"a status without a text", &HandshakeError{Status: 599}, "599 ", plain(""), ""},
		{"304 has no body, and no length", &HandshakeError{Status: 304, Body: []byte("x")}, "304 Not Modified", http.Header{"Content-Type": {plainText}, "Cache-Control": {"no-store"}, "Connection": {"close"}}, ""},
		{"the lowest status", &HandshakeError{Status: 300}, "300 Multiple Choices", plain("Multiple Choices"), "Multiple Choices"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := appendRefusal(nil, c.err, false)
			res, body := handshakeResponse(t, answer)
			assert.True(t, strings.HasPrefix(string(answer), "HTTP/1.1 "+c.status+"\r\n"), "%q", answer)
			assert.Equal(t, c.header, res.Header)
			assert.Equal(t, c.body, body)
			assert.Equal(t, string(answer[:len(answer)-len(body)]), string(appendRefusal(nil, c.err, true)), "for HEAD")
		})
	}
	for name, err := range map[string]*HandshakeError{
		"no status": {}, "101": {Status: 101}, "100": {Status: 100}, "200": {Status: 200}, "299": {Status: 299}, "600": {Status: 600}, "-1": {Status: -1}, "a nil pointer": nil,
		"a line break in the reason": {Status: 400, Reason: "a\r\nX: y"}, "an escape in the reason": {Status: 400, Reason: "\x1b[2J"},
		"a line break in a value": {Status: 400, Header: http.Header{"X": {"a\nb"}}}, "a line break in a name": {Status: 400, Header: http.Header{"X: y\r\nZ": {"a"}}},
		"a NUL in a field that is left out": {Status: 400, Header: http.Header{"Connection": {"\x00"}}}, "a NUL in the type": {Status: 400, Header: http.Header{"Content-Type": {"\x00"}}, Body: []byte("x")},
	} {
		t.Run(name+" is a 500", func(t *testing.T) {
			for _, err := range []error{err, fmt.Errorf("auth: %w", err)} {
				answer := appendRefusal(nil, err, false)
				res, body := handshakeResponse(t, answer)
				assert.Equal(t, "500 Internal Server Error", res.Status)
				assert.Equal(t, plain(body), res.Header)
				assert.Equal(t, "Internal Server Error", body)
				assert.Error(t, asHandshakeError(err).check())
				assert.True(t, isFieldValue(err.Error()))
			}
		})
	}
	t.Run("one that was sent is not changed", func(t *testing.T) {
		own := &HandshakeError{Status: 426, Header: http.Header{"Upgrade": {"x"}, "X-A": {"b"}}, Body: []byte("body")}
		first := appendRefusal(nil, own, false)
		assert.Equal(t, &HandshakeError{Status: 426, Header: http.Header{"Upgrade": {"x"}, "X-A": {"b"}}, Body: []byte("body")}, own)
		assert.Equal(t, string(first), string(appendRefusal(nil, own, false)))
	})
	t.Run("its text has the status and a reason", func(t *testing.T) {
		assert.EqualError(t, &HandshakeError{Status: 400, Reason: "Missing authorization"}, "websocket: handshake refused: 400 Missing authorization")
		assert.EqualError(t, &HandshakeError{Status: 401}, "websocket: handshake refused: 401 Unauthorized")
	})
}

func TestContentLength(t *testing.T) {
	type known struct {
		n                  int64
		isKnown, isChunked bool
	}
	for _, c := range []struct {
		name   string
		status int
		header http.Header
		want   known
	}{
		{"a length", 400, http.Header{"Content-Length": {"7"}}, known{7, true, false}},
		{"none", 400, nil, known{0, false, false}},
		{"chunks, which count", 400, http.Header{"Content-Length": {"7"}, "Transfer-Encoding": {"Chunked"}}, known{0, false, true}},
		{"another coding", 400, http.Header{"Transfer-Encoding": {"gzip", "chunked"}}, known{0, false, false}},
		{"a length that is none", 400, http.Header{"Content-Length": {"x"}}, known{0, false, false}},
		{"a length below zero", 400, http.Header{"Content-Length": {"-7"}}, known{0, false, false}},
		{"two lengths", 400, http.Header{"Content-Length": {"7, 7"}}, known{0, false, false}},
		{"1xx", 199, http.Header{"Content-Length": {"7"}}, known{0, true, false}},
		{"204", 204, http.Header{"Content-Length": {"7"}}, known{0, true, false}},
		{"304", 304, http.Header{"Content-Length": {"7"}}, known{0, true, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, isKnown, isChunked := contentLength(c.status, c.header)
			assert.Equal(t, c.want, known{n, isKnown, isChunked})
		})
	}
}
