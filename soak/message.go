package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"unicode/utf8"

	"github.com/wsloop/websocket"
)

// Kinds of messages. Those above are commands to the server, those below are what it sends of its own accord.
const (
	kindEcho  = 'e' // send it back
	kindSleep = 's' // block for as many milliseconds as the first sleepDigits hexadecimal digits of the body say, then send it back
	kindPanic = 'p' // panic in the handler

	kindUser      = 'u' // for all devices of the user that is its owner
	kindBroadcast = 'b' // for everyone
	kindStale     = 'x' // for a connection that has gone: for no one else
)

// headSize is the size in bytes of what stands before the body of a message: its kind, and in hexadecimal its owner, its
// number and the checksum of the body. A shorter message has no head; it is sent back.
const headSize = 1 + 3*8

// sleepDigits is the number of digits in front of the body of kindSleep.
const sleepDigits = 4

// maxBody is the size in bytes of the largest body.
const maxBody = 1 << 20

// message is what clients and server send each other. Its form is ASCII, so that it can be text.
type message struct {
	kind  byte
	owner uint32 // the session or the user that it comes from or is meant for
	seq   uint32
	body  []byte
}

func appendMessage(dst []byte, m message) []byte {
	dst = fmt.Appendf(dst, "%c%08x%08x%08x", m.kind, m.owner, m.seq, crc32.ChecksumIEEE(m.body))
	return append(dst, m.body...)
}

// parseMessage reads a message. ok is false if it has no head, or if its body is not what the head says.
func parseMessage(b []byte) (m message, ok bool) {
	var head [headSize / 2]byte
	if len(b) < headSize {
		return m, false
	}
	if _, err := hex.Decode(head[:], b[1:headSize]); err != nil {
		return m, false
	}
	m = message{
		kind:  b[0],
		owner: binary.BigEndian.Uint32(head[0:]),
		seq:   binary.BigEndian.Uint32(head[4:]),
		body:  b[headSize:],
	}
	return m, binary.BigEndian.Uint32(head[8:]) == crc32.ChecksumIEEE(m.body)
}

// filler holds what bodies are cut from. It does not change.
type filler struct {
	text   []byte // characters of one byte in pairs, and of two: it may be cut at even places
	binary []byte
}

func newFiller(rng *rand.Rand) *filler {
	const size = 2 * maxBody
	f := &filler{text: make([]byte, 0, size), binary: make([]byte, 0, size)}
	for len(f.text) < size {
		if rng.IntN(4) == 0 {
			f.text = utf8.AppendRune(f.text, rune(0x80+rng.IntN(0x780)))
		} else {
			f.text = append(f.text, byte(' '+rng.IntN(95)), byte(' '+rng.IntN(95)))
		}
	}
	for len(f.binary) < size {
		f.binary = binary.LittleEndian.AppendUint64(f.binary, rng.Uint64())
	}
	return f
}

// cut returns n bytes, whole characters if they are for a text message. The caller must not change them.
func (f *filler) cut(rng *rand.Rand, opcode websocket.Opcode, n int) []byte {
	at := rng.IntN(maxBody/2) * 2
	if opcode == websocket.OpcodeBin {
		return f.binary[at : at+n]
	}
	if n%2 == 0 {
		return f.text[at : at+n]
	}
	return append(append(make([]byte, 0, n), f.text[at:at+n-1]...), '.')
}

// boundaries are sizes at which headers change.
var boundaries = []int{0, 1, 125, 126, 127, 65535, 65536}

// randomSize returns the size of a message: small more often than large, sometimes one of the boundaries, rarely a megabyte.
func randomSize(rng *rand.Rand) int {
	switch n := rng.IntN(200); {
	case n == 0:
		return maxBody
	case n < 20:
		return boundaries[rng.IntN(len(boundaries))]
	}
	return rng.IntN(1 << rng.IntN(17))
}

// randomOpcode returns one of the two types of messages.
func randomOpcode(rng *rand.Rand) websocket.Opcode {
	if rng.IntN(2) == 0 {
		return websocket.OpcodeText
	}
	return websocket.OpcodeBin
}
