package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wsloop/websocket"
)

const deadline = 10 * time.Second

// script is what the stand-in for the fuzzingserver sends on a connection, and what it is sent back.
type script struct {
	send []byte
	want []string // "opcode payload" of each frame
}

// standIn is a server that plays a script for each request, and remembers the requests.
type standIn struct {
	scripts map[string]script

	mu       sync.Mutex
	requests []string // guarded by mu
	failures []string // guarded by mu
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := r.URL.RequestURI()
	s.mu.Lock()
	s.requests = append(s.requests, target)
	s.mu.Unlock()
	play, ok := s.scripts[target]
	if !ok {
		http.NotFound(w, r)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.fail("%s: %v", target, err)
		return
	}
	defer conn.Close()
	if err := converse(conn, rw.Reader, r.Header.Get("Sec-WebSocket-Key"), play); err != nil {
		s.fail("%s: %v", target, err)
	}
}

func (s *standIn) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, fmt.Sprintf(format, args...))
}

// converse accepts the connection, plays the script, and reads until the client has closed.
func converse(conn net.Conn, in io.Reader, key string, play script) error {
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	if _, err := conn.Write(play.send); err != nil {
		return err
	}
	var received []byte
	var got []string
	for closing := false; ; {
		if len(got) >= len(play.want) && !closing {
			closing = true
			if _, err := conn.Write(websocket.NewFrameClose(false, websocket.StatusNormal, nil)); err != nil {
				return err
			}
		}
		b := make([]byte, 64<<10)
		n, err := in.Read(b)
		received = append(received, b[:n]...)
		got = got[:0]
		for _, frame := range websocket.Unpack(received).All() {
			if frame.IsComplete() {
				got = append(got, fmt.Sprintf("%x %s", frame.Opcode(), frame.Payload()))
			}
		}
		if slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "8 ") }) {
			break
		}
		if err != nil {
			return fmt.Errorf("after %q: %w", got, err)
		}
	}
	if got = got[:len(got)-1]; !slices.Equal(got, play.want) {
		return fmt.Errorf("got %q, want %q", got, play.want)
	}
	return nil
}

// fragment is a frame without FIN.
func fragment(frame []byte) []byte {
	frame[0] &^= 0x80
	return frame
}

func TestClientGoesThroughTheCases(t *testing.T) {
	s := &standIn{scripts: map[string]script{
		"/getCaseCount": {send: websocket.NewFrameText(false, []byte("3"))},
		"/runCase?case=1&agent=a+name": {
			send: websocket.NewFrameText(false, []byte("text")),
			want: []string{"1 text"},
		},
		"/runCase?case=2&agent=a+name": {
			send: slices.Concat(
				fragment(websocket.NewFrameBin(false, []byte("bin"))),
				websocket.NewFrame(websocket.OpcodeCont, false, []byte("ary")),
			),
			want: []string{"2 binary"},
		},
		"/runCase?case=3&agent=a+name":    {send: websocket.NewFrameClose(false, websocket.StatusGone, nil)},
		"/updateReports?agent=a+name":     {},
		"/runCase?case=4&agent=a+name":    {},
		"/updateReports?agent=other+name": {},
	}}
	server := httptest.NewServer(s)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()

	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"-url", "ws" + strings.TrimPrefix(server.URL, "http"), "-agent", "a name"}, &stdout, &stderr)
	assert.Equal(t, 0, code, stderr.String())
	server.Close()
	assert.Empty(t, s.failures)
	assert.Equal(t, []string{
		"/getCaseCount",
		"/runCase?case=1&agent=a+name",
		"/runCase?case=2&agent=a+name",
		"/runCase?case=3&agent=a+name",
		"/updateReports?agent=a+name",
	}, s.requests)
	lines := bufio.NewScanner(&stdout)
	for n := 1; lines.Scan(); n++ {
		assert.Equal(t, fmt.Sprintf("case %d of 3", n), lines.Text())
	}
}

func TestClientExitsWithAnErrorWhere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	nobody := "ws://" + ln.Addr().String()
	ln.Close()
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	odd := httptest.NewServer(&standIn{scripts: map[string]script{
		"/getCaseCount": {send: websocket.NewFrameText(false, []byte("many"))},
	}})
	defer odd.Close()
	for name, tc := range map[string]struct {
		args []string
		code int
	}{
		"nobody listens":              {[]string{"-url", nobody}, 1},
		"the handshake is refused":    {[]string{"-url", refusing.URL}, 1},
		"the count is no number":      {[]string{"-url", odd.URL}, 1},
		"a flag is unknown":           {[]string{"-none"}, 2},
		"there is an argument":        {[]string{"ws://127.0.0.1:9001"}, 2},
		"help is wanted, it does not": {[]string{"-h"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			assert.Equal(t, tc.code, run(ctx, tc.args, io.Discard, io.Discard))
		})
	}
}
