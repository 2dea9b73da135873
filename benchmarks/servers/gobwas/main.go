// Command gobwas is an echo server with github.com/gobwas/ws: a goroutine for each connection, or with -epoll one loop for all.
// The library leaves reading and writing to the program. This one reads through a buffer and writes once the buffer holds no
// further frame.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"net"
	"sync"

	"github.com/gobwas/ws"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
)

// writeBuffer is the size of the buffers that connections share for writing: header and payload leave with one write.
const writeBuffer = 64<<10 + ws.MaxHeaderSize

var (
	useEpoll = flag.Bool("epoll", false, "one epoll loop instead of a goroutine for each connection")
	conns    peer.Set[*conn]
	writers  = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, writeBuffer) }}
)

// conn is a connection whose writes are one frame or several, never mixed.
type conn struct {
	net.Conn
	mu sync.Mutex
}

func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Conn.Write(b)
}

func main() {
	peer.Serve(func(addr string) error {
		ln := peer.Listen(addr)
		if *useEpoll {
			return serveEpoll(ln)
		}
		for {
			c, err := ln.Accept()
			if err != nil {
				return err
			}
			go serve(&conn{Conn: c})
		}
	})
}

func serve(c *conn) {
	defer c.Close()
	if _, err := ws.Upgrade(c.Conn); err != nil {
		return
	}
	conns.Add(c)
	defer conns.Remove(c)
	e := echoer{r: bufio.NewReaderSize(c, 1024)}
	for e.serveRead(c) == nil {
	}
}

// echoer answers the frames of one connection at a time.
type echoer struct {
	r       *bufio.Reader
	header  [ws.MaxHeaderSize]byte
	payload []byte
}

// serveRead reads frames until the buffer is empty and answers them.
func (e *echoer) serveRead(c *conn) error {
	if _, err := e.r.Peek(1); err != nil { // no writer is held while nothing arrives
		return err
	}
	w := writers.Get().(*bufio.Writer)
	w.Reset(c)
	defer writers.Put(w)
	for {
		end, err := e.serveFrame(w)
		if err != nil {
			return err
		}
		if end || e.r.Buffered() == 0 {
			if err = w.Flush(); end {
				return io.EOF
			}
			e.release()
			return err
		}
	}
}

// release keeps no large buffer for an idle connection.
func (e *echoer) release() {
	if !*useEpoll && cap(e.payload) > 64<<10 {
		e.payload = nil
	}
}

func (e *echoer) serveFrame(w *bufio.Writer) (end bool, err error) {
	h, err := ws.ReadHeaderBuffer(e.r, e.header[:])
	if err != nil {
		return false, err
	}
	if h.Length > peer.MaxMessageSize {
		return false, ws.ErrHeaderLengthUnexpected
	}
	if int(h.Length) > cap(e.payload) {
		e.payload = make([]byte, h.Length)
	}
	payload := e.payload[:h.Length]
	if _, err = io.ReadFull(e.r, payload); err != nil {
		return false, err
	}
	ws.Cipher(payload, h.Mask, 0)
	switch h.OpCode {
	case ws.OpText:
		if peer.IsBroadcast(payload) {
			return false, broadcast(payload)
		}
		if bytes.HasPrefix(payload, []byte("sleep ")) {
			if err = w.Flush(); err != nil {
				return false, err
			}
			peer.Sleep(payload)
		}
	case ws.OpClose:
		end = true
	case ws.OpPing:
		h.OpCode = ws.OpPong
	case ws.OpPong:
		return false, nil
	}
	h.Masked = false
	if err = ws.WriteHeaderBuffer(w, h, e.header[:]); err != nil {
		return false, err
	}
	_, err = w.Write(payload)
	return end, err
}

func broadcast(payload []byte) error {
	frame, err := ws.CompileFrame(ws.NewTextFrame(payload))
	if err != nil {
		return err
	}
	conns.Each(func(c *conn) { c.Write(frame) })
	return nil
}
