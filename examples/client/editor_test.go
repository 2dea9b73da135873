package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEditor(t *testing.T) {
	long := strings.Repeat("x", maxTyped)
	for name, row := range map[string]struct {
		keys  string
		lines []string
		left  string // and not entered
		at    int    // the cursor in it
		ended bool
	}{
		"letters":                              {keys: "Grüße, 世界", left: "Grüße, 世界", at: 9},
		"Enter, both of its codes":             {keys: "one\rtwo\nthree", lines: []string{"one", "two"}, left: "three", at: 5},
		"an empty line":                        {keys: "\r", lines: []string{""}},
		"Backspace, both of its codes":         {keys: "abc\b\x7f", left: "a", at: 1},
		"Backspace where there is nothing":     {keys: "\b\x7fa", left: "a", at: 1},
		"arrows":                               {keys: "ac\x1b[Db\x1b[C!", left: "abc!", at: 4},
		"arrows of another mode":               {keys: "ac\x1bODb\x1bOC!", left: "abc!", at: 4},
		"arrows at both ends":                  {keys: "\x1b[Da\x1b[D\x1b[Db\x1b[C\x1b[C\x1b[Cc", left: "bac", at: 3},
		"Home and End":                         {keys: "b\x1b[Ha\x1b[Fc\x1b[1~0\x1b[4~9\x01>\x05<", left: ">0abc9<", at: 7},
		"Delete":                               {keys: "abc\x1b[H\x1b[3~\x04", left: "c", at: 0},
		"Ctrl+U":                               {keys: "abc\x1b[D\x15", left: "c", at: 0},
		"Ctrl+K":                               {keys: "abc\x1b[D\x1b[D\x0b", left: "a", at: 1},
		"Ctrl+W":                               {keys: "one two  \x17", left: "one ", at: 4},
		"Ctrl+D":                               {keys: "one\r\x04 more", lines: []string{"one"}, ended: true},
		"a tab":                                {keys: "a\tb", left: "a b", at: 3},
		"the line before":                      {keys: "one\rtwo\rthr\x1b[A\x1b[A!\r", lines: []string{"one", "two", "one!"}},
		"the line before, and back":            {keys: "one\rtw\x1b[A\x1b[A\x1b[B\x1b[Bo", lines: []string{"one"}, left: "two", at: 3},
		"keys that are not for us":             {keys: "a\x1b[24~\x1b[1;5C\x1bOPb\x1b\x07\x00\u0085", left: "ab", at: 2},
		"a key with Alt, which is the key":     {keys: "\x1bé", left: "é", at: 1},
		"bytes that are no characters":         {keys: "a\xff\xfeb", left: "ab", at: 2},
		"a sequence without an end":            {keys: "\x1b[" + strings.Repeat("1", 40) + "x", left: strings.Repeat("1", 9) + "x", at: 10},
		"characters that turn others around":   {keys: "a\u202eb", left: "a\u202eb", at: 3},
		"as many characters as are kept":       {keys: long, left: long, at: maxTyped},
		"more characters than are kept":        {keys: long + "yz\r", lines: []string{long}},
		"a character in front of what is full": {keys: long + "\x1b[Hy", left: long},
	} {
		for _, size := range []int{1, 3, len(row.keys)} { // as they come
			if len(row.keys) > 1000 && size < 1000 {
				continue
			}
			var e editor
			var lines []string
			ended := false
			for keys := row.keys; keys != "" && !ended; {
				n := min(size, len(keys))
				more, end := e.feed([]byte(keys[:n]))
				lines, ended, keys = append(lines, more...), end, keys[n:]
			}
			assert.Equal(t, row.lines, lines, "%s, %d at a time", name, size)
			assert.Equal(t, row.left, string(e.line), name)
			assert.Equal(t, row.at, e.cursor, name)
			assert.Equal(t, row.ended, ended, name)
		}
	}
	t.Run("as many lines as are kept can be fetched", func(t *testing.T) {
		var e editor
		for range maxPast {
			e.feed([]byte("x\ry\r"))
		}
		assert.Len(t, e.past, maxPast)
		e.feed([]byte(strings.Repeat("\x1b[A", maxPast+5)))
		assert.Zero(t, e.pastAt)
	})
}

func TestWhatIsVisible(t *testing.T) {
	for name, row := range map[string]struct {
		keys    string
		columns int
		text    string
		behind  int
	}{
		"all that fits":                         {"abc", 10, "abc", 0},
		"the cursor in between":                 {"abcd\x1b[D\x1b[D", 10, "abcd", 2},
		"the end of what does not fit":          {"abcdef", 4, "cdef", 0},
		"the beginning, with the cursor there":  {"abcdef\x1b[H", 4, "abcd", 4},
		"what is around the cursor":             {"abcdefgh\x1b[D\x1b[D\x1b[D", 4, "bcde", 0},
		"wide characters":                       {"世界世界", 5, "世界", 0},
		"characters above others":               {"e\u0301e\u0301", 2, "e\u0301e\u0301", 0},
		"what a terminal might obey":            {"a\u202eb\u2066", 10, "a\uFFFDb\uFFFD", 0},
		"nothing where there is no room at all": {"abc", 0, "", 0},
		"nothing where there is less than that": {"abc", -5, "", 0},
	} {
		var e editor
		e.feed([]byte(row.keys))
		text, behind := e.visible(row.columns)
		assert.Equal(t, row.text, text, name)
		assert.Equal(t, row.behind, behind, name)
	}
}
