//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestAbuseCompression(t *testing.T) { runRows(t, compressionRows) }

// bombPiece is 1 MiB of zeros, compressed, as a part of a message that can be repeated. It ends with a whole byte.
func bombPiece() []byte { return append(new(peer.Packer).Pack(make([]byte, 1<<20)), 0, 0, 0xFF, 0xFF) }

// bomb inflates to that many MiB of zeros.
func bomb(mib int) []byte { return append(bytes.Repeat(bombPiece(), mib), 0) }

// deflating are the options of a server that compresses.
func deflating() *websocket.ServerOptions {
	return &websocket.ServerOptions{Compression: new(websocket.Compression), HandleBin: func(int, []byte) {}}
}

// extendAll is connectAll for clients that offer permessage-deflate.
func (a *abuse) extendAll(n int) []*peer.Deflated {
	a.t.Helper()
	return openAll(a, n, func() (*peer.Deflated, error) {
		c, err := a.Open()
		if err != nil {
			return nil, err
		}
		c.T = a.t
		return c.Extend(peer.DeflateBits), nil
	})
}

// expectCode reads up to the Close frame, and compares its code.
func (a *abuse) expectCode(c *peer.Conn, code websocket.CloseCode) {
	a.t.Helper()
	a.await(func() error {
		got, err := c.CloseCode()
		if err == nil && got != code {
			err = fmt.Errorf("closed with %d", got)
		}
		return err
	})
	c.Close()
}

