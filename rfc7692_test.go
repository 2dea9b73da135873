package websocket

import (
	"fmt"
	"strings"
	"testing"
)

// The table of RFC 7692, section 6, for a receiver: which frames may have RSV1, and what that says of their message. It has the rows of
// rfc6455_test.go, and runs them without I/O for every place where the input can be cut. Clauses that no row here shows:
//
//	5, 7.1    the negotiation: extension_test.go
//	6.1       that the first frame of a compressed message that goes out has RSV1, and no other: TestPackedHead, tests/client
//	7.2.1, 7.2.2  compressing and inflating: deflation_test.go

// rfcPacked is "Hello" as section 7.2.3.1 compresses it. It is not UTF-8.
const rfcPacked = "\xf2\x48\xcd\xc9\xc9\x07\x00"

func rfcDeflates(p *rules) { p.deflates = true }

// rfcDeflatesAnd is rfcDeflates with more.
func rfcDeflatesAnd(more func(*rules)) func(*rules) {
	return func(p *rules) {
		p.deflates = true
		more(p)
	}
}

// rfcPackedText and rfcPackedBin are the events of messages that are to be inflated.
func rfcPackedText(payload string) rfcEvent {
	return rfcEvent{kind: eventMessage, opcode: OpcodeText, payload: payload, rsv: bitRsv1}
}

func rfcPackedBin(payload string) rfcEvent {
	return rfcEvent{kind: eventMessage, opcode: OpcodeBin, payload: payload, rsv: bitRsv1}
}

