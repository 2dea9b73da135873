package websocket

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The table of RFC 6455: what comes from the peer, what it amounts to, what goes out, with which close code a connection ends and
// who closes TCP. Its rows stand in files of their own, each with a list of the clauses that no row can show:
//
//	handshake_test.go       section 4, the server: requests and their answers
//	rfc6455_client_test.go  section 4, the client: its requests, and answers to them
//	this one                sections 5 to 8 and 10
//
// Rows about frames run on the receiver, without I/O, for every place where the input can be cut (here), and between two ends
// of a connection: rfc6455_client_test.go has a client, tests/rfc6455 a running server, which reads the rows from a file
// (TestRFC6455Rows).

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

// rfcMore is what rfcCut leaves out.
func rfcMore(first byte, payload string, more int) rfcPiece {
	return func(masked bool) []byte {
		b := rfcFrame(first, payload+strings.Repeat("x", more))(masked)
		return b[len(b)-more:]
	}
}

// rfcTwo is the first two bytes of a frame, which are enough for most rules.
func rfcTwo(first, length byte) rfcPiece {
	return func(masked bool) []byte { return rfcHead(first, 1, uint64(length))(masked)[:2] }
}

// rfcSwap is a frame that is masked if it must not be, or not masked if it must.
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

// rfcBadClose is the event of a Close frame that breaks a rule. If it is its header that does, nothing but the kind is known.
var (
	rfcBadClose       = []rfcEvent{rfcClosed(0, "")}
	rfcBadCloseHeader = []rfcEvent{{kind: eventClose}}
)

// rfcTCP says how a connection goes on behind a row.
type rfcTCP uint8

const (
	// rfcByRule: open, and without a word at the peer's end, if the row has neither a Close frame nor a breach. Else the
	// server closes immediately and the client after the server did (section 7.1.1).
	rfcByRule rfcTCP = iota
	rfcCloses        // the endpoint under test closes immediately
)

// rfcCase is a row: an input, and what the endpoint at that side does with it. What it has of the program is in handlers that
// send back each message and each reserved control frame that they are given.
type rfcCase struct {
	section string
	name    string
	side    rfcSide
	first   *rfcAct // what the program does before
	in      []rfcPiece
	want    []rfcEvent
	out     []rfcSent      // frames that go out; nil: those of rfcAnswers
	fails   *protocolError // nil: no breach
	code    CloseCode      // of the answer to the breach
	after   int            // bytes of the input behind the one that shows the breach
	open    bool           // the input ends inside a frame or a message
	rest    []rfcPiece     // what ends that, if it is to be ended
	then    []rfcEvent     // the events of the rest
	tcp     rfcTCP
	long    bool // the input is too long to be cut everywhere
	with    func(*rules)
}

func rfcAllow(rsv byte) func(*rules) { return func(p *rules) { p.allowedRsv = rsv } }

func rfcReserved(p *rules) { p.reservedControl = true }

const (
	rfcMaxMessage   = 200
	rfcMaxFragments = 8
)

var (
	rfc125 = strings.Repeat("c", 125)
	rfc126 = strings.Repeat("d", 126)
	rfc200 = strings.Repeat("m", rfcMaxMessage)
)

// rfcPlan is a row at one side.
type rfcPlan struct {
	rfcCase
	side     rfcSide
	rules    rules
	pieces   [][]byte // the input
	in, rest []byte
}

func (row rfcCase) plan(side rfcSide) *rfcPlan {
	pl := &rfcPlan{rfcCase: row, side: side}
	pl.rules = rules{maxMessage: rfcMaxMessage, maxFragments: rfcMaxFragments, fromClient: side == rfcServer}
	if row.with != nil {
		row.with(&pl.rules)
	}
	for _, piece := range row.in {
		pl.pieces = append(pl.pieces, piece(pl.rules.fromClient))
	}
	for _, piece := range row.rest {
		pl.rest = append(pl.rest, piece(pl.rules.fromClient)...)
	}
	pl.in = bytes.Join(pl.pieces, nil)
	if row.fails == nil && row.code != 0 { // a wrong mask at either side
		pl.fails = errNotMasked
		if side == rfcClient {
			pl.fails = errMasked
		}
	}
	return pl
}

// late is what nobody reads behind the end of a connection.
func (pl *rfcPlan) late() []byte { return rfcFrame(0x81, "late")(pl.rules.fromClient) }

