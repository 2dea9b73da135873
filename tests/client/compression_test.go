package client_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// Compression of a Client (RFC 7692), against a server that is played by hand with its own contexts, and against a Server.

// dictCodec takes a context, which the standard codec does not: it makes an encoder for each message.
type dictCodec struct{ websocket.DeflateCodec }

func newDictCodec() dictCodec { return dictCodec{websocket.StandardDeflate()} }

func (dictCodec) TakesDict() bool { return true }

func (dictCodec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	return append(dst, packed(payload, dict)...), nil
}

// hookedCodec calls something first.
type hookedCodec struct {
	dictCodec
	deflates, inflates func()
}

func (c hookedCodec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	if c.deflates != nil {
		c.deflates()
	}
	return c.dictCodec.Deflate(dst, payload, dict)
}

func (c hookedCodec) Inflate(dst, compressed, dict []byte, limit int) ([]byte, error) {
	if c.inflates != nil {
		c.inflates()
	}
	return c.dictCodec.Inflate(dst, compressed, dict, limit)
}

// packed is a message as it goes compressed behind a context.
func packed(payload, dict []byte) []byte {
	if len(payload) == 0 {
		return []byte{0}
	}
	var out bytes.Buffer
	w, err := flate.NewWriterDict(&out, flate.BestCompression, dict)
	if err != nil {
		panic(err)
	}
	w.Write(payload)
	w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte("\x00\x00\xff\xff"))
}

