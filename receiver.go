package websocket

// rules are what a receiver holds its peer to. They are immutable, and whoever drives a receiver passes them to it: connections
// that have the same rules share them, which costs a connection nothing, and one that has rules of its own (an extension is
// agreed on for each connection) brings them.
type rules struct {
	maxMessage      uint64 // bytes of one message
	maxFragments    int    // frames of one message
	allowedRsv      byte   // reserved bits that frames may have
	fromClient      bool   // frames must be masked; else they must not be
	reservedControl bool   // reserved control frames are events, not errors
	deflates        bool   // permessage-deflate was agreed on: see isCompressed
	streamsText     bool   // text messages are given out in parts, as they come, and so have no limits: see takePart
	streamsBin      bool   // likewise binary ones
}

// isStreamed reports whether the message with that first frame is given out in parts.
func (r *rules) isStreamed(first header) bool {
	switch first.opcode() {
	case OpcodeText:
		return r.streamsText && !r.isCompressed(first)
	case OpcodeBin:
		return r.streamsBin && !r.isCompressed(first)
	}
	return false
}

// isCompressed reports whether the message with that first frame is compressed (RFC 7692, section 6).
func (r *rules) isCompressed(first header) bool { return r.deflates && first.rsv()&bitRsv1 != 0 }

// reservedBits returns those that a frame may have set. Compression takes RSV1, and only the first frame of a message has it (RFC 7692,
// section 6).
func (r *rules) reservedBits(h header) byte {
	switch {
	case !r.deflates:
		return r.allowedRsv
	case h.opcode() == OpcodeText, h.opcode() == OpcodeBin:
		return r.allowedRsv | bitRsv1
	}
	return r.allowedRsv &^ bitRsv1
}

// maxLength returns how many bytes a message may have as it comes. What cannot be compressed grows if it is all the same: by 5 bytes for
// each block, which may be small.
func (r *rules) maxLength(compressed bool) uint64 {
	if compressed {
		return r.maxMessage + r.maxMessage/8 + 64
	}
	return r.maxMessage
}

// check is every rule for the header at the front of b; size is its length, 0 while it is incomplete.
func (r *rules) check(h header, b []byte, size int, msg messageState) *protocolError {
	if len(b) < 2 {
		return nil
	}
	if err := r.checkKind(h, b[1]&^bitMasked, msg); err != nil || size == 0 {
		return err
	}
	return r.checkLength(h, size, msg)
}

// checkKind is every rule for a header's first two bytes: what the frame is, and whether it may come now. short is the length
// as it stands there, which may say that the length follows.
func (r *rules) checkKind(h header, short byte, msg messageState) *protocolError {
	switch {
	case h.rsv() != 0 && h.rsv()&^r.reservedBits(h) != 0: // RFC 6455, section 5.2
		return errReservedBits
	case h.opcode().isReserved() && !(h.opcode().isControl() && r.reservedControl): // section 5.2
		return errReservedOpcode
	case r.fromClient && !h.masked: // section 5.1
		return errNotMasked
	case !r.fromClient && h.masked: // section 5.1
		return errMasked
	case h.opcode().isControl() && !h.fin(): // section 5.5
		return errControlFragment
	case h.opcode().isControl() && short > maxControl: // section 5.5
		return errControlLength
	case h.opcode() == OpcodeCont && !msg.begun: // section 5.4
		return errNoStart
	case !h.opcode().isControl() && h.opcode() != OpcodeCont && msg.begun: // section 5.4
		return errInterleaved
	case !h.opcode().isControl() && msg.fragments >= r.maxFragments: // section 10.4
		return errTooManyFragments
	}
	return nil
}

// checkLength is every rule for the length in a whole header of size bytes.
func (r *rules) checkLength(h header, size int, msg messageState) *protocolError {
	field := size - 1
	if h.masked {
		field -= keySize
	}
	switch {
	case h.length>>63 != 0: // RFC 6455, section 5.2
		return errLengthRange
	case field != lengthFieldSize(h.length): // section 5.2
		return errLengthForm
	case !h.opcode().isControl() && msg.length+h.length > r.maxMessage && r.isTooLong(h, msg): // section 10.4
		return errMessageTooLarge
	}
	return nil
}

// isTooLong reports whether a message of more than maxMessage bytes is too long all the same.
func (r *rules) isTooLong(h header, msg messageState) bool {
	if msg.fragments == uncounted || r.isStreamed(h) {
		return false
	}
	return msg.length+h.length > r.maxLength(msg.compressed || r.isCompressed(h))
}

