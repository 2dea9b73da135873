package websocket

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dictCodec is the standard codec, but that it takes a context: it makes an encoder for each message.
type dictCodec struct{ DeflateCodec }

func (dictCodec) TakesDict() bool { return true }

func (c dictCodec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	if len(payload) == 0 {
		return append(dst, 0), nil
	}
	out := bytes.NewBuffer(dst)
	w, err := flate.NewWriterDict(out, 6, dict)
	if err == nil {
		_, err = w.Write(payload)
	}
	if err == nil {
		err = w.Flush()
	}
	return bytes.TrimSuffix(out.Bytes(), []byte(deflateTail)), err
}

// brokenCodec does what it is told to.
type brokenCodec struct {
	deflate func(dst, payload, dict []byte) ([]byte, error)
	inflate func(dst, compressed, dict []byte, limit int) ([]byte, error)
}

func (brokenCodec) TakesDict() bool { return true }

func (c brokenCodec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	return c.deflate(dst, payload, dict)
}

func (c brokenCodec) Inflate(dst, compressed, dict []byte, limit int) ([]byte, error) {
	return c.inflate(dst, compressed, dict, limit)
}

// deflationOf returns what has a codec and the default options, for terms that a message may be sent and received with.
func deflationOf(codec DeflateCodec, window int, sends, receives direction, limit int) *deflation {
	options := Compression{Codec: codec, Window: window}.filled()
	return newDeflation(&deflateOptions{options, limit}, deflateTerms{sends: sends, receives: receives})
}

// deflationPoison overwrites a buffer whose owner has it back.
func deflationPoison(b []byte) {
	for i := range b {
		b[i] = 0xAA
	}
}

// deflationMessage makes a message of a conversation: mostly short ones that are alike, some long, some that do not get shorter.
func deflationMessage(random *rand.Rand, n int) []byte {
	switch n % 10 {
	case 3:
		b := make([]byte, random.IntN(600))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	case 6:
		return corePayload(maxInContext - 100 + random.IntN(200))
	case 9:
		return []byte(strings.Repeat("x", random.IntN(5)))
	}
	return fmt.Appendf(nil, `{"id":%d,"method":"POST","target":"/rooms/%d/messages","body":{"text":"hello %d","user":"anna"}}`, n, random.IntN(9), random.Uint32())
}

// deflationReceived gives a message that came to the one who inflates it, and returns what it was.
func deflationReceived(t *testing.T, d *deflation, head header, payload []byte) []byte {
	t.Helper()
	ev := event{kind: eventMessage, head: head, payload: bytes.Clone(payload)}
	require.Nil(t, d.unpack(&ev))
	require.Equal(t, eventMessage, ev.kind)
	require.Zero(t, ev.head.rsv())
	require.EqualValues(t, len(ev.payload), ev.head.length)
	return ev.payload
}

func TestDeflationPairs(t *testing.T) {
	for _, bits := range []uint8{minBits, leastBits, 12, maxBits} {
		for _, codec := range []struct {
			name string
			DeflateCodec
		}{{"a codec with a context", dictCodec{StandardDeflate()}}, {"the standard codec", StandardDeflate()}} {
			for _, way := range []struct {
				name     string
				takeover bool
				options  int // Window of the one who sends
			}{
				{"without a context", false, 1 << bits}, {"with all of the window as the context", true, 1 << bits},
				{"with less", true, minWindow}, {"with as much as there may be", true, maxWindow},
			} {
				if way.takeover && !codec.TakesDict() {
					continue
				}
				t.Run(fmt.Sprintf("%s, a window of %d bytes, %s", codec.name, 1<<bits, way.name), func(t *testing.T) {
					own := direction{bits: bits, takeover: way.takeover}
					sender := deflationOf(codec, way.options, own, direction{bits: maxBits}, 1<<20)
					receiver := deflationOf(codec, minWindow, direction{bits: maxBits}, own, 1<<20)
					deflationTalk(t, sender, receiver)
				})
			}
		}
	}
}

