//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// frameHead is the header of a masked frame that claims a length, in the form of nine bytes.
func frameHead(first byte, length uint64) []byte {
	b := []byte{first, peer.BitMasked | peer.Length64}
	return append(binary.BigEndian.AppendUint64(b, length), 1, 2, 3, 4)
}

// fragment is a masked frame of one message: the first if first is its opcode, a later one if first is OpcodeCont.
func fragment(first websocket.Opcode, payload string) []byte {
	b := websocket.NewFrame(first, true, []byte(payload))
	b[0] &^= peer.BitFin
	return b
}

func TestAbuseFrames(t *testing.T) { runRows(t, frameRows) }

var frameRows = []attackRow{
	{name: "lengths from the limit to 2^64-1 are refused from the header alone", attack: func(a *abuse) {
		const limit = 16 << 20
		a.start(&websocket.ServerOptions{})
		a.bounded(8 << 20)
		for _, row := range []struct {
			length uint64
			code   websocket.CloseCode
		}{
			{limit + 1, websocket.StatusRequestEntityTooLarge},
			{1 << 31, websocket.StatusRequestEntityTooLarge},
			{1<<32 - 1, websocket.StatusRequestEntityTooLarge},
			{1 << 32, websocket.StatusRequestEntityTooLarge},
			{1<<32 + 5, websocket.StatusRequestEntityTooLarge},
			{1<<63 - 1, websocket.StatusRequestEntityTooLarge},
			{1 << 63, websocket.StatusBadRequest},
			{1<<63 + 5, websocket.StatusBadRequest},
			{math.MaxUint64, websocket.StatusBadRequest},
			{125, websocket.StatusBadRequest}, // not the shortest form
		} {
			for _, first := range []byte{peer.BitFin | byte(websocket.OpcodeBin), byte(websocket.OpcodeText)} {
				c := a.Connect(a.t)
				c.Send(frameHead(first, row.length))
				c.ExpectClose(row.code)
			}
		}
	}},
	{name: "500 clients that claim messages of the size of the limit cost what they have sent", attack: func(a *abuse) {
		const peers, limit = 500, 16 << 20
		a.start(&websocket.ServerOptions{})
		conns := a.connectAll(peers)
		done := a.bounded(8 << 20)
		for _, c := range conns {
			c.Send(append(frameHead(peer.BitFin|byte(websocket.OpcodeBin), limit), "1234567"...))
		}
		for _, c := range conns {
			c.Send([]byte("8"))
		}
		c := a.Connect(a.t)
		c.Text("x")
		c.ExpectText("x")
		done()
	}},
	{name: "fragments that add up over the limit are refused from the header of the last", attack: func(a *abuse) {
		const limit = 1 << 20
		a.start(&websocket.ServerOptions{MaxMessageSize: limit})
		a.bounded(32 << 20)
		half := string(peer.Pattern(limit/2, 1))
		for _, last := range [][]byte{
			fragment(websocket.OpcodeCont, "xx")[:6], // one more than the limit
			frameHead(peer.BitFin|byte(websocket.OpcodeCont), limit),
			frameHead(byte(websocket.OpcodeCont), 1<<63-1),
			frameHead(byte(websocket.OpcodeCont), math.MaxInt64-limit),
		} {
			c := a.Connect(a.t)
			c.Send(fragment(websocket.OpcodeBin, half))
			c.Send(fragment(websocket.OpcodeCont, half[1:]))
			c.Send(last)
			c.ExpectClose(websocket.StatusRequestEntityTooLarge)
		}
		c := a.Connect(a.t)
		c.Send(append(fragment(websocket.OpcodeCont, "x"), 0))
		c.ExpectClose(websocket.StatusBadRequest)
	}},
	{name: "a million empty fragments end at the limit of fragments with 1009", attack: func(a *abuse) { fragments(a, "", 0) }},
	{name: "a million fragments of one byte end at the limit of fragments with 1009", attack: func(a *abuse) { fragments(a, "y", 0) }},
	{name: "a million fragments of one byte, if they are allowed, are one message in bounded memory", attack: func(a *abuse) {
		fragments(a, "y", 1<<20)
	}},
	{name: "a million empty messages and a million Pongs are read in bounded memory", attack: func(a *abuse) {
		const n = 1_000_000
		var count atomic.Int64
		a.start(&websocket.ServerOptions{HandleBin: func(int, []byte) { count.Add(1) }})
		a.bounded(32 << 20)
		c := a.Connect(a.t)
		a.await(func() error {
			if _, err := flood(c, websocket.NewFrameBin(true, nil), n); err != nil {
				return err
			}
			_, err := flood(c, websocket.NewFramePong(true, nil), n)
			return err
		})
		c.Text("x")
		c.ExpectText("x")
		require.Equal(a.t, int64(n), count.Load())
	}},
	{name: "256 MiB of Pings from a client that does not read cost no memory, and the last one is answered", attack: pingFlood},
	{name: "half a header or half a payload and silence is closed in time", attack: silentClients},
	{name: "a client that goes on sending after the end is held up by TCP and cut off", attack: func(a *abuse) {
		a.start(&websocket.ServerOptions{})
		a.bounded(8 << 20)
		for _, end := range [][]byte{websocket.NewFrameClose(true, websocket.StatusNormal, nil), {0xFF, 0xFF}} {
			c := a.Connect(a.t)
			c.Send(end)
			start := time.Now()
			var wrote int
			a.await(func() (err error) {
				if wrote, err = flood(c, websocket.NewFrameBin(true, peer.Pattern(1000, 1)), 1<<30); err == nil { // a TiB
					return errors.New("all was taken")
				}
				return nil
			})
			assert.Less(a.t, wrote, 64<<10, "KB of what follows the end were taken")
			assert.Less(a.t, time.Since(start), peer.DrainTime+timeLimit(2*time.Second))
		}
	}},
	{name: "messages that fail late or inside a fragment cost no more than the connection", attack: func(a *abuse) {
		a.start(&websocket.ServerOptions{})
		for _, bad := range []string{"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80"} {
			c := a.Connect(a.t)
			c.Send(fragment(websocket.OpcodeText, "good"))
			c.Send(append(frameHead(0, 1<<20), bytes.Repeat([]byte(mask4(bad)), 1)...))
			c.ExpectClose(websocket.StatusInvalidData)
		}
	}},
}

