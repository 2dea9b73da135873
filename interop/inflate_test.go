package interop

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

var (
	errCut     = errors.New("the compressed data end too early")
	errSymbol  = errors.New("no such symbol")
	errStored  = errors.New("the length of a stored block and its complement differ")
	errTooFar  = errors.New("a distance reaches further back than agreed")
	errDynamic = errors.New("invalid code lengths")
)

// inflater inflates the messages of one direction of a connection, as RFC 7692, section 7.2.2 has it. Other than the libraries, it
// refuses what a receiver with no more than the window that was agreed upon could not inflate. It is written for being strict, not
// for being fast.
type inflater struct {
	window   int  // bytes
	takeover bool // of the context, from message to message

	history []byte // what was inflated before, as long as the window at most
	reached bool   // whether a message has made use of the history

	in    []byte
	at    int // what of in is in bits, or was
	bits  uint32
	count uint // of bits
	out   []byte
	start int // of the message, in out
}

// message inflates one message.
func (f *inflater) message(compressed []byte) (payload []byte, err error) {
	f.in = append(append(make([]byte, 0, len(compressed)+4), compressed...), 0, 0, 0xff, 0xff)
	f.at, f.bits, f.count = 0, 0, 0
	f.out = append(make([]byte, 0, len(f.history)+4*len(compressed)), f.history...)
	f.start = len(f.out)
	for f.at-int(f.count/8) < len(f.in) {
		if err = f.block(); err != nil {
			return nil, err
		}
	}
	if f.takeover {
		f.history = append(f.history[:0], f.out[max(0, len(f.out)-f.window):]...)
	}
	return f.out[f.start:], nil
}

// block inflates one block (RFC 1951, section 3.2.3). After one that says it is the last, the next begins at a whole byte (RFC 7692,
// section 7.2.3.4).
func (f *inflater) block() error {
	header, err := f.take(3)
	if err != nil {
		return err
	}
	switch header >> 1 {
	case 0:
		err = f.stored()
	case 1:
		err = f.symbols(fixedLiterals, fixedDistances)
	case 2:
		var literals, distances *huffman
		if literals, distances, err = f.codes(); err == nil {
			err = f.symbols(literals, distances)
		}
	default:
		err = errSymbol
	}
	if err == nil && header&1 != 0 {
		f.align()
	}
	return err
}

// align goes on at a whole byte.
func (f *inflater) align() {
	f.at -= int(f.count / 8)
	f.bits, f.count = 0, 0
}

// take takes bits.
func (f *inflater) take(n uint) (uint32, error) {
	if f.fill(n); f.count < n {
		return 0, errCut
	}
	value := f.bits & (1<<n - 1)
	f.bits, f.count = f.bits>>n, f.count-n
	return value, nil
}

// fill has that many bits ready, if there are.
func (f *inflater) fill(n uint) {
	for ; f.count < n && f.at < len(f.in); f.at++ {
		f.bits |= uint32(f.in[f.at]) << f.count
		f.count += 8
	}
}

func (f *inflater) stored() error {
	f.align()
	in := f.in[f.at:]
	if len(in) < 4 {
		return errCut
	}
	length, complement := int(in[0])|int(in[1])<<8, int(in[2])|int(in[3])<<8
	if length != complement^0xffff {
		return errStored
	}
	if in = in[4:]; len(in) < length {
		return errCut
	}
	f.out, f.at = append(f.out, in[:length]...), f.at+4+length
	return nil
}

