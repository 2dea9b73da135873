package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// coreSizes are the payload sizes at which a header changes its form, or a rule begins to hold.
var coreSizes = []int{0, 1, 2, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537}

// corePayload is n bytes of ASCII in which neighbours differ.
func corePayload(n int) []byte {
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = 'a' + byte(i*7%26)
	}
	return payload
}

// coreKey is a masking key as a header holds it, coreBytes as it stands in a frame.
func coreKey(key [4]byte) uint32 { return binary.LittleEndian.Uint32(key[:]) }

func coreBytes(key uint32) [4]byte {
	return [4]byte(binary.LittleEndian.AppendUint32(nil, key))
}

// coreMask is section 5.3 of RFC 6455 to the letter.
func coreMask(src []byte, key [4]byte, pos int) []byte {
	dst := make([]byte, len(src))
	for i, b := range src {
		dst[i] = b ^ key[(i+pos)%4]
	}
	return dst
}

func TestMask(t *testing.T) {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}

	t.Run("every size, alignment and place in the payload is what a naive loop makes", func(t *testing.T) {
		source := corePayload(8 + 140)
		for align := range 8 {
			for size := range 140 {
				src := source[align : align+size]
				before := bytes.Clone(src)
				for pos := range 8 {
					want := coreMask(src, key, pos)
					dst := make([]byte, size)
					mask(dst, src, coreKey(key), pos)
					if !bytes.Equal(want, dst) || !bytes.Equal(before, src) {
						t.Fatalf("size %d at alignment %d, position %d: got %x, want %x", size, align, pos, dst, want)
					}
				}
			}
		}
	})

	t.Run("masking in place is the same, and touches nothing around", func(t *testing.T) {
		for align := range 8 {
			for size := range 140 {
				buf := corePayload(align + size + 8)
				want := append(append(bytes.Clone(buf[:align]), coreMask(buf[align:align+size], key, 0)...), buf[align+size:]...)
				mask(buf[align:align+size], buf[align:align+size], coreKey(key), 0)
				if !bytes.Equal(want, buf) {
					t.Fatalf("size %d at alignment %d", size, align)
				}
			}
		}
	})

	t.Run("a destination that is longer keeps what is behind", func(t *testing.T) {
		dst := []byte("............")
		mask(dst, []byte("Hello"), coreKey(key), 0)
		assert.Equal(t, "\x7f\x9f\x4d\x51\x58.......", string(dst))
	})

	t.Run("large payloads", func(t *testing.T) {
		for _, size := range coreSizes {
			src := corePayload(size)
			dst := make([]byte, size)
			mask(dst, src, coreKey(key), 3)
			assert.True(t, bytes.Equal(coreMask(src, key, 3), dst), "size %d", size)
		}
	})

	t.Run("pieces masked at their places make the whole", func(t *testing.T) {
		src := corePayload(100)
		want := coreMask(src, key, 0)
		for cut := range len(src) + 1 {
			got := make([]byte, len(src))
			mask(got, src[:cut], coreKey(key), 0)
			mask(got[cut:], src[cut:], coreKey(key), cut)
			require.Equal(t, want, got, "cut at %d", cut)
		}
	})
}

func TestHeader(t *testing.T) {
	t.Run("a parsed header is the one that was appended, and no prefix of it is a header", func(t *testing.T) {
		for _, length := range []uint64{0, 1, 125, 126, 127, 65535, 65536, 1<<31 - 1, 1 << 32, 1<<63 - 1, 1<<64 - 1} {
			for _, masked := range []bool{false, true} {
				h := header{length: length, first: bitFin | bitRsv2 | byte(OpcodeBin), masked: masked}
				size := 1 + lengthFieldSize(length)
				if masked {
					h.key = coreKey([4]byte{1, 2, 3, 4})
					size += 4
				}
				b := appendHeader(nil, h)
				require.Len(t, b, size)
				require.LessOrEqual(t, len(b), maxHeader)

				got, n := parseHeader(append(bytes.Clone(b), "payload"...))
				assert.Equal(t, size, n)
				assert.Equal(t, h, got)
				for cut := range b {
					got, n = parseHeader(b[:cut])
					assert.Zero(t, n, "length %d cut at %d", length, cut)
					if cut >= 2 {
						assert.Equal(t, []any{h.first, h.masked}, []any{got.first, got.masked})
					}
				}
			}
		}
	})

	t.Run("appending keeps what is there", func(t *testing.T) {
		assert.Equal(t, []byte{9, 0x82, 0x03}, appendHeader([]byte{9}, finished(OpcodeBin, 3)))
	})

	t.Run("each of the first byte's bits has its place", func(t *testing.T) {
		for first := range 256 {
			h, n := parseHeader([]byte{byte(first), 0})
			require.Equal(t, 2, n)
			assert.Equal(t, first>>7 == 1, h.fin())
			assert.Equal(t, byte(first)&0x70, h.rsv())
			assert.Equal(t, Opcode(first&15), h.opcode())
			assert.Equal(t, []byte{byte(first), 0}, appendHeader(nil, h))
		}
	})
}

