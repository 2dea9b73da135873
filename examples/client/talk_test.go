package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

func TestTalk(t *testing.T) {
	url, _ := startServer(t)
	alice := startClient(t, "-url", url, "-user", "alice")
	alice.stdout.wait(t, "* You are here as alice. Here: alice.")
	alice.enter("the first word")
	alice.stdout.wait(t, "you: the first word\n")

	bob := startClient(t, "-url", url, "-user", "bob")
	bob.stdout.wait(t, "alice: the first word\n* You are here as bob. Here: alice, bob.")
	alice.stdout.wait(t, "* bob is here\n")

	bob.enter("  Hello, alice  ")
	alice.stdout.wait(t, "bob: Hello, alice\n")
	bob.stdout.wait(t, "you: Hello, alice\n")

	alice.enter("/to bob just between us")
	alice.stdout.wait(t, "you to bob (private): just between us\n")
	bob.stdout.wait(t, "alice to you (private): just between us\n")

	bob.enter("/who")
	bob.stdout.wait(t, "\nHere: alice, bob\n")
	bob.enter("/quit")
	assert.Zero(t, bob.exit())
	alice.stdout.wait(t, "* bob has left\n")
	require.NoError(t, alice.stdin.Close())
	assert.Zero(t, alice.exit(), "at the end of input")

	assert.Regexp(t, regexp.MustCompile(`(?m)^\d\d:\d\d bob: Hello, alice$`), alice.stdout.String())
	assert.NotContains(t, alice.stdout.String(), prompt, "it is no terminal")
	assert.Empty(t, alice.stderr.String())
	assert.Empty(t, bob.stderr.String())
}

func TestTalkGoesOnAfterMistakes(t *testing.T) {
	url, _ := startServer(t)
	alice := startClient(t, "-url", url, "-user", "alice")
	for _, test := range []struct{ line, says string }{
		{"/help", "/quit"},
		{"/bogus \x1b[2J", "There is no command /bogus."},
		{"/\x1b[2J", "There is no command /\uFFFD[2J."},
		{"/to", "It is /to NAME TEXT."},
		{"/to bob", "It is /to NAME TEXT."},
		{"/to bob psst", "you to bob (private): psst"},
		{"/to nobody psst", "! refused: there is no such user (404): /to nobody psst"},
		{strings.Repeat("x", chat.MaxText+1), "! refused: the message has more than 2000 characters (413)"},
		{"", ""},
		{"still here", "you: still here"},
	} {
		alice.enter(test.line)
		alice.stdout.wait(t, test.says)
	}
	alice.interrupt()
	assert.Zero(t, alice.exit())
	assert.NotContains(t, alice.stdout.String(), "\x1b")
}

