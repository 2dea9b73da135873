package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
)

const (
	prompt        = "> "
	promptOffline = "(offline) > "
	clearLine     = "\r\x1b[K"
	lineBreak     = "\n    " // the lines of a message are indented, so that none looks like the line of somebody else

	usualColumns = 80
)

// screen is where the chat is shown. On a terminal it keeps a prompt in the last line, and behind it what is being typed: a new line
// takes their place, and they follow it. If the terminal itself keeps what is typed, that cannot be seen then until Enter.
type screen struct {
	// Immutable.
	out      io.Writer
	terminal bool

	// Guarded by mu, which is held for one write.
	mu        sync.Mutex
	prompting bool    // the prompt is in the last line
	offline   bool    // there is no connection
	editor    *editor // what is being typed; nil: the terminal itself keeps that
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

// edit has the terminal leave to us what is typed, until restore is called. It does nothing if there is no terminal that can.
func (s *screen) edit(stdin io.Reader) (restore func(), ok bool) {
	if !s.terminal || !isTerminal(stdin) || runtime.GOOS != "windows" && (os.Getenv("TERM") == "" || os.Getenv("TERM") == "dumb") {
		return nil, false
	}
	if restore, ok = takeTyping(stdin.(*os.File), s.out.(*os.File), s.redraw); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.editor = new(editor)
	}
	return restore, ok
}

// redraw shows the prompt, and what is being typed, once more.
func (s *screen) redraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawLocked()
}

// typed takes what the user has typed, shows it, and returns the lines that are done, and whether that was the end of input.
func (s *screen) typed(keys []byte) (lines []string, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, ended = s.editor.feed(keys)
	for _, line := range lines {
		s.showLocked(s.promptLocked() + harmless(line))
	}
	s.drawLocked()
	return lines, ended
}

// print shows a line.
func (s *screen) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.showLocked(line)
	s.drawLocked()
}

// showLocked writes a line in the place of the one with the prompt. Nobody is told if that fails: there is no other place.
func (s *screen) showLocked(line string) {
	line += "\n"
	if s.prompting {
		line = clearLine + line
	}
	io.WriteString(s.out, line)
}

// drawLocked shows the prompt, and as much as one line has room for of what is being typed.
func (s *screen) drawLocked() {
	if !s.prompting {
		return
	}
	text := s.promptLocked()
	if s.editor != nil {
		width := cmp.Or(columns(s.out.(*os.File)), usualColumns)
		typed, behind := s.editor.visible(width - len(text) - 1)
		if text = clearLine + text + typed; behind > 0 {
			text += fmt.Sprintf("\x1b[%dD", behind)
		}
	}
	io.WriteString(s.out, text)
}

func (s *screen) promptLocked() string {
	if s.offline {
		return promptOffline
	}
	return prompt
}

// setOffline says whether there is a connection.
func (s *screen) setOffline(offline bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offline != offline {
		s.offline = offline
		if s.prompting {
			io.WriteString(s.out, clearLine)
		}
		s.drawLocked()
	}
}

// ask shows the prompt.
func (s *screen) ask() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal && !s.prompting {
		s.prompting = true
		s.drawLocked()
	}
}

// entered notes that the user has finished the line with the prompt, if the terminal itself has shown that.
func (s *screen) entered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.editor == nil {
		s.prompting = false
	}
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
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = harmless(line)
	}
	return strings.Join(lines, lineBreak)
}
