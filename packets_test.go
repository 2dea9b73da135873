//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMessageIn(t *testing.T) {
	frame := func(first byte, payload string) []byte { return rfcFrame(first, payload)(false) }
	for _, row := range []struct {
		name   string
		packet []byte
		ok     bool
	}{
		{"a text frame", NewFrameText(false, []byte("Hello")), true},
		{"a binary frame", NewFrameBin(false, []byte("Hello")), true},
		{"an empty frame", NewFrameText(false, nil), true},
		{"a frame of 125 bytes", NewFrameText(false, corePayload(125)), true},
		{"a frame of 126 bytes", NewFrameText(false, corePayload(126)), true},
		{"a frame of 65536 bytes", NewFrameBin(false, corePayload(65536)), true},
		{"no frame", nil, false},
		{"one byte", []byte{0x81}, false},
		{"a header without its length", []byte{0x81, length16, 1}, false},
		{"a frame that lacks a byte", frame(0x81, "Hello")[:6], false},
		{"a frame with a byte behind it", append(frame(0x81, "Hello"), 0), false},
		{"two frames", append(frame(0x81, "a"), frame(0x81, "b")...), false},
		{"a frame and a Close frame", append(frame(0x81, "a"), NewFrameClose(false, 1000, nil)...), false},
		{"a first fragment", frame(0x01, "a"), false},
		{"both fragments", append(frame(0x01, "a"), frame(0x80, "b")...), false},
		{"a continuation", frame(0x80, "a"), false},
		{"a masked frame", NewFrameText(true, []byte("Hello")), false},
		{"RSV1: the program compresses itself", frame(0xC1, rfcPacked), false},
		{"RSV2", frame(0xA2, "a"), false},
		{"RSV3", frame(0x91, "a"), false},
		{"a Ping", NewFramePing(false, []byte("a")), false},
		{"a Pong", NewFramePong(false, nil), false},
		{"a Close frame", NewFrameClose(false, 1000, nil), false},
		{"a reserved data frame", frame(0x83, "a"), false},
		{"a reserved control frame", frame(0x8B, "a"), false},
		{"a length beyond the packet", rfcHead(0x81, 9, 1<<62)(false), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := bytes.Clone(row.packet)
			opcode, payload, ok := messageIn(row.packet)
			require.Equal(t, row.ok, ok)
			require.Equal(t, before, row.packet)
			if ok {
				assert.Equal(t, row.packet, NewFrame(opcode, false, payload))
				assert.NotNil(t, payload)
			} else {
				assert.Nil(t, payload)
			}
		})
	}
}

// packetsCodec counts how often it compresses.
type packetsCodec struct {
	dictCodec
	calls int
	err   error
}

func (c *packetsCodec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	c.calls++
	if c.err != nil {
		return nil, c.err
	}
	return c.dictCodec.Deflate(dst, payload, dict)
}

// packetsConn is an open connection that compresses with that, and the other end of its socket.
func packetsConn(t *testing.T, l *loop, d *deflation) (c *conn, read func() []byte) {
	c, peer := serveConn(t, l)
	serveDeflates(c, d)
	return c, func() []byte {
		buf := make([]byte, 4096)
		n, err := readSocket(peer, buf)
		if err == errWouldBlock {
			return nil
		}
		require.NoError(t, err)
		return buf[:n]
	}
}