func TestOpcode(t *testing.T) {
	for op := range Opcode(16) {
		t.Run(fmt.Sprintf("%#x is in its class", byte(op)), func(t *testing.T) {
			assert.Equal(t, op >= 8, op.isControl())
			assert.Equal(t, op >= 3 && op <= 7 || op >= 0xB, op.isReserved())
		})
	}
}

func TestNewFrame(t *testing.T) {
	t.Run("the examples of RFC 6455 section 5.7", func(t *testing.T) {
		assert.Equal(t, []byte{0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}, NewFrameText(false, []byte("Hello")))
		assert.Equal(t, []byte{0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}, NewFramePing(false, []byte("Hello")))
		assert.Equal(t, []byte{0x82, 0x7E, 0x01, 0x00}, NewFrameBin(false, make([]byte, 256))[:4])
		assert.Equal(t, []byte{0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0}, NewFrameBin(false, make([]byte, 65536))[:10])
	})

	for _, size := range coreSizes {
		for _, masked := range []bool{false, true} {
			t.Run(fmt.Sprintf("a payload of %d bytes is framed in the shortest form, masked %v", size, masked), func(t *testing.T) {
				payload := corePayload(size)
				before := bytes.Clone(payload)
				packet := NewFrame(OpcodeBin, masked, payload)
				assert.True(t, bytes.Equal(before, payload), "the caller's payload was changed")

				h, n := parseHeader(packet)
				require.NotZero(t, n)
				assert.Equal(t, header{length: uint64(size), key: h.key, first: bitFin | byte(OpcodeBin), masked: masked}, h)
				want := 2
				if size > 125 {
					want = 4
				}
				if size > 65535 {
					want = 10
				}
				if masked {
					want += 4
				}
				assert.Equal(t, want, n)
				assert.True(t, bytes.Equal(coreMask(payload, coreBytes(h.key), 0), packet[n:]))
				if size > 0 {
					packet[n] ^= 0xFF
					assert.Equal(t, before[0], payload[0], "the packet shares the caller's memory")
				}
			})
		}
	}

	t.Run("every opcode is written as it is", func(t *testing.T) {
		for op := range Opcode(16) {
			assert.Equal(t, []byte{0x80 | byte(op), 1, 'x'}, NewFrame(op, false, []byte("x")))
		}
	})

	t.Run("no two masked frames have one key", func(t *testing.T) {
		const frames = 64
		keys := make(map[uint32]bool)
		for range frames {
			h, n := parseHeader(NewFrameText(true, []byte("same")))
			require.Equal(t, 6, n)
			keys[h.key] = true
		}
		assert.Greater(t, len(keys), frames-3) // 2^32 keys: two equal ones are a chance of 1 in 2 million
	})
}

func TestNewControlFrames(t *testing.T) {
	makers := map[string]struct {
		opcode Opcode
		make   func(bool, []byte) []byte
	}{"NewFramePing": {OpcodePing, NewFramePing}, "NewFramePong": {OpcodePong, NewFramePong}}
	for name, maker := range makers {
		for _, masked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s with isMasked %v cuts at 125 bytes and masks as told", name, masked), func(t *testing.T) {
				for _, size := range []int{0, 1, 124, 125, 126, 127, 65536} {
					payload := corePayload(size)
					f, n := unpackFrame(maker.make(masked, payload))
					assert.Equal(t, len(maker.make(masked, payload)), n)
					assert.Equal(t, maker.opcode, f.Opcode())
					assert.Equal(t, masked, f.IsMasked())
					assert.True(t, f.IsFinal() && f.IsComplete() && f.IsControl())
					assert.True(t, bytes.Equal(payload[:min(size, 125)], f.Payload()))
				}
			})
		}
	}
}