// startedAgain starts a server anew, at the address that it had.
func startedAgain(t *testing.T, url string) (stop func()) {
	t.Helper()
	_, stop = startServer(t, "-addr", strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/"))
	return stop
}

func TestTalkGoesOnWithTheServer(t *testing.T) {
	url, stop := startServer(t)
	alice := startClient(t, "-url", url, "-user", "alice", "-timeout", "100ms")
	alice.stdout.wait(t, "You are here")
	alice.enter("/retry")
	alice.stdout.wait(t, "There is nothing to retry.")
	stop()
	alice.stdout.wait(t, "* The connection was lost: websocket: closed with 1001")
	alice.enter("too early")
	alice.stdout.wait(t, "* No connection yet: ")
	alice.stdout.wait(t, "! not sent, there is no connection: too early\n")
	startedAgain(t, url)
	code, _, stderr := runToEnd(t, "-url", url, "-user", "bob", "-say", "said meanwhile")
	require.Zero(t, code, stderr)
	alice.enter("/retry")
	alice.stdout.wait(t, "* The connection is back. Here: alice.\n* Not all that was said meanwhile is kept.\n")
	alice.stdout.wait(t, "bob: said meanwhile\n")
	alice.enter("I am back")
	alice.stdout.wait(t, "you: I am back\n")
	assert.Equal(t, 1, strings.Count(alice.stdout.String(), "said meanwhile\n"))
	assert.NotContains(t, alice.stdout.String(), "you: too early")
	require.NoError(t, alice.stdin.Close())
	assert.Equal(t, 1, alice.exit(), "a line of the script was not sent")
}

func TestWhatIsSaidWithoutAConnectionIsSentWithTheNextOne(t *testing.T) {
	url, stop := startServer(t)
	alice := startClient(t, "-url", url, "-user", "alice")
	alice.stdout.wait(t, "You are here")
	stop()
	alice.stdout.wait(t, "* The connection was lost: ")
	startedAgain(t, url)
	alice.enter("patience") // which tries at once
	alice.stdout.wait(t, "* The connection is back.")
	alice.stdout.wait(t, "you: patience\n")
	require.NoError(t, alice.stdin.Close())
	assert.Zero(t, alice.exit())
	assert.Equal(t, 1, strings.Count(alice.stdout.String(), "you: patience\n"))
}

func TestTalkEndsWhenItIsNotWanted(t *testing.T) {
	for name, end := range map[string]struct {
		welcome func(conn int)
		again   int // status of the second handshake
		says    string
	}{
		"the server says so": {func(conn int) {
			websocket.Send(conn, websocket.NewFrameClose(false, websocket.StatusForbidden, []byte("enough of \x1byou")))
		}, 0, "enough of"},
		"the key is revoked": {func(conn int) {
			websocket.Send(conn, websocket.NewFrameClose(false, 1012, nil))
		}, http.StatusUnauthorized, "401"},
	} {
		t.Run(name, func(t *testing.T) {
			var came atomic.Int32
			url := startFake(t, &websocket.ServerOptions{
				HandleAuth: func(*websocket.Handshake) (context.Context, error) {
					if came.Add(1) > 1 {
						return nil, &websocket.HandshakeError{Status: end.again}
					}
					return context.Background(), nil
				},
				HandleClientAdd: func(_ context.Context, conn int) { end.welcome(conn) },
			})
			alice := startClient(t, "-url", url, "-user", "alice")
			if end.again != 0 {
				alice.stdout.wait(t, "* The connection was lost: ")
				alice.enter("/retry")
			}
			assert.Equal(t, 1, alice.exit())
			assert.Contains(t, alice.stderr.String(), "connection lost")
			assert.Contains(t, alice.stderr.String(), end.says)
			assert.NotContains(t, alice.stderr.String(), "\x1b")
		})
	}
}

// TestTalkLeavesNoGap has a connection that is replaced, and a server that has more to tell than it tells at once.
func TestTalkLeavesNoGap(t *testing.T) {
	said := func(id int, text string) string {
		return fmt.Sprintf(`{"id": %d, "from": "bob", "text": %q}`, id, text)
	}
	sinces := make(chan string, 8)
	opts := &websocket.ServerOptions{HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
		since := req.URL.Query().Get("since")
		sinces <- since
		return context.WithValue(context.Background(), sinceKey{}, since), nil
	}}
	opts.HandleClientAdd = func(ctx context.Context, conn int) {
		if ctx.Value(sinceKey{}) == "" {
			websocket.Send(conn, notice(chat.NoticeWelcome, `{"name": "alice", "history": [`+said(4, "four")+`], "lastId": 4}`))
			websocket.Send(conn, notice(chat.NoticeMessage, said(5, "five")))
			websocket.Send(conn, websocket.NewFrameClose(false, 1012, nil))
			return
		}
		websocket.Send(conn, notice(chat.NoticeMessage, said(9, "nine, early")))
		websocket.Send(conn, notice(chat.NoticeJoin, `{"name": "early"}`))
		websocket.Send(conn, notice(chat.NoticeWelcome, `{"name": "alice", "history": [`+said(5, "five")+`,`+said(6, "six")+`], "more": true, "lastId": 9}`))
		websocket.Send(conn, notice(chat.NoticeMessage, said(10, "ten")))
	}
	server, url := fakeServer(t, opts)
	require.NoError(t, server.RegisterTextHandler(http.MethodGet, "/history", func(_ context.Context, req *websocket.Request) websocket.Response {
		body := "[]"
		switch req.Query.Get("since") {
		case "6":
			body = "[" + said(7, "seven") + "," + said(8, "eight") + "]"
		case "8":
			body = "[" + said(9, "nine, late") + "]"
		}
		return websocket.Response{Code: http.StatusOK, Body: body}
	}))
	alice := startClient(t, "-url", url+"?keeps=this", "-user", "alice")
	alice.stdout.wait(t, "* The connection was lost: ")
	alice.enter("/retry")
	alice.stdout.wait(t, "ten\n")
	var got []string
	for line := range strings.Lines(alice.stdout.String()) {
		if _, text, ok := strings.Cut(line, " bob: "); ok {
			got = append(got, strings.TrimSpace(text))
		}
	}
	assert.Equal(t, []string{"four", "five", "six", "seven", "eight", "nine, late", "ten"}, got, "each once, in their order")
	assert.NotContains(t, alice.stdout.String(), "* early")
	assert.Empty(t, <-sinces)
	assert.Equal(t, "5", <-sinces)
}

type sinceKey struct{}

