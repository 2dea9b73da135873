package websocket

import (
	"errors"
	"fmt"
)

// Sections 5.5.1, Close, 6, sending and receiving, and 7, closing. Clauses that no row shows:
//
//	6.1    data before the opening handshake is done: a client's Send fails then (TestClient_sendNotConnected), a server's
//	       program does not know the connection yet
//	6.1    fragments that go out: the package sends none
//	7.1.1  how long a peer may leave TCP open after the closing handshake: TestLink_silence, and for the server TestLife
//	7.2.1, 7.2.2  a handshake that fails: rfc6455_request_test.go, rfc6455_answer_test.go
//	7.2.3  waiting before a client connects again: a Client connects only when its program says so
//	7.4.1  which code a program sends is its own word; those of the package are in the rows
//	7.4.1  1010: the client demands no extension; 1011: TestHandlerPanics; 1001 at Stop is a row

// rfcAct is what the program does before the input of a row comes, and what is sent for that. What a server's program does is in
// tests/rfc6455.
type rfcAct struct {
	client func(cl *Client) error
	sent   []rfcSent
	closes bool // a Close frame has been sent
}

var (
	rfcSendsAll = &rfcAct{
		client: func(cl *Client) error {
			return errors.Join(cl.SendText([]byte("é")), cl.SendBin([]byte("\xff")), cl.SendPing([]byte("1")), cl.SendPong([]byte("2")))
		},
		sent: []rfcSent{{OpcodeText, "é"}, {OpcodeBin, "\xff"}, {OpcodePing, "1"}, {OpcodePong, "2"}},
	}
	rfcSendsClose = &rfcAct{
		sent:   []rfcSent{rfcSentClose(4000, "done")},
		closes: true,
	}
	rfcSendsMore = &rfcAct{ // a Close frame, and more in the same packet and in others
		sent:   rfcSendsClose.sent,
		closes: true,
	}
	rfcRemoves = &rfcAct{
		sent:   []rfcSent{rfcSentClose(1000, "")},
		closes: true,
	}
	rfcStops = &rfcAct{
		sent:   []rfcSent{rfcSentClose(1001, "")},
		closes: true,
	}
	rfcClosesClient = &rfcAct{
		client: func(cl *Client) error {
			go cl.Close() // it waits for the server's Close
			return nil
		},
		sent:   []rfcSent{rfcSentClose(1000, "")},
		closes: true,
	}
)

// rfcClosingTable is the rows of this file.
func rfcClosingTable() []rfcCase { return append(rfcClosing, rfcClosingCounted()...) }

