package websocket

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// clientReadSize is the size of a client's read buffer in bytes.
	clientReadSize = 16 << 10

	// silenceLooks is how often within SilenceTimeout a client looks whether a Ping has left this system.
	silenceLooks = 32

	// maxPongDelay is how long a Pong waits for the handlers of messages that came before its Ping.
	maxPongDelay = 200 * time.Millisecond
)

var (
	errSilent   = fmt.Errorf("websocket: server is silent after a ping: %w", ErrConnClosed)
	errNoAnswer = errors.New("websocket: server did not answer the close frame")
)

// clientConn is one connection of a Client, from its opening handshake to its end. From start on, three goroutines serve it:
//
//	read     reads and parses, until the connection ends. It waits for the server, and for room in the backlog and in the outbox
//	handle   calls the handlers, HandleQuit last; sends the Close frame once what came before it has been handled
//	control  sends Pings, queued Pongs and the Close frame when they are due; finds the server silent; logs the end
//
// Locks are taken in this order: out.messageGate, out.writeGate, mu, and then out.mu or socket.mu.
type clientConn struct {
	// Immutable once start has been called. The fields of client are copied: the program may set them for the next connection.
	client         *Client // for the handlers
	url            string  // of the server, for the log: without credentials and query
	handleText     ClientHandler
	handleBin      ClientHandler
	handleControl  ClientHandler
	handleQuit     func()
	conn           net.Conn // TLS over socket, or socket itself
	rules          rules
	compression    *Compression // what is offered; nil: nothing
	deflation      *deflation   // what was agreed on, nil if nothing was; what is sent is guarded by messageGate, what comes is owned by handle
	log            *slog.Logger
	pingInterval   time.Duration
	silenceTimeout time.Duration
	writeTimeout   time.Duration
	minRate        int           // bytes a second
	fragmentSize   int           // bytes; negative: messages are not fragmented
	down           chan struct{} // closed when the connection has ended
	socket         *clientSocket // has a lock of its own
	session        *session
	opened         time.Time
	toldOpened     <-chan struct{} // closed when HandleState was told that the connection is open; nil: it is not told
	settled        chan struct{}   // closed when lost is known

	// Owned by read.
	in *bufio.Reader

	// Guarded by its own locks.
	out   clientOutbox
	calls calls

	// Guarded by mu. backlog has the frames that wait for their handlers, and the Pings among them that are answered in their place.
	mu          sync.Mutex
	changed     *sync.Cond  // backlog, closing or ended has changed
	backlog     []*Frame    // in the order in which they came
	backlogCost int         // of backlog, in bytes, with messageCost for each frame
	pongsDue    []time.Time // for each Ping in backlog, in order: when it is answered at the latest
	handling    bool        // a handler runs, or is about to
	closing     bool        // the closing handshake has begun: data is discarded
	closeFrame  []byte      // ours, if closing
	closeSent   bool        // closeFrame has been written
	answered    bool        // the server has sent its Close frame
	sendCloseBy time.Time   // if closing: when closeFrame is sent at the latest
	endBy       time.Time   // if closing: when the connection ends at the latest
	reason      error       // why the connection ends, if closing or ended; ErrConnClosed if the program wants it
	writeErr    error       // why nothing can be written any more, nil if it can
	dropReason  error       // what drop was called with, if ended
	ended       bool        // down is closed

	lost LostError // immutable once settled is closed
}

