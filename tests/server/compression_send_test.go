//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// codecs are a codec that compresses with a context and one that does not, and what is asked of them in addition.
var codecs = []struct {
	name        string
	compression websocket.Compression
	offer       string
}{
	{"a context", websocket.Compression{Codec: peer.ContextCodec()}, peer.DeflateBits},
	{"a context of 256 bytes", websocket.Compression{Codec: peer.ContextCodec(), Window: 256}, peer.DeflateBits},
	{"a context of 32 KiB", websocket.Compression{Codec: peer.ContextCodec(), Window: 32 << 10}, peer.DeflateBits},
	{"a context, for a small window", websocket.Compression{Codec: peer.ContextCodec()}, "permessage-deflate; server_max_window_bits=9"},
	{"a context that the client declines", websocket.Compression{Codec: peer.ContextCodec()}, "permessage-deflate; server_no_context_takeover"},
	{"no context", websocket.Compression{}, peer.DeflateBits},
	{"no context, for a small window", websocket.Compression{}, "permessage-deflate; server_max_window_bits=9"},
	{"no history", websocket.Compression{Codec: peer.ContextCodec(), Window: -1}, peer.DeflateBits},
}

// sending is a way to send a message.
type sending struct {
	name string
	send func(s *peer.Server, conn int, payload []byte) error
}

func allSent(sent int, failed map[int]error) error {
	for _, err := range failed {
		return err
	}
	if sent != 1 {
		return fmt.Errorf("sent to %d", sent)
	}
	return nil
}

var sendings = []sending{
	{"SendText", func(_ *peer.Server, conn int, p []byte) error { return websocket.SendText(conn, p) }},
	{"Send", func(_ *peer.Server, conn int, p []byte) error {
		return websocket.Send(conn, websocket.NewFrameText(false, p))
	}},
	{"SendID", func(_ *peer.Server, conn int, p []byte) error {
		return websocket.SendID(websocket.ID(conn), websocket.NewFrameText(false, p))
	}},
	{"TrySend", func(_ *peer.Server, conn int, p []byte) error {
		return websocket.TrySend(conn, websocket.NewFrameText(false, p))
	}},
	{"TrySendID", func(_ *peer.Server, conn int, p []byte) error {
		return websocket.TrySendID(websocket.ID(conn), websocket.NewFrameText(false, p))
	}},
	{"SendAll", func(s *peer.Server, _ int, p []byte) error {
		return allSent(s.Clients.SendAll(websocket.NewFrameText(false, p)))
	}},
	{"SendUser", func(s *peer.Server, _ int, p []byte) error {
		return allSent(s.Clients.SendUser(7, websocket.NewFrameText(false, p)))
	}},
}

// deflatedServer runs a server that compresses, with one client, whose user is 7.
func deflatedServer(t *testing.T, c websocket.Compression, offer string) (*peer.Server, *peer.Deflated, int) {
	t.Helper()
	opts := &websocket.ServerOptions{Compression: &c, HandleAuth: func(*websocket.Handshake) (context.Context, error) {
		return context.WithValue(context.Background(), websocket.CtxKeyUID, 7), nil
	}}
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	d := s.Dial(t).Extend(offer)
	return s, d, peer.Get(t, added)
}

