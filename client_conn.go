package websocket

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// silenceLooks is how often within SilenceTimeout a client looks whether a Ping has left this system.
	silenceLooks = 32

	// maxPongDelay is how long a Pong waits for the handlers of messages that came before its Ping.
	maxPongDelay = 200 * time.Millisecond
)

var (
	errSilent   = fmt.Errorf("websocket: server is silent after a ping: %w", ErrConnClosed)
	errNoAnswer = errors.New("websocket: server did not answer the close frame")
)

// clientConn is one connection of a Client, from its opening handshake to its end. One goroutine serves it, while handlers are fast:
//
//	read  reads, parses, and calls the handler of each message itself. It waits for the server, and for room in the backlog and in the
//	      outbox
//	work  if handlers are not fast, or a message is read while it comes: another goroutine reads from then on, and puts messages into
//	      the backlog, and this one goes on with them until there are none
//	look  does what is due at some moment, for a timer or whoever sets one: sends Pings, queued Pongs and the Close frame, and finds the
//	      server silent. It does not wait; what is sent without a Send is written by a goroutine of its own, if anything is
//
// Locks are taken in this order: out.messageGate, out.writeGate, clock, mu, and then out.mu or socket.mu.
type clientConn struct {
	// Immutable once start has been called. The fields of client are copied: the program may set them for the next connection.
	client         *Client // for the handlers
	url            string  // of the server, for the log: without credentials and query
	handleText     ClientHandler
	handleBin      ClientHandler
	handleControl  ClientHandler
	handleReader   func(cl *Client, opcode Opcode, r io.Reader) error
	streamsText    bool // texts are for handleReader, unless they may answer a Call
	handleQuit     func()
	in             io.Reader    // what is read from: conn, unless a test has put something else there
	conn           net.Conn     // TLS over socket, or socket itself
	rules          rules        // but for streamsText, which is owned by the goroutine that reads
	compression    *Compression // what is offered; nil: nothing
	deflation      *deflation   // what was agreed on, nil if nothing was; what is sent is guarded by messageGate, what comes is owned by the goroutine that reads
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
	toldOpened     <-chan bool   // has an element when HandleState was told that the connection is open; nil: it is not told
	settled        chan struct{} // closed when lost is known

	// Owned by the goroutine that reads.
	intake intake

	// Guarded by its own locks.
	out   clientOutbox
	calls calls

	// Guarded by clock, which is held for a moment.
	clock    sync.Mutex
	alarm    *time.Timer // calls look at the next moment when something is due
	nextPing time.Time

	// Guarded by mu. backlog has the messages that wait for their handlers, and the Pings among them that are answered in their place.
	mu          sync.Mutex
	changed     sync.Cond       // backlog, incoming, closing or ended has changed
	backlog     []clientMessage // in the order in which they came; empty unless handling
	backlogCost int             // of backlog and of what waits in streams, in bytes, with messageCost for each message and part
	pongsDue    []time.Time     // for each Ping in backlog, in order: when it is answered at the latest
	incoming    *clientStream   // the message that comes, if it is given to HandleReader
	reading     bool            // a goroutine reads, or will do so when handlers return
	handling    bool            // a goroutine calls handlers,
	inline      bool            // and it is the one that reads
	over        bool            // HandleQuit is being called, or was
	current     uint64          // the read that has brought what is handled, if inline: see watchHandlers
	seen        uint64          // what current was at the last look
	watch       *time.Timer     // calls watchHandlers; nil before the first handler
	watched     bool            // it will
	closing     bool            // the closing handshake has begun: data is discarded
	closeFrame  []byte          // ours, if closing
	closeSent   bool            // closeFrame has been written
	answered    bool            // the server has sent its Close frame
	sendCloseBy time.Time       // if closing: when closeFrame is sent at the latest
	endBy       time.Time       // if closing: when the connection ends at the latest
	reason      error           // why the connection ends, if closing or ended; ErrConnClosed if the program wants it
	writeErr    error           // why nothing can be written any more, nil if it can
	dropReason  error           // what drop was called with, if ended
	ended       bool            // down is closed

	lost LostError // immutable once settled is closed
}

