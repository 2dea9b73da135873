//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestCompressionOrder(t *testing.T) {
	t.Run("Pings, a Close frame and reserved frames behind compressed messages have their turn behind them", func(t *testing.T) {
		opts := compressing(websocket.Compression{MinSize: 1 << 20}) // handlers are fast: a Ping does not wait for slow ones
		opts.HandleRsvControl = func(conn int, f *websocket.Frame) {
			websocket.Send(conn, websocket.NewFrame(f.Opcode(), false, f.Payload()))
		}
		for _, size := range []int{1, 100, 1000} {
			peer.Tries(t, 20, func() bool {
				c := peer.Start(t, opts).Dial(t).Extend(peer.DeflateBits) // a server that has seen no handler be slow
				err := inTurn(c, size)
				if err != nil {
					t.Log(err)
				}
				return err == nil
			})
		}
	})
	t.Run("a Ping does not wait for a slow handler", func(t *testing.T) {
		release := make(chan struct{})
		opts := compressing(websocket.Compression{})
		opts.HandleText = func(conn int, p []byte) {
			<-release
			websocket.SendText(conn, p)
		}
		s := peer.Start(t, opts)
		now := peer.Release(t, release)
		c := s.Dial(t).Extend(peer.DeflateBits)
		for i := range 3 {
			c.Send(append(peer.PackedFrame(websocket.OpcodeText, c.Sends.Pack(fmt.Append(nil, i))), websocket.NewFramePing(true, fmt.Append(nil, i))...))
			c.Expect(websocket.OpcodePong, fmt.Sprint(i))
		}
		now()
		for i := range 3 {
			c.ExpectMessage(websocket.OpcodeText, fmt.Sprint(i))
		}
	})
	for _, atOnce := range []int{1, 4} {
		t.Run(fmt.Sprintf("10,000 messages to a slow handler wait packed, and none is lost with %d at once", atOnce), func(t *testing.T) {
			testBurst(t, atOnce)
		})
	}
}

// inTurn sends messages with control frames between them in one piece, and reads the answers.
func inTurn(c *peer.Deflated, size int) (err error) {
	var wire []byte
	for i := range 10 {
		wire = append(wire, peer.PackedFrame(websocket.OpcodeText, c.Sends.Pack(peer.Pattern(size, i)))...)
		wire = append(wire, websocket.NewFramePing(true, fmt.Append(nil, i))...)
		wire = append(wire, websocket.NewFrame(websocket.OpcodeControlRsvC, true, fmt.Append(nil, i))...)
		wire = append(wire, websocket.NewFramePing(true, fmt.Append(nil, "second ", i))...)
	}
	c.Send(append(wire, websocket.NewFrameClose(true, 4001, nil)...))
	for i := 0; i < 10 && err == nil; i++ {
		if _, err = c.CompareMessage(websocket.OpcodeText, string(peer.Pattern(size, i))); err == nil {
			err = c.Compare(websocket.OpcodePong, fmt.Sprint(i))
		}
		if err == nil {
			err = c.Compare(websocket.OpcodeControlRsvC, fmt.Sprint(i))
		}
		if err == nil {
			err = c.Compare(websocket.OpcodePong, fmt.Sprint("second ", i))
		}
	}
	if err == nil {
		c.ExpectClose(4001)
	}
	return err
}