var compressionRows = []attackRow{
	{name: "260 KB that inflate to 256 MiB are refused with 1009", attack: func(a *abuse) {
		a.start(deflating())
		wire := peer.PackedFrame(websocket.OpcodeBin, bomb(256))
		require.Less(a.t, len(wire), 300_000)
		conns := a.extendAll(1)
		a.bounded(8 << 20)
		conns[0].Send(wire)
		a.expectCode(conns[0].Conn, websocket.StatusRequestEntityTooLarge)
	}},
	{name: "100 bombs at the same time are refused with 1009", attack: func(a *abuse) {
		const peers = 100
		opts := deflating()
		opts.MaxMessageSize = 4 << 20
		a.start(opts)
		wire := peer.PackedFrame(websocket.OpcodeBin, bomb(256))
		conns := a.extendAll(peers)
		a.bounded(peers*(300<<10) + 16<<20) // as much as they send, and some
		peer.All(a.t, peers, func(i int) error {
			c := conns[i]
			if _, err := c.Write(wire); err != nil {
				return err
			}
			code, err := c.CloseCode()
			if err == nil && code != websocket.StatusRequestEntityTooLarge {
				err = fmt.Errorf("closed with %d", code)
			}
			c.Close()
			return err
		})
	}},
	{name: "a bomb that refers to the messages before it is refused with 1009", attack: func(a *abuse) {
		opts := deflating()
		opts.MaxMessageSize = 1 << 20
		a.start(opts)
		conns := a.extendAll(1)
		c := conns[0]
		c.Pack(websocket.OpcodeBin, peer.Pattern(4096, 1))
		packer := c.Sends
		part := append(packer.Pack(bytes.Repeat(peer.Pattern(2048, 1), 1<<7)), 0, 0, 0xFF, 0xFF)
		wire := peer.PackedFrame(websocket.OpcodeBin, append(bytes.Repeat(part, 256), 0))
		a.bounded(8 << 20)
		c.Send(wire)
		a.expectCode(c.Conn, websocket.StatusRequestEntityTooLarge)
	}},
	{name: "messages that each inflate to the limit wait as they came", attack: func(a *abuse) {
		const limit, messages = 4 << 20, 30
		var count atomic.Int32
		opts := deflating()
		opts.MaxMessageSize = limit
		opts.HandleBin = func(_ int, p []byte) {
			assert.Len(a.t, p, limit)
			count.Add(1)
			websocket.PutBuffer(p)
		}
		a.start(opts)
		wire := bytes.Repeat(peer.PackedFrame(websocket.OpcodeBin, bomb(limit>>20)), messages)
		conns := a.extendAll(1)
		a.bounded(10 * limit)
		conns[0].Send(wire)
		require.True(a.t, peer.Eventually(func() bool { return count.Load() == messages }))
	}},
	{name: "messages that each inflate to the limit wait as they came, if the handler is stuck", attack: func(a *abuse) {
		const peers, limit, messages = 4, 4 << 20, 8
		release, inside := make(chan struct{}), make(chan struct{}, peers*messages)
		var count atomic.Int32
		opts := deflating()
		opts.MaxMessageSize = limit
		opts.HandleBin = func(_ int, p []byte) {
			inside <- struct{}{}
			<-release
			count.Add(1)
			websocket.PutBuffer(p)
		}
		a.start(opts)
		now := peer.Release(a.t, release)
		wire := bytes.Repeat(peer.PackedFrame(websocket.OpcodeBin, bomb(limit>>20)), messages)
		conns, other := a.extendAll(peers), a.Connect(a.t)
		done := a.bounded(peers*4*limit + 16<<20)
		for _, c := range conns {
			c.Send(wire)
		}
		for range conns {
			peer.Get(a.t, inside)
		}
		for range 500 { // meanwhile the server would go on
			other.Text("x")
			other.ExpectText("x")
		}
		done()
		now()
		require.True(a.t, peer.Eventually(func() bool { return count.Load() == peers*messages }))
	}},
	{name: "empty final blocks without end are invalid, or cost no more than their bytes", attack: func(a *abuse) {
		a.start(deflating())
		conns := a.extendAll(3)
		done := a.bounded(96 << 20)
		for i, block := range []string{"\x03\x00", "\x01\x00\x00\xff\xff", "\x00\x00\x00\xff\xff"} {
			start := time.Now()
			c := conns[i]
			c.Pack(websocket.OpcodeBin, peer.Pattern(4096, 1))
			c.Send(peer.PackedFrame(websocket.OpcodeBin, []byte(strings.Repeat(block, 8<<20/len(block))+"\x00")))
			if block[0] == 0 {
				c.Send(websocket.NewFramePing(true, nil))
				a.await(func() error { return c.Compare(websocket.OpcodePong, "") })
			} else {
				a.expectCode(c.Conn, websocket.StatusInvalidData)
			}
			assert.Less(a.t, time.Since(start), timeLimit(4*time.Second))
		}
		done()
	}},
	{name: "thousands of offers in one header are looked through at once", attack: func(a *abuse) {
		a.start(deflating())
		a.bounded(8 << 20)
		for _, offer := range []string{
			strings.Repeat("permessage-deflate; x, ", 690),
			strings.Repeat("permessage-deflate;server_max_window_bits=7,", 360),
			strings.Repeat(",", 15_900),
			strings.Repeat("a,", 7_900),
			"permessage-deflate" + strings.Repeat(";a", 7_900) + ", ",
			`permessage-deflate; a="` + strings.Repeat("a", 15_800) + `", `,
		} {
			start := time.Now()
			for range 20 {
				c, err := a.Open()
				require.NoError(a.t, err)
				c.T = a.t
				d := c.Extend(offer + peer.DeflateBits)
				assert.NotEmpty(a.t, d.Answer, "%.100s", offer)
				d.Close()
			}
			assert.Less(a.t, time.Since(start), timeLimit(time.Second))
		}
	}},
	{name: "clients that go in the middle of compressed messages leave nothing", attack: func(a *abuse) {
		a.start(deflating())
		wire := peer.PackedFrame(websocket.OpcodeBin, bomb(32))
		for _, c := range a.extendAll(40) {
			c.Pack(websocket.OpcodeBin, peer.Pattern(4096, 1))
			c.Send(wire[:len(wire)-1])
			c.Reset()
		}
		require.True(a.t, peer.Eventually(func() bool { return a.Clients.Len() == 1 }))
	}},
}