// eventKind tells what a receiver has read.
type eventKind uint8

const (
	eventNone    eventKind = iota // all bytes are taken, nothing is complete
	eventMessage                  // a whole message: opcode is OpcodeText or OpcodeBin, the payload is the caller's to keep
	eventPing                     // to be answered with a Pong of the same payload
	eventPong
	eventControl // a reserved control frame
	eventClose   // code (0: none) and the reason in payload; nothing comes after it

	eventPart     // what has come of a message that is given out in parts: see takePart. The payload is the caller's to keep
	eventLastPart // its end
)

// event is something that the bytes from the peer amount to. The payload of a control frame is valid until the next call.
type event struct {
	payload []byte
	head    header
	code    CloseCode
	kind    eventKind
}

// receiver is the receiving half of the protocol without I/O: bytes in, events out, and if the peer breaks a rule an error with its
// close code. It is a cursor over the frames; assembly puts messages together. Server and Client drive the same one. The zero
// value is ready; between messages it holds no memory.
type receiver struct {
	partial *partial // nil if the last read ended with a message; &endedPartial once the receiver has ended
}

// partial is what the receiver keeps of a frame or message that is not yet complete.
type partial struct {
	start    [maxHeader]byte // beginning of a header that ended with the read
	startLen int

	frame   header           // the frame whose payload is being read, if inFrame
	taken   uint64           // bytes of its payload so far
	control [maxControl]byte // payload of the control frame being read
	inFrame bool

	assembly // the message in progress, between whose frames control frames may come
}

// endedPartial is what each receiver that has ended points to, which saves a connection a flag. Nobody writes to it: read takes
// nothing for a receiver that has it, and room offers nothing, since no frame is in progress.
var endedPartial partial

// hasEnded reports whether a Close frame or an error was met: all that follows is discarded (RFC 6455, sections 5.5.1 and 7.1.7).
func (rc *receiver) hasEnded() bool { return rc.partial == &endedPartial }

// next takes bytes from the front of b and returns the first event that they complete. n is how many it took; without an
// event it took all. Each check is made as soon as the bytes that it needs are there. After an error the receiver has ended.
func (rc *receiver) next(r *rules, b []byte) (ev event, n int, err *protocolError) {
	n, err = rc.read(r, b, &ev)
	return ev, n, err
}

// read is next for an event that is zero.
func (rc *receiver) read(r *rules, b []byte, ev *event) (n int, err *protocolError) {
	for n < len(b) && !rc.hasEnded() && ev.kind == eventNone {
		var used int
		if rc.partial != nil && rc.partial.inFrame {
			used, err = rc.takePayload(b[n:], ev)
		} else {
			used, err = rc.takeHeader(r, b[n:], ev)
		}
		n += used
		if err != nil {
			rc.end()
			return n, err
		}
	}
	if rc.hasEnded() {
		n = len(b)
	}
	return n, nil
}

// end makes the receiver discard whatever comes.
func (rc *receiver) end() { rc.partial = &endedPartial }

// takeHeader takes a frame's header and, if it is all there, the frame's payload with it.
func (rc *receiver) takeHeader(r *rules, b []byte, ev *event) (n int, err *protocolError) {
	head, n, err := rc.parse(r, b)
	if err != nil {
		if head.opcode() == OpcodeClose {
			ev.kind = eventClose
		}
		return n, err
	}
	if n == 0 {
		return len(b), nil
	}
	if head.length <= uint64(len(b)-n) {
		if body := b[n : n+int(head.length)]; head.opcode().isControl() {
			mask(body, body, head.key, 0)
			return n + len(body), rc.endControl(head, body, ev)
		} else if head.fin() && !rc.inMessage() {
			return n + len(body), wholeMessage(r, head, body, ev)
		}
	}
	part := rc.keep()
	part.frame, part.inFrame, part.taken = head, true, 0
	if !head.opcode().isControl() {
		part.begin(r, head)
		if head.length == 0 {
			err = rc.endFrame(ev)
		}
	}
	return n, err
}

