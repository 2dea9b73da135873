package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/wsloop/websocket"
)

// Parts of a frame's header (RFC 6455, section 5.2).
const (
	finBit     = 0x80
	opcodeBits = 0x0F
	lengthBits = 0x7F
	length16   = 126
	length64   = 127
)

// maxReceived is the size in bytes of the largest message that the server sends.
const maxReceived = maxBody + headSize

// rawConn is a WebSocket connection on which a peer can send any bytes.
type rawConn struct {
	net.Conn
	in *bufio.Reader
	mu sync.Mutex // keeps frames apart
}

// handshakeRequest is the opening handshake of rawConn.
const handshakeRequest = "GET /?%s HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

func dialTCP(address string) (net.Conn, error) { return net.DialTimeout("tcp", address, wireTimeout) }

func dialRaw(at door, query string) (c *rawConn, err error) {
	conn, err := at.dial(query)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	conn.SetDeadline(time.Now().Add(wireTimeout))
	if _, err = fmt.Fprintf(conn, handshakeRequest, query); err != nil {
		return nil, err
	}
	c = &rawConn{Conn: conn, in: bufio.NewReader(conn)}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("handshake: %s", res.Status)
	}
	return c, conn.SetDeadline(time.Time{})
}

func (c *rawConn) write(frames []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.SetWriteDeadline(time.Now().Add(wireTimeout))
	_, err := c.Write(frames)
	return err
}

// narrowBuffer is the size in bytes of the receive buffer of a socket that is not to take much ahead of its reader.
const narrowBuffer = 64 << 10

func (c *rawConn) narrow() {
	if tcp := tcpOf(c.Conn); tcp != nil {
		tcp.SetReadBuffer(narrowBuffer)
	}
}

// reset closes the connection so that TCP sends the server a reset.
func (c *rawConn) reset() { resetTCP(c.Conn) }

func resetTCP(conn net.Conn) {
	if tcp := tcpOf(conn); tcp != nil { // with TLS, nothing is said either
		tcp.SetLinger(0)
		tcp.Close()
	}
	conn.Close()
}

// readMessages hands messages over and answers Pings until the connection ends. It returns why that was: a
// *websocket.CloseError, or the error of the network.
func (c *rawConn) readMessages(got receiver) error {
	var message []byte
	var opcode websocket.Opcode
	for {
		first, payload, err := c.readFrame()
		if err != nil {
			return err
		}
		switch op := websocket.Opcode(first & opcodeBits); op {
		case websocket.OpcodePing:
			if err := c.write(websocket.NewFramePong(true, payload)); err != nil {
				return err
			}
			continue
		case websocket.OpcodePong:
			continue
		case websocket.OpcodeClose:
			return closeError(payload)
		case websocket.OpcodeCont:
			message = append(message, payload...)
		default:
			opcode, message = op, payload
		}
		if first&finBit != 0 {
			got(opcode, message)
			message = nil
		}
	}
}

func closeError(payload []byte) error {
	closed := new(websocket.CloseError)
	if len(payload) >= 2 {
		closed.Code, closed.Reason = websocket.CloseCode(binary.BigEndian.Uint16(payload)), string(payload[2:])
	}
	return closed
}

// readFrame reads a frame of the server.
func (c *rawConn) readFrame() (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(c.in, head[:]); err != nil {
		return 0, nil, err
	}
	size := uint64(head[1] & lengthBits)
	var extended [8]byte
	switch size {
	case length16:
		_, err = io.ReadFull(c.in, extended[6:])
		size = binary.BigEndian.Uint64(extended[:])
	case length64:
		_, err = io.ReadFull(c.in, extended[:])
		size = binary.BigEndian.Uint64(extended[:])
	}
	if err != nil {
		return 0, nil, err
	}
	if size > maxReceived || head[1]&finBit != 0 {
		return 0, nil, fmt.Errorf("frame that the server does not send: % x, %d bytes", head, size)
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(c.in, payload)
	return head[0], payload, err
}