// deflationTalk has many messages go from one end to the other, and looks after what both keep of them.
func deflationTalk(t *testing.T, sender, receiver *deflation) {
	random := rand.New(rand.NewPCG(1, 2))
	var compressed []byte // all that went compressed
	packedCount := 0
	for n := range 40 {
		payload := deflationMessage(random, n)
		want := bytes.Clone(payload)
		pack := sender.pack
		if sender.needsOrder(len(payload)) {
			pack = sender.packInContext
		}
		packed, ok := pack(payload)
		if ok && !sender.needsOrder(len(payload)) {
			sender.sent.add(payload)
		}
		require.Equal(t, want, payload, "the message is changed")
		deflationPoison(payload)
		if !ok {
			require.Nil(t, packed)
			got := deflationReceived(t, receiver, finished(OpcodeBin, len(want)), want)
			require.True(t, bytes.Equal(want, got))
			deflationPoison(got)
		} else {
			require.Less(t, len(packed), len(want))
			compressed = append(compressed, want...)
			packedCount++
			got := deflationReceived(t, receiver, packedHead(OpcodeBin, packed), packed)
			require.True(t, bytes.Equal(want, got), "message %d", n)
			deflationPoison(got)
			deflationPoison(packed)
			PutBuffer(packed)
		}
		require.True(t, bytes.Equal(lastBytes(compressed, int(sender.sent.size)), sender.sent.appendTo(nil)), "what went plain is no context")
		require.True(t, bytes.Equal(lastBytes(compressed, int(receiver.received.size)), receiver.received.appendTo(nil)))
	}
	require.Greater(t, packedCount, 20)
	require.Less(t, packedCount, 40)
}

func TestDeflationTerms(t *testing.T) {
	for _, row := range []struct {
		name           string
		window         int
		sends          direction
		receives       direction
		sent, received int // bytes that are kept
		short, long    bool
	}{
		{"nothing is kept without a context", 4096, direction{15, false}, direction{15, false}, 0, 0, false, false},
		{"of what is sent as much as the option says", 4096, direction{15, true}, direction{15, false}, 4096, 0, true, false},
		{"and no more than the peer keeps", 4096, direction{9, true}, direction{15, false}, 512, 0, true, false},
		{"of what comes as much as the peer's window has", 4096, direction{15, false}, direction{12, true}, 0, 4096, false, false},
		{"even if the option says something else", 4096, direction{15, false}, direction{10, true}, 0, 1024, false, false},
		{"both", 32768, direction{15, true}, direction{15, true}, 32768, 32768, true, false},
		{"the smallest window", 256, direction{8, true}, direction{8, true}, 256, 256, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := deflationOf(StandardDeflate(), row.window, row.sends, row.receives, 1000)
			assert.EqualValues(t, row.sent, d.sent.size)
			assert.EqualValues(t, row.received, d.received.size)
			assert.Nil(t, d.sent.ring, "memory before a message comes")
			assert.Nil(t, d.received.ring, "memory before a message comes")
			assert.Equal(t, row.short, d.needsOrder(maxInContext))
			assert.Equal(t, row.long, d.needsOrder(maxInContext+1))
			assert.Equal(t, 1000, d.options.limit)
			assert.Equal(t, defaultMinSize, d.options.MinSize)
		})
	}
}