// TestCompressedMessagesAndTheEnd has connections end while compressed messages wait.
func TestCompressedMessagesAndTheEnd(t *testing.T) {
	const messages = 20
	several := func(c *peer.Deflated) (wire []byte) {
		for i := range messages {
			wire = append(wire, peer.PackedFrame(websocket.OpcodeText, c.Sends.Pack(peer.Pattern(5000, i)))...)
		}
		return wire
	}
	for name, end := range map[string]func(c *peer.Deflated){
		"ends its side":        func(c *peer.Deflated) { require.NoError(c.T, c.Socket().CloseWrite()) },
		"sends a Close frame":  func(c *peer.Deflated) { c.Send(websocket.NewFrameClose(true, 4001, nil)) },
		"breaks the protocol":  func(c *peer.Deflated) { c.Send([]byte{0xFF, 0xFF}) },
		"sends no compression": func(c *peer.Deflated) { c.Send(peer.PackedFrame(websocket.OpcodeText, []byte{6})) },
	} {
		t.Run("all is handled of a client that "+name+" behind it", func(t *testing.T) {
			release := make(chan struct{})
			opts := &websocket.ServerOptions{Compression: new(websocket.Compression)}
			all, removed := arrivals(opts), peer.Removed(opts)
			opts.HandleClientAdd = func(context.Context, int) { <-release }
			s := peer.Start(t, opts)
			now := peer.Release(t, release)
			c := s.Dial(t).Extend(peer.DeflateBits)
			c.Send(several(c))
			end(c)
			now()
			for i := range messages {
				require.Equal(t, string(peer.Pattern(5000, i)), peer.Get(t, all).payload)
			}
			peer.Get(t, removed)
			require.Empty(t, all)
		})
	}
	t.Run("what comes while an invalid message is inflated is dropped", func(t *testing.T) {
		inside, release := make(chan struct{}), make(chan struct{})
		opts := &websocket.ServerOptions{Compression: &websocket.Compression{Codec: oddCodec{DeflateCodec: websocket.StandardDeflate(), inflate: func([]byte) ([]byte, error) {
			inside <- struct{}{}
			<-release
			return nil, errors.New("odd")
		}}}}
		added, all := peer.Added(opts), arrivals(opts)
		c := peer.Start(t, opts).Dial(t).Extend(peer.DeflateBits)
		now := peer.Release(t, release)
		conn := peer.Get(t, added)
		c.Pack(websocket.OpcodeText, []byte("odd"))
		peer.Get(t, inside)
		c.Text("plain")
		require.True(t, peer.Eventually(func() bool { // it has been read, where the system can tell
			unread, _, ok := c.InKernel(conn)
			return !ok || unread == 0
		}))
		now()
		c.ExpectClose(websocket.StatusInvalidData)
		require.Empty(t, all)
	})
	t.Run("messages behind one whose handler removes its connection are dropped", func(t *testing.T) {
		var handled atomic.Int32
		opts := &websocket.ServerOptions{Compression: new(websocket.Compression)}
		removed := peer.Removed(opts)
		var s *peer.Server
		closed := make(chan struct{})
		opts.HandleText = func(conn int, _ []byte) {
			<-closed
			handled.Add(1)
			s.Clients.Close(conn, 4001, "")
		}
		s = peer.Start(t, opts)
		c := s.Dial(t).Extend(peer.DeflateBits)
		c.Send(several(c))
		close(closed)
		peer.Get(t, removed)
		require.Equal(t, 1, int(handled.Load()))
		c.ExpectClose(4001)
	})
	t.Run("a server that stops while messages are inflated ends", func(t *testing.T) {
		s := peer.Start(t, compressing(websocket.Compression{}))
		for range 20 {
			c := s.Dial(t).Extend(peer.DeflateBits)
			c.Leave()
			c.Send(several(c))
		}
		s.StopAndWait(t)
	})
}

// testBurst sends messages that are small as long as they are compressed. How many are inflated is seen by the heap.
func testBurst(t *testing.T, atOnce int) {
	const messages, size, allowed = 10_000, 4 << 10, 4 << 20
	var wire []byte
	many := string(new(peer.Packer).Pack([]byte(strings.Repeat("x", size))))
	for i := range messages {
		wire = append(wire, peer.PackedFrame(websocket.OpcodeBin, []byte(storedBlock(fmt.Sprintf("%08d", i))+many))...)
	}
	before, most := liveHeap(), int64(0)
	var mu sync.Mutex // handlers stand still while the heap is looked at
	all := make(chan string, messages)
	opts := &websocket.ServerOptions{Compression: new(websocket.Compression), MessagesAtOnce: atOnce, HandleBin: func(_ int, p []byte) {
		mu.Lock()
		defer mu.Unlock()
		if len(all)%1000 == 10 {
			most = max(most, liveHeap()-before)
		}
		all <- string(p[:8])
	}}
	c := peer.Start(t, opts).Dial(t).Extend(peer.DeflateBits)
	go c.Write(wire)
	require.True(t, peer.Eventually(func() bool { return len(all) == messages }))
	seen := make(map[string]bool, messages)
	for i := range messages {
		got := peer.Get(t, all)
		if atOnce == 1 {
			require.Equal(t, fmt.Sprintf("%08d", i), got)
		}
		seen[got] = true
	}
	require.Len(t, seen, messages)
	mu.Lock()
	defer mu.Unlock()
	assert.Less(t, int(most), allowed, "of %d bytes that are inflated in all", messages*size)
}

// liveHeap is the size of the heap without garbage.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // the first one leaves what pools hold
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
