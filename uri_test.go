package websocket

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