// unpacked is what a message was before that.
func unpacked(t *testing.T, message, dict []byte) []byte {
	t.Helper()
	in := io.MultiReader(bytes.NewReader(message), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
	payload, err := io.ReadAll(flate.NewReaderDict(in, dict))
	require.NoError(t, err)
	return payload
}

// packedServer is a server's end of a connection with permessage-deflate, for the test's goroutine.
type packedServer struct {
	*peer.Script
	sent, received []byte // contexts, before they were compressed; only the last bytes count, see last
	sends, keeps   int    // bytes of them that are used: none without a context
}

// answer is the opening handshake that accepts the client, with extensions.
func answerWith(c *peer.Script, extensions ...string) []byte {
	fields := ""
	for _, e := range extensions {
		fields += "Sec-WebSocket-Extensions: " + e + "\r\n"
	}
	return append(bytes.TrimSuffix(c.Answer(), []byte("\r\n")), fields+"\r\n"...)
}

// openPacked opens a client's connection to a server of its own, which answers with extensions, and sends more behind that.
func openPacked(t *testing.T, cl *websocket.Client, sends, keeps int, extensions string, more ...byte) *packedServer {
	t.Helper()
	server := peer.Listen(t)
	cl.Endpoint = server.Endpoint()
	connected := peer.Connect(cl)
	c := server.Accept()
	c.Send(append(answerWith(c, extensions), more...))
	require.NoError(t, peer.Receive(t, connected))
	t.Cleanup(cl.Quit)
	return &packedServer{Script: c, sends: sends, keeps: keeps}
}

func last(b []byte, n int) []byte { return b[max(len(b)-n, 0):] }

// frame is a frame of the server with a first byte as it is wanted.
func frame(first byte, payload []byte) []byte {
	b := websocket.NewFrameBin(false, payload)
	b[0] = first
	return b
}

// pack compresses the next message of the server.
func (c *packedServer) pack(payload string) []byte {
	b := packed([]byte(payload), last(c.sent, c.sends))
	c.sent = append(c.sent, payload...)
	return b
}

// send sends a compressed text in one frame.
func (c *packedServer) send(payload string) {
	c.T.Helper()
	c.Send(frame(0xC1, c.pack(payload)))
}

// readFrame reads the client's next frame, and its reserved bits.
func (c *packedServer) readFrame() (f peer.Frame, rsv byte) {
	c.T.Helper()
	first, err := c.In.Peek(1)
	require.NoError(c.T, err)
	rsv = first[0] & peer.BitsRsv
	f, err = peer.ReadFrame(c.In)
	require.NoError(c.T, err)
	require.True(c.T, f.Masked)
	return f, rsv
}

// read reads the client's next message, in any number of frames, and returns it with the bytes that it had on the way.
func (c *packedServer) read() (opcode websocket.Opcode, payload string, frames, size int, compressed bool) {
	c.T.Helper()
	var message []byte
	for fin := false; !fin; frames++ {
		f, rsv := c.readFrame()
		if frames == 0 {
			opcode, compressed = f.Opcode, rsv == peer.BitRsv1
		} else {
			require.Equal(c.T, websocket.OpcodeCont, f.Opcode)
		}
		require.True(c.T, rsv == 0 || frames == 0 && compressed, "RSV1 is on the first frame only, and no other bit")
		message, fin = append(message, f.Payload...), f.Fin
	}
	if !compressed {
		return opcode, string(message), frames, len(message), false
	}
	plain := unpacked(c.T, message, last(c.received, c.keeps))
	c.received = append(c.received, plain...)
	return opcode, string(plain), frames, len(message), true
}

// texts makes a client's handler hand over the texts that it is given.
func texts(cl *websocket.Client) <-chan string {
	got := make(chan string, 4096)
	cl.HandleText = func(_ *websocket.Client, f *websocket.Frame) error {
		if one, two, three := f.ReservedBits(); one || two || three || !f.IsFinal() || !f.IsComplete() || f.IsMasked() {
			return fmt.Errorf("reserved bits %v %v %v", one, two, three)
		}
		got <- string(f.Payload())
		return nil
	}
	return got
}

const forgetful = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// hello is long enough to be compressed.
var hello = strings.Repeat("Hello, hello. ", 20)

func TestClientCompression_offers(t *testing.T) {
	for _, row := range []struct {
		name    string
		options *websocket.Compression
		headers http.Header
		want    []string
	}{
		{"nothing without Compression", nil, nil, nil},
		{"the default: a window of 4 KiB or no context, and none for what is sent", &websocket.Compression{}, nil, []string{"permessage-deflate; server_max_window_bits=12; client_max_window_bits; client_no_context_takeover, permessage-deflate; server_no_context_takeover; client_max_window_bits; client_no_context_takeover"}},
		{"a codec with a context", &websocket.Compression{Codec: newDictCodec()}, nil, []string{"permessage-deflate; server_max_window_bits=12; client_max_window_bits, permessage-deflate; server_no_context_takeover; client_max_window_bits"}},
		{"no context at all", &websocket.Compression{Codec: newDictCodec(), Window: -1}, nil, []string{"permessage-deflate; server_no_context_takeover; client_max_window_bits; client_no_context_takeover"}},
		{"the largest window", &websocket.Compression{Codec: newDictCodec(), Window: 1 << 20}, nil, []string{"permessage-deflate; client_max_window_bits"}},
		{"other extensions of the program first", &websocket.Compression{Window: -1}, http.Header{"Sec-Websocket-Extensions": {"x-one; a=1", "x-two"}}, []string{"x-one; a=1", "x-two", "permessage-deflate; server_no_context_takeover; client_max_window_bits; client_no_context_takeover"}},
		{"the program's own offer without Compression", nil, http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}}, []string{"permessage-deflate"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			server := peer.Listen(t)
			cl := &websocket.Client{Endpoint: server.Endpoint(), Compression: row.options, Headers: row.headers}
			before := row.headers.Clone()
			connected := peer.Connect(cl)
			c := server.Accept()
			assert.Equal(t, row.want, c.Request.Header["Sec-Websocket-Extensions"])
			c.Send(c.Answer())
			require.NoError(t, peer.Receive(t, connected))
			assert.Equal(t, before, cl.Headers, "the map is changed")
			cl.Quit()
		})
	}
	for _, headers := range []http.Header{
		{"Sec-Websocket-Extensions": {"permessage-deflate"}},
		{"Sec-Websocket-Extensions": {"x-one", "x-two, permessage-deflate ; client_max_window_bits"}},
		{"sec-websocket-extensions": {"permessage-deflate"}},
	} {
		t.Run(fmt.Sprintf("permessage-deflate in Headers beside Compression is an error: %q", headers), func(t *testing.T) {
			cl := &websocket.Client{Endpoint: "ws://127.0.0.1:1/", Compression: &websocket.Compression{}, Headers: headers}
			err := cl.Connect()
			require.ErrorIs(t, err, websocket.ErrInvalidHeaderWSExtensions)
			require.ErrorContains(t, err, "Compression")
		})
	}
}

