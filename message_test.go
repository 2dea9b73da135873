//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Messages without packets, and buffers that are given back.

func TestSendMessage(t *testing.T) {
	t.Run("SendText and SendBin send what Send does with their packets", func(t *testing.T) {
		opts := new(ServerOptions)
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		for _, size := range []int{0, 1, 125, 126, 127, joinSize - 1, joinSize, joinSize + 1, corkSize, 65535, 65536, largeSize - maxHeader, largeSize, largeSize + 1} {
			payload := rawPattern(size, size)
			for range 2 {
				require.NoError(t, SendText(conn, payload))
				c.expect(OpcodeText, string(payload))
				require.NoError(t, SendBin(conn, payload))
				c.expect(OpcodeBin, string(payload))
			}
		}
	})
	t.Run("messages keep their order behind a handler of several, whatever their size", func(t *testing.T) {
		sizes := []int{3, joinSize, 5, corkSize / 2, corkSize, 1, 300 << 10, 2, largeSize, 4}
		opts := &ServerOptions{HandleBin: func(conn int, payload []byte) {
			answer := rawPattern(sizes[payload[0]], int(payload[0]))
			SendBin(conn, answer)
			Send(conn, NewFrameText(false, answer))
			clear(answer) // it keeps no reference
		}}
		s := startServer(t, opts)
		c := s.connect(t)
		var in []byte
		for i := range sizes {
			in = append(in, NewFrameBin(true, []byte{byte(i)})...)
		}
		c.send(in)
		for i, size := range sizes {
			c.expect(OpcodeBin, string(rawPattern(size, i)))
			c.expect(OpcodeText, string(rawPattern(size, i)))
		}
	})
	t.Run("concurrent messages of all ways are never mixed, and a slow reader loses nothing", func(t *testing.T) {
		opts := new(ServerOptions)
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		const senders, each = 8, 20
		errs := make(chan error, senders)
		for i := range senders {
			go func() {
				var err error
				for n := range each {
					body := append([]byte{byte(i), byte(n)}, bytes.Repeat([]byte{byte(i)}, n*(1+i*700))...)
					if i%2 == 0 {
						err = errors.Join(err, SendBin(conn, body))
					} else {
						err = errors.Join(err, Send(conn, NewFrameBin(false, body)))
					}
					clear(body)
				}
				errs <- err
			}()
		}
		next := make(map[byte]byte)
		for range senders * each {
			_, body, err := c.rawFrame()
			require.NoError(t, err)
			i, n := body[0], body[1]
			require.Equal(t, next[i], n, "messages of one sender come in their order")
			next[i]++
			require.Equal(t, int(n)*(1+int(i)*700), len(body)-2)
			require.Equal(t, len(body)-2, bytes.Count(body[2:], []byte{i}))
		}
		for range senders {
			require.NoError(t, rawGet(t, errs))
		}
	})
	t.Run("other sockets get them too", func(t *testing.T) {
		a, b := rawSocketpair(false)(t)
		require.NoError(t, SendText(a, []byte("hello")))
		packet, err := Recv(b)
		require.NoError(t, err)
		assert.Equal(t, NewFrameText(false, []byte("hello")), packet)
	})
	t.Run("a connection that was closed takes none", func(t *testing.T) {
		opts := new(ServerOptions)
		added := rawAdded(opts)
		s := startServer(t, opts)
		s.connect(t)
		conn := rawGet(t, added)
		require.NoError(t, Send(conn, NewFrameClose(false, StatusNormal, nil)))
		require.ErrorIs(t, SendBin(conn, []byte("x")), ErrConnClosed)
		require.ErrorIs(t, SendText(conn, make([]byte, largeSize)), ErrConnClosed)
	})
	t.Run("a large message waits for an empty queue", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 64 << 20}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		first, large := rawPattern(8<<20, 1), rawPattern(largeSize, 2)
		require.NoError(t, SendBin(conn, first))
		require.ErrorIs(t, TrySend(conn, NewFrameBin(false, large)), ErrSendQueueFull)
		require.NoError(t, TrySend(conn, NewFrameBin(false, first[:1<<20])))
		sent := make(chan error, 1)
		go func() { sent <- SendBin(conn, large) }()
		c.expect(OpcodeBin, string(first))
		c.expect(OpcodeBin, string(first[:1<<20]))
		c.expect(OpcodeBin, string(large))
		require.NoError(t, rawGet(t, sent))
	})
}

func TestPutBuffer(t *testing.T) {
	t.Run("a buffer comes back for a message of its size, and shows no more than that", func(t *testing.T) {
		for _, size := range []int{minSpare, 100, 128, 1000, 1 << 10, 16 << 10, 100_000, 1 << 20} {
			b := spareBuffer(size)
			for b == nil { // the collector, or another processor, may have it
				PutBuffer(make([]byte, 3, roundSize(size)))
				b = spareBuffer(size)
			}
			assert.Empty(t, b)
			assert.GreaterOrEqual(t, cap(b), size)
			assert.LessOrEqual(t, cap(b), size+size/8)
		}
	})
	t.Run("sizes that are not kept are taken all the same", func(t *testing.T) {
		for _, size := range []int{0, 1, minSpare - 1, maxSpare + 1} {
			PutBuffer(make([]byte, size))
			assert.Nil(t, spareBuffer(size))
		}
	})
	t.Run("the size of what is kept is bounded", func(t *testing.T) {
		for range 3 * maxSpares / maxSpare {
			PutBuffer(make([]byte, maxSpare))
		}
		s := spares.Get().(*spareBuffers)
		assert.LessOrEqual(t, s.bytes, maxSpares)
		spares.Put(s)
	})
	t.Run("messages of buffers that were given back are whole", func(t *testing.T) {
		opts := &ServerOptions{HandleBin: func(conn int, payload []byte) {
			SendBin(conn, payload)
			PutBuffer(payload)
		}}
		s := startServer(t, opts)
		const clients, each = 8, 40
		rawAll(t, clients, func(i int) error {
			c, err := s.rawJoin()
			if err != nil {
				return err
			}
			defer c.Close()
			for n := range each {
				payload := rawPattern(60+n*n*n, i*each+n)
				binary.BigEndian.PutUint16(payload, uint16(i))
				frame := NewFrameBin(true, payload)
				if n%3 == 0 { // in two fragments
					cut := len(payload) / 2
					frame = NewFrameBin(true, payload[:cut])
					frame[0] &^= bitFin
					frame = append(frame, NewFrame(OpcodeCont, true, payload[cut:])...)
				}
				if _, err = c.Write(frame); err != nil {
					return err
				}
				if err = c.rawExpect(OpcodeBin, string(payload)); err != nil {
					return fmt.Errorf("message %d of client %d: %w", n, i, err)
				}
			}
			return nil
		})
	})
}
