package websocket

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// extFull is a window from which nothing has to be held back.
const extFull = 1 << maxBits

// extDirection reads "12" as 12 bits with a context, and "12!" as 12 bits without.
func extDirection(t testing.TB, s string) direction {
	digits, forgets := strings.CutSuffix(s, "!")
	n, err := strconv.Atoi(digits)
	require.NoError(t, err)
	return direction{bits: uint8(n), takeover: !forgets}
}

// extTerms reads what is sent and what is received, "" for no compression.
func extTerms(t testing.TB, s string) deflateTerms {
	if s == "" {
		return deflateTerms{}
	}
	sends, receives, ok := strings.Cut(s, " ")
	require.True(t, ok, s)
	return deflateTerms{sends: extDirection(t, sends), receives: extDirection(t, receives)}
}

func TestExtensionIsAgreed(t *testing.T) {
	const pd = "permessage-deflate"
	offers := func(s ...string) []string { return s }
	for _, row := range []struct {
		section, name string
		offers        []string
		window        int
		plain         bool   // the codec takes no dict
		answer        string // without the name; "" declines all
		terms         string
	}{
		// What is offered by RFC 7692's examples, and by browsers.
		{"7.1.3", "no parameters, and the whole window", offers(pd), extFull, false, "none", "15 15"},
		{"7.1.3", "a smaller window of the server", offers(pd + "; client_max_window_bits; server_max_window_bits=10"), extFull, false, "server_max_window_bits=10", "10 15"},
		{"7.1.3", "a smaller window of the server, with a fallback", offers(pd + "; client_max_window_bits; server_max_window_bits=10, " + pd + "; client_max_window_bits"), extFull, false, "server_max_window_bits=10", "10 15"},
		{"7.1", "as Chromium does", offers(pd + "; client_max_window_bits"), 4096, false, "client_max_window_bits=12", "15 12"},
		{"7.1", "as Firefox and Safari do", offers(pd), 4096, false, "client_no_context_takeover", "15 15!"},
		{"7.1", "as gorilla and nbio do", offers(pd + "; server_no_context_takeover; client_no_context_takeover"), 4096, false, "server_no_context_takeover; client_no_context_takeover", "15! 15!"},

		// The server's own direction.
		{"7.1.1.1", "a codec without dict forgets, though nobody asked", offers(pd), extFull, true, "server_no_context_takeover", "15! 15"},
		{"7.1.1.1", "a server without a window forgets", offers(pd + "; client_max_window_bits"), 0, false, "server_no_context_takeover; client_no_context_takeover", "15! 15!"},
		{"7.1.1.1", "a server that is asked to forget", offers(pd + "; server_no_context_takeover"), extFull, false, "server_no_context_takeover", "15! 15"},
		{"7.1.2.1", "the smallest window of the server", offers(pd + "; server_max_window_bits=8"), extFull, false, "server_max_window_bits=8", "8 15"},
		{"7.1.2.1", "the largest window of the server is answered too", offers(pd + "; server_max_window_bits=15"), extFull, false, "server_max_window_bits=15", "15 15"},
		{"7.1.2.1", "a window of the server larger than its history", offers(pd + "; server_max_window_bits=14; client_max_window_bits"), 512, false, "server_max_window_bits=14; client_max_window_bits=9", "14 9"},
		{"7.1.2.1", "a window of a server that forgets", offers(pd + "; server_max_window_bits=9; server_no_context_takeover"), extFull, false, "server_no_context_takeover; server_max_window_bits=9", "9! 15"},

		// The client's direction.
		{"7.1.1.2", "a client that forgets may have any window", offers(pd + "; client_no_context_takeover; client_max_window_bits"), 512, false, "client_no_context_takeover", "15 15!"},
		{"7.1.2.2", "a client that has a window of its own", offers(pd + "; client_max_window_bits=10"), 4096, false, "client_max_window_bits=10", "15 10"},
		{"7.1.2.2", "a client's window is as large as the history", offers(pd + "; client_max_window_bits=12"), 4096, false, "client_max_window_bits=12", "15 12"},
		{"7.1.2.2", "a client's window is larger than the history", offers(pd + "; client_max_window_bits=15"), 4096, false, "client_max_window_bits=12", "15 12"},
		{"7.1.2.2", "a client's window that the whole history has room for", offers(pd + "; client_max_window_bits=14"), extFull, false, "client_max_window_bits=14", "15 14"},
		{"7.1.2.2", "a client's largest window needs no answer", offers(pd + "; client_max_window_bits=15"), extFull, false, "none", "15 15"},
		{"7.1.2.2", "a client's smallest window", offers(pd + "; client_max_window_bits=8"), 4096, false, "client_max_window_bits=8", "15 8"},
		{"7.1.2.2", "the smallest window is asked of nobody", offers(pd + "; client_max_window_bits"), 256, false, "client_no_context_takeover", "15 15!"},
		{"7.1.2.2", "the next is", offers(pd + "; client_max_window_bits"), 512, false, "client_max_window_bits=9", "15 9"},
		{"7.1.2.2", "a history that is no power of two", offers(pd + "; client_max_window_bits"), 4095, false, "client_max_window_bits=11", "15 11"},
		{"7.1.2.2", "all four", offers(pd + "; server_max_window_bits=11; client_max_window_bits=13; client_no_context_takeover; server_no_context_takeover"), 4096, false, "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11", "11! 15!"},

		// How it may be written.
		{"RFC 6455, 9.1", "a quoted value", offers(pd + `; server_max_window_bits="10"`), extFull, false, "server_max_window_bits=10", "10 15"},
		{"RFC 6455, 9.1", "a quoted value with an escape", offers(pd + `; server_max_window_bits="1\0"; client_max_window_bits="\9"`), extFull, false, "server_max_window_bits=10; client_max_window_bits=9", "10 9"},
		{"RFC 6455, 9.1", "white space everywhere", offers("\t " + pd + " \t;  server_max_window_bits\t = 10 ;client_max_window_bits "), extFull, false, "server_max_window_bits=10", "10 15"},
		{"RFC 6455, 9.1", "no white space", offers("x," + pd + ";server_max_window_bits=10;client_max_window_bits"), extFull, false, "server_max_window_bits=10", "10 15"},
		{"RFC 6455, 9.1", "several lines", offers("x", "y; a=b", pd), extFull, false, "none", "15 15"},
		{"RFC 6455, 9.1", "empty elements", offers("", ", ,"+pd+",,"), extFull, false, "none", "15 15"},
		{"5.1", "extensions that are not known, with any parameters", offers(`permessage-foo; use_y; x="a,b;` + pd + `", permessage-bar, ` + pd), extFull, false, "none", "15 15"},
		{"5.1", "one that has its name in front", offers("permessage-deflate2, x-" + pd), extFull, false, "", ""},
		{"5.1", "no compression is offered", offers("permessage-bzip; client_max_window_bits"), extFull, false, "", ""},
		{"5.1", "nothing is offered", nil, extFull, false, "", ""},
		{"RFC 6455, 9.1", "another case is another name", offers("Permessage-Deflate"), extFull, false, "", ""},
		{"RFC 6455, 9.1", "a name is not quoted", offers(`"permessage-deflate"`), extFull, false, "", ""},
		{"RFC 6455, 9.1", "a quote that does not end hides what follows", offers(`x; y="z, ` + pd), extFull, false, "", ""},

		// The first that can be met.
		{"5.1", "the first of several", offers(pd + "; server_no_context_takeover, " + pd), extFull, false, "server_no_context_takeover", "15! 15"},
		{"5.1", "the first of several lines", offers(pd, pd+"; server_no_context_takeover"), extFull, false, "none", "15 15"},
		{"7.1", "the first that is not declined", offers(pd+"; x", pd+"; server_max_window_bits=7, "+pd+"; server_max_window_bits=9"), extFull, false, "server_max_window_bits=9", "9 15"},
	} {
		t.Run(row.section+": "+row.name, func(t *testing.T) {
			answer, terms := agreeDeflate(row.offers, row.window, !row.plain)
			want := ""
			if row.answer != "" {
				want = strings.TrimSuffix(pd+"; "+row.answer, "; none")
			}
			assert.Equal(t, want, answer)
			assert.Equal(t, extTerms(t, row.terms), terms)
			assert.Equal(t, answer != "", terms.on())
		})
	}
}

