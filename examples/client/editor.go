package main

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wsloop/websocket/examples/internal/chat"
)

const (
	maxTyped = 64 << 10 // characters of one line; more are ignored
	maxPast  = 100      // lines that can be fetched again
)

// Keys that are no characters.
const (
	keyNone rune = -1 - iota
	keyUp
	keyDown
	keyLeft
	keyRight
	keyHome
	keyEnd
	keyDelete
)

// sequences are those that terminals send for keys, without the ESC and [ or O in front.
var sequences = map[string]rune{
	"A": keyUp, "B": keyDown, "C": keyRight, "D": keyLeft, "H": keyHome, "F": keyEnd,
	"1~": keyHome, "7~": keyHome, "4~": keyEnd, "8~": keyEnd, "3~": keyDelete,
}

// parseKey returns the key that comes first in what a terminal has sent, and how many bytes it is: none if more are needed.
func parseKey(b []byte) (key rune, n int) {
	const escape, maxSequence = 0x1b, 32
	switch {
	case len(b) == 0 || !utf8.FullRune(b):
		return 0, 0
	case b[0] != escape:
		return utf8.DecodeRune(b)
	case len(b) == 1:
		return 0, 0
	case b[1] != '[' && b[1] != 'O':
		return keyNone, 1 // what follows is a key by itself
	}
	for i := 2; i < len(b); i++ {
		if b[i] >= 0x40 && b[i] <= 0x7e || i == maxSequence {
			if key, ok := sequences[string(b[2:i+1])]; ok {
				return key, i + 1
			}
			return keyNone, i + 1
		}
	}
	return 0, 0
}

// editor is the line that the user types, on a terminal that leaves that to us: so it can be shown again after something else was. It
// knows no terminal; bytes go in, and lines come out.
type editor struct {
	line    []rune
	cursor  int    // in front of that character
	unread  []byte // the beginning of a key
	past    []string
	pastAt  int // which of past is in line; len(past): none
	started []rune
}

// feed takes what the user has typed. It returns the lines that are done, and whether that was the end of input.
func (e *editor) feed(b []byte) (lines []string, ended bool) {
	e.unread = append(e.unread, b...)
	for {
		key, n := parseKey(e.unread)
		if n == 0 {
			return lines, false
		}
		e.unread = e.unread[n:]
		switch {
		case key == '\r' || key == '\n':
			lines = append(lines, e.take())
		case key == ctrl('D') && len(e.line) == 0:
			return lines, true
		default:
			e.press(key)
		}
	}
}

// ctrl is the key of a letter with Ctrl.
func ctrl(letter rune) rune { return letter - '@' }

// take returns the line, and begins another one.
func (e *editor) take() string {
	text := string(e.line)
	if strings.TrimSpace(text) != "" && (len(e.past) == 0 || e.past[len(e.past)-1] != text) {
		e.past = append(e.past, text)
		e.past = e.past[max(len(e.past)-maxPast, 0):]
	}
	e.set(nil)
	e.pastAt, e.started = len(e.past), nil
	return text
}

// press does what a key is for.
func (e *editor) press(key rune) {
	switch key {
	case keyLeft, ctrl('B'):
		e.cursor = max(e.cursor-1, 0)
	case keyRight, ctrl('F'):
		e.cursor = min(e.cursor+1, len(e.line))
	case keyHome, ctrl('A'):
		e.cursor = 0
	case keyEnd, ctrl('E'):
		e.cursor = len(e.line)
	case keyUp, ctrl('P'):
		e.fetch(e.pastAt - 1)
	case keyDown, ctrl('N'):
		e.fetch(e.pastAt + 1)
	case '\b', 0x7f:
		e.cut(e.cursor-1, e.cursor)
	case keyDelete, ctrl('D'):
		e.cut(e.cursor, e.cursor+1)
	case ctrl('U'):
		e.cut(0, e.cursor)
	case ctrl('K'):
		e.cut(e.cursor, len(e.line))
	case ctrl('W'):
		e.cut(e.wordBegin(), e.cursor)
	case '\t':
		e.insert(' ')
	default:
		if key >= ' ' && key != utf8.RuneError && !unicode.IsControl(key) {
			e.insert(key)
		}
	}
}

func (e *editor) insert(r rune) {
	if len(e.line) < maxTyped {
		e.line = slices.Insert(e.line, e.cursor, r)
		e.cursor++
	}
}

// cut takes characters out of the line.
func (e *editor) cut(from, to int) {
	if from < 0 || to > len(e.line) {
		return
	}
	e.line = slices.Delete(e.line, from, to)
	e.cursor = from
}

// wordBegin is where the word in front of the cursor begins.
func (e *editor) wordBegin() (at int) {
	for at = e.cursor; at > 0 && e.line[at-1] == ' '; at-- {
	}
	for ; at > 0 && e.line[at-1] != ' '; at-- {
	}
	return at
}

func (e *editor) set(line []rune) { e.line, e.cursor = line, len(line) }

// fetch puts a line of the past in the place of the present one, which is there again behind the last of them.
func (e *editor) fetch(at int) {
	if at < 0 || at > len(e.past) {
		return
	}
	if e.pastAt == len(e.past) {
		e.started = e.line
	}
	if e.pastAt = at; at == len(e.past) {
		e.set(e.started)
	} else {
		e.set([]rune(e.past[at]))
	}
}

// visible returns the part of the line around the cursor that fits into so many columns, and how many of those are behind the cursor.
func (e *editor) visible(columns int) (text string, behind int) {
	from, to, used := e.cursor, e.cursor, 0
	for ; from > 0 && used+columnsOf(e.line[from-1]) <= columns; from-- {
		used += columnsOf(e.line[from-1])
	}
	for ; to < len(e.line) && used+behind+columnsOf(e.line[to]) <= columns; to++ {
		behind += columnsOf(e.line[to])
	}
	return harmless(string(e.line[from:to])), behind
}

// harmless replaces what a terminal might obey, character by character.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if chat.IsPlain(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}

// wide are the characters that most terminals show in two columns.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0x303e, Stride: 1}, {Lo: 0x3041, Hi: 0xa4cf, Stride: 1},
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff00, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x1f300, Hi: 0x1faff, Stride: 1}, {Lo: 0x20000, Hi: 0x3fffd, Stride: 1}},
}

// columnsOf returns how many columns a terminal needs for a character, as most do it.
func columnsOf(r rune) int {
	switch {
	case !chat.IsPlain(r): // see harmless
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}
