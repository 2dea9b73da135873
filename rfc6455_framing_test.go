package websocket

import "fmt"

// Section 5, data framing, and section 8.1, UTF-8. Clauses that no row shows:
//
//	5.1  every frame that goes out is checked to be masked, or not, as the side wants it: rfc6455_wire_test.go
//	5.2  so is that its reserved bits are 0, that its length has the shortest form and that its message is whole
//	5.3  new and unpredictable keys of a client: the last test of rfcRunClient looks at those of all its frames
//	5.4  an intermediary must not change fragments: there is none here
//	5.4  a sender must not interleave its messages: the package sends no fragments, packets of the program are its own word
//	5.5.2, 5.5.3  that a Pong goes out at once is shown by the runs that wait for it in the middle of a row
//	5.8  there are no extensions here; reserved bits and opcodes are refused, or shown to those who ask for them
//	8.1  that text goes out as UTF-8: a program's messages are its own word

// rfcFramingTable is the rows of this file.
func rfcFramingTable() []rfcCase { return append(rfcFraming, rfcFramingCounted()...) }

var rfcFraming = []rfcCase{
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
	{section: "5.2", name: "65535 bytes in three length bytes", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, rfc64K[:65535])}, want: []rfcEvent{rfcBin(rfc64K[:65535])}, with: rfcRoom, long: true},
	{section: "5.2", name: "65536 bytes in nine length bytes", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, rfc64K)}, want: []rfcEvent{rfcText(rfc64K)}, with: rfcRoom, long: true},

	// Section 5.3: masking. The key may be anything, and begins anew with each frame.
	{section: "5.3", name: "a key of zeros", side: rfcServer, in: []rfcPiece{rfcBytes(0x81, 0x85, 0, 0, 0, 0, 'H', 'e', 'l', 'l', 'o')}, want: []rfcEvent{rfcText("Hello")}},
	{section: "5.3", name: "a key of ones", side: rfcServer, in: []rfcPiece{rfcBytes(0x82, 0x85, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xFD, 0x7F, 0x80)}, want: []rfcEvent{rfcBin("\x00\x01\x02\x80\x7f")}},
	{section: "5.3", name: "fragments with keys of their own", side: rfcServer, in: []rfcPiece{rfcBytes(0x01, 0x83, 1, 2, 3, 4, 'a'^1, 'b'^2, 'c'^3), rfcBytes(0x80, 0x83, 5, 6, 7, 8, 'd'^5, 'e'^6, 'f'^7)}, want: []rfcEvent{rfcText("abcdef")}},
	{section: "5.3", name: "a mask over a message that is not fragmented", side: rfcServer, in: []rfcPiece{rfcFrame(0x82, rfc200[:199]+"\x00")}, want: []rfcEvent{rfcBin(rfc200[:199] + "\x00")}},

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
	{section: "5.4", name: "a message that has not ended is no message", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "Hel"), rfcFrame(0x00, "lo")}, open: true, rest: []rfcPiece{rfcFrame(0x80, "!")}, then: []rfcEvent{rfcText("Hello!")}},
	{section: "5.4", name: "a frame that has not ended is no frame", side: rfcBoth, in: []rfcPiece{rfcCut(0x82, "Hel", 2)}, open: true, rest: []rfcPiece{rfcMore(0x82, "Hel", 2)}, then: []rfcEvent{rfcBin("Helxx")}},
	{section: "5.4", name: "a ping that has not ended is no ping", side: rfcBoth, in: []rfcPiece{rfcCut(0x89, "Hel", 2)}, open: true, rest: []rfcPiece{rfcMore(0x89, "Hel", 2)}, then: []rfcEvent{rfcPing("Helxx")}},
	{section: "5.4", name: "a header that has not ended is no header", side: rfcBoth, in: []rfcPiece{rfcBytes(0x81)}, open: true, rest: []rfcPiece{rfcAfter(1, rfcFrame(0x81, "a"))}, then: []rfcEvent{rfcText("a")}},
	{section: "5.4", name: "a continuation without a start closes with 1002", side: rfcBoth, in: []rfcPiece{rfcTwo(0x80, 5)}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "an unfinished continuation without a start closes with 1002", side: rfcBoth, in: []rfcPiece{rfcTwo(0x00, 5)}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "a continuation behind a whole message closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "a"), rfcTwo(0x80, 1)}, want: []rfcEvent{rfcText("a")}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "a continuation behind a fragmented message closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "a"), rfcFrame(0x80, "b"), rfcTwo(0x00, 1)}, want: []rfcEvent{rfcBin("ab")}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "a continuation behind a ping alone closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, "a"), rfcTwo(0x80, 1)}, want: []rfcEvent{rfcPing("a")}, fails: errNoStart, code: 1002},
	{section: "5.4", name: "a text inside a fragmented text closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcTwo(0x81, 1)}, fails: errInterleaved, code: 1002},
	{section: "5.4", name: "a binary frame inside a fragmented text closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x00, "b"), rfcTwo(0x02, 1)}, fails: errInterleaved, code: 1002},
	{section: "5.4", name: "a text inside an empty started message closes with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, ""), rfcTwo(0x81, 0)}, fails: errInterleaved, code: 1002},
	{section: "5.4", name: "a ping does not end a fragmented message", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x89, ""), rfcTwo(0x81, 1)}, want: []rfcEvent{rfcPing("")}, fails: errInterleaved, code: 1002},

	// Section 5.5: control frames. Fragmented and over-long ones are counted through below, Close has rfc6455_closing_test.go.
	{section: "5.5", name: "several control frames come in their order", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, "1"), rfcFrame(0x89, "2"), rfcFrame(0x8A, "3"), rfcFrame(0x89, "4")}, want: []rfcEvent{rfcPing("1"), rfcPing("2"), rfcPong("3"), rfcPing("4")}},
	{section: "5.5", name: "a control frame longer than a message may be", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, rfc125)}, want: []rfcEvent{rfcPing(rfc125)}, with: func(p *rules) { p.maxMessage = 1 }},
	{section: "5.5", name: "control frames do not count as fragments", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x89, ""), rfcFrame(0x8A, ""), rfcFrame(0x89, ""), rfcFrame(0x80, "b")}, want: []rfcEvent{rfcPing(""), rfcPong(""), rfcPing(""), rfcText("ab")}, with: func(p *rules) { p.maxFragments = 2 }},
	{section: "5.5", name: "a control frame with a short length in three bytes closes with 1002", side: rfcServer, in: []rfcPiece{rfcBytes(0x89, 0xFE, 0, 5)}, fails: errControlLength, code: 1002, after: 2},
	{section: "5.5", name: "a control frame with a short length in three bytes closes with 1002", side: rfcClient, in: []rfcPiece{rfcBytes(0x89, 0x7E, 0, 5)}, fails: errControlLength, code: 1002, after: 2},
	{section: "5.5", name: "a whole control frame with a short length in three bytes closes with 1002", side: rfcServer, in: []rfcPiece{rfcBytes(0x8A, 0xFE, 0, 1, 0, 0, 0, 0, 'x')}, fails: errControlLength, code: 1002, after: 7},
	{section: "5.5", name: "a whole control frame with no length in nine bytes closes with 1002", side: rfcClient, in: []rfcPiece{rfcBytes(0x8A, 0x7F, 0, 0, 0, 0, 0, 0, 0, 0)}, fails: errControlLength, code: 1002, after: 8},
	{section: "5.5.2", name: "a ping comes with its body", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, "\xffbody\x00")}, want: []rfcEvent{rfcPing("\xffbody\x00")}},
	{section: "5.5.2", name: "an empty ping", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, "")}, want: []rfcEvent{rfcPing("")}},
	{section: "5.5.2", name: "a ping of 125 bytes", side: rfcBoth, in: []rfcPiece{rfcFrame(0x89, rfc125)}, want: []rfcEvent{rfcPing(rfc125)}},
	{section: "5.5.3", name: "a pong that nobody asked for", side: rfcBoth, in: []rfcPiece{rfcFrame(0x8A, "x")}, want: []rfcEvent{rfcPong("x")}},

	// Section 5.6: the opcode tells what a message is.
	{section: "5.6", name: "the same bytes as text and as a binary message", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "é\x00"), rfcFrame(0x82, "é\x00")}, want: []rfcEvent{rfcText("é\x00"), rfcBin("é\x00")}},
	{section: "5.6", name: "the opcode of a message is that of its first frame", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "a"), rfcFrame(0x80, "b"), rfcFrame(0x01, "a"), rfcFrame(0x80, "b")}, want: []rfcEvent{rfcBin("ab"), rfcText("ab")}},

	// Section 5.7: the examples, to the byte.
	{section: "5.7", name: "a text message in one frame, not masked", side: rfcClient, in: []rfcPiece{rfcBytes(0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f)}, want: []rfcEvent{rfcText("Hello")}},
	{section: "5.7", name: "a text message in one frame, masked", side: rfcServer, in: []rfcPiece{rfcBytes(0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58)}, want: []rfcEvent{rfcText("Hello")}},
	{section: "5.7", name: "a text message in two frames, not masked", side: rfcClient, in: []rfcPiece{rfcBytes(0x01, 0x03, 0x48, 0x65, 0x6c), rfcBytes(0x80, 0x02, 0x6c, 0x6f)}, want: []rfcEvent{rfcText("Hello")}},
	{section: "5.7", name: "a Ping, not masked, is answered", side: rfcClient, in: []rfcPiece{rfcBytes(0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f)}, want: []rfcEvent{rfcPing("Hello")}, out: []rfcSent{{OpcodePong, "Hello"}}},
	{section: "5.7", name: "a Pong, masked, is not answered", side: rfcServer, in: []rfcPiece{rfcBytes(0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58)}, want: []rfcEvent{rfcPong("Hello")}, out: []rfcSent{}},
	{section: "5.7", name: "256 bytes of a binary message", side: rfcClient, in: []rfcPiece{rfcBytes(0x82, 0x7E, 0x01, 0x00), func(bool) []byte { return []byte(rfc64K[:256]) }}, want: []rfcEvent{rfcBin(rfc64K[:256])}, with: rfcRoom},
	{section: "5.7", name: "64 KiB of a binary message", side: rfcClient, in: []rfcPiece{rfcBytes(0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0), func(bool) []byte { return []byte(rfc64K) }}, want: []rfcEvent{rfcBin(rfc64K)}, with: rfcRoom, long: true},

	// Section 8.1: text is UTF-8. Sequences that are wrong are counted through below.
	{section: "8.1", name: "characters of every length", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "\x00a\x7f\u0080é\u07ff\u0800€\ud7ff\ue000\uffff\U00010000😀\U0010ffff")}, want: []rfcEvent{rfcText("\x00a\x7f\u0080é\u07ff\u0800€\ud7ff\ue000\uffff\U00010000😀\U0010ffff")}},
	{section: "8.1", name: "a character split over two fragments", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a\xe2\x82"), rfcFrame(0x80, "\xacb")}, want: []rfcEvent{rfcText("a€b")}},
	{section: "8.1", name: "a character split over four fragments with a ping inside", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "\xf0"), rfcFrame(0x00, "\x9f"), rfcFrame(0x89, "\xf0"), rfcFrame(0x00, "\x98"), rfcFrame(0x00, ""), rfcFrame(0x80, "\x80")}, want: []rfcEvent{rfcPing("\xf0"), rfcText("😀")}},
	{section: "8.1", name: "a text that ends inside a character closes with 1007", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "ab\xe2\x82")}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a text that ends behind the first byte of a character closes with 1007", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "\xf0")}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a fragmented text that ends inside a character closes with 1007", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "ab\xf0\x9f"), rfcFrame(0x80, "\x98")}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a fragmented text whose empty last frame leaves a character open closes with 1007", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "ab\xf0\x9f"), rfcFrame(0x80, "")}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a fragment that ends inside a character waits for the next", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "ab\xf0\x9f\x98")}, open: true, rest: []rfcPiece{rfcFrame(0x80, "\x80")}, then: []rfcEvent{rfcText("ab😀")}},
	{section: "8.1", name: "the next fragment has to go on with the character", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "\xe2\x82"), rfcCut(0x00, "a", 3)}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a wrong byte fails inside an unfinished frame", side: rfcBoth, in: []rfcPiece{rfcCut(0x81, "abc\xff", 90)}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a wrong byte fails inside an unfinished fragment", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "abc"), rfcCut(0x00, "d\xc0", 90)}, fails: errNotUTF8, code: 1007},
	{section: "8.1", name: "a wrong byte fails before the rest of its frame", side: rfcBoth, in: []rfcPiece{rfcCut(0x01, "a\xed\xa0"+rfc125, 5)}, fails: errNotUTF8, code: 1007, after: 125},
	{section: "8.1", name: "binary fragments need not be UTF-8", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "\xff"), rfcFrame(0x80, "\xc0")}, want: []rfcEvent{rfcBin("\xff\xc0")}},
	{section: "8.1", name: "a binary message behind a text is not checked", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "a"), rfcFrame(0x80, "b"), rfcFrame(0x02, "\xff"), rfcFrame(0x80, "\xff")}, want: []rfcEvent{rfcText("ab"), rfcBin("\xff\xff")}},
}

