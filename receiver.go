package websocket

import "unicode/utf8"

// rules are what a receiver holds its peer to. They are immutable and shared by the receivers of a Server or a Client.
type rules struct {
	maxMessage      uint64 // bytes of one message
	maxFragments    int    // frames of one message
	allowedRsv      byte   // reserved bits that frames may have
	fromClient      bool   // frames must be masked; else they must not be
	reservedControl bool   // reserved control frames are events, not errors
}

// eventKind tells what a receiver has read.
type eventKind uint8

const (
	eventNone    eventKind = iota // all bytes are taken, nothing is complete
	eventMessage                  // a whole message: opcode is OpcodeText or OpcodeBin, payload is the caller's to keep
	eventPing                     // to be answered with a Pong of the same payload
	eventPong
	eventControl // a reserved control frame
	eventClose   // code (0: none) and the reason in payload; nothing comes after it
)

// event is something that the bytes from the peer amount to. The payload of a control frame is valid until the next call.
type event struct {
	payload []byte
	head    header
	code    CloseCode
	kind    eventKind
}

// receiver is the receiving half of the protocol without I/O: bytes in, events out, an error with its close code where the
// peer breaks a rule. Server and Client drive the same one. The zero value is ready; between messages it holds no memory.
type receiver struct {
	partial *partial // nil where the last read ended with a message
	ended   bool     // a Close frame or an error was met: all that follows is discarded (RFC 6455, sections 5.5.1 and 7.1.7)
}

// partial is what the receiver keeps of a frame or message that is not yet complete.
type partial struct {
	start    [maxHeader]byte // beginning of a header that ended with the read
	startLen int

	frame   header // the frame whose payload is being read, if inFrame
	inFrame bool
	taken   uint64           // bytes of its payload so far
	control [maxControl]byte // payload of the control frame being read

	inMessage bool   // a message has begun; its payload so far follows
	first     header // of its first frame
	fragments int
	limit     uint64 // bytes that it may have
	message   []byte
	checked   int // bytes of message known to be UTF-8
}

// next takes bytes from the front of b and returns the first event that they complete. n is how many it took; without an
// event it took all. Each check is made as soon as the bytes that it needs are there. After an error the receiver has ended.
func (rc *receiver) next(r *rules, b []byte) (ev event, n int, err *protocolError) {
	n, err = rc.read(r, b, &ev)
	return ev, n, err
}

// read is next for an event that is zero.
func (rc *receiver) read(r *rules, b []byte, ev *event) (n int, err *protocolError) {
	for n < len(b) && !rc.ended && ev.kind == eventNone {
		var used int
		if rc.partial != nil && rc.partial.inFrame {
			used, err = rc.payload(b[n:], ev)
		} else {
			used, err = rc.header(r, b[n:], ev)
		}
		n += used
		if err != nil {
			rc.end()
			return n, err
		}
	}
	if rc.ended {
		n = len(b)
	}
	return n, nil
}

// end makes the receiver discard whatever comes.
func (rc *receiver) end() { rc.ended, rc.partial = true, nil }

// header takes a frame's header and, where it is all there, the frame's payload with it.
func (rc *receiver) header(r *rules, b []byte, ev *event) (n int, err *protocolError) {
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
			return n + len(body), rc.control(head, body, ev)
		} else if head.fin() && !rc.inMessage() {
			return n + len(body), wholeMessage(head, body, ev)
		}
	}
	part := rc.keep()
	part.frame, part.inFrame, part.taken = head, true, 0
	if !head.opcode().isControl() {
		part.begin(head, r.maxMessage)
		if head.length == 0 {
			err = rc.frameEnd(ev)
		}
	}
	return n, err
}

// parse reads and checks a header that may have begun in an earlier read. n is how much of b it took, 0 where b does not
// hold the rest of it.
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
	if err = r.check(head, part.start[:part.startLen], size, rc.state()); err != nil {
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

// check is every rule for the header at the front of b; size is its length, 0 while it is incomplete.
func (r *rules) check(h header, b []byte, size int, msg messageState) *protocolError {
	if len(b) < 2 {
		return nil
	}
	switch {
	case h.rsv()&^r.allowedRsv != 0: // RFC 6455, section 5.2
		return errReservedBits
	case h.opcode().isReserved() && !(h.opcode().isControl() && r.reservedControl): // section 5.2
		return errReservedOpcode
	case r.fromClient && !h.masked: // section 5.1
		return errNotMasked
	case !r.fromClient && h.masked: // section 5.1
		return errMasked
	case h.opcode().isControl() && !h.fin(): // section 5.5
		return errControlFragment
	case h.opcode().isControl() && b[1]&^bitMasked > maxControl: // section 5.5
		return errControlLength
	case h.opcode() == OpcodeCont && !msg.begun: // section 5.4
		return errNoStart
	case !h.opcode().isControl() && h.opcode() != OpcodeCont && msg.begun: // section 5.4
		return errInterleaved
	case !h.opcode().isControl() && msg.fragments >= r.maxFragments: // section 10.4
		return errTooManyFragments
	}
	if size == 0 {
		return nil
	}
	field := size - 1
	if h.masked {
		field -= keySize
	}
	switch {
	case h.length>>63 != 0: // section 5.2
		return errLengthRange
	case field != lengthFieldSize(h.length): // section 5.2
		return errLengthForm
	case !h.opcode().isControl() && h.length > r.maxMessage-msg.length: // section 10.4
		return errMessageTooLarge
	}
	return nil
}

// messageState is what a header's rules need to know of the message in progress.
type messageState struct {
	length    uint64 // bytes so far, never above the limit
	fragments int
	begun     bool
}

func (rc *receiver) state() messageState {
	if !rc.inMessage() {
		return messageState{}
	}
	return messageState{length: uint64(len(rc.partial.message)), fragments: rc.partial.fragments, begun: true}
}

func (rc *receiver) inMessage() bool { return rc.partial != nil && rc.partial.inMessage }

// keep returns the state of the incomplete frame, made where there is none.
func (rc *receiver) keep() *partial {
	if rc.partial == nil {
		rc.partial = new(partial)
	}
	return rc.partial
}

// begin counts a data frame and, where it is the first of its message, starts the message.
func (part *partial) begin(head header, limit uint64) {
	if !part.inMessage {
		part.inMessage, part.first, part.limit = true, head, limit
	}
	part.fragments++
}

// payload takes what b has of the current frame's payload.
func (rc *receiver) payload(b []byte, ev *event) (n int, err *protocolError) {
	part := rc.partial
	left := part.frame.length - part.taken
	if uint64(len(b)) > left {
		b = b[:left]
	}
	if part.frame.opcode().isControl() {
		mask(part.control[part.taken:], b, part.frame.key, int(part.taken))
	} else if err = part.add(b, left); err != nil {
		return len(b), err
	}
	part.taken += uint64(len(b))
	if part.taken == part.frame.length {
		err = rc.frameEnd(ev)
	}
	return len(b), err
}

// directRead is how many bytes of a message must have arrived, and how many of its frame must be missing, for the rest to be read
// straight into the message.
const directRead = 16 << 10

// maxDirect is how many bytes one such read takes: as many as are read without telling the scheduler.
const maxDirect = 64 << 10

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
	part := rc.partial
	return rc.isInData() && part.frame.length-part.taken >= directRead && len(part.message) >= directRead
}

