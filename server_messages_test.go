//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMessages(t *testing.T) {
	type got struct {
		kind    string
		payload []byte
	}
	messages := make(chan got, 64)
	s := startServer(t, &ServerOptions{
		HandleText: func(_ int, p []byte) { messages <- got{"text", p} },
		HandleBin:  func(_ int, p []byte) { messages <- got{"bin", p} },
	})
	frame := func(op Opcode, fin bool, payload string) []byte {
		b := NewFrame(op, true, []byte(payload))
		if !fin {
			b[0] &^= bitFin
		}
		return b
	}
	t.Run("payloads of every size of length field arrive", func(t *testing.T) {
		c := s.connect(t)
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 1 << 20} {
			c.send(NewFrameBin(true, rawPattern(size, 2)))
			m := rawGet(t, messages)
			require.True(t, bytes.Equal(rawPattern(size, 2), m.payload), "%d bytes", size)
		}
	})
	t.Run("payloads stay valid after the handler", func(t *testing.T) {
		c := s.connect(t)
		var kept [][]byte
		for i := range 200 {
			size := 10 + i*40
			if i%2 == 0 {
				c.send(NewFrameBin(true, rawPattern(size, i)))
			} else {
				b := frame(OpcodeBin, false, string(rawPattern(size, i)[:size/2]))
				c.send(append(b, frame(OpcodeCont, true, string(rawPattern(size, i)[size/2:]))...))
			}
			kept = append(kept, rawGet(t, messages).payload)
		}
		for i, payload := range kept {
			require.True(t, bytes.Equal(rawPattern(10+i*40, i), payload), "message %d", i)
		}
	})
}

func TestPingWhileHandlerBlocks(t *testing.T) {
	release, inside := make(chan struct{}), make(chan struct{}, 1)
	s := startServer(t, &ServerOptions{HandleText: func(conn int, p []byte) {
		inside <- struct{}{}
		<-release
		rawEcho(conn, p)
	}})
	c := s.connect(t)
	c.send(append(NewFrameText(true, []byte("blocks")), NewFramePing(true, []byte("same read"))...))
	c.expect(OpcodePong, "same read")
	rawGet(t, inside)
	for i := range 100 {
		c.send(NewFramePing(true, fmt.Append(nil, i)))
		c.expect(OpcodePong, fmt.Sprint(i))
	}
	close(release)
	c.expectText("blocks")
}

func TestCloseFromClient(t *testing.T) {
	s := startServer(t, &ServerOptions{HandleText: rawEcho})
	t.Run("nobody waits where both sides close as they should", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho}
		added := rawAdded(opts)
		s := startServer(t, opts)
		start := time.Now()
		for range 40 { // a wait of a second each would take too long
			c := s.connect(t)
			c.send(NewFrameClose(true, StatusNormal, nil))
			c.expectClose(StatusNormal)
			conn := rawGet(t, added)
			require.True(t, eventually(func() bool { _, ok := s.Clients.Context(conn); return !ok }))
		}
		require.Less(t, time.Since(start), 2*rawWait)
	})
	t.Run("messages before the Close are answered before the Close is", func(t *testing.T) {
		c := s.connect(t)
		var all []byte
		for i := range 500 {
			all = append(all, NewFrameText(true, fmt.Append(nil, i))...)
		}
		all = append(all, NewFrameClose(true, StatusNormal, []byte("done"))...)
		c.send(append(all, NewFrameText(true, []byte("after the Close"))...))
		for i := range 500 {
			c.expectText(fmt.Sprint(i))
		}
		c.expect(OpcodeClose, rawCloseBody(1000, "done"))
		c.expectEOF()
	})
	t.Run("a client that closes its side without a Close gets its answers", func(t *testing.T) {
		c := s.connect(t)
		c.send(append(NewFrameText(true, []byte("one")), NewFrameText(true, []byte("two"))...))
		closer, ok := c.Conn.(interface{ CloseWrite() error })
		require.True(t, ok)
		require.NoError(t, closer.CloseWrite())
		c.expectText("one")
		c.expectText("two")
		c.expectEOF()
	})
}