func TestCompressedSends(t *testing.T) {
	for _, row := range codecs {
		t.Run("every way to send a message compresses it, with "+row.name, func(t *testing.T) {
			s, c, conn := deflatedServer(t, row.compression, row.offer)
			for _, size := range []int{128, 1000, 4096, 16 << 10, 16<<10 + 1, 100_000} {
				for i, way := range sendings {
					payload := peer.Pattern(size, i)
					require.NoError(t, way.send(s, conn, payload), way.name)
					clear(payload) // it keeps no reference
					require.True(t, c.ExpectMessage(websocket.OpcodeText, string(peer.Pattern(size, i))), "%s, %d bytes", way.name, size)
				}
				require.NoError(t, websocket.SendBin(conn, peer.Pattern(size, 1)))
				require.True(t, c.ExpectMessage(websocket.OpcodeBin, string(peer.Pattern(size, 1))))
			}
		})
	}
	t.Run("responses of routed requests are compressed", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{Compression: &websocket.Compression{Codec: peer.ContextCodec()}})
		require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *websocket.Request) websocket.Response {
			return websocket.Response{Code: 200, Body: string(peer.Pattern(300, 1))}
		}))
		c := s.Dial(t).Extend(peer.Deflate)
		for range 3 {
			c.Text(`{"id":1,"method":"get","target":"/"}`)
			require.True(t, c.ExpectMessage(websocket.OpcodeText, fmt.Sprintf(`{"message":"","body":%q,"id":1,"code":200}`, peer.Pattern(300, 1))))
		}
	})
	for _, row := range []struct{ minSize, plain, packed int }{{0, 127, 128}, {200, 199, 200}, {-1, 0, 60}, {1, 0, 60}} {
		t.Run(fmt.Sprintf("with MinSize %d, %d bytes go plain and %d do not", row.minSize, row.plain, row.packed), func(t *testing.T) {
			s, c, conn := deflatedServer(t, websocket.Compression{MinSize: row.minSize}, peer.Deflate)
			for _, way := range sendings {
				for _, size := range []int{row.plain, row.packed} {
					payload := bytes.Repeat([]byte("x"), size)
					require.NoError(t, way.send(s, conn, payload))
					require.Equal(t, size == row.packed, c.ExpectMessage(websocket.OpcodeText, string(payload)), way.name)
				}
			}
		})
	}
	t.Run("a message behind others refers to them", func(t *testing.T) {
		_, c, conn := deflatedServer(t, websocket.Compression{Codec: peer.ContextCodec()}, peer.Deflate)
		noise := make([]byte, 300)
		rand.Read(noise)
		for i := range 5 {
			require.NoError(t, websocket.SendText(conn, peer.Pattern(200, 1)))
			head, err := c.Reader.Peek(2)
			require.NoError(t, err)
			if i > 0 {
				require.Less(t, int(head[1]), 12, "it is a reference")
			}
			require.True(t, c.ExpectMessage(websocket.OpcodeText, string(peer.Pattern(200, 1))))
			require.NoError(t, websocket.SendBin(conn, noise), "it cannot get shorter")
			require.False(t, c.ExpectMessage(websocket.OpcodeBin, string(noise)))
			require.NoError(t, websocket.SendText(conn, []byte("short")))
			require.False(t, c.ExpectMessage(websocket.OpcodeText, "short"))
		}
	})
	t.Run("a Close frame comes behind what was sent before", func(t *testing.T) {
		_, c, conn := deflatedServer(t, websocket.Compression{Codec: peer.ContextCodec()}, peer.Deflate)
		require.NoError(t, websocket.SendText(conn, peer.Pattern(200_000, 1)))
		require.NoError(t, websocket.Send(conn, websocket.NewFrameClose(false, 4001, nil)))
		require.ErrorIs(t, websocket.SendText(conn, peer.Pattern(200, 1)), websocket.ErrConnClosed)
		require.ErrorIs(t, websocket.SendText(conn, peer.Pattern(200_000, 1)), websocket.ErrConnClosed)
		require.True(t, c.ExpectMessage(websocket.OpcodeText, string(peer.Pattern(200_000, 1))))
		c.Expect(websocket.OpcodeClose, peer.CloseBody(4001, ""))
		c.Send(websocket.NewFrameClose(true, 4001, nil))
		c.ExpectEOF()
	})
}

// unfinished is a server's frame without FIN.
func unfinished(op websocket.Opcode, payload []byte) []byte {
	frame := websocket.NewFrame(op, false, payload)
	frame[0] &^= peer.BitFin
	return frame
}

func withBits(bits byte, frame []byte) []byte {
	frame[0] |= bits
	return frame
}

