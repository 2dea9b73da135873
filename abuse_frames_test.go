//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

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
)

// abuseHead is the header of a masked frame that claims a length, in the longest form where that is what it takes.
func abuseHead(first byte, length uint64) []byte {
	b := []byte{first, bitMasked | length64}
	return append(binary.BigEndian.AppendUint64(b, length), 1, 2, 3, 4)
}

// abuseFragment is a masked frame of one message: the first where first is the opcode, else first is OpcodeCont.
func abuseFragment(first Opcode, payload string) []byte {
	b := NewFrame(first, true, []byte(payload))
	b[0] &^= bitFin
	return b
}

func TestAbuseFrames(t *testing.T) {
	abuseRun(t, []abuseRow{
		{name: "lengths from the limit to 2^64-1 are refused from the header alone", attack: func(a *abuse) {
			const limit = 16 << 20
			a.start(&ServerOptions{})
			a.bounded(8 << 20)
			for _, row := range []struct {
				length uint64
				code   CloseCode
			}{
				{limit + 1, StatusRequestEntityTooLarge},
				{1 << 31, StatusRequestEntityTooLarge},
				{1<<32 - 1, StatusRequestEntityTooLarge},
				{1 << 32, StatusRequestEntityTooLarge},
				{1<<32 + 5, StatusRequestEntityTooLarge},
				{1<<63 - 1, StatusRequestEntityTooLarge},
				{1 << 63, StatusBadRequest},
				{1<<63 + 5, StatusBadRequest},
				{math.MaxUint64, StatusBadRequest},
				{125, StatusBadRequest}, // not the shortest form
			} {
				for _, first := range []byte{bitFin | byte(OpcodeBin), byte(OpcodeText)} {
					c := a.connect(a.t)
					c.send(abuseHead(first, row.length))
					c.expectClose(row.code)
				}
			}
		}},
		{name: "500 clients that claim messages of the size of the limit cost what they have sent", attack: func(a *abuse) {
			const peers, limit = 500, 16 << 20
			a.start(&ServerOptions{})
			conns := a.connectAll(peers)
			done := a.bounded(8 << 20)
			for _, c := range conns {
				c.send(append(abuseHead(bitFin|byte(OpcodeBin), limit), "1234567"...))
			}
			for _, c := range conns {
				c.send([]byte("8"))
			}
			c := a.connect(a.t)
			c.text("x")
			c.expectText("x")
			done()
		}},
		{name: "fragments that add up over the limit are refused from the header of the last", attack: func(a *abuse) {
			const limit = 1 << 20
			a.start(&ServerOptions{MaxMessageSize: limit})
			a.bounded(32 << 20)
			half := string(rawPattern(limit/2, 1))
			for _, last := range [][]byte{
				abuseFragment(OpcodeCont, "xx")[:6], // one more than the limit
				abuseHead(bitFin|byte(OpcodeCont), limit),
				abuseHead(byte(OpcodeCont), 1<<63-1),
				abuseHead(byte(OpcodeCont), math.MaxInt64-limit),
			} {
				c := a.connect(a.t)
				c.send(abuseFragment(OpcodeBin, half))
				c.send(abuseFragment(OpcodeCont, half[1:]))
				c.send(last)
				c.expectClose(StatusRequestEntityTooLarge)
			}
			c := a.connect(a.t)
			c.send(append(abuseFragment(OpcodeCont, "x"), 0))
			c.expectClose(StatusBadRequest)
		}},
		{name: "a million empty fragments end at the limit of fragments with 1009", attack: func(a *abuse) { abuseFragments(a, "", 0) }},
		{name: "a million fragments of one byte end at the limit of fragments with 1009", attack: func(a *abuse) { abuseFragments(a, "y", 0) }},
		{name: "a million fragments of one byte, where they are allowed, are one message in bounded memory", attack: func(a *abuse) {
			abuseFragments(a, "y", 1<<20)
		}},
		{name: "a million empty messages and a million Pongs are read in bounded memory", attack: func(a *abuse) {
			const n = 1_000_000
			var count atomic.Int64
			a.start(&ServerOptions{HandleBin: func(int, []byte) { count.Add(1) }})
			a.bounded(32 << 20)
			c := a.connect(a.t)
			a.await(func() error {
				if _, err := abuseFlood(c, NewFrameBin(true, nil), n); err != nil {
					return err
				}
				_, err := abuseFlood(c, NewFramePong(true, nil), n)
				return err
			})
			c.text("x")
			c.expectText("x")
			require.Equal(a.t, int64(n), count.Load())
		}},
		{name: "256 MiB of Pings from a client that does not read cost no memory, and the last one is answered", attack: abusePings},
		{name: "half a header or half a payload and silence is closed in time", attack: abuseSilence},
		{name: "a client that goes on sending after the end is held up by TCP and cut off", attack: func(a *abuse) {
			a.start(&ServerOptions{})
			a.bounded(8 << 20)
			for _, end := range [][]byte{NewFrameClose(true, StatusNormal, nil), {0xFF, 0xFF}} {
				c := a.connect(a.t)
				c.send(end)
				start := time.Now()
				var wrote int
				a.await(func() (err error) {
					if wrote, err = abuseFlood(c, NewFrameBin(true, rawPattern(1000, 1)), 1<<30); err == nil { // a TiB
						return errors.New("all was taken")
					}
					return nil
				})
				assert.Less(a.t, wrote, 64<<10, "KB of what follows the end were taken")
				assert.Less(a.t, time.Since(start), maxDrainTime+abuseTime(2*time.Second))
			}
		}},
		{name: "messages that fail late or inside a fragment cost no more than the connection", attack: func(a *abuse) {
			a.start(&ServerOptions{})
			for _, bad := range []string{"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80"} {
				c := a.connect(a.t)
				c.send(abuseFragment(OpcodeText, "good"))
				c.send(append(abuseHead(0, 1<<20), bytes.Repeat([]byte(mask4(bad)), 1)...))
				c.expectClose(StatusInvalidData)
			}
		}},
	})
}

