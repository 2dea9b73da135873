package websocket

import "strings"

// Section 10, security considerations. Clauses that no row shows:
//
//	10.1  that peers are no browsers shows in every row that breaks a rule
//	10.2  Origin: HandleAuth sees it and decides; see TestHandshakeHandleAuth
//	10.3  masking keys: the last test of rfcRunClient looks at those of all frames of the clients (section 5.3)
//	10.5  authentication of clients: HandleAuth, likewise
//	10.6  TLS: the server offers none; for the client see TestClient_tls
//	10.7  validation of data: each row with a breach; of the opening handshake: rfc6455_request_test.go, rfc6455_answer_test.go
//	10.8  SHA-1: nothing to choose
//
// Limits of the opening handshake are in rfc6455_request_test.go and rfc6455_answer_test.go.

// rfcLimitsTable is the rows of this file.
func rfcLimitsTable() []rfcCase { return rfcLimits }

var rfcLimits = []rfcCase{
	{section: "10.4", name: "a message one below the limit", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, rfc200[1:])}, want: []rfcEvent{rfcBin(rfc200[1:])}},
	{section: "10.4", name: "a message at the limit", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, rfc200)}, want: []rfcEvent{rfcBin(rfc200)}},
	{section: "10.4", name: "a message over the limit closes with 1009 from its header alone", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 3, rfcMaxMessage+1)}, fails: errMessageTooLarge, code: 1009},
	{section: "10.4", name: "the largest length closes with 1009 from its header alone", side: rfcBoth, in: []rfcPiece{rfcHead(0x81, 9, 1<<63-1)}, fails: errMessageTooLarge, code: 1009},
	{section: "10.4", name: "fragments at the limit", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, rfc200[:100]), rfcFrame(0x00, rfc200[:99]), rfcFrame(0x80, "x")}, want: []rfcEvent{rfcBin(rfc200[:199] + "x")}},
	{section: "10.4", name: "fragments one over the limit close with 1009 from the last header", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, rfc200[:100]), rfcFrame(0x00, rfc200[:99]), rfcHead(0x80, 1, 2)}, fails: errMessageTooLarge, code: 1009},
	{section: "10.4", name: "a sum of lengths that overflows closes with 1009", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, "a"), rfcHead(0x80, 9, 1<<63-1)}, fails: errMessageTooLarge, code: 1009},
	{section: "10.4", name: "an empty fragment behind a full message is within the limit", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, rfc200), rfcFrame(0x80, "")}, want: []rfcEvent{rfcBin(rfc200)}},
	{section: "10.4", name: "the limit counts for each message anew", side: rfcBoth, in: []rfcPiece{rfcFrame(0x02, rfc200), rfcFrame(0x80, ""), rfcFrame(0x01, rfc125), rfcFrame(0x80, "x")}, want: []rfcEvent{rfcBin(rfc200), rfcText(rfc125 + "x")}},
	{section: "10.4", name: "a limit of 1 takes 1 byte", side: rfcBoth, in: []rfcPiece{rfcFrame(0x82, "x")}, want: []rfcEvent{rfcBin("x")}, with: func(p *rules) { p.maxMessage = 1 }},
	{section: "10.4", name: "a limit of 1 refuses 2 bytes", side: rfcBoth, in: []rfcPiece{rfcHead(0x82, 1, 2)}, fails: errMessageTooLarge, code: 1009, with: func(p *rules) { p.maxMessage = 1 }},
	{section: "10.4", name: "one fragment below the limit of fragments", side: rfcBoth, in: rfcFragments(rfcMaxFragments-1, true), want: []rfcEvent{rfcText(strings.Repeat("f", rfcMaxFragments-1))}},
	{section: "10.4", name: "as many fragments as the limit", side: rfcBoth, in: rfcFragments(rfcMaxFragments, true), want: []rfcEvent{rfcText(strings.Repeat("f", rfcMaxFragments))}},
	{section: "10.4", name: "one fragment over the limit closes with 1009", side: rfcBoth, in: append(rfcFragments(rfcMaxFragments, false), rfcTwo(0x80, 1)), fails: errTooManyFragments, code: 1009},
	{section: "10.4", name: "empty fragments count", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, ""), rfcFrame(0x00, ""), rfcTwo(0x80, 0)}, fails: errTooManyFragments, code: 1009, with: func(p *rules) { p.maxFragments = 2 }},
	{section: "10.4", name: "a limit of one fragment takes unfragmented messages", side: rfcBoth, in: []rfcPiece{rfcFrame(0x81, "a"), rfcFrame(0x81, "b")}, want: []rfcEvent{rfcText("a"), rfcText("b")}, with: func(p *rules) { p.maxFragments = 1 }},
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
