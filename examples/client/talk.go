package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

const help = `/who            who is here
/to NAME TEXT   send to one user only
/help           show this
/quit           leave, as does the end of input (Ctrl+D)
Everything else is sent to all.`

// maxLine is the length of a line of input in bytes. A longer line ends the program; a shorter one that is no valid message
// is refused, and the next one is read.
const maxLine = 1 << 20

// errUndone is the error of a script that has not done all it was told. At a terminal the user has seen what was refused.
var errUndone = errors.New("not all of the input was carried out")

// talk reads what the user types until the user or the server has enough.
func talk(ctx context.Context, s *session, out *screen, stdin io.Reader) error {
	defer out.leave()
	done := make(chan struct{})
	defer close(done)
	lines := readLines(stdin, done)
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
		case <-s.lost:
			return s.lostBecause(s.client.Err())
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
	if errors.As(err, &refused) || errors.Is(err, errNoAnswer) {
		out.print("! " + plain(err.Error()))
		return errMistake
	}
	return err
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
	if err == nil {
		out.print(describe(m, m.From)) // this device gets no notice of it
	}
	return err
}

// reporter shows notices.
type reporter struct {
	out *screen
	me  string // known from the welcome on: what comes before is part of it, except for private messages
}

func (r *reporter) notice(res websocket.Response) error {
	body := []byte(res.Body)
	switch res.Message {
	case chat.NoticeWelcome:
		return r.welcome(body)
	case chat.NoticePrivate:
		return r.message(body)
	case chat.NoticeMessage:
		if r.me != "" {
			return r.message(body)
		}
	case chat.NoticeJoin:
		return r.comingOrGoing(body, "is here")
	case chat.NoticeLeave:
		return r.comingOrGoing(body, "has left")
	}
	return nil // a newer server may know more
}

func (r *reporter) welcome(body []byte) error {
	var w chat.Welcome
	if err := json.Unmarshal(body, &w); err != nil {
		return err
	}
	r.me = w.Name
	for _, m := range w.History {
		r.out.print(describe(m, r.me))
	}
	r.out.print(fmt.Sprintf("* You are here as %s. Here: %s. /help shows the commands.", plain(w.Name), list(w.Users)))
	return nil
}

func (r *reporter) message(body []byte) error {
	var m chat.Message
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	r.out.print(describe(m, r.me))
	return nil
}

func (r *reporter) comingOrGoing(body []byte, what string) error {
	var u chat.User
	if err := json.Unmarshal(body, &u); err != nil {
		return err
	}
	if r.me != "" {
		r.out.print("* " + plain(u.Name) + " " + what)
	}
	return nil
}

// describe returns a message as it is shown to a user.
func describe(m chat.Message, me string) string {
	name := func(user string) string {
		if user == me {
			return "you"
		}
		return plain(user)
	}
	who := name(m.From)
	if m.To != "" {
		who += " to " + name(m.To) + " (private)"
	}
	return m.Time.Local().Format("15:04") + " " + who + ": " + plain(m.Text)
}

func list(names []string) string {
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = plain(name)
	}
	return strings.Join(shown, ", ")
}
