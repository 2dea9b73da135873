package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

const help = `/who            who is here
/to NAME TEXT   send to one user only
/retry          try to connect now, if the connection was lost
/help           show this
/quit           leave, as does the end of input (Ctrl+D)
Everything else is sent to all.`

// maxLine is the length of a line of input in bytes. A longer line ends the program; a shorter one that is no valid message
// is refused, and the next one is read.
const maxLine = 1 << 20

// errUndone is the error of a script that has not done all it was told. At a terminal the user has seen what was refused.
var errUndone = errors.New("not all of the input was carried out")

// talk reads what the user types until the user or the server has enough. A connection that is lost in between is replaced.
func talk(ctx context.Context, s *session, out *screen, stdin io.Reader) error {
	defer out.leave()
	done := make(chan struct{})
	defer close(done)
	var lines <-chan line
	if restore, ok := out.edit(stdin); ok {
		defer restore()
		lines = typedLines(stdin, out, done)
	} else {
		lines = readLines(stdin, done)
	}
	script, undone := !isTerminal(stdin), false
	out.ask()
	for {
		select {
		case line := <-lines:
			switch {
			case line.err == io.EOF && script && undone:
				return errUndone
			case line.err == io.EOF:
				return nil
			case line.err != nil:
				return fmt.Errorf("cannot read the input: %w", line.err)
			}
			out.entered()
			switch err := obey(ctx, s, out, strings.TrimSpace(line.text)); {
			case err == errMistake:
				undone = true
			case err == errQuit || errors.Is(err, context.Canceled):
				return nil
			case err != nil:
				return err
			}
			out.ask()
		case <-s.ended:
			return s.lostBecause()
		case <-ctx.Done():
			return nil // Ctrl+C is a way to leave
		}
	}
}

// line is a line of input, or why there is none.
type line struct {
	text string
	err  error // io.EOF at the end
}

// readLines returns the lines of stdin, the last of them with an error.
func readLines(stdin io.Reader, done <-chan struct{}) <-chan line {
	lines := make(chan line)
	go func() {
		in := bufio.NewScanner(stdin)
		in.Buffer(nil, maxLine)
		for next := (line{}); next.err == nil; {
			next = line{err: io.EOF}
			if in.Scan() {
				next = line{text: in.Text()}
			} else if in.Err() != nil {
				next = line{err: in.Err()}
			}
			select {
			case lines <- next:
			case <-done:
				return
			}
		}
	}()
	return lines
}

// typedLines returns the lines that the user types into the line that the screen shows, the last of them with an error. So many of them
// may wait to be obeyed as no user types, but one may paste.
func typedLines(stdin io.Reader, out *screen, done <-chan struct{}) <-chan line {
	lines := make(chan line, 1<<10)
	go func() {
		keys := make([]byte, 4096)
		for next := (line{}); next.err == nil; {
			n, err := stdin.Read(keys)
			typed, ended := out.typed(keys[:n])
			for _, text := range typed {
				select {
				case lines <- line{text: text}:
				case <-done:
					return
				}
			}
			if next.err = err; err == nil && !ended {
				continue
			} else if ended {
				next.err = io.EOF
			}
			select {
			case lines <- next:
			case <-done:
			}
		}
	}()
	return lines
}

// What obey says of lines that are no error of the program.
var (
	errQuit    = errors.New("the user leaves")
	errMistake = errors.New("a line was not carried out; the user has been told")
)

// obey does what one line says.
func obey(ctx context.Context, s *session, out *screen, line string) (err error) {
	command, rest, _ := strings.Cut(line, " ")
	switch {
	case line == "":
	case !strings.HasPrefix(line, "/"):
		_, err = s.say(ctx, "", line) // all get it as a notice, this client included
	case command == "/retry":
		if !s.retry() {
			out.print("There is nothing to retry.")
		}
	case command == "/who":
		err = who(ctx, s, out)
	case command == "/to":
		err = whisper(ctx, s, out, rest)
	case command == "/help":
		out.print(help)
	case command == "/quit":
		return errQuit
	default:
		out.print("There is no command " + plain(command) + ". See /help.")
		return errMistake
	}
	var refused *refusedError
	if errors.As(err, &refused) || errors.Is(err, errNoAnswer) || errors.Is(err, errOffline) {
		out.print("! " + plain(err.Error()) + ": " + excerpt(line))
		return errMistake
	}
	return err
}

// excerpt is the beginning of a line, by which users recognize it among several that they have pasted.
func excerpt(line string) string {
	const most = 40
	if utf8.RuneCountInString(line) <= most {
		return plain(line)
	}
	return plain(string([]rune(line)[:most])) + "…"
}

func who(ctx context.Context, s *session, out *screen) error {
	var names []string
	err := s.request(ctx, http.MethodGet, "/users", "", &names)
	if err == nil {
		out.print("Here: " + list(names))
	}
	return err
}

func whisper(ctx context.Context, s *session, out *screen, rest string) error {
	to, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if strings.TrimSpace(text) == "" {
		out.print("It is /to NAME TEXT.")
		return errMistake
	}
	m, err := s.say(ctx, to, text)
	if err != nil {
		return err
	}
	switch {
	case s.notices.isNew(m.ID):
		out.print(describeSent(m, m.From))
	case m.Reached == 0: // where several servers are one, this device gets a notice of it too
		out.print("* " + plain(m.To) + " is not here now.")
	}
	return nil
}
