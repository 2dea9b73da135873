package websocket

import (
	"bytes"
	"compress/flate"
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
	"testing"

	"github.com/stretchr/testify/require"
)

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
	p := &pl.protocol
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
			if r.ep.hasEnded() {
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

// TestRFC6455Rows holds the file to the table. See the head of this file if they differ.
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
