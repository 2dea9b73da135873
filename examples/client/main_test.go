package main

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// runToEnd runs the program without input.
func runToEnd(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := startClient(t, args...)
	require.NoError(t, p.stdin.Close())
	code = p.exit()
	return code, p.stdout.String(), p.stderr.String()
}

func TestFlagsAreChecked(t *testing.T) {
	t.Setenv(keyVariable, "")
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"an unknown flag":         {[]string{"-nope"}, "-nope"},
		"an argument":             {[]string{"-user", "alice", "nope"}, "nope"},
		"no user":                 {nil, "-user NAME"},
		"an unknown demo user":    {[]string{"-user", "erin"}, "not a demo user"},
		"a time-out of nothing":   {[]string{"-user", "alice", "-timeout", "0s"}, "-timeout"},
		"a receiver without text": {[]string{"-user", "alice", "-to", "bob"}, "-say"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runToEnd(t, test.args...)
			assert.Equal(t, 2, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, test.says)
		})
	}
}

func TestHelpDoesNotShowTheKey(t *testing.T) {
	t.Setenv(keyVariable, "very-secret-key")
	code, _, stderr := runToEnd(t, "-h")
	assert.Zero(t, code)
	assert.Contains(t, stderr, "-key")
	assert.NotContains(t, stderr, "very-secret-key")
}

func TestSay(t *testing.T) {
	url, _ := startServer(t)
	bob := startClient(t, "-url", url, "-user", "bob")
	bob.stdout.wait(t, "You are here as bob")
	addr := strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/")
	alice, _ := chat.DemoKey("alice")
	for name, test := range map[string]struct {
		args        []string
		key         string // in the environment
		prints, bob string
	}{
		"to all":                        {[]string{"-user", "alice", "-say", "Hello, all"}, "", " alice: Hello, all\n", "alice: Hello, all"},
		"to one user":                   {[]string{"-user", "alice", "-say", "psst", "-to", "bob"}, "", " alice to bob (private): psst\n", "alice to you (private): psst"},
		"with a key":                    {[]string{"-key", alice, "-say", "by key"}, "", " alice: by key\n", "alice: by key"},
		"with a key of the environment": {[]string{"-say", "by variable"}, alice, " alice: by variable\n", "alice: by variable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(keyVariable, test.key)
			code, stdout, stderr := runToEnd(t, append([]string{"-addr", addr}, test.args...)...)
			assert.Zero(t, code)
			assert.True(t, strings.HasSuffix(stdout, test.prints), stdout)
			assert.Equal(t, 1, strings.Count(stdout, "\n"), "only the answer")
			assert.Empty(t, stderr)
			bob.stdout.wait(t, test.bob)
		})
	}
}

func TestSayFails(t *testing.T) {
	url, _ := startServer(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, free.Close())
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"with an unknown key":         {[]string{"-url", url, "-key", "wrong-key"}, "unknown key"},
		"without a server":            {[]string{"-addr", free.Addr().String(), "-user", "alice"}, "refused"},
		"with a URL that is no such":  {[]string{"-url", "ftp://127.0.0.1", "-user", "alice"}, "endpoint"},
		"to a user who does not live": {[]string{"-url", url, "-user", "alice", "-to", "a/../b%"}, "(404)"},
		"with a text too long":        {[]string{"-url", url, "-user", "alice", "-say", strings.Repeat("é", chat.MaxText+1)}, "(413)"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runToEnd(t, append([]string{"-say", "Hello"}, test.args...)...)
			assert.Equal(t, 1, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, test.says)
		})
	}
}

func TestSayGivesUpOnASilentServer(t *testing.T) {
	silent := startFake(t, &websocket.ServerOptions{HandleText: func(int, []byte) {}})
	code, stdout, stderr := runToEnd(t, "-url", silent, "-user", "alice", "-say", "Hello", "-timeout", "50ms")
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, errNoAnswer.Error())
}

func TestSayGivesUpOnAServerThatNeverShakesHands(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	code, _, stderr := runToEnd(t, "-addr", ln.Addr().String(), "-user", "alice", "-say", "Hello", "-timeout", "50ms")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "handshake")
}

func TestSayIsInterrupted(t *testing.T) {
	asked := make(chan struct{}, 1)
	silent := startFake(t, &websocket.ServerOptions{HandleText: func(int, []byte) { asked <- struct{}{} }})
	p := startClient(t, "-url", silent, "-user", "alice", "-say", "Hello")
	select {
	case <-asked:
	case <-time.After(patience):
		require.Fail(t, "the program does not ask")
	}
	p.interrupt()
	assert.Equal(t, 1, p.exit())
}

func TestSayEndsWithTheConnection(t *testing.T) {
	closes := startFake(t, &websocket.ServerOptions{HandleText: func(conn int, _ []byte) {
		websocket.Send(conn, websocket.NewFrameClose(false, 4000, []byte("go \x1b[2Jaway")))
	}})
	code, _, stderr := runToEnd(t, "-url", closes, "-user", "alice", "-say", "Hello")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "connection lost")
	assert.Contains(t, stderr, "away")
	assert.NotContains(t, stderr, "\x1b")
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"  Grüße, 世界 👩‍👩‍👧 ":          "Grüße, 世界 👩‍👩‍👧",
		"a\tb":                        "a b",
		"\x1b[2J\x1b]0;title\x07":     "\uFFFD[2J\uFFFD]0;title\uFFFD",
		"\u009b2J\x7f\x00\r":          "\uFFFD2J\uFFFD\uFFFD",
		"bell\x08\x08\x08\x08":        "bell\uFFFD\uFFFD\uFFFD\uFFFD",
		"admin\u202egpj.exe\u2066":    "admin\uFFFDgpj.exe\uFFFD",
		"line\u2028line\u2029\ufeffx": "line\uFFFDline\uFFFD\uFFFDx",
		"bad \xff\xfe bytes":          "bad \uFFFD\uFFFD bytes",
		"Hello\n12:00 bob: I resign":  "Hello\n    12:00 bob: I resign",
		"one\r\ntwo":                  "one\uFFFD\n    two",
	} {
		got := plain(text)
		assert.Equal(t, want, got, "%q", text)
	}
}

func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out)
	s.ask()
	s.print("one")
	s.entered()
	s.ask()
	s.leave()
	assert.Equal(t, "one\n", out.String(), "no terminal: no prompt")

	out.Reset()
	s.terminal = true
	s.ask()
	s.print("one")
	s.entered()
	s.print("two")
	s.ask()
	s.leave()
	s.print("three")
	assert.Equal(t, "> \r\x1b[Kone\n> two\n> \nthree\n", out.String())
}
