package client_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// sends are the methods that send, by name.
var sends = map[string]struct {
	send   func(cl *websocket.Client, payload []byte) error
	opcode websocket.Opcode
}{
	"SendText": {(*websocket.Client).SendText, websocket.OpcodeText},
	"SendBin":  {(*websocket.Client).SendBin, websocket.OpcodeBin},
	"SendPing": {(*websocket.Client).SendPing, websocket.OpcodePing},
	"SendPong": {(*websocket.Client).SendPong, websocket.OpcodePong},
}

func TestClient_sendNotConnected(t *testing.T) {
	opened := func(t *testing.T) (*websocket.Client, *peer.Script) {
		cl := new(websocket.Client)
		return cl, peer.Open(t, cl)
	}
	for name, client := range map[string]func(t *testing.T) *websocket.Client{
		"the zero client is not connected": func(*testing.T) *websocket.Client { return new(websocket.Client) },
		"a client before Connect is not connected": func(t *testing.T) *websocket.Client {
			return &websocket.Client{Endpoint: peer.Listen(t).Endpoint()}
		},
		"a client after Quit is not connected": func(t *testing.T) *websocket.Client {
			cl, _ := opened(t)
			cl.Quit()
			return cl
		},
		"a client after Close is not connected": func(t *testing.T) *websocket.Client {
			cl, c := opened(t)
			closed := make(chan error, 1)
			go func() { closed <- cl.Close() }()
			c.ReadClose()
			c.Send(websocket.NewFrameClose(false, websocket.StatusNormal, nil))
			require.NoError(t, peer.Receive(t, closed))
			return cl
		},
		"a client that has sent Close takes no more": func(t *testing.T) *websocket.Client {
			cl, c := opened(t)
			go cl.Close()
			c.ReadClose()
			return cl
		},
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := client(t)
			for name, method := range sends {
				err := method.send(cl, []byte("hello"))
				assert.ErrorIs(t, err, websocket.ErrConnClosed, name)
				assert.ErrorIs(t, err, net.ErrClosed, name)
			}
			assert.NoError(t, cl.Err())
			cl.Quit()
			assert.NoError(t, cl.Close())
		})
	}
}

func TestClient_send(t *testing.T) {
	t.Run("frames are masked, in the shortest form, and payloads are not changed", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		for name, method := range sends {
			for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536} {
				payload := []byte(strings.Repeat("x", size))
				sent := make(chan error, 1)
				go func() { sent <- method.send(cl, payload) }()
				f := c.Read()
				require.NoError(t, peer.Receive(t, sent))
				if method.opcode&0x8 != 0 { // a control frame (RFC 6455, section 5.5)
					size = min(size, 125)
				}
				assert.Equal(t, method.opcode, f.Opcode, name)
				assert.Equal(t, strings.Repeat("x", size), string(f.Payload))
				assert.Equal(t, strings.Repeat("x", len(payload)), string(payload))
			}
		}
	})
	t.Run("frames of many goroutines are whole, with a masking key each", func(t *testing.T) {
		peer.CheckGoroutines(t)
		const senders, each = 16, 50
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		var group sync.WaitGroup
		errs := make(chan error, senders*each)
		for sender := range senders {
			group.Go(func() {
				send := []func([]byte) error{cl.SendText, cl.SendBin, cl.SendPing, cl.SendPong}[sender%4]
				size := []int{3, 5000, 100, 125}[sender%4]
				for range each {
					errs <- send([]byte(strings.Repeat(string(rune('a'+sender)), size)))
				}
			})
		}
		counts, keys := make(map[byte]int), make(map[[4]byte]bool)
		for range senders * each {
			f := c.Read()
			require.NotEmpty(t, f.Payload)
			sender := f.Payload[0] - 'a'
			require.Equal(t, []websocket.Opcode{websocket.OpcodeText, websocket.OpcodeBin, websocket.OpcodePing, websocket.OpcodePong}[sender%4], f.Opcode)
			require.Len(t, f.Payload, []int{3, 5000, 100, 125}[sender%4])
			require.Equal(t, strings.Repeat(string(f.Payload[0]), len(f.Payload)), string(f.Payload))
			counts[sender]++
			keys[f.Key] = true
		}
		group.Wait()
		close(errs)
		for err := range errs {
			assert.NoError(t, err)
		}
		for sender := range senders {
			assert.Equal(t, each, counts[byte(sender)])
		}
		assert.Greater(t, len(keys), senders*each-5, "keys that nobody can predict seldom repeat")
	})
	t.Run("a handler may send", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{HandleText: func(cl *websocket.Client, f *websocket.Frame) error { return cl.SendBin(f.Payload()) }}
		c := peer.Open(t, cl, websocket.NewFrameText(false, []byte("echo"))...)
		assert.Equal(t, "echo", string(c.Read().Payload))
	})
	t.Run("a server that does not read is given up", func(t *testing.T) {
		peer.CheckGoroutines(t)
		quit := make(chan bool, 1)
		cl := &websocket.Client{WriteTimeout: 50 * time.Millisecond, HandleQuit: func() { quit <- true }}
		peer.Open(t, cl)
		err := cl.SendBin(make([]byte, 64<<20))
		assert.ErrorIs(t, err, websocket.ErrWriteTimeout)
		assert.ErrorIs(t, err, net.ErrClosed)
		peer.Receive(t, quit)
		assert.ErrorIs(t, cl.Err(), websocket.ErrWriteTimeout)
	})
	t.Run("a server that is gone is told", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		require.NoError(t, c.Conn.(*net.TCPConn).SetLinger(0))
		c.Conn.Close()
		deadline := time.Now().Add(peer.Deadline)
		var err error
		for err == nil && time.Now().Before(deadline) {
			err = cl.SendText([]byte("hello"))
		}
		assert.ErrorIs(t, err, websocket.ErrConnClosed)
		assert.ErrorIs(t, err, net.ErrClosed)
	})
}

