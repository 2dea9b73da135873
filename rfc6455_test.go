package websocket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The table below holds the rules of RFC 6455, sections 5, 7 and 8.1, that a receiving endpoint enforces: bytes in, events
// and close code out. Each row runs whole, byte by byte and cut at every place.

// rfcSide is the endpoint that receives.
type rfcSide string

const (
	rfcServer rfcSide = "server"
	rfcClient rfcSide = "client"
	rfcBoth   rfcSide = "both" // the same rule, with the masks that each side wants
)

// rfcPiece makes bytes that come from the peer, masked as they have to be or not.
type rfcPiece func(masked bool) []byte

var rfcKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// rfcHead is a header with a length in the form of 1, 3 or 9 bytes, without its payload.
func rfcHead(first byte, form int, length uint64) rfcPiece {
	return func(masked bool) []byte {
		b := []byte{first, byte(length)}
		switch form {
		case 3:
			b = binary.BigEndian.AppendUint16([]byte{first, length16}, uint16(length))
		case 9:
			b = binary.BigEndian.AppendUint64([]byte{first, length64}, length)
		}
		if masked {
			b[1] |= bitMasked
			b = append(b, rfcKey[:]...)
		}
		return b
	}
}

// rfcFrame is a whole frame.
func rfcFrame(first byte, payload string) rfcPiece {
	return func(masked bool) []byte {
		b := rfcHead(first, lengthFieldSize(uint64(len(payload))), uint64(len(payload)))(masked)
		if masked {
			return append(b, coreMask([]byte(payload), rfcKey, 0)...)
		}
		return append(b, payload...)
	}
}

// rfcCut is the beginning of a frame: its header and the first bytes of its payload, of which there are to be more.
func rfcCut(first byte, payload string, more int) rfcPiece {
	return func(masked bool) []byte {
		b := rfcFrame(first, payload+strings.Repeat("x", more))(masked)
		return b[:len(b)-more]
	}
}

// rfcTwo is the first two bytes of a frame, which are enough for most rules.
func rfcTwo(first, length byte) rfcPiece {
	return func(masked bool) []byte { return rfcHead(first, 1, uint64(length))(masked)[:2] }
}

// rfcSwap is a frame that is masked where it must not be, or not masked where it must.
func rfcSwap(piece rfcPiece) rfcPiece { return func(masked bool) []byte { return piece(!masked) } }

func rfcBytes(b ...byte) rfcPiece { return func(bool) []byte { return b } }