func TestPacketsThatStayAsTheyAre(t *testing.T) {
	body := peer.Pattern(500, 1)
	text := websocket.NewFrameText(false, body)
	packets := map[string][]byte{
		"two messages":                 append(bytes.Clone(text), text...),
		"a message and a Ping":         append(bytes.Clone(text), websocket.NewFramePing(false, nil)...),
		"a message in fragments":       append(unfinished(websocket.OpcodeText, body), websocket.NewFrame(websocket.OpcodeCont, false, body)...),
		"the first fragment":           unfinished(websocket.OpcodeBin, body),
		"the last fragment":            websocket.NewFrame(websocket.OpcodeCont, false, body),
		"a message with RSV1":          withBits(peer.BitRsv1, websocket.NewFrameText(false, body)),
		"a message with RSV2":          withBits(peer.BitRsv2, websocket.NewFrameText(false, body)),
		"a message with RSV3":          withBits(peer.BitRsv3, websocket.NewFrameBin(false, body)),
		"a masked message":             websocket.NewFrameText(true, body),
		"a Ping":                       websocket.NewFramePing(false, body[:100]),
		"a reserved control frame":     websocket.NewFrame(websocket.OpcodeControlRsvB, false, body[:125]),
		"a message of a reserved kind": websocket.NewFrame(5, false, body),
	}
	for _, row := range codecs[:1] {
		s, c, conn := deflatedServer(t, row.compression, row.offer)
		for name, packet := range packets {
			t.Run(name, func(t *testing.T) {
				for _, send := range []func() error{
					func() error { return websocket.Send(conn, packet) },
					func() error { return websocket.TrySend(conn, packet) },
					func() error { return websocket.SendID(websocket.ID(conn), packet) },
					func() error { return allSent(s.Clients.SendAll(packet)) },
					func() error { return allSent(s.Clients.SendUser(7, packet)) },
				} {
					require.NoError(t, send())
					got := make([]byte, len(packet))
					_, err := io.ReadFull(c.Reader, got)
					require.NoError(t, err)
					require.Equal(t, packet, got)
				}
			})
		}
		require.NoError(t, websocket.Send(conn, text))
		require.True(t, c.ExpectMessage(websocket.OpcodeText, string(body)), "and others are still compressed")
	}
}

// TestServerWindows has clients keep no more than the window that they ask for.
func TestServerWindows(t *testing.T) {
	for bits := 8; bits <= 15; bits++ {
		for _, window := range []int{256, 4096, 32 << 10} {
			t.Run(fmt.Sprintf("a client that asks for %d bits needs no more, of a server with %d bytes", bits, window), func(t *testing.T) {
				_, c, conn := deflatedServer(t, websocket.Compression{Codec: peer.ContextCodec(), Window: window}, fmt.Sprintf("permessage-deflate; server_max_window_bits=%d", bits))
				require.Equal(t, 1<<bits, c.Gets.Window)
				c.Gets.Window = min(window, 1<<bits)
				for i := range 30 {
					message := fmt.Appendf(nil, "%d %s", i%3, peer.Pattern(130+i*i*10, 1))
					require.NoError(t, websocket.SendText(conn, message))
					require.True(t, c.ExpectMessage(websocket.OpcodeText, string(message)))
				}
			})
		}
	}
}

func TestCompressedBroadcasts(t *testing.T) {
	for _, window := range []int{-1, 256, 4096, 32 << 10} {
		t.Run(fmt.Sprintf("own messages and broadcasts reach all clients, whatever they agreed on with a window of %d", window), func(t *testing.T) {
			opts := &websocket.ServerOptions{Compression: &websocket.Compression{Codec: peer.ContextCodec(), Window: window}}
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			var clients []*peer.Deflated
			var conns []int
			for range 2 {
				for _, offer := range []string{peer.Deflate, "permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=12",
					"permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover; server_max_window_bits=8", "x-other"} {
					c := s.Dial(t).Extend(offer)
					require.Equal(t, offer != "x-other", c.Answer != "")
					clients, conns = append(clients, c), append(conns, peer.Get(t, added))
				}
			}
			noise := make([]byte, 400)
			for i, size := range []int{200, 10, 1000, 200, 20_000, 300, 70_000, 300, 0, 500, 400, 200} {
				broadcast := fmt.Sprintf("to all %d %s", i, peer.Pattern(size, i))
				if size == 400 {
					rand.Read(noise)
					broadcast = string(noise)
				}
				sent, failed := s.Clients.SendAll(websocket.NewFrameBin(false, []byte(broadcast)))
				require.Empty(t, failed)
				require.Equal(t, len(conns), sent)
				for n, c := range clients {
					own := fmt.Sprintf("to %d %s", n, peer.Pattern(size/2+100, i))
					require.NoError(t, websocket.SendText(conns[n], []byte(own)))
					require.Equal(t, c.Answer != "" && size > 120 && size != 400, c.ExpectMessage(websocket.OpcodeBin, broadcast))
					require.Equal(t, c.Answer != "" && len(own) >= 128, c.ExpectMessage(websocket.OpcodeText, own))
				}
			}
		})
	}
}

// oddCodec does something else with payloads that begin with "odd".
type oddCodec struct {
	websocket.DeflateCodec
	deflate func(dst []byte) ([]byte, error)
	inflate func(dst []byte) ([]byte, error)
}

func (c oddCodec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	if bytes.HasPrefix(payload, []byte("odd")) {
		return c.deflate(dst)
	}
	return c.DeflateCodec.Deflate(dst, payload, dict)
}

