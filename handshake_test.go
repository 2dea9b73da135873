package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
			case errUnknownPath:
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
		res, body := handshakeResponse(t, appendResponse(nil, false, 200, "OK", "", "application/json", []byte(`{"up":1}`)))
		assert.Equal(t, "200 OK", res.Status)
		assert.Equal(t, http.Header{"Content-Type": {"application/json"}, "Content-Length": {"8"}, "Cache-Control": {"no-store"}, "Connection": {"close"}}, res.Header)
		assert.Equal(t, `{"up":1}`, body)
	})
	t.Run("a content type adds no field", func(t *testing.T) {
		res, _ := handshakeResponse(t, appendResponse(nil, false, 200, "OK", "", "text/plain\r\nX-Injected: 1", nil))
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
