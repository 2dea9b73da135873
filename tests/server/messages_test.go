//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestMessages(t *testing.T) {
	type got struct {
		kind    string
		payload []byte
	}
	messages := make(chan got, 64)
	s := peer.Start(t, &websocket.ServerOptions{
		HandleText: func(_ int, p []byte) { messages <- got{"text", p} },
		HandleBin:  func(_ int, p []byte) { messages <- got{"bin", p} },
	})
	frame := func(op websocket.Opcode, fin bool, payload string) []byte {
		b := websocket.NewFrame(op, true, []byte(payload))
		if !fin {
			b[0] &^= peer.BitFin
		}
		return b
	}
	t.Run("payloads of every size of length field arrive", func(t *testing.T) {
		c := s.Connect(t)
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 1 << 20} {
			c.Send(websocket.NewFrameBin(true, peer.Pattern(size, 2)))
			m := peer.Get(t, messages)
			require.True(t, bytes.Equal(peer.Pattern(size, 2), m.payload), "%d bytes", size)
		}
	})
	t.Run("payloads stay valid after the handler", func(t *testing.T) {
		c := s.Connect(t)
		var kept [][]byte
		for i := range 200 {
			size := 10 + i*40
			if i%2 == 0 {
				c.Send(websocket.NewFrameBin(true, peer.Pattern(size, i)))
			} else {
				b := frame(websocket.OpcodeBin, false, string(peer.Pattern(size, i)[:size/2]))
				c.Send(append(b, frame(websocket.OpcodeCont, true, string(peer.Pattern(size, i)[size/2:]))...))
			}
			kept = append(kept, peer.Get(t, messages).payload)
		}
		for i, payload := range kept {
			require.True(t, bytes.Equal(peer.Pattern(10+i*40, i), payload), "message %d", i)
		}
	})
}

func TestPingWhileHandlerBlocks(t *testing.T) {
	release, inside := make(chan struct{}), make(chan struct{}, 1)
	s := peer.Start(t, &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
		inside <- struct{}{}
		<-release
		peer.Echo(conn, p)
	}})
	c := s.Connect(t)
	c.Send(append(websocket.NewFrameText(true, []byte("blocks")), websocket.NewFramePing(true, []byte("same read"))...))
	c.Expect(websocket.OpcodePong, "same read")
	peer.Get(t, inside)
	for i := range 100 {
		c.Send(websocket.NewFramePing(true, fmt.Append(nil, i)))
		c.Expect(websocket.OpcodePong, fmt.Sprint(i))
	}
	close(release)
	c.ExpectText("blocks")
}

func TestCloseFromClient(t *testing.T) {
	s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
	t.Run("nobody waits if both sides close as they should", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleText: peer.Echo}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		start := time.Now()
		for range 40 { // a wait of a second each would take too long
			c := s.Connect(t)
			c.Send(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
			c.ExpectClose(websocket.StatusNormal)
			conn := peer.Get(t, added)
			require.True(t, peer.Eventually(func() bool { _, ok := s.Clients.Context(conn); return !ok }))
		}
		require.Less(t, time.Since(start), 2*peer.Wait)
	})
	t.Run("messages before the Close are answered before the Close is", func(t *testing.T) {
		c := s.Connect(t)
		var all []byte
		for i := range 500 {
			all = append(all, websocket.NewFrameText(true, fmt.Append(nil, i))...)
		}
		all = append(all, websocket.NewFrameClose(true, websocket.StatusNormal, []byte("done"))...)
		c.Send(append(all, websocket.NewFrameText(true, []byte("after the Close"))...))
		for i := range 500 {
			c.ExpectText(fmt.Sprint(i))
		}
		c.Expect(websocket.OpcodeClose, peer.CloseBody(1000, "done"))
		c.ExpectEOF()
	})
	t.Run("a client that closes its side without a Close gets its answers", func(t *testing.T) {
		c := s.Connect(t)
		c.Send(append(websocket.NewFrameText(true, []byte("one")), websocket.NewFrameText(true, []byte("two"))...))
		closer, ok := c.Conn.(interface{ CloseWrite() error })
		require.True(t, ok)
		require.NoError(t, closer.CloseWrite())
		c.ExpectText("one")
		c.ExpectText("two")
		c.ExpectEOF()
	})
}

