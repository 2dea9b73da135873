//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// deflatePeer is a client of a server that compresses, written by hand. Both sides keep a context.
type deflatePeer struct {
	*rawConn
	conn           int // as the server knows it
	sent, received []byte
}

// deflateOpen connects to a server whose HandleClientAdd tells its connections.
func deflateOpen(t *testing.T, s *rawServer, added <-chan int) *deflatePeer {
	t.Helper()
	const offer, answer = "permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=12"
	with := func(head, extension string) string {
		return strings.TrimSuffix(head, "\r\n") + "Sec-WebSocket-Extensions: " + extension + "\r\n\r\n"
	}
	p := &deflatePeer{rawConn: s.dial(t)}
	p.send([]byte(with(rawRequest, offer)))
	got := make([]byte, len(with(rawAccepted, answer)))
	_, err := io.ReadFull(p.r, got)
	require.NoError(t, err)
	require.Equal(t, with(rawAccepted, answer), string(got))
	p.conn = rawGet(t, added)
	return p
}

// pack makes a compressed message of the client.
func (p *deflatePeer) pack(opcode Opcode, payload string) []byte {
	p.t.Helper()
	packed, err := dictCodec{}.Deflate(nil, []byte(payload), p.sent)
	require.NoError(p.t, err)
	p.sent = append(p.sent, payload...)
	h := packedHead(opcode, packed)
	h.masked = true // with a key of zeros
	return append(appendHeader(nil, h), packed...)
}

// read reads a message, and tells whether it was compressed.
func (p *deflatePeer) read() (payload string, packed bool) {
	p.t.Helper()
	var rc receiver
	for {
		b, err := p.r.ReadByte()
		require.NoError(p.t, err)
		ev, _, broken := rc.next(&rules{maxMessage: 1 << 20, maxFragments: 9, deflates: true}, []byte{b})
		require.Nil(p.t, broken)
		switch {
		case ev.kind != eventMessage:
			continue
		case ev.head.rsv()&bitRsv1 == 0:
			return string(ev.payload), false
		}
		plain, err := StandardDeflate().Inflate(nil, ev.payload, lastBytes(p.received, maxWindow), 1<<20)
		require.NoError(p.t, err)
		p.received = append(p.received, plain...)
		return string(plain), true
	}
}

// deflateServer starts a server that compresses with a codec that takes a context.
func deflateServer(t *testing.T, codec DeflateCodec, opts *ServerOptions) (s *rawServer, added <-chan int) {
	t.Helper()
	opts.Compression = &Compression{Codec: codec, MinSize: -1}
	added = rawAdded(opts)
	return startServer(t, opts), added
}

func TestInflatedMessagesOfTwoLanes(t *testing.T) {
	started, release := make(chan struct{}, 1), make(chan struct{})
	s, added := deflateServer(t, dictCodec{StandardDeflate()}, &ServerOptions{HandleBin: func(int, []byte) {
		started <- struct{}{}
		<-release
	}})
	require.NoError(t, s.RegisterTextHandler("GET", "/here", routesNamed("here")))
	rawRelease(t, release)
	p := deflateOpen(t, s, added)
	c := descriptors.get(p.conn)
	c.mu.Lock()
	c.lanes.offload = fastRow // workers call its handlers, whom the monitor does not watch
	c.mu.Unlock()
	p.send(append(p.pack(OpcodeBin, "takes long"), p.pack(OpcodeText, `{"id":1,"method":"GET","target":"/here"}`)...))
	rawDone(t, started)
	answer, _ := p.read()
	assert.Contains(t, answer, `"id":1`, "a request waits for no message that has an order")
}

func TestCodecThatPanicsWhileTheConnectionEnds(t *testing.T) {
	inflating, ends, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	plain, calls := StandardDeflate(), 0
	codec := brokenCodec{deflate: dictCodec{}.Deflate, inflate: func(dst, compressed, dict []byte, limit int) ([]byte, error) {
		if calls++; calls == 2 {
			close(inflating)
			<-ends
			panic("on purpose")
		}
		return plain.Inflate(dst, compressed, dict, limit)
	}}
	got := make(chan string, 9)
	s, added := deflateServer(t, codec, &ServerOptions{
		HandleText: func(_ int, payload []byte) { got <- string(payload) },
		OnClose:    func(ConnInfo, CloseCause) { close(closed) },
	})
	p := deflateOpen(t, s, added)
	begins := Done(p.conn)
	p.send(p.pack(OpcodeText, strings.Repeat("alpha beta ", 9)))
	require.Equal(t, strings.Repeat("alpha beta ", 9), rawGet(t, got))
	p.send(p.pack(OpcodeText, "lost"))
	rawDone(t, inflating)
	p.send(append(p.pack(OpcodeText, strings.Repeat("alpha beta ", 3)), NewFrameClose(true, StatusNormal, nil)...))
	rawDone(t, begins)
	close(ends)
	rawDone(t, closed)
	assert.Empty(t, got, "what refers to a message that was lost is not handled")
}

func TestNothingIsCompressedInVain(t *testing.T) {
	l, _ := serveLoop(t, nil)
	codec := new(packetsCodec)
	c, _ := packetsConn(t, l, deflationOf(codec, 0, direction{bits: 15, takeover: true}, direction{bits: 15}, 1<<20))
	message := NewFrameBin(false, corePayload(maxInContext+1))
	c.out = &outbox{buf: make([]byte, l.opts.SendQueueSize), stalled: true}
	require.ErrorIs(t, c.send(message, false), ErrSendQueueFull)
	c.outState = outClosed
	require.ErrorIs(t, c.send(message, true), ErrConnClosed)
	assert.Zero(t, codec.calls)
}

func TestNothingIsKeptOfWhatNobodyHandles(t *testing.T) {
	l, lease := serveLoop(t, nil)
	c, peer := serveConn(t, l)
	serveDeflates(c, deflationOf(StandardDeflate(), -1, direction{bits: 15}, direction{bits: 15}, 1<<20))
	in, _ := servePacked(t, 1000) // a binary message, without HandleBin
	_, err := writeSocket(peer, in, false)
	require.NoError(t, err)
	c.readable = true
	require.True(t, l.serve(lease, c))
	assert.Zero(t, c.lanes.runs())
	assert.Nil(t, c.lanes.backlog, "an idle connection has none")
}

func TestProgramThatCompressesItself(t *testing.T) {
	own, err := StandardDeflate().Deflate(nil, []byte("0123456789"), nil)
	require.NoError(t, err)
	frame := append(appendHeader(nil, packedHead(OpcodeText, own)), own...)
	long := strings.Repeat("abcdefgh", 20)
	for name, send := range map[string]func(s *rawServer, conn int) error{
		"with Send":              func(_ *rawServer, conn int) error { return Send(conn, frame) },
		"behind another message": func(_ *rawServer, conn int) error { return Send(conn, append(NewFramePing(false, nil), frame...)) },
		"with SendAll": func(s *rawServer, conn int) error {
			_, failed := s.Clients.SendAll(frame)
			return failed[conn]
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, added := deflateServer(t, dictCodec{StandardDeflate()}, new(ServerOptions))
			p := deflateOpen(t, s, added)
			for range 2 {
				require.NoError(t, SendText(p.conn, []byte(long)))
				payload, packed := p.read()
				require.True(t, packed)
				require.Equal(t, long, payload, "the server refers to nothing that the peer's window has elsewhere")
				require.NoError(t, send(s, p.conn))
				payload, _ = p.read()
				require.Equal(t, "0123456789", payload)
			}
		})
	}
}