func TestDeflationSendsPlain(t *testing.T) {
	text := []byte(strings.Repeat("abc", 100))
	for _, row := range []struct {
		name    string
		deflate func(dst, payload, dict []byte) ([]byte, error)
		ok      bool
	}{
		{"what gets one byte shorter is compressed", func(dst, payload, _ []byte) ([]byte, error) { return append(dst, payload[1:]...), nil }, true},
		{"what stays as long is not", func(dst, payload, _ []byte) ([]byte, error) { return append(dst, payload...), nil }, false},
		{"what gets longer is not", func(dst, payload, _ []byte) ([]byte, error) { return append(append(dst, payload...), 0), nil }, false},
		{"what the codec fails at is not", func(dst, _, _ []byte) ([]byte, error) { return append(dst, 'x'), errors.New("broken") }, false},
		{"nor if the codec returns nothing with its error", func(_, _, _ []byte) ([]byte, error) { return nil, errors.New("broken") }, false},
	} {
		t.Run(row.name+", and is a context only if it is", func(t *testing.T) {
			d := deflationOf(brokenCodec{deflate: row.deflate}, maxWindow, direction{15, true}, direction{15, true}, 1000)
			for _, pack := range []func([]byte) ([]byte, bool){d.pack, d.packInContext} {
				d.sent = newHistory(maxWindow)
				d.sent.add([]byte("before"))
				packed, ok := pack(text)
				require.Equal(t, row.ok, ok)
				require.Equal(t, row.ok, packed != nil)
			}
			want := "before"
			if row.ok {
				want += string(text)
			}
			require.Equal(t, want, string(d.sent.appendTo(nil)))
			require.Zero(t, d.received.at)
		})
	}
	t.Run("the codec is given the context of a message, and none for one that is sent out of order", func(t *testing.T) {
		var dicts []string
		d := deflationOf(brokenCodec{deflate: func(dst, payload, dict []byte) ([]byte, error) {
			dicts = append(dicts, string(dict))
			return append(dst, payload[1:]...), nil
		}}, 256, direction{15, true}, direction{15, false}, 1000)
		for _, pack := range []func([]byte) ([]byte, bool){d.packInContext, d.packInContext, d.pack, d.packInContext} {
			pack(text[:200])
		}
		long := strings.Repeat(string(text[:200]), 3)
		require.Equal(t, []string{"", long[:200], "", long[400-256 : 400]}, dicts)
	})
}