// parse reads and checks a header that may have begun in an earlier read. n is how much of b it took, 0 if b does not hold
// the rest of it.
func (rc *receiver) parse(r *rules, b []byte) (head header, n int, err *protocolError) {
	part := rc.partial
	if part == nil || part.startLen == 0 {
		var size int
		if head, size = parseHeader(b); size == 0 {
			part = rc.keep()
			part.startLen = copy(part.start[:], b)
		}
		return head, size, r.check(head, b, size, rc.state())
	}
	had := part.startLen
	part.startLen += copy(part.start[had:], b)
	head, size := parseHeader(part.start[:part.startLen])
	if err = r.check(head, part.start[:part.startLen], size, part.state()); err != nil {
		return head, 0, err
	}
	if size == 0 {
		return head, 0, nil
	}
	if part.startLen = 0; !part.inMessage {
		rc.partial = nil // the rest of the frame may have come too
	}
	return head, size - had, nil
}

func (rc *receiver) state() messageState {
	if rc.partial == nil {
		return messageState{}
	}
	return rc.partial.state()
}

func (rc *receiver) inMessage() bool { return rc.partial != nil && rc.partial.inMessage }

// keep returns the state of the incomplete frame, made if there is none.
func (rc *receiver) keep() *partial {
	if rc.partial == nil {
		rc.partial = new(partial)
	}
	return rc.partial
}

// takePayload takes what b has of the current frame's payload.
func (rc *receiver) takePayload(b []byte, ev *event) (n int, err *protocolError) {
	part := rc.partial
	if left := part.frame.length - part.taken; uint64(len(b)) > left {
		b = b[:left]
	}
	if part.frame.opcode().isControl() {
		mask(part.control[part.taken:], b, part.frame.key, int(part.taken))
	} else if err = part.add(part.frame, part.taken, b); err != nil {
		return len(b), err
	}
	part.taken += uint64(len(b))
	if part.taken == part.frame.length {
		err = rc.endFrame(ev)
	}
	return len(b), err
}

// endFrame closes the current frame; for a control frame or the last frame of a message that is an event.
func (rc *receiver) endFrame(ev *event) *protocolError {
	part := rc.partial
	part.inFrame = false
	if part.frame.opcode().isControl() {
		if !part.inMessage {
			rc.partial = nil
		}
		return rc.endControl(part.frame, part.control[:part.frame.length], ev)
	}
	if !part.frame.fin() {
		return nil
	}
	rc.partial = nil
	return part.finish(ev)
}

// endControl makes the event of a control frame with its unmasked body.
func (rc *receiver) endControl(head header, body []byte, ev *event) (err *protocolError) {
	ev.kind, ev.head, ev.payload = eventControl, head, body
	switch head.opcode() {
	case OpcodePing:
		ev.kind = eventPing
	case OpcodePong:
		ev.kind = eventPong
	case OpcodeClose:
		ev.kind = eventClose
		ev.code, ev.payload, err = parseCloseBody(body)
		rc.end()
	}
	return err
}

// isInData reports whether the next bytes are payload of a data frame.
func (rc *receiver) isInData() bool {
	return rc.partial != nil && rc.partial.inFrame && !rc.partial.frame.opcode().isControl()
}

// isWithin reports whether the last n bytes were all of one data frame, which goes on. Its header, and as little in front of it,
// may be among them.
func (rc *receiver) isWithin(n int) bool {
	return rc.isInData() && rc.partial.taken+maxHeader >= uint64(n)
}

// isLong reports whether the next bytes are to be read straight into the message.
func (rc *receiver) isLong() bool {
	return rc.isInData() && rc.partial.isLong(rc.partial.frame, rc.partial.taken)
}

// room returns where the next bytes may be read to, for filled to take them; nil if the message is not long. waiting tells
// how many bytes wait to be read.
func (rc *receiver) room(waiting func() int) []byte {
	if !rc.isLong() {
		return nil
	}
	return rc.partial.room(rc.partial.frame, rc.partial.taken, waiting)
}

// filled takes n bytes that were read to the front of room.
func (rc *receiver) filled(n int) (ev event, err *protocolError) {
	have := len(rc.partial.message)
	_, err = rc.takePayload(rc.partial.message[have:have+n], &ev)
	if err != nil {
		rc.end()
	}
	return ev, err
}

// takePart makes an event of what has come of the message in progress, if there is anything and its rules want that. Then the message
// has no more than what is left of it: its event is the last part.
func (rc *receiver) takePart(ev *event) bool {
	if rc.partial == nil || !rc.partial.streamed || !rc.partial.inMessage {
		return false
	}
	part := rc.partial.part()
	if len(part) > 0 {
		ev.setMessage(rc.partial.first, part)
		ev.kind = eventPart
	}
	return len(part) > 0
}