var rfcPacking = []rfcCase{
	{section: "6", name: "RSV1 on a text frame says that the message is compressed", in: []rfcPiece{rfcFrame(0xC1, rfcPacked)}, want: []rfcEvent{rfcPackedText(rfcPacked)}},
	{section: "6", name: "RSV1 on a binary frame says that the message is compressed", in: []rfcPiece{rfcFrame(0xC2, rfcPacked)}, want: []rfcEvent{rfcPackedBin(rfcPacked)}},
	{section: "6", name: "a message without RSV1 is not compressed", in: []rfcPiece{rfcFrame(0x81, "Hello"), rfcFrame(0x82, rfcPacked)}, want: []rfcEvent{rfcText("Hello"), rfcBin(rfcPacked)}},
	{section: "6", name: "each message says it for itself", in: []rfcPiece{rfcFrame(0xC1, rfcPacked), rfcFrame(0x81, "Hello"), rfcFrame(0xC2, rfcPacked), rfcFrame(0x82, "x")}, want: []rfcEvent{rfcPackedText(rfcPacked), rfcText("Hello"), rfcPackedBin(rfcPacked), rfcBin("x")}},
	{section: "6.2", name: "the first of two fragments has RSV1", in: []rfcPiece{rfcFrame(0x41, rfcPacked[:3]), rfcFrame(0x80, rfcPacked[3:])}, want: []rfcEvent{rfcPackedText(rfcPacked)}},
	{section: "6.2", name: "the first of four fragments has RSV1", in: []rfcPiece{rfcFrame(0x42, rfcPacked[:1]), rfcFrame(0x00, rfcPacked[1:3]), rfcFrame(0x00, ""), rfcFrame(0x80, rfcPacked[3:])}, want: []rfcEvent{rfcPackedBin(rfcPacked)}},
	{section: "6.2", name: "an empty first fragment has RSV1", in: []rfcPiece{rfcFrame(0x41, ""), rfcFrame(0x80, rfcPacked)}, want: []rfcEvent{rfcPackedText(rfcPacked)}},
	{section: "6.2", name: "a compressed message without a byte", in: []rfcPiece{rfcFrame(0xC1, ""), rfcFrame(0x42, ""), rfcFrame(0x80, "")}, want: []rfcEvent{rfcPackedText(""), rfcPackedBin("")}},
	{section: "6.2", name: "control frames between compressed fragments are their own", in: []rfcPiece{rfcFrame(0x41, rfcPacked[:3]), rfcFrame(0x89, "\xf2"), rfcFrame(0x8A, ""), rfcFrame(0x80, rfcPacked[3:])}, want: []rfcEvent{rfcPing("\xf2"), rfcPong(""), rfcPackedText(rfcPacked)}},
	{section: "6.2", name: "a close between compressed fragments ends, the message is lost", in: []rfcPiece{rfcFrame(0x41, rfcPacked[:3]), rfcClose(1001, "bye")}, want: []rfcEvent{rfcClosed(1001, "bye")}},
	{section: "6.2", name: "a compressed message that has not ended is no message", in: []rfcPiece{rfcFrame(0x41, "\xf2")}, open: true, rest: []rfcPiece{rfcFrame(0x80, "\x00")}, then: []rfcEvent{rfcPackedText("\xf2\x00")}},
	{section: "6.2", name: "a compressed frame that has not ended is no frame", in: []rfcPiece{rfcCut(0xC1, "\xf2", 2)}, open: true, rest: []rfcPiece{rfcMore(0xC1, "\xf2", 2)}, then: []rfcEvent{rfcPackedText("\xf2xx")}},

	// Which text is UTF-8 is seen once it is inflated, and of plain text immediately.
	{section: "6.2", name: "fragments of a compressed text need not be UTF-8", in: []rfcPiece{rfcFrame(0x41, "\xff\xfe"), rfcFrame(0x00, "\xc0"), rfcFrame(0x80, "\xe2\x82")}, want: []rfcEvent{rfcPackedText("\xff\xfe\xc0\xe2\x82")}},
	{section: "6.2", name: "a plain text behind a compressed one has to be UTF-8", in: []rfcPiece{rfcFrame(0xC1, "\xff"), rfcFrame(0x81, "\xff")}, want: []rfcEvent{rfcPackedText("\xff")}, fails: errNotUTF8, code: 1007},
	{section: "6.2", name: "plain fragments behind compressed ones have to be UTF-8", in: []rfcPiece{rfcFrame(0x41, "\xff"), rfcFrame(0x80, "\xff"), rfcFrame(0x01, "a"), rfcCut(0x80, "\xff", 9)}, want: []rfcEvent{rfcPackedText("\xff\xff")}, fails: errNotUTF8, code: 1007},
	{section: "6.2", name: "compressed fragments behind plain ones need not be UTF-8", in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x80, "é"), rfcFrame(0x41, "\xff"), rfcFrame(0x80, "\xff")}, want: []rfcEvent{rfcText("aé"), rfcPackedText("\xff\xff")}},

	// RSV1 where it must not be.
	{section: "6.1", name: "RSV1 on the last continuation closes with 1002", in: []rfcPiece{rfcFrame(0x41, "a"), rfcTwo(0xC0, 1)}, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "RSV1 on another continuation closes with 1002", in: []rfcPiece{rfcFrame(0x41, "a"), rfcFrame(0x00, "b"), rfcTwo(0x40, 1)}, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "RSV1 on a continuation of a plain message closes with 1002", in: []rfcPiece{rfcFrame(0x01, "a"), rfcTwo(0xC0, 1)}, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "RSV1 on a continuation without a start closes with 1002", in: []rfcPiece{rfcTwo(0xC0, 1)}, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "RSV1 on a ping closes with 1002", in: []rfcPiece{rfcTwo(0xC9, 1)}, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "RSV1 on a pong closes with 1002", in: []rfcPiece{rfcTwo(0xCA, 0)}, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "RSV1 on a close closes with 1002", in: []rfcPiece{rfcTwo(0xC8, 2)}, want: rfcBadCloseHeader, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "RSV1 on a ping between compressed fragments closes with 1002", in: []rfcPiece{rfcFrame(0x41, "a"), rfcTwo(0xC9, 0)}, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "RSV1 on a reserved control frame closes with 1002", in: []rfcPiece{rfcTwo(0xCB, 0)}, fails: errReservedBits, code: 1002, with: rfcDeflatesAnd(rfcReserved)},
	{section: "6.1", name: "RSV1 on a reserved data frame closes with 1002", in: []rfcPiece{rfcTwo(0xC3, 0)}, fails: errReservedBits, code: 1002},
	{section: "6.1", name: "a compressed text inside a compressed text closes with 1002", in: []rfcPiece{rfcFrame(0x41, "a"), rfcTwo(0xC1, 1)}, fails: errInterleaved, code: 1002},
	{section: "6.1", name: "a continuation behind a compressed message closes with 1002", in: []rfcPiece{rfcFrame(0xC1, "a"), rfcTwo(0x80, 1)}, want: []rfcEvent{rfcPackedText("a")}, fails: errNoStart, code: 1002},
	{section: "5.1", name: "RSV1 closes with 1002 if compression was not agreed on", in: []rfcPiece{rfcTwo(0xC1, 7)}, fails: errReservedBits, code: 1002, with: rfcAllow(0)},
	{section: "5.1", name: "RSV1 on a first fragment closes with 1002 if compression was not agreed on", in: []rfcPiece{rfcTwo(0x42, 7)}, fails: errReservedBits, code: 1002, with: rfcAllow(0)},

	// Beside bits that are allowed for something else.
	{section: "6", name: "RSV2 beside RSV1 closes with 1002", in: []rfcPiece{rfcTwo(0xE1, 1)}, fails: errReservedBits, code: 1002},
	{section: "6", name: "RSV3 alone closes with 1002", in: []rfcPiece{rfcTwo(0x91, 1)}, fails: errReservedBits, code: 1002},
	{section: "6", name: "RSV2 that is allowed is told beside RSV1", in: []rfcPiece{rfcFrame(0xE1, "\xff"), rfcFrame(0xA2, "x")}, want: []rfcEvent{{kind: eventMessage, opcode: OpcodeText, payload: "\xff", rsv: bitRsv1 | bitRsv2}, {kind: eventMessage, opcode: OpcodeBin, payload: "x", rsv: bitRsv2}}, with: rfcDeflatesAnd(rfcAllow(bitRsv2))},
	{section: "6", name: "RSV2 that is allowed does not make a text a compressed one", in: []rfcPiece{rfcFrame(0xA1, "\xff")}, fails: errNotUTF8, code: 1007, with: rfcDeflatesAnd(rfcAllow(bitRsv2))},
	{section: "6", name: "RSV2 that is allowed may be on a ping and a continuation", in: []rfcPiece{rfcFrame(0x41, "a"), rfcFrame(0xA9, ""), rfcFrame(0xA0, "b")}, want: []rfcEvent{{kind: eventPing, opcode: OpcodePing, rsv: bitRsv2}, rfcPackedText("ab")}, with: rfcDeflatesAnd(rfcAllow(bitRsv2))},
	{section: "6", name: "RSV1 that was allowed too says compressed on a first frame", in: []rfcPiece{rfcFrame(0xC1, "\xff")}, want: []rfcEvent{rfcPackedText("\xff")}, with: rfcDeflatesAnd(rfcAllow(bitsRsv))},
	{section: "6", name: "RSV1 that was allowed too is refused on a continuation", in: []rfcPiece{rfcFrame(0x41, "a"), rfcTwo(0xC0, 1)}, fails: errReservedBits, code: 1002, with: rfcDeflatesAnd(rfcAllow(bitsRsv))},
	{section: "6", name: "RSV1 that was allowed too is refused on a ping", in: []rfcPiece{rfcTwo(0xC9, 0)}, fails: errReservedBits, code: 1002, with: rfcDeflatesAnd(rfcAllow(bitsRsv))},
	{section: "5.1", name: "RSV1 that is allowed without compression says nothing of text", in: []rfcPiece{rfcFrame(0xC1, "\xff")}, fails: errNotUTF8, code: 1007, with: rfcAllow(bitRsv1)},
	{section: "5.1", name: "RSV1 that is allowed without compression may be on any frame", in: []rfcPiece{rfcFrame(0x41, "a"), rfcFrame(0xC9, ""), rfcFrame(0xC0, "b")}, want: []rfcEvent{{kind: eventPing, opcode: OpcodePing, rsv: bitRsv1}, rfcPackedText("ab")}, with: rfcAllow(bitRsv1)},

	// The limit for what comes compressed: a message that is at the limit may have got longer. Here that is 200 + 25 + 64 bytes.
	{section: "RFC 6455, 10.4", name: "a compressed message at its limit", in: []rfcPiece{rfcFrame(0xC2, rfcPackedMost)}, want: []rfcEvent{rfcPackedBin(rfcPackedMost)}},
	{section: "RFC 6455, 10.4", name: "a compressed text at its limit", in: []rfcPiece{rfcFrame(0xC1, rfcPackedMost)}, want: []rfcEvent{rfcPackedText(rfcPackedMost)}},
	{section: "RFC 6455, 10.4", name: "a compressed message over its limit closes with 1009 from its header alone", in: []rfcPiece{rfcHead(0xC2, 3, 290)}, fails: errMessageTooLarge, code: 1009},
	{section: "RFC 6455, 10.4", name: "a first fragment over its limit closes with 1009 from its header alone", in: []rfcPiece{rfcHead(0x41, 3, 290)}, fails: errMessageTooLarge, code: 1009},
	{section: "RFC 6455, 10.4", name: "compressed fragments at their limit", in: []rfcPiece{rfcFrame(0x42, rfcPackedMost[:201]), rfcFrame(0x00, rfcPackedMost[201:288]), rfcFrame(0x80, "m")}, want: []rfcEvent{rfcPackedBin(rfcPackedMost)}},
	{section: "RFC 6455, 10.4", name: "compressed fragments one over their limit close with 1009 from the last header", in: []rfcPiece{rfcFrame(0x42, rfcPackedMost[:201]), rfcFrame(0x00, rfcPackedMost[201:288]), rfcHead(0x80, 1, 2)}, fails: errMessageTooLarge, code: 1009},
	{section: "RFC 6455, 10.4", name: "a sum of lengths that overflows closes with 1009", in: []rfcPiece{rfcFrame(0x41, "a"), rfcHead(0x80, 9, 1<<63-1)}, fails: errMessageTooLarge, code: 1009},
	{section: "RFC 6455, 10.4", name: "the largest length closes with 1009", in: []rfcPiece{rfcHead(0xC1, 9, 1<<63-1)}, fails: errMessageTooLarge, code: 1009},
	{section: "RFC 6455, 10.4", name: "a plain message has the plain limit", in: []rfcPiece{rfcFrame(0xC2, rfcPackedMost), rfcHead(0x82, 3, 201)}, want: []rfcEvent{rfcPackedBin(rfcPackedMost)}, fails: errMessageTooLarge, code: 1009},
	{section: "RFC 6455, 10.4", name: "plain fragments behind compressed ones have the plain limit", in: []rfcPiece{rfcFrame(0x41, rfcPackedMost[:201]), rfcFrame(0x80, "m"), rfcFrame(0x01, rfc200), rfcHead(0x80, 1, 1)}, want: []rfcEvent{rfcPackedText(rfcPackedMost[:202])}, fails: errMessageTooLarge, code: 1009},
	{section: "RFC 6455, 10.4", name: "compressed fragments behind plain ones have theirs", in: []rfcPiece{rfcFrame(0x01, rfc125), rfcFrame(0x80, "m"), rfcFrame(0x41, rfc200), rfcFrame(0x80, rfcPackedMost[200:])}, want: []rfcEvent{rfcText(rfc125 + "m"), rfcPackedText(rfcPackedMost)}},
	{section: "RFC 6455, 10.4", name: "a limit of 1 takes 65 compressed bytes", in: []rfcPiece{rfcFrame(0xC2, rfc125[:65])}, want: []rfcEvent{rfcPackedBin(rfc125[:65])}, with: rfcDeflatesAnd(func(p *rules) { p.maxMessage = 1 })},
	{section: "RFC 6455, 10.4", name: "a limit of 1 refuses 66 compressed bytes", in: []rfcPiece{rfcHead(0xC2, 1, 66)}, fails: errMessageTooLarge, code: 1009, with: rfcDeflatesAnd(func(p *rules) { p.maxMessage = 1 })},
	{section: "RFC 6455, 10.4", name: "compressed fragments count", in: []rfcPiece{rfcFrame(0x41, ""), rfcFrame(0x00, ""), rfcTwo(0x80, 0)}, fails: errTooManyFragments, code: 1009, with: rfcDeflatesAnd(func(p *rules) { p.maxFragments = 2 })},
}

var rfcPackedMost = strings.Repeat("m", rfcMaxMessage+rfcMaxMessage/8+64)

func TestRFC7692(t *testing.T) {
	var count rfcCount
	for _, row := range rfcPacking {
		if row.with == nil {
			row.with = rfcDeflates
		}
		for _, side := range []rfcSide{rfcServer, rfcClient} {
			count.rows++
			t.Run(fmt.Sprintf("%s: %s, at the %s", row.section, row.name, side), func(t *testing.T) {
				rfcRun(t, row.plan(side), &count)
			})
		}
	}
	t.Logf("%d rows, %d runs", count.rows, count.runs.Load())
}
