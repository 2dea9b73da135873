package peer

import "errors"

// Lengths and distances of DEFLATE have this many bits behind their codes (RFC 1951, section 3.2.5), and distances begin at these numbers.
var (
	lengthBits   = [...]int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBits = [...]int{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	distanceFrom = [...]int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	codeOrder    = [...]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} // section 3.2.7
)

var errDeflate = errors.New("this is no DEFLATE")

// Farthest returns the longest distance of a back reference in a compressed message, in bytes.
func Farthest(packed []byte) (distance int, err error) {
	defer func() {
		if recover() != nil { // it ends too early, or a code is unknown
			err = errDeflate
		}
	}()
	b := &bitReader{from: append(append([]byte(nil), packed...), flushed...)}
	for b.at+7 < 8*len(b.from) {
		b.take(1)
		switch b.take(2) {
		case 0:
			b.at = (b.at + 7) &^ 7
			size := b.take(16)
			b.at += 16 + 8*size
		case 1:
			distance = max(distance, b.block(fixedCodes()))
		case 2:
			distance = max(distance, b.block(b.codes()))
		default:
			return 0, errDeflate
		}
	}
	return distance, nil
}

type bitReader struct {
	from []byte
	at   int // in bits
}

func (b *bitReader) take(n int) (v int) {
	for i := range n {
		v |= int(b.from[b.at/8]>>(b.at%8)&1) << i
		b.at++
	}
	return v
}

// codes is a Huffman code: symbols by the length and the bits of what stands for them.
type codes map[[2]int]int

// newCodes makes a code of the lengths of its symbols (section 3.2.2).
func newCodes(lengths []int) codes {
	c, next := make(codes), 0
	for length := 1; length <= 15; length++ {
		next <<= 1
		for symbol, l := range lengths {
			if l == length {
				c[[2]int{length, next}] = symbol
				next++
			}
		}
	}
	return c
}

func (b *bitReader) symbol(c codes) int {
	bits := 0
	for length := 1; length <= 15; length++ {
		bits = bits<<1 | b.take(1)
		if symbol, ok := c[[2]int{length, bits}]; ok {
			return symbol
		}
	}
	panic(errDeflate)
}

// fixedCodes are those of section 3.2.6.
func fixedCodes() (literals, distances codes) {
	lengths := make([]int, 288+30)
	for i := range lengths {
		switch {
		case i >= 288:
			lengths[i] = 5
		case i < 144, i >= 280:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	return newCodes(lengths[:288]), newCodes(lengths[288:])
}

// codes reads those of a block (section 3.2.7).
func (b *bitReader) codes() (literals, distances codes) {
	n, m, k := 257+b.take(5), 1+b.take(5), 4+b.take(4)
	var order [19]int
	for _, i := range codeOrder[:k] {
		order[i] = b.take(3)
	}
	meta := newCodes(order[:])
	var lengths []int
	for len(lengths) < n+m {
		length, times := b.symbol(meta), 1
		switch length {
		case 16:
			length, times = lengths[len(lengths)-1], 3+b.take(2)
		case 17:
			length, times = 0, 3+b.take(3)
		case 18:
			length, times = 0, 11+b.take(7)
		}
		for range times {
			lengths = append(lengths, length)
		}
	}
	return newCodes(lengths[:n]), newCodes(lengths[n:])
}

// block returns the longest distance in a block.
func (b *bitReader) block(literals, distances codes) (farthest int) {
	for {
		symbol := b.symbol(literals)
		if symbol == 256 {
			return farthest
		} else if symbol < 256 {
			continue
		}
		b.take(lengthBits[symbol-257])
		d := b.symbol(distances)
		farthest = max(farthest, distanceFrom[d]+b.take(distanceBits[d]))
	}
}