// mask4 masks up to four bytes with the key of frameHead.
func mask4(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] ^= byte(i + 1)
	}
	return string(b)
}

// fragments sends a message of a million fragments to a server with a limit of fragments, 0 for the default.
func fragments(a *abuse, payload string, limit int) {
	const n = 1_000_000
	got := make(chan int, 1)
	a.start(&websocket.ServerOptions{MaxFragments: limit, HandleBin: func(_ int, p []byte) { got <- len(p) }})
	a.bounded(16 << 20)
	c := a.Connect(a.t)
	wrote := make(chan int, 1)
	go func() {
		c.Write(fragment(websocket.OpcodeBin, payload))
		m, _ := flood(c, fragment(websocket.OpcodeCont, payload), n-2)
		c.Write(websocket.NewFrame(websocket.OpcodeCont, true, []byte(payload)))
		wrote <- m
	}()
	if limit > 0 {
		require.Equal(a.t, n*len(payload), peer.Get(a.t, got))
		require.Equal(a.t, n-2, peer.Get(a.t, wrote))
		return
	}
	a.await(func() error {
		code, err := c.CloseCode()
		if err == nil && code != websocket.StatusRequestEntityTooLarge {
			err = fmt.Errorf("closed with %d", code)
		}
		if err == nil {
			err = c.ReadToEnd()
		}
		return err
	})
	c.Close()
	peer.Get(a.t, wrote)
}

// pingFlood floods with Pings of 125 bytes. The bytes are a quarter with -short, and with the race detector.
func pingFlood(a *abuse) {
	size := 256 << 20
	if testing.Short() || peer.Raced() {
		size /= 4
	}
	a.start(&websocket.ServerOptions{WriteTimeout: time.Minute})
	a.bounded(16 << 20)
	c := a.Connect(a.t)
	ping := websocket.NewFramePing(true, bytes.Repeat([]byte("p"), peer.MaxControl))
	a.await(func() error {
		c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := flood(c, ping, size/len(ping)); err != nil {
			return err
		}
		_, err := c.Write(websocket.NewFramePing(true, []byte("last")))
		return err
	})
	pongs := 1
	a.await(func() error {
		for ; ; pongs++ {
			op, payload, err := c.Frame()
			switch {
			case err != nil:
				return err
			case op != websocket.OpcodePong:
				return fmt.Errorf("got opcode %x", op)
			case string(payload) == "last":
				return nil
			case len(payload) != peer.MaxControl:
				return fmt.Errorf("got %q", payload)
			}
		}
	})
	a.t.Logf("%d Pings, %d Pongs", size/len(ping)+1, pongs)
	c.Text("x")
	c.ExpectText("x")
}

// silentClients has clients stop in the middle of frames. A server pings them; they cannot answer without going on.
func silentClients(a *abuse) {
	opts := defaults(new(websocket.ServerOptions))
	atMost := opts.PingInterval + opts.SilenceTimeout
	a.start(opts)
	message := websocket.NewFrameText(true, peer.Pattern(70_000, 1))
	var conns []*peer.Conn
	for _, n := range []int{0, 1, 2, 9, 13, 14, 15, 40_000, len(message) - 1} {
		c := a.Connect(a.t)
		c.Send(message[:n])
		conns = append(conns, c)
	}
	for _, part := range [][]byte{
		fragment(websocket.OpcodeText, "begun"),
		append(fragment(websocket.OpcodeText, "begun"), fragment(websocket.OpcodeCont, "gone on")...),
		websocket.NewFramePing(true, []byte("ping"))[:8],
		websocket.NewFrameClose(true, websocket.StatusNormal, nil)[:7],
	} {
		c := a.Connect(a.t)
		c.Send(part)
		conns = append(conns, c)
	}
	start := time.Now()
	for _, c := range conns {
		c.SetDeadline(start.Add(atMost + wait))
	}
	peer.All(a.t, len(conns), func(i int) error {
		all, err := io.ReadAll(conns[i].Reader)
		if err == nil && strings.Count(string(all), "\x89\x00") != 1 {
			err = fmt.Errorf("client %d: got %q", i, all)
		}
		return err
	})
	assert.Less(a.t, time.Since(start), atMost+peer.DrainTime+timeLimit(2*time.Second))
	require.Equal(a.t, 1, a.Clients.Len())
}
