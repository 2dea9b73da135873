package main

import (
	"context"
	"io"
	"regexp"
	"strings"
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
		{"/to nobody psst", "! refused: there is no such user (404)"},
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

func TestTalkEndsWithTheServer(t *testing.T) {
	url, stop := startServer(t)
	alice := startClient(t, "-url", url, "-user", "alice")
	alice.stdout.wait(t, "You are here")
	stop()
	assert.Equal(t, 1, alice.exit())
	assert.Contains(t, alice.stderr.String(), "connection lost")
	assert.Contains(t, alice.stderr.String(), "1001")
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
	assert.NotContains(t, got, "before the welcome")
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
	url, _ := startServer(t)
	for name, test := range map[string]struct {
		input             string
		code              int
		prints, complains string
	}{
		"of the greatest length":     {strings.Repeat("x", chat.MaxText), 0, "", ""},
		"longer than a message":      {strings.Repeat("x", chat.MaxText+1), 1, "! refused: " + chat.TooLong + " (413)\n", "not all"},
		"longer than a request":      {strings.Repeat("x", 40<<10), 1, "! refused: " + chat.TooLong + " (413)\n", "not all"},
		"just below 64 KiB":          {strings.Repeat("x", 64<<10-1), 1, "! refused: " + chat.TooLong + " (413)\n", "not all"},
		"of 64 KiB":                  {strings.Repeat("x", 64<<10), 1, "! refused: " + chat.TooLong + " (413)\n", "not all"},
		"of 64 KiB that goes to one": {"/to bob " + strings.Repeat("x", 64<<10), 1, "! refused: " + chat.TooLong + " (413)\n", "not all"},
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