// newClientConn returns the state of a connection with the settings of a client. It still needs attach, in, and start.
func newClientConn(cl *Client) *clientConn {
	c := &clientConn{
		client:         cl,
		handleText:     cl.HandleText,
		handleBin:      cl.HandleBin,
		handleControl:  cl.HandleRsvControl,
		handleQuit:     cl.HandleQuit,
		log:            cl.Logger,
		pingInterval:   min(max(cl.PingInterval, minPingInterval), maxTimeout),
		silenceTimeout: min(orDefault(cl.SilenceTimeout, defaultSilenceTimeout), maxTimeout),
		writeTimeout:   min(orDefault(cl.WriteTimeout, defaultWriteTimeout), maxTimeout),
		minRate:        orDefault(cl.MinRate, defaultMinRate),
		fragmentSize:   cl.FragmentSize,
		down:           make(chan struct{}),
		settled:        make(chan struct{}),
		rules: rules{
			maxMessage:      uint64(orDefault(cl.MaxMessageSize, defaultMaxMessageSize)),
			maxFragments:    orDefault(cl.MaxFragments, defaultMaxFragments),
			reservedControl: cl.HandleRsvControl != nil,
		},
	}
	if cl.Compression != nil {
		filled := cl.Compression.filled()
		c.compression = &filled
	}
	c.changed = sync.NewCond(&c.mu)
	c.out.init()
	if c.fragmentSize == 0 {
		c.fragmentSize = defaultFragmentSize
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	return c
}

// orDefault returns a value, or its default if it is zero or less.
func orDefault[T int | time.Duration](value, otherwise T) T {
	setDefault(&value, otherwise)
	return value
}

// attach gives the connection its socket, and lets it write to that directly; TLS may be put between them later.
func (c *clientConn) attach(conn net.Conn) {
	c.socket = newClientSocket(conn, c.down)
	c.conn = c.socket
}

// start starts the goroutines, once the opening handshake is done.
func (c *clientConn) start() {
	c.socket.patience = c.writeTimeout
	c.handling = c.toldOpened != nil // HandleState is the first handler
	if c.handling {
		c.socket.keepLedger()
	}
	go c.read()
	go c.handle()
	go c.control()
}

func (c *clientConn) isDown() bool {
	select {
	case <-c.down:
		return true
	default:
		return false
	}
}

// err returns why the connection has ended, nil if it has not or the program has ended it.
func (c *clientConn) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended || c.reason == ErrConnClosed {
		return nil
	}
	return c.reason
}

// drop ends the connection immediately. Only the first call counts; if the closing handshake has begun, its reason stays, unless the
// program wants the end now.
func (c *clientConn) drop(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if !c.closing || reason == ErrConnClosed { // the program's own wish
		c.reason = reason
	}
	c.ended, c.dropReason = true, reason
	close(c.down)
	c.changed.Broadcast()
	// Close of a TLS connection would wait for a write in progress; a deadline ends that.
	c.conn.SetDeadline(time.Now())
	go c.close()
}

// beginClosing begins the closing handshake, unless it has begun before. The Close frame is sent when the messages in front of it have
// been handled, after maxAnswerTime at the latest. The server has wait in all to end the connection; what it sends meanwhile is
// discarded.
func (c *clientConn) beginClosing(reason error, closeFrame []byte, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.ended {
		return
	}
	at := time.Now()
	c.closing, c.reason, c.closeFrame = true, reason, closeFrame
	c.sendCloseBy, c.endBy = at.Add(maxAnswerTime), at.Add(wait)
	c.conn.SetReadDeadline(c.endBy)
	c.changed.Broadcast()
	notify(c.out.wake) // control has a new moment to wait for
}

// fail begins the closing handshake because the server broke the protocol, or a handler failed (RFC 6455, section 7.1.7).
func (c *clientConn) fail(code CloseCode, text string) {
	text = strings.ToValidUTF8(text, "\uFFFD") // it may be a handler's error; RFC 6455, section 5.5.1
	c.beginClosing(&CloseError{Code: code, Reason: text}, NewFrameClose(true, code, []byte(text)), maxAnswerTime+maxDrainTime)
}

// receiveClose takes the server's Close frame, and answers it unless it is itself the answer to ours (RFC 6455, section 5.5.1).
func (c *clientConn) receiveClose(code CloseCode, reason string) {
	c.beginClosing(&CloseError{Code: code, Reason: reason}, NewFrameClose(true, code, []byte(reason)), maxAnswerTime+maxDrainTime)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = true
	c.limitDrainLocked()
}

// limitDrainLocked gives the server maxDrainTime to end TCP, which is its part (RFC 6455, section 7.1.1), once our Close frame has been
// written and no answer to it is awaited.
func (c *clientConn) limitDrainLocked() {
	if !c.closeSent || !c.answered && c.reason == ErrConnClosed {
		return
	}
	if by := time.Now().Add(maxDrainTime); by.Before(c.endBy) && !c.ended {
		c.endBy = by
		c.conn.SetReadDeadline(by)
	}
}

