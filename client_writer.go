package websocket

import (
	"errors"
	"io"
	"math"
	"time"
)

const (
	// maxWriterPause is how long other messages wait for a writer to go on with its own.
	maxWriterPause = time.Minute

	// writerSpare is how many bytes are taken beyond a fragment before that is sent, so that the last one is not empty.
	writerSpare = 4 << 10
)

var (
	errWriterClosed = errors.New("websocket: writer is closed")
	errNoFragments  = errors.New("websocket: FragmentSize is negative: a message cannot be sent in pieces")
	errNoDataOpcode = errors.New("websocket: a message is text or binary")
	errReadCount    = errors.New("websocket: reader returned more than there was room for")
)

// NewWriter returns a writer of one message, OpcodeText or OpcodeBin, that is sent while it is written, in fragments of FragmentSize, so
// that it need not be held in memory. Close ends the message; one that was not written to is empty. Text must be UTF-8, which is not
// checked; a Write may end inside a character. The message is not compressed. NewWriter returns an error that matches ErrConnClosed if
// the client is not connected, and one if FragmentSize is negative.
//
// The first fragment is sent when FragmentSize bytes were written and more come. From then on until Close other messages wait, but no
// Pings, Pongs and Close frames. If the writer is left alone for a minute meanwhile, and a message waits, the connection is closed with
// StatusInternalError, since a message that has begun cannot be taken back. A program that cannot finish one ends the connection, with
// CloseWith for example; a writer that has sent nothing may simply be forgotten.
//
// An error of Write or Close is that of SendBin, stays, and leaves the message unfinished; the connection has ended, or is about to. When
// the program calls Client.Close, or the server closes, the message has a second to be finished. A writer is for one goroutine at a time.
// It is also an io.ReaderFrom.
func (cl *Client) NewWriter(opcode Opcode) (io.WriteCloser, error) {
	c := cl.current()
	switch {
	case opcode != OpcodeText && opcode != OpcodeBin:
		return nil, errNoDataOpcode
	case c == nil || c.out.isSealed():
		return nil, ErrConnClosed
	case c.fragmentSize < 0:
		return nil, errNoFragments
	}
	return &clientWriter{c: c, next: header{first: byte(opcode), masked: true}}, nil
}

// clientWriter sends a message in pieces. While it does so it holds messageGate. It is used by one goroutine at a time.
type clientWriter struct {
	c     *clientConn // immutable
	next  header      // of the next fragment
	buf   []byte      // what was written and not sent; nil before the first Write and after the end
	holds bool        // messageGate
	err   error       // why nothing more can be written
}

// Write keeps up to a fragment back, and sends the rest.
func (w *clientWriter) Write(b []byte) (n int, err error) {
	for free := w.room(); len(b) > 0 && w.err == nil; free = w.room() {
		m := copy(free, b)
		w.buf, b, n = w.buf[:len(w.buf)+m], b[m:], n+m
	}
	return n, w.err
}

// ReadFrom writes what a reader has until its end.
func (w *clientWriter) ReadFrom(r io.Reader) (n int64, err error) {
	for free := w.room(); w.err == nil; free = w.room() {
		m, err := r.Read(free)
		if m < 0 || m > len(free) {
			return n, errReadCount
		}
		w.buf, n = w.buf[:len(w.buf)+m], n+int64(m)
		switch err {
		case nil:
		case io.EOF:
			w.room()
			return n, w.err
		default:
			return n, err
		}
	}
	return n, w.err
}

// room sends a fragment if more than that was written, and returns where more can be written to: there is no room after an error alone.
func (w *clientWriter) room() []byte {
	size := min(w.c.fragmentSize, math.MaxInt-writerSpare)
	for len(w.buf) > size && w.err == nil {
		w.send(size)
	}
	if w.err != nil {
		return nil
	}
	if len(w.buf) == cap(w.buf) { // memory grows with what was written
		old := w.buf
		w.buf = append(newBuffer(min(max(2*len(old), defaultFragmentSize), size)+writerSpare), old...)
		PutBuffer(old)
	}
	return w.buf[len(w.buf):min(cap(w.buf), size+writerSpare)]
}

// Close sends the end of the message.
func (w *clientWriter) Close() error {
	if w.err != nil {
		if w.err == errWriterClosed {
			return nil
		}
		return w.err
	}
	if w.buf != nil {
		w.room() // a reader's error may have left more than a fragment
	}
	w.next.first |= bitFin
	if w.send(len(w.buf)); w.err != nil {
		return w.err
	}
	w.end(errWriterClosed)
	return nil
}

// send sends the first size bytes of what was written as a fragment.
func (w *clientWriter) send(size int) {
	out := &w.c.out
	if !w.holds {
		if !w.c.enterMessage() {
			w.end(ErrConnClosed)
			return
		}
		if w.holds = true; out.isSealed() {
			w.end(ErrConnClosed)
			return
		}
	}
	out.paused.Store(never) // what takes long is not the program
	if err := w.c.writeFrame(w.next, w.buf[:size]); err != nil {
		w.end(err)
		return
	}
	out.paused.Store(now())
	w.next.first, w.buf = byte(OpcodeCont), w.buf[:copy(w.buf, w.buf[size:])]
}

// end is the end of the message, or of writing it.
func (w *clientWriter) end(err error) {
	w.err = err
	PutBuffer(w.buf)
	w.buf = nil
	if w.holds {
		w.holds = false
		w.c.out.paused.Store(never)
		w.c.out.messageGate.leave()
	}
}

// enterMessage takes messageGate, or returns false if the connection has ended. A writer that is left alone ends it.
func (c *clientConn) enterMessage() bool {
	if c.out.messageGate.tryEnter() {
		return true
	}
	timer := time.NewTimer(maxWriterPause)
	defer timer.Stop()
	for {
		select {
		case c.out.messageGate <- struct{}{}:
			return true
		case <-c.down:
			return false
		case <-timer.C:
		}
		pause := time.Duration(0)
		if since := c.out.paused.Load(); since != never {
			pause = time.Duration(now() - since)
		}
		if pause >= maxWriterPause {
			c.fail(time.Now(), StatusInternalError, "message was not finished")
		}
		timer.Reset(max(maxWriterPause-pause, time.Second))
	}
}