func TestNewFrameClose(t *testing.T) {
	t.Run("the code is two bytes in network order before the reason", func(t *testing.T) {
		assert.Equal(t, []byte{0x88, 5, 0x03, 0xE9, 'b', 'y', 'e'}, NewFrameClose(false, StatusGone, []byte("bye")))
	})
	t.Run("code 0 stands for 1000", func(t *testing.T) {
		assert.Equal(t, []byte{0x88, 2, 0x03, 0xE8}, NewFrameClose(false, 0, nil))
	})
	t.Run("1005 stands for no code, and no reason", func(t *testing.T) {
		assert.Equal(t, []byte{0x88, 0}, NewFrameClose(false, 1005, []byte("why")))
		assert.Len(t, NewFrameClose(true, 1005, nil), 6)
	})
	t.Run("a code that must not be on the wire is 1011, any other stays", func(t *testing.T) {
		for code := CloseCode(1); code != 0; code++ {
			f, _ := unpackFrame(NewFrameClose(false, code, []byte("why")))
			switch {
			case code == 1005:
				continue
			case code.onWire():
				require.Equal(t, code, f.CloseCode())
			default:
				require.Equal(t, CloseCode(StatusInternalError), f.CloseCode(), "%d", code)
			}
			require.Equal(t, "why", string(f.CloseReason()))
			_, _, err := parseCloseBody(f.Payload())
			require.Nil(t, err)
		}
	})
	t.Run("a masked one is masked", func(t *testing.T) {
		f, _ := unpackFrame(NewFrameClose(true, StatusBadRequest, []byte("why")))
		assert.True(t, f.IsMasked())
		assert.Equal(t, CloseCode(StatusBadRequest), f.CloseCode())
		assert.Equal(t, "why", string(f.CloseReason()))
	})
	t.Run("the body is cut at 125 bytes, code included", func(t *testing.T) {
		for _, size := range []int{0, 1, 122, 123, 124, 125, 126, 65536} {
			reason := corePayload(size)
			f, _ := unpackFrame(NewFrameClose(false, StatusNormal, reason))
			assert.True(t, bytes.Equal(reason[:min(size, 123)], f.CloseReason()), "size %d", size)
			assert.LessOrEqual(t, len(f.Payload()), 125)
		}
	})
	t.Run("the cut never splits a character, and takes no more than it must", func(t *testing.T) {
		for _, char := range []string{"é", "€", "😀"} {
			for lead := range 130 {
				reason := strings.Repeat("a", lead) + strings.Repeat(char, 40)
				f, _ := unpackFrame(NewFrameClose(false, StatusNormal, []byte(reason)))
				got := string(f.CloseReason())
				require.True(t, utf8.ValidString(got), "%q behind %d", char, lead)
				require.True(t, strings.HasPrefix(reason, got))
				require.Greater(t, len(got), min(123, len(reason))-len(char))
			}
		}
	})
	t.Run("a reason that is not UTF-8 is cut too", func(t *testing.T) {
		f, _ := unpackFrame(NewFrameClose(false, StatusNormal, bytes.Repeat([]byte{0x80}, 300)))
		assert.LessOrEqual(t, len(f.Payload()), 125)
		assert.GreaterOrEqual(t, len(f.Payload()), 121)
	})
	t.Run("the caller's reason stays as it is", func(t *testing.T) {
		reason := corePayload(200)
		NewFrameClose(true, StatusNormal, reason)
		assert.Equal(t, corePayload(200), reason)
	})
}

func TestFrameMethods(t *testing.T) {
	t.Run("IsData is true for text and binary only, IsControl from 0x8 on", func(t *testing.T) {
		for op := range Opcode(16) {
			f := &Frame{head: header{first: byte(op)}}
			assert.Equal(t, op == OpcodeText || op == OpcodeBin, f.IsData(), "%#x", byte(op))
			assert.Equal(t, op >= OpcodeClose, f.IsControl(), "%#x", byte(op))
			assert.Equal(t, op, f.Opcode())
		}
	})
	t.Run("ReservedBits tells each bit", func(t *testing.T) {
		for bits := range 8 {
			f, _ := unpackFrame([]byte{0x81 | byte(bits)<<4, 0})
			one, two, three := f.ReservedBits()
			assert.Equal(t, []bool{bits&4 != 0, bits&2 != 0, bits&1 != 0}, []bool{one, two, three})
		}
	})
	t.Run("only a Close frame with a code has CloseCode and CloseReason", func(t *testing.T) {
		for body, code := range map[string]CloseCode{"": 0, "\x03": 0, "\x03\xe8": 1000, "\x0f\xa0why": 4000} {
			f, _ := unpackFrame(NewFrame(OpcodeClose, false, []byte(body)))
			assert.Equal(t, code, f.CloseCode())
			if code == 0 {
				assert.Nil(t, f.CloseReason())
			} else {
				assert.Equal(t, body[2:], string(f.CloseReason()))
			}
			f, _ = unpackFrame(NewFrame(OpcodeText, false, []byte(body)))
			assert.Zero(t, f.CloseCode())
			assert.Nil(t, f.CloseReason())
		}
	})
	t.Run("the zero value is an incomplete continuation", func(t *testing.T) {
		var f Frame
		assert.Equal(t, OpcodeCont, f.Opcode())
		assert.False(t, f.IsComplete() || f.IsFinal() || f.IsMasked() || f.IsData() || f.IsControl())
		assert.Empty(t, f.Payload())
	})
}