func rfcClose(code uint16, reason string) rfcPiece {
	return rfcFrame(0x88, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// rfcEvent is an event without what differs from side to side.
type rfcEvent struct {
	kind    eventKind
	opcode  Opcode
	payload string
	code    CloseCode
	rsv     byte
}

func rfcText(payload string) rfcEvent {
	return rfcEvent{kind: eventMessage, opcode: OpcodeText, payload: payload}
}

func rfcBin(payload string) rfcEvent {
	return rfcEvent{kind: eventMessage, opcode: OpcodeBin, payload: payload}
}

func rfcPing(payload string) rfcEvent {
	return rfcEvent{kind: eventPing, opcode: OpcodePing, payload: payload}
}

func rfcPong(payload string) rfcEvent {
	return rfcEvent{kind: eventPong, opcode: OpcodePong, payload: payload}
}

func rfcClosed(code CloseCode, reason string) rfcEvent {
	return rfcEvent{kind: eventClose, opcode: OpcodeClose, payload: reason, code: code}
}

// rfcBadClose is the event of a Close frame that breaks a rule. Where it is its header that does, nothing but the kind is known.
var (
	rfcBadClose       = []rfcEvent{rfcClosed(0, "")}
	rfcBadCloseHeader = []rfcEvent{{kind: eventClose}}
)

type rfcCase struct {
	section string
	name    string
	side    rfcSide
	in      []rfcPiece
	want    []rfcEvent
	fails   *protocolError // nil: no breach
	code    CloseCode      // of the answer to the breach
	after   int            // bytes of the input behind the one that shows the breach
	open    bool           // the input ends inside a frame or a message
	with    func(*protocol)
}

func rfcAllow(rsv byte) func(*protocol) { return func(p *protocol) { p.allowedRsv = rsv } }

func rfcReserved(p *protocol) { p.reservedControl = true }

const (
	rfcMaxMessage   = 200
	rfcMaxFragments = 8
)

var (
	rfc125 = strings.Repeat("c", 125)
	rfc126 = strings.Repeat("d", 126)
	rfc200 = strings.Repeat("m", rfcMaxMessage)
)

// rfcCases are the rows that are written out; rfcTable adds the ones that count something through.
var rfcCases = []rfcCase{
	// Section 5.1: masks.
	{section: "5.1", name: "an unmasked frame from a client closes with 1002", side: rfcServer, in: []rfcPiece{rfcBytes(0x81, 0x05)}, fails: errNotMasked, code: 1002},
	{section: "5.1", name: "an unmasked empty frame from a client closes with 1002", side: rfcServer, in: []rfcPiece{rfcBytes(0x81, 0x00)}, fails: errNotMasked, code: 1002},
	{section: "5.1", name: "an unmasked ping from a client closes with 1002", side: rfcServer, in: []rfcPiece{rfcBytes(0x89, 0x00)}, fails: errNotMasked, code: 1002},
	{section: "5.1", name: "an unmasked close from a client closes with 1002", side: rfcServer, in: []rfcPiece{rfcBytes(0x88, 0x02)}, want: rfcBadCloseHeader, fails: errNotMasked, code: 1002},
	{section: "5.1", name: "an unmasked continuation from a client closes with 1002", side: rfcServer, in: []rfcPiece{rfcFrame(0x01, "a"), rfcBytes(0x80, 0x00)}, fails: errNotMasked, code: 1002},
	{section: "5.1", name: "a masked frame from a server closes with 1002", side: rfcClient, in: []rfcPiece{rfcBytes(0x81, 0x85)}, fails: errMasked, code: 1002},
	{section: "5.1", name: "a masked ping from a server closes with 1002", side: rfcClient, in: []rfcPiece{rfcBytes(0x89, 0x80)}, fails: errMasked, code: 1002},
	{section: "5.1", name: "a masked close from a server closes with 1002", side: rfcClient, in: []rfcPiece{rfcBytes(0x88, 0x82)}, want: rfcBadCloseHeader, fails: errMasked, code: 1002},
	{section: "5.1", name: "a masked continuation from a server closes with 1002", side: rfcClient, in: []rfcPiece{rfcFrame(0x02, "a"), rfcBytes(0x80, 0x80)}, fails: errMasked, code: 1002},
	{section: "5.1", name: "a second frame with the wrong mask closes behind the first", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "ok"), rfcSwap(rfcTwo(0x81, 2))}, want: []rfcEvent{rfcText("ok")}, after: 0, code: 1002},

	// Section 5.2: reserved bits that are allowed. The ones that are not are counted through below.
	{section: "5.2", name: "an allowed reserved bit is told with the message", side: rfcBoth, in: []rfcPiece{rfcFrame(0xC1, "z")}, want: []rfcEvent{{kind: eventMessage, opcode: OpcodeText, payload: "z", rsv: bitRsv1}}, with: rfcAllow(bitRsv1)},
	{section: "5.2", name: "the reserved bits of a message are those of its first frame", side: rfcBoth, in: []rfcPiece{rfcFrame(0x22, "y"), rfcFrame(0x80, "z")}, want: []rfcEvent{{kind: eventMessage, opcode: OpcodeBin, payload: "yz", rsv: bitRsv2}}, with: rfcAllow(bitRsv2)},
	{section: "5.2", name: "all three reserved bits can be allowed", side: rfcBoth, in: []rfcPiece{rfcFrame(0xF2, "z")}, want: []rfcEvent{{kind: eventMessage, opcode: OpcodeBin, payload: "z", rsv: bitsRsv}}, with: rfcAllow(bitsRsv)},
	{section: "5.2", name: "one allowed bit does not allow another", side: rfcBoth, in: []rfcPiece{rfcTwo(0xE1, 1)}, fails: errReservedBits, code: 1002, with: rfcAllow(bitRsv1)},
	{section: "5.2", name: "a reserved bit on a continuation closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcTwo(0xC0, 1)}, fails: errReservedBits, code: 1002},
	{section: "5.2", name: "a reserved bit on a close closes with 1002", side: rfcBoth, in: []rfcPiece{rfcTwo(0xC8, 2)}, want: rfcBadCloseHeader, fails: errReservedBits, code: 1002},

	// Section 5.2: lengths.
	{section: "5.2", name: "125 bytes in one length byte", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, rfc125)}, want: []rfcEvent{rfcText(rfc125)}},
	{section: "5.2", name: "126 bytes in three length bytes", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, rfc126)}, want: []rfcEvent{rfcText(rfc126)}},
	{section: "5.2", name: "0 in three bytes is not the shortest form", side: rfcBoth, in: []rfcPiece{rfcHead(0x81, 3, 0)}, fails: errLengthForm, code: 1002},
	{section: "5.2", name: "125 in three bytes is not the shortest form", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 3, 125)}, fails: errLengthForm, code: 1002},
	{section: "5.2", name: "125 in nine bytes is not the shortest form", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 9, 125)}, fails: errLengthForm, code: 1002},
	{section: "5.2", name: "126 in nine bytes is not the shortest form", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 9, 126)}, fails: errLengthForm, code: 1002},
	{section: "5.2", name: "65535 in nine bytes is not the shortest form", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 9, 65535)}, fails: errLengthForm, code: 1002},
	{section: "5.2", name: "a continuation's length must be in its shortest form", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, ""), rfcHead(0x80, 3, 5)}, fails: errLengthForm, code: 1002},
	{section: "5.2", name: "the top bit of a length must be clear", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 9, 1<<63)}, fails: errLengthRange, code: 1002},
	{section: "5.2", name: "a length of all ones has its top bit set", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 9, 1<<64-1)}, fails: errLengthRange, code: 1002},
	{section: "5.2", name: "a continuation's length must have its top bit clear", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "a"), rfcHead(0x80, 9, 1<<64-1)}, fails: errLengthRange, code: 1002},

	// Section 5.4: fragments.
	{section: "5.4", name: "an unfragmented text", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "Hello")}, want: []rfcEvent{rfcText("Hello")}},
	{section: "5.4", name: "an unfragmented binary message, not UTF-8", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, "\xff\x00\xfe")}, want: []rfcEvent{rfcBin("\xff\x00\xfe")}},
	{section: "5.4", name: "an empty text", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "")}, want: []rfcEvent{rfcText("")}},
	{section: "5.4", name: "an empty binary message", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, "")}, want: []rfcEvent{rfcBin("")}},
	{section: "5.4", name: "a text in two fragments is joined", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "Hel"), rfcFrame(0x80, "lo")}, want: []rfcEvent{rfcText("Hello")}},
	{section: "5.4", name: "a binary message in four fragments is joined", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "a\xff"), rfcFrame(0x00, "b"), rfcFrame(0x00, ""), rfcFrame(0x80, "c")}, want: []rfcEvent{rfcBin("a\xffbc")}},
	{section: "5.4", name: "fragments may all be empty", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, ""), rfcFrame(0x00, ""), rfcFrame(0x80, "")}, want: []rfcEvent{rfcText("")}},
	{section: "5.4", name: "the first and the last fragment may be empty", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, ""), rfcFrame(0x00, "mid"), rfcFrame(0x80, "")}, want: []rfcEvent{rfcText("mid")}},
	{section: "5.4", name: "one message behind another", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x80, "b"), rfcFrame(0x82, "c"), rfcFrame(0x81, "d")}, want: []rfcEvent{rfcText("ab"), rfcBin("c"), rfcText("d")}},
	{section: "5.4", name: "control frames between fragments come at once", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "Hel"), rfcFrame(0x89, "ping"), rfcFrame(0x00, "l"), rfcFrame(0x8A, rfc125), rfcFrame(0x89, ""), rfcFrame(0x80, "o")}, want: []rfcEvent{rfcPing("ping"), rfcPong(rfc125), rfcPing(""), rfcText("Hello")}},
	{section: "5.4", name: "a close between fragments ends, the message is lost", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "Hel"), rfcClose(1001, "bye")}, want: []rfcEvent{rfcClosed(1001, "bye")}},
	{section: "5.4", name: "a message that has not ended is no message", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "Hel"), rfcFrame(0x00, "lo")}, open: true},
	{section: "5.4", name: "a frame that has not ended is no frame", side: rfcBoth, in: []rfcPiece{rfcCut(0x81, "Hel", 2)}, open: true},
	{section: "5.4", name: "a ping that has not ended is no ping", side: rfcBoth, in: []rfcPiece{rfcCut(0x89, "Hel", 2)}, open: true},
	{section: "5.4", name: "a header that has not ended is no header", side: rfcBoth, in: []rfcPiece{rfcBytes(0x81)}, open: true},
	{section: "5.4", name: "a continuation without a start closes with 1002", side: rfcBoth, in: []rfcPiece{rfcTwo(0x80, 5)}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "an unfinished continuation without a start closes with 1002", side: rfcBoth, in: []rfcPiece{rfcTwo(0x00, 5)}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "a continuation behind a whole message closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "a"), rfcTwo(0x80, 1)}, want: []rfcEvent{rfcText("a")}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "a continuation behind a fragmented message closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "a"), rfcFrame(0x80, "b"), rfcTwo(0x00, 1)}, want: []rfcEvent{rfcBin("ab")}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "a continuation behind a ping alone closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, "a"), rfcTwo(0x80, 1)}, want: []rfcEvent{rfcPing("a")}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "a text inside a fragmented text closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcTwo(0x81, 1)}, fails: errInterleaved, code: 1002},
	{section: "5.4", name: "a binary frame inside a fragmented text closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x00, "b"), rfcTwo(0x02, 1)}, fails: errInterleaved, code: 1002},
	{section: "5.4", name: "a text inside an empty started message closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, ""), rfcTwo(0x81, 0)}, fails: errInterleaved, code: 1002},
	{section: "5.4", name: "a ping does not end a fragmented message", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x89, ""), rfcTwo(0x81, 1)}, want: []rfcEvent{rfcPing("")}, fails: errInterleaved, code: 1002},

	// Section 5.5: control frames. Fragmented and over-long ones are counted through below.
	{section: "5.5.2", name: "a ping comes with its body", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, "\xffbody\x00")}, want: []rfcEvent{rfcPing("\xffbody\x00")}},
	{section: "5.5.2", name: "an empty ping", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, "")}, want: []rfcEvent{rfcPing("")}},
	{section: "5.5.2", name: "a ping of 125 bytes", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, rfc125)}, want: []rfcEvent{rfcPing(rfc125)}},
	{section: "5.5.3", name: "a pong that nobody asked for", side: rfcBoth, in: []rfcPiece{rfcFrame(0x8A, "x")}, want: []rfcEvent{rfcPong("x")}},
	{section: "5.5", name: "several control frames come in their order", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, "1"), rfcFrame(0x89, "2"), rfcFrame(0x8A, "3"), rfcFrame(0x89, "4")}, want: []rfcEvent{rfcPing("1"), rfcPing("2"), rfcPong("3"), rfcPing("4")}},
	{section: "5.5", name: "a control frame longer than a message may be", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, rfc125)}, want: []rfcEvent{rfcPing(rfc125)}, with: func(p *protocol) { p.maxMessage = 1 }},
	{section: "5.5", name: "control frames do not count as fragments", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x89, ""), rfcFrame(0x8A, ""), rfcFrame(0x89, ""), rfcFrame(0x80, "b")}, want: []rfcEvent{rfcPing(""), rfcPong(""), rfcPing(""), rfcText("ab")}, with: func(p *protocol) { p.maxFragments = 2 }},

	{section: "5.5", name: "a control frame with a short length in three bytes closes with 1002", side: rfcServer, in: []rfcPiece{rfcBytes(0x89, 0xFE, 0, 5)}, fails: errControlLength, code: 1002, after: 2},
	{section: "5.5", name: "a control frame with a short length in three bytes closes with 1002", side: rfcClient, in: []rfcPiece{rfcBytes(0x89, 0x7E, 0, 5)}, fails: errControlLength, code: 1002, after: 2},
	{section: "5.5", name: "a whole control frame with a short length in three bytes closes with 1002", side: rfcServer, in: []rfcPiece{rfcBytes(0x8A, 0xFE, 0, 1, 0, 0, 0, 0, 'x')}, fails: errControlLength, code: 1002, after: 7},
	{section: "5.5", name: "a whole control frame with no length in nine bytes closes with 1002", side: rfcClient, in: []rfcPiece{rfcBytes(0x8A, 0x7F, 0, 0, 0, 0, 0, 0, 0, 0)}, fails: errControlLength, code: 1002, after: 8},

	// Sections 5.5.1 and 7: Close.
	{section: "5.5.1", name: "an empty close has no code", side: rfcBoth, in: []rfcPiece{rfcFrame(0x88, "")}, want: []rfcEvent{rfcClosed(0, "")}},
	{section: "5.5.1", name: "a close with a code", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "")}, want: []rfcEvent{rfcClosed(1000, "")}},
	{section: "5.5.1", name: "a close with a code and a reason", side: rfcBoth, in: []rfcPiece{rfcClose(1001, "going é")}, want: []rfcEvent{rfcClosed(1001, "going é")}},
	{section: "5.5.1", name: "a close with the longest reason", side: rfcBoth, in: []rfcPiece{rfcClose(4999, rfc125[:123])}, want: []rfcEvent{rfcClosed(4999, rfc125[:123])}},
	{section: "5.5.1", name: "a close with one byte is answered with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x88, "\x03")}, want: rfcBadClose, fails: errCloseShort, code: 1002},
	{section: "5.5.1", name: "a reason that is not UTF-8 is answered with 1002", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "\xce\xba\xff")}, want: rfcBadClose, fails: errCloseReason, code: 1002},
	{section: "5.5.1", name: "a reason with a surrogate is answered with 1002", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "\xed\xa0\x80")}, want: rfcBadClose, fails: errCloseReason, code: 1002},
	{section: "5.5.1", name: "a reason that ends inside a character is answered with 1002", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "ok \xf0\x9f\x98")}, want: rfcBadClose, fails: errCloseReason, code: 1002},
	{section: "5.5.1", name: "data behind a close is discarded", side: rfcBoth, in: []rfcPiece{rfcClose(1000, ""), rfcFrame(0x81, "late"), rfcFrame(0x89, "late"), rfcClose(1001, "")}, want: []rfcEvent{rfcClosed(1000, "")}},
	{section: "5.5.1", name: "nonsense behind a close is discarded", side: rfcBoth, in: []rfcPiece{rfcFrame(0x88, ""), rfcBytes(0xFF, 0xFF, 0xFF, 0xFF, 0xFF)}, want: []rfcEvent{rfcClosed(0, "")}},
	{section: "7.1.7", name: "data behind a breach is discarded", side: rfcBoth, in: []rfcPiece{rfcTwo(0x83, 0), rfcBytes(0x81, 0, 0x89, 0, 0x88, 0)}, fails: errReservedOpcode, code: 1002, after: 6},

	// Section 8.1: text is UTF-8. Sequences that are wrong are counted through below.
	{section: "8.1", name: "characters of every length", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "\x00a\x7f\u0080é\u07ff\u0800€\ud7ff\ue000\uffff\U00010000😀\U0010ffff")}, want: []rfcEvent{rfcText("\x00a\x7f\u0080é\u07ff\u0800€\ud7ff\ue000\uffff\U00010000😀\U0010ffff")}},
	{section: "8.1", name: "a character split over two fragments", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a\xe2\x82"), rfcFrame(0x80, "\xacb")}, want: []rfcEvent{rfcText("a€b")}},
	{section: "8.1", name: "a character split over four fragments with a ping inside", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "\xf0"), rfcFrame(0x00, "\x9f"), rfcFrame(0x89, "\xf0"), rfcFrame(0x00, "\x98"), rfcFrame(0x00, ""), rfcFrame(0x80, "\x80")}, want: []rfcEvent{rfcPing("\xf0"), rfcText("😀")}},
	{section: "8.1", name: "a text that ends inside a character closes with 1007", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "ab\xe2\x82")}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a text that ends behind the first byte of a character closes with 1007", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "\xf0")}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a fragmented text that ends inside a character closes with 1007", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "ab\xf0\x9f"), rfcFrame(0x80, "\x98")}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a fragmented text whose empty last frame leaves a character open closes with 1007", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "ab\xf0\x9f"), rfcFrame(0x80, "")}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a fragment that ends inside a character waits for the next", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "ab\xf0\x9f\x98")}, open: true},
	{section: "8.1", name: "the next fragment has to go on with the character", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "\xe2\x82"), rfcCut(0x00, "a", 3)}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a wrong byte fails inside an unfinished frame", side: rfcBoth, in: []rfcPiece{rfcCut(0x81, "abc\xff", 90)}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a wrong byte fails inside an unfinished fragment", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "abc"), rfcCut(0x00, "d\xc0", 90)}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a wrong byte fails before the rest of its frame", side: rfcBoth, in: []rfcPiece{rfcCut(0x01, "a\xed\xa0"+rfc125, 5)}, fails: errNotUTF8, code: 1007, after: 125},
	{section: "8.1", name: "binary fragments need not be UTF-8", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "\xff"), rfcFrame(0x80, "\xc0")}, want: []rfcEvent{rfcBin("\xff\xc0")}},
	{section: "8.1", name: "a binary message behind a text is not checked", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x80, "b"), rfcFrame(0x02, "\xff"), rfcFrame(0x80, "\xff")}, want: []rfcEvent{rfcText("ab"), rfcBin("\xff\xff")}},

	// Section 10.4: limits.
	{section: "10.4", name: "a message one below the limit", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, rfc200[1:])}, want: []rfcEvent{rfcBin(rfc200[1:])}},
	{section: "10.4", name: "a message at the limit", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, rfc200)}, want: []rfcEvent{rfcBin(rfc200)}},
	{section: "10.4", name: "a message over the limit closes with 1009 from its header alone", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 3, rfcMaxMessage+1)}, fails: errMessageTooLarge, code: 1009},
	{section: "10.4", name: "the largest length closes with 1009 from its header alone", side: rfcBoth, in: []rfcPiece{rfcHead(0x81, 9, 1<<63-1)}, fails: errMessageTooLarge, code: 1009},
	{section: "10.4", name: "fragments at the limit", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, rfc200[:100]), rfcFrame(0x00, rfc200[:99]), rfcFrame(0x80, "x")}, want: []rfcEvent{rfcBin(rfc200[:199] + "x")}},
	{section: "10.4", name: "fragments one over the limit close with 1009 from the last header", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, rfc200[:100]), rfcFrame(0x00, rfc200[:99]), rfcHead(0x80, 1, 2)}, fails: errMessageTooLarge, code: 1009},
	{section: "10.4", name: "a sum of lengths that overflows closes with 1009", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "a"), rfcHead(0x80, 9, 1<<63-1)}, fails: errMessageTooLarge, code: 1009},
	{section: "10.4", name: "an empty fragment behind a full message is within the limit", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, rfc200), rfcFrame(0x80, "")}, want: []rfcEvent{rfcBin(rfc200)}},
	{section: "10.4", name: "the limit counts for each message anew", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, rfc200), rfcFrame(0x80, ""), rfcFrame(0x01, rfc125), rfcFrame(0x80, "x")}, want: []rfcEvent{rfcBin(rfc200), rfcText(rfc125 + "x")}},
	{section: "10.4", name: "a limit of 1 takes 1 byte", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, "x")}, want: []rfcEvent{rfcBin("x")}, with: func(p *protocol) { p.maxMessage = 1 }},
	{section: "10.4", name: "a limit of 1 refuses 2 bytes", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 1, 2)}, fails: errMessageTooLarge, code: 1009, with: func(p *protocol) { p.maxMessage = 1 }},
	{section: "10.4", name: "one fragment below the limit of fragments", side: rfcBoth, in: rfcFragments(rfcMaxFragments-1, true), want: []rfcEvent{rfcText(strings.Repeat("f", rfcMaxFragments-1))}},
	{section: "10.4", name: "as many fragments as the limit", side: rfcBoth, in: rfcFragments(rfcMaxFragments, true), want: []rfcEvent{rfcText(strings.Repeat("f", rfcMaxFragments))}},
	{section: "10.4", name: "one fragment over the limit closes with 1009", side: rfcBoth, in: append(rfcFragments(rfcMaxFragments, false), rfcTwo(0x80, 1)), fails: errTooManyFragments, code: 1009},
	{section: "10.4", name: "empty fragments count", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, ""), rfcFrame(0x00, ""), rfcTwo(0x80, 0)}, fails: errTooManyFragments, code: 1009, with: func(p *protocol) { p.maxFragments = 2 }},
	{section: "10.4", name: "a limit of one fragment takes unfragmented messages", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "a"), rfcFrame(0x81, "b")}, want: []rfcEvent{rfcText("a"), rfcText("b")}, with: func(p *protocol) { p.maxFragments = 1 }},
	{section: "10.4", name: "fragments count for each message anew", side: rfcBoth, in: append(rfcFragments(rfcMaxFragments, true), rfcFragments(rfcMaxFragments, true)...), want: []rfcEvent{rfcText(strings.Repeat("f", rfcMaxFragments)), rfcText(strings.Repeat("f", rfcMaxFragments))}},
}

