package websocket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The table of RFC 6455: what comes from the peer, what it amounts to, what goes out, with which close code a connection ends and
// who closes TCP. Its rows stand in files of their own, each with a list of the clauses that no row can show:
//
//	rfc6455_request_test.go  section 4, the server: requests and their answers
//	rfc6455_answer_test.go   section 4, the client: its requests, and answers to them
//	rfc6455_framing_test.go  sections 5 and 8.1
//	rfc6455_closing_test.go  sections 5.5.1, 6 and 7
//	rfc6455_limits_test.go   section 10
//
// Rows about frames run on the endpoint, without I/O, for every place where the input can be cut (here), and between two ends
// of a connection: rfc6455_client_test.go has a client, tests/rfc6455 a running server, which reads the rows from a file
// (rfc6455_rows_test.go).

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

// rfcTCP says how a connection goes on behind a row.
type rfcTCP uint8

const (
	// rfcByRule: open, and without a word at the peer's end, where the row has neither a Close frame nor a breach. Else the
	// server closes at once and the client after the server did (section 7.1.1).
	rfcByRule rfcTCP = iota
	rfcCloses        // the endpoint under test closes at once
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
	protocol rules
	pieces   [][]byte // the input
	in, rest []byte
}

func (row rfcCase) plan(side rfcSide) *rfcPlan {
	pl := &rfcPlan{rfcCase: row, side: side}
	pl.protocol = rules{maxMessage: rfcMaxMessage, maxFragments: rfcMaxFragments, fromClient: side == rfcServer}
	if row.with != nil {
		row.with(&pl.protocol)
	}
	for _, piece := range row.in {
		pl.pieces = append(pl.pieces, piece(pl.protocol.fromClient))
	}
	for _, piece := range row.rest {
		pl.rest = append(pl.rest, piece(pl.protocol.fromClient)...)
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
func (pl *rfcPlan) late() []byte { return rfcFrame(0x81, "late")(pl.protocol.fromClient) }

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

// rfcReader drives an endpoint as the loop and the client do, and looks after its memory.
type rfcReader struct {
	t      testing.TB
	ep     receiver
	p      *rules
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
			if r.err, r.failed = err, r.fed; !r.ep.hasEnded() {
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

// held returns the memory that a receiver has of its own; nil if it has none.
func (rc *receiver) held() *partial {
	if rc.hasEnded() {
		return nil
	}
	return rc.partial
}

// checkMemory holds the endpoint to what it may keep: nothing between messages, and at most twice what has arrived.
func (r *rfcReader) checkMemory() {
	part := r.ep.held()
	if part == nil {
		return
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
	p, in := &pl.protocol, pl.in
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

	assert.Equal(t, pl.open, byByte.ep.held() != nil, "memory is held only inside a frame or a message")
	assert.Equal(t, pl.ends(), byByte.ep.hasEnded())
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
