package main

import (
	"io"
	"os"
	"strings"
	"sync"

	"github.com/wsloop/websocket/examples/internal/chat"
)

const (
	prompt    = "> "
	clearLine = "\r\x1b[K"
	lineBreak = "\n    " // the lines of a message are indented, so that none looks like the line of somebody else
)

// screen is where the chat is shown. On a terminal it keeps a prompt in the last line: a new line takes the prompt's place, and
// the prompt follows it. What was being typed is still there, though it cannot be seen: the terminal itself keeps it until
// Enter, and shows it again on Ctrl+R if it can.
type screen struct {
	out      io.Writer
	terminal bool

	mu        sync.Mutex // held for one write
	prompting bool       // the prompt is in the last line; guarded by mu
}

func newScreen(out io.Writer) *screen { return &screen{out: out, terminal: isTerminal(out)} }

// isTerminal reports whether a reader or writer is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// print shows a line. Nobody is told if that fails: there is no other place.
func (s *screen) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line += "\n"
	if s.prompting {
		line = clearLine + line + prompt
	}
	io.WriteString(s.out, line)
}

// ask shows the prompt.
func (s *screen) ask() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal {
		s.prompting = true
		io.WriteString(s.out, prompt)
	}
}

// entered notes that the user has finished the line with the prompt.
func (s *screen) entered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prompting = false
}

// leave ends the line with the prompt.
func (s *screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prompting {
		s.prompting = false
		io.WriteString(s.out, "\n")
	}
}

// plain makes a text harmless to a terminal, which may take control characters for commands, even some that type for the user.
// Where the text comes from does not matter: a server may be hostile, too.
func plain(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\t", " ")
	text = strings.Map(func(r rune) rune {
		if r == '\n' || chat.IsPlain(r) {
			return r
		}
		return '\uFFFD'
	}, text)
	return strings.ReplaceAll(text, "\n", lineBreak)
}