// newClientConn returns the state of a connection with the settings of a client. It still needs attach, in, and start.
func newClientConn(cl *Client) *clientConn {
	c := &clientConn{
		client:         cl,
		handleText:     cl.HandleText,
		handleBin:      cl.HandleBin,
		handleControl:  cl.HandleRsvControl,
		handleReader:   cl.HandleReader,
		streamsText:    cl.HandleReader != nil && cl.HandleText == nil,
		handleQuit:     cl.HandleQuit,
		log:            cl.logger(),
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
			streamsBin:      cl.HandleReader != nil && cl.HandleBin == nil,
		},
	}
	if cl.Compression != nil {
		filled := cl.Compression.filled()
		c.compression = &filled
	}
	c.changed.L = &c.mu
	c.out.init()
	if c.fragmentSize == 0 {
		c.fragmentSize = defaultFragmentSize
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

// start starts reading, once the opening handshake is done.
func (c *clientConn) start() {
	c.socket.patience = c.writeTimeout
	greets := c.toldOpened != nil // HandleState is the first handler
	if greets {
		c.socket.keepLedger()
	}
	c.reading, c.handling = true, greets
	c.clock.Lock()
	defer c.clock.Unlock()
	c.nextPing = time.Now().Add(c.pingInterval)
	c.alarm = time.AfterFunc(c.pingInterval, c.look)
	go c.read()
	if greets {
		go c.greet()
	}
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
	c.breakIncomingLocked()
	c.changed.Broadcast()
	// Close of a TLS connection would wait for a write in progress; a deadline ends that.
	c.conn.SetDeadline(time.Now())
	go c.finish(c.reason)
}

// beginClosing begins the closing handshake because of what happened at a moment, unless it has begun before. The Close frame is sent when
// the messages in front of it have been handled, maxAnswerTime after that moment at the latest. The server has wait in all to end the
// connection; what it sends meanwhile is discarded.
func (c *clientConn) beginClosing(at time.Time, reason error, closeFrame []byte, wait time.Duration) {
	if c.markClosing(at, reason, closeFrame, wait) {
		c.look() // there is a new moment
	}
}

func (c *clientConn) markClosing(at time.Time, reason error, closeFrame []byte, wait time.Duration) (isFirst bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.ended {
		return false
	}
	c.closing, c.reason, c.closeFrame = true, reason, closeFrame
	c.sendCloseBy, c.endBy = at.Add(maxAnswerTime), at.Add(wait)
	c.conn.SetReadDeadline(c.endBy)
	c.breakIncomingLocked()
	c.changed.Broadcast()
	return true
}

// fail begins the closing handshake because the server broke the protocol, or a handler failed (RFC 6455, section 7.1.7).
func (c *clientConn) fail(at time.Time, code CloseCode, text string) {
	text = strings.ToValidUTF8(text, "\uFFFD") // it may be a handler's error; RFC 6455, section 5.5.1
	c.beginClosing(at, &CloseError{Code: code, Reason: text}, NewFrameClose(true, code, []byte(text)), maxAnswerTime+maxDrainTime)
}

// receiveClose takes the server's Close frame, and answers it unless it is itself the answer to ours (RFC 6455, section 5.5.1).
func (c *clientConn) receiveClose(code CloseCode, reason string) {
	c.beginClosing(c.intake.at, &CloseError{Code: code, Reason: reason}, NewFrameClose(true, code, []byte(reason)), maxAnswerTime+maxDrainTime)
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

// closeIfHandled sends the Close frame, if it is due and all that came before it is handled. It does not wait.
func (c *clientConn) closeIfHandled() {
	c.mu.Lock()
	isDue := c.closing && !c.handling
	c.mu.Unlock()
	switch {
	case !isDue:
	case c.out.messageGate.tryEnter():
		c.sendClose()
		c.out.messageGate.leave()
	default:
		go c.sendCloseBehindMessage()
	}
}

// sendCloseBehindMessage sends the Close frame, if it is due, and waits first until a message that is being sent is complete.
func (c *clientConn) sendCloseBehindMessage() {
	if c.out.messageGate.enter(c.down) {
		c.sendClose()
		c.out.messageGate.leave()
	}
}

// sendClose has the Close frame sent, if it is due, behind no more than a frame that is being written: what is missing of that frame's
// message is not sent.
func (c *clientConn) sendClose() {
	c.mu.Lock()
	c.answerPingsLocked(time.Now().Add(maxPongDelay))
	closeFrame := c.closeFrame
	c.mu.Unlock()
	if closeFrame != nil && c.out.addClose(closeFrame) {
		c.kick()
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
	c.beginClosing(time.Now(), ErrConnClosed, NewFrameClose(true, code, []byte(reason)), closeTimeout)
	c.out.seal()
	c.mu.Lock()
	c.clearBacklogLocked()
	c.stepAsideLocked() // the server's answer has to be read
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

// look does what is due, and sets the alarm for what is due next.
func (c *clientConn) look() {
	c.clock.Lock()
	defer c.clock.Unlock()
	if next := c.doDue(); !c.isDown() {
		c.alarm.Reset(time.Until(next))
	}
}

// doDue sends the Pongs, the Ping or the Close frame that are due, and drops a server that is silent. It returns when to call it again.
// It is called with clock held.
func (c *clientConn) doDue() (next time.Time) {
	defer c.kick()
	at := time.Now()
	pongsDue := c.answerDuePings(at)
	if due, ok := c.closeFrameDue(); ok {
		if next = due; !due.After(at) {
			c.sendClose()
			next = at.Add(closeTimeout) // read ends the connection before that
		}
		return earlier(next, pongsDue)
	}
	if !c.nextPing.After(at) {
		c.out.addPing()
		if c.nextPing = c.nextPing.Add(c.pingInterval); c.nextPing.Before(at) {
			c.nextPing = at.Add(c.pingInterval)
		}
	}
	isSilent, lookAt := c.socket.silent(c.silenceTimeout, c.minRate)
	if isSilent {
		c.dropSilent()
	}
	return earlier(earlier(c.nextPing, lookAt), pongsDue)
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