func TestLengthFieldSize(t *testing.T) {
	for length, size := range map[uint64]int{0: 1, 125: 1, 126: 3, 65535: 3, 65536: 9, 1<<64 - 1: 9} {
		assert.Equal(t, size, lengthFieldSize(length), "length %d", length)
	}
}

func TestUnpack(t *testing.T) {
	t.Run("an empty packet gives nil, whose methods work", func(t *testing.T) {
		for _, packet := range [][]byte{nil, {}} {
			frames := Unpack(packet)
			assert.Nil(t, frames)
			assert.Zero(t, frames.Len())
			assert.Equal(t, OpcodeCont, frames.Opcode())
			assert.Empty(t, frames.Payload())
			assert.False(t, frames.IsFinal())
			for range frames.All() {
				assert.Fail(t, "nil Frames have a frame")
			}
		}
	})

	for _, size := range coreSizes {
		for _, masked := range []bool{false, true} {
			t.Run(fmt.Sprintf("a frame of %d bytes comes back unmasked, masked %v", size, masked), func(t *testing.T) {
				payload := corePayload(size)
				packet := NewFrameBin(masked, payload)
				before := bytes.Clone(packet)
				frames := Unpack(packet)
				require.Equal(t, 1, frames.Len())
				f := frames.list[0]
				assert.True(t, bytes.Equal(payload, f.Payload()))
				assert.True(t, f.IsComplete() && f.IsFinal() && frames.IsFinal())
				assert.Equal(t, masked, f.IsMasked())
				assert.True(t, bytes.Equal(before, packet), "the packet was changed")
				clear(packet)
				assert.True(t, bytes.Equal(payload, f.Payload()), "the frame keeps the packet")
			})
		}
	}

	t.Run("several frames come in their order", func(t *testing.T) {
		var packet []byte
		packet = append(packet, 0x01, 3, 'H', 'e', 'l')
		packet = append(packet, NewFramePing(true, []byte("?"))...)
		packet = append(packet, 0x80, 2, 'l', 'o')
		packet = append(packet, NewFrameClose(false, StatusGone, []byte("bye"))...)
		frames := Unpack(packet)
		require.Equal(t, 4, frames.Len())
		assert.Equal(t, OpcodeText, frames.Opcode())
		var got []string
		for i, f := range frames.All() {
			assert.True(t, f.IsComplete())
			got = append(got, fmt.Sprintf("%d %#x %v %q", i, byte(f.Opcode()), f.IsFinal(), f.Payload()))
		}
		assert.Equal(t, []string{`0 0x1 false "Hel"`, `1 0x9 true "?"`, `2 0x0 true "lo"`, `3 0x8 true "\x03\xe9bye"`}, got)
		assert.Equal(t, "Hel?lo\x03\xe9bye", string(frames.Payload()))
		assert.Equal(t, CloseCode(StatusGone), frames.list[3].CloseCode())
	})

	t.Run("a packet cut anywhere has its incomplete frame last", func(t *testing.T) {
		for _, masked := range []bool{false, true} {
			for _, size := range []int{0, 1, 125, 126, 300} {
				first := NewFrameText(masked, []byte("first"))
				payload := corePayload(size)
				second := NewFrameBin(masked, payload)
				_, n := parseHeader(second)
				for cut := 1; cut < len(second); cut++ {
					frames := Unpack(append(bytes.Clone(first), second[:cut]...))
					require.Equal(t, 2, frames.Len())
					assert.Equal(t, "first", string(frames.list[0].Payload()))
					f := frames.list[1]
					assert.False(t, f.IsComplete() || frames.IsFinal())
					assert.True(t, f.IsFinal())
					assert.Equal(t, OpcodeBin, f.Opcode())
					assert.True(t, bytes.Equal(payload[:max(cut-n, 0)], f.Payload()), "cut at %d", cut)
				}
			}
		}
	})

	t.Run("one byte is enough for the opcode", func(t *testing.T) {
		frames := Unpack([]byte{0xC9})
		require.Equal(t, 1, frames.Len())
		one, two, three := frames.list[0].ReservedBits()
		assert.Equal(t, OpcodePing, frames.Opcode())
		assert.Equal(t, []bool{true, false, false}, []bool{one, two, three})
		assert.False(t, frames.list[0].IsComplete())
	})

	t.Run("a length that is only claimed reserves nothing", func(t *testing.T) {
		for _, packet := range [][]byte{
			{0x82, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 'x'},
			{0x82, 0x7F, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 'x'},
			{0x82, 0x7F, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 'x'},
			{0x82, 0x7E, 0xFF, 0xFF, 'x'},
		} {
			frames := Unpack(packet)
			require.Equal(t, 1, frames.Len())
			assert.Equal(t, "x", string(frames.list[0].Payload()))
			assert.Equal(t, 1, cap(frames.list[0].Payload()))
			assert.False(t, frames.list[0].IsComplete())
		}
	})

	t.Run("rules of the protocol are not its business", func(t *testing.T) {
		frames := Unpack([]byte{0x79, 0x7E, 0, 2, 'h', 'i', 0x8F, 0}) // fragmented, over-long control with reserved bits
		require.Equal(t, 2, frames.Len())
		assert.Equal(t, "hi", string(frames.list[0].Payload()))
		assert.True(t, frames.list[0].IsComplete())
		assert.Equal(t, OpcodeControlRsvF, frames.list[1].Opcode())
	})
}

