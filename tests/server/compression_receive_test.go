//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// arrived is a message as its handler got it.
type arrived struct {
	op      websocket.Opcode
	payload string
}

// arrivals sets HandleText and HandleBin, and returns what they get.
func arrivals(opts *websocket.ServerOptions) <-chan arrived {
	all := make(chan arrived, 1<<14)
	opts.HandleText = func(_ int, p []byte) { all <- arrived{websocket.OpcodeText, string(p)} }
	opts.HandleBin = func(_ int, p []byte) { all <- arrived{websocket.OpcodeBin, string(p)} }
	return all
}

// compressing are the options of a server that compresses, and answers with what it gets.
func compressing(c websocket.Compression) *websocket.ServerOptions {
	return &websocket.ServerOptions{
		Compression: &c,
		HandleText:  func(conn int, p []byte) { websocket.SendText(conn, p) },
		HandleBin:   func(conn int, p []byte) { websocket.SendBin(conn, p) },
	}
}

// offers are what clients may ask for.
var offers = []string{
	peer.Deflate,
	peer.DeflateBits,
	"permessage-deflate; client_max_window_bits=9",
	"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
	"permessage-deflate; server_max_window_bits=9; client_max_window_bits",
}

func TestCompressedMessages(t *testing.T) {
	const limit = 100_000
	opts := &websocket.ServerOptions{MaxMessageSize: limit, Compression: new(websocket.Compression)}
	all := arrivals(opts)
	s := peer.Start(t, opts)
	sizes := []int{0, 1, 125, 126, 127, 128, 4095, 4096, 4097, 65535, 65536, limit - 1, limit}
	for _, offer := range offers {
		t.Run("all sizes arrive, text and binary, from a client that offers "+offer, func(t *testing.T) {
			c := s.Dial(t).Extend(offer)
			for _, size := range sizes {
				for _, op := range []websocket.Opcode{websocket.OpcodeText, websocket.OpcodeBin} {
					payload := peer.Pattern(size, size)
					c.Pack(op, payload)
					got := peer.Get(t, all)
					require.Equal(t, op, got.op)
					require.True(t, string(payload) == got.payload, "%d bytes, got %d", size, len(got.payload))
				}
			}
			c.Pack(websocket.OpcodeText, peer.Pattern(limit+1, 0))
			c.ExpectClose(websocket.StatusRequestEntityTooLarge)
		})
	}
	t.Run("messages arrive in fragments of every size, with Pings between them", func(t *testing.T) {
		c := s.Dial(t).Extend(peer.DeflateBits)
		for _, cuts := range [][]int{{0}, {1}, {2, 0, 3}, {5, 5, 5, 5}, {0, 0, 0}, {1 << 20}, {7, 1 << 20, 0}} {
			for _, size := range sizes {
				payload := peer.Pattern(size, len(cuts))
				frames := peer.PackedFrames(websocket.OpcodeText, c.Sends.Pack(payload), cuts...)
				var wire []byte
				for i, frame := range frames {
					wire = append(append(wire, frame...), websocket.NewFramePing(true, fmt.Append(nil, i))...)
				}
				c.Send(wire)
				for i := range frames {
					c.Expect(websocket.OpcodePong, fmt.Sprint(i))
				}
				got := peer.Get(t, all)
				require.True(t, string(payload) == got.payload, "%d bytes in parts of %v", size, cuts)
			}
		}
	})
	t.Run("the bytes of a message may come one at a time", func(t *testing.T) {
		c := s.Dial(t).Extend(peer.DeflateBits)
		for range 3 {
			for _, frame := range peer.PackedFrames(websocket.OpcodeText, c.Sends.Pack(peer.Pattern(300, 1)), 20) {
				for i := range frame {
					c.Send(frame[i : i+1])
				}
			}
			require.Equal(t, string(peer.Pattern(300, 1)), peer.Get(t, all).payload)
		}
	})
}

