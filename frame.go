package websocket

import (
	"crypto/rand"
	"encoding/binary"
	"iter"
	"math/bits"
)

// Opcode tells what a frame is (RFC 6455, section 5.2).
type Opcode byte

// Opcodes. 0x3 to 0x7 are reserved for further data frames, 0xB to 0xF for further control frames.
const (
	OpcodeCont        Opcode = 0x0
	OpcodeText        Opcode = 0x1
	OpcodeBin         Opcode = 0x2
	OpcodeDataRsv3    Opcode = 0x3
	OpcodeDataRsv4    Opcode = 0x4
	OpcodeDataRsv5    Opcode = 0x5
	OpcodeDataRsv6    Opcode = 0x6
	OpcodeDataRsv7    Opcode = 0x7
	OpcodeClose       Opcode = 0x8
	OpcodePing        Opcode = 0x9
	OpcodePong        Opcode = 0xA
	OpcodeControlRsvB Opcode = 0xB
	OpcodeControlRsvC Opcode = 0xC
	OpcodeControlRsvD Opcode = 0xD
	OpcodeControlRsvE Opcode = 0xE
	OpcodeControlRsvF Opcode = 0xF
)

// isControl reports whether the opcode is that of a control frame, including the reserved ones.
func (op Opcode) isControl() bool { return op&0x8 != 0 }

// isReserved reports whether RFC 6455 gives the opcode no meaning.
func (op Opcode) isReserved() bool { return op&0x7 > 0x2 }

// Bits of a frame header's first two bytes (RFC 6455, section 5.2).
const (
	bitFin     = 0x80
	bitRsv1    = 0x40
	bitRsv2    = 0x20
	bitRsv3    = 0x10
	bitsRsv    = bitRsv1 | bitRsv2 | bitRsv3
	bitsOpcode = 0x0F
	bitMasked  = 0x80

	length16 = 126 // the length follows in two bytes
	length64 = 127 // the length follows in eight bytes

	keySize   = 4  // bytes of a masking key
	maxHeader = 14 // bytes of the longest header
)

// header is the part of a frame before its payload.
type header struct {
	length uint64
	key    uint32 // the masking key, its first byte lowest; zero if masked is false
	first  byte   // FIN, reserved bits and opcode, as they stand in the frame
	masked bool
}

func (h header) fin() bool      { return h.first&bitFin != 0 }
func (h header) rsv() byte      { return h.first & bitsRsv }
func (h header) opcode() Opcode { return Opcode(h.first & bitsOpcode) }

// finished is the header of a whole message, not masked.
func finished(opcode Opcode, length int) header {
	return header{first: bitFin | byte(opcode), length: uint64(length)}
}

// parseHeader reads a header and checks nothing. n = 0 means that more bytes are needed; what the first two say is valid even
// then, if b has them: all fields but the key, with the length as far as they tell it.
func parseHeader(b []byte) (h header, n int) {
	if len(b) < 2 {
		return h, 0
	}
	h.first = b[0]
	h.masked = b[1]&bitMasked != 0
	h.length = uint64(b[1] &^ bitMasked)
	n = 2
	switch h.length {
	case length16:
		if n += 2; len(b) < n {
			return h, 0
		}
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
	case length64:
		if n += 8; len(b) < n {
			return h, 0
		}
		h.length = binary.BigEndian.Uint64(b[2:])
	}
	if h.masked {
		if len(b) < n+keySize {
			return h, 0
		}
		h.key = binary.LittleEndian.Uint32(b[n:])
		n += keySize
	}
	return h, n
}

// appendHeader appends a header with the shortest form of its length.
func appendHeader(dst []byte, h header) []byte {
	first, second := h.first, byte(0)
	if h.masked {
		second = bitMasked
	}
	switch {
	case h.length < length16:
		dst = append(dst, first, second|byte(h.length))
	case h.length <= 0xFFFF:
		dst = binary.BigEndian.AppendUint16(append(dst, first, second|length16), uint16(h.length))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, second|length64), h.length)
	}
	if h.masked {
		dst = binary.LittleEndian.AppendUint32(dst, h.key)
	}
	return dst
}

// lengthFieldSize is the number of bytes in the shortest form of a length, including the second byte of the header.
func lengthFieldSize(length uint64) int {
	switch {
	case length < length16:
		return 1
	case length <= 0xFFFF:
		return 3
	}
	return 9
}

// mask writes src, masked or unmasked with the key, to dst, which is as long and may be src itself (RFC 6455, section 5.3). pos
// is the offset of src[0] in the payload.
func mask(dst, src []byte, key uint32, pos int) {
	dst = dst[:len(src)]
	if key == 0 { // as in all frames of a server; often they are in their place already
		copy(dst, src)
		return
	}
	key = bits.RotateLeft32(key, -8*(pos&3))
	word := uint64(key)<<32 | uint64(key)
	for len(src) >= 32 {
		s, d := src[:32], dst[:32]
		binary.LittleEndian.PutUint64(d, binary.LittleEndian.Uint64(s)^word)
		binary.LittleEndian.PutUint64(d[8:], binary.LittleEndian.Uint64(s[8:])^word)
		binary.LittleEndian.PutUint64(d[16:], binary.LittleEndian.Uint64(s[16:])^word)
		binary.LittleEndian.PutUint64(d[24:], binary.LittleEndian.Uint64(s[24:])^word)
		src, dst = src[32:], dst[32:]
	}
	for len(src) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^word)
		src, dst = src[8:], dst[8:]
	}
	for i, b := range src {
		dst[i] = b ^ byte(word>>(8*i))
	}
}