func TestWhisperSaysWhetherItWasHeard(t *testing.T) {
	for body, want := range map[string]string{
		`{"from": "alice", "to": "bob", "text": "psst", "reached": 0}`: "psst (not here now)\n",
		`{"from": "alice", "to": "bob", "text": "psst", "reached": 2}`: "psst\n",
	} {
		server, url := fakeServer(t, new(websocket.ServerOptions))
		require.NoError(t, server.RegisterTextHandler(http.MethodPost, "/users/:name/messages", func(context.Context, *websocket.Request) websocket.Response {
			return websocket.Response{Code: http.StatusCreated, Body: body}
		}))
		code, stdout, _ := runToEnd(t, "-url", url, "-user", "alice", "-say", "psst", "-to", "bob")
		assert.Zero(t, code)
		assert.Contains(t, stdout, "alice to bob (private): "+want)
		alice := startClient(t, "-url", url, "-user", "alice")
		alice.enter("/to bob psst")
		alice.stdout.wait(t, "you to bob (private): "+want)
		alice.interrupt()
		assert.Zero(t, alice.exit())
	}
}

// TestAMessageIsShownOnce has a server that is one of several: it tells the sender of a private message what all devices are told, and
// numbers what is said in a room by Response.Seq.
func TestAMessageIsShownOnce(t *testing.T) {
	private := `{"id": 8, "from": "alice", "to": "bob", "text": "psst"`
	numbered, err := json.Marshal(&websocket.Response{Message: chat.NoticeMessage, Body: `{"from": "bob", "text": "hello"}`, Seq: 7})
	require.NoError(t, err)
	sinces := make(chan string, 8)
	opts := &websocket.ServerOptions{HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
		since := req.URL.Query().Get("since")
		sinces <- since
		return context.WithValue(context.Background(), sinceKey{}, since), nil
	}}
	opts.HandleClientAdd = func(ctx context.Context, conn int) {
		if ctx.Value(sinceKey{}) == "" {
			websocket.Send(conn, notice(chat.NoticeWelcome, `{"name": "alice"}`))
			websocket.Send(conn, websocket.NewFrameText(false, numbered))
			return
		}
		websocket.Send(conn, notice(chat.NoticeWelcome, `{"name": "alice", "history": [{"id": 7, "from": "bob", "text": "hello"}, `+private+`}]}`))
		websocket.Send(conn, notice(chat.NoticeMessage, `{"id": 9, "from": "bob", "text": "the end"}`))
	}
	server, url := fakeServer(t, opts)
	require.NoError(t, server.RegisterTextHandler(http.MethodPost, "/users/:name/messages", func(_ context.Context, req *websocket.Request) websocket.Response {
		if req.Body == "and gone" {
			websocket.Send(req.Conn, websocket.NewFrameClose(false, 1012, nil))
			return websocket.Response{Code: http.StatusCreated, Body: `{}`}
		}
		websocket.Send(req.Conn, notice(chat.NoticePrivate, private+`}`))
		return websocket.Response{Code: http.StatusCreated, Body: private + `, "reached": 0}`}
	}))
	alice := startClient(t, "-url", url, "-user", "alice")
	alice.stdout.wait(t, "bob: hello\n")
	alice.enter("/to bob psst")
	alice.stdout.wait(t, "* bob is not here now.\n")
	alice.enter("/to bob and gone")
	alice.enter("/retry")
	alice.stdout.wait(t, "the end\n")
	for _, text := range []string{"bob: hello\n", "you to bob (private): psst\n"} {
		assert.Equal(t, 1, strings.Count(alice.stdout.String(), text), text)
	}
	assert.Empty(t, <-sinces)
	assert.Equal(t, "8", <-sinces)
}

func TestAPasteSaysWhichLinesWereRefused(t *testing.T) {
	const most = 3
	server, url := fakeServer(t, new(websocket.ServerOptions))
	var taken atomic.Int32
	require.NoError(t, server.RegisterTextHandler(http.MethodPost, "/messages", func(_ context.Context, req *websocket.Request) websocket.Response {
		if taken.Add(1) > most {
			return websocket.Response{Code: http.StatusTooManyRequests, Message: "too many messages"}
		}
		return websocket.Response{Code: http.StatusCreated, Body: `{"from": "alice"}`}
	}))
	alice := startClient(t, "-url", url, "-user", "alice")
	long := strings.Repeat("é", 41)
	alice.enter("one\ntwo\nthree\nfour\n" + long + "\x1b[2J")
	alice.stdout.wait(t, "! refused: too many messages (429): four\n! refused: too many messages (429): "+long[:2*40]+"…\n")
	require.NoError(t, alice.stdin.Close())
	assert.Equal(t, 1, alice.exit())
	for _, sent := range []string{"one", "two", "three"} {
		assert.NotContains(t, alice.stdout.String(), sent+"\n")
	}
}

