package websocket

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
)

// windowInflate inflates a message as RFC 1951 has it, in the plainest way, for a peer that keeps no more than window bytes.
func windowInflate(message, dict []byte, window int) ([]byte, error) {
	if len(message) == 0 {
		return nil, nil
	}
	w := windowInflater{in: append(append([]byte(nil), message...), deflateTail...), out: append([]byte(nil), dict...), window: window}
	for w.at < 8*len(w.in) {
		final, kind := w.bits(1), w.bits(2)
		w.block(kind)
		if w.err != nil {
			return w.out[len(dict):], w.err
		}
		if final == 1 {
			w.at = (w.at + 7) &^ 7
			if w.at == 8*len(message) { // RFC 7692 would have one more block
				break
			}
		}
	}
	if w.at%8 != 0 || w.at > 8*len(w.in) {
		w.err = io.ErrUnexpectedEOF
	}
	return w.out[len(dict):], w.err
}

// windowInflater reads bit by bit.
type windowInflater struct {
	in, out    []byte
	at, window int
	err        error
}

func (w *windowInflater) fail(why string) {
	if w.err == nil {
		w.err = errors.New(why)
	}
}

func (w *windowInflater) bits(n int) (value int) {
	for i := range n {
		if w.at >= 8*len(w.in) {
			w.fail("incomplete")
			return 0
		}
		value |= int(w.in[w.at/8]>>(w.at%8)&1) << i
		w.at++
	}
	return value
}

func (w *windowInflater) block(kind int) {
	switch kind {
	case 0:
		w.at = (w.at + 7) &^ 7
		size, complement := w.bits(16), w.bits(16)
		if size != complement^0xffff {
			w.fail("length and complement")
		}
		for ; size > 0 && w.err == nil; size-- {
			w.out = append(w.out, byte(w.bits(8)))
		}
	case 1:
		literals := strings.Repeat("\x08", 144) + strings.Repeat("\x09", 112) + strings.Repeat("\x07", 24) + strings.Repeat("\x08", 8)
		w.symbols(newWindowCode([]byte(literals)), newWindowCode(bytes.Repeat([]byte{5}, 32)))
	case 2:
		w.dynamic()
	default:
		w.fail("a reserved type of block")
	}
}

// dynamic reads a block that has its own codes (RFC 1951, section 3.2.7).
func (w *windowInflater) dynamic() {
	literals, distances, meta := 257+w.bits(5), 1+w.bits(5), 4+w.bits(4)
	if literals > 286 || distances > 30 {
		w.fail("too many codes")
	}
	metaLengths := make([]byte, 19)
	for _, symbol := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:meta] {
		metaLengths[symbol] = byte(w.bits(3))
	}
	code := newWindowCode(metaLengths)
	var lengths []byte
	for len(lengths) < literals+distances && w.err == nil {
		again, times := byte(0), 1
		switch symbol := w.symbol(code); symbol {
		case 16:
			if len(lengths) == 0 {
				w.fail("nothing to repeat")
				return
			}
			again, times = lengths[len(lengths)-1], 3+w.bits(2)
		case 17:
			times = 3 + w.bits(3)
		case 18:
			times = 11 + w.bits(7)
		default:
			again = byte(symbol)
		}
		lengths = append(lengths, bytes.Repeat([]byte{again}, times)...)
	}
	if len(lengths) != literals+distances {
		w.fail("too many lengths")
		return
	}
	w.symbols(newWindowCode(lengths[:literals]), newWindowCode(lengths[literals:]))
}

// symbols reads a block up to its end (RFC 1951, sections 3.2.3 and 3.2.5).
func (w *windowInflater) symbols(literals, distances *windowCode) {
	for w.err == nil {
		switch symbol := w.symbol(literals); {
		case w.err != nil || symbol == 256:
			return
		case symbol < 256:
			w.out = append(w.out, byte(symbol))
		case symbol > 285:
			w.fail("a reserved length")
		default:
			length := windowExtra(symbol-257, 4, w) + 3
			if symbol == 285 {
				length = 258
			}
			symbol := w.symbol(distances)
			if symbol > 29 {
				w.fail("a reserved distance")
				return
			}
			w.refer(length, windowExtra(symbol, 2, w)+1)
		}
	}
}

// windowExtra returns the number that a symbol of lengths or distances stands for, counted from 0: each power of two is divided among
// so many symbols.
func windowExtra(symbol, steps int, w *windowInflater) int {
	if symbol < 2*steps {
		return symbol
	}
	if steps == 4 && symbol == 28 {
		return 0
	}
	extra := symbol/steps - 1
	return (steps+symbol%steps)<<extra + w.bits(extra)
}

func (w *windowInflater) refer(length, distance int) {
	if distance > w.window || distance > len(w.out) {
		w.fail("a reference that reaches too far")
	}
	for ; length > 0 && w.err == nil; length-- {
		w.out = append(w.out, w.out[len(w.out)-distance])
	}
}

// windowCode is a prefix code: by the length and the bits of each, its symbol.
type windowCode struct {
	symbols map[[2]int]int
	valid   bool
}

// newWindowCode makes one from the lengths of its symbols (RFC 1951, section 3.2.2). It is complete, or has no more than one symbol.
func newWindowCode(lengths []byte) *windowCode {
	c := &windowCode{symbols: make(map[[2]int]int)}
	code, longest := 0, int(slices.Max(lengths))
	for length := 1; length <= longest; length++ {
		code <<= 1
		for symbol, l := range lengths {
			if int(l) == length {
				c.symbols[[2]int{length, code}] = symbol
				code++
			}
		}
	}
	c.valid = longest == 0 || code == 1<<longest || code == 1 && longest == 1
	return c
}

func (w *windowInflater) symbol(code *windowCode) int {
	if !code.valid {
		w.fail("a code that is not complete")
	}
	bits := 0
	for length := 1; length <= 15 && w.err == nil; length++ {
		bits = bits<<1 | w.bits(1)
		if symbol, ok := code.symbols[[2]int{length, bits}]; ok {
			return symbol
		}
	}
	w.fail("no such symbol")
	return 0
}
