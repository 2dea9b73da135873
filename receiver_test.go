package websocket

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The rules of the protocol are in rfc6455_test.go. Here is what the receiver promises besides.

func TestReceiverSizesAndChunks(t *testing.T) {
	for _, size := range coreSizes {
		for _, fromClient := range []bool{true, false} {
			for _, chunk := range []int{1, 2, 3, 7, 125, 126, 4096, 65535, 65536, 1 << 20} {
				if chunk < 7 && size > 1000 && size != 65536 { // one of that size is enough
					continue
				}
				t.Run(fmt.Sprintf("%d bytes in reads of %d, from the client %v", size, chunk, fromClient), func(t *testing.T) {
					payload := corePayload(size)
					p := &rules{maxMessage: uint64(size), maxFragments: 2, fromClient: fromClient}
					whole := NewFrameText(fromClient, payload)
					parts := append(rfcFrame(0x02, string(payload[:size/3]))(fromClient), rfcFrame(0x80, string(payload[size/3:]))(fromClient)...)
					r := rfcRead(t, p, rfcEach(append(whole, parts...), chunk)...)
					require.Nil(t, r.err)
					require.Len(t, r.events, 2)
					assert.True(t, rfcText(string(payload)) == r.events[0])
					assert.True(t, rfcBin(string(payload)) == r.events[1])
					assert.Nil(t, r.rc.held())
				})
			}
		}
	}
}

func TestReceiverHeaderSplits(t *testing.T) {
	for _, size := range []int{0, 125, 126, 65535, 65536} {
		for _, fromClient := range []bool{true, false} {
			t.Run(fmt.Sprintf("the header of %d bytes cut at any two places, from the client %v", size, fromClient), func(t *testing.T) {
				payload := corePayload(size)
				p := &rules{maxMessage: uint64(size), maxFragments: 1, fromClient: fromClient}
				in := NewFrameBin(fromClient, payload)
				for first := range min(maxHeader+2, len(in)) {
					for second := first; second < min(maxHeader+2, len(in)); second++ {
						r := rfcRead(t, p, in[:first], in[first:second], in[second:])
						require.Nil(t, r.err)
						require.Len(t, r.events, 1)
						require.True(t, rfcBin(string(payload)) == r.events[0], "cut at %d and %d", first, second)
						require.Nil(t, r.rc.held())
					}
				}
			})
		}
	}
}

func TestReceiverLimits(t *testing.T) {
	for _, limit := range []uint64{1, 125, 126, 65535, 65536, 16 << 20} {
		for _, over := range []int{-1, 0, 1} {
			size := limit + uint64(over)
			t.Run(fmt.Sprintf("a header of %d bytes with a limit of %d", size, limit), func(t *testing.T) {
				p := &rules{maxMessage: limit, maxFragments: 1}
				head := rfcHead(0x82, lengthFieldSize(size), size)(false)
				r := rfcRead(t, p, head)
				if over == 1 {
					assert.Same(t, errMessageTooLarge, r.err)
					assert.Nil(t, r.rc.held())
					return
				}
				assert.Nil(t, r.err)
				if size > 0 {
					require.NotNil(t, r.rc.held())
					assert.Zero(t, cap(r.rc.partial.message), "memory for a length that is only claimed")
				}
			})
		}
	}
}

// TestReceiverPackedLimits has messages that came compressed: what cannot be compressed got longer.
func TestReceiverPackedLimits(t *testing.T) {
	for _, row := range []struct{ limit, packed uint64 }{
		{1, 65}, {7, 71}, {8, 73}, {200, 289}, {65536, 73792}, {16 << 20, 18<<20 + 64}, {1<<63 - 1, 1<<63 - 1 + 1<<60 - 1 + 64},
	} {
		t.Run(fmt.Sprintf("a limit of %d bytes is %d for them, and itself for others", row.limit, row.packed), func(t *testing.T) {
			p := &rules{maxMessage: row.limit, maxFragments: 2, deflates: true}
			require.Equal(t, row.packed, p.maxLength(true))
			require.Equal(t, row.limit, p.maxLength(false))
			if row.packed>>63 != 0 { // no header says so much
				return
			}
			for _, first := range []byte{0xC1, 0xC2, 0x41, 0x42} {
				at, over := rfcHead(first, lengthFieldSize(row.packed), row.packed)(false), rfcHead(first, lengthFieldSize(row.packed+1), row.packed+1)(false)
				r := rfcRead(t, p, at)
				require.Nil(t, r.err)
				require.Zero(t, cap(r.rc.partial.message), "memory for a length that is only claimed")
				require.Same(t, errMessageTooLarge, rfcRead(t, p, over).err)
				plain := rfcHead(first&^bitRsv1, lengthFieldSize(row.limit+1), row.limit+1)(false)
				require.Same(t, errMessageTooLarge, rfcRead(t, p, plain).err)
			}
		})
	}
	t.Run("a buffer grows up to the limit of what is in it", func(t *testing.T) {
		p := &rules{maxMessage: 1 << 20, maxFragments: 2, deflates: true}
		for _, row := range []struct {
			first byte
			limit int
		}{{0x42, 1<<20 + 1<<17 + 64}, {0x02, 1 << 20}} {
			r := rfcRead(t, p, rfcHead(row.first, 9, uint64(row.limit-100))(false))
			for r.rc.isInData() {
				r.feed(make([]byte, min(10_000, int(r.rc.partial.frame.length-r.rc.partial.taken))))
				require.LessOrEqual(t, cap(r.rc.partial.message), roundSize(row.limit))
			}
			require.Nil(t, r.err)
			require.Len(t, r.rc.partial.message, row.limit-100)
		}
	})
}