// The lengths and distances that symbols stand for (RFC 1951, section 3.2.5).
var (
	lengthBase    = [...]int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra   = [...]uint{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBase  = [...]int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceExtra = [...]uint{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

func (f *inflater) symbols(literals, distances *huffman) error {
	const end = 256
	for {
		symbol, err := f.symbol(literals)
		switch {
		case err != nil:
			return err
		case symbol < end:
			f.out = append(f.out, byte(symbol))
			continue
		case symbol == end:
			return nil
		}
		length, err := f.extended(symbol-end-1, lengthBase[:], lengthExtra[:])
		if err != nil {
			return err
		}
		if symbol, err = f.symbol(distances); err != nil {
			return err
		}
		distance, err := f.extended(symbol, distanceBase[:], distanceExtra[:])
		if err == nil {
			err = f.repeat(length, distance)
		}
		if err != nil {
			return err
		}
	}
}

func (f *inflater) extended(symbol int, base []int, extra []uint) (int, error) {
	if symbol >= len(base) {
		return 0, errSymbol
	}
	more, err := f.take(extra[symbol])
	return base[symbol] + int(more), err
}

func (f *inflater) repeat(length, distance int) error {
	if distance > min(f.window, len(f.out)) {
		return fmt.Errorf("%w: %d bytes, %d of the message and a window of %d", errTooFar, distance, len(f.out)-f.start, f.window)
	}
	from := len(f.out) - distance
	f.reached = f.reached || from < f.start
	for range length {
		f.out = append(f.out, f.out[from])
		from++
	}
	return nil
}

// huffman is a canonical code (RFC 1951, section 3.2.2), as a table over the next bits of the data.
type huffman struct {
	bits  uint     // of the longest code
	table []uint16 // symbol << 4 | length of its code; 0: no code begins like this
}

func newHuffman(lengths []byte) *huffman {
	var first [17]int // code of each length
	for _, length := range lengths {
		first[length+1]++
	}
	h := &huffman{bits: uint(slices.Max(lengths))}
	first[1] = 0 // symbols without a code
	for length := 2; length < len(first); length++ {
		first[length] = (first[length] + first[length-1]) << 1
	}
	h.table = make([]uint16, 1<<h.bits)
	for symbol, length := range lengths {
		if length == 0 {
			continue
		}
		code := int(bits.Reverse16(uint16(first[length])) >> (16 - length))
		first[length]++
		for ; code < len(h.table); code += 1 << length {
			h.table[code] = uint16(symbol)<<4 | uint16(length)
		}
	}
	return h
}

func (f *inflater) symbol(h *huffman) (int, error) {
	f.fill(h.bits)
	entry := h.table[f.bits&(1<<h.bits-1)]
	length := uint(entry & 15)
	if length == 0 || length > f.count {
		return 0, errSymbol
	}
	f.bits, f.count = f.bits>>length, f.count-length
	return int(entry >> 4), nil
}

var fixedLiterals, fixedDistances = func() (literals, distances *huffman) {
	lengths := make([]byte, 288)
	for symbol := range lengths {
		switch {
		case symbol < 144 || symbol >= 280:
			lengths[symbol] = 8
		case symbol < 256:
			lengths[symbol] = 9
		default:
			lengths[symbol] = 7
		}
	}
	return newHuffman(lengths), newHuffman(bytes.Repeat([]byte{5}, 30))
}()

// codes reads the codes of a dynamic block (RFC 1951, section 3.2.7).
func (f *inflater) codes() (literals, distances *huffman, err error) {
	sizes, err := f.take(14)
	if err != nil {
		return nil, nil, err
	}
	literalCount, distanceCount, lengthCount := 257+int(sizes&31), 1+int(sizes>>5&31), 4+int(sizes>>10)
	var ofLengths [19]byte
	for _, symbol := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:lengthCount] {
		length, err := f.take(3)
		if err != nil {
			return nil, nil, err
		}
		ofLengths[symbol] = byte(length)
	}
	lengths, err := f.lengths(newHuffman(ofLengths[:]), literalCount+distanceCount)
	if err != nil {
		return nil, nil, err
	}
	return newHuffman(lengths[:literalCount]), newHuffman(lengths[literalCount:]), nil
}

func (f *inflater) lengths(code *huffman, count int) (lengths []byte, err error) {
	repeats := [...]struct {
		base int
		bits uint
	}{{3, 2}, {3, 3}, {11, 7}}
	for len(lengths) < count {
		symbol, err := f.symbol(code)
		if err != nil {
			return nil, err
		}
		if symbol < 16 {
			lengths = append(lengths, byte(symbol))
			continue
		}
		length := byte(0)
		if symbol == 16 {
			if len(lengths) == 0 {
				return nil, errDynamic
			}
			length = lengths[len(lengths)-1]
		}
		more, err := f.take(repeats[symbol-16].bits)
		if err != nil {
			return nil, err
		}
		for range repeats[symbol-16].base + int(more) {
			lengths = append(lengths, length)
		}
	}
	if len(lengths) > count {
		return nil, errDynamic
	}
	return lengths, nil
}
