package websocket

import (
	"math"
	"unicode/utf8"
)

// directRead is how many bytes of a message must have arrived, and how many of its frame must be missing, for the rest to be read
// straight into the message.
const directRead = 16 << 10

// maxDirect is how many bytes one such read takes: as many as are read without telling the scheduler.
const maxDirect = 64 << 10

// uncounted stands for the number of frames of a message that has no limits.
const uncounted = -1

// assembly puts the frames of a message together as their bytes arrive. Its zero value holds no message.
type assembly struct {
	inMessage  bool   // a message has begun; its payload so far follows
	compressed bool   // it is: whether it is UTF-8 is seen once it is inflated
	streamed   bool   // it is given out in parts
	first      header // of its first frame
	fragments  int
	limit      uint64 // bytes that it may have
	message    []byte
	checked    int // bytes of message known to be UTF-8
}

// messageState is what a header's rules need to know of the message in progress.
type messageState struct {
	length     uint64 // bytes so far, never above the limit
	fragments  int    // uncounted if the message is given out in parts
	begun      bool
	compressed bool
}

func (a *assembly) state() messageState {
	return messageState{length: uint64(len(a.message)), fragments: a.fragments, begun: a.inMessage, compressed: a.compressed}
}

// begin counts a data frame and, if it is the first of its message, starts the message.
func (a *assembly) begin(r *rules, frame header) {
	if !a.inMessage {
		a.inMessage, a.first, a.compressed = true, frame, r.isCompressed(frame)
		a.streamed = r.isStreamed(frame)
		if a.limit = r.maxLength(a.compressed); a.streamed {
			a.limit = math.MaxInt // a part has no limit but what comes at once
		}
	}
	if a.fragments++; a.streamed { // which takes no more memory for more of them
		a.fragments = uncounted
	}
}

// add unmasks a piece of a data frame into the message, where it may be already; taken is its place in the frame's payload. It
// fails at the first byte that cannot be UTF-8 in a text message (RFC 6455, section 8.1).
func (a *assembly) add(frame header, taken uint64, b []byte) *protocolError {
	have := len(a.message)
	if size := uint64(have + len(b)); size > uint64(cap(a.message)) {
		if !a.streamed { // else it is taken out before more comes
			size *= 2
		}
		a.grow(frame, taken, size)
	}
	a.message = a.message[:have+len(b)]
	mask(a.message[have:], b, frame.key, int(taken&3))
	if !a.isText() {
		return nil
	}
	n, ok := validPrefix(a.message[a.checked:])
	a.checked += n
	if !ok {
		return errNotUTF8
	}
	return nil
}

// grow gives the message a larger buffer, but none beyond its limit or the end of its last frame, of whose payload it has the
// first taken bytes (and an eighth for roundSize). Memory grows with what has arrived: size is twice that, or four times if that
// saves copying a long message.
func (a *assembly) grow(frame header, taken, size uint64) {
	size = min(size, a.limit)
	if frame.fin() {
		size = min(size, uint64(len(a.message))+frame.length-taken)
	}
	old := a.message
	a.message = append(newBuffer(int(size)), old...)
	PutBuffer(old)
}

// isLong reports whether the rest of a frame, of whose payload the message has the first taken bytes, is to be read straight
// into the message.
func (a *assembly) isLong(frame header, taken uint64) bool {
	return frame.length-taken >= directRead && len(a.message) >= directRead
}

// room returns where the next bytes of a frame's payload may be read to. A buffer that is full grows to four times what has
// arrived, the bytes that wait to be read included.
func (a *assembly) room(frame header, taken uint64, waiting func() int) []byte {
	if cap(a.message)-len(a.message) < directRead {
		a.grow(frame, taken, 4*uint64(len(a.message)+waiting()))
	}
	free := a.message[len(a.message):cap(a.message)]
	return free[:min(uint64(len(free)), frame.length-taken, maxDirect)]
}

// part takes what has come out of the message: text without the beginning of a character at its end.
func (a *assembly) part() (part []byte) {
	end := len(a.message)
	if a.isText() {
		end = a.checked
	}
	part = a.message[:end]
	a.message, a.checked = append([]byte(nil), a.message[end:]...), 0
	return part
}

// isText reports whether the bytes of the message are to be UTF-8.
func (a *assembly) isText() bool { return a.first.opcode() == OpcodeText && !a.compressed }

// finish makes the event of the message, whose last frame is complete.
func (a *assembly) finish(ev *event) *protocolError {
	if a.isText() && a.checked < len(a.message) {
		return errNotUTF8
	}
	ev.setMessage(header{first: bitFin | a.first.first, masked: a.first.masked}, a.message)
	return nil
}

// wholeMessage makes the event of a message that came in one frame.
func wholeMessage(r *rules, head header, body []byte, ev *event) *protocolError {
	payload := copyMasked(body, head.key)
	if head.opcode() == OpcodeText && !r.isCompressed(head) && !utf8.Valid(payload) {
		return errNotUTF8
	}
	ev.setMessage(head, payload)
	return nil
}

// setMessage is where a message's payload becomes final.
func (ev *event) setMessage(head header, payload []byte) {
	head.length = uint64(len(payload))
	ev.kind, ev.head, ev.payload = eventMessage, head, payload
}

// validPrefix returns the length of b without an incomplete character at its end, and false if b cannot become UTF-8.
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