// zeroSize is the size in bytes from which zeroing a slice costs more than another pass over it.
const zeroSize = 1 << 10

// copyMasked returns a copy of src, masked or unmasked with the key.
func copyMasked(src []byte, key uint32) []byte {
	if dst := spareBuffer(len(src)); dst != nil {
		mask(dst[:len(src)], src, key, 0)
		return dst[:len(src)]
	}
	if len(src) < zeroSize {
		dst := make([]byte, len(src))
		mask(dst, src, key, 0)
		return dst
	}
	dst := append([]byte(nil), src...) // does not zero what it overwrites
	mask(dst, dst, key, 0)
	return dst
}

// newKey returns a masking key that nobody can predict.
func newKey() uint32 {
	var key [keySize]byte
	rand.Read(key[:]) // never fails
	return binary.LittleEndian.Uint32(key[:])
}

// appendFrame appends a whole frame. A masked one gets a fresh key from crypto/rand (RFC 6455, section 5.3).
func appendFrame(dst []byte, opcode Opcode, isMasked bool, payload []byte) []byte {
	h := finished(opcode, len(payload))
	if isMasked {
		h.masked, h.key = true, newKey()
	}
	dst = appendHeader(dst, h)
	start := len(dst)
	dst = append(dst, payload...) // does not zero what it overwrites
	if isMasked {
		mask(dst[start:], dst[start:], h.key, 0)
	}
	return dst
}

// NewFrame returns one finished frame (FIN set, reserved bits clear) with the payload copied into it and its length in the
// shortest form (RFC 6455, section 5.2). It neither cuts nor checks the payload. That of a control frame must have at most 125
// bytes, which NewFrameClose, NewFramePing and NewFramePong ensure.
//
// isMasked is true for frames that a client sends, false for those of a server (section 5.1). Each masked frame gets its own
// masking key, which nobody can predict. The packet belongs to the caller; it may be sent to any number of connections.
func NewFrame(opcode Opcode, isMasked bool, payload []byte) []byte {
	if len(payload) < zeroSize {
		return appendFrame(make([]byte, 0, maxHeader+len(payload)), opcode, isMasked, payload)
	}
	return appendFrame(nil, opcode, isMasked, payload)
}

// NewFrameBin returns a binary message of one frame. See NewFrame.
func NewFrameBin(isMasked bool, payload []byte) []byte {
	return NewFrame(OpcodeBin, isMasked, payload)
}

// NewFrameText returns a text message of one frame. See NewFrame. The payload must be UTF-8, which is not checked here; a peer
// closes the connection with StatusInvalidData if it is not.
func NewFrameText(isMasked bool, payload []byte) []byte {
	return NewFrame(OpcodeText, isMasked, payload)
}

// NewFrameClose returns a Close frame (RFC 6455, section 5.5.1). The payload follows the code; it is a reason for people to
// read, in UTF-8. Code 0 means StatusNormal. A reason longer than 123 bytes is cut, never inside a character.
//
// A code that must not be on the wire (RFC 6455, section 7.4) is replaced: 1005, "no status", by an empty body, any other by
// StatusInternalError. A Close frame that a program makes with NewFrame is not checked.
//
// On a connection of a Server, sending it starts the closing handshake: no data can be sent after it.
func NewFrameClose(isMasked bool, code CloseCode, payload []byte) []byte {
	switch {
	case code == 0:
		code = StatusNormal
	case code == statusNone:
		return NewFrame(OpcodeClose, isMasked, nil)
	case !code.onWire():
		code = StatusInternalError
	}
	return NewFrame(OpcodeClose, isMasked, appendCloseBody(nil, code, payload))
}

// NewFramePing returns a Ping frame with at most 125 bytes of the payload (RFC 6455, section 5.5.2).
func NewFramePing(isMasked bool, payload []byte) (packet []byte) {
	return NewFrame(OpcodePing, isMasked, cutControl(payload))
}

// NewFramePong returns a Pong frame with at most 125 bytes of the payload (RFC 6455, section 5.5.3).
func NewFramePong(isMasked bool, payload []byte) (packet []byte) {
	return NewFrame(OpcodePong, isMasked, cutControl(payload))
}

func cutControl(payload []byte) []byte { return payload[:min(len(payload), maxControl)] }

// Frame is one frame as it was received: read by Unpack, or passed to a handler. A program gets its frames from this package;
// the zero value is an incomplete continuation without payload.
//
// A Frame never changes, and may be read from any goroutine.
type Frame struct {
	payload  []byte
	head     header
	complete bool
}