// extBad are parameters that make an offer, and an answer, one that must not be taken.
var extBad = []struct {
	section, params string
	reason          error
}{
	{"7.1", "; x", errDeflateUnknown},
	{"7.1", "; x=1", errDeflateUnknown},
	{"7.1", "; Server_No_Context_Takeover", errDeflateUnknown},
	{"7.1", "; server_no_context_takeover; server_no_context_takeover", errDeflateTwice},
	{"7.1", "; client_no_context_takeover; client_no_context_takeover", errDeflateTwice},
	{"7.1", "; server_max_window_bits=10; server_max_window_bits=10", errDeflateTwice},
	{"7.1", "; client_max_window_bits=10; client_max_window_bits=9", errDeflateTwice},
	{"7.1", "; client_max_window_bits=10; client_max_window_bits", errDeflateTwice},
	{"7.1.1.1", "; server_no_context_takeover=1", errDeflateFlag},
	{"7.1.1.1", "; server_no_context_takeover=true", errDeflateFlag},
	{"7.1.1.2", `; client_no_context_takeover="1"`, errDeflateFlag},
	{"7.1.2.1", "; server_max_window_bits", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=0", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=7", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=16", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=08", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=010", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=+10", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=-10", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=0xA", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=1_0", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=10.0", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=264", errDeflateBits},
	{"7.1.2.1", "; server_max_window_bits=18446744073709551626", errDeflateBits},
	{"7.1.2.2", "; client_max_window_bits=7", errDeflateBits},
	{"7.1.2.2", "; client_max_window_bits=16", errDeflateBits},
	{"7.1.2.2", "; client_max_window_bits=09", errDeflateBits},
	{"7.1.2.2", `; client_max_window_bits="1 0"`, errDeflateSyntax},
	{"RFC 6455, 9.1", ";", errDeflateSyntax},
	{"RFC 6455, 9.1", "; ;client_no_context_takeover", errDeflateSyntax},
	{"RFC 6455, 9.1", "; =10", errDeflateSyntax},
	{"RFC 6455, 9.1", "; server_max_window_bits=", errDeflateSyntax},
	{"RFC 6455, 9.1", `; server_max_window_bits=""`, errDeflateSyntax},
	{"RFC 6455, 9.1", `; server_max_window_bits="`, errDeflateSyntax},
	{"RFC 6455, 9.1", `; server_max_window_bits="10`, errDeflateSyntax},
	{"RFC 6455, 9.1", `; server_max_window_bits="10\"`, errDeflateSyntax},
	{"RFC 6455, 9.1", `; server_max_window_bits="10""`, errDeflateSyntax},
	{"RFC 6455, 9.1", `; server_max_window_bits=10"`, errDeflateSyntax},
	{"RFC 6455, 9.1", `; server_max_window_bits='10'x y`, errDeflateSyntax},
	{"RFC 6455, 9.1", "; server_max_window_bits==10", errDeflateSyntax},
	{"RFC 6455, 9.1", "; server max window bits=10", errDeflateSyntax},
	{"RFC 6455, 9.1", `; "client_no_context_takeover"`, errDeflateSyntax},
}

func TestExtensionIsDeclined(t *testing.T) {
	for _, row := range extBad {
		t.Run(row.section+": "+row.params, func(t *testing.T) {
			answer, terms := agreeDeflate([]string{deflateName + row.params}, extFull, true)
			assert.Empty(t, answer)
			assert.False(t, terms.on())
			if strings.Count(strings.ReplaceAll(row.params, `\"`, ""), `"`)%2 == 0 { // else the quoted string has not ended
				answer, _ = agreeDeflate([]string{deflateName + row.params + ", " + deflateName}, extFull, true)
				assert.Equal(t, deflateName, answer, "the next is taken")
			}
		})
	}
}

func TestExtensionIsOffered(t *testing.T) {
	for _, row := range []struct {
		name   string
		window int
		dict   bool
		offer  string
	}{
		{"a window of the server, or none of its context", 4096, true, "permessage-deflate; server_max_window_bits=12; client_max_window_bits, permessage-deflate; server_no_context_takeover; client_max_window_bits"},
		{"the whole window is no limit", extFull, true, "permessage-deflate; client_max_window_bits"},
		{"larger windows do not exist", 2 * extFull, true, "permessage-deflate; client_max_window_bits"},
		{"the smallest window is asked of nobody", 256, true, "permessage-deflate; server_no_context_takeover; client_max_window_bits"},
		{"a codec without dict says that it forgets", 512, false, "permessage-deflate; server_max_window_bits=9; client_max_window_bits; client_no_context_takeover, permessage-deflate; server_no_context_takeover; client_max_window_bits; client_no_context_takeover"},
		{"no window", 0, true, "permessage-deflate; server_no_context_takeover; client_max_window_bits; client_no_context_takeover"},
		{"a window below zero is none", -1, true, "permessage-deflate; server_no_context_takeover; client_max_window_bits; client_no_context_takeover"},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.offer, offerDeflate(row.window, row.dict))
		})
	}
}

