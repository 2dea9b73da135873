package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// answerTimeout is how long a node waits for the others' answers, if the caller's context allows it.
	answerTimeout = 2 * time.Second

	// answerLook is how often it looks whether those that it waits for are still there.
	answerLook = 20 * time.Millisecond

	// answerLull is how long after an answer another one is awaited, where the broker does not tell how many there will be.
	answerLull = 5 * time.Millisecond
)

// errNobody says that no node is interested in the subject.
var errNobody = errors.New("websocket: cluster: no node is interested")

// inbox is where answers come in.
type inbox struct {
	prefix string // of the subjects; immutable

	mu      sync.Mutex
	last    uint64                  // guarded by mu
	waiting map[string]*expectation // by subject; guarded by mu
}

// expectation is a request that is being answered.
type expectation struct {
	subject string
	answers chan *nats.Msg
	done    chan struct{}
}

func (in *inbox) init(prefix string) { in.prefix, in.waiting = prefix, make(map[string]*expectation) }

// expect makes a subject to which answers can be sent, until forget.
func (in *inbox) expect() *expectation {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.last++
	e := &expectation{
		subject: in.prefix + strconv.FormatUint(in.last, 36),
		answers: make(chan *nats.Msg, 4),
		done:    make(chan struct{}),
	}
	in.waiting[e.subject] = e
	return e
}

func (in *inbox) forget(e *expectation) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.waiting, e.subject)
	close(e.done)
}

// take hands an answer to whom it is for.
func (in *inbox) take(msg *nats.Msg) {
	in.mu.Lock()
	e := in.waiting[msg.Subject]
	in.mu.Unlock()
	if e == nil {
		return // too late
	}
	select {
	case e.answers <- msg:
	case <-e.done:
	}
}

// isNobody reports whether an answer is the broker's, that nobody is interested.
func isNobody(msg *nats.Msg) bool {
	return len(msg.Data) == 0 && msg.Header.Get("Status") == "503"
}

// question is a request to other nodes.
type question struct {
	subject string
	body    []byte
	want    func() int // how many nodes will answer, as far as is known at the moment
	lull    bool       // fewer may: it is over if none has for answerLull after the last one
	take    func(a answer)
}

// ask sends a question, and returns when all have answered. The error is errNobody if nobody is there to answer, and ErrPartial, with that
// of ctx, if some have not in time.
func (n *Node) ask(ctx context.Context, q question) error {
	if err := n.check(len(q.body)); err != nil {
		return err
	}
	e := n.inbox.expect()
	defer n.inbox.forget(e)
	if err := n.publish(q.subject, e.subject, q.body); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return n.collect(ctx, q, e)
}

// collect takes the answers to a question.
func (n *Node) collect(ctx context.Context, q question, e *expectation) error {
	look := time.NewTicker(answerLook)
	defer look.Stop()
	var lull <-chan time.Time
	want := q.want()
	for answered := 0; ; {
		select {
		case msg := <-e.answers:
			if isNobody(msg) {
				return errNobody
			}
			a, ok := parseAnswer(msg.Data)
			if !ok {
				continue
			}
			q.take(a)
			if !a.more {
				answered++
			}
			if answered >= want {
				return nil
			}
			if q.lull {
				lull = time.After(answerLull)
			}
		case <-lull:
			return nil
		case <-look.C:
			if want = min(want, q.want()); answered >= want {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrPartial, ctx.Err())
		case <-n.ctx.Done():
			return ErrClosed
		}
	}
}

// check returns why a message of that size cannot be sent now.
func (n *Node) check(size int) error {
	switch {
	case n.ctx.Err() != nil:
		return ErrClosed
	case !n.conn.IsConnected():
		return ErrDisconnected
	case int64(size) > n.conn.MaxPayload():
		return fmt.Errorf("%w: %d bytes, of which the broker takes %d", ErrTooLarge, size, n.conn.MaxPayload())
	}
	return nil
}

// publish sends a message that was checked.
func (n *Node) publish(subject, reply string, body []byte) error {
	err := n.conn.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: body})
	switch {
	case err == nil:
		n.sent.Add(1)
		return nil
	case n.ctx.Err() != nil:
		return ErrClosed
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrDisconnected, err)
}
