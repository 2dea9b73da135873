//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestCompressionAgreements(t *testing.T) {
	context4K, forgets := websocket.Compression{Codec: peer.ContextCodec()}, websocket.Compression{}
	for _, row := range []struct {
		name        string
		compression *websocket.Compression
		offer       string
		more        []string
		answer      string
	}{
		{"no server without Compression answers", nil, peer.DeflateBits, nil, ""},
		{"a codec with a context has the client use a small window", &context4K, peer.DeflateBits, nil, "permessage-deflate; client_max_window_bits=12"},
		{"a client that cannot change its window forgets", &context4K, peer.Deflate, nil, "permessage-deflate; client_no_context_takeover"},
		{"a codec without a context forgets", &forgets, peer.DeflateBits, nil, "permessage-deflate; server_no_context_takeover; client_max_window_bits=12"},
		{"nothing is kept with a Window below zero", &websocket.Compression{Window: -1, Codec: peer.ContextCodec()}, peer.DeflateBits, nil, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{"the second offer is taken if the first cannot be met", &context4K, "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=10; client_max_window_bits", nil,
			"permessage-deflate; server_max_window_bits=10; client_max_window_bits=12"},
		{"the second field is read too", &context4K, "x-other; a=b", []string{"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover"}, "permessage-deflate; client_no_context_takeover"},
		{"a quoted value", &context4K, `permessage-deflate; server_max_window_bits="10"; client_no_context_takeover`, nil, "permessage-deflate; client_no_context_takeover; server_max_window_bits=10"},
		{"a quoted value with a quoted pair", &context4K, `permessage-deflate; server_max_window_bits="1\0"; client_no_context_takeover`, nil, "permessage-deflate; client_no_context_takeover; server_max_window_bits=10"},
		{"an unknown parameter declines the offer", &context4K, "permessage-deflate; x", nil, ""},
		{"other extensions are not answered", &context4K, "permessage-bzip2, x-webkit-deflate-frame", nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			opts := &websocket.ServerOptions{Compression: row.compression, HandleText: func(conn int, p []byte) { websocket.SendText(conn, p) }}
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			c := s.Dial(t).Extend(row.offer, row.more...)
			require.Equal(t, row.answer, c.Answer)
			info, ok := s.Clients.Info(peer.Get(t, added))
			require.True(t, ok)
			assert.Equal(t, row.answer != "", info.Compressed)
			message := string(peer.Pattern(300, 1))
			for range 3 {
				if row.answer != "" {
					c.Pack(websocket.OpcodeText, []byte(message))
				} else {
					c.Text(message)
				}
				require.Equal(t, row.answer != "", c.ExpectMessage(websocket.OpcodeText, message))
			}
		})
	}
}

func TestExtensionsOfTheProgram(t *testing.T) {
	opts := compressing(websocket.Compression{})
	opts.HandleAuth = func(req *websocket.Handshake) (context.Context, error) {
		switch req.URL.RawQuery {
		case "nil":
			req.Extensions = nil
		case "":
		default:
			name, value, _ := strings.Cut(req.URL.RawQuery, "=")
			req.ResponseHeader = http.Header{name: {value}}
		}
		return nil, nil
	}
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	ask := func(t *testing.T, query string) (*peer.Deflated, websocket.ConnInfo) {
		c, answer := answerTo(t, s, requestFor("/?"+query, "Sec-WebSocket-Extensions: "+peer.DeflateBits))
		require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
		info, _ := s.Clients.Info(peer.Get(t, added))
		return c.Agreed(strings.Join(answer.Header["Sec-Websocket-Extensions"], " and ")), info
	}
	for _, row := range []struct{ name, query, answer string }{
		{"HandleAuth that drops the offer has a plain connection", "nil", ""},
		{"HandleAuth that answers has that answer, and a plain connection", "Sec-WebSocket-Extensions=x-own", "x-own"},
		{"the name of the field may be in any case", "sec-websocket-EXTENSIONS=x-own", "x-own"},
		{"an empty answer is one, too", "Sec-WebSocket-Extensions=", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, info := ask(t, row.query)
			require.Equal(t, row.answer, c.Answer)
			require.False(t, info.Compressed)
			c.Text(string(peer.Pattern(300, 1)))
			c.ExpectText(string(peer.Pattern(300, 1)))
			c.Send(peer.PackedFrame(websocket.OpcodeText, []byte("\x00")))
			c.ExpectClose(websocket.StatusBadRequest)
		})
	}
	t.Run("reserved bits are those of the program's extension, and RSV1 is compression's where that was agreed on", func(t *testing.T) {
		s.AllowReservedBits(true, true, false)
		defer s.AllowReservedBits(false, false, false)
		own, _ := ask(t, "Sec-WebSocket-Extensions=x-own")
		own.Send(withRsv(websocket.OpcodeText, "is not compressed", peer.BitRsv1))
		own.ExpectText("is not compressed")
		own.Send(withRsv(websocket.OpcodeText, "nor this", peer.BitRsv1|peer.BitRsv2))
		own.ExpectText("nor this")
		c, info := ask(t, "")
		require.True(t, info.Compressed)
		message := peer.Pattern(300, 1)
		for _, bits := range []byte{peer.BitRsv1, peer.BitRsv1 | peer.BitRsv2} {
			c.Send(withRsv(websocket.OpcodeText, string(c.Sends.Pack(message)), bits))
			require.True(t, c.ExpectMessage(websocket.OpcodeText, string(message)))
		}
		c.Send(withRsv(websocket.OpcodePing, "x", peer.BitRsv2))
		c.Expect(websocket.OpcodePong, "x")
		c.Send(withRsv(websocket.OpcodePing, "x", peer.BitRsv1))
		c.ExpectClose(websocket.StatusBadRequest)
	})
}

