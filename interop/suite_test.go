package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

const (
	// suiteCases are those of sections 12 and 13 of the public conformance suite: 5 kinds of content and 7 lists of parameters, each
	// with 18 sizes.
	suiteCases = (5 + 7) * 18

	// suiteBytes are enough for one case, unless INTEROP_LONG=1.
	suiteBytes = 48 << 10
)

// suiteReport is a line of suite.py.
type suiteReport struct {
	URL               string
	Case, Error       string
	Size              int // of a message
	Plain, Compressed int // bytes of what our side sent
	Done              bool
}

// suite is a running suite.py.
type suite struct {
	reports chan suiteReport // closed when the program has ended
}

// startSuite runs it, until the end of the test.
func startSuite(t *testing.T, args ...string) *suite {
	t.Helper()
	cmd := exec.Command(python, append([]string{"suite.py"}, append(args, strconv.Itoa(manyLetters))...)...)
	cmd.Dir, cmd.Stderr = "python", os.Stderr
	cmd.Env = os.Environ()
	if !long() {
		cmd.Env = append(cmd.Env, "SUITE_BYTES="+strconv.Itoa(suiteBytes))
	}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := &suite{reports: make(chan suiteReport, suiteCases+2)}
	go func() {
		defer close(s.reports)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var r suiteReport
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				r.Error = err.Error()
			}
			s.reports <- r
		}
	}()
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait() // an error: it was killed
	})
	return s
}

// next returns the next line. A case of 1,000 long messages takes longer than anything else here.
func (s *suite) next(t *testing.T) suiteReport {
	t.Helper()
	select {
	case r, ok := <-s.reports:
		require.True(t, ok, "the suite goes on")
		return r
	case <-time.After(9 * deadline):
		require.FailNow(t, "no report before the deadline")
		panic("unreachable")
	}
}

// check judges a case.
func (r suiteReport) check(t *testing.T) {
	t.Helper()
	assert.Empty(t, r.Error, r.Case)
	assert.NotZero(t, r.Plain, r.Case)
	assert.LessOrEqual(t, r.Compressed, r.Plain, "%s: bytes of payload on the wire", r.Case)
	const picture, document, short = "12.2.", "12.3.", 256 // they are mostly noise
	if r.Size >= short && !strings.HasPrefix(r.Case, picture) && !strings.HasPrefix(r.Case, document) {
		assert.Less(t, r.Compressed, r.Plain, "%s: our side compresses", r.Case)
	}
}

// TestSuite runs sections 12 and 13 of the Autobahn|Testsuite, with its cases and its library, but contents of our own.
func TestSuite(t *testing.T) {
	needPython(t, "autobahn")
	settings := settings
	if !long() {
		settings = settings[2:4] // both codecs, the default MinSize and none, windows that are asked for
	}
	for _, s := range settings {
		t.Run("our server by "+s.name, func(t *testing.T) {
			t.Parallel()
			url, accepted := s.serve(t)
			go func() {
				for {
					select {
					case c := <-accepted:
						go echo(c)
					case <-t.Context().Done():
						return
					}
				}
			}()
			startSuite(t, "client", url).expectAll(t)
		})
		t.Run("our client by "+s.name, func(t *testing.T) {
			t.Parallel()
			program := startSuite(t, "server")
			url := program.next(t).URL
			for n := range suiteCases {
				s.visit(t, fmt.Sprintf("%s/runCase?case=%d", url, n+1))
				program.next(t).check(t)
			}
		})
	}
}

// TestSuiteOfPrograms is TestSuite with the programs that the public suite is to examine.
func TestSuiteOfPrograms(t *testing.T) {
	needPython(t, "autobahn")
	t.Run("the server of the folder conformance", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command(buildConformance(t, "server"), "-addr", "127.0.0.1:0")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		defer func() {
			cmd.Process.Signal(os.Interrupt)
			assert.NoError(t, cmd.Wait())
		}()
		url, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		startSuite(t, "client", strings.TrimSpace(url)).expectAll(t)
	})
	t.Run("the client of the folder conformance", func(t *testing.T) {
		t.Parallel()
		program := startSuite(t, "server")
		cmd := exec.Command(buildConformance(t, "client"), "-url", program.next(t).URL)
		require.NoError(t, cmd.Start())
		for range suiteCases {
			program.next(t).check(t)
		}
		assert.NoError(t, cmd.Wait())
	})
}

// buildConformance builds a program of the folder conformance.
func buildConformance(t *testing.T, name string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", program, "./conformance/"+name)
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

// expectAll expects that the client that the suite is has gone through all cases.
func (s *suite) expectAll(t *testing.T) {
	t.Helper()
	for range suiteCases {
		s.next(t).check(t)
	}
	assert.True(t, s.next(t).Done)
}

// echo sends messages back, until the connection is closed.
func echo(c conn) {
	for ev := range c.events() {
		if ev.kind == closed || c.send(ev.kind, ev.payload) != nil {
			return
		}
	}
}

// visit connects our client and sends messages back until the server closes.
func (s setting) visit(t *testing.T, url string) {
	t.Helper()
	c, err := s.dial(url)
	require.NoError(t, err)
	defer c.drop()
	echo(c)
	var closeErr *websocket.CloseError
	if assert.True(t, errors.As(c.(*clientConn).client.Err(), &closeErr)) {
		assert.Equal(t, websocket.StatusNormal, closeErr.Code)
	}
}
