package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLogin(t *testing.T) {
	addrs := start(t)
	bearer := func(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }
	page := func(origin string) http.Header { return http.Header{"Origin": {origin}} }
	good := keyOf(t, "alice")
	for name, test := range map[string]struct {
		query   string
		headers http.Header
		refused string // empty: welcome
	}{
		"by header":                            {headers: bearer(good)},
		"by header in another case":            {headers: http.Header{"Authorization": {"bearer " + good}}},
		"by query":                             {query: "?key=" + good},
		"by query from our page":               {query: "?key=" + good, headers: page("http://" + addrs.web.String())},
		"the header counts":                    {query: "?key=" + good, headers: bearer("wrong-key"), refused: "unknown key"},
		"without a key":                        {refused: "no key"},
		"with another scheme":                  {headers: http.Header{"Authorization": {"Basic " + good}}, refused: "no key"},
		"with an unknown key":                  {query: "?key=wrong-key", refused: "unknown key"},
		"with a name for a key":                {query: "?key=alice", refused: "unknown key"},
		"from a foreign page":                  {query: "?key=" + good, headers: page("http://example.com"), refused: "origin"},
		"from another port of this host":       {query: "?key=" + good, headers: page("http://" + addrs.ws.String()), refused: "origin"},
		"from a sandboxed page":                {query: "?key=" + good, headers: page("null"), refused: "origin"},
		"from our page under another protocol": {query: "?key=" + good, headers: page("https://" + addrs.web.String()), refused: "origin"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, addrs, test.query, test.headers)
			err := d.client.Connect()
			if test.refused != "" {
				require.ErrorContains(t, err, "400")
				require.ErrorContains(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "alice", d.welcomed().Name)
		})
	}
}

func TestLoginWithoutWebPageRefusesEveryPage(t *testing.T) {
	addrs := start(t, "-web", "")
	d := newDevice(t, addrs, "?key="+keyOf(t, "alice"), http.Header{"Origin": {"http://127.0.0.1"}})
	assert.ErrorContains(t, d.client.Connect(), "origin")
}

func TestOriginAllowed(t *testing.T) {
	s := &server{webPort: "80"}
	assert.True(t, s.originAllowed("http://chat.example.com", "chat.example.com:9001"), "the default port")
	assert.True(t, s.originAllowed("http://[::1]", "[::1]:9001"))
	assert.False(t, s.originAllowed("http://chat.example.com.evil.example", "chat.example.com:9001"))
	assert.False(t, s.originAllowed("http://%zz", "chat.example.com:9001"))
}

func TestPublicURLDecidesAboutPages(t *testing.T) {
	for given, want := range map[string]struct {
		origin, ws string
		refused    []string
	}{
		"https://chat.example.com":      {"https://chat.example.com", "wss://chat.example.com/", []string{"http://chat.example.com", "https://chat.example.com:8443", "null"}},
		"https://Chat.Example.com:443/": {"https://chat.example.com", "wss://chat.example.com/", nil},
		"https://chat.example.com:8443": {"https://chat.example.com:8443", "wss://chat.example.com:8443/", []string{"https://chat.example.com"}},
		"http://[::1]:80":               {"http://[::1]", "ws://[::1]/", []string{"https://[::1]"}},
	} {
		t.Run(given, func(t *testing.T) {
			addrs := start(t, "-public-url", given)
			d := newDevice(t, addrs, "?key="+keyOf(t, "alice"), http.Header{"Origin": {want.origin}})
			require.NoError(t, d.client.Connect())
			res, body := fetch(t, "http://"+addrs.web.String()+"/config.json", http.Header{})
			assert.Contains(t, body, `"url":"`+want.ws+`"`)
			assert.Contains(t, res.Header.Get("Content-Security-Policy"), "connect-src 'self' "+want.ws+";")
			for _, origin := range append(want.refused, "http://"+addrs.web.String()) {
				d := newDevice(t, addrs, "?key="+keyOf(t, "alice"), http.Header{"Origin": {origin}})
				assert.ErrorContains(t, d.client.Connect(), "-public-url", origin)
			}
		})
	}
}

func TestLoginLimitsDevices(t *testing.T) {
	addrs := start(t)
	for range maxDevices {
		join(t, addrs, "alice")
	}
	d := newDevice(t, addrs, "?key="+keyOf(t, "alice"), nil)
	assert.ErrorContains(t, d.client.Connect(), "too many devices")
	bearer := http.Header{"Authorization": {"Bearer " + keyOf(t, "alice")}}
	res, body := fetch(t, "http://"+addrs.web.String()+"/login", bearer)
	assert.Equal(t, http.StatusTooManyRequests, res.StatusCode)
	assert.Contains(t, body, "too many devices")
	_, welcome := join(t, addrs, "bob")
	assert.Equal(t, []string{"alice", "bob"}, welcome.Users)
}