func TestExtensionIsAccepted(t *testing.T) {
	const pd = "permessage-deflate"
	for _, row := range []struct {
		section, name string
		answers       []string
		window        int
		plain         bool // the codec takes no dict
		terms         string
		is            error
	}{
		{section: "5.1", name: "no answer", window: 4096},
		{section: "5.1", name: "an empty answer", answers: []string{"", ","}, window: 4096},
		{section: "5.1", name: "other extensions are left to others", answers: []string{"x; server_max_window_bits=99"}, window: 4096},
		{section: "7.1.3", name: "the limit that was asked for", answers: []string{pd + "; server_max_window_bits=10"}, window: 1024, terms: "15 10"},
		{section: "7.1.3", name: "no parameters to an offer that has no limit", answers: []string{pd}, window: extFull, terms: "15 15"},
		{section: "7.1.2.1", name: "a smaller limit than was asked for", answers: []string{pd + "; server_max_window_bits=8"}, window: 4096, terms: "15 8"},
		{section: "7.1.2.1", name: "a limit that was not asked for", answers: []string{pd + "; server_max_window_bits=11"}, window: extFull, terms: "15 11"},
		{section: "7.1.2.1", name: "the largest limit where none was asked for", answers: []string{pd + "; server_max_window_bits=15"}, window: extFull, terms: "15 15"},
		{section: "7.1.1.1", name: "the last offer in place of a limit", answers: []string{pd + "; server_no_context_takeover"}, window: 4096, terms: "15 15!"},
		{section: "7.1.1.1", name: "as gorilla and nbio answer to anything", answers: []string{pd + "; server_no_context_takeover; client_no_context_takeover"}, window: 4096, terms: "15! 15!"},
		{section: "7.1.1.1", name: "the last offer, and a limit that was not asked for", answers: []string{pd + "; server_no_context_takeover; server_max_window_bits=15"}, window: 4096, terms: "15 15!"},
		{section: "7.1.1.1", name: "the first offer, and a server that forgets unasked", answers: []string{pd + "; server_no_context_takeover; server_max_window_bits=12"}, window: 4096, terms: "15 12!"},
		{section: "7.1.1.2", name: "a client is told to forget", answers: []string{pd + "; client_no_context_takeover"}, window: extFull, terms: "15! 15"},
		{section: "7.1.1.2", name: "a client that forgets anyway need not be told", answers: []string{pd}, window: extFull, plain: true, terms: "15! 15"},
		{section: "7.1.2.2", name: "a limit of the client's window", answers: []string{pd + "; server_max_window_bits=12; client_max_window_bits=9"}, window: 4096, terms: "9 12"},
		{section: "7.1.2.2", name: "a limit of the window of a client that forgets", answers: []string{pd + "; server_no_context_takeover; client_max_window_bits=8; client_no_context_takeover"}, window: 0, terms: "8! 15!"},
		{section: "RFC 6455, 9.1", name: "quotes, white space and lines", answers: []string{"x", " " + pd + ` ;server_max_window_bits = "1\2"`}, window: 4096, terms: "15 12"},

		{section: "7.1.2.1", name: "no limit although one was asked for", answers: []string{pd}, window: 4096, is: errDeflateHistory},
		{section: "7.1.2.1", name: "a larger limit than was asked for", answers: []string{pd + "; server_max_window_bits=13"}, window: 4096, is: errDeflateHistory},
		{section: "7.1.1.1", name: "a context where there must be none", answers: []string{pd}, window: 0, is: errDeflateHistory},
		{section: "7.1.1.1", name: "a limit does not replace to forget", answers: []string{pd + "; server_max_window_bits=8"}, window: 0, is: errDeflateHistory},
		{section: "7.1.2.2", name: "a limit of the client's window without a value", answers: []string{pd + "; client_max_window_bits"}, window: extFull, is: errDeflateBits},
		{section: "5", name: "twice", answers: []string{pd + ", " + pd}, window: extFull, is: errDeflateAgain},
		{section: "5", name: "twice in two lines, the second malformed", answers: []string{pd, "x", pd + "; y"}, window: extFull, is: errDeflateUnknown},
	} {
		t.Run(row.section+": "+row.name, func(t *testing.T) {
			terms, err := acceptDeflate(row.answers, row.window, !row.plain)
			assert.Equal(t, extTerms(t, row.terms), terms)
			extRefused(t, row.is, err)
		})
	}
	for _, row := range extBad {
		t.Run(row.section+": "+row.params, func(t *testing.T) {
			terms, err := acceptDeflate([]string{pd + row.params}, extFull, true)
			assert.False(t, terms.on())
			extRefused(t, row.reason, err)
		})
	}
}

