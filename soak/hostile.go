package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/wsloop/websocket"
)

// attack is what a hostile peer does. Its connection must be closed by the server within dropTime.
type attack struct {
	name   string
	before bool // it comes instead of the handshake
	run    func(c net.Conn, rng *rand.Rand) error
}

// Amounts of attacks.
const (
	floodBytes     = 4 << 20
	floodChunk     = 16 << 10
	floodTime      = 5 * time.Second
	tooManyParts   = 1<<17 + 1
	tooManyHeaders = 200
)

var attacks = []attack{
	{"garbage", true, func(c net.Conn, rng *rand.Rand) error { return writeGarbage(c, rng) }},
	{"endless header", true, func(c net.Conn, _ *rand.Rand) error {
		return flood(c, []byte("GET / HTTP/1.1\r\nX: "), bytes.Repeat([]byte("x"), floodChunk))
	}},
	{"many headers", true, func(c net.Conn, _ *rand.Rand) error {
		return write(c, []byte("GET / HTTP/1.1\r\n"), bytes.Repeat([]byte("X: y\r\n"), tooManyHeaders), []byte("\r\n"))
	}},
	{"half a request", true, func(c net.Conn, _ *rand.Rand) error { return write(c, []byte("GET /?id=0 HTTP/1.1\r\nHo")) }},
	{"silence", true, func(net.Conn, *rand.Rand) error { return nil }},
	{"no upgrade", true, func(c net.Conn, _ *rand.Rand) error { return write(c, []byte("GET / HTTP/1.1\r\nHost: soak\r\n\r\n")) }},
	{"half a ClientHello", true, func(c net.Conn, _ *rand.Rand) error { return write(c, claimHello(200), make([]byte, 100)) }},
	{"claim of a record", true, func(c net.Conn, _ *rand.Rand) error { return write(c, claimHello(16<<10)) }},
	{"endless ClientHello", true, func(c net.Conn, _ *rand.Rand) error {
		return flood(c, nil, append(claimHello(floodChunk), make([]byte, floodChunk)...))
	}},
	{"garbage for frames", false, func(c net.Conn, rng *rand.Rand) error { return writeGarbage(c, rng) }},
	{"claim of 1 GiB", false, func(c net.Conn, _ *rand.Rand) error { return write(c, claim(1<<30)) }},
	{"claim of 2^63", false, func(c net.Conn, _ *rand.Rand) error { return write(c, claim(1<<63)) }},
	{"half a header", false, func(c net.Conn, _ *rand.Rand) error { return write(c, claim(1 << 10)[:5]) }},
	{"half a payload", false, func(c net.Conn, _ *rand.Rand) error { return write(c, claim(1<<20), make([]byte, 1<<19)) }},
	{"no mask", false, func(c net.Conn, _ *rand.Rand) error { return write(c, websocket.NewFrameText(false, []byte("bare"))) }},
	{"reserved opcode", false, func(c net.Conn, _ *rand.Rand) error {
		return write(c, websocket.NewFrame(websocket.OpcodeDataRsv3, true, nil))
	}},
	{"no UTF-8", false, func(c net.Conn, _ *rand.Rand) error {
		return write(c, websocket.NewFrameText(true, []byte("\xC0\xAF")))
	}},
	{"long Ping", false, func(c net.Conn, _ *rand.Rand) error {
		return write(c, websocket.NewFrame(websocket.OpcodePing, true, make([]byte, length16)))
	}},
	{"Close of one byte", false, func(c net.Conn, _ *rand.Rand) error {
		return write(c, websocket.NewFrame(websocket.OpcodeClose, true, []byte{3}))
	}},
	{"empty fragments", false, func(c net.Conn, _ *rand.Rand) error {
		first := websocket.NewFrame(websocket.OpcodeText, true, nil)
		next := websocket.NewFrame(websocket.OpcodeCont, true, nil)
		first[0], next[0] = first[0]&^finBit, next[0]&^finBit
		return write(c, first, bytes.Repeat(next, tooManyParts))
	}},
	{"flood of Pings", false, func(c net.Conn, _ *rand.Rand) error {
		return flood(c, nil, bytes.Repeat(websocket.NewFramePing(true, make([]byte, 125)), floodChunk/125))
	}},
}

// claimHello returns the header of a TLS record of the handshake of that many bytes.
func claimHello(size uint16) []byte { return binary.BigEndian.AppendUint16([]byte{22, 3, 1}, size) }

// claim returns the header of a masked binary frame of that many bytes.
func claim(size uint64) []byte {
	head := []byte{finBit | byte(websocket.OpcodeBin), finBit | length64}
	head = binary.BigEndian.AppendUint64(head, size)
	return append(head, 0, 0, 0, 0) // a masking key as good as another
}

func write(c net.Conn, parts ...[]byte) error {
	for _, part := range parts {
		if _, err := c.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func writeGarbage(c net.Conn, rng *rand.Rand) error {
	garbage := make([]byte, 64)
	for i := range garbage {
		garbage[i] = byte(rng.Uint32())
	}
	return write(c, garbage)
}

// flood writes without reading until floodBytes have been taken, or for floodTime. It is no error if the server takes no more.
func flood(c net.Conn, head, chunk []byte) error {
	c.SetWriteDeadline(time.Now().Add(floodTime))
	err := write(c, head)
	for n := 0; err == nil && n < floodBytes; n += len(chunk) {
		err = write(c, chunk)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// isHostile is a peer that attacks, and checks whether it is thrown out.
func (d *driver) isHostile(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, rng, time.Second) {
		a := attacks[rng.IntN(len(attacks))]
		c, leave, err := d.openAttacker(ctx, a, rng)
		if err != nil {
			continue
		}
		c.SetDeadline(time.Now().Add(dropTime))
		if err = a.run(c, rng); err == nil {
			c.SetReadDeadline(time.Now().Add(dropTime))
			_, err = io.Copy(io.Discard, c)
		}
		d.noteDrop(ctx, err, fmt.Sprintf("hostile (%s)", a.name))
		leave()
		d.tally.attacks.Add(1)
	}
}

func (d *driver) openAttacker(ctx context.Context, a attack, rng *rand.Rand) (c net.Conn, leave func(), err error) {
	in := d.entrance(rng)
	at := in.Echo
	if rng.IntN(2) == 0 {
		at = in.Router
	}
	switch {
	case !a.before:
		c, err = dialRaw(at, "id=0")
	case rng.IntN(2) == 0: // what is no TLS, for a server that wants it
		c, err = dialTCP(at.Address)
	default:
		c, err = at.dial("id=0")
	}
	if err != nil {
		return nil, nil, err
	}
	d.tally.open.Add(1)
	unhook := context.AfterFunc(ctx, func() { c.Close() })
	return c, func() {
		unhook()
		c.Close()
		d.tally.open.Add(-1)
	}, nil
}
