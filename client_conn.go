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
	// clientReadSize is the read buffer of a client in bytes.
	clientReadSize = 16 << 10

	// silenceLooks is how often, within SilenceTimeout, a client looks whether a Ping has left this system.
	silenceLooks = 32

	// maxPongDelay is how long a Pong waits for handlers of messages that came before its Ping.
	maxPongDelay = 200 * time.Millisecond
)

var (
	errSilent   = fmt.Errorf("websocket: server is silent after a ping: %w", ErrConnClosed)
	errNoAnswer = errors.New("websocket: server did not answer the close frame")
)

// clientConn is one connection of a Client, from the end of its handshake on. Three goroutines serve it:
//
//	read     reads and parses; ends when the connection does. It waits for nothing but the server, and for room in the backlog
//	handle   calls the handlers, HandleQuit last; sends the Close frame once what came before it has been handled
//	control  sends Pings, Pongs and what is overdue, finds the server silent, logs the end
type clientConn struct {
	// Immutable.
	client         *Client // for the handlers, whose own fields are copied: the program may set them for the next connection
	url            string
	handleText     ClientHandler
	handleBin      ClientHandler
	handleControl  ClientHandler
	handleQuit     func()
	conn           net.Conn      // over socket, or socket itself
	in             *bufio.Reader // used by read
	protocol       rules
	log            *slog.Logger
	pingInterval   time.Duration
	silenceTimeout time.Duration
	writeTimeout   time.Duration
	minRate        int
	fragmentSize   int           // below zero: messages are not fragmented
	down           chan struct{} // closed when the connection has ended

	socket *clientSocket // has a lock of its own
	out    clientOutbox  // has locks of its own

	mu          sync.Mutex  // taken before those of socket and out, never while they are held
	changed     *sync.Cond  // on mu: frames or closing have changed, or down was closed
	backlog     []*Frame    // that wait for their handlers, and Pings among them for their turn; guarded by mu
	backlogCost int         // their cost in bytes; guarded by mu
	pongsDue    []time.Time // for each Ping among them, when it waits for no handler any more; guarded by mu
	handling    bool        // a handler runs, or is about to; guarded by mu
	closing     bool        // the closing handshake has begun: data is discarded; guarded by mu
	closeFrame  []byte      // the Close frame, if closing; guarded by mu
	closeSent   bool        // it was written; guarded by mu
	answered    bool        // the server has sent a Close frame; guarded by mu
	sendCloseBy time.Time   // when the Close frame goes out at the latest, if closing; guarded by mu
	endBy       time.Time   // when the connection ends at the latest, if closing; guarded by mu
	reason      error       // why the connection ends, if closing or ended; guarded by mu
	writeErr    error       // why nothing can be written any more; guarded by mu
	dropReason  error       // what drop was given; guarded by mu
	ended       bool        // down is closed; guarded by mu
}