func TestReceiverMemory(t *testing.T) {
	t.Run("it grows with what arrives, whatever the header claims", func(t *testing.T) {
		const claim = 16 << 20
		for _, first := range []byte{0x82, 0x81, 0x02} {
			p := &rules{maxMessage: claim, maxFragments: 1}
			r := rfcRead(t, p, rfcHead(first, 9, claim)(false))
			for i := range 3000 {
				r.feed([]byte("x"))
				require.LessOrEqual(t, cap(r.rc.partial.message), roundSize(2*(i+1)))
			}
		}
	})
	t.Run("the last frame of a message makes it no larger than it will be", func(t *testing.T) {
		p := &rules{maxMessage: 1000, maxFragments: 1}
		in := NewFrameBin(false, corePayload(1000))
		for cut := 500; cut < len(in); cut++ {
			r := rfcRead(t, p, in[:cut])
			assert.LessOrEqual(t, cap(r.rc.partial.message), 1000)
		}
	})
	t.Run("a message of one read is copied once, to its size", func(t *testing.T) {
		var rc receiver
		in := NewFrameText(true, []byte("Hello"))
		ev, n, err := rc.next(&rules{maxMessage: 5, maxFragments: 1, fromClient: true}, in)
		require.Nil(t, err)
		require.Equal(t, len(in), n)
		assert.Equal(t, 5, cap(ev.payload))
		clear(in)
		assert.Equal(t, "Hello", string(ev.payload), "the payload belongs to the receiver")
	})
	t.Run("a message's payload stays when the next one comes", func(t *testing.T) {
		p := &rules{maxMessage: 100, maxFragments: 10}
		var rc receiver
		var payloads [][]byte
		for i := range 5 {
			in := append([]byte{0x01, 1, 'a' + byte(i)}, 0x80, 1, '!')
			for _, piece := range rfcEach(in, 2) {
				ev, _, err := rc.next(p, piece)
				require.Nil(t, err)
				if ev.kind == eventMessage {
					payloads = append(payloads, ev.payload)
				}
				clear(piece)
			}
		}
		assert.Equal(t, "a!b!c!d!e!", string(bytes.Join(payloads, nil)))
	})
	t.Run("a long row of small fragments costs what it holds", func(t *testing.T) {
		const fragments = 5000
		p := &rules{maxMessage: fragments, maxFragments: fragments}
		r := rfcRead(t, p, []byte{0x02, 1, 'f'}, bytes.Repeat([]byte{0x00, 1, 'f'}, fragments-2))
		require.Nil(t, r.err)
		assert.Len(t, r.rc.partial.message, fragments-1)
		r.feed([]byte{0x80, 1, 'f'})
		require.Len(t, r.events, 1)
		assert.True(t, rfcBin(strings.Repeat("f", fragments)) == r.events[0])
	})
}

