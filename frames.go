package websocket

import "iter"

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