// rfcFragments is a text of n fragments, one byte each.
func rfcFragments(n int, ended bool) (in []rfcPiece) {
	for i := range n {
		first := byte(0x00)
		if i == 0 {
			first = 0x01
		}
		if ended && i == n-1 {
			first |= bitFin
		}
		in = append(in, rfcFrame(first, "f"))
	}
	return in
}

// rfcTable is all rows.
func rfcTable() []rfcCase {
	table := append([]rfcCase{}, rfcCases...)
	add := func(c rfcCase) {
		c.side = rfcBoth
		table = append(table, c)
	}
	for bits := byte(1); bits < 8; bits++ {
		for _, opcode := range []byte{0x1, 0x2, 0x9, 0xA} {
			add(rfcCase{section: "5.2", name: fmt.Sprintf("reserved bits %03b on opcode %#x close with 1002", bits, opcode),
				in: []rfcPiece{rfcTwo(0x80|bits<<4|opcode, 1)}, fails: errReservedBits, code: 1002})
		}
	}
	for opcode := byte(0x3); opcode <= 0x7; opcode++ {
		for _, fin := range []byte{0, bitFin} {
			add(rfcCase{section: "5.2", name: fmt.Sprintf("reserved data opcode %#x closes with 1002, final bit %#x", opcode, fin),
				in: []rfcPiece{rfcTwo(fin|opcode, 1)}, fails: errReservedOpcode, code: 1002})
		}
		add(rfcCase{section: "5.2", name: fmt.Sprintf("a handler of reserved control frames does not allow data opcode %#x", opcode),
			in: []rfcPiece{rfcTwo(0x80|opcode, 0)}, fails: errReservedOpcode, code: 1002, with: rfcReserved})
		add(rfcCase{section: "5.2", name: fmt.Sprintf("reserved data opcode %#x inside a fragmented message closes with 1002", opcode),
			in: []rfcPiece{rfcFrame(0x01, "a"), rfcTwo(0x80|opcode, 0)}, fails: errReservedOpcode, code: 1002})
	}
	for opcode := byte(0xB); opcode <= 0xF; opcode++ {
		event := rfcEvent{kind: eventControl, opcode: Opcode(opcode), payload: "body\xff"}
		add(rfcCase{section: "5.2", name: fmt.Sprintf("reserved control opcode %#x closes with 1002", opcode),
			in: []rfcPiece{rfcTwo(0x80|opcode, 0)}, fails: errReservedOpcode, code: 1002})
		add(rfcCase{section: "5.2", name: fmt.Sprintf("reserved control opcode %#x comes as an event where it is wanted", opcode),
			in: []rfcPiece{rfcFrame(0x80|opcode, "body\xff")}, want: []rfcEvent{event}, with: rfcReserved})
		add(rfcCase{section: "5.4", name: fmt.Sprintf("reserved control opcode %#x may come between fragments", opcode),
			in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x80|opcode, "body\xff"), rfcFrame(0x80, "b")}, want: []rfcEvent{event, rfcText("ab")}, with: rfcReserved})
	}
	for _, opcode := range []byte{0x8, 0x9, 0xA, 0xB, 0xF} {
		var want []rfcEvent
		if opcode == byte(OpcodeClose) {
			want = rfcBadCloseHeader
		}
		add(rfcCase{section: "5.5", name: fmt.Sprintf("a fragmented control frame %#x closes with 1002", opcode),
			in: []rfcPiece{rfcTwo(opcode, 0)}, want: want, fails: errControlFragment, code: 1002, with: rfcReserved})
		add(rfcCase{section: "5.5", name: fmt.Sprintf("a fragmented control frame %#x between fragments closes with 1002", opcode),
			in: []rfcPiece{rfcFrame(0x01, "a"), rfcTwo(opcode, 3)}, want: want, fails: errControlFragment, code: 1002, with: rfcReserved})
		for _, length := range []byte{length16, length64} {
			add(rfcCase{section: "5.5", name: fmt.Sprintf("a control frame %#x over 125 bytes closes with 1002, length %d", opcode, length),
				in: []rfcPiece{rfcTwo(0x80|opcode, length)}, want: want, fails: errControlLength, code: 1002, with: rfcReserved})
		}
	}
	for _, code := range []uint16{0, 1, 100, 998, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1999, 2000, 2500, 2998, 2999, 5000, 5001, 9999, 65535} {
		add(rfcCase{section: "7.4", name: fmt.Sprintf("close code %d must not be on the wire", code),
			in: []rfcPiece{rfcClose(code, "why")}, want: rfcBadClose, fails: errCloseCode, code: 1002})
	}
	for _, code := range []CloseCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		add(rfcCase{section: "7.4", name: fmt.Sprintf("close code %d is taken", code),
			in: []rfcPiece{rfcClose(uint16(code), "why")}, want: []rfcEvent{rfcClosed(code, "why")}})
	}
	for name, wrong := range map[string]string{
		"a continuation byte alone":                "\x80",
		"the last continuation byte alone":         "\xbf",
		"an overlong form of two bytes, C0":        "\xc0",
		"an overlong form of two bytes, C1":        "\xc1",
		"an overlong form of three bytes":          "\xe0\x9f",
		"an overlong form of four bytes":           "\xf0\x8f",
		"the first surrogate":                      "\xed\xa0",
		"the last surrogate":                       "\xed\xbf",
		"a character behind U+10FFFF":              "\xf4\x90",
		"a first byte that nothing begins with":    "\xf5",
		"a first byte of five":                     "\xf8",
		"byte FE":                                  "\xfe",
		"byte FF":                                  "\xff",
		"two bytes of which the second is a start": "\xc3\xc3",
		"two bytes of which the second is ASCII":   "\xc3a",
		"three bytes cut short by ASCII":           "\xe2\x82a",
		"four bytes cut short by ASCII":            "\xf0\x9f\x98a",
		"four bytes cut short by a start":          "\xf0\x9f\xc3",
		"one continuation too many":                "é\x80",
	} {
		for _, lead := range []string{"", "κόσμε"} {
			text := lead + wrong
			name := fmt.Sprintf("%s fails at once, behind %q", name, lead)
			add(rfcCase{section: "8.1", name: name + ", in a whole frame",
				in: []rfcPiece{rfcFrame(0x81, text+"tail")}, fails: errNotUTF8, code: 1007, after: 4})
			add(rfcCase{section: "8.1", name: name + ", in an unfinished fragment",
				in: []rfcPiece{rfcCut(0x01, text, 50)}, fails: errNotUTF8, code: 1007})
			add(rfcCase{section: "8.1", name: name + ", split over fragments",
				in:    []rfcPiece{rfcFrame(0x01, text[:len(text)-1]), rfcFrame(0x89, ""), rfcCut(0x00, text[len(text)-1:], 1)},
				want:  []rfcEvent{rfcPing("")},
				fails: errNotUTF8, code: 1007})
			if len(wrong) == 1 {
				table = table[:len(table)-1]
				add(rfcCase{section: "8.1", name: name + ", in a later fragment",
					in: []rfcPiece{rfcFrame(0x01, lead), rfcCut(0x00, wrong, 1)}, fails: errNotUTF8, code: 1007})
			}
		}
	}
	return table
}

