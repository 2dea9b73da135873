package websocket

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
