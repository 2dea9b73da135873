//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

const (
	upgrades = 20               // one after the other
	deadline = 20 * time.Second // for what should happen within a second
	poll     = 5 * time.Millisecond

	// The load, and between two steps of one of its clients.
	stayers, comers = 24, 6
	pause           = 2 * time.Millisecond
	burst           = 8 // messages without an answer
)

// TestUpgrade replaces the program over and over while clients stay, and others come: nobody is refused, no connection is reset, and each
// message that a process has handled was answered to the client who has sent it, once.
func TestUpgrade(t *testing.T) {
	p := start(t)
	ctx, finish := context.WithCancel(t.Context())
	ends := make(chan error, stayers+comers)
	l := &load{address: p.address, ctx: ctx}
	for range stayers {
		go func() { ends <- l.stay() }()
	}
	for range comers {
		go func() { ends <- l.come() }()
	}
	for i := range upgrades {
		before, sum := p.pid(), l.answers.Load()
		require.NoError(t, syscall.Kill(before, syscall.SIGHUP))
		eventually(t, "a new process serves", func() bool { return p.pid() != before })
		eventually(t, "the old one ends", func() bool { return !lives(before) })
		eventually(t, "messages are answered", func() bool { return l.answers.Load() > sum })
		if len(ends) > 0 {
			require.NoError(t, <-ends, "upgrade %d", i+1)
		}
	}
	finish()
	for range stayers + comers {
		select {
		case err := <-ends:
			assert.NoError(t, err)
		case <-time.After(deadline):
			require.FailNow(t, "a client does not end")
		}
	}
	p.end(t)
	output := p.output(t)
	processes, handled := 0, int64(0)
	for _, line := range regexp.MustCompile(`has answered (\d+) messages\n`).FindAllStringSubmatch(output, -1) {
		n, err := strconv.ParseInt(line[1], 10, 64)
		require.NoError(t, err)
		processes, handled = processes+1, handled+n
	}
	assert.Equal(t, upgrades+1, processes, output)
	assert.Equal(t, handled, l.answers.Load(), "answers that did not arrive")
	assert.Equal(t, processes, strings.Count(output, "\n"), "nothing else is logged: %s", output)
	assert.Greater(t, l.moves.Load(), int64(upgrades), "connections that were closed by an upgrade")
	t.Logf("%d answers, %d connections, %d of them closed by an upgrade", l.answers.Load(), l.opened.Load(), l.moves.Load())
}

// TestTerm has nobody take over: clients get their Close frame, others a 503 or nothing, and the process ends.
func TestTerm(t *testing.T) {
	p := start(t)
	l := &load{address: p.address, ctx: t.Context()}
	c, err := l.open()
	require.NoError(t, err)
	p.end(t)
	_, err = c.text()
	require.ErrorIs(t, err, errGone)
	require.Contains(t, p.output(t), "has answered 0 messages")
}

// program is the program, as it replaces itself.
type program struct{ address, folder string }

func start(t *testing.T) *program {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &program{address: ln.Addr().String(), folder: t.TempDir()}
	ln.Close()
	built, err := exec.Command("go", "build", "-o", p.file("upgrade"), ".").CombinedOutput()
	require.NoError(t, err, "%s", built)
	output, err := os.Create(p.file("output"))
	require.NoError(t, err)
	defer output.Close()
	cmd := exec.Command(p.file("upgrade"), "-addr", p.address, "-pid", p.file("pid"))
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	go cmd.Wait() // the others are nobody's children
	eventually(t, "the program starts", func() bool { return p.pid() != 0 })
	t.Cleanup(func() {
		if t.Failed() && lives(p.pid()) {
			syscall.Kill(p.pid(), syscall.SIGKILL)
		}
	})
	return p
}

func (p *program) file(name string) string { return filepath.Join(p.folder, name) }

// pid returns the process that serves, 0 if none does.
func (p *program) pid() int {
	content, _ := os.ReadFile(p.file("pid"))
	pid, _ := strconv.Atoi(string(content))
	return pid
}

// end ends the process that serves.
func (p *program) end(t *testing.T) {
	pid := p.pid()
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	eventually(t, "the program ends", func() bool { return !lives(pid) })
}

func (p *program) output(t *testing.T) string {
	content, err := os.ReadFile(p.file("output"))
	require.NoError(t, err)
	return string(content)
}