func newClientConn(cl *Client) *clientConn {
	c := &clientConn{
		client:         cl,
		url:            cl.Endpoint,
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
		protocol: rules{
			maxMessage:      uint64(orDefault(cl.MaxMessageSize, defaultMaxMessageSize)),
			maxFragments:    orDefault(cl.MaxFragments, defaultMaxFragments),
			reservedControl: cl.HandleRsvControl != nil,
		},
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

// orDefault returns a value, or its default where it is zero or below.
func orDefault[T int | time.Duration](value, otherwise T) T {
	setDefault(&value, otherwise)
	return value
}

// attach gives the connection its network connection, below TLS where there is to be some.
func (c *clientConn) attach(conn net.Conn) {
	c.socket = newClientSocket(conn, c.down)
	c.conn = c.socket
}

// start begins with the connection once the handshake is done.
func (c *clientConn) start() {
	c.socket.patience = c.writeTimeout
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

// err returns why the connection has ended, where the program did not end it.
func (c *clientConn) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended || c.reason == ErrConnClosed {
		return nil
	}
	return c.reason
}

// drop ends the connection. The first reason counts.
func (c *clientConn) drop(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if !c.closing || reason == ErrConnClosed { // the latter is what the program wants
		c.reason = reason
	}
	c.ended, c.dropReason = true, reason
	close(c.down)
	c.changed.Broadcast()
	// A TLS connection's Close would wait for a write in progress; a deadline ends that.
	c.conn.SetDeadline(time.Now())
	go c.conn.Close()
}

// beginClosing begins the closing handshake, for a reason. The Close frame goes out when what came first is finished; then the
// server has some time to end the connection. What it sends meanwhile is discarded. It returns false where the handshake has begun
// before.
func (c *clientConn) beginClosing(reason error, closeFrame []byte, wait time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.ended {
		return false
	}
	at := time.Now()
	c.closing, c.reason, c.closeFrame = true, reason, closeFrame
	c.sendCloseBy, c.endBy = at.Add(maxAnswerTime), at.Add(wait)
	c.conn.SetReadDeadline(c.endBy)
	c.changed.Broadcast()
	notify(c.out.wake) // for the clock
	return true
}

// breach is a reason of ours to end the connection: the server broke the protocol, or a handler returned an error (RFC 6455,
// section 7.1.7).
func (c *clientConn) fail(code CloseCode, text string) {
	text = strings.ToValidUTF8(text, "\uFFFD") // it may be a handler's error; RFC 6455, section 5.5.1
	c.beginClosing(&CloseError{Code: code, Reason: text}, NewFrameClose(true, code, []byte(text)), maxAnswerTime+maxDrainTime)
}

// closed follows the server's Close frame, which is answered if it is not itself the answer to ours.
func (c *clientConn) receiveClose(code CloseCode, reason string) {
	c.beginClosing(&CloseError{Code: code, Reason: reason}, NewFrameClose(true, code, []byte(reason)), maxAnswerTime+maxDrainTime)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = true
	c.limitDrainLocked()
}

// limitDrainLocked leaves the server a moment to end TCP, which is its part (RFC 6455, section 7.1.1), once the Close frame was written
// and nothing is awaited any more.
func (c *clientConn) limitDrainLocked() {
	if !c.closeSent || !c.answered && c.reason == ErrConnClosed {
		return
	}
	if by := time.Now().Add(maxDrainTime); by.Before(c.endBy) && !c.ended {
		c.endBy = by
		c.conn.SetReadDeadline(by)
	}
}

// sendCloseBehindMessage sends the Close frame behind a message that is being sent.
func (c *clientConn) sendCloseBehindMessage() {
	if c.out.messageGate.enter(c.down) {
		c.sendClose()
		c.out.messageGate.leave()
	}
}

// sendClose sends the Close frame, behind a frame that is being sent. What is missing of its message is not sent.
func (c *clientConn) sendClose() {
	c.mu.Lock()
	c.answerPingsLocked(time.Now().Add(maxPongDelay))
	closeFrame := c.closeFrame
	c.mu.Unlock()
	if closeFrame != nil && c.out.addClose(closeFrame) {
		c.flush()
	}
}

// closeWritten notes that the Close frame was written.
func (c *clientConn) closeWritten() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeSent = true
	c.limitDrainLocked()
	if c.writeErr == nil {
		close(c.out.closeDone)
	}
}

// shut is the closing handshake that the program wants (RFC 6455, section 7.1.2).
func (c *clientConn) closeHandshake(code CloseCode, reason string) error {
	c.beginClosing(ErrConnClosed, NewFrameClose(true, code, []byte(reason)), closeTimeout)
	c.out.seal()
	c.mu.Lock()
	c.answerPingsLocked(time.Now().Add(maxPongDelay))
	c.backlog, c.backlogCost = nil, 0
	c.mu.Unlock()
	go c.sendCloseBehindMessage() // may have to wait for a message
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

// control sends what waits, Pings at their interval, and the Close frame when it is due.
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

// tend does what is due, and returns when to look again.
func (c *clientConn) doDue(nextPing *time.Time) (again time.Time) {
	at := time.Now()
	pongsDue := c.answerDuePings(at)
	if due, ok := c.closeFrameDue(); ok {
		if again = due; !due.After(at) {
			c.sendClose()
			again = at.Add(closeTimeout) // read sees to what follows
		}
		c.flush()
		return earlier(again, pongsDue)
	}
	if again = *nextPing; !again.After(at) {
		c.out.addPing()
		if again = again.Add(c.pingInterval); again.Before(at) {
			again = at.Add(c.pingInterval)
		}
		*nextPing = again
	}
	c.flush()
	isSilent, look := c.socket.silent(c.silenceTimeout, c.minRate)
	if isSilent {
		c.dropSilent()
	}
	return earlier(earlier(again, look), pongsDue)
}

// earlier returns the earlier of two moments. A zero one is none.
func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// closeFrameDue returns when the Close frame is due, if one is.
func (c *clientConn) closeFrameDue() (due time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendCloseBy, c.closing
}

// dropSilent ends the connection to a server that is silent, and tells it so where that takes no waiting.
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

// logEnd logs why the connection has ended.
func (c *clientConn) logEnd() {
	<-c.down
	c.mu.Lock()
	reason := c.reason
	c.mu.Unlock()
	c.log.Debug("websocket: client connection ends", "endpoint", c.url, "cause", reason)
}
