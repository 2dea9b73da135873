package websocket

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

const (
	// clientReadSize is the read buffer of a client in bytes.
	clientReadSize = 16 << 10

	// clientWriteSize is how many bytes of a packet a server has to take within WriteTimeout.
	clientWriteSize = 64 << 10
)

var (
	errSilent   = fmt.Errorf("websocket: server is silent after a ping: %w", ErrConnClosed)
	errNoAnswer = errors.New("websocket: server did not answer the close frame")
)

// link is one connection of a Client, from the end of its handshake on. Three goroutines serve it:
//
//	read     reads, parses, answers Close frames; ends when the connection does
//	handle   calls the handlers, HandleQuit last
//	control  sends Pings and Pongs, which must not hold up reading; logs the end
type link struct {
	// Immutable.
	client         *Client // for the handlers, whose own fields are copied: the program may set them for the next connection
	endpoint       string
	handleText     ClientHandler
	handleBin      ClientHandler
	handleControl  ClientHandler
	handleQuit     func()
	conn           net.Conn
	in             *bufio.Reader // used by read
	protocol       protocol
	log            *slog.Logger
	pingInterval   time.Duration
	silenceTimeout time.Duration
	writeTimeout   time.Duration
	down           chan struct{} // closed when the connection has ended
	pong           chan []byte   // the payload of the latest Ping; one element

	writeMu   sync.Mutex // held for one write; guards closeSent
	closeSent bool

	mu       sync.Mutex
	changed  *sync.Cond // on mu: frames or closing have changed, or down was closed
	frames   []*Frame   // that wait for their handlers; guarded by mu
	waiting  int        // their cost in bytes; guarded by mu
	closing  bool       // a Close frame was sent or received: data is discarded; guarded by mu
	answered bool       // the server has sent a Close frame; guarded by mu
	closeBy  time.Time  // when the connection ends at the latest, if closing; guarded by mu
	reason   error      // why the connection ends, if closing or ended; guarded by mu
	cause    error      // what drop was given; guarded by mu
	ended    bool       // down is closed; guarded by mu
}

func newLink(cl *Client) *link {
	l := &link{
		client:         cl,
		endpoint:       cl.Endpoint,
		handleText:     cl.HandleText,
		handleBin:      cl.HandleBin,
		handleControl:  cl.HandleRsvControl,
		handleQuit:     cl.HandleQuit,
		log:            cl.Logger,
		pingInterval:   min(max(cl.PingInterval, minPingInterval), maxTimeout),
		silenceTimeout: min(orDefault(cl.SilenceTimeout, defaultSilenceTimeout), maxTimeout),
		writeTimeout:   min(orDefault(cl.WriteTimeout, defaultWriteTimeout), maxTimeout),
		down:           make(chan struct{}),
		pong:           make(chan []byte, 1),
		protocol: protocol{
			maxMessage:      uint64(orDefault(cl.MaxMessageSize, defaultMaxMessageSize)),
			maxFragments:    orDefault(cl.MaxFragments, defaultMaxFragments),
			reservedControl: cl.HandleRsvControl != nil,
		},
	}
	l.changed = sync.NewCond(&l.mu)
	if l.log == nil {
		l.log = slog.Default()
	}
	return l
}

func (l *link) start() {
	go l.read()
	go l.handle()
	go l.control()
}

func (l *link) isDown() bool {
	select {
	case <-l.down:
		return true
	default:
		return false
	}
}

// err returns why the connection has ended, where the program did not end it.
func (l *link) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended || l.reason == ErrConnClosed {
		return nil
	}
	return l.reason
}

// drop ends the connection. The first reason counts.
func (l *link) drop(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if !l.closing || reason == ErrConnClosed { // the latter is what the program wants
		l.reason = reason
	}
	l.ended, l.cause = true, reason
	close(l.down)
	l.changed.Broadcast()
	// A TLS connection's Close would wait for a write in progress; a deadline ends that.
	l.conn.SetDeadline(time.Now())
	go l.conn.Close()
}

// beginClose starts the closing handshake, for a reason: a Close frame is sent, then the server has some time to end the
// connection. What it sends meanwhile is discarded. It returns false where it has been started before.
func (l *link) beginClose(reason error, frame []byte, wait time.Duration) bool {
	if !l.enterClosing(reason, wait) {
		return false
	}
	l.write(frame, true)
	return true
}

func (l *link) enterClosing(reason error, wait time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing || l.ended {
		return false
	}
	l.closing, l.reason, l.closeBy = true, reason, time.Now().Add(wait)
	l.conn.SetReadDeadline(l.closeBy)
	l.changed.Broadcast()
	return true
}

// beginRead sets the time that the next read may take: the server has answered a Ping by then, or has closed.
func (l *link) beginRead() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		l.conn.SetReadDeadline(l.closeBy)
	} else {
		l.conn.SetReadDeadline(time.Now().Add(l.pingInterval + l.silenceTimeout))
	}
}

// write writes one packet. With closes, it is a Close frame, the last that is written.
func (l *link) write(packet []byte, closes bool) error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	if l.closeSent || l.isDown() {
		return ErrConnClosed
	}
	l.closeSent = closes
	err := l.writeAll(packet)
	if err == nil {
		return nil
	}
	if l.isDown() {
		return ErrConnClosed
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		err = ErrWriteTimeout
	} else {
		err = closedBy(err)
	}
	l.drop(err)
	return err
}

