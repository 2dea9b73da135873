package websocket

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// deflateName is the extension that RFC 7692, section 7 registers. Names are compared as they are: an answer in another case than
// the offer would be none for peers that compare so.
const deflateName = "permessage-deflate"

// Parameters of permessage-deflate (RFC 7692, sections 7.1.1 and 7.1.2).
const (
	paramServerForgets = "server_no_context_takeover"
	paramClientForgets = "client_no_context_takeover"
	paramServerBits    = "server_max_window_bits"
	paramClientBits    = "client_max_window_bits"
)

// The LZ77 window of a sender has from 1<<minBits to 1<<maxBits bytes (RFC 7692, section 7.1.2). Peers that have zlib fail if they are
// asked for the smallest, so we ask for leastBits at least.
const (
	minBits   = 8
	leastBits = 9
	maxBits   = 15
)

// Reasons why an offer is declined, and why an answer fails the connection (RFC 7692, section 7.1, unless another is named).
var (
	errDeflateSyntax  = errors.New("malformed parameter") // RFC 6455, section 9.1
	errDeflateUnknown = errors.New("unknown parameter")
	errDeflateTwice   = errors.New("a parameter twice")
	errDeflateFlag    = errors.New("a parameter with a value that has none") // sections 7.1.1.1 and 7.1.1.2
	errDeflateBits    = errors.New("window bits out of range")               // sections 7.1.2.1 and 7.1.2.2
	errDeflateAgain   = errors.New("accepted twice")                         // section 5: both would use RSV1
	errDeflateHistory = errors.New("server wants more history kept than was offered")
)

// deflateTerms are what both sides agreed on (RFC 7692, section 7.1), as this one sees it. The zero value: no compression.
type deflateTerms struct{ sends, receives direction }

// direction is what holds for the messages of one side.
type direction struct {
	bits     uint8 // no distance in a message is longer than 1<<bits bytes, 8 to 15; 0: no compression
	takeover bool  // a message may refer to those before it
}

// on reports whether messages may be compressed.
func (t deflateTerms) on() bool { return t.sends.bits != 0 }

// deflateParams are the parameters of one permessage-deflate, in an offer or in an answer.
type deflateParams struct {
	serverForgets, clientForgets bool
	serverBits, clientBits       uint8 // 0: not there
}

// agreeDeflate takes the first offer of a request's Sec-WebSocket-Extensions that a server can meet, and returns the answer to it. A
// server that keeps window bytes of history for each direction, 0 for none, sends with a context only if its codec takes one. No offer
// that can be met is no error: there is no compression.
func agreeDeflate(offers []string, window int, takesDict bool) (answer string, terms deflateTerms) {
	for element := range listElements(joinLines(offers)) {
		params, isDeflate := cutDeflate(element)
		if !isDeflate {
			continue
		}
		if offer, err := parseDeflate(params, maxBits); err == nil {
			agreed := offer.accept(window, takesDict)
			server, client := agreed.directions()
			return agreed.String(), deflateTerms{sends: server, receives: client}
		}
	}
	return "", deflateTerms{}
}

// accept returns the answer to an offer. What the client has not asked for it may only be told to forget (RFC 7692, section 7.1.1).
func (p deflateParams) accept(window int, takesDict bool) deflateParams {
	answer := deflateParams{
		serverForgets: p.serverForgets || !sendsContext(window, takesDict),
		clientForgets: p.clientForgets,
		serverBits:    p.serverBits,
	}
	kept := historyBits(window)
	switch {
	case p.clientForgets: // then its window may be as large as it likes
	case kept == 0, kept < maxBits && p.clientBits == 0: // section 7.1.2.2: bits are not answered if they were not offered
		answer.clientForgets = true
	case p.clientBits != 0 && min(kept, p.clientBits) < maxBits:
		answer.clientBits = min(kept, p.clientBits)
	}
	return answer
}

// directions returns what an answer means for the messages of both sides.
func (p deflateParams) directions() (server, client direction) {
	server = direction{bits: maxBits, takeover: !p.serverForgets}
	client = direction{bits: maxBits, takeover: !p.clientForgets}
	if p.serverBits != 0 {
		server.bits = p.serverBits
	}
	if p.clientBits != 0 {
		client.bits = p.clientBits
	}
	return server, client
}

// String returns the extension as an answer has it.
func (p deflateParams) String() string {
	s := deflateName
	if p.serverForgets {
		s += "; " + paramServerForgets
	}
	if p.clientForgets {
		s += "; " + paramClientForgets
	}
	if p.serverBits != 0 {
		s += "; " + paramServerBits + "=" + strconv.Itoa(int(p.serverBits))
	}
	if p.clientBits != 0 {
		s += "; " + paramClientBits + "=" + strconv.Itoa(int(p.clientBits))
	}
	return s
}