// extRefused checks the error for an answer that is not taken; nil for one that is.
func extRefused(t *testing.T, reason, err error) {
	if reason == nil {
		assert.NoError(t, err)
		return
	}
	assert.ErrorIs(t, err, reason)
	assert.ErrorIs(t, err, ErrInvalidHeaderWSExtensions)
}

// Both sides of every pair of endpoints see the same terms, and whoever receives keeps what the other refers to.
func TestExtensionIsSeenAlikeByBothSides(t *testing.T) {
	windows := []int{0, 1}
	for bits := minBits; bits <= maxBits; bits++ {
		windows = append(windows, 1<<bits)
	}
	run := func(t *testing.T, serverWindow, clientWindow int, serverDict, clientDict bool) {
		answer, server := agreeDeflate([]string{offerDeflate(clientWindow, clientDict)}, serverWindow, serverDict)
		client, err := acceptDeflate([]string{answer}, clientWindow, clientDict)
		require.NoError(t, err, answer)
		require.True(t, server.on() && client.on())
		require.Equal(t, server.sends, client.receives, answer)
		require.Equal(t, server.receives, client.sends, answer)
		for _, held := range []struct {
			direction
			from, to int
			dict     bool
		}{{server.sends, serverWindow, clientWindow, serverDict}, {client.sends, clientWindow, serverWindow, clientDict}} {
			want := held.dict && held.from > 0 && held.to >= 1<<leastBits
			require.Equal(t, want, held.takeover, "a context is there wherever both can: %s", answer)
			require.True(t, !held.takeover || held.to >= 1<<held.bits, answer)
		}
	}
	for _, serverWindow := range windows {
		for _, clientWindow := range windows {
			for dicts := range 4 {
				t.Run(fmt.Sprintf("server %d, client %d, dicts %02b", serverWindow, clientWindow, dicts), func(t *testing.T) {
					run(t, serverWindow, clientWindow, dicts&1 != 0, dicts&2 != 0)
				})
			}
		}
	}
}