// rfcReader drives an endpoint as the loop and the client do, and looks after its memory.
type rfcReader struct {
	t      testing.TB
	ep     endpoint
	p      *protocol
	events []rfcEvent
	err    *protocolError
	fed    int // bytes given, and how many of them until the error
	failed int
}

// feed gives the endpoint the bytes of one read.
func (r *rfcReader) feed(b []byte) {
	b = bytes.Clone(b) // it unmasks in place
	r.fed += len(b)
	for len(b) > 0 {
		ev, n, err := r.ep.next(r.p, b)
		if ev.kind != eventNone {
			r.events = append(r.events, rfcEvent{ev.kind, ev.head.opcode, string(ev.payload), ev.code, ev.head.rsv})
			if ev.kind == eventMessage && cap(ev.payload) > 2*len(ev.payload) {
				r.t.Fatalf("a payload of %d bytes holds %d", len(ev.payload), cap(ev.payload))
			}
		}
		r.checkMemory()
		if err != nil {
			if r.err != nil {
				r.t.Fatalf("a second error: %v", err)
			}
			if r.err, r.failed = err, r.fed; !r.ep.ended {
				r.t.Fatal("the endpoint goes on behind an error")
			}
			if _, n, err = r.ep.next(r.p, b); err != nil || n != len(b) {
				r.t.Fatal("what follows an error is not discarded")
			}
		}
		if n == 0 && err == nil || n > len(b) {
			r.t.Fatalf("%d of %d bytes were taken", n, len(b))
		}
		if ev.kind == eventNone && r.err == nil && n != len(b) {
			r.t.Fatal("bytes are left without an event")
		}
		b = b[n:]
	}
}