// sendCloseBehindMessage sends the Close frame, if it is due, and waits first until a message that is being sent is complete.
func (c *clientConn) sendCloseBehindMessage() {
	if c.out.messageGate.enter(c.down) {
		c.sendClose()
		c.out.messageGate.leave()
	}
}

// sendClose sends the Close frame, if it is due. It waits for no more than a frame that is being written: what is missing of that
// frame's message is not sent.
func (c *clientConn) sendClose() {
	c.mu.Lock()
	c.answerPingsLocked(time.Now().Add(maxPongDelay))
	closeFrame := c.closeFrame
	c.mu.Unlock()
	if closeFrame != nil && c.out.addClose(closeFrame) {
		c.flush()
	}
}

// closeWritten records that the Close frame has been written, and limits the time for what is left. It is called with writeGate held.
func (c *clientConn) closeWritten() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeSent = true
	c.limitDrainLocked()
	if c.writeErr == nil {
		close(c.out.closeDone)
	}
}

// closeHandshake makes the closing handshake that the program wants (RFC 6455, section 7.1.2), and returns when the connection has
// ended. An error says that the server did not answer.
func (c *clientConn) closeHandshake(code CloseCode, reason string) error {
	c.beginClosing(ErrConnClosed, NewFrameClose(true, code, []byte(reason)), closeTimeout)
	c.out.seal()
	c.mu.Lock()
	c.answerPingsLocked(time.Now().Add(maxPongDelay))
	c.backlog, c.backlogCost = nil, 0
	c.mu.Unlock()
	go c.sendCloseBehindMessage() // it may have to wait for a message
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-c.down:
	case <-timer.C:
		c.drop(errSilent)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == ErrConnClosed && !c.answered && (c.dropReason == errSilent || c.dropReason == ErrWriteTimeout) {
		return errNoAnswer
	}
	return nil
}

// control does what is due, whenever it is woken and at the moment that was due next, until the connection ends.
func (c *clientConn) control() {
	defer c.logEnd()
	nextPing := time.Now().Add(c.pingInterval)
	timer := time.NewTimer(c.pingInterval)
	defer timer.Stop()
	for {
		select {
		case <-c.down:
			return
		case <-c.out.wake:
		case <-timer.C:
		}
		timer.Reset(time.Until(c.doDue(&nextPing)))
	}
}

// doDue sends the Pongs, the Ping or the Close frame that are due, flushes the outbox, and drops a server that is silent. It returns when
// to call it again.
func (c *clientConn) doDue(nextPing *time.Time) (next time.Time) {
	at := time.Now()
	pongsDue := c.answerDuePings(at)
	if due, ok := c.closeFrameDue(); ok {
		if next = due; !due.After(at) {
			c.sendClose()
			next = at.Add(closeTimeout) // read ends the connection before that
		}
		c.flush()
		return earlier(next, pongsDue)
	}
	if next = *nextPing; !next.After(at) {
		c.out.addPing()
		if next = next.Add(c.pingInterval); next.Before(at) {
			next = at.Add(c.pingInterval)
		}
		*nextPing = next
	}
	c.flush()
	isSilent, lookAt := c.socket.silent(c.silenceTimeout, c.minRate)
	if isSilent {
		c.dropSilent()
	}
	return earlier(earlier(next, lookAt), pongsDue)
}

// earlier returns the earlier of two moments. If b is zero, that is a.
func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// closeFrameDue returns when the Close frame is sent at the latest. ok is false if the closing handshake has not begun.
func (c *clientConn) closeFrameDue() (due time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendCloseBy, c.closing
}

// dropSilent ends the connection to a server that is silent, and tells it so if that takes no waiting.
func (c *clientConn) dropSilent() {
	if c.out.writeGate.tryEnter() {
		c.socket.noWait.Store(true)
		c.out.addClose(NewFrameClose(true, StatusForbidden, []byte(silentReason)))
		buf, _, _ := c.out.take(0, c.socket.total())
		c.conn.Write(buf)
		defer c.out.writeGate.leave()
	}
	c.drop(errSilent)
}

// logEnd waits for the end of the connection and logs why it has ended.
func (c *clientConn) logEnd() {
	<-c.down
	c.mu.Lock()
	reason := c.reason
	c.mu.Unlock()
	c.log.Debug("websocket: client connection ends", "endpoint", c.url, "cause", reason)
}