// lives reports whether a process runs. One that nobody waits for does not.
func lives(pid int) bool {
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !bytes.Contains(stat, []byte(") Z "))
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for by := time.Now().Add(deadline); !is(); <-time.After(poll) {
		require.True(t, time.Now().Before(by), "not so: %s", what)
	}
}

// load is clients that want service, whichever process gives it.
type load struct {
	address string
	ctx     context.Context // they finish when it ends

	answers, opened, moves atomic.Int64
}

// stay sends numbered messages and reads the answers, in order. When its connection is closed it opens another one, and sends again what
// was not answered.
func (l *load) stay() error {
	for next, done := 0, false; !done; {
		c, err := l.open()
		if err != nil {
			return err
		}
		for sent := next; ; {
			for done = l.ctx.Err() != nil; sent < next+burst && !done; sent++ {
				if err = c.send(websocket.NewFrameText(true, []byte(strconv.Itoa(sent)))); err != nil {
					return err
				}
			}
			if done && sent == next {
				err = c.leave()
				break
			}
			var answer string
			if answer, err = c.text(); err != nil {
				break
			}
			if answer != strconv.Itoa(next) {
				return fmt.Errorf("got %s in place of %d", answer, next)
			}
			next++
			l.answers.Add(1)
			<-time.After(pause)
		}
		if err = l.closed(c, err); err != nil {
			return err
		}
	}
	return nil
}

// come opens one connection after the other, sends a message, and closes it. In between it asks whether the server is well.
func (l *load) come() error {
	for l.ctx.Err() == nil {
		res, err := http.Get("http://" + l.address + "/status")
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("the status is %s", res.Status)
		}
		c, err := l.open()
		if err != nil {
			return err
		}
		if err = c.send(websocket.NewFrameText(true, []byte("x"))); err != nil {
			return err
		}
		if _, err = c.text(); err == nil {
			l.answers.Add(1)
			err = c.leave()
		}
		if err = l.closed(c, err); err != nil {
			return err
		}
		<-time.After(pause)
	}
	return nil
}

// errGone says that the server has closed the connection with StatusGone, and errLeft that it has answered a Close frame.
var (
	errGone = errors.New("closed with 1001")
	errLeft = errors.New("closed with 1000")
)

// closed closes a connection behind a Close frame: the stream has to end, and not by a reset.
func (l *load) closed(c *client, err error) error {
	defer c.Close()
	switch {
	case errors.Is(err, errGone):
		l.moves.Add(1)
		c.send(websocket.NewFrameClose(true, websocket.StatusGone, nil))
	case !errors.Is(err, errLeft):
		return err
	}
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		return fmt.Errorf("the stream ends with %q, %w", rest, err)
	}
	return nil
}

// client is one connection.
type client struct {
	net.Conn
	in *bufio.Reader
}

const request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

func (l *load) open() (*client, error) {
	conn, err := net.DialTimeout("tcp", l.address, deadline)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	c := &client{Conn: conn, in: bufio.NewReader(conn)}
	if _, err = io.WriteString(conn, request); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, fmt.Errorf("no answer to the handshake: %w", err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("the handshake is refused: %s", res.Status)
	}
	l.opened.Add(1)
	return c, nil
}

func (c *client) send(frame []byte) error {
	_, err := c.Write(frame)
	return err
}

// text reads a message.
func (c *client) text() (string, error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return "", fmt.Errorf("no Close frame: %w", err)
		}
		payload := make([]byte, head[1]) // all are short
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return "", err
		}
		switch websocket.Opcode(head[0] & 0xF) {
		case websocket.OpcodeText:
			return string(payload), nil
		case websocket.OpcodePing:
			if err := c.send(websocket.NewFramePong(true, payload)); err != nil {
				return "", err
			}
		case websocket.OpcodeClose:
			switch code := websocket.CloseCode(binary.BigEndian.Uint16(payload)); code {
			case websocket.StatusGone:
				return "", errGone
			case websocket.StatusNormal:
				return "", errLeft
			default:
				return "", fmt.Errorf("closed with %d", code)
			}
		}
	}
}

// leave begins to close the connection, and reads the server's Close frame.
func (c *client) leave() error {
	if err := c.send(websocket.NewFrameClose(true, websocket.StatusNormal, nil)); err != nil {
		return err
	}
	_, err := c.text()
	return err
}