func TestFrames(t *testing.T) {
	t.Run("the zero value is an empty row", func(t *testing.T) {
		var frames Frames
		assert.Zero(t, frames.Len())
		assert.Equal(t, OpcodeCont, frames.Opcode())
		assert.Empty(t, frames.Payload())
		assert.False(t, frames.IsFinal())
	})
	t.Run("Append adds at the end, and the first frame names the message", func(t *testing.T) {
		var frames Frames
		for _, f := range Unpack([]byte{0x02, 1, 'a', 0x00, 0, 0x80, 1, 'b'}).All() {
			assert.False(t, frames.IsFinal())
			frames.Append(f)
		}
		assert.Equal(t, 3, frames.Len())
		assert.Equal(t, OpcodeBin, frames.Opcode())
		assert.Equal(t, "ab", string(frames.Payload()))
		assert.True(t, frames.IsFinal())
	})
	t.Run("Payload is a new slice", func(t *testing.T) {
		frames := Unpack(NewFrameText(false, []byte("one")))
		frames.Payload()[0] = 'X'
		assert.Equal(t, "one", string(frames.Payload()))
	})
	t.Run("an iteration can be left early", func(t *testing.T) {
		count := 0
		for range Unpack([]byte{0x89, 0, 0x89, 0, 0x89, 0}).All() {
			count++
			break
		}
		assert.Equal(t, 1, count)
	})
}

func TestCloseCodeOnWire(t *testing.T) {
	for code := range 1 << 16 {
		want := code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006 || code >= 3000 && code <= 4999
		if got := CloseCode(code).onWire(); got != want {
			t.Errorf("code %d may be on the wire: %v, want %v", code, got, want)
		}
	}
}

func TestParseCloseBody(t *testing.T) {
	cases := []struct {
		name   string
		body   string
		code   CloseCode
		reason string
		err    *protocolError
	}{
		{name: "an empty body has no code"},
		{name: "one byte is malformed", body: "\x03", err: errCloseShort},
		{name: "a code alone", body: "\x03\xe8", code: 1000},
		{name: "a code and a reason", body: "\x0f\xa0good \xf0\x9f\x98\x80", code: 4000, reason: "good 😀"},
		{name: "a code that must not be on the wire", body: "\x03\xed", err: errCloseCode},
		{name: "a reason that is not UTF-8", body: "\x03\xe8\xff", err: errCloseReason},
		{name: "a reason that ends inside a character", body: "\x03\xe8\xe2\x82", err: errCloseReason},
		{name: "a forbidden code is told before the reason", body: "\x00\x00\xff", err: errCloseCode},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, reason, err := parseCloseBody([]byte(c.body))
			assert.Same(t, c.err, err)
			assert.Equal(t, c.code, code)
			assert.Equal(t, c.reason, string(reason))
		})
	}
}