var rfc64K = string(corePayload(1 << 16))

func rfcRoom(p *rules) { p.maxMessage = 1 << 16 }

// rfcAfter is what is left of a piece behind its first n bytes.
func rfcAfter(n int, piece rfcPiece) rfcPiece {
	return func(masked bool) []byte { return piece(masked)[n:] }
}

// rfcFramingCounted is the rows that count something through.
func rfcFramingCounted() (table []rfcCase) {
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
	return append(table, rfcWrongText()...)
}

// rfcNotUTF8 are sequences that fail with their last byte.
var rfcNotUTF8 = map[string]string{
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
}

func rfcWrongText() (table []rfcCase) {
	add := func(c rfcCase) {
		c.section, c.side, c.fails, c.code = "8.1", rfcBoth, errNotUTF8, 1007
		table = append(table, c)
	}
	for name, wrong := range rfcNotUTF8 {
		for _, lead := range []string{"", "κόσμε"} {
			text := lead + wrong
			name := fmt.Sprintf("%s fails at once, behind %q", name, lead)
			add(rfcCase{name: name + ", in a whole frame", in: []rfcPiece{rfcFrame(0x81, text+"tail")}, after: 4})
			add(rfcCase{name: name + ", in an unfinished fragment", in: []rfcPiece{rfcCut(0x01, text, 50)}})
			if len(wrong) == 1 {
				add(rfcCase{name: name + ", in a later fragment", in: []rfcPiece{rfcFrame(0x01, lead), rfcCut(0x00, wrong, 1)}})
				continue
			}
			add(rfcCase{name: name + ", split over fragments",
				in:   []rfcPiece{rfcFrame(0x01, text[:len(text)-1]), rfcFrame(0x89, ""), rfcCut(0x00, text[len(text)-1:], 1)},
				want: []rfcEvent{rfcPing("")}})
		}
	}
	return table
}