// rfcMessages are "Hello" in the ways of RFC 7692, section 7.2.3, in one frame and without its header.
var rfcMessages = []struct{ name, packed, plain string }{
	{"a block with fixed codes", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"},
	{"a block that is not compressed", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"},
	{"a block with BFINAL set", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"},
	{"two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"},
	{"an empty message", "\x00", ""},
	{"an empty message in a block with fixed codes", "\x02\x00", ""},
	{"blocks behind one with BFINAL set", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", "HelloHello"},
	{"a message that BFINAL ends", "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"},
}

func TestCompressedMessagesOfTheRFC(t *testing.T) {
	opts := &websocket.ServerOptions{Compression: new(websocket.Compression)}
	all := arrivals(opts)
	s := peer.Start(t, opts)
	for _, row := range rfcMessages {
		t.Run(row.name, func(t *testing.T) {
			c := s.Dial(t).Extend(peer.DeflateBits)
			for cut := range len(row.packed) + 1 {
				for _, frame := range peer.PackedFrames(websocket.OpcodeText, []byte(row.packed), cut) {
					c.Send(frame)
				}
				require.Equal(t, arrived{websocket.OpcodeText, row.plain}, peer.Get(t, all))
			}
		})
	}
	t.Run("the second message refers to the first (section 7.2.3.2)", func(t *testing.T) {
		c := s.Dial(t).Extend(peer.DeflateBits)
		c.Send(peer.PackedFrame(websocket.OpcodeText, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")))
		c.Send(peer.PackedFrame(websocket.OpcodeText, []byte("\xf2\x00\x11\x00\x00")))
		for range 2 {
			require.Equal(t, "Hello", peer.Get(t, all).payload)
		}
	})
}

// withRsv is a client's frame with reserved bits.
func withRsv(op websocket.Opcode, payload string, bits byte) []byte {
	frame := websocket.NewFrame(op, true, []byte(payload))
	frame[0] |= bits
	return frame
}

// storedBlock is a block that is not compressed (RFC 1951, section 3.2.4).
func storedBlock(s string) string {
	size := len(s)
	return string([]byte{0, byte(size), byte(size >> 8), byte(^size), byte(^size >> 8)}) + s
}

// storedBlocks are a message in one block that is not compressed, n empty ones, and the end of a message.
func storedBlocks(message string, n int) []byte {
	return []byte(storedBlock(message) + strings.Repeat(storedBlock(""), n) + "\x00")
}

// breaches are what may not come on a connection that compresses, with at most breachLimit bytes in a message.
const breachLimit = 1056

var breaches = []struct {
	name  string
	bytes []byte
	code  websocket.CloseCode
}{
	{"RSV1 on a continuation", append(peer.PackedFrames(websocket.OpcodeText, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00"), 3)[0], withRsv(websocket.OpcodeCont, "\xc9\x07\x00", peer.BitRsv1)...), 1002},
	{"RSV1 on the continuation of a plain message", append([]byte{1, 0x80, 0, 0, 0, 0}, withRsv(websocket.OpcodeCont, "", peer.BitRsv1)...), 1002},
	{"RSV1 on a Ping", withRsv(websocket.OpcodePing, "x", peer.BitRsv1), 1002},
	{"RSV1 on a Pong", withRsv(websocket.OpcodePong, "x", peer.BitRsv1), 1002},
	{"RSV1 on a Close frame", withRsv(websocket.OpcodeClose, peer.CloseBody(1000, ""), peer.BitRsv1), 1002},
	{"RSV1 on a reserved opcode", withRsv(websocket.OpcodeControlRsvB, "", peer.BitRsv1), 1002},
	{"RSV2", withRsv(websocket.OpcodeText, "x", peer.BitRsv2), 1002},
	{"RSV3 beside RSV1", withRsv(websocket.OpcodeText, "\x00", peer.BitRsv1|peer.BitRsv3), 1002},
	{"a block of an unknown type", peer.PackedFrame(websocket.OpcodeText, []byte("\x06\x00")), 1007},
	{"a stored block with two lengths", peer.PackedFrame(websocket.OpcodeText, []byte("\x00\x01\x00\x00\x00x\x00")), 1007},
	{"a reference in front of the first message", peer.PackedFrame(websocket.OpcodeText, []byte("\xf2\x00\x11\x00\x00")), 1007},
	{"a message that is cut off", peer.PackedFrame(websocket.OpcodeText, []byte("\xf2\x48\xcd\xc9")), 1007},
	{"a message that is cut off in a stored block", peer.PackedFrame(websocket.OpcodeBin, []byte("\x00\x05\x00\xfa\xff\x48\x65")), 1007},
	{"text that is not UTF-8", peer.PackedFrame(websocket.OpcodeText, storedBlocks("x\xff", 0)), 1007},
	{"text that ends in a character", peer.PackedFrame(websocket.OpcodeText, storedBlocks("x\xc3", 0)), 1007},
	{"plain text that is not UTF-8", websocket.NewFrameText(true, []byte("x\xff")), 1007},
	{"a message that gets too long", peer.PackedFrame(websocket.OpcodeBin, storedBlocks(strings.Repeat("x", breachLimit+1), 0)), 1009},
	{"a header that claims too much for a compressed message", peer.PackedFrame(websocket.OpcodeBin, make([]byte, breachLimit+breachLimit/8+65))[:8], 1009},
	{"a header that claims too much for a plain message", websocket.NewFrameBin(true, make([]byte, breachLimit+1))[:8], 1009},
}

func TestCompressionBreaches(t *testing.T) {
	for _, row := range breaches {
		t.Run(fmt.Sprintf("%s ends the connection with %d, behind the answers to what came before", row.name, row.code), func(t *testing.T) {
			opts := compressing(websocket.Compression{Codec: peer.ContextCodec()})
			opts.MaxMessageSize = breachLimit
			var handled atomic.Int32
			opts.HandleText = func(conn int, p []byte) {
				handled.Add(1)
				websocket.SendText(conn, p)
			}
			s := peer.Start(t, opts)
			for _, before := range []int{0, 1, 3} {
				handled.Store(0)
				c := s.Dial(t).Extend(peer.Deflate + "; client_no_context_takeover")
				var wire []byte
				for range before {
					wire = append(wire, peer.PackedFrame(websocket.OpcodeText, c.Sends.Pack(peer.Pattern(200, 1)))...)
				}
				wire = append(wire, row.bytes...)
				c.Send(append(wire, peer.PackedFrame(websocket.OpcodeText, c.Sends.Pack([]byte("behind")))...))
				for range before {
					require.True(t, c.ExpectMessage(websocket.OpcodeText, string(peer.Pattern(200, 1))))
				}
				c.ExpectClose(row.code)
				require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 0 }))
				require.Equal(t, before, int(handled.Load()))
			}
		})
	}
	t.Run("RSV1 without an agreement is a breach", func(t *testing.T) {
		s := peer.Start(t, compressing(websocket.Compression{}))
		c := s.Connect(t)
		c.Send(peer.PackedFrame(websocket.OpcodeText, []byte("\x00")))
		c.ExpectClose(websocket.StatusBadRequest)
	})
	t.Run("a compressed message may be longer than the limit by an eighth and 64 bytes", func(t *testing.T) {
		opts := compressing(websocket.Compression{})
		opts.MaxMessageSize = breachLimit
		c := peer.Start(t, opts).Dial(t).Extend(peer.Deflate)
		message := string(peer.Pattern(breachLimit, 1))
		packed := storedBlocks(message, (breachLimit/8+64-5-1)/5)
		require.Len(t, packed, breachLimit+breachLimit/8+64)
		for _, cuts := range [][]int{nil, {1}, {breachLimit}, {600, 600}, {1 << 20}} {
			for _, frame := range peer.PackedFrames(websocket.OpcodeText, packed, cuts...) {
				c.Send(frame)
			}
			c.ExpectMessage(websocket.OpcodeText, message)
		}
		for _, frame := range peer.PackedFrames(websocket.OpcodeText, append(packed, 0), breachLimit) {
			c.Send(frame)
		}
		c.ExpectClose(websocket.StatusRequestEntityTooLarge)
	})
}

func TestCompressionContext(t *testing.T) {
	t.Run("a message refers to the one before, and plain ones between them do not count", func(t *testing.T) {
		for _, offer := range []string{peer.DeflateBits, "permessage-deflate; client_max_window_bits=9"} {
			c := peer.Start(t, compressing(websocket.Compression{})).Dial(t).Extend(offer)
			message := peer.Pattern(200, 1)
			for i := range 20 {
				packed := c.Sends.Pack(message)
				if i > 0 {
					require.Less(t, len(packed), 12, "it is a reference to the first")
				}
				c.Send(peer.PackedFrame(websocket.OpcodeText, packed))
				c.ExpectMessage(websocket.OpcodeText, string(message))
				c.Send(websocket.NewFrameBin(true, peer.Pattern(i*1000, i)))
				c.ExpectMessage(websocket.OpcodeBin, string(peer.Pattern(i*1000, i)))
				c.Send(websocket.NewFrameText(true, []byte("short")))
				c.ExpectMessage(websocket.OpcodeText, "short")
			}
		}
	})
	t.Run("a client that is told to forget, and does not, is a breach", func(t *testing.T) {
		c := peer.Start(t, compressing(websocket.Compression{Window: -1})).Dial(t).Extend(peer.Deflate)
		require.Contains(t, c.Answer, "client_no_context_takeover")
		c.Send(peer.PackedFrame(websocket.OpcodeText, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")))
		c.ExpectMessage(websocket.OpcodeText, "Hello")
		c.Send(peer.PackedFrame(websocket.OpcodeText, []byte("\xf2\x00\x11\x00\x00")))
		c.ExpectClose(websocket.StatusInvalidData)
	})
	t.Run("requests that run side by side and binary messages are inflated in the order of the wire", func(t *testing.T) {
		opts := &websocket.ServerOptions{Compression: new(websocket.Compression), HandleBin: func(conn int, p []byte) { websocket.SendBin(conn, p) }}
		s := peer.Start(t, opts)
		require.NoError(t, s.RegisterTextHandler("GET", "/echo", func(_ context.Context, req *websocket.Request) websocket.Response {
			return websocket.Response{Code: 200, Body: req.Body}
		}))
		c := s.Dial(t).Extend(peer.DeflateBits)
		const rounds = 200
		var wire []byte
		want := make(map[string]int)
		for id := 1; id <= rounds; id++ {
			body := fmt.Sprintf("%d %s", id, peer.Pattern(150, 1))
			wire = append(wire, peer.PackedFrame(websocket.OpcodeText, c.Sends.Pack(fmt.Appendf(nil, `{"id":%d,"method":"get","target":"/echo","body":%q}`, id, body)))...)
			wire = append(wire, peer.PackedFrame(websocket.OpcodeBin, c.Sends.Pack([]byte(body)))...)
			want[fmt.Sprintf(`{"message":"","body":%q,"id":%d,"code":200}`, body, id)]++
		}
		go c.Write(wire)
		next := 1
		for range 2 * rounds {
			op, payload, packed, err := c.Message()
			require.NoError(t, err)
			require.True(t, packed)
			if op == websocket.OpcodeBin {
				require.Equal(t, fmt.Sprintf("%d %s", next, peer.Pattern(150, 1)), string(payload))
				next++
			} else {
				want[string(payload)]--
			}
		}
		for answer, missing := range want {
			require.Zero(t, missing, answer)
		}
	})
}