func TestReceiverMixedRun(t *testing.T) {
	t.Run("a long conversation is the same for every size of read", func(t *testing.T) {
		for _, fromClient := range []bool{true, false} {
			var in []byte
			var want []rfcEvent
			for i := range 40 {
				payload := string(corePayload(i * 5))
				in = append(in, rfcFrame(0x01, payload)(fromClient)...)
				in = append(in, rfcFrame(0x89, payload[:min(len(payload), 125)])(fromClient)...)
				in = append(in, rfcFrame(0x80, "é")(fromClient)...)
				in = append(in, rfcFrame(0x82, payload)(fromClient)...)
				want = append(want, rfcPing(payload[:min(len(payload), 125)]), rfcText(payload+"é"), rfcBin(payload))
			}
			in = append(in, rfcClose(1001, "bye")(fromClient)...)
			want = append(want, rfcClosed(1001, "bye"))
			p := &rules{maxMessage: 1 << 10, maxFragments: 2, fromClient: fromClient}
			for chunk := 1; chunk < 600; chunk++ {
				r := rfcRead(t, p, rfcEach(in, chunk)...)
				require.Nil(t, r.err)
				require.Equal(t, want, r.events, "reads of %d", chunk)
			}
		}
	})
}

func TestReceiverEnded(t *testing.T) {
	t.Run("nothing is written to what all that have ended share", func(t *testing.T) {
		var rc receiver
		p := &rules{maxMessage: 1 << 20, maxFragments: 1, fromClient: true}
		in := append(NewFrameText(true, make([]byte, 100_000)), rfcTwo(0x83, 1)(true)...)
		rc.end()
		for _, chunk := range []int{1, 1000, len(in)} {
			for _, piece := range rfcEach(in, chunk) {
				ev, n, err := rc.next(p, piece)
				require.Nil(t, err)
				require.Equal(t, len(piece), n)
				require.Equal(t, event{}, ev)
				require.Nil(t, rc.room(func() int { return len(in) }))
				require.False(t, rc.isWithin(0))
			}
		}
		assert.Zero(t, endedPartial)
		assert.True(t, rc.hasEnded())
	})
}

func TestValidPrefix(t *testing.T) {
	cases := []struct {
		name string
		in   string
		n    int
		ok   bool
	}{
		{"nothing is a prefix", "", 0, true},
		{"whole characters are taken", "aé€😀", 10, true},
		{"the first of two bytes is left", "a\xc3", 1, true},
		{"two of three bytes are left", "a\xe2\x82", 1, true},
		{"three of four bytes are left", "a\xf0\x9f\x98", 1, true},
		{"continuation bytes alone fail", "\x80\x80\x80", 3, false},
		{"four continuation bytes fail", "\x80\x80\x80\x80", 4, false},
		{"a wrong second byte fails although more could come", "\xe0\x80", 2, false},
		{"a wrong byte in the middle fails", "a\xffb", 3, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n, ok := validPrefix([]byte(c.in))
			assert.Equal(t, c.ok, ok)
			if ok {
				assert.Equal(t, c.n, n)
			}
		})
	}
}

func TestProtocolErrorCodes(t *testing.T) {
	t.Run("each breach has the close code of RFC 6455 section 7.4.1", func(t *testing.T) {
		for code, errs := range map[CloseCode][]*protocolError{
			1002: {errReservedBits, errReservedOpcode, errLengthForm, errLengthRange, errNotMasked, errMasked, errNoStart, errInterleaved,
				errControlFragment, errControlLength, errCloseShort, errCloseCode, errCloseReason},
			1007: {errNotUTF8, errNotDeflate},
			1009: {errMessageTooLarge, errTooManyFragments},
		} {
			for _, err := range errs {
				assert.Equal(t, code, err.code, err.text)
				assert.True(t, err.code.onWire())
				assert.NotEmpty(t, err.text)
			}
		}
	})
}