func TestClientCompression_answers(t *testing.T) {
	const window = 4 << 10
	for _, server := range []struct {
		params string
		sends  int // bytes of context
	}{
		{"; server_no_context_takeover", 0}, {"; server_no_context_takeover; server_max_window_bits=9", 0}, {"; server_max_window_bits=12", window},
		{"; server_max_window_bits=9", 512}, {`; server_max_window_bits="8"`, 256},
	} {
		for _, client := range []struct {
			params string
			keeps  int
		}{
			{"", 32 << 10}, {"; client_max_window_bits=15", 32 << 10}, {"; client_max_window_bits=9", 512}, {" ;\tclient_max_window_bits = 8", 256},
			{"; client_no_context_takeover", 0}, {"; client_max_window_bits=10; client_no_context_takeover", 0},
		} {
			for _, codec := range []websocket.DeflateCodec{newDictCodec(), websocket.StandardDeflate()} {
				t.Run(fmt.Sprintf("permessage-deflate%s%s, a codec with a context %v", server.params, client.params, codec.TakesDict()), func(t *testing.T) {
					peer.CheckGoroutines(t)
					cl := &websocket.Client{Compression: &websocket.Compression{Codec: codec, Window: window}}
					got := texts(cl)
					c := openPacked(t, cl, server.sends, client.keeps, "permessage-deflate"+client.params+server.params)
					talkPacked(t, cl, c, got, client.keeps > 0 && codec.TakesDict())
					cl.Quit()
				})
			}
		}
	}
	for name, extensions := range map[string]string{
		"an answer without a context": forgetful,
		"beside another extension":    "x-one; a, " + forgetful + "; client_max_window_bits=10",
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := &websocket.Client{Compression: new(websocket.Compression), Headers: http.Header{"Sec-Websocket-Extensions": {"x-one"}}}
			got := texts(cl)
			c := openPacked(t, cl, 0, 0, extensions)
			talkPacked(t, cl, c, got, false)
			require.Equal(t, extensions, cl.Response().Get("Sec-WebSocket-Extensions"))
			cl.Quit()
		})
	}
}

// talkPacked has both ends send texts that are alike, which are shorter with a context.
func talkPacked(t *testing.T, cl *websocket.Client, c *packedServer, got <-chan string, context bool) {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	word := make([]byte, 100)
	for i := range word {
		word[i] = 'a' + byte(random.IntN(26))
	}
	first := 0
	for i := range 6 {
		text := fmt.Sprintf("%s%d%s", word, i, word[:50])
		c.send(text)
		require.Equal(t, text, peer.Receive(t, got))
		require.NoError(t, cl.SendText([]byte(text)))
		opcode, payload, _, size, compressed := c.read()
		require.Equal(t, websocket.OpcodeText, opcode)
		require.Equal(t, text, payload)
		require.True(t, compressed)
		if i == 0 {
			first = size
		} else {
			require.Equal(t, context, size < first/2, "the message has %d bytes, the first had %d", size, first)
		}
	}
}

func TestClientCompression_refusedAnswers(t *testing.T) {
	for _, row := range []struct {
		name    string
		answers []string
		cause   string
	}{
		{"a parameter that nobody knows", []string{forgetful + "; x"}, "unknown parameter"},
		{"a parameter twice", []string{forgetful + "; server_no_context_takeover"}, "twice"},
		{"bits twice", []string{forgetful + "; client_max_window_bits=9; client_max_window_bits=9"}, "twice"},
		{"a value where there is none", []string{forgetful + "; client_max_window_bits=9; x=1"}, "unknown parameter"},
		{"a flag with a value", []string{"permessage-deflate; server_no_context_takeover=true"}, "has none"},
		{"client_max_window_bits without a value", []string{forgetful + "; client_max_window_bits"}, "out of range"},
		{"server_max_window_bits without a value", []string{forgetful + "; server_max_window_bits"}, "out of range"},
		{"7 bits", []string{forgetful + "; server_max_window_bits=7"}, "out of range"},
		{"16 bits", []string{forgetful + "; client_max_window_bits=16"}, "out of range"},
		{"a leading zero", []string{forgetful + "; server_max_window_bits=09"}, "out of range"},
		{"a malformed value", []string{forgetful + `; server_max_window_bits="9`}, "malformed"},
		{"two answers", []string{forgetful, forgetful}, "accepted twice"},
		{"two answers in one field", []string{forgetful + ", permessage-deflate; server_no_context_takeover"}, "accepted twice"},
		{"no answer to the server's window", []string{"permessage-deflate"}, "more history"},
		{"a larger window than was offered", []string{"permessage-deflate; server_max_window_bits=13"}, "more history"},
	} {
		t.Run(row.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			server := peer.Listen(t)
			cl := &websocket.Client{Endpoint: server.Endpoint(), Compression: new(websocket.Compression), HandleQuit: func() { panic("it was not open") }}
			connected := peer.Connect(cl)
			c := server.Accept()
			c.Send(answerWith(c, row.answers...))
			err := peer.Receive(t, connected)
			require.ErrorIs(t, err, websocket.ErrInvalidHeaderWSExtensions)
			require.ErrorContains(t, err, row.cause)
			require.ErrorIs(t, cl.SendText(nil), websocket.ErrConnClosed)
			c.ReadEnd()
		})
	}
	for name, row := range map[string]struct {
		options *websocket.Compression
		answer  string
	}{
		"an extension that was not offered":        {new(websocket.Compression), forgetful + ", x-one"},
		"permessage-deflate that was not offered":  {nil, forgetful},
		"the extension by a name that is no other": {new(websocket.Compression), "Permessage-Deflate"},
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			server := peer.Listen(t)
			connected := peer.Connect(&websocket.Client{Endpoint: server.Endpoint(), Compression: row.options})
			c := server.Accept()
			c.Send(answerWith(c, row.answer))
			require.ErrorContains(t, peer.Receive(t, connected), "not offered")
			c.ReadEnd()
		})
	}
}

