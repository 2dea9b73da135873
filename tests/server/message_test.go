//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// Messages without packets, and buffers that are given back.

// Sizes from which on the server sends in another way: a payload of joinSize is written from where it is, not copied behind its
// header; corked bytes of corkSize are written without waiting for the rest of the batch; a packet of largeSize is copied before
// the connection's lock is taken, and no more than that is written in one go.
const (
	joinSize  = 4 << 10
	corkSize  = 32 << 10
	largeSize = 4 << 20
)

func TestSendMessage(t *testing.T) {
	t.Run("SendText and SendBin send what Send does with their packets", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		for _, size := range []int{0, 1, 125, 126, 127, joinSize - 1, joinSize, joinSize + 1, corkSize, 65535, 65536, largeSize - peer.MaxHeader, largeSize, largeSize + 1} {
			payload := peer.Pattern(size, size)
			for range 2 {
				require.NoError(t, websocket.SendText(conn, payload))
				c.Expect(websocket.OpcodeText, string(payload))
				require.NoError(t, websocket.SendBin(conn, payload))
				c.Expect(websocket.OpcodeBin, string(payload))
			}
		}
	})
	t.Run("messages keep their order behind a handler of several, whatever their size", func(t *testing.T) {
		sizes := []int{3, joinSize, 5, corkSize / 2, corkSize, 1, 300 << 10, 2, largeSize, 4}
		opts := &websocket.ServerOptions{HandleBin: func(conn int, payload []byte) {
			answer := peer.Pattern(sizes[payload[0]], int(payload[0]))
			websocket.SendBin(conn, answer)
			websocket.Send(conn, websocket.NewFrameText(false, answer))
			clear(answer) // it keeps no reference
		}}
		s := peer.Start(t, opts)
		c := s.Connect(t)
		var in []byte
		for i := range sizes {
			in = append(in, websocket.NewFrameBin(true, []byte{byte(i)})...)
		}
		c.Send(in)
		for i, size := range sizes {
			c.Expect(websocket.OpcodeBin, string(peer.Pattern(size, i)))
			c.Expect(websocket.OpcodeText, string(peer.Pattern(size, i)))
		}
	})
	t.Run("concurrent messages of all ways are never mixed, and a slow reader loses nothing", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		const senders, each = 8, 20
		errs := make(chan error, senders)
		for i := range senders {
			go func() {
				var err error
				for n := range each {
					body := append([]byte{byte(i), byte(n)}, bytes.Repeat([]byte{byte(i)}, n*(1+i*700))...)
					if i%2 == 0 {
						err = errors.Join(err, websocket.SendBin(conn, body))
					} else {
						err = errors.Join(err, websocket.Send(conn, websocket.NewFrameBin(false, body)))
					}
					clear(body)
				}
				errs <- err
			}()
		}
		next := make(map[byte]byte)
		for range senders * each {
			_, body, err := c.Frame()
			require.NoError(t, err)
			i, n := body[0], body[1]
			require.Equal(t, next[i], n, "messages of one sender come in their order")
			next[i]++
			require.Equal(t, int(n)*(1+int(i)*700), len(body)-2)
			require.Equal(t, len(body)-2, bytes.Count(body[2:], []byte{i}))
		}
		for range senders {
			require.NoError(t, peer.Get(t, errs))
		}
	})
	t.Run("other sockets get them too", func(t *testing.T) {
		a, b := socketpair(false)(t)
		require.NoError(t, websocket.SendText(a, []byte("hello")))
		packet, err := websocket.Recv(b)
		require.NoError(t, err)
		assert.Equal(t, websocket.NewFrameText(false, []byte("hello")), packet)
	})
	t.Run("a connection that was closed takes none", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		s.Connect(t)
		conn := peer.Get(t, added)
		require.NoError(t, websocket.Send(conn, websocket.NewFrameClose(false, websocket.StatusNormal, nil)))
		require.ErrorIs(t, websocket.SendBin(conn, []byte("x")), websocket.ErrConnClosed)
		require.ErrorIs(t, websocket.SendText(conn, make([]byte, largeSize)), websocket.ErrConnClosed)
	})
	t.Run("a large message waits for an empty queue", func(t *testing.T) {
		opts := &websocket.ServerOptions{SendQueueSize: 64 << 20}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		first, large := peer.Pattern(8<<20, 1), peer.Pattern(largeSize, 2)
		require.NoError(t, websocket.SendBin(conn, first))
		require.ErrorIs(t, websocket.TrySend(conn, websocket.NewFrameBin(false, large)), websocket.ErrSendQueueFull)
		require.NoError(t, websocket.TrySend(conn, websocket.NewFrameBin(false, first[:1<<20])))
		sent := make(chan error, 1)
		go func() { sent <- websocket.SendBin(conn, large) }()
		c.Expect(websocket.OpcodeBin, string(first))
		c.Expect(websocket.OpcodeBin, string(first[:1<<20]))
		c.Expect(websocket.OpcodeBin, string(large))
		require.NoError(t, peer.Get(t, sent))
	})
}

func TestPutBuffer(t *testing.T) {
	t.Run("messages of buffers that were given back are whole", func(t *testing.T) {
		opts := &websocket.ServerOptions{HandleBin: func(conn int, payload []byte) {
			websocket.SendBin(conn, payload)
			websocket.PutBuffer(payload)
		}}
		s := peer.Start(t, opts)
		const clients, each = 8, 40
		peer.All(t, clients, func(i int) error {
			c, err := s.Join()
			if err != nil {
				return err
			}
			defer c.Close()
			for n := range each {
				payload := peer.Pattern(60+n*n*n, i*each+n)
				binary.BigEndian.PutUint16(payload, uint16(i))
				frame := websocket.NewFrameBin(true, payload)
				if n%3 == 0 { // In two fragments
					cut := len(payload) / 2
					frame = websocket.NewFrameBin(true, payload[:cut])
					frame[0] &^= peer.BitFin
					frame = append(frame, websocket.NewFrame(websocket.OpcodeCont, true, payload[cut:])...)
				}
				if _, err = c.Write(frame); err != nil {
					return err
				}
				if err = c.Compare(websocket.OpcodeBin, string(payload)); err != nil {
					return fmt.Errorf("message %d of client %d: %w", n, i, err)
				}
			}
			return nil
		})
	})
}