func TestReceiverReadsLongMessagesIntoTheirBuffer(t *testing.T) {
	p := &rules{maxMessage: 4 << 20, maxFragments: 10, fromClient: true}
	none := func() int { return 0 }
	for _, size := range []int{directRead, directRead + 100, 100_000, 1 << 20} {
		for _, opcode := range []Opcode{OpcodeText, OpcodeBin} {
			for _, read := range []int{1000, 4096, 65536} {
				t.Run(fmt.Sprintf("%d bytes of opcode %d in reads of %d", size, opcode, read), func(t *testing.T) {
					payload := bytes.Repeat([]byte("héllo wörld €𝄞"), size/20+1)[:size]
					for !utf8.Valid(payload) {
						payload = payload[:len(payload)-1]
					}
					// In two fragments, with a frame behind it.
					first := header{first: byte(opcode), masked: true, key: 0x04030201, length: uint64(len(payload) / 2)}
					in := appendHeader(nil, first)
					in = append(in, payload[:len(payload)/2]...)
					mask(in[len(in)-len(payload)/2:], in[len(in)-len(payload)/2:], first.key, 0)
					in = append(in, NewFrame(OpcodeCont, true, payload[len(payload)/2:])...)
					in = append(in, NewFramePing(true, []byte("next"))...)

					var rc receiver
					var events []event
					direct := 0
					for len(in) > 0 {
						if room := rc.room(none); room != nil {
							n := copy(room[:min(len(room), read)], in)
							in = in[n:]
							direct += n
							assert.LessOrEqual(t, cap(rc.partial.message), roundSize(4*len(rc.partial.message)))
							ev, err := rc.filled(n)
							require.Nil(t, err)
							if ev.kind != eventNone {
								events = append(events, ev)
							}
							continue
						}
						chunk := bytes.Clone(in[:min(read, len(in))])
						in = in[len(chunk):]
						for len(chunk) > 0 {
							ev, n, err := rc.next(p, chunk)
							require.Nil(t, err)
							chunk = chunk[n:]
							if ev.kind != eventNone {
								ev.payload = bytes.Clone(ev.payload)
								events = append(events, ev)
							}
						}
					}
					require.Len(t, events, 2)
					assert.True(t, bytes.Equal(payload, events[0].payload))
					assert.Equal(t, eventPing, events[1].kind)
					assert.Nil(t, rc.held())
					if size > 4*directRead {
						assert.Positive(t, direct)
					}
				})
			}
		}
	}
	t.Run("a buffer grows to four times what has arrived and waits, up to its frame and the limit", func(t *testing.T) {
		for _, row := range []struct{ frame, waiting, want int }{
			{3 << 20, 0, 4 * 64000},
			{3 << 20, 36000, 400_000},
			{300_000, 1 << 20, 300_000},
			{3 << 20, 10 << 20, 3 << 20},
		} {
			var rc receiver
			in := appendHeader(nil, header{first: bitFin | byte(OpcodeBin), masked: true, length: uint64(row.frame)})
			_, _, err := rc.next(p, append(in, make([]byte, 32000)...))
			require.Nil(t, err)
			_, _, err = rc.next(p, make([]byte, 32000)) // the first buffer was twice as large as what had arrived
			require.Nil(t, err)
			room := rc.room(func() int { return row.waiting })
			assert.Equal(t, roundSize(row.want), cap(rc.partial.message))
			assert.Equal(t, min(maxDirect, roundSize(row.want)-64000, row.frame-64000), len(room))
		}
	})
	t.Run("a compressed text is not looked at", func(t *testing.T) {
		p := &rules{maxMessage: 1 << 20, maxFragments: 1, deflates: true}
		payload := bytes.Repeat([]byte{0xFF}, 100_000)
		in := appendHeader(nil, header{first: bitFin | bitRsv1 | byte(OpcodeText), length: uint64(len(payload))})
		var rc receiver
		_, _, err := rc.next(p, append(in, payload[:20_000]...))
		require.Nil(t, err)
		var ev event
		for rest := payload[20_000:]; len(rest) > 0; {
			n := copy(rc.room(none), rest)
			require.Positive(t, n)
			if rest = rest[n:]; len(rest) > 0 && len(rest) < directRead {
				ev, _, err = rc.next(p, rest)
				break
			}
			ev, err = rc.filled(n)
			require.Nil(t, err)
		}
		require.Nil(t, err)
		require.Equal(t, eventMessage, ev.kind)
		assert.True(t, bytes.Equal(payload, ev.payload))
		assert.Nil(t, rc.held())
	})
	t.Run("bad UTF-8 is found immediately", func(t *testing.T) {
		var rc receiver
		in := NewFrameText(true, bytes.Repeat([]byte("a"), 100_000))
		_, _, err := rc.next(p, in[:20_000])
		require.Nil(t, err)
		room := rc.room(none)
		require.NotEmpty(t, room)
		room[0] = 0xFF ^ coreBytes(rc.partial.frame.key)[rc.partial.taken&3]
		_, err = rc.filled(1)
		assert.Equal(t, errNotUTF8, err)
		assert.True(t, rc.hasEnded())
		assert.Nil(t, rc.room(none))
	})
}