// ends reports whether the input ends the connection.
func (pl *rfcPlan) ends() bool {
	return pl.fails != nil || len(pl.want) > 0 && pl.want[len(pl.want)-1].kind == eventClose
}

// rfcTable is all rows about frames.
func rfcTable() (table []rfcCase) {
	table = append(table, rfcFramingTable()...)
	table = append(table, rfcClosingTable()...)
	return append(table, rfcLimitsTable()...)
}

// rfcEachRow calls f for each row and side.
func rfcEachRow(f func(name string, pl *rfcPlan)) {
	for _, row := range rfcTable() {
		for _, side := range []rfcSide{rfcServer, rfcClient} {
			if row.side == rfcBoth || row.side == side {
				f(fmt.Sprintf("%s: %s, at the %s", row.section, row.name, side), row.plan(side))
			}
		}
	}
}

// rfcReader drives a receiver as the loop and the client do, and looks after its memory.
type rfcReader struct {
	t      testing.TB
	rc     receiver
	p      *rules
	events []rfcEvent
	err    *protocolError
	fed    int // bytes given, and how many of them until the error
	failed int
}

// feed gives the receiver the bytes of one read.
func (r *rfcReader) feed(b []byte) {
	b = bytes.Clone(b) // it unmasks in place
	r.fed += len(b)
	for len(b) > 0 {
		ev, n, err := r.rc.next(r.p, b)
		if ev.kind != eventNone {
			r.events = append(r.events, rfcEvent{ev.kind, ev.head.opcode(), string(ev.payload), ev.code, ev.head.rsv()})
			if ev.kind == eventMessage && cap(ev.payload) > 2*len(ev.payload) {
				r.t.Fatalf("a payload of %d bytes holds %d", len(ev.payload), cap(ev.payload))
			}
		}
		r.checkMemory()
		if err != nil {
			if r.err != nil {
				r.t.Fatalf("a second error: %v", err)
			}
			if r.err, r.failed = err, r.fed; !r.rc.hasEnded() {
				r.t.Fatal("the endpoint goes on behind an error")
			}
			if _, n, err = r.rc.next(r.p, b); err != nil || n != len(b) {
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

// held returns the memory that a receiver has of its own; nil if it has none.
func (rc *receiver) held() *partial {
	if rc.hasEnded() {
		return nil
	}
	return rc.partial
}

// checkMemory holds the receiver to what it may keep: nothing between messages, and at most twice what has arrived.
func (r *rfcReader) checkMemory() {
	part := r.rc.held()
	if part == nil {
		return
	}
	if part.startLen == 0 && !part.inFrame && !part.inMessage {
		r.t.Fatal("an endpoint between messages holds memory")
	}
	if len(part.message) > r.fed || cap(part.message) > roundSize(2*len(part.message)) {
		r.t.Fatalf("%d bytes have arrived, the message holds %d of %d", r.fed, len(part.message), cap(part.message))
	}
	if uint64(len(part.message)) > r.p.maxLength(part.compressed) || part.fragments > r.p.maxFragments {
		r.t.Fatalf("a message of %d bytes in %d fragments is over the limit", len(part.message), part.fragments)
	}
}

// rfcRead reads an input in pieces.
func rfcRead(t testing.TB, p *rules, pieces ...[]byte) *rfcReader {
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

// rfcCount counts what a run of the table amounts to.
type rfcCount struct {
	rows int
	runs atomic.Int64
}

func TestRFC6455(t *testing.T) {
	count := rfcCount{rows: len(rfcRequests()) + len(rfcAsks) + len(rfcGoodAnswers) + len(rfcBadAnswers)}
	rfcEachRow(func(string, *rfcPlan) { count.rows++ })
	t.Run("frames, without I/O", func(t *testing.T) {
		rfcEachRow(func(name string, pl *rfcPlan) {
			t.Run(name, func(t *testing.T) { rfcRun(t, pl, &count) })
		})
	})
	t.Run("frames, a client", func(t *testing.T) { rfcRunClient(t, &count) })
	t.Run("opening handshake, requests without I/O", func(t *testing.T) { rfcRunRequests(t, &count) })
	t.Run("opening handshake, a client", func(t *testing.T) { rfcRunAnswers(t, &count) })
	t.Logf("%d rows, %d runs", count.rows, count.runs.Load())
}

// rfcRun runs a row on the endpoint in every way.
func rfcRun(t *testing.T, pl *rfcPlan, count *rfcCount) {
	p, in := &pl.rules, pl.in
	check := func(r *rfcReader, want []rfcEvent, how string, args ...any) {
		count.runs.Add(1)
		how = fmt.Sprintf(how, args...)
		require.Equal(t, want, r.events, how)
		require.Same(t, pl.fails, r.err, how)
	}
	check(rfcRead(t, p, in), pl.want, "whole")
	if pl.fails != nil {
		require.Equal(t, pl.code, pl.fails.code)
	}
	if pl.long {
		check(rfcRead(t, p, rfcEach(in, 1000)...), pl.want, "in reads of 1000")
		return
	}
	byByte := rfcRead(t, p, rfcEach(in, 1)...)
	check(byByte, pl.want, "byte by byte")
	if pl.fails != nil {
		assert.Equal(t, len(in)-pl.after, byByte.failed, "it fails with the first byte that shows the breach")
	}
	for cut := 1; cut < len(in); cut++ {
		check(rfcRead(t, p, in[:cut], in[cut:]), pl.want, "cut at %d", cut)
	}

	assert.Equal(t, pl.open, byByte.rc.held() != nil, "memory is held only inside a frame or a message")
	assert.Equal(t, pl.ends(), byByte.rc.hasEnded())
	switch {
	case pl.open && pl.rest != nil:
		want := append(append([]rfcEvent{}, pl.want...), pl.then...)
		check(rfcRead(t, p, in, pl.rest), want, "and its rest")
	case pl.open:
	case pl.ends():
		late := append(bytes.Clone(in), pl.late()...)
		check(rfcRead(t, p, late), pl.want, "with more behind it")
		check(rfcRead(t, p, in, late), pl.want, "with more in another read")
	case len(in) > 0:
		twice := append(bytes.Clone(in), in...)
		want := append(append([]rfcEvent{}, pl.want...), pl.want...)
		check(rfcRead(t, p, twice), want, "twice in one read")
		for cut := 1; cut < len(twice); cut++ {
			check(rfcRead(t, p, twice[:cut], twice[cut:]), want, "twice, cut at %d", cut)
		}
	}
}

// Section 5, data framing, and section 8.1, UTF-8. Clauses that no row shows:
//
//	5.1  every frame that goes out is checked to be masked, or not, as the side wants it: rfcReadFrame
//	5.2  so is that its reserved bits are 0, that its length has the shortest form and that its message is whole
//	5.3  new and unpredictable keys of a client: the last test of rfcRunClient looks at those of all its frames
//	5.4  an intermediary must not change fragments: there is none here
//	5.4  a sender must not interleave its messages: the package sends no fragments, packets of the program are its own word
//	5.5.2, 5.5.3  that a Pong goes out immediately is shown by the runs that wait for it in the middle of a row
//	5.8  there are no extensions here; reserved bits and opcodes are refused, or shown to those who ask for them
//	8.1  that text goes out as UTF-8: a program's messages are its own word

// rfcFramingTable is the rows of sections 5 and 8.1.
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
	{section: "5.4", name: "control frames between fragments come immediately", side: rfcBoth, in: []rfcPiece{rfcFrame(0x01, "Hel"), rfcFrame(0x89, "ping"), rfcFrame(0x00, "l"), rfcFrame(0x8A, rfc125), rfcFrame(0x89, ""), rfcFrame(0x80, "o")}, want: []rfcEvent{rfcPing("ping"), rfcPong(rfc125), rfcPing(""), rfcText("Hello")}},
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

	// Section 5.5: control frames. Fragmented and over-long ones are counted through below, Close has rfcClosing.
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
		add(rfcCase{section: "5.2", name: fmt.Sprintf("reserved control opcode %#x comes as an event if it is wanted", opcode),
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
			name := fmt.Sprintf("%s fails immediately, behind %q", name, lead)
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

// Sections 5.5.1, Close, 6, sending and receiving, and 7, closing. Clauses that no row shows:
//
//	6.1    data before the opening handshake is done: a client's Send fails then (TestClient_sendNotConnected), a server's
//	       program does not know the connection yet
//	6.1    fragments that go out: the package sends none
//	7.1.1  how long a peer may leave TCP open after the closing handshake: TestLink_silence, and for the server TestLife
//	7.2.1, 7.2.2  a handshake that fails: rfcRequests, rfcBadAnswers
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

// rfcClosingTable is the rows of sections 5.5.1, 6 and 7.
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

// Section 10, security considerations. Clauses that no row shows:
//
//	10.1  that peers are no browsers shows in every row that breaks a rule
//	10.2  Origin: HandleAuth sees it and decides; see TestHandshakeHandleAuth
//	10.3  masking keys: the last test of rfcRunClient looks at those of all frames of the clients (section 5.3)
//	10.5  authentication of clients: HandleAuth, likewise
//	10.6  TLS: the server offers none; for the client see TestClient_tls
//	10.7  validation of data: each row with a breach; of the opening handshake: rfcRequests, rfcBadAnswers
//	10.8  SHA-1: nothing to choose
//
// Limits of the opening handshake are in rfcRequests, rfcGoodAnswers and rfcBadAnswers.

// rfcLimitsTable is the rows of section 10.
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

// The rows for a server are for tests/rfc6455 too, which runs them over TCP and can import nothing of here. It reads them from a
// file, which is kept the same as the table:
//
//	go test -run RFC6455Rows -rfc6455.write .

var rfcWrite = flag.Bool("rfc6455.write", false, "write the rows of RFC 6455 that tests/rfc6455 reads")

var rfcRowsFile = filepath.Join("tests", "rfc6455", "testdata", "rows.json")

// rfcRows is what the file has. Input is in hexadecimal. In a text each character is a byte; a long one is compressed. A frame
// that goes out is its opcode, a blank and its payload.
type rfcRows struct {
	Requests []rfcRequestRow
	Frames   []rfcFrameRow
}

// rfcRequestRow is an rfcRequest.
type rfcRequestRow struct {
	Name   string
	In     string   // text
	Answer string   // text
	Open   bool     `json:",omitempty"` // with status 101
	Out    []string `json:",omitempty"`
	Ends   bool     `json:",omitempty"`
	Whole  bool     `json:",omitempty"`
	Wire   bool     `json:",omitempty"`
}

// rfcFrameRow is an rfcPlan at the server, with what it amounts to.
type rfcFrameRow struct {
	Name     string
	Rules    *rfcRulesRow `json:",omitempty"` // nil: those of most rows
	First    string       `json:",omitempty"` // what the program does before
	In       []string     // frames, or parts of them
	Rest     string       `json:",omitempty"` // what ends an open row, if it is to be ended
	Out      []string     `json:",omitempty"` // what goes out each time that the input comes
	Then     []string     `json:",omitempty"` // and once behind it
	Answered []int        `json:",omitempty"` // how many frames have gone out behind each piece, if it can be said
	Ends     bool         `json:",omitempty"` // the input ends the connection
	Open     bool         `json:",omitempty"` // the input ends inside a frame or a message
	Closes   bool         `json:",omitempty"` // the server ends TCP of its own accord
}

type rfcRulesRow struct {
	MaxMessage      uint64
	MaxFragments    int
	AllowedRsv      byte `json:",omitempty"`
	ReservedControl bool `json:",omitempty"`
}

// rfcInFile makes a text of bytes.
func rfcInFile(b string) string {
	if len(b) > 4096 {
		var out strings.Builder
		w, _ := flate.NewWriter(hex.NewEncoder(&out), flate.BestCompression)
		io.WriteString(w, b)
		w.Close()
		return "flate " + out.String()
	}
	text := make([]rune, len(b))
	for i := range text {
		text[i] = rune(b[i])
	}
	return string(text)
}

// rfcInflate is the text of what is compressed, since another version of Go may compress it in another way.
func rfcInflate(texts []string) []string {
	for i, text := range texts {
		if packed, ok := strings.CutPrefix(text, "flate "); ok {
			b, err := io.ReadAll(flate.NewReader(hex.NewDecoder(strings.NewReader(packed))))
			texts[i] = fmt.Sprint(string(b), err)
		}
	}
	return texts
}

// rfcHexInFile makes hexadecimal digits of bytes.
func rfcHexInFile(b []byte) string {
	if text := rfcInFile(string(b)); strings.HasPrefix(text, "flate ") {
		return text
	}
	return hex.EncodeToString(b)
}

func rfcSentInFile(frames []rfcSent) (texts []string) {
	for _, f := range frames {
		texts = append(texts, rfcInFile(fmt.Sprintf("%X %s", byte(f.opcode), f.payload)))
	}
	return texts
}

// row is what the file has of a plan.
func (pl *rfcPlan) row(name string) rfcFrameRow {
	p := &pl.rules
	row := rfcFrameRow{Name: name, Ends: pl.ends(), Open: pl.open, Closes: pl.tcp == rfcCloses}
	rules := rfcRulesRow{p.maxMessage, p.maxFragments, p.allowedRsv, p.reservedControl}
	if rules != (rfcRulesRow{MaxMessage: rfcMaxMessage, MaxFragments: rfcMaxFragments}) {
		row.Rules = &rules
	}
	switch pl.first {
	case nil:
	case rfcSendsAll:
		row.First = "sends all"
	case rfcSendsClose:
		row.First = "sends Close"
	case rfcSendsMore:
		row.First = "sends Close and more"
	case rfcRemoves:
		row.First = "removes"
	case rfcStops:
		row.First = "stops"
	}
	for _, piece := range pl.pieces {
		row.In = append(row.In, rfcHexInFile(piece))
	}
	row.Rest = rfcHexInFile(pl.rest)
	if pl.out != nil {
		row.Out = rfcSentInFile(pl.out)
		return row
	}
	all := rfcAnswers(pl.side, append(append([]rfcEvent{}, pl.want...), pl.then...), pl.fails)
	if pl.then != nil {
		each := len(rfcAnswers(pl.side, pl.want, nil))
		row.Then = rfcSentInFile(all[each:])
		all = all[:each]
	}
	row.Out = rfcSentInFile(all)
	if pl.first == nil {
		r := rfcReader{p: p}
		for _, piece := range pl.pieces {
			r.feed(piece)
			row.Answered = append(row.Answered, len(rfcAnswers(pl.side, r.events, r.err)))
			if r.rc.hasEnded() {
				break
			}
		}
	}
	return row
}

// rfcAllRows is what the file has to have.
func rfcAllRows() (rows rfcRows) {
	for _, row := range rfcRequests() {
		rows.Requests = append(rows.Requests, rfcRequestRow{Name: row.section + ": " + row.name, In: rfcInFile(row.in),
			Answer: rfcInFile(row.answer()), Open: row.status == 101, Out: rfcSentInFile(row.out), Ends: row.ends, Whole: row.whole, Wire: row.wire})
	}
	rfcEachRow(func(name string, pl *rfcPlan) {
		if pl.side == rfcServer {
			rows.Frames = append(rows.Frames, pl.row(name))
		}
	})
	slices.SortStableFunc(rows.Frames, func(a, b rfcFrameRow) int { return strings.Compare(a.Name, b.Name) }) // some come from maps
	return rows
}

// rfcWriteRows writes one row to a line.
func rfcWriteRows(rows rfcRows) (content []byte, err error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	list := func(name string, n int, row func(i int) any) {
		fmt.Fprintf(&b, "%q: [\n", name)
		for i := range n {
			err = errors.Join(err, encoder.Encode(row(i)))
			if i < n-1 {
				b.Truncate(b.Len() - 1)
				b.WriteString(",\n")
			}
		}
		b.WriteString("]")
	}
	b.WriteString("{\n")
	list("Requests", len(rows.Requests), func(i int) any { return rows.Requests[i] })
	b.WriteString(",\n")
	list("Frames", len(rows.Frames), func(i int) any { return rows.Frames[i] })
	b.WriteString("}\n")
	return b.Bytes(), err
}

// TestRFC6455Rows holds the file to the table. If they differ, -rfc6455.write writes it anew.
func TestRFC6455Rows(t *testing.T) {
	want := rfcAllRows()
	if *rfcWrite {
		content, err := rfcWriteRows(want)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(rfcRowsFile, content, 0o644))
	}
	content, err := os.ReadFile(rfcRowsFile)
	require.NoError(t, err)
	var got rfcRows
	require.NoError(t, json.Unmarshal(content, &got))
	require.Len(t, got.Requests, len(want.Requests))
	for i, row := range want.Requests {
		require.Equal(t, row, got.Requests[i])
	}
	require.Len(t, got.Frames, len(want.Frames))
	for i, row := range want.Frames {
		for _, row := range []*rfcFrameRow{&row, &got.Frames[i]} {
			row.In, row.Out = rfcInflate(row.In), rfcInflate(row.Out)
		}
		require.Equal(t, row, got.Frames[i])
	}
}