// readFragment reads the client's next frame, which may be one of several.
func readFragment(c *peer.Script) peer.Frame {
	c.T.Helper()
	f, err := peer.ReadFrame(c.In)
	require.NoError(c.T, err)
	require.True(c.T, f.Masked)
	return f
}

func TestClientConn_fragments(t *testing.T) {
	for _, test := range []struct {
		option, size int
		frames       []int // their sizes
	}{
		{0, 0, []int{0}},
		{0, 64<<10 - 1, []int{64<<10 - 1}},
		{0, 64 << 10, []int{64 << 10}},
		{0, 64<<10 + 1, []int{64 << 10, 1}},
		{0, 128 << 10, []int{64 << 10, 64 << 10}},
		{1, 0, []int{0}},
		{1, 1, []int{1}},
		{1, 3, []int{1, 1, 1}},
		{125, 300, []int{125, 125, 50}},
		{100_000, 250_000, []int{100_000, 100_000, 50_000}},
		{-1, 250_000, []int{250_000}},
		{1 << 30, 250_000, []int{250_000}},
	} {
		t.Run(fmt.Sprintf("with FragmentSize %d a message of %d bytes goes out in %d frames", test.option, test.size, len(test.frames)), func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := &websocket.Client{FragmentSize: test.option}
			c := peer.Open(t, cl)
			payload := []byte(strings.Repeat("x", test.size))
			sent := make(chan error, 1)
			go func() { sent <- cl.SendText(payload) }()
			keys := make(map[[4]byte]bool)
			for i, size := range test.frames {
				f := readFragment(c)
				want := websocket.OpcodeCont
				if i == 0 {
					want = websocket.OpcodeText
				}
				assert.Equal(t, want, f.Opcode)
				assert.Equal(t, i == len(test.frames)-1, f.Fin)
				assert.Equal(t, strings.Repeat("x", size), string(f.Payload))
				keys[f.Key] = true
			}
			assert.Len(t, keys, len(test.frames), "each has a key of its own")
			require.NoError(t, peer.Receive(t, sent))
			assert.Equal(t, strings.Repeat("x", test.size), string(payload), "the payload is not changed")
		})
	}
	t.Run("messages of many goroutines are not mixed, nor torn by control frames", func(t *testing.T) {
		peer.CheckGoroutines(t)
		const senders, each = 8, 20
		cl := &websocket.Client{FragmentSize: 100}
		c := peer.Open(t, cl)
		for sender := range senders {
			go func() {
				for range each {
					cl.SendBin(bytes.Repeat([]byte{byte(sender)}, 1000))
					cl.SendPing([]byte{byte(sender)})
				}
			}()
		}
		var message []byte
		for messages, pings := 0, 0; messages < senders*each || pings < senders*each; {
			f := readFragment(c)
			if f.Opcode == websocket.OpcodePing {
				pings++
				continue
			}
			require.Equal(t, len(message) > 0, f.Opcode == websocket.OpcodeCont)
			if message = append(message, f.Payload...); f.Fin {
				require.Equal(t, bytes.Repeat(message[:1], 1000), message)
				message, messages = message[:0], messages+1
			}
		}
	})
}