func TestReceiverRoom(t *testing.T) {
	for _, limit := range []int{directRead, 100_000, 1 << 20, 1<<20 + 1, 3 << 20} {
		for _, frames := range []int{1, 2, 7} {
			for _, read := range []int{1000, 65536, 1 << 20} {
				for _, fin := range []bool{true, false} {
					if read == 1000 && limit > 100_000 { // one of that size is enough
						continue
					}
					t.Run(fmt.Sprintf("%d bytes in %d frames and reads of %d, the last frame %v", limit, frames, read, fin), func(t *testing.T) {
						p := &rules{maxMessage: uint64(limit), maxFragments: frames, fromClient: true}
						r := roomReader{t: t, p: p, read: read}
						for i := range frames {
							length := limit / frames
							if i == frames-1 {
								length = limit - i*length
							}
							h := header{masked: true, length: uint64(length)}
							if i == 0 {
								h.first = byte(OpcodeBin)
							}
							if fin && i == frames-1 {
								h.first |= bitFin
							}
							r.frame(h)
						}
						assert.LessOrEqual(t, r.largest, maxDirect, "bytes of a message may be read in one turn")
						assert.LessOrEqual(t, r.held, roundSize(limit), "bytes that the message holds, whose limit that is")
						assert.Equal(t, fin, r.whole)
						if read <= 64<<10 && limit >= 1<<20 {
							assert.Positive(t, r.largest)
						}
					})
				}
			}
		}
	}
}

// roomReader feeds a receiver as a loop does: into the room that it offers, else through a buffer.
type roomReader struct {
	t    *testing.T
	p    *rules
	read int // bytes that a read returns at most
	rc   receiver

	largest int // room that was offered
	held    int // capacity of the message
	whole   bool
}

// frame reads a frame of zeros of a binary message.
func (r *roomReader) frame(h header) {
	_, _, err := r.rc.next(r.p, appendHeader(nil, h))
	require.Nil(r.t, err)
	for left := int(h.length); left > 0; {
		room := r.rc.room(func() int { return 0 })
		n := min(left, r.read)
		var ev event
		if room != nil {
			r.largest = max(r.largest, len(room))
			n = min(n, len(room))
			ev, err = r.rc.filled(n)
		} else {
			ev, _, err = r.rc.next(r.p, make([]byte, n))
		}
		require.Nil(r.t, err)
		left -= n
		r.whole = ev.kind == eventMessage
		r.held = max(r.held, cap(ev.payload))
		if r.rc.partial != nil {
			r.held = max(r.held, cap(r.rc.partial.message))
		}
	}
}

// benchReceiver reads a client's messages as a loop does, piece bytes at a time.
func benchReceiver(b *testing.B, p *rules, in []byte, piece, messages int) {
	var rc receiver
	note := func(ev event, err *protocolError) {
		if err != nil {
			b.Fatal(err)
		}
		if ev.kind == eventMessage {
			messages--
		}
	}
	for len(in) > 0 {
		if room := rc.room(func() int { return 0 }); room != nil {
			n := copy(room, in)
			in = in[n:]
			note(rc.filled(n))
			continue
		}
		part := in[:min(piece, len(in))]
		in = in[len(part):]
		for len(part) > 0 {
			ev, n, err := rc.next(p, part)
			part = part[n:]
			note(ev, err)
		}
	}
	if messages != 0 {
		b.Fatal("messages are missing")
	}
}

// BenchmarkReceiver reads messages that came with one read each, many with one, and one with many.
func BenchmarkReceiver(b *testing.B) {
	p := &rules{maxMessage: defaultMaxMessageSize, maxFragments: defaultMaxFragments, fromClient: true}
	for _, kind := range []struct {
		name   string
		opcode Opcode
	}{{"text", OpcodeText}, {"binary", OpcodeBin}} {
		for _, n := range benchSizes {
			packet := NewFrame(kind.opcode, true, corePayload(n))
			benchRun(b, kind.name+"/"+benchSize(n), n, func() { benchReceiver(b, p, packet, len(packet), 1) })
		}
		many := bytes.Repeat(NewFrame(kind.opcode, true, corePayload(128)), 64)
		benchRun(b, kind.name+"/64of128B", 64*128, func() { benchReceiver(b, p, many, len(many), 64) })
		long := NewFrame(kind.opcode, true, corePayload(1<<20))
		benchRun(b, kind.name+"/1MiBin64KiB", 1<<20, func() { benchReceiver(b, p, long, readSize, 1) })
	}
}

func BenchmarkUTF8(b *testing.B) {
	for _, kind := range []struct{ name, letters string }{
		{"ascii", "abcdefgh"}, {"two", "éüßñ"}, {"three", "世界"}, {"four", "🙂🙃"},
	} {
		for _, n := range benchSizes {
			text := []byte(strings.Repeat(kind.letters, n/len(kind.letters)+1))[:n]
			benchRun(b, kind.name+"/"+benchSize(n), n, func() { validPrefix(text) })
		}
	}
}