// writeAll writes a packet, with writeTimeout for each piece of it: a server that is slow takes data all the same.
func (l *link) writeAll(packet []byte) error {
	for piece := range slices.Chunk(packet, clientWriteSize) {
		if err := l.conn.SetWriteDeadline(time.Now().Add(l.writeTimeout)); err != nil {
			return err
		}
		if _, err := l.conn.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// shut is the closing handshake that the program wants (RFC 6455, section 7.1.2).
func (l *link) shut() error {
	if l.enterClosing(ErrConnClosed, closeTimeout) {
		go l.write(NewFrameClose(true, StatusNormal, nil), true) // may have to wait for another write
	}
	l.mu.Lock()
	l.frames, l.waiting = nil, 0
	l.mu.Unlock()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-l.down:
	case <-timer.C:
		l.drop(errSilent)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == ErrConnClosed && (l.cause == errSilent || l.cause == ErrWriteTimeout) {
		return errNoAnswer
	}
	return nil
}

// fail answers a breach of the protocol, or a handler's error, and ends the connection (RFC 6455, section 7.1.7).
func (l *link) fail(code CloseCode, text string) {
	l.beginClose(&CloseError{Code: code, Reason: text}, NewFrameClose(true, code, []byte(text)), maxDrainTime)
}

// read reads until the connection ends.
func (l *link) read() {
	var ep endpoint
	for {
		l.beginRead()
		if _, err := l.in.Peek(1); err != nil {
			l.readFailed(err)
			return
		}
		b, _ := l.in.Peek(l.in.Buffered())
		l.parse(&ep, b)
		l.in.Discard(len(b))
	}
}

func (l *link) readFailed(err error) {
	l.mu.Lock()
	answered := l.answered
	l.mu.Unlock()
	if answered { // it was time
		l.drop(nil)
		return
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		err = errSilent
	} else {
		err = closedBy(err)
	}
	l.drop(err)
}

// parse follows the events in b.
func (l *link) parse(ep *endpoint, b []byte) {
	for len(b) > 0 {
		ev, n, err := ep.next(&l.protocol, b)
		b = b[n:]
		if err != nil {
			l.fail(err.code, err.text)
			return
		}
		switch ev.kind {
		case eventPing:
			l.answerPing(ev.payload)
		case eventMessage:
			l.enqueue(&Frame{payload: ev.payload, head: ev.head, complete: true})
		case eventControl:
			l.enqueue(&Frame{payload: slices.Clone(ev.payload), head: ev.head, complete: true})
		case eventClose:
			l.closed(ev.code, string(ev.payload))
		}
	}
}

// answerPing has the latest Ping answered.
func (l *link) answerPing(payload []byte) {
	select {
	case <-l.pong:
	default:
	}
	l.pong <- slices.Clone(payload) // has room: read alone puts in
}

// closed answers the server's Close frame, if it is not itself the answer to ours. Then the server ends TCP (RFC 6455,
// section 7.1.1).
func (l *link) closed(code CloseCode, reason string) {
	l.beginClose(&CloseError{Code: code, Reason: reason}, NewFrameClose(true, code, []byte(reason)), maxDrainTime)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered = true
	if by := time.Now().Add(maxDrainTime); by.Before(l.closeBy) {
		l.closeBy = by
	}
}

// enqueue adds a frame for the handlers, and waits while they have enough.
func (l *link) enqueue(f *Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.ended && !l.closing && l.waiting >= maxBacklog {
		l.changed.Wait()
	}
	if !l.ended && !l.closing {
		l.frames = append(l.frames, f)
		l.waiting += len(f.payload) + messageCost
		l.changed.Broadcast()
	}
}

// handle calls handlers until the connection has ended, then HandleQuit. What the server sent before its Close frame is
// handled; what the program does not want any more is not.
func (l *link) handle() {
	defer l.quit()
	for {
		l.mu.Lock()
		for len(l.frames) == 0 && !l.ended {
			l.changed.Wait()
		}
		if len(l.frames) == 0 || l.ended && l.reason == ErrConnClosed {
			l.mu.Unlock()
			return
		}
		f := l.frames[0]
		l.frames = l.frames[1:]
		l.waiting -= len(f.payload) + messageCost
		l.changed.Broadcast()
		l.mu.Unlock()
		if err := l.call(f); err != nil {
			l.fail(StatusBadRequest, err.Error())
			return
		}
	}
}

// call calls the handler of a frame. A panic is an error.
func (l *link) call(f *Frame) (err error) {
	handler := l.handleControl
	switch f.Opcode() {
	case OpcodeText:
		handler = l.handleText
	case OpcodeBin:
		handler = l.handleBin
	}
	if handler == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			l.logPanic(r)
			err = errors.New("handler panicked")
		}
	}()
	return handler(l.client, f)
}

// quit tells the program that the connection has ended.
func (l *link) quit() {
	l.fail(StatusBadRequest, "handler ended its goroutine") // else it has been ended before
	<-l.down
	if l.handleQuit == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			l.logPanic(r)
		}
	}()
	l.handleQuit()
}

func (l *link) logPanic(reason any) {
	l.log.Error("websocket: client handler panicked", "panic", reason, "stack", string(debug.Stack()))
}

// control sends Pongs, and Pings at their interval.
func (l *link) control() {
	ticker := time.NewTicker(l.pingInterval)
	defer l.logEnd()
	defer ticker.Stop()
	for {
		var packet []byte
		select {
		case <-l.down:
			return
		case payload := <-l.pong:
			packet = NewFramePong(true, payload)
		case <-ticker.C:
			packet = NewFramePing(true, nil)
		}
		if l.write(packet, false) != nil {
			return
		}
	}
}

// logEnd logs why the connection has ended.
func (l *link) logEnd() {
	<-l.down
	l.mu.Lock()
	reason := l.reason
	l.mu.Unlock()
	l.log.Debug("websocket: client connection ends", "endpoint", l.endpoint, "cause", reason)
}