func TestExtensionOffersCostNoMemory(t *testing.T) {
	const size = 16 << 10
	for _, element := range []string{
		",", ";", "permessage-deflate,", "permessage-deflate;,", "permessage-deflate; x,", "permessage-deflate; server_max_window_bits=7,",
		"permessage-deflate; server_max_window_bits; client_max_window_bits,", "x; y=\"z\",",
	} {
		t.Run(element, func(t *testing.T) {
			offers := []string{strings.Repeat(element, size/len(element))}
			allocs := testing.AllocsPerRun(10, func() { agreeDeflate(offers, 4096, true) })
			assert.LessOrEqual(t, allocs, 4.0, "the answer, if there is one")
		})
	}
}

// extOffer reads an element of an extension list by other means than the library: nil if it is no permessage-deflate, or not valid.
// client_max_window_bits without a value is 15.
func extOffer(element string) map[string]int {
	const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	const param = `[ \t]*;[ \t]*(` + token + `)[ \t]*(?:=[ \t]*(` + token + `|"(?:[^"\\]|\\.)*")[ \t]*)?`
	if !regexp.MustCompile(`(?s)^permessage-deflate[ \t]*(?:` + param + `)*$`).MatchString(element) {
		return nil
	}
	params := make(map[string]int)
	for _, found := range regexp.MustCompile(`(?s)`+param).FindAllStringSubmatch(element, -1) {
		name, value := found[1], found[2]
		if strings.HasPrefix(value, `"`) {
			value = regexp.MustCompile(`(?s)\\(.)`).ReplaceAllString(value[1:len(value)-1], "$1")
		}
		if _, twice := params[name]; twice {
			return nil
		}
		isBits := regexp.MustCompile(`^(?:[89]|1[0-5])$`).MatchString(value)
		switch {
		case name == "client_max_window_bits" && found[2] == "":
			params[name] = 15
		case strings.HasSuffix(name, "_max_window_bits") && isBits:
			params[name], _ = strconv.Atoi(value)
		case strings.HasSuffix(name, "_no_context_takeover") && found[2] == "":
			params[name] = 1
		default:
			return nil
		}
		if !regexp.MustCompile(`^(?:server|client)_(?:max_window_bits|no_context_takeover)$`).MatchString(name) {
			return nil
		}
	}
	return params
}