// room returns where the next bytes of the current frame's payload may be read to, for filled; nil where the message is not
// long. A buffer that is full grows to four times what has arrived, the bytes included that wait to be read.
func (rc *receiver) room(waiting func() int) []byte {
	if !rc.isLong() {
		return nil
	}
	part := rc.partial
	left := part.frame.length - part.taken
	if cap(part.message)-len(part.message) < directRead {
		part.grow(4*uint64(len(part.message)+waiting()), left)
	}
	free := part.message[len(part.message):cap(part.message)]
	return free[:min(uint64(len(free)), left, maxDirect)]
}

// filled takes n bytes that were read to the front of room.
func (rc *receiver) filled(n int) (ev event, err *protocolError) {
	have := len(rc.partial.message)
	_, err = rc.payload(rc.partial.message[have:have+n], &ev)
	if err != nil {
		rc.end()
	}
	return ev, err
}

// grow gives a message a larger buffer, but none beyond its limit or its last frame, of which left bytes are missing (and an
// eighth for roundSize). Memory grows with what has arrived: size is twice that, or four times where it saves copying a long
// message.
func (part *partial) grow(size, left uint64) {
	size = min(size, part.limit)
	if part.frame.fin() {
		size = min(size, uint64(len(part.message))+left)
	}
	old := part.message
	part.message = append(newBuffer(int(size)), old...)
	PutBuffer(old)
}

// add unmasks a piece of a data frame into the message, where it may be already, and fails at the first byte that cannot be UTF-8
// in a text message (RFC 6455, section 8.1).
func (part *partial) add(b []byte, left uint64) *protocolError {
	have := len(part.message)
	if have+len(b) > cap(part.message) {
		part.grow(2*uint64(have+len(b)), left)
	}
	part.message = part.message[:have+len(b)]
	mask(part.message[have:], b, part.frame.key, int(part.taken&3))
	if part.first.opcode() != OpcodeText {
		return nil
	}
	n, ok := validPrefix(part.message[part.checked:])
	part.checked += n
	if !ok {
		return errNotUTF8
	}
	return nil
}

// frameEnd closes the current frame; for a control frame or the last frame of a message that is an event.
func (rc *receiver) frameEnd(ev *event) (err *protocolError) {
	part := rc.partial
	part.inFrame = false
	if part.frame.opcode().isControl() {
		if !part.inMessage {
			rc.partial = nil
		}
		return rc.control(part.frame, part.control[:part.frame.length], ev)
	}
	if !part.frame.fin() {
		return nil
	}
	rc.partial = nil
	if part.first.opcode() == OpcodeText && part.checked < len(part.message) {
		return errNotUTF8
	}
	ev.message(header{first: bitFin | part.first.first, masked: part.first.masked}, part.message)
	return nil
}

// wholeMessage makes the event of a message that came in one frame.
func wholeMessage(head header, body []byte, ev *event) *protocolError {
	payload := copyMasked(body, head.key)
	if head.opcode() == OpcodeText && !utf8.Valid(payload) {
		return errNotUTF8
	}
	ev.message(head, payload)
	return nil
}

// message is where a message's payload becomes final.
func (ev *event) message(head header, payload []byte) {
	head.length = uint64(len(payload))
	ev.kind, ev.head, ev.payload = eventMessage, head, payload
}

// control makes the event of a control frame with its unmasked body.
func (rc *receiver) control(head header, body []byte, ev *event) (err *protocolError) {
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

// validPrefix returns the length of b without an incomplete character at its end, and false where b cannot become UTF-8.
func validPrefix(b []byte) (n int, ok bool) {
	n = len(b)
	for i := n - 1; i >= 0 && i >= n-utf8.UTFMax+1; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				n = i
			}
			break
		}
	}
	return n, utf8.Valid(b[:n])
}