// checkMemory holds the endpoint to what it may keep: nothing between messages, and at most twice what has arrived.
func (r *rfcReader) checkMemory() {
	part := r.ep.partial
	if part == nil {
		return
	}
	if r.ep.ended {
		r.t.Fatal("an endpoint that has ended holds memory")
	}
	if part.startLen == 0 && !part.inFrame && !part.inMessage {
		r.t.Fatal("an endpoint between messages holds memory")
	}
	if len(part.message) > r.fed || cap(part.message) > roundSize(2*len(part.message)) {
		r.t.Fatalf("%d bytes have arrived, the message holds %d of %d", r.fed, len(part.message), cap(part.message))
	}
	if uint64(len(part.message)) > r.p.maxMessage || part.fragments > r.p.maxFragments {
		r.t.Fatalf("a message of %d bytes in %d fragments is over the limit", len(part.message), part.fragments)
	}
}

// rfcRead reads an input in pieces.
func rfcRead(t testing.TB, p *protocol, pieces ...[]byte) *rfcReader {
	r := &rfcReader{t: t, p: p}
	for _, piece := range pieces {
		r.feed(piece)
	}
	return r
}

// rfcEach is an input as pieces of n bytes.
func rfcEach(in []byte, n int) (pieces [][]byte) {
	for len(in) > n {
		pieces, in = append(pieces, in[:n]), in[n:]
	}
	return append(pieces, in)
}

