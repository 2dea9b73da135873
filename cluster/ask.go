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

	// answerFence is the look at which nodes are asked whether they are past a question that has not been answered.
	answerFence = 10

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
	subject  string
	body     []byte
	want     func() int // how many nodes will answer, as far as is known at the moment
	interest bool       // want counts interest, which comes and goes while the nodes stay
	lull     bool       // fewer may: it is over if none has for answerLull after the last one
	take     func(a answer)
}

// ask sends a question, and returns when all have answered. The error is errNobody if nobody is there to answer, and ErrPartial, with that
// of ctx, if some have not in time.
func (n *Node) ask(ctx context.Context, q question) error {
	if err := n.check(len(q.body)); err != nil {
		return err
	}
	e := n.inbox.expect()
	defer n.inbox.forget(e)
	a := asked{question: q, n: n, nodes: q.want()} // before they are asked: one that has been may be gone already
	if err := n.publish(q.subject, e.subject, q.body); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return a.collect(ctx, e)
}

// asked is a question that is being answered.
type asked struct {
	question
	n        *Node
	nodes    int      // that are to answer, as far as was known when it was asked
	answered []string // nodes that have
	looks    int
	fence    <-chan error // nil: not yet
}

// collect takes the answers to a question.
func (a *asked) collect(ctx context.Context, e *expectation) error {
	ticker := time.NewTicker(answerLook)
	defer ticker.Stop()
	var lull <-chan time.Time
	for {
		select {
		case msg := <-e.answers:
			if isNobody(msg) {
				return errNobody
			}
			if a.heed(msg); a.isAnswered() {
				return nil
			}
			if a.lull {
				lull = time.After(answerLull)
			}
		case <-lull:
			return nil
		case <-ticker.C:
			if a.look(ctx) {
				return nil
			}
		case err := <-a.fence:
			return a.end(e, err)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrPartial, ctx.Err())
		case <-a.n.ctx.Done():
			return ErrClosed
		}
	}
}

// heed takes an answer.
func (a *asked) heed(msg *nats.Msg) {
	answer, ok := parseAnswer(msg.Data)
	if !ok {
		return
	}
	if a.take(answer); !answer.more {
		a.answered = append(a.answered, answer.node)
	}
}

// isAnswered reports whether all have answered, those included that may have become interested just in time to be asked.
func (a *asked) isAnswered() bool {
	return len(a.answered) >= a.nodes && (!a.interest || len(a.answered) >= a.want())
}

// look reports whether all have answered that are still there. It sees to it that it can be known.
func (a *asked) look(ctx context.Context) bool {
	a.looks++
	now := a.want()
	if !a.interest {
		return a.n.stay(a.answered) >= min(now, a.nodes)
	}
	if a.fence == nil && (now != a.nodes || a.isAnswered() || a.looks == answerFence) {
		a.fence = a.n.fence(ctx)
	}
	return false
}

// stay returns how many of those nodes are still there.
func (n *Node) stay(nodes []string) (count int) {
	for _, name := range nodes {
		if n.isThere(name) {
			count++
		}
	}
	return count
}

// fence tells when all nodes are past what this one has sent before: what they answer to that has come by then. It is for questions about a
// user: how many nodes are interested does not tell which, and so not whether one that is no longer has answered, or never will.
func (n *Node) fence(ctx context.Context) <-chan error {
	passed := make(chan error, 1)
	q := question{subject: n.subjects.all(), body: []byte{byte(kindPresence)}, want: n.nodes, take: func(answer) {}} // in no topic
	go func() { passed <- n.ask(ctx, q) }()
	return passed
}

// end takes the answers that have come before a fence.
func (a *asked) end(e *expectation, fence error) error {
	if fence != nil && !errors.Is(fence, errNobody) {
		return fmt.Errorf("%w: %w", ErrPartial, fence)
	}
	for {
		select {
		case msg := <-e.answers:
			if !isNobody(msg) {
				a.heed(msg)
			}
		default:
			return nil
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
