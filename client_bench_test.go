package websocket

import (
	"bufio"
	"fmt"
	"net"
	"testing"
)

// BenchmarkClientEcho is the way of a message through a client whose handler sends it back. The server's part is as little as can
// be, so that the allocations are those of the client.
func BenchmarkClientEcho(b *testing.B) {
	for _, size := range []int{32, 1 << 10, 16 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%d B", size), func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			cl := &Client{Endpoint: "ws://" + ln.Addr().String(), HandleBin: func(cl *Client, f *Frame) error {
				defer PutBuffer(f.payload)
				return cl.SendBin(f.payload)
			}}
			connected := scriptedConnect(cl)
			conn, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			defer cl.Quit()
			c := &scriptedConn{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
			if err = c.accept(connected); err != nil {
				b.Fatal(err)
			}
			packet := NewFrameBin(false, make([]byte, size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err = conn.Write(packet); err == nil {
					err = discardMessage(c.in)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// accept answers a client's opening handshake.
func (c *scriptedConn) accept(connected <-chan error) (err error) {
	var key string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Sscanf(line, "Sec-WebSocket-Key: %s", &key)
		if line == "\r\n" {
			break
		}
	}
	if _, err = c.conn.Write(scriptedAnswer(key)); err != nil {
		return err
	}
	return <-connected
}

// discardMessage reads one message of any number of fragments.
func discardMessage(in *bufio.Reader) error {
	for fin := false; !fin; {
		var b []byte
		n := 0
		for size := 2; n == 0; size++ {
			var err error
			if b, err = in.Peek(size); err != nil {
				return err
			}
			var h header
			if h, n = parseHeader(b); n > 0 {
				fin = h.fin()
				n += int(h.length)
			}
		}
		if _, err := in.Discard(n); err != nil {
			return err
		}
	}
	return nil
}
