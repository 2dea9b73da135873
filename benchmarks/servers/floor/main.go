// Command floor is the least that a WebSocket echo can cost in Go: one epoll loop that turns masked frames into unmasked ones.
// It checks nothing, knows no fragments and calls no handlers. What it costs is what the system calls cost.
package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net"
	"slices"

	"github.com/wsloop/websocket/benchmarks/internal/peer"
	"github.com/wsloop/websocket/benchmarks/internal/raw"
	"golang.org/x/sys/unix"
)

const (
	readSize = 64 << 10
	guid     = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

var errEnd = errors.New("end of connection")

// conn is one connection. A message that did not arrive in one read is collected in partial, which has room for the frame.
type conn struct {
	upgraded bool
	open     bool
	partial  []byte
	output   *output
}

// output is what a socket did not take, with the buffer that it is part of.
type output struct {
	unsent, buffer []byte
}

type loop struct {
	poller   *raw.Poller
	listener int
	in       []byte
	out      []byte
	conns    []conn   // by descriptor
	spare    [][]byte // buffers for partial
}

func main() { peer.Serve(serve) }

func serve(addr string) error {
	ln := peer.Listen(addr)
	defer ln.Close()
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer file.Close()
	l := &loop{listener: int(file.Fd()), in: make([]byte, readSize), out: make([]byte, 0, readSize)}
	if err = unix.SetNonblock(l.listener, true); err != nil {
		return err
	}
	if err = unix.SetsockoptInt(l.listener, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil { // accepted sockets inherit it
		return err
	}
	if l.poller, err = raw.NewPoller(); err != nil {
		return err
	}
	if err = l.poller.Add(l.listener, false); err != nil {
		return err
	}
	for {
		n, err := l.poller.Wait()
		if err != nil {
			return err
		}
		for i := range n {
			fd, readable, writable := l.poller.At(i)
			if fd == l.listener {
				l.accept()
				continue
			}
			if writable {
				err = l.flush(fd)
			}
			if err == nil && readable {
				err = l.read(fd)
			}
			if err != nil {
				l.close(fd)
				err = nil
			}
		}
	}
}

func (l *loop) accept() {
	for {
		fd, err := raw.Accept(l.listener)
		if err != nil {
			return
		}
		for fd >= len(l.conns) {
			l.conns = append(l.conns, make([]conn, 1024)...)
		}
		l.conns[fd] = conn{open: true}
		if err = l.poller.Add(fd, false); err != nil {
			l.close(fd)
		}
	}
}

func (l *loop) close(fd int) {
	l.conns[fd] = conn{}
	unix.Close(fd)
}

func (l *loop) read(fd int) error {
	c := &l.conns[fd]
	if c.partial != nil {
		return l.readOn(fd, c)
	}
	n, err := raw.Recv(fd, l.in)
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil || n == 0 {
		return errEnd
	}
	if !c.upgraded {
		c.upgraded = true
		return l.upgrade(fd, l.in[:n])
	}
	return l.frames(fd, c, l.in[:n])
}

// readOn reads more of a message that is collected, into its own buffer.
func (l *loop) readOn(fd int, c *conn) error {
	have := len(c.partial)
	n, err := raw.Recv(fd, c.partial[have:min(have+readSize, cap(c.partial))])
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil || n == 0 {
		return errEnd
	}
	c.partial = c.partial[:have+n]
	header, size := frameSize(c.partial)
	if size == 0 || len(c.partial) < size {
		c.partial = l.grow(c.partial, size)
		return nil
	}
	b := c.partial
	c.partial = nil
	if len(b) > size {
		return l.frames(fd, c, b)
	}
	raw.Unmask(b[header:], b[header:], binary.LittleEndian.Uint32(b[header-4:]))
	b[1] &= 0x7F
	copy(b[4:], b[:header-4])
	if c.output != nil {
		return l.send(fd, b[4:])
	}
	n, err = raw.Send(fd, b[4:])
	if err != nil && err != unix.EAGAIN {
		return err
	}
	if n == len(b)-4 {
		l.spare = append(l.spare, b)
		return nil
	}
	c.output = &output{unsent: b[4+n:], buffer: b}
	return l.poller.Change(fd, true)
}

// frames answers all complete frames with one write and keeps the rest.
func (l *loop) frames(fd int, c *conn, b []byte) error {
	l.out = l.out[:0]
	for len(b) > 0 {
		header, size := frameSize(b)
		if size == 0 || len(b) < size {
			break
		}
		start := len(l.out)
		l.out = append(l.out, b[0], b[1]&0x7F)
		l.out = append(l.out, b[2:header-4]...)
		payload := len(l.out)
		l.out = slices.Grow(l.out, size-header)[:payload+size-header]
		raw.Unmask(l.out[payload:], b[header:size], binary.LittleEndian.Uint32(b[header-4:]))
		switch {
		case b[0]&0xF == 8:
			l.send(fd, l.out)
			return errEnd
		case b[0]&0xF == 1 && peer.IsBroadcast(l.out[payload:]):
			l.broadcast(l.out[start:])
			l.out = l.out[:start]
		}
		b = b[size:]
	}
	if len(b) > 0 {
		_, size := frameSize(b)
		c.partial = append(l.grow(nil, size), b...)
	}
	if len(l.out) == 0 {
		return nil
	}
	return l.send(fd, l.out)
}

// frameSize returns the size of a frame and of its header, or 0 if the header is not complete.
func frameSize(b []byte) (header, size int) {
	if len(b) < 2 {
		return 0, 0
	}
	header, length := 6, int(b[1]&0x7F)
	switch {
	case length == 126 && len(b) >= 4:
		header, length = 8, int(binary.BigEndian.Uint16(b[2:]))
	case length == 127 && len(b) >= 10:
		header, length = 14, int(binary.BigEndian.Uint64(b[2:]))
	case length >= 126:
		return 0, 0
	}
	if len(b) < header {
		return 0, 0
	}
	return header, header + length
}

// grow returns b with room for a frame of that size.
func (l *loop) grow(b []byte, size int) []byte {
	size = max(size, readSize)
	if cap(b) >= size {
		return b
	}
	if last := len(l.spare) - 1; last >= 0 && cap(l.spare[last]) >= size {
		grown := append(l.spare[last][:0], b...)
		l.spare = l.spare[:last]
		return grown
	}
	return append(make([]byte, 0, size), b...)
}

func (l *loop) broadcast(frame []byte) {
	for fd := range l.conns {
		if c := &l.conns[fd]; c.open && c.upgraded {
			if err := l.send(fd, frame); err != nil {
				l.close(fd)
			}
		}
	}
}

// send writes what the socket takes and keeps the rest.
func (l *loop) send(fd int, b []byte) error {
	c := &l.conns[fd]
	if c.output != nil {
		c.output.unsent = append(c.output.unsent, b...)
		return nil
	}
	n, err := raw.Send(fd, b)
	if err != nil && err != unix.EAGAIN {
		return err
	}
	if n == len(b) {
		return nil
	}
	rest := append(l.grow(nil, len(b)-n), b[n:]...)
	c.output = &output{unsent: rest, buffer: rest}
	return l.poller.Change(fd, true)
}

func (l *loop) flush(fd int) error {
	c := &l.conns[fd]
	n, err := raw.Send(fd, c.output.unsent)
	if err != nil && err != unix.EAGAIN {
		return err
	}
	if c.output.unsent = c.output.unsent[n:]; len(c.output.unsent) > 0 {
		return nil
	}
	l.spare = append(l.spare, c.output.buffer)
	c.output = nil
	return l.poller.Change(fd, false)
}

func (l *loop) upgrade(fd int, request []byte) error {
	_, key, ok := bytes.Cut(request, []byte("\r\nSec-WebSocket-Key: "))
	if !ok || len(key) < 24 {
		return errEnd
	}
	var text [24 + len(guid)]byte
	copy(text[copy(text[:], key[:24]):], guid)
	sum := sha1.Sum(text[:])
	l.out = append(l.out[:0], "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	l.out = base64.StdEncoding.AppendEncode(l.out, sum[:])
	l.out = append(l.out, "\r\n\r\n"...)
	return l.send(fd, l.out)
}
