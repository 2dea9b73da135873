package websocket

// Kinds of messages, as they are counted.
const (
	kindText = iota
	kindBin
	kindControl
	kinds
)

// traffic counts what goes in one direction.
type traffic struct {
	messages [kinds]uint64 // and control frames
	bytes    [kinds]uint64 // of their payload, as it is on the wire
	plain    uint64        // bytes of messages that are compressed, before that
	packed   uint64        // and after it
}

// kindOf returns how a frame is counted. A frame that goes on with a message of an earlier packet counts as binary.
func kindOf(opcode Opcode) int {
	switch {
	case opcode.isControl():
		return kindControl
	case opcode == OpcodeText:
		return kindText
	}
	return kindBin
}

// addEvent counts what a receiver has read.
func (t *traffic) addEvent(ev *event) {
	if ev.kind != eventNone {
		kind := kindOf(ev.head.opcode())
		t.messages[kind]++
		t.bytes[kind] += ev.head.length
	}
}

// addSent counts what is sent.
func (t *traffic) addSent(out *outgoing) {
	if out.text > 0 {
		t.plain += uint64(out.text)
		t.packed += uint64(len(out.body))
	}
	if kind, bytes, ok := out.only(); ok {
		t.messages[kind]++
		t.bytes[kind] += bytes
		return
	}
	t.addFrames(out.body)
}

// only returns how what is sent is counted if it is one frame, as mostly it is.
func (out *outgoing) only() (kind int, bytes uint64, ok bool) {
	switch {
	case len(out.head) > 0:
		return kindOf(Opcode(out.head[0] & bitsOpcode)), uint64(len(out.body)), true
	case out.lone > 0:
		return int(out.lone) - 1, uint64(len(out.body) - int(out.front)), true
	}
	return 0, 0, false
}

// addFrames counts the frames of a packet, up to what is none. A message in several frames counts with its first one.
func (t *traffic) addFrames(packet []byte) {
	kind := kindBin
	for len(packet) > 0 {
		h, n := parseHeader(packet)
		if n == 0 || h.length > uint64(len(packet)-n) {
			return
		}
		of := kindOf(h.opcode())
		if h.opcode() != OpcodeCont {
			t.messages[of]++
		} else {
			of = kind
		}
		if of != kindControl { // which may come between the frames of a message
			kind = of
		}
		t.bytes[of] += h.length
		packet = packet[n+int(h.length):]
	}
}