func TestClientCompression_declined(t *testing.T) {
	peer.CheckGoroutines(t)
	cl := &websocket.Client{Compression: &websocket.Compression{MinSize: -1}}
	got := texts(cl)
	c := &packedServer{Script: peer.Open(t, cl)}
	require.NoError(t, cl.SendText([]byte(hello)))
	_, payload, _, _, compressed := c.read()
	assert.Equal(t, hello, payload)
	assert.False(t, compressed, "a server that answers nothing does not compress")
	c.Send(websocket.NewFrameText(false, []byte(hello)))
	assert.Equal(t, hello, peer.Receive(t, got))
	c.Send(frame(0xC1, packed([]byte(hello), nil)))
	code, _ := c.ReadClose()
	assert.EqualValues(t, 1002, code, "RSV1 means nothing")
}

func TestClientCompression_receives(t *testing.T) {
	t.Run("a conversation in one context", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{Compression: new(websocket.Compression)}
		got := texts(cl)
		c := openPacked(t, cl, 4<<10, 0, "permessage-deflate; server_max_window_bits=12; client_no_context_takeover")
		c.send(hello)
		require.Equal(t, hello, peer.Receive(t, got))

		again := c.pack(hello) // refers to the first, and is four fragments with Pings between them
		require.Less(t, len(again), 15)
		c.Send(frame(0x41, again[:2]))
		c.Send(websocket.NewFramePing(false, []byte("one")))
		require.Equal(t, "one", string(c.Read().Payload))
		c.Send(frame(0x00, again[2:3]))
		c.Send(frame(0x00, nil))
		c.Send(websocket.NewFramePing(false, []byte("two")))
		require.Equal(t, "two", string(c.Read().Payload))
		c.Send(frame(0x80, again[3:]))
		require.Equal(t, hello, peer.Receive(t, got))

		c.Send(frame(0x81, []byte("plain"))) // no part of the context
		c.send("")
		c.send("é€😀" + hello)
		for _, want := range []string{"plain", "", "é€😀" + hello} {
			require.Equal(t, want, peer.Receive(t, got))
		}
		long := strings.Repeat(string(peer.Pattern(10_000, 1)), 20) // longer than the window, and than what may wait for handlers
		c.send(long)
		require.True(t, long == peer.Receive(t, got))
		c.send(long[:300])
		require.Equal(t, long[:300], peer.Receive(t, got))
		cl.Quit()
	})
	t.Run("messages that are dropped are part of the context", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{Compression: new(websocket.Compression)} // HandleBin is nil
		got := texts(cl)
		c := openPacked(t, cl, 4<<10, 0, "permessage-deflate; server_max_window_bits=12; client_no_context_takeover")
		secret := string(peer.Pattern(500, 3)) + "\xff"
		c.Send(frame(0xC2, c.pack(secret)))
		refers := c.pack(secret[:400])
		require.Less(t, len(refers), 50)
		c.Send(frame(0xC1, refers))
		require.Equal(t, secret[:400], peer.Receive(t, got))
		cl.Quit()
	})
	t.Run("what came before a Close frame is handled", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{Compression: new(websocket.Compression)}
		got := texts(cl)
		in := append(frame(0xC1, packed([]byte(hello), nil)), websocket.NewFrameClose(false, 4000, []byte("bye"))...)
		c := openPacked(t, cl, 0, 0, forgetful, in...)
		require.Equal(t, hello, peer.Receive(t, got))
		code, _ := c.ReadClose()
		require.EqualValues(t, 4000, code)
	})
	t.Run("a frame is what it would be if it had come plain", func(t *testing.T) {
		peer.CheckGoroutines(t)
		got := make(chan *websocket.Frame, 1)
		handle := func(_ *websocket.Client, f *websocket.Frame) error { got <- f; return nil }
		cl := &websocket.Client{Compression: new(websocket.Compression), HandleText: handle, HandleBin: handle}
		c := openPacked(t, cl, 0, 0, forgetful)
		for _, first := range []byte{0xC1, 0xC2} {
			for _, payload := range []string{hello, "x", ""} {
				c.Send(frame(first, packed([]byte(payload), nil)))
				compressed := peer.Receive(t, got)
				c.Send(frame(first&^peer.BitRsv1, []byte(payload)))
				plain := peer.Receive(t, got)
				require.Equal(t, string(plain.Payload()), string(compressed.Payload()))
				require.Equal(t, plain.Opcode(), compressed.Opcode())
				one, _, _ := compressed.ReservedBits()
				require.False(t, one)
			}
		}
		cl.Quit()
	})
}

