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

	// maxTurn is how long a Pong waits for handlers of messages that came before its Ping.
	maxTurn = 200 * time.Millisecond
)

var (
	errSilent   = fmt.Errorf("websocket: server is silent after a ping: %w", ErrConnClosed)
	errNoAnswer = errors.New("websocket: server did not answer the close frame")
)

// link is one connection of a Client, from the end of its handshake on. Three goroutines serve it:
//
//	read     reads and parses; ends when the connection does. It waits for nothing but the server, and for room in the backlog
//	handle   calls the handlers, HandleQuit last; sends the Close frame once what came before it has been handled
//	control  sends Pings, Pongs and what is overdue, finds the server silent, logs the end
type link struct {
	// Immutable.
	client         *Client // for the handlers, whose own fields are copied: the program may set them for the next connection
	endpoint       string
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

	socket *linkSocket // has a lock of its own
	out    outlet      // has locks of its own

	mu       sync.Mutex  // taken before those of socket and out, never while they are held
	changed  *sync.Cond  // on mu: frames or closing have changed, or down was closed
	frames   []*Frame    // that wait for their handlers, and Pings among them for their turn; guarded by mu
	waiting  int         // their cost in bytes; guarded by mu
	turns    []time.Time // for each Ping among them, when it waits for no handler any more; guarded by mu
	handling bool        // a handler runs, or is about to; guarded by mu
	closing  bool        // the closing handshake has begun: data is discarded; guarded by mu
	farewell []byte      // the Close frame, if closing; guarded by mu
	said     bool        // it was written; guarded by mu
	answered bool        // the server has sent a Close frame; guarded by mu
	closeDue time.Time   // when the Close frame goes out at the latest, if closing; guarded by mu
	closeBy  time.Time   // when the connection ends at the latest, if closing; guarded by mu
	reason   error       // why the connection ends, if closing or ended; guarded by mu
	broken   error       // why nothing can be written any more; guarded by mu
	cause    error       // what drop was given; guarded by mu
	ended    bool        // down is closed; guarded by mu
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
		minRate:        orDefault(cl.MinRate, defaultMinRate),
		fragmentSize:   cl.FragmentSize,
		down:           make(chan struct{}),
		protocol: rules{
			maxMessage:      uint64(orDefault(cl.MaxMessageSize, defaultMaxMessageSize)),
			maxFragments:    orDefault(cl.MaxFragments, defaultMaxFragments),
			reservedControl: cl.HandleRsvControl != nil,
		},
	}
	l.changed = sync.NewCond(&l.mu)
	l.out.init()
	if l.fragmentSize == 0 {
		l.fragmentSize = defaultFragmentSize
	}
	if l.log == nil {
		l.log = slog.Default()
	}
	return l
}

// attach gives the link its network connection, below TLS where there is to be some.
func (l *link) attach(conn net.Conn) {
	l.socket = newLinkSocket(conn, l.down)
	l.conn = l.socket
}

// start begins with the connection once the handshake is done.
func (l *link) start() {
	l.socket.patience = l.writeTimeout
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

// enterClosing begins the closing handshake, for a reason. The Close frame goes out when what came first is finished; then the
// server has some time to end the connection. What it sends meanwhile is discarded. It returns false where the handshake has begun
// before.
func (l *link) enterClosing(reason error, farewell []byte, wait time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing || l.ended {
		return false
	}
	at := time.Now()
	l.closing, l.reason, l.farewell = true, reason, farewell
	l.closeDue, l.closeBy = at.Add(maxAnswerTime), at.Add(wait)
	l.conn.SetReadDeadline(l.closeBy)
	l.changed.Broadcast()
	notify(l.out.wake) // for the clock
	return true
}

// breach is a reason of ours to end the connection: the server broke the protocol, or a handler returned an error (RFC 6455,
// section 7.1.7).
func (l *link) breach(code CloseCode, text string) {
	text = strings.ToValidUTF8(text, "\uFFFD") // it may be a handler's error; RFC 6455, section 5.5.1
	l.enterClosing(&CloseError{Code: code, Reason: text}, NewFrameClose(true, code, []byte(text)), maxAnswerTime+maxDrainTime)
}

// closed follows the server's Close frame, which is answered if it is not itself the answer to ours.
func (l *link) closed(code CloseCode, reason string) {
	l.enterClosing(&CloseError{Code: code, Reason: reason}, NewFrameClose(true, code, []byte(reason)), maxAnswerTime+maxDrainTime)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered = true
	l.hastenLocked()
}

// hastenLocked leaves the server a moment to end TCP, which is its part (RFC 6455, section 7.1.1), once the Close frame was written
// and nothing is awaited any more.
func (l *link) hastenLocked() {
	if !l.said || !l.answered && l.reason == ErrConnClosed {
		return
	}
	if by := time.Now().Add(maxDrainTime); by.Before(l.closeBy) && !l.ended {
		l.closeBy = by
		l.conn.SetReadDeadline(by)
	}
}

// sayClose sends the Close frame behind a message that is being sent.
func (l *link) sayClose() {
	if l.out.turn.enter(l.down) {
		l.closeNow()
		l.out.turn.leave()
	}
}

// closeNow sends the Close frame, behind a frame that is being sent. What is missing of its message is not sent.
func (l *link) closeNow() {
	l.mu.Lock()
	l.overtakeLocked(time.Now().Add(maxTurn))
	farewell := l.farewell
	l.mu.Unlock()
	if farewell != nil && l.out.addClose(farewell) {
		l.flush()
	}
}

// closeSaid notes that the Close frame was written.
func (l *link) closeSaid() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = true
	l.hastenLocked()
	if l.broken == nil {
		close(l.out.said)
	}
}