func TestProtocolErrors(t *testing.T) {
	s := startServer(t, nil)
	for _, size := range []int{32 << 10, 1 << 20} {
		t.Run(fmt.Sprintf("the Close frame is not lost where the client has sent %d bytes more", size), func(t *testing.T) {
			for range 5 {
				c := s.connect(t)
				written := make(chan struct{})
				go func() {
					defer close(written)
					c.Write(append([]byte{0x83, 0x80, 0, 0, 0, 0}, make([]byte, size)...))
				}()
				op, payload, err := c.rawFrame()
				require.NoError(t, err)
				require.Equal(t, OpcodeClose, op)
				require.Equal(t, StatusBadRequest, int(c.code(payload)))
				rawDone(t, written) // it may be cut short
				c.expectEOF()
			}
		})
	}
}

// code is the code in the payload of a Close frame.
func (c *rawConn) code(payload []byte) CloseCode {
	c.t.Helper()
	code, _, err := parseCloseBody(payload)
	require.Nil(c.t, err)
	return code
}

func TestMessageSizeLimits(t *testing.T) {
	const limit = 70_000
	s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleBin: rawEcho, MaxMessageSize: limit, MaxFragments: 10})
	split := func(payload []byte, parts int) (all []byte) {
		for i := range parts {
			op, from, to := OpcodeCont, len(payload)*i/parts, len(payload)*(i+1)/parts
			if i == 0 {
				op = OpcodeText
			}
			b := NewFrame(op, true, payload[from:to])
			if i < parts-1 {
				b[0] &^= bitFin
			}
			all = append(all, b...)
		}
		return all
	}
	for _, tc := range []struct {
		size, parts int
		ok          bool
	}{
		{limit - 1, 1, true}, {limit, 1, true}, {limit + 1, 1, false},
		{limit - 1, 7, true}, {limit, 7, true}, {limit + 1, 7, false},
		{90, 9, true}, {90, 10, true}, {90, 11, false},
	} {
		t.Run(fmt.Sprintf("a message of %d bytes in %d frames is taken: %v", tc.size, tc.parts, tc.ok), func(t *testing.T) {
			c := s.connect(t)
			payload := rawPattern(tc.size, 0)
			c.send(split(payload, tc.parts))
			if tc.ok {
				c.expectText(string(payload))
			} else {
				c.expectClose(StatusRequestEntityTooLarge)
			}
		})
	}
}

func TestHandleRsvControl(t *testing.T) {
	frames := make(chan *Frame, 8)
	s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleRsvControl: func(_ int, f *Frame) { frames <- f }})
	c := s.connect(t)
	for op := OpcodeControlRsvB; op <= OpcodeControlRsvF; op++ {
		c.send(NewFrame(op, true, []byte{byte(op)}))
	}
	c.text("alive")
	c.expectText("alive")
	for op := OpcodeControlRsvB; op <= OpcodeControlRsvF; op++ {
		f := rawGet(t, frames)
		require.Equal(t, op, f.Opcode())
		require.Equal(t, []byte{byte(op)}, f.Payload())
		require.True(t, f.IsControl() && f.IsFinal() && f.IsComplete() && f.IsMasked())
	}
	c.send(NewFrame(OpcodeControlRsvB, true, make([]byte, 126)))
	c.expectClose(StatusBadRequest)
}

func TestAllowReservedBits(t *testing.T) {
	s := startServer(t, &ServerOptions{HandleText: rawEcho})
	with := func(bits byte) []byte {
		b := NewFrameText(true, []byte("bits"))
		b[0] |= bits
		return b
	}
	t.Run("bits may be allowed and forbidden while the server runs", func(t *testing.T) {
		for bits := byte(0); bits < 8; bits++ {
			s.AllowReservedBits(bits&4 != 0, bits&2 != 0, bits&1 != 0)
			for sent := byte(0); sent < 8; sent++ {
				c := s.connect(t)
				c.send(with(sent << 4))
				if sent&^bits == 0 {
					c.expectText("bits")
				} else {
					c.expectClose(StatusBadRequest)
				}
				c.Close()
			}
		}
	})
	t.Run("it concerns connections that are open already", func(t *testing.T) {
		s.AllowReservedBits(false, false, false)
		c := s.connect(t)
		s.AllowReservedBits(true, false, false)
		c.send(with(bitRsv1))
		c.expectText("bits")
		s.AllowReservedBits(false, false, false)
		c.send(with(bitRsv1))
		c.expectClose(StatusBadRequest)
	})
	t.Run("it outlives a restart", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: rawEcho})
		s.stop(t)
		s.AllowReservedBits(false, true, false)
		s.restart(t)
		c := s.connect(t)
		c.send(with(bitRsv2))
		c.expectText("bits")
	})
}