func TestAppendCloseBody(t *testing.T) {
	t.Run("what was appended parses, for every code that may be on the wire", func(t *testing.T) {
		for code := range CloseCode(5001) {
			got, reason, err := parseCloseBody(appendCloseBody(nil, code, []byte("reason")))
			if code.onWire() {
				assert.Nil(t, err)
				assert.Equal(t, code, got)
				assert.Equal(t, "reason", string(reason))
			} else {
				assert.Same(t, errCloseCode, err)
			}
		}
	})
	t.Run("what is there is kept", func(t *testing.T) {
		assert.Equal(t, "x\x03\xe8y", string(appendCloseBody([]byte("x"), 1000, []byte("y"))))
	})
}

func TestErrorsMatch(t *testing.T) {
	cases := []struct {
		name   string
		err    error
		target error
		want   bool
	}{
		{"ErrConnClosed is a closed connection of net", ErrConnClosed, net.ErrClosed, true},
		{"ErrConnClosed is itself", ErrConnClosed, ErrConnClosed, true},
		{"ErrConnClosed is not a time-out", ErrConnClosed, ErrWriteTimeout, false},
		{"ErrWriteTimeout is a closed connection", ErrWriteTimeout, ErrConnClosed, true},
		{"ErrWriteTimeout is a closed connection of net", ErrWriteTimeout, net.ErrClosed, true},
		{"a CloseError is a closed connection", &CloseError{Code: 1000}, ErrConnClosed, true},
		{"a CloseError is a closed connection of net", &CloseError{Code: 1000}, net.ErrClosed, true},
		{"a CloseError is not a time-out", &CloseError{Code: 1000}, ErrWriteTimeout, false},
		{"a full queue is no closed connection", ErrSendQueueFull, net.ErrClosed, false},
		{"a managed connection is not closed", ErrManaged, net.ErrClosed, false},
		{"ErrUnsupported is that of errors", ErrUnsupported, errors.ErrUnsupported, true},
		{"a body is a bad request", errBody, ErrBadRequest, true},
		{"data before the handshake is a bad request", errPipelined, ErrBadRequest, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, errors.Is(c.err, c.target)) })
	}
}

func TestErrorTexts(t *testing.T) {
	t.Run("documented texts stay as documented", func(t *testing.T) {
		for err, text := range map[error]string{
			ErrBadRequest:                "bad request",
			ErrRequestLength:             "bad request: length is less than minimum",
			ErrRequestHeaderLength:       "bad request: header length is less than minimum",
			ErrInvalidHTTPMethod:         "invalid HTTP method",
			ErrInvalidHTTPVersion:        "invalid HTTP version",
			ErrInvalidHeaderUpgrade:      "invalid Upgrade header",
			ErrInvalidHeaderFormat:       "invalid Header format",
			ErrInvalidHeaderHost:         "invalid Host header",
			ErrInvalidHeaderWSKey:        "invalid Sec-Websocket-Key header",
			ErrInvalidHeaderWSVersion:    "invalid Sec-Websocket-Version header",
			ErrInvalidHeaderWSExtensions: "invalid Sec-Websocket-Extensions header",
			ErrInvalidHeaderWSProtocol:   "invalid Sec-Websocket-Protocol header",
			ErrInvalidHeaderConn:         "invalid Connection header",
			ErrMissingRequiredHeader:     "missing required headers",
			ErrUnsupportedWSVersion:      "unsupported Sec-WebSocket-Version",
			ErrRouteInvMethod:            "invalid method",
			ErrRouteInvTarget:            "invalid target",
			ErrRouteDupParam:             "duplicate parameter on route",
			ErrConnClosed:                "websocket: client is not connected",
		} {
			assert.EqualError(t, err, text)
		}
	})
	t.Run("the others begin with the package", func(t *testing.T) {
		for _, err := range []error{ErrSendQueueFull, ErrWriteTimeout, ErrManaged, ErrServerRunning, ErrUnsupported, errNotUTF8, &CloseError{}} {
			assert.True(t, strings.HasPrefix(err.Error(), "websocket: "), err)
		}
	})
	t.Run("a CloseError tells code and reason", func(t *testing.T) {
		assert.EqualError(t, &CloseError{Code: 1001}, "websocket: closed with 1001")
		assert.EqualError(t, &CloseError{Code: 1001, Reason: "gone"}, "websocket: closed with 1001: gone")
	})
}