func TestBroadcastIsCompressedOnceForAWindow(t *testing.T) {
	text := []byte(strings.Repeat("all of you ", 20))
	codec := &packetsCodec{dictCodec: dictCodec{StandardDeflate()}}
	l, _ := serveLoop(t, func(int, []byte) {})
	context := func(bits uint8) *deflation {
		return deflationOf(codec, maxWindow, direction{bits, true}, direction{15, false}, 1000)
	}
	b := newBroadcast(NewFrameText(false, text))
	shared := deflationOf(codec, -1, direction{15, false}, direction{15, false}, 1000)
	for _, row := range []struct {
		name  string
		d     *deflation
		calls int // of the codec, in all
	}{
		{"a plain connection", nil, 0},
		{"the first that compresses", context(15), 1},
		{"another with a context of its own", context(15), 1},
		{"one without a context", shared, 1},
		{"another without a context", shared, 1},
		{"one with a smaller window", context(9), 2},
		{"another with that", context(9), 2},
		{"a plain connection behind them", nil, 2},
		{"and one with the first window", context(15), 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, read := packetsConn(t, l, row.d)
			if row.d != nil && row.d.terms.sends.takeover {
				row.d.sent.add([]byte("before "))
			}
			require.NoError(t, b.sendTo(c))
			require.Equal(t, row.calls, codec.calls)
			got := read()
			if row.d == nil {
				require.Equal(t, NewFrameText(false, text), got)
				return
			}
			r := rfcRead(t, &rules{maxMessage: 1000, maxFragments: 1, deflates: true}, got)
			require.Nil(t, r.err)
			require.Len(t, r.events, 1)
			require.Equal(t, rfcPackedText(r.events[0].payload), r.events[0])
			plain, err := StandardDeflate().Inflate(nil, []byte(r.events[0].payload), nil, 1000)
			require.NoError(t, err, "it has no context")
			require.Equal(t, string(text), string(plain))
			want := ""
			if row.d.terms.sends.takeover {
				want = "before " + string(text)
			}
			require.Equal(t, want, string(row.d.sent.appendTo(nil)), "but is one for what comes next")
		})
	}
}

func TestBroadcastThatGoesPlain(t *testing.T) {
	text := strings.Repeat("all of you ", 20)
	l, _ := serveLoop(t, func(int, []byte) {})
	for _, row := range []struct {
		name   string
		packet []byte
		err    error
		calls  int
	}{
		{"a message below MinSize", NewFrameText(false, []byte(text[:defaultMinSize-1])), nil, 0},
		{"a Ping", NewFramePing(false, []byte("p")), nil, 0},
		{"two messages", append(NewFrameText(false, []byte(text)), NewFrameText(false, []byte(text))...), nil, 0},
		{"fragments", append(rfcFrame(0x01, text)(false), rfcFrame(0x80, text)(false)...), nil, 0},
		{"a message with a bit of the program's", rfcFrame(0x91, text)(false), nil, 0},
		{"what the codec fails at, which it is given once", NewFrameText(false, []byte(text)), errors.New("broken"), 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			codec := &packetsCodec{dictCodec: dictCodec{StandardDeflate()}, err: row.err}
			b := newBroadcast(row.packet)
			for range 3 {
				d := deflationOf(codec, maxWindow, direction{15, true}, direction{15, false}, 1000)
				c, read := packetsConn(t, l, d)
				require.NoError(t, b.sendTo(c))
				require.Equal(t, row.packet, read())
				require.Nil(t, d.sent.ring, "what goes plain is no context")
			}
			require.Equal(t, row.calls, codec.calls)
		})
	}
	t.Run("an empty message where messages of any size are compressed", func(t *testing.T) {
		options := Compression{MinSize: -1}.filled()
		require.Negative(t, options.MinSize)
		d := newDeflation(&deflateOptions{options, 1000}, deflateTerms{sends: direction{bits: 15}, receives: direction{bits: 15}})
		c, read := packetsConn(t, l, d)
		for _, opcode := range []Opcode{OpcodeText, OpcodeBin} {
			b := newBroadcast(NewFrame(opcode, false, nil))
			require.NoError(t, b.sendTo(c))
			require.Equal(t, NewFrame(opcode, false, nil), read())
		}
	})
	t.Run("a Close frame ends a packet, for all of them", func(t *testing.T) {
		packet := append(NewFrameText(false, []byte(text)), NewFrameClose(false, StatusNormal, nil)...)
		b := newBroadcast(append(packet, NewFrameText(false, []byte(text))...))
		require.Equal(t, packet, b.plain.body)
		require.True(t, b.plain.closes)
		require.Nil(t, b.payload)
	})
}