func TestClientCompression_breaches(t *testing.T) {
	const limit = 1000
	good := frame(0xC1, packed([]byte(hello), nil))
	large := func(first byte, n int) []byte { return frame(first, packed(bytes.Repeat([]byte("a"), n), nil)) }
	for _, row := range []struct {
		name string
		in   []byte
		code websocket.CloseCode
	}{
		{"RSV1 on a ping", frame(0xC9, nil), 1002},
		{"RSV1 on a pong", frame(0xCA, nil), 1002},
		{"RSV1 on a close", frame(0xC8, []byte("\x03\xe8")), 1002},
		{"RSV1 on a continuation", append(frame(0x41, good[2:]), frame(0xC0, nil)...), 1002},
		{"RSV1 on a continuation of a plain message", append(frame(0x01, nil), frame(0x40, nil)...), 1002},
		{"RSV2 beside RSV1", frame(0xE1, good[2:]), 1002},
		{"RSV3", frame(0x91, nil), 1002},
		{"what is no DEFLATE data", frame(0xC1, []byte("\xff\xff\xff")), 1007},
		{"binary data that is none either, for no handler", frame(0xC2, []byte("\xff\xff\xff")), 1007},
		{"a message that is cut off", frame(0xC1, packed([]byte(hello), nil)[:6]), 1007},
		{"a reference to a context that there is not", frame(0xC1, packed([]byte(hello), []byte(hello))), 1007},
		{"text that is not UTF-8", frame(0xC1, packed([]byte(hello+"\xff"), nil)), 1007},
		{"text that ends inside a character", frame(0xC1, packed([]byte(hello+"\xe2\x82"), nil)), 1007},
		{"plain text that is not UTF-8", frame(0x81, []byte("\xff")), 1007},
		{"a message one byte too large", large(0xC1, limit+1), 1009},
		{"a message far too large", large(0xC2, 50<<20), 1009},
		{"a header that says too much", binary.BigEndian.AppendUint16([]byte{0xC2, peer.Length16}, limit+limit/8+64+1), 1009},
		{"a plain message one byte too large", binary.BigEndian.AppendUint16([]byte{0x82, peer.Length16}, limit+1), 1009},
	} {
		t.Run(row.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			quit := make(chan bool, 1)
			cl := &websocket.Client{Compression: new(websocket.Compression), MaxMessageSize: limit, HandleQuit: func() { quit <- true }}
			got := texts(cl)
			c := openPacked(t, cl, 0, 0, forgetful)
			most := string(bytes.Repeat([]byte("a"), limit))
			c.Send(append(bytes.Clone(good), large(0xC1, limit)...)) // at the limit
			require.Equal(t, hello, peer.Receive(t, got))
			require.Equal(t, most, peer.Receive(t, got))
			c.Send(append(bytes.Clone(row.in), good...))
			code, reason := c.ReadClose()
			assert.Equal(t, row.code, code)
			c.Conn.Close()
			peer.Receive(t, quit)
			assert.Equal(t, &websocket.CloseError{Code: row.code, Reason: reason}, cl.Err())
			assert.NotEmpty(t, reason)
			assert.Empty(t, got, "nothing is handled behind a breach")
		})
	}
}