// FuzzExtension holds what is agreed on to the list that another reader finds.
func FuzzExtension(f *testing.F) {
	f.Fuzz(func(t *testing.T, list string, window uint16, takesDict bool) {
		var offer map[string]int
		deflates := 0
		for element := range listElements(list) {
			if offer == nil {
				offer = extOffer(element)
			}
			if name, _, _ := strings.Cut(element, ";"); strings.Trim(name, " \t") == deflateName {
				deflates++
			}
		}
		answer, server := agreeDeflate([]string{list}, int(window), takesDict)
		require.Equal(t, offer != nil, answer != "", "the first valid offer is taken")
		require.Equal(t, answer != "", server.on())
		if server.on() {
			extAnswers(t, offer, answer, int(window), takesDict)
			require.True(t, !server.receives.takeover || 1<<server.receives.bits <= int(window), answer)
			require.True(t, !server.sends.takeover || takesDict && window > 0, answer)
		}

		client, err := acceptDeflate([]string{list}, int(window), takesDict)
		require.Equal(t, err == nil && deflates == 1, client.on())
		require.True(t, err == nil || errors.Is(err, ErrInvalidHeaderWSExtensions))
		require.True(t, err != nil || deflates < 2)
		if client.on() {
			require.NotNil(t, offer, "the answer is well-formed")
			require.True(t, !client.receives.takeover || 1<<client.receives.bits <= int(window), list)
			require.True(t, !client.sends.takeover || takesDict && window > 0, list)
		}
	})
}

// extAnswers holds an answer to the rules for what may be said to an offer.
func extAnswers(t *testing.T, offer map[string]int, answer string, window int, takesDict bool) {
	require.Equal(t, strings.ToLower(strings.TrimSpace(answer)), answer)
	said := extOffer(answer)
	require.NotNil(t, said, answer)
	require.NotContains(t, answer+";", "_bits;", "bits have a value")
	require.Equal(t, offer["server_max_window_bits"], said["server_max_window_bits"], answer)
	require.LessOrEqual(t, said["client_max_window_bits"], offer["client_max_window_bits"], answer)
	for _, name := range []string{"server_no_context_takeover", "client_no_context_takeover"} {
		require.LessOrEqual(t, offer[name], said[name], answer)
	}
	if !takesDict || window == 0 {
		require.Contains(t, said, "server_no_context_takeover")
	}
}