func TestDeflationUnpack(t *testing.T) {
	packedOf := func(s string) string {
		b, err := StandardDeflate().Deflate(nil, []byte(s), nil)
		require.NoError(t, err)
		return string(b)
	}
	const text = bitFin | bitRsv1 | byte(OpcodeText)
	const bin = bitFin | bitRsv1 | byte(OpcodeBin)
	for _, row := range []struct {
		name  string
		first byte
		in    string
		limit int
		fails *protocolError
		code  CloseCode
		want  string
	}{
		{"the example of RFC 7692, section 7.2.3.1", text, rfcPacked, 1000, nil, 0, "Hello"},
		{"an empty message, section 7.2.3.6", text, "\x00", 1000, nil, 0, ""},
		{"binary data", bin, packedOf("\xff\xfe\x00"), 1000, nil, 0, "\xff\xfe\x00"},
		{"text that is UTF-8", text, packedOf("é€😀"), 1000, nil, 0, "é€😀"},
		{"text that is not UTF-8", text, packedOf("abc\xff"), 1000, errNotUTF8, 1007, ""},
		{"text that ends inside a character", text, packedOf("abc\xe2\x82"), 1000, errNotUTF8, 1007, ""},
		{"a message at the limit", bin, packedOf(strings.Repeat("a", 100)), 100, nil, 0, strings.Repeat("a", 100)},
		{"a message over the limit", bin, packedOf(strings.Repeat("a", 101)), 100, errMessageTooLarge, 1009, ""},
		{"a message far over the limit", text, packedOf(strings.Repeat("a", 10<<20)), 100, errMessageTooLarge, 1009, ""},
		{"what is no DEFLATE data", bin, "\xff\xff\xff", 1000, errNotDeflate, 1007, ""},
		{"no byte at all, which zlib sends for an empty message behind another one", bin, "", 1000, nil, 0, ""},
		{"what is cut off", bin, packedOf("Hello, hello, hello")[:5], 1000, errNotDeflate, 1007, ""},
		{"a reference to what was not sent", bin, "\x02\x06\x00", 1000, errNotDeflate, 1007, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := deflationOf(StandardDeflate(), 4096, direction{15, false}, direction{12, true}, row.limit)
			ev := event{kind: eventMessage, head: header{first: row.first, masked: true, length: uint64(len(row.in))}, payload: []byte(row.in)}
			err := d.unpack(&ev)
			require.Same(t, row.fails, err)
			if err != nil {
				require.Equal(t, row.code, err.code)
				return
			}
			assert.Equal(t, row.want, string(ev.payload))
			assert.Equal(t, header{first: row.first &^ bitRsv1, masked: true, length: uint64(len(row.want))}, ev.head)
			assert.Equal(t, row.want, string(d.received.appendTo(nil)))
		})
	}
	t.Run("the errors of a codec", func(t *testing.T) {
		for err, want := range map[error]*protocolError{
			ErrMessageTooLarge:                             errMessageTooLarge,
			fmt.Errorf("codec: %w", ErrMessageTooLarge):    errMessageTooLarge,
			errors.New("any other"):                        errNotDeflate,
			errors.Join(errors.New("a"), errors.New("b")):  errNotDeflate,
			fmt.Errorf("too large: %w", errors.New("not")): errNotDeflate,
		} {
			d := deflationOf(brokenCodec{inflate: func(dst, _, _ []byte, limit int) ([]byte, error) {
				require.Equal(t, 77, limit)
				return append(dst, "\xffhalf"...), err
			}}, 4096, direction{15, false}, direction{12, true}, 77)
			ev := event{kind: eventMessage, head: header{first: text}, payload: []byte("x")}
			require.Same(t, want, d.unpack(&ev), err)
			require.Nil(t, d.received.ring, "what is not used is no context")
		}
	})
	t.Run("the codec is given what came before", func(t *testing.T) {
		var dicts []string
		d := deflationOf(brokenCodec{inflate: func(_, compressed, dict []byte, _ int) ([]byte, error) {
			dicts = append(dicts, string(dict))
			return bytes.ToUpper(compressed), nil
		}}, 256, direction{15, false}, direction{8, true}, 1000)
		for _, payload := range []string{"abc", strings.Repeat("d", 250), "efgh"} {
			ev := event{kind: eventMessage, head: header{first: text}, payload: []byte(payload)}
			require.Nil(t, d.unpack(&ev))
			deflationPoison(ev.payload)
		}
		require.Equal(t, []string{"", "ABC", "ABC" + strings.Repeat("D", 250)}, dicts)
		require.Equal(t, ("ABC" + strings.Repeat("D", 250) + "EFGH")[1:], string(d.received.appendTo(nil)))
	})
	t.Run("what is not compressed stays as it is, and is no context", func(t *testing.T) {
		for _, ev := range []event{
			{kind: eventMessage, head: finished(OpcodeText, 5), payload: []byte("Hello")},
			{kind: eventMessage, head: header{first: bitFin | bitRsv2 | byte(OpcodeBin), length: 3}, payload: []byte("\xff\xfe\xfd")},
			{kind: eventPing, head: finished(OpcodePing, 1), payload: []byte("p")},
			{kind: eventControl, head: header{first: bitFin | bitRsv1 | byte(OpcodeControlRsvB)}, payload: []byte("c")},
			{kind: eventNone},
		} {
			d := deflationOf(brokenCodec{}, 4096, direction{15, true}, direction{12, true}, 1000)
			want := ev
			want.payload = bytes.Clone(ev.payload)
			require.Nil(t, d.unpack(&ev))
			require.Equal(t, want, ev)
			require.Nil(t, d.received.ring)
		}
	})
	t.Run("other reserved bits stay", func(t *testing.T) {
		d := deflationOf(StandardDeflate(), 4096, direction{15, true}, direction{12, true}, 1000)
		ev := event{kind: eventMessage, head: header{first: text | bitRsv3}, payload: []byte(rfcPacked)}
		require.Nil(t, d.unpack(&ev))
		require.EqualValues(t, bitRsv3, ev.head.rsv())
		require.True(t, ev.head.fin())
	})
}

func TestPackedHead(t *testing.T) {
	for _, size := range coreSizes {
		h := packedHead(OpcodeText, make([]byte, size))
		require.EqualValues(t, bitFin|bitRsv1|byte(OpcodeText), h.first)
		require.EqualValues(t, size, h.length)
		require.False(t, h.masked)
		require.True(t, (&rules{deflates: true}).isCompressed(h))
	}
}
