//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package rfc6455

import (
	"bytes"
	"compress/flate"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// rowsFile has the rows of the package's own table that are for a server. TestRFC6455Rows of the package writes it and holds it
// to the table; it says what each field means.
//
//go:embed testdata/rows.json
var rowsFile []byte

// rows is what the file has.
type rows struct {
	Requests []*requestRow
	Frames   []*frameRow
}

// requestRow is an opening handshake and its answer.
type requestRow struct {
	Name   string
	In     text
	Answer text
	Open   bool   // the answer accepts it
	Out    []sent // what follows, for frames behind the request
	Ends   bool   // the client ends its side
	Whole  bool   // it counts that all of it comes in one piece
	Wire   bool   // no test without I/O has it
}

// frameRow is what comes from a client behind its opening handshake, and what goes out.
type frameRow struct {
	Name     string
	Rules    *rules // nil: those of most rows
	First    string // what the program does before
	In       []wire // frames, or parts of them
	Rest     wire   // what ends an open row, if it is to be ended
	Out      []sent // what goes out each time that the input comes
	Then     []sent // and once behind it
	Answered []int  // how many frames have gone out behind each piece, if it can be said
	Ends     bool   // the input ends the connection
	Open     bool   // the input ends inside a frame or a message
	Closes   bool   // the server ends TCP of its own accord

	in []byte // all pieces
}

// text is bytes that the file has as characters.
type text string

func (t *text) UnmarshalText(b []byte) error {
	if packed, ok := bytes.CutPrefix(b, []byte("flate ")); ok {
		plain, err := io.ReadAll(flate.NewReader(hex.NewDecoder(bytes.NewReader(packed))))
		*t = text(plain)
		return err
	}
	var plain []byte
	for _, character := range string(b) {
		plain = append(plain, byte(character))
	}
	*t = text(plain)
	return nil
}

// wire is bytes that the file has in hexadecimal.
type wire []byte

func (w *wire) UnmarshalText(b []byte) (err error) {
	if bytes.HasPrefix(b, []byte("flate ")) {
		var t text
		err = t.UnmarshalText(b)
		*w = wire(t)
		return err
	}
	*w, err = hex.DecodeString(string(b))
	return err
}

// sent is a frame that goes out.
type sent struct {
	opcode  websocket.Opcode
	payload string
}

func (f *sent) UnmarshalText(b []byte) error {
	var t text
	if err := t.UnmarshalText(b); err != nil {
		return err
	}
	opcode, payload, _ := strings.Cut(string(t), " ")
	n, err := strconv.ParseUint(opcode, 16, 4)
	f.opcode, f.payload = websocket.Opcode(n), payload
	return err
}

// readRows reads the file.
func readRows(t *testing.T) (all rows) {
	t.Helper()
	require.NoError(t, json.Unmarshal(rowsFile, &all))
	for _, row := range all.Frames {
		if row.Rules == nil {
			row.Rules = &rules{MaxMessage: 200, MaxFragments: 8}
		}
		for _, piece := range row.In {
			row.in = append(row.in, piece...)
		}
	}
	return all
}