// offerDeflate returns what a client offers that keeps window bytes of history for each direction, 0 for none. Servers that do not know
// how to limit their window decline the first offer, or overlook the limit: they may take the last, and forget. All offers let the
// server limit the client's window: some take no others.
func offerDeflate(window int, takesDict bool) string {
	own := "; " + paramClientBits
	if !sendsContext(window, takesDict) {
		own += "; " + paramClientForgets // a hint: the server needs no history (RFC 7692, section 7.1.1.2)
	}
	last := deflateName + "; " + paramServerForgets + own
	switch kept := historyBits(window); kept {
	case 0:
		return last
	case maxBits:
		return deflateName + own
	default:
		return deflateName + "; " + paramServerBits + "=" + strconv.Itoa(int(kept)) + own + ", " + last
	}
}

// acceptDeflate returns what a server's answers to offerDeflate, with the same arguments, mean. An error fails the connection (RFC 7692,
// section 7.1). Other extensions in the answers are left to checkChosen.
func acceptDeflate(answers []string, window int, takesDict bool) (terms deflateTerms, err error) {
	for element := range listElements(joinLines(answers)) {
		params, isDeflate := cutDeflate(element)
		if !isDeflate {
			continue
		}
		answer, err := parseDeflate(params, 0)
		server, client := answer.directions()
		switch {
		case err != nil:
		case terms.on():
			err = errDeflateAgain
		case server.takeover && server.bits > historyBits(window):
			err = errDeflateHistory // section 7.1.2.1: an answer has no more than the offer, and was no offer without
		}
		if err != nil {
			return deflateTerms{}, fmt.Errorf("websocket: answer has %w: %s: %w", ErrInvalidHeaderWSExtensions, deflateName, err)
		}
		client.takeover = client.takeover && sendsContext(window, takesDict)
		terms = deflateTerms{sends: client, receives: server}
	}
	return terms, nil
}

// sendsContext reports whether an endpoint can refer to what it has sent before.
func sendsContext(window int, takesDict bool) bool { return takesDict && window > 0 }

// historyBits returns the largest window that a sender may have if its receiver keeps that many bytes of history; 0 if those are too few
// for any sender.
func historyBits(window int) uint8 {
	if window < 1<<leastBits {
		return 0
	}
	return uint8(min(bits.Len(uint(window))-1, maxBits))
}

// cutDeflate returns the parameters of an element of an extension list, with their first semicolon, if the extension is
// permessage-deflate.
func cutDeflate(element string) (params string, ok bool) {
	name, _, _ := strings.Cut(element, ";")
	return element[len(name):], strings.Trim(name, " \t") == deflateName
}

// parseDeflate reads the parameters of one permessage-deflate. client_max_window_bits without a value stands for openBits; 0 says that
// it must have one.
func parseDeflate(params string, openBits uint8) (p deflateParams, err error) {
	for params != "" && err == nil {
		param, _, _ := strings.Cut(params[1:], ";")
		params = params[1+len(param):]
		name, value, ok := parseParameter(param)
		switch {
		case !ok:
			err = errDeflateSyntax
		case name == paramServerForgets:
			err = setFlag(&p.serverForgets, value)
		case name == paramClientForgets:
			err = setFlag(&p.clientForgets, value)
		case name == paramServerBits:
			err = setBits(&p.serverBits, value, 0)
		case name == paramClientBits:
			err = setBits(&p.clientBits, value, openBits)
		default:
			err = errDeflateUnknown
		}
	}
	return p, err
}

// setFlag stores a parameter that has no value.
func setFlag(flag *bool, value string) error {
	switch {
	case *flag:
		return errDeflateTwice
	case value != "":
		return errDeflateFlag
	}
	*flag = true
	return nil
}

// setBits stores a parameter that is a number of bits, in decimal without leading zeros, or openBits if it has no value.
func setBits(bits *uint8, value string, openBits uint8) error {
	if *bits != 0 {
		return errDeflateTwice
	}
	if value == "" {
		*bits = openBits
	}
	for n, digits := range [...]string{"8", "9", "10", "11", "12", "13", "14", "15"} {
		if value == digits {
			*bits = minBits + uint8(n)
		}
	}
	if *bits == 0 {
		return errDeflateBits
	}
	return nil
}

// parseParameter reads a parameter of an extension (RFC 6455, section 9.1). A value is never empty: "" stands for none.
func parseParameter(s string) (name, value string, ok bool) {
	name, value, hasValue := strings.Cut(s, "=")
	name, value = strings.Trim(name, " \t"), unquoteToken(strings.Trim(value, " \t"))
	return name, value, isToken(name) && (!hasValue || isToken(value))
}

// unquoteToken returns what a quoted string stands for (RFC 9110, section 5.6.4), and anything else as it is. A quote or a backslash that
// is left shows that the string is malformed, or no token.
func unquoteToken(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	plain := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i < len(s)-1 {
			i++
		}
		plain = append(plain, s[i])
	}
	return string(plain)
}
