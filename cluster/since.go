package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wsloop/websocket"
)

const (
	defaultMost = 1000
	readBytes   = 1 << 20 // of messages in one answer of the store, or two messages
	readRoom    = 8 << 10 // for what is around one
	readPause   = 20 * time.Millisecond
)

// Message is a message of a topic with history.
type Message struct {
	Topic  string
	Seq    uint64
	Time   time.Time // when it was stored, by the clock of the leader
	Packet []byte    // as it was published; it belongs to the caller
}

// Since returns the messages of a topic with numbers above seq, in order: at most so many, 1000 if most is 0. If it returns as many, there
// may be more, which Since with the last one's number returns. seq 0 asks for all that is kept.
//
// complete says that no message between seq and the first of these is missing, as far as can be told: if it is false, some are too old to be
// kept, or were in a store that is lost, or may be. A subscriber whose last message is still kept always gets a complete answer. One that
// begins, and asks with 0, need not look at it.
//
// What was published before is among them: with a history on several nodes their leader is asked what that is, and for the messages too if
// the replica of this node does not have them yet. Since waits for a leader while ctx lasts, but no longer than five seconds, and returns
// ErrHistoryUnavailable then, with ErrDisconnected at once if there is no broker either. An election takes up to nine seconds: then ask
// again. It returns ErrNoHistory for a topic without history, and websocket.ErrTopicName for what is no name.
func (n *Node) Since(ctx context.Context, topic string, seq uint64, most int) (messages []Message, complete bool, err error) {
	return n.since(ctx, topic, seq, most, math.MaxInt)
}

// since is Since that ends with the message by which there are enough bytes.
func (n *Node) since(ctx context.Context, topic string, seq uint64, most, enough int) (messages []Message, complete bool, err error) {
	if err = n.left(); err != nil {
		return nil, false, err
	}
	switch {
	case topic == "" || len(topic) > maxTopic:
		return nil, false, websocket.ErrTopicName
	case n.history == nil || !n.opts.History.keeps(topic):
		return nil, false, ErrNoHistory
	}
	if most <= 0 {
		most = defaultMost
	}
	ctx, cancel := n.history.limit(ctx)
	defer cancel()
	r := reading{h: n.history, topic: topic, subject: n.subjects.kept(topic), enough: enough}
	if messages, complete, err = r.since(ctx, seq, most); err != nil {
		return nil, false, n.history.unavailable(err)
	}
	return messages, complete, nil
}

// reading reads a topic of the store.
type reading struct {
	h       *history
	topic   string
	subject string
	enough  int  // bytes of packets
	size    int  // bytes that there are
	leader  bool // it is the leader that is asked
}

// since reads until it has as many messages as are wanted, or all: including what was delivered here before. Each part begins with the last
// message of the one before: if that is still there, nothing behind it was dropped in between.
func (r *reading) since(ctx context.Context, seq uint64, most int) (messages []Message, complete bool, err error) {
	complete = true
	latest, err := r.latest(ctx)
	if err != nil {
		return nil, false, err
	}
	for last := seq; ; {
		more, left, err := r.read(ctx, max(last, 1), most-len(messages)+1)
		if err != nil {
			return nil, false, err
		}
		switch {
		case len(more) > 0 && more[0].Seq == last:
			complete = complete || len(messages) == 0 // a replica that was behind may have said otherwise before
			more = more[1:]
		case len(messages) > 0:
			complete = complete && len(more) == 0 // else it has not come to the replica that answers
			more = more[:min(len(more), most-len(messages))]
		default:
			if complete, err = r.isUntouched(ctx, seq); err != nil {
				return nil, false, err
			}
			more = more[:min(len(more), most)]
		}
		more, full := r.cut(more)
		if messages = append(messages, more...); len(messages) > 0 {
			last = messages[len(messages)-1].Seq
		}
		if full || len(messages) >= most || left == 0 && last >= latest {
			return messages, complete, nil
		}
		if len(more) > 0 {
			continue
		}
		r.leader = true // the replica here is behind, and the broker asks none but that
		if err = pause(ctx, readPause); err != nil {
			return nil, false, err
		}
	}
}