// shut is the closing handshake that the program wants (RFC 6455, section 7.1.2).
func (l *link) shut(code CloseCode, reason string) error {
	l.enterClosing(ErrConnClosed, NewFrameClose(true, code, []byte(reason)), closeTimeout)
	l.out.seal()
	l.mu.Lock()
	l.overtakeLocked(time.Now().Add(maxTurn))
	l.frames, l.waiting = nil, 0
	l.mu.Unlock()
	go l.sayClose() // may have to wait for a message
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-l.down:
	case <-timer.C:
		l.drop(errSilent)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == ErrConnClosed && !l.answered && (l.cause == errSilent || l.cause == ErrWriteTimeout) {
		return errNoAnswer
	}
	return nil
}

// control sends what waits, Pings at their interval, and the Close frame when it is due.
func (l *link) control() {
	defer l.logEnd()
	nextPing := time.Now().Add(l.pingInterval)
	timer := time.NewTimer(l.pingInterval)
	defer timer.Stop()
	for {
		select {
		case <-l.down:
			return
		case <-l.out.wake:
		case <-timer.C:
		}
		timer.Reset(time.Until(l.tend(&nextPing)))
	}
}

// tend does what is due, and returns when to look again.
func (l *link) tend(nextPing *time.Time) (again time.Time) {
	at := time.Now()
	turns := l.turnsDue(at)
	if due, ok := l.closesBy(); ok {
		if again = due; !due.After(at) {
			l.closeNow()
			again = at.Add(closeTimeout) // read sees to what follows
		}
		l.flush()
		return earlier(again, turns)
	}
	if again = *nextPing; !again.After(at) {
		l.out.addPing()
		if again = again.Add(l.pingInterval); again.Before(at) {
			again = at.Add(l.pingInterval)
		}
		*nextPing = again
	}
	l.flush()
	isSilent, look := l.socket.silent(l.silenceTimeout, l.minRate)
	if isSilent {
		l.giveUp()
	}
	return earlier(earlier(again, look), turns)
}

// earlier returns the earlier of two moments. A zero one is none.
func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// closesBy returns when the Close frame is due, if one is.
func (l *link) closesBy() (due time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closeDue, l.closing
}

// giveUp ends the connection to a server that is silent, and tells it so where that takes no waiting.
func (l *link) giveUp() {
	if l.out.busy.tryEnter() {
		l.socket.parting.Store(true)
		l.out.addClose(NewFrameClose(true, StatusForbidden, []byte(silentReason)))
		buf, _, _ := l.out.take(0, l.socket.total())
		l.conn.Write(buf)
		defer l.out.busy.leave()
	}
	l.drop(errSilent)
}

// logEnd logs why the connection has ended.
func (l *link) logEnd() {
	<-l.down
	l.mu.Lock()
	reason := l.reason
	l.mu.Unlock()
	l.log.Debug("websocket: client connection ends", "endpoint", l.endpoint, "cause", reason)
}
