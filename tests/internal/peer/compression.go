package peer

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
)

// Deflate is an offer of permessage-deflate without anything, and DeflateBits the one that browsers send.
const (
	Deflate     = "permessage-deflate"
	DeflateBits = "permessage-deflate; client_max_window_bits"
)

// flushed ends what a flate.Writer has flushed, and is not sent (RFC 7692, section 7.2.1); lastBlock is an empty one that is the last.
const (
	flushed   = "\x00\x00\xff\xff"
	lastBlock = "\x01\x00\x00\xff\xff"
)

// Deflated is a client's end of a connection with permessage-deflate. Its handshake is Extend.
type Deflated struct {
	*Conn
	Answer string // Sec-WebSocket-Extensions of the answer
	Sends  Packer
	Gets   Unpacker
	window int // that the server keeps to, in bytes
}

// Extend makes the opening handshake with an offer of extensions, and does what the answer says.
func (c *Conn) Extend(offer string, more ...string) *Deflated {
	c.T.Helper()
	lines := append([]string{"Sec-WebSocket-Extensions: " + offer}, more...)
	c.Send([]byte(strings.TrimSuffix(Request, "\r\n") + strings.Join(lines, "\r\n") + "\r\n\r\n"))
	return c.Extended()
}

// Extended is Extend for a request that was sent.
func (c *Conn) Extended() *Deflated {
	c.T.Helper()
	answer, err := http.ReadResponse(c.Reader, nil)
	require.NoError(c.T, err)
	require.Equal(c.T, http.StatusSwitchingProtocols, answer.StatusCode)
	return c.Agreed(answer.Header.Get("Sec-WebSocket-Extensions"))
}

// Agreed is the connection once a server has answered that.
func (c *Conn) Agreed(answer string) *Deflated {
	d := &Deflated{Conn: c, Answer: answer, window: windowIn(answer, "server_max_window_bits=")}
	if !strings.Contains(answer, "client_no_context_takeover") {
		d.Sends.Window = windowIn(answer, "client_max_window_bits=")
	}
	if !strings.Contains(answer, "server_no_context_takeover") {
		d.Gets.Window = windowIn(answer, "server_max_window_bits=")
	}
	return d
}

func windowIn(answer, name string) int {
	_, value, found := strings.Cut(answer, name)
	bits := 15
	if found {
		fmt.Sscan(strings.TrimSuffix(strings.Fields(value)[0], ";"), &bits)
	}
	return 1 << bits
}

// Pack sends a compressed message in one frame.
func (c *Deflated) Pack(op websocket.Opcode, payload []byte) {
	c.T.Helper()
	c.Send(PackedFrame(op, c.Sends.Pack(payload)))
}

// Message reads a frame, and inflates what is compressed. It may be called from any goroutine.
func (c *Deflated) Message() (op websocket.Opcode, payload []byte, packed bool, err error) {
	first, err := c.Reader.ReadByte()
	if err != nil {
		return 0, nil, false, err
	}
	f, err := ReadFrame(io.MultiReader(bytes.NewReader([]byte{first}), c.Reader))
	switch {
	case err != nil:
	case f.Masked || !f.Fin || first&(BitRsv2|BitRsv3) != 0:
		err = fmt.Errorf("frame that begins with %x, masked %t", first, f.Masked)
	case first&BitRsv1 != 0 && (c.Answer == "" || f.Opcode > websocket.OpcodeBin):
		err = fmt.Errorf("%x is compressed", f.Opcode)
	case first&BitRsv1 != 0:
		payload, err = c.Gets.Unpack(f.Payload)
		if farthest, broken := Farthest(f.Payload); c.window < 32<<10 && (farthest > c.window || broken != nil) {
			err = errors.Join(err, broken, fmt.Errorf("a reference of %d bytes in a window of %d", farthest, c.window))
		}
		return f.Opcode, payload, true, err
	}
	return f.Opcode, f.Payload, false, err
}

// CompareMessage reads a message and compares it, compressed or not. It may be called from any goroutine.
func (c *Deflated) CompareMessage(op websocket.Opcode, payload string) (packed bool, err error) {
	gotOp, got, packed, err := c.Message()
	switch {
	case err != nil:
		err = fmt.Errorf("want %x %.40q: %w", op, payload, err)
	case gotOp != op || string(got) != payload:
		err = fmt.Errorf("got %x %.40q (%d bytes), want %x %.40q (%d bytes)", gotOp, got, len(got), op, payload, len(payload))
	}
	return packed, err
}