func TestClientCompression_sends(t *testing.T) {
	const inContext = "permessage-deflate; server_no_context_takeover"
	open := func(t *testing.T, options websocket.Compression, cl *websocket.Client) *packedServer {
		options.Codec = newDictCodec()
		cl.Compression = &options
		return openPacked(t, cl, 0, 32<<10, inContext)
	}
	t.Run("a long message goes in fragments, of which the first has RSV1", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{FragmentSize: 10}
		c := open(t, websocket.Compression{}, cl)
		for _, opcode := range []websocket.Opcode{websocket.OpcodeText, websocket.OpcodeBin, websocket.OpcodeBin} {
			payload := peer.Pattern(300, int(opcode))
			send := cl.SendBin
			if opcode == websocket.OpcodeText {
				send = cl.SendText
			}
			require.NoError(t, send(payload))
			got, plain, frames, size, compressed := c.read()
			require.Equal(t, opcode, got)
			require.Equal(t, string(peer.Pattern(300, int(opcode))), plain)
			require.True(t, compressed)
			require.Equal(t, max((size+9)/10, 1), frames)
		}
		cl.Quit()
	})
	t.Run("what would not get shorter goes plain, and is no part of the context", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := open(t, websocket.Compression{}, cl)
		noise := make([]byte, 70_000)
		rand.NewChaCha8([32]byte{}).Read(noise)
		for _, payload := range []string{hello, string(noise), hello, string(noise[:500]), hello} {
			sent := make(chan error, 1)
			go func() { sent <- cl.SendBin([]byte(payload)) }()
			_, plain, _, _, compressed := c.read()
			require.NoError(t, peer.Receive(t, sent))
			require.Equal(t, payload, plain)
			require.Equal(t, payload == hello, compressed)
		}
		cl.Quit()
	})
	for _, row := range []struct{ minSize, size int }{{0, 128}, {-1, 20}, {1000, 1000}, {20, 20}} {
		t.Run(fmt.Sprintf("with a MinSize of %d messages are compressed from %d bytes", row.minSize, row.size), func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := new(websocket.Client)
			c := open(t, websocket.Compression{MinSize: row.minSize}, cl)
			for _, size := range []int{0, row.size - 1, row.size, row.size + 1} {
				payload := bytes.Repeat([]byte("a"), size)
				require.NoError(t, cl.SendText(payload))
				_, plain, _, _, compressed := c.read()
				require.Equal(t, string(payload), plain)
				require.Equal(t, size > 0 && (size >= row.size || row.minSize < 0), compressed, size)
			}
			cl.Quit()
		})
	}
	t.Run("control frames are never compressed", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := open(t, websocket.Compression{MinSize: -1}, cl)
		for _, send := range []func([]byte) error{cl.SendPing, cl.SendPong} {
			require.NoError(t, send(bytes.Repeat([]byte("a"), 125)))
			f, rsv := c.readFrame()
			require.Zero(t, rsv)
			require.Len(t, f.Payload, 125)
		}
		cl.Quit()
	})
	t.Run("a payload is not changed, and not kept", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := open(t, websocket.Compression{}, cl)
		for range 3 {
			payload := []byte(hello)
			require.NoError(t, cl.SendText(payload))
			require.Equal(t, hello, string(payload))
			clear(payload)
			_, plain, _, _, _ := c.read()
			require.Equal(t, hello, plain)
		}
		cl.Quit()
	})
	t.Run("messages of many goroutines are compressed in the order in which they are sent", func(t *testing.T) {
		peer.CheckGoroutines(t)
		const senders, each = 8, 30
		cl := &websocket.Client{FragmentSize: 50}
		c := open(t, websocket.Compression{}, cl)
		var group sync.WaitGroup
		for sender := range senders {
			group.Go(func() {
				for i := range each {
					assert.NoError(t, cl.SendText(fmt.Appendf(nil, "%d %d %s", sender, i, hello)))
				}
			})
		}
		next := make([]int, senders)
		for range senders * each {
			_, plain, _, _, compressed := c.read()
			var sender, i int
			_, err := fmt.Sscanf(plain, "%d %d", &sender, &i)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("%d %d %s", sender, next[sender], hello), plain)
			require.True(t, compressed)
			next[sender]++
		}
		group.Wait()
		cl.Quit()
	})
	t.Run("Close waits for a message that is being compressed", func(t *testing.T) {
		peer.CheckGoroutines(t)
		inside, release := make(chan bool), make(chan bool)
		codec := hookedCodec{dictCodec: newDictCodec(), deflates: func() {
			inside <- true
			<-release
		}}
		cl := &websocket.Client{Compression: &websocket.Compression{Codec: codec}, FragmentSize: 10}
		c := openPacked(t, cl, 0, 0, forgetful)
		sent, closed := make(chan error, 1), make(chan error, 1)
		go func() { sent <- cl.SendText([]byte(hello)) }()
		peer.Receive(t, inside)
		go func() { closed <- cl.Close() }()
		require.True(t, peer.Eventually(func() bool { return cl.SendPing(nil) != nil }), "Close has begun")
		close(release)
		for rsv := byte(0); rsv == 0; { // Pings went first
			first, err := c.In.Peek(1)
			require.NoError(t, err)
			if rsv = first[0] & peer.BitsRsv; rsv == 0 {
				require.Equal(t, websocket.OpcodePing, c.Read().Opcode)
			}
		}
		_, plain, frames, _, compressed := c.read()
		require.Equal(t, hello, plain)
		require.True(t, compressed)
		require.Greater(t, frames, 1)
		require.NoError(t, peer.Receive(t, sent))
		code, _ := c.ReadClose()
		require.EqualValues(t, websocket.StatusNormal, code)
		c.Send(websocket.NewFrameClose(false, websocket.StatusNormal, nil))
		c.Conn.Close()
		require.NoError(t, peer.Receive(t, closed))
	})
}