// mask4 masks up to four bytes with the key of abuseHead.
func mask4(s string) string {
	b := []byte(s)
	mask(b, b, 0x04030201, 0)
	return string(b)
}

// abuseFragments sends a message of a million fragments to a server with a limit of fragments, 0 for the default.
func abuseFragments(a *abuse, payload string, limit int) {
	const n = 1_000_000
	got := make(chan int, 1)
	a.start(&ServerOptions{MaxFragments: limit, HandleBin: func(_ int, p []byte) { got <- len(p) }})
	a.bounded(16 << 20)
	c := a.connect(a.t)
	wrote := make(chan int, 1)
	go func() {
		c.Write(abuseFragment(OpcodeBin, payload))
		m, _ := abuseFlood(c, abuseFragment(OpcodeCont, payload), n-2)
		c.Write(NewFrame(OpcodeCont, true, []byte(payload)))
		wrote <- m
	}()
	if limit > 0 {
		require.Equal(a.t, n*len(payload), rawGet(a.t, got))
		require.Equal(a.t, n-2, rawGet(a.t, wrote))
		return
	}
	a.await(func() error {
		code, err := c.abuseCode()
		if err == nil && code != StatusRequestEntityTooLarge {
			err = fmt.Errorf("closed with %d", code)
		}
		if err == nil {
			err = c.abuseEnd()
		}
		return err
	})
	c.Close()
	rawGet(a.t, wrote)
}

// abusePings floods with Pings of 125 bytes. The bytes are a quarter where the test is to be short, and with the race detector.
func abusePings(a *abuse) {
	size := 256 << 20
	if testing.Short() || abuseRaced() {
		size /= 4
	}
	a.start(&ServerOptions{WriteTimeout: time.Minute})
	a.bounded(16 << 20)
	c := a.connect(a.t)
	ping := NewFramePing(true, bytes.Repeat([]byte("p"), maxControl))
	a.await(func() error {
		c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := abuseFlood(c, ping, size/len(ping)); err != nil {
			return err
		}
		_, err := c.Write(NewFramePing(true, []byte("last")))
		return err
	})
	pongs := 1
	a.await(func() error {
		for ; ; pongs++ {
			op, payload, err := c.rawFrame()
			switch {
			case err != nil:
				return err
			case op != OpcodePong:
				return fmt.Errorf("got opcode %x", op)
			case string(payload) == "last":
				return nil
			case len(payload) != maxControl:
				return fmt.Errorf("got %q", payload)
			}
		}
	})
	a.t.Logf("%d Pings, %d Pongs", size/len(ping)+1, pongs)
	c.text("x")
	c.expectText("x")
}

// abuseSilence has clients stop in the middle of frames. A server pings them; they cannot answer without going on.
func abuseSilence(a *abuse) {
	opts := abuseDefaults(new(ServerOptions))
	atMost := opts.PingInterval + opts.SilenceTimeout
	a.start(opts)
	message := NewFrameText(true, rawPattern(70_000, 1))
	var conns []*rawConn
	for _, n := range []int{0, 1, 2, 9, 13, 14, 15, 40_000, len(message) - 1} {
		c := a.connect(a.t)
		c.send(message[:n])
		conns = append(conns, c)
	}
	for _, part := range [][]byte{
		abuseFragment(OpcodeText, "begun"),
		append(abuseFragment(OpcodeText, "begun"), abuseFragment(OpcodeCont, "gone on")...),
		NewFramePing(true, []byte("ping"))[:8],
		NewFrameClose(true, StatusNormal, nil)[:7],
	} {
		c := a.connect(a.t)
		c.send(part)
		conns = append(conns, c)
	}
	start := time.Now()
	for _, c := range conns {
		c.SetDeadline(start.Add(atMost + abuseWait))
	}
	rawAll(a.t, len(conns), func(i int) error {
		all, err := io.ReadAll(conns[i].r)
		if err == nil && strings.Count(string(all), "\x89\x00") != 1 {
			err = fmt.Errorf("client %d: got %q", i, all)
		}
		return err
	})
	assert.Less(a.t, time.Since(start), atMost+maxDrainTime+abuseTime(2*time.Second))
	require.Equal(a.t, 1, a.Clients.Len())
}