func TestRFC6455(t *testing.T) {
	runs, rows := 0, 0
	for _, row := range rfcTable() {
		for _, side := range []rfcSide{rfcServer, rfcClient} {
			if row.side != rfcBoth && row.side != side {
				continue
			}
			rows++
			t.Run(fmt.Sprintf("%s: %s, at the %s", row.section, row.name, side), func(t *testing.T) {
				runs += rfcRun(t, row, side)
			})
		}
	}
	t.Logf("%d rows, %d runs", rows, runs)
}

// rfcRun runs a row in every way and returns in how many.
func rfcRun(t *testing.T, row rfcCase, side rfcSide) (runs int) {
	p := &protocol{maxMessage: rfcMaxMessage, maxFragments: rfcMaxFragments, fromClient: side == rfcServer}
	if row.with != nil {
		row.with(p)
	}
	var in []byte
	for _, piece := range row.in {
		in = append(in, piece(side == rfcServer)...)
	}
	if row.fails == nil && row.code != 0 { // a wrong mask at either side
		row.fails = errNotMasked
		if side == rfcClient {
			row.fails = errMasked
		}
	}
	check := func(r *rfcReader, want []rfcEvent, how string, args ...any) {
		runs++
		how = fmt.Sprintf(how, args...)
		require.Equal(t, want, r.events, how)
		require.Same(t, row.fails, r.err, how)
	}

	check(rfcRead(t, p, in), row.want, "whole")
	if row.fails != nil {
		require.Equal(t, row.code, row.fails.code)
	}
	byByte := rfcRead(t, p, rfcEach(in, 1)...)
	check(byByte, row.want, "byte by byte")
	if row.fails != nil {
		assert.Equal(t, len(in)-row.after, byByte.failed, "it fails with the first byte that shows the breach")
	}
	for cut := 1; cut < len(in); cut++ {
		check(rfcRead(t, p, in[:cut], in[cut:]), row.want, "cut at %d", cut)
	}

	ended := byByte.ep.ended
	assert.Equal(t, row.open, byByte.ep.partial != nil, "memory is held only inside a frame or a message")
	switch {
	case row.open:
	case ended:
		late := append(bytes.Clone(in), rfcFrame(0x81, "late")(p.fromClient)...)
		check(rfcRead(t, p, late), row.want, "with more behind it")
		check(rfcRead(t, p, in, late), row.want, "with more in another read")
	default:
		twice := append(bytes.Clone(in), in...)
		want := append(append([]rfcEvent{}, row.want...), row.want...)
		check(rfcRead(t, p, twice), want, "twice in one read")
		for cut := 1; cut < len(twice); cut++ {
			check(rfcRead(t, p, twice[:cut], twice[cut:]), want, "twice, cut at %d", cut)
		}
	}
	return runs
}