func TestClientCompression_codecPanics(t *testing.T) {
	codec := hookedCodec{dictCodec: newDictCodec(), deflates: func() { panic("deflates") }, inflates: func() { panic("inflates") }}
	for name, in := range map[string][]byte{
		"while it inflates": frame(0xC1, packed([]byte(hello), nil)),
		"in a handler":      frame(0x81, []byte("plain")),
	} {
		t.Run("a codec that panics "+name+" ends the connection", func(t *testing.T) {
			peer.CheckGoroutines(t)
			quit := make(chan bool, 1)
			cl := &websocket.Client{Compression: &websocket.Compression{Codec: codec}, Logger: slog.New(slog.DiscardHandler), HandleQuit: func() { quit <- true }}
			cl.HandleText = func(cl *websocket.Client, _ *websocket.Frame) error { return cl.SendText([]byte(hello)) }
			c := openPacked(t, cl, 0, 0, forgetful, in...)
			code, _ := c.ReadClose()
			require.EqualValues(t, websocket.StatusBadRequest, code)
			c.Conn.Close()
			peer.Receive(t, quit)
			require.ErrorContains(t, cl.Err(), "panicked")
		})
	}
	t.Run("a codec that panics in a Send of the program panics there, and holds nothing up", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{Compression: &websocket.Compression{Codec: codec}}
		c := openPacked(t, cl, 0, 0, forgetful)
		require.PanicsWithValue(t, "deflates", func() { cl.SendText([]byte(hello)) })
		require.NoError(t, cl.SendText([]byte("short")))
		require.Equal(t, "short", string(c.Read().Payload))
		cl.Quit()
	})
}