// agreed is what a server with the default Compression answers to DeflateBits.
const agreed = "permessage-deflate; server_no_context_takeover; client_max_window_bits=12"

// TestCompressionAtEveryEntrance compresses on connections that come in every way.
func TestCompressionAtEveryEntrance(t *testing.T) {
	for _, in := range entrances {
		t.Run(in.name, func(t *testing.T) { testCompressedEntrance(t, &in) })
	}
	t.Run(http2.name, func(t *testing.T) { runOfHTTP2(t, "TestCompressionOfHTTP2") })
}

func TestCompressionOfHTTP2(t *testing.T) {
	onlyOfHTTP2(t)
	testCompressedEntrance(t, &http2)
}

func testCompressedEntrance(t *testing.T, in *entrance) {
	opts := &websocket.ServerOptions{Compression: new(websocket.Compression)}
	added := peer.Added(opts)
	m := in.start(t, opts)
	c, answer := in.ask(t, m, blueRoom, "Sec-WebSocket-Extensions: "+peer.DeflateBits)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	if !in.stream { // of whose answer only the status is known
		require.Equal(t, agreed, answer.Header.Get("Sec-WebSocket-Extensions"))
	}
	info, _ := m.Clients.Info(peer.Get(t, added))
	require.True(t, info.Compressed)
	d := c.Agreed(agreed)
	for _, size := range []int{200, 200, 5000, 100_000, 200} {
		payload := peer.Pattern(size, 1)
		go d.Write(peer.PackedFrame(websocket.OpcodeText, d.Sends.Pack(payload)))
		require.True(t, d.ExpectMessage(websocket.OpcodeText, string(payload)))
	}
	d.Send(websocket.NewFrameClose(true, 4001, nil))
	d.Expect(websocket.OpcodeClose, peer.CloseBody(4001, ""))
}

func TestCompressedMessagesBehindTheRequest(t *testing.T) {
	for name, opts := range map[string]*websocket.ServerOptions{
		"plain": compressing(websocket.Compression{}),
		"TLS":   secure(*compressing(websocket.Compression{})),
	} {
		t.Run(name, func(t *testing.T) {
			s := peer.Start(t, opts)
			c := s.Dial(t)
			packer := peer.Packer{Window: 4096}
			wire := requestFor("/", "Sec-WebSocket-Extensions: "+peer.DeflateBits)
			for i := range 5 {
				wire = append(wire, peer.PackedFrame(websocket.OpcodeText, packer.Pack(peer.Pattern(300, i%2)))...)
			}
			c.Send(append(wire, websocket.NewFrameClose(true, 4001, nil)...))
			d := c.Extended()
			require.Equal(t, agreed, d.Answer)
			for i := range 5 {
				require.True(t, d.ExpectMessage(websocket.OpcodeText, string(peer.Pattern(300, i%2))))
			}
			d.ExpectClose(4001)
		})
	}
}

// TestCompressionAndOnClose has the causes of plain connections told of compressed ones, and what only those have.
func TestCompressionAndOnClose(t *testing.T) {
	own := []closeRow{
		{name: "the peer sends what is not compressed", end: sends(peer.PackedFrame(websocket.OpcodeText, []byte("\x06"))),
			cause: websocket.CloseCause{Code: 1007, Reason: "compressed data is invalid", Kind: websocket.ClosedProtocolError}},
		{name: "the peer sends compressed what is no text", end: sends(peer.PackedFrame(websocket.OpcodeText, storedBlocks("\xff", 0))),
			cause: websocket.CloseCause{Code: 1007, Reason: "text is not UTF-8", Kind: websocket.ClosedProtocolError}},
		{name: "the peer sends too much once it is inflated", opts: websocket.ServerOptions{MaxMessageSize: 9}, end: sends(peer.PackedFrame(websocket.OpcodeBin, storedBlocks("0123456789", 0))),
			cause: websocket.CloseCause{Code: 1009, Reason: "message is too large", Kind: websocket.ClosedProtocolError}},
		{name: "the peer compresses a Ping", end: sends(withRsv(websocket.OpcodePing, "", peer.BitRsv1)),
			cause: websocket.CloseCause{Code: 1002, Reason: "reserved bit is set", Kind: websocket.ClosedProtocolError}},
	}
	for _, row := range slices.Concat(closeRows, own) {
		if row.cause.Kind == websocket.ClosedSlow { // what that row sends never fills a queue once it is compressed
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			opts := row.opts
			opts.Compression = &websocket.Compression{Codec: peer.ContextCodec(), MinSize: 1}
			added, all := peer.Added(&opts), toldBy(&opts)
			s := peer.Start(t, &opts)
			c := s.Dial(t).Extend(peer.Deflate)
			conn := peer.Get(t, added)
			row.end(t, s, c.Conn, conn)
			left := c.Leave()
			got := onlyTold(t, s, all)
			peer.Done(t, left)
			require.Equal(t, row.cause, got.cause)
			require.True(t, got.info.Compressed)
		})
	}
}