// cut returns the messages up to the one by which there are enough bytes, and whether there are.
func (r *reading) cut(more []Message) (_ []Message, full bool) {
	for i, m := range more {
		if r.size += len(m.Packet); r.size >= r.enough {
			return more[:i+1], true
		}
	}
	return more, false
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// latest returns the number of the latest message that there is certainly. What is read may come from any node with a replica, which may not
// have it yet: only the leader knows.
func (r *reading) latest(ctx context.Context) (seq uint64, err error) {
	if r.h.n.opts.History.Replicas > 1 {
		if seq, err = r.h.latestOf(ctx, r.subject); err != nil {
			return 0, err
		}
	}
	if f := r.h.n.interest.topic(r.topic); f != nil {
		seq = max(seq, f.last.Load())
	}
	return seq, nil
}

// latestOf asks the leader for the number of the latest message of a subject, 0 if there is none.
func (h *history) latestOf(ctx context.Context, subject string) (seq uint64, err error) {
	m, err := h.fetch(ctx, fetch{Last: subject})
	if m == nil {
		return 0, err
	}
	return m.Seq, nil
}

// fetch is which message the leader is asked for.
type fetch struct {
	Seq  uint64 `json:"seq,omitempty"`          // the first one from this on,
	Next string `json:"next_by_subj,omitempty"` // of this subject
	Last string `json:"last_by_subj,omitempty"` // the last one of this subject
}

// fetched is a message that the leader has answered with.
type fetched struct {
	Seq  uint64
	Time time.Time
	Data []byte
}

// noMessage is the number by which NATS says that there is no such message.
const noMessage = 10037

// fetch asks the leader for a message, until there is a leader. It returns nil if there is no such message.
func (h *history) fetch(ctx context.Context, which fetch) (m *fetched, err error) {
	body, _ := json.Marshal(which) // a number and strings
	err = h.insist(ctx, "$JS.API.STREAM.MSG.GET."+h.name, body, func(text []byte) bool {
		var answer struct {
			Message *fetched
			Error   *struct {
				Reason int `json:"err_code"`
			}
		}
		if json.Unmarshal(text, &answer) != nil {
			return false
		}
		m = answer.Message
		return m != nil || answer.Error != nil && answer.Error.Reason == noMessage
	})
	return m, err
}

// insist asks NATS until it gets an answer that will do. While there is no leader there may be none, and a node that does not know of the
// leader yet says that there is none while the leader answers as well.
func (h *history) insist(ctx context.Context, subject string, body []byte, will func(text []byte) bool) error {
	e := h.n.inbox.expect()
	defer h.n.inbox.forget(e)
	for {
		if err := h.n.conn.PublishMsg(&nats.Msg{Subject: subject, Reply: e.subject, Data: body}); err != nil {
			return fmt.Errorf("%w: %w", ErrDisconnected, err)
		}
		again := time.After(storeAttempt)
		for waits := true; waits; {
			select {
			case msg := <-e.answers:
				if !isNobody(msg) && will(msg.Data) {
					return nil
				}
				again = time.After(readPause)
			case <-again:
				waits = false
			case <-ctx.Done():
				return fmt.Errorf("no leader has answered: %w", ctx.Err())
			}
		}
	}
}

// read asks for messages from a number on. left is how many there are behind them, as far as is known.
func (r *reading) read(ctx context.Context, from uint64, most int) (messages []Message, left uint64, err error) {
	if r.leader {
		return r.readLeader(ctx, from, most)
	}
	for attempt := storeAttempt; ; attempt *= 2 { // what is large may take longer, and is not to be asked for again and again
		messages, left, err = r.readReplica(ctx, from, most, attempt)
		if !errors.Is(err, errAgain) {
			return messages, left, err
		}
		if err = pause(ctx, readPause); err != nil {
			return nil, 0, fmt.Errorf("no node with a replica has answered: %w", err)
		}
	}
}

// readLeader reads from the leader, which has all, but gives one message for each question.
func (r *reading) readLeader(ctx context.Context, from uint64, most int) (messages []Message, left uint64, err error) {
	for size := 0; len(messages) < most && size < readBytes; {
		m, err := r.h.fetch(ctx, fetch{Seq: from, Next: r.subject})
		if m == nil {
			return messages, 0, err
		}
		messages = append(messages, Message{Topic: r.topic, Seq: m.Seq, Time: m.Time, Packet: uncarried(m.Data)})
		size += len(m.Data)
		from = m.Seq + 1
	}
	return messages, 1, nil
}

// readReplica reads from any node that has a replica. errAgain says that none has answered, or no longer, for that time.
func (r *reading) readReplica(ctx context.Context, from uint64, most int, patience time.Duration) (messages []Message, left uint64, err error) {
	type batch struct {
		fetch
		Batch    int `json:"batch"`
		MaxBytes int `json:"max_bytes"`
	}
	room := max(readBytes, int(r.h.n.conn.MaxPayload())+readRoom)
	body, _ := json.Marshal(batch{fetch{Seq: from, Next: r.subject}, most, room}) // numbers and a string
	e := r.h.n.inbox.expect()
	defer r.h.n.inbox.forget(e)
	if err = r.h.n.conn.PublishMsg(&nats.Msg{Subject: "$JS.API.DIRECT.GET." + r.h.name, Reply: e.subject, Data: body}); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	for {
		msg, err := e.within(ctx, patience)
		if err != nil {
			return nil, 0, errAgain
		}
		switch status := first(msg.Header, "Status"); status {
		case "":
			m, err := r.message(msg)
			if err != nil {
				return nil, 0, err
			}
			messages = append(messages, m)
		case "204": // the end
			left, _ = strconv.ParseUint(first(msg.Header, "Nats-Num-Pending"), 10, 64)
			return messages, left, nil
		case "404": // nothing
			return nil, 0, nil
		case "503": // nobody
			return nil, 0, errAgain
		default:
			return nil, 0, errors.New(status + " " + first(msg.Header, "Description"))
		}
	}
}

// within waits for the next answer, for that long.
func (e *expectation) within(ctx context.Context, d time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return e.next(ctx)
}

func (r *reading) message(msg *nats.Msg) (m Message, err error) {
	m.Topic = r.topic
	if m.Seq, err = strconv.ParseUint(first(msg.Header, "Nats-Sequence"), 10, 64); err != nil {
		return m, err
	}
	if m.Time, err = time.Parse(time.RFC3339Nano, first(msg.Header, "Nats-Time-Stamp")); err != nil {
		return m, err
	}
	m.Packet = uncarried(msg.Data)
	return m, nil
}

// uncarried undoes carry.
func uncarried(data []byte) (packet []byte) {
	if len(data) == 0 {
		return nil
	}
	return data[1:]
}

// isUntouched reports whether nothing of the topic was dropped behind a number that is none of those that are kept.
func (r *reading) isUntouched(ctx context.Context, seq uint64) (is bool, err error) {
	oldest, _, err := r.read(ctx, 1, 1)
	if err != nil {
		return false, err
	}
	store, err := r.h.info(ctx, r.subject)
	if err != nil {
		return false, err
	}
	if len(oldest) > 0 && oldest[0].Seq <= seq+1 {
		return seq <= store.State.LastSeq, nil
	}
	return isUntouched(store, seq, store.State.Subjects[r.subject], r.h.n.opts.History.Messages), nil
}

// info asks the leader what the store is, and how many messages of a subject it has.
func (h *history) info(ctx context.Context, subject string) (store *jetstream.StreamInfo, err error) {
	body, _ := json.Marshal(map[string]string{"subjects_filter": subject})
	err = h.insist(ctx, "$JS.API.STREAM.INFO."+h.name, body, func(text []byte) bool {
		store = new(jetstream.StreamInfo)
		return json.Unmarshal(text, store) == nil && !store.Created.IsZero()
	})
	return store, err
}

// isUntouched reports whether nothing of a topic can have been dropped behind a number, though no message up to it is left: the store, which
// drops its oldest messages for their age and their bytes, has not come so far, and the topic has never had as many as may be kept.
// For had one been dropped for their count, the ones behind it would be as many still, as they are younger.
func isUntouched(store *jetstream.StreamInfo, seq, kept uint64, most int) bool {
	if seq == 0 {
		seq = max(store.Config.FirstSeq, 1) - 1
	}
	return kept < uint64(most) && store.State.FirstSeq <= seq+1 && seq <= store.State.LastSeq
}
