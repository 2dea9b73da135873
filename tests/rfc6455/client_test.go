//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package rfc6455

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// patience is how long a client waits for something that has to happen. Once that was in vain the test has failed, and the rows
// that follow do not wait for as long.
var patience atomic.Int64

func init() { patience.Store(int64(20 * time.Second)) }

// expired tells when waiting is in vain.
func expired() <-chan time.Time { return time.After(time.Duration(patience.Load())) }

func inVain(format string, args ...any) error {
	patience.Store(int64(time.Second / 2))
	return fmt.Errorf(format, args...)
}

func (f sent) String() string { return fmt.Sprintf("%X %.40q", byte(f.opcode), f.payload) }

func sentClose(code websocket.CloseCode, reason string) sent {
	return sent{websocket.OpcodeClose, peer.CloseBody(code, reason)}
}

// client is a client's end of a connection, which holds every frame to the rules of a server that sends.
type client struct {
	conn   net.Conn
	frames chan sent // what goes out; closed at the end of TCP
	fault  error     // what else ended it; set before frames is closed
	got    []sent
}

// newClient reads what the server sends, until the end of TCP.
func newClient(conn *peer.Conn) *client {
	c := &client{conn: conn.Conn, frames: make(chan sent, 1<<10)}
	go func() {
		defer close(c.frames)
		for {
			f, err := readFrame(conn.Reader)
			if err != nil {
				if err != io.EOF && !errors.Is(err, io.ErrClosedPipe) {
					c.fault = err
				}
				return
			}
			c.frames <- f
		}
	}()
	return c
}

// readFrame reads a frame and holds it to the rules of sections 5.1, 5.2 and 5.5 for a server. Each has to be a whole message:
// nothing here is sent in fragments.
func readFrame(r io.Reader) (f sent, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	var field [8]byte
	size := map[byte]int{peer.Length16: 2, peer.Length64: 8}[head[1]&^peer.BitMasked]
	if _, err = io.ReadFull(r, field[8-size:]); err != nil {
		return f, err
	}
	length := binary.BigEndian.Uint64(field[:])
	if size == 0 {
		length = uint64(head[1] &^ peer.BitMasked)
	}
	f.opcode = websocket.Opcode(head[0] & 0xF)
	switch {
	case head[0]&peer.BitFin == 0:
		return f, fmt.Errorf("a fragment goes out: % x", head)
	case head[0]&peer.BitsRsv != 0:
		return f, fmt.Errorf("reserved bits go out: % x", head)
	case head[1]&peer.BitMasked != 0:
		return f, fmt.Errorf("a frame goes out with the wrong mask bit: % x", head)
	case size == 2 && length < peer.Length16 || size == 8 && length < 1<<16 || length > 1<<20:
		return f, fmt.Errorf("a frame goes out with a length of %d in %d bytes", length, size)
	case f.opcode >= websocket.OpcodeClose && length > peer.MaxControl:
		return f, fmt.Errorf("a control frame of %d bytes goes out", length)
	}
	payload := make([]byte, length)
	_, err = io.ReadFull(r, payload)
	f.payload = string(payload)
	return f, err
}

// wait reads frames until the condition holds.
func (c *client) wait(done func() bool) error {
	expired := expired()
	for !done() {
		select {
		case f, ok := <-c.frames:
			if !ok {
				return fmt.Errorf("TCP has ended behind %v: %v", c.got, c.fault)
			}
			c.got = append(c.got, f)
		case <-expired:
			return inVain("nothing more comes behind %v", c.got)
		}
	}
	return nil
}

// end ends TCP at the client's side.
func (c *client) end() {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	} else {
		c.conn.Close()
	}
}

var errTCPOpen = errors.New("TCP does not end")

// toEnd reads what is left until the server ends TCP, and ends it likewise.
func (c *client) toEnd() error {
	defer c.conn.Close()
	expired := expired()
	for {
		select {
		case f, ok := <-c.frames:
			if !ok {
				return c.fault
			}
			c.got = append(c.got, f)
		case <-expired:
			return inVain("%w behind %v", errTCPOpen, c.got)
		}
	}
}

// split tells the frames of data and reserved control frames, Pongs and Close frames apart. Of the first two, each is in its own
// order: Pongs may overtake what handlers send.
func split(frames []sent) (data, pongs, closes []sent) {
	for _, f := range frames {
		switch f.opcode {
		case websocket.OpcodePong:
			pongs = append(pongs, f)
		case websocket.OpcodeClose:
			closes = append(closes, f)
		default:
			data = append(data, f)
		}
	}
	return data, pongs, closes
}