func TestTalkShowsNothingThatControlsTheTerminal(t *testing.T) {
	message := `{"from": "bob\u001b[31m", "to": "al\u0007ice", "text": "x\u001b]0;owned\u0007\u009b2J\u202e\n12:00 bob: y"}`
	hostile := startFake(t, &websocket.ServerOptions{HandleClientAdd: func(_ context.Context, conn int) {
		for _, packet := range [][]byte{
			notice(chat.NoticePrivate, message),
			notice(chat.NoticeMessage, `{"text": "before the welcome"}`),
			notice(chat.NoticeWelcome, `{"name": "alice\u001b[1m", "users": ["bob\u001b[2m\n"], "history": [`+message+`]}`),
			notice(chat.NoticeJoin, `{"name": "mallory\u001b[3m"}`),
			notice(chat.NoticeLeave, `{"name": "mallory\u001b[4m"}`),
			notice("from.the.future", `?`),
			notice(chat.NoticeMessage, message),
			notice(chat.NoticeMessage, `{"from": "bob", "text": "the end"}`),
		} {
			websocket.Send(conn, packet)
		}
	}})
	alice := startClient(t, "-url", hostile, "-user", "alice")
	alice.stdout.wait(t, "bob: the end\n")
	got := alice.stdout.String()
	assert.NotRegexp(t, "[\x00-\x09\x0b-\x1f\x7f-\u009f\u202e]", got)
	assert.NotContains(t, got, "\n12:00 bob: y", "nobody forges a line")
	assert.Equal(t, 1, strings.Count(got, "before the welcome"))
	assert.Equal(t, 3, strings.Count(got, "owned"), "private message, history and message")
	assert.Contains(t, got, "* mallory\uFFFD[3m is here\n")
}

func TestTalkEndsWhereTheServerMakesNoSense(t *testing.T) {
	for name, packet := range map[string][]byte{
		"no JSON":              websocket.NewFrameText(false, []byte("?")),
		"a welcome of no sort": notice(chat.NoticeWelcome, "?"),
		"a message of no sort": notice(chat.NoticePrivate, "[]"),
		"a join of no sort":    notice(chat.NoticeJoin, "1"),
	} {
		t.Run(name, func(t *testing.T) {
			url := startFake(t, &websocket.ServerOptions{HandleClientAdd: func(_ context.Context, conn int) {
				websocket.Send(conn, packet)
			}})
			alice := startClient(t, "-url", url, "-user", "alice")
			assert.Equal(t, 1, alice.exit())
			assert.Contains(t, alice.stderr.String(), "connection lost")
		})
	}
}

func TestALongLineIsNotLost(t *testing.T) {
	const tooLong = "! refused: " + chat.TooLong + " (413): "
	url, _ := startServer(t)
	for name, test := range map[string]struct {
		input             string
		code              int
		prints, complains string
	}{
		"of the greatest length":     {strings.Repeat("x", chat.MaxText), 0, "", ""},
		"longer than a message":      {strings.Repeat("x", chat.MaxText+1), 1, tooLong + strings.Repeat("x", 40) + "…\n", "not all"},
		"longer than a request":      {strings.Repeat("x", 40<<10), 1, tooLong + strings.Repeat("x", 40) + "…\n", "not all"},
		"just below 64 KiB":          {strings.Repeat("x", 64<<10-1), 1, tooLong + strings.Repeat("x", 40) + "…\n", "not all"},
		"of 64 KiB":                  {strings.Repeat("x", 64<<10), 1, tooLong + strings.Repeat("x", 40) + "…\n", "not all"},
		"of 64 KiB that goes to one": {"/to bob " + strings.Repeat("x", 64<<10), 1, tooLong + "/to bob " + strings.Repeat("x", 32) + "…\n", "not all"},
		"longer than all lines":      {strings.Repeat("x", maxLine+1), 1, "You are here", "cannot read the input"},
		"that is no command":         {"/bogus", 1, "There is no command /bogus.", "not all"},
		"that lacks a text":          {"/to bob", 1, "It is /to NAME TEXT.", "not all"},
	} {
		t.Run(name, func(t *testing.T) {
			alice := startClient(t, "-url", url, "-user", "alice")
			alice.stdout.wait(t, "You are here")
			if len(test.input) > maxLine {
				go io.WriteString(alice.stdin, test.input) // it is not read to the end
			} else {
				alice.enter(test.input)
				alice.enter(name)
				alice.stdout.wait(t, "you: "+name+"\n")
				require.NoError(t, alice.stdin.Close())
			}
			assert.Equal(t, test.code, alice.exit())
			alice.stdout.wait(t, test.prints)
			assert.Contains(t, alice.stderr.String(), test.complains)
		})
	}
}