func (c oddCodec) Inflate(dst, packed, dict []byte, limit int) ([]byte, error) {
	if c.inflate != nil {
		return c.inflate(dst)
	}
	return c.DeflateCodec.Inflate(dst, packed, dict, limit)
}

func TestCodecsThatFail(t *testing.T) {
	odd, good := "odd "+string(peer.Pattern(300, 1)), string(peer.Pattern(300, 2))
	inner := []websocket.DeflateCodec{peer.ContextCodec(), websocket.StandardDeflate()}
	t.Run("what cannot be compressed is sent as it is, and does not count", func(t *testing.T) {
		for _, codec := range inner {
			s, c, conn := deflatedServer(t, websocket.Compression{Codec: oddCodec{DeflateCodec: codec, deflate: func(dst []byte) ([]byte, error) {
				return append(dst, "what nobody reads"...), errors.New("it is odd")
			}}}, peer.Deflate)
			for range 3 {
				for _, way := range sendings {
					require.NoError(t, way.send(s, conn, []byte(odd)))
					require.False(t, c.ExpectMessage(websocket.OpcodeText, odd))
					require.NoError(t, way.send(s, conn, []byte(good)))
					require.True(t, c.ExpectMessage(websocket.OpcodeText, good))
				}
			}
		}
	})
	t.Run("a panic in Send is its caller's, and harms nobody else", func(t *testing.T) {
		for _, codec := range inner {
			s, c, conn := deflatedServer(t, websocket.Compression{Codec: oddCodec{DeflateCodec: codec, deflate: func([]byte) ([]byte, error) { panic("odd") }}}, peer.Deflate)
			for _, way := range sendings {
				require.PanicsWithValue(t, "odd", func() { way.send(s, conn, []byte(odd)) }, way.name)
				require.NoError(t, way.send(s, conn, []byte(good)))
				require.True(t, c.ExpectMessage(websocket.OpcodeText, good), way.name)
			}
		}
	})
	t.Run("a panic in a handler ends its connection", func(t *testing.T) {
		opts := compressing(websocket.Compression{Codec: oddCodec{DeflateCodec: peer.ContextCodec(), deflate: func([]byte) ([]byte, error) { panic("odd") }}})
		all := toldBy(opts)
		s := peer.Start(t, opts)
		c, other := s.Dial(t).Extend(peer.Deflate), s.Dial(t).Extend(peer.Deflate)
		c.Pack(websocket.OpcodeText, []byte(odd))
		c.ExpectClose(websocket.StatusInternalError)
		assert.Equal(t, websocket.ClosedPanicked, peer.Get(t, all).cause.Kind)
		other.Pack(websocket.OpcodeText, []byte(good))
		require.True(t, other.ExpectMessage(websocket.OpcodeText, good))
	})
	for _, row := range []struct {
		name    string
		inflate func([]byte) ([]byte, error)
		cause   websocket.CloseCause
	}{
		{"a panic while inflating", func([]byte) ([]byte, error) { panic("odd") }, websocket.CloseCause{Code: 1011, Kind: websocket.ClosedPanicked}},
		{"any error while inflating", func(dst []byte) ([]byte, error) { return append(dst, good...), io.EOF }, websocket.CloseCause{Code: 1007, Reason: "compressed data is invalid", Kind: websocket.ClosedProtocolError}},
		{"an error that wraps ErrMessageTooLarge", func([]byte) ([]byte, error) { return nil, fmt.Errorf("odd: %w", websocket.ErrMessageTooLarge) },
			websocket.CloseCause{Code: 1009, Reason: "message is too large", Kind: websocket.ClosedProtocolError}},
	} {
		t.Run(row.name+" ends the connection, and OnClose is told", func(t *testing.T) {
			opts := compressing(websocket.Compression{Codec: oddCodec{DeflateCodec: peer.ContextCodec(), inflate: row.inflate}})
			all := toldBy(opts)
			s := peer.Start(t, opts)
			c := s.Dial(t).Extend(peer.Deflate)
			c.Send([]byte(strings.Repeat(string(peer.PackedFrame(websocket.OpcodeText, c.Sends.Pack([]byte(good)))), 3)))
			c.ExpectClose(row.cause.Code)
			got := onlyTold(t, s, all)
			assert.Equal(t, row.cause, got.cause)
			assert.True(t, got.info.Compressed)
		})
	}
}