func TestProtocolErrors(t *testing.T) {
	s := peer.Start(t, nil)
	for _, size := range []int{32 << 10, 1 << 20} {
		t.Run(fmt.Sprintf("the Close frame is not lost if the client has sent %d bytes more", size), func(t *testing.T) {
			for range 5 {
				c := s.Connect(t)
				written := make(chan struct{})
				go func() {
					defer close(written)
					c.Write(append([]byte{0x83, 0x80, 0, 0, 0, 0}, make([]byte, size)...))
				}()
				op, payload, err := c.Frame()
				require.NoError(t, err)
				require.Equal(t, websocket.OpcodeClose, op)
				require.Equal(t, websocket.StatusBadRequest, int(c.Code(payload)))
				peer.Done(t, written) // it may be cut short
				c.ExpectEOF()
			}
		})
	}
}

func TestMessageSizeLimits(t *testing.T) {
	const limit = 70_000
	s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleBin: peer.Echo, MaxMessageSize: limit, MaxFragments: 10})
	split := func(payload []byte, parts int) (all []byte) {
		for i := range parts {
			op, from, to := websocket.OpcodeCont, len(payload)*i/parts, len(payload)*(i+1)/parts
			if i == 0 {
				op = websocket.OpcodeText
			}
			b := websocket.NewFrame(op, true, payload[from:to])
			if i < parts-1 {
				b[0] &^= peer.BitFin
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
			c := s.Connect(t)
			payload := peer.Pattern(tc.size, 0)
			c.Send(split(payload, tc.parts))
			if tc.ok {
				c.ExpectText(string(payload))
			} else {
				c.ExpectClose(websocket.StatusRequestEntityTooLarge)
			}
		})
	}
}

func TestHandleRsvControl(t *testing.T) {
	frames := make(chan *websocket.Frame, 8)
	s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, HandleRsvControl: func(_ int, f *websocket.Frame) { frames <- f }})
	c := s.Connect(t)
	for op := websocket.OpcodeControlRsvB; op <= websocket.OpcodeControlRsvF; op++ {
		c.Send(websocket.NewFrame(op, true, []byte{byte(op)}))
	}
	c.Text("alive")
	c.ExpectText("alive")
	for op := websocket.OpcodeControlRsvB; op <= websocket.OpcodeControlRsvF; op++ {
		f := peer.Get(t, frames)
		require.Equal(t, op, f.Opcode())
		require.Equal(t, []byte{byte(op)}, f.Payload())
		require.True(t, f.IsControl() && f.IsFinal() && f.IsComplete() && f.IsMasked())
	}
	c.Send(websocket.NewFrame(websocket.OpcodeControlRsvB, true, make([]byte, 126)))
	c.ExpectClose(websocket.StatusBadRequest)
}

func TestAllowReservedBits(t *testing.T) {
	s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
	with := func(bits byte) []byte {
		b := websocket.NewFrameText(true, []byte("bits"))
		b[0] |= bits
		return b
	}
	t.Run("bits may be allowed and forbidden while the server runs", func(t *testing.T) {
		for bits := byte(0); bits < 8; bits++ {
			s.AllowReservedBits(bits&4 != 0, bits&2 != 0, bits&1 != 0)
			for sent := byte(0); sent < 8; sent++ {
				c := s.Connect(t)
				c.Send(with(sent << 4))
				if sent&^bits == 0 {
					c.ExpectText("bits")
				} else {
					c.ExpectClose(websocket.StatusBadRequest)
				}
				c.Close()
			}
		}
	})
	t.Run("it concerns connections that are open already", func(t *testing.T) {
		s.AllowReservedBits(false, false, false)
		c := s.Connect(t)
		s.AllowReservedBits(true, false, false)
		c.Send(with(peer.BitRsv1))
		c.ExpectText("bits")
		s.AllowReservedBits(false, false, false)
		c.Send(with(peer.BitRsv1))
		c.ExpectClose(websocket.StatusBadRequest)
	})
	t.Run("it outlives a restart", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
		s.StopAndWait(t)
		s.AllowReservedBits(false, true, false)
		s.Restart(t)
		c := s.Connect(t)
		c.Send(with(peer.BitRsv2))
		c.ExpectText("bits")
	})
}
