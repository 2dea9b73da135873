package client_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// notedJar is a jar that notes what it is asked for.
type notedJar struct {
	http.CookieJar
	asked []string
}

func (j *notedJar) Cookies(u *url.URL) []*http.Cookie {
	j.asked = append(j.asked, "cookies of "+u.String())
	return j.CookieJar.Cookies(u)
}

func (j *notedJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.asked = append(j.asked, "set by "+u.String())
	j.CookieJar.SetCookies(u, cookies)
}

func TestClient_jar(t *testing.T) {
	newJar := func(t *testing.T) *notedJar {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		return &notedJar{CookieJar: jar}
	}
	t.Run("cookies of a connection, a refusal and a redirect are kept and sent", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, map[string]string{
			"ws://a.test/refuses": "HTTP/1.1 401 no\r\nSet-Cookie: refused=1\r\nContent-Length: 0\r\n",
			"ws://a.test/moved":   "HTTP/1.1 302 x\r\nSet-Cookie: moved=1; Secure; HttpOnly\r\nset-cookie: b=\"c d\"; Path=/\r\nLocation: wss://a.test/\r\n",
		})
		answer := w.answer
		w.answers(func(v *visit) {
			if v.at == "ws://a.test/" {
				v.accept("Set-Cookie: opened=1; Path=/\r\n")
			} else {
				answer(v)
			}
		})
		jar := newJar(t)
		cl := w.client("ws://a.test/")
		cl.Jar = jar
		require.NoError(t, cl.Connect())
		cl.Quit()
		cl.Endpoint = "ws://a.test:80/refuses"
		require.Error(t, cl.Connect())
		cl.Endpoint, cl.TLSConfig = "http://user:secret@a.test/moved", w.client("").TLSConfig
		cl.Headers = http.Header{"Cookie": {"own=1", "own=2; x=y"}}
		require.NoError(t, cl.Connect())
		own := " Authorization=Basic dXNlcjpzZWNyZXQ= Cookie=own=1; own=2; x=y; opened=1; refused=1"
		assert.Equal(t, []string{"ws://a.test/", "ws://a.test/refuses Cookie=opened=1", "ws://a.test/moved" + own, "wss://a.test/" + own + `; moved=1; b="c d"`}, w.visited())
		assert.Equal(t, []string{
			"cookies of http://a.test/", "set by http://a.test/",
			"cookies of http://a.test/refuses", "set by http://a.test/refuses",
			"cookies of http://a.test/moved", "set by http://a.test/moved", "cookies of https://a.test/"}, jar.asked)
		assert.Equal(t, http.Header{"Cookie": {"own=1", "own=2; x=y"}}, cl.Headers, "the program's map is not changed")
	})
	t.Run("another host gets its own", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, map[string]string{"ws://a.test/": moved(302, "ws://b.test/"), "ws://b.test/": moved(302, "ws://a.test/b")})
		cl := w.client("ws://a.test/")
		jar := newJar(t)
		cl.Jar, cl.Headers = jar, http.Header{"Cookie": {"own=1"}}
		for _, host := range []string{"a.test", "b.test"} {
			jar.CookieJar.SetCookies(&url.URL{Scheme: "http", Host: host}, []*http.Cookie{{Name: host, Value: "1"}})
		}
		require.NoError(t, cl.Connect())
		assert.Equal(t, []string{"ws://a.test/ Cookie=own=1; a.test=1", "ws://b.test/ Cookie=b.test=1", "ws://a.test/b Cookie=a.test=1"}, w.visited())
	})
	t.Run("an answer that is none to the handshake sets none", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, nil)
		w.answers(func(v *visit) {
			io.WriteString(v.conn, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\nSet-Cookie: a=b\r\n\r\n")
		})
		cl, jar := w.client("ws://a.test/"), newJar(t)
		cl.Jar = jar
		require.ErrorContains(t, cl.Connect(), "Sec-WebSocket-Accept")
		assert.Equal(t, []string{"cookies of http://a.test/"}, jar.asked)
	})
	t.Run("a cookie cannot add a line", func(t *testing.T) {
		peer.CheckGoroutines(t)
		w := startWeb(t, nil)
		cl := w.client("ws://a.test/")
		cl.Jar = evilJar{}
		require.NoError(t, cl.Connect())
		assert.Equal(t, []string{"ws://a.test/ Cookie=a--b=\"cX: y\""}, w.visited())
	})
}

type evilJar struct{}

func (evilJar) Cookies(*url.URL) []*http.Cookie {
	return []*http.Cookie{{Name: "a\r\nb", Value: "c\r\nX: y"}}
}

func (evilJar) SetCookies(*url.URL, []*http.Cookie) { panic("none were set") }