// Opcode returns the opcode, which tells what the frame is.
func (f *Frame) Opcode() Opcode { return f.head.opcode() }

// IsData reports whether the frame is a text or a binary frame. A continuation is neither.
func (f *Frame) IsData() bool { return f.head.opcode() == OpcodeText || f.head.opcode() == OpcodeBin }

// IsControl reports whether the frame is a control frame (RFC 6455, section 5.5), including those with a reserved opcode.
func (f *Frame) IsControl() bool { return f.head.opcode().isControl() }

// IsFinal reports whether the frame is the last of its message: its FIN bit (RFC 6455, section 5.2).
func (f *Frame) IsFinal() bool { return f.head.fin() }

// IsMasked reports whether the frame was masked when it arrived. Its payload is unmasked in any case.
func (f *Frame) IsMasked() bool { return f.head.masked }

// IsComplete reports whether all of the payload is there. It is false for the last frame of a packet that was cut off.
func (f *Frame) IsComplete() bool { return f.complete }

// ReservedBits reports which of the bits RSV1, RSV2 and RSV3 are set (RFC 6455, section 5.2).
func (f *Frame) ReservedBits() (one, two, three bool) {
	return f.head.first&bitRsv1 != 0, f.head.first&bitRsv2 != 0, f.head.first&bitRsv3 != 0
}

// Payload returns the unmasked payload; that of a Close frame begins with the two bytes of the code. It is not a copy.
func (f *Frame) Payload() []byte { return f.payload }

// CloseCode returns the code of a Close frame: 0 if it has none, or if the frame is not a Close frame.
func (f *Frame) CloseCode() CloseCode {
	if f.head.opcode() != OpcodeClose || len(f.payload) < 2 {
		return 0
	}
	return CloseCode(binary.BigEndian.Uint16(f.payload))
}

// CloseReason returns the text that follows the code of a Close frame. It is not a copy, and not checked to be UTF-8.
func (f *Frame) CloseReason() []byte {
	if f.head.opcode() != OpcodeClose || len(f.payload) < 2 {
		return nil
	}
	return f.payload[2:]
}

// Frames is a sequence of frames: those of one packet, or the fragments of one message (RFC 6455, section 5.4). The zero value
// is empty. Append must not run at the same time as any other method; the others may run together.
type Frames struct {
	list []*Frame
}

// Unpack reads the frames of a packet, in order, with their payloads unmasked and copied: it neither changes nor keeps the
// packet. It returns nil for an empty packet.
//
// If the packet ends inside a frame, that frame is the last one, with the part of its payload that is there and IsComplete
// false; a single byte is enough for its opcode. Unpack never fails and reserves no memory for a length that a header only
// claims. It does not check the rules of the protocol; Server and Client do, for what they read.
func Unpack(packet []byte) (frames *Frames) {
	if len(packet) == 0 {
		return nil
	}
	frames = new(Frames)
	for len(packet) > 0 {
		f, n := unpackFrame(packet)
		frames.Append(f)
		packet = packet[n:]
	}
	return frames
}

// unpackFrame reads the first frame of b, which is not empty.
func unpackFrame(b []byte) (f *Frame, n int) {
	f = new(Frame)
	f.head, n = parseHeader(b)
	if n == 0 {
		f.head.first = b[0]
		return f, len(b)
	}
	body := b[n:]
	f.complete = f.head.length <= uint64(len(body))
	if f.complete {
		body = body[:f.head.length]
	}
	f.payload = make([]byte, len(body))
	mask(f.payload, body, f.head.key, 0)
	return f, n + len(body)
}

// Append adds a frame at the end. It does not check whether the frame may stand there.
func (frames *Frames) Append(f *Frame) { frames.list = append(frames.list, f) }

// Opcode returns the opcode of the first frame, which is that of the message: OpcodeCont if there is none.
func (frames *Frames) Opcode() Opcode {
	if frames.Len() == 0 {
		return OpcodeCont
	}
	return frames.list[0].Opcode()
}

// Len returns the number of frames; 0 for nil Frames.
func (frames *Frames) Len() int {
	if frames == nil {
		return 0
	}
	return len(frames.list)
}

// All iterates over the frames, in order, with their indices. Nil Frames have none.
func (frames *Frames) All() iter.Seq2[int, *Frame] {
	return func(yield func(int, *Frame) bool) {
		for i := range frames.Len() {
			if !yield(i, frames.list[i]) {
				return
			}
		}
	}
}

// Payload returns the payloads of all frames joined in a new slice: the message, if the frames are its fragments.
func (frames *Frames) Payload() []byte {
	var payload []byte
	for _, f := range frames.All() {
		payload = append(payload, f.payload...)
	}
	return payload
}

// IsFinal reports whether the last frame is complete and has its FIN bit set: the message has ended.
func (frames *Frames) IsFinal() bool {
	if frames.Len() == 0 {
		return false
	}
	last := frames.list[frames.Len()-1]
	return last.IsComplete() && last.IsFinal()
}