// ExpectMessage reads a message, compressed or not, and compares it.
func (c *Deflated) ExpectMessage(op websocket.Opcode, payload string) (packed bool) {
	c.T.Helper()
	packed, err := c.CompareMessage(op, payload)
	require.NoError(c.T, err)
	return packed
}

// PackedFrame is a client's frame with a compressed message.
func PackedFrame(op websocket.Opcode, packed []byte) []byte {
	frame := websocket.NewFrame(op, true, packed)
	frame[0] |= BitRsv1
	return frame
}

// PackedFrames is a client's compressed message in frames of which each but the last has a part as long as size says.
func PackedFrames(op websocket.Opcode, packed []byte, sizes ...int) (frames [][]byte) {
	for _, size := range sizes {
		size = min(size, len(packed))
		frame := websocket.NewFrame(op, true, packed[:size])
		frame[0] &^= BitFin
		frames, packed, op = append(frames, frame), packed[size:], websocket.OpcodeCont
	}
	frames = append(frames, websocket.NewFrame(op, true, packed))
	frames[0][0] |= BitRsv1
	return frames
}

// Packer compresses messages one after the other. The zero value does so without a context.
type Packer struct {
	Window  int // bytes that the receiver keeps of the messages before; 0: none
	history []byte
}

// Pack compresses a message. No reference is longer than the window.
func (p *Packer) Pack(message []byte) (packed []byte) {
	if p.Window == 0 {
		return deflate(nil, message, nil)
	}
	piece := p.Window / 2
	for {
		part := message[:min(piece, len(message))]
		packed = deflate(packed, part, p.history)
		p.history = append(p.history, part...)
		p.history = bytes.Clone(p.history[max(0, len(p.history)-piece):])
		if message = message[len(part):]; len(message) == 0 {
			return packed
		}
		packed = append(packed, flushed...)
	}
}

// Unpacker inflates messages one after the other. The zero value does so without a context.
type Unpacker struct {
	Window  int // bytes that are kept of the messages before; 0: none
	history []byte
}

// Unpack inflates a message. A reference beyond the window, in the messages before, is an error.
func (u *Unpacker) Unpack(packed []byte) (message []byte, err error) {
	r := readers.get(func() io.Reader { return flate.NewReader(nil) })
	defer readers.put(r)
	source := io.MultiReader(bytes.NewReader(packed), strings.NewReader(flushed+lastBlock))
	if err = r.(flate.Resetter).Reset(source, u.history); err != nil {
		return nil, err
	}
	message, err = io.ReadAll(r)
	u.history = append(u.history, message...)
	u.history = bytes.Clone(u.history[max(0, len(u.history)-u.Window):])
	return message, err
}

// ContextCodec compresses with a context, however slowly.
func ContextCodec() websocket.DeflateCodec { return contextCodec{websocket.StandardDeflate()} }

type contextCodec struct{ websocket.DeflateCodec }

func (contextCodec) TakesDict() bool { return true }

func (contextCodec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	return deflate(dst, payload, dict), nil
}

// writers and readers are what costs too much to make for each message.
var (
	writers = make(spare[*writer], 8)
	readers = make(spare[io.Reader], 8)
)

// spare has what is used again. Unlike a sync.Pool it drops nothing with the race detector.
type spare[T any] chan T

func (s spare[T]) get(create func() T) T {
	select {
	case v := <-s:
		return v
	default:
		return create()
	}
}

func (s spare[T]) put(v T) {
	select {
	case s <- v:
	default:
	}
}

type writer struct {
	out     bytes.Buffer
	deflate *flate.Writer
}

func newWriter() *writer {
	w := new(writer)
	w.deflate = must(flate.NewWriter(&w.out, flate.DefaultCompression))
	return w
}

// deflate appends a message, compressed. The writer is given the bytes before it first, and what comes of those is dropped.
func deflate(dst, message, before []byte) []byte {
	w := writers.get(newWriter)
	defer writers.put(w)
	w.out.Reset()
	w.deflate.Reset(&w.out)
	skip := 0
	if len(before) > 0 {
		w.write(before)
		skip = w.out.Len()
	}
	w.write(message)
	return append(dst, w.out.Bytes()[skip:w.out.Len()-len(flushed)]...)
}

// write never fails: nor does the buffer.
func (w *writer) write(b []byte) {
	w.deflate.Write(b)
	w.deflate.Flush()
}