func TestClientCompression_reconnects(t *testing.T) {
	peer.CheckGoroutines(t)
	quit := make(chan bool, 1)
	cl := &websocket.Client{Compression: &websocket.Compression{Codec: newDictCodec()}, HandleQuit: func() { quit <- true }}
	got := texts(cl)
	sizes := make([]int, 0, 2)
	for range 2 {
		c := openPacked(t, cl, 4<<10, 32<<10, "permessage-deflate; server_max_window_bits=12")
		c.send(hello)
		require.Equal(t, hello, peer.Receive(t, got))
		require.NoError(t, cl.SendText([]byte(hello)))
		_, plain, _, size, compressed := c.read() // which has no context yet
		require.True(t, compressed)
		require.Equal(t, hello, plain)
		sizes = append(sizes, size)
		cl.Quit()
		peer.Receive(t, quit)
	}
	require.Equal(t, sizes[0], sizes[1], "the context of the connection before is used")

	c := openPacked(t, cl, 4<<10, 32<<10, "permessage-deflate; server_max_window_bits=12", frame(0xC1, packed([]byte(hello), []byte(hello)))...)
	code, _ := c.ReadClose()
	require.EqualValues(t, 1007, code, "what the server sent over another connection is not known")

	cl.Quit()
	peer.Receive(t, quit)
	cl.Compression, cl.Endpoint = nil, ""
	require.Empty(t, peer.Open(t, cl).Request.Header["Sec-Websocket-Extensions"])
	cl.Quit()
	peer.Receive(t, quit)
}

func TestClientCompression_realServer(t *testing.T) {
	for _, row := range []struct {
		name           string
		server, client websocket.Compression
		messages       int
		answer         string
	}{
		{"a context both ways", websocket.Compression{Codec: newDictCodec()}, websocket.Compression{Codec: newDictCodec()}, 1000,
			"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"},
		{"the standard codec at both ends", websocket.Compression{}, websocket.Compression{}, 300,
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12"},
		{"a context for the server alone", websocket.Compression{Codec: newDictCodec(), Window: 32 << 10}, websocket.Compression{Window: 32 << 10}, 100,
			"permessage-deflate; client_no_context_takeover"},
		{"a small window at the server", websocket.Compression{Codec: newDictCodec(), Window: 512}, websocket.Compression{Codec: newDictCodec()}, 100,
			"permessage-deflate; server_max_window_bits=12; client_max_window_bits=9"},
		{"a small window at the client", websocket.Compression{Codec: newDictCodec()}, websocket.Compression{Codec: newDictCodec(), Window: 512}, 100,
			"permessage-deflate; server_max_window_bits=9; client_max_window_bits=12"},
		{"no context at all", websocket.Compression{Codec: newDictCodec(), Window: -1, MinSize: -1}, websocket.Compression{Codec: newDictCodec(), Window: -1, MinSize: -1}, 100,
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
	} {
		t.Run(row.name, func(t *testing.T) {
			serv := peer.Start(t, &websocket.ServerOptions{
				Compression: &row.server,
				HandleText:  peer.Echo,
				HandleBin:   func(conn int, payload []byte) { websocket.SendBin(conn, payload) },
			})
			got := make(chan string, 1)
			handle := func(_ *websocket.Client, f *websocket.Frame) error {
				got <- fmt.Sprint(f.Opcode(), string(f.Payload()))
				return nil
			}
			cl := &websocket.Client{Endpoint: "ws://" + serv.Address, Compression: &row.client, HandleText: handle, HandleBin: handle}
			require.NoError(t, cl.Connect())
			t.Cleanup(cl.Quit)
			require.Equal(t, row.answer, cl.Response().Get("Sec-WebSocket-Extensions"))
			echoes := make(chan error, 1)
			message := func(i int) (websocket.Opcode, []byte) {
				switch i % 50 {
				case 7: // too long for a context
					return websocket.OpcodeText, peer.Pattern(40_000, i)
				case 13: // does not get shorter
					noise := make([]byte, 300)
					rand.NewChaCha8([32]byte{byte(i)}).Read(noise)
					return websocket.OpcodeBin, noise
				case 21:
					return websocket.OpcodeText, nil
				}
				return websocket.OpcodeText, fmt.Appendf(nil, `{"id":%d,"method":"POST","target":"/rooms/%d/messages","body":{"text":"hello, everybody","from":"anna","at":%d}}`, i, i%9, i*7919)
			}
			go func() {
				for i := range row.messages {
					opcode, payload := message(i)
					send := cl.SendText
					if opcode == websocket.OpcodeBin {
						send = cl.SendBin
					}
					if err := send(payload); err != nil {
						echoes <- err
						return
					}
				}
				echoes <- nil
			}()
			for i := range row.messages {
				opcode, payload := message(i)
				require.True(t, fmt.Sprint(opcode, string(payload)) == peer.Receive(t, got), "message %d", i)
			}
			require.NoError(t, peer.Receive(t, echoes))
			require.NoError(t, cl.Close())
		})
	}
}