var rfcClosing = []rfcCase{
	// Section 5.5.1: Close.
	{section: "5.5.1", name: "an empty close has no code", side: rfcBoth, in: []rfcPiece{rfcFrame(0x88, "")}, want: []rfcEvent{rfcClosed(0, "")}, out: []rfcSent{rfcSentClose(1000, "")}},
	{section: "5.5.1", name: "a close with a code", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "")}, want: []rfcEvent{rfcClosed(1000, "")}},
	{section: "5.5.1", name: "a close with a code and a reason", side: rfcBoth, in: []rfcPiece{rfcClose(1001, "going é")}, want: []rfcEvent{rfcClosed(1001, "going é")}},
	{section: "5.5.1", name: "a close with the longest reason", side: rfcBoth, in: []rfcPiece{rfcClose(4999, rfc125[:123])}, want: []rfcEvent{rfcClosed(4999, rfc125[:123])}},
	{section: "5.5.1", name: "a close with one byte is answered with 1002", side: rfcBoth, in: []rfcPiece{rfcFrame(0x88, "\x03")}, want: rfcBadClose, fails: errCloseShort, code: 1002},
	{section: "5.5.1", name: "a reason that is not UTF-8 is answered with 1002", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "\xce\xba\xff")}, want: rfcBadClose, fails: errCloseReason, code: 1002},
	{section: "5.5.1", name: "a reason with a surrogate is answered with 1002", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "\xed\xa0\x80")}, want: rfcBadClose, fails: errCloseReason, code: 1002},
	{section: "5.5.1", name: "a reason that ends inside a character is answered with 1002", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "ok \xf0\x9f\x98")}, want: rfcBadClose, fails: errCloseReason, code: 1002},
	{section: "5.5.1", name: "data behind a close is discarded", side: rfcBoth, in: []rfcPiece{rfcClose(1000, ""), rfcFrame(0x81, "late"), rfcFrame(0x89, "late"), rfcClose(1001, "")}, want: []rfcEvent{rfcClosed(1000, "")}},
	{section: "5.5.1", name: "nonsense behind a close is discarded", side: rfcBoth, in: []rfcPiece{rfcFrame(0x88, ""), rfcBytes(0xFF, 0xFF, 0xFF, 0xFF, 0xFF)}, want: []rfcEvent{rfcClosed(0, "")}, out: []rfcSent{rfcSentClose(1000, "")}},
	{section: "5.5.1", name: "messages before a close are answered before it is", side: rfcServer, in: []rfcPiece{rfcFrame(0x81, "one"), rfcFrame(0x82, "two"), rfcClose(1000, "done")}, want: []rfcEvent{rfcText("one"), rfcBin("two"), rfcClosed(1000, "done")}, out: []rfcSent{{OpcodeText, "one"}, {OpcodeBin, "two"}, rfcSentClose(1000, "done")}},
	{section: "5.5.1", name: "messages before a close are handled", side: rfcClient, in: []rfcPiece{rfcFrame(0x81, "one"), rfcFrame(0x82, "two"), rfcClose(1000, "done")}, want: []rfcEvent{rfcText("one"), rfcBin("two"), rfcClosed(1000, "done")}},
	{section: "5.5.1", name: "a second close is not answered", side: rfcBoth, in: []rfcPiece{rfcClose(1000, ""), rfcClose(1000, "")}, want: []rfcEvent{rfcClosed(1000, "")}, out: []rfcSent{rfcSentClose(1000, "")}},
	{section: "5.5.1", name: "nothing goes out behind a Close frame of the program", side: rfcServer, first: rfcSendsMore, in: []rfcPiece{rfcClose(4000, "done")}, want: []rfcEvent{rfcClosed(4000, "done")}, out: []rfcSent{}},
	{section: "5.5.1", name: "a message and a ping behind a Close frame of the program are not answered", side: rfcServer, first: rfcSendsClose, in: []rfcPiece{rfcFrame(0x81, "late"), rfcFrame(0x89, "late"), rfcClose(4000, "")}, want: []rfcEvent{rfcText("late"), rfcPing("late"), rfcClosed(4000, "")}, out: []rfcSent{}},
	{section: "5.5.1", name: "a message and a ping behind the Close frame of Close are not answered", side: rfcClient, first: rfcClosesClient, in: []rfcPiece{rfcFrame(0x81, "late"), rfcFrame(0x82, "late"), rfcFrame(0x89, "late"), rfcClose(1000, "")}, want: []rfcEvent{rfcText("late"), rfcBin("late"), rfcPing("late"), rfcClosed(1000, "")}, out: []rfcSent{}},

	// Section 6.1: sending. That each frame is whole, and masked by a client alone, is checked wherever one goes out.
	{section: "6.1", name: "each kind of frame has its opcode, its payload and its order", side: rfcBoth, first: rfcSendsAll, out: []rfcSent{}},
	{section: "6.1", name: "data is sent while data is received", side: rfcBoth, first: rfcSendsAll, in: []rfcPiece{rfcFrame(0x81, "Hello"), rfcFrame(0x89, "?")}, want: []rfcEvent{rfcText("Hello"), rfcPing("?")}, out: []rfcSent{{OpcodeText, "Hello"}, {OpcodePong, "?"}}},
	{section: "6.1", name: "an answer may go out inside a fragmented message of the peer", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, "a"), rfcFrame(0x01, "b"), rfcFrame(0x89, "c"), rfcFrame(0x80, "d")}, want: []rfcEvent{rfcBin("a"), rfcPing("c"), rfcText("bd")}, out: []rfcSent{{OpcodeBin, "a"}, {OpcodePong, "c"}, {OpcodeText, "bd"}}},

	// Section 6.2: receiving.
	{section: "6.2", name: "a message is told with its type and its data, without the frames that brought it", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, "\x00\xff"), rfcFrame(0x01, ""), rfcFrame(0x00, "Hel"), rfcFrame(0x80, "lo"), rfcFrame(0x81, "")}, want: []rfcEvent{rfcBin("\x00\xff"), rfcText("Hello"), rfcText("")}, out: []rfcSent{{OpcodeBin, "\x00\xff"}, {OpcodeText, "Hello"}, {OpcodeText, ""}}},

	// Sections 7.1.1 and 7.1.2: who begins the closing handshake, and who ends TCP.
	{section: "7.1.2", name: "a Close frame of the program that is answered ends TCP, and no second one is sent", side: rfcServer, first: rfcSendsClose, in: []rfcPiece{rfcClose(4000, "done")}, want: []rfcEvent{rfcClosed(4000, "done")}, out: []rfcSent{}, tcp: rfcCloses},
	{section: "7.1.2", name: "the answer to a Close frame may have another code, or none", side: rfcServer, first: rfcSendsClose, in: []rfcPiece{rfcFrame(0x88, "")}, want: []rfcEvent{rfcClosed(0, "")}, out: []rfcSent{}, tcp: rfcCloses},
	{section: "7.1.2", name: "a Close frame of the program that nobody has answered leaves TCP open", side: rfcServer, first: rfcSendsClose, in: []rfcPiece{rfcFrame(0x8A, "")}, want: []rfcEvent{rfcPong("")}, out: []rfcSent{}},
	{section: "7.1.2", name: "Close that is answered ends TCP, and no second Close frame is sent", side: rfcClient, first: rfcClosesClient, in: []rfcPiece{rfcClose(1000, "")}, want: []rfcEvent{rfcClosed(1000, "")}, out: []rfcSent{}},
	{section: "7.1.2", name: "Close that is answered with another code ends TCP", side: rfcClient, first: rfcClosesClient, in: []rfcPiece{rfcClose(1001, "you too")}, want: []rfcEvent{rfcClosed(1001, "you too")}, out: []rfcSent{}},
	{section: "7.1.1", name: "ClientRemove sends 1000 and ends TCP without an answer", side: rfcServer, first: rfcRemoves, out: []rfcSent{}, tcp: rfcCloses},
	{section: "7.1.1", name: "ClientRemove reads nothing more", side: rfcServer, first: rfcRemoves, in: []rfcPiece{rfcFrame(0x81, "late"), rfcFrame(0x89, "late"), rfcClose(1000, "")}, want: []rfcEvent{rfcText("late"), rfcPing("late"), rfcClosed(1000, "")}, out: []rfcSent{}, tcp: rfcCloses},

	// Sections 7.1.3 to 7.1.6: what is known of the end. A client's Err is compared in every row.
	{section: "7.1.4", name: "an end of TCP between messages is answered by one, without a Close frame", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "a")}, want: []rfcEvent{rfcText("a")}, out: []rfcSent{{OpcodeText, "a"}}},
	{section: "7.1.5", name: "an end of TCP before any frame has no code", side: rfcBoth},
	{section: "7.1.5", name: "an end of TCP inside a header has no code", side: rfcBoth, in: []rfcPiece{rfcTwo(0x82, 126)}, open: true},
	{section: "7.1.5", name: "an end of TCP inside a payload has no code", side: rfcBoth, in: []rfcPiece{rfcCut(0x81, "Hel", 2)}, open: true},
	{section: "7.1.5", name: "an end of TCP inside a message has no code, and what came of it is lost", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "a"), rfcFrame(0x01, "b")}, want: []rfcEvent{rfcText("a")}, open: true},
	{section: "7.1.5", name: "an end of TCP inside a close has no code", side: rfcBoth, in: []rfcPiece{rfcCut(0x88, "\x03\xe8", 1)}, open: true},
	{section: "7.1.5", name: "the code is that of the first close", side: rfcBoth, in: []rfcPiece{rfcClose(4001, "first"), rfcClose(4002, "second")}, want: []rfcEvent{rfcClosed(4001, "first")}},
	{section: "7.1.6", name: "the reason is text of any characters", side: rfcBoth, in: []rfcPiece{rfcClose(1000, "\x00é€😀")}, want: []rfcEvent{rfcClosed(1000, "\x00é€😀")}},

	// Section 7.1.7: failing the connection.
	{section: "7.1.7", name: "data behind a breach is discarded", side: rfcBoth, in: []rfcPiece{rfcTwo(0x83, 0), rfcBytes(0x81, 0, 0x89, 0, 0x88, 0)}, fails: errReservedOpcode, code: 1002, after: 6},
	{section: "7.1.7", name: "a close behind a breach is not answered", side: rfcBoth, in: []rfcPiece{rfcTwo(0xC1, 0), rfcBytes(0x88, 0)}, fails: errReservedBits, code: 1002, after: 2},
	{section: "7.1.7", name: "a breach instead of the answer to a Close frame is answered by the end of TCP alone", side: rfcServer, first: rfcSendsClose, in: []rfcPiece{rfcTwo(0x83, 0)}, fails: errReservedOpcode, code: 1002, out: []rfcSent{}, tcp: rfcCloses},
	{section: "7.1.7", name: "a breach instead of the answer to Close is not answered", side: rfcClient, first: rfcClosesClient, in: []rfcPiece{rfcTwo(0x83, 0)}, fails: errReservedOpcode, code: 1002, out: []rfcSent{}},

	// Sections 7.3 and 7.4.1: codes of the package itself.
	{section: "7.4.1", name: "a server that stops goes away with 1001", side: rfcServer, first: rfcStops, out: []rfcSent{}, tcp: rfcCloses},
}

// rfcClosingCounted is the rows that count codes through.
func rfcClosingCounted() (table []rfcCase) {
	for _, code := range []uint16{0, 1, 100, 998, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1999, 2000, 2500, 2998, 2999, 5000, 5001, 9999, 65535} {
		table = append(table, rfcCase{section: "7.4", name: fmt.Sprintf("close code %d must not be on the wire", code), side: rfcBoth,
			in: []rfcPiece{rfcClose(code, "why")}, want: rfcBadClose, fails: errCloseCode, code: 1002})
	}
	for _, code := range []CloseCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		table = append(table, rfcCase{section: "7.4", name: fmt.Sprintf("close code %d is taken", code), side: rfcBoth,
			in: []rfcPiece{rfcClose(uint16(code), "why")}, want: []rfcEvent{rfcClosed(code, "why")}})
	}
	return table
}
